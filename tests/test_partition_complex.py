"""The complex of cells: boundaries, Betti numbers, Gram matrices, Laplacians, angle defects."""

import itertools
import math

import numpy as np
import pytest
from test_partition import network, voronoi
from test_partition_metric import grid

import eqdyn as eq
from eqdyn.partition import Complex

ring_points = np.stack([np.cos(np.linspace(0, 2 * np.pi, 400)), np.sin(np.linspace(0, 2 * np.pi, 400))], axis=1)


def made(*simplices):
    """The complex of some simplices and all their faces."""
    top = max(map(len, simplices))
    held = [{face for simplex in simplices for face in itertools.combinations(simplex, k + 1)} for k in range(top)]
    return Complex(tuple(np.array(sorted(faces)).reshape(-1, k + 1) for k, faces in enumerate([*held, set()])))


SHAPES = {
    "point": (made((0,)), (1,)),
    "circle": (made((0, 1), (1, 2), (0, 2)), (1, 1)),
    "square with its inside": (made((0, 1, 2), (0, 2, 3)), (1, 0, 0)),
    "strip of two triangles": (made((0, 1, 2), (1, 2, 3)), (1, 0, 0)),
    "two circles": (made((0, 1), (1, 2), (0, 2), (3, 4), (4, 5), (3, 5)), (2, 2)),
    "sphere": (made((0, 1, 2), (0, 1, 3), (0, 2, 3), (1, 2, 3)), (1, 0, 1)),
    "tetrahedron": (made((0, 1, 2, 3)), (1, 0, 0, 0)),
}


@pytest.mark.parametrize("name", SHAPES)
def test_hodge_laplacians_count_holes(name):
    """Dimensions of kernels are Betti numbers, whatever the weights; constants for degree 0; self-adjoint."""
    found, betti = SHAPES[name]
    assert found.betti() == betti
    rng = np.random.default_rng(0)
    for weights in (None, [rng.uniform(0.5, 2, len(held)) for held in found.simplices]):
        for k in range(found.max_dim):
            laplacian = found.hodge(k, weights).toarray()
            scale = np.ones(len(laplacian)) if weights is None else weights[k]
            np.testing.assert_allclose(scale[:, None] * laplacian, (scale[:, None] * laplacian).T, atol=1e-12)
            values = np.linalg.eigvalsh(np.sqrt(scale)[:, None] * laplacian / np.sqrt(scale))
            assert values.min() > -1e-10
            assert np.sum(values < 1e-10) == betti[k]
        np.testing.assert_allclose(found.hodge(0, weights) @ np.ones(len(found.simplices[0])), 0, atol=1e-12)
    for k in range(2, found.max_dim + 1):
        assert abs(found.boundary(k - 1) @ found.boundary(k)).sum() == 0
    assert found.euler == sum((-1) ** k * b for k, b in enumerate(betti))


FLAGS = {
    "cycle": [(k, (k + 1) % 5) for k in range(5)],
    "strip": [(0, 1, 2), (1, 2, 3), (2, 3, 4)],
    "octahedron": [(a, b, c) for a in (0, 1) for b in (2, 3) for c in (4, 5)],
    "two cycles and a point": [(0, 1), (1, 2), (2, 3), (3, 0), (4, 5), (5, 6), (6, 7), (7, 4), (8,)],
}


@pytest.mark.parametrize("name", FLAGS)
def test_the_same_betti_numbers_as_in_topology(name):
    """Of complexes that are flag complexes of their graph: as a matrix of distances."""
    found = made(*(tuple(sorted(simplex)) for simplex in FLAGS[name]))
    size = len(found.simplices[0])
    d = np.full((size, size), 2.0)
    np.fill_diagonal(d, 0)
    i, j = found.simplices[1].T
    d[i, j] = d[j, i] = 1.0
    betti = found.betti()
    assert eq.topology.betti_of_distances(d, scale=1.5, max_dim=2) == betti + (0,) * (3 - len(betti))


