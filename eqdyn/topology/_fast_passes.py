"""The passes over a tile of a Gram product, compiled; the same answers as `_passes`."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from eqdyn.topology._passes import put

__all__ = ["at_least", "finish", "put", "threshold"]

_NEAR = 32  # near ties a row that are kept at first


def finish(tile: np.ndarray, squares_i: np.ndarray, squares_j: np.ndarray) -> float:
    """Turn products into squared distances, in place; the largest of them."""
    return float(_finish(tile, squares_i, squares_j))


def at_least(tile: np.ndarray, least: float) -> tuple[np.ndarray, np.ndarray]:
    """Places of the tile where it is at least `least`."""
    return _grown(lambda i, j: _at_least(tile, tile.dtype.type(least), i, j), len(tile))


def threshold(tile: np.ndarray, a: np.ndarray, b: np.ndarray, slack: float, graph: np.ndarray, first: int) -> Any:
    """Set the bits of the pairs certainly at `d^2 <= a_i b_j`; the places of those within `slack` of it."""
    i, j = _grown(lambda i, j: _threshold(tile, a, b, tile.dtype.type(slack), graph, first, i, j), len(tile))
    return first + i, first + j


def _grown(fill: Any, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """What `fill` finds, in arrays that are made larger once if need be."""
    room = _NEAR * rows
    while True:
        i, j = np.empty(room, np.int64), np.empty(room, np.int64)
        count = fill(i, j)
        if count <= room:
            return i[:count], j[:count]
        room = count


@numba.njit(nogil=True, cache=True, fastmath={"nsz", "reassoc", "contract", "nnan", "ninf"})
def _finish(tile: Any, squares_i: Any, squares_j: Any) -> Any:
    largest = tile.dtype.type(0)
    for i in range(tile.shape[0]):
        square = squares_i[i]
        here = tile.dtype.type(0)
        for j in range(tile.shape[1]):
            value = square + squares_j[j] - (tile[i, j] + tile[i, j])
            tile[i, j] = value
            here = max(here, value)
        largest = max(largest, here)
    return largest


@numba.njit(nogil=True, cache=True)
def _at_least(tile: Any, least: Any, i_found: Any, j_found: Any) -> int:
    count = 0
    for i in range(tile.shape[0]):
        # one look at the whole row, which vectorises, before the single entries
        here = False
        for j in range(tile.shape[1]):
            here |= tile[i, j] >= least
        if not here:
            continue
        for j in range(tile.shape[1]):
            if tile[i, j] >= least:
                if count < len(i_found):
                    i_found[count], j_found[count] = i, j
                count += 1
    return count


@numba.njit(nogil=True, cache=True)
def _threshold(tile: Any, a: Any, b: Any, slack: Any, graph: Any, first: int, i_found: Any, j_found: Any) -> int:
    count = 0
    height, width = tile.shape
    for i in range(height):
        row = first + i
        begin = 0 if width == height else i + 1
        for word in range(begin // 64, (width + 63) // 64):
            sure, maybe = np.uint64(0), np.uint64(0)
            stop = min(64, width - 64 * word)
            for k in range(stop):
                j = 64 * word + k
                level = a[i] * b[j]
                sure |= np.uint64(tile[i, j] <= level - slack) << np.uint64(k)
                maybe |= np.uint64(tile[i, j] <= level + slack) << np.uint64(k)
            if i // 64 == word:
                self = ~(np.uint64(1) << np.uint64(i % 64))
                sure &= self
                maybe &= self
            graph[row, first // 64 + word] |= sure
            if width > height:
                # the other half of the square is in no tile
                for k in range(stop):
                    if sure >> np.uint64(k) & np.uint64(1):
                        column = first + 64 * word + k
                        graph[column, row // 64] |= np.uint64(1) << np.uint64(row % 64)
            if sure != maybe:
                for k in range(stop):
                    if (sure ^ maybe) >> np.uint64(k) & np.uint64(1):
                        if count < len(i_found):
                            i_found[count], j_found[count] = i, 64 * word + k
                        count += 1
    return count
