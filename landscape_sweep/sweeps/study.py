"""The Optuna study behind a search: where it is stored, what proposes trials, what it has found."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from urllib.parse import urlparse

import numpy as np
import optuna
import pandas as pd
from filelock import FileLock
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import (
    BaseSampler,
    CmaEsSampler,
    NSGAIISampler,
    QMCSampler,
    RandomSampler,
    TPESampler,
)
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import Study, StudyDirection
from optuna.trial import Trial, TrialState

from landscape_sweep.config import ConfigError

optuna.logging.set_verbosity(optuna.logging.WARNING)  # the search tells of its trials itself
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)

FILE = "optuna.db"
"""The default database, beside MLflow's."""

PATIENCE = 60
"""Seconds that a process waits for others to be done with a sqlite database."""


# ---------------------------------------------------------------- where it is stored


def default_storage(tracking_uri: str, outputs: str) -> str:
    """A sqlite database beside MLflow's, or in ``outputs`` where MLflow's is on a server."""
    parts = urlparse(tracking_uri)
    local = parts.scheme == "sqlite" and parts.path.strip("/")
    folder = Path(parts.path[1:]).parent if local else Path(outputs)
    return f"sqlite:///{folder.absolute() / FILE}"


def open_storage(storage: str) -> BaseStorage:
    """A database by its URL, or a journal by its file.

    Raises:
        ConfigError: it can't be used.
    """
    try:
        if "://" not in storage:
            return JournalStorage(JournalFileBackend(storage))
        if not storage.startswith("sqlite"):
            return RDBStorage(storage)
        file = Path(urlparse(storage).path[1:])
        file.parent.mkdir(parents=True, exist_ok=True)
        # Of several processes that make the tables of a fresh database at once, some would fail.
        with FileLock(f"{file}.lock") if file.name else nullcontext():
            return RDBStorage(storage, engine_kwargs={"connect_args": {"timeout": PATIENCE}})
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ConfigError("hydra.sweeper.storage", storage, f"can't be used: {reason}") from error


def open_study(
    storage: str, name: str, objectives: Mapping[str, str], pruner: str, fixed: Mapping[str, object]
) -> Study:
    """The study of this name, begun where there is none.

    Args:
        storage: see ``open_storage``.
        name: the study's.
        objectives: metric and ``maximize`` or ``minimize``.
        pruner: see ``make_pruner``.
        fixed: what all trials have in common, by key.

    Raises:
        ConfigError: a study of this name has other objectives, or trials that were made of
            something else and can't be compared.
    """
    opened = open_storage(storage)
    study = optuna.create_study(
        study_name=name,
        storage=opened,
        directions=[StudyDirection[way.upper()] for way in objectives.values()],
        pruner=make_pruner(pruner),
        load_if_exists=True,
    )
    study.set_metric_names(list(objectives))
    before = study.user_attrs
    if before.setdefault("objectives", dict(objectives)) != dict(objectives):
        raise ConfigError(
            "hydra.sweeper.study_name", name, f"has the objectives {before['objectives']}"
        )
    if before.setdefault("fixed", dict(fixed)) != dict(fixed):
        had = before["fixed"]
        keys = [key for key in {**had, **fixed} if had.get(key) != fixed.get(key)]
        told = ", ".join(f"{key}={had.get(key)}" for key in keys)
        raise ConfigError("hydra.sweeper.study_name", name, f"has trials with {told}")
    study.set_user_attr("objectives", dict(objectives))
    study.set_user_attr("fixed", dict(fixed))
    return study


# ---------------------------------------------------------------- what proposes and ends trials


