"""The top of the Hessian spectrum."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from landscape_sweep.figures.style import legend_below, look, panels, whole_x


def hessian_spectra(spectra: pd.DataFrame, labels: pd.Series) -> Figure:
    """Eigenvalues by rank; those that are not converged are hollow.

    Args:
        spectra: ``run_id, rank, eigenvalue, residual, converged``.
        labels: configuration by ``run_id``.
    """
    figure, (axes,) = panels(1, width=6.4, height=4.4)
    names = list(dict.fromkeys(labels))
    for run_id, run in spectra.groupby("run_id", sort=False):
        colour, marker = look(labels[run_id], names)
        axes.plot(run["rank"], run["eigenvalue"], color=colour, linewidth=0.8)
        for converged, face in ((True, colour), (False, "white")):
            part = run[run["converged"].astype(bool) == converged]
            axes.scatter(
                part["rank"],
                part["eigenvalue"],
                s=16,
                marker=marker,
                facecolors=face,
                edgecolors=colour,
                zorder=3,
                label=labels[run_id] if converged else None,
            )
    axes.set(xlabel="rank", ylabel="eigenvalue of the Hessian", yscale="symlog")
    count, total = int(spectra["converged"].astype(bool).sum()), len(spectra)
    axes.set_title(f"Hessian spectra, top values: {count} of {total} converged (others hollow)")
    whole_x(axes)
    legend_below(figure, axes)
    return figure
