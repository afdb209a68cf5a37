"""Smaller graphs of the same homotopy type, compiled: the algorithm of `_fold`, on rows of 64-bit words."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

WORK = 10**9  # words combined before the rest is handed over; about a second


def _popcount(typing: Any, value: Any) -> Any:
    """How many ones a word has."""
    return types.uint64(types.uint64), lambda context, builder, signature, args: builder.ctpop(args[0])


def _lowest(typing: Any, value: Any) -> Any:
    """Place of the lowest one of a word that is not zero."""
    return types.uint64(types.uint64), lambda context, builder, signature, args: builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))


popcount: Any = intrinsic(_popcount)
lowest: Any = intrinsic(_lowest)
ONE = np.uint64(1)


@numba.njit(nogil=True, cache=True)
def _members(row: Any, out: Any) -> int:
    count = 0
    for word in range(len(row)):
        left = row[word]
        while left:
            out[count] = 64 * word + lowest(left)
            left &= left - ONE
            count += 1
    return count


@numba.njit(nogil=True, cache=True)
def _has(row: Any, v: int) -> bool:
    return bool(row[v >> 6] >> np.uint64(v & 63) & ONE)


@numba.njit(nogil=True, cache=True)
def _flip(row: Any, v: int) -> None:
    row[v >> 6] ^= ONE << np.uint64(v & 63)


@numba.njit(nogil=True, cache=True)
def _dominated(w: int, rows: Any, link: Any, common: Any) -> bool:
    """Whether another vertex of the link sees all that w sees there, and w."""
    words = len(link)
    for k in range(words):
        common[k] = rows[w, k] & link[k]
    _flip(common, w)
    for word in range(words):
        left = rows[w, word] & link[word]
        while left:
            x = 64 * word + lowest(left)
            left &= left - ONE
            some = np.uint64(0)
            for k in range(words):
                common[k] &= rows[x, k]
                some |= common[k]
            if not some:
                return False
    return True


@numba.njit(nogil=True, cache=True)
def _foldable(link: Any, rows: Any, members: Any, common: Any, far: Any, work: Any) -> bool:
    """Whether the graph on `link`, which is used up, folds down to a point. `members`, `common`, `far` are room to work in."""
    words = len(link)
    while True:
        count = _members(link, members)
        if count == 1:
            return True
        best, most = 0, np.uint64(0)
        for a in range(count):
            sees = np.uint64(0)
            for k in range(words):
                sees += popcount(rows[members[a], k] & link[k])
            if sees > most:
                best, most = members[a], sees
        if most == count:
            return True
        work[0] += 4 * count * words
        for k in range(words):
            far[k] = link[k] & ~rows[best, k]
        # those that the best-connected vertex does not see first: they stand in its way
        gone = 0
        for a in range(count):
            if _has(far, members[a]) and _dominated(members[a], rows, link, common):
                _flip(link, members[a])
                gone += 1
        if gone == count - most:
            return True
        if not gone:
            for a in range(count):
                if not _has(far, members[a]) and _dominated(members[a], rows, link, common):
                    _flip(link, members[a])
                    gone += 1
            if not gone:
                return False


@numba.njit(nogil=True, cache=True)
def fold(rows: Any, alive: Any, keep: Any, budget: int) -> None:
    """Remove vertices and edges with foldable links, in place.

    Args:
        rows: `(n, words)` uint64, closed neighbourhoods (a vertex sees itself); those of removed vertices end empty.
        alive: `(n,)` bool.
        keep: `(n, words)` uint64, a subgraph (open neighbourhoods) none of whose edges, nor their vertices, may go; or `(0, words)`.
        budget: words to combine; beyond, what is left is left.
    """
    num, words = rows.shape
    members, shared = np.empty(num, np.int64), np.empty(num, np.int64)
    link, common, far = np.empty(words, np.uint64), np.empty(words, np.uint64), np.empty(words, np.uint64)
    changed, tested = np.ones(num, np.int64), np.zeros(num, np.int64)
    work = np.zeros(1, np.int64)
    time, edges_done = 1, 0
    kept = len(keep) > 0
    for v in range(len(keep)):
        for k in range(words):
            if keep[v, k]:  # never tested
                tested[v] = np.iinfo(np.int64).max
    while True:
        moved = True
        while moved:
            moved = False
            for v in range(num):
                if not alive[v] or tested[v] >= changed[v]:
                    continue
                tested[v] = time
                for k in range(words):  # loops: numba compiles an assignment of slices with all its errors, for two seconds
                    link[k] = rows[v, k]
                _flip(link, v)
                degree = _members(link, shared)
                if work[0] > budget:
                    return
                if degree == 0 or not _foldable(link, rows, members, common, far, work):
                    continue
                time += 1
                moved = True
                alive[v] = False
                for k in range(words):
                    rows[v, k] = np.uint64(0)
                for a in range(degree):
                    _flip(rows[shared[a]], v)
                    changed[shared[a]] = time
        now, removed = time, False
        for u in range(num):
            if not alive[u] or changed[u] <= edges_done:
                continue
            for v in range(u + 1, num):
                # an edge can only have become removable if both its ends have changed
                if not _has(rows[u], v) or changed[v] <= edges_done or (kept and _has(keep[u], v)):
                    continue
                for k in range(words):
                    link[k] = rows[u, k] & rows[v, k]
                _flip(link, u)
                _flip(link, v)
                degree = _members(link, shared)
                if work[0] > budget:
                    return
                if degree == 0 or not _foldable(link, rows, members, common, far, work):
                    continue
                removed = True
                time += 1
                _flip(rows[u], v)
                _flip(rows[v], u)
                changed[u] = changed[v] = time
                for a in range(degree):
                    changed[shared[a]] = time
        edges_done = now
        if not removed:
            return
