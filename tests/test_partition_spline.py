"""Filters of the finite-volume Laplacian and splines on cells: spectral against linear systems, limits, cross-validation."""

import numpy as np
import pytest
from test_partition import network, voronoi

import eqdyn as eq


def cells(seed=0, num=60, **options):
    return voronoi(np.random.default_rng(seed).uniform(0, 1, (num, 2)), **options)[0]


@pytest.mark.parametrize("kind", ["heat", "tikhonov", "spline"])
def test_filters(kind):
    """t = 0 changes nothing, t to infinity leaves the mean, constants stay; heat for twice the time is heat twice; no value is new."""
    found = cells()
    f = np.random.default_rng(1).standard_normal((60, 3))
    np.testing.assert_allclose(eq.partition.smooth(found, f, 0, kind=kind), f, atol=1e-12)
    mean = found.volumes @ f / found.volumes.sum()
    np.testing.assert_allclose(eq.partition.smooth(found, f, 1e12, kind=kind), np.tile(mean, (60, 1)), atol=1e-6)
    np.testing.assert_allclose(eq.partition.smooth(found, np.ones(60), 0.1, kind=kind), 1, atol=1e-10)
    smoothed = eq.partition.smooth(found, f, 0.01, kind=kind)
    np.testing.assert_allclose(found.volumes @ smoothed, mean, atol=1e-12)
    laplacian, mass = found.laplacian().toarray(), np.diag(found.volumes)
    if kind == "heat":
        np.testing.assert_allclose(eq.partition.smooth(found, smoothed, 0.01, kind=kind), eq.partition.smooth(found, f, 0.02, kind=kind), atol=1e-10)
        assert smoothed.max() <= f.max() + 1e-12  # the maximum principle
    if kind == "tikhonov":
        np.testing.assert_allclose(smoothed, np.linalg.solve(np.eye(60) + 0.01 * laplacian, f), atol=1e-9)
    if kind == "spline":
        a = found.stiffness().toarray()
        np.testing.assert_allclose(smoothed, np.linalg.solve(mass + 0.01 * a @ np.linalg.inv(mass) @ a, mass @ f), atol=1e-8)


def test_components_keep_their_own_means():
    """Cells of two separate clusters of data."""
    rng = np.random.default_rng(0)
    z = np.concatenate([0.1 * rng.random((40, 2)), 0.9 + 0.1 * rng.random((40, 2))])
    whole = voronoi(rng.uniform(0, 1, (300, 2)), points=z, cells="data")[0]
    from scipy.sparse.csgraph import connected_components

    num, part = connected_components(whole.stiffness())
    assert num >= 2
    f = rng.standard_normal(len(whole.codes))
    smoothed = eq.partition.smooth(whole, f, 1e9)
    for k in range(num):
        rows = part == k
        np.testing.assert_allclose(smoothed[rows], np.average(f[rows], weights=whole.volumes[rows]), atol=1e-6)


def regression(seed=0, num=300, noise=0.1, truth=lambda z: np.sin(4 * z[:, 0]) * np.cos(3 * z[:, 1])):
    rng = np.random.default_rng(seed)
    layers = network(rng, 2, [10, 8], out=1)
    z = rng.uniform(-1, 1, (num, 2))
    found = eq.partition.build(layers, points=z)
    return found, z, found.network.outputs(z)[:, 0] + truth(z) + noise * rng.standard_normal(num)


@pytest.mark.parametrize("t", [1e-6, 1e-3, 10.0])
def test_the_spline_is_the_minimiser(t):
    """By the linear system over cells, and its freedom and score by the smoothing matrix over points."""
    found, z, y = regression()
    fitted = eq.partition.spline(found, z, y, t=t)
    hit = np.eye(len(found.codes))[found.cell_of]
    a = found.stiffness().toarray()
    system = hit.T @ hit + t * a @ np.diag(1 / found.volumes) @ a
    left = y - found.network.outputs(z)[:, 0]
    np.testing.assert_allclose(fitted.values[:, 0], np.linalg.solve(system, hit.T @ left), atol=1e-6)
    matrix = hit @ np.linalg.solve(system, hit.T)
    np.testing.assert_allclose(fitted.freedom, np.trace(matrix), rtol=1e-6)
    rss = ((left - matrix @ left) ** 2).sum()
    np.testing.assert_allclose(fitted.score, len(y) * rss / (len(y) - np.trace(matrix)) ** 2, rtol=1e-6)
    np.testing.assert_allclose(fitted(z)[:, 0], found.network.outputs(z)[:, 0] + matrix @ left, atol=1e-6)


