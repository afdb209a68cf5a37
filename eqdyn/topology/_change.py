"""Why Betti numbers changed between two checkpoints: one verdict a degree, with its reason in words."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from eqdyn.topology._betti import points_of
from eqdyn.topology._certified import between, stretch_of
from eqdyn.topology._cloud import Cloud
from eqdyn.topology._flag import betti_of_packed, chosen, passes_of, rank_of_packed
from eqdyn.topology._scales import LocalScale, parsed

PROTECTED, COLLISION, UNDECIDED, UNCHANGED = "protected", "collision", "undecided", "unchanged"
METRIC, METRIC_SEEN = "metric effect (certified)", "metric effect (diagnostic)"
QUANTILES = (0.03, 0.045, 0.06, 0.08)  # shares of all pairs at which locally scaled distances are read
SCALES = 24  # at which the later configuration is read again
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
        other_scale: `(from, to)` scales at which the later configuration shows the old numbers, on bars that certify it; or None.
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
        metric effect (certified)   nobody merged throughout, and the later configuration shows the old numbers at another scale, on
                                    bars with death / birth > high / low, which must have partners before (B3)
        metric effect (diagnostic)  nobody merged as far as was looked, and locally scaled distances show the old numbers in both,
                                    at two neighbouring quantiles or more
        undecided                   none of these

    Stretch range, readings and ranks are exact; what each verdict proves is said above. Without `throughout` what lies between
    the two checkpoints is unknown, and nothing is certified.

    Args:
        x, y: the same particles `(n, d)` at two checkpoints.
        scale: of both readings; a number, "diameter/4" or `NeighbourScale`.
        max_dim: highest degree, 0 to 3.
        throughout: whether no step between merged anybody: True, False, or a ledger of `observe.certificate` with stride 1; None if unknown.
        mesh: a `measure.MeshChange` of tracers carried along, if there is one.
        k: of the locally scaled distances.
        quantiles: shares of all pairs at which they are read, ascending.
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
    engine = chosen(engine)
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
    meets = {name: mesh.counts[name] for name in _ALARMS if mesh.counts[name]} if mesh is not None else {}
    found: list[DegreeChange] = []
    other, local = None, {}
    if before != after:
        if low > 0 and steps and not meets:
            other = read.other_scale(before, high / low)
        if 1 <= k < len(x):
            local = {q: (read.local(read.before, k, q), read.local(read.after, k, q)) for q in quantiles}
    seen = _neighbouring([q for q, (old, new) in local.items() if old == new == before], list(local))
    for degree in range(max_dim + 1):
        old, new = before[degree], after[degree]
        if old == new:
            found.append(DegreeChange(degree, old, new, UNCHANGED, "unchanged"))
            continue
        found.append(DegreeChange(degree, old, new, *_verdict(degree, new, old, bound, back, low, high, steps, meets, other, seen, before)))
    return Change(before, after, radii, low, high, bound, other, local, tuple(found))


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
        return METRIC, (
            f"{METRIC}: nobody merged at any step, and the old numbers {before} are alive at r = {other[0]:.4g} to {other[1]:.4g}, "
            f"on bars that the stretch cannot have made (death / birth > {high / low:.3g}); only the scale of the reading moved"
        )
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

    def local(self, cloud: Cloud, k: int, quantile: float) -> tuple[int, ...]:
        return self.betti(cloud, LocalScale(k, quantile=quantile))

    def bound(self, cloud: Cloud, r: float, low: float, high: float) -> tuple[int, ...]:
        """B4, rounding on the safe side."""
        if low <= 0 or not math.isfinite(high):
            return (0,) * (self.max_dim + 1)
        birth, death = between(r, low, high)
        return self.rank(cloud, birth * (1 - _ROUNDING), death * (1 + _ROUNDING))

    def rank(self, cloud: Cloud, birth: float, death: float) -> tuple[int, ...]:
        return rank_of_packed(cloud.packed(birth), cloud.packed(death), self.max_dim, 2, self.engine)

    def other_scale(self, wanted: tuple[int, ...], ratio: float) -> tuple[float, float] | None:
        """Scales of the later cloud that show the wanted numbers, on the same bars over more than `ratio`."""
        largest = self.after.diameter()
        if not largest > 0 or not math.isfinite(ratio):
            return None
        scales = largest * np.geomspace(1e-3, 1.0, SCALES * 2)
        # only a stretch of scales longer than the ratio can certify
        start = None
        for k, r in enumerate([*scales, math.inf]):
            shows = k < len(scales) and self.betti(self.after, float(r)) == wanted
            if shows and start is None:
                start = k
            if not shows and start is not None:
                a, b = float(scales[start]), float(scales[k - 1])
                if b > a * ratio * (1 + _ROUNDING) and self.rank(self.after, a, b)[1:] == wanted[1:]:
                    return a, b
                start = None
        return None


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
