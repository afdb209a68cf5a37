"""Graphs of points at a scale, at the cost of a Gram product.

Squared distances come from a Gram product in float32 of the centred points; it is right to within a stated bound, and what lies
within that bound of the threshold is decided by differences in float64. Where too much does, the product is made in float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from eqdyn import _checks
from eqdyn.topology import _passes
from eqdyn.topology._scales import Fraction, LocalScale, NeighbourScale
from eqdyn.topology._table import between, num_closest, scaled, words

TILE = 2**26  # bytes of one tile of squared distances
KEPT = 2**29  # bytes of tiles that are kept between passes; beyond, they are made again
TABLE_BYTES = 2**32  # what may be held at once
_TIES = 32  # pairs a particle that may be near the threshold in float32


class _TooCloseError(Exception):
    """Too many pairs near the threshold for this precision."""


class Cloud:
    """Points on the host, and the graphs that they make."""

    def __init__(self, x: np.ndarray, passes: Any = _passes):
        self.num, self.dim = x.shape
        self.x = x.astype(np.float64)
        self._passes = passes
        _checks.fits_budget(self.num * 8 * words(self.num), TABLE_BYTES, "betti", "take fewer points")
        self._dtype: Any = None
        self._work(np.float32)

    def _work(self, dtype: Any) -> None:
        if self._dtype == dtype:
            return
        self._dtype = dtype
        y = self.x - self.x.mean(0)
        # in units of the largest norm, so that nothing overflows and one bound serves all pairs
        scale = 1.0
        squared = float(np.einsum("ij,ij->i", y, y).max())
        if not 1e-200 < squared < 1e200:
            scale = float(np.abs(y).max()) or 1.0
            y /= scale
            squared = float(np.einsum("ij,ij->i", y, y).max()) or 1.0
        norm = squared**0.5
        self._unit = scale * norm
        y *= 1 / norm
        self._y = y.astype(dtype)
        self._squares = np.einsum("ij,ij->i", self._y, self._y)
        # products, their sum in any order, the two squares, the rounding of the points: at most this in d^2
        self._slack = 4.1 * (self.dim + 10) * float(np.finfo(dtype).eps) / 2
        size = self.num * self.num * self._y.itemsize
        self._side = self.num if size <= TILE else max(64, TILE // (self.num * self._y.itemsize) // 64 * 64)
        self._keep: list[np.ndarray] | None = [] if size <= 2 * KEPT else None
        self._highest = 0.0

    def _again(self, ask: Any, *arguments: Any) -> Any:
        """In float32, or in float64 where that leaves too much open."""
        try:
            return ask(*arguments)
        except _TooCloseError:
            self._work(np.float64)
            return ask(*arguments)

    # --- tiles ------------------------------------------------------------------------------------------------------------

    def _tiles(self) -> Iterator[tuple[int, np.ndarray]]:
        """Rows from `first` against the columns from `first` on, of squared distances in units of the largest norm."""
        if self._keep:
            yield from ((k * self._side, tile) for k, tile in enumerate(self._keep))
            return
        made = []
        for first in range(0, self.num, self._side):
            y = self._y[first : first + self._side]
            tile = y @ (y if first == 0 and len(y) == self.num else self._y[first:]).T
            highest = self._passes.finish(tile, self._squares[first : first + self._side], self._squares[first:])
            self._highest = max(self._highest, float(highest))
            if self._keep is not None:
                made.append(tile)
            yield first, tile
        if self._keep is not None:  # all of them, or none
            self._keep = made

    def _rows(self) -> Iterator[tuple[int, np.ndarray]]:
        """Whole rows of squared distances."""
        if self._side == self.num:
            yield from self._tiles()
            return
        for first in range(0, self.num, self._side):
            tile = self._y[first : first + self._side] @ self._y.T
            self._passes.finish(tile, self._squares[first : first + self._side], self._squares)
            yield first, tile

    def _exact(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        """Distances of the named pairs from differences, [points]."""
        return between(self.x, i, j)

    def _close(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        if len(i) > _TIES * self.num and self._dtype == np.float32:
            raise _TooCloseError
        return self._exact(i, j)

    # --- what a scale asks --------------------------------------------------------------------------------------------------

    def radius(self, scale: float | Fraction | NeighbourScale) -> float:
        """r, [points]."""
        if isinstance(scale, Fraction):
            return self.diameter() / scale.divisor
        if isinstance(scale, NeighbourScale):
            return scale.factor * float(np.median(self._neighbour(scale.k)))
        return scale

    def diameter(self) -> float:
        """The largest distance, [points]."""
        return float(self._again(self._diameter))

    def _diameter(self) -> float:
        for _ in self._tiles():
            pass
        least = self._highest - 2 * self._slack
        found = [(first + i, first + j) for first, tile in self._tiles() for i, j in [self._passes.at_least(tile, least)]]
        i, j = (np.concatenate([pair[k] for pair in found]) for k in (0, 1))
        return float(self._close(i[i < j], j[i < j]).max(initial=0.0))

    def _neighbour(self, k: int) -> np.ndarray:
        """Distance of every point to its k-th neighbour, [points]."""
        return self._again(self._neighbour_now, k) if self.num > 1 else np.zeros(1)

    def _neighbour_now(self, k: int) -> np.ndarray:
        found = np.empty(self.num)
        for first, tile in self._rows():
            rows = np.arange(len(tile))
            tile = tile.copy()
            tile[rows, first + rows] = np.inf
            bound = np.partition(tile, k - 1, axis=1)[:, k - 1] + 2 * self._slack
            i, j = np.nonzero(tile <= bound[:, None])
            d = self._close(first + i, j)
            # candidates row by row, nearest first
            order = np.lexsort((d, i))
            begin = np.searchsorted(i, rows)
            found[first : first + len(tile)] = d[order][begin + k - 1]
        return found

    def packed(self, scale: float | Fraction | NeighbourScale | LocalScale) -> np.ndarray:
        """The graph at a scale, as packed rows."""
        if isinstance(scale, LocalScale):
            sigma = self._neighbour(scale.k)
            threshold = scale.threshold if scale.threshold is not None else self._again(self._quantile, sigma, scale.quantile)
            return self._again(self._graph, threshold, sigma, lambda i, j: scaled(self._close(i, j), sigma[i], sigma[j]) <= threshold)
        r = self.radius(scale)
        return self._again(self._graph, r, None, lambda i, j: self._close(i, j) <= r)

    def _graph(self, threshold: float, sigma: np.ndarray | None, decide: Any) -> np.ndarray:
        """Edges at d <= threshold, or at d <= threshold * sqrt(sigma_i sigma_j); near ties by `decide`."""
        # d^2 in units of the largest norm is at most 4: beyond, there is nothing to compare
        if sigma is None:
            a, b = np.full(self.num, min(threshold / self._unit, 3.0) ** 2), np.ones(self.num)
        else:
            a, b = np.minimum(min(threshold, 1e15) ** 2 * (sigma / self._unit), 1e30), sigma / self._unit
        a, b = a.astype(self._dtype), b.astype(self._dtype)
        slack = self._slack + 40 * float(np.finfo(self._dtype).eps)
        graph = np.zeros((self.num, words(self.num)), np.uint64)
        ties: list[tuple[np.ndarray, np.ndarray]] = []
        for first, tile in self._tiles():
            found = self._passes.threshold(tile, a[first : first + len(tile)], b[first:], slack, graph, first)
            if found is None:
                raise _TooCloseError
            ties.append(found)
        i, j = (np.concatenate([pair[k] for pair in ties]) for k in (0, 1))
        # the two halves of a tile may round differently: a pair that either finds near is decided, and both bits of it set
        i, j = np.divmod(np.unique((np.minimum(i, j) * self.num + np.maximum(i, j))[i != j]), self.num)
        self._passes.put(graph, i, j, decide(i, j))
        return graph

    def _quantile(self, sigma: np.ndarray, quantile: float) -> float:
        """The scaled distance up to which the closest share of all pairs lies."""
        _checks.fits_budget(5 * self.num**2 * self._y.itemsize, TABLE_BYTES, "betti", "give a threshold instead of a quantile, or fewer points")
        pairs = self.num * (self.num - 1) // 2
        if not pairs:
            return 0.0
        rank = num_closest(quantile, pairs)
        unit = np.maximum((sigma / self._unit).astype(self._dtype), np.finfo(self._dtype).tiny)
        low, high = [], []
        for first, tile in self._tiles():
            above = np.triu_indices(len(tile), 1, tile.shape[1])
            square = tile[above]
            product = unit[first + above[0]] * unit[first + above[1]]
            # where sigma = 0, d alone decides
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                least, most = np.maximum(square - self._slack, 0) / product, (square + self._slack) / product
            rounding = 8 * float(np.finfo(self._dtype).eps)
            low.append(np.where(product > 0, least * (1 - rounding), 0))
            high.append(np.where(product > 0, most * (1 + rounding), np.inf))
        lowest, highest = np.concatenate(low), np.concatenate(high)
        certain = np.partition(lowest, rank - 1)[rank - 1], np.partition(highest, rank - 1)[rank - 1]
        below = int(np.sum(highest < certain[0]))
        i, j = self._places((highest >= certain[0]) & (lowest <= certain[1]))
        s = scaled(self._close(i, j), sigma[i], sigma[j])
        return float(np.partition(s, rank - below - 1)[rank - below - 1])

    def _places(self, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pairs by their place in the order of the tiles."""
        i, j, seen = [], [], 0
        for first in range(0, self.num, self._side):
            height = min(self._side, self.num - first)
            above = np.triu_indices(height, 1, self.num - first)
            part = np.nonzero(chosen[seen : seen + len(above[0])])[0]
            seen += len(above[0])
            i.append(first + above[0][part])
            j.append(first + above[1][part])
        return np.concatenate(i), np.concatenate(j)
