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


@pytest.mark.parametrize("first", [pytest.param(k, marks=[pytest.mark.slow] if k else []) for k in range(0, 200, 20)])
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
        gram_matrices_have_the_rank_of_space(found)
        if dim == 2:
            defect = eq.partition.angle_defect(found)
            np.testing.assert_allclose(defect.values.sum(), 2 * np.pi * defect.euler, atol=1e-8)
            assert defect.euler == 1


def gram_matrices_have_the_rank_of_space(found):
    for k, cell in enumerate(found.cells):
        values = np.linalg.eigvalsh(eq.partition.gram(found, k))
        assert values.min() > -1e-12 * values.max()
        assert np.sum(values > 1e-11 * values.max()) <= min(cell.vertices.shape[1], len(cell.areas) - 1)


def facet_points(found, net, side):
    """A point of every facet's hyperplane, by the affine map of the cell on one side."""
    at = np.empty_like(found.normals)
    for k, (pair, normal) in enumerate(zip(found.edges, found.normals, strict=True)):
        a, c = row_of(net, found.codes[pair[side]], normal, found.units[k])
        at[k] = -c * a / (a @ a)
    return at


def row_of(net, code, normal, unit):
    """The row of a facet: its unit's where each unit has one, else the one with this normal."""
    rows = net.rows(code)
    row = unit
    if len(rows.units) != len(code) or not np.array_equal(rows.units, np.arange(len(code))):
        size = np.maximum(np.linalg.norm(rows.a, axis=1), 1e-300)
        flips = (rows.flips == unit).any(1)
        row = int(np.argmax(np.where(flips, np.abs(rows.a @ normal) / size, 0)))
    return rows.a[row], rows.c[row]


def wall_points(found, box):
    return np.where(found.walls.normals > 0, box[1], box[0]) * np.abs(found.walls.normals)


