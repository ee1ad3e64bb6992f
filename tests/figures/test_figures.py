"""What is drawn is what was passed: lines, points, labels, legends."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from scipy import stats

from landscape_sweep import figures
from landscape_sweep.tracking import Sweep


def legend_of(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


@pytest.fixture
def labels(sweep: Sweep) -> pd.Series:
    return sweep.runs.set_index("run_id")["label"]


def test_training_curves_are_the_histories(sweep: Sweep, labels: pd.Series) -> None:
    figure = figures.training_dynamics(sweep.histories, labels)
    loss, accuracy = figure.axes
    assert (loss.get_xlabel(), loss.get_ylabel()) == ("epoch", "cross-entropy")
    assert accuracy.get_ylabel() == "accuracy (%)"
    assert legend_of(figure) == list(dict.fromkeys(labels))
    run = sweep.histories[sweep.histories["run_id"] == sweep.runs["run_id"][0]]
    fit, test = loss.lines[0], loss.lines[1]
    np.testing.assert_array_equal(fit.get_ydata(), run.query("metric == 'fit/loss'")["value"])
    np.testing.assert_array_equal(test.get_ydata(), run.query("metric == 'test/loss'")["value"])
    assert (fit.get_linestyle(), test.get_linestyle()) == ("--", "-")
    percent = 100 * run.query("metric == 'test/accuracy'")["value"]
    np.testing.assert_allclose(accuracy.lines[1].get_ydata(), percent)
    assert len(loss.lines) == 2 * 13  # the failed run has no history


def test_spectra_show_what_has_not_converged_as_hollow(sweep: Sweep, labels: pd.Series) -> None:
    figure = figures.hessian_spectra(sweep.spectra, labels)
    (axes,) = figure.axes
    run = sweep.spectra[sweep.spectra["run_id"] == sweep.runs["run_id"][0]]
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), run["eigenvalue"])
    full, hollow = axes.collections[:2]
    np.testing.assert_allclose(full.get_offsets()[:, 1], run["eigenvalue"][:8])
    np.testing.assert_allclose(hollow.get_offsets()[:, 1], run["eigenvalue"][8:])
    np.testing.assert_array_equal(hollow.get_facecolors()[0], [1, 1, 1, 1])
    assert "96 of 120" in axes.get_title()


def test_bars_are_means_over_seeds(sweep: Sweep) -> None:
    runs = sweep.runs[sweep.runs["outcome"] == "completed"]
    figure = figures.metric_bars(runs)
    trace = figure.axes[2]
    assert trace.get_xlabel() == "Hessian trace"
    means = runs.groupby("label", sort=False)["hessian/trace"].mean()
    names = [text.get_text() for text in trace.get_yticklabels()]
    assert names == means.index.tolist()
    widths = sorted(bar.get_width() for bar in trace.patches if bar.get_width())
    np.testing.assert_allclose(widths, sorted(means))


def test_barriers_are_drawn_a_row_a_configuration_and_a_line_a_mode(sweep: Sweep) -> None:
    figure = figures.barriers(sweep.paths)
    assert len(figure.axes) == 2 * sweep.paths["label"].nunique()  # loss and accuracy
    loss, accuracy = figure.axes[:2]
    naive = sweep.paths[:7]
    np.testing.assert_allclose(loss.lines[0].get_xdata(), naive["alpha"])
    np.testing.assert_allclose(loss.lines[0].get_ydata(), naive["loss"])
    np.testing.assert_allclose(accuracy.lines[0].get_ydata(), 100 * naive["accuracy"])
    assert loss.get_title(loc="left") == f"{naive['label'][0]}, 1 pair of seeds"
    assert legend_of(figure) == ["straight", "straight, BatchNorm re-estimated"]
    assert len({(line.get_color(), line.get_linestyle()) for line in loss.lines}) == 2


def test_over_several_pairs_barriers_are_a_mean_in_a_range(sweep: Sweep) -> None:
    first = sweep.paths[sweep.paths["mode"] == "naive"][:7].assign(test_loss=0.5, test_accuracy=0.5)
    more = [first.assign(pair=f"{k}", loss=k * first["loss"]) for k in (1, 2, 6)]
    figure = figures.barriers(pd.concat(more))
    assert [axes.get_ylabel() for axes in figure.axes] == [
        *("loss, training images", "loss, test images"),
        *("accuracy (%), training images", "accuracy (%), test images"),
    ]
    axes = figure.axes[0]
    np.testing.assert_allclose(axes.lines[0].get_ydata(), 3 * first["loss"])
    band = axes.collections[0].get_paths()[0].get_extents()
    assert (band.y0, band.y1) == pytest.approx((first["loss"].min(), 6 * first["loss"].max()))
    assert "3 pairs" in axes.get_title(loc="left")
    assert axes.get_yscale() == "linear"
    wide = first.assign(loss=first["loss"] ** 4)
    assert figures.barriers(wide).axes[0].get_yscale() == "log"


def test_contours_keep_orientation_and_leave_holes(sweep: Sweep) -> None:
    run_id = sweep.runs["run_id"][0]
    alpha, beta = np.meshgrid([-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], indexing="ij")
    surface = pd.DataFrame(
        {"run_id": run_id, "alpha": alpha.ravel(), "beta": beta.ravel(), "loss": 10.0}
    )
    surface["loss"] = 10 ** surface["alpha"]
    surface.loc[0, "loss"] = np.nan
    titles = pd.Series({run_id: "a run"})
    axes = figures.contours(surface, titles).axes[0]
    assert axes.get_title() == "a run"
    assert axes.get_xlim() == (-1, 1)
    assert axes.get_ylim() == (-2, 2)
    assert figures.surfaces_3d(surface, titles).axes[0].get_title() == "a run"


def test_scatter_draws_every_run_with_its_coefficient(sweep: Sweep) -> None:
    figure = figures.geometry_against_generalisation(sweep.runs)
    assert len(figure.axes) == 6
    axes = figure.axes[2]
    assert axes.get_xlabel() == "Hessian trace"
    cnn = sweep.runs[(sweep.runs["model.name"] == "cnn") & sweep.runs["hessian/trace"].notna()]
    np.testing.assert_allclose(
        axes.collections[0].get_offsets(), cnn[["hessian/trace", "test/accuracy"]]
    )
    rho = stats.spearmanr(cnn["hessian/trace"], cnn["test/accuracy"]).statistic
    legend = axes.get_legend()
    assert legend is not None
    assert legend.get_texts()[0].get_text() == f"cnn: ρ = {rho:+.2f}, n = 6"


def test_the_slope_of_a_power_law_is_its_exponent(sweep: Sweep) -> None:
    runs = sweep.runs.copy()
    runs["hessian/trace"] = 3 * (runs["optimizer.lr"] / runs["batch_size"]) ** -0.5
    axes = figures.noise_against_flatness(runs).axes[0]
    legend = axes.get_legend()
    assert legend is not None
    assert all("slope -0.50" in text.get_text() for text in legend.get_texts())
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")


def test_the_summary_is_the_table(sweep: Sweep) -> None:
    table = sweep.runs[["label", "outcome"]]
    (axes,) = figures.summary_table(table).axes
    cells = axes.tables[0].get_celld()
    assert cells[0, 1].get_text().get_text() == "outcome"
    assert cells[13, 1].get_text().get_text() == "diverged"
    many = pd.concat([table] * 4)
    assert "first 40 of 56" in figures.summary_table(many).axes[0].get_title()


def test_many_surfaces_are_cut_and_said(sweep: Sweep) -> None:
    extra = sweep.surfaces[:81].assign(run_id="more")
    many = dataclasses.replace(sweep, surfaces=pd.concat([sweep.surfaces, extra])).surfaces
    titles = pd.Series({run_id: run_id for run_id in many["run_id"].unique()})
    heading = figures.contours(many, titles).get_suptitle()
    assert heading.endswith("(first 12 of 13 runs)")
