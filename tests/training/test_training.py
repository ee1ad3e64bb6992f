"""Training: the steps are those of a bare loop, ends are as asked, bits repeat."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from scipy import stats
from torch import nn
from torch.nn import functional as F

from landscape_sweep.curvature import GradientCovariance, HessianOperator, hessian_trace
from landscape_sweep.data import load
from landscape_sweep.models import build
from landscape_sweep.training import (
    DamagedError,
    evaluate,
    learning_rate,
    load_weights,
    loss_function,
    loss_standard_error,
    optimizer,
    save_weights,
    train,
)

SGD = {"name": "sgd", "lr": 0.05, "weight_decay": 5e-4, "momentum": 0.9}


@pytest.fixture(scope="module")
def digits():
    return load(name="digits", train_size=200, report=lambda line: None)


def network(seed: int = 0, norm: str = "batch") -> nn.Module:
    torch.manual_seed(seed)
    return build("resnet", shape=(1, 8, 8), classes=10, width=4, norm=norm, skip=True)


def fitted(digits, model: nn.Module, **options):
    keys = {"batch_size": 32, "steps": 30, "schedule": "cosine", "lr": 0.05, "seed": 7, **options}
    rule = optimizer(model.parameters(), **SGD)
    return train(model, digits, rule, F.cross_entropy, **keys)


def test_the_schedules_end_where_they_should() -> None:
    assert learning_rate("constant", 0.1, 99, 100) == 0.1
    assert learning_rate("cosine", 0.1, 0, 100) == 0.1
    assert learning_rate("cosine", 0.1, 50, 100) == pytest.approx(0.05)
    assert learning_rate("cosine", 0.1, 100, 100) == pytest.approx(0.0)


def test_the_cosine_is_that_of_torch() -> None:
    model = nn.Linear(1, 1)
    reference = torch.optim.SGD(model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(reference, T_max=40)
    for step in range(40):
        assert learning_rate("cosine", 0.1, step, 40) == pytest.approx(
            reference.param_groups[0]["lr"]
        )
        reference.step()
        scheduler.step()


@pytest.mark.parametrize("keys", [SGD, {"name": "adamw", "lr": 0.01, "weight_decay": 0.01}])
def test_the_weights_are_those_of_a_bare_loop(digits, keys) -> None:
    ours, bare = network(), network()
    fit = train(
        ours,
        digits,
        optimizer(ours.parameters(), **keys),
        F.cross_entropy,
        batch_size=32,
        steps=8,
        schedule="cosine",
        lr=keys["lr"],
        seed=3,
    )
    if keys["name"] == "sgd":
        reference = torch.optim.SGD(bare.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    else:
        reference = torch.optim.AdamW(bare.parameters(), lr=0.01, weight_decay=0.01)
    order = torch.Generator().manual_seed(3)
    step = 0
    while step < 8:
        shuffled = torch.randperm(200, generator=order)
        for i in range(200 // 32):
            if step == 8:
                break
            batch = shuffled[32 * i : 32 * (i + 1)]
            for group in reference.param_groups:
                group["lr"] = keys["lr"] * (1 + math.cos(math.pi * step / 8)) / 2
            reference.zero_grad()
            inputs = digits.normalise(digits.x_train[batch])
            F.cross_entropy(bare(inputs), digits.y_train[batch]).backward()
            reference.step()
            step += 1
    assert fit.steps == 8
    for a, b in zip(ours.parameters(), bare.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_the_same_seeds_give_the_same_bits_and_others_do_not(digits) -> None:
    first, second, third = network(), network(), network()
    fitted(digits, first)
    fitted(digits, second)
    fitted(digits, third, seed=8)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
    assert any(
        not torch.equal(a, b) for a, b in zip(first.parameters(), third.parameters(), strict=True)
    )


def test_epochs_cover_whole_batches_and_the_sums_are_right(digits) -> None:
    fit = fitted(digits, network(), steps=14)
    assert [epoch.step for epoch in fit.epochs] == [6, 12, 14]  # 200 images, 6 batches of 32
    assert [epoch.steps for epoch in fit.epochs] == [6, 6, 2]
    assert fit.lr_sum == pytest.approx(
        sum(learning_rate("cosine", 0.05, step, 14) for step in range(14))
    )
    assert fit.outcome == "completed"


def test_every_image_is_seen_once_an_epoch(digits) -> None:
    seen = []

    def remember(images):
        seen.append(images.clone())
        return images

    fitted(digits, network(), batch_size=40, steps=5, augment=remember)
    images = torch.cat(seen)
    assert len(torch.unique(images.flatten(1), dim=0)) == len(
        torch.unique(digits.x_train.flatten(1), dim=0)
    )


def test_training_ends_at_the_asked_loss(digits) -> None:
    model = network()
    fit = fitted(digits, model, steps=2000, stop_train_loss=0.5, check_every=5)
    loss, _ = evaluate(model, F.cross_entropy, digits, digits.x_train, digits.y_train)
    assert fit.steps < 2000
    assert loss <= 0.5
    assert fit.steps % 5 == 0 or fit.steps % 6 == 0


def test_a_loss_that_is_not_finite_ends_the_run_as_diverged(digits) -> None:
    model = network(norm="none")
    rates = {**SGD, "lr": 1e6}
    fit = train(
        model,
        digits,
        optimizer(model.parameters(), **rates),
        F.cross_entropy,
        batch_size=32,
        steps=300,
        schedule="constant",
        lr=1e6,
        seed=0,
    )
    assert fit.outcome == "diverged"
    assert fit.steps < 300


def test_evaluation_is_the_mean_over_all_images(digits) -> None:
    model = network().eval()
    with torch.no_grad():
        outputs = model(digits.normalise(digits.x_test)).double()
    loss, accuracy = evaluate(model, F.cross_entropy, digits, digits.x_test, digits.y_test)
    assert loss == pytest.approx(F.cross_entropy(outputs, digits.y_test).item(), rel=1e-6)
    assert accuracy == (outputs.argmax(1) == digits.y_test).double().mean().item()


def test_the_squared_error_is_that_of_a_loop_over_samples_and_classes(digits) -> None:
    mse = loss_function("mse")
    torch.manual_seed(0)
    outputs, labels = torch.randn(6, 4), torch.tensor([0, 3, 1, 1, 2, 0])
    expected = sum(
        (float(outputs[i, k]) - int(k == labels[i])) ** 2 for i in range(6) for k in range(4)
    )
    assert float(mse(outputs, labels)) == pytest.approx(expected / 6, rel=1e-6)
    hessian = torch.autograd.functional.hessian(lambda f: mse(f[None], labels[:1]), outputs[0])
    torch.testing.assert_close(hessian, 2 * torch.eye(4))


def test_gradient_descent_on_the_squared_error_is_the_closed_form(digits) -> None:
    """A linear network: W_T = W* + (I - ηH)^T (W_0 - W*), H = 2XᵀX/n, W* by least squares."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10, bias=False))
    x = digits.normalise(digits.x_train).flatten(1).double()
    y = F.one_hot(digits.y_train, 10).double()
    start, best = model[1].weight.detach().double().T, torch.linalg.pinv(x) @ y
    matrix = 2 * x.T @ x / len(x)
    rate = 1 / torch.linalg.matrix_norm(matrix, 2).item()
    shrink = torch.linalg.matrix_power(torch.eye(64) - rate * matrix, 100)
    expected = best + shrink @ (start - best)
    plain = optimizer(model.parameters(), name="sgd", lr=rate, weight_decay=0.0)
    keys = {"batch_size": 200, "steps": 100, "schedule": "constant", "lr": rate, "seed": 0}
    train(model, digits, plain, loss_function("mse"), **keys)
    # Directions without data keep their start in both: compare what the network computes.
    torch.testing.assert_close(
        x @ model[1].weight.detach().double().T, x @ expected, rtol=1e-3, atol=1e-4
    )
    loss, _ = evaluate(model, loss_function("mse"), digits, digits.x_train, digits.y_train)
    assert loss == pytest.approx((x @ expected - y).square().sum(1).mean().item(), rel=1e-4)


