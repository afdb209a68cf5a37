"""Gradient descent."""

from __future__ import annotations

from collections.abc import Callable

from eqdyn.field import Field, as_field, from_field
from eqdyn.rule import Rule


def gradient(loss: Callable | Field, *, weighted: bool = False) -> Rule:
    """Gradient descent, `U(x) = -grad L(x)`. Exact up to rounding.

    With a minibatch as data this is stochastic gradient descent, equivariant batch by batch. `info` is
    `field.Info(loss, force_norm)`, the loss at x. K is the largest absolute eigenvalue of the Hessian anywhere: P2 holds where that
    is bounded, P3 where the loss is C^2. The step of a tracer has determinant `det(I - eta G)`, G the Jacobian of its gradient with
    the field held fixed: it can fold.

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
