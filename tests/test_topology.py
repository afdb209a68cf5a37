"""Betti numbers at one scale: known spaces, corners, and every engine against ripser, GUDHI, ranks over the reals and each other."""

import itertools
import time
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import pdist, squareform

import eqdyn as eq
from eqdyn import topology
from eqdyn.topology import _cloud, _fast_fold, _fast_passes, _fast_ranks, _fold, _passes, _ranks, _ripser
from eqdyn.topology._device import DeviceCloud
from eqdyn.topology._flag import betti_of_packed, rank_of_packed
from eqdyn.topology._scales import Fraction
from eqdyn.topology._table import Table, pack, unpack

ENGINES = ("plain", "compiled")


def flag_distances(triangles):
    """Distances 1 and 2 whose edges at 1 make the barycentric subdivision of a triangulation, which is a flag complex."""
    simplices = sorted({face for t in triangles for k in (1, 2, 3) for face in itertools.combinations(sorted(t), k)})
    d = np.full((len(simplices), len(simplices)), 2.0)
    for (i, a), (j, b) in itertools.product(enumerate(simplices), repeat=2):
        if i == j:
            d[i, j] = 0
        elif set(a) < set(b) or set(b) < set(a):
            d[i, j] = 1
    return d


PROJECTIVE = [(0, 1, 4), (0, 1, 5), (0, 2, 3), (0, 2, 5), (0, 3, 4), (1, 2, 3), (1, 2, 4), (1, 3, 5), (2, 4, 5), (3, 4, 5)]


def grid(twist, n=4):
    """The torus, or with a twist the Klein bottle, as triangles on an n x n grid."""
    name = lambda i, j: (i % n) * n + ((j if i < n or not twist else -j) % n)  # noqa: E731
    return [
        t for i in range(n) for j in range(n) for t in ((name(i, j), name(i + 1, j), name(i, j + 1)), (name(i + 1, j), name(i, j + 1), name(i + 1, j + 1)))
    ]  # fmt: skip


def cross_polytope(n):
    return np.concatenate([np.eye(n), -np.eye(n)])


