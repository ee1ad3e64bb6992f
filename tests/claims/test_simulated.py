"""Simulated sweeps with known truth: false decisions, coverage and power, printed with ``-s``.

Five hundred sweeps or more a scenario, so that a share of 5% has a standard error of 1%. A cell of
hyper-parameters carries 80% of the variance (ICC), seeds the rest, half of it shared by all cells;
15% of the runs are missing where it says so. A "false decision" is a SUPPORTED or a REFUTED where
the truth lies on the border of the claim's region, so that either is wrong.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from landscape_sweep import claims
from landscape_sweep.claims import evaluate
from landscape_sweep.claims.association import correlated
from landscape_sweep.claims.contrast import cnn_and_resnet, contrasted
from landscape_sweep.claims.question import Question, p_of_decision
from landscape_sweep.claims.research_questions import EARLY, _gain
from landscape_sweep.claims.table import ARCHITECTURE, CONFIGURATION
from landscape_sweep.claims.theorem_1 import _full_batch
from landscape_sweep.claims.verdict import Region, Verdict, decide
from landscape_sweep.statistics import (
    Estimate,
    Floats,
    concordance,
    granulated_kendall,
    jackknife,
    kendall,
    mean,
    partial_spearman,
    pearson,
    slope,
    spearman,
)

SWEEPS = 500
COVERAGE = (0.92, 0.98)
POSITIVE = Region(0.0, 1.0)


def say(scenario: str, **shares: float) -> None:
    """A line of the test's output."""
    print(f"\n  {scenario}: " + ", ".join(f"{name} {share:.1%}" for name, share in shares.items()))


# ---------------------------------------------------------------- intervals of rank correlations


def cells(
    rng: np.random.Generator, configs: int, seeds: int, rho: float, missing: float
) -> tuple[Floats, Floats]:
    """Means over seeds of two correlated quantities."""
    cov = [[1, rho], [rho, 1]]
    runs = np.sqrt(0.8) * rng.multivariate_normal([0, 0], cov, size=(configs, 1))
    runs = runs + np.sqrt(0.1) * rng.normal(size=(configs, seeds, 2))
    runs = runs + np.sqrt(0.1) * rng.normal(size=(1, seeds, 2))
    gone = rng.random((configs, seeds)) < missing
    gone[:, 0] = False
    runs[gone] = np.nan
    x, y = np.nanmean(runs, axis=1).T
    return x, y


@pytest.mark.parametrize(
    ("configs", "seeds", "rho", "missing"),
    [(12, 3, 0.0, 0.0), (12, 5, 0.0, 0.15), (20, 3, 0.4, 0.0), (20, 5, 0.9, 0.15)],
)
def test_rank_correlation(configs: int, seeds: int, rho: float, missing: float) -> None:
    rng = np.random.default_rng(0)
    truth = spearman(*cells(rng, 20_000, seeds, rho, missing))
    covered, decided = 0, 0
    for _ in range(SWEEPS):
        low, high = jackknife(spearman, *cells(rng, configs, seeds, rho, missing)).interval()
        covered += low <= truth <= high
        decided += decide((low, high), POSITIVE) != "INCONCLUSIVE"
    say(
        f"{configs} configurations × {seeds} seeds, true ρ {truth:+.2f}",
        coverage=covered / SWEEPS,
        decided=decided / SWEEPS,
    )
    assert COVERAGE[0] <= covered / SWEEPS <= COVERAGE[1]
    if rho == 0:
        assert decided / SWEEPS <= 0.05
    if rho == 0.9:
        assert decided / SWEEPS >= 0.95


def heterogeneous(rng: np.random.Generator, configs: int) -> tuple[Floats, Floats, Floats]:
    """x, y, z where y follows x in two thirds of the cells and runs against it in the others, with
    an error that grows with |x|; z is a hyper-parameter that moves both."""
    z = rng.integers(0, 4, configs).astype(float)
    x = rng.normal(size=configs) + 0.5 * z
    sign = np.where(rng.random(configs) < 2 / 3, 1.0, -1.0)
    y = sign * x + (0.3 + np.abs(x)) * rng.normal(size=configs) + 0.5 * z
    return x, y, z


