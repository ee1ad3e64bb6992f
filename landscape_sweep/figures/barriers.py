"""Loss and accuracy along the line between two networks."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from landscape_sweep.figures.style import legend_below, look, panels

MODES = {"naive": ("-", "as it is"), "reset": ("--", "BatchNorm re-estimated")}


def barriers(paths: pd.DataFrame) -> Figure:
    """One colour a configuration, one line a pair of seeds.

    Args:
        paths: ``pair, label, mode, alpha, loss, accuracy``.
    """
    figure, (loss, accuracy) = panels(2, width=4.2, height=3.6, columns=2)
    names = list(dict.fromkeys(paths["label"]))
    firsts = paths.drop_duplicates("label")
    named = set(zip(firsts["pair"], firsts["mode"], strict=True))  # one entry a configuration
    for (pair, mode), path in paths.groupby(["pair", "mode"], sort=False):
        label = path["label"].iloc[0]
        line, _ = MODES.get(str(mode), (":", ""))
        for axes, what, scale in ((loss, "loss", 1.0), (accuracy, "accuracy", 100.0)):
            axes.plot(
                path["alpha"],
                scale * path[what],
                line,
                color=look(label, names)[0],
                label=label if (pair, mode) in named else None,
            )
    loss.set(xlabel="α from one seed to the other", ylabel="cross-entropy", title="Loss")
    accuracy.set(xlabel="α from one seed to the other", ylabel="accuracy (%)", title="Accuracy")
    words = {"-": "solid", "--": "dashed", ":": "dotted"}
    kinds = [
        f"{words[line]}: {said}"
        for line, said in (
            MODES.get(str(mode), (":", str(mode))) for mode in paths["mode"].unique()
        )
    ]
    figure.suptitle(
        f"Linear paths between seeds, {paths['pair'].nunique()} pairs; {', '.join(kinds)}"
    )
    legend_below(figure, loss)
    return figure
