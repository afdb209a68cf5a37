"""Rules as values: equal when made from the same functions and equal hyperparameters, and never otherwise."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tables import LOSS

import eqdyn as eq
from eqdyn import _value

X0 = jnp.ones((2, 1))


def f(p, x):
    return p * x


def schedule(step):
    return 0.1


EQUAL = {
    "bound": lambda: eq.bind(f, 1.0),
    "bound, nested": lambda: eq.bind(f, (1, (2.0, "a"))),
    "matrix by content": lambda: eq.bind(f, _value.Constant(np.eye(2))),
    "attention": lambda: eq.rules.self_attention(beta=2.0, value=np.eye(2)),
    "optax adam": lambda: eq.rules.from_optax(optax.adam(1e-3), LOSS),
    "optax chain": lambda: eq.rules.from_optax(optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3)), LOSS),
    "optax with a schedule": lambda: eq.rules.from_optax(optax.sgd(schedule), LOSS),
    "optax momentum": lambda: eq.rules.from_optax(optax.sgd(0.1, momentum=0.9, nesterov=True), LOSS),
    "observer": lambda: eq.observe.atoms(stride=3),
}
UNEQUAL = {
    "another number": (lambda: eq.bind(f, 2.0), lambda: eq.bind(f, 3.0)),
    "1 and 1.0": (lambda: eq.bind(f, 1), lambda: eq.bind(f, 1.0)),
    "1 and True": (lambda: eq.bind(f, 1), lambda: eq.bind(f, True)),
    "0 and -0": (lambda: eq.bind(f, 0.0), lambda: eq.bind(f, -0.0)),
    "another matrix": (lambda: eq.rules.self_attention(value=np.eye(2)), lambda: eq.rules.self_attention(value=2 * np.eye(2))),
    "another optax rate": (lambda: eq.rules.from_optax(optax.adam(1e-3), LOSS), lambda: eq.rules.from_optax(optax.adam(2e-3), LOSS)),
    "another optimizer": (lambda: eq.rules.from_optax(optax.adam(1e-3), LOSS), lambda: eq.rules.from_optax(optax.rmsprop(1e-3), LOSS)),
    "another schedule": (lambda: eq.rules.from_optax(optax.sgd(schedule), LOSS), lambda: eq.rules.from_optax(optax.sgd(lambda t: 0.1), LOSS)),
    "another loss": (lambda: eq.rules.gradient(lambda x: 0.0), lambda: eq.rules.gradient(lambda x: 0.0)),
    "another stride": (lambda: eq.observe.atoms(stride=3), lambda: eq.observe.atoms(stride=4)),
}


@pytest.mark.parametrize("name", EQUAL)
def test_equal(name):
    a, b = EQUAL[name](), EQUAL[name]()
    assert a == b
    assert hash(a) == hash(b)


@pytest.mark.parametrize("name", UNEQUAL)
def test_unequal(name):
    a, b = (make() for make in UNEQUAL[name])
    assert a != b


def moved(rule):
    return float(eq.simulate(rule, X0, eta=0.1, num_steps=1).x[0, 0])


@pytest.mark.slow
def test_a_loop_over_a_captured_variable_is_not_taken_for_one_rule():
    found, held = [], []
    x = jnp.asarray([[0.0], [1.0], [5.0]])
    for s, u in ((1.0, lambda x: -x), (2.0, lambda x: -2 * x), (5.0, lambda x: jnp.cumsum(x, axis=0))):
        rule = eq.rules.gradient(lambda x: s * 0.5 * jnp.sum(x**2))  # noqa: B023
        found.append(moved(rule))
        held.append(eq.check(eq.rules.from_function(lambda x: u(x)), x, key=jax.random.key(0), num_draws=4).holds)  # noqa: B023
    np.testing.assert_allclose(found, [0.9, 0.8, 0.5])
    assert held == [True, True, False]


def test_a_matrix_that_changes_later_does_not_change_the_rule():
    v = np.eye(1)
    rule = eq.rules.self_attention(value=v)
    v[:] = 5
    np.testing.assert_allclose(moved(rule), 1.1)
    np.testing.assert_allclose(moved(eq.rules.self_attention(value=v)), 1.5)


def test_numbers_from_numpy_do_not_widen_float32():
    x = jnp.ones((3, 2), jnp.float32)
    for rule in (
        eq.rules.heavy_ball(lambda x: jnp.sum(x**2), beta=np.float64(0.9)),
        eq.rules.adam(lambda x: jnp.sum(x**2), beta1=np.float64(0.9), eps=np.float64(1e-8)),
        eq.rules.consensus(rate=np.float64(0.5)),
        eq.rules.self_attention(beta=np.float64(0.5)),
    ):
        assert eq.simulate(rule, x, eta=np.float64(0.1), num_steps=2).x.dtype == jnp.float32
    with pytest.raises(ValueError, match="beta"):
        eq.rules.heavy_ball(LOSS, beta=np.float32(1.5))


def test_a_weak_start_is_taken_at_its_dtype():
    weak = jnp.full((3, 1), 1.0)
    before = eq.compile_count()
    run = eq.simulate(eq.rules.consensus(), weak, eta=0.1, num_steps=2)
    eq.simulate(eq.rules.consensus(), run, eta=0.1, num_steps=2)
    assert eq.compile_count() - before == 1


def test_swept_hyperparameters_are_built_inside_the_trace():
    @jax.jit
    def after(beta):
        rule = eq.rules.heavy_ball(lambda x: jnp.sum(x**2), beta=beta)
        x, state = X0, rule.init(X0)
        for _ in range(3):
            x, state, _ = eq.step(rule, x, state, 0.1)
        return x[0, 0]

    for beta in (0.1, 0.9):
        alone = eq.simulate(eq.rules.heavy_ball(lambda x: jnp.sum(x**2), beta=beta), X0, eta=0.1, num_steps=3).x[0, 0]
        np.testing.assert_allclose(after(beta), alone, rtol=1e-12)
