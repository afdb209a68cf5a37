"""AdamW: Adam with decoupled weight decay."""

from __future__ import annotations

from collections.abc import Callable

from eqdyn import _checks
from eqdyn._types import Tree
from eqdyn._value import bind
from eqdyn.field import Field, as_field
from eqdyn.rule import Rule, add
from eqdyn.rules._moments import AdamState, Rates, moments, quotient, rates, start
from eqdyn.rules._optimizer import optimizer


def adamw(
    loss: Callable | Field, *, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8, decay: float = 1e-2, weighted: bool = False
) -> Rule:
    """AdamW, `U = U_adam - decay * x`: equal to `optax.adamw(1.0, weight_decay=decay)` up to rounding.

    The lifted step has determinant `(beta1 beta2 (1 - eta decay))^d` a particle: while `eta * decay < 1` it is a bijection for positive
    rates, and lifted particles never merge. P2 fails, as for Adam.

    Args:
        loss: `(x, data) -> scalar`, or `(x, weight, data)` with `weighted=True`. Or a `Field`.
        beta1, beta2: decay of the moments, in [0, 1).
        eps: added to the root; unit: that of g.
        decay: rate of the pull to the origin, >= 0; unit: 1 over that of eta.
        weighted: whether the loss takes weights; the weights do not decay.

    Raises:
        ValueError: a rate outside [0, 1), eps not positive, or a negative decay.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> rule = eq.rules.adamw(lambda x: 0.5 * jnp.sum(x**2), decay=0.1)
        >>> x = jnp.full((1, 1), 3.0)
        >>> round(float(rule.update(x, rule.init(x)).u[0, 0]), 3)
        -1.3

    References:
        Loshchilov, Hutter, arXiv:1711.05101.
    """
    turn = bind(_turn, rates(beta1, beta2, eps), _checks.number(decay, "decay", least=0))
    return optimizer(as_field(loss, weighted=weighted), start, turn)


def _turn(rates: Rates, decay: float, g: Tree, state: AdamState, x: Tree) -> tuple[Tree, AdamState]:
    state = moments(rates, g, state)
    return add(quotient(rates, state), -decay, x), state
