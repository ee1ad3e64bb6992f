"""Small cases with known answers: each computes the number that a claim's analytic form rests on.

Everything is exact arithmetic or a short iteration in float64. What each case shows, and which
statement it is held against, stands with the claim that uses it.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment

from landscape_sweep.statistics import Floats, pearson, spearman

# ---------------------------------------------------------------- theorem 1


def descent_on_a_quadratic(steps: int) -> float:
    """tr(H) over 2(L₀ − L*)/(ηT), after noiseless gradient descent on ½ Σ λ_i θ_i², λ = 1 … 10.

    Without noise eq. 5 has no second term, and the trace of a quadratic never changes.
    """
    curvature, theta, lr = np.arange(1.0, 11.0), np.ones(10), 0.05
    first = 0.5 * float(curvature @ theta**2)
    for _ in range(steps):
        theta = theta - lr * curvature * theta
    last = 0.5 * float(curvature @ theta**2)
    assert last < first  # it did descend
    return float(curvature.sum()) / (2 * first / (lr * steps))


def rescaling_exponent(scales: tuple[float, ...] = (0.01, 0.1, 1.0, 10.0)) -> float:
    """The power of a with which eq. 5's right side over its left side moves under L → aL, η → η/a.

    The iterates are the same for every a (checked), so a law about them would have power 0.
    """
    curvature, steps, start = np.arange(1.0, 11.0), 100, np.ones(10)
    ends, ratios = [], []
    for a in scales:
        theta, lr = start, 0.05 / a
        for _ in range(steps):
            theta = theta - lr * (a * curvature) * theta
        right = 2 * (0.5 * a * float(curvature @ start**2)) / (lr * steps)
        ends.append(theta)
        ratios.append(right / float(a * curvature.sum()))
    assert all(np.allclose(end, ends[0], rtol=1e-9) for end in ends)
    return float(np.polyfit(np.log(scales), np.log(ratios), 1)[0])


def stationary_slope(power: float, lr: float = 1e-3) -> float:
    """Slope of log Var(θ_i) on log λ_i for SGD on a quadratic whose noise is Σ = H^power.

    The variance of each coordinate obeys v ← (1 − ηλ)² v + η² λ^power exactly; its fixed point is
    taken. Power 1 is least squares with label noise, where Σ = s² H.
    """
    curvature = np.geomspace(0.01, 10, 30)
    fixed = lr**2 * curvature**power / (1 - (1 - lr * curvature) ** 2)
    return float(np.polyfit(np.log(curvature), np.log(fixed), 1)[0])


def label_noise_traces(batch_sizes: tuple[int, ...], steps: int = 400) -> Floats:
    """Mean tr(H) after SGD with label noise on L = ½(uv − 1)², for each batch size.

    The start is a sharp minimum, (u, v) = (3, 1/3). u² − v² shrinks by exactly 1 − η²e² in each
    step, e being the noisy residual, so that noise drives towards the flat minimum u = v.
    """
    rng, lr, chains = np.random.default_rng(0), 0.1, 200
    traces = []
    for batch in batch_sizes:
        u, v = np.full(chains, 3.0), np.full(chains, 1 / 3)
        for _ in range(steps):
            e = u * v - 1 - rng.normal(scale=batch**-0.5, size=chains)
            u, v = u - lr * e * v, v - lr * e * u
        traces.append(float(np.mean(u**2 + v**2)))
    return np.array(traces)


def gradient_bound_ratio(steps: int, batch_size: int) -> float:
    """(1/T) Σ E‖∇L‖² over 2(L₀ − L*)/(ηT) + ηβσ²/B: the stationarity bound that eq. 5 resembles.

    SGD on a quadratic with isotropic noise of total variance σ² = 10, by the exact recursion of
    second moments; β is the largest curvature (Ghadimi & Lan 2013).
    """
    curvature, second, lr = np.arange(1.0, 11.0), np.ones(10), 0.05
    first, gradients = 0.5 * float(curvature @ second), 0.0
    for _ in range(steps):
        gradients += float(curvature**2 @ second)
        second = (1 - lr * curvature) ** 2 * second + lr**2 / batch_size
    bound = 2 * first / (lr * steps) + lr * curvature.max() * len(curvature) / batch_size
    return gradients / steps / float(bound)


# ---------------------------------------------------------------- theorem 2


def eq_9(rho: float, parameters: float, images: float, delta: float = 0.05) -> float:
    """The right side of eq. 9."""
    return float(np.sqrt((2 * rho**2 + np.log(2 * parameters / delta)) / images))


def eq_10_penalty(
    parameters: float, rho: float, squared_norm: float, images: float, delta: float = 1.0
) -> float:
    """√((KL(N(θ, ρ²I) ‖ N(0, I)) + log(1/δ)) / 2n), what eq. 10 adds to the training loss."""
    kl = 0.5 * (parameters * (rho**2 - 1 - np.log(rho**2)) + squared_norm)
    return float(np.sqrt((kl - np.log(delta)) / (2 * images)))


def memoriser() -> tuple[float, float]:
    """0-1 gap of a linear classifier of random labels, and eq. 9's right side for it.

    200 points in 400 dimensions with labels that are coin flips, fitted exactly, so that the
    training error is 0; a coin flip cannot be predicted, so that the test error is ½. The weights
    are scaled until the logistic loss is flat: an upper bound of its rise over the ball of radius
    0.05 stands for ρ.
    """
    rng = np.random.default_rng(0)
    n, d, rho = 200, 400, 0.05
    x, y = rng.normal(size=(n, d)), rng.choice([-1.0, 1.0], size=n)
    theta = 200 * x.T @ np.linalg.solve(x @ x.T, y)  # the shortest of the exact solutions
    margins = y * (x @ theta)
    assert (margins > 0).all()
    # Within the ball no margin falls by more than ρ‖x_i‖: an upper bound of the sharpness.
    worst = margins - rho * np.linalg.norm(x, axis=1)
    sharpness = float(np.mean(np.logaddexp(0, -worst) - np.logaddexp(0, -margins)))
    return 0.5, eq_9(max(sharpness, 0.0), d, n)


# ---------------------------------------------------------------- proposition 1


def linear_network_condition(weights: list[Floats]) -> float:
    """κ⁺ of the Hessian of a deep linear network's squared loss where it interpolates white inputs.

    Its non-zero eigenvalues are those of JJᵀ = Σ_l (W_{<l}ᵀ W_{<l}) ⊗ (W_{>l} W_{>l}ᵀ).
    """
    size = len(weights[0])
    gram = np.zeros((size**2, size**2))
    for layer in range(len(weights)):
        below, above = np.eye(size), np.eye(size)
        for W in weights[:layer]:
            below = W @ below
        for W in weights[layer + 1 :]:
            above = W @ above
        gram += np.kron(below.T @ below, above @ above.T)
    spectrum = np.linalg.eigvalsh(gram)
    return float(spectrum[-1] / spectrum[0])


def eq_11(weights: list[Floats]) -> float:
    """The right side of eq. 11: Π κ(W_l) · Π ‖W_l‖²."""
    return float(np.prod([np.linalg.cond(W) * np.linalg.norm(W, 2) ** 2 for W in weights]))


def orthogonal_layers(layers: int, size: int = 4, scale: float = 1.5) -> list[Floats]:
    """``scale`` times random rotations."""
    rng = np.random.default_rng(0)
    return [scale * np.linalg.qr(rng.normal(size=(size, size)))[0] for _ in range(layers)]


def worst_upper_bound_ratio(networks: int = 50) -> float:
    """The largest κ⁺ over max_l Π_{j≠l} κ(W_j)² among random deep linear networks."""
    rng = np.random.default_rng(0)
    ratios = []
    for _ in range(networks):
        weights = list(rng.normal(size=(int(rng.integers(2, 6)), 3, 3)))
        squared = [np.linalg.cond(W) ** 2 for W in weights]
        bound = max(np.prod(np.delete(squared, layer)) for layer in range(len(squared)))
        ratios.append(linear_network_condition(weights) / float(bound))
    return max(ratios)


# ---------------------------------------------------------------- proposition 2


def regression_rank(images: int = 10, dimensions: int = 20, outputs: int = 3) -> int:
    """Rank of the Hessian of linear regression with several outputs, I_c ⊗ XᵀX/n."""
    x = np.random.default_rng(0).normal(size=(images, dimensions))
    return int(np.linalg.matrix_rank(np.kron(np.eye(outputs), x.T @ x / images)))


def softmax_rank(images: int = 10, dimensions: int = 20, classes: int = 3) -> int:
    """Rank of the Hessian of softmax regression, mean over n of (diag p − ppᵀ) ⊗ xxᵀ."""
    rng = np.random.default_rng(0)
    x, logits = rng.normal(size=(images, dimensions)), rng.normal(size=(images, classes))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    H = sum(np.kron(np.diag(q) - np.outer(q, q), np.outer(z, z)) for q, z in zip(p, x, strict=True))
    return int(np.linalg.matrix_rank(np.asarray(H) / images))


# ---------------------------------------------------------------- scale and function


def relu_trace(W: Floats, v: Floats, inputs: Floats) -> tuple[float, float]:
    """The two parts of tr(H) of ½(f − y)² where f(x) = vᵀ relu(Wx) interpolates.

    E‖∂f/∂W‖² and E‖∂f/∂v‖² over ``inputs`` (samples, dimensions).
    """
    hidden = np.maximum(inputs @ W.T, 0)
    first = ((hidden > 0) * v**2).sum(1) * (inputs**2).sum(1)
    return float(first.mean()), float((hidden**2).sum(1).mean())


def rescaled_correlation(networks: int = 12) -> tuple[float, float]:
    """r of trace and accuracy before and after a rescaling that changes no network's function.

    W → aW, v → v/a makes the two parts of the trace tr₁/a² and a² tr₂ (Dinh et al. 2017).
    Accuracies are given such that r = −0.8; then each network's a is solved for so that its
    trace rises with its accuracy.
    """
    rng = np.random.default_rng(0)
    inputs, W = rng.normal(size=(50, 5)), rng.normal(size=(networks, 8, 5))
    v = rng.normal(size=(networks, 8))
    before = np.array([sum(relu_trace(w, u, inputs)) for w, u in zip(W, v, strict=True)])
    standard = (before - before.mean()) / before.std()
    other = rng.normal(size=networks)
    other -= other.mean() + standard * (other @ standard) / networks
    accuracy = 0.8 - 0.02 * (0.8 * standard - 0.6 * other / other.std())
    wanted = before.max() * (2 + 10 * (accuracy - accuracy.mean()))
    after = []
    for w, u, goal in zip(W, v, wanted, strict=True):
        first, second = relu_trace(w, u, inputs)
        a = np.sqrt((goal + np.sqrt(goal**2 - 4 * first * second)) / (2 * second))
        after.append(sum(relu_trace(a * w, u / a, inputs)))
    return pearson(before, accuracy), pearson(np.array(after), accuracy)


def normalised_trace_ratio(scale: float) -> float:
    """tr(H) of ½E(f − y)², f(x) = wᵀx/‖w‖, at ``scale``·w over that at w; the function is the same.

    A weight before BatchNorm acts through its direction alone. By central differences.
    """
    rng = np.random.default_rng(0)
    x, y, w = rng.normal(size=(40, 3)), rng.normal(size=40), np.array([1.0, -2.0, 0.5])

    def loss(u: Floats) -> float:
        return 0.5 * float(np.mean((x @ u / np.linalg.norm(u) - y) ** 2))

    def trace(u: Floats) -> float:
        step = 1e-3 * float(np.linalg.norm(u))
        moves = step * np.eye(3)
        return sum(loss(u + m) + loss(u - m) - 2 * loss(u) for m in moves) / step**2

    return trace(scale * w) / trace(w)


# ---------------------------------------------------------------- trainability


def steps_against_curvature(lr: float = 0.1) -> float:
    """Spearman's ρ of λ and the steps in which descent on ½λθ² loses 99% of its loss."""
    curvature = np.linspace(0.5, 9.5, 12)
    theta, steps = np.ones(12), np.zeros(12)
    while (open_ := theta**2 > 0.01).any():
        steps += open_
        theta = theta - lr * curvature * theta
    return spearman(curvature, steps)


