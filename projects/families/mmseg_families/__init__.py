"""Configs that mmseg ships, each taken through the whole way of this package at a tiny size."""
