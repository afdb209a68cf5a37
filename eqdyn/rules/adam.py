"""Adam, in the order that is used, and in the order that the paper prints (a gradient late by one step)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from eqdyn import _checks
from eqdyn._types import Key, Points, Tree
from eqdyn._value import bind
from eqdyn.field import Field, as_field
from eqdyn.rule import Rule, Update, points_of, velocity


class AdamState(NamedTuple):
    """`t` steps taken; first moment `m` and second moment `v`, in the shapes of the particles."""

    t: jax.Array
    m: Tree
    v: Tree


class _Rates(NamedTuple):
    beta1: float
    beta2: float
    eps: float


def adam(loss: Callable | Field, *, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8, weighted: bool = False) -> Rule:
    """Adam, moments first, then the particles: equal to `optax.adam` up to rounding.

        m' = beta1 m + (1 - beta1) g,   v' = beta2 v + (1 - beta2) g^2
        U  = -(m' / (1 - beta1^t)) / (sqrt(v' / (1 - beta2^t)) + eps),    t = 1, 2, ...

    Acts on each particle alone, given the field: tracers carry moments of their own. The lifted step is a bijection of
    determinant `(beta1 beta2)^d` a particle.

    Args:
        loss: `(x, data) -> scalar`, or `(x, weight, data)` with `weighted=True`. Or a `Field` (then g is minus its force).
        beta1, beta2: decay of the moments, in [0, 1).
        eps: added to the root; unit: that of U.
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
    return _adam(_usual, loss, _Rates(beta1, beta2, eps), weighted)


def adam_delayed(loss: Callable | Field, *, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8, weighted: bool = False) -> Rule:
    """Adam as equation 16 prints it: the particles move by the *old* moments, which then take the gradient in.

        U  = -(m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps),    t = 0, 1, 2, ...
        m' = beta1 m + (1 - beta1) g(x),   v' = beta2 v + (1 - beta2) g(x)^2

    This is Adam with a gradient late by one step, though the source calls it equivalent. At t = 0 the printed quotient is
    0/0: here U = 0 then. Its lifted step can fold, Adam's cannot.

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
    return _adam(_delayed, loss, _Rates(beta1, beta2, eps), weighted)


def _adam(turn: Callable, loss: Callable | Field, rates: _Rates, weighted: bool) -> Rule:
    rates = _Rates(_checks.rate(rates.beta1, "beta1"), _checks.rate(rates.beta2, "beta2"), _checks.positive(rates.eps, "eps"))
    field = as_field(loss, weighted=weighted)
    return Rule(_init, bind(_update, field, turn, rates), None if field.at is None else bind(_probe, field, turn, rates))


def _init(x: Tree) -> AdamState:
    zeros = jax.tree.map(jnp.zeros_like, points_of(x))
    return AdamState(jnp.zeros((), jnp.int32), zeros, zeros)


def _moments(state: AdamState, force: Tree, rates: _Rates) -> AdamState:
    g = jax.tree.map(jnp.negative, force)
    m = jax.tree.map(lambda m, g: rates.beta1 * m + (1 - rates.beta1) * g, state.m, g)
    v = jax.tree.map(lambda v, g: rates.beta2 * v + (1 - rates.beta2) * g**2, state.v, g)
    return AdamState(state.t + 1, m, v)


def _quotient(state: AdamState, rates: _Rates) -> Tree:
    def leaf(m: jax.Array, v: jax.Array) -> jax.Array:
        t = state.t.astype(m.dtype)
        correct1, correct2 = (1 - jnp.asarray(beta, m.dtype) ** t for beta in (rates.beta1, rates.beta2))
        return -(m / correct1) / (jnp.sqrt(v / correct2) + rates.eps)

    return jax.tree.map(leaf, state.m, state.v)


def _usual(state: AdamState, force: Tree, rates: _Rates) -> tuple[Tree, AdamState]:
    state = _moments(state, force, rates)
    return _quotient(state, rates), state


def _delayed(state: AdamState, force: Tree, rates: _Rates) -> tuple[Tree, AdamState]:
    started = state._replace(t=jnp.maximum(state.t, 1))  # keeps 0/0 out of the step before the first
    u = jax.tree.map(lambda u: jnp.where(state.t > 0, u, jnp.zeros_like(u)), _quotient(started, rates))
    return u, _moments(state, force, rates)


def _update(field: Field, turn: Callable, rates: _Rates, x: Tree, state: AdamState, data: Tree = None, *, key: Key | None = None) -> Update:
    force, info = field.force(x, data)
    u, state = turn(state, points_of(force), rates)
    return Update(velocity(x, u), state, info)


def _probe(
    field: Field, turn: Callable, rates: _Rates, y: Points, y_state: AdamState, x: Tree, state: Any, data: Tree = None, *, key: Key | None = None
) -> Update:
    v, y_state = turn(y_state, field.at(y, x, data), rates)  # type: ignore[misc]
    return Update(v, y_state)
