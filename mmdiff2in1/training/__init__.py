"""The main job: a chain of stages, what decides their results, and the recipes that make configs short."""
