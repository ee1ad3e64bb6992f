"""One visual language: palette, markers, axes, and how the configurations of a sweep are told
apart."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import TypeVar

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, LogNorm, Normalize, to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

# Okabe and Ito's palette, told apart by the colour-blind, black left to text.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#999999")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
PANELS = 12
"""Panels of one figure at most: more can't be read."""
COLUMNS = 6
"""Architectures side by side at most."""
WIDE = 30
"""Ratio of largest to smallest value from which an axis is logarithmic."""
CHARACTERS = 11
"""Characters of a title to an inch."""

# Viridis without its palest part, which white paper swallows.
SHADES = ListedColormap(mpl.colormaps["viridis"](np.linspace(0, 0.88, 256)))

SETTINGS = {
    "model.depth": "depth",
    "model.width": "width",
    "data.train_size": "training images n",
    "data.label_noise": "share of random labels",
    "optimizer.weight_decay": "weight decay",
    "optimizer.momentum": "momentum",
}
"""Numbers that may colour the configurations of a sweep, after η/B."""

mpl.rcParams.update(
    {
        "font.size": 9,
        "axes.grid": True,
        "grid.alpha": 0.25,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 9,
        "figure.titlesize": 10,
        "figure.titleweight": "bold",
        "legend.frameon": False,
        "figure.dpi": 150,  # the layout measures texts at the size at which they are drawn
        "svg.fonttype": "none",  # text stays text: small files that can be searched
        "svg.hashsalt": "landscape_sweep",  # the same figure gives the same file
    }
)


T = TypeVar("T")


def spread(items: Sequence[T], count: int) -> list[T]:
    """At most ``count`` of the items, evenly from first to last."""
    if len(items) <= count:
        return list(items)
    return [items[round(i * (len(items) - 1) / (count - 1))] for i in range(count)]


def look(name: str, names: Sequence[str]) -> tuple[str, str]:
    """Colour and marker of one name by its place among ``names``; 49 of them differ."""
    place = names.index(name)
    turn = place // len(PALETTE)
    return PALETTE[place % len(PALETTE)], MARKERS[(place + turn) % len(MARKERS)]


def panels(
    count: int, *, width: float = 3.2, height: float = 2.7, columns: int = 3, projection: str = ""
) -> tuple[Figure, list[Axes]]:
    """A figure with ``count`` panels in rows."""
    columns = min(columns, max(count, 1))
    rows = math.ceil(max(count, 1) / columns)
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    keys = {"projection": projection} if projection else {}
    return figure, [figure.add_subplot(rows, columns, i + 1, **keys) for i in range(count)]


def headline(figure: Figure, text: str) -> None:
    """The figure's title, in as many lines as its width asks for."""
    figure.suptitle(textwrap.fill(text, int(CHARACTERS * figure.get_figwidth())))


def log_x(axes: Axes) -> None:
    """A logarithmic abscissa whose labels have room in a narrow panel; call it after drawing."""
    axes.set_xscale("log")
    _plain(axes.xaxis)


def log_y(axes: Axes) -> None:
    """A logarithmic ordinate; call it after drawing."""
    axes.set_yscale("log")
    _plain(axes.yaxis)


def _plain(axis: Axis) -> None:
    """Few labels, in plain text: powers of ten typeset as formulae are slow to draw."""
    low, high = sorted(axis.get_view_interval())
    subs = (1.0, 3.0) if high < 1e4 * low else (1.0,)
    wide = high > 10 * low
    axis.set_major_locator(LogLocator(subs=subs, numticks=8) if wide else MaxNLocator(4))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def whole_x(axes: Axes) -> None:
    """Ticks at whole numbers only: epochs, ranks."""
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def legend_below(figure: Figure, *axes: Axes, columns: int = 3) -> None:
    """One legend for the panels, outside them, without doubles."""
    entries = {}
    for panel in axes:
        handles, labels = panel.get_legend_handles_labels()
        entries.update(dict(zip(labels, handles, strict=True)))
    if entries:
        figure.legend(
            entries.values(), entries.keys(), loc="outside lower center", ncols=columns, fontsize=8
        )


def legend_above(axes: Axes) -> None:
    """A panel's legend over its top edge, clear of the points."""
    axes.legend(fontsize=7, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2)


def architectures(runs: pd.DataFrame) -> pd.Series:
    """Name of each run's architecture: the model, with normalisation and skip where they vary."""
    name = runs["model.name"].astype(str)
    for key in ("model.norm", "model.skip"):
        if key in runs and runs.groupby("model.name")[key].nunique().max() > 1:
            name = name + f" {key.partition('.')[2]}=" + runs[key].fillna("–").astype(str)
    return name


def intensity(runs: pd.DataFrame) -> pd.Series:
    """η/B of each run: what scales the gradient noise of an update."""
    return runs["optimizer.lr"] / runs["batch_size"]


def loss_name(runs: pd.DataFrame) -> str:
    """The loss that was trained on, with its unit."""
    names = {"cross_entropy": "cross-entropy (nats)", "mse": "squared error"}
    used = set(runs["loss"].dropna()) if "loss" in runs else {"cross_entropy"}
    return names.get(str(used.pop()), "loss") if len(used) == 1 else "loss"


