"""Every verdict of a table of 10,000 runs: seconds of one core, and memory at its peak."""

from __future__ import annotations

import resource
import time

import numpy as np
import pandas as pd
import pytest

from landscape_sweep.claims import evaluate

METRICS = (
    *("hessian/trace", "hessian/lambda_max", "sharpness/sam", "sharpness/adaptive"),
    *("train/loss", "train/initial_loss", "train/lr_sum", "train/steps", "train/steps_to_loss"),
    *("noise/trace", "test/accuracy", "gap/accuracy", "gap/loss", "early/lambda_max"),
    *("early/trace", "early/noise_scale", "early/sharpness", "early/loss", "early/test_accuracy"),
    *("measure/parameters", "measure/norm", "measure/train_images", "connectivity/naive/barrier"),
    *("conditioning/log_kappa_plus", "conditioning/log_rhs", "rank/ggn", "rank/samples"),
)


@pytest.mark.benchmark
def test_ten_thousand_runs() -> None:
    rng = np.random.default_rng(0)
    axes = pd.MultiIndex.from_product(
        [["cnn", "resnet"], 2.0 ** np.arange(3, 13), np.geomspace(1e-3, 1, 10), range(10), range(5)]
    )
    names = ["model.name", "batch_size", "optimizer.lr", "model.width", "seed"]
    runs = pd.DataFrame(list(axes), columns=names)
    runs = runs.assign(**{m: rng.uniform(0.1, 1, len(runs)) for m in METRICS})
    began = time.process_time()
    verdicts = evaluate(runs)
    seconds = time.process_time() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"\n{len(runs)} runs, {len(verdicts)} verdicts: {seconds:.1f} s CPU, peak {peak:.2f} GB")
    assert seconds < 60
    assert peak < 1
