"""The density of all eigenvalues, by stochastic Lanczos quadrature."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from landscape_sweep.curvature.lanczos import Floats, LanczosDecomposition, Progress
from landscape_sweep.curvature.operators import LinearOperator, random_vector, without


@dataclass(frozen=True)
class SpectralDensity:
    """A discrete measure near (1/p) Σ_i δ(λ − λ_i).

    Attributes:
        nodes: (m,) float64, ascending.
        weights: (m,) float64, at least 0, sum 1.
        outliers: (k,) eigenvalues known singly, each with weight 1/p, ascending; part of nodes.
        products: what it cost beyond the decomposition it was given.
    """

    nodes: Floats
    weights: Floats
    outliers: Floats
    products: int


def spectral_density(
    operator: LinearOperator,
    probes: int = 10,
    seed: int = 0,
    *,
    steps: int = 80,
    decomposition: LanczosDecomposition | None = None,
    tol: float = 1e-3,
    progress: Progress | None = None,
) -> SpectralDensity:
    """Stochastic Lanczos quadrature (Golub and Meurant; Ubaru, Chen and Saad, 2017).

    Each Gaussian probe's Ritz values are nodes, its squared first components their weights. With a
    ``decomposition`` the eigenvalues that have converged in it stand singly with weight 1/p, its
    start vector serves as the first probe, and the other probes run in the complement of the known
    eigenvectors, so that nothing is counted twice. All are reorthogonalised: no ghosts.

    Args:
        operator: symmetric.
        probes: how many, 1 or more.
        seed: of the probes.
        steps: products for each probe, 1 or more.
        decomposition: of the same operator, with a random start and never restarted; costs
            no more products.
        tol: largest relative residual of an eigenvalue that stands singly.
        progress: called after each probe with the products done and the share of probes left.

    Raises:
        ValueError: for probes or steps below 1, and for a decomposition that was restarted.
    """
    if probes < 1:
        raise ValueError(f"probes={probes}: 1 or more")
    if steps < 1:
        raise ValueError(f"steps={steps}: 1 or more")
    known, vectors = np.zeros(0), None
    measures: list[tuple[Floats, Floats]] = []
    if decomposition is not None:
        known, vectors, bulk = _known_and_bulk(decomposition, tol)
        measures.append(bulk)
    generator = torch.Generator().manual_seed(seed)
    products = 0
    rest: LinearOperator = operator if vectors is None else Complement(operator, vectors)
    while len(measures) < probes:
        start = random_vector(operator, generator)
        if isinstance(rest, Complement):
            start = rest.project(start)
        run = LanczosDecomposition(rest, start=start)
        for _ in range(min(steps, operator.size - len(known))):
            run.extend()
            products += 1
        ritz = run.ritz()
        measures.append((ritz.values, ritz.weights))
        if progress is not None:
            progress(products, 1 - len(measures) / probes)
    return _combined(known, measures, operator.size, products)


class Complement:
    """P A P with P = I − UᵀU: an operator without the directions in the rows of U, (k, p)."""

    def __init__(self, operator: LinearOperator, vectors: Tensor) -> None:
        self.operator, self.vectors = operator, vectors
        self.size, self.dtype, self.device = operator.size, operator.dtype, operator.device

    def project(self, vector: Tensor) -> Tensor:
        """Pv, (p,)."""
        return without(vector, self.vectors)

    def matvec(self, vector: Tensor) -> Tensor:
        """PAPv, (p,)."""
        return self.project(self.operator.matvec(self.project(vector)))


def _known_and_bulk(
    decomposition: LanczosDecomposition, tol: float
) -> tuple[Floats, Tensor | None, tuple[Floats, Floats]]:
    """Converged eigenvalues and vectors, and the start vector's measure on all the others."""
    if decomposition.restarts:
        raise ValueError(
            "the decomposition was restarted, so its weights are no quadrature rule; "
            "give it a larger max_basis, or none"
        )
    ritz = decomposition.ritz()
    largest = np.abs(ritz.values).max()
    known = (ritz.bounds <= tol * np.abs(ritz.values)) & (np.abs(ritz.values) > 1e-2 * largest)
    bulk = ritz.weights[~known]
    if not bulk.sum() > 0:
        known[:] = False
        bulk = ritz.weights
    rows = torch.as_tensor(
        ritz.vectors[:, known].T.copy(),
        dtype=decomposition.operator.dtype,
        device=decomposition.operator.device,
    )
    vectors = rows @ decomposition.basis if known.any() else None
    return ritz.values[known], vectors, (ritz.values[~known], bulk / bulk.sum())


def _combined(
    known: Floats, measures: list[tuple[Floats, Floats]], size: int, products: int
) -> SpectralDensity:
    share = 1 - len(known) / size
    nodes = np.concatenate([known, *(values for values, _ in measures)])
    weights = np.concatenate(
        [
            np.full(len(known), 1 / size),
            *(share * weight / weight.sum() / len(measures) for _, weight in measures),
        ]
    )
    order = np.argsort(nodes, kind="stable")
    return SpectralDensity(nodes[order], weights[order] / weights.sum(), np.sort(known), products)