SQUARE = np.array([[0.0, 0], [1, 0], [1, 1], [0, 1]])
KNOWN = {
    "projective plane over Z/2": (flag_distances(PROJECTIVE), 1.0, 2, 2, (1, 1, 1)),
    "projective plane over Z/3": (flag_distances(PROJECTIVE), 1.0, 2, 3, (1, 0, 0)),
    "Klein bottle over Z/2": (flag_distances(grid(True)), 1.0, 2, 2, (1, 2, 1)),
    "Klein bottle over Z/3": (flag_distances(grid(True)), 1.0, 2, 3, (1, 1, 0)),
    "torus over Z/3": (flag_distances(grid(False)), 1.0, 2, 3, (1, 2, 1)),
    "octahedron": (cross_polytope(3), 1.5, 2, 2, (1, 0, 1)),
    "cross-polytope in 4-space": (cross_polytope(4), 1.5, 3, 2, (1, 0, 0, 1)),
    "cross-polytope over Z/5": (cross_polytope(4), 1.5, 3, 5, (1, 0, 0, 1)),
    "cross-polytope in 5-space, degree 3": (cross_polytope(5), 1.5, 3, 2, (1, 0, 0, 0)),
    "one point": (np.zeros((1, 3)), 0.0, 2, 2, (1, 0, 0)),
    "one point, diameter 0": (np.zeros((1, 3)), "diameter/4", 2, 2, (1, 0, 0)),
    "two points, apart": (np.array([[0.0], [1.0]]), 0.5, 1, 2, (2, 0)),
    "two points, at r": (np.array([[0.0], [1.0]]), 1.0, 1, 2, (1, 0)),
    "three points": (np.array([[0.0, 0], [1, 0], [0, 1]]), 1.0, 1, 2, (1, 0)),
    "all equal": (np.full((9, 2), 0.1), "diameter/4", 2, 2, (1, 0, 0)),
    "all equal, r = 0": (np.full((9, 2), 1 / 3), 0.0, 2, 2, (1, 0, 0)),
    "duplicates, r = 0": (np.repeat(SQUARE, 3, axis=0), 0.0, 2, 2, (4, 0, 0)),
    "duplicates": (np.repeat(SQUARE, 3, axis=0), 1.0, 2, 2, (1, 1, 0)),
    "square a hair above": ((1 - 1e-12) * SQUARE, 1.0, 2, 2, (1, 1, 0)),
    "square a hair below": ((1 + 1e-12) * SQUARE, 1.0, 2, 2, (4, 0, 0)),
    "square far away": (SQUARE + 2.0**27, 1.0, 2, 2, (1, 1, 0)),
    "nearer than squares go": (np.array([[0.0, 0], [1e-320, 0], [1, 0]]), 0.0, 1, 2, (3, 0)),
    "square very small": (1e-200 * SQUARE, 1e-200, 2, 2, (1, 1, 0)),
    "square very large": (1e200 * SQUARE, 1e200, 2, 2, (1, 1, 0)),
    "square at the end of float64": (1e300 * SQUARE, topology.LocalScale(1, threshold=1.0), 2, 2, (1, 1, 0)),
    "beyond the diameter": (SQUARE, 1e9, 2, 2, (1, 0, 0)),
    "beyond any square": (1e-200 * SQUARE, 1.0, 2, 2, (1, 0, 0)),
    "a line in its local unit": (3 * np.arange(8)[:, None], topology.LocalScale(1, threshold=1.0), 1, 2, (1, 0)),
    "ties in local units": (np.array([0, 1, 100, 102, 200, 203])[:, None], topology.LocalScale(1, quantile=0.05), 1, 2, (3, 0)),
    "a table of it, on a plane": (3 * squareform(pdist(np.arange(8)[:, None])), topology.LocalScale(1, threshold=1.0), 1, 2, (1, 0)),
    "integers": (SQUARE.astype(int), 1, 1, 2, (1, 1)),
    "float32": (SQUARE.astype(np.float32), 1.0, 1, 2, (1, 1)),
    "bfloat16": (jnp.asarray(SQUARE, jnp.bfloat16), 1.0, 1, 2, (1, 1)),
    "bfloat16 distances, of a plane": (jnp.asarray(1 - np.eye(3), jnp.bfloat16), 0.5, 1, 2, (3, 0)),
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", KNOWN)
def test_known_spaces(name, engine):
    x, scale, max_dim, prime, expected = KNOWN[name]
    ask = topology.betti_of_distances if "plane" in name or "bottle" in name or "torus" in name else topology.betti
    assert ask(x, scale=scale, max_dim=max_dim, prime=prime, engine=engine) == expected


@pytest.mark.parametrize("engine", ENGINES)
def test_far_away_without_rounding_of_distances(engine):
    """A cloud shifted by 1e8: what float64 keeps of it decides, not the size of its coordinates."""
    x = np.random.default_rng(0).integers(0, 9, (40, 2)) / 4.0
    assert topology.betti(x + 1e8, scale=0.5, engine=engine) == topology.betti(x, scale=0.5, engine=engine)


SHAPES = {
    "circle": lambda key: eq.shapes.circle(200, key=key),
    "figure eight": lambda key: eq.shapes.figure_eight(2600, key=key, even=True),
    "two circles": lambda key: eq.shapes.two_circles(200, key=key),
    "sphere": lambda key: eq.shapes.sphere(500, key=key, even=True),
    "torus": lambda key: eq.shapes.torus(900, key=key, even=True),
    "annulus": lambda key: eq.shapes.annulus(300, key=key),
    "clusters": lambda key: eq.shapes.clusters(60, key=key, count=3),
    "disc": lambda key: eq.shapes.disc(200, key=key),
}


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_inside_their_gap(name):
    """Both engines, over the stated interval, several scales in one call."""
    shape = SHAPES[name](jax.random.key(3))
    scales = list(np.linspace(*shape.interval, 3))
    expected = (*shape.betti, 0, 0)[:3]
    x = np.asarray(shape.points)
    assert topology.betti(x, scale=scales, engine="compiled") == [expected] * 3
    assert topology.betti(x, scale=scales[1], engine="plain") == expected


def draw(rng, most):
    """A random graph, or a cloud with its scale: ties, lattices, duplicates, spheres, R^1 to R^11."""
    n, kind = int(rng.integers(1, most + 1)), rng.integers(6)
    dense = 0.6 if most < 100 else 0.1  # share of the pairs: GUDHI and ripser enumerate tetrahedra, which grow with its sixth power
    if kind == 0:
        edges = np.triu(rng.random((n, n)) < dense * rng.random(), 1)
        return None, 1 - (edges | edges.T) * 0.5 - np.eye(n), 0.5
    x = rng.standard_normal((n, int(rng.integers(1, 12))))
    if kind == 2:
        x = np.round(2 * x)
    if kind == 3:
        x /= np.linalg.norm(x, axis=1)[:, None]
    if kind == 4:
        x = x[rng.integers(0, n, n)]
    if kind == 5:
        x = np.round(x) + 1e-7 * rng.standard_normal(x.shape)
    d = squareform(pdist(x)) if n > 1 else np.zeros((1, 1))
    r = float(np.quantile(d, rng.uniform(0.02, dense)))
    lattice = kind == 2
    return x, d, r if lattice else r * (1 + 1e-9)  # lattices tie exactly; elsewhere the order of a sum must not decide


def by_gudhi(edges, max_dim):
    import gudhi

    tree = gudhi.SimplexTree()
    for v in range(len(edges)):
        tree.insert([v], 0.0)
    for i, j in np.argwhere(np.triu(edges, 1)):
        tree.insert([int(i), int(j)], 0.0)
    tree.expansion(max_dim + 1)
    tree.compute_persistence(homology_coeff_field=2, persistence_dim_max=tree.dimension() <= max_dim)
    return tuple(([*tree.betti_numbers(), 0, 0, 0, 0])[: max_dim + 1])


def differs(seed, count, most):
    rng, wrong = np.random.default_rng(seed), []
    for k in range(count):
        x, d, r = draw(rng, most)
        edges = (d <= r) & ~np.eye(len(d), dtype=bool)
        max_dim = int(rng.integers(1, 4)) if edges.mean() < 0.3 and most < 100 else 2
        found = {engine: topology.betti_of_distances(d, scale=r, max_dim=max_dim, engine=engine) for engine in ENGINES}
        found |= {"ripser": _ripser.betti_of_graph(edges, max_dim, 2), "gudhi": by_gudhi(edges, max_dim)}
        if x is not None:
            found |= {f"points, {engine}": topology.betti(x, scale=r, max_dim=max_dim, engine=engine) for engine in ENGINES}
        if len(set(found.values())) > 1:
            wrong.append((k, len(d), found))
    return wrong


@pytest.mark.parametrize(
    "seed", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)]
)
def test_all_engines_agree(seed):
    pytest.importorskip("gudhi")
    assert differs(seed, 500, 70) == []


