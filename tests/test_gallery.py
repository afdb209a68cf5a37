"""The gallery: every rule against its closed form and another route, and what it says it keeps."""

import functools
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tables import KEYED, LOSS, RULES, WEIGHTED, batch, spread, start, wells

import eqdyn as eq

DATA = batch(jnp.float64)
KEY = jax.random.key(5)


def weighted_start(seed=0, n=8, d=3):
    return eq.Weighted(start(jnp.float64, seed, n, d), jax.random.uniform(jax.random.key(seed + 100), (n,), minval=0.5, maxval=3.0))


@functools.partial(jax.jit, static_argnums=0)
def roll(rule, x, data, eta, num_steps):
    """Configuration and state after some steps."""

    def advance(_, carry):
        x, state, _ = eq.step(rule, *carry, eta, data)
        return x, state

    return jax.lax.fori_loop(0, num_steps, advance, (x, rule.init(x)))


@functools.partial(jax.jit, static_argnums=0)
def force(rule, x, data=None, key=None):
    """U at a fresh state."""
    return rule.update(x, rule.init(x), data, key=key).u


@jax.jit
def slope(x):
    return jax.grad(LOSS)(x, DATA)


# --- optimizers ------------------------------------------------------------------------------------------------------------

OPTAX = {  # on a hilly loss of one particle at a time
    "nesterov": (lambda: eq.rules.nesterov(wells, beta=0.8), lambda: optax.sgd(1.0, momentum=0.8, nesterov=True)),
    "rmsprop": (lambda: eq.rules.rmsprop(wells, beta2=0.8, eps=1e-3), lambda: optax.rmsprop(1.0, decay=0.8, eps=1e-3, eps_in_sqrt=False)),
    "adamw": (lambda: eq.rules.adamw(wells, beta1=0.8, decay=0.3), lambda: optax.adamw(1.0, b1=0.8, weight_decay=0.3)),
    "sign_descent": (lambda: eq.rules.sign_descent(wells), lambda: optax.sign_sgd(1.0)),
    "lion": (lambda: eq.rules.lion(wells, beta1=0.8, beta2=0.95, decay=0.3), lambda: optax.lion(1.0, b1=0.8, b2=0.95, weight_decay=0.3)),
    "weight_decay": (
        lambda: eq.rules.weight_decay(eq.rules.heavy_ball(wells, beta=0.8), decay=0.3),
        lambda: optax.chain(optax.trace(0.8), optax.add_decayed_weights(0.3), optax.scale(-1)),
    ),
}


@pytest.mark.parametrize("name", OPTAX)
def test_equal_to_optax(name):
    own, theirs = OPTAX[name]
    ours, _ = roll(own(), start(jnp.float64), None, 0.01, 20)
    reference, _ = roll(eq.rules.from_optax(theirs(), wells), start(jnp.float64), None, 0.01, 20)
    np.testing.assert_allclose(ours, reference, rtol=0, atol=1e-12)


def _by_hand(name, g, x, num_steps, eta):
    """The optimizers written out in NumPy."""
    m = v = np.zeros_like(x)
    for t in range(1, num_steps + 1):
        f = np.asarray(g(x))
        if name == "nesterov":
            m = 0.9 * m + f
            u = -(0.9 * m + f)
        elif name == "rmsprop":
            v = 0.9 * v + 0.1 * f**2
            u = -f / (np.sqrt(v) + 1e-8)
        elif name == "adamw":
            m, v = 0.9 * m + 0.1 * f, 0.999 * v + 0.001 * f**2
            u = -(m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8) - 0.01 * x
        elif name == "sign_descent":
            u = -np.sign(f)
        elif name == "lion":
            u, m = -np.sign(0.9 * m + 0.1 * f) - 0.1 * x, 0.99 * m + 0.01 * f
        elif name == "weight_decay":
            m = 0.9 * m + f
            u = -m - 0.1 * x
        x = x + eta * u
    return x


@pytest.mark.parametrize("name", OPTAX)
def test_optimizers_written_out_with_the_defaults(name):
    x = start(jnp.float64)
    expected = _by_hand(name, slope, np.asarray(x), 12, 0.01)
    np.testing.assert_allclose(roll(RULES[name][0](), x, DATA, 0.01, 12)[0], expected, rtol=0, atol=1e-12)


def _bowl(x):
    return 0.5 * jnp.sum(x**2)


LINEAR = {  # (x, m) -> (x', m') on the bowl, at eta = 0.3
    "heavy_ball": (lambda: eq.rules.heavy_ball(_bowl, beta=0.5), [[1 - 0.3, -0.3 * 0.5], [1, 0.5]]),
    "nesterov": (lambda: eq.rules.nesterov(_bowl, beta=0.5), [[1 - 0.3 * 1.5, -0.3 * 0.25], [1, 0.5]]),
    "decayed": (lambda: eq.rules.weight_decay(eq.rules.heavy_ball(_bowl, beta=0.5), decay=0.2), [[1 - 0.3 * 1.2, -0.3 * 0.5], [1, 0.5]]),
}


@pytest.mark.parametrize("name", LINEAR)
def test_momentum_on_a_bowl_is_a_power_of_a_matrix(name):
    make, matrix = LINEAR[name]
    x = start(jnp.float64, n=4)
    y, state = roll(make(), x, None, 0.3, 25)
    power = np.linalg.matrix_power(np.asarray(matrix), 25)
    np.testing.assert_allclose(y, power[0, 0] * x, atol=1e-14)
    np.testing.assert_allclose(state.momentum, power[1, 0] * x, atol=1e-14)


