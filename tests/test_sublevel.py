"""Persistence of sublevel sets: closed forms, and against GUDHI."""

import numpy as np
import pytest

import eqdyn as eq


def bars_of(found, degree):
    return np.array(sorted(map(tuple, found.bars[degree]))).reshape(-1, 2)


@pytest.mark.parametrize("seed", range(12))
def test_grids_as_gudhi_has_them(seed):
    gudhi = pytest.importorskip("gudhi")
    rng = np.random.default_rng(seed)
    shape = [(60,), (9, 13), (20, 7), (1, 8), (2, 2), (15, 15)][seed % 6]
    f = rng.standard_normal(shape) if seed < 6 else rng.integers(0, 4, shape).astype(float)  # ties
    found = eq.topology.sublevel_grid(f)
    whole = gudhi.CubicalComplex(vertices=f)
    whole.compute_persistence(homology_coeff_field=2)
    for degree in range(f.ndim):
        theirs = whole.persistence_intervals_in_dimension(degree).reshape(-1, 2)
        ends = theirs[np.isfinite(theirs[:, 1])]
        np.testing.assert_allclose(bars_of(found, degree), np.array(sorted(map(tuple, ends))).reshape(-1, 2))
        np.testing.assert_allclose(found.essential[degree], np.sort(theirs[np.isinf(theirs[:, 1]), 0]))


@pytest.mark.parametrize(
    ("f", "bars"),
    [
        (lambda x, y: (x**2 - 1) ** 2 + y**2, ([(0, 1)], [])),  # two wells
        (lambda x, y: (x**2 + y**2 - 1) ** 2, ([], [(0, 1)])),  # a ring
        (lambda x, y: x + 2 * y, ([], [])),  # no well
        (lambda x, y: x**2 + 3 * y**2, ([], [])),
    ],
    ids=["wells", "ring", "slope", "bowl"],
)
def test_closed_forms(f, bars):
    """Minima and passes lie on the grid, or between its points to second order."""
    x = np.linspace(-2, 2, 161)
    found = eq.topology.sublevel_grid(f(*np.meshgrid(x, x, indexing="ij")))
    for degree in (0, 1):
        long = [bar for bar in found.bars[degree] if bar[1] - bar[0] > 0.01]
        assert len(long) == len(bars[degree])
        for bar, wanted in zip(long, bars[degree], strict=True):
            np.testing.assert_allclose(bar, wanted, atol=0.01)


def test_shifts_and_scales():
    f = np.random.default_rng(0).standard_normal((12, 12))
    found = eq.topology.sublevel_grid(f)
    shifted, scaled = eq.topology.sublevel_grid(f + 3), eq.topology.sublevel_grid(2 * f)
    np.testing.assert_allclose(shifted.total(), found.total())
    np.testing.assert_allclose(scaled.total(1), 2 * found.total(1))
    np.testing.assert_allclose(shifted.bars[0], found.bars[0] + 3)
    for t in np.linspace(f.min() - 1, f.max() + 1, 30):
        assert found.betti(t)[0] == components(f <= t)
        assert found.betti(t)[1] == components(~np.pad(f <= t, 1), diagonal=True) - 1


def components(mask, diagonal=False):
    from scipy.ndimage import label

    return label(mask, np.ones((3, 3)) if diagonal else None)[1]


def test_graphs_by_brute_force():
    rng = np.random.default_rng(1)
    f = rng.standard_normal(30)
    edges = np.array([(i, j) for i in range(30) for j in range(i) if rng.random() < 0.1])
    found = eq.topology.sublevel_graph(f, edges)
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    for t in np.linspace(-3, 3, 40):
        inner = edges[(f[edges] <= t).all(1)]
        graph = coo_matrix((np.ones(len(inner)), tuple(inner.T)), (30, 30))
        _, part = connected_components(graph, directed=False)
        assert found.betti(t) == (len(set(part[f <= t])),)
    star = eq.topology.sublevel_graph([0.0, 1.0, 1.0], [(0, 1), (0, 2), (1, 2)], levels=[3.0, 2.0, np.inf])
    assert star.bars[0].tolist() == [[1.0, 3.0], [1.0, 2.0]]
    apart = eq.topology.sublevel_graph([0.0, 1.0], [(0, 1)], levels=[np.inf])
    assert apart.essential[0].tolist() == [0.0, 1.0]


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: eq.topology.sublevel_grid(np.zeros((2, 2, 2))), "values: got shape"),
        (lambda: eq.topology.sublevel_grid([np.nan]), "not finite"),
        (lambda: eq.topology.sublevel_graph([], []), "values: got shape"),
        (lambda: eq.topology.sublevel_graph([0.0], [(0, 1)]), "expected 0 to 0"),
        (lambda: eq.topology.sublevel_graph([0.0, 1.0], [(0, 1)], levels=[0.5]), "before its ends"),
    ],
)
def test_bad_input(ask, message):
    with pytest.raises(ValueError, match=message):
        ask()
