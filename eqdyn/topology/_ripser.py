"""The wall around ripser: graphs and tables in, plain arrays out."""

from __future__ import annotations

import numpy as np

from eqdyn.topology._worker import as_arrays


def betti_of_graph(edges: np.ndarray, max_dim: int, prime: int) -> tuple[int, ...]:
    """Betti numbers of the flag complex of a boolean graph: ripser sees edges of length 1 and a threshold of 1.5."""
    i, j = np.nonzero(np.triu(edges, 1))
    if not len(i):
        return (len(edges),) + (0,) * max_dim
    bars = _bars(i, j, np.ones(len(i)), len(edges), max_dim, prime, 1.5)
    return tuple(int(np.isinf(bar[:, 1]).sum()) if len(bar) else 0 for bar in bars)


def rank_of_graphs(inner: np.ndarray, outer: np.ndarray, max_dim: int, prime: int) -> tuple[int, ...]:
    """Ranks of the maps in homology between the flag complexes of two boolean graphs, one inside the other."""
    from scipy.sparse.csgraph import connected_components

    # all vertices are in both, so the map of components is onto
    components = int(connected_components(outer, directed=False)[0])
    i, j = np.nonzero(np.triu(outer, 1))
    if max_dim == 0 or not len(i):
        return (components,) + (0,) * max_dim
    bars = _bars(i, j, np.where(inner[i, j], 1, 2), len(outer), max_dim, prime, 2.5)[1:]
    return (components, *(int(np.sum((bar[:, 0] < 1.5) & np.isinf(bar[:, 1]))) if len(bar) else 0 for bar in bars))


def _bars(i: np.ndarray, j: np.ndarray, lengths: np.ndarray, num: int, max_dim: int, prime: int, longest: float) -> list[np.ndarray]:
    """Bars by degree, `(m, 2)`, of edges in lexicographic order. By the C entry point: what its wrapper may warn of, no thread can mute."""
    from pyRipser import doRipsFiltrationDMSparse

    return as_arrays(doRipsFiltrationDMSparse(i.astype(np.int32), j.astype(np.int32), lengths.astype(np.float32), num, max_dim, longest, prime))