def test_the_trace_of_the_squared_error_is_exact_for_relu_networks() -> None:
    """The residual term has a zero diagonal whatever the loss: against the dense Hessian."""
    torch.manual_seed(0)
    model = build("mlp", shape=(1, 8, 8), classes=3, depth=3, width=4).double()
    x, y = torch.randn(9, 1, 8, 8, dtype=torch.float64), torch.arange(9) % 3
    operator = HessianOperator(model, loss_function("mse"), [(x, y)])
    found = hessian_trace(operator)
    dense = torch.stack([operator.matvec(e) for e in torch.eye(operator.size).double()])
    assert found.method == "exact"
    assert found.value == pytest.approx(dense.trace().item(), rel=1e-10)
    noise = GradientCovariance(model, loss_function("mse"), [(x, y)]).noise()
    gradients = torch.stack(
        [
            torch.cat(
                [
                    g.flatten()
                    for g in torch.autograd.grad(
                        loss_function("mse")(model(x[i : i + 1]), y[i : i + 1]),
                        list(model.parameters()),
                    )
                ]
            )
            for i in range(9)
        ]
    )
    assert noise.trace == pytest.approx(gradients.var(0).sum().item(), rel=1e-10)


def test_weights_come_back_bit_by_bit(digits, tmp_path: Path) -> None:
    model, other = network(), network(seed=1)
    fitted(digits, model, steps=3)  # BatchNorm statistics have moved
    save_weights(model, tmp_path / "final.safetensors")
    load_weights(other, tmp_path / "final.safetensors")
    for (name, a), (_, b) in zip(
        model.state_dict().items(), other.state_dict().items(), strict=True
    ):
        assert torch.equal(a, b), name
    assert [file.name for file in tmp_path.iterdir()] == ["final.safetensors"]


