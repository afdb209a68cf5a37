"""The complex of cells: cells are its vertices, facets its edges, cells that meet its simplices; boundaries, Betti numbers, Hodge Laplacians."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from eqdyn.partition._partition import Partition, asked_for

_SAME = 1e-9  # of the partition's size: corners as near are one
MOST = 2_000_000  # simplices


class Complex(NamedTuple):
    """A simplicial complex: `simplices[k]` is `(n_k, k + 1)`, rising numbers of cells, in lexicographic order, each once; all faces are there."""

    simplices: tuple[np.ndarray, ...]

    @property
    def max_dim(self) -> int:
        return len(self.simplices) - 1

    @property
    def euler(self) -> int:
        """The alternating sum of the numbers of simplices that are held."""
        return sum((-1) ** k * len(held) for k, held in enumerate(self.simplices))

    def boundary(self, k: int) -> Any:
        """`B_k`, sparse `(n_(k-1), n_k)`: face i of a simplex with sign (-1)^i. `B_(k-1) B_k = 0`, exactly."""
        from scipy import sparse

        self._known(k, least=1)
        faces, simplices = self.simplices[k - 1], self.simplices[k]
        place = {face.tobytes(): row for row, face in enumerate(faces)}
        rows = [place[np.delete(simplex, i).tobytes()] for simplex in simplices for i in range(k + 1)]
        signs = np.tile((-1.0) ** np.arange(k + 1), len(simplices))
        columns = np.repeat(np.arange(len(simplices)), k + 1)
        return sparse.csr_matrix((signs, (rows, columns)), (len(faces), len(simplices)))

    def betti(self) -> tuple[int, ...]:
        """Betti numbers over Z/2, of degrees 0 ... max_dim - 1. EXACT. (That of degree max_dim would need the simplices of the next.)"""
        ranks = [0, *(_rank(self.boundary(k)) for k in range(1, self.max_dim + 1))]
        return tuple(len(self.simplices[k]) - ranks[k] - ranks[k + 1] for k in range(self.max_dim))

    def hodge(self, k: int, weights: Sequence[Any] | None = None) -> Any:
        """`L_k = d_(k-1) d_(k-1)* + d_k* d_k`, sparse `(n_k, n_k)`, adjoints in the weights; its kernel has the dimension of the Betti number.

        Self-adjoint in the inner product of `weights[k]`. Of degree 0 with `weights = (volumes, area / length)` it is the finite-volume Laplacian.

        Args:
            k: 0 ... max_dim - 1.
            weights: positive arrays `(n_k,)`, one for every degree; None for 1 everywhere.

        Raises:
            ValueError: a degree that is not held, or weights that do not fit.
        """
        from scipy import sparse

        self._known(k, least=0, most=self.max_dim - 1)
        w = self._weights(weights)
        up = self.boundary(k + 1).T
        found = sparse.diags(1 / w[k]) @ up.T @ sparse.diags(w[k + 1]) @ up
        if k:
            down = self.boundary(k).T
            found = found + down @ sparse.diags(1 / w[k - 1]) @ down.T @ sparse.diags(w[k])
        return found.tocsr()

    def extended_laplacian(self, partition: Partition, weights: Mapping[int, float], masses: Mapping[int, Any] | None = None) -> Any:
        """`L_ext = M_0^-1 (A + sum_p w_p sum_sigma m_sigma C_sigma)`; sparse `(n, n)`, [z]^-2. Constants are in its kernel.

        `C_sigma` has 1 on the diagonal of the simplex's cells and `-1 / p` beside it (p + 1 cells: its rows sum to 0, which `-1 / (p + 1)` would not
        do). Positive semidefinite in the inner product of volumes. Products of consecutive boundaries, as the source has them, are identically 0.

        Args:
            partition: the one this complex is of, with measures.
            weights: `w_p >= 0` by degree p of simplices, 2 or more.
            masses: `m_sigma` by degree, `(n_p,)`; by default the mean of `area / length` over those of its edges that are facets.

        Raises:
            ValueError: degrees that are not held, weights or masses that are negative or do not fit.

        References:
            Gajer and Ravel, arXiv:2508.02080, with the clique matrix corrected.
        """
        from scipy import sparse

        size = len(partition.codes)
        stiffness = partition.stiffness()
        for p, weight in weights.items():
            self._known(p, least=2)
            if not (np.isfinite(weight) and weight >= 0):
                msg = f"weights[{p}]: got {weight!r}; expected a number of at least 0."
                raise ValueError(msg)
            sigma = self.simplices[p]
            mass = self._mean_weight(stiffness, sigma) if masses is None or p not in masses else np.asarray(masses[p], np.float64)
            if mass.shape != (len(sigma),) or not np.all(mass >= 0):
                msg = f"masses[{p}]: got shape {mass.shape}, or negative values; expected ({len(sigma)},)."
                raise ValueError(msg)
            pairs = list(itertools.permutations(range(p + 1), 2))
            i, j = (np.concatenate([sigma[:, pair[side]] for pair in pairs]) for side in (0, 1))
            off = sparse.coo_matrix((np.tile(-weight * mass / p, len(pairs)), (i, j)), (size, size)).tocsr()
            stiffness = stiffness + off - sparse.diags(np.asarray(off.sum(1)).ravel())
        return sparse.diags(1 / partition.volumes) @ stiffness

    @staticmethod
    def _mean_weight(stiffness: Any, sigma: np.ndarray) -> np.ndarray:
        pairs = list(itertools.combinations(range(sigma.shape[1]), 2))
        each = np.stack([-np.asarray(stiffness[sigma[:, a], sigma[:, b]]).reshape(-1) for a, b in pairs]) if len(sigma) else np.zeros((1, 0))
        return each.sum(0) / np.maximum((each > 0).sum(0), 1)

    def _known(self, k: int, *, least: int, most: int | None = None) -> None:
        top = self.max_dim if most is None else most
        if not least <= k <= top:
            msg = f"degree: got {k}; expected {least} to {top}; write complex_of(..., max_dim={k + 1}) for more."
            raise ValueError(msg)

    def _weights(self, weights: Sequence[Any] | None) -> list[np.ndarray]:
        if weights is None:
            return [np.ones(len(held)) for held in self.simplices]
        arrays = [np.asarray(w, np.float64) for w in weights]
        if [a.shape for a in arrays] != [(len(held),) for held in self.simplices] or not all(np.all(np.isfinite(a) & (a > 0)) for a in arrays):
            msg = f"weights: got shapes {[a.shape for a in arrays]}; expected {[(len(held),) for held in self.simplices]}, positive."
            raise ValueError(msg)
        return arrays


def complex_of(partition: Partition, *, meet: str = "facet", max_dim: int = 2) -> Complex:
    """The complex of a partition's cells. EXACT for the cells as they were listed.

    Args:
        partition: of `build`.
        meet: "facet": cells that share a facet have an edge, and cells that do so pairwise and have a common corner a simplex. Between the cells of
            hyperplanes in general position there are no triangles then: across a facet one bit changes, and the graph has two colours.
            "corner": all sets of cells with a common point, the nerve: by the nerve theorem its Betti numbers are those of the cells' union.
        max_dim: highest dimension of simplices.

    Returns:
        `Complex`; cells are numbered as in the partition.

    Raises:
        TypeError, ValueError: arguments that make no sense, or more than 2,000,000 simplices.

    Example:
        >>> import numpy as np, eqdyn as eq
        >>> found = eq.partition.build([(np.eye(2), np.zeros(2)), (np.ones((1, 2)), np.zeros(1))])      # four squares
        >>> [len(held) for held in eq.partition.complex_of(found).simplices], eq.partition.complex_of(found).betti()
        ([4, 4, 0], (1, 1))
        >>> nerve = eq.partition.complex_of(found, meet="corner")
        >>> [len(held) for held in nerve.simplices], nerve.betti()      # a tetrahedron
        ([4, 6, 4], (1, 0))

    References:
        Gajer and Ravel, arXiv:2508.02080.
    """
    asked_for(partition)
    if meet not in ("facet", "corner"):
        msg = f"meet: got {meet!r}; expected 'facet' or 'corner'."
        raise ValueError(msg)
    if not isinstance(max_dim, int) or max_dim < 1:
        msg = f"max_dim: got {max_dim!r}; expected a whole number of at least 1."
        raise ValueError(msg)
    size = len(partition.codes)
    around, _ = corners(partition)
    edges = {(int(min(pair)), int(max(pair))) for pair in partition.edges}
    found: list[set[tuple[int, ...]]] = [{(k,) for k in range(size)}, set(edges) if meet == "facet" else set()]
    found += [set() for _ in range(max_dim - 1)]
    for cells in {tuple(cells) for cells in around}:
        for k in range(1, max_dim + 1):
            for some in itertools.combinations(cells, k + 1):
                if meet == "corner" or all(pair in edges for pair in itertools.combinations(some, 2)):
                    found[k].add(some)
            if len(found[k]) > MOST:
                msg = f"max_dim: got {max_dim}, with more than {MOST:,} simplices of dimension {k}; write max_dim={max(1, k - 1)}."
                raise ValueError(msg)
    return Complex(tuple(np.array(sorted(held), int).reshape(-1, k + 1) for k, held in enumerate(found[: max_dim + 1])))


def corners(partition: Partition) -> tuple[list[np.ndarray], np.ndarray]:
    """Where cells meet: of each corner the cells around it (rising), and its place `(c, d)`."""
    from scipy import sparse
    from scipy.spatial import cKDTree

    if not len(partition.codes):
        return [], np.zeros((0, partition.centres.shape[1]))
    at = np.concatenate(partition.vertices)
    cell = np.repeat(np.arange(len(partition.codes)), [len(v) for v in partition.vertices])
    near = cKDTree(at).query_pairs(_SAME * np.ptp(at, axis=0).max(), output_type="ndarray")
    graph = sparse.coo_matrix((np.ones(len(near)), (near[:, 0], near[:, 1])), (len(at), len(at)))
    num, corner = sparse.csgraph.connected_components(graph, directed=False)
    order = np.lexsort((cell, corner))
    cuts = np.searchsorted(corner[order], np.arange(1, num))
    place = np.stack([np.bincount(corner, column) for column in at.T], axis=1) / np.bincount(corner)[:, None]
    return [np.unique(cells) for cells in np.split(cell[order], cuts)], place


def _rank(boundary: Any) -> int:
    """Over Z/2, by reduction of columns from the left, each to its lowest entry."""
    columns = boundary.tocsc()
    lowest: dict[int, set[int]] = {}
    for k in range(columns.shape[1]):
        column = set(columns.indices[columns.indptr[k] : columns.indptr[k + 1]].tolist())
        while column:
            low = max(column)
            if low not in lowest:
                lowest[low] = column
                break
            column = column ^ lowest[low]
    return len(lowest)


def gram(partition: Partition, cell: int, *, damping: float = 0.0) -> np.ndarray:
    """Inner products of a cell's facets, `G[j, k] = area_j area_k <n_j, n_k>`, `(f, f)`, facets as in `partition.cells[cell]`; [z]^(2d-2). EXACT.

    Symmetric, positive semidefinite, of rank at most d, and `G 1 = 0`, which is Minkowski's identity: as an inner product it needs damping.

    Args:
        partition: of `build`, with measures.
        cell: its number.
        damping: adds `damping * diag(G)`; above 0 it is positive definite.

    Raises:
        TypeError, ValueError: arguments that do not fit.

    Example:
        >>> import numpy as np, eqdyn as eq
        >>> found = eq.partition.build([(np.eye(1), np.zeros(1)), (np.ones((1, 1)), np.zeros(1))])
        >>> eq.partition.gram(found, 0).tolist(), eq.partition.gram(found, 0, damping=0.5).tolist()
        ([[1.0, -1.0], [-1.0, 1.0]], [[1.5, -1.0], [-1.0, 1.5]])

    References:
        Gajer and Ravel, arXiv:2508.02080.
    """
    asked_for(partition)
    if not isinstance(cell, (int, np.integer)) or not 0 <= cell < len(partition.codes):
        msg = f"cell: got {cell!r}; expected 0 to {len(partition.codes) - 1}."
        raise ValueError(msg)
    if not damping >= 0:
        msg = f"damping: got {damping!r}; expected at least 0."
        raise ValueError(msg)
    one = partition.cells[cell]
    if np.isnan(one.areas).any():
        msg = "partition: its areas were not measured; write build(..., measures=True)."
        raise ValueError(msg)
    scaled = one.areas[:, None] * one.normals
    found = scaled @ scaled.T
    return found + damping * np.diag(np.diag(found))
