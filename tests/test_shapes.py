"""Shapes: ripser sees what they state over the interval they state, the points are on the set and spread as said, meshes close."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eqdyn as eq

S = eq.shapes
PI = math.pi

# name -> (factory, number of points, options): few points, so that degree 2 takes a moment
SEEN = {
    "circle": (S.circle, 150, {}),
    "circle, even": (S.circle, 6, {"even": True, "radius": 3.0}),
    "figure eight, even": (S.figure_eight, 2600, {"even": True}),
    "two circles": (S.two_circles, 150, {}),
    "two circles, even": (S.two_circles, 41, {"even": True}),
    "trefoil": (S.trefoil, 400, {}),
    "trefoil, even": (S.trefoil, 150, {"even": True}),
    "trefoil, thick": (S.trefoil, 150, {"even": True, "tube": 0.75}),
    "disc": (S.disc, 80, {}),
    "disc, even": (S.disc, 80, {"even": True}),
    "annulus": (S.annulus, 150, {}),
    "annulus, even": (S.annulus, 150, {"even": True}),
    "annulus, thin": (S.annulus, 150, {"even": True, "inner": 9.0, "outer": 10.0}),
    "swiss roll, even": (S.swiss_roll, 300, {"even": True}),
    "sphere": (S.sphere, 150, {}),
    "sphere, even": (S.sphere, 50, {"even": True}),
    "sphere, even in R^20": (S.sphere, 50, {"even": True, "dim": 20, "radius": 0.1}),
    "torus, even": (S.torus, 160, {"even": True}),
    "torus, thin": (S.torus, 300, {"even": True, "tube": 0.4}),
    "double torus, even": (S.double_torus, 300, {"even": True}),
    "double torus, apart": (S.double_torus, 300, {"even": True, "apart": 2.3}),
    "handlebody": (S.handlebody, 150, {}),
    "handlebody, even": (S.handlebody, 150, {"even": True}),
    "sphere x circle, even": (S.sphere_circle, 400, {"even": True}),
    "clusters": (S.clusters, 60, {"count": 3}),
    "clusters in R^5": (S.clusters, 60, {"count": 2, "dim": 5, "gap": 0.5, "spread": 0.01}),
    "start_2d_two_circles, even": (S.start_2d_two_circles, 150, {"even": True}),
    "start_3d, even": (S.start_3d, 150, {"even": True}),
    "start_mnist, even": (S.start_mnist, 50, {"even": True}),
}
# the same by many drawn points: seconds each
SEEN_SLOWLY = {
    "two circles of the paper": (S.start_2d_two_circles, 1024, {}),
    "swiss roll": (S.swiss_roll, 1300, {}),
    "torus": (S.torus, 600, {}),
    "double torus": (S.double_torus, 1400, {}),
    "start_3d": (S.start_3d, 1024, {}),
    "start_mnist": (S.start_mnist, 250, {}),
    "figure eight, even": (S.figure_eight, 4096, {"even": True}),
}
FACTORIES = [
    S.circle, S.figure_eight, S.two_circles, S.trefoil, S.disc, S.annulus, S.swiss_roll, S.sphere, S.torus, S.double_torus, S.handlebody,
    S.sphere_circle, S.clusters, S.start_2d, S.start_2d_two_circles, S.start_3d, S.start_mnist,
]  # fmt: skip
EVEN = [make for make in FACTORIES if make is not S.clusters]


def named(make):
    return make.__name__


# --- the interval ----------------------------------------------------------------------------------------------------------


def sees_its_betti_numbers(shape):
    low, high = shape.interval
    for scale in (low, (low + high) / 2, high):
        assert eq.topology.betti(shape.points, scale=scale, max_dim=len(shape.betti) - 1) == shape.betti, scale


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (2, 3))])
@pytest.mark.parametrize("name", SEEN)
def test_ripser_sees_the_shape_over_its_interval(name, seed):
    make, num, options = SEEN[name]
    sees_its_betti_numbers(make(num, key=jax.random.key(seed), **options))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("name", SEEN_SLOWLY)
def test_ripser_sees_large_drawn_clouds(name, seed):
    make, num, options = SEEN_SLOWLY[name]
    sees_its_betti_numbers(make(num, key=jax.random.key(seed), **options))


@pytest.mark.parametrize("make", [S.torus, S.swiss_roll, S.annulus], ids=named)
def test_one_long_bar_a_class_covers_the_interval(make):
    """By persistence, an independent route: over the whole interval, not at three scales only, no other bar is alive."""
    from ripser import ripser

    shape = make(300, key=jax.random.key(4), even=True)
    low, high = shape.interval
    for bars, betti in zip(ripser(np.asarray(shape.points), maxdim=2, thresh=1.01 * high)["dgms"], shape.betti, strict=True):
        assert np.sum((bars[:, 0] <= low) & (bars[:, 1] > high)) == betti
        assert np.sum((bars[:, 0] <= high) & (bars[:, 1] > low)) == betti


def interval(make, num, **options):
    """What the factory states, without drawing the points."""
    stated = []
    jax.eval_shape(lambda key: stated.append(make(num, key=key, **options).interval), jax.random.key(0))
    return stated[0]


@pytest.mark.parametrize("make", EVEN, ids=named)
def test_the_interval_opens_with_more_points(make):
    few, some, many = (interval(make, num, even=True) for num in (1, 3000, 3500))
    assert few is None
    assert 0 < many[0] < some[0] < many[1] == some[1]
    drawn = interval(make, 3500)
    assert drawn is None if make in (S.figure_eight, S.start_2d) else drawn[0] > many[0]
    assert interval(make, 3, even=True) is None


def test_the_interval_has_the_unit_of_the_points():
    small, large = (S.torus(300, key=jax.random.key(0), even=True, radius=c, tube=c / 2, dtype=jnp.float64) for c in (1.0, 8.0))
    np.testing.assert_allclose(large.interval, 8 * np.asarray(small.interval), rtol=1e-12)
    np.testing.assert_allclose(large.points, 8 * small.points, rtol=1e-12)


# --- the points ------------------------------------------------------------------------------------------------------------


def two_tori(x, radius, tube, apart):
    return np.stack([(np.hypot(x[:, 0] - s * apart / 2, x[:, 1]) - radius) ** 2 + x[:, 2] ** 2 for s in (-1, 1)]) - tube**2


def on_roll(x):
    r = np.hypot(x[:, 0], x[:, 2])
    return np.abs(np.exp(2j * PI * r) - (x[:, 0] + 1j * x[:, 2]) / r) / (2 * PI)


def on_trefoil(x):
    out = np.hypot(x[:, 0], x[:, 1])
    pure = (x[:, 0] + 1j * x[:, 1]) / out, ((out - 1) + 1j * x[:, 2]) / 0.5
    return np.abs(pure[0] ** 3 - pure[1] ** 2)


# what vanishes on the set
EQUATION = {
    S.circle: lambda x: np.hypot(*x.T) - 1,
    S.figure_eight: lambda x: x[:, 1] ** 2 - 4 * (10 * (x[:, 0] + 2)) ** 2 * (1 - (10 * (x[:, 0] + 2)) ** 2),
    S.two_circles: lambda x: np.hypot(np.abs(x[:, 0]) - 1.5, x[:, 1]) - 1,
    S.trefoil: on_trefoil,
    S.disc: lambda x: np.maximum(np.hypot(*x.T) - 1, 0),
    S.annulus: lambda x: np.maximum(np.abs(np.hypot(*x.T) - 0.75) - 0.25, 0),
    S.swiss_roll: on_roll,
    S.sphere: lambda x: np.linalg.norm(x, axis=1) - 1,
    S.torus: lambda x: np.hypot(np.hypot(x[:, 0], x[:, 1]) - 1, x[:, 2]) - 0.5,
    S.double_torus: lambda x: two_tori(x, 1, 0.5, 2).min(axis=0),
    S.handlebody: lambda x: np.maximum(two_tori(x, 1, 0.4, 2).min(axis=0), 0),
    S.sphere_circle: lambda x: np.hypot(np.hypot(x[:, 0], x[:, 1]) - 1, np.hypot(x[:, 2], x[:, 3])) - 0.5,
    S.start_2d_two_circles: lambda x: np.hypot(np.abs(x[:, 0]) - 1.2, x[:, 1]) - 1,
    S.start_3d: lambda x: np.maximum(two_tori(np.stack([x[:, 1], x[:, 2], 10 * (x[:, 0] + 2)], 1), 0.5, 0.2, 0.8).min(axis=0), 0),
    S.start_mnist: lambda x: np.linalg.norm(x, axis=1) - 1,
}


@pytest.mark.parametrize("dtype", [jnp.float32, pytest.param(jnp.float64, marks=pytest.mark.slow)])
@pytest.mark.parametrize("even", [False, True])
@pytest.mark.parametrize("make", EQUATION, ids=named)
def test_points_lie_on_the_set_in_the_dtype_that_was_asked_for(make, even, dtype):
    x = make(150, key=jax.random.key(1), even=even, dtype=dtype).points
    assert x.dtype == dtype
    assert np.isfinite(x).all()
    # rounding of w near -2 counts 10 times on the pressed sets, and once more in the steep equation of the eight
    tol = (800 if make in (S.figure_eight, S.start_3d) else 60) * jnp.finfo(dtype).eps
    assert np.abs(EQUATION[make](np.asarray(x, np.float64))).max() <= tol


@pytest.mark.parametrize("make", FACTORIES, ids=named)
def test_same_key_same_points_other_key_others(make):
    first, again, other = (make(150, key=jax.random.key(seed)).points for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert len(np.unique(first, axis=0)) == 150


@pytest.mark.parametrize(("make", "even"), [(S.two_circles, True), (S.double_torus, False), (S.handlebody, True)])
def test_jit_changes_nothing(make, even):
    points = lambda key: make(150, key=key, even=even).points  # noqa: E731
    np.testing.assert_allclose(jax.jit(points)(jax.random.key(1)), points(jax.random.key(1)), atol=3e-6)


@pytest.mark.parametrize("make", [S.circle, S.two_circles, S.clusters, S.handlebody, S.start_2d], ids=named)
def test_one_point_is_a_cloud(make):
    shape = make(1, key=jax.random.key(0))
    assert shape.points.shape[0] == 1
    assert np.isfinite(shape.points).all()
    assert shape.interval is None


@pytest.mark.parametrize("make", [S.disc, S.torus, S.handlebody, S.start_3d], ids=named)
def test_even_clouds_have_no_close_pairs_and_smaller_gaps(make):
    from scipy.spatial import cKDTree

    key, dense = jax.random.key(5), np.asarray(make(3000, key=jax.random.key(6)).points)
    nearest, gap = [], []
    for even in (False, True):
        x = np.asarray(make(150, key=key, even=even).points)
        nearest.append(cKDTree(x).query(x, k=2)[0][:, 1].min())
        gap.append(cKDTree(x).query(dense)[0].max())
    assert nearest[1] > 3 * nearest[0]
    assert gap[1] < 0.85 * gap[0]


def test_the_old_draws_are_the_draws():
    """The demo and its notebook were made with these."""
    key = jax.random.key(7)
    t = 2 * jnp.pi * jax.random.uniform(key, (50,), jnp.float32)
    np.testing.assert_array_equal(S.figure_eight(50, key=key).points, jnp.stack([0.1 * jnp.sin(t) - 2, jnp.sin(2 * t)], 1))
    np.testing.assert_array_equal(S.start_2d(50, key=key).points, S.figure_eight(50, key=key).points)
    np.testing.assert_array_equal(S.circle(50, key=key, radius=2.0).points, 2.0 * jnp.stack([jnp.cos(t), jnp.sin(t)], 1))
    of_points, of_frame = jax.random.split(key)
    v = jax.random.normal(of_points, (50, 3), jnp.float32)
    frame = jnp.linalg.qr(jax.random.normal(of_frame, (794, 3), jnp.float32))[0]
    np.testing.assert_array_equal(S.start_mnist(50, key=key).points, v / jnp.linalg.norm(v, axis=1, keepdims=True) @ frame.T)


# --- how they are spread -----------------------------------------------------------------------------------------------------


def radii(x):
    return np.hypot(x[:, 0], x[:, 1])


def along_roll(x):
    t = 2 * PI * np.hypot(x[:, 0], x[:, 2])
    run, first, last = ((s * np.sqrt(1 + s**2) + np.arcsinh(s)) / 2 for s in (t, 1.5 * PI, 4.5 * PI))
    return (run - first) / (last - first)


# factory -> (function of the points, its mean over the set, in closed form)
MOMENTS = {
    S.circle: [(lambda x: x[:, 0], 0), (lambda x: x[:, 0] ** 2, 1 / 2), (lambda x: (x[:, 0] * x[:, 1]) ** 2, 1 / 8)],
    S.disc: [(lambda x: radii(x) ** 2, 1 / 2), (lambda x: radii(x) ** 4, 1 / 3), (lambda x: x[:, 0] ** 2, 1 / 4)],
    S.annulus: [(lambda x: radii(x) ** 2, 5 / 8), (lambda x: radii(x) ** 4, 7 / 16), (lambda x: x[:, 1] ** 2, 5 / 16)],
    S.sphere: [(lambda x: x[:, 2] ** 2, 1 / 3), (lambda x: x[:, 0] ** 4, 1 / 5), (lambda x: x[:, 1], 0)],
    S.torus: [
        (lambda x: (radii(x) - 1) / 0.5, 1 / 4),
        (lambda x: ((radii(x) - 1) / 0.5) ** 2, 1 / 2),
        (lambda x: ((radii(x) - 1) / 0.5) ** 3, 3 / 16),
    ],
    S.swiss_roll: [
        (along_roll, 1 / 2),
        (lambda x: along_roll(x) ** 2, 1 / 3),
        (lambda x: x[:, 1], 3 / 2),
        (lambda x: x[:, 1] * along_roll(x), 3 / 4),
    ],
    S.sphere_circle: [
        (lambda x: (radii(x) - 1) / 0.5, 1 / 6),
        (lambda x: ((radii(x) - 1) / 0.5) ** 2, 1 / 3),
        (lambda x: x[:, 2] ** 2, 1 / 12),
        (lambda x: x[:, 0] * x[:, 1], 0),
    ],
    S.two_circles: [(lambda x: np.sign(x[:, 0]), 0), (lambda x: np.abs(x[:, 0]), 3 / 2), (lambda x: x[:, 1] ** 2, 1 / 2)],
}


def agrees(values, mean, error=0.0):
    """Within 4.5 standard errors: by chance once in 150,000 checks, and the seed is fixed."""
    assert abs(values.mean() - mean) <= 4.5 * math.hypot(values.std() / math.sqrt(len(values)), error) + 1e-6


@pytest.mark.parametrize("make", MOMENTS, ids=named)
def test_uniform_by_its_moments(make):
    x = np.asarray(make(40_000, key=jax.random.key(8), dtype=jnp.float64).points)
    for function, mean in MOMENTS[make]:
        agrees(function(x), mean)


def test_trefoil_is_uniform_by_length():
    x = np.asarray(S.trefoil(40_000, key=jax.random.key(9), dtype=jnp.float64).points)
    t = np.linspace(0, 2 * PI, 200_001)[:-1]
    out = 1 + 0.5 * np.cos(3 * t)
    speed = np.sqrt(9 * 0.25 + 4 * out**2)  # |c'|
    agrees(radii(x), np.average(out, weights=speed))
    agrees(radii(x) ** 3, np.average(out**3, weights=speed))
    agrees(x[:, 0], np.average(out * np.cos(2 * t), weights=speed))


def test_even_trefoil_has_equal_steps():
    x = np.asarray(S.trefoil(3000, key=jax.random.key(9), even=True, dtype=jnp.float64).points)
    steps = np.linalg.norm(x - np.roll(x, 1, axis=0), axis=1)
    np.testing.assert_allclose(steps, steps.mean(), rtol=1e-3)  # the table of lengths is interpolated, and chords are not arcs


def test_double_torus_is_uniform_by_area():
    """Against integrals over its mesh."""
    x = np.asarray(S.double_torus(40_000, key=jax.random.key(10), dtype=jnp.float64).points)
    mesh = S.mesh.double_torus(96, dtype=jnp.float64)
    corners = np.asarray(mesh.points)[mesh.faces]
    area, centre = areas(corners), corners.mean(axis=1)
    for function in (lambda x: x[:, 0] ** 2, lambda x: np.abs(x[:, 0]), lambda x: x[:, 1] ** 2, lambda x: x[:, 2] ** 2, lambda x: x[:, 0]):
        agrees(function(x), np.average(function(centre), weights=area), error=5e-4)


@pytest.mark.parametrize(("radius", "tube", "apart"), [(1.0, 0.4, 2.0), (0.5, 0.2, 0.8)])
def test_handlebody_is_uniform_by_volume(radius, tube, apart):
    """Against rejection in its box: a chi-square over cells, where the second solid has its two tori cross."""
    x = np.asarray(S.handlebody(20_000, key=jax.random.key(11), radius=radius, tube=tube, apart=apart, dtype=jnp.float64).points)
    box = np.asarray([apart / 2 + radius + tube, radius + tube, tube])
    y = np.random.default_rng(0).uniform(-box, box, (600_000, 3))
    y = y[two_tori(y, radius, tube, apart).min(axis=0) <= 0]
    cells = [np.histogramdd(z, bins=(12, 8, 3), range=[(-b, b) for b in box])[0].ravel() for z in (x, y)]
    share = cells[1] / len(y)
    keep = share * len(x) > 10
    chi = np.sum((cells[0] - share * len(x))[keep] ** 2 / (share * len(x) * (1 + len(x) / len(y)))[keep])
    freedom = keep.sum()
    assert abs(chi - freedom) < 4 * math.sqrt(2 * freedom)


# --- moves -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "tol"), [(jnp.float32, 2e-6), (jnp.float64, 1e-13)])
@pytest.mark.parametrize("dim", [3, 40])
def test_embedding_keeps_distances(dim, dtype, tol):
    from scipy.spatial.distance import pdist

    shape = S.torus(150, key=jax.random.key(0), even=True, dtype=dtype)
    far = S.embed(shape, dim, key=jax.random.key(1))
    assert far.points.shape == (150, dim)
    assert far.points.dtype == dtype
    assert far[1:] == shape[1:]
    np.testing.assert_allclose(pdist(np.asarray(far.points, float)), pdist(np.asarray(shape.points, float)), atol=tol)
    assert not np.allclose(far.points[:, :3], shape.points, atol=0.1)
    sees_its_betti_numbers(far)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_jitter_shakes_by_sigma_and_shrinks_the_interval(seed):
    of_points, of_noise = jax.random.split(jax.random.key(seed))
    for shape, sigma in ((S.circle(150, key=of_points, even=True), 0.02), (S.sphere(150, key=of_points, even=True, dtype=jnp.float64), 0.01)):
        noisy = S.jitter(shape, sigma, key=of_noise)
        assert noisy.points.dtype == shape.points.dtype
        np.testing.assert_allclose(np.std(noisy.points - shape.points), sigma, rtol=0.2)
        assert shape.interval[0] < noisy.interval[0] < noisy.interval[1] < shape.interval[1]
        sees_its_betti_numbers(noisy)
    d = [np.linalg.norm(x[:, None] - x[None], axis=2) for x in (np.asarray(shape.points), np.asarray(noisy.points))]
    assert np.abs(d[1] - d[0]).max() <= noisy.interval[0] - shape.interval[0]


def test_jitter_may_leave_no_interval():
    shape = S.circle(150, key=jax.random.key(0))
    assert S.jitter(shape, 0.5, key=jax.random.key(1)).interval is None
    assert S.jitter(S.Shape(shape.points, (1, 1), "mine"), 0.01, key=jax.random.key(1)).interval is None


# --- meshes ----------------------------------------------------------------------------------------------------------------

# name -> (Euler characteristic, closed, length or area in closed form, resolutions)
ROLL_AREA = (
    3 / (2 * PI) * ((4.5 * PI * math.hypot(1, 4.5 * PI) + math.asinh(4.5 * PI)) - (1.5 * PI * math.hypot(1, 1.5 * PI) + math.asinh(1.5 * PI))) / 2
)
MESHES = {
    "circle": (0, True, 2 * PI, (3, 64)),
    "figure_eight": (-1, True, None, (6, 128)),
    "two_circles": (0, True, 4 * PI, (3, 64)),
    "trefoil": (0, True, None, (12, 192)),
    "disc": (1, False, PI, (1, 16)),
    "annulus": (0, False, 3 * PI / 4, (3, 64)),
    "swiss_roll": (1, False, ROLL_AREA, (3, 96)),
    "sphere": (2, True, 4 * PI, (1, 2, 3, 5, 8)),
    "torus": (0, True, 2 * PI**2, (3, 32)),
    "double_torus": (-2, True, None, (8, 9, 11, 16, 21, 32)),
}


def areas(corners):
    a, b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    return np.sqrt(np.sum(a**2, 1) * np.sum(b**2, 1) - np.sum(a * b, 1) ** 2) / 2


def built(name):
    for resolution in MESHES[name][3]:
        yield getattr(S.mesh, name)(resolution, dtype=jnp.float64)


@pytest.mark.parametrize("name", MESHES)
def test_meshes_are_what_they_say(name):
    from scipy.spatial import cKDTree

    euler, closed, size, _ = MESHES[name]
    for mesh in built(name):
        x = np.asarray(mesh.points)
        assert (mesh.euler, mesh.closed) == (euler, closed)
        assert cKDTree(x).query(x, k=2)[0][:, 1].min() > 1e-3, "a point came twice"
        assert set(mesh.edges.ravel()) == set(range(len(x))), "a point without an edge"
        assert len({frozenset(edge) for edge in mesh.edges.tolist()}) == len(mesh.edges)
        assert mesh.edges.dtype == mesh.faces.dtype == np.int32
    found = areas(x[mesh.faces]).sum() if len(mesh.faces) else np.linalg.norm(np.diff(x[mesh.edges], axis=1), axis=-1).sum()
    if size is not None:
        np.testing.assert_allclose(found, size, rtol=6e-3)
        assert found < size, "inscribed"


@pytest.mark.parametrize("name", [name for name in MESHES if name in ("circle", "two_circles", "figure_eight", "trefoil")])
def test_curves_close_with_two_edges_a_vertex_and_four_at_the_crossing(name):
    for mesh in built(name):
        assert mesh.faces.shape == (0, 3)
        degree = np.bincount(mesh.edges.ravel())
        crossing = np.flatnonzero(degree != 2)
        if name == "figure_eight":
            assert degree[crossing].tolist() == [4]
            np.testing.assert_allclose(mesh.points[crossing], [[-2, 0]], atol=1e-12)
        else:
            assert not len(crossing)


@pytest.mark.parametrize("name", [name for name in MESHES if name not in ("circle", "two_circles", "figure_eight", "trefoil")])
def test_surfaces_turn_one_way_and_every_edge_has_its_triangles(name):
    for mesh in built(name):
        sides = np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]])
        assert len(np.unique(sides, axis=0)) == len(sides), "two triangles run along an edge the same way"
        edges, times = np.unique(np.sort(sides, axis=1), axis=0, return_counts=True)
        np.testing.assert_array_equal(edges, mesh.edges)
        assert set(times) == ({2} if mesh.closed else {1, 2})
        x = np.asarray(mesh.points)[mesh.faces]
        assert areas(x).min() > 0.02 * areas(x).mean(), "no triangle is thin"
        if mesh.closed:
            assert np.einsum("ti,ti->", x[:, 0], np.cross(x[:, 1], x[:, 2])) > 0, "outwards"
        elif x.shape[2] == 2:
            a, b = x[:, 1] - x[:, 0], x[:, 2] - x[:, 0]
            assert (a[:, 0] * b[:, 1] > a[:, 1] * b[:, 0]).all(), "anticlockwise"


def test_volumes_inside_closed_meshes():
    for name, volume in (("sphere", 4 * PI / 3), ("torus", PI**2 / 2)):
        x = np.asarray(getattr(S.mesh, name)(32, dtype=jnp.float64).points)[getattr(S.mesh, name)(32).faces]
        np.testing.assert_allclose(np.einsum("ti,ti->", x[:, 0], np.cross(x[:, 1], x[:, 2])) / 6, volume, rtol=1e-2)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("name", MESHES)
def test_meshes_lie_on_the_set_of_the_cloud(name, dtype):
    mesh = getattr(S.mesh, name)(dtype=dtype)
    assert mesh.points.dtype == dtype
    assert mesh.name == getattr(S, name)(150, key=jax.random.key(0)).name
    residual = EQUATION[getattr(S, name)](np.asarray(mesh.points, np.float64))
    assert np.abs(residual).max() <= (800 if name == "figure_eight" else 60) * jnp.finfo(dtype).eps


@pytest.mark.parametrize(
    "mesh",
    [
        lambda: S.mesh.double_torus(20, radius=2.0, tube=0.3, apart=4.0),
        lambda: S.mesh.double_torus(13, radius=1.0, tube=0.9, apart=2.9),
        lambda: S.mesh.double_torus(24, radius=1.0, tube=0.5, apart=2.9),
    ],
)
def test_double_torus_of_other_sizes_closes(mesh):
    assert (mesh().euler, mesh().closed) == (-2, True)


def test_a_mesh_can_be_moved_as_tracers():
    mesh = S.mesh.torus(12)
    run = eq.simulate(eq.rules.consensus(), S.torus(30, key=jax.random.key(0)).points, eta=0.1, num_steps=3, tracers=mesh.points)
    moved = mesh._replace(points=run.tracers)
    assert moved.euler == mesh.euler == 0
