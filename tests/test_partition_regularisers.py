"""Penalties on the partition around data: against explicit Jacobians and finite differences, what they are 0 for, what they do not depend on."""

import itertools
import math
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eqdyn as eq
from eqdyn.partition import _facets
from eqdyn.partition._network import network_of, slopes_of

PENALTIES = {
    "small_cells": partial(eq.partition.small_cells, radius=0.3, tau=0.2),
    "bending": partial(eq.partition.bending, tau=0.3),
    "sharp_angles": partial(eq.partition.sharp_angles, tau=0.3),
    "mass_balance": partial(eq.partition.mass_balance, tau=0.3),
}
# input dimension, hidden widths, outputs, activation: rows longer than the first layer is wide, and shorter; outputs likewise
NETWORKS = {
    "plane": (2, (7,), 1, "relu"),
    "deep": (3, (6, 5, 4), 2, "relu"),
    "long rows": (40, (6, 7, 3), 2, "relu"),
    "many outputs": (4, (5, 6), 30, ("leaky_relu", 0.2)),
    "abs": (12, (4, 6), 3, "abs"),
}


def network(seed, dim, widths, out, dtype=np.float64):
    rng = np.random.default_rng(seed)
    sizes = [dim, *widths, out]
    layers = [
        ((rng.standard_normal((b, a)) / np.sqrt(a)).astype(dtype), (0.3 * rng.standard_normal(b)).astype(dtype)) for a, b in itertools.pairwise(sizes)
    ]
    return layers, rng.standard_normal((9, dim)).astype(dtype)


def drawn(case, seed):
    dim, widths, out, activation = NETWORKS[case]
    return *network(seed, dim, widths, out), activation


@cache
def compiled(activation):
    """Values of all penalties, and their gradients by weights and points; one program a shape for all tests."""
    return jax.jit(lambda *at: {name: jax.value_and_grad(partial(f, activation=activation), (0, 1))(*at) for name, f in PENALTIES.items()})


@cache
def autodiff(activation):
    """Of a point: pre-activations `(m,)`, their Jacobian `(m, d)`, and the outputs' derivatives by post-activations `(out, m)`."""
    low, high = slopes_of(activation)

    def run(layers, one, shift):
        h, seen = one, []
        for w, b in layers[:-1]:
            a = w @ h + b
            h = jnp.where(a > 0, high, low) * a + shift[: len(b)]
            shift = shift[len(b) :]
            seen.append(a)
        return jnp.concatenate(seen), layers[-1][0] @ h + layers[-1][1]

    def all_of(layers, one):
        none = jnp.zeros(sum(len(b) for _, b in layers[:-1]))
        (rows, _), a = jax.jacfwd(run, 1)(layers, one, none), run(layers, one, none)[0]
        return a, rows, jax.jacfwd(run, 2)(layers, one, none)[1]

    return jax.jit(jax.vmap(all_of, (None, 0)))


def explicit(layers, z, activation):
    return [np.asarray(part) for part in autodiff(activation)(layers, z)]


def slowly(name, layers, z, activation):
    """The four formulas as they stand, by loops."""
    a, rows, behind = explicit(layers, z, activation)
    low, high = slopes_of(activation)
    length = np.linalg.norm(rows, axis=2)
    d = np.abs(a) / np.where(length > 0, length, np.nan)
    near = np.nan_to_num(np.exp(-(d**2) / (2 * 0.3**2)))
    if name == "small_cells":
        return np.mean(np.log1p(np.exp((0.3 - np.nanmin(d, 1)) / 0.2)))
    if name == "bending":
        return np.mean(np.sum(near * (high - low) ** 2 * length**2 * np.sum(behind**2, axis=1), axis=1))
    if name == "sharp_angles":
        normals = rows / np.where(length > 0, length, 1)[:, :, None]
        pairs = list(itertools.combinations(range(a.shape[1]), 2))
        return np.mean([sum(near[i, j] * near[i, k] * (normals[i, j] @ normals[i, k]) ** 2 for j, k in pairs) for i in range(len(z))])
    cells = np.unique(a > 0, axis=0)
    parted = np.array([[np.nansum(d[k][(a[k] > 0) != cell]) for cell in cells] for k in range(len(z))])
    share = np.exp(-parted / 0.3)
    return np.var(np.log(np.mean(share / share.sum(1, keepdims=True), axis=0)))


