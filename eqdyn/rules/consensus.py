"""Consensus: every particle moves towards the common mean."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from eqdyn import _checks
from eqdyn._value import bind
from eqdyn.field import from_field, mean_field
from eqdyn.rule import Rule


def consensus(*, rate: float = 1.0) -> Rule:
    """Consensus, `U_i = rate * (mean - x_i)`, with the weighted mean. Exact up to the order of summation.

    Everything is known: K = K_pair = mu = |rate|, swap curvature `-rate * I`, every pair stretch `|1 - eta * rate|`; the
    centre of mass stays; `eta = 1 / rate` merges all in one step.

    Args:
        rate: speed of contraction; negative repels. Unit: 1 over that of eta.

    Raises:
        ValueError: a rate that is not finite.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> x, _, _ = eq.step(eq.rules.consensus(), jnp.array([[0.0], [2.0], [7.0]]), (), eta=1.0)
        >>> x.ravel().tolist()
        [3.0, 3.0, 3.0]
    """
    return from_field(mean_field(_place_and_one, bind(_towards_mean, _checks.number(rate, "rate"))))


def _place_and_one(x: jax.Array) -> tuple[jax.Array, float]:
    return x, 1.0


def _towards_mean(rate: float, x: jax.Array, s: tuple[jax.Array, jax.Array]) -> jax.Array:
    total, mass = s
    return jnp.asarray(rate, x.dtype) * (total / mass - x)
