"""The noise of mini-batch gradients: the covariance Σ of single samples' gradients."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import grad, vmap

from landscape_sweep.curvature.model_operator import ModelOperator, Product
from landscape_sweep.curvature.objective import Chunk, Objective, full_precision
from landscape_sweep.curvature.sample_norms import has_layerwise_rules, squared_norms


@dataclass(frozen=True)
class GradientNoise:
    """tr Σ of single samples' gradients, Σ = (1/(n−1)) Σ_i (g_i − ḡ)(g_i − ḡ)ᵀ.

    Attributes:
        trace: tr Σ.
        standard_error: of ``trace``, over samples.
        mean_squared_norm: ‖ḡ‖², of the mean gradient over these samples.
        squared_norm: ‖ḡ‖² − tr Σ / n, unbiased for the population's ‖G‖²; may be negative.
        scale: the simple noise scale tr Σ / ‖G‖² (McCandlish and others, *An empirical model of
            large-batch training*, 2018), in samples; inf where the denominator isn't positive.
        scale_standard_error: of ``scale``, by the jackknife over samples; inf where leaving one
            sample out leaves no positive denominator.
        samples: n.
    """

    trace: float
    standard_error: float
    mean_squared_norm: float
    squared_norm: float
    scale: float
    scale_standard_error: float
    samples: int


class GradientCovariance(ModelOperator):
    """Σ = (1/(n−1)) Σ_i (g_i − ḡ)(g_i − ḡ)ᵀ of single samples' gradients, (p, p), by products.

    Takes what ``ModelOperator`` takes; ``lanczos`` gives its top eigenvalues.

    Raises:
        ValueError: for fewer than two samples, and for a loss that couples the samples of a batch
            (BatchNorm in train mode), where a single sample has no gradient.
    """

    _mean: Tensor | None = None

    def noise(self) -> GradientNoise:
        """tr Σ exactly over the samples, with its standard error, and the simple noise scale."""
        mean = self._mean_gradient()
        squared = float(mean.double().square().sum())
        with full_precision():
            norms, along = self._norms_and_projections(mean)
        # ‖g_i − ḡ‖² for each sample; their variance gives the standard error.
        distances = norms - 2 * along + squared
        n = self.samples
        trace = float(distances.sum()) / (n - 1)
        unbiased = squared - trace / n
        return GradientNoise(
            trace=trace,
            standard_error=float(distances.std()) / math.sqrt(n),
            mean_squared_norm=squared,
            squared_norm=unbiased,
            scale=trace / unbiased if unbiased > 0 else math.inf,
            scale_standard_error=_jackknife_of_scale(norms, along, squared),
            samples=n,
        )

    def _measure_sample(self) -> int:
        if self.samples < 2:
            raise ValueError("gradient noise needs at least 2 samples, but batches hold 1")
        if not self.objective.separable:
            raise ValueError(
                "gradient noise needs a loss that is the mean of its samples' losses; with "
                "BatchNorm in train mode a single sample has no gradient: call model.eval()"
            )
        return super()._measure_sample()

    def _mean_gradient(self) -> Tensor:
        if self._mean is None:
            self._mean = self.gradient()
        return self._mean

    def _matvec(self, vector: Tensor) -> Tensor:
        mean = self._mean_gradient()
        second_moment = super()._matvec(vector) * (self.samples / (self.samples - 1))
        share = torch.dot(mean.double(), vector.double()).to(self.dtype)
        return second_moment - mean * (share * (self.samples / (self.samples - 1)))

    def _chunk_product(self, chunk: Chunk) -> Product:
        """(1/n) Σ_i g_i (g_iᵀ v): forward mode by two reverses, then one reverse."""
        losses, values, pulled, cotangent = _sample_losses(self.objective, chunk)
        used = [i for i, p in enumerate(pulled) if p.requires_grad]
        share = chunk.weight / len(chunk.inputs)

        def product(parts: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            (along,) = torch.autograd.grad(
                [pulled[i] for i in used], cotangent, [parts[i] for i in used], retain_graph=True
            )
            return torch.autograd.grad(
                losses, values, along * share, retain_graph=True, materialize_grads=True
            )

        return product

    def _norms_and_projections(self, mean: Tensor) -> tuple[Tensor, Tensor]:
        """(n,) ‖g_i‖² and (n,) g_i·ḡ, float64."""
        objective = self.objective
        layerwise = has_layerwise_rules(objective, objective.batches[0][0])
        parts = objective.vector.split(mean)
        norms, along = [], []
        for chunk in objective.chunks(self.chunk):
            with torch.no_grad():
                outputs = objective.outputs(objective.vector.values, chunk.inputs)
            cotangent = vmap(grad(_one_loss(objective)))(outputs, chunk.targets)
            norms.append(
                squared_norms(objective, chunk.inputs, [cotangent], layerwise=layerwise)[0]
            )
            _, _, pulled, free = _sample_losses(objective, chunk)
            used = [i for i, p in enumerate(pulled) if p.requires_grad]
            (slopes,) = torch.autograd.grad(
                [pulled[i] for i in used], free, [parts[i] for i in used]
            )
            along.append(slopes.double())
        return torch.cat(norms), torch.cat(along)


def _jackknife_of_scale(norms: Tensor, along: Tensor, squared: float) -> float:
    """Standard error of tr Σ / ‖G‖² from its n values with one sample left out (Efron, 1982).

    Exact and free: with g_i out, ‖ḡ‖² becomes (n²‖ḡ‖² − 2n g_i·ḡ + ‖g_i‖²) / (n−1)².

    Args:
        norms: (n,) ‖g_i‖².
        along: (n,) g_i·ḡ.
        squared: ‖ḡ‖².
    """
    n = len(norms)
    if n < 3:
        return math.inf
    mean_squares = (n**2 * squared - 2 * n * along + norms) / (n - 1) ** 2
    traces = (norms.sum() - norms - (n - 1) * mean_squares) / (n - 2)
    unbiased = mean_squares - traces / (n - 1)
    if not bool((unbiased > 0).all()):
        return math.inf
    scales = traces / unbiased
    return float(((n - 1) / n * (scales - scales.mean()).square().sum()).sqrt())


@dataclass(frozen=True)
class TwoBatchNoise:
    """The gradient noise from gradients of two batch sizes.

    Attributes:
        trace: the estimate of tr Σ.
        squared_norm: the estimate of ‖G‖².
        scale: their ratio, in samples; inf where the denominator isn't positive.
    """

    trace: float
    squared_norm: float
    scale: float


def two_batch_noise(
    small_squared_norm: float, big_squared_norm: float, small: int, big: int
) -> TwoBatchNoise:
    """tr Σ ≈ (|G_b|² − |G_B|²) / (1/b − 1/B), |G|² ≈ (B|G_B|² − b|G_b|²) / (B − b).

    McCandlish and others, 2018, appendix A.1. Both are unbiased; average both over many batches
    before taking the ratio, by giving this function the averages.

    Args:
        small_squared_norm: |G_b|², the mean over small batches.
        big_squared_norm: |G_B|².
        small: b, samples in a small batch, 1 or more.
        big: B, above b.

    Raises:
        ValueError: where not 1 ≤ b < B.
    """
    if not 1 <= small < big:
        raise ValueError(f"small={small}, big={big}: 1 <= small < big")
    trace = (small_squared_norm - big_squared_norm) / (1 / small - 1 / big)
    squared = (big * big_squared_norm - small * small_squared_norm) / (big - small)
    return TwoBatchNoise(trace, squared, trace / squared if squared > 0 else math.inf)


def _one_loss(objective: Objective) -> Callable[[Tensor, Tensor], Tensor]:
    def loss(output: Tensor, target: Tensor) -> Tensor:
        return objective.loss(output[None], target[None])

    return loss


def _sample_losses(
    objective: Objective, chunk: Chunk
) -> tuple[Tensor, list[Tensor], tuple[Tensor, ...], Tensor]:
    """(N,) losses, the parameters, Σ_i u_i g_i as a function of u, and u, all in one graph."""
    values = [v.detach().requires_grad_() for v in objective.vector.values]
    outputs = objective.folded_outputs(values, chunk.inputs)
    losses = vmap(_one_loss(objective))(outputs, chunk.targets)
    cotangent = torch.zeros_like(losses, requires_grad=True)
    pulled = torch.autograd.grad(
        losses, values, cotangent, create_graph=True, materialize_grads=True
    )
    return losses, values, pulled, cotangent