@pytest.mark.slow
def test_all_engines_agree_on_larger_ones():
    pytest.importorskip("gudhi")
    assert differs(9, 200, 400) == []


def test_euler_characteristic_and_hodge_kernels():
    """Two further routes on small ones: the alternating sum of simplices, and kernels of the combinatorial Laplacian over the reals."""
    rng = np.random.default_rng(1)
    for _ in range(200):
        n = int(rng.integers(2, 13))
        edges = np.triu(rng.random((n, n)) < rng.uniform(0.2, 0.7), 1)
        edges |= edges.T
        simplices = [[(v,) for v in range(n)]]
        while simplices[-1]:
            simplices.append([(*s, w) for s in simplices[-1] for w in range(s[-1] + 1, n) if all(edges[v, w] for v in s)])
        boundary = [np.zeros((0, n))]
        for low, high in itertools.pairwise(simplices[:5]):
            at = {s: k for k, s in enumerate(low)}
            matrix = np.zeros((len(low), len(high)))
            for k, s in enumerate(high):
                for sign in range(len(s)):
                    matrix[at[s[:sign] + s[sign + 1 :]], k] = (-1) ** sign
            boundary.append(matrix)
        kernels = []
        for k in range(min(4, len(boundary) - 1)):
            laplacian = boundary[k].T @ boundary[k] + boundary[k + 1] @ boundary[k + 1].T
            kernels.append(int(np.sum(np.linalg.eigvalsh(laplacian) < 1e-9)) if len(laplacian) else 0)
        expected = (*kernels, 0, 0, 0, 0)[:4]
        packed = pack(edges.copy())
        found = [betti_of_packed(packed, 3, 2, engine) for engine in ENGINES]
        assert found == [expected, expected]
        if len(simplices) <= 5:
            assert sum((-1) ** k * len(s) for k, s in enumerate(simplices)) == sum((-1) ** k * b for k, b in enumerate(found[0]))


