"""Swap curvature: three routes against a dense Jacobian, closed forms, folds that the determinant does not see, Lanczos, twins."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tables import batch, start

import eqdyn as eq
from eqdyn.linalg import lanczos_rows
from eqdyn.measure import swap as measured
from eqdyn.networks import two_layer
from eqdyn.transverse import dense, step_map

N, D, SEEDS = 8, 3, 20
BLACK_BOX = eq.rules.gradient(two_layer.regression)
FIRST_VARIATION = eq.rules.gradient(two_layer.weighted_regression, weighted=True)
ADDITIVE = eq.rules.gradient(two_layer.regression_field())
CLOSE = {"float32": 1e-5, "float64": 1e-10}


def systems(dtype):
    """Twenty small networks in which every particle has a twin, and their batches."""
    data = batch(dtype)
    halves = jax.vmap(lambda k: jax.random.normal(jax.random.key(k), (N // 2, D), dtype))(jnp.arange(SEEDS))
    return jnp.concatenate([halves, halves], axis=1), data


@functools.partial(jax.jit, static_argnums=0)
def by_hand(rule, x, data):
    """T from the dense Jacobian of all particles: `d_iU_i - d_jU_i` with j the twin of i."""
    jacobian = jax.jacfwd(lambda x: rule.update(x, rule.init(x), data).u)(x)  # (n, d, n, d)
    i = jnp.arange(N)
    return jacobian[i, :, i] - jacobian[i, :, (i + N // 2) % N]


@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.slow)])
def test_three_routes_agree_with_the_dense_jacobian(dtype):
    xs, data = systems(jnp.dtype(dtype))
    expected = jax.jit(jax.vmap(lambda x: by_hand(BLACK_BOX, x, data)))(xs)
    size = jnp.max(jnp.abs(expected))
    group = eq.groups.rows(xs[0])

    def from_probe(rule):
        return jax.jit(jax.vmap(lambda x: dense(step_map(rule, group, x, (), data).product, N, D, x.dtype)))(xs)

    for rule in (FIRST_VARIATION, ADDITIVE):
        assert float(jnp.max(jnp.abs(from_probe(rule) - expected)) / size) < CLOSE[dtype]
    for x, T in zip(xs, expected, strict=True):
        found = eq.measure.swap_curvature(BLACK_BOX, x, data=data)
        assert found.route == "twins"
        assert sorted(map(tuple, found.where.tolist())) == [(i, i + N // 2) for i in range(N // 2)]
        assert float(jnp.max(jnp.abs(found.T - T[found.where[:, 0]])) / size) < CLOSE[dtype]
        assert float(jnp.max(found.error)) <= CLOSE[dtype] * float(size)


@pytest.mark.slow
def test_one_derivative_serves_all_pairs_of_twins_without_cross_talk():
    """A tangent on every pair at once is the sum of what each pair alone answers, and moves nobody else."""
    xs, data = systems(jnp.float64)
    x, half = xs[0], N // 2
    v = jax.random.normal(jax.random.key(5), (half, D))
    _, along = jax.linearize(lambda x: BLACK_BOX.update(x, (), data).u, x)
    together = along(jnp.concatenate([v, -v]))
    for p in range(half):
        alone = along(jnp.zeros_like(x).at[p].set(v[p]).at[p + half].set(-v[p]))
        np.testing.assert_allclose(together[p], alone[p], atol=1e-12)
        others = np.delete(np.asarray(alone), [p, p + half], axis=0)
        assert np.abs(others).max() < 1e-12
    # control: unequal weights do not cancel
    uneven = eq.Weighted(x, jnp.ones(N).at[0].set(2.0))
    _, du = jax.jvp(
        lambda p: FIRST_VARIATION.update(eq.Weighted(p, uneven.weight), (), data).u.x, (x,), (jnp.zeros_like(x).at[0].set(v[0]).at[half].set(-v[0]),)
    )
    assert np.abs(np.delete(np.asarray(du), [0, half], axis=0)).max() > 1e-3


def test_near_pairs_give_the_curvature_at_their_middle_to_second_order():
    data, base = batch(jnp.float64), start(jnp.float64, n=6)
    aside = jax.random.normal(jax.random.key(9), base.shape)
    misses = []
    for h in (1e-2, 1e-3):
        x = jnp.concatenate([base + h * aside, base - h * aside])
        found = eq.measure.swap_curvature(BLACK_BOX, x, data=data)
        T = jax.vmap(jax.jacfwd(lambda p, x=x: ADDITIVE.probe(p[None], (), x, (), data).u[0]))(base)
        assert {tuple(sorted(pair)) for pair in found.where.tolist()} == {(i, i + 6) for i in range(6)}
        order = found.where.min(axis=1)
        misses.append(float(jnp.max(jnp.abs(found.T - T[order]))))
        assert misses[-1] <= 20 * float(jnp.max(found.error))  # the error that is reported is of the right size
    assert misses[1] < misses[0] / 50  # h^2: a hundredth


@pytest.mark.parametrize("weighted", [False, True])
def test_pairs_are_of_one_weight(weighted):
    x, data = start(jnp.float64, n=6), batch(jnp.float64)
    weight = jnp.array([1.0, 1, 2, 2, 3, 3]) if weighted else jnp.ones(6)
    rule = FIRST_VARIATION._replace(probe=None)
    found = eq.measure.swap_curvature(rule, eq.Weighted(x, weight), data=data)
    assert np.all(weight[found.where[:, 0]] == weight[found.where[:, 1]])
    assert set(found.where.ravel().tolist()) == set(range(6))


CLOSED = [
    # rule, T, real eigenvalues at or below zero of I + T at eta = 1
    ("consensus", eq.rules.consensus(), -np.eye(2), 2),
    (
        "rotation",
        eq.rules.from_field(eq.field.mean_field(lambda x: (x, 1.0), lambda x, s: (s[0] / s[1] - x)[::-1] * jnp.array([1.0, -1.0]))),
        None,
        0,
    ),
    ("turned by pi", eq.rules.from_field(eq.field.mean_field(lambda x: (x, 1.0), lambda x, s: 2 * (s[0] / s[1] - x))), -2 * np.eye(2), 2),
    ("separating", eq.rules.from_field(eq.field.mean_field(lambda x: (x, 1.0), lambda x, s: 3 * (x - s[0] / s[1]))), 3 * np.eye(2), 0),
]


@pytest.mark.parametrize(("name", "rule", "T", "count"), CLOSED, ids=[row[0] for row in CLOSED])
def test_closed_forms(name, rule, T, count):
    x = jax.random.normal(jax.random.key(0), (5, 2))
    found = eq.measure.swap_curvature(rule, x)
    if T is not None:
        np.testing.assert_allclose(found.T, np.broadcast_to(T, (5, 2, 2)), atol=1e-14)
    places = eq.measure.transverse(rule, x)
    assert places.num_nonpositive(1.0).tolist() == [count] * 5
    # two negative eigenvalues leave the determinant positive: it must be reported as folded all the same
    determinant = np.linalg.det(np.eye(2) + np.asarray(found.T))
    assert np.all(determinant > 0) or name == "consensus"
    assert np.all((places.fold_margin(1.0) <= 0) == (count > 0))
    expected = {"consensus": 1.0, "turned by pi": 0.5}.get(name, np.inf)
    np.testing.assert_allclose(places.eta_fold(), expected)


def test_rotation_has_no_real_eigenvalue_and_no_approach():
    places = eq.measure.transverse(CLOSED[1][1], jax.random.normal(jax.random.key(0), (5, 2)))
    assert np.all(np.isinf(places.low))
    np.testing.assert_allclose(places.norm, 1, rtol=1e-12)
    np.testing.assert_allclose(places.approach, 0, atol=1e-12)
    assert places.asymmetry > 1


@pytest.mark.parametrize("kind", [pytest.param("symmetric", marks=pytest.mark.slow), "general"])
def test_matrix_free_equals_dense(kind, monkeypatch):
    x, data = start(jnp.float64, n=7), batch(jnp.float64)
    rule = (
        ADDITIVE
        if kind == "symmetric"
        else eq.rules.from_field(eq.field.mean_field(lambda x: jnp.sin(x), lambda x, s: jnp.cos(x + s) * jnp.roll(x, 1)))
    )
    data = data if kind == "symmetric" else None
    whole = eq.measure.transverse(rule, x, data=data)
    blind = eq.measure.transverse(rule._replace(probe=None), jnp.concatenate([x, x]), data=data)  # other field: twins of full weight
    twice = eq.measure.transverse(rule, jnp.concatenate([x, x]), data=data)
    monkeypatch.setattr(measured, "WIDEST", 1)
    free = eq.measure.transverse(rule, x, data=data)
    blind_free = eq.measure.transverse(rule._replace(probe=None), jnp.concatenate([x, x]), data=data)
    assert (whole.kind, free.kind) == ("exact", "estimate" if kind == "symmetric" else "lower")
    np.testing.assert_allclose(free.norm, whole.norm, rtol=1e-10)
    np.testing.assert_allclose(free.approach, whole.approach, atol=1e-10 * whole.norm.max())
    np.testing.assert_allclose(blind.norm, twice.norm[blind.where[:, 0]], rtol=1e-9)
    np.testing.assert_allclose(blind_free.norm, blind.norm, rtol=1e-9)
    assert np.all(free.low <= whole.low + 1e-10)  # the symmetric part bounds real eigenvalues
    if kind == "symmetric":
        np.testing.assert_array_equal(free.num_nonpositive(30.0), whole.num_nonpositive(30.0))


def test_lanczos_by_rows_against_eigh():
    """Twelve symmetric matrices of rank 2, 5 and full: ends, residuals, and no ghost below an invariant subspace."""
    d, rng = 9, np.random.default_rng(0)
    matrices = []
    for rank in (2, 5, d):
        for _ in range(4):
            basis = np.linalg.qr(rng.normal(size=(d, d)))[0][:, :rank]
            matrices.append(basis @ np.diag(rng.normal(size=rank)) @ basis.T)
    A = jnp.asarray(np.stack(matrices))

    @functools.partial(jax.jit, static_argnums=0)
    def ends(num_iters):
        return lanczos_rows(lambda v: jnp.einsum("nij,nj->ni", A, v), jnp.zeros((12, d)), num_iters=num_iters, key=jax.random.key(0))

    found = ends(d)
    values = np.linalg.eigvalsh(A)
    np.testing.assert_allclose(found.low, values[:, 0], atol=1e-10)
    np.testing.assert_allclose(found.high, values[:, -1], atol=1e-10)
    assert float(jnp.max(found.low_residual)) < 1e-9
    few = ends(3)
    gap = np.min(np.abs(values - np.asarray(few.low)[:, None]), axis=1)
    assert np.all(gap <= np.asarray(few.low_residual) + 1e-12)  # an eigenvalue lies within the residual


def test_tracers_of_a_real_network_are_its_units():
    """The additive field of a parameter tree: at the units the probe is the update, and T is that of the rows' network."""
    params = two_layer.classifier(start(jnp.float64, n=6, d=7), 4)
    data = jax.random.normal(jax.random.key(1), (16, 4)), jnp.arange(16) % 3
    neurons, rule = two_layer.neurons(params), eq.rules.adam(two_layer.classifier_field(params))
    plain = eq.rules.adam(two_layer.cross_entropy)
    state = rule.init(params)
    for _ in range(3):
        params, state, _ = eq.step(rule, params, state, 1e-2, data)
    u = rule.update(params, state, data).u
    for a, b in zip(jax.tree.leaves(u), jax.tree.leaves(plain.update(params, state, data).u), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)
    found = eq.measure.swap_curvature(rule, params, state, data, group=neurons)
    assert found.T.shape == (6, 7, 7)
    run = eq.simulate(rule, params, eta=1e-2, num_steps=5, data=data, tracers=neurons.particles(params))
    np.testing.assert_allclose(run.tracers, neurons.particles(run.x), rtol=1e-9)


