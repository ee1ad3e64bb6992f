"""Curvature and planes against other libraries: CPU time at equal or better accuracy, in Markdown.

    pip install -e ".[peers]" && pip install --no-deps landscaper
    python tests/benchmarks/curvature.py [--network cnn] [--parts product,top,plane]

Every contender gets the same trained weights and images in one process, with its settings and the
batch size that suit it best among those tried. Times are of the process's CPU, the smallest of
interleaved repetitions; memory is the growth of a fresh process's peak.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import planes
import torch
from torch import Tensor, nn

from landscape_sweep.curvature import (
    HessianOperator,
    LanczosDecomposition,
    hessian_trace,
    lanczos,
    spectral_density,
)
from landscape_sweep.models import build

NETWORKS = {"cnn": {}, "resnet": {"width": 16}}
LOSS = nn.CrossEntropyLoss()
TOP, TOL = 20, 1e-3
Key = TypeVar("Key")


def images(count: int) -> tuple[Tensor, Tensor]:
    """CIFAR-10 where ``LANDSCAPE_SWEEP_DATA`` holds it, else synthetic images of ten classes."""
    path = Path(os.environ.get("LANDSCAPE_SWEEP_DATA", "data")) / "cifar10.npz"
    if path.exists():
        with np.load(path, allow_pickle=False) as data:
            # Contiguous, as loaders give them: NHWC strides would change what every product costs.
            x = torch.from_numpy(data["x_train"][:count]).permute(0, 3, 1, 2).contiguous() / 255
            return (x - 0.473) / 0.251, torch.from_numpy(data["y_train"][:count])
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(10, (count,), generator=generator)
    centres = torch.randn(10, 3, 32, 32, generator=generator)
    return 0.3 * centres[y] + torch.randn(count, 3, 32, 32, generator=generator), y


def trained(name: str, steps: int = 150) -> tuple[nn.Module, Tensor, Tensor]:
    """A briefly trained network in eval mode, and the images it saw."""
    torch.manual_seed(0)
    x, y = images(2000)
    model = build(name, shape=(3, 32, 32), classes=10, **NETWORKS[name])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    for _ in range(steps):
        chosen = torch.randint(len(x), (64,))
        optimizer.zero_grad()
        LOSS(model(x[chosen]), y[chosen]).backward()
        optimizer.step()
    return model.eval(), x, y


def batched(x: Tensor, y: Tensor, size: int) -> list[tuple[Tensor, Tensor]]:
    return list(zip(x.split(size), y.split(size), strict=True))


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds of one call, and its result."""
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def interleaved(contenders: dict[Key, Callable[[], Any]], repeats: int) -> dict[Key, float]:
    """The smallest CPU time of each, warmed up once and taken in turns."""
    best = dict.fromkeys(contenders, float("inf"))
    for work in contenders.values():
        work()
    for _ in range(repeats):
        for name, work in contenders.items():
            best[name] = min(best[name], seconds(work)[0])
    return best


def curvlinops_product(model: nn.Module, batches: Any) -> Callable[[Tensor], Tensor]:
    from curvlinops import HessianLinearOperator

    operator = HessianLinearOperator(
        model, LOSS, list(model.parameters()), batches, check_deterministic=False
    )
    return lambda v: operator @ v


def eigenthings_operator(model: nn.Module, batches: Any) -> Any:
    from hessian_eigenthings import HessianOperator as Peer
    from hessian_eigenthings import supervised_loss

    return Peer(model, batches, supervised_loss(LOSS))


def pyhessian_product(model: nn.Module, batches: Any) -> Callable[[Tensor], Any]:
    from pyhessian import hessian
    from pyhessian.utils import hessian_vector_product

    (batch,) = batches
    peer = hessian(model, LOSS, data=batch, cuda=False)
    sizes = [p.numel() for p in peer.params]

    def product(v: Tensor) -> Any:
        parts = [a.view_as(p) for a, p in zip(v.split(sizes), peer.params, strict=True)]
        return hessian_vector_product(peer.gradsH, peer.params, parts)

    return product


def table(title: str, header: list[str], rows: list[list[str]]) -> None:
    print(f"\n**{title}**\n")
    for row in [header, ["---"] * len(header), *rows]:
        print("| " + " | ".join(row) + " |")
    print(flush=True)


def gradient(model: nn.Module, x: Tensor, y: Tensor, size: int) -> None:
    """Forward and backward pass, the unit of products."""
    for a, b in batched(x, y, size):
        torch.autograd.grad(LOSS(model(a), b), list(model.parameters()))


def _time_of_unit(name: str, repeats: int, queue: Any) -> None:
    torch.set_num_threads(1)
    model, (x, y) = build(name, shape=(3, 32, 32), classes=10, **NETWORKS[name]).eval(), images(512)
    queue.put(interleaved({"": lambda: gradient(model, x, y, len(x))}, repeats + 1)[""])