def test_first_steps_in_closed_form():
    x = start(jnp.float64)
    g = slope(x)
    np.testing.assert_allclose(force(eq.rules.rmsprop(LOSS, beta2=0.75), x, DATA), -2 * jnp.sign(g), atol=1e-3)
    np.testing.assert_allclose(force(eq.rules.adamw(LOSS, decay=0.5), x, DATA), -jnp.sign(g) - x / 2, atol=1e-3)
    np.testing.assert_allclose(force(eq.rules.lion(LOSS, decay=0.5), x, DATA), -jnp.sign(g) - x / 2, atol=1e-15)
    np.testing.assert_array_equal(force(eq.rules.sign_descent(LOSS), x, DATA), -jnp.sign(g))
    assert float(jnp.max(jnp.abs(force(eq.rules.sign_descent(lambda x: 0 * jnp.sum(x)), x)))) == 0, "sign(0) is 0"


@pytest.mark.parametrize("inner", ["adam", "lion"])
def test_built_in_decay_is_decay_around_the_rule(inner):
    whole = {"adam": eq.rules.adamw, "lion": eq.rules.lion}[inner](LOSS, decay=0.2)
    around = eq.rules.weight_decay(getattr(eq.rules, inner)(LOSS), decay=0.2)
    np.testing.assert_allclose(*(roll(rule, start(jnp.float64), DATA, 0.01, 10)[0] for rule in (whole, around)), atol=1e-14)


def test_decay_shifts_every_stretch_and_certifies():
    """Stretches lie in (1 - eta decay) -+ eta K_pair; decay alone multiplies by 1 - eta decay, and leaves weights alone."""
    x, decay, inner = start(jnp.float64), 0.5, eq.rules.gradient(LOSS)
    k = float(eq.measure.pair_constants(x, force(inner, x, DATA)).k_pair)
    eta = 0.99 / (k + decay)  # eta K_pair < 1 - eta decay
    y, _ = roll(eq.rules.weight_decay(inner, decay=decay), x, DATA, eta, 1)
    found = eq.measure.stretch(x, y)
    assert 0 < 1 - eta * decay - eta * k <= float(found.low) + 1e-12
    assert float(found.high) <= 1 - eta * decay + eta * k + 1e-12
    still = eq.rules.weight_decay(eq.rules.from_function(lambda x: 0 * x), decay=decay)
    z, _ = roll(still, eq.Weighted(x, jnp.full(len(x), 3.0)), None, 0.5, 1)
    np.testing.assert_allclose(z.x, 0.75 * x, rtol=1e-15)
    np.testing.assert_array_equal(z.weight, 3.0)


def test_decay_passes_state_and_lift_on():
    inner = eq.rules.adam(LOSS)._replace(lift=lambda x, state: x)
    rule = eq.rules.weight_decay(inner, decay=0.1)
    assert (rule.init, rule.lift, rule.probe) == (inner.init, inner.lift, None)


def test_optimizers_take_parameter_trees():
    """A tree with rows (w_i, a_i) cut apart moves as the rows do."""
    x = start(jnp.float64)

    def loss(params):
        return wells(params["w"]) + wells(params["a"])

    tree = {"w": x[:, :2], "a": x[:, 2]}
    for make in (eq.rules.nesterov, eq.rules.rmsprop, eq.rules.adamw, eq.rules.lion, eq.rules.sign_descent):
        params, _ = roll(make(loss), tree, None, 0.01, 4)
        moved, _ = roll(make(wells), x, None, 0.01, 4)
        np.testing.assert_allclose(np.column_stack([params["w"], params["a"]]), moved, atol=1e-13)


# --- tracers of optimizers, and the lifted step ------------------------------------------------------------------------------


def crowd(x, weight):
    """A loss through a sum over all particles, quick to compile."""
    return jnp.sum((weight @ jnp.tanh(x) - 1) ** 2) / 2


LIFTED = {
    "gradient": lambda loss: eq.rules.gradient(loss, weighted=True),
    "heavy_ball": lambda loss: eq.rules.heavy_ball(loss, beta=0.8, weighted=True),
    "nesterov": lambda loss: eq.rules.nesterov(loss, beta=0.8, weighted=True),
    "rmsprop": lambda loss: eq.rules.rmsprop(loss, beta2=0.7, eps=1e-3, weighted=True),
    "adam": lambda loss: eq.rules.adam(loss, beta1=0.8, beta2=0.7, eps=1e-3, weighted=True),
    "adamw": lambda loss: eq.rules.adamw(loss, beta1=0.8, beta2=0.7, eps=1e-3, decay=0.3, weighted=True),
    "weight_decay": lambda loss: eq.rules.weight_decay(LIFTED["heavy_ball"](loss), decay=0.3),
    "adam_delayed": lambda loss: eq.rules.adam_delayed(loss, beta1=0.8, beta2=0.7, eps=1e-3, weighted=True),
    "lion": lambda loss: eq.rules.lion(loss, beta1=0.8, beta2=0.7, decay=0.3, weighted=True),
    "sign_descent": lambda loss: eq.rules.sign_descent(loss, weighted=True),
}