def test_additive_with_weights_is_the_first_variation():
    x, data = eq.Weighted(start(jnp.float64, n=5), jnp.array([1.0, 2.0, 0.5, 3.0, 1.0])), batch(jnp.float64)
    y = jax.random.normal(jax.random.key(2), (4, 3))
    np.testing.assert_allclose(ADDITIVE.probe(y, (), x, (), data).u, FIRST_VARIATION.probe(y, (), x, (), data).u, atol=1e-14)
    np.testing.assert_allclose(ADDITIVE.update(x, (), data).u.x, FIRST_VARIATION.update(x, (), data).u.x, atol=1e-14)


# --- what is claimed, and where nothing is known -------------------------------------------------------------------------


def alone(velocity):
    """Every particle by itself."""
    return eq.rules.from_field(eq.field.mean_field(lambda x: 1.0, velocity))


SQUARES = eq.rules.from_function(lambda a: -a * a / 2)
TWINS = {  # particles, and what the route over pairs may claim
    "all twins": ([[1.0], [1.0], [3.0], [3.0]], "exact"),
    "no twins": ([[0.0], [4.0]], "estimate"),
    "one pair of two": ([[1.0], [1.0], [0.0], [4.0]], "estimate"),
}


@pytest.mark.parametrize("name", [pytest.param(name, marks=[] if name == "all twins" else pytest.mark.slow) for name in TWINS])
def test_pairs_are_exact_where_all_are_twins(name, monkeypatch):
    """U = -a^2/2: what bringing a pair together changes is 0 to the last bit, and T of neither is that of the middle."""
    x, kind = TWINS[name]
    found = eq.measure.transverse(SQUARES, jnp.asarray(x))
    assert found.kind == kind
    assert not found.error.any() or np.all(found.error < 1e-12)
    assert eq.critical(SQUARES, jnp.asarray(x), key=jax.random.key(0)).fold.kind in (kind, "estimate")
    monkeypatch.setattr(measured, "WIDEST", 0)
    assert eq.measure.transverse(SQUARES, jnp.asarray(x)).kind == "estimate"


