"""Sign descent: every coordinate moves at speed 1."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from eqdyn._types import Tree
from eqdyn.field import Field, as_field
from eqdyn.rule import Rule, no_state
from eqdyn.rules._optimizer import optimizer


def sign_descent(loss: Callable | Field, *, weighted: bool = False) -> Rule:
    """Sign descent, `U = -sign(grad L)`, coordinate by coordinate, with sign(0) = 0. Exact up to the rounding of the gradient.

    P2 and P3 fail: U jumps where a coordinate of the gradient changes its sign, and two particles on both sides have the pair rate
    `2 / |x_i - x_j|` or more, so that no step size excludes a merge everywhere. Elsewhere U is constant and the swap curvature is 0.

    Args:
        loss: `(x, data) -> scalar`, or `(x, weight, data)` with `weighted=True`. Or a `Field` (then U is the sign of its force).
        weighted: whether the loss takes weights; then tracers can be moved.

    Raises:
        TypeError: the loss takes another number of arguments.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> rule = eq.rules.sign_descent(lambda x: 0.5 * jnp.sum(x**2))
        >>> rule.update(jnp.array([[3.0, -0.1]]), ()).u.tolist()
        [[-1.0, 1.0]]

    References:
        Bernstein, Wang, Azizzadenesheli, Anandkumar, arXiv:1802.04434.
    """
    return optimizer(as_field(loss, weighted=weighted), no_state, _turn)


def _turn(g: Tree, state: tuple, x: Tree) -> tuple[Tree, tuple]:
    return jax.tree.map(lambda g: -jnp.sign(g), g), state
