"""What rounding of U leaves open about the largest pair rate and the strongest approach."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from eqdyn._types import Points, Scalar

_TILE_NUMBERS = 2**22


class Floor(NamedTuple):
    """Over pairs, with U known to `rounding` a row: `certain`, the largest rate that is sure, with its pair; and `upper`, which no rate
    exceeds. `closing`, `closing_at` and `closing_upper` likewise of the approach; `closing_rate` is the rate of the pair that may approach
    fastest. 1/[eta]; minus infinity where no two are distinct.
    """

    certain: Scalar
    certain_at: jax.Array
    upper: Scalar
    closing: Scalar
    closing_at: jax.Array
    closing_upper: Scalar
    closing_rate: Scalar


def pair_floor(x: Points, u: Points, rounding: jax.Array) -> Floor:
    """The largest of `(|U_i - U_j| -+ (r_i + r_j)) / |x_i - x_j|`, and of `(-<U_i - U_j, e_ij> -+ (r_i + r_j)) / |x_i - x_j|` with e_ij the
    direction of `x_i - x_j`, over pairs of distinct particles; in tiles, by differences.
    """
    n, d = x.shape
    tile = max(1, min(n, _TILE_NUMBERS // (n * d)))
    at = jnp.minimum(jnp.arange(tile * -(-n // tile)), n - 1).reshape(-1, tile)

    def rows(at: jax.Array) -> tuple[jax.Array, ...]:
        dx, du = x[at, None] - x[None], u[at, None] - u[None]
        apart, open_ = jnp.linalg.norm(dx, axis=-1), rounding[at, None] + rounding[None]
        same = apart == 0
        apart = jnp.where(same, 1, apart)
        size, closing = jnp.linalg.norm(du, axis=-1), -jnp.sum(du * (dx / apart[..., None]), axis=-1)
        ends = (jnp.where(same, -jnp.inf, part / apart) for part in (size - open_, size + open_, closing - open_, closing + open_))
        sure, most, sure_closing, most_closing = ends
        fastest = jnp.argmax(most_closing, 1)
        rate = jnp.take_along_axis(size / apart, fastest[:, None], 1)[:, 0]
        return sure.max(1), jnp.argmax(sure, 1), most.max(1), sure_closing.max(1), jnp.argmax(sure_closing, 1), most_closing.max(1), rate

    sure, partner, most, sure_closing, closing_partner, most_closing, rate = (part.reshape(-1)[:n] for part in jax.lax.map(rows, at))
    i, j, fastest = jnp.argmax(sure), jnp.argmax(sure_closing), jnp.argmax(most_closing)
    pairs = jnp.stack([i, partner[i]]), jnp.stack([j, closing_partner[j]])
    return Floor(sure[i], pairs[0], most.max(), sure_closing[j], pairs[1], most_closing[fastest], rate[fastest])