def test_the_limits_of_the_spline():
    found, z, y = regression()
    left = y - found.network.outputs(z)[:, 0]
    stiff = eq.partition.spline(found, z, y, t=1e12)
    np.testing.assert_allclose(stiff.values, left.mean(), atol=1e-4)
    np.testing.assert_allclose(stiff.freedom, 1, atol=1e-4)
    loose = eq.partition.spline(found, z, y, t=0)
    counts = np.bincount(found.cell_of, minlength=len(found.codes))
    means = np.bincount(found.cell_of, left, len(found.codes)) / np.maximum(counts, 1)
    np.testing.assert_allclose(loose.values[counts > 0, 0], means[counts > 0], atol=1e-8)
    np.testing.assert_allclose(loose.freedom, np.sum(counts > 0), atol=1e-8)


def test_cross_validation_finds_what_predicts():
    """Against the true function: within a fifth of the best weight's error, well below the network's; noise alone is smoothed away."""
    ratios, gains = [], []
    for seed in range(5):
        found, z, y = regression(seed)
        at = np.random.default_rng(100 + seed).uniform(-1, 1, (2000, 2))
        truth = found.network.outputs(at)[:, 0] + np.sin(4 * at[:, 0]) * np.cos(3 * at[:, 1])
        chosen = eq.partition.spline(found, z, y)
        error = {float(t): np.mean((eq.partition.spline(found, z, y, t=float(t))(at)[:, 0] - truth) ** 2) for t in chosen.curve[0, ::12]}
        ratios.append(np.mean((chosen(at)[:, 0] - truth) ** 2) / min(error.values()))
        gains.append(np.mean((chosen(at)[:, 0] - truth) ** 2) / np.mean((found.network.outputs(at)[:, 0] - truth) ** 2))
    assert np.median(ratios) < 1.2, ratios
    assert np.max(gains) < 0.8, gains
    found, z, y = regression(truth=lambda z: 0 * z[:, 0])
    assert eq.partition.spline(found, z, y).freedom < 10


def test_points_beyond_what_is_listed_have_no_value():
    rng = np.random.default_rng(0)
    layers = network(rng, 2, [8, 6])
    z = 0.2 * rng.standard_normal((50, 2))
    found = eq.partition.build(layers, points=z, cells="data")
    fitted = eq.partition.spline(found, z, np.zeros((50, 2)))
    corners = np.array([[0.99, 0.99], [-0.99, 0.99], [0.99, -0.99]])
    np.testing.assert_array_equal(np.isnan(fitted(corners)).any(1), found.locate(corners) < 0)
    assert np.all(np.isfinite(fitted(z)))


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda f, z: eq.partition.smooth(f, np.ones(3), 1.0), "values: got shape"),
        (lambda f, z: eq.partition.smooth(f, np.ones(len(f.codes)), -1.0), "t: got -1.0"),
        (lambda f, z: eq.partition.smooth(f, np.ones(len(f.codes)), 1.0, kind="cubic"), "kind: got 'cubic'"),
        (lambda f, z: eq.partition.spline(f, z, np.ones(3)), "y: got shape"),
        (lambda f, z: eq.partition.spline(f, z, np.full(len(z), np.nan)), "not finite"),
        (lambda f, z: eq.partition.spline(f, z, np.ones(len(z)), t=np.inf), "t: got inf"),
        (lambda f, z: eq.partition.spline(f, np.zeros((3, 5)), np.ones(3)), "points: got shape"),
        (lambda f, z: eq.partition.smooth(None, np.ones(3), 1.0), "got NoneType"),
    ],
)
def test_bad_input(ask, message):
    found, z, _ = regression(num=20)
    with pytest.raises((ValueError, TypeError), match=message):
        ask(found, z)
