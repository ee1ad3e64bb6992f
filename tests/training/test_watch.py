"""Probes that look at a network in training: right, and without a trace in the training itself."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from mlflow.tracking import MlflowClient
from safetensors.torch import load_file
from torch import nn
from torch.func import functional_call, hessian
from torch.nn import functional as F

from landscape_sweep import build as built
from landscape_sweep import config as schema
from landscape_sweep import tracking
from landscape_sweep.models import build
from landscape_sweep.probes import Dynamics, early

RUN = (
    *("data=digits", "data.train_size=200", "model=resnet", "model.width=4", "batch_size=32"),
    *("optimizer.lr=0.1", "epochs=12", "probe=none", "probe.samples=40"),
)
WATCHED = ("+probe.dynamics.every=4", "+probe.early.epoch=2")


def the_run(experiment: str):
    client = MlflowClient(f"sqlite:///{Path('outputs/mlflow.db').absolute()}")
    found = client.get_experiment_by_name(experiment)
    (only,) = client.search_runs([found.experiment_id], "tags.`config.hash` != ''")
    return client, only


def weights(experiment: str) -> dict[str, torch.Tensor]:
    client, only = the_run(experiment)
    return load_file(client.download_artifacts(only.info.run_id, tracking.WEIGHTS))


def test_watching_leaves_every_bit_of_training_as_it_is(command) -> None:
    assert command(*RUN, "tracking.experiment_name=plain").status == 0
    assert command(*RUN, *WATCHED, "tracking.experiment_name=watched").status == 0
    plain, watched = weights("plain"), weights("watched")
    assert any("running_var" in name for name in plain)  # BatchNorm statistics are among them
    assert all(torch.equal(plain[name], watched[name]) for name in plain)

    client, only = the_run("watched")
    metrics = only.data.metrics
    steps = [p.step for p in client.get_metric_history(only.info.run_id, "dynamics/noise_trace")]
    traces = [p.value for p in client.get_metric_history(only.info.run_id, "dynamics/noise_trace")]
    assert steps == [0, 4, 8, 12]
    assert metrics["noise/initial_trace"] == traces[0]
    assert metrics["noise/trajectory_trace"] == pytest.approx(sum(traces[1:]) / 3)
    (looked,) = client.get_metric_history(only.info.run_id, "early/lambda_max")
    assert looked.step == 2
    at_that_time = {
        p.step: p.value for p in client.get_metric_history(only.info.run_id, "test/accuracy")
    }
    assert metrics["early/test_accuracy"] == at_that_time[2]

    # Stopping at a loss of 0.5 must end training where the milestone was counted.
    assert 0 < metrics["train/steps_to_loss"] < metrics["train/steps"]
    assert command(*RUN, "stop.train_loss=0.5", "tracking.experiment_name=stopped").status == 0
    assert the_run("stopped")[1].data.metrics["train/steps"] == metrics["train/steps_to_loss"]

    config = schema.from_json(
        tracking.read_text(tracking.Store(client, "", ""), only.info.run_id, tracking.CONFIG)
    )
    start = dict(built.network(config, built.dataset(config)).named_parameters())
    length = math.sqrt(sum(float(watched[n].double().square().sum()) for n in start))
    moved = math.sqrt(
        sum(float((watched[n] - start[n].detach()).double().square().sum()) for n in start)
    )
    assert metrics["measure/norm"] == pytest.approx(length, rel=1e-6)
    assert metrics["measure/distance"] == pytest.approx(moved, rel=1e-6)
    assert metrics["measure/train_images"] == 200


def test_epochs_of_few_images_are_tested_now_and_then_and_at_the_end(command) -> None:
    assert command(*RUN, "epochs=5", "tracking.experiment_name=few").status == 0
    client, only = the_run("few")
    tested = [p.step for p in client.get_metric_history(only.info.run_id, "test/loss")]
    assert tested == [2, 4, 5]  # 192 images an epoch, 360 to test


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    model = build("mlp", shape=(1, 8, 8), classes=3, depth=2, width=3, activation="tanh")
    x, y = torch.randn(30, 1, 8, 8), torch.arange(30) % 3
    return model.eval(), [(x[:20], y[:20]), (x[20:], y[20:])], x, y


def dense(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The Hessian by torch.func, in float64: (p, p)."""
    names = [name for name, _ in model.named_parameters()]
    values = [p.detach().double() for p in model.parameters()]
    sizes = [v.numel() for v in values]

    def loss(flat: torch.Tensor) -> torch.Tensor:
        parts = [part.view_as(v) for part, v in zip(flat.split(sizes), values, strict=True)]
        return F.cross_entropy(
            functional_call(model, dict(zip(names, parts, strict=True)), (x.double(),)), y
        )

    return hessian(loss)(torch.cat([v.flatten() for v in values]))


def test_dynamics_and_early_are_the_dense_values(small) -> None:
    model, batches, x, y = small
    matrix = dense(model, x, y)
    highest = torch.linalg.eigvalsh(matrix)[-1].item()
    rows = []
    for i in range(len(y)):
        model.zero_grad()
        F.cross_entropy(model(x[i : i + 1]), y[i : i + 1]).backward()
        rows.append(torch.cat([p.grad.flatten().double() for p in model.parameters()]))
    model.zero_grad()
    gradients = torch.stack(rows)
    noise, mean = gradients.var(0).sum().item(), gradients.mean(0)

    seen = Dynamics(F.cross_entropy, batches, tol=1e-4).look(model)
    assert seen["dynamics/lambda_max"] == pytest.approx(highest, rel=1e-3)
    assert seen["dynamics/noise_trace"] == pytest.approx(noise, rel=1e-4)
    assert seen["dynamics/gradient_norm"] == pytest.approx(mean.norm().item(), rel=1e-4)

    found = early(model, F.cross_entropy, batches)
    assert found.lambda_max == pytest.approx(highest, rel=1e-2)
    assert found.trace == pytest.approx(matrix.trace().item(), rel=0.1)  # Hutchinson: tanh
    squared = mean.square().sum().item() - noise / len(y)
    expected = noise / squared if squared > 0 else math.inf
    assert found.noise_scale == pytest.approx(expected, rel=1e-3)
    assert found.loss == pytest.approx(F.cross_entropy(model(x), y).item(), rel=1e-5)
    assert found.sharpness == pytest.approx(seen["dynamics/sharpness"], rel=1e-5)


def test_a_look_from_the_last_eigenvector_needs_fewer_products(small, monkeypatch) -> None:
    from landscape_sweep.probes import dynamics as module

    model, batches, _, _ = small
    spent = []

    class Counted(module.LanczosDecomposition):
        def run(self, *arguments, **options):
            result = super().run(*arguments, **options)
            spent.append(self.matvecs)
            return result

    monkeypatch.setattr("landscape_sweep.probes.dynamics.LanczosDecomposition", Counted)
    probe = Dynamics(F.cross_entropy, batches)
    first, second = probe.look(model), probe.look(model)
    assert spent[1] < spent[0]
    assert first["dynamics/lambda_max"] == pytest.approx(second["dynamics/lambda_max"], rel=1e-2)
