"""The table of runs as claims read it: who belongs together, what is missing, what is a mean."""

from __future__ import annotations

import numpy as np
import pandas as pd

ARCHITECTURE = "architecture"
CONFIGURATION = "configuration"
_PART_OF_CONFIGURATION = ("model.", "optimizer.", "data.", "stop.")
_ALSO = ("label", "batch_size", "epochs", "loss")
_ASIDE = ("data.root", "data.path")
_TEXTS = ("model.name", "model.norm", "model.activation", "optimizer.name", "data.name", "loss")


def prepared(runs: pd.DataFrame) -> pd.DataFrame:
    """Every run, with ``architecture`` and ``configuration``; metrics as finite numbers or NaN.

    An architecture is ``model.name``, with normalisation and skip connections where they vary. A
    configuration is everything but the seed. Whatever is not there is put so that nothing fails:
    an outcome that is not told is completed, a model without a name is "network".
    """
    frame = runs.set_axis([str(c) for c in runs.columns], axis=1).reset_index(drop=True)
    frame = frame.loc[:, ~frame.columns.duplicated()].copy()
    for column in frame.columns:
        number = "/" in column or (column not in _TEXTS and column in _NUMBERS)
        if number:
            values = pd.to_numeric(frame[column], errors="coerce").astype(float)
            frame[column] = values.where(np.isfinite(values))
    if "outcome" not in frame:
        frame["outcome"] = "completed"
    frame[ARCHITECTURE] = _architecture(frame)
    keys = [
        c
        for c in frame.columns
        if (c.startswith(_PART_OF_CONFIGURATION) or c in _ALSO) and c not in _ASIDE and "/" not in c
    ]
    told = frame[[ARCHITECTURE, *keys]].astype(str)
    frame[CONFIGURATION] = told.groupby(list(told.columns), sort=False).ngroup()
    return frame


_NUMBERS = (
    *("batch_size", "epochs", "seed", "model.width", "model.depth", "data.train_size"),
    *("data.label_noise", "stop.steps", "stop.train_loss", "probe.sharpness.rho"),
    *("optimizer.lr", "optimizer.momentum", "optimizer.weight_decay"),
)


def _architecture(frame: pd.DataFrame) -> pd.Series:
    """Name of each run's architecture."""
    if "model.name" not in frame:
        return pd.Series("network", index=frame.index)
    name = frame["model.name"].fillna("network").astype(str)
    for key, words in (("model.norm", "norm"), ("model.skip", "skip")):
        if key not in frame:
            continue
        value = frame[key].where(frame[key].notna(), None).astype(str)
        varies = value.groupby(frame["model.name"].astype(str)).transform("nunique") > 1
        name = name.where(~varies, name + f" {words}=" + value)
    return name


def completed(frame: pd.DataFrame) -> pd.DataFrame:
    """The runs that ended as they should."""
    return frame[frame["outcome"].astype(str) == "completed"]


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
