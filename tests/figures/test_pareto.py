"""The figures of a search show the data that they are given."""

from __future__ import annotations

import numpy as np
import pandas as pd

from landscape_sweep import figures

TRIALS = pd.DataFrame(
    {
        "number": range(6),
        "state": ["COMPLETE"] * 4 + ["FAIL", "PRUNED"],
        "on_front": [True, False, True, False, False, False],
        "test/accuracy": [0.5, 0.4, 0.7, 0.6, np.nan, 0.2],
        "hessian/trace": [1.0, 2.0, 50.0, 80.0, np.nan, np.nan],
        "gap/loss": [0.3, 0.1, -0.2, 0.4, np.nan, np.nan],
    }
)
TWO = {"test/accuracy": "maximize", "hessian/trace": "minimize"}


def test_the_front_is_drawn_over_all_completed_trials() -> None:
    figure = figures.pareto_front(TRIALS, TWO)
    (axes,) = figure.axes
    rest, best = axes.collections
    np.testing.assert_allclose(rest.get_offsets(), [[40, 2], [60, 80]])  # accuracy in percent
    np.testing.assert_allclose(best.get_offsets(), [[50, 1], [70, 50]])
    (line,) = axes.lines
    # Of what is above 50% accurate, the least trace is the 50 of the next point: a step before it.
    assert line.get_drawstyle() == "steps-pre"
    assert [text.get_text() for text in axes.texts] == ["0", "2"]
    assert axes.get_xlabel() == "test accuracy (%)\nhigher is better"
    assert axes.get_ylabel() == "Hessian trace (loss / squared parameter)\nlower is better"
    assert axes.get_yscale() == "log"
    heading = "Pareto front over n = 4 trials\n(1 pruned, 1 failed or diverged)"
    assert figure.get_suptitle() == heading


def test_points_that_crowd_on_the_front_share_a_text() -> None:
    crowd = pd.DataFrame(
        {
            "number": [4, 7, 8, 9],
            "state": "COMPLETE",
            "on_front": True,
            "test/accuracy": [0.1, 0.5, 0.501, 0.502],
            "hessian/trace": [1.0, 1.5, 1.501, 1.502],
        }
    )
    (axes,) = figures.pareto_front(crowd, TWO).axes
    assert [text.get_text() for text in axes.texts] == ["4", "7, 8, 9"]


def test_three_objectives_are_three_panels_without_a_line() -> None:
    figure = figures.pareto_front(TRIALS, {**TWO, "gap/loss": "minimize"})
    assert len(figure.axes) == 3
    assert not any(axes.lines for axes in figure.axes)
    best = figure.axes[2].collections[1]
    np.testing.assert_allclose(best.get_offsets(), [[1, 0.3], [50, -0.2]])


def test_the_history_is_every_trial_and_the_best_so_far() -> None:
    (axes,) = figures.search_history(TRIALS, {"test/accuracy": "maximize"}).axes
    every, pruned = axes.collections
    np.testing.assert_allclose(every.get_offsets(), [[0, 50], [1, 40], [2, 70], [3, 60]])
    np.testing.assert_allclose(pruned.get_offsets(), [[5, 20]])
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [50, 50, 70, 70])
    (axes,) = figures.search_history(TRIALS, {"gap/loss": "minimize"}).axes
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [0.3, 0.1, -0.2, -0.2])
