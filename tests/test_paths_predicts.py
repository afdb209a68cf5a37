"""Regression over runs: closed forms, planted cases, error rates of the test."""

import numpy as np
import pytest

import eqdyn as eq


def test_against_plain_formulas():
    rng = np.random.default_rng(0)
    x, c = rng.standard_normal((2, 40))
    y = 0.7 * x - 0.2 * c + 0.5 * rng.standard_normal(40)
    found = eq.paths.predicts(x, y, {"c": c})
    slope, intercept = np.polyfit(x, y, 1)
    np.testing.assert_allclose((found.slope, found.intercept), (slope, intercept))
    np.testing.assert_allclose(found.r2, np.corrcoef(x, y)[0, 1] ** 2)
    rx, ry, rc = np.corrcoef(x, y)[0, 1], np.corrcoef(x, c)[0, 1], np.corrcoef(y, c)[0, 1]
    np.testing.assert_allclose(found.partial, (rx - ry * rc) / np.sqrt((1 - ry**2) * (1 - rc**2)))
    assert found.low < found.r2 < found.high
    assert found.partial_low < found.partial < found.partial_high
    again = eq.paths.predicts(x, y, {"c": c})
    assert again == found
    scaled = eq.paths.predicts(3 * x + 1, -2 * y, {"c": 5 * c - 1})
    np.testing.assert_allclose((scaled.r2, scaled.partial, scaled.p_value), (found.r2, -found.partial, found.p_value))


@pytest.mark.parametrize(
    ("make", "verdict"),
    [
        (lambda u, a, b: (u, u, 0 * u), "predicts by itself, not beyond c"),
        (lambda u, a, b: (u + a, u + a, 1), "predicts, also beyond c"),
        (lambda u, a, b: (a, b, 0 * u), "not shown to predict"),
    ],
    ids=["through the control", "beyond it", "not at all"],
)
def test_planted(make, verdict):
    rng = np.random.default_rng(1)
    u, a, b, e, f = rng.standard_normal((5, 80))
    x, y, _ = make(u, a, b)
    assert eq.paths.predicts(x + 0.3 * e, y + 0.3 * f, {"c": u}).verdict == verdict


def test_the_level_of_the_test_is_kept():
    """Of 120 pairs of unrelated numbers about one in twenty is called related; intervals of R^2 then hold small values."""
    rng = np.random.default_rng(2)
    found = [eq.paths.predicts(*rng.standard_normal((2, 30)), {"c": rng.standard_normal(30)}, num_draws=100) for _ in range(120)]
    assert 0 < np.mean([one.p_value <= 0.05 for one in found]) < 0.12
    assert np.median([one.r2 for one in found]) < 0.03


def test_nothing_left_is_no_correlation():
    x = np.arange(10.0)
    found = eq.paths.predicts(x, 2 * x, {"x": x})
    assert found.r2 == 1
    assert np.isnan(found.partial)
    assert np.isnan(found.p_value)
    assert found.verdict == "predicts by itself, not beyond x"


@pytest.mark.parametrize(
    ("values", "target", "controls", "message"),
    [
        ([1.0, 2.0], [1.0, 2.0], None, "got 2 runs"),
        (np.arange(5.0), np.arange(4.0), None, "target: got shape"),
        (np.arange(5.0), [1, 2, np.nan, 3, 4], None, "target: got shape"),
        (np.arange(5.0), np.arange(5.0), {"a": np.arange(5.0), "b": np.arange(5.0)}, "with 2 controls"),
    ],
)
def test_bad_input(values, target, controls, message):
    with pytest.raises(ValueError, match=message):
        eq.paths.predicts(values, target, controls)


def test_a_number_that_does_not_vary_predicts_nothing():
    y = np.random.default_rng(0).standard_normal(20)
    found = eq.paths.predicts(np.ones(20), y, {"c": y**2}, num_draws=100)
    assert np.isnan([found.r2, found.slope, found.partial, found.low, found.p_value]).all()
    assert found.verdict == "not shown to predict"
