"""Cells around points in any number of dimensions: against Jacobians, Qhull, cut polytopes and plain linear programs."""

import itertools

import numpy as np
import pytest
from test_partition import network

import eqdyn as eq
from eqdyn.partition._network import network_of

KINDS = ["relu", "abs", ("leaky_relu", 0.2), ("max_pool", 2), ["abs", ("max_pool", 3), "relu"]]


def pooled_network(rng, dim, kinds):
    sizes, layers = [(6, 3), (6, 3), (6, 3)], []
    width = dim
    for (n, _), kind in zip(sizes, kinds, strict=True):
        layers.append((rng.standard_normal((n, width)) / np.sqrt(width), 0.5 * rng.standard_normal(n)))
        width = n // kind[1] if isinstance(kind, tuple) and kind[0] == "max_pool" else n
    return [*layers, (rng.standard_normal((2, width)), rng.standard_normal(2))]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_without_a_jacobian_the_same_as_with_one(kind):
    rng = np.random.default_rng(0)
    kinds = kind if isinstance(kind, list) else [kind] * 3
    layers = pooled_network(rng, 5, kinds)
    net, z = network_of(layers, kinds), rng.standard_normal((40, 5))
    seen = eq.partition.local(layers, z, kinds)
    np.testing.assert_array_equal(seen.codes[seen.cell_of], net.codes(z))
    np.testing.assert_allclose(seen.masses, np.bincount(seen.cell_of) / 40)
    for k, point in enumerate(z):
        rows = net.rows(net.codes(point[None])[0])
        size = np.linalg.norm(rows.a, axis=1)
        np.testing.assert_array_equal(seen.units[k], rows.units)
        dead = size < 1e-12
        np.testing.assert_allclose(seen.distances[k][~dead], ((rows.a @ point + rows.c) / np.where(dead, 1, size))[~dead], atol=1e-9)
        assert np.all(np.isinf(seen.distances[k][dead]))
        assert seen.radii[k] == seen.distances[k].min()
        for row in range(len(size)):
            flipped = net.codes(point[None])[0]
            flipped[rows.flips[row]] = ~flipped[rows.flips[row]]
            jump = np.linalg.norm(net.rows(flipped).jacobian - rows.jacobian, 2)
            # bits behind the flipped unit stay as they are on both sides of a facet
            np.testing.assert_allclose(seen.kinks[k, row], jump, atol=1e-9)


def test_kinks_at_points_are_those_of_the_facets():
    rng = np.random.default_rng(3)
    layers = network(rng, 2, [6, 5])
    z = rng.uniform(-1, 1, (100, 2))
    whole, seen = eq.partition.build(layers, points=z), eq.partition.local(layers, z)
    for k, cell in enumerate(whole.cell_of):
        for pair, unit, kink in zip(whole.edges, whole.units, whole.kinks, strict=True):
            if cell in pair:
                np.testing.assert_allclose(seen.kinks[k, unit], kink, atol=1e-10)


def test_one_hidden_layer_in_closed_form():
    rng = np.random.default_rng(1)
    (w, _), (v, _) = layers = network(rng, 30, [8])
    seen = eq.partition.local(layers, rng.standard_normal((5, 30)))
    np.testing.assert_allclose(seen.kinks, np.tile(np.linalg.norm(v, axis=0) * np.linalg.norm(w, axis=1), (5, 1)))


