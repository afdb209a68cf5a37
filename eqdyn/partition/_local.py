"""Cells around points in any number of dimensions: codes, facet distances and kinks without a Jacobian."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from eqdyn.partition._network import Layer, Network, network_of
from eqdyn.partition._partition import points_of, progress_of

_BATCH_BYTES = 1 << 26
_LOST = 1e-9  # of a square, against the terms it is a sum of: a norm to 1e-7 of itself
_NONE = 1e-26  # the same, of rows: a norm that is a rounding


class Local(NamedTuple):
    """What is known at points, in any number of dimensions. EXACT up to rounding.

    Fields:
        codes: `(c, m)` bool, of the cells that hold points.
        masses: `(c,)`, the share of points in each.
        cell_of: `(num,)`.
        units: `(num, r)`, the unit of every row that bounds the point's cell (`0 .. m - 1` where there are no pools).
        distances: `(num, r)`, from the point to the hyperplane of each row, [z]; inf for a unit that is constant on the cell. For a facet it is
            a LOWER bound of the distance to the facet.
        radii: `(num,)`, the least of them: exactly the largest ball about the point within its cell.
        kinks: `(num, r)`, `|u|` of the rank-one jump of the Jacobian across the row, [output]/[z], if it is a facet.
    """

    codes: np.ndarray
    masses: np.ndarray
    cell_of: np.ndarray
    units: np.ndarray
    distances: np.ndarray
    radii: np.ndarray
    kinks: np.ndarray


def local(layers: Sequence[tuple[Any, Any]], points: Any, activation: Any = "relu", *, progress: bool | None = None) -> Local:
    """Codes, distances to all hyperplanes and kinks at points: two passes, without a Jacobian of the input's size.

    Row norms come from Gram matrices, `G_1 = W_1 W_1^t`, `G_(l+1) = W S G_l S W^t`, and the jump across unit j is `u = (s_1 - s_0) D_j |A_j|`, D the
    derivative of the output: the cost does not grow with the number of inputs, beside the first product.

    Args:
        layers, activation: as in `build`.
        points: `(num, d)`, any d.
        progress: True for a bar.

    Returns:
        `Local`.

    Raises:
        ValueError: layers or points that do not fit.

    Example:
        >>> import numpy as np, eqdyn as eq
        >>> layers = [(np.array([[3.0, 4.0]]), np.zeros(1)), (np.ones((1, 1)), np.zeros(1))]
        >>> seen = eq.partition.local(layers, [[1.0, 1.0], [-1.0, -1.0]])
        >>> len(seen.codes), seen.distances.ravel().tolist(), seen.kinks.ravel().tolist()
        (2, [1.4, 1.4], [5.0, 5.0])

    References:
        Gajer and Ravel, arXiv:2508.02080.
    """
    network = network_of(layers, activation)
    z = points_of(points, network.dim)
    codes, cell_of, counts = np.unique(network.codes(z), axis=0, return_inverse=True, return_counts=True)
    widest = max([len(layer.b) for layer in network.hidden] + [len(network.last[1])])
    size = max(1, _BATCH_BYTES // (8 * 3 * widest**2))
    parts = [at_points(network, z[at : at + size]) for at in progress_of(range(0, len(z), size), progress, "points")]
    units, distances, kinks = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Local(codes, counts / len(z), cell_of.reshape(-1), units, distances, distances.min(1, initial=np.inf), kinks)


def at_points(network: Network, z: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Units, distances and kinks of all rows at some points."""
    grams, values, bits = zip(*_forward(network, z), strict=True) if network.hidden else ((), (), ())
    pulls = _backward(network, bits)
    found, first = [], 0
    for layer, (gram, terms), a, on, pull in zip(network.hidden, grams, values, bits, pulls, strict=True):
        one, *rest = _rows(layer, gram, terms, a, on, pull)
        found.append((first + one, *rest))
        first += len(layer.b)
    if not found:
        return np.zeros((len(z), 0), int), np.zeros((len(z), 0)), np.zeros((len(z), 0))
    units, away, squares, terms, steep = (np.concatenate(part, axis=1) for part in zip(*found, strict=True))
    norms = np.sqrt(np.maximum(squares, 0))
    for k in np.nonzero((squares < _LOST * terms).any(1))[0]:  # of these little is left in a Gram matrix: by their rows
        rows = network.rows(np.concatenate([on[k] for on in bits]))
        norms[k] = np.linalg.norm(rows.a, axis=1)
        norms[k, norms[k] ** 2 < _NONE * terms[k]] = 0
    with np.errstate(divide="ignore", invalid="ignore"):
        return units, np.where(norms > 0, np.abs(away) / norms, np.inf), steep * norms


