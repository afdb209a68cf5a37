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
    with np.errstate(all="ignore"):
        a, b = d / sigma_i, d / sigma_j
        square = a * b
        # ratios first: exactly 1 where all three agree, in any unit; roots first only where the product leaves its range
        s = np.where((square > 1e-290) & (square < 1e290), np.sqrt(square), np.sqrt(a) * np.sqrt(b))
        return np.where(d == 0, 0.0, np.where(np.isnan(s), np.inf, s))


def between(x: np.ndarray, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Distances of the named pairs of rows, from differences."""
    part = max(1, 2**24 // (8 * x.shape[1]))
    return np.concatenate([np.zeros(0), *(lengths(x[i[a : a + part]] - x[j[a : a + part]]) for a in range(0, len(i), part))])


def lengths(dx: np.ndarray) -> np.ndarray:
    """Norms of the rows; squares neither overflow nor vanish."""
    with np.errstate(over="ignore", under="ignore"):
        d = np.sqrt(np.einsum("ij,ij->i", dx, dx))
    odd = ~((d > 1e-140) & (d < 1e140))
    # in a unit of the row's own; a power of two rounds nothing
    size = np.ldexp(1.0, np.frexp(np.abs(dx[odd]).max(1, initial=0.0))[1])
    rest = dx[odd] / size[:, None]
    d[odd] = size * np.sqrt(np.einsum("ij,ij->i", rest, rest))
    return d


def all_between(x: np.ndarray) -> np.ndarray:
    """Distances of all pairs of rows, `(n, n)`, symmetric."""
    from scipy.spatial.distance import cdist

    table = np.empty((len(x), len(x)))
    side = max(1, 2**27 // x.size)  # a moment each, between which Ctrl-C is heard
    for a in range(0, len(x), side):
        table[a : a + side] = cdist(x[a : a + side], x)
    # cdist need not be symmetric to the last bit
    table = np.minimum(table, table.T)
    # squares that overflow or vanish; of coincident points there may be many, and they are known
    odd = ~((table > 1e-140) & (table < 1e140))
    if int(odd.sum()) > len(x):
        _, place = np.unique(x, axis=0, return_inverse=True)
        place = place.ravel()
        i, j = np.nonzero(np.triu(odd & (place[:, None] != place[None, :]), 1))
        table[odd] = 0.0
        table[i, j] = table[j, i] = between(x, i, j)
    return table


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


def components(packed: np.ndarray) -> int:
    """How many connected components a packed graph has: all that a front sees is reached at once."""
    left = np.asarray(packed.any(axis=1))
    count = len(packed) - int(left.sum())
    while left.any():
        front = np.array([left.argmax()])
        left[front] = False
        while len(front):
            seen = np.bitwise_or.reduce(packed[front], axis=0)
            front = np.flatnonzero(np.unpackbits(seen.view(np.uint8), bitorder="little")[: len(packed)].astype(bool) & left)
            left[front] = False
        count += 1
    return count


def part(packed: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """The packed graph on some of the vertices."""
    rows = np.unpackbits(packed[chosen].view(np.uint8), axis=1, bitorder="little")[:, chosen].astype(bool)
    return pack(rows)


def words(num: int) -> int:
    return (num + 63) // 64
