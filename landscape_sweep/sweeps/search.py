"""The search: Optuna proposes trials by what earlier ones found, under one parent run.

Ask and tell (Optuna 5): the driver asks for a batch of trials, any Hydra launcher runs them as it
runs a grid's cells, and MLflow holds what each came to, which the study is told. Everything that
a search knows is in the study and in MLflow, so that the same command goes on after any death.
"""

from __future__ import annotations

import difflib
import json
import logging
import math
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig
from optuna.study import Study
from optuna.trial import Trial, TrialState

from landscape_sweep import build, finish, tracking
from landscape_sweep import config as schema
from landscape_sweep.check import check
from landscape_sweep.config import Config, ConfigError
from landscape_sweep.progress import duration
from landscape_sweep.run import report_dead
from landscape_sweep.sweeps import study as studies
from landscape_sweep.sweeps.cells import Cell, composed, parsed, varied
from landscape_sweep.sweeps.lock import driving
from landscape_sweep.sweeps.parent import link, open_parent, reported
from landscape_sweep.sweeps.space import Space, as_overrides, corners, split

log = logging.getLogger("landscape_sweep")

OBJECTIVES = {"test/accuracy": "maximize"}
"""Where ``hydra.sweeper.objectives`` is null."""

ALWAYS = {
    "fit": ("loss", "accuracy", "lr"),
    "gap": ("loss", "accuracy"),
    "test": ("loss", "accuracy", "loss_se"),
    "train": ("loss", "accuracy", "initial_loss", "steps", "lr_sum", "seconds", "steps_to_loss"),
    "measure": (),
}
"""Families of metrics that every run has, with their members where no probe adds to them."""

TAG = 5000
"""Characters of a tag that every MLflow server takes."""

PROBES = {"noise": ("gradient_noise", "dynamics", "early")}
"""Probes that measure a family, where it has not the name of its only one."""


def search(
    hydra_config: DictConfig,
    loader: ConfigLoader,
    launcher: Launcher,
    params: Mapping[str, Any],
    arguments: Sequence[str],
    given: dict[str, Any],
) -> None:
    """Run trials until ``n_trials`` of the study have a result, then analyse them all.

    Args:
        hydra_config, loader, launcher, params, arguments: as for ``grid.sweep``.
        given: the other keys of ``hydra.sweeper``; see ``conf/hydra/sweeper/optuna.yaml``.

    Raises:
        ConfigError: a user's mistake, before the first trial runs; another process that runs the
            same search; an objective that the runs turn out not to measure.
        SystemExit: status 1, where some trials failed.
    """
    objectives = _objectives(given.pop("objectives"))
    settings = schema.load_search(given)
    overrides = parsed(params, arguments, loader)
    space, fixed = split(overrides)
    base = _checked(space, fixed, settings, objectives, hydra_config, loader)
    if base.dry_run:
        raise ConfigError("dry_run", "true", "takes a grid; a search chooses its trials on the way")
    common = schema.identity(composed(fixed, hydra_config, loader))
    common["data.loaded"] = build.dataset(base).name
    name = settings.study_name or _study_name(base, settings, objectives, space, common)
    storage = settings.storage or studies.default_storage(base.tracking.uri, base.outputs)
    sweep_id = schema.digest(f"{base.tracking.experiment_name} {name}")
    store = tracking.connect(base.tracking.uri, base.tracking.experiment_name, base.outputs)
    with driving(finish.folder(base.outputs, sweep_id), sweep_id):
        study = studies.open_study(storage, name, objectives, settings.pruner, common)
        report_dead(store, base.outputs, sweep_id)
        for number in studies.retire(study):
            log.warning("  trial %d was left running by a process that died: again", number)
        about = f"A search for {_told(objectives)} by {settings.sampler}; Optuna's study {name}."
        parent = open_parent(store, sweep_id, hydra_config, arguments, base, about)
        names = " ".join(varied(overrides))
        tied = link(sweep_id, parent, names)
        if settings.pruner != "none":
            tied += [f"hydra.sweeper.study_name='{name}'", f"hydra.sweeper.storage='{storage}'"]
        driver = Driver(
            *(study, space, fixed, objectives, settings, hydra_config, loader, launcher),
            *(store, parent, names, tied, base.resume),
        )
        log.info("search %s, study %s: optuna-dashboard %s", sweep_id, name, shlex.quote(storage))
        failed = reported(base, sweep_id, parent, driver.run)
        driver.show()
    if failed:
        log.error("%d trials failed: the same command runs others in their place", failed)
        sys.exit(1)


# ---------------------------------------------------------------- before the first trial


def _objectives(given: Mapping[str, str] | None) -> dict[str, str]:
    """Metric and direction of each objective."""
    objectives = dict(given or OBJECTIVES)
    for metric, direction in objectives.items():
        if direction not in ("maximize", "minimize"):
            raise ConfigError(
                f"hydra.sweeper.objectives.{metric}", direction, "takes maximize or minimize"
            )
    return objectives