def is_wide(values: pd.Series) -> bool:
    """Whether values ask for a logarithmic axis: all positive, and over more than ``WIDE``."""
    return bool((values > 0).all() and values.max() > WIDE * values.min())


def at_one_loss(runs: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The runs that may be compared with one another, and where they ended, in words.

    Where one training loss ended some runs, those that came down to it: a sweep may compare
    others at the same step, which is another question.
    """
    nothing = pd.Series(np.nan, index=runs.index)
    goal = runs.get("stop.train_loss", nothing).astype(float)
    there = runs.get("train/loss", nothing).fillna(0.0) <= goal * (1 + 1e-6)
    if goal.nunique() != 1 or not there.any():
        return runs, "at the end of training (losses differ)"
    other, short = int(goal.isna().sum()), int((goal.notna() & ~there).sum())
    left_out = [f"{other} runs of another length"] * (other > 0)
    left_out += [f"{short} that did not reach it"] * (short > 0)
    said = f" ({' and '.join(left_out)} left out)" if left_out else ""
    return runs[there], f"at a training loss of {goal.max():g}{said}"


def seeds_each(runs: pd.DataFrame, shown: str = "") -> str:
    """How many seeds a configuration has, and what of several is shown.

    ``3 seeds each``, ``mean and range of 1 to 3 seeds each``; of one there is no mean: ``1 seed
    each``.
    """
    counts = sorted({int(n) for n in runs.groupby("label").size()})
    low_high = " to ".join(str(n) for n in dict.fromkeys((counts[0], counts[-1])))
    return "1 seed each" if low_high == "1" else f"{shown} {low_high} seeds each".strip()


class Configurations:
    """How the configurations of a sweep are told apart, alike in every figure.

    Up to seven have a colour and a marker each, named in a legend. More would be a tangle: they
    are parted into a panel for each architecture, and the colour tells one setting on a scale,
    η/B where it varies.

    Attributes:
        few: whether each configuration has a colour of its own.
        label: configuration by ``run_id``.
        panels: titles and the configurations shown under them; at most six, the rest is told by
            ``left_out``.
    """

    def __init__(self, runs: pd.DataFrame) -> None:
        """Args: runs: ``run_id, label, model.name`` and configuration keys, one row a run."""
        self.label: pd.Series = runs.set_index("run_id")["label"]
        self._names = list(dict.fromkeys(runs["label"]))
        self._setting, values = _setting(runs)
        self._values = dict(zip(runs["label"], values, strict=True))
        self.few = len(self._names) <= len(PALETTE) or not self._setting
        self.panels: dict[str, list[str]] = {"": self._names}
        self.left_out = ""
        if not self.few:
            by = runs.groupby(architectures(runs), sort=False)["label"]
            groups = {str(name): list(dict.fromkeys(labels)) for name, labels in by}
            self.panels = dict(list(groups.items())[:COLUMNS])
            if len(groups) > COLUMNS:
                self.left_out = f" ({COLUMNS} of {len(groups)} architectures)"
            known = [v for v in self._values.values() if np.isfinite(v)]
            self._norm = _norm(min(known), max(known))

    def look(self, label: str) -> tuple[str, str]:
        """Colour and marker of a configuration."""
        if self.few:
            return look(label, self._names)
        return to_hex(SHADES(self._norm(self._values[label]))), "o"

    def explain(self, figure: Figure, axes: Sequence[Axes]) -> None:
        """The legend, or the scale of colours."""
        if self.few:
            legend_below(figure, *axes)
        else:
            scale = ScalarMappable(self._norm, SHADES)
            bar = figure.colorbar(scale, ax=list(axes), label=self._setting, aspect=30, pad=0.01)
            if isinstance(self._norm, LogNorm):
                _plain(bar.ax.yaxis)


def _setting(runs: pd.DataFrame) -> tuple[str, pd.Series]:
    """Name and values of the first number that varies; no name where none does."""
    if {"optimizer.lr", "batch_size"} <= set(runs) and intensity(runs).nunique() > 1:
        return "η / B (learning rate over batch size)", intensity(runs)
    for key, name in SETTINGS.items():
        if key in runs and pd.to_numeric(runs[key], errors="coerce").nunique() > 1:
            return name, pd.to_numeric(runs[key], errors="coerce")
    return "", pd.Series(np.nan, index=runs.index)


def _norm(low: float, high: float) -> Normalize:
    return LogNorm(low, high) if low > 0 and high / low > 5 else Normalize(low, high)


def band(
    axes: Axes,
    curves: pd.DataFrame,
    x: str,
    y: str,
    *,
    look: tuple[str, str],
    line: str = "-",
    label: str | None = None,
) -> None:
    """The mean over the runs of one configuration at each x, and their whole range as a band."""
    seeds = curves.groupby(x)[y].agg(["mean", "min", "max"])
    colour, marker = look
    marked = marker if len(seeds) == 1 or (label is not None and len(seeds) <= 30) else None
    axes.plot(
        seeds.index,
        seeds["mean"],
        line,
        color=colour,
        marker=marked,
        markersize=3,
        linewidth=1.2,
        label=label,
    )
    axes.fill_between(seeds.index, seeds["min"], seeds["max"], color=colour, alpha=0.15, lw=0)
