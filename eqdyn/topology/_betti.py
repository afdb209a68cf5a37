"""Betti numbers of a Vietoris-Rips complex at one scale, or at several."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from eqdyn import _checks
from eqdyn.topology import _flag
from eqdyn.topology._cloud import TABLE_BYTES, Cloud
from eqdyn.topology._scales import parsed
from eqdyn.topology._table import Table

PRIMES = (2, 3, 5, 7, 11, 13)
_LARGEST = 1e300  # coordinates: beyond, their differences and means leave float64


def betti(points: Any, *, scale: Any = "diameter/4", max_dim: int = 2, prime: int = 2, engine: str | None = None) -> Any:
    """Betti numbers b_0 ... b_max_dim of the Rips complex whose edges are the pairs at distance d <= r.

    Exact at the stated scale: edges are decided in float64, near ties by differences, so that neither a shift nor the float32
    of ripser matters. A DIAGNOSTIC of a shape that moves: no theorem protects Betti numbers at a scale tied to the diameter.

    Vertices and edges with a link that folds down to a point are removed, which keeps the homotopy type; ranks over Z/2 are taken
    of what is left, or ripser has it (another field, or a large core).

    Args:
        points: `(n, d)`, real; worked on in float64 on the host. An array of an accelerator leaves it as N^2/8 bytes of graph.
        scale: r, in units of the points; or "diameter/4" (the paper's), any "diameter/number"; `NeighbourScale`, `LocalScale`; or
            a list or an array of scales, which share the distances.
        max_dim: highest degree, 0 to 3.
        prime: characteristic of the field.
        engine: None for the fastest installed, "plain" (Python), "compiled" (numba, `eqdyn[fast]`); the answers are equal.

    Returns:
        `max_dim + 1` integers; for a list of scales a list of those.

    Raises:
        ValueError: points that are not finite, a scale, degree or prime that makes no sense.
        MemoryError: the graph would exceed `TABLE_BYTES`.

    Example:
        >>> import numpy as np, eqdyn as eq
        >>> t = np.linspace(0, 2 * np.pi, 40, endpoint=False)
        >>> circle = np.stack([np.cos(t), np.sin(t)], 1)
        >>> eq.topology.betti(circle, max_dim=1)
        (1, 1)
        >>> eq.topology.betti(circle, scale=[0.1, 0.5, 1.9], max_dim=1)
        [(40, 0), (1, 1), (1, 0)]

    References:
        Yang et al., arXiv:2510.02670, section C.2 (diameter/4); Boissonnat and Pritam, strong collapse of flag complexes; Bauer, ripser.
    """
    degree, prime, engine = asked(max_dim, prime, engine)
    on_device = _on_accelerator(points)
    x = points if on_device else points_of(points)
    scales, many = several(scale, x.shape[0])
    if not on_device and (len(x) == 1 or (np.array_equal(x[0], x[-1]) and np.all(x == x[0]))):
        # all at one place: a point at any scale
        found = [(1,) + (0,) * degree for _ in scales]
        return found if many else found[0]
    cloud: Any = _device_cloud(points) if on_device else Cloud(x, _flag.passes_of(engine))
    found = [_flag.betti_of_packed(cloud.packed(one), degree, prime, engine) for one in scales]
    return found if many else found[0]


def betti_of_distances(d: Any, *, scale: Any, max_dim: int = 2, prime: int = 2, engine: str | None = None) -> Any:
    """Betti numbers of the Rips complex of a distance matrix; see `betti`.

    Args:
        d: `(n, n)`, symmetric, zero on the diagonal, not negative; infinite means no edge.
        scale, max_dim, prime, engine: as in `betti`.

    Raises:
        ValueError: no distance matrix, or arguments as in `betti`.

    Example:
        >>> import numpy as np, eqdyn as eq
        >>> eq.topology.betti_of_distances(1 - np.eye(3), scale=0.5)
        (3, 0, 0)
    """
    d = distances(d)
    degree, prime, engine = asked(max_dim, prime, engine)
    scales, many = several(scale, len(d))
    table = Table(d)
    found = [_flag.betti_of_packed(table.packed(one), degree, prime, engine) for one in scales]
    return found if many else found[0]


def distances(d: Any) -> np.ndarray:
    """A matrix of distances, checked."""
    try:
        d = np.asarray(d)
        ok = _is_real(d)
    except ValueError:
        ok = False
    if not ok or d.ndim != 2 or d.shape[0] != d.shape[1] or len(d) < 1:
        msg = f"d: got shape {getattr(d, 'shape', 'ragged')} {getattr(d, 'dtype', '')}; expected a square matrix of real distances."
        raise ValueError(msg)
    d = d.astype(np.float64)
    if np.isnan(d).any() or (d < 0).any() or not np.array_equal(d, d.T) or np.diagonal(d).any():
        msg = "d: got NaN, negative, asymmetric entries or a diagonal that is not zero; expected distances; write (d + d.T) / 2 for rounding."
        raise ValueError(msg)
    return d


def points_of(points: Any) -> np.ndarray:
    try:
        x = np.asarray(points)
    except ValueError:
        msg = "points: got a ragged sequence; expected real points (n, d), n >= 1, one a row."
        raise ValueError(msg) from None
    if x.ndim != 2 or x.shape[0] < 1 or x.shape[1] < 1 or not _is_real(x):
        msg = f"points: got shape {x.shape} {x.dtype}; expected real points (n, d), n >= 1, one a row."
        raise ValueError(msg)
    x = x.astype(np.float64)
    _checks.finite(x, "points")
    largest = float(np.abs(x).max())
    if largest > _LARGEST:
        msg = f"points: got values up to {largest:.3g}; expected at most {_LARGEST:g}, whose distances are numbers; write points / {largest:.3g}."
        raise ValueError(msg)
    return x


def _is_real(array: np.ndarray) -> bool:
    """Of numbers, the small floats of JAX among them."""
    return jax.dtypes.issubdtype(array.dtype, np.number) and not jax.dtypes.issubdtype(array.dtype, np.complexfloating)


def asked(max_dim: Any, prime: Any, engine: Any) -> tuple[int, int, str]:
    degree = _checks.count(max_dim, "max_dim")
    if degree > 3:
        msg = f"max_dim: got {max_dim}; expected 0 to 3."
        raise ValueError(msg)
    if prime not in PRIMES:
        msg = f"prime: got {prime}; expected a small prime, 2 to 13."
        raise ValueError(msg)
    return degree, int(prime), _flag.chosen(engine)


def several(scale: Any, num: int) -> tuple[list, bool]:
    """The scales for `num` points, and whether there may be many: a NamedTuple is one, a list or an array are several."""
    many = isinstance(scale, list) or (isinstance(scale, (np.ndarray, jax.Array)) and np.ndim(scale) > 0)
    return [parsed(one, num) for one in (scale if many else [scale])], many


def _on_accelerator(points: Any) -> bool:
    return isinstance(points, jax.Array) and not isinstance(points, jax.core.Tracer) and any(one.platform != "cpu" for one in points.devices())


def _device_cloud(points: Any) -> Any:
    from eqdyn.topology._device import DeviceCloud

    return DeviceCloud(points)


__all__ = ["TABLE_BYTES", "betti", "betti_of_distances"]