@pytest.mark.parametrize("name", LIFTED)
def test_tracers_that_start_as_particles_stay_with_them(name):
    """Every tracer takes the turn that its particle takes: probe at the particles is update, step after step."""
    rule, x = LIFTED[name](crowd), weighted_start()

    def advance(carry, _):
        x, state, y, y_state = carry
        v, y_state, _ = rule.probe(y, y_state, x, state)
        u, state, _ = rule.update(x, state)
        return (eq.Weighted(x.x + 0.05 * u.x, x.weight), state, y + 0.05 * v, y_state), jnp.max(jnp.abs(u.x - v))

    _, apart = jax.jit(lambda *carry: jax.lax.scan(advance, carry, length=3))(x, rule.init(x), x.x, rule.init(x.x))
    assert float(jnp.max(apart)) < 1e-12


DETERMINANTS = {  # of one particle's lifted step, from G, the Jacobian of its gradient with the field held fixed, and v'
    "gradient": lambda eta, G, v: np.linalg.det(np.eye(3) - eta * G),
    "heavy_ball": lambda eta, G, v: 0.8**3,
    "nesterov": lambda eta, G, v: 0.8**3 * np.linalg.det(np.eye(3) - eta * G),
    "rmsprop": lambda eta, G, v: 0.7**3 * np.linalg.det(np.eye(3) - eta * G / (np.sqrt(v) + 1e-3)[:, None]),
    "adam": lambda eta, G, v: (0.8 * 0.7) ** 3,
    "adamw": lambda eta, G, v: (0.8 * 0.7 * (1 - 0.3 * eta)) ** 3,
    "weight_decay": lambda eta, G, v: (0.8 * (1 - 0.3 * eta)) ** 3,
    "lion": lambda eta, G, v: (0.7 * (1 - 0.3 * eta)) ** 3,
}


@jax.jit
def frozen_slope(x, y):
    """The Jacobian of a particle's gradient at y, with the field held fixed."""
    return -jax.jacfwd(lambda y: LIFTED["gradient"](WEIGHTED).probe(y[None], (), x, (), DATA).u[0])(y)


@pytest.mark.parametrize("name", DETERMINANTS)
def test_lifted_determinant(name):
    rule, eta = LIFTED[name](WEIGHTED), 0.7

    @jax.jit
    def jacobian(x, parts):
        like = rule.init(parts[:1])
        like = like._replace(t=jnp.int32(2)) if hasattr(like, "t") else like

        def lifted_step(flat):
            """A map of the tracer and the parts of its state, laid end to end."""
            rows = iter(flat.reshape(-1, 1, 3))
            y = next(rows)
            y_state = eq.rule.map_matching(lambda _: next(rows), y, like)
            v, y_state, _ = rule.probe(y, y_state, x, rule.init(x), DATA)
            return jnp.concatenate([y + eta * v, *eq.rule.matching_subtrees(y, y_state)]).ravel(), y_state

        return jax.jacfwd(lifted_step, has_aux=True)(parts.ravel())

    for seed in (1, 2, 3):
        x = weighted_start(seed)
        parts = jax.random.normal(jax.random.key(seed), (1 + len(eq.rule.matching_subtrees(x, rule.init(x))), 3))
        parts = parts.at[0].multiply(2).at[1:].set(jnp.abs(parts[1:]))  # a place, and moments that are not zero
        lifted, after = jacobian(x, parts)
        expected = DETERMINANTS[name](eta, np.asarray(frozen_slope(x, parts[0])), np.asarray(getattr(after, "v", 0)).ravel())
        np.testing.assert_allclose(np.linalg.det(lifted), expected, rtol=1e-8)


def test_heavy_ball_is_undone_by_its_explicit_inverse():
    rule, beta, eta = eq.rules.heavy_ball(LOSS, beta=0.8), 0.8, 0.5
    x, state = roll(rule, start(jnp.float64), DATA, eta, 3)
    y, after, _ = eq.step(rule, x, state, eta, DATA)
    back = y + eta * after.momentum
    momentum = (after.momentum - slope(back)) / beta
    np.testing.assert_allclose(back, x, atol=1e-14)
    np.testing.assert_allclose(momentum, state.momentum, atol=1e-13)


def test_adam_is_undone_by_its_explicit_inverse():
    """x from x', m', v'; then the gradient there; then m and v."""
    b1, b2, eps, eta = 0.8, 0.7, 1e-3, 0.05
    rule = eq.rules.adam(LOSS, beta1=b1, beta2=b2, eps=eps)
    x, state = roll(rule, start(jnp.float64), DATA, eta, 3)
    y, after, _ = eq.step(rule, x, state, eta, DATA)
    back = y + eta * (after.m / (1 - b1**4)) / (jnp.sqrt(after.v / (1 - b2**4)) + eps)
    g = slope(back)
    np.testing.assert_allclose(back, x, atol=1e-14)
    np.testing.assert_allclose((after.m - (1 - b1) * g) / b1, state.m, atol=1e-14)
    np.testing.assert_allclose((after.v - (1 - b2) * g**2) / b2, state.v, atol=1e-14)


# --- mean fields and pairs ---------------------------------------------------------------------------------------------------


def _consensus(y, x, p):
    return p @ x - y


def _attention(y, x, p):
    e = p * np.exp(2.0 * y @ x.T)
    return e @ x / e.sum(1, keepdims=True)


