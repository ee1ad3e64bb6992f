"""A synthetic sweep from known functions: what the report, the figures and their benchmark are
tried on."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pandas as pd

from landscape_sweep.tracking import Sweep

MODES = {"naive": 1.0, "reset": 0.3}
"""Modes of connectivity and the height of their barriers."""


def synthetic_sweep(
    *,
    batch_sizes: Sequence[int] = (32, 128, 512),
    rates: Sequence[float] = (0.05,),
    seeds: Sequence[int] = (0, 1),
    epochs: int = 6,
    side: int = 9,
    ranks: int = 10,
    nodes: int = 40,
) -> Sweep:
    """Two models × ``batch_sizes`` × ``rates`` × ``seeds``, then one run that diverged and one
    that failed.

    Curvature is a fixed function of model, batch size, learning rate and seed: the trace is
    (2 for the cnn, 0.5 for the resnet) · B · √(0.05/η) + seed, and everything else follows it.
    The two last ranks of every spectrum have not converged.
    """
    cells = list(itertools.product(("cnn", "resnet"), batch_sizes, rates, seeds))
    failing = [(model, batch_sizes[0], rates[0], max(seeds) + 1) for model in ("cnn", "resnet")]
    outcomes = ["completed"] * len(cells) + ["diverged", "failed"]
    runs = [
        _run(number, *cell, outcome)
        for number, (cell, outcome) in enumerate(zip(cells + failing, outcomes, strict=True))
    ]
    completed = runs[: len(cells)]
    return Sweep(
        id="s1",
        name="synthetic",
        command="python -m landscape_sweep -m model=cnn,resnet batch_size=32,128,512 seed=0,1",
        parent_run_id=None,
        runs=pd.DataFrame(runs),
        histories=pd.concat([_history(run, epochs) for run in runs[:-1]], ignore_index=True),
        spectra=pd.concat([_spectrum(run, ranks) for run in completed], ignore_index=True),
        densities=pd.concat([_density(run, nodes) for run in completed], ignore_index=True),
        surfaces=pd.concat([_surface(run, side) for run in completed], ignore_index=True),
        paths=_paths(completed),
        barriers=_barriers(completed),
        algorithm_1=pd.concat([_algorithm_1(run, ranks) for run in completed], ignore_index=True),
    )


def _run(
    number: int, model: str, batch: int, rate: float, seed: int, outcome: str
) -> dict[str, object]:
    label = f"{model} bs{batch} lr{rate:g}"
    run: dict[str, object] = {
        "run_id": f"{number:032x}",
        "name": f"{label} s{seed}",
        "label": label,
        "outcome": outcome,
        "reason": {"diverged": "loss is nan", "failed": "RuntimeError: no room"}.get(outcome, ""),
        "command": f"python -m landscape_sweep model={model} batch_size={batch} seed={seed}",
        "seconds": 12.5 + number,
        "model.name": model,
        "batch_size": batch,
        "optimizer.lr": rate,
        "seed": seed,
        "data.name": "digits",
        "data.loaded": "digits",
    }
    if outcome == "completed":
        trace = batch * (2.0 if model == "cnn" else 0.5) * np.sqrt(0.05 / rate) + seed
        run |= {
            "test/accuracy": 0.97 - 1e-4 * batch - 0.002 * seed,
            "test/loss": 0.1 + 1e-4 * batch + 0.01 * seed,
            "train/loss": 0.01 + 0.001 * seed,
            "gap/loss": 0.09 + 1e-4 * batch + 0.009 * seed,
            "gap/accuracy": 0.02 + 1e-4 * batch + 0.001 * seed,
            "sharpness/sam": 1e-3 * trace,
            "hessian/lambda_max": trace / 10,
            "hessian/trace": trace,
            "hessian/converged": 8,
            "noise/trace": 0.3 + 0.01 * seed,
        }
    return run


def _history(run: dict[str, object], epochs: int) -> pd.DataFrame:
    """Curves that fall exponentially; a run that diverged has one epoch."""
    epoch = np.arange(1, (epochs if run["outcome"] == "completed" else 1) + 1)
    loss = 2.3 * np.exp(-epoch / 2) + float(run["batch_size"]) / 5000 + 0.01 * float(run["seed"])
    curves = {
        "fit/loss": 0.8 * loss,
        "test/loss": loss,
        "fit/accuracy": 1 - loss / 3,
        "test/accuracy": 1 - loss / 2.5,
    }
    wide = pd.DataFrame({"run_id": run["run_id"], "step": epoch, **curves})
    return wide.melt(["run_id", "step"], var_name="metric")[["run_id", "metric", "step", "value"]]


def _spectrum(run: dict[str, object], ranks: int) -> pd.DataFrame:
    rank = np.arange(1, ranks + 1)
    return pd.DataFrame(
        {
            "run_id": run["run_id"],
            "rank": rank,
            "eigenvalue": run["hessian/lambda_max"] / rank,
            "residual": 1e-3 * rank,
            "converged": rank <= ranks - 2,
        }
    )


def _density(run: dict[str, object], nodes: int) -> pd.DataFrame:
    """Nine tenths of the eigenvalues at zero, the others on a tail up to the largest."""
    node = np.linspace(0.0, float(run["hessian/lambda_max"]), nodes)
    weight = np.r_[0.9, np.geomspace(0.01, 1e-6, nodes - 1)]
    columns = {"node": node, "weight": weight / weight.sum(), "outlier": node > 0.9 * node.max()}
    return pd.DataFrame({"run_id": run["run_id"], **columns})


def _algorithm_1(run: dict[str, object], ranks: int) -> pd.DataFrame:
    """Without reorthogonalisation the second value is a ghost of the first, and so on."""
    spectrum = _spectrum(run, ranks)[["run_id", "rank", "eigenvalue"]]
    ghosts = spectrum["eigenvalue"].iloc[(spectrum["rank"] - 1) // 2].to_numpy()
    return spectrum.assign(algorithm_1=ghosts)


def _surface(run: dict[str, object], side: int) -> pd.DataFrame:
    """A paraboloid whose curvature is the trace."""
    axis = np.linspace(-4.0, 4.0, side)
    alpha, beta = (grid.ravel() for grid in np.meshgrid(axis, axis, indexing="ij"))
    loss = 0.01 + (alpha**2 + beta**2) * float(run["hessian/trace"]) / 1000
    columns = {"alpha": alpha, "beta": beta, "loss": loss, "accuracy": 1 / (1 + loss)}
    return pd.DataFrame({"run_id": run["run_id"], **columns})


def _paths(completed: Sequence[dict[str, object]]) -> pd.DataFrame:
    """One pair of seeds a configuration, a parabola between its ends."""
    alpha = np.linspace(0, 1, 7)
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "pair": f"{label} 0-1",
                    "label": label,
                    "run_a": "a",
                    "run_b": "b",
                    "mode": mode,
                    "alpha": alpha,
                    "loss": 0.1 + high * 4 * alpha * (1 - alpha),
                    "accuracy": 1 - high * alpha / 2,
                }
            )
            for label in dict.fromkeys(run["label"] for run in completed)
            for mode, high in MODES.items()
        ],
        ignore_index=True,
    )


def _barriers(completed: Sequence[dict[str, object]]) -> pd.DataFrame:
    """What ``_paths`` shows: one pair of two networks has no interval."""
    rows = [
        (label, mode, "train", "barrier", high, np.nan, np.nan, 1, 2)
        for label in dict.fromkeys(run["label"] for run in completed)
        for mode, high in MODES.items()
    ]
    columns = ["label", "mode", "split", "measure", "mean", "low", "high", "pairs", "networks"]
    return pd.DataFrame(rows, columns=columns)
