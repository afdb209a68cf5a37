"""Heavy ball: gradient descent with momentum."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from eqdyn import _checks
from eqdyn._types import Tree
from eqdyn._value import bind
from eqdyn.field import Field, as_field
from eqdyn.rule import Rule, add
from eqdyn.rules._optimizer import negative, optimizer, zeros


class HeavyBallState(NamedTuple):
    """`momentum` has the shapes of the particles; unit: that of U."""

    momentum: Tree


def heavy_ball(loss: Callable | Field, *, beta: float = 0.9, weighted: bool = False) -> Rule:
    """Heavy ball, `m' = beta * m + g(x)`, `U = -m'`, with `g = grad L` (or minus the force of a field). Exact up to rounding.

    The lifted step `(x, m) -> (x', m')` is a bijection of determinant `beta^d` a particle for beta > 0: lifted particles
    never merge, at any step size. P2 holds where the Hessian is bounded.

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
    beta = _checks.number(beta, "beta", least=0, below=1)
    return optimizer(as_field(loss, weighted=weighted), _init, bind(_turn, beta))


def _init(x: Tree) -> HeavyBallState:
    return HeavyBallState(zeros(x))


def _turn(beta: float, g: Tree, state: HeavyBallState, x: Tree) -> tuple[Tree, HeavyBallState]:
    momentum = add(g, beta, state.momentum)
    return negative(momentum), HeavyBallState(momentum)