def test_a_pickle_is_refused(tmp_path: Path) -> None:
    torch.save(network().state_dict(), tmp_path / "final.safetensors")
    with pytest.raises(DamagedError):
        load_weights(network(), tmp_path / "final.safetensors")


def test_a_changed_bit_is_found_out(tmp_path: Path) -> None:
    file = tmp_path / "final.safetensors"
    save_weights(network(), file)
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)
    with pytest.raises(DamagedError, match="checksum"):
        load_weights(network(), file)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match="sgd, adamw"):
        optimizer([torch.zeros(1)], name="lion", lr=1.0, weight_decay=0.0)
    with pytest.raises(ValueError, match="cross_entropy, mse"):
        loss_function("hinge")
    with pytest.raises(ValueError, match="cosine, constant"):
        learning_rate("step", 1.0, 0, 1)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_data_order_does_not_depend_on_the_device(digits) -> None:
    there = load(name="digits", train_size=200, device="cuda", report=lambda line: None)
    here_model, there_model = network(norm="none"), network(norm="none").cuda()
    here, other = fitted(digits, here_model, steps=3), fitted(there, there_model, steps=3)
    assert here.epochs[0].loss == pytest.approx(other.epochs[0].loss, rel=1e-3)


@pytest.mark.parametrize("name", ["cross_entropy", "mse"])
def test_the_standard_error_of_a_loss_is_that_of_its_images(digits, name: str) -> None:
    model, loss = network(), loss_function(name)
    images, labels = digits.x_test, digits.y_test
    found = loss_standard_error(model, loss, digits, images, labels)
    with torch.no_grad():
        outputs = model.eval()(digits.normalise(images)).double()
        each = torch.stack(
            [loss(f[None], y[None]) for f, y in zip(outputs, labels, strict=True)]
        ).numpy()
    assert found == pytest.approx(stats.sem(each), rel=1e-6)
    assert evaluate(model, loss, digits, images, labels)[0] == pytest.approx(each.mean(), rel=1e-6)
