"""What optimizers share: a field, a state to start from, and a turn that every particle takes alone."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from eqdyn._types import Key, Points, Tree
from eqdyn._value import bind
from eqdyn.field import Field
from eqdyn.rule import Rule, Update, points_of, velocity


def optimizer(field: Field, init: Callable, turn: Callable) -> Rule:
    """The rule of `turn`: `(g, state, x) -> (u, state)`, with g minus the force of the field, on arrays or trees.

    The turn must treat every row alone. Tracers then take it too, where the field knows their force: with a state of their own,
    and their own place as x.
    """
    return Rule(init, bind(_update, field, turn), None if field.at is None else bind(_probe, field, turn))


def negative(tree: Tree) -> Tree:
    return jax.tree.map(jnp.negative, tree)


def zeros(x: Tree) -> Tree:
    """Zeros in the shapes of the particles."""
    return jax.tree.map(jnp.zeros_like, points_of(x))


def root(v: jax.Array) -> jax.Array:
    """`sqrt(v)`, with derivative 0 at v = 0: there the gradient was always 0, as behind a dead input, and infinity times 0 is no number."""
    some = v > 0
    return jnp.where(some, jnp.sqrt(jnp.where(some, v, jnp.ones_like(v))), jnp.sqrt(jax.lax.stop_gradient(v)))


def average(beta: float, old: Tree, new: Tree) -> Tree:
    """`beta * old + (1 - beta) * new`, leaf by leaf, in the dtype of the leaf."""
    return jax.tree.map(lambda a, b: jnp.asarray(beta, a.dtype) * a + jnp.asarray(1 - beta, a.dtype) * b, old, new)


def _update(field: Field, turn: Callable, x: Tree, state: Tree, data: Tree = None, *, key: Key | None = None) -> Update:
    force, info = field.force(x, data)
    u, state = turn(negative(points_of(force)), state, points_of(x))
    return Update(velocity(x, u), state, info)


def _probe(field: Field, turn: Callable, y: Points, y_state: Tree, x: Tree, state: Tree, data: Tree = None, *, key: Key | None = None) -> Update:
    v, y_state = turn(-field.at(y, x, data), y_state, y)  # type: ignore[misc]
    return Update(v, y_state)
