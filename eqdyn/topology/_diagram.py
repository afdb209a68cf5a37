"""Persistence diagrams as plain arrays."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Diagram(NamedTuple):
    """Bars of a Rips filtration by degree, in units of the points.

    Fields:
        bars: by degree, `(m, 2)` float64: birth and death of those that die up to `longest`. Degree 0 has all its bars, zero-length
            ones of coincident points too, exact in float64; higher degrees are those of positive length at the engine's precision.
        essential: by degree, `(m,)`: births of those that are alive at `longest`.
        longest: where the filtration was cut; infinite for a whole one. Bars alive at a cut may die later. Which those are is decided
            in float64 by d <= longest; at smaller scales births and deaths, and so `betti` and `alive`, hold to `rounding`.
        rounding: every birth and death of degree >= 1 is right to within this much, [points].
        error: 0, or with landmarks the bottleneck distance to the diagram of all points is at most this, [points].
        kind: "exact" (to `rounding`), or "estimate" with landmarks.
        prime: characteristic of the field.
        num: how many points the filtration was made of.
    """

    bars: tuple[np.ndarray, ...]
    essential: tuple[np.ndarray, ...]
    longest: float
    rounding: float
    error: float
    kind: str
    prime: int
    num: int

    @property
    def max_dim(self) -> int:
        """Highest degree."""
        return len(self.bars) - 1

    def betti(self, r: float) -> tuple[int, ...]:
        """How many bars are alive at r: birth <= r < death. Up to `longest`.

        Example:
            >>> import numpy as np, eqdyn as eq
            >>> eq.topology.persistence(np.array([[0.0], [1.0], [3.0]])).betti(1.0)
            (2, 0)
        """
        if not 0 <= r <= self.longest:
            msg = f"r: got {r}; expected 0 to {self.longest:g}, where the filtration was cut."
            raise ValueError(msg)
        return tuple(
            int(np.sum((bars[:, 0] <= r) & (r < bars[:, 1])) + np.sum(births <= r)) for bars, births in zip(self.bars, self.essential, strict=True)
        )

    def alive(self, degree: int, birth: float, death: float) -> np.ndarray:
        """Bars `(m, 2)` of a degree born at `birth` or before and alive beyond `death`; essential ones die at infinity."""
        bars = self.all_bars(degree)
        return bars[(bars[:, 0] <= birth) & (bars[:, 1] > death)]

    def all_bars(self, degree: int) -> np.ndarray:
        """Bars of a degree `(m, 2)` with the essential ones, whose death is infinite; longest ratio death / birth first."""
        births = self.essential[degree]
        bars = np.concatenate([self.bars[degree], np.stack([births, np.full(len(births), np.inf)], 1)])
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(bars[:, 0] > 0, bars[:, 1] / bars[:, 0], np.where(bars[:, 1] > 0, np.inf, 1.0))
        return bars[np.lexsort((-bars[:, 1], -ratio))]

    def summary(self) -> str:
        """How many bars of each degree, and the longest of them, in text."""
        lines = [f"{self.num} points over Z/{self.prime}, {self.kind}" + (f" to within {self.error:.3g}" if self.error else "")]
        for degree, (bars, births) in enumerate(zip(self.bars, self.essential, strict=True)):
            length = bars[:, 1] - bars[:, 0]
            longest = f", longest [{bars[length.argmax(), 0]:.4g}, {bars[length.argmax(), 1]:.4g})" if len(bars) else ""
            lines.append(f"degree {degree}: {len(bars)} bars{longest}; {len(births)} alive at {self.longest:g}")
        return "\n".join(lines)