def _swarm(y, x, p):
    z = y[:, None] - x
    return -np.einsum("j,ij,ijd->id", p, 1.5 - 4.0 * np.exp(-np.sum(z**2, 2) / 0.7**2), z)


def _near(y, x, p):
    return np.stack([np.average(x[near], axis=0, weights=p[near]) - row for row in y for near in [np.linalg.norm(x - row, axis=1) <= 2.5]])


def _wells_slope(x):
    return x - 2 * np.sin(2 * x)


def _svgd(y, x, p):
    answer = np.zeros_like(y)
    for i, row in enumerate(y):
        for j, other in enumerate(x):
            k = np.exp(-np.sum((row - other) ** 2) / (2 * 0.8**2))
            answer[i] += p[j] * (-k * _wells_slope(other) + (row - other) / 0.8**2 * k)
    return answer


def _oscillators(y, x, p):
    e, f = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (x, y))
    m = p @ e
    return 1.3 * (m - (f @ m)[:, None] * f)


def _spread_flow(y, x, p):
    z = y[:, None] - x
    return -y + 4 * np.einsum("j,ij,ijd->id", p, np.exp(-np.sum(z**2, 2)), z)


DENSE = {  # the velocity of tracers y among particles x of shares p, in NumPy
    "consensus": (lambda: eq.rules.consensus(), _consensus),
    "self_attention": (lambda: eq.rules.self_attention(beta=2.0), _attention),
    "attraction_repulsion": (lambda: eq.rules.attraction_repulsion(attraction=1.5, repulsion=4.0, length=0.7), _swarm),
    "hegselmann_krause": (lambda: eq.rules.hegselmann_krause(radius=2.5), _near),
    "stein": (lambda: eq.rules.stein(wells, bandwidth=0.8), _svgd),
    "kuramoto": (lambda: eq.rules.kuramoto(coupling=1.3), _oscillators),
    "wasserstein_flow": (lambda: eq.rules.wasserstein_flow(spread), _spread_flow),
}


@pytest.mark.parametrize("name", DENSE)
def test_update_and_probe_are_the_dense_formula(name, monkeypatch):
    make, dense = DENSE[name]
    rule, x, y = make(), weighted_start(1, n=11), start(jnp.float64, 2, 5)
    rows, share = np.asarray(x.x), np.asarray(x.weight / jnp.sum(x.weight))
    every = jax.jit(lambda y, x: (rule.update(x, ()).u, rule.probe(y, (), x, ()).u, rule.probe(x.x, (), x, ()).u))
    u, v, at_the_particles = every(y, x)
    np.testing.assert_allclose(u.x, dense(rows, rows, share), atol=1e-12)
    assert float(jnp.max(jnp.abs(u.weight))) == 0
    np.testing.assert_allclose(v, dense(np.asarray(y), rows, share), atol=1e-12)
    np.testing.assert_allclose(at_the_particles, u.x, rtol=0, atol=1e-12)
    monkeypatch.setattr(eq.field, "TILE_BYTES", 1000)
    np.testing.assert_allclose(jax.jit(rule.update)(x, ()).u.x, u.x, atol=1e-13)


@pytest.mark.parametrize("name", DENSE)
def test_weight_two_is_two_copies_and_only_shares_count(name):
    rule, x = DENSE[name][0](), start(jnp.float64, n=6)
    both = jax.jit(lambda x, weight: (rule.update(jnp.concatenate([x, x[:2]]), ()).u[:6], rule.update(eq.Weighted(x, weight), ()).u.x))
    for scale in (1.0, 5.0):
        doubled, weighted = both(x, scale * jnp.asarray([2.0, 2, 1, 1, 1, 1]))
        np.testing.assert_allclose(weighted, doubled, atol=1e-13)


@pytest.mark.parametrize("name", ["consensus", "attraction_repulsion"])
def test_the_centre_of_mass_stays(name):
    x = weighted_start()
    centre = jnp.average(x.x, axis=0, weights=x.weight)
    y, _ = roll(RULES[name][0](), x, None, 0.3, 20)
    np.testing.assert_allclose(jnp.average(y.x, axis=0, weights=x.weight), centre, atol=1e-13)
    assert float(jnp.max(jnp.abs(y.x - x.x))) > 0.1


def test_attention_stays_below_its_bound():
    x = weighted_start()
    q, k, v = (jax.random.normal(jax.random.key(s), (3, 3), jnp.float64) for s in (1, 2, 3))
    found = eq.measure.pair_constants(x.x, force(eq.rules.self_attention(beta=0.7, query=q, key=k, value=v), x).x)
    diameter = np.max(np.linalg.norm(np.asarray(x.x)[:, None] - np.asarray(x.x), axis=2))
    assert float(found.k_pair) <= 0.7 * diameter**2 * np.prod([np.linalg.norm(matrix, 2) for matrix in (q, k, v)]) / 4
    # nearly tight: two clusters, seen from half way between them, where the softmax is even
    pair = jnp.asarray([[-1.0], [1.0]])
    steepest = jax.jit(jax.grad(lambda y: eq.rules.self_attention(beta=0.7).probe(y.reshape(1, 1), (), pair, ()).u[0, 0]))(0.0)
    np.testing.assert_allclose(steepest, 0.7 * 2**2 / 4)


