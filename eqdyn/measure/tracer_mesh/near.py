"""Which pieces of a mesh come near each other: boxes that overlap, and the smallest distance between two pieces."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

_TILE = 2**21  # numbers of the pairs that are looked at together


def boxes(x: np.ndarray, pieces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    corners = x[pieces]
    return corners.min(1), corners.max(1)


def overlapping(first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """All pairs of closed boxes `(low, high)` of two lists that overlap, each once, in tiles of index pairs `(i, j)`.

    Sorted along the axis on which fewest overlap, then the other axes are looked at.
    """
    plans = [_along(first, second, axis) for axis in range(first[0].shape[1])]
    order, starts, counts = min(plans, key=lambda plan: sum(int(count.sum()) for count in plan[2]))
    # those whose start lies in my interval, and those in whose interval, after its start, mine starts
    for mine, other, flip in ((first, second, False), (second, first, True)):
        sorted_other, start, count = order[flip], starts[flip], counts[flip]
        ends = np.cumsum(count)
        whole, tile = (int(ends[-1]) if ends.size else 0), max(1, _TILE // mine[0].shape[1])
        for cut in range(0, whole, tile):
            flat = np.arange(cut, min(cut + tile, whole))
            i = np.searchsorted(ends, flat, side="right")
            j = sorted_other[start[i] + flat - (ends[i] - count[i])]
            meet = ((mine[0][i] <= other[1][j]) & (other[0][j] <= mine[1][i])).all(1)
            yield (j[meet], i[meet]) if flip else (i[meet], j[meet])


def _along(first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray], axis: int) -> tuple[list, list, list]:
    order, starts, counts = [], [], []
    for mine, other, side in ((first, second, "left"), (second, first, "right")):
        by_start = np.argsort(other[0][:, axis], kind="stable")
        low = other[0][by_start, axis]
        start = np.searchsorted(low, mine[0][:, axis], side=side)  # type: ignore[call-overload]
        order.append(by_start)
        starts.append(start)
        counts.append(np.searchsorted(low, mine[1][:, axis], side="right") - start)
    return order, starts, counts


def adjacent(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Whether two pieces `(p, a)`, `(p, b)` share a point of the mesh."""
    return (first[:, :, None] == second[:, None, :]).any((1, 2))


# --- distances -------------------------------------------------------------------------------------------------------------


def distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The distance of two simplices with corners `(p, k, d)`, `(p, n, d)`: that of two of their points, and larger than the smallest by no
    more than roundings of their size, also where they are nearly parallel.

    The nearest points lie inside some side of each, where the difference is at right angles to both: all pairs of sides are tried. Sides
    that together have more directions than the space touch, or are as near, along a line that ends on a smaller side.
    """
    best = np.full(len(a), np.inf)
    for k, n in itertools.product(range(1, a.shape[1] + 1), range(1, b.shape[1] + 1)):
        if k + n - 2 > a.shape[2]:
            continue
        for of_a, of_b in itertools.product(itertools.combinations(range(a.shape[1]), k), itertools.combinations(range(b.shape[1]), n)):
            p, q = a[:, of_a], b[:, of_b]
            apart = p[:, 0] - q[:, 0]
            inside = np.ones(len(a), bool)
            if k + n > 2:
                spans = np.concatenate([p[:, 1:] - p[:, :1], q[:, :1] - q[:, 1:]], 1)
                s = _least(spans, apart)
                inside = (s >= 0).all(1) & (s[:, : k - 1].sum(1) <= 1) & (s[:, k - 1 :].sum(1) <= 1)
                apart = apart + np.einsum("pk,pkd->pd", np.where(inside[:, None], s, 0), spans)
            best = np.minimum(best, np.where(inside, np.linalg.norm(apart, axis=1), np.inf))
    return best


def _least(spans: np.ndarray, apart: np.ndarray) -> np.ndarray:
    """The s `(p, k)` for which `|apart + sum_k s_k spans_k|` is smallest, `(p, k, d)` and `(p, d)`; not finite where no single one is. By
    modified Gram-Schmidt: squares of the spans would lose half of the digits of an angle.
    """
    num = spans.shape[1]
    rest = np.concatenate([spans, apart[:, None]], 1)
    r = np.zeros((len(spans), num, num + 1))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        for k in range(num):
            r[:, k, k] = np.linalg.norm(rest[:, k], axis=1)
            along = rest[:, k] / r[:, k, k, None]
            r[:, k, k + 1 :] = np.einsum("pjd,pd->pj", rest[:, k + 1 :], along)
            rest[:, k + 1 :] -= r[:, k, k + 1 :, None] * along[:, None]
        s = np.zeros((len(spans), num))
        for k in reversed(range(num)):
            s[:, k] = -(r[:, k, num] + np.einsum("pj,pj->p", r[:, k, k + 1 : num], s[:, k + 1 :])) / r[:, k, k]
    return s


def closest(x: np.ndarray, pieces: np.ndarray) -> tuple[float, tuple[int, int]]:
    """The smallest distance between two pieces that share no point, and which; infinite if all share one."""
    corners = x[pieces]
    centre = corners.mean(1)
    radius = np.linalg.norm(corners - centre[:, None], axis=2).max(1)
    # a distance that occurs: from some pieces to the nearest centre
    best = np.inf
    for one in np.unique(np.linspace(0, len(pieces) - 1, min(len(pieces), 64)).astype(int)):
        apart = ~adjacent(pieces, pieces[one][None])
        if apart.any():
            other = int(np.argmin(np.where(apart, np.linalg.norm(centre - centre[one], axis=1), np.inf)))
            best = min(best, float(distance(corners[one][None], corners[other][None])[0]))
    # whatever is as near has boxes that overlap after one of them grew by that much
    low, high = boxes(x, pieces)
    grown = best * (1 + 1e-12)
    found, bounds = [], []
    for i, j in overlapping((low - grown, high + grown), (low, high)):
        ahead = i < j
        i, j = i[ahead], j[ahead]
        bound = np.linalg.norm(centre[i] - centre[j], axis=1) - radius[i] - radius[j]
        keep = (bound <= grown) & ~adjacent(pieces[i], pieces[j])
        found.append(np.stack([i[keep], j[keep]], 1))
        bounds.append(bound[keep])
    pairs, bound = np.concatenate([np.zeros((0, 2), int), *found]), np.concatenate([np.zeros(0), *bounds])
    best, where = np.inf, (-1, -1)
    order = np.argsort(bound, kind="stable")
    for cut in range(0, len(order), 4096):
        part = pairs[order[cut : cut + 4096]]
        if bound[order[cut]] > best:
            break
        gap = distance(corners[part[:, 0]], corners[part[:, 1]])
        if gap.min() < best:
            best, where = float(gap.min()), (int(part[np.argmin(gap), 0]), int(part[np.argmin(gap), 1]))
    return best, where
