"""The table of runs as claims read it: who belongs together, what is missing, what is a mean."""

from __future__ import annotations

import numpy as np
import pandas as pd

from landscape_sweep.statistics import (
    Estimate,
    Proportion,
    Scale,
    mean_over_runs,
    share_over_runs,
)

ARCHITECTURE = "architecture"
CONFIGURATION = "configuration"
IMAGES = "training images"
"""n of each run, where a claim asks for it."""
_PART_OF_CONFIGURATION = ("model.", "optimizer.", "data.", "stop.")
_ALSO = ("label", "batch_size", "epochs", "loss")
_ASIDE = ("data.root", "data.path")
LABELS = "data.seed"


def prepared(runs: pd.DataFrame) -> pd.DataFrame:
    """Every run, with ``architecture`` and ``configuration``; metrics as finite numbers or NaN.

    An architecture is ``model.name``, with normalisation and skip connections where they vary. A
    configuration is everything but the seed. Whatever is not there is put so that nothing fails:
    an outcome that is not told is completed, a model without a name is "network".
    """
    frame = runs.set_axis([str(c) for c in runs.columns], axis=1).reset_index(drop=True)
    frame = frame.loc[:, ~frame.columns.duplicated()]
    # Put together at once: a frame whose columns are replaced one by one falls into fragments.
    frame = pd.DataFrame(
        {name: _finite(of) if _is_number(name) else of for name, of in frame.items()},
        index=frame.index,
    )
    if "outcome" not in frame:
        frame["outcome"] = "completed"
    frame[ARCHITECTURE] = _architecture(frame)
    told = frame[[ARCHITECTURE, *configuration_keys(frame)]].astype(str)
    frame[CONFIGURATION] = told.groupby(list(told.columns), sort=False, dropna=False).ngroup()
    return frame


def _is_number(column: object) -> bool:
    return "/" in str(column) or column in _NUMBERS


def _finite(values: pd.Series) -> pd.Series:
    """As float64, with NaN for what is no number or not finite."""
    numbers = pd.to_numeric(values, errors="coerce").astype(float)
    return numbers.where(np.isfinite(numbers))


_NUMBERS = (
    *("batch_size", "epochs", "seed", LABELS, "model.width", "model.depth", "data.train_size"),
    *("data.label_noise", "stop.steps", "stop.train_loss", "probe.sharpness.rho"),
    *("optimizer.lr", "optimizer.momentum", "optimizer.weight_decay"),
)


def configuration_keys(frame: pd.DataFrame) -> list[str]:
    """The columns that tell configurations apart: what was computed, the seed aside.

    ``data.seed``, which draws random labels, is aside as well where it follows the seed.
    """
    aside = [*_ASIDE]
    if {"seed", LABELS} <= set(frame.columns):
        aside += [LABELS] * bool((frame["seed"] == frame[LABELS]).all())
    return [
        c
        for c in frame.columns
        if (c.startswith(_PART_OF_CONFIGURATION) or c in _ALSO) and c not in aside and "/" not in c
    ]


def texts(frame: pd.DataFrame, key: str) -> pd.Series:
    """A key's values as lower-case text; "" where it is not told."""
    if key not in frame:
        return pd.Series("", index=frame.index)
    values = frame[key]
    return values.where(values.notna(), "").astype(str).str.lower()


def _architecture(frame: pd.DataFrame) -> pd.Series:
    """Name of each run's architecture."""
    if "model.name" not in frame:
        return pd.Series("network", index=frame.index)
    name = frame["model.name"].fillna("network").astype(str)
    for key, words in (("model.norm", "norm"), ("model.skip", "skip")):
        if key not in frame:
            continue
        value = texts(frame, key)
        varies = value.groupby(frame["model.name"].astype(str)).transform("nunique") > 1
        name = name.where(~varies, name + f" {words}=" + value)
    return name


def completed(frame: pd.DataFrame) -> pd.DataFrame:
    """The runs that ended as they should."""
    return frame[frame["outcome"].astype(str) == "completed"]


def trained_apart(frame: pd.DataFrame) -> pd.DataFrame:
    """The runs that have nothing in common with another seed's: no initialisation, no first steps.

    Runs that differ only in seed and fork late lie in one basin (Frankle et al. 2020).
    """
    return frame[texts(frame, "fork_step") == ""]


def missing(frame: pd.DataFrame, columns: tuple[str, ...]) -> list[str]:
    """Those of ``columns`` that no completed run has."""
    done = completed(frame)
    return [c for c in columns if c not in done or not done[c].notna().any()]