@pytest.mark.parametrize("dim", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("activation", ["relu", ("max_pool", 2)], ids=str)
def test_facets_by_programs_by_cutting_and_by_qhull(dim, activation):
    """Three routes to the facets of a cell."""
    from scipy.spatial import HalfspaceIntersection

    rng = np.random.default_rng(dim)
    pools = 2 if activation != "relu" else 1
    layers = [(rng.standard_normal((b, a)), 0.3 * rng.standard_normal(b)) for a, b in [(dim, 12), (12 // pools, 8), (8 // pools, 2)]]
    net = network_of(layers, activation)
    num_redundant = 0
    for z in rng.uniform(-1, 1, (6, dim)):
        ring = eq.partition.one_ring(layers, z, activation=activation)
        cut = eq.partition.build(layers, (-1.0, 1.0), z[None], activation, cells="data")
        code = net.codes(z[None])[0]
        rows = net.rows(code)
        np.testing.assert_array_equal(ring.code, code)
        own = cut.cells[0].facets[cut.cells[0].facets >= 0]
        assert {beyond.tobytes() for beyond in ring.neighbours} == {flipped(code, rows, k).tobytes() for k in own}
        # of rows that vanish on the cell there is no half-space
        live = np.nonzero(np.linalg.norm(rows.a, axis=1) > 1e-12)[0]
        walls = np.concatenate([np.c_[np.eye(dim), -np.ones(dim)], np.c_[-np.eye(dim), -np.ones(dim)]])
        spaces = np.concatenate([np.c_[-rows.a, -rows.c][live], walls])
        if dim > 1:
            hull = HalfspaceIntersection(spaces, z)
            assert {int(k) for k in hull.dual_vertices if k < len(live)} == {int(np.nonzero(live == k)[0][0]) for k in own}
        num_redundant += ring.num_rows - len(ring.units)
    assert num_redundant > 0


def flipped(code, rows, k):
    other = code.copy()
    other[rows.flips[k]] = ~code[rows.flips[k]]
    return other


def test_facets_in_forty_dimensions_by_plain_programs():
    """A program for each row, each beside all others: no rays, no projections."""
    from scipy.optimize import linprog

    rng = np.random.default_rng(5)
    layers = network(rng, 40, [24, 16])
    z = 0.1 * rng.standard_normal(40)
    net = network_of(layers, "relu")
    rows = net.rows(net.codes(z[None])[0])
    size = np.linalg.norm(rows.a, axis=1)
    ring = eq.partition.one_ring(layers, z)
    held = []
    for k in np.nonzero(size > 0)[0]:
        a, c = rows.a / np.where(size > 0, size, 1)[:, None], rows.c / np.where(size > 0, size, 1)
        right = c.copy()
        right[k] += 1
        found = linprog(a[k], A_ub=-a, b_ub=right, bounds=[(-1, 1)] * 40)
        if found.fun + c[k] < -1e-9:
            held.append(k)
            here, there = a[k] @ z + c[k], a[k] @ found.x + c[k]
            place = z + (here / (here - there) + 1e-6) * (found.x - z)  # where the way to the program's end leaves the cell
            np.testing.assert_array_equal(net.codes(place[None])[0], ring.neighbours[ring.units.tolist().index(k)])
    assert ring.units.tolist() == held
    assert 0 < len(held) <= ring.num_rows


def test_facets_within_a_ball():
    """A hyperplane in the corner of the box, outside the ball, is no facet there."""
    layers = [(np.array([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]]), np.array([-2.5, 0.0])), (np.ones((1, 2)), np.zeros(1))]
    at = np.array([0.2, 0.1, 0.1])
    assert eq.partition.one_ring(layers, at).units.tolist() == [0, 1]
    assert eq.partition.one_ring(layers, at, ("ball", 0.0, 1.0)).units.tolist() == [1]


def test_rows_that_are_there_twice_are_one_facet():
    w = np.array([[1.0, 0.0], [2.0, 0.0], [0.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    layers = [(w, np.array([0.0, 0.0, -1.0, 5.0, 2.5])), (np.ones((1, 5)), np.zeros(1))]
    ring = eq.partition.one_ring(layers, [0.5, 0.5])
    assert ring.units.tolist() == [0]
    assert ring.num_rows == 5


def test_crossed_hyperplanes_by_counting():
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2, (50, 12)).astype(bool)
    rows, crossed = eq.partition.nearest_by_crossed(bits, 7)
    away = (bits[:, None] != bits).sum(2)
    for k in range(50):
        order = sorted((away[k, j], j) for j in range(50) if j != k)[:7]
        assert list(zip(crossed[k], rows[k], strict=True)) == order


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda layers: eq.partition.one_ring(layers, np.full(3, 2.0)), "outside the box"),
        (lambda layers: eq.partition.one_ring(layers, np.zeros(2)), "points: got shape"),
        (lambda layers: eq.partition.local(layers, np.full((2, 3), np.nan)), "not finite"),
        (lambda layers: eq.partition.one_ring([(np.ones((1, 9)), np.zeros(1))], np.zeros(9), ("ball", 0.0, 1.0)), "ball in 9 dimensions"),
        (lambda layers: eq.partition.local(layers, np.zeros((2, 3)), "gelu"), "activation: got 'gelu'"),
        (lambda layers: eq.partition.nearest_by_crossed(np.zeros((3, 2))), "expected .n, m. bool"),
        (lambda layers: eq.partition.nearest_by_crossed(np.zeros((3, 2), bool), 3), "k: got 3"),
    ],
)
def test_bad_input(ask, message):
    with pytest.raises(ValueError, match=message):
        ask(network(np.random.default_rng(0), 3, [4]))


def test_all_pairs_of_kinds_have_rows():
    """Every pair of layer kinds in one network: distances bound the next flip of a code."""
    rng = np.random.default_rng(7)
    for kinds in itertools.product(["relu", ("max_pool", 2), "abs"], repeat=3):
        layers = pooled_network(rng, 4, kinds)
        z = rng.standard_normal((20, 4))
        seen = eq.partition.local(layers, z, list(kinds))
        net = network_of(layers, list(kinds))
        way = rng.standard_normal((20, 4))
        way /= np.linalg.norm(way, axis=1)[:, None]
        np.testing.assert_array_equal(net.codes(z + 0.999 * seen.radii[:, None] * way), net.codes(z))


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_every_point_is_in_its_own_half_spaces(kind):
    rng = np.random.default_rng(2)
    kinds = kind if isinstance(kind, list) else [kind] * 3
    layers = pooled_network(rng, 5, kinds)
    net = network_of(layers, kinds)
    z = rng.standard_normal((30, 5))
    for point in z:
        cell = eq.partition.halfspaces(layers, point, kinds)
        assert np.all(cell.a @ point + cell.c >= 0)
        np.testing.assert_allclose(cell.jacobian @ point + cell.offset, net.outputs(point[None])[0], atol=1e-12)
        others = z[~(net.codes(z) == net.codes(point[None])).all(1)]
        assert np.all((others @ cell.a.T + cell.c < 0).any(1))


def test_rows_that_nearly_cancel():
    """`relu(z) - relu(z (1 + t))` behind a layer: norms of 1e-9 of their terms, and of 0, are what they are."""
    for t in (1e-9, 0.0):
        layers = [
            (np.array([[1.0], [1.0 + t]]), np.array([1.0, 1.0])),
            (np.array([[1.0, -1.0], [1.0, 1.0]]), np.array([0.3, 0.1])),
            (np.ones((1, 2)), np.zeros(1)),
        ]
        seen = eq.partition.local(layers, [[0.5]])
        slope = (1.0 + t) - 1.0
        np.testing.assert_allclose(seen.distances[0, 2], (0.3 - slope * 0.5) / slope if t else np.inf, rtol=1e-6)
        np.testing.assert_allclose(seen.kinks[0, 2], slope, atol=1e-15)
