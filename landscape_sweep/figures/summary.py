"""The table of runs as a picture."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from landscape_sweep.figures.style import panels

ROWS = 40
"""Rows shown at most."""


def summary_table(table: pd.DataFrame) -> Figure:
    """A table of text, as it is given; the first rows where there are many."""
    shown = table.head(ROWS)
    figure, (axes,) = panels(1, width=10.5, height=0.8 + 0.26 * (len(shown) + 1))
    axes.axis("off")
    drawn = axes.table(
        cellText=shown.to_numpy().tolist(),
        colLabels=[str(column) for column in shown.columns],
        loc="center",
        cellLoc="right",
    )
    drawn.auto_set_font_size(False)
    drawn.set_fontsize(8)
    drawn.auto_set_column_width(list(range(len(shown.columns))))
    more = f" (first {ROWS} of {len(table)})" if len(table) > ROWS else ""
    axes.set_title(f"Runs{more}")
    return figure
