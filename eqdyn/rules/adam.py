"""Adam, in the order that is used: moments first, then the particles."""

from __future__ import annotations

from collections.abc import Callable

from eqdyn._types import Tree
from eqdyn._value import bind
from eqdyn.field import Field, as_field
from eqdyn.rule import Rule
from eqdyn.rules._moments import AdamState, Rates, moments, quotient, rates, start
from eqdyn.rules._optimizer import optimizer


def adam(loss: Callable | Field, *, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8, weighted: bool = False) -> Rule:
    """Adam, moments first, then the particles: equal to `optax.adam` up to rounding.

        m' = beta1 m + (1 - beta1) g,   v' = beta2 v + (1 - beta2) g^2
        U  = -(m' / (1 - beta1^t)) / (sqrt(v' / (1 - beta2^t)) + eps),    t = 1, 2, ...

    Acts on each particle alone, given the field: tracers carry moments of their own. The lifted step is a bijection of
    determinant `(beta1 beta2)^d` a particle for positive rates: lifted particles never merge. P2 fails: the root is not Lipschitz at
    v = 0.

    Args:
        loss: `(x, data) -> scalar`, or `(x, weight, data)` with `weighted=True`. Or a `Field` (then g is minus its force).
        beta1, beta2: decay of the moments, in [0, 1).
        eps: added to the root; unit: that of g.
        weighted: whether the loss takes weights.

    Raises:
        ValueError: a rate outside [0, 1), or eps not positive.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> rule = eq.rules.adam(lambda x: 0.5 * jnp.sum(x**2))
        >>> x = jnp.full((1, 1), 3.0)
        >>> round(float(rule.update(x, rule.init(x)).u[0, 0]), 3)  # the first step has length 1
        -1.0

    References:
        Kingma, Ba 2015; Yang et al., arXiv:2510.02670, section 5.2.
    """
    return optimizer(as_field(loss, weighted=weighted), start, bind(_turn, rates(beta1, beta2, eps)))


def _turn(rates: Rates, g: Tree, state: AdamState, x: Tree) -> tuple[Tree, AdamState]:
    state = moments(rates, g, state)
    return quotient(rates, state), state
