"""Ricci curvature of edges: closed forms, independent routes, and wrong solvers that the tables catch."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from scipy.optimize import linprog
from scipy.stats import wasserstein_distance

import eqdyn as eq
from eqdyn.partition import _ricci, _shortest, _transport

ollivier, of_points, forman = eq.partition.ricci_ollivier, eq.partition.ricci_ollivier_points, eq.partition.ricci_forman
PETERSEN = [(k, (k + 1) % 5) for k in range(5)] + [(k, k + 5) for k in range(5)] + [(5 + k, 5 + (k + 2) % 5) for k in range(5)]
TWO = [(0, 1)]


def complete(num):
    return list(itertools.combinations(range(num), 2))


def cycle(num):
    return [(k, (k + 1) % num) for k in range(num)]


def grid(side, dim):
    """And which edges are two or more steps inside: their ends' neighbours are all there."""
    at = {z: k for k, z in enumerate(itertools.product(range(side), repeat=dim))}
    steps = np.eye(dim, dtype=int).tolist()
    pairs = [(z, tuple(np.add(z, step).tolist())) for z in at for step in steps if tuple(np.add(z, step).tolist()) in at]
    return [(at[a], at[b]) for a, b in pairs], np.array([min(a) >= 2 and max(b) <= side - 3 for a, b in pairs])


def cube(dim):
    return [(a, a | 1 << k) for a in range(2**dim) for k in range(dim) if not a >> k & 1]


def tree(*degrees):
    """The edge 0-1 between ends of the given degrees, then leaves two steps on."""
    edges = [(0, 1)]
    for end, degree in enumerate(degrees):
        for _ in range(degree - 1):
            new = max(map(max, edges)) + 1
            edges += [(end, new), (new, new + 1)]
    return edges


def first(edges):
    return edges, np.arange(len(edges)) == 0


CLOSED = {  # edges, which of them, value: all lengths and masses 1, laziness 1/2
    **{f"complete {n}": (complete(n), ..., n / (2 * (n - 1))) for n in range(2, 8)},
    **{f"cycle {n}": (cycle(n), ..., {3: 3 / 4, 4: 1 / 2, 5: 1 / 4}.get(n, 0)) for n in (3, 4, 5, 6, 7, 13)},
    **{f"cube {d}": (cube(d), ..., 1 / d) for d in range(1, 6)},
    **{f"tree {k}": (*first(tree(k, k)), 2 / k - 1) for k in range(2, 7)},
    "tree 2, 5": (*first(tree(2, 5)), 1 / 2 + 1 / 5 - 1),
    "star": ([(0, k) for k in range(1, 8)], ..., 1 / 7),
    "two sides": (list(itertools.product(range(4), range(4, 8))), ..., 1 / 4),
    "grid 2": (*grid(6, 2), 0),
    "grid 3": (*grid(6, 3), 0),
    "Petersen": (PETERSEN, ..., 0),
    "one edge": (TWO, ..., 1),
}


def off(name):
    edges, which, value = CLOSED[name]
    return np.abs(ollivier(edges)[which] - value).max()


@pytest.mark.parametrize("name", CLOSED)
def test_closed_forms(name):
    assert off(name) < 1e-13


@pytest.mark.parametrize("num", range(3, 8))
def test_closed_form_without_laziness(num):
    np.testing.assert_allclose(ollivier(complete(num), laziness=0), (num - 2) / (num - 1), atol=1e-13)


def capped(*arguments):
    return np.minimum(RIGHT(*arguments), 2)


def squared(*arguments):
    return RIGHT(*arguments) ** 2


def hops(graph, *arguments):
    graph = graph.copy()
    graph.data[:] = 1
    return RIGHT(graph, arguments[0], arguments[1], arguments[2] * 0 + 3)


def independent(problems):
    """A plan that is allowed, not the best."""
    yield from (np.array([p @ cost @ q / p.sum() if 0 not in cost.shape else 0.0]) for p, q, cost in problems)


