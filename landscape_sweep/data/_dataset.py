"""A data set on a device: uint8 images, labels, and the statistics that normalise them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from landscape_sweep.data._errors import DataError


@dataclass(frozen=True)
class Dataset:
    """Images (n, c, h, w) uint8 and labels (n,) int64, all on one device.

    `y_train` carries the label noise, `y_train_clean` does not. `mean` and `std` (c,) float32 are
    those of the full training set, whatever `train_size`, with pixels in [0, 1]: so that runs on
    fewer images see the same inputs. Both sets are held in a fixed class-balanced order: the first
    m images are the class-balanced subset of size m. `name` says so if it is a fallback.
    """

    name: str
    x_train: Tensor
    y_train: Tensor
    y_train_clean: Tensor
    x_test: Tensor
    y_test: Tensor
    mean: Tensor
    std: Tensor
    classes: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of one image."""
        _, channels, height, width = self.x_train.shape
        return channels, height, width

    def normalise(self, x: Tensor) -> Tensor:
        """(n, c, h, w) uint8 to float32 with mean 0 and deviation 1 in each channel."""
        return (x.float() / 255 - self.mean[:, None, None]) / self.std[:, None, None]

    def probe_indices(self, n: int) -> Tensor:
        """(n,) int64 indices of the n training images that probes use: balanced by clean label.

        They are the first n, and the same images for every seed, label noise and `train_size` of at
        least n. Nested: those for a smaller n come first, so that `probe_indices(2 * n)[n:]` is a
        second, disjoint set. Raises `DataError` (key `probe.samples`) if there are fewer than n.
        """
        size = len(self.x_train)
        if not 1 <= n <= size:
            raise DataError("probe.samples", n, f"1 to {size} (training images of {self.name})")
        return torch.arange(n, device=self.x_train.device)