# ---------------------------------------------------------------- mode connectivity


def barrier(losses: Floats) -> float:
    """Eq. 4 along a path: its highest loss less the lower of its ends."""
    return float(losses.max() - min(losses[0], losses[-1]))


def excess(losses: Floats) -> float:
    """The highest rise above the line between the ends; equally spaced points."""
    return float((losses - np.linspace(losses[0], losses[-1], len(losses))).max())


def double_well(points: int = 101) -> Floats:
    """(x² − 1)² from one minimum, −1, to the other."""
    return (np.linspace(-1, 1, points) ** 2 - 1) ** 2


def product(points: int = 101) -> Floats:
    """½(uv − 1)² from (1, 1) to (−1, −1), two minima of loss 0."""
    along = np.linspace(1, -1, points)
    return 0.5 * (along**2 - 1) ** 2


def permuted_copy(points: int = 101) -> tuple[Floats, Floats]:
    """½E(f − f₀)² from a ReLU network to itself with its units permuted; then with them matched.

    Units are matched by their weights, a linear assignment (Ainsworth et al. 2023).
    """
    rng = np.random.default_rng(0)
    inputs, W, v = rng.normal(size=(200, 5)), rng.normal(size=(8, 5)), rng.normal(size=8)
    order = np.roll(np.arange(8), 3)
    W2, v2 = W[order], v[order]
    back = linear_sum_assignment(W @ W2.T + np.outer(v, v2), maximize=True)[1]

    def outputs(w: Floats, u: Floats) -> Floats:
        found: Floats = np.maximum(inputs @ w.T, 0) @ u
        return found

    def path(w: Floats, u: Floats) -> Floats:
        return np.array(
            [
                0.5 * np.mean((outputs((1 - t) * W + t * w, (1 - t) * v + t * u) - target) ** 2)
                for t in np.linspace(0, 1, points)
            ]
        )

    target = outputs(W, v)
    return path(W2, v2), path(W2[back], v2[back])
