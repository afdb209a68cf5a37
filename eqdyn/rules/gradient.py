"""Gradient descent, and any other field taken as it is: `U(x)` is the force."""

from __future__ import annotations

from collections.abc import Callable

from eqdyn._types import Key, Points, Tree
from eqdyn._value import bind
from eqdyn.field import Field, as_field
from eqdyn.rule import Rule, Update


def gradient(loss: Callable | Field, *, weighted: bool = False) -> Rule:
    """Gradient descent, `U(x) = -grad L(x)`. Exact up to rounding.

    With a minibatch as data this is stochastic gradient descent, equivariant batch by batch. `info` is
    `field.Info(loss, force_norm)`, the loss at x.

    Args:
        loss: `(x, data) -> scalar`, or `(x, weight, data)` with `weighted=True`; the data may be left out. Or a `Field`.
        weighted: whether the loss takes weights; then `U_i = -(1/w_i) dL/dx_i`, and tracers can be moved (`probe`).

    Raises:
        TypeError: the loss takes another number of arguments.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> rule = eq.rules.gradient(lambda x: 0.5 * jnp.sum(x**2))
        >>> rule.update(jnp.array([[1.0, -2.0]]), ()).u.tolist()
        [[-1.0, 2.0]]

    References:
        Yang et al., arXiv:2510.02670, equation 10; theory of tracers: first variation of L.
    """
    return from_field(as_field(loss, weighted=weighted))


def from_field(field: Field) -> Rule:
    """The rule `U(x) = field.force(x)`, with tracers where the field knows them. See `eqdyn.field`.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> spring = eq.field.pair_kernel(lambda a, b: b - a)
        >>> eq.rules.from_field(spring).update(jnp.array([[0.0], [1.0]]), ()).u.ravel().tolist()
        [1.0, -1.0]
    """
    return Rule(_init, bind(_update, field), None if field.at is None else bind(_probe, field))


def _init(x: Tree) -> tuple[()]:
    return ()


def _update(field: Field, x: Tree, state: Tree, data: Tree = None, *, key: Key | None = None) -> Update:
    u, info = field.force(x, data)
    return Update(u, state, info)


def _probe(field: Field, y: Points, y_state: Tree, x: Tree, state: Tree, data: Tree = None, *, key: Key | None = None) -> Update:
    return Update(field.at(y, x, data), y_state)  # type: ignore[misc]
