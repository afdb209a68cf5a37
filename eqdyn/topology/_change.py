"""Why Betti numbers changed between two checkpoints: one verdict a degree, with its reason in words."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np

from eqdyn import _checks
from eqdyn.topology._betti import asked, points_of
from eqdyn.topology._certified import between, stretch_of
from eqdyn.topology._cloud import Cloud
from eqdyn.topology._flag import betti_of_packed, passes_of, rank_of_packed
from eqdyn.topology._scales import LocalScale, parsed

PROTECTED, COLLISION, UNDECIDED, UNCHANGED = "protected", "collision", "undecided", "unchanged"
METRIC, METRIC_SEEN = "metric effect (certified)", "metric effect (diagnostic)"
QUANTILES = (0.03, 0.045, 0.06, 0.08)  # shares of all pairs at which locally scaled distances are read
SCALES = 48  # at which the later configuration is read again
WINDOWS = 9  # stretches of scales about a reading that are tried
_ROUNDING = 1e-9
_ALARMS = ("collapsed_edges", "collapsed_faces", "folded_vertices", "folded_edges", "flipped", "crossings", "inside_out")


class DegreeChange(NamedTuple):
    """One Betti number between two checkpoints: its degree, the two numbers, the verdict, the reason in words."""

    degree: int
    before: int
    after: int
    verdict: str
    why: str


class Change(NamedTuple):
    """What became of the Betti numbers between two checkpoints, and why. Read `.summary()`.

    Fields:
        before, after: Betti numbers at the two readings.
        radii: the scales r of the two readings, [points].
        low, high: the stretch range of all pairs, no unit; low = 0 if somebody merged. Exact, to rounding.
        bound: the least that the later numbers can be by B4 (bound); equal or below `after`, unless something is wrong.
        other_scale: `(from, to)`, of the lowest degree that is a certified metric effect: the scales at which the later configuration
            shows an old number that is lost, or the earlier one a number that is new, on bars that certify it; or None.
        local: Betti numbers of before and after with locally scaled distances, by quantile.
        degrees: one `DegreeChange` a degree.
    """

    before: tuple[int, ...]
    after: tuple[int, ...]
    radii: tuple[float, float]
    low: float
    high: float
    bound: tuple[int, ...]
    other_scale: tuple[float, float] | None
    local: dict[float, tuple[tuple[int, ...], tuple[int, ...]]]
    degrees: tuple[DegreeChange, ...]

    def summary(self) -> str:
        """The verdicts, a line a degree that changed."""
        stretch = f"distances are {self.low:.4g} to {self.high:.4g} times what they were"
        changed = [one for one in self.degrees if one.verdict != UNCHANGED]
        if not changed:
            return f"Betti numbers {self.before} at r = {self.radii[0]:.4g} and {self.radii[1]:.4g}: unchanged; {stretch}"
        return "\n".join(
            [f"Betti numbers {self.before} -> {self.after}; {stretch}", *(f"b{c.degree} {c.before} -> {c.after}: {c.why}" for c in changed)]
        )


def change(
    x: Any, y: Any, *, scale: Any = "diameter/4", max_dim: int = 2, throughout: Any = None, mesh: Any = None, k: int = 12,
    quantiles: tuple[float, ...] = QUANTILES, engine: str | None = None,
) -> Change:  # fmt: skip
    """Says of every Betti number that changed between two checkpoints why it did.

        protected                   B4 forbids the change: a bug somewhere if seen
        collision                   distinct particles coincide now, or a mesh carried along folds or meets itself
        metric effect (certified)   nobody merged throughout, and the number is there at another scale (B3): one that is lost, in the
                                    later configuration, on bars with death / birth > high / low whose partners are those that were
                                    read; one that is new, in the earlier one, since all bars read later are as long as that. In degree
                                    0, where bars have no birth, the later number must stand over a ratio of scales > high / low
        metric effect (diagnostic)  nobody merged as far as was looked, and locally scaled distances show the old numbers in both,
                                    at two neighbouring quantiles or more
        undecided                   none of these

    Each degree is judged for itself. Stretch range, readings and ranks are exact; what each verdict proves is said above. Without
    `throughout` what lies between the two checkpoints is unknown, and nothing is certified.

    Args:
        x, y: the same particles `(n, d)` at two checkpoints.
        scale: of both readings; a number, "diameter/4" or `NeighbourScale`.
        max_dim: highest degree, 0 to 3.
        throughout: whether no step between merged anybody: True, False, or a ledger of `observe.certificate` with stride 1; None if unknown.
        mesh: a `measure.MeshChange` of tracers carried along, if there is one; its alarms count. Points that only touch (`touching`, as
            where a curve is pinched to a point) are none: `mesh_betti` at their places now has them glued.
        k: of the locally scaled distances, which are left out with fewer than k others.
        quantiles: shares of all pairs at which they are read, ascending, in (0, 1].
        engine: as in `betti`.

    Returns:
        `Change`.

    Raises:
        ValueError: points of different shapes, or arguments as in `betti`.

    Example:
        >>> import numpy as np, eqdyn as eq
        >>> t = np.linspace(0, 2 * np.pi, 60, endpoint=False)
        >>> x = np.stack([np.cos(t), np.sin(t)], 1)
        >>> y = x * np.array([1.0, 0.2])                      # an ellipse so flat that a quarter of the diameter fills it
        >>> found = eq.topology.change(x, y, max_dim=1, throughout=True)
        >>> found.before, found.after, found.degrees[1].verdict
        ((1, 1), (1, 0), 'metric effect (diagnostic)')
    """
    max_dim, _, engine = asked(max_dim, 2, engine)
    k = _checks.count(k, "k", least=1)
    finer = {q: parsed(LocalScale(k, quantile=q), k + 1) for q in quantiles}
    x, y = points_of(x), points_of(y)
    if x.shape != y.shape:
        msg = f"x, y: got shapes {x.shape} and {y.shape}; expected the same particles twice."
        raise ValueError(msg)
    scale = parsed(scale, len(x))
    if isinstance(scale, LocalScale):
        msg = "scale: got a LocalScale, which no theorem speaks of; expected a number, 'diameter/4' or NeighbourScale."
        raise ValueError(msg)
    read = _Reader(x, y, max_dim, engine)
    radii = read.before.radius(scale), read.after.radius(scale)
    before, after = read.betti(read.before, radii[0]), read.betti(read.after, radii[1])
    low, high = stretch_of(x, y)
    bound = read.bound(read.before, radii[1], low, high)
    # the way back stretches by 1 / high to 1 / low
    back = read.bound(read.after, radii[0], 1 / high if high > 0 else 0.0, 1 / low if low > 0 else math.inf)
    steps = _throughout(throughout)
    meets = _alarms(mesh)
    found: list[DegreeChange] = []
    local: dict[float, tuple[tuple[int, ...], tuple[int, ...]]] = {}
    if before != after and k < len(x):
        local = {q: (read.betti(read.before, one), read.betti(read.after, one)) for q, one in finer.items()}
    seen = _neighbouring([q for q, (old, new) in local.items() if old == new == before], list(local))
    others: dict[int, tuple[float, float] | None] = {}
    for degree in range(max_dim + 1):
        old, new = before[degree], after[degree]
        if old == new:
            found.append(DegreeChange(degree, old, new, UNCHANGED, "unchanged"))
            continue
        other = read.elsewhere(degree, old, new, radii, low, high) if low > 0 and steps and not meets else None
        verdict = _verdict(degree, new, old, bound, back, low, high, steps, meets, other, seen, before)
        others |= {degree: other} if verdict[0] == METRIC else {}
        found.append(DegreeChange(degree, old, new, *verdict))
    return Change(before, after, radii, low, high, bound, next(iter(others.values()), None), local, tuple(found))


def _verdict(
    degree: int, new: int, old: int, bound: tuple, back: tuple, low: float, high: float, steps: bool | None, meets: dict, other: Any,
    seen: list, before: tuple,
) -> tuple[str, str]:  # fmt: skip
    need = f"a bar would need death / birth > {high / low:.3g} to be certified" if low > 0 and math.isfinite(high) else "no bar can be certified"
    if new < bound[degree] or old < back[degree]:
        return (
            PROTECTED,
            f"{PROTECTED}: the stretch range leaves at least {max(bound[degree], back[degree])} bars alive (B4); this should not be: report it",
        )
    if low == 0:
        return COLLISION, f"{COLLISION}: distinct particles coincide now"
    if meets:
        what = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in meets.items())
        return COLLISION, f"{COLLISION}: the mesh carried along folds or meets itself ({what})"
    if steps is False:
        return UNDECIDED, f"{UNDECIDED}: particles may have merged on the way"
    if other is not None:
        what = (
            f"the {old} read before are alive now at r = {other[0]:.4g} to {other[1]:.4g}, on bars that the stretch cannot have made"
            if old > new
            else f"the {new} read now were alive before at r = {other[0]:.4g} to {other[1]:.4g}: the stretch cannot have made their bars"
        )
        return METRIC, f"{METRIC}: nobody merged at any step, and {what} (death / birth > {high / low:.3g}); only the scale of the reading moved"
    merged = "nobody merged at any step" if steps else "no two particles coincide (what lies between the checkpoints was not given)"
    if seen:
        return METRIC_SEEN, (
            f"{METRIC_SEEN}: {merged}, and locally scaled distances still show {before} with the closest {100 * seen[0]:.3g} % "
            f"to {100 * seen[-1]:.3g} % of pairs; {need}"
        )
    return UNDECIDED, f"{UNDECIDED}: {merged}, but the old numbers are not seen at another scale, nor with locally scaled distances; {need}"


class _Reader:
    """Readings of the two clouds, which share their distances."""

    def __init__(self, x: np.ndarray, y: np.ndarray, max_dim: int, engine: str):
        self.max_dim, self.engine = max_dim, engine
        self.before, self.after = Cloud(x, passes_of(engine)), Cloud(y, passes_of(engine))

    def betti(self, cloud: Cloud, scale: Any) -> tuple[int, ...]:
        return betti_of_packed(cloud.packed(scale), self.max_dim, 2, self.engine)

    def bound(self, cloud: Cloud, r: float, low: float, high: float) -> tuple[int, ...]:
        """B4, rounding on the safe side."""
        if low <= 0 or not math.isfinite(high):
            return (0,) * (self.max_dim + 1)
        birth, death = between(r, low, high)
        return self.rank(cloud, birth * (1 - _ROUNDING), death * (1 + _ROUNDING))

    def rank(self, cloud: Cloud, birth: float, death: float) -> tuple[int, ...]:
        return rank_of_packed(cloud.packed(birth), cloud.packed(death), self.max_dim, 2, self.engine)

    def elsewhere(self, degree: int, old: int, new: int, radii: tuple[float, float], low: float, high: float) -> tuple[float, float] | None:
        """Scales of the later cloud that show the lost number of a degree, or of the earlier one that show the new, on bars that prove it."""
        if not math.isfinite(high / low):
            return None
        if new > old:
            return self.read_before(degree, new, radii[1], low, high)
        return self.read_after(degree, old, radii[0], low, high)

    def read_before(self, degree: int, new: int, r: float, low: float, high: float) -> tuple[float, float] | None:
        """All the later bars live over a ratio of scales about their reading that gives them partners before."""
        ratio = high / low * (1 + 4 * _ROUNDING)
        for a in r / np.geomspace(ratio, 1.0, WINDOWS):
            b = max(float(a) * ratio, r)
            if self.rank(self.after, float(a), b)[degree] == new and (degree or self.betti(self.after, float(a))[0] == new):
                return float(a) / low, b / high
        return None

    def read_after(self, degree: int, old: int, r: float, low: float, high: float) -> tuple[float, float] | None:
        """A stretch of the later scales that shows the old number, on bars whose partners before are those that were read at r."""
        scales, shown = self.again
        start = None
        for k, numbers in enumerate([*shown, None]):
            shows = numbers is not None and numbers[degree] == old
            if shows and start is None:
                start = k
            if not shows and start is not None:
                a, b = float(scales[start]), float(scales[k - 1])
                start = None
                if b <= a * high / low * (1 + 4 * _ROUNDING) or self.rank(self.after, a, b)[degree] != old:
                    continue
                # the partners are alive before on all of [a / low, b / high): are they the bars that were read?
                s = min(max(r, a / low * (1 + _ROUNDING)), b / high * (1 - _ROUNDING))
                if self.betti(self.before, s)[degree] == old == self.rank(self.before, min(r, s), max(r, s))[degree]:
                    return a, b
        return None

    @functools.cached_property
    def again(self) -> tuple[np.ndarray, list[tuple[int, ...]]]:
        """The later cloud at many scales."""
        scales = self.after.diameter() * np.geomspace(1e-3, 1.0, SCALES)
        return scales, [self.betti(self.after, float(r)) for r in scales]


def _alarms(mesh: Any) -> dict[str, int]:
    counts = {} if mesh is None else getattr(mesh, "counts", None)
    if not isinstance(counts, dict):
        msg = f"mesh: got {type(mesh).__name__}; expected None or what measure.mesh_change(mesh, before, after) gives."
        raise TypeError(msg)
    return {name: counts[name] for name in _ALARMS if counts.get(name)}


def _throughout(given: Any) -> bool | None:
    if given is None or isinstance(given, (bool, np.bool_)):
        return None if given is None else bool(given)
    if not hasattr(given, "certified") or not hasattr(given, "stride"):
        msg = f"throughout: got {type(given).__name__}; expected True, False, None or a ledger of observe.certificate."
        raise TypeError(msg)
    certified = np.asarray(given.certified)
    if certified.ndim:
        msg = "throughout: got a ledger with lanes; expected that of one lane; write ledger.lane(k)."
        raise ValueError(msg)
    # a stride leaves steps unseen; what was seen to be open may have merged
    return bool(certified) if given.stride == 1 or not certified else None


def _neighbouring(good: list[float], all_of: list[float]) -> list[float]:
    """The longest run of neighbours among the good ones, if it has two or more."""
    best: list[float] = []
    now: list[float] = []
    for one in all_of:
        now = [*now, one] if one in good else []
        best = now if len(now) > len(best) else best
    return best if len(best) >= 2 else []
