"""Bounded polytopes by their vertices and which facets these lie on; cut in two by a hyperplane without any linear program."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

_NEAR = 1e-11  # of the largest value on the polytope: what lies as near to a hyperplane lies on it
_MOST = 50_000  # vertices of a polytope


class Polytope(NamedTuple):
    """Fields:
    vertices: `(v, d)`.
    on: `(v, f)`, whether the vertex lies on the facet.
    facets: `(f,)`, what cut it: a row of its code (`Rows`), or `-1 - k` for wall k of the region.
    """

    vertices: np.ndarray
    on: np.ndarray
    facets: np.ndarray


def box(low: np.ndarray, high: np.ndarray) -> Polytope:
    """`[low, high]`, with its 2^d vertices."""
    dim = len(low)
    side = (np.arange(2**dim)[:, None] >> np.arange(dim)) & 1
    on = np.stack([side == 0, side == 1], axis=2).reshape(2**dim, 2 * dim)
    return Polytope(np.where(side == 1, high, low), on, -1 - np.arange(2 * dim))


def split(whole: Polytope, values: np.ndarray, facet: int, floor: float = 0.0) -> tuple[Polytope | None, Polytope | None]:
    """The parts where an affine function, given at the vertices, is below and above 0; None for one that is not there."""
    below, above = sides(values, np.array(floor))
    if not above.any():
        return whole, None
    if not below.any():
        return None, whole
    new = _crossed(whole, values, below, above)
    return _part(whole, below, ~(below | above), *new, facet), _part(whole, above, ~(below | above), *new, facet)


def clip(whole: Polytope, a: np.ndarray, c: np.ndarray, facets: np.ndarray, floors: np.ndarray | None = None) -> Polytope | None:
    """The part where all of `a z + c` are at least 0; None where it has no inside. Of rows that cut nothing no trace is left."""
    part = whole
    floors = np.zeros(len(c)) if floors is None else floors
    while True:
        values = a @ part.vertices.T + c[:, None]
        low, high = values.min(1), values.max(1)
        near = np.maximum(_NEAR * np.maximum(np.abs(low), np.abs(high)), floors)
        cutting = np.nonzero(low < -near)[0]
        if not len(cutting):
            return part
        row = cutting[(values[cutting] < -near[cutting, None]).sum(1).argmax()]  # the one that leaves least: the next have less to look at
        below, above = sides(values[row], floors[row])
        if not above.any():
            return None
        part = _part(part, above, ~(below | above), *_crossed(part, values[row], below, above), int(facets[row]))
        if len(part.vertices) > _MOST:
            msg = f"layers: got a cell with more than {_MOST:,} vertices; expected fewer facets; write partition.local(...) or one_ring(...)."
            raise ValueError(msg)
        still = low <= near  # the others keep clear of all vertices, and cut no part either
        still[row] = False
        a, c, facets, floors = a[still], c[still], facets[still], floors[still]


def sides(values: np.ndarray, floor: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of values `(..., v)` at the vertices, which are below and above 0, by more than a rounding; `floor (...)`."""
    near = np.maximum(_NEAR * np.abs(values).max(-1, keepdims=True, initial=0.0), floor[..., None])
    return values < -near, values > near


