"""Closest approach: the step size at which a named pair of particles comes closest, and how close."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from eqdyn import _checks
from eqdyn._types import Points


class Closest(NamedTuple):
    """Of each pair asked for: where along `x + eta U(x)` it is closest.

    eta         -p / R^2, in the unit of eta; 0 for a pair that does not approach
    stretch     sqrt(1 - p^2 / R^2), no unit; 1 for a pair that does not approach, NaN for a coincident one
    distance    |dx + eta du| at that eta, [x]
    """

    eta: jax.Array
    stretch: jax.Array
    distance: jax.Array


def closest(x: Any, u: Any, pair: Any) -> Closest:
    """The eta > 0 at which particles i and j of `x + eta * u` are closest, and how close; for any number of pairs at once.

        eta = -<dx, du> / |du|^2,    distance = |dx + eta du|,    stretch = distance / |dx|,      dx = x_i - x_j, du = u_i - u_j

    Exact for this x and u, up to rounding: a few roundings of `|dx|`, and of `eta (|u_i| + |u_j|)` where u itself is rounded. A pair
    that meets is told by a distance of that size. One step of this size from x; nothing is said of later steps.

    Args:
        x: configuration `(n, d)`, n >= 2.
        u: `U(x)`, in the shape and dtype of x.
        pair: `(i, j)`, or `(k, 2)` of them, as concrete numbers.

    Returns:
        `Closest(eta, stretch, distance)`, scalars for one pair, `(k,)` each for k. NaN if the pair is not finite.

    Raises:
        ValueError, TypeError: x or u is no `(n, d)` of a real floating dtype, or they differ; a pair that is none of x.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> x, u = jnp.array([[0.0, 0.0], [4.0, 3.0]]), jnp.array([[2.0, 0.0], [0.0, 0.0]])
        >>> found = eq.measure.closest(x, u, (0, 1))          # the first moves along an axis, and passes 3 below the second
        >>> float(found.eta), round(float(found.stretch), 6), float(found.distance)
        (2.0, 0.6, 3.0)

    References:
        Derived: the least value of the pair stretch, a quadratic in eta.
    """
    x, u = _checks.points(x, least=2), _checks.points(u, "u", least=2)
    _checks.same_shape(x, u, ("x", "u"))
    return _closest(x, u, _checks.pairs(pair, x.shape[0]))


@jax.jit
def _closest(x: Points, u: Points, pair: jax.Array) -> Closest:
    dx, du = (rows[pair[..., 0]] - rows[pair[..., 1]] for rows in (x, u))
    (dx, x_unit), (du, u_unit) = _unit(dx), _unit(du)
    along = jnp.sum(du * du, axis=-1)
    moving = along != 0  # NaN moves

    def step(rest: jax.Array) -> jax.Array:
        return jnp.where(moving, -jnp.sum(rest * du, axis=-1) / jnp.where(moving, along, 1), 0)

    # the second step takes back what rounding left along du after the first: nothing is squared and subtracted
    first = step(dx)
    eta = first + step(dx + first[..., None] * du)
    eta = jnp.where(eta > 0, eta, jnp.where(jnp.isnan(eta), eta, 0))
    start, least = (jnp.linalg.norm(rows, axis=-1) for rows in (dx, dx + eta[..., None] * du))
    ratio = least / jnp.where(start > 0, start, jnp.nan)
    return Closest(eta * (x_unit / u_unit), jnp.where(eta > 0, jnp.minimum(ratio, 1), ratio), least * x_unit)


def _unit(rows: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Each row over a power of two, so that its square neither overflows nor vanishes; the scaling is exact."""
    info = jnp.finfo(rows.dtype)
    _, exponent = jnp.frexp(jnp.max(jnp.abs(rows), axis=-1))
    scale = jnp.ldexp(jnp.ones((), rows.dtype), jnp.clip(exponent, info.minexp + 1, info.maxexp - 2))
    return rows / scale[..., None], scale
