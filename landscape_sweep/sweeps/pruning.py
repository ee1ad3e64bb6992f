"""The job's side of pruning: a run reports each tested epoch to its trial, and ends if told to."""

from __future__ import annotations

import math
from collections.abc import Mapping

from omegaconf import DictConfig

from landscape_sweep import tracking


def watch(sweeper: DictConfig, number: int) -> tracking.Watch | None:
    """What looks at the metrics of a job; None where no search prunes.

    A run that goes on from a checkpoint logs its first epochs again, and so reports them again.

    Args:
        sweeper: ``hydra.sweeper`` of the job, in which a search that prunes writes its study.
        number: the job's trial.
    """
    if sweeper.get("pruner", "none") == "none":
        return None
    from landscape_sweep.sweeps import study as studies  # imports Optuna

    trial = studies.join(sweeper.storage, sweeper.study_name, number, sweeper.pruner)
    (objective,) = trial.study.user_attrs["objectives"]

    def report(metrics: Mapping[str, float], epoch: int) -> None:
        value = metrics.get(objective, math.nan)
        if math.isfinite(value):  # what diverges is no hopeless run but a failed one
            trial.report(value, epoch)
            if trial.should_prune():
                raise tracking.Pruned(f"{objective} {value:.4g} after epoch {epoch}")

    return report