@pytest.mark.slow
@pytest.mark.parametrize(("num_iters", "kind", "fold"), [(12, "estimate", "estimate"), (70, "lower", "upper")])
def test_few_steps_of_lanczos_bound_nothing(num_iters, kind, fold):
    """Ritz values lie inside the spectrum of the symmetric part: no bound of the real eigenvalues of T before they fill it."""
    matrix = jnp.asarray(np.random.default_rng(1).normal(size=(70, 70)))
    rule, x = alone(lambda x, s: matrix @ x), jnp.ones((2, 70))
    found = eq.measure.transverse(rule, x, num_iters=num_iters)
    assert found.kind == kind
    assert found.num_nonpositive(1.0).tolist() == [-1, -1]
    lowest = np.linalg.eigvalsh((matrix + matrix.T) / 2)[0]
    assert np.all(found.low >= lowest - 1e-9)
    assert (kind == "lower") == np.allclose(found.low, lowest, rtol=1e-9)
    assert eq.critical(rule, x, num_iters=num_iters).fold.kind in (fold, "estimate")


def test_what_is_not_finite_is_not_known():
    rule, x = alone(lambda x, s: -jnp.sqrt(x)), jnp.array([[4.0], [0.0], [-1.0]])
    found = eq.measure.transverse(rule, x)
    np.testing.assert_array_equal(found.low, [-0.25, np.nan, np.nan])
    np.testing.assert_array_equal(found.eta_fold(), [4, np.nan, np.nan])
    assert found.num_nonpositive(1e3).tolist() == [1, -1, -1]