def test_the_nerve_has_the_holes_of_the_cells_of_data():
    """Cells of data on a circle: one hole, as the data have; of all cells none; of two clusters two components."""
    rng = np.random.default_rng(0)
    layers = network(rng, 2, [12, 10])
    layers[0] = (3 * layers[0][0], layers[0][1])
    part = eq.partition.build(layers, (-1.5, 1.5), ring_points, cells="data")
    nerve = eq.partition.complex_of(part, meet="corner")
    assert nerve.betti() == (1, 1) == eq.topology.betti(ring_points[::4], scale=0.3, max_dim=1)
    whole = eq.partition.build(layers, (-1.5, 1.5), ring_points)
    assert eq.partition.complex_of(whole, meet="corner", max_dim=3).betti() == (1, 0, 0)
    two = np.concatenate([ring_points[:40], -ring_points[:40]])
    assert eq.partition.complex_of(eq.partition.build(layers, (-1.5, 1.5), two, cells="data"), meet="corner").betti() == (2, 0)


@pytest.mark.parametrize(("dim", "num"), [(2, 40), (3, 25)])
def test_voronoi_cells_and_delaunay_simplices(dim, num):
    """In general position the complex of Voronoi cells that meet in the box is in Delaunay's; all of space has no holes."""
    from scipy.spatial import Delaunay

    sites = np.random.default_rng(dim).uniform(0, 1, (num, dim))
    found, site = voronoi(sites)
    held = eq.partition.complex_of(found, max_dim=dim)
    delaunay = {tuple(sorted(simplex)) for simplex in Delaunay(sites).simplices}
    for simplex in held.simplices[dim]:
        assert tuple(sorted(site[simplex])) in delaunay
    assert held.betti()[:dim] == (1,) + (0,) * (dim - 1)
    corner = eq.partition.complex_of(found, meet="corner", max_dim=dim)
    for one, other in zip(held.simplices, corner.simplices, strict=True):
        np.testing.assert_array_equal(one, other)


def test_hyperplanes_have_two_colours():
    """No triangles between cells that share facets; around every corner of two lines a square, a hole of the facet complex."""
    rng = np.random.default_rng(1)
    found = eq.partition.build(network(rng, 2, [7]), (-1e3, 1e3))
    held = eq.partition.complex_of(found)
    assert len(held.simplices[2]) == 0
    assert held.betti() == (1, math.comb(7, 2))
    parity = found.codes.sum(1) % 2
    assert np.all(parity[found.edges[:, 0]] != parity[found.edges[:, 1]])


@pytest.mark.parametrize("dim", [1, 2, 3, 4])
def test_gram_matrices(dim):
    rng = np.random.default_rng(dim)
    found = eq.partition.build(network(rng, dim, [4, 3]))
    for k, cell in enumerate(found.cells):
        held = eq.partition.gram(found, k)
        np.testing.assert_allclose(held @ np.ones(len(held)), 0, atol=1e-10)
        values = np.linalg.eigvalsh(held)
        assert values.min() > -1e-12 * values.max()
        assert np.sum(values > 1e-11 * values.max()) <= min(dim, len(held) - 1)
        np.testing.assert_allclose(np.diag(held), cell.areas**2)
        assert np.linalg.eigvalsh(eq.partition.gram(found, k, damping=0.1)).min() > 0
    if dim > 1:
        # area area <n, n> = - area area cos(angle), where facets meet
        ridges = eq.partition.ridges(found)
        for k, one, other, angle in zip(ridges.cells, ridges.first, ridges.second, ridges.angles, strict=True):
            areas = found.cells[k].areas
            np.testing.assert_allclose(eq.partition.gram(found, k)[one, other], -areas[one] * areas[other] * np.cos(angle), atol=1e-12)


def laplacians(found, held):
    rng = np.random.default_rng(0)
    weights = [found.volumes, found.facet_areas / found.lengths(), np.ones(len(held.simplices[2]))]
    order = np.lexsort(np.sort(found.edges, axis=1).T[::-1])
    weights[1] = weights[1][order]
    return {
        "finite volumes": found.laplacian(),
        "other centres": found.laplacian(found.centres + 1e-2 * rng.standard_normal(found.centres.shape)),
        "density": found.laplacian(density=rng.uniform(0.5, 2, len(found.codes))),
        "hodge": held.hodge(0, weights),
        "extended": held.extended_laplacian(found, {2: 0.7}),
        "extended, own masses": held.extended_laplacian(found, {2: 2.0}, {2: rng.uniform(0, 1, len(held.simplices[2]))}),
    }


