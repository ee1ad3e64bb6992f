"""Sweeps that train networks, probe their loss landscapes and try claims about them."""

__version__ = "0.1.0"