def unit(name: str, repeats: int) -> float:
    """CPU seconds of forward+backward on 512 images in one batch, in a process of its own.

    Tensors above 32 MiB come from the system page by page unless what ran before has left room in
    the heap for them: in the process of all contenders the same passes take half as long.
    """
    return float(in_own_process(_time_of_unit, name, repeats))


def in_own_process(work: Callable[..., None], *arguments: Any) -> Any:
    """What ``work`` puts on the queue that it gets as its last argument."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=work, args=(*arguments, queue))
    process.start()
    found = queue.get(timeout=300)
    process.join()
    return found


def product(name: str, model: nn.Module, x: Tensor, y: Tensor, repeats: int) -> None:
    x, y = x[:512], y[:512]
    H = HessianOperator(model, LOSS, batched(x, y, 512))
    lean = HessianOperator(model, LOSS, batched(x, y, 512), memory_budget=0)
    v = torch.randn(H.size)
    sizes = (64,) if repeats == 1 else (512, 64, 32)
    eigenthings = {s: eigenthings_operator(model, batched(x, y, s)) for s in sizes}
    curvlinops = {s: curvlinops_product(model, batched(x, y, s)) for s in sizes}
    pyhessian = pyhessian_product(model, batched(x, y, 512))
    times = interleaved(
        {
            "forward+backward, one batch, beside the others": lambda: gradient(model, x, y, 512),
            f"forward+backward, chunks of {H.chunk}": lambda: gradient(model, x, y, H.chunk or 512),
            f"**ours**, chunks of {H.chunk}, kept": lambda: H.matvec(v),
            f"**ours**, chunks of {H.chunk}, nothing kept": lambda: lean.matvec(v),
            "PyHessian, one batch, kept": lambda: pyhessian(v),
            **{
                f"hessian-eigenthings, batches of {s}": lambda o=o: o.matvec(v)
                for s, o in eigenthings.items()
            },
            **{f"curvlinops, batches of {s}": lambda o=o: o(v) for s, o in curvlinops.items()},
        },
        repeats=repeats,
    )
    ours = list(times.values())[2]
    times = {"forward+backward, one batch": unit(name, repeats), **times}
    one = next(iter(times.values()))
    rows = [[n, f"{t:.2f}", f"{t / one:.2f}", f"{t / ours:.2f}"] for n, t in times.items()]
    title = f"{name}: one Hessian-vector product, n = 512, p = {H.size:,}"
    table(title, ["", "CPU s", "x forward+backward", "x ours"], rows)


def best_peer_batches(model: nn.Module, x: Tensor, y: Tensor) -> tuple[int, float]:
    """The batch size at which curvlinops' product is fastest, and its CPU seconds."""
    v = torch.randn(sum(p.numel() for p in model.parameters()))
    peers = {s: curvlinops_product(model, batched(x, y, s)) for s in (64, 32, 16)}
    times = interleaved({str(s): lambda o=o: o(v) for s, o in peers.items()}, repeats=2)
    best = min(times, key=lambda s: times[s])
    return int(best), times[best]


def arpack(model: nn.Module, batches: Any, k: int, which: str) -> tuple[np.ndarray, int]:
    from scipy.sparse.linalg import LinearOperator, eigsh

    product, count = curvlinops_product(model, batches), 0
    size = sum(p.numel() for p in model.parameters())

    def matvec(v: np.ndarray) -> np.ndarray:
        nonlocal count
        count += 1
        return product(torch.from_numpy(v.reshape(-1)).float()).numpy()

    operator = LinearOperator((size, size), matvec=matvec, dtype=np.float32)
    start = np.random.default_rng(0).standard_normal(size).astype(np.float32)
    values = eigsh(operator, k=k, which=which, tol=TOL, v0=start, return_eigenvectors=False)
    return np.sort(values)[::-1], count


