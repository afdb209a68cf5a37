"""A rule of one's own from a plain function."""

from __future__ import annotations

from collections.abc import Callable

from eqdyn._types import Key, Tree
from eqdyn._value import bind, parameters
from eqdyn.field import with_data
from eqdyn.rule import Rule, Update, no_state, points_of, velocity, weight_of


def from_function(function: Callable, *, weighted: bool = False) -> Rule:
    """The rule `U(x) = function(x)`, without state. Nothing is assumed of the function; `eq.check` tells what it keeps.

    Args:
        function: `(x, data) -> u` on an array `(n, d)` or a tree, or `(x, weight, data) -> u` with `weighted=True`; the data
            may be left out. An argument named `key` is filled with the key of the step.
        weighted: whether the function takes weights.

    Raises:
        TypeError: the function takes another number of arguments, or is no function.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> rule = eq.rules.from_function(lambda x: -x)
        >>> rule.update(jnp.ones((2, 1)), ()).u.ravel().tolist()
        [-1.0, -1.0]
    """
    if not callable(function):
        msg = f"function: got {type(function).__name__}; expected a function x -> u; write lambda x: -x."
        raise TypeError(msg)
    keyed = any(p.name == "key" and p.kind is not p.POSITIONAL_ONLY for p in parameters(function) or ())
    call = with_data(function, 2 if weighted else 1, "function")
    return Rule(no_state, bind(_update, call, weighted, keyed))


def _update(call: Callable, weighted: bool, keyed: bool, x: Tree, state: Tree, data: Tree = None, *, key: Key | None = None) -> Update:
    inputs = (points_of(x), weight_of(x)) if weighted else (points_of(x),)
    u = call(*inputs, data, key=key) if keyed else call(*inputs, data)
    return Update(velocity(x, u), state)
