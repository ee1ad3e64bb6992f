"""Planes and profiles are drawn as measured: orientation, holes, labels, marks, scales."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from landscape_sweep import figures

TITLES = pd.Series({"r": "a run"})


def plane(loss: object, **columns: object) -> pd.DataFrame:
    alpha, beta = np.meshgrid([-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], indexing="ij")
    table = pd.DataFrame({"run_id": "r", "alpha": alpha.ravel(), "beta": beta.ravel()})
    return table.assign(loss=loss, **columns)


def test_a_wide_range_is_logarithmic_and_a_narrow_one_is_not() -> None:
    wide = figures.contours(plane(10.0 ** np.arange(9)), TITLES)
    assert "logarithmic" in str(wide.get_suptitle())
    top = max(c.get_clim()[1] for c in wide.axes[0].collections if c.get_array() is not None)
    assert top == pytest.approx(8, abs=1)  # log10 of the largest loss
    narrow = figures.contours(plane(np.linspace(1, 2, 9)), TITLES)
    assert "linear" in str(narrow.get_suptitle())
    labels = [float(t.get_text()) for t in narrow.axes[0].texts]
    assert labels
    assert all(1 <= v <= 2 for v in labels)


def test_axes_carry_the_names_of_their_directions() -> None:
    table = plane(
        np.linspace(1, 2, 9), alpha_label="eigenvector 1 (λ = 3)", beta_label="eigenvector 2"
    )
    for draw in (figures.contours, figures.surfaces_3d):
        axes = draw(table, TITLES).axes[0]
        assert axes.get_xlabel().replace("\n", " ") == "distance along eigenvector 1 (λ = 3)"
        assert axes.get_ylabel().replace("\n", " ") == "distance along eigenvector 2"


def test_a_path_is_joined_and_networks_are_named() -> None:
    table = plane(np.linspace(1, 2, 9))
    marks = pd.DataFrame(
        {"run_id": "r", "name": ["epoch 0", "epoch 1"], "alpha": [0.5, 0.0], "beta": [1.0, 0.0]}
    )
    axes = figures.contours(table, TITLES, marks).axes[0]
    path = axes.lines[0]
    assert path.get_linestyle() == "-"
    np.testing.assert_array_equal(path.get_xdata(), marks["alpha"])
    np.testing.assert_array_equal(path.get_ydata(), marks["beta"])
    assert [t.get_text() for t in axes.texts if "epoch" in t.get_text()] == ["epoch 0"]
    networks = marks.assign(name=["network 1", "network 2"])
    axes = figures.contours(table, TITLES, networks).axes[0]
    assert axes.lines[0].get_linestyle() == "None"
    named = [t.get_text() for t in axes.texts if "network" in t.get_text()]
    assert named == ["network 1", "network 2"]
    elsewhere = figures.contours(table, TITLES, marks.assign(run_id="another")).axes[0]
    assert len(elsewhere.lines) == 1  # the cross alone


def test_the_cross_is_at_the_network_and_holes_stay_empty() -> None:
    loss = np.linspace(1, 2, 9)
    loss[0], loss[8] = np.nan, np.inf
    figure = figures.surfaces_3d(plane(loss), TITLES)
    point = figure.axes[0].lines[0]
    assert [float(v[0]) for v in point.get_data_3d()] == [0, 0, loss[4]]  # type: ignore[attr-defined]

    def covered(figure: Figure, x: float, y: float) -> bool:
        paths = figure.axes[0].collections[0].get_paths()
        return any(path.contains_point((x, y)) for path in paths)

    whole, holed = (figures.contours(plane(v), TITLES) for v in (np.linspace(1, 2, 9), loss))
    for corner in ((-0.95, -1.9), (0.95, 1.9)):
        assert covered(whole, *corner)
        assert not covered(holed, *corner)
    assert covered(holed, 0.1, -0.4)
    cross = holed.axes[0].lines[-1]
    assert (cross.get_xdata()[0], cross.get_ydata()[0]) == (0, 0)


def test_profiles_show_loss_and_parabola_and_both_curvatures() -> None:
    t = np.linspace(-1, 1, 5)
    points = pd.DataFrame(
        {"direction": "random_1", "distance": t, "loss": 1 + t**2, "quadratic": 1 + 0.9 * t**2}
    )
    curvature = pd.DataFrame(
        {
            "direction": "random_1",
            "step": [1.0, 0.1],
            "second_difference": [2.0, 1.81],
            "product": 1.8,
            "chosen": [False, True],
        }
    )
    (axes,) = figures.profiles(points, curvature).axes
    parabola, loss = axes.lines[:2]
    np.testing.assert_array_equal(loss.get_ydata(), points["loss"])
    np.testing.assert_array_equal(parabola.get_ydata(), points["quadratic"])
    assert "vᵀHv = 1.8, profile 1.81 (0.56% apart)" in axes.get_title()