def partial(x: Floats, y: Floats, z: Floats) -> float:
    return partial_spearman(x, y, z[:, None])


@pytest.mark.parametrize(
    ("statistic", "columns", "controls"),
    [(pearson, 2, 0), (spearman, 2, 0), (kendall, 2, 0), (partial, 3, 1)],
)
def test_where_the_effect_differs_from_cell_to_cell(
    statistic: Callable[..., float], columns: int, controls: int
) -> None:
    rng, configs = np.random.default_rng(1), 16
    truth = statistic(*heterogeneous(rng, 20_000)[:columns])
    hits = 0
    for _ in range(SWEEPS):
        sample = heterogeneous(rng, configs)[:columns]
        low, high = jackknife(statistic, *sample, controls=controls).interval()
        hits += low <= truth <= high
    say(
        f"{statistic.__name__} of heterogeneous effects, {configs} configurations, true "
        f"{truth:+.2f}",
        coverage=hits / SWEEPS,
    )
    assert COVERAGE[0] <= hits / SWEEPS <= COVERAGE[1]


# ---------------------------------------------------------------- the jackknife and the bootstrap


@pytest.mark.parametrize("rho", [0.0, 0.9])
def test_why_configurations_are_left_out_and_not_drawn_again(rho: float) -> None:
    """Twelve cells × 3 seeds: what ``statistics.py`` says of the bootstrap."""
    rng = np.random.default_rng(2)
    truth = spearman(*cells(rng, 20_000, 3, rho, 0.0))
    samples = np.array([cells(rng, 12, 3, rho, 0.0) for _ in range(SWEEPS)])  # (sweeps, 2, 12)
    drawn = rng.integers(0, 12, size=(SWEEPS, 300, 12))
    ranks = [
        stats.rankdata(np.take_along_axis(samples[:, None, k], drawn, axis=2), axis=2)
        for k in (0, 1)
    ]
    x, y = (r - r.mean(2, keepdims=True) for r in ranks)
    with np.errstate(invalid="ignore"):
        again = (x * y).sum(2) / np.sqrt((x**2).sum(2) * (y**2).sum(2))
    low, high = np.nanquantile(again, [0.025, 0.975], axis=1)
    bootstrap = float(np.mean((low <= truth) & (truth <= high)))
    ends = np.array([jackknife(spearman, *sample).interval() for sample in samples])
    left_out = float(np.mean((ends[:, 0] <= truth) & (truth <= ends[:, 1])))
    say(
        f"12 configurations, true ρ {truth:+.2f}: coverage",
        bootstrap=bootstrap,
        jackknife=left_out,
    )
    assert COVERAGE[0] <= left_out <= COVERAGE[1]


# ---------------------------------------------------------------- slopes, means, ranks in strata


