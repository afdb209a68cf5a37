"""Which bars must survive a stretch: theorems about two indexed configurations, with no rule and no step size.

If every distance from X to Y is multiplied by a factor in [low, high], low > 0, the Rips filtrations interleave:
`Rips_r(X)` lies in `Rips_{high r}(Y)`, which lies in `Rips_{high r / low}(X)`.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from eqdyn import _checks
from eqdyn.topology import _table
from eqdyn.topology._betti import TABLE_BYTES, asked, points_of
from eqdyn.topology._cloud import Cloud
from eqdyn.topology._diagram import Diagram
from eqdyn.topology._flag import passes_of, rank_of_packed

ROUNDINGS = 64  # of float32: by how much, relative, measure.stretch may be off in a thousand dimensions
LEAST = 1e-12  # the same in float64, and of the distances of a diagram


class CertifiedBars(NamedTuple):
    """Bars of one degree of X, longest ratio first, and where each must be alive in Y.

    Fields:
        degree: of the bars.
        bars: `(m, 2)` birth and death in X, [points], as `Diagram.all_bars`: an infinite death is of a bar alive where the diagram was cut.
        certified: `(m,)`: has a partner in Y, `death / birth > high / low` (B3), where a bar alive at a cut counts as dying there. Bound.
        alive_from, alive_to: `(m,)`: the partner is alive in Y on `[high * birth, low * death)`, at least; NaN where not certified.
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

    Rounding is on the safe side: births are taken up, deaths down by `diagram.rounding`, and the range is widened by that of its dtype. A
    bar alive where the diagram was cut may die right there: it counts as dying at the cut (but for one of degree 0, which never dies).

    Args:
        diagram: of X; exact, not by landmarks.
        low, high: the stretch range X -> Y of all pairs (`measure.stretch`), or bounds of it, no unit; numbers that float32 holds are
            taken to come from there, both together.
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
    wide = widened(low, high)
    low, high = stretch_range(low, high)
    _exact(diagram)
    if not 0 <= _checks.count(degree, "degree") <= diagram.max_dim:
        msg = f"degree: got {degree}; expected 0 to {diagram.max_dim}."
        raise ValueError(msg)
    bars = diagram.all_bars(degree)
    births, deaths = _known(diagram, degree)
    # all may merge where low = 0, whatever 0 * infinity is
    start, end = wide[1] * births, wide[0] * deaths if low > 0 else np.zeros(len(bars))
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

    Rounding is on the safe side, and bars alive where the diagram was cut count as dying there, as in `certified_bars`.

    Args:
        diagram: of X.
        low, high: the stretch range X -> Y of all pairs, as in `certified_bars`.
        r: the scale in Y, [points].

    Raises:
        ValueError: a range or scale that makes no sense, or one beyond the cut; a diagram by landmarks.

    Example:
        >>> import numpy as np, eqdyn as eq
        >>> t = np.arange(12) * np.pi / 6
        >>> eq.topology.betti_bound(eq.topology.persistence(np.stack([np.cos(t), np.sin(t)], 1)), 0.9, 1.1, 1.0)
        (1, 1)
    """
    wide = widened(low, high)
    low, high = stretch_range(low, high)
    _exact(diagram)
    r = _checks.number(r, "r", least=0.0)
    if low > 0 and between(r, low, high)[1] > diagram.longest:
        msg = f"r: got {r}; expected at most {low * diagram.longest:.4g}: the diagram was cut at {diagram.longest:g}."
        raise ValueError(msg)
    birth, death = between(r, *wide)
    known = [_known(diagram, degree) for degree in range(diagram.max_dim + 1)]
    return tuple(int(np.sum((births <= birth) & (deaths > death))) for births, deaths in known)


def _known(diagram: Diagram, degree: int) -> tuple[np.ndarray, np.ndarray]:
    """Births that are not too early and deaths that are not too late, of the bars in the order of `all_bars`."""
    bars = diagram.all_bars(degree)
    slack = diagram.rounding if degree else 0.0
    births, deaths = bars[:, 0] + slack * (bars[:, 0] > 0), np.minimum(bars[:, 1], diagram.longest) - slack
    if not degree and np.isinf(bars[:1, 1]).any():
        deaths[0] = np.inf  # there is a component at every scale
    return births, deaths


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
    degree, prime, engine = asked(max_dim, prime, engine)
    _checks.fits_budget(16 * len(x) ** 2, TABLE_BYTES, "persistent_betti", "take fewer points")
    cloud = Cloud(x, passes_of(engine))
    return rank_of_packed(cloud.packed(birth), cloud.packed(death), degree, prime, engine)


def between(r: float, low: float, high: float) -> tuple[float, float]:
    """Scales in X of a bar that must be alive in Y at r."""
    return r / high, r / low if low > 0 else math.inf


def stretch_range(low: Any, high: Any) -> tuple[float, float]:
    """A stretch range that makes sense."""
    try:
        least, most = float(low), float(high)
    except (TypeError, ValueError):
        least = most = math.nan
    if not (0 <= least <= most < math.inf and most > 0):
        msg = f"low, high: got {low!r} and {high!r}; expected 0 <= low <= high, finite, as measure.stretch(x, y) gives."
        raise ValueError(msg)
    return least, most


def widened(low: Any, high: Any) -> tuple[float, float]:
    """A stretch range with the rounding of whoever measured it, and of the distances it is applied to."""
    least, most = stretch_range(low, high)
    dtypes = [jnp.dtype(getattr(value, "dtype", np.float64)) for value in (low, high)]
    # floats may have been numbers of float32
    single = any(dtype.itemsize <= 4 for dtype in dtypes) or all(value < 1e38 and float(np.float32(value)) == value for value in (least, most))
    narrow = [float(jnp.finfo(dtype).eps) for dtype in dtypes if jnp.issubdtype(dtype, jnp.floating) and dtype.itemsize < 4]
    tolerance = max(LEAST, ROUNDINGS * float(np.finfo(np.float32).eps) * single + max(narrow, default=0.0))
    return least * (1 - tolerance), most * (1 + tolerance)


def stretch_of(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """The stretch range of all pairs of distinct points X -> Y, from differences in float64; infinite if coincident ones separate."""
    low, high = math.inf, 0.0
    side = max(1, 2**22 // max(1, len(x)))
    places = [np.unique(points, axis=0, return_inverse=True)[1].ravel() for points in (x, y)]
    for first in range(0, len(x), side):
        near, far = (_distances(points, place, first, side) for points, place in zip((x, y), places, strict=True))
        far[np.arange(len(far)), first + np.arange(len(far))] = np.nan
        with np.errstate(all="ignore"):
            ratio = far / near  # 0 / 0, twins that stay twins, is NaN and asks nothing
        ratio[(ratio == 0) & (far > 0)] = np.nextafter(0, 1)  # what underflows is not zero
        low, high = min(low, float(np.nanmin(ratio, initial=math.inf))), max(high, float(np.nanmax(ratio, initial=0.0)))
    return (low, high) if low <= high else (1.0, 1.0)


def _distances(x: np.ndarray, place: np.ndarray, first: int, side: int) -> np.ndarray:
    """Distances of `side` points to all, zero for those of one place alone."""
    from scipy.spatial.distance import cdist

    d = cdist(x[first : first + side], x)
    # squares overflow and vanish before distances do
    rows, columns = np.nonzero(~((d > 1e-140) & (d < 1e140)))
    apart = place[first + rows] != place[columns]
    rows, columns = rows[apart], columns[apart]
    d[rows, columns] = _table.between(x, first + rows, columns)
    return d


def _exact(diagram: Diagram) -> None:
    if diagram.kind != "exact":
        msg = "diagram: got one by landmarks; expected that of all points: an estimate certifies nothing."
        raise ValueError(msg)
