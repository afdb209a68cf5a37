"""Angles, in-balls, mean curvature and linear pieces of cells that are listed with their vertices."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from eqdyn.partition._partition import Cell, Partition, asked_for, measured
from eqdyn.partition._polytope import volume

_FLAT = 1e-9  # singular value, of the largest


class Ridges(NamedTuple):
    """Where two facets of a cell meet, in d - 2 dimensions; row for row.

    Fields:
        cells: `(r,)`, the cell.
        first, second: `(r,)`, columns of its facets in `partition.cells[k]`.
        angles: `(r,)`, the dihedral angle `pi - arccos <n_j, n_k>` inside the cell, rad.
        sizes: `(r,)`, [z]^(d-2); 1 for the corners of a plane; NaN where not measured.
    """

    cells: np.ndarray
    first: np.ndarray
    second: np.ndarray
    angles: np.ndarray
    sizes: np.ndarray


class Balls(NamedTuple):
    """The largest ball in each cell: `centres (n, d)`, `radii (n,)` [z]. EXACT, by a linear program each."""

    centres: np.ndarray
    radii: np.ndarray


def ridges(partition: Partition) -> Ridges:
    """Dihedral angles of all cells, at the ridges where two of their facets meet. EXACT.

    Args:
        partition: of `build`, in at least 2 dimensions.

    Returns:
        `Ridges`.

    Raises:
        TypeError, ValueError: no partition, or one of a line.

    Example:
        >>> import numpy as np, eqdyn as eq
        >>> found = eq.partition.build([(np.eye(2), np.zeros(2)), (np.ones((1, 2)), np.zeros(1))])
        >>> angles = eq.partition.ridges(found).angles      # four squares
        >>> len(angles), float(angles.min() * 2 / np.pi), float(angles.max() * 2 / np.pi)
        (16, 1.0, 1.0)

    References:
        Gajer and Ravel, arXiv:2508.02080.
    """
    dim = asked_for(partition).centres.shape[1]
    if dim < 2:
        msg = "partition: got one of a line; expected at least 2 dimensions, where facets have angles."
        raise ValueError(msg)
    rows = [(k, one, other, angle, size) for k, cell in enumerate(partition.cells) for one, other, angle, size in _of_cell(cell, dim)]
    columns = [np.array([row[k] for row in rows]) for k in range(5)]
    return Ridges(*(column.astype(int) for column in columns[:3]), *(column.astype(float) for column in columns[3:]))


def _of_cell(cell: Cell, dim: int) -> list[tuple[int, int, float, float]]:
    common = cell.on.T.astype(int) @ cell.on
    found = []
    sized = not np.isnan(cell.areas).any()
    for one, other in zip(*np.nonzero(np.triu(common, 1) >= dim - 1), strict=True):
        corners = cell.vertices[cell.on[:, one] & cell.on[:, other]]
        if len(corners) < dim - 1 or not _spans(corners, dim - 2):
            continue
        angle = np.pi - np.arccos(np.clip(cell.normals[one] @ cell.normals[other], -1, 1))
        found.append((int(one), int(other), float(angle), _size(corners, cell.normals[[one, other]]) if sized else np.nan))
    return found


def _spans(corners: np.ndarray, dim: int) -> bool:
    """Whether more facets than two leave no more than a face of fewer dimensions."""
    if len(corners) == dim + 1 or dim == 0:
        return True
    values = np.linalg.svd(corners - corners.mean(0), compute_uv=False)
    return int(np.sum(values > _FLAT * values[0])) >= dim


def _size(corners: np.ndarray, normals: np.ndarray) -> float:
    if corners.shape[1] == 2:
        return 1.0
    basis = np.linalg.svd(normals)[2][2:]
    return volume((corners - corners.mean(0)) @ basis.T)


def mean_curvature(partition: Partition) -> np.ndarray:
    """Mean curvature of each cell's border, over its volume: `(1/2) sum_ridges size * (pi - angle) / volume`; `(n,)`, [z]^-2. EXACT.

    Of a polygon it is `pi / area`; of a cube of side a, `3 pi / a^2`.

    Args:
        partition: of `build`, with measures, in at least 2 dimensions.

    Raises:
        TypeError, ValueError: as `ridges`, or a partition without measures.

    Example:
        >>> import numpy as np, eqdyn as eq
        >>> found = eq.partition.build([(np.eye(3), np.zeros(3)), (np.ones((1, 3)), np.zeros(1))])
        >>> np.round(eq.partition.mean_curvature(found) / np.pi, 12).tolist()      # eight cubes of side 1
        [3.0, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0]

    References:
        Gajer and Ravel, arXiv:2508.02080; Cohen-Steiner and Morvan, Restricted Delaunay triangulations and normal cycle (2003).
    """
    measured(asked_for(partition))
    found = ridges(partition)
    return 0.5 * np.bincount(found.cells, found.sizes * (np.pi - found.angles), len(partition.codes)) / partition.volumes


def chebyshev(partition: Partition) -> Balls:
    """The largest ball in each cell. EXACT, by a linear program each: `max r` such that `n_j z + r <= h_j`.

    Args:
        partition: of `build`.

    Returns:
        `Balls`.

    Raises:
        TypeError: no partition.

    Example:
        >>> import numpy as np, eqdyn as eq
        >>> found = eq.partition.build([(np.eye(2), np.zeros(2)), (np.ones((1, 2)), np.zeros(1))])
        >>> eq.partition.chebyshev(found).radii.tolist()
        [0.5, 0.5, 0.5, 0.5]
    """
    balls = [largest_ball(cell.normals, _heights(cell)) for cell in asked_for(partition).cells]
    dim = partition.centres.shape[1]
    return Balls(np.array([centre for centre, _ in balls]).reshape(-1, dim), np.array([radius for _, radius in balls]))


def _heights(cell: Cell) -> np.ndarray:
    """`h_j` of `n_j z <= h_j`, from the vertices on the facet."""
    along = cell.vertices @ cell.normals.T
    return np.where(cell.on, along, 0).sum(0) / cell.on.sum(0)


def largest_ball(normals: np.ndarray, heights: np.ndarray) -> tuple[np.ndarray, float]:
    """Of `{z: normals z <= heights}`, bounded; normals need not be unit."""
    from scipy.optimize import linprog

    dim = normals.shape[1]
    asked = np.concatenate([normals, np.linalg.norm(normals, axis=1)[:, None]], axis=1)
    found = linprog(np.r_[np.zeros(dim), -1.0], A_ub=asked, b_ub=heights, bounds=[(None, None)] * dim + [(0, None)], method="highs")
    if found.status != 0:
        msg = f"cell: its largest ball was not found: {found.message}"
        raise ArithmeticError(msg)
    return found.x[:-1], float(found.x[-1])


def pieces(partition: Partition, *, tolerance: float = 1e-12) -> np.ndarray:
    """The linear piece of each cell: cells across facets of no kink belong together. `(n,)`, numbers from 0.

    Cells are the geometry of activations, pieces that of the function. EXACT up to rounding for the default; with a larger tolerance, the pieces that
    are left when kinks as weak are taken for none, from facet to facet.

    Args:
        partition: of `build`.
        tolerance: kinks up to it are none, [output]/[z].

    Raises:
        TypeError, ValueError: no partition, or a negative tolerance.

    Example:
        >>> import numpy as np, eqdyn as eq
        >>> both = [(np.array([[1.0], [-1.0]]), np.zeros(2)), (np.array([[1.0, -1.0]]), np.zeros(1))]      # relu(z) - relu(-z) = z
        >>> found = eq.partition.build(both)
        >>> len(found.codes), eq.partition.pieces(found).tolist()
        (2, [0, 0])

    References:
        Gajer and Ravel, arXiv:2508.02080.
    """
    from scipy import sparse

    if not tolerance >= 0:
        msg = f"tolerance: got {tolerance!r}; expected at least 0."
        raise ValueError(msg)
    size = len(asked_for(partition).codes)
    i, j = partition.edges[partition.kinks <= tolerance].T
    return sparse.csgraph.connected_components(sparse.coo_matrix((np.ones(len(i)), (i, j)), (size, size)), directed=False)[1]
