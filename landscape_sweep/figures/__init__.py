"""One function a figure: tables in, a matplotlib Figure out."""

from landscape_sweep.figures.barriers import barriers
from landscape_sweep.figures.bars import metric_bars
from landscape_sweep.figures.profiles import profiles
from landscape_sweep.figures.scatter import (
    geometry_against_generalisation,
    noise_against_flatness,
)
from landscape_sweep.figures.spectra import hessian_spectra
from landscape_sweep.figures.summary import summary_table
from landscape_sweep.figures.surfaces import contours, surfaces_3d
from landscape_sweep.figures.training import training_dynamics

__all__ = [
    "barriers",
    "contours",
    "geometry_against_generalisation",
    "hessian_spectra",
    "metric_bars",
    "noise_against_flatness",
    "profiles",
    "summary_table",
    "surfaces_3d",
    "training_dynamics",
]
