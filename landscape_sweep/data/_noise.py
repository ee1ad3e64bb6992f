"""Label noise: the random-label experiment of Zhang et al. (2017), by degrees."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def randomise_labels(
    labels: npt.NDArray[np.int64], *, fraction: float, classes: int, seed: int
) -> npt.NDArray[np.int64]:
    """A copy of `labels` (n,) in which `fraction` of them, at random, are uniformly random.

    Exactly round(fraction * n) labels are drawn anew, each uniform over all classes, its own one
    included: a share 1 / classes of them stays right by chance, and at fraction 1 labels say
    nothing about images. With the same n and seed a larger fraction keeps the noise of a smaller
    one and adds to it.
    """
    # RandomState's stream is frozen (NumPy's NEP 19): a seed means the same labels for good.
    random = np.random.RandomState(seed)
    chosen = random.permutation(len(labels))[: round(fraction * len(labels))]
    drawn = random.randint(classes, size=len(labels), dtype=np.int64)
    noisy = labels.copy()
    noisy[chosen] = drawn[chosen]
    return noisy
