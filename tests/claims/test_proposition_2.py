"""Ranks are held against what their own loss allows."""

from __future__ import annotations

import itertools

import pandas as pd

from landscape_sweep.claims import evaluate


def test_a_squared_loss_run_does_not_break_the_softmax_bound() -> None:
    """n(c − 1) is softmax's limit; squared loss reaches nc, and both are the theory's values."""
    n, c = 20, 10
    rows = []
    for number, (width, loss, seed) in enumerate(
        itertools.product(range(20, 32), ("cross_entropy", "mse"), range(3))
    ):
        softmax = loss == "cross_entropy"
        rows.append(
            {
                "run_id": str(number),
                "label": f"mlp width={width} loss={loss}",
                "outcome": "completed",
                "model.name": "mlp",
                "loss": loss,
                "seed": seed,
                "rank/ggn": n * (c - 1) if softmax else n * c,
                "rank/ggn_mse": n * c,
                "rank/samples": n,
                "rank/classes": c,
            }
        )
    found = [v for v in evaluate(pd.DataFrame(rows)) if v.claim == "proposition_2"]
    softmax_bound = [v for v in found if "n(c − 1)" in v.quantity and v.form == "corrected"]
    assert len(softmax_bound) == 2
    assert {v.configs for v in softmax_bound} == {12}
    assert not any(v.verdict == "REFUTED" for v in softmax_bound)
    (literal,) = [v for v in found if v.form == "literal" and "Gauss-Newton" in v.quantity]
    assert literal.verdict == "REFUTED"
