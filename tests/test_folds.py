"""Folds of the step map of tracers, and what became of the meshes that they carry: planted, in closed form, by bisection, by exact arithmetic."""

import itertools
import time
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from scipy.optimize import minimize

import eqdyn as eq
from eqdyn import plot_folds
from eqdyn.measure.tracer_mesh import exact, near
from eqdyn.networks import two_layer

M, S = eq.measure, eq.shapes.mesh
F64 = jnp.float64

# --- planted folds: velocities in a frozen field, and the first eta at which y + eta v(y) folds on a disc of radius R --------


def _cubic(y):
    return y - y**3


def _cusp(y):
    """Whitney's cusp: folds on the parabola x = 3 y^2 - 1/eta."""
    return jnp.stack([jnp.zeros_like(y[:, 0]), y[:, 0] * y[:, 1] - y[:, 1] ** 3], 1)


A, B = 1.4, 0.3


def _henon(y):
    """At eta = 1 the Henon map; T is not symmetric."""
    x, z = y.T
    return jnp.stack([1 - A * x**2 + z - x, B * x - z], 1)


def _well(y):
    """The gradient flow of (x^2 - 1)^2 / 4 + y^2 / 2."""
    return jnp.stack([y[:, 0] - y[:, 0] ** 3, -y[:, 1]], 1)


def _scaling(y):
    return -4 * y


PLANTED = {  # velocity, radius, the first eta on the disc
    "cubic": (_cubic, 1.5, 1 / (3 * 1.5**2 - 1)),
    "cusp": (_cusp, 1.25, 1 / (3 * 1.25**2 + 1 / 12)),  # at x = -1/6
    "Henon": (_henon, 1.0, 1 / (A + 1 + (A**2 + B) ** 0.5)),
    "double well": (_well, 1.2, 1 / (3 * 1.2**2 - 1)),
    "scaling": (_scaling, 1.0, 1 / 4),
}


def bisect(folded, low, high, rtol):
    assert not folded(low)
    assert folded(high)
    while high > low * (1 + rtol):
        middle = (low * high) ** 0.5
        low, high = (low, middle) if folded(middle) else (middle, high)
    return (low * high) ** 0.5


@pytest.mark.parametrize("name", PLANTED)
def test_planted_folds_are_found(name):
    """Within 1 %: from the place on a coarse mesh, and by bisection on "some point of a grid has an eigenvalue <= 0"."""
    velocity, radius, expected = PLANTED[name]
    mesh = S.disc(9, radius=radius, dtype=F64)
    first = M.fold_eta(velocity, mesh)
    # the rim of the mesh is a polygon of 54 corners: it stays 1 - cos(pi / 54) = 0.2 % inside
    assert expected * (1 - 1e-12) <= first.eta < expected * 1.005
    at = M.folds(velocity, jnp.asarray(first.place)[None], eta=first.eta)
    assert abs(at.margin[0]) < 1e-9
    assert at.num_nonpositive[0] >= 0
    t = jax.jacobian(lambda y: velocity(y[None])[0])(jnp.asarray(first.place))
    np.testing.assert_allclose(t @ first.direction, -first.direction / first.eta, atol=1e-9 / first.eta)
    assert 0 <= first.error < 0.01 * expected

    fine = S.disc(30, radius=radius, dtype=F64).points
    found = bisect(lambda eta: (M.folds(velocity, fine, eta=eta).num_nonpositive > 0).any(), expected / 3, expected * 3, 2e-3)
    assert abs(found / expected - 1) < 0.01
    np.testing.assert_allclose(M.folds(velocity, fine).eta_fold.min(), found, rtol=2e-3)


@pytest.mark.parametrize("name", ["cubic", "cusp", "Henon", "double well"])
def test_the_mesh_alone_sees_the_same_folds(name):
    """No derivative: the first eta at which a triangle of the moved mesh flips. It averages over triangles of a 14th of the radius."""
    velocity, radius, expected = PLANTED[name]
    mesh = S.disc(14, radius=radius, dtype=F64)
    v = velocity(mesh.points)
    found = bisect(lambda eta: len(_flips(mesh, v, eta)) > 0, expected / 2, expected * 2, 1e-3)
    assert 1 <= found / expected < 1 + 2 / 14
    by_points = M.folds(velocity, mesh.points, eta=1.3 * expected)
    flipped = _flips(mesh, v, 1.3 * expected)
    assert len(flipped) > 3
    assert (by_points.num_nonpositive[mesh.faces[flipped]] > 0).any(1).all(), "each has a corner that has turned over"
    whole = (by_points.num_nonpositive[mesh.faces] == 1).all(1)
    assert set(np.nonzero(whole)[0]) <= set(flipped)


def _flips(mesh, v, eta):
    """The triangles that turned over, with the crossings left out, which take most of the time."""
    from eqdyn.measure.tracer_mesh import local

    before, after = (local.areas(np.asarray(x), mesh.faces) for x in (mesh.points, mesh.points + eta * v))
    return np.nonzero(after / before < 0)[0]


def test_where_the_cubic_folds():
    """1 + eta (1 - 3 x^2) <= 0 beyond x^2 = (1 + 1/eta) / 3."""
    x = jnp.linspace(-2, 2, 801)[:, None]
    for eta in (0.2, 0.5, 3.0):
        found = M.folds(_cubic, x, eta=eta)
        np.testing.assert_array_equal(found.num_nonpositive, (x[:, 0] ** 2 >= (1 + 1 / eta) / 3).astype(int))
        np.testing.assert_allclose(found.margin, 1 + eta * (1 - 3 * x[:, 0] ** 2), atol=1e-14)
    inside = np.asarray(jnp.abs(x[:, 0]) < 3**-0.5)
    assert np.isinf(found.eta_fold[inside]).all()
    assert found.eta_fold.dtype == np.float64
    assert M.folds(_cubic, x.astype(jnp.float32)).margin.dtype == np.float32


