"""Forks: runs that differ only in seed are the same bits up to the fork, and part there."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parameters_to_vector

from landscape_sweep import build as built
from landscape_sweep import config as schema
from landscape_sweep.__main__ import add_plugins, conf_folder
from landscape_sweep.data import Dataset, load
from landscape_sweep.fit import fit_network
from landscape_sweep.models import build
from landscape_sweep.training import optimizer, train


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load(name="digits", train_size=200, report=lambda line: None)


def weights_by_step(digits: Dataset, seed: int, fork: tuple[int, int] | None) -> list[Tensor]:
    """Six batches an epoch, twelve steps."""
    torch.manual_seed(0)
    model = build("mlp", shape=(1, 8, 8), classes=10, width=8)
    rule = optimizer(model.parameters(), name="sgd", lr=0.05, weight_decay=0.0, momentum=0.9)
    found = [parameters_to_vector(model.parameters()).detach()]
    train(
        *(model, digits, rule, F.cross_entropy),
        batch_size=32,
        steps=12,
        schedule="constant",
        lr=0.05,
        seed=seed,
        fork=fork,
        on_step=lambda _: found.append(parameters_to_vector(model.parameters()).detach()),
    )
    return found


@pytest.mark.parametrize("step", [1, 6, 8])
def test_forks_share_the_steps_before_and_none_after(digits: Dataset, step: int) -> None:
    first, second = (weights_by_step(digits, 7, (step, seed)) for seed in (1, 2))
    shared = weights_by_step(digits, 7, None)
    assert all(torch.equal(a, b) for a, b in zip(first[: step + 1], shared, strict=False))
    equal = [torch.equal(a, b) for a, b in zip(first, second, strict=True)]
    assert equal == [True] * (step + 1) + [False] * (12 - step)


def test_a_fork_before_the_first_step_is_the_order_of_its_own_seed(digits: Dataset) -> None:
    forked, own = weights_by_step(digits, 7, (0, 1)), weights_by_step(digits, 1, None)
    assert all(torch.equal(a, b) for a, b in zip(forked, own, strict=True))


class Silent:
    """Takes what a run would log."""

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        pass


def weights_by_epoch(*overrides: str) -> list[Tensor]:
    """A run of four epochs of five steps, augmented, from the command line's keys."""
    keys = ("data=digits", "data.train_size=40", "data.augment=flip_crop", "model=mlp")
    more = (
        "model.width=8",
        "batch_size=8",
        "epochs=4",
        "probe=none",
        "device=cpu",
        "stop.checkpoint_every=null",
        "stop.checkpoint_minutes=null",
    )
    add_plugins()
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        config = schema.load(compose("config", overrides=[*keys, *more, *overrides]))
    data = built.dataset(config)
    network: nn.Module = built.network(config, data)
    path: list[Tensor] = []
    fit_network(config, data, network, Silent(), path)  # type: ignore[arg-type]
    return path


def equal_epochs(*overrides: str) -> list[bool]:
    pair = (weights_by_epoch(f"seed={seed}", *overrides) for seed in (1, 2))
    return [torch.equal(a, b) for a, b in zip(*pair, strict=True)]


def test_runs_that_differ_in_seed_share_initialisation_and_first_steps_by_key() -> None:
    assert equal_epochs("fork_step=null") == [False] * 5
    assert equal_epochs("fork_step=0") == [True] + [False] * 4
    assert equal_epochs("fork_step=10") == [True] * 3 + [False] * 2
    assert equal_epochs("fork_step=20") == [True] * 5


def test_another_fork_seed_is_another_trunk() -> None:
    first, second = (weights_by_epoch("fork_step=10", f"fork_seed={seed}") for seed in (0, 1))
    assert not any(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_fork_beyond_the_last_step_is_a_mistake(command) -> None:
    """1,437 images in batches of 100: 14 whole ones an epoch."""
    keys = ("data=digits", "model=mlp", "probe=none", "batch_size=100", "epochs=2", "dry_run=true")
    assert command(*keys, "fork_step=28").status == 0
    ended = command(*keys, "fork_step=29")
    assert ended.status == 2
    assert ended.err == "landscape_sweep: fork_step=29: takes at most 28 (training steps)\n"
