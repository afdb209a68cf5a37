"""Angles, in-balls, mean curvature and pulled-back forms of cells."""

import itertools
import math

import numpy as np
import pytest
from test_partition import network, voronoi

import eqdyn as eq


def grid(num, dim=2):
    """num^dim cubes of side 1 / num in the unit cube."""
    cuts = np.linspace(0, 1, num + 1)[1:-1]
    w = np.repeat(np.eye(dim), num - 1, axis=0)
    return eq.partition.build([(w, -np.tile(cuts, dim)), (np.ones((1, len(w))), np.zeros(1))], (0.0, 1.0))


@pytest.mark.parametrize(("dim", "per_cell"), [(2, 4), (3, 12), (4, 24)])
def test_cubes(dim, per_cell):
    """All angles right; mean curvature of a cube of side a: 3 pi / a^2, of a square pi / a^2; largest ball a / 2."""
    found = grid(2, dim)
    ridges = eq.partition.ridges(found)
    assert len(ridges.cells) == per_cell * 2**dim
    np.testing.assert_allclose(ridges.angles, np.pi / 2)
    np.testing.assert_allclose(ridges.sizes, 0.5 ** (dim - 2))
    np.testing.assert_allclose(eq.partition.mean_curvature(found), per_cell * np.pi / 4 / 0.25)
    balls = eq.partition.chebyshev(found)
    np.testing.assert_allclose(balls.radii, 0.25)
    np.testing.assert_allclose(balls.centres, found.centres, atol=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_polygons(seed):
    """Angles of a v-gon sum to (v - 2) pi, those around an inner corner to 2 pi; the curvature of a polygon is pi / area."""
    rng = np.random.default_rng(seed)
    found = eq.partition.build(network(rng, 2, [5, 4]), activation=["relu", "abs"][seed % 2])
    ridges = eq.partition.ridges(found)
    corners = np.array([len(cell.vertices) for cell in found.cells])
    np.testing.assert_allclose(np.bincount(ridges.cells, ridges.angles), (corners - 2) * np.pi, rtol=1e-9)
    np.testing.assert_allclose(eq.partition.mean_curvature(found), np.pi / found.volumes, rtol=1e-9)
    at = np.concatenate([cell.vertices for cell in found.cells])
    angle = np.concatenate([angles_at_corners(found, ridges, k) for k in range(len(found.codes))])
    for place in at[(np.abs(at) < 1 - 1e-6).all(1)]:
        assert abs(angle[np.linalg.norm(at - place, axis=1) < 1e-9].sum() - 2 * np.pi) < 1e-6


def angles_at_corners(found, ridges, k):
    """In the order of the cell's vertices."""
    cell = found.cells[k]
    angles = np.empty(len(cell.vertices))
    for one, other, angle in zip(*(field[ridges.cells == k] for field in (ridges.first, ridges.second, ridges.angles)), strict=True):
        angles[np.nonzero(cell.on[:, one] & cell.on[:, other])[0][0]] = angle
    return angles


def test_a_simplex_in_three_dimensions():
    """Of the corner tetrahedron x + y + z < 1: three right angles and three of arccos(1 / sqrt 3)."""
    found = eq.partition.build([(np.ones((1, 3)), -np.ones(1)), (np.ones((1, 1)), np.zeros(1))], (0.0, 1.0))
    k = int(np.argmin(found.volumes))
    np.testing.assert_allclose(found.volumes[k], 1 / 6)
    ridges = eq.partition.ridges(found)
    angles = np.sort(ridges.angles[ridges.cells == k])
    np.testing.assert_allclose(angles, [math.acos(1 / math.sqrt(3))] * 3 + [math.pi / 2] * 3)
    np.testing.assert_allclose(np.sort(ridges.sizes[ridges.cells == k]), [1, 1, 1] + [math.sqrt(2)] * 3)
    np.testing.assert_allclose(eq.partition.chebyshev(found).radii[k], 1 / (3 + math.sqrt(3)))


def test_three_dimensional_angles_by_faces_of_the_hull():
    """Total mean curvature of Voronoi cells, from the triangles that Qhull makes of the same corners."""
    from scipy.spatial import ConvexHull

    found, _ = voronoi(np.random.default_rng(0).uniform(0, 1, (20, 3)))
    ours = eq.partition.mean_curvature(found) * found.volumes
    for k, cell in enumerate(found.cells):
        hull = ConvexHull(cell.vertices)
        total = 0.0
        for one, simplex in enumerate(hull.simplices):
            for other in hull.neighbors[one][hull.neighbors[one] > one]:
                edge = np.intersect1d(simplex, hull.simplices[other])
                turn = np.arccos(np.clip(hull.equations[one, :3] @ hull.equations[other, :3], -1, 1))
                total += 0.5 * turn * np.linalg.norm(np.subtract(*cell.vertices[edge]))
        np.testing.assert_allclose(ours[k], total, rtol=1e-6)


def test_balls_lie_in_their_cells_and_cannot_grow():
    rng = np.random.default_rng(2)
    found = eq.partition.build(network(rng, 3, [6, 4]))
    balls = eq.partition.chebyshev(found)
    for cell, centre, radius in zip(found.cells, balls.centres, balls.radii, strict=True):
        heights = np.array([cell.vertices[on] @ normal for on, normal in zip(cell.on.T, cell.normals, strict=True)], object)
        slack = np.array([height.mean() for height in heights]) - cell.normals @ centre
        assert slack.min() >= radius - 1e-9
        touched = cell.normals[slack < radius + 1e-7]
        # no direction leads away from all that is touched: 0 is in their hull
        from scipy.optimize import nnls

        _, residual = nnls(np.concatenate([touched.T, np.ones((1, len(touched)))]), np.r_[np.zeros(3), 1.0])
        assert residual < 1e-5


# --- pullback --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["relu", "abs", ("leaky_relu", 0.2), ("max_pool", 2)])
def test_the_pullback_is_the_derivative(activation):
    """By finite differences, layer by layer, and the chain rule."""
    rng = np.random.default_rng(0)
    pools = 2 if isinstance(activation, tuple) and activation[0] == "max_pool" else 1
    layers = [(rng.standard_normal((b, a)), rng.standard_normal(b)) for a, b in [(3, 6), (6 // pools, 4), (4 // pools, 2)]]
    z = rng.standard_normal(3)
    found = eq.partition.pullback(layers, z, activation)
    for depth in range(1, len(layers) + 1):
        kinds = [activation] * (depth - 1)
        net = eq.partition._network.network_of(layers[:depth], kinds)
        moved = np.array([net.outputs(np.stack([z + 1e-6 * e, z - 1e-6 * e])) for e in np.eye(3)])
        np.testing.assert_allclose(found[depth - 1].jacobian, (moved[:, 0] - moved[:, 1]).T / 2e-6, atol=1e-7)


def test_closed_forms_of_the_pullback():
    rng = np.random.default_rng(1)
    turn = np.linalg.qr(rng.standard_normal((4, 4)))[0]
    w = rng.standard_normal((6, 4))
    (first, last) = eq.partition.pullback([(turn, np.full(4, 50.0)), (w, np.zeros(6))], np.zeros(4))
    np.testing.assert_allclose(first.metric, np.eye(4), atol=1e-14)
    assert (first.rank, last.rank) == (4, 4)
    np.testing.assert_allclose(first.volume, 1)
    np.testing.assert_allclose(last.jacobian, w @ turn, atol=1e-13)  # chain rule: all units are on
    np.testing.assert_allclose(last.volume, np.sqrt(np.linalg.det(last.metric)))
    np.testing.assert_allclose((last.form(4) ** 2).sum(), np.linalg.det(last.metric))  # Cauchy-Binet
    np.testing.assert_allclose(first.form(4), np.linalg.det(turn))
    np.testing.assert_allclose(last.form(1), last.jacobian)
    v = rng.standard_normal((3, 6))
    np.testing.assert_allclose(last.covector(v), v @ last.jacobian)
    np.testing.assert_allclose(np.linalg.norm(last.normal(v), axis=1), 1)
    two = last.form(2)
    rows, columns = list(itertools.combinations(range(6), 2)), list(itertools.combinations(range(4), 2))
    minor = np.linalg.det(last.jacobian[np.ix_(rows[7], columns[2])])
    np.testing.assert_allclose(two[7, 2], minor)
    for k in (0, 5):
        with pytest.raises(ValueError, match="expected 1 to 4"):
            last.form(k)


def test_rank_is_recorded_where_units_are_off():
    layers = [(np.eye(3), np.array([1.0, -9.0, -9.0])), (np.eye(3), np.zeros(3)), (np.full((1, 3), 2.0), np.zeros(1))]
    first, second, last = eq.partition.pullback(layers, np.zeros(3))
    assert [found.rank for found in (first, second, last)] == [3, 1, 1]
    assert [found.volume for found in (first, second, last)] == [1.0, 1.0, 2.0]
    assert np.isnan(second.normal([0.0, 1.0, 0.0])).all()
    dead = eq.partition.pullback([(np.eye(2), np.full(2, -5.0)), (np.eye(2), np.zeros(2))], np.zeros(2))[-1]
    assert (dead.rank, dead.volume) == (0, 1.0)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda found: eq.partition.ridges(eq.partition.build([(np.eye(1), np.zeros(1)), (np.eye(1), np.zeros(1))])), "one of a line"),
        (lambda found: eq.partition.ridges(3), "got int"),
        (lambda found: found.laplacian(np.zeros((3, 2))), "centres: got shape"),
        (lambda found: found.laplacian(density=-np.ones(4)), "density: got shape"),
        (lambda found: eq.partition.pullback([(np.eye(2), np.zeros(2)), (np.eye(2), np.zeros(2))], np.zeros(3)), "points: got shape"),
    ],
)
def test_bad_input(ask, message):
    with pytest.raises((ValueError, TypeError), match=message):
        ask(grid(2))
