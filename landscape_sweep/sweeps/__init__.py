"""Sweeps: which runs they are made of, which are still missing, and what ends them."""
