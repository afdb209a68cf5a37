"""The record of a partition, row for row, and its finite-volume Laplacian."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from eqdyn.partition._network import Network


class Cell(NamedTuple):
    """One cell, as the convex hull of its vertices.

    Fields:
        vertices: `(v, d)`.
        on: `(v, f)`, which vertices lie on which facets.
        facets: `(f,)`, row of `network.rows(code)`, or `-1 - k` for wall k of the region.
        normals: `(f, d)`, unit, outward.
        areas: `(f,)`, [z]^(d-1); NaN where not measured.
    """

    vertices: np.ndarray
    on: np.ndarray
    facets: np.ndarray
    normals: np.ndarray
    areas: np.ndarray


class Walls(NamedTuple):
    """Facets with a cell of the partition on one side: `cells` `(w,)`, `areas` `(w,)` [z]^(d-1), outward `normals` `(w, d)`."""

    cells: np.ndarray
    areas: np.ndarray
    normals: np.ndarray


class Partition(NamedTuple):
    """What `build` found, n cells and e facets between them, row for row. EXACT up to rounding.

    Fields:
        codes: `(n, m)` bool, which hidden units are above 0 (of a pool: which is the largest).
        volumes: `(n,)`, [z]^d.
        masses: `(n,)`, the share of points in the cell; NaN without points.
        centres: `(n, d)`, the mean of the cell's vertices.
        jacobians, offsets: `(n, out, d)`, `(n, out)`, the network on the cell, `J z + c`.
        edges: `(e, 2)`, the two cells of a facet.
        units: `(e,)`, the hidden unit whose 0 it is; of a pool, the one that takes over.
        facet_areas: `(e,)`, [z]^(d-1).
        normals: `(e, d)`, unit, from the first cell to the second.
        kinks: `(e,)`, `|u|` of the jump `J_j - J_i = u n^t`, [output]/[z].
        walls: facets on the region's border.
        rim: facets beyond which no cell is listed; none where all cells are.
        cell_of: `(num points,)`, the cell of each point; empty without points.
        cells: n `Cell`.
        region_volume: of the region, [z]^d: the sum of `volumes` where all cells are listed.
        network: what was cut.
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
    rim: Walls
    cell_of: np.ndarray
    cells: tuple[Cell, ...]
    region_volume: float
    network: Network

    @property
    def vertices(self) -> tuple[np.ndarray, ...]:
        return tuple(cell.vertices for cell in self.cells)

    def locate(self, points: Any) -> np.ndarray:
        """The cell of each point `(num, d)`; -1 where it is not listed. `(num,)`.

        Raises:
            ValueError: points that do not fit.
        """
        place = {code.tobytes(): k for k, code in enumerate(self.codes)}
        return np.array([place.get(code.tobytes(), -1) for code in self.network.codes(points_of(points, self.network.dim))], int)

    def lengths(self, centres: np.ndarray | None = None) -> np.ndarray:
        """`(e,)`, distances of the centres (or those given) of neighbours, [z]."""
        at = self.centres if centres is None else np.asarray(centres, np.float64)
        if at.shape != self.centres.shape or not np.isfinite(at).all():
            msg = f"centres: got shape {at.shape}, or values that are not finite; expected {self.centres.shape}, a point for every cell."
            raise ValueError(msg)
        return np.linalg.norm(at[self.edges[:, 0]] - at[self.edges[:, 1]], axis=1)

    def stiffness(self, centres: np.ndarray | None = None, density: np.ndarray | None = None) -> Any:
        """`A = sum_e w_e (e_i - e_j)(e_i - e_j)^t`, `w_e = area / |c_i - c_j|`; with a density, times its mean over the two cells."""
        from scipy import sparse

        measured(self)
        weight = self.facet_areas / self.lengths(centres)
        if density is not None:
            weight = weight * _density(density, len(self.codes))[self.edges].mean(1)
        i, j = self.edges.T
        size = len(self.codes)
        off = sparse.coo_matrix((np.r_[weight, weight], (np.r_[i, j], np.r_[j, i])), (size, size)).tocsr()
        return (sparse.diags(np.asarray(off.sum(1)).ravel()) - off).tocsr()

    def laplacian(self, centres: np.ndarray | None = None, density: np.ndarray | None = None) -> Any:
        """Finite volumes: `L = M_0^-1 A`, `M_0 = diag(volume)`; sparse `(n, n)`, [z]^-2. Constants are in its kernel.

        Consistent with the continuous Neumann operator `-Lap` (with a density rho, `-(1/rho) div(rho grad)`) where the line between centres is
        normal to the facet, as in grids and Voronoi cells; otherwise a DIAGNOSTIC.

        Args:
            centres: `(n, d)`, instead of `self.centres`: of Voronoi cells, their sites.
            density: `(n,)`, positive.

        Raises:
            ValueError: arrays that do not fit, or a partition without measures.
        """
        from scipy import sparse

        masses = self.volumes if density is None else self.volumes * _density(density, len(self.codes))
        return sparse.diags(1 / masses) @ self.stiffness(centres, density)


def points_of(points: Any, dim: int) -> np.ndarray:
    """Checked."""
    z = np.asarray(points, np.float64)
    if z.ndim != 2 or z.shape[1] != dim or len(z) == 0 or not np.isfinite(z).all():
        msg = f"points: got shape {z.shape}, or values that are not finite; expected (num, {dim})."
        raise ValueError(msg)
    return z


def measured(found: Partition) -> None:
    """Refuse a partition without volumes and areas."""
    if len(found.codes) and np.isnan(found.volumes).any():
        msg = "partition: its volumes and areas were not measured; write build(..., measures=True)."
        raise ValueError(msg)


def _density(density: Any, num: int) -> np.ndarray:
    rho = np.asarray(density, np.float64)
    if rho.shape != (num,) or not np.all(np.isfinite(rho) & (rho > 0)):
        msg = f"density: got shape {rho.shape}, or values that are not positive; expected ({num},), positive."
        raise ValueError(msg)
    return rho


def asked_for(found: Any) -> Partition:
    """Checked."""
    if not isinstance(found, Partition):
        msg = f"partition: got {type(found).__name__}; expected what partition.build returns."
        raise TypeError(msg)
    return found


def progress_of(items: Any, progress: bool | None, what: str, total: int | None = None) -> Any:
    """The items, with a bar where one is asked for."""
    if not progress:
        return items
    from tqdm import tqdm

    return tqdm(items, desc=what, total=total, unit="cell")
