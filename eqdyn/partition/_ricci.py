"""Ricci curvature of the edges between cells: by transport over the graph or the data (Ollivier), and by counting (Forman)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from eqdyn import _checks
from eqdyn.partition._shortest import problems
from eqdyn.partition._transport import transports

_ROUNDING = 4 * np.finfo(float).eps  # of a probability: what differs by less cancels
_RANGE = 1e-12  # shortest over longest length


def ricci_ollivier(edges: Any, masses: Any = None, lengths: Any = None, *, laziness: float = 0.5, progress: Any = None) -> np.ndarray:
    """Statistical Ricci curvature of every edge: how much nearer to each other the neighbourhoods of its ends are than the ends.

        kappa_ij = 1 - W_1(m_i, m_j) / d(i, j),   m_i = laziness on i, the rest on its neighbours in proportion to their masses

    d is the length of the shortest path, maybe less than the edge's own; W_1 has d as its cost. EXACT, by linear programs: to about 1e-13 times
    the longest distance between the two neighbourhoods over d(i, j). At most 1; positive where neighbourhoods overlap, negative at bottlenecks.
    20,000 edges between 5,000 cells of up to 30 neighbours take 8 to 12 s on one core; one edge between cells of 200 neighbours 0.3 s.

    Args:
        edges: `(e, 2)` whole numbers, each pair of cells once, as `Partition.edges`.
        masses: `(n,)`, >= 0, any unit, as `Partition.masses`; None for equal ones. A cell of mass 0 is given nothing by its neighbours, but where
            all neighbours of a cell have mass 0 they are given equal shares. A cell's own mass does not matter to its own m.
        lengths: `(e,)`, > 0, any unit; None for 1 each.
        laziness: in [0, 1), what stays.
        progress: True for a bar, or a function `(done, total)` of edges.

    Returns:
        `(e,)` float64, no unit.

    Raises:
        ValueError: edges that are not pairs of different cells or come twice; masses or lengths that do not fit; laziness outside [0, 1).
        TypeError: laziness that is not a number.
        RuntimeError: the solver gave up.

    Example:
        >>> import eqdyn as eq
        >>> complete = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
        >>> eq.partition.ricci_ollivier(complete).round(4).tolist()  # n / (2 (n - 1))
        [0.6667, 0.6667, 0.6667, 0.6667, 0.6667, 0.6667]

    References:
        Gajer and Ravel, arXiv:2508.02080; Ollivier, Journal of Functional Analysis 256 (2009) 810.
    """
    from scipy import sparse

    mass = None if masses is None else _masses(masses)
    pairs = _edges(edges, None if mass is None else len(mass))
    length = _lengths(lengths, len(pairs))
    stays = _checks.number(laziness, "laziness", least=0.0, below=1.0)
    if len(pairs) == 0:
        return np.zeros(0)
    cells, ends = np.unique(pairs, return_inverse=True)
    i, j = ends.reshape(pairs.shape).T
    num, one, other = len(cells), np.r_[i, j], np.r_[j, i]
    share = np.ones(2 * len(pairs)) if mass is None else mass[cells][other]
    share[np.bincount(one, share, num)[one] == 0] = 1.0  # all neighbours have mass 0
    share = (1 - stays) * (share / np.bincount(one, share, num)[one])
    all_cells = np.arange(num)
    measures = sparse.csr_array((np.r_[share, np.full(num, stays)], (np.r_[one, all_cells], np.r_[other, all_cells])), (num, num))
    graph = sparse.csr_matrix((np.r_[length, length], (one, other)), (num, num))  # 32-bit indices, which old SciPy's paths ask for
    far = np.zeros(num)
    np.maximum.at(far, one, np.r_[length, length])
    # d is a metric, so W_1 depends on the difference of the measures alone: what both have stays where it is
    apart = (measures[i] - measures[j]).tocsr()
    apart.data[np.abs(apart.data) <= _ROUNDING] = 0
    apart.eliminate_zeros()
    limits, done = far[i] + far[j] + length, 0
    curvature = np.empty(len(pairs))
    with _shown(progress, len(pairs)) as shown:
        for some, direct in problems(apart, graph, np.c_[i, j], limits):
            begun = done
            for costs in transports(some):
                past = done + len(costs)
                curvature[done:past] = 1 - costs / direct[done - begun : past - begun]
                done = past
                shown(done)
    return curvature


def ricci_ollivier_points(points: Any, cell_of: Any, edges: Any, *, most: int = 200, seed: int = 0) -> np.ndarray:
    """Statistical Ricci curvature of every edge by the data of its two cells.

        kappa_ij = 1 - W_1(m_i, m_j) / |mean_i - mean_j|,   m_i = equal masses on the data of cell i, Euclidean cost

    0 where one cell's data are those of the other, moved; never above, since W_1 is at least the distance of means; the lower, the more they differ
    in shape against that distance. EXACT for these data, up to rounding, where both cells have at most `most` points; else an ESTIMATE, from `most`
    drawn without replacement and their mean: far off, as a rule too low, where means are near each other against the spread of the data. An edge
    between 200 and 199 points takes 0.3 s, between 200 and 200 2 ms.

    Args:
        points: `(num, d)`, [z].
        cell_of: `(num,)`, the cell of each point, as `Partition.cell_of`; -1 for none.
        edges: `(e, 2)` whole numbers, each pair of cells once.
        most: points of a cell.
        seed: of the draw.

    Returns:
        `(e,)` float64, no unit, <= 0 up to rounding; NaN where a cell has no data or the two means coincide.

    Raises:
        ValueError: points that are not finite, or arguments that do not fit each other.
        RuntimeError: the solver gave up.

    Example:
        >>> import numpy as np, eqdyn as eq
        >>> cloud = np.random.default_rng(0).random((20, 2))
        >>> data, cell_of = np.concatenate([cloud, cloud + 3, 2 * cloud]), np.repeat([0, 1, 2], 20)
        >>> moved, grown = eq.partition.ricci_ollivier_points(data, cell_of, [(0, 1), (0, 2)])
        >>> bool(abs(moved) < 1e-12), bool(grown < -0.01)
        (True, True)

    References:
        Gajer and Ravel, arXiv:2508.02080; Ollivier, Journal of Functional Analysis 256 (2009) 810.
    """
    from scipy.spatial.distance import cdist

    pairs = _edges(edges, None)
    z, cell = _data(points, cell_of)
    order = np.random.default_rng(_checks.count(seed, "seed")).permutation(len(z))  # one for all: the cells' names do not matter
    order = order[np.argsort(cell[order], kind="stable")]
    begin, end = (np.searchsorted(cell[order], pairs.ravel(), side=side).reshape(pairs.shape) for side in ("left", "right"))
    end = np.minimum(end, begin + _checks.count(most, "most", least=1))
    z = z[order]

    curvature = np.full(len(pairs), np.nan)
    full = np.flatnonzero((end > begin).all(1))
    clouds = [[z[a:b] for a, b in zip(begin[k], end[k], strict=True)] for k in full]
    between = np.array([np.linalg.norm(a.mean(0) - b.mean(0)) for a, b in clouds])
    some = ((np.full(len(a), 1 / len(a)), np.full(len(b), 1 / len(b)), cdist(a, b)) for a, b in clouds)
    values = np.concatenate([np.zeros(0), *transports(some)])
    apart = between > 0
    curvature[full[apart]] = 1 - values[apart] / between[apart]
    return curvature


def ricci_forman(edges: Any, triangles: Any = None, *, num_vertices: int | None = None) -> np.ndarray:
    """Forman's curvature of every edge of a graph, or of a complex with triangles; all weights 1.

        4 - degree_i - degree_j + 3 (number of triangles on the edge)

    EXACT. O(e + t): where transport takes too long.

    Args:
        edges: `(e, 2)` whole numbers, each pair of cells once.
        triangles: `(t, 3)` whole numbers, each triangle once, its sides among the edges; None for a graph.
        num_vertices: cells; a number in `edges` that is not below it is refused. None for no such check.

    Returns:
        `(e,)` int64, no unit.

    Raises:
        ValueError: edges or triangles that come twice, are no pairs or triples of different cells, or do not fit each other.

    Example:
        >>> import eqdyn as eq
        >>> eq.partition.ricci_forman([(0, 1), (1, 2), (2, 0), (2, 3)]).tolist()
        [0, -1, -1, 0]
        >>> eq.partition.ricci_forman([(0, 1), (1, 2), (2, 0), (2, 3)], [(0, 1, 2)]).tolist()
        [3, 2, 2, 0]

    References:
        Forman, Discrete and Computational Geometry 29 (2003) 323; Gajer and Ravel, arXiv:2508.02080.
    """
    pairs = _edges(edges, None if num_vertices is None else _checks.count(num_vertices, "num_vertices", least=1))
    _, ends, degree = np.unique(pairs, return_inverse=True, return_counts=True)
    curvature = 4 - degree[ends.reshape(pairs.shape)].sum(1)
    if triangles is None:
        return curvature
    place = {pair: at for at, pair in enumerate(map(tuple, np.sort(pairs, axis=1).tolist()))}
    for a, b, c in _simplices(triangles, "triangles", 3).tolist():
        for side in ((a, b), (a, c), (b, c)):
            if side not in place:
                msg = f"triangles: got {(a, b, c)}, whose side {side} is not among the edges; expected all sides there; write it into edges."
                raise ValueError(msg)
            curvature[place[side]] += 3
    return curvature


def _edges(edges: Any, num: int | None) -> np.ndarray:
    return _simplices(edges, "edges", 2, num)


def _simplices(value: Any, name: str, size: int, num: int | None = None) -> np.ndarray:
    """Checked; triangles with their cells in order, edges as they came."""
    found = np.asarray(value)
    if found.ndim != 2 or found.shape[1] != size or not np.issubdtype(found.dtype, np.integer):
        msg = f"{name}: got shape {found.shape} {found.dtype}; expected whole numbers (number, {size}); write np.zeros((0, {size}), int) for none."
        raise ValueError(msg)
    found = found.astype(np.int64)
    if found.size and (found.min() < 0 or (num is not None and found.max() >= num)):
        below = "" if num is None else f" and below {num}, the number of cells"
        msg = f"{name}: got cells {found.min()} to {found.max()}; expected numbers >= 0{below}."
        raise ValueError(msg)
    ordered = np.sort(found, axis=1)
    same = np.flatnonzero((ordered[:, 1:] == ordered[:, :-1]).any(1))
    if len(same):
        msg = f"{name}: got {found[same[0]].tolist()}, row {same[0]}; expected different cells; write {name}[{name}[:, 0] != {name}[:, 1]]."
        raise ValueError(msg)
    once, times = np.unique(ordered, axis=0, return_counts=True)
    if len(once) < len(found):
        msg = (
            f"{name}: got {once[times > 1][0].tolist()} twice, in one order or another; expected each once; write np.unique(np.sort({name}), axis=0)."
        )
        raise ValueError(msg)
    return found if size == 2 else ordered


def _masses(masses: Any) -> np.ndarray:
    mass = np.asarray(masses, np.float64)
    if mass.ndim != 1 or not (np.isfinite(mass).all() and (mass >= 0).all()):
        msg = f"masses: got shape {mass.shape}, or values that are negative or not finite; expected (n,), >= 0; write masses=None for equal ones."
        raise ValueError(msg)
    return mass / mass.max() if mass.max(initial=0) > 0 else mass


def _lengths(lengths: Any, num: int) -> np.ndarray:
    """In units of the longest."""
    if lengths is None:
        return np.ones(num)
    length = np.asarray(lengths, np.float64)
    if length.shape != (num,) or not (np.isfinite(length).all() and (length > 0).all()):
        msg = f"lengths: got shape {length.shape}, or values that are not positive and finite; expected ({num},), > 0, one an edge."
        raise ValueError(msg)
    if num and length.min() < _RANGE * length.max():
        msg = (
            f"lengths: got {length.min()} to {length.max()}; expected the shortest at least {_RANGE} of the longest; write np.maximum(lengths, ...)."
        )
        raise ValueError(msg)
    return length / length.max() if num else length


def _data(points: Any, cell_of: Any) -> tuple[np.ndarray, np.ndarray]:
    z, cell = np.asarray(points, np.float64), np.asarray(cell_of)
    if z.ndim != 2 or 0 in z.shape or not np.isfinite(z).all():
        msg = f"points: got shape {z.shape}, or values that are not finite; expected (num, d), finite."
        raise ValueError(msg)
    if cell.shape != z.shape[:1] or not np.issubdtype(cell.dtype, np.integer) or cell.min() < -1:
        msg = f"cell_of: got shape {cell.shape} {cell.dtype}, or numbers below -1; expected ({len(z)},), the whole number of each point's cell."
        raise ValueError(msg)
    return z, cell


@contextlib.contextmanager
def _shown(progress: Any, total: int) -> Iterator[Callable[[int], Any]]:
    """What is called with the number of edges done."""
    if progress in (None, False):
        yield lambda done: None
    elif callable(progress):
        yield lambda done: progress(done, total)
    else:
        from tqdm.auto import tqdm

        with tqdm(total=total, unit="edge", desc="ricci", leave=False) as bar:
            yield lambda done: bar.update(done - bar.n)
