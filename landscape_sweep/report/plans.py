"""Which figures a report shows, in which order, and the sentence under each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from landscape_sweep import figures
from landscape_sweep.figures.style import spread
from landscape_sweep.report.tables import readable
from landscape_sweep.tracking import Sweep

SURFACES = 6
"""Surfaces drawn at most; the page's viewer has them all."""


@dataclass(frozen=True)
class Plan:
    """A figure to be drawn, if what it needs is there.

    Attributes:
        name: the file's name.
        title: heading on the page.
        caption: how to read it, in one sentence.
        needs: what a sweep must have measured, in words.
        ready: whether it has.
        draw: makes the figure.
    """

    name: str
    title: str
    caption: str
    needs: str
    ready: bool
    draw: Callable[[], Figure]


def plans(sweep: Sweep, correlations: pd.DataFrame) -> Iterator[Plan]:
    """The pictures of the framework's section 6 and what this project adds to them."""
    runs = sweep.runs
    completed = runs[runs["outcome"] == "completed"] if len(runs) else runs
    measured = bool(completed.filter(regex="^(hessian|sharpness)/").notna().any(axis=None))
    surfaces, of_how_many = _shown_surfaces(sweep, completed)
    titles = completed.set_index("run_id")["name"] if len(completed) else pd.Series(dtype=str)
    by_epoch = sweep.histories.get("metric", pd.Series(dtype=str)).astype(str)
    if sweep.objectives:
        yield _of_search(sweep)
    yield Plan(
        "training_dynamics",
        "Training dynamics",
        "Did every run converge, and to the same loss? Geometry can be compared only where it did.",
        "a run that has trained",
        len(sweep.histories) > 0,
        lambda: figures.training_dynamics(sweep.histories, _of(sweep.histories, runs)),
    )
    yield Plan(
        "geometry_through_training",
        "Geometry through training",
        "How curvature, sharpness and gradient noise change from epoch to epoch.",
        "probe.dynamics",
        bool(by_epoch.str.startswith("dynamics/").any()),
        lambda: figures.geometry_through_training(
            sweep.histories, _of(sweep.histories[by_epoch.str.startswith("dynamics/")], runs)
        ),
    )
    yield Plan(
        "correlation_analysis",
        "Geometry against generalisation",
        "Does flatness go with generalisation? Look within one colour: two clusters of "
        "architectures correlate by themselves.",
        "probe.hessian or probe.sharpness",
        measured,
        lambda: figures.geometry_against_generalisation(completed, correlations),
    )
    yield Plan(
        "noise_against_flatness",
        "Noise against flatness",
        "Theorem 1's story has noise make minima flatter: a negative slope in the learning rate "
        "(b_η) and a positive one in the batch size (b_B); lines join one batch size. The slopes' "
        "intervals stand with the verdicts.",
        "hessian/trace and several learning rates or batch sizes",
        measured and "hessian/trace" in completed,
        lambda: figures.noise_against_flatness(completed),
    )
    yield Plan(
        "metric_comparison",
        "Metrics by configuration",
        "Raw sharpness and curvature follow the scale of the weights: compare within an "
        "architecture, one colour.",
        "probe.hessian or probe.sharpness",
        measured,
        lambda: figures.metric_bars(completed),
    )
    yield Plan(
        "hessian_spectra",
        "Top of the Hessian spectrum",
        "The largest eigenvalues by rank; a drop after about as many as there are classes is "
        "usual.",
        "probe.hessian",
        len(sweep.spectra) > 0,
        lambda: figures.hessian_spectra(sweep.spectra, _of(sweep.spectra, runs)),
    )
    yield Plan(
        "spectral_density",
        "Density of the whole spectrum",
        "Most eigenvalues lie in a bulk near zero, on both sides; triangles mark those at the "
        "ends, one by one, which are known singly.",
        "probe.hessian.density above 0",
        len(sweep.densities) > 0,
        lambda: figures.spectral_density(sweep.densities, _of(sweep.densities, runs)),
    )
    yield Plan(
        "algorithm_1",
        "How far the framework's algorithm 1 is off",
        "The framework takes eigenvalues after k steps, without reorthogonalisation and by finite "
        "differences (eq. 13); a ratio of 1 would be right.",
        "hessian/algorithm_1.csv",
        len(sweep.algorithm_1) > 0,
        lambda: figures.algorithm_1(sweep.algorithm_1, _of(sweep.algorithm_1, runs)),
    )
    yield Plan(
        "mode_connectivity",
        "Paths between seeds",
        "A bump between the ends is a barrier; BatchNorm re-estimated takes away its artefacts. "
        "Lines coincide where no unit had to be permuted.",
        "probe.connectivity and two seeds",
        len(sweep.paths) > 0,
        lambda: figures.barriers(sweep.paths),
    )
    yield Plan(
        "networks_plane",
        "The plane through three seeds",
        "Three trained networks in one plane, BatchNorm re-estimated at every point: valleys that "
        "meet are joined, and a ridge between them is a barrier.",
        "probe.connectivity.plane and three seeds",
        len(sweep.planes) > 0,
        lambda: _networks_plane(sweep.planes),
    )
    yield Plan(
        "loss_contours",
        "Loss on a plane, as contours",
        "The cross is the trained network; distances are in parameter space" + of_how_many,
        "probe.surface",
        len(surfaces) > 0,
        lambda: figures.contours(surfaces, titles, sweep.marks),
    )
    yield Plan(
        "loss_surfaces",
        "Loss on a plane, in three dimensions",
        "The same planes, the height being the loss" + of_how_many,
        "probe.surface",
        len(surfaces) > 0,
        lambda: figures.surfaces_3d(surfaces, titles),
    )
    yield Plan(
        "summary",
        "Summary table",
        "The table of runs as a picture, to be pasted elsewhere.",
        "a run",
        len(runs) > 0,
        lambda: figures.summary_table(readable(runs)),
    )


