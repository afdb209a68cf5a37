"""The cell of a point as half-spaces, and forms of later layers pulled back to input space on it, layer by layer."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from eqdyn.partition._network import Rows, network_of
from eqdyn.partition._partition import points_of

_RANK = 1e-10  # singular values below this share of the largest are 0


class Pullback(NamedTuple):
    """One layer on the cell of a point: `h = J z + c` before its activation. EXACT up to rounding.

    Fields:
        jacobian: `J (n_l, d)`, [h]/[z].
        metric: `g = J^t J (d, d)`, the layer's Euclidean metric in input space.
        rank: of J; singular values below 1e-10 of the largest count as 0.
        volume: the product of J's `rank` largest singular values: `sqrt(det g)` where the rank is d, else of the volume along the directions
            that are left (1 for rank 0).
    """

    jacobian: np.ndarray
    metric: np.ndarray
    rank: int
    volume: float

    def covector(self, w: Any) -> np.ndarray:
        """`J^t w`, of a covector `w (n_l,)` of the layer, or several `(..., n_l)`."""
        return np.asarray(w, np.float64) @ self.jacobian

    def normal(self, w: Any) -> np.ndarray:
        """`J^t w / |J^t w|`: a normal in the layer as a normal in input space; NaN where `J^t w` is 0."""
        pulled = self.covector(w)
        size = np.linalg.norm(pulled, axis=-1, keepdims=True)
        return np.where(size > 0, pulled / np.where(size > 0, size, 1), np.nan)

    def form(self, k: int) -> np.ndarray:
        """All k x k minors of J, `(binom(n_l, k), binom(d, k))`: how k-forms pull back; subsets in lexicographic order. For small k, and d.

        Raises:
            ValueError: k outside 1 .. min(n_l, d), or more than 10^7 minors.
        """
        rows, columns = self.jacobian.shape
        if not 1 <= k <= min(rows, columns):
            msg = f"k: got {k}; expected 1 to {min(rows, columns)}."
            raise ValueError(msg)
        over, under = (np.array(list(itertools.combinations(range(n), k))) for n in (rows, columns))
        if len(over) * len(under) > 10**7:
            msg = f"k: got {k}, {len(over) * len(under):,} minors; expected at most 10,000,000."
            raise ValueError(msg)
        return np.linalg.det(self.jacobian[over[:, None, :, None], under[None, :, None, :]])


def pullback(layers: Sequence[tuple[Any, Any]], point: Any, activation: Any = "relu") -> list[Pullback]:
    """Every layer as an affine map of the input on the cell of a point, hidden layers before their activation, the output layer last.

    Args:
        layers, activation: as in `build`; any number of dimensions.
        point: `(d,)`.

    Returns:
        A `Pullback` for each layer.

    Raises:
        ValueError: layers or a point that do not fit.

    Example:
        >>> import numpy as np, eqdyn as eq
        >>> layers = [(np.array([[0.0, -1.0], [1.0, 0.0]]), np.zeros(2)), (np.ones((1, 2)), np.zeros(1))]
        >>> turned, out = eq.partition.pullback(layers, [1.0, 1.0])      # there the first unit is off
        >>> turned.metric.tolist(), out.rank, out.jacobian.tolist()
        ([[1.0, 0.0], [0.0, 1.0]], 1, [[1.0, 0.0]])

    References:
        Gajer and Ravel, arXiv:2508.02080.
    """
    network = network_of(layers, activation)
    z = points_of(np.asarray(point, np.float64)[None], network.dim)[0]
    a, h, found = np.eye(network.dim), z, []
    for layer in network.hidden:
        a, h = layer.w @ a, layer.w @ h + layer.b
        found.append(_of(a))
        bits = layer.bits(h)
        a, h = layer.after(a, bits), layer.after(h, bits)
    return [*found, _of(network.last[0] @ a)]


def halfspaces(layers: Sequence[tuple[Any, Any]], point: Any, activation: Any = "relu") -> Rows:
    """The cell of a point as half-spaces of input space, `a z + c >= 0`, through all layers, and the affine map on it. EXACT up to rounding.

    Redundant ones are there too; `one_ring` leaves the facets. Rows of 0 are units that are constant on the cell.

    Args:
        layers, activation: as in `build`; any number of dimensions.
        point: `(d,)`.

    Returns:
        `Rows`.

    Raises:
        ValueError: layers or a point that do not fit.

    Example:
        >>> import numpy as np, eqdyn as eq
        >>> layers = [(np.eye(2), np.array([0.0, -1.0])), (np.ones((1, 2)), np.zeros(1))]
        >>> cell = eq.partition.halfspaces(layers, [0.5, 0.5])      # x > 0 and y < 1
        >>> cell.a.tolist(), cell.c.tolist(), cell.jacobian.tolist()
        ([[1.0, 0.0], [-0.0, -1.0]], [0.0, 1.0], [[1.0, 0.0]])

    References:
        Gajer and Ravel, arXiv:2508.02080.
    """
    network = network_of(layers, activation)
    z = points_of(np.asarray(point, np.float64)[None], network.dim)
    return network.rows(network.codes(z)[0])


def _of(jacobian: np.ndarray) -> Pullback:
    values = np.linalg.svd(jacobian, compute_uv=False)
    kept = values[values > _RANK * values.max(initial=0.0)]
    return Pullback(jacobian, jacobian.T @ jacobian, len(kept), float(np.prod(kept)))
