"""Betti numbers of a Vietoris-Rips complex at one scale, by ripser on a graph that is decided here."""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np

from eqdyn import _checks

TABLE_BYTES = 2**32  # what the tables of all pairs may take


def betti(points: Any, *, scale: Any = "diameter/4", max_dim: int = 2, prime: int = 2) -> tuple[int, ...]:
    """Betti numbers b_0 ... b_max_dim of the Rips complex whose edges are the pairs at distance d <= r.

    Exact at the stated scale: edges are decided in float64 from differences, so ripser's float32 does not matter. A
    DIAGNOSTIC of a shape that moves: no theorem protects Betti numbers at a scale tied to the diameter.

    Args:
        points: `(n, d)`, real; worked on in float64 on the host.
        scale: r, in units of the points; or "diameter/4" (the paper's), any "diameter/number".
        max_dim: highest degree, 0 to 3.
        prime: characteristic of the field.

    Returns:
        `max_dim + 1` integers.

    Raises:
        ValueError: points that are not finite, a scale, degree or prime that makes no sense.
        MemoryError: the table of distances would exceed `TABLE_BYTES`.

    Example:
        >>> import numpy as np, eqdyn as eq
        >>> t = np.linspace(0, 2 * np.pi, 40, endpoint=False)
        >>> eq.topology.betti(np.stack([np.cos(t), np.sin(t)], 1), max_dim=1)
        (1, 1)

    References:
        Yang et al., arXiv:2510.02670, section C.2 (diameter/4); Bauer, ripser.
    """
    from scipy.spatial.distance import pdist, squareform

    x = np.asarray(points)
    if x.ndim != 2 or x.shape[0] < 1 or not np.issubdtype(x.dtype, np.number) or np.iscomplexobj(x):
        msg = f"points: got shape {x.shape} {x.dtype}; expected real points (n, d), n >= 1, one a row."
        raise ValueError(msg)
    _checks.fits_budget(32 * x.shape[0] ** 2, TABLE_BYTES, "betti", "take fewer points")
    x = x.astype(np.float64)
    _checks.finite(x, "points")
    return betti_of_distances(squareform(pdist(x)) if len(x) > 1 else np.zeros((1, 1)), scale=scale, max_dim=max_dim, prime=prime)


def betti_of_distances(d: Any, *, scale: Any, max_dim: int = 2, prime: int = 2) -> tuple[int, ...]:
    """Betti numbers of the Rips complex of a distance matrix; see `betti`.

    Args:
        d: `(n, n)`, symmetric, zero on the diagonal, not negative; infinite means no edge.
        scale, max_dim, prime: as in `betti`.

    Raises:
        ValueError: no distance matrix, or arguments as in `betti`.

    Example:
        >>> import numpy as np, eqdyn as eq
        >>> eq.topology.betti_of_distances(1 - np.eye(3), scale=0.5)
        (3, 0, 0)
    """
    d = np.asarray(d, np.float64)
    if d.ndim != 2 or d.shape[0] != d.shape[1] or len(d) < 1:
        msg = f"d: got shape {d.shape}; expected a square matrix of distances."
        raise ValueError(msg)
    if np.isnan(d).any() or (d < 0).any() or not np.array_equal(d, d.T) or np.diagonal(d).any():
        msg = "d: got NaN, negative, asymmetric entries or a diagonal that is not zero; expected distances."
        raise ValueError(msg)
    _checks.count(max_dim, "max_dim")
    if max_dim > 3:
        msg = f"max_dim: got {max_dim}; expected 0 to 3."
        raise ValueError(msg)
    if prime not in (2, 3, 5, 7, 11, 13):
        msg = f"prime: got {prime}; expected a small prime, 2 to 13."
        raise ValueError(msg)
    return _of_graph((d <= _radius(d, scale)) & np.isfinite(d), max_dim, prime)


def _radius(d: np.ndarray, scale: Any) -> float:
    if isinstance(scale, str):
        found = re.fullmatch(r"diameter/(\d+(?:\.\d+)?)", scale)
        if not found or float(found[1]) <= 0:
            msg = f"scale: got {scale!r}; expected a number >= 0, or 'diameter/4'."
            raise ValueError(msg)
        return float(np.max(d, where=np.isfinite(d), initial=0.0)) / float(found[1])
    if np.ndim(scale) != 0 or not np.issubdtype(np.asarray(scale).dtype, np.number) or isinstance(scale, bool) or not scale >= 0:
        msg = f"scale: got {scale!r}; expected a number >= 0, or 'diameter/4'."
        raise ValueError(msg)
    return float(scale)


def _of_graph(edges: np.ndarray, max_dim: int, prime: int) -> tuple[int, ...]:
    """Betti numbers of the flag complex of a graph: ripser sees edges of length 1 and a threshold of 1.5."""
    from ripser import ripser
    from scipy.sparse import coo_matrix

    i, j = np.nonzero(np.triu(edges, 1))
    if not len(i):
        return (len(edges),) + (0,) * max_dim
    graph = coo_matrix((np.ones(len(i), np.float32), (i, j)), shape=edges.shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bars = ripser(graph, distance_matrix=True, maxdim=max_dim, thresh=1.5, coeff=prime)["dgms"]
    return tuple(int(np.isinf(bar[:, 1]).sum()) if len(bar) else 0 for bar in bars)
