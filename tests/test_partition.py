"""Partitions of a box by piecewise linear networks: exact identities, and independent routes."""

import itertools
import math

import numpy as np
import pytest

import eqdyn as eq
from eqdyn.partition._network import network_of
from eqdyn.partition._polytope import area


def network(rng, dim, widths, out=2):
    sizes = [dim, *widths, out]
    return [(rng.standard_normal((b, a)) / np.sqrt(a), 0.3 * rng.standard_normal(b)) for a, b in itertools.pairwise(sizes)]


def drawn(seed):
    rng = np.random.default_rng(seed)
    dim = int(rng.integers(1, 7))
    most = {1: 12, 2: 10, 3: 7, 4: 5, 5: 4, 6: 3}[dim]
    widths = rng.integers(1, most + 1, int(rng.integers(1, 4)))
    activation = ["relu", "abs", ("leaky_relu", 0.1)][seed % 3]
    low = -rng.uniform(0.5, 2, dim)
    return network(rng, dim, widths), (low, low + rng.uniform(1, 3, dim)), activation


@pytest.mark.parametrize("first", range(0, 200, 20))
def test_identities(first):
    """Twenty random networks: volumes, Minkowski's sum, the cone formula, jumps of rank 1, faces seen from both sides."""
    for seed in range(first, first + 20):
        layers, box, activation = drawn(seed)
        found = eq.partition.build(layers, box, activation=activation)
        dim = layers[0][0].shape[1]
        whole = np.prod(box[1] - box[0])
        np.testing.assert_allclose(found.volumes.sum(), whole, rtol=1e-9)
        scale = whole ** ((dim - 1) / dim)
        closed, cone = np.zeros((len(found.codes), dim)), np.zeros(len(found.codes))
        i, j = found.edges.T
        parts = [(i, found.facet_areas, found.normals), (j, found.facet_areas, -found.normals), found.walls]
        for cells, areas, normals in parts:
            np.add.at(closed, cells, areas[:, None] * normals)
        net = network_of(layers, activation)
        for (cells, areas, normals), at in zip(
            parts, (facet_points(found, net, 0), facet_points(found, net, 1), wall_points(found, box)), strict=True
        ):
            np.add.at(cone, cells, areas * np.einsum("ed,ed->e", normals, at) / dim)
        np.testing.assert_allclose(closed, 0, atol=1e-9 * scale)
        np.testing.assert_allclose(cone, found.volumes, rtol=1e-7, atol=1e-9 * whole)
        assert np.all(found.volumes > 0)
        assert len({code.tobytes() for code in found.codes}) == len(found.codes)
        jumps = found.jacobians[j] - found.jacobians[i]
        for jump, kink in zip(jumps, found.kinks, strict=True):
            values = np.linalg.svd(jump, compute_uv=False)
            assert len(values) < 2 or values[1] <= 1e-10 * max(values[0], 1e-3)
            np.testing.assert_allclose(values[0], kink, atol=1e-10)
        if activation == "relu":
            assert np.all((found.codes[i] != found.codes[j]).sum(1) == 1)
        every_facet_is_seen_from_both_sides(found, net)


def facet_points(found, net, side):
    """A point of every facet's hyperplane, by the affine map of the cell on one side."""
    at = np.empty_like(found.normals)
    for k, (pair, unit) in enumerate(zip(found.edges, found.units, strict=True)):
        a, b, _, _ = net.rows(found.codes[pair[side]])
        at[k] = -b[unit] * a[unit] / (a[unit] @ a[unit])
    return at


def wall_points(found, box):
    return np.where(found.walls.normals > 0, box[1], box[0]) * np.abs(found.walls.normals)