def test_two_negative_eigenvalues_are_a_fold_though_the_determinant_is_positive():
    """T = -(2/eta) I turns the plane by half a turn: no triangle flips, and yet all of it passed through one point."""
    mesh = S.disc(6, dtype=F64)
    eta = 2 / 4
    found = M.folds(_scaling, mesh.points, eta=eta)
    assert (found.num_nonpositive == 2).all()
    np.testing.assert_allclose(found.margin, -1)
    change = M.mesh_change(mesh, mesh.points, mesh.points + eta * _scaling(mesh.points))
    np.testing.assert_allclose(change.det, 1)
    assert not any(change.counts.values())
    assert (M.folds(_scaling, mesh.points, eta=0.99 / 4).num_nonpositive == 0).all()

    def uneven(y):  # determinant > 0 everywhere, both eigenvalues negative on one side
        rate = -2 * jax.nn.sigmoid(5 * y[:, :1])
        return rate * y

    found = M.folds(uneven, mesh.points, eta=2.0)
    t = jax.vmap(jax.jacobian(lambda y: uneven(y[None])[0]))(mesh.points)
    determinant = np.linalg.det(np.eye(2) + 2.0 * np.asarray(t))
    both = (determinant > 0) & (np.asarray(mesh.points[:, 0]) > 0.2)
    assert both.sum() > 20
    assert (found.num_nonpositive[both] == 2).all()


def test_negative_controls_never_fold():
    y = S.disc(8, dtype=F64).points

    def rotation(y):
        return 3 * jnp.stack([-y[:, 1], y[:, 0]], 1)

    found = M.folds(rotation, y, eta=10.0)
    assert np.isinf(found.margin).all()
    assert (found.num_nonpositive == 0).all()
    assert np.isinf(found.eta_fold).all()
    assert np.isnan(found.direction).all()
    first = M.fold_eta(rotation, S.disc(8, dtype=F64))
    assert (first.eta, first.error) == (np.inf, 0.0)

    q = jnp.asarray([[2.0, 0.5, 0.0], [0.5, 1.0, 0.2], [0.0, 0.2, 0.5]])
    top = float(jnp.linalg.eigvalsh(q)[-1])
    points = S.sphere(3, dtype=F64).points
    for eta, count in ((0.99 / top, 0), (1.01 / top, 1)):
        assert (M.folds(_quadratic(q), points, eta=eta).num_nonpositive == count).all()
    np.testing.assert_allclose(M.folds(_quadratic(q), points).eta_fold, 1 / top, rtol=1e-12)

    # a shear that turns: real eigenvalues or none, by place
    def swirl(y):
        return jnp.stack([-2 * y[:, 0] + y[:, 1], -(y[:, 0] ** 3) / 3 - 2 * y[:, 1]], 1)

    found = M.folds(swirl, y, eta=1.0)
    turning = np.abs(np.asarray(y[:, 0])) > 1e-6
    assert np.isinf(found.margin[turning]).all(), "-2 +- i |x|"
    np.testing.assert_allclose(found.margin[~turning], -1)


def _quadratic(q):
    return lambda y: -y @ q


def test_between_the_points_of_a_curve():
    """A pit between two points of a coarse polygon: only halving finds it; bare points say what the points know."""
    at = jnp.asarray([np.cos(np.pi / 8), np.sin(np.pi / 8)]) * np.cos(np.pi / 8)  # the middle of an edge of the octagon

    def pit(y):
        away = y - at[None]
        return -away * jnp.exp(-jnp.sum(away**2, axis=1, keepdims=True) / 0.05)  # T = -I there

    mesh = S.circle(8, dtype=F64)
    first = M.fold_eta(pit, mesh)
    np.testing.assert_allclose(first.eta, 1, rtol=1e-6)
    np.testing.assert_allclose(first.place, at, atol=1e-3)
    assert M.fold_eta(pit, mesh, num_halvings=0).eta > 5
    assert M.fold_eta(pit, mesh.points).eta == M.fold_eta(pit, mesh, num_halvings=0).eta


@pytest.mark.parametrize("mesh", [S.circle(300, dtype=F64), S.disc(12, dtype=F64)], ids=["edges", "triangles"])
def test_halving_goes_where_it_is_lowest(mesh):
    """More edges and triangles than are halved together, and a pit as wide as one of them, in the middle of one."""
    cells = mesh.faces if len(mesh.faces) else mesh.edges
    for cell in (3, 170):
        corners = mesh.points[cells[cell]]
        at = jnp.mean(corners, axis=0)
        width = jnp.mean(jnp.sum((corners - at[None]) ** 2, axis=1))
        first = M.fold_eta(Partial(_pit, at, width), mesh)
        np.testing.assert_allclose(first.eta, 1, rtol=1e-5)
        np.testing.assert_allclose(first.place, at, atol=0.01 * float(width) ** 0.5)
        assert M.fold_eta(Partial(_pit, at, width), mesh, num_halvings=0).eta > 2


def _pit(at, width, y):
    away = y - at[None]
    return -away * jnp.exp(-jnp.sum(away**2, axis=1, keepdims=True) / width)  # T = -I at `at`