# --- attraction and repulsion --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("a", "b", "c"), [(1.0, 2.0, 1.0), (0.5, 3.0, 2.0)])
def test_two_particles_rest_where_attraction_meets_repulsion(a, b, c):
    rule = eq.rules.attraction_repulsion(attraction=a, repulsion=b, length=c)
    y, _ = roll(rule, jnp.asarray([[0.0, 0.1], [0.3, 0.2]]), None, 0.2, 500)
    np.testing.assert_allclose(jnp.linalg.norm(y[0] - y[1]), c * np.sqrt(np.log(b / a)), rtol=1e-12)


def _swarm_bound(a, b):
    return max(b - a, a + 2 * b * np.exp(-1.5))


@jax.jit
def _swarm_norm(x, a, b, c):
    """U, and the spectral norm of its Jacobian."""

    def u(flat):
        return eq.rules.attraction_repulsion(attraction=a, repulsion=b, length=c).update(flat.reshape(x.shape), ()).u

    return u(x), jnp.linalg.norm(jax.jacfwd(lambda flat: u(flat).ravel())(x.ravel()), 2)


@pytest.mark.parametrize(("a", "b", "c"), [(1.0, 2.0, 1.0), (1.0, 9.0, 0.5), (1.0, 0.0, 1.0), (2.0, 1.0, 1.5)])
def test_swarm_constant_holds_and_is_attained(a, b, c):
    bound = _swarm_bound(a, b)
    for seed in range(3):
        x = start(jnp.float64, seed)
        u, norm = _swarm_norm(x, a, b, c)
        assert float(norm) <= bound * (1 + 1e-12)
        found = eq.measure.pair_constants(x, u)
        assert float(found.k_pair) <= bound * (1 + 1e-12)
        assert float(found.mu) <= (a + 2 * b * np.exp(-1.5)) * (1 + 1e-12)
    # two particles: the force along the line at s = 3/2, or the repulsion when they are almost one
    pairs = [jnp.asarray([[0.0, 0.0, 0.0], [c * np.sqrt(1.5) * t, 0.0, 0.0]]) for t in (1.0, 1e-9)]
    np.testing.assert_allclose(max(float(_swarm_norm(pair, a, b, c)[1]) for pair in pairs), bound, rtol=1e-12)


def test_swarm_descends_its_energy():
    a, b, c, x = 1.5, 4.0, 0.7, start(jnp.float64, n=7)
    rule = eq.rules.attraction_repulsion(attraction=a, repulsion=b, length=c)

    def energy(x):
        z2 = jnp.sum((x[:, None] - x[None]) ** 2, axis=2)
        return jnp.sum(a * z2 / 2 + b * c**2 * jnp.exp(-z2 / c**2) / 2) / (2 * len(x))

    value, gradient = jax.jit(jax.value_and_grad(energy))(x)
    np.testing.assert_allclose(force(rule, x), -gradient, atol=1e-14)
    assert float(jax.jit(energy)(roll(rule, x, None, 0.5 / _swarm_bound(a, b), 30)[0])) < float(value)


# --- bounded confidence --------------------------------------------------------------------------------------------------------


def test_bounded_confidence_worked_by_hand():
    """A chain draws itself together in two steps; who is out of reach does not feel it; then nothing moves any more."""
    rule, x = eq.rules.hegselmann_krause(radius=1.0), jnp.asarray([[0.0], [1.0], [2.0], [5.0]])
    for num_steps, expected in ((1, [0.5, 1.0, 1.5, 5.0]), (2, [1.0, 1.0, 1.0, 5.0]), (3, [1.0, 1.0, 1.0, 5.0])):
        assert roll(rule, x, None, 1.0, num_steps)[0].ravel().tolist() == expected
    assert rule.probe(jnp.asarray([[3.5]]), (), x, ()).u.tolist() == [[0.0]], "a tracer that reaches nobody stays"


def test_bounded_confidence_is_consensus_when_the_radius_covers_all_and_keeps_the_hull():
    x = weighted_start()
    np.testing.assert_allclose(force(eq.rules.hegselmann_krause(radius=100.0), x).x, force(eq.rules.consensus(), x).x, atol=1e-14)
    y, _ = roll(RULES["hegselmann_krause"][0](), x.x, None, 1.0, 5)
    assert bool(jnp.all(jnp.max(y, axis=0) <= jnp.max(x.x, axis=0)))
    assert bool(jnp.all(jnp.min(y, axis=0) >= jnp.min(x.x, axis=0)))


def test_bounded_confidence_decides_by_differences():
    """Far from the origin a Gram matrix in float32 would not tell 1 from 2."""
    x = jnp.asarray([[0.0, 0.0], [1.0, 0.0], [3.0, 0.0]], jnp.float32) + jnp.float32(4096)
    np.testing.assert_array_equal(force(eq.rules.hegselmann_krause(radius=1.5), x)[:, 0], jnp.asarray([0.5, -0.5, 0.0], jnp.float32))


# --- Stein ---------------------------------------------------------------------------------------------------------------------


def test_stein_of_one_particle_is_gradient_descent():
    x = start(jnp.float64, n=1)
    np.testing.assert_allclose(force(eq.rules.stein(wells), x), -_wells_slope(np.asarray(x)), atol=1e-15)