def every_facet_is_seen_from_both_sides(found, net):
    """Its area from the second cell's own corners."""
    for pair, unit, size, normal in zip(found.edges, found.units, found.facet_areas, found.normals, strict=True):
        a, c = row_of(net, found.codes[pair[1]], normal, unit)
        corners = found.vertices[pair[1]]
        near = np.abs(corners @ a + c) <= 1e-9 * max(1, np.abs(c))
        np.testing.assert_allclose(area(corners[near], normal), size, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize(("dim", "units"), [(1, 7), (2, 8), (3, 7), (4, 6)])
def test_hyperplanes_in_general_position(dim, units):
    """One hidden layer in a box that holds all its vertices: sum_k C(m, k) cells."""
    rng = np.random.default_rng(dim)
    layers = network(rng, dim, [units])
    found = eq.partition.build(layers, (-1e4, 1e4))
    assert len(found.codes) == sum(math.comb(units, k) for k in range(dim + 1))


@pytest.mark.parametrize("size", [1e-3, 1e-5, 1e-7])
def test_small_cells_are_large_ones_made_small(size):
    """Far below the box's size, where values of all rows are near roundings: each facet once, the same facets, the same shape."""
    rng = np.random.default_rng(0)
    a, slack, z = rng.standard_normal((40, 6)), rng.uniform(0.1, 1, 40), rng.uniform(-9, 9, 6)
    last = (np.ones((1, 40)), np.zeros(1))
    large = eq.partition.build([(a, slack), last], (-10.0, 10.0), np.zeros((1, 6)), cells="data", measures=False)
    small = eq.partition.build([(a, size * slack - a @ z), last], (-10.0, 10.0), z[None], cells="data", measures=False)
    assert sorted(small.cells[0].facets) == sorted(large.cells[0].facets)
    one, other = (np.sort(np.linalg.norm(v, axis=1)) for v in ((small.vertices[0] - z) / size, large.vertices[0]))
    np.testing.assert_allclose(one, other, rtol=1e-5)
    assert np.all(a @ small.vertices[0].T + (size * slack - a @ z)[:, None] > -1e-12)


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
        own = net.rows(code)
        rows = np.concatenate([-own.a, walls])
        right = np.concatenate([own.c, np.full(2 * dim, 2.0)])
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


@pytest.mark.parametrize("kind", ["whole numbers", "through the origin", "twice", "scales", "tenths"])
def test_networks_in_no_general_position(kind):
    """Many hyperplanes in one place, units that are 0 on whole cells by cancellation, weights over twelve decades."""
    for seed in range(12):
        rng = np.random.default_rng(seed)
        dim = int(rng.integers(1, 4))
        layers = network(rng, dim, rng.integers(2, {1: 10, 2: 8, 3: 5}[dim], int(rng.integers(1, 4))))
        layers = [degenerate(kind, rng, w, b) for w, b in layers]
        z = rng.uniform(-1, 1, (400, dim))
        found = eq.partition.build(layers, points=z, activation=["relu", "abs"][seed % 2])
        np.testing.assert_allclose(found.volumes.sum(), 2.0**dim, rtol=1e-9)
        np.testing.assert_allclose(sum_of_facets(found), 0, atol=1e-6)
        assert np.all(found.cell_of >= 0)
        assert len(found.rim.cells) == 0  # every facet has two cells
        values = np.einsum("nod,nd->no", found.jacobians[found.cell_of], z) + found.offsets[found.cell_of]
        np.testing.assert_allclose(values, found.network.outputs(z), atol=1e-9 * (1 + np.abs(values).max()))


def degenerate(kind, rng, w, b):
    if kind == "whole numbers":
        return rng.integers(-1, 2, w.shape).astype(float), rng.integers(-1, 2, b.shape) * 0.5
    if kind == "through the origin":
        return w, 0 * b
    if kind == "twice":
        half = len(b) // 2
        return np.concatenate([w[: len(b) - half], w[:half]]), np.concatenate([b[: len(b) - half], b[:half]])
    if kind == "scales":
        scale = 10.0 ** rng.integers(-6, 7, len(b))
        return scale[:, None] * w, scale * b
    return np.round(w, 1), np.round(b, 1)


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
        ({"box": "data"}, "'data' without points"),
        ({"box": ("ball", np.zeros(2), -1.0)}, "ball of radius -1"),
        ({"box": ("ball", np.zeros(3), 1.0)}, "expected a centre"),
        ({"cells": "data"}, "'data' without points"),
        ({"cells": "some"}, "cells: got 'some'"),
        ({"activation": ("max_pool", 3)}, "2 units in pools of 3"),
        ({"activation": ("max_pool", 1)}, "size at least 2"),
        ({"activation": ["relu", "relu"]}, "expected one for each of the 1 hidden"),
    ],
)
def test_bad_input(change, message):
    arguments = {"layers": [(np.eye(2), np.zeros(2)), (np.ones((1, 2)), np.zeros(1))]} | change
    with pytest.raises(ValueError, match=message):
        eq.partition.build(**arguments)


def voronoi(sites, box=(0.0, 1.0), **options):
    """A network whose cells are those of the sites: the largest of `z s - |s|^2 / 2` is that of the nearest site."""
    sites = np.asarray(sites)
    layers = [(sites, -(sites**2).sum(1) / 2), (np.ones((1, 1)), np.zeros(1))]
    found = eq.partition.build(layers, box, activation=("max_pool", len(sites)), **options)
    return found, found.codes.argmax(1)


@pytest.mark.parametrize(("dim", "num"), [(1, 9), (2, 60), (3, 40), (4, 15)])
def test_the_largest_of_a_pool_cuts_voronoi_cells(dim, num):
    rng = np.random.default_rng(dim)
    sites = rng.uniform(0, 1, (num, dim))
    z = rng.uniform(0, 1, (500, dim))
    found, site = voronoi(sites, points=z)
    assert sorted(site) == list(range(num))
    np.testing.assert_allclose(found.volumes.sum(), 1, rtol=1e-12)
    nearest = np.linalg.norm(z[:, None] - sites, axis=2).argmin(1)
    np.testing.assert_array_equal(site[found.cell_of], nearest)
    i, j = site[found.edges].T
    across = (sites[j] - sites[i]) / np.linalg.norm(sites[j] - sites[i], axis=1)[:, None]
    np.testing.assert_allclose(found.normals, across, atol=1e-9)
    closed = sum_of_facets(found)
    np.testing.assert_allclose(closed, 0, atol=1e-10)


def sum_of_facets(found):
    """Of each cell, area times outward normal, from edges, walls and rim."""
    closed = np.zeros_like(found.centres)
    i, j = found.edges.T
    for cells, areas, normals in ((i, found.facet_areas, found.normals), (j, found.facet_areas, -found.normals), found.walls, found.rim):
        np.add.at(closed, cells, areas[:, None] * normals)
    return closed