def whole(frame: pd.DataFrame, columns: tuple[str, ...]) -> pd.DataFrame:
    """Completed runs that have all of ``columns``."""
    return completed(frame).dropna(subset=list(columns))


def failed_share(frame: pd.DataFrame, columns: tuple[str, ...]) -> float:
    """Share of runs without a result where one was to be expected.

    Those that did not complete, and those that lack a value which another seed of the same
    configuration has. A configuration that never measured it was not meant to.
    """
    has = frame[list(columns)].notna().all(axis=1) & (frame["outcome"].astype(str) == "completed")
    meant = has.groupby(frame[CONFIGURATION]).transform("any")
    ended = frame["outcome"].astype(str) == "completed"
    expected = meant | ~ended
    return float((expected & ~has).sum() / max(int(expected.sum()), 1))


def seeds(frame: pd.DataFrame) -> int:
    """Runs of a configuration (median)."""
    if frame.empty:
        return 0
    return int(frame.groupby(CONFIGURATION).size().median())


def means(frame: pd.DataFrame, columns: tuple[str, ...]) -> pd.DataFrame:
    """One row a configuration: the mean of its seeds, and its architecture."""
    groups = frame.groupby(CONFIGURATION)
    table = groups[list(columns)].mean()
    table[ARCHITECTURE] = groups[ARCHITECTURE].first()
    return table


def mean_over(frame: pd.DataFrame, column: str, scale: Scale = "identity") -> Estimate:
    """Mean over configurations, with an error that allows for seeds that all of them share."""
    return mean_over_runs(frame[column], frame[CONFIGURATION], _seed(frame), scale)


def share_over(frame: pd.DataFrame, margin: pd.Series) -> Proportion:
    """Share of configurations whose mean margin is above 0, with an error that allows for seeds.

    ``margin`` has a value for every run of ``frame``: by how much it breaks a bound.
    """
    return share_over_runs(margin, frame[CONFIGURATION], _seed(frame))


def _seed(frame: pd.DataFrame) -> pd.Series:
    """Each run's seed; where none is told, every run has its own."""
    return frame["seed"] if "seed" in frame else pd.Series(range(len(frame)))


def halves(points: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Configurations in two halves, smaller batches first: to fit a constant, and to test it.

    Not drawn at random: of exchangeable halves of m, the largest of one bounds all but 1/(m + 1)
    of the other whatever the law, so that a free constant would make any bound pass.
    """
    ordered = points.sort_values(["batch_size", "optimizer.lr"])
    half = len(ordered) // 2
    return ordered.iloc[:half], ordered.iloc[half:]


def at_matched_loss(frame: pd.DataFrame) -> tuple[pd.DataFrame, str, str]:
    """The runs that were stopped at one training loss, and a sentence that says so.

    Runs that gave up before they were there are kept, as censored: they count as failed. Where no
    run was stopped by its loss these are all runs.

    Returns:
        The runs, the sentence, and why no statement about equal losses can be decided with them,
        as a clause; "" where it can.
    """
    goals = frame.get("stop.train_loss", pd.Series(dtype=float)).dropna()
    if goals.empty or "train/loss" not in frame:
        return (
            frame,
            "Final training losses differ, and with them part of what is measured.",
            "the runs were not stopped at one training loss",
        )
    goal = float(goals.mode().iloc[0])
    chosen = frame[frame["stop.train_loss"] == goal].copy()
    short = chosen["train/loss"] > goal * (1 + 1e-6)
    chosen.loc[short, "outcome"] = "censored"
    left_out = "; those that stayed above it are left out" if short.any() else ""
    return chosen, f"These runs were stopped at training loss {goal:g}{left_out}.", ""


def learning_rate(frame: pd.DataFrame) -> pd.Series:
    """η/(1 − β): the rate that momentum β amounts to."""
    momentum = frame.get("optimizer.momentum", pd.Series(0.0, index=frame.index)).fillna(0.0)
    rate: pd.Series = frame["optimizer.lr"] / (1 - momentum)
    return rate


def train_images(frame: pd.DataFrame) -> pd.Series:
    """n, as measured or as configured; NaN where neither is told."""
    nothing = pd.Series(np.nan, index=frame.index)
    return frame.get("measure/train_images", nothing).fillna(frame.get("data.train_size", nothing))


def with_images(frame: pd.DataFrame) -> pd.DataFrame:
    """The runs with n as a column."""
    return frame.assign(**{IMAGES: train_images(frame)})


def test_images(frame: pd.DataFrame) -> pd.Series:
    """Test images behind each run's accuracy; NaN where it is not told."""
    images: pd.Series = frame.get("measure/test_images", pd.Series(np.nan, index=frame.index))
    return images
