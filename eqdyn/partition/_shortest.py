"""The transport problem of every edge of a graph: what the two ends do not share, and the shortest paths between; never all of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from eqdyn.partition._transport import Problem

_HELD = 2**22  # distances at a time
_SOURCES = 64  # shortest paths from as many cells at a time


def problems(apart: Any, graph: Any, ends: np.ndarray, limits: np.ndarray) -> Iterator[tuple[Iterator[Problem], np.ndarray]]:
    """In blocks, in order: the problems of some edges, and the distance between the ends of each.

    Args:
        apart: sparse `(e, n)`, the difference of the measures of an edge's ends, from above 0 to below 0.
        graph: sparse `(n, n)`, lengths.
        ends: `(e, 2)`.
        limits: `(e,)`, no distance asked for is greater.
    """
    row = np.repeat(np.arange(len(ends)), np.diff(apart.indptr))
    above, below = (np.bincount(row[side], minlength=len(ends)) for side in (apart.data > 0, apart.data < 0))
    block = np.cumsum(above * below + 1) // _HELD
    bounds = np.concatenate([[0], np.flatnonzero(np.diff(block)) + 1, [len(ends)]])
    for first, past in itertools.pairwise(bounds):
        yield _priced([_halves(apart, edge) for edge in range(first, past)], graph, ends[first:past], limits[first:past])


def _halves(apart: Any, edge: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Where mass comes from, where it goes, how much of each."""
    span = slice(apart.indptr[edge], apart.indptr[edge + 1])
    cells, values = apart.indices[span], apart.data[span]
    up = values > 0
    return cells[up], cells[~up], values[up], -values[~up]


def _priced(halves: list, graph: Any, ends: np.ndarray, limits: np.ndarray) -> tuple[Iterator[Problem], np.ndarray]:
    sizes = [len(a) * len(b) for a, b, _, _ in halves]
    one = np.concatenate([*(np.repeat(a, len(b)) for a, b, _, _ in halves), ends[:, 0]])
    other = np.concatenate([*(np.tile(b, len(a)) for a, b, _, _ in halves), ends[:, 1]])
    distances = _distances(graph, one, other, np.r_[np.repeat(limits, sizes), limits])
    costs = np.split(distances, np.cumsum(sizes))
    found = ((p, q, cost.reshape(len(p), len(q))) for (_, _, p, q), cost in zip(halves, costs[:-1], strict=True))
    return found, costs[-1]


def _distances(graph: Any, one: np.ndarray, other: np.ndarray, limit: np.ndarray) -> np.ndarray:
    """Lengths of shortest paths from cell to cell, `(pairs,)`, each at most its limit, up to which alone the graph is searched."""
    from scipy.sparse.csgraph import dijkstra

    sources, pair_source = np.unique(one, return_inverse=True)
    furthest = np.zeros(len(sources))
    np.maximum.at(furthest, pair_source, limit)
    order = np.argsort(furthest)  # those with as far to go together
    place = np.argsort(order)[pair_source]
    by_place = np.argsort(place, kind="stable")
    starts = np.arange(0, len(sources), _SOURCES)
    found = np.empty(len(one))
    for start, span in zip(starts, np.split(by_place, np.searchsorted(place[by_place], starts[1:])), strict=True):
        here = order[start : start + _SOURCES]
        reached = dijkstra(graph, indices=sources[here], limit=furthest[here[-1]] * (1 + 1e-9))  # sums round
        found[span] = reached[place[span] - start, other[span]]
    return found
