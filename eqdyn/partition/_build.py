"""The partition of a box by a piecewise linear network: its cells, facets and measures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from eqdyn.partition._network import Network, network_of
from eqdyn.partition._polytope import Polytope, area, split, volume
from eqdyn.partition._polytope import box as box_of

HIGHEST = 6  # dimension in which vertices and volumes are exact


class Walls(NamedTuple):
    """Facets on the box's walls: `cells` `(w,)`, `areas` `(w,)` [z]^(d-1), outward `normals` `(w, d)`."""

    cells: np.ndarray
    areas: np.ndarray
    normals: np.ndarray


class Partition(NamedTuple):
    """What `build` found, n cells and e facets between them, row for row. EXACT up to rounding.

    Fields:
        codes: `(n, m)` bool, which hidden units are above 0.
        volumes: `(n,)`, [z]^d.
        masses: `(n,)`, the share of points in the cell; NaN without points.
        centres: `(n, d)`, the mean of the cell's vertices.
        jacobians, offsets: `(n, out, d)`, `(n, out)`, the network on the cell, `J z + c`.
        edges: `(e, 2)`, the two cells of a facet.
        units: `(e,)`, the hidden unit whose 0 it is.
        facet_areas: `(e,)`, [z]^(d-1).
        normals: `(e, d)`, unit, from the first cell to the second.
        kinks: `(e,)`, `|u|` of the jump `J_j - J_i = u n^t`, [output]/[z].
        walls: facets on the box.
        cell_of: `(num points,)`, the cell of each point; empty without points.
        vertices: n arrays `(v, d)`.
    """

    codes: np.ndarray
    volumes: np.ndarray
    masses: np.ndarray
    centres: np.ndarray
    jacobians: np.ndarray
    offsets: np.ndarray
    edges: np.ndarray
    units: np.ndarray
    facet_areas: np.ndarray
    normals: np.ndarray
    kinks: np.ndarray
    walls: Walls
    cell_of: np.ndarray
    vertices: tuple[np.ndarray, ...]

    def laplacian(self) -> Any:
        """Finite volumes: `L = M_0^-1 sum_e w_e (e_i - e_j)(e_i - e_j)^t`, `w_e = area / |c_i - c_j|`, `M_0 = diag(volume)`; sparse `(n, n)`,
        [z]^-2. Constants are in its kernel. Consistent with the continuous operator where centres lie across from each other.
        """
        from scipy import sparse

        i, j = self.edges.T
        weight = self.facet_areas / np.linalg.norm(self.centres[i] - self.centres[j], axis=1)
        size = len(self.codes)
        off = sparse.coo_matrix((np.r_[weight, weight], (np.r_[i, j], np.r_[j, i])), (size, size)).tocsr()
        stiffness = sparse.diags(np.asarray(off.sum(1)).ravel()) - off
        return sparse.diags(1 / self.volumes) @ stiffness


def build(
    layers: Sequence[tuple[Any, Any]], box: Any = (-1.0, 1.0), points: Any = None, activation: Any = "relu", *, most: int = 200_000
) -> Partition:
    """The cells into which a network cuts a box, and the facets between them: all of them, by cutting polytopes layer after layer.

    EXACT up to rounding, in up to 6 dimensions. Units that are constant on a cell, or whose hyperplane is a facet already, cut nothing.

    Args:
        layers: `(W (out, in), b (out,))`, hidden layers first, the output layer last.
        box: `(low, high)`, numbers or `(d,)`.
        points: data in the box, `(num, d)`, for masses.
        activation: "relu", "abs", "leaky_relu" or `("leaky_relu", slope)`, of every hidden layer.
        most: cells; more are refused.

    Returns:
        `Partition`.

    Raises:
        ValueError: layers, box or points that do not fit, an activation that is not piecewise linear, more than 6 dimensions or `most` cells.

    Example:
        >>> import numpy as np, eqdyn as eq
        >>> found = eq.partition.build([(np.eye(2), np.zeros(2)), (np.ones((1, 2)), np.zeros(1))])
        >>> len(found.codes), float(found.volumes.sum()), len(found.edges)
        (4, 4.0, 4)

    References:
        Vanchurin, arXiv:2508.02080; Humayun et al., arXiv:2302.12828, for cutting layer after layer.
    """
    network = network_of(layers, activation)
    low, high = _box(box, network.dim)
    if network.dim > HIGHEST:
        msg = f"layers: got inputs of {network.dim} dimensions; expected at most {HIGHEST}, where all cells can be listed."
        raise ValueError(msg)
    data = None if points is None else _points(points, low, high)
    codes, cells = [], []
    for code, cell in _cut(network, box_of(low, high)):
        codes.append(code)
        cells.append(cell)
        if len(cells) > most:
            msg = f"most: got more than {most} cells; write a smaller box, a smaller network, or most={10 * most}."
            raise ValueError(msg)
    return _measured(network, np.array(codes).reshape(len(cells), network.num_units), cells, low, high, data)


