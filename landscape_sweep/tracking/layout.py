"""What a run may come to, and where its artifacts lie: names that writers and readers share."""

from __future__ import annotations

OUTCOMES = {
    "completed": "FINISHED",
    "diverged": "FINISHED",
    "pruned": "KILLED",
    "failed": "FAILED",
    "interrupted": "KILLED",
}
"""What a run may come to, and the status that MLflow shows for it."""

HISTORIES = ("fit/", "test/", "dynamics/")
"""Metrics that are measured by epoch."""
SPECTRUM = "hessian/eigenvalues.csv"
DENSITY = "hessian/density.csv"
ALGORITHM_1 = "hessian/algorithm_1.csv"
SURFACE = "surface/surface.csv"
MARKS = "surface/marks.csv"
PROFILE = "profile/profile.csv"
PROFILE_CURVATURE = "profile/curvature.csv"
PATHS = "connectivity/paths.csv"
BARRIERS = "connectivity/barriers.csv"
PLANES = "connectivity/planes.csv"
PAIRS = "connectivity/pairs"
NETWORKS = "connectivity/networks"
"""Folders on a sweep's own run: what was measured between two runs, and three, a file each."""
WEIGHTS = "weights/final.safetensors"
JOURNAL = "weights/journal.json"
"""What training logged until the weights were final."""
CELLS = "cells.json"
"""On a sweep's own run: what it is made of."""
TRIALS = "trials.csv"
"""On a search's own run: see ``Sweep.trials``."""
OBJECTIVES = "search.objectives"
"""Tag of a search's own run: see ``Sweep.objectives``."""
CONFIG = "config.json"