def _networks_plane(planes: pd.DataFrame) -> Figure:
    """Contours of a plane a label, with its three networks."""
    by_label = planes.rename(columns={"label": "run_id"})
    labels = pd.Series(planes["label"].unique())
    networks = by_label["name"].notna()
    return figures.contours(
        by_label[~networks], pd.Series(labels.values, index=labels), by_label[networks]
    )


def _of_search(sweep: Sweep) -> Plan:
    """What a search found, by one objective or by several."""
    ready = len(sweep.trials) > 0 and "COMPLETE" in set(sweep.trials["state"])
    if len(sweep.objectives) == 1:
        return Plan(
            "search_history",
            "The search",
            "Each trial, in the order in which it was proposed, and the best up to it.",
            "a completed trial",
            ready,
            lambda: figures.search_history(sweep.trials, sweep.objectives),
        )
    return Plan(
        "pareto_front",
        "Pareto front of the search",
        "No trial is at least as good as one on the front in every objective and better in one; "
        "numbers are those of the trials, in trials.csv and as sweep.number of the runs.",
        "a completed trial",
        ready,
        lambda: figures.pareto_front(sweep.trials, sweep.objectives),
    )


def _of(table: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """The runs that a table speaks of."""
    return runs[runs["run_id"].isin(table["run_id"])]


def _shown_surfaces(sweep: Sweep, completed: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """One surface a configuration, at most ``SURFACES``; and the words that say so."""
    if sweep.surfaces.empty or completed.empty:
        return pd.DataFrame(), "."
    here = completed[completed["run_id"].isin(sweep.surfaces["run_id"])]
    one_each = here.drop_duplicates("label")
    chosen = spread(one_each["run_id"].tolist(), SURFACES)
    shown = sweep.surfaces[sweep.surfaces["run_id"].isin(chosen)]
    if len(chosen) == len(here):
        return shown, "."
    return shown, (
        f"; the first seed of {len(chosen)} of {len(one_each)} configurations, the viewer below "
        f"has all {len(here)}."
    )
