"""Nesterov: momentum that looks one step ahead."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from eqdyn import _checks
from eqdyn._types import Tree
from eqdyn._value import bind
from eqdyn.field import Field, as_field
from eqdyn.rule import Rule, add
from eqdyn.rules._optimizer import negative, optimizer, zeros


class NesterovState(NamedTuple):
    """`momentum` has the shapes of the particles; unit: that of U."""

    momentum: Tree


def nesterov(loss: Callable | Field, *, beta: float = 0.9, weighted: bool = False) -> Rule:
    """Nesterov's momentum, equal to `optax.sgd(1.0, momentum=beta, nesterov=True)` up to rounding.

        m' = beta m + g(x),   U = -(beta m' + g(x))

    The lifted step `(x, m) -> (x', m')` has determinant `beta^d det(I - eta G)` a particle, G the Jacobian of g with the field held
    fixed: unlike the heavy ball's it can fold, where gradient descent does. P2 holds where the Hessian is bounded.

    Args:
        loss: `(x, data) -> scalar`, or `(x, weight, data)` with `weighted=True`. Or a `Field` (then g is minus its force).
        beta: decay of the momentum, in [0, 1); 0 is gradient descent.
        weighted: whether the loss takes weights; tracers carry a momentum of their own.

    Raises:
        ValueError: beta outside [0, 1).

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> rule = eq.rules.nesterov(lambda x: 0.5 * jnp.sum(x**2), beta=0.5)
        >>> x = jnp.ones((1, 1))
        >>> float(rule.update(x, rule.init(x)).u[0, 0])         # 1 + beta times the gradient at the first step
        -1.5

    References:
        Nesterov 1983; Sutskever, Martens, Dahl, Hinton 2013 (this form).
    """
    beta = _checks.number(beta, "beta", least=0, below=1)
    return optimizer(as_field(loss, weighted=weighted), _init, bind(_turn, beta))


def _init(x: Tree) -> NesterovState:
    return NesterovState(zeros(x))


def _turn(beta: float, g: Tree, state: NesterovState, x: Tree) -> tuple[Tree, NesterovState]:
    momentum = add(g, beta, state.momentum)
    return negative(add(g, beta, momentum)), NesterovState(momentum)
