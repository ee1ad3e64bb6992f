"""Estimates against SciPy, against definitions computed by brute force and against published
examples; simulations with known clusters, and a table made to mislead."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.linear_model import Ridge

from landscape_sweep.statistics import (
    Estimate,
    Proportion,
    Unanimous,
    benjamini_hochberg,
    concordance,
    configs_needed,
    configs_unbroken,
    correlations,
    granulated_kendall,
    holm,
    jackknife,
    kendall,
    left_out_errors,
    mean,
    mean_over_runs,
    over_pairs,
    partial_spearman,
    pearson,
    share_over_runs,
    slope,
    spearman,
    tost,
)


def table(model: list[str], x: np.ndarray, y: np.ndarray, configs: list[str]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "outcome": "completed",
            "model.name": model,
            "label": configs,
            "hessian/trace": x,
            "test/loss": y,
        }
    )


@pytest.fixture
def runs() -> pd.DataFrame:
    """Twelve runs of six configurations, with ties."""
    rng = np.random.default_rng(0)
    x = np.round(rng.normal(size=12), 1)
    y = x + rng.normal(size=12)
    return table(["cnn"] * 12, x, y, [f"c{i // 2}" for i in range(12)])


def test_coefficients_are_scipys(runs: pd.DataFrame) -> None:
    found = correlations(runs).set_index("model").loc["cnn"]
    means = runs.groupby("label")[["hessian/trace", "test/loss"]].mean()
    x, y = means["hessian/trace"], means["test/loss"]
    assert found["pearson"] == pytest.approx(stats.pearsonr(x, y).statistic)
    assert found["spearman"] == pytest.approx(stats.spearmanr(x, y).statistic)
    assert (found["runs"], found["configs"]) == (12, 6)
    assert -1 <= found["low"] <= found["spearman"] <= found["high"] <= 1


def test_runs_that_did_not_complete_and_missing_values_do_not_count(runs: pd.DataFrame) -> None:
    more = pd.concat([runs, runs.head(3).assign(outcome="diverged"), runs.head(2)])
    more.iloc[-1, more.columns.get_loc("test/loss")] = np.nan
    assert correlations(more)["runs"].tolist() == [13]  # one architecture is not pooled


def test_too_few_runs_and_constants_are_nan_without_a_warning(runs: pd.DataFrame) -> None:
    numbers = ["pearson", "spearman", "low", "high"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        few = correlations(runs.head(2))
        constant = correlations(runs.assign(**{"test/loss": 0.5}))
        still = correlations(runs.assign(**{"hessian/trace": 0.5}))
    assert few[numbers].isna().all(axis=None)
    assert constant[numbers].isna().all(axis=None)
    assert len(constant) == 1
    assert still[numbers].isna().all(axis=None)


def test_three_configurations_have_a_coefficient_and_no_interval(runs: pd.DataFrame) -> None:
    found = correlations(runs.head(6)).iloc[0]
    assert found["configs"] == 3
    assert np.isfinite(found["spearman"])
    assert np.isnan(found["low"])
    assert np.isnan(found["high"])


@pytest.mark.parametrize("empty", [pd.DataFrame(), pd.DataFrame(columns=["outcome"])])
def test_no_runs_have_no_correlations(empty: pd.DataFrame) -> None:
    assert len(correlations(empty)) == 0


def test_pooling_that_turns_the_sign_is_flagged() -> None:
    inside = np.arange(6.0)
    x = np.concatenate([inside, inside + 10])
    y = np.concatenate([-inside, -inside + 20])  # falls within, rises from one to the other
    models = ["cnn"] * 6 + ["resnet"] * 6
    found = correlations(table(models, x, y, [f"c{i}" for i in range(12)])).set_index("model")
    assert found["spearman"]["cnn"] == found["spearman"]["resnet"] == pytest.approx(-1)
    assert found["spearman"]["(pooled)"] > 0
    assert found["simpson"].to_dict() == {"cnn": False, "resnet": False, "(pooled)": True}
    honest = correlations(table(models, x, -y + 40 * (x > 8), [f"c{i}" for i in range(12)]))
    assert not honest["simpson"].any()


def test_the_jackknife_of_a_mean_is_the_standard_error() -> None:
    """For a mean, leaving out one at a time gives s/√n exactly (Efron & Stein 1981)."""
    x = np.random.default_rng(2).normal(size=17)
    found = jackknife(lambda v: float(v.mean()), x, scale="identity")
    assert (found.value, found.se) == (pytest.approx(x.mean()), pytest.approx(stats.sem(x)))
    assert found.interval() == pytest.approx(
        stats.t.interval(0.95, 16, loc=x.mean(), scale=stats.sem(x))
    )


def test_the_jackknife_leaves_out_whole_clusters() -> None:
    rng = np.random.default_rng(3)
    x, y, clusters = rng.normal(size=12), rng.normal(size=12), np.repeat(np.arange(4), 3)
    found = jackknife(spearman, x, y, clusters=clusters)
    z = np.arctanh([stats.spearmanr(x[clusters != k], y[clusters != k])[0] for k in range(4)])
    assert found.se == pytest.approx(np.sqrt(3 / 4 * ((z - z.mean()) ** 2).sum()))
    assert found.df == 3


def every_pair(networks: int) -> tuple[np.ndarray, np.ndarray]:
    first, second = np.triu_indices(networks, 1)
    return first, second


def test_of_a_sum_over_networks_the_interval_is_that_of_a_mean_of_networks() -> None:
    """h(i, j) = a_i + a_j has twice the mean of a, and twice its Student interval."""
    a = np.random.default_rng(0).normal(size=7)
    first, second = every_pair(7)
    found = over_pairs(a[first] + a[second], first, second)
    expected = stats.ttest_1samp(2 * a, 0).confidence_interval()
    assert found.value == pytest.approx(2 * a.mean())
    assert found.interval() == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize("shared", [1.0, 0.0])
@pytest.mark.parametrize("networks", [3, 6])
def test_the_interval_over_pairs_covers_what_it_promises(networks: int, shared: float) -> None:
    random = np.random.default_rng(0)
    first, second = every_pair(networks)
    trials, hits = 1500, 0
    for _ in range(trials):
        a = shared * random.normal(size=networks)
        values = a[first] + a[second] + random.normal(size=len(first))
        low, high = over_pairs(values, first, second).interval()
        hits += low <= 0 <= high
    # At least 95%, less three standard errors; more where networks do not matter (Efron and
    # Stein 1981: the jackknife's variance is too large on average, never too small).
    assert hits / trials > 0.95 - 3 * np.sqrt(0.95 * 0.05 / trials)


def test_two_networks_have_a_mean_and_no_interval() -> None:
    found = over_pairs(np.array([0.4]), ["a"], ["b"])
    assert found.value == 0.4
    assert np.isnan(found.interval()).all()


# Known answers


def test_a_mean_has_students_interval_and_a_ratio_that_of_its_logarithm() -> None:
    x = np.random.default_rng(0).lognormal(size=9)
    plain, ratio = mean(x), mean(x, "log")
    assert (plain.value, ratio.value) == (pytest.approx(x.mean()), pytest.approx(stats.gmean(x)))
    expected = stats.ttest_1samp(np.log(x), 0).confidence_interval(0.9)
    assert ratio.interval(0.9) == pytest.approx(np.exp([expected.low, expected.high]))
    assert plain.alpha(2.0) == pytest.approx(stats.ttest_1samp(x, 2.0).pvalue)


def test_a_mean_of_balanced_runs_is_the_two_way_analysis_of_variance() -> None:
    """C × S runs: mean squares of configurations over CS, plus that of seeds over CS."""
    rng = np.random.default_rng(10)
    y = rng.normal(size=(7, 1)) + rng.normal(size=(1, 4)) + rng.normal(size=(7, 4))
    config, seed = np.repeat(np.arange(7), 4), np.tile(np.arange(4), 7)
    found = mean_over_runs(y.ravel(), config, seed)
    of_configs = 4 * y.mean(1).var(ddof=1)
    of_seeds = 7 * y.mean(0).var(ddof=1)
    assert found.value == pytest.approx(y.mean())
    assert found.se == pytest.approx(np.sqrt((of_configs + of_seeds) / 28))
    df = (of_configs + of_seeds) ** 2 / (of_configs**2 / 6 + of_seeds**2 / 3)
    assert found.df == pytest.approx(df)
    alone = mean_over_runs(y[:, 0], np.arange(7), np.zeros(7))
    assert alone.interval() == pytest.approx(mean(y[:, 0]).interval())


@pytest.mark.parametrize(("of_configs", "of_seeds"), [(0.8, 0.0), (0.8, 0.1), (0.3, 0.3)])
@pytest.mark.parametrize("missing", [0.0, 0.15])
def test_the_interval_of_a_mean_covers_where_seeds_are_shared(
    of_configs: float, of_seeds: float, missing: float
) -> None:
    rng = np.random.default_rng(11)
    config, seed = np.repeat(np.arange(12), 3), np.tile(np.arange(3), 12)
    hits = by_config = 0
    for _ in range(1000):
        y = np.sqrt(of_configs) * rng.normal(size=12)[config]
        y += np.sqrt(of_seeds) * rng.normal(size=3)[seed]
        y += np.sqrt(1 - of_configs - of_seeds) * rng.normal(size=36)
        there = (rng.random(36) >= missing) | (seed == 0)
        low, high = mean_over_runs(y[there], config[there], seed[there]).interval()
        hits += low <= 0 <= high
        means = pd.Series(y[there]).groupby(config[there]).mean()
        low, high = mean(means).interval()
        by_config += low <= 0 <= high
    print(
        f"\n12 × 3 runs, seeds carry {of_seeds:.0%}, {missing:.0%} missing: coverage "
        f"{hits / 1000:.1%}; clustered by configuration alone {by_config / 1000:.1%}"
    )
    assert 0.92 <= hits / 1000 <= 0.98


def test_a_share_of_configurations_whose_runs_agree_is_clopper_and_pearsons() -> None:
    config, seed = np.repeat(np.arange(12), 3), np.tile(np.arange(3), 12)
    for hits in (0, 4, 12):
        margin = np.where(config < hits, 0.1, -0.1)
        found, exact = share_over_runs(margin, config, seed), stats.binomtest(hits, 12)
        assert found.value == pytest.approx(hits / 12)
        for level in (0.95, 0.8):
            expected = exact.proportion_ci(level, method="exact")
            assert found.interval(level) == pytest.approx((expected.low, expected.high))
    assert found.alpha(0.6) == pytest.approx(2 * 0.6**12)
    assert Proportion(4, 12).alpha(0.6) == pytest.approx(2 * stats.binom.cdf(4, 12, 0.6))
    assert Proportion(4, 12).alpha(0.1) == pytest.approx(2 * stats.binom.sf(3, 12, 0.1))


def test_a_share_that_one_seed_decides_is_that_of_a_single_trial() -> None:
    """In every configuration seed 0 breaks the bound, the others keep it, by less or by more."""
    config, seed = np.repeat(np.arange(12), 3), np.tile(np.arange(3), 12)
    margin = np.where(seed == 0, np.where(config < 6, 3.0, 1.0), -1.0)
    found = share_over_runs(margin, config, seed)
    assert (found.value, found.trials) == (0.5, 1.0)
    hidden = np.where((config < 3) & (seed == 1), -np.inf, margin)  # a miss, whatever the others
    assert share_over_runs(hidden, config, seed).value == 0.25


@pytest.mark.parametrize("configs", [12, 24, 72])
@pytest.mark.parametrize("of_seeds", [0.0, 0.3])
@pytest.mark.parametrize("share", [0.05, 0.5])
def test_the_interval_of_a_share_covers_where_seeds_are_shared(
    configs: int, of_seeds: float, share: float
) -> None:
    """Seeds are 3 and carry ``of_seeds`` of the variance, as they did of gaps in real sweeps."""
    rng = np.random.default_rng(12)
    config, seed = np.repeat(np.arange(configs), 3), np.tile(np.arange(3), configs)
    spread = np.sqrt(0.9 - of_seeds + of_seeds / 3 + 0.1 / 3)
    hits = by_config = 0
    for _ in range(1000):
        y = np.sqrt(0.9 - of_seeds) * rng.normal(size=configs)[config]
        y += np.sqrt(of_seeds) * rng.normal(size=3)[seed]
        y += np.sqrt(0.1) * rng.normal(size=3 * configs)
        found = share_over_runs(y - spread * stats.norm.isf(share), config, seed)
        low, high = found.interval()
        hits += low <= share <= high
        low, high = Proportion(round(found.value * configs), configs).interval()
        by_config += low <= share <= high
    print(
        f"\nshare {share:.0%} of {configs} × 3 runs, seeds carry {of_seeds:.0%}: coverage "
        f"{hits / 1000:.1%}; configurations taken for independent {by_config / 1000:.1%}"
    )
    assert hits / 1000 >= 0.92  # more than 98% where hits are few: exact intervals of counts
    if of_seeds and configs == 72:
        assert by_config / 1000 < 0.85


def test_coefficients_of_pairs_are_scipys_with_ties() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.integers(0, 5, 30).astype(float), rng.integers(0, 5, 30).astype(float)
    assert pearson(x, y) == pytest.approx(stats.pearsonr(x, y).statistic)
    assert spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic)
    assert kendall(x, y) == pytest.approx(stats.kendalltau(x, y).statistic)


def test_a_partial_rank_correlation_is_the_textbooks() -> None:
    """For one control, (r_xy − r_xz r_yz)/√((1 − r_xz²)(1 − r_yz²))."""
    x, y, z = np.random.default_rng(2).normal(size=(3, 25))
    x, y = x + z, y - z
    xy, xz, yz = (stats.spearmanr(*pair).statistic for pair in ((x, y), (x, z), (y, z)))
    expected = (xy - xz * yz) / np.sqrt((1 - xz**2) * (1 - yz**2))
    assert partial_spearman(x, y, z[:, None]) == pytest.approx(expected)


def test_a_slope_is_that_of_least_squares_with_every_configuration_left_out_in_turn() -> None:
    rng = np.random.default_rng(3)
    X, y = rng.normal(size=(14, 3)), rng.normal(size=14)
    with_constant = np.column_stack([np.ones(14), X])

    def combined(rows: np.ndarray) -> float:
        b = np.linalg.lstsq(with_constant[rows], y[rows], rcond=None)[0]
        return float(b[1] + 2 * b[3])

    found = slope(y, X, [1, 0, 2])
    without = np.array([combined(np.arange(14) != i) for i in range(14)])
    assert found.value == pytest.approx(combined(np.arange(14)))
    assert found.se == pytest.approx(np.sqrt(13 / 14 * ((without - without.mean()) ** 2).sum()))
    assert found.df == 10
    line = slope(y, X[:, :1], [1])
    assert line.value == pytest.approx(stats.linregress(X[:, 0], y).slope)


def test_a_slope_that_one_configuration_carries_or_that_is_collinear_is_undefined() -> None:
    x = np.arange(8.0)
    assert np.isnan(slope(x**2, np.column_stack([x, 2 * x]), [1, 0]).value)
    assert np.isnan(slope(x**2, np.column_stack([x, x == 7]), [0, 1]).value)


@pytest.mark.parametrize("ridge", [0.0, 1.0])
def test_left_out_errors_are_those_of_fits_without_the_row(ridge: float) -> None:
    rng = np.random.default_rng(12)
    features, y = rng.normal(size=(15, 3)), rng.normal(size=15)
    features[:, 1] *= 100
    X = (features - features.mean(0)) / features.std(0)
    expected = []
    for i in range(15):
        rest = np.arange(15) != i
        fit = Ridge(alpha=ridge).fit(X[rest], y[rest])
        expected.append(y[i] - fit.predict(X[[i]])[0])
    constant = np.column_stack([features, np.ones(15)])
    assert left_out_errors(constant, y, ridge) == pytest.approx(expected)


def brute_concordance(
    x: np.ndarray,
    time: np.ndarray,
    observed: np.ndarray,
    strata: np.ndarray,
    of: np.ndarray | None = None,
    instead: float = 0.0,
) -> float:
    """2C − 1 over pairs of one stratum whose order in time is known.

    The signs of pairs with one of the rows ``of`` may be replaced.
    """
    score = pairs = 0.0
    for i, j in itertools.permutations(range(len(x)), 2):
        if strata[i] == strata[j] and observed[i] and time[i] < time[j]:
            replaced = of is not None and (of[i] or of[j])
            score, pairs = score + (instead if replaced else np.sign(x[j] - x[i])), pairs + 1
    return float(score / pairs)


def test_concordance_is_harrells_by_definition() -> None:
    rng = np.random.default_rng(4)
    rows = 40
    x, time = rng.integers(0, 8, rows).astype(float), rng.integers(1, 20, rows).astype(float)
    observed, strata = rng.random(rows) < 0.7, rng.integers(0, 3, rows)
    clusters = np.arange(rows) // 4
    found = concordance(x, time, observed, clusters, strata, np.zeros(rows))
    D = brute_concordance(x, time, observed, strata)
    assert found.value == pytest.approx(D)
    part = [
        D - brute_concordance(x, time, observed, strata, clusters == k, D) for k in range(10)
    ]  # what D changes by where a cluster's pairs say no more than all pairs do
    own = np.sqrt(9 / 10 * np.square(part).sum()) / (1 - D**2)
    assert (found.se, found.df) == (pytest.approx(own), 9)

    seeds = np.arange(rows) % 4
    x = x + 4 * seeds  # what all clusters share
    D = brute_concordance(x, time, observed, strata)
    part = [D - brute_concordance(x, time, observed, strata, clusters == k, D) for k in range(10)]
    own = np.sqrt(9 / 10 * np.square(part).sum()) / (1 - D**2)
    without = np.arctanh(
        [brute_concordance(*(v[seeds != k] for v in (x, time, observed, strata))) for k in range(4)]
    )
    shared = np.sqrt(3 * without.var())
    assert shared > own
    found = concordance(x, time, observed, clusters, strata, seeds)
    assert found.se == pytest.approx(shared)
    extra = shared**2 - own**2
    assert found.df == pytest.approx(shared**4 / (own**4 / 9 + extra**2 / 3))


def test_without_censoring_or_ties_concordance_is_kendalls_tau() -> None:
    x, time = np.random.default_rng(5).normal(size=(2, 25))
    found = concordance(x, time, np.ones(25, bool), np.arange(25), np.zeros(25), np.zeros(25))
    assert found.value == pytest.approx(stats.kendalltau(x, time).statistic)


def brute_granulated(
    x: np.ndarray, y: np.ndarray, axes: np.ndarray, at: int = -1, instead: float = 0.0
) -> np.ndarray:
    """ψ of Jiang et al. (2020): each axis, each setting of the others, all pairs.

    The signs of one configuration's pairs, those of ``at``, may be replaced.
    """
    psi = []
    for j in range(axes.shape[1]):
        cells: dict[tuple[int, ...], list[float]] = {}
        for a, b in itertools.combinations(range(len(x)), 2):
            others = np.delete(axes[a], j)
            if (others == np.delete(axes[b], j)).all() and axes[a, j] != axes[b, j]:
                sign = np.sign(x[a] - x[b]) * np.sign(y[a] - y[b])
                sign = instead if at in (a, b) else sign
                cells.setdefault(tuple(others), []).append(sign)
        psi.append(np.mean([np.mean(signs) for signs in cells.values()]) if cells else np.nan)
    return np.array(psi)


def test_where_every_pair_agrees_the_interval_is_that_of_disjoint_pairs() -> None:
    """Two of 24 runs got there, both the slowest to begin with: −1, and nothing is decided."""
    x, time = np.arange(24.0), np.full(24, 100.0)
    time[22:] = 50.0, 40.0
    found = concordance(x, time, time < 100, np.arange(24), np.zeros(24), np.arange(24))
    assert found == Unanimous(-1.0, 2)
    one_seed = concordance(x, time, time < 100, np.arange(24), np.zeros(24), np.zeros(24))
    assert one_seed == Unanimous(-1.0, 1)
    low, high = found.interval()
    assert low == -1
    assert high == pytest.approx(1 - 2 * 0.025**0.5)  # (share)² = 2.5%
    assert found.alpha(0.0) == pytest.approx(2 * 0.5**2)
    axes = np.array(list(itertools.product(range(4), range(3))))
    ranks = axes @ [3.0, 1.0]
    psi, _ = granulated_kendall(ranks, 2 * ranks, axes)
    assert psi == Unanimous(1.0, 6)
    assert psi.interval() == (pytest.approx(2 * 0.025 ** (1 / 6) - 1), 1.0)


@pytest.mark.parametrize("pairs", [2, 6, 12])
def test_no_agreement_is_certain_by_chance_more_often_than_alpha(pairs: int) -> None:
    """Of independent pairs all agree with chance 2 · ½ᵏ where there is no association."""
    assert Unanimous(1.0, pairs).alpha(0.0) == pytest.approx(2 * 0.5**pairs)
    assert (Unanimous(1.0, pairs).interval()[0] > 0) == (pairs >= 6)


def test_granulated_kendall_is_jiangs_by_definition() -> None:
    rng = np.random.default_rng(6)
    axes = np.array(list(itertools.product(range(3), range(2), range(4))))
    axes = axes[rng.random(len(axes)) < 0.8]  # cells are missing, as in a real sweep
    x, y = rng.normal(size=(2, len(axes)))
    found, psi = granulated_kendall(x, y, axes)
    assert psi == pytest.approx(brute_granulated(x, y, axes))
    assert found.value == pytest.approx(psi.mean())
    # A configuration's part of Ψ: what would be missing if the signs of its pairs were all Ψ.
    parts = []
    for i in range(len(x)):
        with_value = brute_granulated(x, y, axes, at=i, instead=found.value)
        parts.append(found.value - with_value.mean())
    scale = (len(x) - 1) / len(x) / (1 - found.value**2) ** 2
    assert found.se == pytest.approx(np.sqrt(scale * np.square(parts).sum()))


def test_a_measure_can_rank_along_one_axis_and_fail_along_another() -> None:
    axes = np.array(list(itertools.product(range(3), range(3))))
    y = axes[:, 0] + 10.0 * axes[:, 1]
    found, psi = granulated_kendall(axes[:, 0] - 0.1 * axes[:, 1], y, axes)
    assert psi == pytest.approx([1.0, -1.0])
    assert found.value == pytest.approx(0.0)


def test_an_axis_along_which_a_measure_never_moves_does_not_count() -> None:
    """A number of parameters is the same for every seed, rate and batch size."""
    axes = np.array(list(itertools.product(range(3), range(4))))
    y = np.random.default_rng(13).normal(size=12)
    found, psi = granulated_kendall(axes[:, 0].astype(float), y, axes)
    assert np.isnan(psi[1])
    assert found.value == psi[0] == pytest.approx(brute_granulated(axes[:, 0], y, axes)[0])


# Many tests


def test_holm_and_benjamini_hochberg_on_the_example_of_1995() -> None:
    """Benjamini & Hochberg (1995), section 4: 15 p-values of a myocardial infarction trial.

    At 0.05 Bonferroni's kind finds three, control of false discoveries four.
    """
    p = [
        *(0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459),
        *(0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0000),
    ]
    assert (holm(p) <= 0.05).sum() == 3
    assert (benjamini_hochberg(p) <= 0.05).sum() == 4
    assert benjamini_hochberg(p)[:4] == pytest.approx([0.0015, 0.003, 0.0095, 0.035625])
    assert holm(p)[:4] == pytest.approx([0.0015, 0.0056, 0.0247, 0.114])


def test_holm_is_monotone_in_any_order_and_never_beyond_one() -> None:
    """R's p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == pytest.approx([1.0, 1.0])


