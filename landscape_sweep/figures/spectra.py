"""The Hessian spectrum: its top values, its density, and what the framework's algorithm 1 says."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from landscape_sweep.figures.style import (
    PALETTE,
    Configurations,
    band,
    headline,
    log_y,
    panels,
    seeds_each,
    spread,
    whole_x,
)

Floats = NDArray[np.float64]

CURVATURE = "eigenvalue (loss / squared parameter)"

KERNEL = 1e-5
"""Variance of the density's Gaussian kernel over the squared range of the spectrum (Ghorbani,
Krishnan & Xiao 2019, whose spectra are scaled to unit range)."""


DENSITIES = 6
"""Densities shown at most."""

DECADES = 10
"""What the density's axis spans below its peak; a single eigenvalue of 10⁶ still shows."""


def hessian_spectra(spectra: pd.DataFrame, runs: pd.DataFrame) -> Figure:
    """Eigenvalues by rank: mean over seeds, range as a band; what has not converged is hollow.

    Args:
        spectra: ``run_id, rank, eigenvalue, residual, converged``.
        runs: one row a run, as ``Configurations`` takes.
    """
    told = Configurations(runs)
    labelled = spectra.assign(label=spectra["run_id"].map(told.label))
    figure, every = panels(len(told.panels), width=6.0 if told.few else 4.2, height=4.0, columns=2)
    for axes, (title, names) in zip(every, told.panels.items(), strict=True):
        for name, group in labelled.groupby("label", sort=False):
            if name not in names:
                continue
            colour, _ = told.look(str(name))
            said = str(name) if told.few else None
            band(axes, group, "rank", "eigenvalue", look=told.look(str(name)), label=said)
            hollow = group[~group["converged"].astype(bool)]
            axes.scatter(
                hollow["rank"],
                hollow["eigenvalue"],
                s=16,
                facecolors="white",
                edgecolors=colour,
                zorder=3,
            )
        axes.set(xlabel="rank", ylabel=CURVATURE, title=title)
        if (spectra["eigenvalue"] > 0).all():
            log_y(axes)
        else:
            axes.set_yscale("symlog")
        whole_x(axes)
    count, total = int(spectra["converged"].astype(bool).sum()), len(spectra)
    headline(
        figure,
        f"Hessian spectrum, top values: {count} of {total} converged (others hollow); "
        f"{seeds_each(runs)}{told.left_out}",
    )
    told.explain(figure, every)
    return figure


def spectral_density(densities: pd.DataFrame, runs: pd.DataFrame) -> Figure:
    """Log density of all eigenvalues, one run a configuration; outliers are marked one by one.

    The density is that of stochastic Lanczos quadrature under a Gaussian kernel. Outliers are the
    eigenvalues that the quadrature knows singly, each with the weight 1/p.

    Args:
        densities: ``run_id, node, weight, outlier``; weights of a run sum to 1.
        runs: ``run_id, label``, one row a run.
    """
    measured = runs[runs["run_id"].isin(densities["run_id"])].drop_duplicates("label")
    chosen = spread(list(zip(measured["run_id"], measured["label"], strict=True)), DENSITIES)
    figure, every = panels(len(chosen), width=3.6, height=2.6)
    for axes, (run_id, label) in zip(every, chosen, strict=True):
        quadrature = densities[densities["run_id"] == run_id]
        nodes, weights = quadrature["node"].to_numpy(float), quadrature["weight"].to_numpy(float)
        sigma = np.sqrt(KERNEL) * (nodes.max() - nodes.min())
        grid = np.linspace(nodes.min() - 5 * sigma, nodes.max() + 5 * sigma, 1000)
        density = smoothed(grid, nodes, weights, sigma)
        floor = 10 ** np.floor(np.log10(density.max()) - DECADES)
        density = np.maximum(density, floor)
        axes.fill_between(grid, floor, density, color=PALETTE[0], alpha=0.35, linewidth=0)
        axes.plot(grid, density, color=PALETTE[0], linewidth=0.8)
        out = nodes[quadrature["outlier"].to_numpy(bool)]
        axes.plot(
            out,
            np.full(len(out), 3 * floor),
            "v",
            color=PALETTE[1],
            markersize=5,
            clip_on=False,
            label=f"{len(out)} outlier{'s' * (len(out) != 1)}",
        )
        axes.set(title=label, ylim=(floor, None), xlabel=CURVATURE)
        log_y(axes)
        axes.set_ylabel("density")
        axes.legend(fontsize=7, loc="upper right")
    total = len(measured)
    more = f", {len(chosen)} of {total} configurations" if total > len(chosen) else ""
    headline(figure, f"Spectral density of the Hessian, one run a configuration{more}")
    return figure


def smoothed(grid: Floats, nodes: Floats, weights: Floats, sigma: float) -> Floats:
    """(points,) density Σᵢ wᵢ N(t; nodeᵢ, σ²) on ``grid``."""
    distance = (grid[:, None] - nodes) / sigma
    kernel = np.exp(-0.5 * distance**2) / (sigma * np.sqrt(2 * np.pi))
    density: Floats = kernel @ weights
    return density


def algorithm_1(values: pd.DataFrame, runs: pd.DataFrame) -> Figure:
    """Values of algorithm 1 as written, over certified ones: 1 would be right.

    Args:
        values: ``run_id, rank, eigenvalue, algorithm_1``.
        runs: one row a run, as ``Configurations`` takes.
    """
    told = Configurations(runs)
    ratio = values.assign(
        label=values["run_id"].map(told.label), ratio=values["algorithm_1"] / values["eigenvalue"]
    )
    figure, every = panels(len(told.panels), width=6.0 if told.few else 4.2, height=3.6, columns=2)
    for axes, (title, names) in zip(every, told.panels.items(), strict=True):
        axes.axhline(1, color="black", linewidth=0.8)
        for name, group in ratio.groupby("label", sort=False):
            if name in names:
                said = str(name) if told.few else None
                band(axes, group, "rank", "ratio", look=told.look(str(name)), label=said)
        axes.set(xlabel="rank", ylabel="algorithm 1 / certified eigenvalue", title=title)
        whole_x(axes)
    off = (ratio["ratio"] - 1).abs()
    headline(
        figure,
        f"Algorithm 1 as written: {int((off > 0.01).sum())} of {len(off)} eigenvalues are off by "
        f"more than 1%, median error {100 * off.median():,.0f}%{told.left_out}",
    )
    told.explain(figure, every)
    return figure
