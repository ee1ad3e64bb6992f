"""Lanczos with full reorthogonalisation: eigenvalues at the ends of a spectrum, each with a proof.

One decomposition serves the largest values, the smallest and the spectral density together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from landscape_sweep.curvature.memory import free_bytes
from landscape_sweep.curvature.operators import LinearOperator, check_vector, random_vector, without

Which = Literal["LA", "SA", "LM", "BE"]
"""As in ARPACK: largest or smallest algebraic, largest magnitude, both ends."""

Progress = Callable[[int, float], None]
"""Told the products done and the largest relative residual among the values asked for."""

Floats = NDArray[np.float64]

_MAX_PRODUCTS = 1000
_STEPS_TO_TRUST_A_BLOCK = 10


@dataclass(frozen=True)
class LanczosResult:
    """Eigenvalues with what proves them.

    Attributes:
        eigenvalues: (k,) float64; descending for LA and BE, ascending for SA, by falling
            magnitude for LM.
        residuals: (k,) ‖Ay − θy‖ / |θ| of each Ritz pair. Some true eigenvalue lies within that
            distance of θ. Where |θ| < √ε ‖A‖, with ε the dtype's precision, the divisor is √ε ‖A‖.
        converged: (k,) bool, residual at most ``tol``.
        matvecs: products spent on the whole decomposition.
        eigenvectors: (k, p), orthonormal rows in the operator's dtype, or None.
        which: what was asked for.
    """

    eigenvalues: Floats
    residuals: Floats
    converged: NDArray[np.bool_]
    matvecs: int
    eigenvectors: Tensor | None
    which: Which

    @property
    def budget_spent(self) -> bool:
        """Whether the products ran out before every value asked for had converged."""
        return not bool(self.converged.all())


@dataclass(frozen=True)
class RitzValues:
    """All Ritz values of a decomposition, ascending.

    Attributes:
        values: (m,) float64.
        bounds: (m,) |β_m s_mi|, the absolute residual of each.
        weights: (m,) squared first components: the quadrature weights of the start vector.
        vectors: (m, m), the eigenvectors of the projected matrix as columns.
    """

    values: Floats
    bounds: Floats
    weights: Floats
    vectors: Floats


class LanczosDecomposition:
    """A Q = Q T + β q eᵀ, grown a product at a time, Q orthonormal to working precision.

    Each new vector is orthogonalised against its two predecessors, as the recurrence says, and
    then once against the whole basis, which by then is a correction at rounding level: together
    the "twice is enough" of Parlett (*The Symmetric Eigenvalue Problem*, §6.9). Without the
    second, converged values come back as ghosts.

    When the basis is full it is restarted with the Ritz vectors that are wanted (thick restart:
    Wu and Simon, *SIAM J. Matrix Anal. Appl.* 22, 2000). At a breakdown (an invariant subspace)
    it goes on from a fresh vector orthogonal to it, so repeated eigenvalues are found then; one
    run that ends earlier sees one copy of each.

    Args:
        operator: symmetric.
        start: (p,) first vector, of any length but 0; Gaussian from ``seed`` unless given.
        seed: of every random vector.
        max_basis: rows of Q at most; what a quarter of the free memory holds unless given.
    """

    def __init__(
        self,
        operator: LinearOperator,
        *,
        start: Tensor | None = None,
        seed: int = 0,
        max_basis: int | None = None,
    ) -> None:
        self.operator = operator
        self.matvecs = 0
        self.restarts = 0
        self._generator = torch.Generator().manual_seed(seed)
        self._limit = min(max_basis or _rows_that_fit(operator), operator.size)
        self._rows = torch.empty(
            (min(32, self._limit), operator.size), dtype=operator.dtype, device=operator.device
        )
        self._size = 0
        self._projected = np.zeros((0, 0))
        self._beta = 0.0
        self._coupling = np.zeros(0)  # of the next vector with those of the basis
        self._after_restart = False
        self._block_starts = [0]  # where a basis vector was drawn afresh
        if start is None:
            start = random_vector(operator, self._generator)
        check_vector(operator, start, "start")
        length = float(start.norm())
        if not (length > 0 and math.isfinite(length)):
            raise ValueError(f"start has length {length}; it must be finite and above 0")
        self._next = start / length

    @property
    def size(self) -> int:
        """m, the number of basis vectors."""
        return self._size

    @property
    def exhausted(self) -> bool:
        """Whether the basis spans the whole space, so that every value is exact."""
        return self._size == self.operator.size

    @property
    def basis(self) -> Tensor:
        """Q as (m, p), orthonormal rows; a view."""
        return self._rows[: self._size]

    @property
    def projected(self) -> Floats:
        """Q A Qᵀ, (m, m): tridiagonal until the first restart."""
        return self._projected

    def extend(self) -> None:
        """Add one basis vector, at the cost of one product."""
        if self.exhausted:
            return
        j = self._size
        self._grow()
        self._rows[j] = self._next
        self._size = j + 1
        product = self.operator.matvec(self._rows[j])
        self.matvecs += 1
        if not bool(torch.isfinite(product).all()):
            raise ValueError(f"product {self.matvecs} is not finite; the loss may have overflowed")
        alpha = _dot(self._rows[j], product)
        self._append(alpha)
        # The recurrence w = A q_j - α q_j - Σ_i t_ij q_i first. Beyond the diagonal, t has one
        # entry (the last β), or, just after a restart, one for each vector that was kept.
        couplings = self._projected[j, :j]
        product = product.sub(self._rows[j], alpha=alpha)
        if self._after_restart:
            kept = torch.as_tensor(couplings, dtype=product.dtype, device=product.device)
            product = product - kept @ self._rows[:j]
        elif j:
            product = product.sub(self._rows[j - 1], alpha=float(couplings[j - 1]))
        self._after_restart = False
        product = self._orthogonal(product)
        self._beta = float(product.norm())
        self._choose_next(product)

    def ritz(self) -> RitzValues:
        """Eigenvalues of the projected matrix, with their residuals."""
        values, vectors = np.linalg.eigh(self._projected)
        beta = 0.0 if self.exhausted else self._beta
        return RitzValues(values, np.abs(beta * vectors[-1]), vectors[0] ** 2, vectors)

    def values(
        self, k: int, which: Which = "LA", *, tol: float = 1e-3, eigenvectors: bool = False
    ) -> LanczosResult:
        """The k Ritz values at one end, or both, as they stand. Costs no product."""
        ritz = self.ritz()
        index = _select(ritz.values, min(k, len(ritz.values)), which)
        residuals = ritz.bounds[index] / self._scale(ritz.values)[index]
        return LanczosResult(
            eigenvalues=ritz.values[index],
            residuals=residuals,
            converged=residuals <= tol,
            matvecs=self.matvecs,
            eigenvectors=self._vectors(ritz, index) if eigenvectors else None,
            which=which,
        )

    def top(self, k: int, *, tol: float = 1e-3, eigenvectors: bool = False) -> LanczosResult:
        """The k largest, as ``values`` gives them."""
        return self.values(k, "LA", tol=tol, eigenvectors=eigenvectors)

    def bottom(self, k: int, *, tol: float = 1e-3, eigenvectors: bool = False) -> LanczosResult:
        """The k smallest, as ``values`` gives them."""
        return self.values(k, "SA", tol=tol, eigenvectors=eigenvectors)

    def negative_count(self) -> int:
        """Ritz values whose whole residual interval lies below 0: so many are proven negative.

        A lower bound on the number of negative eigenvalues. The interval allows for the rounding
        of the products, 10 ε ‖A‖. It counts disjoint evidence only while the basis is
        orthogonal, which it is here; ghosts would be counted again and again.
        """
        ritz = self.ritz()
        rounding = 10 * torch.finfo(self.operator.dtype).eps * np.abs(ritz.values).max()
        return int(np.sum(ritz.values + ritz.bounds + rounding < 0))

    def run(
        self,
        wanted: Sequence[tuple[int, Which]],
        *,
        tol: float = 1e-3,
        max_products: int | None = None,
        progress: Progress | None = None,
    ) -> LanczosDecomposition:
        """Grow until every value in ``wanted`` has a residual below ``tol``.

        Args:
            wanted: pairs of k and which, for example ``[(20, "LA"), (1, "SA")]``.
            tol: largest relative residual.
            max_products: ends the run whatever has converged; 1000, or 20 k, unless given.
            progress: called after each check.

        Returns:
            Itself.
        """
        need = max(k for k, _ in wanted)
        budget = max(_MAX_PRODUCTS, 20 * need) if max_products is None else max_products
        while not self.exhausted and self.matvecs < budget:
            if self._size == self._limit:
                self._restart(wanted)
            self.extend()
            due = self._size <= 200 or self._size % 10 == 0 or self.matvecs == budget
            if self._size < need or not due:
                continue
            worst = self._worst(wanted)
            if progress is not None:
                progress(self.matvecs, worst)
            if worst <= tol and self._may_stop(wanted):
                break
        return self

    def _may_stop(self, wanted: Sequence[tuple[int, Which]]) -> bool:
        """Whether what has converged can be what was asked for.

        After a breakdown everything found is exact, but nothing is known of the rest. So a fresh
        block has to end, or run for a while, without adding to the values that are wanted.
        """
        if self._beta > 0:
            first = len(self._block_starts) == 1
            return first or self._size - self._block_starts[-1] >= _STEPS_TO_TRUST_A_BLOCK
        if len(self._block_starts) < 3:
            return False
        block = slice(*self._block_starts[-2:])
        ritz = self.ritz()
        share = (ritz.vectors[block] ** 2).sum(axis=0)
        return not any((share[_select(ritz.values, k, w)] > 0.5).any() for k, w in wanted)

    def _worst(self, wanted: Sequence[tuple[int, Which]]) -> float:
        ritz = self.ritz()
        relative = ritz.bounds / self._scale(ritz.values)
        return max(float(relative[_select(ritz.values, k, which)].max()) for k, which in wanted)

    def _scale(self, values: Floats) -> Floats:
        """|θ|, but no less than what rounding lets a residual resolve."""
        magnitude = np.abs(values)
        floor = math.sqrt(torch.finfo(self.operator.dtype).eps) * magnitude.max()
        return np.maximum(magnitude, max(floor, np.finfo(np.float64).tiny))

    def _vectors(self, ritz: RitzValues, index: NDArray[np.intp]) -> Tensor:
        combine = torch.as_tensor(
            ritz.vectors[:, index].T.copy(), dtype=self.operator.dtype, device=self.operator.device
        )
        return combine @ self.basis

    def _append(self, alpha: float) -> None:
        old, m = self._projected, self._size
        self._projected = np.zeros((m, m))
        self._projected[:-1, :-1] = old
        self._projected[-1, -1] = alpha
        if m > 1:
            self._projected[-1, :-1] = self._projected[:-1, -1] = self._coupling

    def _choose_next(self, residual: Tensor) -> None:
        """The next vector: the residual, or a fresh one where the residual is rounding."""
        scale = max(np.abs(self._projected).max(), np.finfo(np.float64).tiny)
        self._coupling = np.zeros(self._size)
        tiny = 10 * torch.finfo(self.operator.dtype).eps * scale
        if self._beta > tiny:
            self._coupling[-1] = self._beta
            self._next = residual / self._beta
            return
        self._beta = 0.0
        self._block_starts.append(self._size)
        if not self.exhausted:
            fresh = random_vector(self.operator, self._generator)
            fresh = self._orthogonal(self._orthogonal(fresh / fresh.norm()))
            self._next = fresh / fresh.norm()

    def _restart(self, wanted: Sequence[tuple[int, Which]]) -> None:
        ritz = self.ritz()
        chosen: set[int] = set()
        for k, which in wanted:
            # Half as many again beyond those asked for keeps what is about to converge.
            spare = min(k + max(k // 2, 5), len(ritz.values) - 2)
            chosen.update(int(i) for i in _select(ritz.values, spare, which))
        index = np.array(sorted(chosen)[: self._size - 2], dtype=np.intp)
        kept = self._vectors(ritz, index)
        self._rows[: len(index)] = kept
        self._size = len(index)
        self._projected = np.diag(ritz.values[index])
        self._coupling = self._beta * ritz.vectors[-1, index]
        self._after_restart = True
        self._block_starts = [0]
        self.restarts += 1
        self._next = self._orthogonal(self._next)
        self._next = self._next / self._next.norm()

    def _orthogonal(self, vector: Tensor) -> Tensor:
        return without(vector, self.basis)

    def _grow(self) -> None:
        if self._size < len(self._rows):
            return
        rows = min(2 * len(self._rows), self._limit)
        larger = self._rows.new_empty((rows, self.operator.size))
        larger[: self._size] = self._rows[: self._size]
        self._rows = larger


def lanczos(
    operator: LinearOperator,
    k: int = 20,
    tol: float = 1e-3,
    which: Which = "LA",
    seed: int = 0,
    *,
    max_products: int | None = None,
    max_basis: int | None = None,
    eigenvectors: bool = False,
    start: Tensor | None = None,
    progress: Progress | None = None,
) -> LanczosResult:
    """k eigenvalues at an end of a symmetric operator's spectrum, as SciPy's ``eigsh`` gives.

    Args:
        operator: anything with ``size``, ``dtype``, ``device`` and a symmetric ``matvec``.
        k: how many, 1 to p.
        tol: ends when each relative residual is at most this; eigenvalues are then off by about
            its square.
        which: LA, SA, LM or BE (half from each end, the odd one from the top).
        seed: of the Gaussian start vector.
        max_products: ends the run in any case, and ``converged`` says what it is worth; 1000, or
            20 k, unless given.
        max_basis: vectors kept at once, at least k + 3; above it the basis is restarted, which
            bounds memory at the price of products; what a quarter of the free memory holds unless
            given.
        eigenvectors: whether to return them.
        start: (p,), instead of the Gaussian vector: for example the sum of the eigenvectors of an
            earlier, nearby model.
        progress: called with the products done and the largest relative residual.

    Raises:
        ValueError: for a k, tol, which, max_products or max_basis out of bounds, and for a
            product that is not finite.
    """
    _check_arguments(operator, k, tol, which, max_products, max_basis)
    run = LanczosDecomposition(operator, start=start, seed=seed, max_basis=max_basis)
    run.run([(k, which)], tol=tol, max_products=max_products, progress=progress)
    return run.values(k, which, tol=tol, eigenvectors=eigenvectors)


def _check_arguments(
    operator: LinearOperator,
    k: int,
    tol: float,
    which: str,
    max_products: int | None,
    max_basis: int | None,
) -> None:
    if not 1 <= k <= operator.size:
        raise ValueError(f"k={k}: 1 to the operator's size, {operator.size}")
    if not tol > 0:
        raise ValueError(f"tol={tol}: above 0")
    if which not in get_args(Which):
        raise ValueError(f"which={which!r}: one of {get_args(Which)}")
    if max_products is not None and max_products < k:
        raise ValueError(f"max_products={max_products}: at least k={k}")
    if max_basis is not None and max_basis < min(k + 3, operator.size):
        raise ValueError(f"max_basis={max_basis}: at least k + 3 = {k + 3}")


def _select(values: Floats, k: int, which: Which) -> NDArray[np.intp]:
    """Places of the k asked for among ascending ``values``, in the order that is returned."""
    count = len(values)
    if which == "LA":
        return np.arange(count)[::-1][:k]
    if which == "SA":
        return np.arange(count)[:k]
    if which == "LM":
        return np.argsort(-np.abs(values), kind="stable")[:k]
    high = (k + 1) // 2
    places = np.arange(count)[::-1]
    return np.concatenate([places[:high], places[count - (k - high) :]])


def _rows_that_fit(operator: LinearOperator) -> int:
    bytes_per_row = operator.size * operator.dtype.itemsize
    return max(free_bytes(operator.device) // 4 // bytes_per_row, 100)


def _dot(a: Tensor, b: Tensor) -> float:
    return float(torch.dot(a.double(), b.double()))
