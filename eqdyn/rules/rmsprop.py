"""RMSProp: the gradient over the root of its mean square."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from eqdyn import _checks
from eqdyn._types import Tree
from eqdyn._value import bind
from eqdyn.field import Field, as_field
from eqdyn.rule import Rule
from eqdyn.rules._optimizer import average, optimizer, root, zeros


class RMSPropState(NamedTuple):
    """`v`, the running mean of squared gradients, in the shapes of the particles."""

    v: Tree


def rmsprop(loss: Callable | Field, *, beta2: float = 0.9, eps: float = 1e-8, weighted: bool = False) -> Rule:
    """RMSProp, equal to `optax.rmsprop(1.0, decay=beta2, eps=eps, eps_in_sqrt=False)` up to rounding.

        v' = beta2 v + (1 - beta2) g^2,   U = -g / (sqrt(v') + eps)

    The lifted step `(x, v) -> (x', v')` has determinant `beta2^d det(I - eta diag(1/(sqrt(v') + eps)) G)` a particle, with v' held fixed
    and G the Jacobian of g with the field held fixed: it can fold. P2 fails: the root is not Lipschitz at v = 0. A first step has
    length `1/sqrt(1 - beta2)` along every coordinate, whatever the gradient (large against eps).

    Args:
        loss: `(x, data) -> scalar`, or `(x, weight, data)` with `weighted=True`. Or a `Field` (then g is minus its force).
        beta2: decay of the mean square, in [0, 1).
        eps: added to the root, > 0; unit: that of g.
        weighted: whether the loss takes weights; tracers carry a mean square of their own.

    Raises:
        ValueError: beta2 outside [0, 1), or eps not positive.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> rule = eq.rules.rmsprop(lambda x: 0.5 * jnp.sum(x**2), beta2=0.75)
        >>> x = jnp.full((1, 1), 3.0)
        >>> round(float(rule.update(x, rule.init(x)).u[0, 0]), 3)
        -2.0

    References:
        Tieleman, Hinton 2012 (lecture 6.5).
    """
    rates = _checks.number(beta2, "beta2", least=0, below=1), _checks.number(eps, "eps", above=0)
    return optimizer(as_field(loss, weighted=weighted), _init, bind(_turn, *rates))


def _init(x: Tree) -> RMSPropState:
    return RMSPropState(zeros(x))


def _turn(beta2: float, eps: float, g: Tree, state: RMSPropState, x: Tree) -> tuple[Tree, RMSPropState]:
    v = average(beta2, state.v, jax.tree.map(jnp.square, g))
    return jax.tree.map(lambda g, v: -g / (root(v) + jnp.asarray(eps, v.dtype)), g, v), RMSPropState(v)
