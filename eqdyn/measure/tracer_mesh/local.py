"""What became of a mesh place by place: how far edges stretched, where it bends, which way its triangles turn, what it encloses.

All on the host in float64; `x` `(m, d)` are the places of the mesh's points, NaN where a point is lost.
"""

from __future__ import annotations

import numpy as np

from eqdyn.shapes import Mesh


def incidence(mesh: Mesh) -> np.ndarray:
    """Each point with each edge that it ends: `(2 k, 2)` rows (point, edge), sorted by point."""
    ends = np.stack([mesh.edges.T.ravel(), np.tile(np.arange(len(mesh.edges)), 2)], 1)
    return ends[np.argsort(ends[:, 0], kind="stable")]


def lengths(x: np.ndarray, edges: np.ndarray) -> np.ndarray:
    return np.linalg.norm(x[edges[:, 1]] - x[edges[:, 0]], axis=1)


def areas(x: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Areas of triangles; in the plane with a sign, positive anticlockwise."""
    a, b = x[faces[:, 1]] - x[faces[:, 0]], x[faces[:, 2]] - x[faces[:, 0]]
    if x.shape[1] == 2:
        return (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]) / 2
    # from the side at right angles to a: no cancellation of squares
    square = (a * a).sum(1)
    along = np.divide((a * b).sum(1), square, out=np.zeros(len(a)), where=square > 0)
    return np.sqrt(square) * np.linalg.norm(b - along[:, None] * a, axis=1) / 2


def floors(x: np.ndarray, pieces: np.ndarray, eps: float) -> np.ndarray:
    """What rounding of the points may do to the length of a piece: `4 eps` times the sizes of two of its points."""
    size = np.sort(np.linalg.norm(x, axis=1)[pieces], axis=1)
    return 4 * eps * (size[:, -1] + size[:, -2])


def collapsed(x: np.ndarray, mesh: Mesh, eps: float) -> tuple[np.ndarray, np.ndarray]:
    """Whether each edge, and each triangle, is no longer than rounding: a triangle by its height over the longest side."""
    with np.errstate(invalid="ignore"):
        edge = lengths(x, mesh.edges) <= floors(x, mesh.edges, eps)
        sides = np.stack([lengths(x, mesh.faces[:, pair]) for pair in ([0, 1], [1, 2], [2, 0])]).max(0)
        face = 2 * np.abs(areas(x, mesh.faces)) <= floors(x, mesh.faces, eps) * sides
    return edge, face


# --- tears -----------------------------------------------------------------------------------------------------------------


def usual_stretch(mesh: Mesh, stretch: np.ndarray, num: int, reach: int) -> np.ndarray:
    """For each edge the median stretch of the other edges within `reach` edges of it; its own where there is none."""
    from scipy import sparse

    edges = np.arange(len(mesh.edges))
    ends = sparse.csr_matrix((np.ones(2 * len(edges)), (mesh.edges.T.ravel(), np.tile(edges, 2))), (num, len(edges)))
    step = (ends.T @ ends).tocsr()
    near = step
    for _ in range(reach - 1):
        near = near @ step
        near.data[:] = 1
    of, other = near.nonzero()
    of, other = of[of != other], other[of != other]
    order = np.lexsort([stretch[other], of])
    ordered = stretch[other[order]]
    count = np.bincount(of, minlength=len(edges))
    start = np.cumsum(count) - count
    low, high = (np.minimum(start + np.maximum(at, 0), max(len(ordered) - 1, 0)) for at in ((count - 1) // 2, count // 2))
    if not len(ordered):
        return stretch.copy()
    middle = np.where(ordered[low] == ordered[high], ordered[low], ordered[low] / 2 + ordered[high] / 2)
    return np.where(count > 0, middle, stretch)


def pieces(num: int, edges: np.ndarray) -> tuple[int, np.ndarray]:
    """How many pieces hang together by these edges, and the piece of each point."""
    from scipy import sparse

    graph = sparse.coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), (num, num))
    found, label = sparse.csgraph.connected_components(graph, directed=False)
    return int(found), label


# --- bends -----------------------------------------------------------------------------------------------------------------


def passages(mesh: Mesh, x: np.ndarray) -> np.ndarray:
    """Where a curve runs through a point: `(p, 3)` rows of points (point, neighbour, neighbour).

    Where strands cross, those two neighbours belong together that lie most nearly opposite each other in x.
    """
    ends = incidence(mesh)
    other = mesh.edges[ends[:, 1]].sum(1) - ends[:, 0]
    degree = np.bincount(ends[:, 0], minlength=len(x))
    start = np.cumsum(degree) - degree
    plain = np.nonzero(degree == 2)[0]
    found = [np.stack([plain, other[start[plain]], other[start[plain] + 1]], 1)]
    for v in np.nonzero(degree > 2)[0]:
        around = other[start[v] : start[v] + degree[v]]
        away = x[around] - x[v]
        away = away / np.maximum(np.linalg.norm(away, axis=1, keepdims=True), np.finfo(float).tiny)
        cosine = np.where(np.tri(len(around), dtype=bool), np.inf, away @ away.T)
        for _ in range(len(around) // 2):
            i, j = np.unravel_index(np.argmin(cosine), cosine.shape)
            found.append(np.array([[v, around[i], around[j]]]))
            cosine[[i, j]] = cosine[:, [i, j]] = np.inf
    return np.concatenate(found).astype(int)


def faces_at_edges(mesh: Mesh) -> np.ndarray:
    """The triangles at each edge, `(k, most)`, filled up with -1."""
    scale = np.array([len(mesh.points), 1])
    sides = np.concatenate([mesh.faces[:, pair] for pair in ([0, 1], [1, 2], [2, 0])])
    edge, side = (np.sort(rows.astype(np.int64), axis=1) @ scale for rows in (mesh.edges, sides))
    by_key = np.argsort(edge, kind="stable")
    of = by_key[np.minimum(np.searchsorted(edge[by_key], side), max(len(edge) - 1, 0))]
    if (edge[of] != side).any():
        msg = "mesh: got a triangle with a side that is not among the edges; expected each side of each triangle in mesh.edges."
        raise ValueError(msg)
    order = np.argsort(of, kind="stable")
    count = np.bincount(of, minlength=len(edge))
    column = np.arange(len(of)) - np.repeat(np.cumsum(count) - count, count)
    table = np.full((len(edge), int(count.max(initial=2))), -1)
    table[of[order], column] = order % max(len(mesh.faces), 1)
    return table


def hinges(mesh: Mesh) -> tuple[np.ndarray, np.ndarray]:
    """Where just two triangles share an edge: the edges `(p,)`, and rows of points `(p, 4)` (end, end, third, third)."""
    table = faces_at_edges(mesh)
    at = np.nonzero((table >= 0).sum(1) == 2)[0]
    ends = mesh.edges[at]
    thirds = mesh.faces[table[at, :2]].sum(2) - ends.sum(1)[:, None]
    return at, np.concatenate([ends, thirds], 1)


def turns(x: np.ndarray, at: np.ndarray, eps: float) -> np.ndarray:
    """By how many degrees the mesh turns at passages `(p, 3)` or hinges `(p, 4)`: 0 straight on, 180 back; NaN where it has collapsed."""
    if at.shape[1] == 3:
        origin, along = x[at[:, 0]], np.zeros((len(at), x.shape[1]))
        one, other = x[at[:, 1]] - origin, x[at[:, 2]] - origin
    else:
        origin, along = x[at[:, 0]], x[at[:, 1]] - x[at[:, 0]]
        one, other = (_across(x[at[:, k]] - origin, along) for k in (2, 3))
    size = [np.linalg.norm(v, axis=1) for v in (one, other)]
    floor = floors(x, at, eps)
    with np.errstate(invalid="ignore", divide="ignore"):
        sharp = np.minimum(*size) > floor
        unit = [v / s[:, None] for v, s in zip((one, other), size, strict=True)]
        # of the halves of sum and difference: accurate near 0 and near 180 degrees
        angle = 2 * np.arctan2(np.linalg.norm(unit[0] + unit[1], axis=1), np.linalg.norm(unit[0] - unit[1], axis=1))
    return np.where(sharp, np.degrees(angle), np.nan)


def _across(v: np.ndarray, along: np.ndarray) -> np.ndarray:
    square = (along * along).sum(1)
    part = np.divide((v * along).sum(1), square, out=np.zeros(len(v)), where=square > 0)
    return v - part[:, None] * along


# --- inside and outside -----------------------------------------------------------------------------------------------------


def enclosed(mesh: Mesh, x: np.ndarray, label: np.ndarray, num: int, eps: float) -> np.ndarray:
    """The area (of closed curves in the plane) or volume (of closed surfaces in space) that each piece encloses, with its sign.

    0 where it cannot be told from 0; NaN where a piece is open, does not run one way round, or lies in another dimension.
    """
    cells = mesh.faces if len(mesh.faces) else mesh.edges
    nothing = np.full(num, np.nan)
    if x.shape[1] != cells.shape[1]:
        return nothing
    # the boundary of all cells together must vanish: every point as often an end as a start, every side passed both ways
    if len(mesh.faces):
        sides = np.concatenate([cells[:, [0, 1]], cells[:, [1, 2]], cells[:, [2, 0]]])
        key = np.sort(sides, axis=1) @ np.array([len(x), 1])
        values, at = np.unique(key, return_inverse=True)
        excess = np.bincount(at.ravel(), np.where(sides[:, 0] < sides[:, 1], 1.0, -1.0))
        bad = label[(values[excess != 0] // len(x)).astype(int)]
    else:
        excess = np.bincount(cells[:, 1], minlength=len(x)) - np.bincount(cells[:, 0], minlength=len(x))
        bad = label[np.nonzero(excess)[0]]
    of = label[cells[:, 0]]
    # seen from the middle of the piece, for the sake of rounding
    count = np.bincount(label, minlength=num)
    middle = np.stack([np.bincount(label, axis, minlength=num) / count for axis in x.T], 1)
    away = x - middle[label]
    corners = away[cells]
    with np.errstate(invalid="ignore"):
        terms = np.linalg.det(corners) / (2 if x.shape[1] == 2 else 6)
    found = np.bincount(of, terms, minlength=num)
    size = np.linalg.norm(corners, axis=2)
    # every coordinate may be off by one rounding of the point: by that much a term may be off
    reach = np.linalg.norm(x, axis=1)[cells].max(1)
    slack = np.bincount(of, 4 * eps * reach * size.max(1) ** (x.shape[1] - 1), minlength=num)
    found[np.abs(found) <= slack] = 0
    found[np.unique(bad)] = np.nan
    return found