def test_ranks_between_two_scales_are_those_of_ripser():
    rng, seen = np.random.default_rng(2), 0
    for _ in range(300):
        x, d, r = draw(rng, 50)
        off = ~np.eye(len(d), dtype=bool)
        outer = (d <= r) & off
        inner = outer & (d <= r * rng.uniform(0.5, 1)) if x is not None else outer & np.triu(rng.random(d.shape) < 0.7, 1)
        inner |= inner.T
        expected = _ripser.rank_of_graphs(inner, outer, 2, 2)
        seen += any(expected[1:])
        assert [rank_of_packed(pack(inner.copy()), pack(outer.copy()), 2, 2, engine) for engine in ENGINES] == [expected] * 2
    assert seen > 30


CLOUDS = {
    "plain": lambda rng: rng.standard_normal((150, 5)),
    "lattice": lambda rng: np.round(2 * rng.standard_normal((150, 2))),
    "far away": lambda rng: rng.standard_normal((150, 3)).astype(np.float32) + np.float32(1e4),
    "merged and spread": lambda rng: 1e-3 * rng.standard_normal((30, 4))[rng.integers(0, 30, 150)] + 10 * rng.integers(0, 3, (150, 1)),
    "one line": lambda rng: rng.standard_normal((90, 1)),
    "one huge outlier": lambda rng: np.concatenate([rng.standard_normal((99, 2)), [[1e9, 0]]]),
}
SCALES = [
    0.0,
    1.0,
    "diameter/4",
    "diameter/1",
    topology.NeighbourScale(1.1, 5),
    topology.LocalScale(5, threshold=1.13),
    topology.LocalScale(4, quantile=0.1234),
]


@pytest.mark.parametrize("tile", [2**26, 64 * 4 * 40], ids=["one tile", "many tiles"])
@pytest.mark.parametrize("name", CLOUDS)
def test_graphs_are_those_of_the_differences(name, tile, monkeypatch):
    """The Gram product finds what scipy's differences find, bit for bit of the graph, in NumPy and compiled, kept tiles or made again."""
    monkeypatch.setattr(_cloud, "TILE", tile)
    monkeypatch.setattr(_cloud, "KEPT", 1 if name == "plain" else 2**29)
    x = np.asarray(CLOUDS[name](np.random.default_rng(3)), np.float32).astype(np.float64)
    table = Table(squareform(pdist(x)))
    for scale, passes in itertools.product(SCALES, (_passes, _fast_passes)):
        parsed = topology._scales.parsed(scale, len(x))
        assert np.array_equal(_cloud.Cloud(x, passes).packed(parsed), table.packed(parsed)), (scale, passes)


@pytest.mark.parametrize("tile", [2**26, 64 * 4 * 40], ids=["one tile", "many tiles"])
@pytest.mark.parametrize("passes", [_passes, _fast_passes])
def test_halves_of_a_product_that_round_differently_make_one_edge(passes, tile, monkeypatch):
    """r is aimed between the two roundings of one squared distance."""
    monkeypatch.setattr(_cloud, "TILE", tile)
    x = np.random.default_rng(0).standard_normal((130, 2))
    cloud, table = _cloud.Cloud(x, passes), Table(squareform(pdist(x)))
    square = next(cloud._tiles())[1]
    square = square[:, : len(square)]
    slack = cloud._slack + 40 * float(np.finfo(np.float32).eps)
    aimed = np.argwhere(square < square.T)[:60]
    assert len(aimed) == 60 or passes is _fast_passes
    for i, j in aimed:
        r = float(np.sqrt(float(square[i, j]) + slack) * cloud._unit * (1 + 3e-9))
        assert np.array_equal(cloud.packed(r), table.packed(r))


@pytest.mark.parametrize("name", CLOUDS)
def test_graphs_made_on_a_device(name):
    x = np.asarray(CLOUDS[name](np.random.default_rng(4)), np.float32)
    table = Table(squareform(pdist(x.astype(np.float64))))
    cloud = DeviceCloud(jnp.asarray(x))
    for scale in SCALES:
        parsed = topology._scales.parsed(scale, len(x))
        assert np.array_equal(cloud.packed(parsed), table.packed(parsed)), scale