@pytest.mark.parametrize("widest", [64, 1])
def test_a_stiff_particle_does_not_make_another_symmetric(widest, monkeypatch):
    stiff, turn = jnp.array([[-1e6, 0.0], [0, -1e6]]), jnp.array([[-0.1, -0.3], [0.3, -0.1]])
    monkeypatch.setattr(measured, "WIDEST", widest)
    found = eq.measure.transverse(alone(lambda x, s: jnp.where(x[0] > 0, stiff @ x, turn @ x)), jnp.array([[1.0, 0], [-1.0, 0]]))
    assert found.asymmetry > 0.5
    if widest == 1:
        assert found.num_nonpositive(100.0).tolist() == [2 if not np.isnan(found.eigenvalues[0]).any() else 1, -1]
    else:
        np.testing.assert_allclose(found.low, [-1e6, np.inf])
        assert found.num_nonpositive(100.0).tolist() == [2, 0]
        assert found.error[0] <= 64 * 1e6 * np.finfo(float).eps * 1.01


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_the_error_covers_the_eigenvalue_of_a_jordan_block(size, dtype):
    """`T = -Q J Q^T` with the one eigenvalue -2, which rounding moves by eps^(1 / size)."""
    missed = []
    for seed in range(20):
        Q = np.linalg.qr(np.random.default_rng(seed).normal(size=(size, size)))[0]
        matrix = jnp.asarray(-Q @ (2 * np.eye(size) + np.eye(size, k=1)) @ Q.T, dtype)
        found = eq.measure.transverse(alone(lambda x, s, matrix=matrix: matrix @ x), jnp.ones((1, size), dtype))
        missed.append(abs(float(found.low[0]) + 2))
        assert missed[-1] <= found.error[0] < 1
        assert found.kind == "exact"
    assert max(missed) > 64 * np.finfo(dtype).eps * 3 or size == 2  # control: what the error of a sound eigenvalue would be
    sound = eq.measure.transverse(alone(lambda x, s: jnp.asarray([[-1.0, 0.5], [0.0, -3.0]], dtype) @ x), jnp.ones((1, 2), dtype))
    assert abs(sound.low[0] + 3) <= sound.error[0] < 500 * np.finfo(dtype).eps