def test_stein_rests_on_a_gaussian():
    """Stein's identity, with the particles at the nodes of a Gauss-Hermite rule, which stand for the density exactly."""
    nodes, weight = np.polynomial.hermite_e.hermegauss(60)
    grid = np.stack(np.meshgrid(nodes, nodes), axis=-1).reshape(-1, 2)
    weight = jnp.asarray(np.outer(weight, weight).ravel())

    @jax.jit
    def largest(bandwidth, shift):
        rule = eq.rules.stein(lambda x: jnp.sum((x - 0.5) ** 2) / 8, bandwidth=bandwidth)
        x = eq.Weighted(jnp.asarray(0.5 + 2 * grid) + shift, weight)
        return jnp.max(jnp.abs(rule.probe(start(jnp.float64, 3, 20, 2), (), x, ()).u))

    for bandwidth in (1.4, 2.0, 4.0):
        assert float(largest(bandwidth, 0.0)) < 1e-9
        assert float(largest(bandwidth, 0.1)) > 1e-3, "and only there"


def test_stein_stays_below_its_bound_and_takes_data():
    x = weighted_start()
    mean_slope = np.average(np.linalg.norm(_wells_slope(np.asarray(x.x)), axis=1), weights=np.asarray(x.weight))
    for h in (0.3, 5.0):
        found = eq.measure.pair_constants(x.x, force(eq.rules.stein(wells, bandwidth=h), x).x)
        assert float(found.k_pair) <= np.exp(-0.5) * mean_slope / h + 1 / h**2
    with_data = eq.rules.stein(lambda x, data: data * wells(x))
    np.testing.assert_array_equal(force(with_data, x, jnp.asarray(1.0)).x, force(eq.rules.stein(wells), x).x)


# --- oscillators ---------------------------------------------------------------------------------------------------------------


def _on_circle(theta):
    return jnp.stack([jnp.cos(theta), jnp.sin(theta)], axis=1)


def test_oscillators_in_the_plane_are_kuramotos():
    theta = 3 * start(jnp.float64, n=9)[:, 0]
    x = _on_circle(theta)
    rule = eq.rules.kuramoto(coupling=1.3, frequency=0.4)
    u = np.asarray(force(rule, x))
    along = np.sum(u * np.stack([-np.sin(theta), np.cos(theta)], axis=1), axis=1)
    expected = 0.4 + 1.3 * np.mean(np.sin(np.asarray(theta)[None] - np.asarray(theta)[:, None]), axis=1)
    np.testing.assert_allclose(along, expected, atol=1e-14)
    np.testing.assert_allclose(np.mean(along), 0.4, atol=1e-14)
    y, _ = roll(rule, x, None, 0.5, 1)
    np.testing.assert_allclose(np.sum(np.asarray(y) ** 2, axis=1), 1 + 0.25 * expected**2, atol=1e-14)  # tangent: outwards
    np.testing.assert_allclose(force(rule, 5 * x), u, atol=1e-14)


def test_two_oscillators_close_in_as_the_closed_form_says():
    """d delta/dt = -c sin(delta): tan(delta/2) decays as exp(-c t)."""
    c, eta, num_steps, delta = 1.3, 1e-3, 1000, 2.0
    y, _ = roll(eq.rules.kuramoto(coupling=c, frequency=0.7), _on_circle(jnp.asarray([0.3, 0.3 + delta])), None, eta, num_steps)
    theta = np.unwrap(np.arctan2(y[:, 1], y[:, 0]))
    np.testing.assert_allclose(np.tan((theta[1] - theta[0]) / 2), np.tan(delta / 2) * np.exp(-c * eta * num_steps), rtol=3e-3)
    np.testing.assert_allclose(theta.mean(), 0.3 + delta / 2 + 0.7 * eta * num_steps, rtol=3e-3)


def test_oscillators_synchronize_below_their_bound():
    theta, radius = np.asarray(3 * start(jnp.float64)[:, 0]), 1 + np.arange(24) % 3  # on the circle or outside
    x = jnp.asarray(radius[:, None] * np.stack([np.cos(theta), np.sin(theta)], axis=1))

    def order(x):
        return np.linalg.norm(np.mean(np.asarray(x) / np.linalg.norm(x, axis=1, keepdims=True), axis=0))

    k = eq.measure.pair_constants(x, force(eq.rules.kuramoto(coupling=1.3, frequency=0.6), x)).k_pair
    assert float(k) <= 1.3 * order(x) + 0.6
    assert order(roll(eq.rules.kuramoto(), x, None, 0.1, 100)[0]) > order(x)
    # nearly tight: a close pair of a synchronous crowd
    crowd = jnp.tile(_on_circle(jnp.asarray([0.0, 1e-4, -1e-4])), (8, 1))
    np.testing.assert_allclose(eq.measure.pair_constants(crowd, force(eq.rules.kuramoto(coupling=1.3), crowd)).k_pair, 1.3, rtol=1e-6)


def test_an_oscillator_at_the_origin_is_pulled_and_stays_finite():
    x = jnp.asarray([[0.0, 0.0], [0.0, 2.0]])
    np.testing.assert_array_equal(force(eq.rules.kuramoto(), x), jnp.asarray([[0.0, 0.5], [0.0, 0.0]]))
    assert bool(jnp.all(jnp.isfinite(jax.jit(jax.jacfwd(lambda x: eq.rules.kuramoto().update(x, ()).u))(x))))


# --- flows of measures -----------------------------------------------------------------------------------------------------------


def _second_moment(x, mass):
    return mass @ jnp.sum(x**2, axis=1) / 2


