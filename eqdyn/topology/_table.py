"""A table of distances and the graphs that it decides."""

from __future__ import annotations

import numpy as np

from eqdyn.topology._scales import Fraction, LocalScale, NeighbourScale


class Table:
    """All distances, given: edges are read off. The same questions as `Cloud`."""

    def __init__(self, d: np.ndarray):
        self.d, self.num = d, len(d)

    def radius(self, scale: float | Fraction | NeighbourScale) -> float:
        """r, [distance]."""
        if isinstance(scale, Fraction):
            return float(np.max(self.d, where=np.isfinite(self.d), initial=0.0)) / scale.divisor
        if isinstance(scale, NeighbourScale):
            return scale.factor * float(np.median(self._neighbour(scale.k)))
        return scale

    def packed(self, scale: float | Fraction | NeighbourScale | LocalScale) -> np.ndarray:
        """The graph at a scale, as packed rows."""
        if not isinstance(scale, LocalScale):
            # what is infinitely far is no neighbour at any scale
            return pack((self.d <= self.radius(scale)) & np.isfinite(self.d))
        sigma = self._neighbour(scale.k)
        s = scaled(self.d, sigma[:, None], sigma[None, :])
        threshold = scale.threshold
        if threshold is None:
            upper = s[np.triu_indices(self.num, 1)]
            rank = num_closest(scale.quantile, len(upper))
            threshold = np.partition(upper, rank - 1)[rank - 1] if rank else -1.0
        return pack((s <= threshold) & np.isfinite(s))

    def _neighbour(self, k: int) -> np.ndarray:
        """Distance to the k-th neighbour; the diagonal, zero, comes first."""
        return np.partition(self.d, k, axis=1)[:, k] if self.num > 1 else np.zeros(1)


def scaled(d: np.ndarray, sigma_i: np.ndarray, sigma_j: np.ndarray) -> np.ndarray:
    """`d / sqrt(sigma_i sigma_j)`; 0 where d = 0, infinite where only sigma is 0."""
    unit = np.sqrt(sigma_i) * np.sqrt(sigma_j)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(d == 0, 0.0, np.where(np.isinf(unit) & np.isinf(d), np.inf, d / unit))


def num_closest(quantile: float | None, pairs: int) -> int:
    """How many pairs the closest share of them is; at least one."""
    return min(pairs, max(1, round((quantile or 0.0) * pairs)))


def pack(edges: np.ndarray) -> np.ndarray:
    """A boolean graph as `(n, words)` uint64: bit j of row i tells the edge. The diagonal is cleared."""
    num = len(edges)
    edges[np.arange(num), np.arange(num)] = False
    bytes_ = np.zeros((num, 8 * words(num)), np.uint8)
    bits = np.packbits(edges, axis=1, bitorder="little")
    bytes_[:, : bits.shape[1]] = bits
    return bytes_.view("<u8")


def unpack(packed: np.ndarray) -> np.ndarray:
    """The boolean graph of packed rows."""
    return np.unpackbits(packed.view(np.uint8), axis=1, bitorder="little")[:, : len(packed)].astype(bool)


def part(packed: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """The packed graph on some of the vertices."""
    rows = np.unpackbits(packed[chosen].view(np.uint8), axis=1, bitorder="little")[:, chosen].astype(bool)
    return pack(rows)


def words(num: int) -> int:
    return (num + 63) // 64
