"""Adam in the order that the paper prints: a gradient late by one step."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from eqdyn._types import Tree
from eqdyn._value import bind
from eqdyn.field import Field, as_field
from eqdyn.rule import Rule
from eqdyn.rules._moments import AdamState, Rates, moments, quotient, rates, start
from eqdyn.rules._optimizer import optimizer


def adam_delayed(loss: Callable | Field, *, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8, weighted: bool = False) -> Rule:
    """Adam as equation 16 prints it: the particles move by the *old* moments, which then take the gradient in.

        U  = -(m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps),    t = 0, 1, 2, ...
        m' = beta1 m + (1 - beta1) g(x),   v' = beta2 v + (1 - beta2) g(x)^2

    This is Adam with a gradient late by one step, though the source calls it equivalent. At t = 0 the printed quotient is
    0/0: here U = 0 then. Its lifted step can fold, Adam's cannot. P2 fails, as for Adam.

    Args:
        loss, beta1, beta2, eps, weighted: as in `adam`.

    Raises:
        ValueError: a rate outside [0, 1), or eps not positive.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> rule = eq.rules.adam_delayed(lambda x: 0.5 * jnp.sum(x**2))
        >>> x = jnp.full((1, 1), 3.0)
        >>> float(rule.update(x, rule.init(x)).u[0, 0])
        0.0

    References:
        Yang et al., arXiv:2510.02670, equation 16.
    """
    return optimizer(as_field(loss, weighted=weighted), start, bind(_turn, rates(beta1, beta2, eps)))


def _turn(rates: Rates, g: Tree, state: AdamState, x: Tree) -> tuple[Tree, AdamState]:
    started = state._replace(t=jnp.maximum(state.t, 1))  # keeps 0/0 out of the step before the first
    u = jax.tree.map(lambda u: jnp.where(state.t > 0, u, jnp.zeros_like(u)), quotient(rates, started))
    return u, moments(rates, g, state)