def _cut(network: Network, whole: Polytope) -> Iterator[tuple[np.ndarray, Polytope]]:
    """All cells with their codes; one branch of the tree at a time."""
    pending = [(whole, np.zeros(0, bool), np.eye(network.dim), np.zeros(network.dim), 0)]
    while pending:
        cell, code, a, c, layer = pending.pop()
        if layer == len(network.hidden):
            yield code, cell
            continue
        w, b = network.hidden[layer]
        a, c = w @ a, w @ c + b
        parts = [(cell, np.zeros(0, bool))]
        for unit in range(len(b)):
            cut = []
            for part, bits in parts:
                below, above = split(part, part.vertices @ a[unit] + c[unit], len(code) + unit)
                cut += [(side, np.append(bits, up)) for side, up in ((below, False), (above, True)) if side is not None]
            parts = cut
        for part, bits in parts:
            slope = np.where(bits, network.slopes[1], network.slopes[0])
            pending.append((part, np.concatenate([code, bits]), slope[:, None] * a, slope * c, layer + 1))


def _measured(network: Network, codes: np.ndarray, cells: list[Polytope], low: np.ndarray, high: np.ndarray, data: np.ndarray | None) -> Partition:
    place = {code.tobytes(): k for k, code in enumerate(codes)}
    dim = network.dim
    jacobians, offsets = np.empty((len(cells), len(network.last[1]), dim)), np.empty((len(cells), len(network.last[1])))
    edges: list[tuple] = []
    walls: list[tuple] = []
    for k, (code, cell) in enumerate(zip(codes, cells, strict=True)):
        a, _, jacobians[k], offsets[k] = network.rows(code)
        for column, facet in enumerate(cell.facets):
            corners = cell.vertices[cell.on[:, column]]
            if facet < 0:
                normal = np.zeros(dim)
                normal[(-1 - facet) // 2] = 1.0 if (-1 - facet) % 2 else -1.0
                walls.append((k, area(corners, normal), normal))
                continue
            outward = -a[facet] if code[facet] else a[facet]
            normal = outward / np.linalg.norm(outward)
            other = _across(network, place, code, facet, corners.mean(0), normal, np.ptp(cell.vertices, axis=0).max())
            if other is not None and other > k:
                edges.append((k, other, facet, area(corners, normal), normal))
    pairs = np.array([edge[:2] for edge in edges], int).reshape(-1, 2)
    normals = np.array([edge[4] for edge in edges]).reshape(-1, dim)
    jump = np.einsum("eod,ed->eo", jacobians[pairs[:, 1]] - jacobians[pairs[:, 0]], normals)
    cell_of = np.zeros(0, int) if data is None else np.array([place.get(code.tobytes(), -1) for code in network.codes(data)], int)
    masses = np.full(len(cells), np.nan) if data is None else np.bincount(cell_of[cell_of >= 0], minlength=len(cells)) / len(data)
    return Partition(
        codes, np.array([volume(cell.vertices) for cell in cells]), masses, np.array([cell.vertices.mean(0) for cell in cells]), jacobians, offsets,
        pairs, np.array([edge[2] for edge in edges], int), np.array([edge[3] for edge in edges], float), normals, np.linalg.norm(jump, axis=1),
        Walls(np.array([wall[0] for wall in walls], int), np.array([wall[1] for wall in walls], float),
              np.array([wall[2] for wall in walls]).reshape(-1, dim)),
        cell_of, tuple(cell.vertices for cell in cells),
    )  # fmt: skip


def _across(network: Network, place: dict, code: np.ndarray, unit: int, at: np.ndarray, normal: np.ndarray, size: float) -> int | None:
    """The cell beyond a facet: one bit differs, or several where hyperplanes coincide."""
    flipped = code.copy()
    flipped[unit] = ~flipped[unit]
    found = place.get(flipped.tobytes())
    return found if found is not None else place.get(network.codes((at + 1e-7 * size * normal)[None])[0].tobytes())


def _box(box: Any, dim: int) -> tuple[np.ndarray, np.ndarray]:
    if not isinstance(box, (tuple, list)) or len(box) != 2:
        msg = f"box: got {box!r}; expected (low, high), numbers or arrays ({dim},)."
        raise ValueError(msg)
    try:
        low, high = (np.broadcast_to(np.asarray(side, np.float64), (dim,)).copy() for side in box)
    except ValueError:
        msg = f"box: got shapes {[np.shape(side) for side in box]}; expected numbers or arrays ({dim},)."
        raise ValueError(msg) from None
    if not (np.isfinite(low).all() and np.isfinite(high).all() and (low < high).all()):
        msg = f"box: got {low.tolist()} to {high.tolist()}; expected a bounded box, low below high along every axis."
        raise ValueError(msg)
    return low, high


def _points(points: Any, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    z = np.asarray(points, np.float64)
    if z.ndim != 2 or z.shape[1] != len(low) or len(z) == 0 or not np.isfinite(z).all():
        msg = f"points: got shape {z.shape}, or values that are not finite; expected (num, {len(low)})."
        raise ValueError(msg)
    out = int(np.sum(np.any((z < low) | (z > high), axis=1)))
    if out:
        msg = f"points: got {out} of {len(z)} outside the box; write box=(points.min(0), points.max(0)), or a larger one."
        raise ValueError(msg)
    return z
