"""Volumes by hit-and-run: against exact ones, with error bars that hold."""

import math

import numpy as np
import pytest
from test_partition import network

import eqdyn as eq


def orthant(dim):
    return [(np.eye(dim), np.zeros(dim)), (np.ones((1, dim)), np.zeros(1))]


@pytest.mark.parametrize("dim", [1, 2, 3, 5])
def test_volumes_of_cells_that_are_listed(dim):
    rng = np.random.default_rng(dim)
    layers = network(rng, dim, [2 * dim, dim])
    for z in 0.2 * rng.standard_normal((3, dim)):
        found = eq.partition.hit_and_run(layers, z)
        exact = eq.partition.build(layers, points=z[None], cells="data")
        assert abs(found.log_volume - np.log(exact.volumes[0])) < 4.5 * found.error + 1e-3
        assert found.error < 0.2
        balls = eq.partition.chebyshev(exact)
        np.testing.assert_allclose(found.radius, balls.radii[0], rtol=1e-6)
        assert np.all(exact.locate(found.points) == 0)


@pytest.mark.parametrize("dim", [7, pytest.param(12, marks=pytest.mark.slow)])
def test_closed_forms(dim):
    """A cube, and the corner of it that a diagonal cuts off: volume t^d / d!."""
    cube = eq.partition.hit_and_run(orthant(dim), np.full(dim, 0.5))
    assert abs(cube.log_volume) < 4.5 * cube.error
    np.testing.assert_allclose(cube.centre, 0.5, atol=0.1)
    w = np.concatenate([np.eye(dim), np.ones((1, dim))])
    corner = eq.partition.hit_and_run([(w, np.r_[np.zeros(dim), -1.0]), (np.ones((1, dim + 1)), np.zeros(1))], np.full(dim, 0.3 / dim))
    assert abs(corner.log_volume + math.lgamma(dim + 1)) < 4.5 * corner.error


def test_error_bars_are_those_of_many_seeds():
    layers = network(np.random.default_rng(0), 6, [10, 6])
    z = 0.1 * np.random.default_rng(1).standard_normal(6)
    exact = float(np.log(eq.partition.build(layers, points=z[None], cells="data").volumes[0]))
    found = [eq.partition.hit_and_run(layers, z, num_chains=80, seed=seed) for seed in range(16)]
    gaps = np.array([(one.log_volume - exact) / one.error for one in found])
    assert 0.6 < np.sqrt(np.mean(gaps**2)) < 1.7
    spread = np.std([one.log_volume for one in found])
    assert 0.6 < spread / np.mean([one.error for one in found]) < 1.6
    same = eq.partition.hit_and_run(layers, z, num_chains=80, seed=3)
    assert same.log_volume == found[3].log_volume


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_chains": 12}, "multiple of 8"),
        ({"point": np.full(2, 3.0)}, "outside the box"),
        ({"point": np.zeros(3)}, "points: got shape"),
        ({"box": (0.0, np.inf)}, "bounded box"),
        ({"activation": "tanh"}, "activation: got 'tanh'"),
    ],
)
def test_bad_input(change, message):
    with pytest.raises(ValueError, match=message):
        eq.partition.hit_and_run(**({"layers": orthant(2), "point": np.full(2, 0.5)} | change))
