"""Bounded polytopes by their vertices and which facets these lie on; cut in two by a hyperplane without any linear program."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

_NEAR = 1e-11  # of the largest value on the polytope: what lies as near to a hyperplane lies on it


class Polytope(NamedTuple):
    """Fields:
    vertices: `(v, d)`.
    on: `(v, f)`, whether the vertex lies on the facet.
    facets: `(f,)`, what cut it: the number of a hidden unit, or `-1 - k` for the walls of the box, k = 2 axis + side.
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
    near = _NEAR * np.abs(values).max(initial=0.0)
    below, above = values < -near, values > near
    if not above.any():
        return whole, None
    if not below.any():
        return None, whole
    dim = whole.vertices.shape[1]
    i, j = np.nonzero(below)[0], np.nonzero(above)[0]
    common = whole.on[i].astype(np.int32) @ whole.on[j].T.astype(np.int32)
    one, other = np.nonzero(common >= dim - 1)  # ends of an edge share d - 1 facets
    i, j = i[one], j[other]
    if np.any(whole.on.sum(1) > dim):
        i, j = _edges(whole.on, i, j)
    share = (values[j] / (values[j] - values[i]))[:, None]
    new = share * whole.vertices[i] + (1 - share) * whole.vertices[j]
    on_new = whole.on[i] & whole.on[j]
    return tuple(_part(whole, keep, ~(below | above), new, on_new, facet) for keep in (below, above))  # type: ignore[return-value]


def _edges(on: np.ndarray, i: np.ndarray, j: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of pairs those that no third vertex shares all facets of: more than d facets meet at some vertex."""
    both = on[i] & on[j]
    holding = (both.astype(np.int32) @ on.T.astype(np.int32)) == both.sum(1)[:, None]
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