def solvers(name: str, model: nn.Module, x: Tensor, y: Tensor, parts: set[str]) -> None:
    x, y = x[:64], y[:64]
    size, peer_product = best_peer_batches(model, x, y)
    batches = batched(x, y, size)
    true = lanczos(HessianOperator(model, LOSS, [(x, y)]), TOP, 1e-4).eigenvalues

    def error(values: Any) -> str:
        return f"{np.abs(np.asarray(values)[:TOP] / true - 1).max():.1e}"

    ours_s, ours = seconds(lambda: lanczos(HessianOperator(model, LOSS, [(x, y)]), TOP, TOL))
    arpack_s, (values, count) = seconds(lambda: arpack(model, batches, TOP, "LA"))
    if "top" in parts:
        from hessian_eigenthings import lanczos as peer_lanczos

        rows = [
            ["**ours**", str(ours.matvecs), f"{ours_s:.1f}", error(ours.eigenvalues),
             f"{ours.converged.sum()} of {TOP}", "1.00"],
            [f"curvlinops + ARPACK, batches of {size}", str(count), f"{arpack_s:.1f}",
             error(values), "not told", f"{arpack_s / ours_s:.2f}"],
        ]  # fmt: skip
        for steps in (40, max(ours.matvecs, 41)):
            peer_s, peer = seconds(
                lambda s=steps: peer_lanczos(
                    eigenthings_operator(model, batches), k=TOP, max_iter=s, tol=TOL, which="LA",
                    seed=0,
                )
            )  # fmt: skip
            found = np.sort(np.asarray(peer.eigenvalues, dtype=float))[::-1]
            label = f"hessian-eigenthings, {steps} steps" + (" (default)" if steps == 40 else "")
            rows.append([label, str(steps), f"{peer_s:.1f}", error(found),
                         f"{int(np.sum(np.asarray(peer.converged)))} of {TOP}",
                         f"{peer_s / ours_s:.2f}"])  # fmt: skip
        title = f"{name}: top {TOP} eigenvalues to a residual of {TOL}, n = 64"
        header = ["", "products", "CPU s", "largest relative error", "converged", "x ours"]
        table(title, header, rows)
    if parts & {"trace", "probe"}:
        trace_s, peer_trace_s = traces(name, model, x, y, batches, show="trace" in parts)
    if "probe" in parts:
        whole_s, (run, _, density) = seconds(lambda: our_probe(model, x, y))
        bottom_s, (_, bottom_count) = seconds(lambda: arpack(model, batches, 1, "SA"))
        density_s = run.matvecs * peer_product
        theirs = arpack_s + bottom_s + peer_trace_s + density_s
        without = arpack_s + bottom_s + density_s
        rows = [
            ["**ours**: one Lanczos run, exact trace", str(run.matvecs), f"{whole_s:.1f}", "1.00"],
            ["top 20 (curvlinops + ARPACK)", str(count), f"{arpack_s:.1f}", ""],
            ["λmin (curvlinops + ARPACK)", str(bottom_count), f"{bottom_s:.1f}", ""],
            ["density, as many steps as ours (products x time)", str(run.matvecs),
             f"{density_s:.1f}", ""],
            ["trace to 1% (extrapolated, as above)", "", f"{peer_trace_s:.1f}", ""],
            ["peers together", "", f"{theirs:.1f}", f"{theirs / whole_s:.2f}"],
            ["peers together, against ours, both without the trace", "", f"{without:.1f}",
             f"{without / (whole_s - trace_s):.2f}"],
        ]  # fmt: skip
        converged = run.top(TOP, tol=TOL).converged.sum()
        title = (
            f"{name}: the whole probe, n = 64 ({converged} of {TOP} and "
            f"{run.bottom(1, tol=TOL).converged.sum()} of 1 converged; "
            f"weights sum to {density.weights.sum():.6f})"
        )
        table(title, ["", "products", "CPU s", "x ours"], rows)


def our_probe(model: nn.Module, x: Tensor, y: Tensor) -> tuple[LanczosDecomposition, Any, Any]:
    H = HessianOperator(model, LOSS, [(x, y)])
    run = LanczosDecomposition(H).run([(TOP, "LA"), (1, "SA")], tol=TOL)
    return run, hessian_trace(H), spectral_density(H, probes=1, decomposition=run)


def traces(
    name: str, model: nn.Module, x: Tensor, y: Tensor, batches: Any, *, show: bool
) -> tuple[float, float]:
    """CPU seconds of our exact trace, and of the fastest peer's to 1%."""
    from hessian_eigenthings import hutch_plus_plus, hutchinson

    H = HessianOperator(model, LOSS, [(x, y)])
    ours_s, ours = seconds(lambda: hessian_trace(H))
    rows = [
        ["**ours**", ours.method, f"{ours.value:.2f} ± 0", f"{ours_s:.2f}", f"{ours_s:.2f}", "1.00"]
    ]
    fastest = float("inf")
    for label, estimator, rate in (
        ("hessian-eigenthings, Hutchinson, 51 products",
         lambda o: hutchinson(o, num_samples=51, seed=0), 2),
        ("hessian-eigenthings, Hutch++, 51 products",
         lambda o: hutch_plus_plus(o, num_matvecs=51, seed=0), 1),
    ):  # fmt: skip
        peer_s, peer = seconds(lambda e=estimator: e(eigenthings_operator(model, batches)))
        stderr = float(peer.stderr)
        to_one_percent = peer_s * max(stderr / (0.01 * abs(ours.value)), 1) ** rate
        fastest = min(fastest, to_one_percent)
        rows.append([label, f"error falls as m^-{1 / rate:g}",
                     f"{float(peer.estimate):.2f} ± {stderr:.2f}", f"{peer_s:.2f}",
                     f"{to_one_percent:.1f}", f"{to_one_percent / ours_s:.1f}"])  # fmt: skip
    if show:
        header = ["", "method", "estimate", "CPU s", "CPU s to 1% (extrapolated)", "x ours"]
        table(f"{name}: trace, n = 64", header, rows)
    return ours_s, fastest