def make_sampler(name: str, seed: int, place: int) -> BaseSampler:
    """The sampler that proposes the trial at one place of the search.

    It gets a seed of its own for each place: a seed that starts again when a search goes on would
    propose the same trials again.

    Raises:
        ConfigError: ``cmaes`` without the package that it needs.
    """
    own = int(np.random.SeedSequence([seed, place]).generate_state(1)[0])
    if name == "tpe":
        return TPESampler(seed=own)
    if name == "random":
        return RandomSampler(seed=own)
    if name == "nsga2":
        return NSGAIISampler(seed=own)
    others = RandomSampler(seed=own)  # draws the choices: both are for numbers only
    if name == "qmc":  # one sequence, whose place Optuna stores
        return QMCSampler(
            scramble=True,
            seed=seed,
            independent_sampler=others,
            warn_asynchronous_seeding=False,
            warn_independent_sampling=False,
        )
    if importlib.util.find_spec("cmaes") is None:
        raise ConfigError(
            "hydra.sweeper.sampler", name, 'needs cmaes: pip install "landscape-sweep[search]"'
        )
    return CmaEsSampler(seed=own, independent_sampler=others, warn_independent_sampling=False)


def join(storage: str, name: str, number: int, pruner: str) -> Trial:
    """A trial of a study that another process drives."""
    opened = open_storage(storage)
    study = optuna.load_study(study_name=name, storage=opened, pruner=make_pruner(pruner))
    study_id = opened.get_study_id_from_name(name)
    return Trial(study, opened.get_trial_id_from_study_id_trial_number(study_id, number))


def make_pruner(name: str) -> BasePruner:
    """What ends hopeless trials early; both learn from the first epochs of finished ones."""
    pruners: dict[str, type[BasePruner]] = {
        "none": NopPruner,
        "median": MedianPruner,
        "hyperband": HyperbandPruner,
    }
    return pruners[name]()


def place_of_next(study: Study) -> int:
    """How many trials were proposed so far; one that is run again counts once."""
    trials = study.get_trials(deepcopy=False)
    return sum("retry_of" not in trial.user_attrs for trial in trials)


def retire(study: Study) -> list[int]:
    """Fail what a dead driver left running and put the same parameters first in the queue.

    Returns the numbers of these trials. Killed at any moment, it can be called again.
    """
    trials = study.get_trials(deepcopy=False)
    queued = {trial.user_attrs.get("retry_of") for trial in trials}
    stale = [trial for trial in trials if trial.state == TrialState.RUNNING]
    for trial in stale:
        if trial.number not in queued:
            study.enqueue_trial(trial.params, user_attrs={"retry_of": trial.number})
        study.tell(trial.number, state=TrialState.FAIL)
    return [trial.number for trial in stale]


# ---------------------------------------------------------------- what it has found


def count_results(study: Study) -> int:
    """Trials that need no repetition: a divergence is a result, an error is none."""
    trials = study.get_trials(deepcopy=False)
    again = {trial.user_attrs.get("retry_of") for trial in trials}
    return sum(
        trial.state in (TrialState.COMPLETE, TrialState.PRUNED)
        or (
            trial.state == TrialState.FAIL
            and "outcome" in trial.user_attrs
            and trial.number not in again
        )
        for trial in trials
    )


def table(study: Study, objectives: Sequence[str]) -> pd.DataFrame:
    """Every trial: ``number, state, outcome, run_id, on_front``, its parameters, its objectives.

    ``on_front``: no other trial is at least as good in every objective and better in one.
    ``state`` is Optuna's; ``outcome`` is that of the run, where there was one.
    """
    trials = study.get_trials(deepcopy=False)
    front = {trial.number for trial in study.best_trials}
    rows = [
        {
            "number": trial.number,
            "state": trial.state.name,
            "outcome": trial.user_attrs.get("outcome", ""),
            "run_id": trial.user_attrs.get("run_id", ""),
            "on_front": trial.number in front,
            **trial.params,
            **dict(zip(objectives, trial.values or (), strict=False)),
        }
        for trial in trials
    ]
    first = ["number", "state", "outcome", "run_id", "on_front"]
    keys = {key: 0 for trial in trials for key in trial.params}
    return pd.DataFrame(rows, columns=[*first, *keys, *objectives])
