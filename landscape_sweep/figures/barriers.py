"""Loss and accuracy along paths between two networks."""

from __future__ import annotations

import textwrap

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from landscape_sweep.figures.style import PALETTE, legend_below, panels, spread

MODES = {
    "naive": (PALETTE[0], "-", "straight"),
    "reset": (PALETTE[1], (0, (6, 2)), "straight, BatchNorm re-estimated"),
    "aligned": (PALETTE[2], (0, (3, 1, 1, 1)), "units aligned"),
    "aligned_reset": (PALETTE[3], (0, (6, 1, 1, 1, 1, 1)), "units aligned, BatchNorm re-estimated"),
    "bezier": (PALETTE[4], (0, (1, 1)), "trained Bézier curve"),
}
"""Colour, dashes and words of each mode of connectivity."""

QUANTITIES = {
    "loss": ("loss, training images", 1.0),
    "test_loss": ("loss, test images", 1.0),
    "accuracy": ("accuracy (%), training", 100.0),
    "test_accuracy": ("accuracy (%), test", 100.0),
}
"""What is drawn, a column each, where it was measured: words and scale."""

ROWS = 6
"""Configurations shown at most."""

HEADING = 40
"""Characters of a row's heading that a panel has room for."""

DECADES = 100.0
"""Losses that vary by more than this factor have a logarithmic axis, in every panel alike."""


def barriers(paths: pd.DataFrame) -> Figure:
    """A row a configuration, a colour and a kind of line a mode: mean and range over pairs.

    Args:
        paths: ``pair, label, mode, alpha, loss, accuracy``, and ``test_loss, test_accuracy``
            where test images were seen.
    """
    columns = [name for name in QUANTITIES if name in paths and paths[name].notna().any()]
    labels = list(dict.fromkeys(paths["label"]))
    shown = spread(labels, ROWS)
    losses = paths.loc[paths["label"].isin(shown), [c for c in columns if c.endswith("loss")]]
    seen = losses.stack()
    logarithmic = bool(seen.min() > 0 and seen.max() > DECADES * seen.min())
    figure, every = panels(len(shown) * len(columns), width=3.1, columns=len(columns))
    for row, label in enumerate(shown):
        of_label = paths[paths["label"] == label]
        for axes, name in zip(every[row * len(columns) :], columns, strict=False):
            _draw(axes, of_label, name, logarithmic)
        pairs = of_label["pair"].nunique()
        title = f"{label}, {pairs} pair{'s' * (pairs > 1)} of seeds"
        heading = textwrap.fill(title, HEADING * len(columns))
        in_row = every[row * len(columns) :][: len(columns)]
        above = in_row[0].text(0, 1.02, heading, transform=in_row[0].transAxes, va="bottom")
        above.set_in_layout(False)  # it may reach over the others
        for axes in in_row:
            axes.set_title("\n" * heading.count("\n") + " ")  # room for it
    left_out = f", {len(shown)} of {len(labels)} configurations" if len(shown) < len(labels) else ""
    figure.suptitle(f"Paths between networks: mean and range over pairs{left_out}")
    legend_below(figure, *every)
    return figure


def _draw(axes: Axes, paths: pd.DataFrame, name: str, logarithmic: bool) -> None:
    """One quantity along the paths of one configuration; ``logarithmic`` is of losses."""
    words, scale = QUANTITIES[name]
    for mode, path in paths.groupby("mode", sort=False):
        colour, dashes, said = MODES[str(mode)]
        over_pairs = (scale * path[name]).groupby(path["alpha"]).agg(["mean", "min", "max"])
        axes.plot(over_pairs["mean"], color=colour, linestyle=dashes, label=said)
        if path["pair"].nunique() > 1:
            axes.fill_between(
                over_pairs.index, over_pairs["min"], over_pairs["max"], color=colour, alpha=0.15
            )
    if logarithmic and name.endswith("loss"):
        axes.set_yscale("log")
    axes.set(xlabel="α from one network to the other", ylabel=words)
