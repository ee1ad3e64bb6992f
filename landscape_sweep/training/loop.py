"""The training loop: steps over a data set that lies on the device, and what ends it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import chain, islice
from typing import Protocol, TypeAlias

import torch
from torch import Tensor, nn

from landscape_sweep.training.checkpoint import Checkpoint, capture, restore
from landscape_sweep.training.optimizers import learning_rate

EVALUATION_BATCH = 500
"""Images a forward pass in evaluation: activations stay small, results do not depend on it."""

MATCHED_LOSS_IMAGES = 2000
"""Clean training images on which ``stop_train_loss`` and ``milestone`` are checked."""


Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""loss(outputs, labels): a scalar, the mean over the batch."""


class Images(Protocol):
    """What the loop needs of a data set; see ``landscape_sweep.data.Dataset``."""

    @property
    def x_train(self) -> Tensor:
        """Images (n, C, H, W), uint8."""
        ...

    @property
    def y_train(self) -> Tensor:
        """Labels (n,), int64."""
        ...

    def normalise(self, images: Tensor) -> Tensor:
        """uint8 images (n, C, H, W) to float32 of mean 0 and deviation 1."""
        ...

    def probe_indices(self, samples: int) -> Tensor:
        """Class-balanced training images, always the same ones."""
        ...


@dataclass(frozen=True)
class Epoch:
    """What one epoch measured, as trained: augmented images, weights moving."""

    number: int
    step: int
    loss: float
    accuracy: float
    lr: float
    seconds: float
    steps: int


@dataclass
class Fit:
    """How training went.

    Attributes:
        outcome: ``completed`` or ``diverged``.
        steps: steps taken.
        steps_to_milestone: steps until the clean training loss was first at most ``milestone``;
            None where it never was, or was not asked for.
        lr_sum: sum of the learning rates of these steps, in place of ηT under a schedule.
        seconds: time of the steps alone.
    """

    outcome: str = "completed"
    steps: int = 0
    steps_to_milestone: int | None = None
    lr_sum: float = 0.0
    seconds: float = 0.0
    epochs: list[Epoch] = field(default_factory=list)


