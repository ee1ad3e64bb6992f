"""Correlations against SciPy, simulations with known clusters, and a table made to mislead."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from landscape_sweep.statistics import correlations, jackknife, over_pairs, spearman


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
    assert correlations(more)["runs"].tolist() == [13, 13]


def test_too_few_runs_and_constants_are_nan_without_a_warning(runs: pd.DataFrame) -> None:
    numbers = ["pearson", "spearman", "low", "high"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        few = correlations(runs.head(2))
        constant = correlations(runs.assign(**{"test/loss": 0.5}))
        still = correlations(runs.assign(**{"hessian/trace": 0.5}))
    assert few[numbers].isna().all(axis=None)
    assert constant[numbers].isna().all(axis=None)
    assert len(constant) == 2
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