def test_what_is_handed_over_is_counted_alike(monkeypatch):
    """Whatever is left when the work runs out is a correct graph."""
    rng = np.random.default_rng(5)
    for work in (0, 200, 2000):
        monkeypatch.setattr(_fold, "WORK", work)
        monkeypatch.setattr(_ranks, "MOST", 10 + work)
        monkeypatch.setattr(_fast_fold, "WORK", 50 * work)
        monkeypatch.setattr(_fast_ranks, "MOST", 10 + work)
        for _ in range(8):
            x = rng.standard_normal((60, 3))
            expected = _ripser.betti_of_graph(unpack(_cloud.Cloud(x).packed(Fraction(3.0))), 2, 2)
            assert [topology.betti(x, scale="diameter/3", engine=engine) for engine in ENGINES] == [expected] * 2


@pytest.mark.parametrize("engine", ENGINES)
def test_work_that_removes_nothing_is_work(engine, monkeypatch):
    """A random graph has no vertex to remove: tests that fail must run down the budget too."""
    edges = np.triu(np.random.default_rng(0).random((1000, 1000)) < 0.5, 1)
    packed = pack(edges | edges.T)
    monkeypatch.setattr(_fold, "WORK", 10_000)
    monkeypatch.setattr(_fast_fold, "WORK", 1_000_000)
    fold = _fold.folded if engine == "plain" else topology._flag._core_compiled
    fold(packed[:64, :1])  # compiled
    began = time.process_time()
    fold(packed)
    assert time.process_time() - began < 1  # many seconds to the end


@pytest.mark.parametrize("engine", ENGINES)
def test_degree_0_alone_is_that_of_the_components(engine):
    rng = np.random.default_rng(0)
    for n in (1, 2, 63, 64, 200):
        edges = np.triu(rng.random((n, n)) < 0.7 / n, 1)
        edges |= edges.T
        count = connected_components(edges)[0]
        packed = pack(edges.copy())
        assert betti_of_packed(packed, 0, 2, engine) == rank_of_packed(packed, packed, 0, 2, engine) == (count,)


def test_many_configurations():
    x = np.asarray(eq.shapes.circle(60, key=jax.random.key(0)).points)
    clouds = np.stack([x, x * [1, 0.1], np.full_like(x, np.nan), x])
    expected = [[1, 1, 0], [1, 0, 0], [-1, -1, -1], [1, 1, 0]]
    assert topology.betti_along(clouds, scale="diameter/3", engine="compiled", workers=2).tolist() == expected
    assert topology.betti_along(clouds, scale="diameter/3", engine="plain").tolist() == expected


def test_many_configurations_of_a_small_dtype_may_diverge():
    x = jnp.asarray(eq.shapes.circle(60, key=jax.random.key(0)).points, jnp.bfloat16)
    clouds = [x, x * jnp.nan, np.asarray(x) * np.inf]
    assert topology.betti_along(clouds, scale="diameter/3", max_dim=1).tolist() == [[1, 1], [-1, -1], [-1, -1]]


def test_a_generator_of_configurations_is_read_as_they_are_done(monkeypatch):
    drawn, done, ahead = [0], [0], [0]

    def one(cloud, **arguments):
        done[0] += 1
        return (1, 0)

    def clouds():
        for _ in range(60):
            drawn[0] += 1
            ahead[0] = max(ahead[0], drawn[0] - done[0])
            yield SQUARE
            time.sleep(1e-3)

    monkeypatch.setattr(topology._batch, "betti", one)
    assert topology.betti_along(clouds(), max_dim=1, engine="compiled", workers=2).shape == (60, 2)
    monkeypatch.setattr(topology._batch, "betti", lambda cloud, **arguments: time.sleep(0.01) or one(cloud))
    assert topology.betti_along(clouds(), max_dim=1, engine="compiled", workers=2).shape == (60, 2)
    assert ahead[0] <= 5


def test_threads_leave_the_warnings_of_the_process_alone():
    before = list(warnings.filters)
    x = np.random.default_rng(0).standard_normal((40, 3))
    topology.betti_along([x] * 40, scale=1.0, prime=3, engine="compiled", workers=4)
    assert list(warnings.filters) == before