def every_facet_is_seen_from_both_sides(found, net):
    """Its area from the second cell's own corners."""
    for pair, unit, size, normal in zip(found.edges, found.units, found.facet_areas, found.normals, strict=True):
        a, b, _, _ = net.rows(found.codes[pair[1]])
        corners = found.vertices[pair[1]]
        near = np.abs(corners @ a[unit] + b[unit]) <= 1e-9 * max(1, np.abs(b[unit]))
        np.testing.assert_allclose(area(corners[near], normal), size, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize(("dim", "units"), [(1, 7), (2, 8), (3, 7), (4, 6)])
def test_hyperplanes_in_general_position(dim, units):
    """One hidden layer in a box that holds all its vertices: sum_k C(m, k) cells."""
    rng = np.random.default_rng(dim)
    layers = network(rng, dim, [units])
    found = eq.partition.build(layers, (-1e4, 1e4))
    assert len(found.codes) == sum(math.comb(units, k) for k in range(dim + 1))


@pytest.mark.parametrize("seed", range(4))
def test_all_codes_that_have_an_inside(seed):
    """By a linear program for each of the 2^m codes: the largest ball in it."""
    from scipy.optimize import linprog

    rng = np.random.default_rng(seed)
    dim = 2 + seed % 2
    layers = network(rng, dim, [4, 3])
    net, found = network_of(layers, "relu"), eq.partition.build(layers, (-2.0, 2.0))
    held = {code.tobytes() for code in found.codes}
    walls = np.concatenate([np.eye(dim), -np.eye(dim)])
    for bits in itertools.product([False, True], repeat=7):
        code = np.array(bits)
        a, b, _, _ = net.rows(code)
        sign = np.where(code, -1.0, 1.0)
        rows = np.concatenate([sign[:, None] * a, walls])
        right = np.concatenate([-sign * b, np.full(2 * dim, 2.0)])
        asked = np.c_[rows, np.linalg.norm(rows, axis=1)]
        ball = linprog(np.r_[np.zeros(dim), -1.0], A_ub=asked, b_ub=right, bounds=[(None, None)] * dim + [(0, None)])
        assert (ball.status == 0 and ball.x[-1] > 1e-9) == (code.tobytes() in held), bits


def test_volumes_and_masses_are_those_of_random_points():
    rng = np.random.default_rng(0)
    layers = network(rng, 3, [6, 5])
    z = rng.uniform(-1, 1, (200_000, 3))
    found = eq.partition.build(layers, points=z)
    share = found.volumes / found.volumes.sum()
    np.testing.assert_allclose(found.masses.sum(), 1)
    np.testing.assert_allclose(found.masses, share, atol=5 * np.sqrt(share.max() / len(z)))
    np.testing.assert_array_equal(found.codes[found.cell_of[:100]], network_of(layers, "relu").codes(z[:100]))
    values = np.einsum("nod,nd->no", found.jacobians[found.cell_of], z) + found.offsets[found.cell_of]
    np.testing.assert_allclose(values, network_of(layers, "relu").outputs(z), atol=1e-12)


@pytest.mark.parametrize("num", [3, 8])
def test_the_laplacian_of_a_grid(num):
    """n x n squares: eigenvalues (4 - 2 cos(pi a / n) - 2 cos(pi b / n)) / h^2."""
    cuts = np.linspace(0, 1, num + 1)[1:-1]
    w = np.concatenate([np.tile([[1.0, 0.0]], (num - 1, 1)), np.tile([[0.0, 1.0]], (num - 1, 1))])
    layers = [(w, -np.concatenate([cuts, cuts])), (np.ones((1, 2 * num - 2)), np.zeros(1))]
    found = eq.partition.build(layers, (0.0, 1.0))
    assert len(found.codes) == num**2
    assert len(found.edges) == 2 * num * (num - 1)
    laplacian = found.laplacian()
    np.testing.assert_allclose(laplacian @ np.ones(num**2), 0, atol=1e-9)
    a = 2 - 2 * np.cos(np.pi * np.arange(num) / num)
    np.testing.assert_allclose(np.sort(np.linalg.eigvals(laplacian.toarray()).real), np.sort((a[:, None] + a).ravel()) * num**2, atol=1e-8 * num**2)


def test_units_that_are_dead_constant_or_there_twice_cut_nothing():
    w = np.array([[1.0, 0.0], [2.0, 0.0], [0.0, 0.0], [0.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])
    b = np.array([0.0, 0.0, -1.0, 0.0, 0.0, 5.0])
    found = eq.partition.build([(w, b), (np.ones((1, 6)), np.zeros(1))])
    assert len(found.codes) == 2
    assert len(found.edges) == 1
    np.testing.assert_allclose(found.volumes, 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": []}, "layers: got list"),
        ({"layers": [(np.eye(2), np.zeros(3))]}, r"layers\[0\]: got shapes"),
        ({"layers": [(np.eye(2), np.zeros(2)), (np.ones((1, 3)), np.zeros(1))]}, r"layers\[1\]: got shapes .* expected W \(out, 2\)"),
        ({"layers": [(np.zeros((0, 2)), np.zeros(0)), (np.ones((1, 0)), np.zeros(1))]}, "at least one unit"),
        ({"layers": [(np.eye(2) * np.nan, np.zeros(2)), (np.eye(2), np.zeros(2))]}, "not finite"),
        ({"layers": [(np.eye(7), np.zeros(7)), (np.eye(7), np.zeros(7))]}, "at most 6"),
        ({"box": (1.0, 1.0)}, "box: got"),
        ({"box": (-np.inf, 1.0)}, "bounded box"),
        ({"box": 3.0}, "box: got 3.0"),
        ({"activation": "tanh"}, "activation: got 'tanh'"),
        ({"points": np.full((4, 2), 3.0)}, "points: got 4 of 4 outside"),
        ({"points": np.zeros((4, 3))}, "points: got shape"),
        ({"most": 2}, "more than 2 cells"),
    ],
)
def test_bad_input(change, message):
    arguments = {"layers": [(np.eye(2), np.zeros(2)), (np.ones((1, 2)), np.zeros(1))]} | change
    with pytest.raises(ValueError, match=message):
        eq.partition.build(**arguments)
