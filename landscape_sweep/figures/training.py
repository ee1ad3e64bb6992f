"""Loss and accuracy by epoch."""

from __future__ import annotations

from textwrap import fill

import pandas as pd
from matplotlib.figure import Figure

from landscape_sweep.figures.style import (
    Configurations,
    band,
    headline,
    log_y,
    loss_name,
    panels,
    seeds_each,
    whole_x,
)


def training_dynamics(histories: pd.DataFrame, runs: pd.DataFrame) -> Figure:
    """Test (solid) and training (dashed) curves: mean over seeds, and their range as a band.

    Args:
        histories: ``run_id, metric, step, value``.
        runs: one row a run, as ``Configurations`` takes.
    """
    told = Configurations(runs)
    labelled = histories.assign(label=histories["run_id"].map(told.label))
    parts = [(title, names, what) for title, names in told.panels.items() for what in _CURVES]
    figure, every = panels(len(parts), width=4.2, height=3.0, columns=2)
    for axes, (title, names, what) in zip(every, parts, strict=True):
        for prefix, line in (("fit", "--"), ("test", "-")):
            curves = labelled[labelled["metric"] == f"{prefix}/{what}"]
            for name, group in curves.groupby("label", sort=False):
                if name in names:
                    band(
                        axes,
                        group.assign(value=_CURVES[what] * group["value"]),
                        "step",
                        "value",
                        look=told.look(str(name)),
                        line=line,
                        label=str(name) if told.few and prefix == "test" else None,
                    )
        axes.set(xlabel="epoch", title=title)
        axes.set_ylabel(loss_name(runs) if what == "loss" else "accuracy (%)")
        if what == "loss":
            log_y(axes)
        whole_x(axes)
    headline(
        figure,
        "Training dynamics: test solid, training dashed; "
        f"{seeds_each(runs, 'mean and range of')}{told.left_out}",
    )
    told.explain(figure, every)
    return figure


_CURVES = {"loss": 1.0, "accuracy": 100.0}
"""What is drawn, and its factor."""


def geometry_through_training(histories: pd.DataFrame, runs: pd.DataFrame) -> Figure:
    """Curvature, sharpness and noise by epoch: mean over seeds, and their range as a band.

    Args:
        histories: ``run_id, metric, step, value``; metrics ``dynamics/…`` are drawn.
        runs: one row a run, as ``Configurations`` takes.
    """
    told = Configurations(runs)
    measured = histories[histories["metric"].str.startswith("dynamics/")]
    labelled = measured.assign(label=measured["run_id"].map(told.label))
    metrics = sorted(labelled["metric"].unique())
    parts = [(title, names, metric) for metric in metrics for title, names in told.panels.items()]
    figure, every = panels(len(parts), width=4.2, height=2.8, columns=2)
    for axes, (title, names, metric) in zip(every, parts, strict=True):
        for name, group in labelled[labelled["metric"] == metric].groupby("label", sort=False):
            if name in names:
                said = str(name) if told.few else None
                band(axes, group, "step", "value", look=told.look(str(name)), label=said)
        what = metric.partition("/")[2]
        axes.set(xlabel="epoch", ylabel=fill(_DYNAMICS.get(what, what), 28), title=title)
        if (labelled.loc[labelled["metric"] == metric, "value"] > 0).all():
            log_y(axes)
        whole_x(axes)
    headline(
        figure,
        f"Geometry through training: {seeds_each(runs, 'mean and range of')}{told.left_out}",
    )
    told.explain(figure, every)
    return figure


_DYNAMICS = {
    "lambda_max": "largest eigenvalue (loss / squared parameter)",
    "noise_trace": "gradient noise tr Σ (squared loss / squared parameter)",
    "gradient_norm": "gradient norm (loss / parameter)",
    "sharpness": "sharpness $S_ρ$ (loss)",
}
