"""Which bars must survive a stretch: theorems about two indexed configurations, with no rule and no step size.

If every distance from X to Y is multiplied by a factor in [low, high], low > 0, the Rips filtrations interleave:
`Rips_r(X)` lies in `Rips_{high r}(Y)`, which lies in `Rips_{high r / low}(X)`.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from eqdyn import _checks
from eqdyn.topology._betti import TABLE_BYTES, points_of
from eqdyn.topology._cloud import Cloud
from eqdyn.topology._diagram import Diagram
from eqdyn.topology._flag import chosen, passes_of, rank_of_packed


class CertifiedBars(NamedTuple):
    """Bars of one degree of X, longest ratio first, and where each must be alive in Y.

    Fields:
        degree: of the bars.
        bars: `(m, 2)` birth and death in X, [points]; infinite deaths are essential ones.
        certified: `(m,)`: has a partner in Y, `death / birth > high / low` (B3). Bound.
        alive_from, alive_to: `(m,)`: the partner is alive in Y on `[high * birth, low * death)`; NaN where not certified.
        low, high: the stretch range used.
    """

    degree: int
    bars: np.ndarray
    certified: np.ndarray
    alive_from: np.ndarray
    alive_to: np.ndarray
    low: float
    high: float

    def summary(self) -> str:
        """How many bars must survive, in words."""
        count = int(self.certified.sum())
        need = f"death / birth > {self.high / self.low:.3g}" if self.low > 0 else "no pair may merge"
        return f"degree {self.degree}: {count} of {len(self.bars)} bars must survive a stretch in [{self.low:.4g}, {self.high:.4g}] ({need})"


def certified_bars(diagram: Diagram, low: float, high: float, degree: int = 1) -> CertifiedBars:
    """The bars of X that must have a partner in Y when all distances stretch by factors in [low, high]. BOUND.

    Rounding of the diagram is on the safe side: births are taken up, deaths down by `diagram.rounding`.

    Args:
        diagram: of X; exact, not by landmarks.
        low, high: the stretch range X -> Y of all pairs (`measure.stretch`), or bounds of it, no unit.
        degree: of the bars.

    Raises:
        ValueError: a range or degree that makes no sense; a diagram by landmarks.

    Example:
        >>> import numpy as np, eqdyn as eq
        >>> t = np.arange(12) * np.pi / 6
        >>> found = eq.topology.persistence(np.stack([np.cos(t), np.sin(t)], 1))
        >>> print(eq.topology.certified_bars(found, 0.8, 1.25).summary())
        degree 1: 1 of 1 bars must survive a stretch in [0.8, 1.25] (death / birth > 1.56)

    References:
        Chazal, de Silva, Oudot, Persistence stability for geometric complexes (interleaving, in log scale here).
    """
    low, high = stretch_range(low, high)
    _exact(diagram)
    if not 0 <= degree <= diagram.max_dim:
        msg = f"degree: got {degree}; expected 0 to {diagram.max_dim}."
        raise ValueError(msg)
    bars = diagram.all_bars(degree)
    slack = diagram.rounding if degree else 0.0
    start, end = high * (bars[:, 0] + slack * (bars[:, 0] > 0)), low * (bars[:, 1] - slack)
    certified = start < end
    return CertifiedBars(degree, bars, certified, np.where(certified, start, np.nan), np.where(certified, end, np.nan), low, high)


def log_bottleneck_bound(low: float, high: float, *, rescaled: bool = False) -> float:
    """What the diagrams of X and Y can differ by in log scale (B1), or after the best rescaling of Y (B2). BOUND, no unit.

    Args:
        low, high: the stretch range of all pairs.
        rescaled: by `1 / sqrt(low * high)`.

    Example:
        >>> import eqdyn as eq
        >>> round(eq.topology.log_bottleneck_bound(0.5, 1.0), 4), round(eq.topology.log_bottleneck_bound(0.5, 1.0, rescaled=True), 4)
        (0.6931, 0.3466)
    """
    low, high = stretch_range(low, high)
    if low == 0:
        return math.inf
    return 0.5 * math.log(high / low) if rescaled else max(abs(math.log(low)), abs(math.log(high)))


def betti_bound(diagram: Diagram, low: float, high: float, r: float) -> tuple[int, ...]:
    """The least that the Betti numbers of Y at scale r can be (B4): bars of X with birth <= r / high and death > r / low. BOUND.

    Args:
        diagram: of X.
        low, high: the stretch range X -> Y of all pairs.
        r: the scale in Y, [points].

    Example:
        >>> import numpy as np, eqdyn as eq
        >>> t = np.arange(12) * np.pi / 6
        >>> eq.topology.betti_bound(eq.topology.persistence(np.stack([np.cos(t), np.sin(t)], 1)), 0.9, 1.1, 1.0)
        (1, 1)
    """
    low, high = stretch_range(low, high)
    _exact(diagram)
    birth, death = between(r, low, high)
    if death > diagram.longest:
        msg = f"r: got {r}; expected at most {low * diagram.longest:.4g}: the diagram was cut at {diagram.longest:g}."
        raise ValueError(msg)
    found = []
    for degree in range(diagram.max_dim + 1):
        slack = diagram.rounding if degree else 0.0
        found.append(len(diagram.alive(degree, birth - slack, death + slack)))
    return tuple(found)


def persistent_betti(points: Any, birth: float, death: float, *, max_dim: int = 2, prime: int = 2, engine: str | None = None) -> tuple[int, ...]:
    """How many bars are born at `birth` or before and alive at `death`: the rank of the map between the two complexes. Exact.

    What `betti_bound` counts, without the diagram, at the cost of two readings: degree 2 of a thousand points in a moment.

    Args:
        points: `(n, d)`, real.
        birth, death: two scales, birth <= death, [points].
        max_dim, prime, engine: as in `betti`.

    Raises:
        ValueError: as in `betti`; scales out of order.

    Example:
        >>> import numpy as np, eqdyn as eq
        >>> t = np.linspace(0, 2 * np.pi, 40, endpoint=False)
        >>> eq.topology.persistent_betti(np.stack([np.cos(t), np.sin(t)], 1), 0.2, 1.5, max_dim=1)
        (1, 1)
    """
    x = points_of(points)
    birth, death = _checks.number(birth, "birth", least=0.0), _checks.number(death, "death", least=0.0)
    if birth > death:
        msg = f"birth, death: got {birth} and {death}; expected birth <= death."
        raise ValueError(msg)
    _checks.fits_budget(16 * len(x) ** 2, TABLE_BYTES, "persistent_betti", "take fewer points")
    engine = chosen(engine)
    cloud = Cloud(x, passes_of(engine))
    return rank_of_packed(cloud.packed(birth), cloud.packed(death), _checks.count(max_dim, "max_dim"), prime, engine)


def between(r: float, low: float, high: float) -> tuple[float, float]:
    """Scales in X of a bar that must be alive in Y at r."""
    return r / high, r / low if low > 0 else math.inf


def stretch_range(low: Any, high: Any) -> tuple[float, float]:
    """A stretch range that makes sense."""
    low, high = float(low), float(high)
    if not (0 <= low <= high < math.inf and high > 0):
        msg = f"low, high: got {low} and {high}; expected 0 <= low <= high, finite, as measure.stretch(x, y) gives."
        raise ValueError(msg)
    return low, high


def stretch_of(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """The stretch range of all pairs of distinct points X -> Y, from differences in float64; infinite if coincident ones separate."""
    from scipy.spatial.distance import cdist

    low, high = math.inf, 0.0
    side = max(1, 2**24 // max(1, len(x)))
    for first in range(0, len(x), side):
        before, after = (cdist(points[first : first + side], points) for points in (x, y))
        after[np.arange(len(after)), first + np.arange(len(after))] = np.nan
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = after / before  # 0 / 0, twins that stay twins, is NaN and asks nothing
        low, high = min(low, float(np.nanmin(ratio, initial=math.inf))), max(high, float(np.nanmax(ratio, initial=0.0)))
    return (low, high) if low <= high else (1.0, 1.0)


def _exact(diagram: Diagram) -> None:
    if diagram.kind != "exact":
        msg = "diagram: got one by landmarks; expected that of all points: an estimate certifies nothing."
        raise ValueError(msg)