def test_cusps_along_the_tangent():
    """y -> (x, (1 - eta) y) presses the circle flat at eta = 1: the edges at both ends keep sin(pi / n) of their length."""
    mesh = S.circle(64, dtype=F64)

    def press(y):
        return jnp.stack([jnp.zeros_like(y[:, 0]), -y[:, 1]], 1)

    found = M.tangent_stretch(press, mesh, eta=1.0)
    np.testing.assert_allclose(found.value, np.sin(np.pi / 64), rtol=1e-12)
    assert abs(abs(found.place[0]) - np.cos(np.pi / 64) ** 2) < 1e-12
    moved = np.asarray(mesh.points + press(mesh.points))
    expected = np.linalg.norm(np.diff(moved[mesh.edges], axis=1)[:, 0], axis=1) / (2 * np.sin(np.pi / 64))
    np.testing.assert_allclose(found.stretch, expected, atol=1e-12)  # a linear map: the edges themselves tell
    assert M.tangent_stretch(press, mesh, eta=0.5).value > 0.5


# --- rules -----------------------------------------------------------------------------------------------------------------


def _two_layer(seed):
    of_x, of_z, of_y = jax.random.split(jax.random.key(seed), 3)
    z = jax.random.normal(of_z, (20, 1), F64)
    return jax.random.normal(of_x, (6, 2), F64), (z, jax.random.normal(of_y, (20,), F64))


RULE = eq.rules.gradient(two_layer.weighted_regression, weighted=True)


def test_folds_of_a_network_are_those_of_the_closed_form():
    """T = -(2/n) sum_z r [[a sig'' z z^t, sig' z], [sig' z^t, 0]]."""
    x, (z, y) = _two_layer(1)
    found = M.folds(M.frozen(RULE, x, data=(z, y)), x, eta=3.0)
    w, a = np.asarray(x).T
    s = 1 / (1 + np.exp(-np.outer(np.asarray(z)[:, 0], w)))
    r = (s @ a - np.asarray(y))[:, None]
    slope, bend, z = s * (1 - s), s * (1 - s) * (1 - 2 * s), np.asarray(z)
    t = -2 * np.mean(np.stack([r * a * bend * z**2, r * slope * z, r * slope * z, 0 * r * s]), axis=1).T.reshape(-1, 2, 2)
    values = np.linalg.eigvalsh(t)
    np.testing.assert_allclose(found.margin, 1 + 3 * values[:, 0], rtol=1e-10)
    np.testing.assert_array_equal(found.num_nonpositive, (1 + 3 * values <= 0).sum(1))
    np.testing.assert_allclose(found.eta_fold, 1 / -values[:, 0], rtol=1e-10)


def test_a_frozen_rule_compiles_once_and_takes_any_state():
    count = 0

    def counted(x, weight, data):
        nonlocal count
        count += 1
        return two_layer.weighted_regression(x, weight, data)

    rule = eq.rules.heavy_ball(counted, weighted=True)
    for seed in (1, 2):
        x, data = _two_layer(seed)
        M.folds(M.frozen(rule, x, data=data), x)
        traces, count = count, 0
    assert count < traces, "the second field runs the same program; only its shapes are looked at"


def test_the_first_steps_of_the_paper():
    """eta = 2.5e-3 keeps the figure eight, 3e-3 makes it cross itself; the field at the start folds neither."""
    of_data, of_start, of_run = jax.random.split(jax.random.key(0), 3)
    split = eq.data.teacher(key=of_data)
    x0 = eq.shapes.start_2d(1024, key=of_start).points
    mesh = S.figure_eight(256)
    etas = jnp.asarray([2.5e-3, 3e-3], x0.dtype)
    run = eq.simulate(RULE, x0, eta=etas, lanes=2, num_steps=30, data=eq.Batches(split.train, 128), key=of_run, tracers=mesh.points)
    kept, crossed = (M.mesh_change(mesh, mesh.points, y) for y in run.tracers)
    assert not any(kept.counts.values()), kept.summary()
    assert len(crossed.crossings) > 0
    assert crossed.stretch.max() > 100
    first = M.fold_eta(M.frozen(RULE, x0, data=tuple(leaf[:128] for leaf in split.train)), mesh, num_halvings=0)
    assert first.eta > 3e-3


# --- meshes: hand-made changes with known counts -----------------------------------------------------------------------------


def _circle(num=64):
    mesh = S.circle(num, dtype=F64)
    return mesh, np.array(mesh.points)


def _eight():
    mesh, x = _circle()
    x[:, 0] *= x[:, 1] - 0.3
    return mesh, x


def _folded_over():
    mesh, x = _circle()
    c = x[10, 0]
    x[:, 0] = np.where(x[:, 0] < c, 2 * c - x[:, 0], x[:, 0])
    return mesh, x


def _torn():
    mesh, x = _circle()
    x[1:32] += [0, 5]
    return mesh, x


def _pushed_through():
    mesh, x = _circle()
    angle = np.arctan2(x[:, 1], x[:, 0])
    x[:, 0] -= 2.6 * np.exp(-((angle / 0.8) ** 2))
    return mesh, x


def _lost():
    mesh, x = _circle()
    x[7] = [np.nan, 0]
    return mesh, x


def _far():
    mesh, x = _circle()
    x[7] = [1e200, 0]
    return mesh, x


def _pinched():
    mesh, x = _circle()
    x[20:25] = x[20]
    return mesh, x


def _one_circle_turned():
    mesh = S.two_circles(32, dtype=F64)
    x = np.array(mesh.points)
    x[:32, 1] *= -1
    return mesh, x


def _moved_together():
    mesh = S.two_circles(32, dtype=F64)
    x = np.array(mesh.points)
    return mesh, x + np.where(np.arange(64) < 32, 0.99, -0.97)[:, None] * [1, 0.1]


