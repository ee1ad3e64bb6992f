"""Hessian and Gauss-Newton products against dense matrices formed by torch.func."""

from __future__ import annotations

import gc
import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call, jacrev
from torch.nn import functional as F

from landscape_sweep.curvature import BatchNormWarning, GaussNewtonOperator, HessianOperator


def dense(operator):
    return torch.stack([operator.matvec(e) for e in torch.eye(operator.size).to(operator.dtype)])


def difference(found, true):
    return float((found - true).norm() / true.norm())


@pytest.mark.parametrize("loss", ["ce", "mse"])
@pytest.mark.parametrize("budget", [0, None])
def test_hessian_equals_dense(case, network, loss, budget):
    c = case(network, loss=loss)
    H = HessianOperator(c.model, c.loss, c.batches, memory_budget=budget, chunk=4)
    assert difference(dense(H), c.dense_hessian()) < 1e-12


def test_float32_is_right_to_1e_4(case, network):
    c32, c64 = case(network, torch.float32), case(network)
    c64.inputs = c32.inputs.double()
    c64.targets = c32.targets
    c64.model.load_state_dict(c32.model.state_dict())
    H = HessianOperator(c32.model, c32.loss, c32.batches)
    assert H.dtype == torch.float32
    assert difference(dense(H).double(), c64.dense_hessian()) < 1e-5


@pytest.mark.parametrize("smooth", ["tanh", "layer_norm"])
def test_hessian_equals_differences_of_gradients(case, smooth):
    """Independent of second derivatives altogether: central differences in float64."""
    c = case(smooth)
    H = HessianOperator(c.model, c.loss, c.batches)
    flat, step = c.flat(), 1e-5

    def gradient(at):
        at = at.requires_grad_()
        return torch.autograd.grad(c.loss_at(at, c.inputs, c.targets), at)[0]

    rows = [
        (gradient(flat + step * e) - gradient(flat - step * e)) / (2 * step)
        for e in torch.eye(H.size).double()
    ]
    assert difference(dense(H), torch.stack(rows)) < 1e-8


def test_loss_and_gradient(case, network):
    c = case(network)
    H = HessianOperator(c.model, c.loss, c.batches, chunk=3)
    flat = c.flat().requires_grad_()
    loss = c.loss_at(flat, c.inputs, c.targets)
    (gradient,) = torch.autograd.grad(loss, flat)
    assert H.loss() == pytest.approx(float(loss), rel=1e-12)
    assert difference(H.gradient(), gradient) < 1e-12


@pytest.mark.parametrize("loss", ["ce", "mse"])
def test_gauss_newton_equals_dense(case, network, loss):
    c = case(network, loss=loss)
    G = GaussNewtonOperator(c.model, c.loss, c.batches, chunk=4)
    named = {k: p.detach() for k, p in c.model.named_parameters()}
    n = len(c.inputs)
    blocks = jacrev(lambda state: functional_call(c.model, state, (c.inputs,)))(named)
    J = torch.cat([b.reshape(n, 4, -1) for b in blocks.values()], dim=2)
    with torch.no_grad():
        p = c.model(c.inputs).softmax(1)
    if loss == "ce":
        inner = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    else:
        inner = (2 / 4) * torch.eye(4, dtype=torch.float64).expand(n, 4, 4)
    true = torch.einsum("nap,nab,nbq->pq", J, inner, J) / n
    assert difference(dense(G), true) < 1e-12


def test_linear_regression_hessian_is_kronecker(case):
    X = torch.randn(20, 5, dtype=torch.float64)
    model = nn.Linear(5, 3, bias=False).double()
    loss = lambda f, y: 0.5 * (f - y).square().sum(1).mean()  # noqa: E731
    H = HessianOperator(model, loss, [(X, torch.randn(20, 3, dtype=torch.float64))])
    assert difference(dense(H), torch.kron(torch.eye(3).double(), X.T @ X / 20)) < 1e-12


def test_softmax_regression_rank_and_spectrum_at_zero():
    X = torch.randn(6, 9, dtype=torch.float64)
    model = nn.Linear(9, 4, bias=False).double()
    nn.init.zeros_(model.weight)
    H = dense(HessianOperator(model, F.cross_entropy, [(X, torch.arange(6) % 4)]))
    values = torch.linalg.eigvalsh(H)
    assert int((values > 1e-12).sum()) == 6 * 3  # n (c - 1)
    expected = torch.linalg.eigvalsh(X @ X.T / 6).repeat_interleave(3) / 4
    torch.testing.assert_close(values[-18:], expected.sort().values)


def test_batch_norm_scale_invariance(case):
    """H(aw) = H/a² and wᵀHw = 0 for weights that a BatchNorm follows."""
    torch.manual_seed(0)
    layers = nn.Linear(6, 5, bias=False), nn.BatchNorm1d(5, eps=1e-300), nn.ReLU(), nn.Linear(5, 3)
    model = nn.Sequential(*layers).double().train()
    batches = [(torch.randn(30, 6, dtype=torch.float64), torch.randint(3, (30,)))]
    with pytest.warns(BatchNormWarning):
        before = dense(HessianOperator(model, F.cross_entropy, batches, parameters="0"))
    w = model[0].weight.detach().reshape(-1).clone()
    assert abs(float(w @ before @ w)) < 1e-10 * float(before.norm())
    with torch.no_grad():
        model[0].weight.mul_(3)
    with pytest.warns(BatchNormWarning):
        after = dense(HessianOperator(model, F.cross_entropy, batches, parameters="0"))
    assert difference(9 * after, before) < 1e-10


