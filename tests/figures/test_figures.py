"""What is drawn is what was passed: lines, points, labels, legends."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from landscape_sweep import figures
from landscape_sweep.figures.noise import slopes
from landscape_sweep.figures.style import at_one_loss
from landscape_sweep.statistics import correlations
from landscape_sweep.tracking import Sweep


def legend_of(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


@pytest.fixture
def completed(sweep: Sweep) -> pd.DataFrame:
    return sweep.runs[sweep.runs["outcome"] == "completed"]


def test_training_curves_are_means_over_seeds(sweep: Sweep, completed: pd.DataFrame) -> None:
    figure = figures.training_dynamics(sweep.histories, completed)
    loss, accuracy = figure.axes
    assert (loss.get_xlabel(), loss.get_ylabel()) == ("epoch", "cross-entropy (nats)")
    assert accuracy.get_ylabel() == "accuracy (%)"
    assert legend_of(figure) == list(dict.fromkeys(completed["label"]))
    first = completed.loc[completed["label"] == completed["label"].iloc[0], "run_id"]
    curves = sweep.histories[sweep.histories["run_id"].isin(first)]

    def mean(metric: str) -> pd.Series:
        return curves[curves["metric"] == metric].groupby("step")["value"].mean()

    lines = {line.get_linestyle(): line for line in reversed(loss.lines)}
    np.testing.assert_allclose(lines["--"].get_ydata(), mean("fit/loss"))
    np.testing.assert_allclose(lines["-"].get_ydata(), mean("test/loss"))
    solid = next(line for line in accuracy.lines if line.get_linestyle() == "-")
    np.testing.assert_allclose(solid.get_ydata(), 100 * mean("test/accuracy"))
    assert len(loss.lines) == 2 * 6  # fit and test of six configurations
    heads = [
        figures.training_dynamics(sweep.histories, some).get_suptitle().replace("\n", " ")
        for some in (completed, completed.drop_duplicates("label"))
    ]
    assert [head.rpartition("; ")[2] for head in heads] == [
        "mean and range of 2 seeds each",
        "1 seed each",
    ]


def test_spectra_show_what_has_not_converged_as_hollow(
    sweep: Sweep, completed: pd.DataFrame
) -> None:
    figure = figures.hessian_spectra(sweep.spectra, completed)
    (axes,) = figure.axes
    first = completed.loc[completed["label"] == completed["label"].iloc[0], "run_id"]
    group = sweep.spectra[sweep.spectra["run_id"].isin(first)]
    mean = group.groupby("rank")["eigenvalue"].mean()
    np.testing.assert_allclose(axes.lines[0].get_ydata(), mean)
    hollow = next(c for c in axes.collections if len(c.get_offsets()) == 2 * len(first))
    unproven = group.loc[~group["converged"], "eigenvalue"]
    np.testing.assert_allclose(sorted(hollow.get_offsets()[:, 1]), sorted(unproven))
    np.testing.assert_array_equal(hollow.get_facecolors()[0], [1, 1, 1, 1])
    assert "96 of 120" in figure.get_suptitle()


def test_the_density_integrates_to_one_and_marks_its_outliers(
    sweep: Sweep, completed: pd.DataFrame
) -> None:
    axes = figures.spectral_density(sweep.densities, completed).axes[0]
    grid, density = axes.lines[0].get_data()
    assert np.trapezoid(density, grid) == pytest.approx(1, rel=0.01)
    known = sweep.densities[sweep.densities["run_id"] == completed["run_id"].iloc[0]]
    outliers = known.loc[known["outlier"], "node"]
    np.testing.assert_allclose(axes.lines[1].get_xdata(), outliers)
    assert axes.get_yscale() == "log"


def test_algorithm_1_is_shown_over_the_certified_values(
    sweep: Sweep, completed: pd.DataFrame
) -> None:
    """The synthetic ghosts are (rank of the pair)/(rank): 1, 2/1, 3/2, 4/2 …"""
    axes = figures.algorithm_1(sweep.algorithm_1, completed).axes[0]
    ranks = np.arange(1, 11)
    curve = axes.lines[1]
    np.testing.assert_allclose(curve.get_xdata(), ranks)
    np.testing.assert_allclose(curve.get_ydata(), ranks / ((ranks - 1) // 2 + 1))


def test_bars_are_means_over_seeds_and_intervals_stay_positive(sweep: Sweep) -> None:
    runs = sweep.runs[sweep.runs["outcome"] == "completed"]
    figure = figures.metric_bars(runs)
    _, _, trace, accuracy = figure.axes
    assert trace.get_xlabel() == "Hessian trace (loss / squared parameter)\ngeometric mean"
    assert trace.get_xscale() == "log"  # from 16 to 1025
    by_label = runs.groupby("label", sort=False)["hessian/trace"]
    means = by_label.agg(stats.gmean)
    names = [text.get_text() for text in trace.get_yticklabels()]
    assert names == means.index.tolist()

    def widths(axes: Axes) -> list[float]:
        return sorted(bar.get_width() for bar in axes.patches if bar.get_width())

    np.testing.assert_allclose(widths(trace), sorted(means))
    one = by_label.get_group(names[0])  # of two seeds: Student's t with one degree of freedom
    half = stats.t.ppf(0.975, 1) * np.log(one.max() / one.min()) / 2
    drawn = trace.lines[0].get_xdata()
    ends = means.iloc[0] * np.exp([-half, half])
    np.testing.assert_allclose([np.nanmin(drawn), np.nanmax(drawn)], ends)
    assert 0 < trace.get_xlim()[0] < runs["hessian/trace"].min()

    assert accuracy.get_xlabel() == "test accuracy (%)\nmean"
    percent = 100 * runs.groupby("label")["test/accuracy"].mean()
    np.testing.assert_allclose(widths(accuracy), sorted(percent))


def test_barriers_are_drawn_a_row_a_configuration_and_a_line_a_mode(sweep: Sweep) -> None:
    figure = figures.barriers(sweep.paths)
    assert len(figure.axes) == 2 * sweep.paths["label"].nunique()  # loss and accuracy
    loss, accuracy = figure.axes[:2]
    naive = sweep.paths[:7]
    np.testing.assert_allclose(loss.lines[0].get_xdata(), naive["alpha"])
    np.testing.assert_allclose(loss.lines[0].get_ydata(), naive["loss"])
    np.testing.assert_allclose(accuracy.lines[0].get_ydata(), 100 * naive["accuracy"])
    assert loss.texts[0].get_text() == f"{naive['label'][0]}, 1 pair of seeds"
    assert legend_of(figure) == ["straight", "straight, BatchNorm re-estimated"]
    without = sweep.paths["label"].eq(sweep.paths["label"][0]) & sweep.paths["mode"].eq("reset")
    assert legend_of(figures.barriers(sweep.paths[~without])) == legend_of(figure)
    assert len({(line.get_color(), line.get_linestyle()) for line in loss.lines}) == 2


def test_over_several_pairs_barriers_are_a_mean_in_a_range(sweep: Sweep) -> None:
    first = sweep.paths[sweep.paths["mode"] == "naive"][:7].assign(test_loss=0.5, test_accuracy=0.5)
    more = [first.assign(pair=f"{k}", loss=k * first["loss"]) for k in (1, 2, 6)]
    figure = figures.barriers(pd.concat(more))
    assert [axes.get_ylabel() for axes in figure.axes] == [
        *("loss, training images", "loss, test images"),
        *("accuracy (%), training", "accuracy (%), test"),
    ]
    axes = figure.axes[0]
    np.testing.assert_allclose(axes.lines[0].get_ydata(), 3 * first["loss"])
    band = axes.collections[0].get_paths()[0].get_extents()
    assert (band.y0, band.y1) == pytest.approx((first["loss"].min(), 6 * first["loss"].max()))
    assert "3 pairs" in axes.texts[0].get_text()
    assert axes.get_yscale() == "linear"
    wide = first.assign(loss=first["loss"] ** 4)
    assert figures.barriers(wide).axes[0].get_yscale() == "log"
    both = figures.barriers(pd.concat([first, wide.assign(label="wide")]))
    scales = [axes.get_yscale() for axes in both.axes]  # losses of two rows are compared
    assert scales == 2 * ["log", "log", "linear", "linear"]


def test_a_long_name_leaves_the_panels_their_width(sweep: Sweep) -> None:
    label = sweep.paths["label"][0]
    paths = sweep.paths[sweep.paths["label"] == label]
    long = paths.assign(label=f"{label} fork_step=1950 width=128 norm=batch weight_decay=0.0005")
    widths = []
    for of_label in (paths, long):
        figure = figures.barriers(of_label)
        figure.draw_without_rendering()
        widths.append([axes.get_position().width for axes in figure.axes])
        (heading,) = figure.axes[0].texts
        said = heading.get_text().replace("\n", " ")
        assert said == f"{of_label['label'].iloc[0]}, 1 pair of seeds"
        assert heading.get_window_extent().x1 < figure.bbox.x1
        assert heading.get_window_extent().y0 > figure.axes[0].get_window_extent().y1
    np.testing.assert_allclose(*widths, rtol=0.05)  # tick labels differ


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


def test_scatter_draws_every_run_and_the_coefficient_of_its_table(
    sweep: Sweep, completed: pd.DataFrame
) -> None:
    found = correlations(sweep.runs)
    figure = figures.geometry_against_generalisation(completed, found)
    assert len(figure.axes) == 6
    axes = figure.axes[2]
    assert axes.get_xlabel() == "Hessian trace (loss / squared parameter)"
    cnn = completed[completed["model.name"] == "cnn"]
    percent = cnn.assign(**{"test/accuracy": 100 * cnn["test/accuracy"]})
    columns = ["hessian/trace", "test/accuracy"]
    np.testing.assert_allclose(axes.collections[0].get_offsets(), percent[columns])
    means = cnn.groupby("label")[columns].mean()
    rho = stats.spearmanr(means["hessian/trace"], means["test/accuracy"]).statistic
    legend = axes.get_legend()
    assert legend is not None
    text = legend.get_texts()[0].get_text().replace("−", "-")
    assert text.startswith(f"cnn: ρ = {rho:+.2f}")
    assert text.endswith("n = 3")


def _heading(figure: Figure) -> str:
    return figure.get_suptitle().replace("\n", " ")


def scatter(runs: pd.DataFrame) -> Figure:
    told = runs.assign(**{"test/accuracy": 0.5, "seed": 0, "outcome": "completed"})
    return figures.geometry_against_generalisation(told, correlations(told))


def test_the_slopes_of_a_power_law_are_its_exponents() -> None:
    cells = [(rate, batch) for rate in (0.01, 0.03, 0.1) for batch in (16, 64, 256)]
    means = pd.DataFrame(cells, columns=["optimizer.lr", "batch_size"])
    means["hessian/trace"] = 3 * means["optimizer.lr"] ** -0.7 * means["batch_size"] ** 0.4
    found = slopes(means, "hessian/trace")
    assert found["η"] == pytest.approx(-0.7, abs=1e-9)
    assert found["B"] == pytest.approx(0.4, abs=1e-9)
    runs = means.assign(label=[str(cell) for cell in cells], **{"model.name": "cnn"})
    axes = figures.noise_against_flatness(runs).axes[0]
    legend = axes.get_legend()
    assert legend is not None
    assert "= −0.70, " in legend.get_texts()[0].get_text()
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")

    # Runs of the same sweep that were not stopped at the loss are another question.
    other = runs.assign(**{"hessian/trace": 1e4, "label": runs["label"] + " steps"})
    both = pd.concat([runs.assign(**{"stop.train_loss": 0.1}), other], ignore_index=True)
    short = both.assign(**{"train/loss": both["hessian/trace"].eq(1e4) + 0.1})
    short.loc[0, "train/loss"] = 0.2
    assert len(at_one_loss(short)[0]) == 8
    never = short.assign(**{"train/loss": 2.0})
    assert len(at_one_loss(never)[0]) == len(never)
    assert at_one_loss(short)[1].endswith(
        "(9 runs of another length and 1 that did not reach it left out)"
    )
    assert "(9 runs of another length left out)" in _heading(scatter(both))
    figure = figures.noise_against_flatness(both)
    assert "at a training loss of 0.1" in _heading(figure)
    legend = figure.axes[0].get_legend()
    assert legend is not None
    assert legend.get_texts()[0].get_text().endswith("n = 9")


def test_the_summary_is_the_table(sweep: Sweep) -> None:
    table = sweep.runs[["label", "outcome"]]
    (axes,) = figures.summary_table(table).axes
    texts = [text.get_text() for text in axes.texts]
    assert texts[0::2] == ["label", "outcome"]
    assert texts[1].split("\n") == table["label"].tolist()
    assert texts[3].split("\n") == table["outcome"].tolist()
    many = pd.concat([table] * 4)
    assert "first 40 of 56" in figures.summary_table(many).axes[0].get_title()


def test_many_surfaces_are_cut_and_said(sweep: Sweep) -> None:
    extra = sweep.surfaces[:81].assign(run_id="more")
    many = dataclasses.replace(sweep, surfaces=pd.concat([sweep.surfaces, extra])).surfaces
    titles = pd.Series({run_id: run_id for run_id in many["run_id"].unique()})
    heading = figures.contours(many, titles).get_suptitle()
    assert heading.endswith("(first 12 of 13 runs)")
