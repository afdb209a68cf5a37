"""Betti numbers of a curve or surface from the mesh that carries it, independent of any scale."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from eqdyn import _checks


class MeshBetti(NamedTuple):
    """What a mesh is, as a space.

    Fields:
        betti: b_0, b_1, b_2 over Z/2 of the mesh, with the points that were glued. Exact.
        contacts: `(c, 2)` rows of `mesh.points` that lie at one place now and were not one point before (within the tolerance).
        euler: the Euler characteristic.
    """

    betti: tuple[int, int, int]
    contacts: np.ndarray
    euler: int


def mesh_betti(mesh: Any, points: Any = None, *, tolerance: float = 0.0, without: Any = ()) -> MeshBetti:
    """Betti numbers of a mesh, and of what it becomes where its points touch: no Rips scale, no sampling.

    The mesh says how the points hang together, whatever distances training has made of them. Points that have come to one place are
    glued, as the quotient of the theory is. Crossings between points are not seen here: `measure.mesh_change` finds them.

    Args:
        mesh: of `eq.shapes.mesh`, or anything with `points`, `edges`, `faces`.
        points: `(m, d)` where its points are now; None for `mesh.points`.
        tolerance: points nearer than this are glued, [points]; 0 for equal ones only.
        without: edges (rows of `mesh.edges`) that are cut, with the triangles that have them, as `MeshChange.torn`.

    Raises:
        ValueError: places that do not fit the mesh.

    Example:
        >>> import eqdyn as eq
        >>> eq.topology.mesh_betti(eq.shapes.mesh.torus(12)).betti
        (1, 2, 1)
        >>> circle = eq.shapes.mesh.circle(8)
        >>> eq.topology.mesh_betti(circle, circle.points * 0.0).betti              # all at one place
        (1, 0, 0)
    """
    before = np.asarray(mesh.points, np.float64)
    now = before if points is None else np.asarray(points, np.float64)
    if now.shape[:1] != before.shape[:1] or now.ndim != 2:
        msg = f"points: got shape {now.shape}; expected ({len(before)}, d), one place for each point of the mesh."
        raise ValueError(msg)
    _checks.finite(now, "points")
    tolerance = _checks.number(tolerance, "tolerance", least=0.0)
    place, contacts = _glued(now, before, tolerance)
    edges, faces = np.asarray(mesh.edges, np.int64), np.asarray(mesh.faces, np.int64).reshape(-1, 3)
    cut = np.zeros(len(edges), bool)
    cut[np.asarray(without, np.int64)] = True
    gone = {tuple(sorted(edge)) for edge in edges[cut].tolist()}
    if gone:
        faces = faces[[not any(tuple(sorted((f[a], f[b]))) in gone for a, b in ((0, 1), (1, 2), (0, 2))) for f in faces.tolist()]]
    edges, faces = _simplices(place[edges[~cut]]), _simplices(place[faces])
    # a triangle that was glued flat is an edge already there
    vertices = len(np.unique(place))
    rank_1 = vertices - _components(edges, place)
    rank_2 = _rank_of_faces(edges, faces)
    betti = (vertices - rank_1, len(edges) - rank_1 - rank_2, len(faces) - rank_2)
    return MeshBetti(betti, contacts, vertices - len(edges) + len(faces))


def _glued(now: np.ndarray, before: np.ndarray, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """One name for all points at a place, and the pairs that have newly come together."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    pairs = cKDTree(now).query_pairs(tolerance, output_type="ndarray")
    joined = coo_matrix((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(len(now), len(now)))
    place = connected_components(joined, directed=False)[1].astype(np.int64)
    new = np.any(before[pairs[:, 0]] != before[pairs[:, 1]], axis=1) if len(pairs) else np.zeros(0, bool)
    return place, pairs[new]


def _simplices(found: np.ndarray) -> np.ndarray:
    """Each simplex once, its vertices in order; those that lost a vertex dropped."""
    found = np.sort(found, axis=1)
    found = found[np.all(found[:, 1:] != found[:, :-1], axis=1)]
    return np.unique(found, axis=0)


def _components(edges: np.ndarray, place: np.ndarray) -> int:
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    size = int(place.max()) + 1
    graph = coo_matrix((np.ones(len(edges), bool), (edges[:, 0], edges[:, 1])), shape=(size, size))
    return int(connected_components(graph, directed=False)[0])


def _rank_of_faces(edges: np.ndarray, faces: np.ndarray) -> int:
    """Rank over Z/2 of the boundary of the triangles."""
    where = {edge: k for k, edge in enumerate(map(tuple, edges.tolist()))}
    columns: dict[int, set[int]] = {}
    for a, b, c in faces.tolist():
        column = {where[a, b], where[b, c], where[a, c]}
        while column:
            pivot = max(column)
            if pivot not in columns:
                columns[pivot] = column
                break
            column = column ^ columns[pivot]
    return len(columns)