REFUSED = {
    "scales of a batch": (lambda: topology.betti_along([SQUARE], scale=np.array([1.0, 2.0])), ValueError, "expected one for all"),
    "no configuration": (lambda: topology.betti_along([np.full(2, np.nan)], engine="plain", workers=2), ValueError, "points: got shape"),
    "neighbours": (lambda: topology.betti_along([SQUARE], scale=topology.NeighbourScale(1.0), engine="plain", workers=2), ValueError, "scale.k"),
    "records": (lambda: topology.betti(np.zeros((3, 1), [("a", "f8")])), ValueError, "points: got shape"),
    "differences overflow": (lambda: topology.betti(1.5e308 * SQUARE), ValueError, "1e\\+300"),
    "a table for the paper": (lambda: topology.paper_recipe(np.eye(300), memory=1e5), MemoryError, "paper_recipe"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_makes_no_sense_is_refused(name):
    call, error, words = REFUSED[name]
    if "paper" in name:
        pytest.importorskip("gudhi")
    with pytest.raises(error, match=words):
        call()


@pytest.mark.slow
def test_many_configurations_in_processes():
    x = np.asarray(eq.shapes.circle(60, key=jax.random.key(0)).points)
    clouds = np.stack([x, x * [1, 0.1], np.full_like(x, np.nan)])
    assert topology.betti_along(clouds, scale="diameter/3", engine="plain", workers=2).tolist() == [[1, 1, 0], [1, 0, 0], [-1, -1, -1]]


def test_the_paper_s_recipe_and_its_two_mistakes():
    """GUDHI's default leaves out the top dimension of the complex and counts over Z/11."""
    pytest.importorskip("gudhi")
    t = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    circle = np.stack([np.cos(t), np.sin(t)], 1)
    assert topology.paper_recipe(circle) == topology.betti(circle) == (1, 1, 0)
    lonely = np.eye(5)
    assert topology.paper_recipe(lonely) == (0, 0, 0)
    assert topology.betti(lonely) == (5, 0, 0)
    # a square of long sides and a far point that sets the diameter: edges, no triangle
    square = np.concatenate([SQUARE, [[4.9, 0.5]]])
    assert topology.betti(square) == (2, 1, 0)
    assert topology.paper_recipe(square)[1] == 0
    with pytest.raises(MemoryError, match="paper_recipe"):
        topology.paper_recipe(np.random.default_rng(0).standard_normal((3000, 1)) ** 9)


MESHES = {
    "circle": (lambda: eq.shapes.mesh.circle(16), (1, 1, 0)),
    "figure eight": (lambda: eq.shapes.mesh.figure_eight(64), (1, 2, 0)),
    "two circles": (lambda: eq.shapes.mesh.two_circles(32), (2, 2, 0)),
    "disc": (lambda: eq.shapes.mesh.disc(8), (1, 0, 0)),
    "annulus": (lambda: eq.shapes.mesh.annulus(12), (1, 1, 0)),
    "sphere": (lambda: eq.shapes.mesh.sphere(2), (1, 0, 1)),
    "torus": (lambda: eq.shapes.mesh.torus(12), (1, 2, 1)),
    "double torus": (lambda: eq.shapes.mesh.double_torus(16), (1, 4, 1)),
}


@pytest.mark.parametrize("name", MESHES)
def test_meshes_have_their_betti_numbers_whatever_the_distances(name):
    make, expected = MESHES[name]
    mesh = make()
    stretched = np.asarray(mesh.points, np.float64) @ np.diag([30.0, 1.0, 0.01][: mesh.points.shape[1]])
    for points in (None, stretched):
        found = topology.mesh_betti(mesh, points)
        assert found.betti == expected
        assert found.euler == expected[0] - expected[1] + expected[2]
        assert len(found.contacts) == 0


def test_contacts_are_glued():
    """A circle pinched at two opposite points is a figure eight; the poles of a sphere glued make a loop."""
    circle = eq.shapes.mesh.circle(16)
    x = np.array(circle.points, np.float64)
    x[8] = x[0]
    found = topology.mesh_betti(circle, x)
    assert (found.betti, found.contacts.tolist()) == ((1, 2, 0), [[0, 8]])
    assert topology.mesh_betti(circle, x + [[0.0, 1e-9 * k] for k in range(16)]).betti == (1, 1, 0)
    assert topology.mesh_betti(circle, x + [[0.0, 1e-9 * k] for k in range(16)], tolerance=1e-6).betti == (1, 2, 0)
    sphere = eq.shapes.mesh.sphere(2)
    x = np.array(sphere.points, np.float64)
    low, high = x[:, 2].argmin(), x[:, 2].argmax()
    x[low] = x[high]
    assert topology.mesh_betti(sphere, x).betti == (1, 1, 1)
    assert topology.mesh_betti(circle, without=[0]).betti == (1, 0, 0)
