"""Checkpoints of others into ours, and ours into theirs; every tensor accounted for."""