def _interaction(x, mass):
    return mass @ jnp.sum((x[:, None] - x[None]) ** 2, axis=2) @ mass / 4


@pytest.mark.parametrize(("energy", "same"), [(_second_moment, lambda x: -x.x), (_interaction, lambda x: force(eq.rules.consensus(), x).x)])
def test_flows_in_closed_form(energy, same):
    x, y = weighted_start(), start(jnp.float64, 4, 5)
    rule = eq.rules.wasserstein_flow(energy)
    np.testing.assert_allclose(force(rule, x).x, same(x), atol=1e-14)
    expected = -y if energy is _second_moment else jnp.average(x.x, axis=0, weights=x.weight)[None] - y
    np.testing.assert_allclose(jax.jit(rule.probe)(y, (), x, ()).u, expected, atol=1e-14)


def test_flow_falls_at_the_rate_of_its_norm_and_knows_its_energy():
    rule, x = eq.rules.wasserstein_flow(spread), weighted_start()
    mass = x.weight / jnp.sum(x.weight)
    u, _, info = jax.jit(rule.update)(x, ())
    value, fall = jax.jit(lambda x, u: jax.jvp(lambda points: spread(points, mass), (x,), (u,)))(x.x, u.x)
    np.testing.assert_allclose(fall, -np.asarray(mass) @ np.sum(np.asarray(u.x) ** 2, axis=1), rtol=1e-12)
    np.testing.assert_allclose(info.loss, value, rtol=1e-14)


# --- Langevin --------------------------------------------------------------------------------------------------------------------


def test_independent_noise_is_equivariant_in_law_only():
    """Over many keys the mean is -grad L and the covariance sigma^2, before a permutation and after; path by path nothing fits."""
    x, perm, sigma = start(jnp.float64, n=4), jnp.asarray([2, 0, 3, 1]), 0.5
    rule = eq.rules.langevin(wells, sigma=sigma)
    keys = jax.random.split(KEY, 4000)
    draws = jax.jit(jax.vmap(lambda x, key: rule.update(x, (), key=key).u, in_axes=(None, 0)))
    u = -_wells_slope(np.asarray(x))
    for found, mean in ((draws(x, keys), u), (draws(x[perm], keys), u[perm])):
        np.testing.assert_allclose(jnp.mean(found, axis=0), mean, atol=5 * sigma / 4000**0.5)
        covariance = np.cov(np.asarray(found).reshape(4000, -1).T)
        np.testing.assert_allclose(covariance, sigma**2 * np.eye(12), atol=6 * sigma**2 / 4000**0.5)
    assert float(jnp.max(jnp.abs(force(rule, x[perm], None, KEY) - force(rule, x, None, KEY)[perm]))) > 0.1
    assert rule.probe is None


def test_noise_with_a_length_is_one_field_for_all():
    """Path by path: it permutes with the particles, twins stay, tracers feel it. In law: covariance exp(-r^2 / (2 l^2))."""
    x, sigma, length = start(jnp.float64, n=4), 0.5, 1.5
    rule = eq.rules.langevin(crowd, sigma=sigma, length=length, weighted=True)
    u, perm = force(rule, x, None, KEY), jnp.asarray([2, 0, 3, 1])
    np.testing.assert_allclose(force(rule, x[perm], None, KEY), u[perm], atol=1e-14)
    np.testing.assert_allclose(jax.jit(rule.probe)(x, (), x, (), key=KEY).u, u, rtol=0, atol=1e-12)
    still = eq.rules.langevin(lambda x: 0 * jnp.sum(x), sigma=sigma, length=length, num_waves=3)
    noise = jax.jit(jax.vmap(lambda key: still.update(x, (), key=key).u))(jax.random.split(KEY, 4000))
    distances2 = np.sum((np.asarray(x)[:, None] - np.asarray(x)) ** 2, axis=2)
    expected = sigma**2 * np.kron(np.exp(-distances2 / (2 * length**2)), np.eye(3))
    np.testing.assert_allclose(jnp.mean(noise, axis=0), 0, atol=5 * sigma / 4000**0.5)
    np.testing.assert_allclose(np.cov(np.asarray(noise).reshape(4000, -1).T), expected, atol=8 * sigma**2 / 4000**0.5)


def test_a_drawn_field_stays_below_its_lipschitz_constant():
    waves = jax.jit(importlib.import_module("eqdyn.rules.langevin")._waves, static_argnums=(1, 3, 4))
    x = start(jnp.float64)
    for num_waves, least in ((1, 0.5), (8, 0.05)):  # of one wave the bound is nearly tight
        rule, ratios = eq.rules.langevin(lambda x: 0 * jnp.sum(x), length=0.5, num_waves=num_waves), []
        for seed in range(5):
            key = jax.random.key(seed)
            a, omega, _ = map(np.asarray, waves(0.5, num_waves, key, 3, jnp.dtype(float)))
            bound = (2 / num_waves) ** 0.5 * np.sum(np.linalg.norm(a, axis=1) * np.linalg.norm(omega, axis=1))
            ratios.append(float(eq.measure.pair_constants(x, force(rule, x, None, key)).k_pair) / bound)
        assert least < max(ratios) <= 1 + 1e-12