FEW = [pytest.param(name, marks=[pytest.mark.slow] if name in ("long rows", "many outputs") else []) for name in NETWORKS]


@pytest.mark.parametrize("case", FEW)
def test_agrees_with_explicit_jacobians(case):
    for seed in (1, 2):
        layers, z, activation = drawn(case, seed)
        for name, (value, _) in compiled(activation)(layers, z).items():
            np.testing.assert_allclose(value, slowly(name, layers, z, activation), rtol=1e-9, err_msg=name)


@partial(jax.jit, static_argnums=2)
def facets_of(layers, z, slopes):
    seen = _facets.facets(layers, z, slopes)
    return seen.moving, seen.distances, _facets.kinks(seen, layers, slopes)


@pytest.mark.parametrize("case", FEW)
def test_distances_and_kinks(case):
    """Of every unit against autodiff; of the nearest one also by going there: up to it no bit changes, and across it the Jacobian jumps by u n^t."""
    layers, z, activation = drawn(case, 3)
    a, rows, behind = explicit(layers, z, activation)
    slopes = slopes_of(activation)
    moving, d, kinks = (np.asarray(part) for part in facets_of(layers, z, slopes))
    length = np.linalg.norm(rows, axis=2)
    np.testing.assert_array_equal(moving, length > 0)
    np.testing.assert_allclose(d[moving], (np.abs(a)[moving] / length[moving]), rtol=1e-10)
    np.testing.assert_allclose(kinks, (slopes[1] - slopes[0]) ** 2 * length**2 * np.sum(behind**2, axis=1), rtol=1e-9, atol=1e-12)
    net = network_of(layers, activation)
    d = np.where(moving, d, np.inf)
    for i, point in enumerate(np.asarray(z)):
        j = np.argmin(d[i])
        towards = -np.sign(a[i, j]) * rows[i, j] / length[i, j]
        before, after = (point + (d[i, j] + sign * 1e-7) * towards for sign in (-1, 1))
        rng = np.random.default_rng(i)
        around = rng.standard_normal((50, z.shape[1]))
        ball = point + d[i, j] * (1 - 1e-7) * around / np.linalg.norm(around, axis=1, keepdims=True)
        codes = net.codes(np.array([point, before, after]))
        assert np.all(net.codes(ball) == codes[0])
        assert np.all(codes[1] == codes[0])
        assert codes[2, j] != codes[0, j]
        jump = net.rows(codes[2]).jacobian - net.rows(codes[1]).jacobian
        np.testing.assert_allclose(np.sum(jump**2), kinks[i, j], rtol=1e-9, atol=1e-12)


def stepped(step, leaf, direction):
    return leaf + step * direction


def slope_errors(both, layers, z, activation):
    """Autodiff less central differences along a random direction of all weights and points, relative; by name."""
    rng = np.random.default_rng(5)
    at, h = (layers, z), 1e-6
    way = jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape), at)
    before, after = (jax.tree.map(partial(stepped, step), at, way) for step in (-h, h))
    codes = [network_of(layers, activation).codes(np.asarray(z)) for layers, z in (before, after)]
    np.testing.assert_array_equal(*codes)  # away from facets
    low, high = both(*before), both(*after)
    errors = {}
    for name, (_, slope) in both(*at).items():
        exact = sum(np.sum(g * v) for g, v in zip(jax.tree.leaves(slope), jax.tree.leaves(way), strict=True))
        errors[name] = abs(exact - (high[name][0] - low[name][0]) / (2 * h)) / abs(exact)
    return errors


@pytest.mark.parametrize("case", FEW)
def test_gradient_by_finite_differences(case):
    layers, z, activation = drawn(case, 4)
    assert max(slope_errors(compiled(activation), layers, z, activation).values()) < 1e-6