def test_equivalence_is_two_one_sided_tests() -> None:
    x = np.random.default_rng(7).normal(0.02, 0.1, size=15)
    expected = max(
        stats.ttest_1samp(x, -0.1, alternative="greater").pvalue,
        stats.ttest_1samp(x, 0.1, alternative="less").pvalue,
    )
    assert tost(mean(x), -0.1, 0.1) == pytest.approx(expected)
    assert tost(Estimate(0.3, 0.1, 14), -0.1, 0.1) == 1.0


# How many configurations


@pytest.mark.parametrize("effect", [0.3, 0.5, 0.8])
def test_the_configurations_asked_for_give_the_power_they_promise(effect: float) -> None:
    """A mean of ``effect`` deviations, seen in 12 configurations; then so many as are asked for."""
    needed = configs_needed(Estimate(effect, 12**-0.5, 11).alpha(0), 12)
    samples = np.random.default_rng(8).normal(effect, 1, size=(4000, int(needed)))
    power = (stats.ttest_1samp(samples, 0, axis=1).pvalue < 0.05).mean()
    print(f"\n{effect} deviations: {needed:.0f} configurations, power {power:.1%}")
    assert 0.74 < power < 0.88


def test_an_unbroken_bound_needs_as_many_configurations_as_clopper_and_pearson_say() -> None:
    first = next(n for n in range(1, 200) if Proportion(0, n).interval()[1] <= 0.05)
    assert configs_unbroken(0.05) == first


def test_more_configurations_than_groups_are_left_out_in_groups_that_mix_the_grid() -> None:
    """2,000 cells of a 10 × 200 grid whose first axis shifts x: groups of one level would make
    the error of a mean as if there were ten configurations."""
    x = np.random.default_rng(9).normal(size=2000) + 3.0 * (np.arange(2000) % 10)
    found = jackknife(lambda v: float(v.mean()), x, scale="identity")
    assert found.se == pytest.approx(stats.sem(x), rel=0.25)
