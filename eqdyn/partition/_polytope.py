"""Bounded polytopes by their vertices and which facets these lie on; cut in two by a hyperplane without any linear program."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

_NEAR = 1e-11  # of the largest value on the polytope: what lies as near to a hyperplane lies on it


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


def split(whole: Polytope, values: np.ndarray, facet: int) -> tuple[Polytope | None, Polytope | None]:
    """The parts where an affine function, given at the vertices, is below and above 0; None for one that is not there."""
    below, above = _sides(values)
    if not above.any():
        return whole, None
    if not below.any():
        return None, whole
    new = _crossed(whole, values, below, above)
    return _part(whole, below, ~(below | above), *new, facet), _part(whole, above, ~(below | above), *new, facet)


def clip(whole: Polytope, a: np.ndarray, c: np.ndarray, facets: np.ndarray) -> Polytope | None:
    """The part where all of `a z + c` are at least 0; None where it has no inside. Of rows that cut nothing no trace is left."""
    part = whole
    while True:
        values = part.vertices @ a.T + c
        near = _NEAR * np.abs(values).max(0, initial=0.0)
        beyond = (values < -near).sum(0)
        if not beyond.any():
            return part
        row = int(np.argmax(beyond))  # the one that leaves least: the next have less to look at
        below, above = _sides(values[:, row])
        if not above.any():
            return None
        part = _part(part, above, ~(below | above), *_crossed(part, values[:, row], below, above), int(facets[row]))


def _sides(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    near = _NEAR * np.abs(values).max(initial=0.0)
    return values < -near, values > near


def _crossed(whole: Polytope, values: np.ndarray, below: np.ndarray, above: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where edges cross the 0 of the function, and which facets these places lie on."""
    dim = whole.vertices.shape[1]
    i, j = np.nonzero(below)[0], np.nonzero(above)[0]
    # whole numbers up to a few hundred: exact in float32, at the speed of a matrix product
    common = whole.on[i].astype(np.float32) @ whole.on[j].T.astype(np.float32)
    one, other = np.nonzero(common >= dim - 1)  # ends of an edge share d - 1 facets
    i, j = i[one], j[other]
    if np.any(whole.on.sum(1) > dim):
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
    stay = keep | cut
    vertices = np.concatenate([whole.vertices[stay], new])
    on = np.concatenate([whole.on[stay], on_new])
    last = np.concatenate([cut[stay], np.ones(len(new), bool)])[:, None]
    on = np.concatenate([on, last], axis=1)
    facets = np.append(whole.facets, facet)
    held = on.sum(0) >= max(1, vertices.shape[1])
    return Polytope(vertices, on[:, held], facets[held])


def measures(whole: Polytope, normals: np.ndarray) -> tuple[float, np.ndarray]:
    """Volume [z]^d, and the area of each facet [z]^(d - 1); `normals (f, d)`, unit."""
    dim = whole.vertices.shape[1]
    if dim > 2:
        found = _by_one_hull(whole)
        if found is not None:
            return found
    return volume(whole.vertices), np.array([area(whole.vertices[on], normal) for on, normal in zip(whole.on.T, normals, strict=True)])


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