def permuted(layers, seed):
    rng = np.random.default_rng(seed)
    made, order = [], np.arange(layers[0][0].shape[1])
    for k, (w, b) in enumerate(layers):
        new = rng.permutation(len(b)) if k < len(layers) - 1 else np.arange(len(b))
        made.append((w[new][:, order], b[new]))
        order = new
    return made


def order_errors(both, layers, z):
    """How much values change as hidden units, then points, change places; by name."""
    values = [both(*at) for at in ((layers, z), (permuted(layers, 7), z), (layers, z[::-1]))]
    return {name: max(abs(value[name][0] - values[0][name][0]) / values[0][name][0] for value in values) for name in values[0]}


@pytest.mark.parametrize("case", ["deep", pytest.param("long rows", marks=pytest.mark.slow)])
def test_hidden_units_and_points_have_no_order(case):
    layers, z, activation = drawn(case, 6)
    assert max(order_errors(compiled(activation), layers, z).values()) < 1e-12


@jax.jit
def controls(layers, z):
    """One that holds lengths while the gradient is taken, and one in which the unit that stands first counts double."""

    def held(layers, z):
        seen = _facets.facets(layers, z, (0.0, 1.0))
        return jnp.mean(jnp.abs(seen.values) / jax.lax.stop_gradient(seen.lengths))

    def first(layers, z):
        near = _facets.facets(layers, z, (0.0, 1.0)).near(0.3)
        return jnp.mean(jnp.sum(near, axis=1) + near[:, 0])

    return {"held": jax.value_and_grad(held, (0, 1))(layers, z), "first": jax.value_and_grad(first, (0, 1))(layers, z)}


def test_controls_are_caught():
    layers, z, activation = drawn("deep", 6)
    slopes, orders = slope_errors(controls, layers, z, activation), order_errors(controls, layers, z)
    assert slopes["held"] > 1e-3 > 1e-6 > slopes["first"]
    assert orders["first"] > 1e-3 > 1e-12 > orders["held"]


EYE = (np.eye(2), np.zeros(2))
ONES = (np.ones((1, 2)), np.zeros(1))
GRID = np.array([[0.2, 0.1], [-0.1, 0.3], [0.1, -0.2], [-0.3, -0.1]])
ZEROS = {
    "small_cells: far from the facets": ("small_cells", [EYE, ONES], 100 * GRID, 1e-20),
    "small_cells: no unit that varies": ("small_cells", [(np.zeros((2, 2)), np.ones(2)), ONES], GRID, 0),
    "small_cells: no hidden layer": ("small_cells", [ONES], GRID, 0),
    "bending: no hidden layer": ("bending", [ONES], GRID, 0),
    "bending: output weights 0": ("bending", [EYE, (np.zeros((1, 2)), np.ones(1))], GRID, 0),
    "bending: constant units": ("bending", [(np.zeros((2, 2)), np.ones(2)), ONES], GRID, 0),
    "bending: all kinks far from data": ("bending", [(np.eye(2), 100 * np.ones(2)), ONES], GRID, 0),
    "sharp_angles: orthogonal": ("sharp_angles", [EYE, ONES], GRID, 0),
    "sharp_angles: orthogonal behind a layer": ("sharp_angles", [(np.eye(2), 99 * np.ones(2)), (np.eye(2), -99 * np.ones(2)), ONES], GRID, 0),
    "sharp_angles: one unit": ("sharp_angles", [(np.ones((1, 2)), np.zeros(1)), (np.ones((1, 1)), np.zeros(1))], GRID, 0),
    "mass_balance: mirror images": ("mass_balance", [EYE, ONES], np.array([[1.0, 1], [-1, 1], [1, -1], [-1, -1]]), 1e-30),
    "mass_balance: one cell": ("mass_balance", [(np.eye(2), 9 * np.ones(2)), ONES], GRID, 0),
    "mass_balance: no hidden layer": ("mass_balance", [ONES], GRID, 0),
}