def _forward(network: Network, z: np.ndarray) -> Iterator[tuple[tuple[np.ndarray, np.ndarray], np.ndarray, np.ndarray]]:
    """Per layer: Gram matrices of its rows in input space `(b, n, n)` and the squares their diagonals are sums to, values, bits."""
    h, gram = z, None
    for layer in network.hidden:
        a = h @ layer.w.T + layer.b
        whole = np.broadcast_to(layer.w @ layer.w.T, (len(z), len(layer.b), len(layer.b))) if gram is None else layer.w @ gram @ layer.w.T
        sizes = np.diagonal(whole, axis1=1, axis2=2)
        terms = sizes if gram is None else (np.sqrt(np.maximum(np.diagonal(gram, axis1=1, axis2=2), 0)) @ np.abs(layer.w).T) ** 2
        bits = layer.bits(a)
        yield (whole, terms), a, bits
        if layer.pool:
            kept = np.nonzero(bits)[1].reshape(len(z), -1)
            h = np.take_along_axis(a, kept, 1)
            gram = np.take_along_axis(np.take_along_axis(whole, kept[:, :, None], 1), kept[:, None, :], 2)
        else:
            slope = np.where(bits, layer.slopes[1], layer.slopes[0])
            h, gram = slope * a, slope[:, :, None] * whole * slope[:, None, :]


def _backward(network: Network, bits: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Per layer: the size of the output's derivative with respect to each value behind the activation, `(b, n)`."""
    num = len(bits[0]) if bits else 0
    pull = np.broadcast_to(network.last[0], (num, *network.last[0].shape))
    found = []
    for layer, on in zip(network.hidden[::-1], bits[::-1], strict=True):
        found.append(np.linalg.norm(pull, axis=1))
        if layer.pool:
            behind = np.zeros((num, pull.shape[1], len(layer.b)))
            np.put_along_axis(behind, np.nonzero(on)[1].reshape(num, 1, -1), pull, 2)
        else:
            behind = pull * np.where(on, layer.slopes[1], layer.slopes[0])[:, None, :]
        pull = behind @ layer.w
    return found[::-1]


def _rows(layer: Layer, gram: np.ndarray, terms: np.ndarray, a: np.ndarray, on: np.ndarray, pull: np.ndarray) -> tuple[np.ndarray, ...]:
    """Of the rows that bound the cells: units, values, squared norms, what these are sums to, and the output's jump per norm."""
    squares = np.diagonal(gram, axis1=1, axis2=2)
    if not layer.pool:
        return np.broadcast_to(np.arange(a.shape[1]), a.shape), a, squares, terms, abs(layer.slopes[1] - layer.slopes[0]) * pull
    num = len(a)
    others = np.nonzero(~on)[1].reshape(num, -1)
    largest = np.repeat(np.nonzero(on)[1].reshape(num, -1), layer.pool - 1, axis=1)
    at = np.arange(num)[:, None]
    apart = squares[at, largest] + squares[at, others] - 2 * gram[at, largest, others]
    sums = (np.sqrt(terms[at, largest]) + np.sqrt(terms[at, others])) ** 2
    return others, a[at, largest] - a[at, others], apart, sums, np.repeat(pull, layer.pool - 1, axis=1)


def nearest_by_crossed(codes: Any, k: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """For each code the k codes that differ in the fewest bits: neighbours by the number of hyperplanes crossed.

    A DIAGNOSTIC: bent hyperplanes may be crossed more than once on the way.

    Args:
        codes: `(n, m)` bool.
        k: 1 to n - 1.

    Returns:
        `(n, k)` rows, nearest first, the lower row first among equals; `(n, k)` numbers of bits.

    Raises:
        ValueError: codes that are no booleans `(n, m)`, or k.

    Example:
        >>> import numpy as np, eqdyn as eq
        >>> rows, crossed = eq.partition.nearest_by_crossed(np.array([[0, 0, 0], [0, 0, 1], [1, 1, 1]], bool), 1)
        >>> rows.ravel().tolist(), crossed.ravel().tolist()
        ([1, 0, 1], [1, 1, 2])
    """
    bits = np.asarray(codes)
    if bits.ndim != 2 or bits.dtype != bool:
        msg = f"codes: got shape {bits.shape}, {bits.dtype}; expected (n, m) bool."
        raise ValueError(msg)
    if not isinstance(k, (int, np.integer)) or not 1 <= k < len(bits):
        msg = f"k: got {k!r}; expected 1 to {len(bits) - 1}."
        raise ValueError(msg)
    signs = np.where(bits, 1, -1).astype(np.float32)  # whole numbers: exact in float32
    rows, crossed = np.empty((len(bits), k), int), np.empty((len(bits), k), int)
    block = max(1, _BATCH_BYTES // (8 * len(bits)))
    number = np.arange(len(bits))
    for at in range(0, len(bits), block):
        away = ((bits.shape[1] - signs[at : at + block] @ signs.T) / 2).astype(np.int64)
        away[np.arange(len(away)), at + np.arange(len(away))] = bits.shape[1] + 1
        ranked = away * len(bits) + number
        best = np.sort(np.partition(ranked, k - 1, axis=1)[:, :k], axis=1)
        rows[at : at + block], crossed[at : at + block] = best % len(bits), best // len(bits)
    return rows, crossed
