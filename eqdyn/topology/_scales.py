"""Scales at which a complex is read: a number, a share of the diameter, a multiple of the neighbour distance, or a local unit."""

from __future__ import annotations

import math
import re
from typing import Any, NamedTuple

from eqdyn import _checks


class NeighbourScale(NamedTuple):
    """r = factor * the median over particles of the distance to their k-th neighbour, [points].

    Example:
        >>> import numpy as np, eqdyn as eq
        >>> line = np.arange(9.0)[:, None]
        >>> eq.topology.betti(line, scale=eq.topology.NeighbourScale(1.0, k=1), max_dim=1)
        (1, 0)
    """

    factor: float
    k: int = 8


class LocalScale(NamedTuple):
    """Distances in local units, `d_ij / sqrt(sigma_i sigma_j)`, sigma_i the distance to the k-th neighbour of i.

    Edges are the pairs at scaled distance <= `threshold` (no unit), or the closest share `quantile` of all pairs (ties with
    the last one included); one of the two. Where k others coincide with i, sigma_i = 0 and only they are its neighbours.
    A diagnostic: no theorem bounds how it moves under a stretch.

    Example:
        >>> import numpy as np, eqdyn as eq
        >>> t = np.linspace(0, 2 * np.pi, 60, endpoint=False)
        >>> uneven = np.stack([np.cos(t), np.sin(t)], 1) * np.exp(np.cos(t))[:, None]
        >>> eq.topology.betti(uneven, scale=eq.topology.LocalScale(k=4, threshold=1.2), max_dim=1)
        (1, 1)
    """

    k: int = 12
    threshold: float | None = None
    quantile: float | None = None


class Fraction(NamedTuple):
    """The diameter over `divisor`."""

    divisor: float


EXPECTED = "expected a number >= 0, 'diameter/4', eq.topology.NeighbourScale(factor, k), eq.topology.LocalScale(k, quantile=...), or a list of them"


def parsed(scale: Any, num: int) -> float | Fraction | NeighbourScale | LocalScale:
    """A scale that makes sense for `num` points."""
    if isinstance(scale, str):
        found = re.fullmatch(r"diameter/(\d+(?:\.\d+)?)", scale)
        if not found or float(found[1]) <= 0:
            msg = f"scale: got {scale!r}; {EXPECTED}."
            raise ValueError(msg)
        return Fraction(float(found[1]))
    if isinstance(scale, (NeighbourScale, LocalScale)):
        _checks.count(scale.k, "scale.k", least=1)
        if num > 1 and scale.k > num - 1:
            msg = f"scale.k: got {scale.k} with {num} points; expected at most {num - 1}, the number of others."
            raise ValueError(msg)
        if isinstance(scale, NeighbourScale):
            return NeighbourScale(_checks.number(scale.factor, "scale.factor", least=0.0), int(scale.k))
        if (scale.threshold is None) == (scale.quantile is None):
            msg = f"scale: got {scale}; expected a threshold or a quantile, one of the two."
            raise ValueError(msg)
        if scale.threshold is not None:
            return LocalScale(int(scale.k), threshold=_checks.number(scale.threshold, "scale.threshold", least=0.0))
        quantile = _checks.number(scale.quantile, "scale.quantile", above=0.0)
        if quantile > 1:
            msg = f"scale.quantile: got {quantile}; expected a share of all pairs, in (0, 1]."
            raise ValueError(msg)
        return LocalScale(int(scale.k), quantile=quantile)
    try:
        value = math.nan if isinstance(scale, bool) else float(scale)
    except (TypeError, ValueError):
        value = math.nan
    if not value >= 0:
        msg = f"scale: got {scale!r}; {EXPECTED}."
        raise ValueError(msg)
    return value
