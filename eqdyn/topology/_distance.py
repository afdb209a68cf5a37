"""Bottleneck and Wasserstein distances of diagrams, infinite where the definition says so."""

from __future__ import annotations

import math

import numpy as np

from eqdyn import _checks
from eqdyn.topology._diagram import Diagram


def distance(a: Diagram, b: Diagram, degree: int, *, kind: str = "bottleneck", order: float = 2.0, log: bool = False) -> float:
    """Distance of two diagrams in one degree, exact to rounding.

    Bars may be matched with each other or, at half their length, with nothing; the ground metric is the larger of the changes of birth
    and death. Essential bars match essential ones only: with unequal numbers of them the distance is infinite.

    Args:
        a, b: diagrams.
        degree: of the bars.
        kind: "bottleneck" (largest change) or "wasserstein" (sum of changes to the power `order`, and its root).
        order: >= 1, of the Wasserstein distance.
        log: births and deaths by their logarithms, no unit; bars born at 0 (all of degree 0) are compared by their deaths alone, cannot
            be matched with nothing, and those of coincident points (0, 0) are left out, as twins of the theory are.

    Raises:
        ValueError: no such degree, kind or order.

    Example:
        >>> import numpy as np, eqdyn as eq
        >>> near, far = (eq.topology.persistence(np.array([[0.0], [gap]]), max_dim=0) for gap in (1.0, 2.0))
        >>> eq.topology.distance(near, far, 0), round(eq.topology.distance(near, far, 0, log=True), 4)
        (1.0, 0.6931)

    References:
        Cohen-Steiner, Edelsbrunner, Harer, Stability of persistence diagrams.
    """
    if not 0 <= _checks.count(degree, "degree") <= min(a.max_dim, b.max_dim):
        msg = f"degree: got {degree}; expected 0 to {min(a.max_dim, b.max_dim)}, the degrees that both diagrams have."
        raise ValueError(msg)
    if kind not in ("bottleneck", "wasserstein"):
        msg = f"kind: got {kind!r}; expected 'bottleneck' or 'wasserstein'."
        raise ValueError(msg)
    if not (1 <= order < math.inf):
        msg = f"order: got {order}; expected a number >= 1; the limit is kind='bottleneck'."
        raise ValueError(msg)
    (bars_a, ends_a), (bars_b, ends_b) = (_in_log(one, degree) if log else (one.bars[degree], one.essential[degree]) for one in (a, b))
    if len(ends_a) != len(ends_b):
        return math.inf
    # on a line the best matching is in order; where both births are at log 0 nothing changes
    with np.errstate(invalid="ignore"):
        ends = np.abs(np.sort(ends_a) - np.sort(ends_b))
    ends = np.where(np.sort(ends_a) == np.sort(ends_b), 0.0, ends)
    cost = _cost(bars_a, bars_b)
    if kind == "bottleneck":
        return max(float(ends.max(initial=0.0)), _bottleneck(cost, len(bars_a), len(bars_b)))
    return float((np.sum(ends**order) + _least_sum(cost**order)) ** (1 / order))


def _in_log(one: Diagram, degree: int) -> tuple[np.ndarray, np.ndarray]:
    bars, births = one.bars[degree], one.essential[degree]
    with np.errstate(divide="ignore"):
        return np.log(bars[bars[:, 1] > 0]), np.log(births)


def _cost(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """What it costs to match bar with bar or with nothing, `(n + m, m + n)`; nothing with nothing is free."""
    n, m = len(a), len(b)
    cost = np.zeros((n + m, m + n))
    with np.errstate(invalid="ignore"):
        change = np.abs(a[:, None, :] - b[None, :, :])
    change[np.isnan(change)] = 0.0  # both at log 0
    cost[:n, :m] = change.max(-1, initial=0.0)
    cost[:n, m:] = ((a[:, 1] - a[:, 0]) / 2)[:, None]
    cost[n:, :m] = ((b[:, 1] - b[:, 0]) / 2)[None, :]
    return cost


def _bottleneck(cost: np.ndarray, n: int, m: int) -> float:
    """The least level at which everybody can be matched, by bisection over the levels that there are."""
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import maximum_bipartite_matching

    if not n + m:
        return 0.0
    levels = np.unique(cost)

    def possible(level: float) -> bool:
        matched = maximum_bipartite_matching(csr_matrix(cost <= level), perm_type="column")
        return bool(np.all(matched >= 0))

    low, high = 0, len(levels) - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if possible(levels[middle]) else (middle + 1, high)
    return float(levels[low])


def _least_sum(cost: np.ndarray) -> float:
    from scipy.optimize import linear_sum_assignment

    if not len(cost):
        return 0.0
    # an infinite cost is one to avoid; if that cannot be, the distance is infinite
    finite = np.isfinite(cost)
    large = 1 + 2 * len(cost) * float(np.max(cost, where=finite, initial=0.0))
    rows, columns = linear_sum_assignment(np.where(finite, cost, large))
    return float(cost[rows, columns].sum())
