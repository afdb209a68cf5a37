"""The terms of every pair by differences in units of its own: however near a pair is, its values are right to rounding."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from eqdyn._differences import Asked, over_coordinates, power_of_two
from eqdyn._types import Points, Scalar


class Pairs(NamedTuple):
    """Sums over the coordinates of pairs, `(rows, others)`: `|dx|^2`, `|dw|^2`, `|du|^2`, `<du, dx>` with dx, dw, du each over a power of
    two of the pair; and which pairs are distinct.
    """

    dx2: jax.Array
    dw2: jax.Array
    du2: jax.Array
    dxdu: jax.Array
    unit_x: jax.Array
    unit_w: jax.Array
    unit_u: jax.Array
    apart: jax.Array


def of_pairs(asked: Asked, x: Points, w: Points, rows: jax.Array, others: jax.Array) -> Pairs:
    ends = x[rows], x[others], w[rows], w[others]
    zero = jnp.zeros((len(rows), len(others)), x.dtype)

    def differences(coordinate: tuple) -> tuple[jax.Array, jax.Array, jax.Array]:
        p, q, r, s = coordinate
        dx, dw = p[:, None] - q[None], r[:, None] - s[None]
        return dx, dw, dw - dx if asked.moved else dw

    def widest(carry: tuple, coordinate: tuple) -> tuple:
        return (), tuple(jnp.maximum(a, jnp.abs(b)) for a, b in zip(carry[1], differences(coordinate), strict=True))

    _, largest = over_coordinates(widest, ((), (zero,) * 3), ends, unrolled=False)
    units = of_x, of_w, of_u = tuple(power_of_two(one) for one in largest)

    def add(carry: tuple, coordinate: tuple) -> tuple:
        dx, dw, du = (one / unit for one, unit in zip(differences(coordinate), units, strict=True))
        return tuple(a + b for a, b in zip(carry[0], (dx * dx, dw * dw, du * du, dx * du), strict=True)), ()

    (dx2, dw2, du2, dxdu), _ = over_coordinates(add, ((zero,) * 4, ()), ends, unrolled=False)
    return Pairs(dx2, dw2, du2, dxdu, of_x, of_w, of_u, largest[0] > 0)


def roomy(asked: Asked, x: Points, w: Points) -> tuple[Points, Points, Scalar, Scalar]:
    """Particles, made smaller where differences or lengths might overflow; and both factors."""
    info = jnp.finfo(x.dtype)

    def factor(size: jax.Array) -> Scalar:
        return jnp.where(size > 2.0 ** (info.maxexp - 32), jnp.asarray(2.0**-24, x.dtype), 1)

    sizes = [jnp.max(jnp.abs(rows)) for rows in (x, w)]
    of_x, of_w = (factor(jnp.maximum(*sizes)),) * 2 if asked.moved else (factor(size) for size in sizes)
    return x * of_x, w * of_w, of_x, of_w


def terms_of_all(x: Points, u: Points) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Of every pair `(n, n)`: distance, rate, approach, and what of the rate is across; NaN where two coincide."""
    asked, every = Asked((), moved=False), jnp.arange(x.shape[0])
    x, u, of_x, of_u = roomy(asked, x, u)
    one = of_pairs(asked, x, u, every, every)
    dx2 = jnp.where(one.apart, one.dx2, jnp.nan)
    turn, speed = one.dxdu / dx2, one.unit_u / one.unit_x * (of_x / of_u)

    def add(carry: tuple, coordinate: tuple) -> tuple:
        p, q, r, s = coordinate
        rest = (r[:, None] - s[None]) / one.unit_u - turn * ((p[:, None] - q[None]) / one.unit_x)
        return (carry[0][0] + rest * rest,), ()

    (rest,), _ = over_coordinates(add, ((jnp.zeros_like(dx2),), ()), (x, x, u, u), unrolled=False)
    return jnp.sqrt(dx2) * (one.unit_x / of_x), jnp.sqrt(one.du2 / dx2) * speed, turn * speed, jnp.sqrt(rest / dx2) * speed