def _checked(
    space: Space,
    fixed: Sequence[str],
    settings: schema.Search,
    objectives: Mapping[str, str],
    hydra_config: DictConfig,
    loader: ConfigLoader,
) -> Config:
    """The first configuration of the space; all at the ends of the space are held possible."""
    if not space:
        raise ConfigError(
            *("hydra.sweeper.params", None),
            "takes a key to search, as does the command line: optimizer.lr=interval(0.01,0.1)",
        )
    if len(objectives) > 1 and (settings.sampler == "cmaes" or settings.pruner != "none"):
        key = "sampler" if settings.sampler == "cmaes" else "pruner"
        value = getattr(settings, key)
        raise ConfigError(f"hydra.sweeper.{key}", value, "is for one objective alone")
    if settings.pruner != "none" and not next(iter(objectives)).startswith("test/"):
        raise ConfigError(
            *("hydra.sweeper.pruner", settings.pruner),
            "takes test/accuracy or test/loss, which are measured by epoch, as its objective",
        )
    studies.make_sampler(settings.sampler, settings.seed, 0)
    configs = []
    for corner in corners(space):
        configs.append(composed([*corner, *fixed], hydra_config, loader))
        check(configs[-1])
        _check_measured(objectives, configs[-1])
    return configs[0]


def _check_measured(objectives: Mapping[str, str], config: Config) -> None:
    """Whether the runs will measure the families of metrics that the objectives are of.

    Raises:
        ConfigError: a family that is unknown, of pairs of runs, or of a probe that is off.
    """
    for metric, direction in objectives.items():
        key, (family, _, member) = f"hydra.sweeper.objectives.{metric}", metric.partition("/")
        probes = [name for name in PROBES.get(family, (family,)) if hasattr(config.probe, name)]
        if family == "connectivity":
            raise ConfigError(key, direction, "is measured between runs, not of one")
        if family not in ALWAYS and not probes:
            families = sorted({*ALWAYS, "hessian", "noise", "sharpness"})
            raise ConfigError(
                key, direction, f"is no metric; takes {', '.join(f'{f}/…' for f in families)}"
            )
        if (members := ALWAYS.get(family)) and member not in members:
            told = ", ".join(f"{family}/{name}" for name in members)
            raise ConfigError(key, direction, f"is no metric; takes one of {told}")
        if family not in ALWAYS and all(getattr(config.probe, name) is None for name in probes):
            raise ConfigError(
                *(key, direction, f"needs probe.{probes[0]}, off in probe={config.probe.name}")
            )


def _study_name(
    base: Config,
    settings: schema.Search,
    objectives: Mapping[str, str],
    space: Space,
    common: Mapping[str, object],
) -> str:
    """The same for the same search, and for no other; how many trials it has does not matter."""
    parts = {
        "experiment": base.tracking.experiment_name,
        "objectives": objectives,
        "space": {key: repr(of) for key, of in sorted(space.items())},
        "common": common,
        "method": [settings.sampler, settings.seed, settings.pruner],
    }
    return f"search-{schema.digest(json.dumps(parts, sort_keys=True))}"


def _told(values: Mapping[str, object]) -> str:
    """Names and values in words."""
    words = [f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in values.items()]
    return ", ".join(words)


# ---------------------------------------------------------------- trial after trial