def _disc_folded():
    mesh = S.disc(5, dtype=F64)
    x = np.array(mesh.points)
    x[:, 1] = np.where(x[:, 1] < -1e-9, -0.37 * x[:, 1], x[:, 1])
    return mesh, x


def _mirrored(mesh):
    return mesh, np.asarray(mesh.points) * np.array([1.0] * (mesh.points.shape[1] - 1) + [-1.0])


def _torus_folded():
    mesh = S.torus(12, dtype=F64)
    x = np.array(mesh.points)
    x[:, 2] = np.where(x[:, 2] < -1e-9, -0.5 * x[:, 2], x[:, 2])
    return mesh, x


def _half_turn():
    mesh = S.torus(12, dtype=F64)
    return mesh, np.array(mesh.points) * [1.0, -1.0, -1.0]


HAND_MADE = {  # placement, and the alarms that are not zero
    "left alone": (_circle, {}),
    "eight left alone": (lambda: (S.figure_eight(32), S.figure_eight(32).points), {}),
    "eight mirrored": (lambda: _mirrored(S.figure_eight(32, dtype=F64)), {}),
    "polygon turned inside out": (lambda: _mirrored(S.circle(12, dtype=F64)), {"inside_out": 1}),
    "circle made an eight": (_eight, {"crossings": 1, "inside_out": 1}),  # the larger loop runs the other way round
    "circle folded over a line": (_folded_over, {"folded_vertices": 2, "inside_out": 1}),  # and so does the larger part
    "circle pushed through itself": (_pushed_through, {"crossings": 2, "inside_out": 1}),  # the middle of the eight runs the other way round
    "circle torn in two": (_torn, {"torn": 2}),
    "a point lost": (_lost, {"lost": 1, "torn": 2}),
    "a point too far": (_far, {"lost": 1, "torn": 2}),
    "points gathered": (_pinched, {"collapsed_edges": 4}),
    "one of two circles turned": (_one_circle_turned, {"inside_out": 1}),
    "two circles overlap": (_moved_together, {"crossings": 2}),
    "trefoil mirrored": (lambda: _mirrored(S.trefoil(96, dtype=F64)), {}),
    "disc mirrored": (lambda: _mirrored(S.disc(5, dtype=F64)), {"flipped": 150}),
    "disc folded along its diameter": (_disc_folded, {"flipped": 75, "folded_edges": 10, "crossings": None}),
    "sphere mirrored": (lambda: _mirrored(S.sphere(3, dtype=F64)), {"inside_out": 1}),
    "torus turned by half a turn": (_half_turn, {}),
    "torus folded on its equators": (_torus_folded, {"folded_edges": 48}),
}


@pytest.mark.parametrize("name", HAND_MADE)
def test_hand_made_changes(name):
    build, expected = HAND_MADE[name]
    mesh, after = build()
    change = M.mesh_change(mesh, mesh.points, after)
    for alarm, count in change.counts.items():
        if expected.get(alarm, 0) is None:
            assert count > 0, (alarm, change.summary())
        else:
            assert count == expected.get(alarm, 0), (alarm, change.summary())
    assert ("no tear, no fold, no crossing" in change.summary()) == (not expected)


def test_pieces_and_places_of_what_was_found():
    mesh, after = _torn()
    change = M.mesh_change(mesh, mesh.points, after)
    assert change.pieces == (1, 2)
    np.testing.assert_array_equal(change.torn, [0, 31])
    assert M.mesh_change(mesh, mesh.points, after, tear=1e3).pieces == (1, 1)
    mesh, after = _folded_over()
    np.testing.assert_array_equal(M.mesh_change(mesh, mesh.points, after).folded_vertices, [10, 54])
    assert not len(M.mesh_change(mesh, mesh.points, after, fold=150.0).folded_vertices), "145 degrees"
    assert not len(M.mesh_change(mesh, after, after).folded_vertices), "nothing new"
    mesh, after = _disc_folded()
    x = np.asarray(mesh.points)
    change = M.mesh_change(mesh, x, after)
    assert (x[mesh.faces[change.flipped]].mean(1)[:, 1] < 0).all()
    np.testing.assert_allclose(x[mesh.edges[change.folded_edges]][:, :, 1], 0, atol=1e-12)
    assert np.unique(change.det.round(9)).tolist() == [-0.37, 1.0]
    mesh, after = _lost()
    assert M.mesh_change(mesh, mesh.points, after).pieces == (1, 1)
    mesh, after = _circle()
    grown = M.mesh_change(mesh, after, 3 * after)
    np.testing.assert_allclose(grown.enclosed, [[32 * np.sin(np.pi / 32), 9 * 32 * np.sin(np.pi / 32)]])
    np.testing.assert_allclose(grown.stretch, 3)
    ball = S.sphere(6, dtype=F64)
    np.testing.assert_allclose(M.mesh_change(ball, ball.points, ball.points).enclosed, 4 * np.pi / 3, rtol=0.02)
    seam = S.figure_eight(64, dtype=F64)
    assert M.mesh_change(seam, seam.points, seam.points).enclosed[0, 0] == 0, "two loops, opposite ways round"


def _diffeo(key, dim, lipschitz):
    """X + f(x) with |Df| <= lipschitz everywhere: a sum of waves."""
    of_k, of_a, of_b = jax.random.split(key, 3)
    k, a = jax.random.normal(of_k, (5, dim), F64), jax.random.normal(of_a, (5, dim), F64)
    phase = jax.random.uniform(of_b, (1, 5), F64, 0, 2 * np.pi)
    bound = jnp.sum(jnp.linalg.norm(k, axis=1) * jnp.linalg.norm(a, axis=1))
    return lambda x: x + lipschitz / bound * jnp.sin(x @ k.T + phase) @ a