def test_langevin_samples_at_its_temperature():
    """On a bowl, x' = (1 - eta) x + sqrt(2 T eta) xi: the variance settles at 2 T / (2 - eta)."""
    temperature, eta = 0.5, 0.2
    rule = eq.rules.langevin(_bowl, sigma=(2 * temperature / eta) ** 0.5)
    run = eq.simulate(rule, jnp.zeros((4000, 1)), eta=eta, num_steps=60, key=KEY, every=60)
    np.testing.assert_allclose(jnp.var(run.x), 2 * temperature / (2 - eta), rtol=0.1)


def test_tracers_of_langevin_follow_their_particles_and_keys_decide():
    rule, x = eq.rules.langevin(crowd, sigma=0.1, length=1.0, weighted=True), start(jnp.float64, n=6)
    one, same, other = (eq.simulate(rule, x, eta=0.1, num_steps=5, key=jax.random.key(s), tracers=x[:2]) for s in (1, 1, 2))
    np.testing.assert_allclose(one.tracers, one.x[:2], atol=1e-12)
    np.testing.assert_array_equal(one.x, same.x)
    assert float(jnp.max(jnp.abs(one.x - other.x))) > 1e-3


def test_independent_noise_takes_trees_and_weights():
    tree = {"w": jnp.zeros((400, 2)), "b": jnp.zeros(300)}
    u = force(eq.rules.langevin(lambda p: 0 * (jnp.sum(p["w"]) + jnp.sum(p["b"]))), tree, None, KEY)
    for name, leaf in tree.items():
        assert (u[name].shape, u[name].dtype) == (leaf.shape, leaf.dtype)
        np.testing.assert_allclose(jnp.std(u[name]), 1, rtol=0.2)
    for length in (None, 1.0):
        moved = force(eq.rules.langevin(crowd, weighted=True, length=length), weighted_start(), None, KEY)
        assert float(jnp.max(jnp.abs(moved.weight))) == 0


@pytest.mark.parametrize("name", KEYED)
def test_rules_that_draw_keep_dtypes_and_are_values(name):
    make, _ = KEYED[name]
    assert make() == make()
    assert hash(make()) == hash(make())
    for dtype in (jnp.float32, jnp.float64):
        u = jax.eval_shape(lambda x, data: make().update(x, (), data, key=KEY).u, start(dtype), batch(dtype))
        assert (u.shape, u.dtype) == ((24, 3), dtype)
    with pytest.raises(ValueError, match="key: got None"):
        make().update(start(jnp.float64), (), DATA)


# --- hyperparameters ---------------------------------------------------------------------------------------------------------------

TRACED = {
    "gradient in decay": (lambda h: eq.rules.weight_decay(eq.rules.gradient(wells), decay=h), 0.3),
    "heavy_ball": (lambda h: eq.rules.heavy_ball(wells, beta=h), 0.7),
    "nesterov": (lambda h: eq.rules.nesterov(wells, beta=h), 0.7),
    "rmsprop": (lambda h: eq.rules.rmsprop(wells, beta2=h, eps=h), 0.7),
    "adam": (lambda h: eq.rules.adam(wells, beta1=h, beta2=h, eps=h), 0.7),
    "adam_delayed": (lambda h: eq.rules.adam_delayed(wells, beta1=h, beta2=h, eps=h), 0.7),
    "adamw": (lambda h: eq.rules.adamw(wells, beta1=h, beta2=h, eps=h, decay=h), 0.7),
    "lion": (lambda h: eq.rules.lion(wells, beta1=h, beta2=h, decay=h), 0.7),
    "langevin": (lambda h: eq.rules.langevin(wells, sigma=h, length=h), 0.7),
    "consensus": (lambda h: eq.rules.consensus(rate=h), 0.7),
    "self_attention": (lambda h: eq.rules.self_attention(beta=h), 0.7),
    "attraction_repulsion": (lambda h: eq.rules.attraction_repulsion(attraction=h, repulsion=h, length=h), 0.7),
    "hegselmann_krause": (lambda h: eq.rules.hegselmann_krause(radius=h), 1.5),
    "stein": (lambda h: eq.rules.stein(wells, bandwidth=h), 0.7),
    "kuramoto": (lambda h: eq.rules.kuramoto(coupling=h), 0.7),
    "kuramoto with a frequency": (lambda h: eq.rules.kuramoto(frequency=h), 0.7),
}


@pytest.mark.parametrize("name", TRACED)
def test_traced_hyperparameters_give_what_numbers_give(name):
    """A traced float64, particles in float32: the dtype of the particles stays."""
    make, value = TRACED[name]
    x = start(jnp.float32, n=6, d=2 if "frequency" in name else 3)

    @jax.jit
    def both(h, x):
        def twice(rule):
            state = rule.init(x)
            for _ in range(2):
                u, state, _ = rule.update(x, state, key=KEY)
            return u

        return twice(make(h)), twice(make(value))

    swept, fixed = both(jnp.asarray(value, jnp.float64), x)
    assert swept.dtype == fixed.dtype == jnp.float32
    np.testing.assert_allclose(swept, fixed, rtol=1e-4, atol=1e-6)
    # a concrete 0-d array is a number too, and makes the same rule
    assert make(jnp.asarray(value, jnp.float64)) == make(np.float64(value)) == make(value)


def test_every_factory_of_the_gallery_has_a_row():
    makers = set(eq.rules.__all__) - {"from_field", "from_function", "from_optax"}
    assert makers == set(RULES) | set(KEYED)