def _crossed(whole: Polytope, values: np.ndarray, below: np.ndarray, above: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where edges cross the 0 of the function, and which facets these places lie on."""
    dim = whole.vertices.shape[1]
    i, j = np.nonzero(below)[0], np.nonzero(above)[0]
    # whole numbers up to a few hundred: exact in float32, at the speed of a matrix product
    on = whole.on.astype(np.float32)
    one, other = np.nonzero(on[i] @ on[j].T >= dim - 1)  # ends of an edge share d - 1 facets
    i, j = i[one], j[other]
    if np.any(on.sum(1) > dim):
        i, j = _edges(whole.on, i, j)
    share = (values[j] / (values[j] - values[i]))[:, None]
    return share * whole.vertices[i] + (1 - share) * whole.vertices[j], whole.on[i] & whole.on[j]


def _edges(on: np.ndarray, i: np.ndarray, j: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of pairs those that no third vertex shares all facets of: more than d facets meet at some vertex."""
    both = on[i] & on[j]
    holding = (both.astype(np.float32) @ on.T.astype(np.float32)) == both.sum(1)[:, None]
    true = holding.sum(1) == 2
    return i[true], j[true]


def _part(whole: Polytope, keep: np.ndarray, cut: np.ndarray, new: np.ndarray, on_new: np.ndarray, facet: int) -> Polytope:
    stay = np.nonzero(keep | cut)[0]
    old = len(stay)
    vertices = np.concatenate([whole.vertices[stay], new])
    on = np.ones((len(vertices), whole.on.shape[1] + 1), bool)
    on[:old, :-1], on[old:, :-1], on[:old, -1] = whole.on[stay], on_new, cut[stay]
    held = on.sum(0) >= max(1, vertices.shape[1])
    return Polytope(vertices, on[:, held], np.append(whole.facets, facet)[held])


def measures(whole: Polytope, normals: np.ndarray) -> tuple[float, np.ndarray]:
    """Volume [z]^d, and the area of each facet [z]^(d - 1); `normals (f, d)`, unit."""
    dim = whole.vertices.shape[1]
    if dim == 2:
        return _of_polygon(whole, normals)
    if dim > 2:
        found = _by_one_hull(whole)
        if found is not None:
            return found
    return volume(whole.vertices), np.array([area(whole.vertices[on], normal) for on, normal in zip(whole.on.T, normals, strict=True)])


def _of_polygon(whole: Polytope, normals: np.ndarray) -> tuple[float, np.ndarray]:
    """Shoelace around the middle; how far the vertices of each side are apart."""
    at = whole.vertices - whole.vertices.mean(0)
    x, y = at[np.argsort(np.arctan2(at[:, 1], at[:, 0]))].T
    along = at @ np.stack([-normals[:, 1], normals[:, 0]])
    extent = np.where(whole.on, along, -np.inf).max(0) - np.where(whole.on, along, np.inf).min(0)
    return 0.5 * float(x @ np.roll(y, -1) - y @ np.roll(x, -1)), extent


def _by_one_hull(whole: Polytope) -> tuple[float, np.ndarray] | None:
    """The boundary in simplices, each on one facet: volume and all areas at once. None where Qhull took two facets for one."""
    from scipy.spatial import ConvexHull, QhullError

    dim = whole.vertices.shape[1]
    size = np.ptp(whole.vertices, axis=0).max()
    at = (whole.vertices - whole.vertices.mean(0)) / size
    try:
        hull = ConvexHull(at)
    except QhullError:
        return None
    facet = whole.on[hull.simplices].all(1)
    if not np.all(facet.sum(1) == 1):
        return None
    corners = at[hull.simplices]
    sides = corners[:, 1:] - corners[:, :1]
    areas = np.sqrt(np.maximum(np.linalg.det(sides @ np.swapaxes(sides, 1, 2)), 0)) / math.factorial(dim - 1)
    return float(hull.volume) * size**dim, np.bincount(facet.argmax(1), areas, len(whole.facets)) * size ** (dim - 1)


def volume(points: np.ndarray) -> float:
    """Of the convex hull of points `(v, d)` that span it, [z]^d; 1 where d = 0."""
    from scipy.spatial import ConvexHull, QhullError

    dim = points.shape[1]
    if dim == 0:
        return 1.0
    if dim == 1:
        return float(np.ptp(points))
    size = np.ptp(points, axis=0).max()
    if not size > 0:
        return 0.0
    scaled = (points - points.mean(0)) / size
    try:
        return float(ConvexHull(scaled).volume) * size**dim
    except QhullError:  # flatter than roundings
        return float(ConvexHull(scaled, qhull_options="QJ").volume) * size**dim


def area(points: np.ndarray, normal: np.ndarray) -> float:
    """Of the convex hull of points in a hyperplane, [z]^(d - 1)."""
    dim = points.shape[1]
    basis = np.linalg.svd(normal[None])[2][1:]
    return volume((points - points.mean(0)) @ basis.T) if dim > 1 else 1.0