def half_done(problems):
    """One mass after the other, each to the nearest place left."""
    for p, q, cost in problems:
        left, total = q.copy(), 0.0
        for mass, row in zip(p, cost, strict=True):
            rest = mass
            for b in np.argsort(row, kind="stable"):
                moved = min(rest, left[b])
                rest, left[b], total = rest - moved, left[b] - moved, total + moved * row[b]
        yield np.array([total])


RIGHT = _shortest._distances
WRONG = {  # cost, solver
    "distances above 2 cut": (capped, None),
    "squared distances": (squared, None),
    "no best plan": (None, independent),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_cost_or_solver_is_caught(name, monkeypatch):
    cost, solver = WRONG[name]
    if cost:
        monkeypatch.setattr(_shortest, "_distances", cost)
    if solver:
        monkeypatch.setattr(_ricci, "transports", solver)
    assert max(map(off, CLOSED)) > 1e-2


@pytest.mark.parametrize("name", ["lengths forgotten", "greedy plan"])
def test_what_closed_forms_do_not_catch_a_dense_program_does(name, monkeypatch):
    edges, masses, lengths = drawn(1)
    true = dense(edges, masses, lengths, 0.5)
    if name == "greedy plan":
        monkeypatch.setattr(_ricci, "transports", half_done)
    else:
        monkeypatch.setattr(_shortest, "_distances", hops)
    assert np.abs(ollivier(edges, masses, lengths) - true).max() > 1e-2


def drawn(seed, most=11):
    """A random graph, maybe in pieces, rows and ends in any order; masses, some 0; lengths, some longer than the way round."""
    rng = np.random.default_rng(seed)
    num = int(rng.integers(4, most))
    edges = np.array([pair for pair in complete(num) if rng.random() < rng.uniform(0.3, 0.8)] or TWO)
    edges = rng.permutation(np.where(rng.random((len(edges), 1)) < 0.5, edges, edges[:, ::-1]))
    masses = rng.gamma(0.5, size=num) * (rng.random(num) < 0.8)
    return edges, masses, 10 ** rng.uniform(-1, 1, len(edges))


def measures(edges, masses, laziness, number=float):
    """By the definition, one cell after the other."""
    found = [{} for _ in masses]
    for v in range(len(masses)):
        near = [b if a == v else a for a, b in edges if v in (a, b)]
        total = sum(number(masses[u]) for u in near)
        found[v] = {u: (1 - number(laziness)) * (number(masses[u]) / total if total else 1 / number(len(near))) for u in near}
        found[v][v] = number(laziness)
    return found


def dense(edges, masses, lengths, laziness):
    """All couplings of all cells, at distances by Floyd and Warshall."""
    num = len(masses)
    d = np.where(np.eye(num, dtype=bool), 0, 1e3)
    for (a, b), length in zip(edges, lengths, strict=True):
        d[a, b] = d[b, a] = length
    for k in range(num):
        d = np.minimum(d, d[:, k, None] + d[k])
    m = [np.array([measure.get(v, 0) for v in range(num)]) for measure in measures(edges, masses, laziness)]
    sums = np.concatenate([np.kron(np.eye(num), np.ones(num)), np.kron(np.ones(num), np.eye(num))])
    tight = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
    return np.array([1 - linprog(d.ravel(), A_eq=sums, b_eq=np.r_[m[a], m[b]], options=tight).fun / d[a, b] for a, b in edges])


@pytest.mark.parametrize("laziness", [0, 0.2, 0.5])
@pytest.mark.parametrize("seed", range(6))
def test_all_couplings(seed, laziness):
    edges, masses, lengths = drawn(seed)
    np.testing.assert_allclose(ollivier(edges, masses, lengths, laziness=laziness), dense(edges, masses, lengths, laziness), atol=1e-7)
    ones = np.ones(len(edges))
    np.testing.assert_allclose(ollivier(edges, laziness=laziness), dense(edges, np.ones(len(masses)), ones, laziness), atol=1e-8)


@pytest.mark.parametrize("seed", range(12))
def test_trees_in_rational_numbers(seed):
    """W_1 on a tree is what each of its edges has to carry; lengths and masses over up to 11 and 22 decades. To 1e-13 of the longest way."""
    rng = np.random.default_rng(seed)
    num, decades, laziness = 30, [1, 4, 11][seed % 3], [0.0, 0.25, 0.5, 0.75][seed % 4]
    parent = [int(rng.integers(max(0, v - 8), v)) for v in range(1, num)]
    edges = list(zip(parent, range(1, num), strict=True))
    lengths, masses = 10 ** rng.uniform(-decades, 0, num - 1), 10 ** rng.uniform(-2 * decades, 0, num) * (rng.random(num) < 0.8)
    m = measures(edges, masses, laziness, Fraction)
    far = np.zeros(num)
    np.maximum.at(far, np.array(edges), lengths[:, None])
    for (a, b), length, found in zip(edges, lengths, ollivier(edges, masses, lengths, laziness=laziness), strict=True):
        beyond = [m[a].get(v, Fraction(0)) - m[b].get(v, Fraction(0)) for v in range(num)]
        carried = Fraction(0)
        for v in range(num - 1, 0, -1):
            carried += abs(beyond[v]) * Fraction(lengths[v - 1])
            beyond[parent[v - 1]] += beyond[v]
        assert abs(found - float(1 - carried / Fraction(length))) <= 1e-13 * (far[a] + far[b] + length) / length


@pytest.mark.parametrize("seed", range(3))
def test_laziness_above_a_half_only_scales(seed):
    """kappa is linear in laziness there, and 0 at 1 (Bourne and others, arXiv:1704.04398)."""
    edges, masses, _ = drawn(seed, most=20)
    for laziness in (0.6, 0.9):
        np.testing.assert_allclose(ollivier(edges, masses, laziness=laziness), 2 * (1 - laziness) * ollivier(edges, masses), atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_what_does_not_matter(seed):
    """Units, the names of cells, the order of edges and their ends; how work is cut into blocks."""
    edges, masses, lengths = drawn(seed, most=20)
    true = ollivier(edges, masses, lengths)
    rng = np.random.default_rng(seed)
    names, order = rng.permutation(len(masses)), rng.permutation(len(edges))
    inverse = np.argsort(names)
    for found in (
        ollivier(edges, masses, lengths * 1e-9),
        ollivier(edges, masses * 1e300, lengths * 3e250),
        ollivier(names[edges], masses[inverse], lengths),
        ollivier(edges[:, ::-1], masses, lengths),
    ):
        np.testing.assert_allclose(found, true, atol=1e-11)
    np.testing.assert_allclose(ollivier(edges[order], masses, lengths[order]), true[order], atol=1e-11)
    far = ollivier(10**12 * (edges + 1))
    np.testing.assert_allclose(far, ollivier(edges), atol=1e-12)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_shortest, "_HELD", 40)
        patch.setattr(_shortest, "_SOURCES", 2)
        patch.setattr(_transport, "_TOGETHER", 30)
        np.testing.assert_allclose(ollivier(edges, masses, lengths), true, atol=1e-11)


def test_cells_without_mass_are_given_nothing():
    """A path with mass at its ends only: 1 gives all to 0, 2 all to 3; where no neighbour has mass, shares are equal."""
    path = [(0, 1), (1, 2), (2, 3)]
    np.testing.assert_allclose(ollivier(path, [1, 0, 0, 1]), [1, -1, 1], atol=1e-13)
    np.testing.assert_allclose(ollivier(path, [0, 0, 0, 0]), ollivier(path), atol=1e-13)


def test_progress(capsys):
    calls = []
    edges = [(0, 1), (1, 2), (2, 3)]
    ollivier(edges, progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (3, 3)
    assert calls == sorted(calls)
    np.testing.assert_array_equal(ollivier(edges, progress=True), ollivier(edges, progress=False))
    assert "ricci" in capsys.readouterr().err


def test_a_solver_that_gives_up_is_heard(monkeypatch):
    class Failed:
        status, message = 4, "numerical difficulties"

    monkeypatch.setattr("scipy.optimize.linprog", lambda *_, **__: Failed())
    with pytest.raises(RuntimeError, match=r"gave up on \d+ problems"):
        ollivier(*drawn(1))


def clouds(seed, sizes, dim):
    rng = np.random.default_rng(seed)
    parts = [rng.standard_normal((size, dim)) * rng.uniform(0.5, 2) + 3 * rng.standard_normal(dim) for size in sizes]
    return np.concatenate(parts), np.repeat(np.arange(len(sizes)), sizes)


@pytest.mark.parametrize(("size", "dim"), [(1, 1), (7, 1), (40, 2), (30, 5)])
def test_the_same_cloud_moved(size, dim):
    rng = np.random.default_rng(size)
    cloud = rng.standard_normal((size, dim))
    z = np.concatenate([rng.permutation(cloud) + moved for moved in (0, 0.1, 100)])
    found = of_points(z, np.repeat([0, 1, 2], size), complete(3))
    np.testing.assert_allclose(found, 0, atol=1e-11)


@pytest.mark.parametrize(("size", "away"), [(2.0, 1.0), (0.5, 3.0), (10.0, 0.1)])
def test_two_points_each(size, away):
    """(0, +-1) and (away, +-size)."""
    z = [(0, 1), (0, -1), (away, size), (away, -size)]
    np.testing.assert_allclose(of_points(z, [0, 0, 1, 1], TWO), 1 - math.hypot(away, size - 1) / away, rtol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_points_by_other_routes(seed):
    """On a line by sorting; in space by all couplings. Turned, scaled, named and listed otherwise: the same."""
    edges = complete(4)
    z, cell = clouds(seed, [3, 8, 8, 11], 1)
    groups = [z[cell == k, 0] for k in range(4)]
    line = [1 - wasserstein_distance(groups[a], groups[b]) / abs(groups[a].mean() - groups[b].mean()) for a, b in edges]
    np.testing.assert_allclose(of_points(z, cell, edges), line, atol=1e-10)
    z, cell = clouds(seed, [3, 8, 8, 11], 3)
    found = of_points(z, cell, edges)
    assert np.all(found < 0)
    for (a, b), value in zip(edges, found, strict=True):
        x, y = z[cell == a], z[cell == b]
        sums = np.concatenate([np.kron(np.eye(len(x)), np.ones(len(y))), np.kron(np.ones(len(x)), np.eye(len(y)))])
        right = np.r_[np.full(len(x), 1 / len(x)), np.full(len(y), 1 / len(y))]
        cost = np.sqrt(((x[:, None] - y) ** 2).sum(2)).ravel()
        np.testing.assert_allclose(value, 1 - linprog(cost, A_eq=sums, b_eq=right).fun / np.linalg.norm(x.mean(0) - y.mean(0)), atol=1e-6)
    turn = np.linalg.qr(np.random.default_rng(seed).standard_normal((3, 3)))[0]
    order = np.random.default_rng(seed).permutation(len(z))
    np.testing.assert_allclose(of_points((5 * z @ turn + 2)[order], 3 - cell[order], 3 - np.array(edges)), found, atol=1e-11)


def test_more_points_than_most_are_drawn_from():
    z, cell = clouds(0, [150, 120, 30], 2)
    edges = complete(3)
    exact = of_points(z, cell, edges)
    np.testing.assert_array_equal(of_points(z, cell, edges, most=150, seed=5), of_points(z, cell, edges, most=10**6, seed=5))
    drawn = [of_points(z, cell, edges, most=40, seed=seed) for seed in range(4)]
    assert np.all(np.array(drawn) < 0)
    np.testing.assert_allclose(np.mean(drawn, axis=0)[:2], exact[:2], atol=0.005)  # the third's means are near each other
    np.testing.assert_array_equal(of_points(z, cell, edges, most=40, seed=1), drawn[1])
    assert not np.allclose(drawn[0], drawn[1], rtol=1e-6)
    np.testing.assert_allclose(of_points(z, 2 - cell, 2 - np.array(edges), most=40, seed=1), drawn[1], atol=1e-12)


def test_no_data_no_number():
    """Cell 3 has no data, 4 is past the last with data, 1 and 2 have one mean; points of no cell are left out."""
    z = [[0.0], [2.0], [3.0], [1.0], [4.0], [np.pi]]
    found = of_points(z, [0, 1, 1, 2, 2, -1], [(0, 3), (0, 4), (1, 2), (0, 1)])
    np.testing.assert_array_equal(np.isnan(found), [True, True, True, False])


FORMAN = {  # edges, triangles, values
    "cycle 7": (cycle(7), None, 0),
    "complete 5": (complete(5), None, 4 - 8),
    "complete 5, filled": (complete(5), list(itertools.combinations(range(5), 3)), 5),
    "cube 4": (cube(4), None, 4 - 8),
    "tree": (tree(3, 4), None, [-3, *[-1, 1] * 2, *[-2, 1] * 3]),
    "Petersen": (PETERSEN, None, -2),
    "two triangles": ([(0, 1), (2, 0), (1, 2), (3, 1), (2, 3)], [(2, 1, 0), (1, 3, 2)], [2, 2, 4, 2, 2]),
    "one of two": ([(0, 1), (2, 0), (1, 2), (3, 1), (2, 3)], [(0, 2, 1)], [2, 2, 1, -1, -1]),
    "numbers far apart": ([(10**12, 3), (3, 5)], None, [1, 1]),
}


@pytest.mark.parametrize("name", FORMAN)
def test_forman(name):
    edges, triangles, values = FORMAN[name]
    found = forman(edges, triangles)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, np.broadcast_to(values, len(edges)))


def test_of_a_network():
    """The grid that axis-parallel units cut: closed forms again, by the public way."""
    w = np.repeat(np.eye(2), 5, axis=0)
    layers = [(w, -np.tile(np.linspace(-0.8, 0.8, 5), 2)), (np.ones((1, 10)), np.zeros(1))]
    z = np.random.default_rng(0).uniform(-1, 1, (400, 2))
    found = eq.partition.build(layers, points=z)
    x, y = np.abs(found.centres[found.edges]).max(1).T
    inside = np.maximum(x, y) < 0.6
    assert inside.sum() > 0
    np.testing.assert_allclose(ollivier(found.edges)[inside], 0, atol=1e-13)
    np.testing.assert_array_equal(forman(found.edges, num_vertices=len(found.codes))[inside], -4)
    assert np.all(ollivier(found.edges, found.masses) <= 1)
    assert np.nanmax(of_points(z, found.cell_of, found.edges)) <= 1e-12


def test_no_edges():
    none = np.zeros((0, 2), int)
    for found in (
        ollivier(none),
        ollivier(none, [1.0], []),
        of_points(np.ones((2, 1)), [0, 1], none),
        forman(none),
        forman(none, np.zeros((0, 3), int)),
    ):
        assert found.shape == (0,)


EDGES = [
    ([0, 1], r"edges: got shape \(2,\)"),
    ([(0, 1, 2)], r"edges: got shape \(1, 3\)"),
    ([], r"edges: got shape \(0,\)"),
    ([(0.0, 1.0)], "edges: .* float64; expected whole numbers"),
    ([(-1, 1)], "edges: got cells -1 to 1; expected numbers >= 0"),
    ([(0, 1), (2, 2)], r"edges: got \[2, 2\], row 1; expected different"),
    ([(0, 1), (1, 2), (1, 0)], r"edges: got \[0, 1\] twice"),
]


@pytest.mark.parametrize(("edges", "message"), EDGES)
@pytest.mark.parametrize("verb", [ollivier, forman, lambda edges: of_points(np.ones((3, 1)), [0, 1, 2], edges)])
def test_bad_edges(verb, edges, message):
    with pytest.raises(ValueError, match=message):
        verb(edges)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"masses": [1.0]}, "edges: got cells 0 to 1; expected numbers >= 0 and below 1, the number of cells"),
        ({"masses": [[1.0, 1.0]]}, r"masses: got shape \(1, 2\)"),
        ({"masses": [1.0, -1.0]}, "masses: .* negative"),
        ({"masses": [1.0, np.nan]}, "masses: .* not finite; .* masses=None"),
        ({"masses": [1.0, np.inf]}, "masses: .* not finite"),
        ({"lengths": [1.0, 2.0]}, r"lengths: got shape \(2,\).* expected \(1,\)"),
        ({"lengths": [0.0]}, "lengths: .* not positive"),
        ({"lengths": [-1.0]}, "lengths: .* not positive"),
        ({"lengths": [np.nan]}, "lengths: .* not positive and finite"),
        ({"lengths": [np.inf]}, "lengths: .* not positive and finite"),
        ({"edges": [(0, 1), (1, 2)], "lengths": [1e-13, 1.0]}, "lengths: got 1e-13 to 1.0"),
        ({"laziness": 1.0}, r"laziness: got 1.0; expected .* in \[0, 1\)"),
        ({"laziness": -0.1}, "laziness: got -0.1"),
        ({"laziness": np.nan}, "laziness: got nan"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        ollivier(**{"edges": TWO} | arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"points": [1.0, 2.0]}, r"points: got shape \(2,\)"),
        ({"points": [[1.0], [np.nan]]}, "points: .* not finite"),
        ({"points": np.zeros((0, 1)), "cell_of": np.zeros(0, int)}, r"points: got shape \(0, 1\)"),
        ({"cell_of": [0]}, r"cell_of: got shape \(1,\)"),
        ({"cell_of": [0.0, 1.0]}, "cell_of: .* float64"),
        ({"cell_of": [0, -2]}, "cell_of: .* below -1"),
        ({"most": 0}, "most: got 0"),
        ({"seed": -1}, "seed: got -1"),
    ],
)
def test_bad_points(arguments, message):
    with pytest.raises(ValueError, match=message):
        of_points(**{"points": [[0.0], [1.0]], "cell_of": [0, 1], "edges": TWO} | arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_vertices": 2}, "edges: got cells 0 to 2; expected numbers >= 0 and below 2"),
        ({"num_vertices": 0}, "num_vertices: got 0"),
        ({"triangles": [(0, 1)]}, r"triangles: got shape \(1, 2\)"),
        ({"triangles": [(0, 1, 1)]}, r"triangles: got \[0, 1, 1\], row 0; expected different"),
        ({"triangles": [(0, 1, 2), (2, 1, 0)]}, r"triangles: got \[0, 1, 2\] twice"),
        ({"triangles": [(0, 1, 3)]}, r"triangles: got \(0, 1, 3\), whose side \(0, 3\) is not among the edges"),
        ({"triangles": [(0, -1, 2)]}, "triangles: got cells -1 to 2"),
    ],
)
def test_bad_triangles(arguments, message):
    with pytest.raises(ValueError, match=message):
        forman(complete(3), **arguments)


def test_laziness_is_a_number():
    with pytest.raises(TypeError, match="laziness: got str"):
        ollivier(TWO, laziness="1/2")