def test_pools_behind_other_layers():
    """Network values on both sides, volumes and Minkowski sums, with pools in the middle."""
    rng = np.random.default_rng(4)
    layers = [(rng.standard_normal(shape), 0.3 * rng.standard_normal(shape[0])) for shape in ((6, 2), (6, 6), (4, 3), (2, 4))]
    kinds = ["relu", ("max_pool", 2), "abs"]
    z = rng.uniform(-1, 1, (400, 2))
    found = eq.partition.build(layers, points=z, activation=kinds)
    np.testing.assert_allclose(found.volumes.sum(), 4, rtol=1e-10)
    np.testing.assert_allclose(sum_of_facets(found), 0, atol=1e-9)
    assert np.all(found.cell_of >= 0)
    values = np.einsum("nod,nd->no", found.jacobians[found.cell_of], z) + found.offsets[found.cell_of]
    np.testing.assert_allclose(values, network_of(layers, kinds).outputs(z), atol=1e-12)
    i, j = found.edges.T
    jumps = np.linalg.svd(found.jacobians[j] - found.jacobians[i], compute_uv=False)
    np.testing.assert_array_less(jumps[:, 1], 1e-10)


@pytest.mark.parametrize(("dim", "above"), [(1, 1.0 + 1e-12), (2, 1.001), (3, 1.2), (4, 1.9)])
def test_a_ball(dim, above):
    """Its polytope holds the ball, and not much more."""
    rng = np.random.default_rng(0)
    centre = rng.standard_normal(dim)
    found = eq.partition.build(network(rng, dim, [4]), ("ball", centre, 2.0))
    exact = math.pi ** (dim / 2) / math.gamma(dim / 2 + 1) * 2.0**dim
    np.testing.assert_allclose(found.volumes.sum(), found.region_volume, rtol=1e-10)
    assert exact * (1 - 1e-12) <= found.region_volume <= above * exact
    np.testing.assert_allclose(sum_of_facets(found), 0, atol=1e-9)
    outer = np.concatenate(found.vertices)
    assert np.linalg.norm(outer - centre, axis=1).max() < 2 * 1.5


@pytest.mark.parametrize("dim", [1, 2, 3, 5])
@pytest.mark.parametrize("ring", [False, True])
def test_cells_of_data_are_those_of_all(dim, ring):
    """The same cells, areas and kinks as in the whole list; each cell closed by its rim."""
    rng = np.random.default_rng(dim)
    layers = network(rng, dim, [5, 4])
    z = 0.4 * rng.standard_normal((30, dim))
    whole = eq.partition.build(layers, "data", z)
    part = eq.partition.build(layers, "data", z, cells="data", ring=ring)
    place = {code.tobytes(): k for k, code in enumerate(whole.codes)}
    rows = [place[code.tobytes()] for code in part.codes]
    held = set(whole.cell_of)
    around = {int(b) for a, b in np.concatenate([whole.edges, whole.edges[:, ::-1]]) if a in held} if ring else set()
    assert set(rows) == held | around
    np.testing.assert_allclose(part.volumes, whole.volumes[rows], rtol=1e-9)
    np.testing.assert_allclose(part.masses, whole.masses[rows])
    np.testing.assert_allclose(sum_of_facets(part), 0, atol=1e-9)
    np.testing.assert_allclose(part.masses.sum(), 1)
    facets = {frozenset(pair): (area, kink) for pair, area, kink in zip(map(tuple, whole.edges), whole.facet_areas, whole.kinks, strict=True)}
    for pair, size, kink in zip(part.edges, part.facet_areas, part.kinks, strict=True):
        np.testing.assert_allclose((size, kink), facets[frozenset(rows[k] for k in pair)], rtol=1e-8, atol=1e-12)
    assert len(part.edges) == sum(a in rows and b in rows for a, b in whole.edges)
    blind = eq.partition.build(layers, "data", z, cells="data", ring=ring, measures=False)
    assert np.isnan(blind.volumes).all()
    np.testing.assert_array_equal(blind.edges, part.edges)
    with pytest.raises(ValueError, match="measures=True"):
        blind.laplacian()
