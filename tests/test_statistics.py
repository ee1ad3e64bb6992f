"""Correlations against SciPy, simulations with known clusters, and a table made to mislead."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from landscape_sweep.statistics import clustered_interval, correlations


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
    x, y = runs["hessian/trace"], runs["test/loss"]
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


def test_fewer_than_three_configurations_have_no_interval(runs: pd.DataFrame) -> None:
    found = correlations(runs.head(4)).iloc[0]
    assert found["configs"] == 2
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


def test_the_bootstrap_draws_whole_clusters() -> None:
    """The fast weighted ranks give what resampling the rows one by one gives."""
    rng = np.random.default_rng(2)
    clusters = np.repeat(np.arange(6), 3)
    x, y = np.round(rng.normal(size=18), 1), np.round(rng.normal(size=18), 1)
    drawn = np.random.default_rng(0).multinomial(6, np.full(6, 1 / 6), size=1000)
    rho = []
    for counts in drawn:
        rows = np.repeat(np.arange(18), counts[clusters])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", stats.ConstantInputWarning)
            rho.append(stats.spearmanr(x[rows], y[rows]).statistic)
    expected = np.nanquantile(rho, [0.025, 0.975])
    np.testing.assert_allclose(clustered_interval(x, y, clusters), expected, atol=1e-9)


def test_the_interval_covers_where_runs_of_a_cluster_are_alike() -> None:
    """ρ = 0 in truth; five runs a cluster are nearly copies: an interval of runs would not do."""
    rng = np.random.default_rng(3)
    configs, seeds, trials = 20, 5, 100
    clusters = np.repeat(np.arange(configs), seeds)
    alone = np.arange(configs * seeds)
    covered, careless = 0, 0
    for _ in range(trials):
        x = rng.normal(size=configs)[clusters] + 0.1 * rng.normal(size=len(clusters))
        y = rng.normal(size=configs)[clusters] + 0.1 * rng.normal(size=len(clusters))
        low, high = clustered_interval(x, y, clusters)
        covered += low <= 0 <= high
        low, high = clustered_interval(x, y, alone)
        careless += low <= 0 <= high
    assert covered >= 86  # 95 expected; a percentile interval of 20 clusters falls a little short
    assert careless <= 80  # what runs taken for independent would give
