"""The weights under which the largest of many quotients is smallest: `min over w >= 0 of max over p of (num_p . w) / (den_p . w)`.

A maximum of linear-fractional functions is quasi-convex: no minimum but the least. Worst pairs are gathered one by one (cutting planes);
over those gathered, each step solves a linear program (the differential correction algorithm), whose multipliers prove a lower bound
for all weights.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np

_MOST_CUTS, _MOST_STEPS = 200, 60
_FAR, _LOOKS = 1e9, 1000  # where to start: on a grid of weights, since far out the quotients are flat and no slope leads back
_LEAST = 1e-7, 1e-18  # how small a weight may become, as a share of what would matter to some pair, and of the largest


class Least(NamedTuple):
    """`value` at the weights `w` `(k,)`, the pair `where` that attains it, and `bound`: no weights at all give less."""

    value: float
    where: tuple[int, int]
    w: np.ndarray
    bound: float


def worst(num: np.ndarray, den: np.ndarray, w: np.ndarray) -> tuple[float, tuple[int, int]]:
    """The largest quotient over pairs, `num` and `den` `(k, n, n)`, and the pair. A pair of denominator 0 is left out (-inf), unless its
    numerator says that one place is torn (inf).
    """
    above, below = np.tensordot(w, num, 1), np.tensordot(w, den, 1)
    apart = below > 0
    quotient = np.where(apart, above / np.where(apart, below, 1), np.where(above > 0, np.inf, -np.inf))
    i, j = divmod(int(np.argmax(quotient)), num.shape[-1])
    return float(quotient[i, j]), (i, j)


def least_worst(num: np.ndarray, den: np.ndarray, *, tolerance: float) -> Least:
    """The weights that make the largest quotient smallest, up to `tolerance` of it; the k parts should come in units of their own."""
    k = len(num)
    seen = [(*worst(num, den, w), w) for w in [np.ones(k), *_one_by_one(k, (1e-3, 1e3))]]
    value, where, w = min(seen, key=lambda one: one[0])
    if k == 1 or not np.isfinite(value):
        return Least(value, where, w, value)
    bound, pool = -np.inf, list(dict.fromkeys(at for _, at, _ in seen))
    for _ in range(_MOST_CUTS):
        rows, columns = np.asarray(pool).T
        tried, proved = _over(num[:, rows, columns].T, den[:, rows, columns].T, w)
        bound = max(bound, proved)
        now, at = worst(num, den, tried)
        if now < value:
            value, where, w = now, at, tried
        if value - bound <= tolerance * abs(value) or at in pool:
            break
        pool.append(at)
    return Least(value, where, w, min(bound, value))


def _over(num: np.ndarray, den: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, float]:
    """The best weights over few pairs, `num` and `den` `(p, k)`, starting from w or better ones, and a bound that no weights pass."""
    from scipy.optimize import linprog

    k, bound = len(w), -np.inf
    axis = np.geomspace(1 / _FAR, _FAR, min(181, round(_LOOKS ** (1 / (k - 1)))))
    tried = np.column_stack([w, *(np.append(1.0, one) for one in itertools.product(axis, repeat=k - 1 if len(axis) > 2 else 0))])
    values = np.max(num @ tried / (den @ tried), axis=0)
    at = int(np.argmin(values))
    w, value = tried[:, at], values[at]
    for _ in range(_MOST_STEPS):
        # unknown: w in units that matter to some pair, of mean 1; and the largest excess of a quotient over the last value, in units of
        # the last denominators
        below = den @ w
        unit = 1 / np.max((np.abs(num) + abs(value) * den) / below[:, None], axis=0).clip(np.finfo(np.float64).tiny)
        excess = (num - value * den) * unit / below[:, None]
        found = linprog(
            np.append(np.zeros(k), 1),
            A_ub=np.column_stack([excess, -np.ones(len(excess))]),
            b_ub=np.zeros(len(excess)),
            A_eq=np.append(np.ones(k), 0)[None],
            b_eq=[k],
            bounds=[(_LEAST[0], None)] * k + [(None, None)],
            method="highs",
        )
        if found.status != 0:
            break
        # for multipliers l >= 0 and every w >= 0 the largest quotient is at least sum l num.w / sum l den.w, at least its smallest part
        multipliers = np.maximum(-found.ineqlin.marginals, 0) / below
        above, under = multipliers @ num, multipliers @ den
        if np.any(under > 0):
            bound = max(bound, float(np.min(above[under > 0] / under[under > 0])))
        moved = unit * found.x[:k]
        moved = np.maximum(moved / moved.max(), _LEAST[1])
        now = np.max(num @ moved / (den @ moved))
        if not now < value:
            break
        gained, value, w = value - now, now, moved
        if gained <= 1e-10 * abs(value):
            break
    return w, bound


def _one_by_one(k: int, factors: tuple[float, ...]) -> list[np.ndarray]:
    return [np.where(np.arange(k) == at, factor, 1.0) for at in range(k if k > 1 else 0) for factor in factors]
