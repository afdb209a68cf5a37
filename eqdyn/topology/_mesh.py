"""Betti numbers of a curve or surface from the mesh that carries it, independent of any scale."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from eqdyn import _checks
from eqdyn.topology._betti import points_of

PAIRS_BYTES = 2**30  # what pairs of neighbouring places may take


class MeshBetti(NamedTuple):
    """What a mesh is, as a space.

    Fields:
        betti: b_0, b_1, b_2 over Z/2 of the mesh, with the points that were glued. Exact.
        contacts: `(c, 2)` rows of `mesh.points` that lie at one place now and were not one point before. Where more than two are at one
            place, each with the first of them; within a tolerance also the firsts of all places that are near each other.
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
        without: edges that are cut, with the triangles that have them: rows of `mesh.edges`, as `MeshChange.torn`, or a mask of them.

    Raises:
        ValueError: places or edges that do not fit the mesh.
        TypeError: no mesh.
        MemoryError: a tolerance within which too many places are near each other.

    Example:
        >>> import eqdyn as eq
        >>> eq.topology.mesh_betti(eq.shapes.mesh.torus(12)).betti
        (1, 2, 1)
        >>> circle = eq.shapes.mesh.circle(8)
        >>> eq.topology.mesh_betti(circle, circle.points * 0.0).betti              # all at one place
        (1, 0, 0)
    """
    if any(not hasattr(mesh, name) for name in ("points", "edges", "faces")):
        msg = f"mesh: got {type(mesh).__name__}; expected one of eq.shapes.mesh, or anything with points, edges and faces."
        raise TypeError(msg)
    before = points_of(mesh.points)
    now = before if points is None else points_of(points)
    if len(now) != len(before):
        msg = f"points: got shape {now.shape}; expected ({len(before)}, d), one place for each point of the mesh."
        raise ValueError(msg)
    tolerance = _checks.number(tolerance, "tolerance", least=0.0)
    place, contacts = _glued(now, before, tolerance)
    edges, faces = np.asarray(mesh.edges, np.int64), np.asarray(mesh.faces, np.int64).reshape(-1, 3)
    cut = _cut(without, len(edges))
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


def _cut(without: Any, num: int) -> np.ndarray:
    """Which of `num` edges are cut."""
    given, cut = np.asarray(without), np.zeros(num, bool)
    mask = given.dtype == bool and given.shape == (num,)
    if not (mask or not given.size or (np.issubdtype(given.dtype, np.integer) and given.min() >= 0 and given.max() < num)):
        msg = f"without: got {np.array2string(given, threshold=6)}; expected rows of mesh.edges, 0 to {num - 1}, or a mask ({num},) of them."
        raise ValueError(msg)
    cut[given if given.size else []] = True
    return cut


def _glued(now: np.ndarray, before: np.ndarray, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """One name for all points at a place, and the pairs that have newly come together."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    # equal rows first: all pairs of a place where thousands are would be millions
    _, first, group = np.unique(now + 0.0, axis=0, return_index=True, return_inverse=True)
    star = np.stack([first[group.reshape(-1)], np.arange(len(now))], 1)
    pairs = star[star[:, 0] != star[:, 1]]
    if tolerance > 0:
        tree = cKDTree(now[first])
        near = 32.0 * (tree.count_neighbors(tree, tolerance) - len(first)) / 2
        _checks.fits_budget(near, PAIRS_BYTES, "mesh_betti", "take a smaller tolerance")
        close = np.sort(first[tree.query_pairs(tolerance, output_type="ndarray")], axis=1)
        pairs = np.concatenate([pairs, close])
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
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
