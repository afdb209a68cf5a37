"""Sums over all pairs of particles in tiles: of rows that fit a budget, and of blocks that go round a ring of devices."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from eqdyn import _mesh
from eqdyn._types import Points, Tree

WIDE, WIDTH, CACHE = 2**12, 1024, 2**22  # more particles than WIDE are summed in parts of at most WIDTH, whose tiles stay in the cache


def map_rows(rows: Callable[[Points], Tree], y: Points, *, row_bytes: float, budget: float) -> Tree:
    """`rows(y)`, tile by tile, so that what a tile allocates stays within the budget.

    The rows are padded to whole tiles: every row runs through the same program, so that equal rows get equal answers.
    """
    num_rows = y.shape[0]
    tile = int(max(1, min(num_rows, budget // max(row_bytes, 1))))
    num_tiles = -(-num_rows // tile)
    if num_tiles == 1:
        return rows(y)
    answer = jax.lax.map(rows, _filled(y, num_tiles * tile).reshape(num_tiles, tile, *y.shape[1:]))
    return jax.tree.map(lambda leaf: leaf.reshape(num_tiles * tile, *leaf.shape[2:])[:num_rows], answer)


def over_pairs(part: Callable[..., Tree], y: Points, sources: tuple, *, pair_bytes: float, budget: float, merge: Callable | None = None) -> Tree:
    """What all particles do to each row of y: `part(rows, *sources)`, of rows `(t, d)` and some particles' arrays `(k, ...)`, a tree of
    `(t, ...)`, added over all particles. `pair_bytes`: what a part allocates a pair. `merge`: of two leaves, in place of a sum
    (`jnp.maximum`); in any order.

    Where the particles lie on a mesh the rows of y do too, and the blocks of particles go round: a device holds its rows, two blocks and
    a tile. Each device begins with its own block; sums carry their rounding along, so that equal rows get equal answers on all
    but for one in some 10^7 sums.
    """

    def joined(a: Tree, b: Tree) -> Tree:
        return jax.tree.map(merge or jnp.add, a, b)

    def of_block(rows: Points, sources: tuple) -> Tree:
        n = sources[0].shape[0]
        width = n if n <= WIDE else next(width for width in (*range(WIDTH, WIDTH // 8, -1), n) if n % width == 0)
        if width == n:
            return map_rows(lambda tile: part(tile, *sources), rows, row_bytes=n * pair_bytes, budget=budget)
        first, rest = (jax.tree.map(lambda leaf, at=at: leaf.reshape(n // width, width, *leaf.shape[1:])[at], sources) for at in (0, slice(1, None)))

        def in_parts(tile: Points) -> Tree:
            return jax.lax.scan(lambda total, some: (joined(total, part(tile, *some)), None), part(tile, *first), rest)[0]

        return map_rows(in_parts, rows, row_bytes=width * pair_bytes, budget=min(budget, CACHE))

    mesh = _mesh.ambient(sources[0].shape[0])
    if mesh is None:
        return of_block(y, sources)
    devices = mesh.shape[_mesh.AXIS]

    def local(block: tuple, whole: None) -> Tree:
        rows, sources = block
        start = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(of_block, rows, sources))

        def visit(total: tuple[Tree, Tree], visitor: tuple, stage: jax.Array) -> tuple[Tree, Tree]:
            new, (high, low) = of_block(rows, visitor), total
            both = jax.tree.map(lambda a, b: jnp.where(stage == 0, a, b), new, joined(high, new))
            return both, low if merge else jax.tree.map(_lost, low, high, new, both)

        high, low = _mesh.ring(visit, (start, start), sources, mesh)
        return high if merge else joined(high, low)

    missing = -y.shape[0] % devices
    answer = _mesh.by_blocks(local, mesh, (_filled(y, y.shape[0] + missing), sources), None, _mesh.SPLIT)
    return jax.tree.map(lambda leaf: leaf[: y.shape[0]], answer) if missing else answer


def _filled(y: Points, num: int) -> Points:
    return jnp.concatenate([y, jnp.broadcast_to(y[:1], (num - y.shape[0], *y.shape[1:]))]) if num > y.shape[0] else y


def _lost(low: jax.Array, a: jax.Array, b: jax.Array, total: jax.Array) -> jax.Array:
    """`low`, and what rounding took from `a + b = total` (Knuth)."""
    other = total - a
    return low + ((a - (total - other)) + (b - other))
