"""Lion: the sign of a momentum."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from eqdyn import _checks
from eqdyn._types import Tree
from eqdyn._value import bind
from eqdyn.field import Field, as_field
from eqdyn.rule import Rule, add
from eqdyn.rules._optimizer import average, optimizer, zeros


class LionState(NamedTuple):
    """`momentum` has the shapes of the particles; unit: that of the gradient."""

    momentum: Tree


def lion(loss: Callable | Field, *, beta1: float = 0.9, beta2: float = 0.99, decay: float = 0.0, weighted: bool = False) -> Rule:
    """Lion, equal to `optax.lion(1.0, b1=beta1, b2=beta2, weight_decay=decay)` up to rounding.

        U = -sign(beta1 m + (1 - beta1) g) - decay x,   m' = beta2 m + (1 - beta2) g

    P2 and P3 fail: U jumps where the sum changes its sign. Elsewhere the lifted step `(x, m) -> (x', m')` has determinant
    `(beta2 (1 - eta decay))^d` a particle.

    Args:
        loss: `(x, data) -> scalar`, or `(x, weight, data)` with `weighted=True`. Or a `Field` (then g is minus its force).
        beta1: weight of the momentum in the step, in [0, 1).
        beta2: decay of the momentum, in [0, 1).
        decay: rate of the pull to the origin, >= 0; unit: 1 over that of eta.
        weighted: whether the loss takes weights; tracers carry a momentum of their own.

    Raises:
        ValueError: a rate outside [0, 1), or a negative decay.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> rule = eq.rules.lion(lambda x: 0.5 * jnp.sum(x**2), decay=0.5)
        >>> x = jnp.full((1, 1), 3.0)
        >>> rule.update(x, rule.init(x)).u.tolist()
        [[-2.5]]

    References:
        Chen et al., arXiv:2302.06675.
    """
    beta1, beta2 = (_checks.number(beta, name, least=0, below=1) for beta, name in ((beta1, "beta1"), (beta2, "beta2")))
    turn = bind(_turn, beta1, beta2, _checks.number(decay, "decay", least=0))
    return optimizer(as_field(loss, weighted=weighted), _init, turn)


def _init(x: Tree) -> LionState:
    return LionState(zeros(x))


def _turn(beta1: float, beta2: float, decay: float, g: Tree, state: LionState, x: Tree) -> tuple[Tree, LionState]:
    u = jax.tree.map(lambda c: -jnp.sign(c), average(beta1, state.momentum, g))
    return add(u, -decay, x), LionState(average(beta2, state.momentum, g))
