"""Bounded confidence: everybody moves to the mean of those who are near."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from eqdyn import _checks
from eqdyn._types import Points, Tree
from eqdyn._value import bind
from eqdyn.field import Field, from_field, over_pairs
from eqdyn.rule import Rule, points_of, velocity, weight_of
from eqdyn.rules._pairs import drift, squared_distances

_MANY, _REACHES = 4096, 4  # particles; how far from their mean all must lie, in units of the reach, for sums by products


def hegselmann_krause(*, radius: float = 1.0) -> Rule:
    """The model of Hegselmann and Krause, `U_i = mean{x_j : |x_j - x_i| <= radius} - x_i`, with the weighted mean; `eta = 1` is the model
    as written. Exact up to the order of summation; distances are taken from differences.

    P2 and P3 fail: U jumps where a pair comes within reach. Particles whose neighbours are the same merge at `eta = 1`, as in the
    consensus rule, which this is once the radius covers all; groups further apart than the radius do not feel each other. The
    hull of all never grows for `eta <= 1`. The centre of mass moves in general. A tracer that reaches nobody stays.

    Time O(n^2 d), memory O(n d) and a tile. More than 4,096 particles, none further from their mean than four reaches, are summed by
    matrix products: who is near is decided by differences as ever, U is within some roundings of the reach of what it is otherwise.

    Args:
        radius: reach, > 0; unit: that of x.

    Raises:
        ValueError: a radius that is not positive.
        TypeError: data, which the rule does not take.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> x, _, _ = eq.step(eq.rules.hegselmann_krause(), jnp.array([[0.0], [1.0], [2.0], [9.0]]), (), eta=1.0)
        >>> x.ravel().tolist()
        [0.5, 1.0, 1.5, 9.0]

    References:
        Hegselmann, Krause 2002, Opinion dynamics and bounded confidence (JASSS 5).
    """
    radius = _checks.number(radius, "radius", above=0)
    return from_field(Field(bind(_force, radius), bind(_at, radius)))


def _at(radius: float, y: Points, x: Tree, data: Tree) -> Points:
    _checks.no_data(data, "hegselmann_krause")
    points, weight = points_of(x), weight_of(x)
    reach2, many = jnp.square(jnp.asarray(radius, points.dtype)), points.shape[0] > _MANY

    centre = jnp.mean(points, axis=0, keepdims=True)
    far2 = jnp.maximum(*(jnp.max(jnp.sum(jnp.square(rows - centre), axis=1)) for rows in (points, y)))

    def by_products(near: jax.Array, tile: Points, points: Points) -> Points:
        total = jnp.matmul(near, points - centre, precision=jax.lax.Precision.HIGHEST)
        return total - jnp.sum(near, axis=1, keepdims=True) * (tile - centre)

    def part(tile: Points, points: Points, weight: jax.Array) -> tuple[Points, jax.Array]:
        near = jnp.where(squared_distances(tile, points) <= reach2, weight[None], 0)
        # where nobody is further out than some reaches, products round by no more than as many times what differences do
        moved = jax.lax.cond(far2 <= _REACHES**2 * reach2, by_products, drift, near, tile, points) if many else drift(near, tile, points)
        return moved, jnp.sum(near, axis=1, keepdims=True)

    moved, total = over_pairs(part, y, points, weight, pair_bytes=4 * points.dtype.itemsize)
    return moved / jnp.where(total > 0, total, 1)


def _force(radius: float, x: Tree, data: Tree) -> tuple[Tree, None]:
    return velocity(x, _at(radius, points_of(x), x, data)), None