@pytest.mark.parametrize(("dim", "num"), [(2, 30), (3, 20)])
def test_constants_are_in_the_kernel_of_every_laplacian(dim, num):
    found, _ = voronoi(np.random.default_rng(0).uniform(0, 1, (num, dim)))
    held = eq.partition.complex_of(found, max_dim=2)
    assert len(held.simplices[2]) > 10
    for name, laplacian in laplacians(found, held).items():
        scale = abs(laplacian).max()
        np.testing.assert_allclose(laplacian @ np.ones(num), 0, atol=1e-12 * scale * num, err_msg=name)
        values = np.linalg.eigvals(laplacian.toarray())
        assert np.all(values.real > -1e-9 * scale), name
        assert np.sum(abs(values) < 1e-9 * scale) == 1, name  # connected
    np.testing.assert_allclose(laplacians(found, held)["hodge"].toarray(), found.laplacian().toarray(), atol=1e-9)
    # self-adjoint in the inner product of volumes
    mass = np.diag(found.volumes)
    for name in ("finite volumes", "extended"):
        product = mass @ laplacians(found, held)[name].toarray()
        np.testing.assert_allclose(product, product.T, atol=1e-10)
    assert np.all(held.extended_laplacian(found, {2: 0.0}).toarray() == found.laplacian().toarray())


def jittered(num, seed):
    """Sites on a grid of num^2, moved by up to a quarter of its step."""
    rng = np.random.default_rng(seed)
    at = np.stack(np.meshgrid(*[(np.arange(num) + 0.5) / num] * 2), axis=-1).reshape(-1, 2)
    return at + rng.uniform(-0.25, 0.25, at.shape) / num


def test_finite_volumes_converge_on_voronoi_cells():
    """-Lap u = f between Neumann walls, u = cos(pi x) cos(2 pi y): second order in the mean square, at least first in the differences over facets.

    Negative control: with the cells' own centres, which do not lie across from each other, the differences do not converge.
    """
    errors = {"sites": [], "own centres": []}
    for num in (6, 12, 24):
        sites = jittered(num, seed=0)
        found, site = voronoi(sites)
        errors["sites"].append(error_of_poisson(found, sites[site]))
        errors["own centres"].append(error_of_poisson(found, found.centres))
    orders = {name: np.log2(np.array(rows)[:-1] / np.array(rows)[1:]) for name, rows in errors.items()}
    assert np.all(orders["sites"] > [1.8, 0.9]), orders
    assert orders["own centres"][-1, 1] < 0.4, orders


def error_of_poisson(found, centres):
    """Mean square, and in the norm of the stiffness."""
    from scipy.sparse.linalg import spsolve

    u = np.cos(np.pi * centres[:, 0]) * np.cos(2 * np.pi * centres[:, 1])
    f = 5 * np.pi**2 * (u - found.volumes @ u)
    pinned = found.laplacian(centres).tolil()
    pinned[0], pinned[0, 0] = 0, 1.0  # up to a constant
    gap = spsolve(pinned.tocsr(), np.r_[0.0, f[1:]]) - u
    gap -= found.volumes @ gap
    return np.sqrt(found.volumes @ gap**2), np.sqrt(gap @ (found.stiffness(centres) @ gap))


def test_the_sources_clique_matrix_would_damp_constants():
    """Negative control: with -1 / (p + 1) beside the diagonal rows do not sum to 0."""
    wrong = np.full((3, 3), -1 / 3) + np.diag(np.full(3, 4 / 3))
    assert np.all(np.abs(wrong.sum(1) - 1 / 3) < 1e-12)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("power", [0.0, 0.5])
def test_gauss_bonnet(seed, power):
    """The defects of all cells sum to 2 pi times the Euler number of the triangles; with flat lengths they are 0 inside."""
    rng = np.random.default_rng(seed)
    layers = network(rng, 2, [6, 5])
    z = np.concatenate([cell.vertices.mean(0)[None] for cell in eq.partition.build(layers).cells])
    found = eq.partition.build(layers, points=np.concatenate([z, rng.uniform(-1, 1, (200, 2))]))
    defect = eq.partition.angle_defect(found, power=power)
    np.testing.assert_allclose(defect.values.sum(), 2 * np.pi * defect.euler, atol=1e-9)
    assert defect.euler == 1  # the cells of a box
    if power == 0:
        assert defect.num_broken == 0
        inside = np.setdiff1d(np.arange(len(found.codes)), found.walls.cells)
        clear = [k for k in inside if covered(defect.triangles, k)]
        np.testing.assert_allclose(defect.values[clear], 0, atol=1e-9)
        assert len(clear) > 3