def test_dinh_rescaling():
    """(W1, W2) → (aW1, W2/a) leaves the function, and turns tr H into tr_11/a² + a² tr_22."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(4, 6, bias=False), nn.ReLU(), nn.Linear(6, 3, bias=False))
    model = model.double()
    batches = [(torch.randn(15, 4, dtype=torch.float64), torch.randint(3, (15,)))]

    def traces():
        H = dense(HessianOperator(model, F.cross_entropy, batches)).diagonal()
        return float(H[:24].sum()), float(H[24:].sum())

    first, second = traces()
    with torch.no_grad():
        model[0].weight.mul_(2)
        model[2].weight.div_(2)
    assert sum(traces()) == pytest.approx(first / 4 + 4 * second, rel=1e-10)


@pytest.mark.parametrize(
    ("select", "rows"),
    [("matrices", lambda n, p: p.ndim > 1), ("0", lambda n, p: n.startswith("0."))],
)
def test_parameter_filter_is_a_block(case, select, rows):
    c = case("conv")
    keep = torch.cat([torch.full((p.numel(),), rows(n, p)) for n, p in c.model.named_parameters()])
    H = HessianOperator(c.model, c.loss, c.batches, parameters=select)
    assert difference(dense(H), c.dense_hessian()[keep][:, keep]) < 1e-12
    same = HessianOperator(c.model, c.loss, c.batches, parameters=rows)
    assert same.size == H.size


@settings(max_examples=25, deadline=None)
@given(
    cuts=st.lists(st.integers(1, 12), max_size=4, unique=True),
    order=st.permutations(range(13)),
    chunk=st.integers(1, 14),
    scale=st.floats(-3, 3),
)
def test_symmetric_linear_and_blind_to_chunks_and_order(cuts, order, chunk, scale):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    x, y = torch.randn(13, 5, dtype=torch.float64), torch.randint(3, (13,))
    H = HessianOperator(model, F.cross_entropy, [(x, y)])
    ends = [0, *sorted(cuts), 13]
    order = torch.tensor(order)
    parts = [order[a:b] for a, b in itertools.pairwise(ends)]
    other = HessianOperator(model, F.cross_entropy, [(x[i], y[i]) for i in parts], chunk=chunk)
    generator = torch.Generator().manual_seed(chunk)
    u, v = torch.randn(2, H.size, dtype=torch.float64, generator=generator)
    assert float(u @ H.matvec(v)) == pytest.approx(float(v @ H.matvec(u)), rel=1e-9, abs=1e-12)
    torch.testing.assert_close(other.matvec(v), H.matvec(v))
    torch.testing.assert_close(H.matvec(u + scale * v), H.matvec(u) + scale * H.matvec(v))


def test_model_is_left_alone_and_snapshot_holds(case):
    c = case("residual_batch_norm")
    c.model.train()
    before = {k: v.clone() for k, v in c.model.state_dict().items()}
    with pytest.warns(BatchNormWarning, match="train mode"):
        H = HessianOperator(c.model, c.loss, c.batches)
    v = torch.randn(H.size, dtype=torch.float64)
    product = H.matvec(v)
    assert all(torch.equal(before[k], t) for k, t in c.model.state_dict().items())
    assert all(p.grad is None for p in c.model.parameters())
    with torch.no_grad():
        for p in c.model.parameters():
            p.add_(1)
    torch.testing.assert_close(H.matvec(v), product)


def test_memory_budget_bounds_what_is_kept(case):
    c = case("conv")
    H = HessianOperator(c.model, c.loss, c.batches, chunk=2)
    v = torch.randn(H.size, dtype=torch.float64)
    H.matvec(v)
    assert len(H._kept) == 7  # 9 and 4 samples, two at a time
    tight = HessianOperator(
        c.model, c.loss, c.batches, chunk=2, memory_budget=5 * H.bytes_per_sample
    )
    for _ in range(3):
        torch.testing.assert_close(tight.matvec(v), H.matvec(v))
    assert len(tight._kept) == 2


@pytest.mark.parametrize("operator", [HessianOperator, GaussNewtonOperator])
def test_nothing_is_left_of_an_operator_that_is_gone(case, operator):
    """No graph keeps itself alive: a long sweep would fill the memory."""
    c = case("residual_batch_norm")

    def tensors():
        gc.collect()
        return sum(isinstance(x, torch.Tensor) for x in gc.get_objects())

    def use():
        H = operator(c.model, c.loss, c.batches)  # measures what a sample takes
        H.matvec(torch.ones(H.size, dtype=torch.float64))

    use()
    before = tensors()
    use()
    assert tensors() == before


def test_loss_that_is_no_mean_of_parts_is_not_cut(case):
    """Class weights are normalised within a batch, so chunks would change the loss."""
    c = case("relu")
    c.loss = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 5.0, 0.2, 2.0]).double())
    H = HessianOperator(c.model, c.loss, [(c.inputs, c.targets)], chunk=2)
    assert H.chunk is None
    assert difference(dense(H), c.dense_hessian()) < 1e-12


def test_tf32_is_off_inside_and_restored():
    matmul = torch.backends.cuda.matmul
    seen = []

    def loss(f, y):
        seen.append(matmul.allow_tf32)
        return F.cross_entropy(f, y)

    before = matmul.allow_tf32
    matmul.allow_tf32 = True
    try:
        H = HessianOperator(nn.Linear(3, 2), loss, [(torch.randn(4, 3), torch.arange(4) % 2)])
        seen.clear()
        H.matvec(torch.randn(H.size))
        assert seen == [False]
        assert matmul.allow_tf32
    finally:
        matmul.allow_tf32 = before


@pytest.mark.parametrize(("kind", "limit"), [("forward", 1e-3), ("central", 1e-6)])
def test_finite_differences_report_their_error(case, kind, limit):
    c = case("tanh")
    exact = HessianOperator(c.model, c.loss, c.batches)
    rough = HessianOperator(
        c.model, c.loss, c.batches, product="finite_difference", difference=kind, step=1e-4
    )
    v = torch.randn(exact.size, dtype=torch.float64)
    error = rough.measured_error()
    assert 0 < error < limit
    assert difference(rough.matvec(v), exact.matvec(v)) < 3 * limit
    assert exact.measured_error() == 0


def test_finite_differences_on_relu_are_seen_to_be_wrong(case):
    c = case("conv", torch.float32)
    rough = HessianOperator(
        c.model, c.loss, c.batches, product="finite_difference", difference="forward", step=5e-1
    )
    assert rough.measured_error() > 0.1


class Attentive(nn.Module):
    """Self-attention with LayerNorm, by torch's own layer, which would take a fused kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm, self.last = nn.LayerNorm(8), nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        attended, _ = self.attention(x, x, x, need_weights=False)
        return self.last(self.norm(x + attended).mean(1))


