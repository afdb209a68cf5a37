"""Heavy ball: gradient descent with momentum."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from eqdyn import _checks
from eqdyn._types import Key, Points, Tree
from eqdyn._value import bind
from eqdyn.field import Field, as_field
from eqdyn.rule import Rule, Update, points_of, velocity


class HeavyBallState(NamedTuple):
    """`momentum` has the shapes of the particles; unit: that of U."""

    momentum: Tree


def heavy_ball(loss: Callable | Field, *, beta: float = 0.9, weighted: bool = False) -> Rule:
    """Heavy ball, `m' = beta * m + g(x)`, `U = -m'`, with `g = grad L` (or minus the force of a field). Exact up to rounding.

    The lifted step `(x, m) -> (x', m')` is a bijection of determinant `beta^d` a particle for beta > 0: lifted particles
    never merge, at any step size.

    Args:
        loss: `(x, data) -> scalar`, or `(x, weight, data)` with `weighted=True`. Or a `Field`.
        beta: decay of the momentum, in [0, 1).
        weighted: whether the loss takes weights; tracers carry a momentum of their own.

    Raises:
        ValueError: beta outside [0, 1).

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> rule = eq.rules.heavy_ball(lambda x: 0.5 * jnp.sum(x**2), beta=0.5)
        >>> x = jnp.ones((1, 1))
        >>> u, state, info = rule.update(x, rule.init(x))
        >>> float(rule.update(x, state).u[0, 0])
        -1.5

    References:
        Polyak 1964; Yang et al., arXiv:2510.02670, section 6 (momentum 0.9).
    """
    beta = _checks.rate(beta, "beta")
    field = as_field(loss, weighted=weighted)
    return Rule(_init, bind(_update, field, beta), None if field.at is None else bind(_probe, field, beta))


def _init(x: Tree) -> HeavyBallState:
    return HeavyBallState(jax.tree.map(jnp.zeros_like, points_of(x)))


def _turn(force: Tree, state: HeavyBallState, beta: float) -> tuple[Tree, HeavyBallState]:
    momentum = jax.tree.map(lambda m, f: beta * m - f, state.momentum, force)  # g = -force
    return jax.tree.map(jnp.negative, momentum), HeavyBallState(momentum)


def _update(field: Field, beta: float, x: Tree, state: HeavyBallState, data: Tree = None, *, key: Key | None = None) -> Update:
    force, info = field.force(x, data)
    u, state = _turn(points_of(force), state, beta)
    return Update(velocity(x, u), state, info)


def _probe(
    field: Field, beta: float, y: Points, y_state: HeavyBallState, x: Tree, state: HeavyBallState, data: Tree = None, *, key: Key | None = None
) -> Update:
    v, y_state = _turn(field.at(y, x, data), y_state, beta)  # type: ignore[misc]
    return Update(v, y_state)
