"""Conjecture 1.1, sharpness and generalisation: "strong negative correlation (r ≈ −0.7 to −0.9)".

Flaw: it does not say with what. Read as: sharper minima have lower test accuracy. Eq. 3 measures
mostly ρ‖g‖ (away from a minimum), and sharpness of any kind follows the scale of the weights,
which rescaling changes while the function stays (Dinh et al. 2017): the sign of a correlation
over differently scaled networks is free. Two clusters of architectures alone give r ≈ −0.8.

Corrected: within an architecture, the partial rank correlation given log η and log B, of the
scale-invariant sharpness where it was measured. Literature: sharpness "does not correlate well"
(Andriushchenko et al. 2023); no measure is robust (Dziugaite et al. 2020).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from landscape_sweep.claims import table
from landscape_sweep.claims.association import correlated, partially_correlated
from landscape_sweep.claims.question import Question, computed
from landscape_sweep.claims.verdict import Region, Verdict
from landscape_sweep.statistics import Floats, pearson

CLAIM = "conjecture_1.1"
EXPERIMENT = "geometry_predicts"
STRONG = Region(-0.9, -0.7)


def judge(runs: pd.DataFrame) -> Iterator[Verdict]:
    """Pearson as stated, the partial rank correlation, and Dinh's rescaling."""
    raw, y = "sharpness/sam", "test/accuracy"
    yield from correlated(
        Question(
            claim=CLAIM,
            form="literal",
            statement="Sharpness S_ρ and test accuracy correlate with r between −0.9 and −0.7.",
            quantity="Pearson's r of sharpness (eq. 3) with test accuracy",
            region=STRONG,
            columns=(raw, y),
            experiment=EXPERIMENT,
        ),
        *(runs, raw, y, pearson),
    )
    invariant = "sharpness/adaptive"
    x = raw if table.missing(runs, (invariant,)) else invariant
    kind = "sharpness (eq. 3)" if x == raw else "scale-invariant sharpness"
    yield from partially_correlated(
        Question(
            claim=CLAIM,
            form="corrected",
            statement="At equal learning rate and batch size, sharper networks of one "
            "architecture test worse.",
            quantity=f"the rank correlation of {kind} with test accuracy, given η and B,",
            region=Region(-1, 0),
            columns=(x, y),
            experiment=EXPERIMENT,
            primary=True,
        ),
        *(runs, x, y),
    )
    yield computed(
        Question(
            claim=CLAIM,
            form="analytic",
            statement="The correlation of sharpness with accuracy is a property of the functions "
            "that networks compute.",
            quantity="Pearson's r of the Hessian trace with accuracy after rescaling",
            region=STRONG,
        ),
        rescaled_correlation(),
        "Twelve two-layer ReLU networks whose trace falls with their accuracy (r = −0.8) are "
        "rescaled, W to aW and v to v/a, which changes no output.",
    )


def rescaled_correlation(networks: int = 12) -> float:
    """r of trace and accuracy after a rescaling that leaves every network's function as it is.

    f(x) = vᵀ relu(Wx) with squared loss, at interpolation: tr H = E[‖∂f/∂W‖² + ‖∂f/∂v‖²]. With
    W → aW, v → v/a the two terms become tr₁/a² and a² tr₂ (Dinh et al. 2017). Each network's a is
    chosen so that its trace rises with accuracy where it fell.
    """
    rng = np.random.default_rng(0)
    inputs, W = rng.normal(size=(50, 5)), rng.normal(size=(networks, 8, 5))
    v = rng.normal(size=(networks, 8))
    before = np.array([trace(w, u, inputs) for w, u in zip(W, v, strict=True)])
    standard = (before - before.mean()) / before.std()
    noise = rng.normal(size=networks)
    noise -= noise.mean() + standard * (noise @ standard) / networks
    accuracy = 0.8 - 0.02 * (0.8 * standard - 0.6 * noise / noise.std())
    assert abs(pearson(before, accuracy) + 0.8) < 1e-9
    wanted = before.max() * (2 + 10 * (accuracy - accuracy.mean()))
    after = []
    for w, u, t in zip(W, v, wanted, strict=True):
        first, second = halves(w, u, inputs)
        a = np.sqrt((t + np.sqrt(t**2 - 4 * first * second)) / (2 * second))
        moved = trace(a * w, u / a, inputs)
        assert np.allclose(relu(inputs @ (a * w).T) @ (u / a), relu(inputs @ w.T) @ u)
        after.append(moved)
    return pearson(np.array(after), accuracy)


def relu(x: Floats) -> Floats:
    """max(x, 0)."""
    return np.maximum(x, 0)


def halves(W: Floats, v: Floats, inputs: Floats) -> tuple[float, float]:
    """Mean squared norms of ∂f/∂W and ∂f/∂v over the inputs (samples, dimensions)."""
    active = inputs @ W.T > 0
    first = (active * v**2).sum(1) * (inputs**2).sum(1)
    second = (relu(inputs @ W.T) ** 2).sum(1)
    return float(first.mean()), float(second.mean())


def trace(W: Floats, v: Floats, inputs: Floats) -> float:
    """tr H of the squared loss ½(f − y)² where f interpolates."""
    return sum(halves(W, v, inputs))
