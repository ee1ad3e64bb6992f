"""The table of runs as a picture."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

ROWS = 40
"""Rows shown at most."""

LINE = 0.2
"""Height of a row, in inches."""

FONT = 8
"""Points."""

WIDTH, TITLE, EDGE = 11.0, 0.35, 0.1
"""Width of the figure, and what it has above and around the table, in inches."""


def summary_table(table: pd.DataFrame) -> Figure:
    """A table of text, as it is given; the first rows where there are many.

    A column is one text of many lines: matplotlib's own tables take seconds to draw.
    """
    shown = table.head(ROWS).astype(str)
    rows = len(shown) + 1
    height = TITLE + LINE * rows + EDGE
    figure = Figure(figsize=(WIDTH, height))
    # Exactly a line high for each row: a layout would not know.
    axes = figure.add_axes(
        (EDGE / WIDTH, EDGE / height, 1 - 2 * EDGE / WIDTH, LINE * rows / height)
    )
    axes.axis("off")
    axes.set(xlim=(0, 1), ylim=(rows, 0))
    texts = [[str(name), *shown[name]] for name in shown.columns]
    widths = np.array([max(map(len, text)) + 2 for text in texts], dtype=float)
    rights = np.cumsum(widths) / widths.sum()
    for number, (text, right, width) in enumerate(zip(texts, rights, widths, strict=True)):
        left = number == 0
        at = right - width / widths.sum() if left else right
        # Anchored at the last line's baseline, which is the same in every column.
        for row, line in ((0, text[0]), (len(shown), "\n".join(text[1:]))):
            axes.text(
                at,
                row + 0.7,
                line,
                ha="left" if left else "right",
                va="baseline",
                fontsize=FONT,
                fontweight="normal" if row else "bold",
                linespacing=LINE * 72 / FONT,
            )
    axes.axhline(0.95, color="black", linewidth=0.8)
    more = f" (first {ROWS} of {len(table)})" if len(table) > ROWS else ""
    axes.set_title(f"Runs{more}")
    return figure
