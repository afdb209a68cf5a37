"""Do runs of one class do alike? A number a run, within classes and between them: spread, effect size, permutation test."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from eqdyn import _checks
from eqdyn.paths._classes import Dendrogram

_BATCH = 2**22  # numbers in one batch of permutations


class Contrast(NamedTuple):
    """A number per run (test accuracy, say) against classes at a level.

    Fields:
        delta: the level of the classes [loss].
        sizes: runs in each class.
        within, between: mean absolute difference of two runs of one class, and of two different ones [of the number]; NaN without such pairs.
        range_within, range_between: the largest difference inside a class; the largest between the means of two classes.
        eta2: share of the variance that the classes explain, exact for this sample; it grows with the number of classes by itself.
        omega2: the same less what chance explains, an ESTIMATE that can be negative: the effect size.
        p_value: how often labels dealt out at random explain as much (permutation test, the given deal counted); NaN if unresolved.
        num_draws: random deals.
        verdict: a sentence.
    """

    delta: float
    sizes: tuple[int, ...]
    within: float
    between: float
    range_within: float
    range_between: float
    eta2: float
    omega2: float
    p_value: float
    num_draws: int
    verdict: str


def contrast(
    dendrogram: Dendrogram, values: Any, delta: float, *, strata: Any = None, num_draws: int = 9999, seed: int = 0, confidence: float = 0.95
) -> Contrast:
    """Whether a number differs more between classes of runs than within them, at a stated level.

        eta2 = SS_between / SS_total,      omega2 = (SS_between - (C - 1) MS_within) / (SS_total + MS_within)

    The permutation test deals the values out anew among the runs; with `strata`, among the runs of each stratum alone, so that what the strata
    explain (optimizer, label noise) is not taken for an effect of the classes. A test at one level: levels that were searched for the smallest
    p need a correction.

    Args:
        dendrogram: of `classes`.
        values: `(R,)`, one a run, any unit.
        delta: the level [loss].
        strata: `(R,)` labels, or None.
        num_draws: random deals.
        seed: of these.
        confidence: 1 less the level of the test.

    Returns:
        `Contrast`. Unresolved where there is one class only, or each run is a class of its own.

    Raises:
        ValueError: values that are not one finite number a run.

    Example:
        >>> import numpy as np, eqdyn as eq
        >>> apart = np.ones((8, 8)) - np.kron(np.eye(2), np.ones((4, 4)))            # two classes of four
        >>> found = eq.paths.contrast(eq.paths.classes(apart), [1, 2, 1, 2, 8, 9, 8, 9], delta=0.5)
        >>> found.sizes, round(found.eta2, 3), found.p_value < 0.05
        ((4, 4), 0.98, True)
        >>> found.verdict
        'runs of one class are more alike than runs of different classes'

    References:
        Hays, Statistics (omega squared); Phipson and Smyth, Statistical Applications in Genetics 9 (2010) 39 (p-values that are never 0).
    """
    if not isinstance(dendrogram, Dendrogram):
        msg = f"dendrogram: got {type(dendrogram).__name__}; expected a Dendrogram; write eq.paths.classes(barriers)."
        raise TypeError(msg)
    y = np.asarray(values, np.float64)
    if y.shape != (dendrogram.num,) or not np.isfinite(y).all():
        msg = f"values: got shape {y.shape}, or values that are not finite; expected ({dendrogram.num},) finite, one a run."
        raise ValueError(msg)
    if not (isinstance(confidence, (int, float)) and 0 < confidence < 1):
        msg = f"confidence: got {confidence!r}; expected a number between 0 and 1."
        raise ValueError(msg)
    num_draws = _checks.count(num_draws, "num_draws", least=1)
    blocks = _strata(strata, dendrogram.num)
    labels = dendrogram.labels(delta)
    sizes = np.bincount(labels)
    same = labels[:, None] == labels[None]
    apart, upper = np.abs(y[:, None] - y[None]), np.triu(np.ones_like(same), 1)
    within, between = (_mean(apart[mask & upper]) for mask in (same, ~same))
    means = np.bincount(labels, y) / sizes
    range_within = max(float(np.ptp(y[labels == one])) for one in range(len(sizes)))
    explained, total = _explained(y[None], labels, sizes)[0], float(np.sum((y - y.mean()) ** 2))
    num, count = dendrogram.num, len(sizes)
    eta2 = omega2 = p_value = np.nan
    if 1 < count < num and total > 0:
        rest = max(0.0, total - explained) / (num - count)
        eta2, omega2 = explained / total, (explained - (count - 1) * rest) / (total + rest)
        p_value = _p_value(y, labels, sizes, blocks, explained, num_draws, seed)
    return Contrast(
        float(delta), tuple(sizes.tolist()), within, between, range_within, float(np.ptp(means)), float(eta2), float(omega2), float(p_value),
        num_draws, _verdict(count, num, total, p_value, 1 - confidence),
    )  # fmt: skip


def _strata(strata: Any, num: int) -> list[np.ndarray]:
    """The runs of each stratum."""
    if strata is None:
        return [np.arange(num)]
    found = np.asarray(strata)
    if found.shape != (num,):
        msg = f"strata: got shape {found.shape}; expected ({num},), a label for each run."
        raise ValueError(msg)
    which = np.unique(found, return_inverse=True)[1]
    return [np.flatnonzero(which == one) for one in range(which.max() + 1)]


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")


def _explained(y: np.ndarray, labels: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Sum of squares between the classes, for each row of values."""
    member = (labels[:, None] == np.arange(len(sizes))[None]).astype(float)
    return np.sum(((y - y.mean(1, keepdims=True)) @ member) ** 2 / sizes[None], axis=1)


def _p_value(
    y: np.ndarray, labels: np.ndarray, sizes: np.ndarray, blocks: list[np.ndarray], explained: float, num_draws: int, seed: int
) -> float:  # fmt: skip
    random, reached, left = np.random.default_rng(seed), 0, num_draws
    while left:
        rows = min(left, max(1, _BATCH // len(y)))
        dealt = np.tile(y, (rows, 1))
        for block in blocks:
            dealt[:, block] = random.permuted(dealt[:, block], axis=1)
        # the same deal summed in another order is the same deal
        reached += int(np.sum(_explained(dealt, labels, sizes) >= explained * (1 - 1e-12)))
        left -= rows
    return (1 + reached) / (1 + num_draws)


def _verdict(count: int, num: int, total: float, p_value: float, level: float) -> str:
    if count == 1:
        return "unresolved: one class only at this level"
    if count == num:
        return "unresolved: each run is a class of its own at this level"
    if not total > 0:
        return "unresolved: all values are the same"
    if p_value <= level:
        return "runs of one class are more alike than runs of different classes"
    return "not refuted that classes say nothing about this number"