def _peak(kind: str, name: str, size: int, queue: Any) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    model = build(name, shape=(3, 32, 32), classes=10, **NETWORKS[name]).eval()
    x, y = images(512)
    v = torch.randn(sum(p.numel() for p in model.parameters()))
    batches = batched(x, y, size)
    if kind == "eigenthings":
        make = lambda: eigenthings_operator(model, batches).matvec  # noqa: E731
    elif kind == "curvlinops":
        make = lambda: curvlinops_product(model, batches)  # noqa: E731
    elif kind == "pyhessian":
        make = lambda: pyhessian_product(model, batches)  # noqa: E731
    else:
        budget = None if kind == "ours" else int(kind.split()[1]) * 2**20
        make = lambda: HessianOperator(model, LOSS, batches, memory_budget=budget).matvec  # noqa: E731
    if kind in ("eigenthings", "curvlinops", "pyhessian"):
        __import__({"eigenthings": "hessian_eigenthings"}.get(kind, kind))
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from what is held now
    before = peak_memory()
    operator = make()
    for _ in range(3):
        operator(v)
    queue.put(peak_memory() - before)


def peak_memory() -> float:
    """MiB that this process held at most. (ru_maxrss would count what its parent held too.)"""
    (line,) = (x for x in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in x)
    return int(line.split()[1]) / 1024


def memory(name: str) -> None:
    rows = []
    for label, kind, size in (
        ("**ours**, default budget", "ours", 512),
        ("**ours**, budget 512 MiB", "ours 512", 512),
        ("**ours**, budget 0", "ours 0", 512),
        ("**ours**, budget 0, batches of 16", "ours 0", 16),
        ("PyHessian, one batch", "pyhessian", 512),
        ("hessian-eigenthings, batches of 64", "eigenthings", 64),
        ("hessian-eigenthings, batches of 16", "eigenthings", 16),
        ("curvlinops, batches of 64", "curvlinops", 64),
        ("curvlinops, batches of 16", "curvlinops", 16),
    ):
        rows.append([label, f"{in_own_process(_peak, kind, name, size):.0f}"])
    table(f"{name}: peak memory of three products, n = 512", ["", "MiB"], rows)


def plane(name: str, model: nn.Module, x: Tensor, y: Tensor, repeats: int) -> None:
    """Peers' settings are tried on 3 x 3 points; the fastest of each layout on 15 x 15."""
    ways = planes.settings(x, y)
    whole = ways["one batch"]
    error = planes.disagreement(model, whole)
    tried = {
        (peer, way): functools.partial(run, model, batches, 3)
        for peer, run in planes.PEERS.items()
        for way, batches in ways.items()
    }
    small = interleaved(tried, repeats)
    contenders = {("**ours**", "one batch"): functools.partial(planes.ours, model, whole, 15)}
    for peer, run in planes.PEERS.items():
        for last in (False, True):
            way = min((w for w in ways if ("last" in w) is last), key=lambda w: small[peer, w])
            contenders[peer, way] = functools.partial(run, model, ways[way], 15)
    times = dict.fromkeys(contenders, float("inf"))
    for _ in range(max(repeats - 1, 1)):
        for key, work in contenders.items():
            times[key] = min(times[key], seconds(work)[0])
    ours = times["**ours**", "one batch"]
    rows = [[f"{k[0]}, {k[1]}", f"{t:.1f}", f"{t / ours:.2f}"] for k, t in times.items()]
    title = (
        f"{name}: a plane of 15 x 15 points, n = {len(x)}; landscaper's values within {error:.0e}"
    )
    table(title, ["", "CPU s", "x ours"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", choices=NETWORKS, action="append")
    parser.add_argument("--parts", default="product,top,trace,probe,memory,plane")
    parser.add_argument("--repeats", type=int, default=3, help="1 leaves out slower settings")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    parts = set(arguments.parts.split(","))
    torch.set_num_threads(arguments.threads)
    warnings.simplefilter("ignore")
    for name in arguments.network or NETWORKS:
        model, x, y = trained(name)
        if "product" in parts:
            product(name, model, x, y, arguments.repeats)
        if parts & {"top", "trace", "probe"}:
            solvers(name, model, x, y, parts)
        if "memory" in parts:
            memory(name)
        if "plane" in parts:
            plane(name, model, x[:128], y[:128], arguments.repeats)


if __name__ == "__main__":
    main()