@pytest.mark.parametrize("kind", ["even", "growing", "differing"])
@pytest.mark.parametrize(("configs", "slope_of_b"), [(12, 0.0), (12, 0.16), (20, 0.5)])
def test_slope(configs: int, slope_of_b: float, kind: str) -> None:
    """log tr = −0.6 log η + b log B + noise of cells, 3 to 5 batch sizes × 4 rates.

    The noise is even, or grows with B, or the slope itself differs from cell to cell.
    """
    rng = np.random.default_rng(3)
    X = np.array([(i % 4, i // 4) for i in range(configs)], float)
    covered, decided = 0, 0
    for _ in range(SWEEPS):
        y = X @ [-0.6, slope_of_b]
        if kind == "differing":
            y = y + 0.15 * rng.normal(size=configs) * (X[:, 1] - X[:, 1].mean())
        y = y + 0.3 * rng.normal(size=configs) * (1 + X[:, 1] * (kind == "growing"))
        low, high = slope(y, X, [0, 1]).interval()
        covered += low <= slope_of_b <= high
        decided += decide((low, high), Region(low=0.0)) != "INCONCLUSIVE"
    say(
        f"{configs} configurations, {kind} noise, true slope {slope_of_b}",
        coverage=covered / SWEEPS,
        decided=decided / SWEEPS,
    )
    assert COVERAGE[0] <= covered / SWEEPS <= COVERAGE[1]
    if slope_of_b == 0:
        assert decided / SWEEPS <= 0.07  # 5% and two standard errors
    if slope_of_b == 0.5 and kind == "even":
        assert decided / SWEEPS >= 0.95


@pytest.mark.parametrize("effect", [0.0, 0.8])
@pytest.mark.parametrize(
    ("many", "seeds", "of_cells", "of_seeds"),
    [(6, 3, 0.8, 0.0), (12, 3, 0.2, 0.3), (12, 5, 0.2, 0.3)],
)
def test_concordance_of_censored_times(
    many: int, seeds: int, of_cells: float, of_seeds: float, effect: float
) -> None:
    """24 cells in ``many`` strata; steps follow x where the effect is not 0; 20% are censored.

    Where seeds carry three tenths of the variance, cells taken as independent would decide 15% to
    19% of the sweeps without an effect.
    """
    rng = np.random.default_rng(4)
    clusters, seed = np.divmod(np.arange(24 * seeds), seeds)
    strata = clusters * many // 24
    truth = 2 / np.pi * np.arcsin(effect / np.sqrt(1 + effect**2))  # τ of normal pairs
    hits = decided = 0
    sweeps = SWEEPS if effect else 4 * SWEEPS
    for _ in range(sweeps):
        x, e = np.sqrt(of_cells) * rng.normal(size=(2, 24))[:, clusters]
        both = np.sqrt(of_seeds) * rng.normal(size=(2, seeds))[:, seed]
        both += np.sqrt(1 - of_cells - of_seeds) * rng.normal(size=(2, len(seed)))
        x, e = x + both[0], e + both[1]
        time = effect * x + e
        end = np.quantile(time, 0.8)
        found = concordance(x, np.minimum(time, end), time < end, clusters, strata, seed)
        low, high = found.interval()
        hits += low <= truth <= high
        decided += decide((low, high), POSITIVE) != "INCONCLUSIVE"
    say(
        f"concordance, {many} strata × {24 // many} cells × {seeds} seeds that carry "
        f"{of_seeds:.0%}, true τ {truth:.2f}",
        coverage=hits / sweeps,
        decided=decided / sweeps,
    )
    assert COVERAGE[0] <= hits / sweeps <= COVERAGE[1]
    if effect == 0:
        assert decided / sweeps <= 0.05
    elif not of_seeds:
        assert decided / sweeps > 0.7


@pytest.mark.parametrize("effect", [0.0, 0.7])
def test_granulated_kendall(effect: float) -> None:
    """4 × 5 cells of two axes; the measure follows the gap or does not."""
    rng = np.random.default_rng(5)
    axes = np.array(list(itertools.product(range(4), range(5))))
    truth = 2 / np.pi * np.arcsin(effect / np.sqrt(1 + effect**2))
    hits = decided = 0
    for _ in range(SWEEPS):
        x = rng.normal(size=20)
        found, _ = granulated_kendall(x, effect * x + rng.normal(size=20), axes)
        low, high = found.interval()
        hits += low <= truth <= high
        decided += decide((low, high), POSITIVE) != "INCONCLUSIVE"
    say(f"Ψ of 20 cells, true {truth:.2f}", coverage=hits / SWEEPS, decided=decided / SWEEPS)
    assert COVERAGE[0] <= hits / SWEEPS <= COVERAGE[1]
    if effect == 0:
        assert decided / SWEEPS <= 0.05


def test_ratios_that_differ_from_cell_to_cell() -> None:
    """Twelve paired ratios, lognormal with a heavy tail on top; the truth is the mean logarithm."""
    rng = np.random.default_rng(6)
    hits = 0
    for _ in range(4 * SWEEPS):
        logs = 0.4 + 0.5 * rng.normal(size=12) + 0.3 * rng.standard_t(4, size=12)
        low, high = mean(np.exp(logs), "log").interval()
        hits += low <= np.exp(0.4) <= high
    say("geometric mean of 12 ratios", coverage=hits / 4 / SWEEPS)
    assert COVERAGE[0] <= hits / 4 / SWEEPS <= COVERAGE[1]


# ---------------------------------------------------------------- whole sweeps, by ``evaluate``

AXES = list(itertools.product((8, 32, 128), (0.01, 0.03, 0.1, 0.3)))


def table(**of_model: dict[str, Floats]) -> pd.DataFrame:
    """A run for each value of a model's metrics, (12, seeds) each."""
    frames = []
    for model, metrics in of_model.items():
        seeds = next(iter(metrics.values())).shape[1]
        cell, seed = np.divmod(np.arange(12 * seeds), seeds)
        batch_size, lr = np.array(AXES)[cell].T
        keys = {"model.name": model, "batch_size": batch_size, "optimizer.lr": lr, "seed": seed}
        frames.append(pd.DataFrame(keys | {m: v.ravel() for m, v in metrics.items()}))
    return pd.concat(frames, ignore_index=True)


def clustered(rng: np.random.Generator, seeds: int = 3) -> Floats:
    """Noise (12, seeds): 80% of its variance of cells, 10% of seeds that all cells share."""
    of_cells, of_seeds = rng.normal(size=(12, 1)), rng.normal(size=(1, seeds))
    own = rng.normal(size=(12, seeds))
    return np.sqrt(0.8) * of_cells + np.sqrt(0.1) * of_seeds + np.sqrt(0.1) * own


def judged(
    runs: pd.DataFrame,
    ask: Callable[[pd.DataFrame], Iterator[Verdict]],
    monkeypatch: pytest.MonkeyPatch,
) -> list[Verdict]:
    """What ``evaluate`` says where there is one question alone: five hundred times, for speed."""
    monkeypatch.setattr(claims, "CLAIMS", (SimpleNamespace(judge=ask),))
    return [v for v in evaluate(runs) if not v.claim.startswith("research_question")]


SHARPER_IS_WORSE = Question(
    claim="conjecture_1.1",
    form="literal",
    statement="Sharper networks test worse.",
    quantity="the rank correlation of sharpness with accuracy",
    region=Region(-1, 0),
    columns=("sharpness/sam", "test/accuracy"),
    primary=True,
)
RESNETS_ARE_FLATTER = Question(
    claim="conjecture_1.2",
    form="literal",
    statement="The largest eigenvalue is lower in ResNets than in CNNs.",
    quantity="λ_max of CNNs over that of ResNets",
    region=Region(low=1.0),
    columns=("hessian/lambda_max",),
    primary=True,
)


def sharper_is_worse(runs: pd.DataFrame) -> Iterator[Verdict]:
    return correlated(SHARPER_IS_WORSE, runs, *SHARPER_IS_WORSE.columns, spearman)


def resnets_are_flatter(runs: pd.DataFrame) -> Iterator[Verdict]:
    return contrasted(RESNETS_ARE_FLATTER, runs, cnn_and_resnet(runs))


def test_architectures_whose_pooled_correlation_has_the_opposite_sign(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Within each of two networks sharper is better (ρ = 0.7); one is sharper and worse."""
    rng = np.random.default_rng(7)
    decisions: Counter[str] = Counter()
    pooled = warned = 0
    for _ in range(SWEEPS):
        metrics = {}
        for model, shift in (("cnn", 4.0), ("resnet", 0.0)):
            x = clustered(rng)
            y = 0.7 * x + np.sqrt(1 - 0.7**2) * clustered(rng)
            metrics[model] = {"sharpness/sam": x + shift, "test/accuracy": y - 2 * shift}
        runs = table(**metrics)
        configs = runs.groupby(["model.name", "batch_size", "optimizer.lr"])
        means = configs[["sharpness/sam", "test/accuracy"]].mean()
        pooled += spearman(*means.to_numpy().T) < -0.5
        found = judged(runs, sharper_is_worse, monkeypatch)
        assert {v.architecture for v in found} == {"cnn", "resnet"}
        assert {v.configs for v in found} == {12}
        decisions.update(v.verdict for v in found)
        inside = [group.droplevel(0) for _, group in means.groupby("model.name")]
        agree = all(spearman(*g.to_numpy().T) > 0 for g in inside)
        if agree:
            warned += 1
            assert all("Simpson" in v.reason for v in found)
    total = 2 * SWEEPS
    say(
        "Simpson: sharper is better within, worse pooled",
        pooled_says_worse=pooled / SWEEPS,
        warned=warned / SWEEPS,
        claim_wrongly_supported=decisions["SUPPORTED"] / total,
        refuted=decisions["REFUTED"] / total,
    )
    assert pooled / SWEEPS > 0.95
    assert warned / SWEEPS > 0.9
    assert decisions["SUPPORTED"] / total <= 0.01
    assert decisions["REFUTED"] / total > 0.1


@pytest.mark.parametrize(
    ("log_ratio", "failing", "expected", "sweeps"),
    [
        (0.0, 0.1, "no effect", SWEEPS),
        (0.3, 0.1, "weak", 100),
        (1.5, 0.1, "strong", 100),
        (1.5, 0.4, "capped", 100),
    ],
)
def test_paired_networks_with_cells_that_diverge_or_fail(
    log_ratio: float,
    failing: float,
    expected: str,
    sweeps: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """λ_max of CNN over ResNet: each pair's ratio scatters by a factor e^0.7 between cells.

    ``failing`` is the share of pairs of which one network diverged or failed; the size is that of
    experiment=architecture, with two seeds more so that three are left of a cell.
    """
    rng = np.random.default_rng(8)
    decisions: Counter[str] = Counter()
    capped = 0
    for _ in range(sweeps):
        difference, common = log_ratio + 0.7 * clustered(rng, 5), clustered(rng, 5)
        runs = table(
            cnn={"hessian/lambda_max": np.exp(common + difference)},
            resnet={"hessian/lambda_max": np.exp(common)},
        )
        lost = (rng.random(len(runs)) < failing) & (runs["model.name"] == "cnn")
        ends = rng.choice(["diverged", "failed"], size=len(runs))
        runs["outcome"] = np.where(lost, ends, "completed")
        runs.loc[lost, "hessian/lambda_max"] = np.nan
        (found,) = judged(runs, resnets_are_flatter, monkeypatch)
        decisions[found.verdict] += 1
        if lost.sum() > 0.2 * 60:
            capped += 1
            assert found.verdict == "INCONCLUSIVE"
            assert "No verdict is given" in found.reason
            assert found.settled_by
    decided = 1 - decisions["INCONCLUSIVE"] / sweeps
    say(
        f"log ratio {log_ratio}, {failing:.0%} of the pairs failing",
        decided=decided,
        capped=capped / sweeps,
    )
    if expected == "no effect":
        assert decided <= 0.05
    if expected == "strong":
        assert decisions["SUPPORTED"] >= 0.9 * (sweeps - capped)
        assert decisions["REFUTED"] == 0
    if expected == "capped":
        assert capped > 0.95 * sweeps


@pytest.mark.parametrize(("log_ratio", "expected"), [(0.0, "no effect"), (1.5, "strong")])
def test_full_batch_descent_whose_seeds_all_cells_share(
    log_ratio: float, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """tr(H) over 2L₀/(ηT), three tenths of whose variance are the seeds': on eq. 5, and above it.

    Configurations taken as independent would decide 51% of the sweeps on the border.
    """
    rng = np.random.default_rng(14)
    decisions: Counter[str] = Counter()
    covered = 0
    for _ in range(SWEEPS):
        of_seeds = rng.normal(size=(1, 3))
        noise = np.sqrt(0.7) * rng.normal(size=(12, 3)) + np.sqrt(0.3) * of_seeds
        runs = table(mlp={"hessian/trace": np.exp(log_ratio + noise)})
        descent = {"train/initial_loss": 1.0, "train/lr_sum": 2.0, "data.train_size": 8}
        (found,) = judged(runs.assign(**descent), _full_batch, monkeypatch)
        decisions[found.verdict] += 1
        covered += found.interval[0] <= np.exp(log_ratio) <= found.interval[1]
    say(
        f"full batch, log ratio {log_ratio}",
        coverage=covered / SWEEPS,
        decided=1 - decisions["INCONCLUSIVE"] / SWEEPS,
    )
    assert COVERAGE[0] <= covered / SWEEPS <= COVERAGE[1]
    if expected == "no effect":
        assert 1 - decisions["INCONCLUSIVE"] / SWEEPS <= 0.07  # 5% and two standard errors
    else:
        assert decisions["REFUTED"] / SWEEPS > 0.5
        assert decisions["SUPPORTED"] == 0


@pytest.mark.parametrize("effect", [0.0, 1.0])
def test_early_geometry_that_says_nothing_new_is_not_said_to_predict(effect: float) -> None:
    """24 configurations; the final accuracy follows η, the first epoch's and, or not, early λ_max.

    Without an effect λ_max still follows η, so that alone it would correlate with the end.
    """
    rng = np.random.default_rng(13)
    decisions: Counter[str] = Counter()
    for _ in range(SWEEPS):
        lr, size, first = rng.normal(size=(3, 24))
        own = rng.normal(size=24)
        runs = pd.DataFrame(
            {
                "optimizer.lr": np.exp(lr),
                "batch_size": np.exp(size),
                "early/test_accuracy": first,
                "early/lambda_max": np.exp(-lr + own),
                **{name: np.exp(-lr + rng.normal(size=24)) for name in EARLY[1:]},
                "test/accuracy": lr + first + effect * own + 0.5 * rng.normal(size=24),
                CONFIGURATION: range(24),
                ARCHITECTURE: "cnn",
            }
        )
        decisions[decide(_gain(runs).estimate.interval(), Region(low=0.0))] += 1
    say(
        f"ΔR² of early geometry, effect {effect}",
        supported=decisions["SUPPORTED"] / SWEEPS,
        refuted=decisions["REFUTED"] / SWEEPS,
    )
    if effect:
        assert decisions["SUPPORTED"] / SWEEPS > 0.8
        assert decisions["REFUTED"] == 0
    else:
        assert decisions["SUPPORTED"] / SWEEPS <= 0.05


# ---------------------------------------------------------------- families of tests


def verdict_of(estimate: Estimate, primary: bool) -> Verdict:
    """A verdict on whether a mean is positive, as ``question`` makes it."""
    region = Region(low=0.0)
    return Verdict(
        claim="a",
        form="corrected",
        verdict=decide(estimate.interval(), region),
        statement="",
        quantity="",
        estimate=estimate.value,
        interval=estimate.interval(),
        region=region,
        configs=12,
        seeds=3,
        reason="",
        primary=primary,
        p=p_of_decision(estimate, region),
    )


@pytest.mark.parametrize("shared", [0.0, 0.6])
def test_error_rates_of_families(shared: float) -> None:
    """Fifteen primary tests without an effect (Holm); forty others, eight with one (BH).

    ``shared`` is the correlation between tests, which measure the same twelve cells.
    """
    rng = np.random.default_rng(10)
    family, proportions, found_effects, single = 0, [], [], 0
    sweeps = SWEEPS
    effects = np.r_[np.full(8, 1.2), np.zeros(47)]  # in standard deviations of a cell
    for _ in range(sweeps):
        common = rng.normal(size=(12, 1))
        noise = np.sqrt(shared) * common + np.sqrt(1 - shared) * rng.normal(size=(12, 55))
        verdicts = [
            verdict_of(mean(column), primary=i >= 40)
            for i, column in enumerate((effects + noise).T)
        ]
        corrected = claims._corrected(verdicts)
        decided = np.array([v.verdict != "INCONCLUSIVE" for v in corrected])
        family += decided[40:].any()
        single += any(v.verdict != "INCONCLUSIVE" for v in verdicts[40:])
        proportions.append(decided[8:40].sum() / max(decided[:40].sum(), 1))
        found_effects.append(decided[:8].mean())
    say(
        f"families of tests, correlation {shared}",
        any_of_15_uncorrected=single / sweeps,
        any_of_15_by_Holm=family / sweeps,
        false_discoveries_by_BH=float(np.mean(proportions)),
        effects_found=float(np.mean(found_effects)),
    )
    assert family / sweeps <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / sweeps)
    assert np.mean(proportions) <= 0.1
    assert np.mean(found_effects) > 0.5
    assert single / sweeps > 0.2  # without the correction the error is real