@dataclass
class Driver:
    """One call of a search: asks, launches, tells.

    Attributes:
        study: Optuna's, with the trials of earlier calls.
        space: what is searched.
        fixed: overrides of every trial.
        objectives: metric and direction of each.
        settings: ``hydra.sweeper``.
        hydra_config: what Hydra composed for the multirun.
        loader: composes the configuration of one trial.
        launcher: any Hydra launcher.
        store: MLflow.
        parent: the search's own run.
        varied: the searched keys, separated by spaces.
        tied: overrides that tie a job to the search.
        resume: take what a finished run of the same configuration has found.
    """

    study: Study
    space: Space
    fixed: list[str]
    objectives: dict[str, str]
    settings: schema.Search
    hydra_config: DictConfig
    loader: ConfigLoader
    launcher: Launcher
    store: tracking.Store
    parent: tracking.RunLog
    varied: str
    tied: list[str]
    resume: bool

    def run(self) -> int:
        """Run what is missing of ``n_trials``; returns how many of these trials failed."""
        done, began, failed = studies.count_results(self.study), time.monotonic(), 0
        missing = max(0, self.settings.n_trials - done)
        log.info("%d trials have a result, %d to do", done, missing)
        self._log()
        for first in range(0, missing, self.settings.n_jobs):
            tried = min(first + self.settings.n_jobs, missing)
            batch = [self._ask() for _ in range(first, tried)]
            failed += self._evaluate(batch)
            self._log()
            left = (time.monotonic() - began) * (missing - tried) / tried
            log.info("%d of %d trials tried, about %s left", tried, missing, duration(left))
        return failed

    def show(self) -> None:
        """Print the best trials."""
        for trial in self.study.best_trials:
            values = dict(zip(self.objectives, trial.values, strict=True))
            log.info("best: trial %d: %s: %s", trial.number, _told(values), _told(trial.params))

    def _ask(self) -> Trial:
        """The next trial: one that waits to be run again, or a new proposal."""
        place = studies.place_of_next(self.study)
        self.study.sampler = studies.make_sampler(self.settings.sampler, self.settings.seed, place)
        try:
            return self.study.ask(self.space)
        except ValueError as error:
            raise ConfigError(
                *("hydra.sweeper.study_name", self.study.study_name),
                f"has trials of other choices ({error}); give this search another name",
            ) from error

    def _evaluate(self, batch: Sequence[Trial]) -> int:
        """Find or run what each trial asks for, and tell the study; returns how many failed."""
        cells = {trial.number: self._cell(trial) for trial in batch}
        found = {
            cell.identity: tracking.find_result(self.store, cell.identity)
            for cell in cells.values()
            if cell is not None and self.resume
        }
        for trial in batch:
            cell = cells[trial.number]
            if cell is not None and (result := found.get(cell.identity)):
                log.info("  trial %d: finished before, run %s", trial.number, result.run_id)
                self._report_history(trial, result)
        new = [cell for cell in cells.values() if cell and not found.get(cell.identity)]
        found |= self._launch(list({cell.identity: cell for cell in new}.values()))
        return sum(
            not self._tell(trial, found[cell.identity] if cell else None)
            for trial, cell in zip(batch, cells.values(), strict=True)
        )

    def _cell(self, trial: Trial) -> Cell | None:
        """A trial as a cell, noted in the study for later calls; None where it is impossible."""
        log.info("trial %d: %s", trial.number, _told(trial.params))
        overrides = [*as_overrides(trial.params, self.space), *self.fixed]
        try:
            config = composed(overrides, self.hydra_config, self.loader)
            check(config)
            identity = schema.config_hash(config, build.dataset(config).name)
        except ConfigError as error:
            log.error("  failed: %s", error)
            return None
        cell = Cell(trial.number, overrides, config, identity)
        trial.set_user_attr("cell", asdict(cell.record(self.varied)))
        return cell

    def _launch(self, cells: Sequence[Cell]) -> dict[str, tracking.Result | None]:
        """Run cells; what each came to by its identity, None where it failed."""
        if not cells:
            return {}
        jobs = [[*cell.overrides, *self.tied, f"sweep.number={cell.number}"] for cell in cells]
        results: Sequence[JobReturn] = self.launcher.launch(jobs, initial_job_idx=cells[0].number)
        return {
            cell.identity: tracking.find_result(self.store, cell.identity, pruned=True)
            if job.status == JobStatus.COMPLETED
            else None
            for cell, job in zip(cells, results, strict=True)
        }

    def _report_history(self, trial: Trial, result: tracking.Result) -> None:
        """Let the pruner learn from a run that reported to another study or to none."""
        if self.settings.pruner != "none":
            (metric,) = self.objectives
            for step, value in tracking.history(self.store, result.run_id, metric):
                trial.report(value, step)

    def _tell(self, trial: Trial, result: tracking.Result | None) -> bool:
        """Tell the study how a trial ended; returns whether it has a result.

        Raises:
            ConfigError: a run that completed has not measured an objective.
        """
        if result is None:
            self.study.tell(trial, state=TrialState.FAIL)
            return False
        lacking = [name for name in self.objectives if name not in result.metrics]
        if result.outcome == "completed" and lacking:
            self.study.tell(trial, state=TrialState.FAIL)
            near = difflib.get_close_matches(lacking[0], result.metrics, n=5, cutoff=0.0)
            raise ConfigError(
                *(f"hydra.sweeper.objectives.{lacking[0]}", self.objectives[lacking[0]]),
                f"is not measured by these runs; the nearest are {', '.join(near)}",
            )
        trial.set_user_attr("run_id", result.run_id)
        trial.set_user_attr("outcome", result.outcome)
        values = {name: result.metrics.get(name, math.nan) for name in self.objectives}
        if result.outcome == "pruned":
            self.study.tell(trial, state=TrialState.PRUNED)
        elif result.outcome == "diverged" or not all(map(math.isfinite, values.values())):
            self.study.tell(trial, state=TrialState.FAIL)
        else:
            self.study.tell(trial, list(values.values()))
        log.info("  trial %d %s: %s", trial.number, result.outcome, _told(values))
        return True

    def _log(self) -> None:
        """What the search has found so far, on its own run."""
        trials = self.study.get_trials(deepcopy=False)
        records = [t.user_attrs["cell"] for t in trials if "cell" in t.user_attrs]
        tracking.log_cells(self.parent, [tracking.CellRecord(**record) for record in records])
        self.parent.table(studies.table(self.study, list(self.objectives)), tracking.TRIALS)
        best = [
            {"trial": t.number, **t.params, **dict(zip(self.objectives, t.values, strict=True))}
            for t in self.study.best_trials
        ]
        self.parent.tags(
            {
                "search.study": self.study.study_name,
                tracking.OBJECTIVES: json.dumps(self.objectives),
                "search.best": json.dumps(best)[:TAG],
            }
        )
