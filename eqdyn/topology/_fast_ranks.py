"""Betti numbers of a small flag complex from ranks of its coboundary matrices over Z/2, compiled."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from eqdyn.topology._fast_fold import ONE, lowest

MOST = 100_000  # simplices of one dimension; beyond, ripser is faster
FILLED = 20_000_000  # entries of reduced columns


def betti_by_ranks(rows: np.ndarray, max_dim: int) -> tuple[int, ...] | None:
    """Betti numbers b_0 ... b_max_dim, or None if there are more than `MOST` simplices of a dimension or too much fills in.

    Args:
        rows: `(n, words)` uint64, open neighbourhoods, without removed vertices.
        max_dim: highest degree.
    """
    num = len(rows)
    if num ** (max_dim + 2) >= 2**62:
        return None
    simplices = np.arange(num, dtype=np.int64)[:, None]
    cleared = np.zeros(num, np.bool_)
    rank_below = 0
    found = []
    for dim in range(max_dim + 1):
        larger = np.empty((MOST, dim + 2), np.int64)
        count = _larger(simplices, rows, larger)
        if count > MOST:
            return None
        larger = larger[:count].copy()
        larger_keys = larger @ num ** np.arange(dim + 1, -1, -1, dtype=np.int64)
        pivots, rank = _reduce(simplices, rows, larger_keys, cleared, num, FILLED)
        if rank < 0:
            return None
        found.append(len(simplices) - rank - rank_below)
        rank_below, simplices, cleared = rank, larger, pivots
    return tuple(int(b) for b in found)


@numba.njit(nogil=True, cache=True)
def _larger(simplices: Any, rows: Any, out: Any) -> int:
    """Simplices of one dimension more, in the order of their vertices; counts on beyond the room of `out` by one."""
    count, size = 0, simplices.shape[1]
    for s in range(len(simplices)):
        last = simplices[s, size - 1]
        for word in range(last >> 6, rows.shape[1]):
            seen = rows[simplices[s, 0], word]
            for k in range(1, size):
                seen &= rows[simplices[s, k], word]
            if word == last >> 6:
                seen &= ~((ONE << np.uint64(last & 63)) - ONE)
            while seen:
                w = 64 * word + lowest(seen)
                seen &= seen - ONE
                if count == len(out):
                    return count + 1
                for k in range(size):
                    out[count, k] = simplices[s, k]
                out[count, size] = w
                count += 1
    return count


@numba.njit(nogil=True, cache=True)
def _reduce(simplices: Any, rows: Any, keys: Any, cleared: Any, num: int, most: int) -> Any:
    """Rank of the coboundary matrix, and which simplices of the dimension above are pivots; rank -1 if too much fills in."""
    pivots = np.zeros(len(keys), np.bool_)
    begin, length = np.full(len(keys), -1, np.int64), np.zeros(len(keys), np.int64)  # by pivot, in the pool
    pool, used, rank = np.empty(1 << 16, np.int32), 0, 0
    column, other = np.empty(len(keys) + 1, np.int32), np.empty(len(keys) + 1, np.int32)
    size = simplices.shape[1]
    for s in range(len(simplices)):
        if cleared[s]:
            continue
        filled = 0
        for word in range(rows.shape[1]):
            seen = rows[simplices[s, 0], word]
            for k in range(1, size):
                seen &= rows[simplices[s, k], word]
            while seen:  # by rising w, and so by rising key: the column is sorted
                w = 64 * word + np.int64(lowest(seen))
                seen &= seen - ONE
                key, placed = np.int64(0), False
                for k in range(size):
                    if not placed and simplices[s, k] > w:
                        key, placed = key * num + w, True
                    key = key * num + simplices[s, k]
                if not placed:
                    key = key * num + w
                column[filled] = np.searchsorted(keys, key)
                filled += 1
        while filled and begin[column[filled - 1]] >= 0:
            a, b, merged = 0, begin[column[filled - 1]], 0
            stop = b + length[column[filled - 1]]
            while a < filled and b < stop:
                if column[a] < pool[b]:
                    other[merged] = column[a]
                    merged += 1
                    a += 1
                elif column[a] > pool[b]:
                    other[merged] = pool[b]
                    merged += 1
                    b += 1
                else:
                    a += 1
                    b += 1
            while a < filled:
                other[merged] = column[a]
                merged += 1
                a += 1
            while b < stop:
                other[merged] = pool[b]
                merged += 1
                b += 1
            column, other, filled = other, column, merged
        if filled:
            if used + filled > most:
                return pivots, -1
            if used + filled > len(pool):
                grown = np.empty(2 * (used + filled), np.int32)
                for k in range(used):
                    grown[k] = pool[k]
                pool = grown
            for k in range(filled):
                pool[used + k] = column[k]
            begin[column[filled - 1]], length[column[filled - 1]] = used, filled
            pivots[column[filled - 1]] = True
            used += filled
            rank += 1
    return pivots, rank
