"""Persistence of the sublevel sets of a function, on a grid or on a graph."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np


class Sublevels(NamedTuple):
    """Bars of `{f <= t}` as t rises, by degree; in units of f.

    Fields:
        bars: by degree, `(m, 2)`: birth and death, those of positive length, longest first.
        essential: by degree, births of what never dies.
    """

    bars: tuple[np.ndarray, ...]
    essential: tuple[np.ndarray, ...]

    def total(self, degree: int | None = None) -> float:
        """Total persistence, the sum of death - birth over the bars that die; of one degree, or all."""
        some = self.bars if degree is None else self.bars[degree : degree + 1]
        return float(sum((bars[:, 1] - bars[:, 0]).sum() for bars in some))

    def betti(self, t: float) -> tuple[int, ...]:
        """How many bars are alive at t: birth <= t < death."""
        return tuple(
            int(np.sum((bars[:, 0] <= t) & (t < bars[:, 1])) + np.sum(births <= t)) for bars, births in zip(self.bars, self.essential, strict=True)
        )


def sublevel_grid(values: Any) -> Sublevels:
    """Sublevel persistence of a function on the vertices of a grid: a segment or a square is there when all its corners are.

    EXACT for the cubical complex over Z/2. Degree 0 by the merge tree; degree 1 of a plane by duality: a loop at t closes off a component of
    `{f > t}` (with diagonal neighbours) from the outside, is born where that component joins a higher one, and dies at its maximum.

    Args:
        values: `(n,)` or `(n, m)`, finite.

    Returns:
        `Sublevels`, of degree 0 for a line, 0 and 1 for a plane.

    Raises:
        ValueError: values that are not finite, or of other shapes.

    Example:
        >>> import numpy as np, eqdyn as eq
        >>> x = np.linspace(-2, 2, 41)
        >>> found = eq.topology.sublevel_grid((x**2 - 1) ** 2)      # two wells
        >>> found.bars[0].round(9).tolist(), found.essential[0].tolist()
        ([[0.0, 1.0]], [0.0])

    References:
        Edelsbrunner, Letscher and Zomorodian (2002); Bleile et al., arXiv:2005.04597, for the duality of cubical complexes.
    """
    f = np.asarray(values, np.float64)
    if f.ndim not in (1, 2) or f.size == 0 or not np.isfinite(f).all():
        msg = f"values: got shape {f.shape}, or values that are not finite; expected (n,) or (n, m), finite."
        raise ValueError(msg)
    number = np.arange(f.size).reshape(f.shape)
    straight = [np.stack([number[:-1].ravel(), number[1:].ravel()], 1)]
    if f.ndim == 1:
        return _of_graph(f, straight[0])
    straight.append(np.stack([number[:, :-1].ravel(), number[:, 1:].ravel()], 1))
    lower = _of_graph(f.ravel(), np.concatenate(straight))
    diagonal = [np.stack([number[:-1, :-1].ravel(), number[1:, 1:].ravel()], 1), np.stack([number[1:, :-1].ravel(), number[:-1, 1:].ravel()], 1)]
    border = np.unique(np.concatenate([number[0], number[-1], number[:, 0], number[:, -1]]))
    outside = np.stack([border, np.full(len(border), f.size)], 1)
    upper = _of_graph(np.r_[-f.ravel(), -math.inf], np.concatenate([*straight, *diagonal, outside]))
    loops = -upper.bars[0][:, ::-1]
    return Sublevels((lower.bars[0], loops), (lower.essential[0], np.zeros(0)))


def sublevel_graph(values: Any, edges: Any, levels: Any = None) -> Sublevels:
    """Degree 0 of the sublevel sets of a function on a graph: components, born at minima, dying where they join one that is older. EXACT.

    Args:
        values: `(n,)`, finite: a vertex is there from its value on.
        edges: `(e, 2)`, whole numbers.
        levels: `(e,)`, at which an edge is there, no lower than its ends; None for the higher of them (the lower-star filtration). A matrix of
            minimax levels between minima gives their merge tree so.

    Returns:
        `Sublevels`, of degree 0.

    Raises:
        ValueError: arrays that do not fit, or an edge before its ends.

    Example:
        >>> import eqdyn as eq
        >>> found = eq.topology.sublevel_graph([0.0, 0.5], [(0, 1)], levels=[2.0])      # two minima, a pass at 2
        >>> found.bars[0].tolist(), found.total()
        ([[0.5, 2.0]], 1.5)
    """
    f, pairs = np.asarray(values, np.float64), np.asarray(edges, int).reshape(-1, 2)
    if f.ndim != 1 or len(f) == 0 or not np.isfinite(f).all():
        msg = f"values: got shape {f.shape}, or values that are not finite; expected (n,), finite."
        raise ValueError(msg)
    if len(pairs) and not (pairs.min() >= 0 and pairs.max() < len(f)):
        msg = f"edges: got vertices {pairs.min()} to {pairs.max()}; expected 0 to {len(f) - 1}."
        raise ValueError(msg)
    at = None if levels is None else np.asarray(levels, np.float64)
    if at is not None and (at.shape != (len(pairs),) or np.isnan(at).any() or np.any(at < f[pairs].max(1))):
        msg = f"levels: got shape {at.shape}, NaN, or an edge before its ends; expected ({len(pairs)},), no lower than the ends' values."
        raise ValueError(msg)
    return _of_graph(f, pairs, at)


def _of_graph(f: np.ndarray, edges: np.ndarray, levels: np.ndarray | None = None) -> Sublevels:
    at = f[edges].max(1) if levels is None else levels
    parent = np.arange(len(f)).tolist()

    def root(k: int) -> int:
        while parent[k] != k:
            parent[k] = parent[parent[k]]
            k = parent[k]
        return k

    bars = []
    for k in np.argsort(at, kind="stable"):
        if at[k] == math.inf:
            break
        i, j = root(int(edges[k, 0])), root(int(edges[k, 1]))
        if i != j:
            older, younger = (i, j) if (f[i], i) <= (f[j], j) else (j, i)
            parent[younger] = older
            if at[k] > f[younger]:
                bars.append((f[younger], at[k]))
    found = np.array(sorted(bars, key=lambda bar: (bar[0] - bar[1], bar))).reshape(-1, 2)
    return Sublevels((found,), (np.sort(np.array([f[k] for k in range(len(f)) if parent[k] == k])),))
