"""One function a figure: tables in, a matplotlib Figure out."""

from landscape_sweep.figures.barriers import barriers
from landscape_sweep.figures.bars import metric_bars
from landscape_sweep.figures.evidence import evidence
from landscape_sweep.figures.noise import noise_against_flatness
from landscape_sweep.figures.pareto import pareto_front, search_history
from landscape_sweep.figures.profiles import profiles
from landscape_sweep.figures.scatter import geometry_against_generalisation
from landscape_sweep.figures.spectra import algorithm_1, hessian_spectra, spectral_density
from landscape_sweep.figures.summary import summary_table
from landscape_sweep.figures.surfaces import contours, surfaces_3d
from landscape_sweep.figures.training import geometry_through_training, training_dynamics

__all__ = [
    "algorithm_1",
    "barriers",
    "contours",
    "evidence",
    "geometry_against_generalisation",
    "geometry_through_training",
    "hessian_spectra",
    "metric_bars",
    "noise_against_flatness",
    "pareto_front",
    "profiles",
    "search_history",
    "spectral_density",
    "summary_table",
    "surfaces_3d",
    "training_dynamics",
]
