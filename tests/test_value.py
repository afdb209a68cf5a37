"""Functions as values: equal when they compute alike, never when what they captured may have changed."""

import functools

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from eqdyn import _value

SCALE = 1.0


def factory(a, b=None):
    def inner(x):
        return a * x if b is None else b(a * x)

    return inner


def reads_a_global():
    return lambda x: SCALE * x


ARRAY, HOST = jnp.ones(3), np.ones(3)
EQUAL = {
    "same factory, same number": (factory(2.0), factory(2.0)),
    "nested": (factory(2.0, factory(3.0)), factory(2.0, factory(3.0))),
    "same jax array": (factory(ARRAY), factory(ARRAY)),
    "tuple of numbers": (factory((1, 2.0, "a")), factory((1, 2.0, "a"))),
    "partial": (functools.partial(factory, 2.0), functools.partial(factory, 2.0)),
    "bound": (_value.bind(factory, 1.0), _value.bind(factory, 1.0)),
    "optax": (optax.adam(1e-3).update, optax.adam(1e-3).update),
    "optax chain": (optax.chain(optax.clip(1.0), optax.adamw(1e-3)).update, optax.chain(optax.clip(1.0), optax.adamw(1e-3)).update),
    "matrix by content": (_value.bind(factory, _value.Constant(np.eye(2))), _value.bind(factory, _value.Constant(np.eye(2)))),
}
UNEQUAL = {
    "another number": (factory(2.0), factory(3.0)),
    "an integer is not a float": (factory(2), factory(2.0)),
    "0 and -0": (factory(0.0), factory(-0.0)),
    "another jax array": (factory(ARRAY), factory(jnp.ones(3))),
    "a NumPy array may change": (factory(HOST), factory(HOST)),
    "a list may change": (factory([1]), factory([1])),
    "another line": (lambda x: x, lambda x: x),  # noqa: PIE
    "another optimizer": (optax.adam(1e-3).update, optax.adam(2e-3).update),
}


@pytest.mark.parametrize("name", EQUAL)
def test_equal(name):
    a, b = (_value.function(f) for f in EQUAL[name])
    assert a == b
    assert hash(a) == hash(b)


@pytest.mark.parametrize("name", UNEQUAL)
def test_unequal(name):
    a, b = (_value.function(f) for f in UNEQUAL[name])
    assert a != b


def test_a_changed_global_is_a_changed_function(monkeypatch):
    before = _value.function(reads_a_global())
    assert before == _value.function(reads_a_global())
    monkeypatch.setitem(globals(), "SCALE", 2.0)
    assert before != _value.function(reads_a_global())


def test_a_function_that_captures_itself_is_compared_by_identity():
    def make():
        def inner(x):
            return inner if x else None

        return inner

    f = make()
    assert _value.function(f) == _value.function(f)
    assert _value.function(f) != _value.function(make())