@pytest.mark.parametrize("case", ZEROS)
def test_zero_where_it_is_said(case):
    name, layers, z, most = ZEROS[case]
    value, slope = jax.jit(jax.value_and_grad(PENALTIES[name], (0, 1)))(layers, z)
    assert 0 <= value <= most
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slope))


def test_not_zero_elsewhere():
    """As said: kinks that cancel on one hyperplane count each; parallel facets count as sharp."""
    twice = [(np.array([[1.0], [-1.0]]), np.zeros(2)), (np.array([[1.0, -1.0]]), np.zeros(1))]
    found = compiled("relu")(twice, np.zeros((1, 1)))
    np.testing.assert_allclose([found["bending"][0], found["sharp_angles"][0]], [2.0, 1.0])


def test_masses_become_shares():
    layers, _ = network(1, 2, (4, 3), 1)
    z = np.random.default_rng(1).uniform(-1, 1, (60, 2))
    masses = eq.partition.build(layers, points=z).masses
    sharp, soft = jax.jit(jax.vmap(lambda tau: eq.partition.mass_balance(layers, z, tau=tau)))(np.array([1e-6, 0.3]))
    np.testing.assert_allclose(sharp, np.var(np.log(masses[masses > 0])), rtol=1e-9)
    assert soft < sharp  # a soft assignment evens out


def useless(layers):
    """Units added that cut nothing new: of weights 0 with output 0 and 2, one twice, one behind a dead one, one whose row cancels."""
    (w, b), (v, c), (u, e) = layers
    first = (np.concatenate([w, 0 * w[:3], w[:1]]), np.concatenate([b, np.array([-1, 0, 2], b.dtype), b[:1]]))
    second = np.zeros((len(v) + 2, v.shape[1] + 4), v.dtype)
    second[: len(v), : v.shape[1]] = v
    second[-2, -4], second[-1, 0], second[-1, -1] = 1, 0.7, -0.7
    return [first, (second, np.concatenate([c, np.array([0.1, 0.2], c.dtype)])), (np.concatenate([u, 0 * u[:, :2] + 1], axis=1), e)]


@pytest.mark.parametrize(("dim", "dtype"), [(2, np.float64), (30, np.float32)])
def test_units_that_are_dead_there_twice_or_of_weights_0(dim, dtype):
    layers, z = network(8, dim, (5, 4), 2, dtype)
    z[0], z[1] = 0, z[2]  # a point twice, and one on the facets of units without bias
    for _, b in layers:
        b[0] = 0
    more = useless(layers)
    for value, slope in compiled("relu")(more, z).values():
        assert all(np.isfinite(leaf).all() and leaf.dtype == dtype for leaf in jax.tree.leaves((value, slope)))
    moving, d, _ = (np.asarray(part) for part in facets_of(more, z, (0.0, 1.0)))
    assert not moving[:, [5, 6, 7, 13, 14]].any()
    moving_before, before, _ = (np.asarray(part) for part in facets_of(layers, z, (0.0, 1.0)))
    kept = [0, 1, 2, 3, 4, 9, 10, 11, 12]
    np.testing.assert_array_equal(moving[:, kept], moving_before)
    np.testing.assert_allclose(d[:, kept][moving_before], before[moving_before], rtol=1e-4 if dtype == np.float32 else 1e-12, atol=1e-15)


@pytest.mark.parametrize("case", ["deep", pytest.param("long rows", marks=pytest.mark.slow)])
def test_float32_is_near_float64(case):
    layers, z, activation = drawn(case, 9)
    short = jax.tree.map(lambda leaf: leaf.astype(np.float32), (layers, z))
    values = jax.jit(lambda *at: {name: f(*at, activation=activation) for name, f in PENALTIES.items()})(*short)
    for name, (value, _) in compiled(activation)(layers, z).items():
        assert values[name].dtype == jnp.float32
        np.testing.assert_allclose(values[name], value, rtol=2e-4, err_msg=name)  # lengths are roots of sums that cancel