SMOOTH = {
    "circle": (S.circle, 200),
    "figure_eight": (S.figure_eight, 300),
    "two_circles": (S.two_circles, 100),
    "trefoil": (S.trefoil, 200),
    "disc": (S.disc, 8),
    "annulus": (S.annulus, 30),
    "sphere": (S.sphere, 5),
    "torus": (S.torus, 14),
    "double_torus": (S.double_torus, 12),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", SMOOTH)
def test_smooth_maps_raise_no_alarm(name, dtype):
    """X + f with a Lipschitz constant of 0.7 is a homeomorphism: nothing may be found, whatever the seed."""
    build, resolution = SMOOTH[name]
    mesh = build(resolution, dtype=F64)
    for seed in range(3):
        after = np.asarray(_diffeo(jax.random.key(seed), mesh.points.shape[1], 0.7)(mesh.points)).astype(dtype)
        change = M.mesh_change(mesh, np.asarray(mesh.points), after)
        assert not any(change.counts.values()), (seed, change.summary())
        assert not len(change.touching)
        assert 0.3 - 1e-3 < change.stretch.min() <= change.stretch.max() < 1.7 + 1e-3
        if np.isfinite(change.clearance).all():
            assert 0.3 < change.clearance[1] / change.clearance[0] < 1.7


@pytest.mark.parametrize(
    "name", ["circle pushed through itself", "circle folded over a line", "torus folded on its equators", "disc folded along its diameter"]
)
def test_counts_do_not_depend_on_pose_or_scale(name):
    mesh, after = HAND_MADE[name][0]()
    before, after = np.asarray(mesh.points), np.asarray(after)
    expected = M.mesh_change(mesh, before, after)
    turn, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(before.shape[1],) * 2))
    turn[:, 0] *= np.linalg.det(turn)
    for scale, shift in ((1.0, 0.0), (1e-9, 0.0), (1e20, 0.0), (3.0, 1000.0)):
        found = M.mesh_change(mesh, scale * before @ turn + shift, scale * after @ turn + shift)
        assert found.counts == expected.counts, (scale, shift)
        np.testing.assert_allclose(found.stretch, expected.stretch, rtol=1e-9)


