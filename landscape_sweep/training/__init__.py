"""Losses, optimizers, schedule, the loop, and weights on disk."""

from landscape_sweep.training.checkpoint import (
    Checkpoint,
    previous,
    read_checkpoint,
    write_checkpoint,
)
from landscape_sweep.training.loop import Epoch, Fit, evaluate, loss_standard_error, train
from landscape_sweep.training.losses import loss_function
from landscape_sweep.training.optimizers import learning_rate, optimizer
from landscape_sweep.training.tensors import DamagedError
from landscape_sweep.training.weights import load_weights, save_weights

__all__ = [
    "Checkpoint",
    "DamagedError",
    "Epoch",
    "Fit",
    "evaluate",
    "learning_rate",
    "load_weights",
    "loss_function",
    "loss_standard_error",
    "optimizer",
    "previous",
    "read_checkpoint",
    "save_weights",
    "train",
    "write_checkpoint",
]
