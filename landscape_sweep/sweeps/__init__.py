"""Grids: which runs a sweep is made of, which are still missing, and what ends it."""
