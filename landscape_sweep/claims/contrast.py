"""Two kinds of network, all else equal: paired ratios and differences across configurations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from landscape_sweep.claims import table
from landscape_sweep.claims.question import (
    Measured,
    NotMeasurableError,
    Question,
    answer,
    lacks,
    unmeasured,
)
from landscape_sweep.claims.verdict import Evidence, Line, Verdict
from landscape_sweep.statistics import Scale

Kind = Literal["ratio", "difference"]


class Contrast(NamedTuple):
    """Two kinds of network: names, which runs they are, and the keys in which they differ."""

    first: str
    second: str
    is_first: pd.Series
    is_second: pd.Series
    apart: tuple[str, ...]


def of_key(runs: pd.DataFrame, key: str, first: str, second: str) -> Contrast:
    """Networks that differ in one key alone."""
    values = table.texts(runs, key)
    word = key.rpartition(".")[2]
    names = (f"{word}={first}", f"{word}={second}")
    return Contrast(*names, values == first, values == second, (key,))


def cnn_and_resnet(runs: pd.DataFrame) -> Contrast:
    """The framework's two architectures: CNN without normalisation, ResNet with BatchNorm.

    Variants of either do not count; a key that is not told is taken to be the framework's.
    """
    name, norm, skip = (table.texts(runs, f"model.{key}") for key in ("name", "norm", "skip"))
    cnn = (name == "cnn") & norm.isin(["none", ""])
    resnet = (name == "resnet") & norm.isin(["batch", ""]) & skip.isin(["true", ""])
    return Contrast("CNN", "ResNet", cnn, resnet, ("model.",))


def contrasted(
    question: Question,
    runs: pd.DataFrame,
    contrast: Contrast,
    kind: Kind = "ratio",
    note: str = "",
    short: str = "",
) -> Iterator[Verdict]:
    """A verdict on the first kind's metric over (or less) the second's.

    Two runs are a pair where they agree in every other key, seed included. A configuration is
    what a pair has in common; its seeds are averaged, ratios geometrically. The metric is the
    question's only column.

    Args:
        question, runs, contrast, kind: what is asked of what.
        note, short: of ``Measured``.
    """
    (metric,) = question.columns
    if lacking := table.missing(runs, question.columns):
        yield unmeasured(question, lacks(runs, lacking))
        return
    pairs = _paired(runs, contrast, metric)
    if pairs.empty:
        yield unmeasured(
            question, f"No two runs differ in {contrast.first} against {contrast.second} alone."
        )
        return

    def measure(rows: pd.DataFrame) -> Measured:
        if kind == "ratio" and (rows[["a", "b"]] <= 0).any(axis=None):
            raise NotMeasurableError(f"{metric} is not positive everywhere")
        scale: Scale = "log" if kind == "ratio" else "identity"
        value = rows["a"] / rows["b"] if kind == "ratio" else rows["a"] - rows["b"]
        points = table.means(rows, ("a", "b"))
        ends = points[["a", "b"]].agg(["min", "max"]).agg({"a": "min", "b": "max"}).to_numpy()
        return Measured(
            table.mean_over(rows.assign(value=value), "value", scale),
            note,
            Evidence(
                x=points["b"].to_numpy(),
                y=points["a"].to_numpy(),
                group=points[table.ARCHITECTURE].to_numpy(str),
                x_label=f"{metric}, {contrast.second}",
                y_label=f"{metric}, {contrast.first}",
                log_x=kind == "ratio",
                log_y=kind == "ratio",
                lines=(Line("equal", ends, ends),),
            ),
            short,
        )

    yield from answer(replace(question, columns=("a", "b")), pairs, measure)


def _paired(runs: pd.DataFrame, contrast: Contrast, metric: str) -> pd.DataFrame:
    """One row a pair: ``a`` and ``b``, the metric of either kind; completed if both are."""
    keys = [
        key
        for key in table.configuration_keys(runs)
        if key != "label" and not key.startswith(contrast.apart)
    ]
    told = runs[keys].astype(str)
    cell = (
        told.groupby(keys, sort=False, dropna=False).ngroup()
        if keys
        else pd.Series(0, index=runs.index)
    )
    seed = runs["seed"] if "seed" in runs else pd.Series(0.0, index=runs.index)
    every = runs.assign(cell=cell, seed=seed)[
        ["cell", "seed", metric, "outcome", table.ARCHITECTURE]
    ]
    same = ["cell", "seed", table.ARCHITECTURE]
    first, second = (
        every[side].drop_duplicates(same) for side in (contrast.is_first, contrast.is_second)
    )
    pairs = first.merge(second, on=["cell", "seed"], suffixes=("_a", "_b"))
    ends = pairs[["outcome_a", "outcome_b"]]
    censored = np.where((ends == "censored").any(axis=1), "censored", "failed")
    apart = (
        ""
        if contrast.apart == ("model.",)
        else pairs[f"{table.ARCHITECTURE}_b"].str.replace(f" {contrast.second}", "")
    )
    return pd.DataFrame(
        {
            "a": pairs[f"{metric}_a"],
            "b": pairs[f"{metric}_b"],
            "seed": pairs["seed"],
            "outcome": np.where((ends == "completed").all(axis=1), "completed", censored),
            table.CONFIGURATION: pairs["cell"],
            table.ARCHITECTURE: apart,
        }
    )