def covered(triangles, k):
    """Every neighbour of k is in two of its triangles: they go round it once."""
    others = triangles[(triangles == k).any(1)]
    _, counts = np.unique(others[others != k], return_counts=True)
    return len(counts) and np.all(counts == 2)


def test_a_cone_of_lengths_has_the_angle_that_is_missing():
    """Density that grows about one cell: shorter sides there, a cone; checked by the law of cosines on a hexagon."""
    centre = np.array([[0.5, 0.5]])
    hexagon = 0.5 + 0.3 * np.stack([np.cos(np.arange(6) * np.pi / 3 + 0.1), np.sin(np.arange(6) * np.pi / 3 + 0.1)], axis=1)
    sites = np.concatenate([centre, hexagon])
    found, site = voronoi(sites, points=sites)
    k = int(np.argmax(site == 0))
    for power in (0.0, 0.3, 1.0):
        defect = eq.partition.angle_defect(found, power=power)
        rho = found.masses / found.volumes
        missing = 2 * np.pi
        for triangle in defect.triangles[(defect.triangles == k).any(1)]:
            i, j = triangle[triangle != k]
            length = {
                pair: np.linalg.norm(found.centres[pair[0]] - found.centres[pair[1]]) / (rho[list(pair)].mean() ** power)
                for pair in ((k, i), (k, j), (i, j))
            }
            a, b, c = length[i, j], length[k, i], length[k, j]
            missing -= np.arccos((b**2 + c**2 - a**2) / (2 * b * c))
        np.testing.assert_allclose(defect.values[k], missing, atol=1e-9)


def test_growth_of_balls():
    """About 0 inside a grid with uniform data; positive at a peak of density, negative beside it."""
    num = 24
    at = (np.arange(96) + 0.5) / 96
    z = np.stack(np.meshgrid(at, at), axis=-1).reshape(-1, 2)
    cuts = np.linspace(0, 1, num + 1)[1:-1]
    layers = [(np.repeat(np.eye(2), num - 1, axis=0), -np.tile(cuts, 2)), (np.ones((1, 2 * num - 2)), np.zeros(1))]
    found = eq.partition.build(layers, (0.0, 1.0), z)
    growth = eq.partition.volume_growth(found, 0.2)
    inside = (np.abs(found.centres - 0.5) < 0.3).all(1)
    assert np.abs(growth[inside]).max() < 0.06  # whole cells: 69 squares of side 1/24 are within 0.2, and its disc has the area of 72.4
    peak = np.concatenate([z, 0.5 + 0.05 * np.random.default_rng(0).standard_normal((20_000, 2))])
    growth = eq.partition.volume_growth(eq.partition.build(layers, (0.0, 1.0), peak), 0.1)
    middle = np.linalg.norm(found.centres - 0.5, axis=1)
    assert growth[np.argmin(middle)] > 0.3
    assert np.nanmax(growth[(middle > 0.16) & (middle < 0.18)]) < -0.5


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda f: eq.partition.complex_of(f, meet="point"), "meet: got 'point'"),
        (lambda f: eq.partition.complex_of(f, max_dim=0), "max_dim: got 0"),
        (lambda f: eq.partition.complex_of("f"), "got str"),
        (lambda f: eq.partition.complex_of(f).hodge(2), "degree: got 2; expected 0 to 1"),
        (lambda f: eq.partition.complex_of(f).hodge(0, [1, 2, 3]), "weights: got shapes"),
        (lambda f: eq.partition.complex_of(f).extended_laplacian(f, {3: 1.0}), "degree: got 3"),
        (lambda f: eq.partition.complex_of(f).extended_laplacian(f, {2: -1.0}), "at least 0"),
        (lambda f: eq.partition.complex_of(f).extended_laplacian(f, {2: 1.0}, {2: [1.0]}), "masses"),
        (lambda f: eq.partition.gram(f, 99), "cell: got 99"),
        (lambda f: eq.partition.gram(f, 0, damping=-1), "damping: got -1"),
        (lambda f: eq.partition.angle_defect(f, power=0.5), "cells without data"),
        (lambda f: eq.partition.angle_defect(grid(2, 3)), "in 3 dimensions"),
        (lambda f: eq.partition.volume_growth(f, 0.0), "radius: got 0.0"),
        (lambda f: eq.partition.volume_growth(f, 0.1), "without points"),
    ],
)
def test_bad_input(ask, message):
    with pytest.raises((ValueError, TypeError), match=message):
        ask(grid(2))
