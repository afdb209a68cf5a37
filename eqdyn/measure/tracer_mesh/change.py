"""Two placements of one mesh, compared."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from eqdyn import _checks
from eqdyn.measure._meshes import checked
from eqdyn.measure.tracer_mesh import exact, local, near
from eqdyn.shapes import Mesh

FAR = 1e100  # products of three coordinates beyond it overflow


class MeshChange(NamedTuple):
    """What happened to a mesh between two placements of its points. Ids are rows of `mesh.points`, `.edges` and `.faces`.

    Attributes:
        stretch: `(k,)` length after over length before of each edge, no unit; infinite where an end is lost.
        torn: edges out of proportion to their neighbours. DIAGNOSTIC: a continuous map tears nothing, it stretches; such an edge
            says that the mesh is too coarse there to know the set.
        pieces: how many pieces hang together before; after, with the torn edges cut and without lost points.
        lost: points that are no longer finite, or beyond 1e100.
        collapsed_edges, collapsed_faces: shorter, or flatter, than rounding of the points; not so before.
        turn: the largest turn after, in degrees: at points of a curve, at edges between the triangles of a surface; 180 turns back.
        folded_vertices: of a curve, where it turns by more than `fold` degrees and did not before.
        folded_edges: of a surface, where its two triangles turn by more than `fold` degrees and did not before.
        det: `(t,)` area after over area before of each triangle, no unit; in the plane with the sign of the orientation (an
            estimate of det(I + eta T) there), else >= 0; NaN where one was collapsed before.
        flipped: triangles in the plane whose orientation changed.
        enclosed: `(pieces, 2)` signed area or volume inside each piece, before and after, [x]^2 or [x]^3; 0 within rounding, NaN
            where it has none.
        crossings: `(c, 2)` pairs that cross each other and did not before: edges of a curve, or of triangles in the plane (ids
            of edges); triangles in space that share no edge (ids of faces). Exact for these places.
        touching: `(c, 2)` pairs that meet without crossing, within no rounding at all, and did not meet before.
        crossings_before: how many pairs crossed before.
        clearance: `(2,)` where crossings have no meaning (curves beyond the plane, surfaces beyond space): the smallest distance
            before and after of two edges, or triangles, that share no point, [x]; else NaN.
        clearance_at: `(2, 2)` the pairs that attain them; -1 for none.
    """

    stretch: np.ndarray
    torn: np.ndarray
    pieces: tuple[int, int]
    lost: np.ndarray
    collapsed_edges: np.ndarray
    collapsed_faces: np.ndarray
    turn: float
    folded_vertices: np.ndarray
    folded_edges: np.ndarray
    det: np.ndarray
    flipped: np.ndarray
    enclosed: np.ndarray
    crossings: np.ndarray
    touching: np.ndarray
    crossings_before: int
    clearance: np.ndarray
    clearance_at: np.ndarray

    @property
    def inside_out(self) -> int:
        """How many pieces enclose the opposite of what they enclosed."""
        return int(np.sum(self.enclosed[:, 0] * self.enclosed[:, 1] < 0))

    @property
    def counts(self) -> dict[str, int]:
        """Alarms by name; all zero if nothing was found. `touching` is no alarm."""
        names = ("torn", "lost", "collapsed_edges", "collapsed_faces", "folded_vertices", "folded_edges", "flipped", "crossings")
        return {name: len(getattr(self, name)) for name in names} | {"inside_out": self.inside_out}

    def summary(self) -> str:
        """What was found, in a line or two."""
        words = {
            "torn": "edges torn",
            "lost": "points lost",
            "collapsed_edges": "edges collapsed",
            "collapsed_faces": "triangles collapsed",
            "folded_vertices": "folds at points",
            "folded_edges": "folds along edges",
            "flipped": "triangles flipped",
            "crossings": "new crossings",
            "inside_out": "pieces inside out",
        }
        found = [f"{count} {words[name]}" for name, count in self.counts.items() if count]
        low, high = self.stretch.min(initial=np.inf), self.stretch.max(initial=0.0)
        line = f"edges stretched {low:.3g} to {high:.3g} times, turns up to {self.turn:.0f} degrees; pieces {self.pieces[0]} -> {self.pieces[1]}"
        if np.isfinite(self.clearance).any():
            line += f"; clearance {self.clearance[0]:.3g} -> {self.clearance[1]:.3g}"
        return (", ".join(found) or "no tear, no fold, no crossing") + "\n" + line


def mesh_change(mesh: Mesh, before: Any, after: Any, *, tear: float = 10.0, fold: float = 90.0) -> MeshChange:
    """What a step, or a whole run, did to a curve or surface carried by tracers: tears, folds, self-intersections. From the mesh alone.

        torn     |after| / |before| of an edge  >  tear * the median of the edges within 3 (curves) or 2 (surfaces) edges of it
        folded   the mesh turns by more than `fold` degrees, and did not before; in the plane also: a triangle changed orientation

    DIAGNOSTIC at the mesh's resolution: the polygon, or the triangles, stand for the set. Only crossings are exact, for these
    places (signs of determinants without rounding). Two placements do not tell what happened on the way: strands may have
    passed through each other twice. A crossing of strands in a point of the mesh, as in the figure eight, is none.
    Host, about a second for 5,000 triangles; time O(pairs whose boxes overlap).

    Args:
        mesh: of `eq.shapes.mesh`, or of your own; a piece of a surface may be open.
        before: `(m, d)` places of its points, d >= 2, NumPy or JAX, any floating dtype; usually `mesh.points`.
        after: the same points later, finite or lost.
        tear: by how much an edge may outgrow its neighbours, > 1.
        fold: degrees, in (0, 180).

    Returns:
        `MeshChange`, with `.counts` and `.summary()`.

    Raises:
        ValueError, TypeError: places that do not fit the mesh; points before that are not finite.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> mesh = eq.shapes.mesh.circle(64)
        >>> x, y = mesh.points.T
        >>> change = eq.measure.mesh_change(mesh, mesh.points, jnp.stack([x * (y - 0.3), y], 1))       # a circle becomes an eight
        >>> change.counts["crossings"], change.counts["torn"]
        (1, 0)

    References:
        derived; orientation tests after Shewchuk, "Adaptive precision floating-point arithmetic", DCG 18 (1997).
    """
    checked(mesh)
    _checks.number(tear, "tear", above=1)
    _checks.number(fold, "fold", above=0, below=180)
    old, eps_old = _places(before, "before", mesh)
    new, eps_new = _places(after, "after", mesh)
    if old.shape != new.shape:
        msg = f"before, after: got shapes {old.shape} and {new.shape}; expected the same points in the same space."
        raise ValueError(msg)
    _checks.finite(old, "before")
    lost = ~(np.abs(new) <= FAR).all(1)
    new = np.where(lost[:, None], np.nan, new)
    curve, plane = not len(mesh.faces), old.shape[1] == 2

    length = local.lengths(old, mesh.edges)
    with np.errstate(divide="ignore", invalid="ignore"):
        stretch = np.nan_to_num(local.lengths(new, mesh.edges) / length, nan=1.0, posinf=np.inf)
    stretch[lost[mesh.edges].any(1)] = np.inf
    usual = local.usual_stretch(mesh, stretch, len(old), 3 if curve else 2)
    torn = np.isinf(stretch) | (stretch > tear * usual)
    num, label = local.pieces(len(old), mesh.edges)
    flat = [local.collapsed(x, mesh, eps) for x, eps in ((old, eps_old), (new, eps_new))]
    at_edges, at = (np.zeros(0, int), local.passages(mesh, old)) if curve else local.hinges(mesh)
    turn, was = local.turns(new, at, eps_new), local.turns(old, at, eps_old)
    folded = (turn > fold) & ~(was > fold)
    area = local.areas(old, mesh.faces), local.areas(new, mesh.faces)
    with np.errstate(divide="ignore", invalid="ignore"):
        det = np.where(flat[0][1], np.nan, area[1] / area[0])
    met = _meetings(mesh, old), _meetings(mesh, new)
    apart = [_clearance(mesh, x) for x in (old, new)]
    return MeshChange(
        stretch=stretch,
        torn=np.nonzero(torn)[0],
        pieces=(num, local.pieces(len(old), mesh.edges[~torn])[0] - int(lost.sum())),  # a lost point hangs on nothing
        lost=np.nonzero(lost)[0],
        collapsed_edges=np.nonzero(flat[1][0] & ~flat[0][0])[0],
        collapsed_faces=np.nonzero(flat[1][1] & ~flat[0][1])[0],
        turn=float(np.nanmax(turn, initial=0.0)),
        folded_vertices=np.unique(at[folded, 0]) if curve else np.zeros(0, int),
        folded_edges=np.sort(at_edges[folded[: len(at_edges)]]),
        det=det,
        flipped=np.nonzero((det < 0) & ~flat[1][1])[0] if plane else np.zeros(0, int),
        enclosed=np.stack([local.enclosed(mesh, x, label, num, eps) for x, eps in ((old, eps_old), (new, eps_new))], 1),
        crossings=_fresh(met[1][0], met[0][0]),
        touching=_fresh(met[1][1], np.concatenate(met[0])),
        crossings_before=len(met[0][0]),
        clearance=np.array([value for value, _ in apart]),
        clearance_at=np.array([where for _, where in apart]),
    )


def _places(x: Any, name: str, mesh: Mesh) -> tuple[np.ndarray, float]:
    """The points of a mesh in float64, and the rounding of the dtype that they came in."""
    if not hasattr(x, "dtype") or not jnp.issubdtype(x.dtype, jnp.floating):
        what = f"dtype {x.dtype}" if hasattr(x, "dtype") else type(x).__name__
        msg = f"{name}: got {what}; expected an array of a real floating dtype; write np.asarray({name}, 'float32')."
        raise TypeError(msg)
    if x.ndim != 2 or x.shape[0] != len(mesh.points) or x.shape[1] < 2:
        msg = f"{name}: got shape {x.shape}; expected ({len(mesh.points)}, d), d >= 2, one row for each point of the mesh."
        raise ValueError(msg)
    return np.asarray(x).astype(np.float64), float(jnp.finfo(x.dtype).eps)


def _meetings(mesh: Mesh, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of ids that cross, and pairs that touch; each `(c, 2)`, lower id first, in order."""
    kept = ~np.isnan(x).any(1)
    x = np.where(kept[:, None], x, 0.0)
    edges = np.nonzero(kept[mesh.edges].all(1))[0]
    in_space = bool(len(mesh.faces))
    faces = np.nonzero(kept[mesh.faces].all(1))[0] if x.shape[1] == 3 and in_space else np.zeros(0, int)
    cross, touch = [np.zeros((0, 2), int)], [np.zeros((0, 2), int)]
    if x.shape[1] == 2:
        rows = mesh.edges[edges]
        cells = near.boxes(x, rows)
        for i, j in near.overlapping(cells, cells):
            ahead = i < j
            i, j = i[ahead], j[ahead]
            apart = ~near.adjacent(rows[i], rows[j])
            found = exact.edges_meet(x, rows[i[apart]], rows[j[apart]])
            for pairs, hit in zip((cross, touch), found, strict=True):
                pairs.append(edges[np.stack([i[apart][hit], j[apart][hit]], 1)])
    elif len(faces):
        by_edge = local.faces_at_edges(mesh)
        rows, corners = mesh.edges[edges], mesh.faces[faces]
        for i, j in near.overlapping(near.boxes(x, rows), near.boxes(x, corners)):
            apart = ~near.adjacent(rows[i], corners[j])
            i, j = i[apart], j[apart]
            for pairs, hit in zip((cross, touch), exact.edge_meets_face(x, rows[i], corners[j]), strict=True):
                both = by_edge[edges[i[hit]]]
                pairs += [np.stack([both[:, k], faces[j[hit]]], 1)[both[:, k] >= 0] for k in range(both.shape[1])]
    crossing, meeting = (np.unique(np.sort(np.concatenate(pairs), axis=1), axis=0) for pairs in (cross, touch))
    return crossing, _fresh(meeting, crossing)


def _fresh(pairs: np.ndarray, old: np.ndarray) -> np.ndarray:
    """Those pairs that are not among the old ones."""
    base = max(int(pairs.max(initial=0)), int(old.max(initial=0))) + 1
    return pairs[~np.isin(pairs @ np.array([base, 1]), old @ np.array([base, 1]))]


def _clearance(mesh: Mesh, x: np.ndarray) -> tuple[float, tuple[int, int]]:
    cells = mesh.faces if len(mesh.faces) else mesh.edges
    if x.shape[1] <= cells.shape[1]:
        return np.nan, (-1, -1)
    kept = np.nonzero(~np.isnan(x[cells]).any((1, 2)))[0]
    best, (i, j) = near.closest(x, cells[kept])
    return best, (int(kept[i]), int(kept[j])) if i >= 0 else (-1, -1)
