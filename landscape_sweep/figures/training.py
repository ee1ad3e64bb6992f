"""Loss and accuracy by epoch."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from landscape_sweep.figures.style import legend_below, look, panels, whole_x


def training_dynamics(histories: pd.DataFrame, labels: pd.Series) -> Figure:
    """Training (dashed) and test (solid) curves, a colour a configuration, a line a seed.

    Args:
        histories: ``run_id, metric, step, value``.
        labels: configuration by ``run_id``.
    """
    figure, (loss, accuracy) = panels(2, width=4.2, height=3.6, columns=2)
    names = list(dict.fromkeys(labels))
    for run_id, run in histories.groupby("run_id", sort=False):
        name = labels[run_id]
        colour, marker = look(name, names)
        for axes, what, scale in ((loss, "loss", 1.0), (accuracy, "accuracy", 100.0)):
            for prefix, line in (("fit", "--"), ("test", "-")):
                curve = run[run["metric"] == f"{prefix}/{what}"].sort_values("step")
                axes.plot(
                    curve["step"],
                    scale * curve["value"],
                    line,
                    color=colour,
                    marker=marker if prefix == "test" else None,
                    markersize=3,
                    linewidth=1.2,
                    label=name if prefix == "test" else None,
                )
    loss.set(xlabel="epoch", ylabel="cross-entropy", title="Loss", yscale="log")
    accuracy.set(xlabel="epoch", ylabel="accuracy (%)", title="Accuracy")
    figure.suptitle("Training dynamics: test solid, training dashed")
    whole_x(loss)
    whole_x(accuracy)
    legend_below(figure, loss)
    return figure
