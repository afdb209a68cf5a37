"""The plain scan over all pairs of particles, decided by differences."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from eqdyn._differences import Asked, Cloud, Extremes, listed, terms, tile, total, values

_TILE_PAIRS = 2**16  # pairs a tile holds: its sums stay in the cache
_FLAT = 8  # up to that dimension all coordinates of a pair are summed at once
_TURNS = 4  # turns of the ring of particles that are looked at in one pass

Table = Callable[[jax.Array], tuple[jax.Array, tuple[jax.Array, ...]]]  # rows -> quantities (k, rows, n) and flags (rows, n)


def scan(asked: Asked, at: Cloud) -> Extremes:
    """All pairs by differences. Time O(n^2 d)."""
    n, d = at.x.shape

    def table(rows: jax.Array) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        return values(asked, at, *tile(asked, at, rows, jnp.arange(n)), at.size[rows][:, None] + at.size[None])

    if d > _FLAT or n < 2 * _TURNS:
        return _by_rows(n, table)
    return _ends(n, table, *_turned(asked, at))


def _turned(asked: Asked, at: Cloud) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    """What `_by_rows` finds row by row, `(n, k)` values and `(n,)` counts, in few dimensions: particle i meets i + 1, i + 2, ... of a ring of
    all, half way round, so that each pair is looked at once and everything is elementwise on long vectors.
    """
    n = at.x.shape[0]
    lists = [list(a.T) for a in (*at.rows(jnp.arange(n)), at.x)]
    twice = jax.tree.map(lambda a: jnp.concatenate([a, a]), (lists, at.size))

    def turn(by: jax.Array) -> tuple[list[jax.Array], tuple[jax.Array, ...]]:
        (xs, ws, raw), size = jax.tree.map(lambda a: jax.lax.dynamic_slice_in_dim(a, by, n), twice)
        sums: tuple = ()
        for p, q, u, v in zip(lists[0], xs, lists[1], ws, strict=True):
            new = terms(asked, at, p - q, u - v)
            sums = tuple(a + b for a, b in zip(sums, new, strict=True)) if sums else new
        apart = functools.reduce(jnp.logical_or, (p != q for p, q in zip(lists[2], raw, strict=True)))
        found, flags = listed(asked, at, sums, apart, at.size + size)
        # past half way round a pair is met again: that changes no extreme, but the counts
        once = (2 * by < n) | ((2 * by == n) & (2 * jnp.arange(n) < n))
        return found, tuple((flag & once).astype(jnp.int32) for flag in flags)

    def some(t: jax.Array, best: tuple) -> tuple:
        for k in range(_TURNS):
            found, flags = turn(1 + t * _TURNS + k)
            best = tuple(map(jnp.maximum, best[0], found)), tuple(map(jnp.add, best[1], flags))
        return best

    none = ((jnp.full(n, -jnp.inf, at.x.dtype),) * len(asked.quantities), (jnp.zeros(n, jnp.int32),) * 3)
    found, counts = jax.lax.fori_loop(0, -(-(n // 2) // _TURNS), some, none)
    return jnp.stack(found, axis=1), counts


def _by_rows(n: int, table: Table) -> Extremes:
    """The extremes of what a table tells of the pairs of some rows and all others, in tiles of rows; the last tile is filled with copies
    of the last row.
    """
    height = max(1, min(n, _TILE_PAIRS // n))
    num = -(-n // height)

    def best(rows: jax.Array) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        found, flags = table(rows)
        ahead = jnp.arange(n)[None] > rows[:, None]  # each pair once
        return found.max(2).T, tuple((flag & ahead).sum(1) for flag in flags)

    every = jnp.minimum(jnp.arange(num * height), n - 1).reshape(num, height)
    return _ends(n, table, *jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:n], jax.lax.map(best, every)))


def _ends(n: int, table: Table, found: jax.Array, counts: tuple[jax.Array, ...]) -> Extremes:
    """The extremes, from the largest value of each row and its counts: the partner is looked for again."""
    i = jnp.argmax(found, axis=0)
    ends = jnp.concatenate([i, jnp.argmax(counts[1] > 0)[None]])
    partners, flags = table(ends)
    j = jnp.argmax(jnp.diagonal(partners[:, :-1], axis1=0, axis2=1).T, axis=1)
    twins, torn, unresolved = (total(count) for count in counts)
    value, where = jnp.take_along_axis(found, i[None], axis=0)[0], jnp.sort(jnp.stack([i, j], axis=1), axis=1).astype(jnp.int32)
    return Extremes(value, where, twins, torn, jnp.sort(jnp.stack([ends[-1], jnp.argmax(flags[1][-1])])).astype(jnp.int32), unresolved)
