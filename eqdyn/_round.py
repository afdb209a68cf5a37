"""Extreme values over all pairs of particles on several devices: blocks go round a ring, each pair of them meets once.

Every device holds its own block and one visitor. After half a turn all blocks have met: in the last stage of an even ring two devices
hold the same two blocks, and each takes half of the pairs. What decides a pair is what decides it on one device.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from eqdyn import _differences, _mesh, _screen
from eqdyn._differences import Asked, Cloud, Extremes
from eqdyn._screen import Found, Grams
from eqdyn._types import Points


class _Block(NamedTuple):
    """The rows of one device, filled up to whole tiles. `who`: which particle a row is, -1 for what fills up."""

    x: Points
    w: Points
    size: jax.Array
    grams: Grams | None
    who: jax.Array


def extremes(asked: Asked, x: Points, w: Points, mesh: Any) -> tuple[Extremes, Cloud]:
    """The extreme values over all pairs, and the units they are in. Memory of a device: its rows, a visitor's, and a tile."""
    n, num = x.shape[0], mesh.shape[_mesh.AXIS]
    at, of_x, of_u = _differences.cloud(asked, x, w)
    grams: Any = None
    form: Any = None
    sized: tuple[bool, ...] = ()
    if _screen.pays(x):
        grams, balance = _screen.grams_of(of_x, of_u, 0, 1.0)
        form = _screen.form_of(asked, at, balance)
        form, sized = form._replace(sized=()), form.sized  # known before it runs
    count = -(-(n // num) // _screen.BLOCK)
    tile = -(-(n // num) // count)
    units = at._replace(x=None, w=None, size=None)  # type: ignore[arg-type]

    def local(block: _Block, whole: tuple) -> Extremes:
        units, form = whole
        own = jax.tree.map(lambda leaf: _filled(leaf, tile * count - n // num), block)
        own = own._replace(who=jnp.where(jnp.arange(tile * count) < n // num, own.who, -1))
        here, half = _mesh.place(), count // 2

        def visit(found: Found, visitor: _Block, stage: jax.Array) -> Found:
            both = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), own, visitor)
            cloud = units._replace(x=both.x, w=both.w, size=both.size)
            last = (stage > 0) & (2 * stage == num)  # two devices hold these two blocks
            first_half = here < num // 2
            before = found.best
            found = found._replace(best=before._replace(at=jnp.full_like(before.at, -1), torn_at=jnp.full_like(before.torn_at, -1)))

            def one(t: jax.Array, found: Found) -> Found:
                cross = jnp.stack([t // count, count + t % count])
                shared = jnp.where(first_half, cross, jnp.stack([t % count, count + half + t // count]))
                pair = jnp.where(stage == 0, _triangle(t, count), jnp.where(last, shared, cross)) * tile
                if form is None:
                    return found._replace(best=_differences.of_tile(asked, cloud, both.who >= 0, tile, found.best, pair))
                return _screen.of_tile(asked, cloud, both.grams, both.who >= 0, form._replace(sized=sized), tile, found, pair)

            tiles = jnp.where(stage == 0, count * (count + 1) // 2, jnp.where(last, jnp.where(first_half, half, count - half), count) * count)
            found = jax.lax.fori_loop(0, tiles, one, found)
            best = found.best

            def named(new: jax.Array, old: jax.Array) -> jax.Array:
                return jnp.where(new >= 0, both.who[new], old)

            best = best._replace(at=named(best.at, before.at), torn_at=named(best.torn_at, before.torn_at))
            return Found(best, jax.lax.pmax(found.least, _mesh.AXIS))  # what one has seen all need not look for

        found = _mesh.ring(visit, _screen.nothing(len(asked.quantities), x.dtype), own, mesh, num // 2 + 1)
        return _of_all(asked, jax.lax.all_gather(found.best, _mesh.AXIS))

    block = _Block(at.x, at.w, at.size, grams, jnp.arange(n, dtype=jnp.int32))
    return _mesh.by_blocks(local, mesh, block, (units, form), _mesh.WHOLE), at


def _filled(leaf: jax.Array, missing: int) -> jax.Array:
    return jnp.pad(leaf, [(0, missing)] + [(0, 0)] * (leaf.ndim - 1))


def _triangle(t: jax.Array, count: int) -> jax.Array:
    """The t-th of the pairs (a, b) with a <= b < count: row r and row count - 1 - r are count + 1 pairs together."""
    r, c = t // (count + 1), t % (count + 1)
    low = c < count - r
    a = jnp.where(low, r, count - 1 - r)
    return jnp.stack([a, jnp.where(low, r + c, c - 1)])


def _of_all(asked: Asked, best: Extremes) -> Extremes:
    """The best of all devices, of the first of them where they tie; particles of a pair in order."""
    top = jnp.argmax(best.value, axis=0)
    twins, torn, unresolved = (_differences.total(counts) for counts in (best.twins, best.torn, best.unresolved))
    at = jnp.take_along_axis(best.at, top[None, :, None], axis=0)[0]
    torn_at = best.torn_at[jnp.argmax(best.torn > 0)]
    value = jnp.max(best.value, axis=0)
    if {"rate", "closing"} <= set(asked.quantities):
        # -p <= R for every pair: an answer that breaks this was lost on its way between devices, and is not given
        rate, closing = (value[asked.quantities.index(name)] for name in ("rate", "closing"))
        value = jnp.where((closing > 0) & (rate < 0.999 * closing * closing), jnp.nan, value)
    return Extremes(value, jnp.sort(at, axis=1), twins, torn, jnp.sort(torn_at), unresolved)
