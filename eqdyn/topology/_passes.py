"""The two passes over a tile of a Gram product, in NumPy; `_fast_passes` compiles the same."""

from __future__ import annotations

from typing import Any

import numpy as np


def finish(tile: np.ndarray, squares_i: np.ndarray, squares_j: np.ndarray) -> float:
    """Turn products into squared distances, in place; the largest of them."""
    tile *= -2
    tile += squares_i[:, None]
    tile += squares_j[None, :]
    return float(tile.max(initial=0.0))


def at_least(tile: np.ndarray, least: float) -> tuple[np.ndarray, np.ndarray]:
    """Places of the tile where it is at least `least`."""
    i, j = np.nonzero(tile >= least)
    return i, j


def threshold(tile: np.ndarray, a: np.ndarray, b: np.ndarray, slack: float, graph: np.ndarray, first: int) -> Any:
    """Set the bits of the pairs certainly at `d^2 <= a_i b_j`; the places of those within `slack` of it."""
    level = a[:, None] * b[None, :]
    edges = tile <= level - tile.dtype.type(slack)
    near = (tile <= level + tile.dtype.type(slack)) ^ edges
    i, j = np.nonzero(near)
    height, width = edges.shape
    edges[np.arange(height), np.arange(height)] = False
    _set(graph, edges, first, first)
    if width > height:
        _set(graph, edges[:, height:].T, first + height, first)
    return first + i, first + j


def _set(graph: np.ndarray, edges: np.ndarray, row: int, column: int) -> None:
    packed = np.packbits(edges, axis=1, bitorder="little")
    # columns begin at whole words, since tiles have multiples of 64 rows
    graph.view(np.uint8)[row : row + len(edges), column // 8 : column // 8 + packed.shape[1]] |= packed


def put(graph: np.ndarray, i: np.ndarray, j: np.ndarray, edge: np.ndarray) -> None:
    """Set the bits of the pairs that were decided one by one."""
    i, j = i[edge], j[edge]
    one = np.uint64(1)
    for a, b in ((i, j), (j, i)):
        np.bitwise_or.at(graph, (a, b // 64), one << (b % 64).astype(np.uint64))