def test_other_dtypes_and_other_errors():
    mesh, x = _circle()
    half = M.mesh_change(mesh, mesh.points, jnp.asarray(x, jnp.bfloat16))
    assert not half.counts["crossings"]
    for arguments, message in (
        ((x, x, x), "mesh: got ndarray"),
        ((mesh, x, x[:-1]), r"after: got shape \(63, 2\); expected \(64, d\)"),
        ((mesh, x[:, :1], x[:, :1]), "before: got shape"),
        ((mesh, x, x.astype(int)), "after: got dtype int64"),
        ((mesh, x, x.tolist()), "after: got list"),
        ((mesh, x, np.zeros((64, 3))), "before, after: got shapes"),
        ((mesh, np.full_like(x, np.nan), x), "before: got 128 values that are not finite"),
        ((mesh._replace(edges=mesh.edges + 1), x, x), "mesh.edges: got shape"),
        (
            (S.disc(2, dtype=F64)._replace(edges=S.disc(2).edges[:5]), S.disc(2, dtype=F64).points, S.disc(2, dtype=F64).points),
            "mesh: got a triangle",
        ),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            M.mesh_change(*arguments)
    with pytest.raises(ValueError, match=r"tear: got 1\.0"):
        M.mesh_change(mesh, x, x, tear=1.0)
    with pytest.raises(ValueError, match="fold: got 180"):
        M.mesh_change(mesh, x, x, fold=180.0)
    with pytest.raises(ValueError, match="rows act on each other"):
        M.folds(lambda y: jnp.mean(y, axis=0, keepdims=True) - y, jnp.asarray(x))
    with pytest.raises(ValueError, match="velocity: got u of shape"):
        M.folds(lambda y: y[:, :1], jnp.asarray(x))
    with pytest.raises(TypeError, match="velocity: got Rule"):
        M.folds(eq.rules.consensus(), jnp.asarray(x))
    with pytest.raises(ValueError, match="rule: got one without probe"):
        M.frozen(eq.rules.gradient(lambda x: jnp.sum(x**2)), jnp.asarray(x))
    with pytest.raises(TypeError, match="rule: got function"):
        M.frozen(_cubic, jnp.asarray(x))
    with pytest.raises(MemoryError, match="the Jacobians"):
        M.folds(_cubic, jnp.zeros((100, 1000)))
    with pytest.raises(ValueError, match="eta: got -1"):
        M.folds(_cubic, jnp.asarray(x), eta=-1.0)
    with pytest.raises(TypeError, match="mesh: got ndarray"):
        M.tangent_stretch(_cubic, x)
    bad = M.folds(jnp.sqrt, jnp.asarray([[1.0], [-1.0]]))
    assert bad.num_nonpositive.tolist() == [0, -1]
    assert np.isnan(bad.margin[1])


# --- predicates against exact arithmetic, all pairs ---------------------------------------------------------------------------


def _exact(x):
    return [[Fraction(float(value)) for value in row] for row in x]


def _cross_product(a, b):
    return [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]


def _minus(a, b):
    return [p - q for p, q in zip(a, b, strict=True)]


def _dot(a, b):
    return sum(p * q for p, q in zip(a, b, strict=True))


def _clipped(p, q, planes):
    """The part of the segment inside all half-spaces (point, inward normal), as an interval of t; None if empty."""
    low, high = Fraction(0), Fraction(1)
    for at, normal in planes:
        start, rise = _dot(_minus(p, at), normal), _dot(_minus(q, p), normal)
        if rise == 0:
            if start < 0:
                return None
        elif rise > 0:
            low = max(low, -start / rise)
        else:
            high = min(high, -start / rise)
    return (low, high) if low <= high else None


def _segments(a, b, c, d):
    """ "cross", "touch" or None, by solving for the point: another way than by orientations."""
    r, s, away = _minus(b, a), _minus(d, c), _minus(c, a)
    scale = r[0] * s[1] - r[1] * s[0]
    if scale != 0:
        t, u = (away[0] * s[1] - away[1] * s[0]) / scale, (away[0] * r[1] - away[1] * r[0]) / scale
        if 0 < t < 1 and 0 < u < 1:
            return "cross"
        return "touch" if 0 <= t <= 1 and 0 <= u <= 1 else None
    if any(r) and r[0] * away[1] - r[1] * away[0] != 0:
        return None
    if not any(r):
        if not any(s):
            return None if any(away) else "touch"
        return "touch" if s[0] * away[1] - s[1] * away[0] == 0 and 0 <= -_dot(away, s) <= _dot(s, s) else None
    ends = sorted([_dot(away, r), _dot(_minus(d, a), r)])
    return "touch" if ends[0] <= _dot(r, r) and ends[1] >= 0 else None


def _segment_triangle(p, q, a, b, c):
    normal = _cross_product(_minus(b, a), _minus(c, a))
    if not any(normal):
        return None
    rise, start = _dot(_minus(q, p), normal), _dot(_minus(p, a), normal)
    sides = [(u, _cross_product(normal, _minus(v, u))) for u, v in ((a, b), (b, c), (c, a))]
    if rise == 0:
        return "touch" if start == 0 and _clipped(p, q, sides) else None
    t = -start / rise
    point = [u + t * (v - u) for u, v in zip(p, q, strict=True)]
    inside = [_dot(_minus(point, at), n) for at, n in sides]
    if 0 < t < 1 and min(inside) > 0:
        return "cross"
    return "touch" if 0 <= t <= 1 and min(inside) >= 0 else None


def _polygons():
    """Random polygons: in general position, on a coarse grid (many touch), and within a few roundings of one line."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        yield rng.normal(size=(14, 2))
    for _ in range(40):
        yield rng.integers(0, 5, (12, 2)).astype(float)
    for _ in range(30):
        x = rng.integers(0, 9, (12, 1)) / 8 * np.array([[1.0, 1.0]]) + 0.5
        yield x + rng.integers(-2, 3, x.shape) * 2.0**-53
    for _ in range(5):
        yield rng.normal(size=(10, 2)) * 10.0 ** rng.integers(-200, 3, (10, 1))


def test_crossings_agree_with_exact_arithmetic():
    count = {"cross": 0, "touch": 0}
    for x in _polygons():
        num = len(x)
        edges = np.stack([np.arange(num), (np.arange(num) + 1) % num], 1).astype(np.int32)
        mesh = eq.shapes.Mesh(x, edges, np.zeros((0, 3), np.int32), closed=True, name="polygon")
        regular = np.asarray(S.circle(num, dtype=F64).points)
        change = M.mesh_change(mesh, regular, x)
        points = _exact(x)
        expected = {"cross": [], "touch": []}
        for i, j in itertools.combinations(range(num), 2):
            if not set(edges[i]) & set(edges[j]):
                found = _segments(*(points[k] for k in (*edges[i], *edges[j])))
                if found:
                    expected[found].append([i, j])
        assert change.crossings.tolist() == expected["cross"]
        assert change.touching.tolist() == expected["touch"]
        count = {name: count[name] + len(pairs) for name, pairs in expected.items()}
    assert min(count.values()) > 200, count


def test_piercing_agrees_with_exact_arithmetic():
    rng = np.random.default_rng(1)
    count = {"cross": 0, "touch": 0, None: 0}
    for kind in range(4):
        if kind == 0:
            x = rng.normal(size=(400, 5, 3))
        elif kind == 1:
            x = rng.integers(0, 4, (400, 5, 3)).astype(float)
        elif kind == 2:
            x = rng.integers(0, 4, (200, 5, 3)) * np.array([1.0, 1.0, 0.0]) + 0.5  # all in one plane
        else:
            x = rng.integers(0, 4, (200, 5, 3)) / 3 + rng.integers(-1, 2, (200, 5, 3)) * 2.0**-53
        flat, rows = x.reshape(-1, 3), np.arange(5 * len(x)).reshape(-1, 5)
        lower, upper = x[:, :2].min(1), x[:, :2].max(1)
        boxes = ((lower <= x[:, 2:].max(1)) & (x[:, 2:].min(1) <= upper)).all(1)
        cross, touch = exact.edge_meets_face(flat, rows[boxes, :2], rows[boxes, 2:])
        for k, at in enumerate(np.nonzero(boxes)[0]):
            expected = _segment_triangle(*_exact(x[at]))
            assert ("cross" if cross[k] else "touch" if touch[k] else None) == expected, (kind, x[at])
            count[expected] += 1
    assert min(count.values()) > 50, count


def test_a_sphere_pushed_through_itself():
    """All pairs of triangles by exact arithmetic; the cap goes in at the top and out at the bottom."""
    mesh = S.sphere(3, dtype=F64)
    x = np.array(mesh.points)
    x[:, 2] -= 2.6 * np.exp(-4 * (x[:, 0] ** 2 + x[:, 1] ** 2)) * (x[:, 2] > 0)
    change = M.mesh_change(mesh, mesh.points, x)
    points, faces = _exact(x), mesh.faces.tolist()
    expected = []
    for i, j in itertools.combinations(range(len(faces)), 2):
        if (x[faces[i]].min(0) > x[faces[j]].max(0)).any() or (x[faces[j]].min(0) > x[faces[i]].max(0)).any():
            continue
        sides = [((a, b), other) for face, other in ((faces[i], faces[j]), (faces[j], faces[i])) for a, b in itertools.combinations(face, 2)]
        if any(not {a, b} & set(other) and _segment_triangle(*(points[k] for k in (a, b, *other))) == "cross" for (a, b), other in sides):
            expected.append([i, j])
    assert len(expected) > 5
    assert change.crossings.tolist() == expected
    assert change.crossings_before == 0


@pytest.mark.parametrize(("corners", "dim"), [(2, 3), (2, 5), (3, 4), (3, 6)])
def test_distances_against_constrained_minimisation(corners, dim):
    rng = np.random.default_rng(corners + dim)
    a, b = rng.normal(size=(2, 12, corners, dim))
    found = near.distance(a, b)
    for k in range(len(a)):

        def square(s, k=k):
            return np.sum((s[:corners] @ a[k] - s[corners:] @ b[k]) ** 2)

        sums = [{"type": "eq", "fun": lambda s, part=part: np.sum(s[part]) - 1} for part in (slice(corners), slice(corners, None))]
        best = minimize(
            square, np.full(2 * corners, 1 / corners), bounds=[(0, 1)] * 2 * corners, constraints=sums, method="SLSQP", options={"ftol": 1e-14}
        )
        np.testing.assert_allclose(found[k], best.fun**0.5, rtol=1e-5, atol=1e-6)  # the minimiser finds squares to 1e-14
    # parallel ones: apart by a vector at right angles to both
    normal = np.linalg.svd(a[:, 1:] - a[:, :1])[2][:, -1:]
    np.testing.assert_allclose(near.distance(a, a + 0.3 * normal), 0.3, rtol=1e-9)
    np.testing.assert_allclose(near.distance(a, a), 0, atol=1e-12)


def test_nearly_parallel_pieces_are_as_far_apart_as_they_are():
    for angle, height in ((1e-7, 1e-12), (1e-9, 1e-14), (1e-4, 1e-3), (0, 0.3)):
        a = np.array([[[-0.5, 0, 0], [0.5, 0, 0]]])
        b = np.array([[[-0.5, -angle / 2, height], [0.5, angle / 2, height]]])
        np.testing.assert_allclose(near.distance(a, b), height, rtol=1e-6, atol=1e-16)
        plates = [np.concatenate([one, [[[0, 1.0, one[0, 0, 2]]]]], axis=1) for one in (a, b)]
        np.testing.assert_allclose(near.distance(*plates), height, rtol=1e-6, atol=1e-16)


@pytest.mark.parametrize("dtype", [jnp.float32, F64])
def test_folds_of_what_has_one_direction_for_two_eigenvalues(dtype):
    """`T = -Q J Q^T` with the Jordan block of 2: rounding makes two eigenvalues of it, real or not."""
    for seed in range(40):
        c, s = (f(np.random.default_rng(seed).uniform(0, 2 * np.pi)) for f in (np.cos, np.sin))
        Q = np.array([[c, -s], [s, c]])
        matrix = jnp.asarray(-Q @ [[2.0, 1], [0, 2.0]] @ Q.T, dtype)
        found = M.folds(Partial(_linear, matrix), jnp.ones((1, 2), dtype), eta=0.75)
        assert found.num_nonpositive[0] == 2
        np.testing.assert_allclose([found.margin[0], found.eta_fold[0]], [-0.5, 0.5], atol=4 * float(jnp.finfo(dtype).eps) ** 0.5)


def _linear(matrix, y):
    return y @ matrix.T


def test_folds_that_are_not_known_are_not_none():
    root = M.frozen(eq.rules.from_field(eq.field.mean_field(lambda x: 1.0, lambda x, s: -jnp.sqrt(x))), jnp.ones((3, 1)))
    first = M.fold_eta(root, jnp.array([[0.0], [-1.0]]))
    assert np.isnan([first.eta, first.error]).all()
    assert M.fold_eta(root, jnp.array([[0.0], [4.0]])).eta == 4  # a fold that is found is one, whatever is not known
    mesh = S.circle(8, dtype=F64)
    assert np.isnan(M.fold_eta(lambda y: y * jnp.nan, mesh).eta)
    assert np.isnan(M.fold_eta(lambda y: jnp.where(y[:, :1] > 0.9, jnp.nan, 1) * y, mesh).eta)
    lost = M.tangent_stretch(lambda y: y * jnp.nan, mesh)
    assert np.isnan(lost.value)
    part = M.tangent_stretch(lambda y: jnp.where(y[:, :1] > 0.5, jnp.nan, -1) * y, mesh, eta=0.5)
    assert np.isnan(part.value)
    assert np.isnan(part.stretch[part.edge])
    point = mesh._replace(points=mesh.points.at[1].set(mesh.points[0]))
    assert np.isinf(M.tangent_stretch(lambda y: -y, point, eta=0.5).stretch[0])


@pytest.mark.parametrize("size", [1e30, 3e38, 1e-23])
def test_tangents_of_any_size(size):
    mesh = S.circle(8)
    mesh = mesh._replace(points=mesh.points * jnp.asarray(size, mesh.points.dtype))
    np.testing.assert_allclose(M.tangent_stretch(lambda y: -y, mesh, eta=0.5).stretch, 0.5, rtol=1e-6)


@pytest.mark.parametrize("shift", [1, 2, 3, 4])
def test_rows_that_act_on_each_other_are_told(shift):
    for num in (6, 7, 40):
        with pytest.raises(ValueError, match="rows act on each other"):
            M.folds(lambda y: -3 * jnp.roll(y, shift, axis=0), jnp.ones((num, 2)))


BROKEN_MESHES = {
    "no edges": (S.circle(8)._replace(edges=np.zeros((0, 2), int)), ValueError, "mesh.edges: got none, with 0 faces"),
    "faces alone": (S.disc(3)._replace(edges=np.zeros((0, 2), int)), ValueError, "got none, with 54 faces"),
    "edges of floats": (S.circle(8)._replace(edges=S.circle(8).edges.astype(float)), TypeError, "mesh.edges: got dtype float64; expected an array"),
    "edges in a list": (S.circle(8)._replace(edges=S.circle(8).edges.tolist()), TypeError, "got list; expected .* write np.asarray"),
    "faces in a list": (S.disc(3)._replace(faces=[[0, 1, 2]]), TypeError, "mesh.faces: got list"),
    "edges elsewhere": (S.circle(8)._replace(edges=S.circle(8).edges + 1), ValueError, "entries up to 8"),
}


@pytest.mark.parametrize("name", BROKEN_MESHES)
def test_a_mesh_that_is_none_is_one_clear_error(name):
    mesh, error, message = BROKEN_MESHES[name]
    calls = (
        lambda: M.mesh_change(mesh, mesh.points, mesh.points),
        lambda: M.tangent_stretch(_scaling, mesh),
        lambda: M.fold_eta(_scaling, mesh),
    )
    for call in calls:
        with pytest.raises(error, match=message):
            call()


def test_overlapping_boxes_come_once_each():
    rng = np.random.default_rng(2)
    for _ in range(20):
        low = [rng.integers(0, 8, (num, 3)).astype(float) for num in (40, 30)]
        first, second = ((start, start + rng.integers(0, 3, start.shape)) for start in low)
        found = [pair for i, j in near.overlapping(first, second) for pair in zip(i.tolist(), j.tolist(), strict=True)]
        meet = ((first[0][:, None] <= second[1][None]) & (second[0][None] <= first[1][:, None])).all(2)
        assert sorted(found) == list(zip(*(at.tolist() for at in np.nonzero(meet)), strict=True))


def test_clearance_is_the_smallest_distance_of_all_pairs():
    """Strands of a knot that are pushed towards each other; all pairs one by one."""
    mesh = S.trefoil(60, dtype=F64)
    x = np.array(mesh.points) * [1, 1, 0.05]
    change = M.mesh_change(mesh, mesh.points, x)
    pairs = np.array([(i, j) for i, j in itertools.combinations(range(60), 2) if not set(mesh.edges[i]) & set(mesh.edges[j])])
    for k, y in enumerate((np.asarray(mesh.points), x)):
        apart = near.distance(y[mesh.edges[pairs[:, 0]]], y[mesh.edges[pairs[:, 1]]])
        np.testing.assert_allclose(change.clearance[k], apart.min(), rtol=1e-12)
        at = near.distance(*(y[mesh.edges[i]][None] for i in change.clearance_at[k]))
        np.testing.assert_allclose(at[0], apart.min(), rtol=1e-12)
    assert change.clearance[1] < 0.3 * change.clearance[0]
    sheet = S.sphere(2, dtype=F64)
    lifted = np.concatenate([sheet.points, np.asarray(sheet.points)[:, :1] ** 2], 1)
    assert 0.1 < M.mesh_change(sheet, lifted, lifted).clearance[1] < 1


@pytest.mark.parametrize("mesh", [S.figure_eight(2000), S.sphere(16), S.disc(29)], ids=["2000 edges", "5120 triangles in space", "5046 in the plane"])
def test_large_meshes_take_a_second_or_so(mesh):
    start = time.perf_counter()
    M.mesh_change(mesh, mesh.points, mesh.points)
    assert time.perf_counter() - start < 10, "0.6 s on an idle core; all pairs would take minutes"


# --- the picture --------------------------------------------------------------------------------------------------------------


def test_the_picture_marks_what_was_found(tmp_path):
    import matplotlib.pyplot as plt

    for name, words in (
        ("circle made an eight", ["crosses itself"]),
        ("circle torn in two", ["torn edge"]),
        ("disc folded along its diameter", ["flipped triangle", "fold line"]),
        ("points gathered", ["collapsed"]),
        ("left alone", []),
    ):
        mesh, after = HAND_MADE[name][0]()
        change = M.mesh_change(mesh, mesh.points, after)
        fig = plot_folds.fold_map(mesh, mesh.points, after, change)
        assert sorted(text.get_text() for legend in fig.legends for text in legend.get_texts()) == sorted(words)
        assert fig.get_suptitle() == change.summary().split("\n")[0]
        assert all("(no unit)" in ax.get_xlabel() + ax.get_ylabel() for ax in fig.axes)
        fig.savefig(tmp_path / "fold.png")
        plt.close(fig)
    ball = S.sphere(2)
    with pytest.raises(ValueError, match=r"expected .* the points of a mesh in the plane"):
        plot_folds.fold_map(ball, ball.points, ball.points, M.mesh_change(ball, ball.points, ball.points))
    plt.close("all")
