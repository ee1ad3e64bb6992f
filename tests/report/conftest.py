"""A synthetic sweep from known functions: what the report and the figures are tried on."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from landscape_sweep.tracking import Sweep

EPOCHS = 6
SIDE = 9


@pytest.fixture
def sweep() -> Sweep:
    """2 models × 3 batch sizes × 2 seeds, then one run that diverged and one that failed."""
    runs, histories, spectra, surfaces = [], [], [], []
    axis = np.linspace(-4.0, 4.0, SIDE)
    alpha, beta = np.meshgrid(axis, axis, indexing="ij")
    grid = [(m, b, s) for m in ("cnn", "resnet") for b in (32, 128, 512) for s in (0, 1)]
    for number, (model, batch, seed) in enumerate([*grid, ("cnn", 32, 2), ("resnet", 32, 2)]):
        outcome = "completed" if number < 12 else "diverged" if number == 12 else "failed"
        run_id, label = f"{number:032x}", f"{model} bs{batch} lr0.05"
        run = {
            "run_id": run_id,
            "name": f"{label} s{seed}",
            "label": label,
            "outcome": outcome,
            "reason": {"diverged": "loss is nan", "failed": "RuntimeError: no room"}.get(
                outcome, ""
            ),
            "command": f"python -m landscape_sweep model={model} batch_size={batch} seed={seed}",
            "seconds": 12.5 + number,
            "model.name": model,
            "batch_size": batch,
            "optimizer.lr": 0.05,
            "seed": seed,
            "data.name": "digits",
            "data.loaded": "digits",
        }
        if outcome != "failed":
            for epoch in range(1, EPOCHS + 1 if outcome == "completed" else 2):
                loss = 2.3 * np.exp(-epoch / 2) + batch / 5000 + 0.01 * seed
                for metric, value in {
                    "fit/loss": 0.8 * loss,
                    "test/loss": loss,
                    "fit/accuracy": 1 - loss / 3,
                    "test/accuracy": 1 - loss / 2.5,
                }.items():
                    histories.append((run_id, metric, epoch, value))
        if outcome == "completed":
            trace = batch * (2.0 if model == "cnn" else 0.5) + seed
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
            for rank in range(1, 11):
                spectra.append((run_id, rank, trace / 10 / rank, 1e-3 * rank, rank <= 8))
            height = 0.01 + (alpha**2 + beta**2) * trace / 1000
            columns = [v.ravel() for v in (alpha, beta, height, 1 / (1 + height))]
            surfaces += [(run_id, *row) for row in zip(*columns, strict=True)]
        runs.append(run)
    t = np.linspace(0, 1, 7)
    paths = [
        (f"{label} 0-1", label, "a", "b", mode, a, 0.1 + high * 4 * a * (1 - a), 1 - high * a / 2)
        for label in dict.fromkeys(str(r["label"]) for r in runs[:12])
        for mode, high in (("naive", 1.0), ("reset", 0.3))
        for a in t
    ]
    return Sweep(
        id="s1",
        name="synthetic",
        command="python -m landscape_sweep -m model=cnn,resnet batch_size=32,128,512 seed=0,1",
        parent_run_id=None,
        runs=pd.DataFrame(runs),
        histories=pd.DataFrame(histories, columns=["run_id", "metric", "step", "value"]),
        spectra=pd.DataFrame(
            spectra, columns=["run_id", "rank", "eigenvalue", "residual", "converged"]
        ),
        densities=pd.DataFrame(columns=["run_id"]),
        surfaces=pd.DataFrame(surfaces, columns=["run_id", "alpha", "beta", "loss", "accuracy"]),
        paths=pd.DataFrame(
            paths,
            columns=["pair", "label", "run_a", "run_b", "mode", "alpha", "loss", "accuracy"],
        ),
    )
