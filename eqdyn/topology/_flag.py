"""Betti numbers of the flag complex of a packed graph: fold, then ranks of what is left, or ripser where that is faster."""

from __future__ import annotations

import functools
import importlib.util
from typing import Any

import numpy as np

from eqdyn.topology import _fold, _ranks, _ripser
from eqdyn.topology._table import components, part, unpack, words

ENGINES = ("plain", "compiled")


@functools.cache
def engine_here() -> str:
    """The faster engine that is installed."""
    return "compiled" if importlib.util.find_spec("numba") is not None else "plain"


def chosen(engine: str | None) -> str:
    if engine is None:
        return engine_here()
    if engine not in ENGINES:
        msg = f"engine: got {engine!r}; expected None, 'plain' or 'compiled'."
        raise ValueError(msg)
    if engine == "compiled" and engine_here() != "compiled":
        msg = "engine: numba is missing; write pip install 'eqdyn[fast]', or engine=None."
        raise ImportError(msg)
    return engine


def passes_of(engine: str) -> Any:
    """The passes over tiles that belong to an engine."""
    if engine == "compiled":
        from eqdyn.topology import _fast_passes

        return _fast_passes
    from eqdyn.topology import _passes

    return _passes


def betti_of_packed(packed: np.ndarray, max_dim: int, prime: int, engine: str) -> tuple[int, ...]:
    """Betti numbers b_0 ... b_max_dim, exact.

    Args:
        packed: `(n, words)` uint64, symmetric, empty diagonal.
        max_dim: highest degree.
        prime: characteristic of the field.
        engine: "plain" or "compiled".
    """
    if max_dim == 0:
        return (components(packed),)
    core = _core_compiled(packed) if engine == "compiled" else None
    if core is not None:
        found = None
        if prime == 2:
            from eqdyn.topology import _fast_ranks

            found = _fast_ranks.betti_by_ranks(core, max_dim)
        return found or _ripser.betti_of_graph(unpack(core), max_dim, prime)
    vertices, rows = _fold.folded(packed)
    found = _ranks.betti_by_ranks(vertices, rows, max_dim) if prime == 2 else None
    return found or _ripser.betti_of_graph(_boolean(vertices, rows), max_dim, prime)


def _core_compiled(packed: np.ndarray) -> np.ndarray:
    # one of each set of vertices that see the same, itself included
    closed = packed | _loops(len(packed))
    _, first = np.unique(closed.view(np.dtype((np.void, closed.shape[1] * 8))).ravel(), return_index=True)
    if len(first) < len(packed):
        first.sort()
        packed = part(packed, first)
    rows, alive = _folded_compiled(packed, None)
    return part(rows, np.nonzero(alive)[0])


def _folded_compiled(packed: np.ndarray, keep: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Open neighbourhoods of what is left, those removed empty, and which vertices are."""
    from eqdyn.topology import _fast_fold

    closed, alive = packed | _loops(len(packed)), np.ones(len(packed), bool)
    _fast_fold.fold(closed, alive, np.zeros((0, packed.shape[1]), np.uint64) if keep is None else keep, _fast_fold.WORK)
    return closed & ~_loops(len(packed)), alive


def _loops(num: int) -> np.ndarray:
    """Every vertex sees itself."""
    rows = np.zeros((num, words(num)), np.uint64)
    diagonal = np.arange(num)
    rows[diagonal, diagonal // 64] = np.uint64(1) << (diagonal % 64).astype(np.uint64)
    return rows


def rank_of_packed(inner: np.ndarray, outer: np.ndarray, max_dim: int, prime: int, engine: str) -> tuple[int, ...]:
    """Ranks of H_k of the flag complex of `inner` in that of `outer`, k = 0 ... max_dim, exact; a subgraph on the same vertices.

    The inner graph is folded; the outer then as far as the inner leaves it. Both keep their homotopy types, and the inner stays inside,
    so the map is the same. (Lonely vertices of the inner graph may go: they only matter in degree 0, where the rank is b_0 of the outer.)
    """
    if max_dim == 0:  # all vertices are in both
        return (components(outer),)
    if engine == "compiled":
        small, _ = _folded_compiled(inner, None)
        large, left = _folded_compiled(outer, small)
        needed = np.nonzero(left)[0]
        inside, outside = (unpack(part(rows, needed)) for rows in (small, large))
    else:
        _, rows = _fold.folded(inner)
        vertices, more = _fold.folded(outer, rows)
        inside, outside = _boolean(vertices, rows), _boolean(vertices, more)
    return _ripser.rank_of_graphs(inside, outside, max_dim, prime)


def _boolean(vertices: list[int], rows: list[int]) -> np.ndarray:
    place = {v: k for k, v in enumerate(vertices)}
    edges = np.zeros((len(vertices), len(vertices)), bool)
    for v in vertices:
        edges[place[v], [place[w] for w in _fold.bits(rows[v]) if w in place]] = True
    return edges
