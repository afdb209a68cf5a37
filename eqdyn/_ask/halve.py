"""A segment between two configurations, halved again and again: does U jump, has it a kink?"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from eqdyn._ask import draws
from eqdyn._ask.draws import Draw
from eqdyn._ask.lifted import in_batches, largest_row, lifted_rows, norm, with_lifted
from eqdyn._types import Points, Scalar, Tree


class Halvings(NamedTuple):
    """The segment from X to PX, P the swap of a pair, halved again and again; level k has length `2^-k` of the whole. Momenta are
    exchanged with the particles; second moments are held, since U is steep where one of them is mixed with a smaller one.

    Fields:
        change, row: of U between the ends of the half that was kept, the one where U changes more: as a whole, and its largest
            particle; `(levels,)`.
        length: of the whole segment, `|X - PX|` with the state counted in.
        largest: component of U along the way.
        bend: the second difference of U over the half interval, `max |U(a) - 2 U(m) + U(b)| / 2^-k`, along the segment of
            another pair and the half where it is larger; `(levels,)`.
    """

    change: jax.Array
    row: jax.Array
    length: Scalar
    largest: Scalar
    bend: jax.Array


def num_levels(dtype: Any) -> int:
    """So many halvings leave the ends of a segment well apart in this dtype: 14 in float32, 31 in float64."""
    return round(-0.6 * math.log2(float(jnp.finfo(dtype).eps)))


def halvings(force: Any, group: Any, lanes: int, draw: Draw, x: Tree, state: Tree) -> tuple[Halvings, Tree]:
    """Both halvings in one loop; U at X itself, asked anew, comes with them."""
    rows, num = lifted_rows(group, x, state), group.size
    blocks = rows.reshape(num, -1, group.dim)
    signed = jnp.any(blocks < 0, axis=(0, 2), keepdims=True).at[:, 0].set(True)  # x, and what is no second moment
    exchanged = jnp.where(signed, blocks, 0).reshape(rows.shape)
    two = draws.pairs(draw)[jnp.asarray([0, -1])]
    ways = jax.vmap(lambda pair: exchanged[draws.swap(num, pair)] - exchanged)(two)

    def at(way: Points, tau: Scalar) -> Tree:
        return force(*with_lifted(group, x, state, rows + tau * way))[0]

    along = ways[jnp.asarray([0, 0, 1, 1])]
    zero = jax.tree.map(jnp.zeros_like, x)
    none = jnp.zeros((), rows.dtype)

    def distance(a: Tree, b: Tree) -> tuple[Scalar, Scalar]:
        between = jax.tree.map(jnp.subtract, a, b)
        return norm(between), largest_row(group, between)

    def bend(a: Tree, m: Tree, b: Tree) -> Scalar:
        return jnp.max(jnp.abs(group.particles(jax.tree.map(lambda a, m, b: a - 2 * m + b, a, m, b))))

    def halve(carry: tuple, half: jax.Array) -> tuple[tuple, tuple]:
        (a, ua, ub), (c, uc, um, ud) = carry
        first = half == 1  # half: the length of what the new points cut off
        later = jnp.stack([a + half, a + half, c + half / 2, c + 3 * half / 2])
        taus = jnp.where(first, jnp.asarray([0, 1, 0.5, 1], rows.dtype), later)
        answers = in_batches(lambda point: at(*point), (along, taus), lanes)
        new = [jax.tree.map(lambda leaf, i=i: leaf[i], answers) for i in range(4)]
        low, high = distance(ua, new[0]), distance(new[0], ub)
        right = high[0] > low[0]
        kept = (a + jnp.where(right, half, 0), _pick(right, new[0], ua), _pick(right, ub, new[0]))
        change = distance(new[0], new[1]), (jnp.where(right, high[0], low[0]), jnp.where(right, high[1], low[1]))
        low_bend, high_bend = bend(uc, new[2], um), bend(um, new[3], ud)
        upper = high_bend > low_bend
        bent = (c + jnp.where(upper, half, 0), _pick(upper, um, uc), _pick(upper, new[3], new[2]), _pick(upper, ud, um))
        largest = jnp.max(jnp.abs(jax.vmap(group.particles)(answers)))
        carry = _pick(first, ((none, new[0], new[1]), (none, new[0], new[2], new[3])), (kept, bent))
        bent_by = jnp.where(first, bend(new[0], new[2], new[3]), jnp.maximum(low_bend, high_bend) / half)
        return carry, (*_pick(first, *change), largest, bent_by, _pick(first, new[0], zero))

    start = ((none, zero, zero), (none, zero, zero, zero))
    _, (change, row, largest, bends, again) = jax.lax.scan(halve, start, jnp.asarray(0.5 ** np.arange(num_levels(rows.dtype) + 1), rows.dtype))
    return Halvings(change, row, norm(ways[0]), jnp.max(largest), bends), jax.tree.map(lambda leaf: leaf[0], again)


def _pick(which: jax.Array, a: Tree, b: Tree) -> Tree:
    return jax.tree.map(lambda p, q: jnp.where(which, p, q), a, b)
