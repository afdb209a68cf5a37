"""Which runs are connected at which level: single linkage of barriers, the whole dendrogram with its persistence."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from eqdyn import _checks
from eqdyn.topology import Diagram

_SHOWN = 12  # runs of which all levels are told in text
_UNEVEN = 1e-6  # of the largest barrier: what the two halves of a symmetric matrix may differ by


class Dendrogram(NamedTuple):
    """Single linkage of R runs. EXACT for the matrix given; its entries are upper bounds, so levels are too.

    Fields:
        merges: `(R - 1, 4)`, in the form of `scipy.cluster.hierarchy.linkage`: the two classes that meet (runs are 0 ... R - 1, the k-th merge
            makes class R + k), the level [loss], how many runs the new class has. Infinite levels join what is never joined.
        minimax: `(R, R)`, the least level at which two runs are in one class: the lowest pass on any way through the matrix.
    """

    merges: np.ndarray
    minimax: np.ndarray

    @property
    def num(self) -> int:
        """Runs, R."""
        return len(self.minimax)

    @property
    def levels(self) -> np.ndarray:
        """At which two classes become one, rising, `(R - 1,)`."""
        return self.merges[:, 2]

    def labels(self, delta: float) -> np.ndarray:
        """The class of each run at a level, `(R,)`, numbered in the order of their first runs; runs that meet at delta itself are together."""
        delta = float(_level(delta))
        return np.unique(np.argmax(self.minimax <= delta, axis=1), return_inverse=True)[1]

    @property
    def diagram(self) -> Diagram:
        """The merges as bars of degree 0, born at 0; what is never joined is essential. Sorted; as `topology.distance` takes them."""
        dies = self.levels[np.isfinite(self.levels)]
        bars = np.stack([np.zeros_like(dies), dies], axis=1)
        return Diagram((bars,), (np.zeros(self.num - len(dies)),), np.inf, 0.0, 0.0, "exact", 2, self.num)

    @property
    def gaps(self) -> np.ndarray:
        """Ranges of delta over which the classes stay the same, `(m, 3)`: from, to, how many classes; longest first, the one without end."""
        edges = np.unique(np.concatenate([np.zeros(1), self.levels[np.isfinite(self.levels)]]))
        ends = np.append(edges[1:], np.inf)
        counts = [1 + int(np.sum(self.levels > edge)) for edge in edges]
        found = np.stack([edges, ends, np.asarray(counts, float)], axis=1)
        return found[np.lexsort((found[:, 0], -(found[:, 1] - found[:, 0])))]

    def summary(self, delta: float | None = None) -> str:
        """The dendrogram in text: merges level by level, and the ranges of delta that last; with delta, the classes there."""
        shown = ", ".join(f"{level:.4g}" for level in self.levels)
        if self.num > _SHOWN:
            shown = f"{self.levels[0]:.4g} to {self.levels[-1]:.4g}, half of them up to {self.levels[(self.num - 2) // 2]:.4g}"
        lines = [f"{self.num} runs, joined at levels {shown}"]
        lasting = [gap for gap in self.gaps if gap[2] > 1][:3]
        lines += [f"{int(count)} classes for delta from {low:.4g} to {high:.4g}" for low, high, count in lasting]
        if delta is not None:
            labels = self.labels(delta)
            for one in range(labels.max() + 1):
                lines.append(f"class {one} at level {delta:.4g}: runs {', '.join(map(str, np.flatnonzero(labels == one)))}")
            if labels.max():
                lines.append(f"runs of different classes are not connected within the searched family at level {delta:.4g}")
        return "\n".join(lines)


def classes(barriers: Any) -> Dendrogram:
    """Single linkage of a symmetric matrix of barriers: which runs are connected, level by level.

    Two runs are in one class at level delta where a chain of runs leads from one to the other with no barrier above delta: the minimax path
    through the matrix. Runs of different classes are *not connected within the searched family at level delta*; a number of classes means
    nothing without the level, and little without the range of levels over which it lasts (`gaps`).

    EXACT for the matrix. Time O(R^2 log R).

    Args:
        barriers: `(R, R)` [loss], symmetric, not negative, 0 on the diagonal, as `eq.paths.barriers` returns; infinite means never joined.

    Returns:
        `Dendrogram`.

    Raises:
        ValueError: no such matrix.

    Example:
        >>> import numpy as np, eqdyn as eq
        >>> found = eq.paths.classes([[0.0, 0.1, 2.0], [0.1, 0.0, 3.0], [2.0, 3.0, 0.0]])
        >>> found.levels.tolist(), float(found.minimax[1, 2]), found.labels(0.5).tolist()
        ([0.1, 2.0], 2.0, [0, 0, 1])
        >>> print(found.summary(0.5))
        3 runs, joined at levels 0.1, 2
        2 classes for delta from 0.1 to 2
        3 classes for delta from 0 to 0.1
        class 0 at level 0.5: runs 0, 1
        class 1 at level 0.5: runs 2
        runs of different classes are not connected within the searched family at level 0.5

    References:
        Gower and Ross, Applied Statistics 18 (1969) 54 (single linkage and the minimum spanning tree); arXiv:2510.04376 (classes of runs).
    """
    found = _matrix(barriers)
    num = len(found)
    minimax = np.where(np.eye(num, dtype=bool), 0.0, np.inf)
    merges, held = np.zeros((num - 1, 4)), {k: np.array([k]) for k in range(num)}
    of = np.arange(num)
    i, j = np.triu_indices(num, 1)
    at = 0
    for k in np.argsort(found[i, j], kind="stable"):
        one, other = of[i[k]], of[j[k]]
        if one == other:
            continue
        level = found[i[k], j[k]]
        minimax[np.ix_(held[one], held[other])] = level
        minimax[np.ix_(held[other], held[one])] = level
        both = np.concatenate([held.pop(one), held.pop(other)])
        merges[at] = (min(one, other), max(one, other), level, len(both))
        of[both], held[num + at] = num + at, both
        at += 1
    return Dendrogram(merges, minimax)


def _level(delta: Any) -> float:
    return delta if isinstance(delta, float) and delta == np.inf else _checks.number(delta, "delta", least=0.0)


def _matrix(barriers: Any) -> np.ndarray:
    found = np.array(barriers, np.float64)
    if found.ndim != 2 or found.shape[0] != found.shape[1] or len(found) < 2:
        msg = f"barriers: got shape {found.shape}; expected (R, R), a barrier for each pair of at least two runs; write eq.paths.barriers(...)."
        raise ValueError(msg)
    if np.isnan(found).any() or (found < 0).any() or np.diagonal(found).any():
        what = "NaN" if np.isnan(found).any() else "negative values" if (found < 0).any() else "a diagonal that is not 0"
        msg = f"barriers: got {what}; expected heights >= 0 between runs, and 0 from each to itself."
        raise ValueError(msg)
    finite = np.isfinite(found)
    apart = np.abs(np.where(finite & finite.T, found, 0.0) - np.where(finite & finite.T, found.T, 0.0)).max()
    if np.any(finite != finite.T) or apart > _UNEVEN * np.max(found, where=finite, initial=0.0):
        msg = f"barriers: got a matrix whose halves differ by {apart:.2g}; expected a symmetric one; write np.minimum(m, m.T): both are upper bounds."
        raise ValueError(msg)
    return np.minimum(found, found.T)