def test_attention_is_differentiated_twice():
    torch.manual_seed(0)
    model = Attentive().double().eval()
    batches = [(torch.randn(6, 3, 8, dtype=torch.float64), torch.arange(6) % 4)]
    operator = HessianOperator(model, F.cross_entropy, batches)
    direction = torch.randn(operator.size, dtype=torch.float64)
    differences = HessianOperator(
        model, F.cross_entropy, batches, product="finite_difference", step=1e-4
    )
    found, expected = operator.matvec(direction), differences.matvec(direction)
    assert (found - expected).norm() < 1e-5 * expected.norm()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batches": []}, "batches is empty"),
        ({"batches": (torch.zeros(2, 3), torch.zeros(2).long())}, "batch 0 is no pair"),
        ({"batches": [(torch.zeros(0, 3), torch.zeros(0).long())]}, "no samples"),
        ({"batches": [(torch.zeros(4, 3), torch.zeros(3).long())]}, "4 inputs but 3 targets"),
        ({"loss": lambda f, y: F.cross_entropy(f, y, reduction="none")}, "must be a scalar"),
        ({"loss": lambda f, y: f.mean() * float("nan")}, "finite"),
        ({"loss": lambda f, y: torch.tensor(1.0)}, "depends on none"),
        ({"parameters": "nowhere"}, "selects nothing"),
        ({"product": "guess"}, "product='guess'"),
        ({"difference": "sideways"}, "difference='sideways'"),
        ({"step": 0.0}, "step=0.0"),
        ({"chunk": 0}, "chunk=0"),
        ({"memory_budget": -1}, "memory_budget=-1"),
        ({"model": nn.Sequential(nn.Dropout(0.5), nn.Linear(3, 2))}, "dropout"),
        ({"model": nn.Flatten()}, "no parameter"),
    ],
)
def test_errors_are_early_and_clear(change, message):
    arguments = {
        "model": nn.Linear(3, 2),
        "loss": F.cross_entropy,
        "batches": [(torch.randn(4, 3), torch.arange(4) % 2)],
        **change,
    }
    with pytest.raises(ValueError, match=message):
        HessianOperator(**arguments)


@pytest.mark.parametrize("vector", [torch.zeros(7), torch.zeros(8).double()])
def test_wrong_vectors_are_refused(vector):
    H = HessianOperator(
        nn.Linear(3, 2), F.cross_entropy, [(torch.randn(4, 3), torch.ones(4).long())]
    )
    with pytest.raises(ValueError, match="vector"):
        H.matvec(vector)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_agrees_with_cpu(case, network):
    c = case(network)
    H = HessianOperator(c.model, c.loss, c.batches)
    v = torch.randn(H.size, dtype=torch.float64)
    there = [(x.cuda(), y.cuda()) for x, y in c.batches]
    on_gpu = HessianOperator(c.model.cuda(), c.loss, there)
    torch.testing.assert_close(on_gpu.matvec(v.cuda()).cpu(), H.matvec(v))