def test_traced_once_and_lane_by_lane():
    count = 0

    def counted(layers, z):
        nonlocal count
        count += 1
        return [f(layers, z) for f in PENALTIES.values()]

    once, three = jax.jit(counted), [network(seed, 3, (4, 3), 1) for seed in range(3)]
    alone = np.array([once(*one) for one in three])
    assert count == 1
    lanes = jax.jit(jax.vmap(counted))(*jax.tree.map(lambda *leaves: np.stack(leaves), *three))
    np.testing.assert_allclose(np.array(lanes).T, alone, rtol=1e-12)


def sizes(jaxpr):
    for equation in jaxpr.eqns:
        yield from (math.prod(out.aval.shape) for out in equation.outvars)
        for value in equation.params.values():
            for inner in value if isinstance(value, (tuple, list)) else [value]:
                if hasattr(inner := getattr(inner, "jaxpr", inner), "eqns"):
                    yield from sizes(inner)


@pytest.mark.parametrize("name", PENALTIES)
def test_no_row_is_as_long_as_an_image(name):
    """Neither for the value nor for its gradient, in nor out: nothing is larger than the data and weights themselves."""
    n, dim, widths = 10, 5000, (12, 11)
    layers = [(jnp.zeros((b, a)), jnp.zeros(b)) for a, b in itertools.pairwise([dim, *widths, dim])]
    found = jax.make_jaxpr(jax.value_and_grad(PENALTIES[name]))(layers, jnp.zeros((n, dim)))
    assert max(sizes(found.jaxpr)) <= max(widths) * dim < n * sum(widths) * dim


@pytest.mark.parametrize("name", PENALTIES)
def test_descent_makes_it_smaller(name):
    layers, z, activation = drawn("deep", 10)
    values = []
    for _ in range(20):
        value, (slope, _) = compiled(activation)(layers, z)[name]
        layers = jax.tree.map(lambda p, g: p - 1e-3 * np.asarray(g), layers, slope)
        values.append(value)
    assert values[-1] < values[0]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"layers": []}, ValueError, "layers: got list"),
        ({"layers": [jnp.eye(2), jnp.eye(2)]}, ValueError, r"layers\[0\]: got"),
        ({"layers": [(jnp.ones((2, 3)), jnp.zeros(2)), ONES]}, ValueError, r"layers\[0\]: got shapes .* in = 2 of z; write w.T"),
        ({"layers": [EYE, (jnp.ones((1, 3)), jnp.zeros(1))]}, ValueError, r"layers\[1\]: got shapes .* expected W \(out, 2\)"),
        ({"layers": [(jnp.eye(2), jnp.zeros(3)), ONES]}, ValueError, r"layers\[0\]: got shapes"),
        ({"layers": [(jnp.eye(2) * jnp.nan, jnp.zeros(2)), ONES]}, ValueError, "layers: got 4 values that are not finite"),
        ({"layers": [(jnp.eye(2, dtype=int), jnp.zeros(2)), ONES]}, TypeError, r"layers\[0\]\[0\]: got dtype int64"),
        ({"layers": [(np.eye(2).tolist(), jnp.zeros(2)), ONES]}, TypeError, r"layers\[0\]\[0\]: got list"),
        ({"z": GRID.astype(jnp.float32)}, TypeError, r"layers\[0\]: got float64 and float64 beside z of float32"),
        ({"z": GRID[0]}, ValueError, r"z: got an array of shape \(2,\)"),
        ({"z": GRID * jnp.inf}, ValueError, "z: got 8 values that are not finite"),
        ({"tau": 0.0}, ValueError, "tau: got 0.0"),
        ({"tau": "wide"}, TypeError, "tau: got str"),
        ({"radius": -1.0}, ValueError, "radius: got -1.0"),
        ({"activation": "tanh"}, ValueError, "activation: got 'tanh'"),
        ({"activation": ("leaky_relu", 1.0)}, ValueError, "activation: got"),
    ],
)
def test_bad_input(change, error, message):
    for name in ["small_cells"] if "radius" in change else PENALTIES:
        arguments = {"layers": [EYE, ONES], "z": GRID, "tau": 0.1} | ({"radius": 0.1} if name == "small_cells" else {}) | change
        with pytest.raises(error, match=message):
            getattr(eq.partition, name)(**arguments)
