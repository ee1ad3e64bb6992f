"""The paper's algorithm 1, as written: k steps, and no reorthogonalisation."""

from __future__ import annotations

import math

import torch

from landscape_sweep.curvature.lanczos import Floats
from landscape_sweep.curvature.operators import LinearOperator, random_vector


def lanczos_algorithm_1(
    operator: LinearOperator, k: int, *, seed: int = 0, epsilon: float = 1e-8
) -> Floats:
    """Eigenvalues of T after k steps of the plain three-term recurrence, descending.

    For comparison only. It takes k eigenvalues for k iterations, so that most have not converged,
    and it lets the basis lose orthogonality, so that large eigenvalues return as ghosts. The paper
    pairs it with eq. 13: ``HessianOperator(..., product="finite_difference",
    difference="forward")``.

    Args:
        operator: symmetric.
        k: steps, and values returned at most; fewer where β falls below ``epsilon``.
        seed: of the random vector v_1.
        epsilon: the ε of line 8.

    Raises:
        ValueError: for a k out of bounds.
    """
    if not 1 <= k <= operator.size:
        raise ValueError(f"k={k}: 1 to the operator's size, {operator.size}")
    v = random_vector(operator, torch.Generator().manual_seed(seed))
    v = v / v.norm()
    previous, beta = torch.zeros_like(v), 0.0
    alphas: list[float] = []
    betas: list[float] = []
    for _ in range(k):
        w = operator.matvec(v)
        alphas.append(float(w @ v))
        w = w - alphas[-1] * v - beta * previous
        beta = float(w.norm())
        betas.append(beta)
        if beta < epsilon or not math.isfinite(beta):
            break
        previous, v = v, w / beta
    off = torch.tensor(betas[: len(alphas) - 1], dtype=torch.float64)
    tridiagonal = torch.diag(torch.tensor(alphas, dtype=torch.float64))
    tridiagonal += torch.diag(off, 1) + torch.diag(off, -1)
    values: Floats = torch.linalg.eigvalsh(tridiagonal).numpy()[::-1].copy()
    return values
