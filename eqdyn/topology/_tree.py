"""Persistence in degree 0: the minimum spanning tree."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def deaths(num: int, row: Callable[[int], np.ndarray]) -> np.ndarray:
    """Edge lengths of the minimum spanning tree, in order `(num - 1,)`; infinite ones join what is never joined. Prim's algorithm.

    Args:
        num: points.
        row: distances of one point to all, `(num,)`.
    """
    left = np.arange(1, num)
    near = row(0)[1:].astype(np.float64)
    found = np.empty(num - 1)
    for k in range(num - 1):
        at = int(near.argmin())
        found[k] = near[at]
        v, left[at], near[at] = left[at], left[-1], near[-1]
        left, near = left[:-1], near[:-1]
        np.minimum(near, row(v)[left], out=near)
    return np.sort(found)
