"""What rounding of U leaves open about the largest pair rate."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from eqdyn._types import Points, Scalar

_TILE_NUMBERS = 2**22


class Floor(NamedTuple):
    """Over pairs, with U known to `rounding` a row: `certain`, the largest rate that is sure, with its pair; and `upper`, which no rate
    exceeds. 1/[eta].
    """

    certain: Scalar
    certain_at: jax.Array
    upper: Scalar


def pair_floor(x: Points, u: Points, rounding: jax.Array) -> Floor:
    """The largest of `(|U_i - U_j| -+ (r_i + r_j)) / |x_i - x_j|` over pairs of distinct particles; in tiles, by differences."""
    n, d = x.shape
    tile = max(1, min(n, _TILE_NUMBERS // (n * d)))
    at = jnp.minimum(jnp.arange(tile * -(-n // tile)), n - 1).reshape(-1, tile)

    def rows(at: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        dx = jnp.linalg.norm(x[at, None] - x[None], axis=-1)
        du, open_ = jnp.linalg.norm(u[at, None] - u[None], axis=-1), rounding[at, None] + rounding[None]
        apart = jnp.where(dx == 0, 1, dx)
        sure, most = (jnp.where(dx == 0, -jnp.inf, part / apart) for part in (du - open_, du + open_))
        return sure.max(1), jnp.argmax(sure, 1), most.max(1)

    sure, partner, most = (part.reshape(-1)[:n] for part in jax.lax.map(rows, at))
    i = jnp.argmax(sure)
    return Floor(sure[i], jnp.stack([i, partner[i]]), most.max())