def train(
    model: nn.Module,
    data: Images,
    optimizer: torch.optim.Optimizer,
    loss_function: Loss,
    *,
    batch_size: int,
    steps: int,
    schedule: str,
    lr: float,
    seed: int,
    fork: tuple[int, int] | None = None,
    augment: Callable[[Tensor], Tensor] | None = None,
    stop_train_loss: float | None = None,
    milestone: float | None = None,
    check_every: int = 50,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
    on_step: Callable[[int], None] = lambda step: None,
    start: Checkpoint | None = None,
    checkpoint_every: int | None = None,
    checkpoint_seconds: float | None = None,
    on_checkpoint: Callable[[Checkpoint], None] = lambda checkpoint: None,
) -> Fit:
    """Minimise the mean loss of ``model`` on the training images.

    Args:
        model: on the device of ``data``; left in train mode.
        data: images and labels on the device.
        optimizer: over the model's parameters.
        loss_function: mean loss of a batch.
        batch_size: images a step; the incomplete last batch of an epoch is dropped.
        steps: steps in all; the schedule spans them.
        schedule: ``cosine`` or ``constant``.
        lr: initial learning rate.
        seed: seed of the data order, which does not depend on the device.
        fork: (k, seed): from step k on, counted from 0, the data order is that of this seed.
        augment: applied to each uint8 batch.
        stop_train_loss: end when the clean training loss in eval mode is at most this.
        milestone: a clean training loss; ``Fit`` tells when it was reached.
        check_every: steps between two looks at the loss (for these and for divergence).
        on_epoch: called after each epoch, and after the last step.
        on_step: called with the number of steps taken, after each step.
        start: go on from here; ``model`` and ``optimizer`` take over its state.
        checkpoint_every: steps at which checkpoints are made; another one is made at the end.
        checkpoint_seconds: one is made, too, after the step that ends so long after the last.
        on_checkpoint: called with each of them, where either is given.

    A loss that is not finite ends training with the outcome ``diverged``.
    """
    device = data.x_train.device
    # Not in channels_last: on the CPU torch 2.14 then writes out of bounds at 4 channels.
    batches = _batches(len(data.y_train), batch_size, seed, device)
    if fork is not None:
        own = _batches(len(data.y_train), batch_size, fork[1], device)
        batches = chain(islice(batches, fork[0]), islice(own, fork[0], None))
    watched = data.probe_indices(min(MATCHED_LOSS_IMAGES, len(data.y_train)))
    target = -math.inf if stop_train_loss is None else stop_train_loss
    awaited = -math.inf if milestone is None else milestone
    fit = Fit()
    total = torch.zeros(2, device=device)  # loss and hits of the epoch, fetched once an epoch
    taken, ended = 0, False
    if start is not None:
        restore(model, optimizer, start.tensors)
        fit, taken, ended = _fit_of(start), start.state["taken"], start.state["ended"]
        total = start.tensors["total"].to(device)
        batches = islice(batches, fit.steps, None)
        awaited = awaited if fit.steps_to_milestone is None else -math.inf
    kept = checkpoint_every is not None or checkpoint_seconds is not None
    patience = math.inf if checkpoint_seconds is None else checkpoint_seconds
    began = checkpointed = time.perf_counter()
    model.train()
    while fit.steps < steps and not ended:
        chosen, last = next(batches)
        rate = learning_rate(schedule, lr, fit.steps, steps)
        for group in optimizer.param_groups:
            group["lr"] = rate
        images, labels = data.x_train[chosen], data.y_train[chosen]
        outputs = model(data.normalise(images if augment is None else augment(images)))
        loss = loss_function(outputs, labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            total += torch.stack((loss.detach(), (outputs.argmax(1) == labels).float().mean()))
        fit.steps, fit.lr_sum, taken = fit.steps + 1, fit.lr_sum + rate, taken + 1
        on_step(fit.steps)
        due = fit.steps % check_every == 0
        ended = fit.steps == steps
        if due or last or ended:
            if not bool(torch.isfinite(total[0])):
                fit.outcome, ended = "diverged", True
            elif max(target, awaited) > -math.inf:
                part = data.x_train[watched], data.y_train[watched]
                reached, _ = evaluate(model, loss_function, data, *part)
                model.train()
                if reached <= awaited:
                    fit.steps_to_milestone, awaited = fit.steps, -math.inf
                ended = ended or reached <= target
        if last or ended:
            mean_loss, accuracy = (total / taken).tolist()
            seconds = time.perf_counter() - began
            fit.seconds += seconds
            epoch = Epoch(len(fit.epochs) + 1, fit.steps, mean_loss, accuracy, rate, seconds, taken)
            fit.epochs.append(epoch)
            on_epoch(epoch)
            model.train()
            total.zero_()
            taken, began = 0, time.perf_counter()
        now = time.perf_counter()
        at_step = checkpoint_every is not None and fit.steps % checkpoint_every == 0
        if kept and (ended or at_step or now - checkpointed >= patience):
            fit.seconds += now - began
            tensors = capture(model, optimizer) | {"total": total.cpu().clone()}
            state = {"fit": asdict(fit), "taken": taken, "ended": ended}
            on_checkpoint(Checkpoint(tensors, state))
            model.train()
            began = checkpointed = time.perf_counter()
    return fit


def _fit_of(checkpoint: Checkpoint) -> Fit:
    fit = dict(checkpoint.state["fit"])
    return Fit(**{**fit, "epochs": [Epoch(**epoch) for epoch in fit["epochs"]]})


def _batches(
    images: int, batch_size: int, seed: int, device: torch.device
) -> Iterator[tuple[Tensor, bool]]:
    """Indices of each batch, without end, and whether it is the last of its epoch."""
    count = images // batch_size
    order = torch.Generator().manual_seed(seed)
    while True:
        # Drawn on the CPU, so that the order is the same on every device.
        shuffled = torch.randperm(images, generator=order).to(device)
        for i in range(count):
            yield shuffled[i * batch_size : (i + 1) * batch_size], i == count - 1


@torch.no_grad()
def evaluate(
    model: nn.Module, loss_function: Loss, data: Images, images: Tensor, labels: Tensor
) -> tuple[float, float]:
    """Mean loss and accuracy (0 to 1) in eval mode, on clean uint8 images.

    The sums are taken in float64, so that the size of a forward pass does not show.
    """
    model.eval()
    loss = torch.zeros((), dtype=torch.float64, device=images.device)
    hits = torch.zeros((), dtype=torch.int64, device=images.device)
    count = len(labels)
    for x, y in zip(images.split(EVALUATION_BATCH), labels.split(EVALUATION_BATCH), strict=True):
        outputs = model(data.normalise(x))
        loss += loss_function(outputs.double(), y) * len(y)
        hits += (outputs.argmax(1) == y).sum()
    return (loss / count).item(), hits.item() / count


@torch.no_grad()
def loss_standard_error(
    model: nn.Module, loss_function: Loss, data: Images, images: Tensor, labels: Tensor
) -> float:
    """Standard error of the mean loss, s/√m over the m images, in eval mode; in float64.

    The images are a sample: this is how far their mean loss may lie from the expected one.
    """
    model.eval()
    of_each = torch.func.vmap(loss_function)
    losses = torch.cat(
        [
            of_each(model(data.normalise(x)).double()[:, None], y[:, None])
            for x, y in zip(
                images.split(EVALUATION_BATCH), labels.split(EVALUATION_BATCH), strict=True
            )
        ]
    )
    return float(losses.std()) / math.sqrt(len(losses))
