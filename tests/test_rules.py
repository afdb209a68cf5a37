"""Every rule against what its contract promises, and against closed forms and independent routes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tables import ADAPTED, LOSS, RULES, WEIGHTED, batch, start

import eqdyn as eq

DTYPES = [jnp.float32, jnp.float64]
EVERY = {**RULES, **ADAPTED}


def advance(rule, x, data, eta, num_steps, key=None):
    state = rule.init(x)
    for _ in range(num_steps):
        x, state, _ = eq.step(rule, x, state, eta, data, key=key)
    return x


@pytest.mark.parametrize("dtype", [jnp.float32, pytest.param(jnp.float64, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", EVERY)
def test_structure_shape_and_dtype_are_kept_under_scan(name, dtype):
    make, takes_data = EVERY[name]
    rule, x, data = make(), start(dtype), batch(dtype) if takes_data else None

    def body(carry, _):
        x, state = carry
        x, state, _ = eq.step(rule, x, state, 1e-2, data)
        return (x, state), None

    (y, _), _ = jax.lax.scan(body, (x, rule.init(x)), length=3)
    assert y.shape == x.shape
    assert y.dtype == dtype
    np.testing.assert_allclose(y, advance(rule, x, data, 1e-2, 3), rtol=200 * jnp.finfo(dtype).eps, atol=200 * jnp.finfo(dtype).eps)


@pytest.mark.parametrize("name", EVERY)
def test_made_twice_is_equal_and_traced_once(name):
    make, takes_data = EVERY[name]
    data = batch(jnp.float64) if takes_data else None
    assert make() == make()
    assert hash(make()) == hash(make())
    eq.simulate(make(), start(jnp.float64), eta=1e-2, num_steps=2, data=data)
    before = eq.compile_count()
    for eta in (1e-2, 2e-2):
        eq.simulate(make(), start(jnp.float64, seed=3), eta=eta, num_steps=3, data=data)
    assert eq.compile_count() == before


def test_body_traced_once_over_three_step_sizes():
    count = 0

    def counted(x):
        nonlocal count
        count += 1
        return -x

    rule = eq.rules.from_function(counted)
    run = jax.jit(lambda eta, x: eq.step(rule, x, (), eta)[0])
    for eta in (0.1, 0.2, 0.3):
        run(eta, jnp.ones((4, 2)))
    assert count == 1


OFTEN = {"gradient", "adam", "heavy_ball", "consensus", "self_attention", "kuramoto", "optax adam"}


@pytest.mark.parametrize("name", [pytest.param(name, marks=[] if name in OFTEN else pytest.mark.slow) for name in EVERY])
def test_gradient_through_steps_is_finite(name):
    make, takes_data = EVERY[name]
    data = batch(jnp.float64) if takes_data else None
    slope = jax.grad(lambda x: jnp.sum(advance(make(), x, data, 1e-2, 3) ** 2))(start(jnp.float64))
    assert bool(jnp.all(jnp.isfinite(slope)))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("own", "theirs"),
    [
        (lambda loss, w: eq.rules.adam(loss, weighted=w), optax.adam(1.0)),
        (lambda loss, w: eq.rules.adam(loss, beta1=0.5, beta2=0.9, eps=1e-3, weighted=w), optax.adam(1.0, b1=0.5, b2=0.9, eps=1e-3)),
        (lambda loss, w: eq.rules.heavy_ball(loss, beta=0.8, weighted=w), optax.sgd(1.0, momentum=0.8)),
        (lambda loss, w: eq.rules.gradient(loss, weighted=w), optax.sgd(1.0)),
    ],
)
@pytest.mark.parametrize("dtype", [jnp.float32, pytest.param(jnp.float64, marks=pytest.mark.slow)])
def test_equal_to_optax(own, theirs, weighted, dtype):
    loss = WEIGHTED if weighted else LOSS
    x, data = start(dtype), batch(dtype)
    ours = advance(own(loss, weighted), x, data, 0.01, 20)
    reference = advance(eq.rules.from_optax(theirs, loss, weighted=weighted), x, data, 0.01, 20)
    np.testing.assert_allclose(ours, reference, rtol=0, atol=2e3 * jnp.finfo(dtype).eps)


def test_optax_update_is_exactly_optax():
    tx, x, data = optax.adam(3e-2), start(jnp.float64), batch(jnp.float64)
    rule = eq.rules.from_optax(tx, LOSS)
    ours, state = x, tx.init(x)
    run = advance(rule, x, data, 1.0, 5)
    with jax.numpy_dtype_promotion("standard"):
        for _ in range(5):
            updates, state = tx.update(jax.grad(LOSS)(ours, data), state, ours)
            ours = optax.apply_updates(ours, updates)
    np.testing.assert_allclose(run, ours, rtol=0, atol=1e-14)


def test_optax_with_extra_arguments():
    data = batch(jnp.float64)
    run = eq.simulate(eq.rules.from_optax(optax.lbfgs(), LOSS), start(jnp.float64), eta=1.0, num_steps=10, data=data)
    assert run.status == "ok"
    assert run.loss[-1] < 0.1 * run.loss[0]


def test_adam_delayed_is_adam_with_last_steps_gradient():
    """Written out in NumPy: equation 16, and Adam fed with the gradient of one step before."""
    x0, data = start(jnp.float64), batch(jnp.float64)
    g = jax.jit(lambda x: jax.grad(LOSS)(x, data))
    eta, num_steps = 0.01, 12
    x, m, v = np.array(x0), 0.0, 0.0
    for t in range(num_steps):
        u = 0 if t == 0 else -(m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        gradient = np.asarray(g(x))
        x, m, v = x + eta * u, 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
    np.testing.assert_allclose(advance(eq.rules.adam_delayed(LOSS), x0, data, eta, num_steps), x, rtol=0, atol=1e-12)
    usual = advance(eq.rules.adam(LOSS), x0, data, eta, num_steps)
    assert np.max(np.abs(usual - x)) > 1e-3, "the two are not the same method"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("eta", [0.25, 0.5, 1.0, 1.5])
def test_consensus_closed_form(eta, dtype):
    x = start(dtype)
    y, _, _ = eq.step(eq.rules.consensus(), x, (), eta)
    mean = jnp.mean(x, axis=0, keepdims=True)
    np.testing.assert_allclose(y, mean + (1 - eta) * (x - mean), atol=8 * jnp.finfo(dtype).eps)
    np.testing.assert_allclose(jnp.mean(y, axis=0), mean[0], atol=8 * jnp.finfo(dtype).eps)


def test_attention_is_the_dense_formula_and_tiles_do_not_matter(monkeypatch):
    x = start(jnp.float64, n=37)
    q, k, v = (jax.random.normal(jax.random.key(s), (3, 3), jnp.float64) for s in (1, 2, 3))
    rule = eq.rules.self_attention(beta=0.7, query=q, key=k, value=v)
    dense = jax.nn.softmax(0.7 * (x @ q.T) @ (x @ k.T).T, axis=1) @ (x @ v.T)
    np.testing.assert_allclose(rule.update(x, ()).u, dense, atol=1e-13)
    monkeypatch.setattr(eq.field, "TILE_BYTES", 5000)
    np.testing.assert_allclose(rule.update(x, ()).u, dense, atol=1e-13)


@pytest.mark.parametrize("make", [lambda: eq.rules.self_attention(), lambda: eq.rules.consensus(), lambda: ADAPTED["pair kernel"][0]()])
def test_weight_two_is_two_copies(make):
    rule, x = make(), start(jnp.float64, n=6)
    doubled = rule.update(jnp.concatenate([x, x[:2]]), ()).u
    weighted = rule.update(eq.Weighted(x, jnp.asarray([2.0, 2, 1, 1, 1, 1])), ()).u
    np.testing.assert_allclose(weighted.x, doubled[:6], atol=1e-13)
    assert float(jnp.max(jnp.abs(weighted.weight))) == 0


def test_lifted_joins_particle_and_state():
    x = start(jnp.float64)
    rule = eq.rules.adam(LOSS)
    _, state, _ = eq.step(rule, x, rule.init(x), 0.1, batch(jnp.float64))
    np.testing.assert_array_equal(eq.lifted(rule, x, state), jnp.concatenate([x, state.m, state.v], axis=1))
    own = rule._replace(lift=lambda x, state: x)
    np.testing.assert_array_equal(eq.lifted(own, x, state), x)


def test_optax_on_a_field_without_a_loss():
    field = eq.field.mean_field(lambda x: (x, 1.0), lambda x, s: s[0] / s[1] - x)
    run = eq.simulate(eq.rules.from_optax(optax.sgd(0.5), field), jnp.asarray([[0.0], [4.0]]), num_steps=1)
    assert run.x.ravel().tolist() == [1.0, 3.0]
    assert run.loss is None


def _noise(x, *, key):
    return jax.random.normal(key, x.shape, x.dtype)


def _noise_by_default(x, key=None):
    return x if key is None else _noise(x, key=key)


def _noise_scaled(scale, x, *, key):
    return scale * _noise(x, key=key)


@pytest.mark.parametrize("function", [_noise, _noise_by_default, eq.bind(_noise_scaled, 1.0)])
def test_key_reaches_the_rule_and_decides(function):
    rule = eq.rules.from_function(function)
    go = functools.partial(eq.simulate, rule, jnp.ones((4, 2)), eta=0.1, num_steps=5)
    a, b, c = (go(key=jax.random.key(s)).x for s in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert float(jnp.max(jnp.abs(a - c))) > 0.01
