"""The meter: which power of the gradient noise an optimizer's metric is, read off its gradients and the updates that it made of them."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from eqdyn import _checks

REGIMES = {0.0: "equilibration (alpha = 0)", 0.5: "efficient learning (alpha = 1/2)", 1.0: "natural gradient (alpha = 1)"}
BETWEEN, UNRESOLVED = "between the regimes", "unresolved"
METHODS = ("auto", "directions", "coordinates")
LEAST_DECADES = 1.0  # of kappa: over less a slope means nothing
NARROWEST = 1e-3  # half an interval: no reading is better than that
WIDEST = 0.4  # an interval longer than this tells no regime from the next
BLOCK = 8  # differences that are kept together, in halves and in the bootstrap
DRAWS = 400
STRETCHES = 8  # of the line, to see whether it is straight


class Exponent(NamedTuple):
    """What `exponent` read. ESTIMATE.

    Fields:
        alpha: the exponent, `(1 - slope) / 2`.
        low, high: ends of its interval at the level asked for.
        verdict: the regime that the interval holds, "between the regimes" where it holds none, or "unresolved" and why.
        method: "directions", the noise's own eigenvectors (X1), "coordinates" (X2), or "metric" (X3).
        coherence: squared correlation of the updates' noise with the gradients' along a direction, in the middle: 1 where the metric only scales
            along them; less where it turns, changes, or a momentum mixes steps; NaN where the metric is known.
        decades: over how many decades of kappa the slope is taken.
        window: steps that are averaged into one sample; `whiteness` is why.
        samples: how many differences of windows there are.
        log_kappa, log_update: natural logarithms of the variances along each direction, of gradients and of updates, `(k,)`.
        scatter: root mean square distance from the line, in nats.
        whiteness: `(m, 2)`, windows in steps and the Allan variance times the window over its first value: 1 for white noise, growing
            where a drift takes over.
    """

    alpha: float
    low: float
    high: float
    verdict: str
    method: str
    decades: float
    window: int
    samples: int
    log_kappa: np.ndarray
    log_update: np.ndarray
    scatter: float
    whiteness: np.ndarray
    coherence: float


def exponent(
    gradients: Any, updates: Any, *, method: str = "auto", window: int | None = None, confidence: float = 0.95, seed: int = 0
) -> Exponent:  # fmt: skip
    """Reads alpha of `g ~ kappa^alpha` off a run: the slope of the updates' noise over the gradients', `Cov(dq) ~ kappa^(1 - 2 alpha)`.

    Noise is what differs between neighbouring windows, so that means and slow drifts drop out; a momentum common to all directions moves
    the line, not its slope. Directions come from one half of the windows and variances from the other, and the halves change places. The
    slope is corrected for the errors of the variances it is taken over. ESTIMATE; the interval is from a bootstrap over blocks of
    windows, from the scatter about the line, or from what the slope changes by where a stretch of the line is left out, whichever is
    longest, and at least 0.001 to both sides. It knows of sampling, not of a metric that lags behind its noise.

    Args:
        gradients: `(T, P)`, noisy gradients, one a step.
        updates: `(T, P)`, the updates made from them.
        method: "directions" (X1: any metric; needs a few times more windows than directions, and takes the strongest where there are
            more), "coordinates" (X2: diagonal metrics, any P), or "auto", that of the two along which updates follow gradients more closely.
        window: steps averaged into one sample; None takes the shortest after which the gradients' noise is white.
        confidence: of the interval.
        seed: of the bootstrap.

    Returns:
        `Exponent`.

    Raises:
        ValueError: arrays of other shapes, fewer than 32 steps, values that are not finite, or an unknown method.

    Example:
        >>> import numpy as np, eqdyn as eq
        >>> kappa = np.logspace(-1, 1, 8)
        >>> g = np.random.default_rng(0).standard_normal((2000, 8)) * np.sqrt(kappa)
        >>> found = eq.covariant.exponent(g, -0.1 * g / np.sqrt(kappa))
        >>> round(found.alpha, 2), found.verdict
        (0.5, 'efficient learning (alpha = 1/2)')

    References:
        Vanchurin, arXiv:2504.14728 (the power law); the estimator is derived, with the intercept left free.
    """
    g, u = _asked(gradients, updates, method, confidence)
    whiteness, white = windowed(g, window)
    width = max(white, 1)
    dg, du = (differences(a, width) for a in (g, u))
    asked = ("directions", "coordinates") if method == "auto" else (method,)
    lines = {name: line for name in asked if (line := _line(dg, du, name, confidence, seed)) is not None}
    if not lines:
        nothing = np.zeros(0)
        return Exponent(math.nan, math.nan, math.nan, f"{UNRESOLVED}: no two directions have noise", asked[0], 0.0, width, len(dg), nothing, nothing,
                        math.nan, whiteness, math.nan)  # fmt: skip
    name = max(lines, key=lambda name: (round(lines[name].coherence, 3), lines[name].decades))
    line = lines[name]
    return Exponent(
        line.alpha, line.alpha - line.half, line.alpha + line.half, verdict_of(line, white), name, line.decades, width, len(dg), line.x, line.y,
        line.scatter, whiteness, line.coherence,
    )  # fmt: skip


class Line(NamedTuple):
    alpha: float
    half: float
    decades: float
    scatter: float
    x: np.ndarray
    y: np.ndarray
    coherence: float


def _asked(gradients: Any, updates: Any, method: str, confidence: Any) -> tuple[np.ndarray, np.ndarray]:
    g, u = (np.asarray(a, np.float64) for a in (gradients, updates))
    if g.ndim != 2 or g.shape != u.shape or len(g) < 32:
        msg = f"gradients, updates: got shapes {g.shape} and {u.shape}; expected both (T, P), T at least 32."
        raise ValueError(msg)
    if not (np.isfinite(g).all() and np.isfinite(u).all()):
        msg = "gradients, updates: got values that are not finite; leave out the steps after the run diverged."
        raise ValueError(msg)
    if method not in METHODS:
        msg = f"method: got {method!r}; expected {', '.join(map(repr, METHODS[:-1]))} or {METHODS[-1]!r}."
        raise ValueError(msg)
    if not (isinstance(confidence, (int, float)) and 0 < confidence < 1):
        msg = f"confidence: got {confidence!r}; expected a number between 0 and 1."
        raise ValueError(msg)
    return g, u


def windows(a: np.ndarray, width: int) -> np.ndarray:
    num = len(a) // width
    return a[: num * width].reshape(num, width, -1).mean(1)


def differences(a: np.ndarray, width: int) -> np.ndarray:
    """Of neighbouring windows, over the root of 2: of white noise their variance is that of a window."""
    return np.diff(windows(a, width), axis=0) / math.sqrt(2)


def windowed(g: np.ndarray, window: int | None) -> tuple[np.ndarray, int]:
    """The whiteness of noise by window, and the window asked for or chosen by it; 0 where no window is white."""
    whiteness = whiteness_of(g)
    width = window_of(whiteness, len(g)) if window is None else _checks.count(window, "window", least=1)
    if len(g) // max(width, 1) < 16:
        msg = f"window: got {width} of {len(g)} steps; expected at least 16 windows."
        raise ValueError(msg)
    return whiteness, width


def whiteness_of(g: np.ndarray) -> np.ndarray:
    """The Allan variance of the gradients times its window, over its first value, by window: the middle coordinate."""
    widths = [2**k for k in range(int(math.log2(max(1, len(g) // 16))) + 1)]
    allan = np.stack([width * np.mean(differences(g, width) ** 2, axis=0) for width in widths])
    moving = allan[0] > 0
    ratio = np.median(allan[:, moving] / allan[0, moving], axis=1) if moving.any() else np.ones(len(widths))
    return np.stack([widths, ratio], axis=1)


def window_of(whiteness: np.ndarray, steps: int) -> int:
    """The shortest window from which on the noise is white, as far as the next; 0 where none is."""
    for k in range(len(whiteness) - 1):
        if whiteness[k, 0] * 128 > steps and k:
            break
        if 1 / 1.5 < whiteness[k + 1, 1] / whiteness[k, 1] < 1.5:
            return int(whiteness[k, 0])
    return 0


def _line(dg: np.ndarray, du: np.ndarray, method: str, confidence: float, seed: int) -> Line | None:
    """The line of log variances: both halves as the one that gives the directions, and their mean."""
    from scipy.stats import t

    first = (np.arange(len(dg)) // BLOCK) % 2 == 0
    rng = np.random.default_rng(seed)
    one, other = (_of_half(dg, du, seen, method, rng) for seen in (first, ~first))
    if one is None or other is None:
        return None
    slope = (one.slope + other.slope) / 2
    sampled = math.hypot(one.sampled, other.sampled) / 2
    x, y = np.concatenate([one.x, other.x]), np.concatenate([one.y, other.y])
    degrees, level = min(len(one.x), len(other.x)) - 2, (1 + confidence) / 2
    # the halves see the same directions: what they say of the line's shape is one witness, not two
    scattered, bent = (math.sqrt((a**2 + b**2) / 2) for a, b in ((one.scattered, other.scattered), (one.bent, other.bent)))
    wide = max(
        sampled * t.ppf(level, 200), scattered * t.ppf(level, degrees) if degrees > 0 else 0.0, bent * t.ppf(level, STRETCHES - 1),
    )  # fmt: skip
    scatter = math.sqrt((one.scatter**2 + other.scatter**2) / 2)
    half_width, decades = max(wide / 2, NARROWEST), min(np.ptp(one.x), np.ptp(other.x)) / math.log(10)
    return Line((1 - slope) / 2, half_width, decades, scatter, x, y, (one.coherence + other.coherence) / 2)


class _Half(NamedTuple):
    slope: float
    sampled: float
    scattered: float
    bent: float
    scatter: float
    x: np.ndarray
    y: np.ndarray
    coherence: float


def _of_half(dg: np.ndarray, du: np.ndarray, first: np.ndarray, method: str, rng: np.random.Generator) -> _Half | None:
    seen, rest_g, rest_u = dg[first], dg[~first], du[~first]
    if method == "directions":
        most = max(2, min(dg.shape[1], len(seen) // 5))
        _, sizes, turned = np.linalg.svd(seen, full_matrices=False)
        turned = turned[: min(most, int(np.sum(sizes > sizes[0] * 1e-7)))]
        rest_g, rest_u = rest_g @ turned.T, rest_u @ turned.T
    a, b = (np.add.reduceat(v * v, np.arange(0, len(v), BLOCK)) for v in (rest_g, rest_u))  # by block
    # nothing of a variance that is a rounding of the largest
    live = np.all([v.sum(0) > 1e-12 * v.sum(0).max(initial=0.0) for v in (a, b)], axis=0) & (a.sum(0) > 0) & (b.sum(0) > 0)
    a, b = a[:, live], b[:, live]
    both = np.sum(rest_g[:, live] * rest_u[:, live], axis=0)
    if a.shape[1] < 2:
        return None
    weights = rng.multinomial(len(a), np.full(len(a), 1 / len(a)), size=DRAWS)
    tiny = np.finfo(float).tiny
    many_x, many_y = (np.log(np.maximum(weights @ v, tiny)) for v in (a, b))
    x, y = np.log(a.sum(0) / len(rest_g)), np.log(b.sum(0) / len(rest_g))
    error_xx, error_xy = np.mean(np.var(many_x, axis=0)), np.mean(np.mean(many_x * many_y, 0) - many_x.mean(0) * many_y.mean(0))

    def slope_of(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        dx, dy = x - x.mean(-1, keepdims=True), y - y.mean(-1, keepdims=True)
        spread = np.mean(dx * dx, -1)
        k = x.shape[-1]
        share = (k - 1) / k
        below = np.maximum(spread - share * error_xx, 0.25 * spread)
        return (np.mean(dx * dy, -1) - share * error_xy) / below

    slope = float(slope_of(x, y))
    residual = (y - y.mean()) - slope * (x - x.mean())
    k = len(x)
    scatter = math.sqrt(np.mean(residual**2))
    scattered = math.sqrt(np.sum(residual**2) / max(1, k - 2) / np.sum((x - x.mean()) ** 2)) if np.ptp(x) > 0 else math.inf
    return _Half(slope, float(np.std(slope_of(many_x, many_y))), scattered, _bent(x, y), scatter, x, y,
                 float(np.median(both**2 / (a.sum(0) * b.sum(0)))))  # fmt: skip


def _bent(x: np.ndarray, y: np.ndarray) -> float:
    """Error of a slope where the line is none: by leaving out one stretch of neighbouring directions after the other; 0 with too few of them."""
    if len(x) < 4 * STRETCHES:
        return 0.0
    parts = np.array_split(np.argsort(x), STRETCHES)
    slopes = [np.polyfit(np.delete(x, part), np.delete(y, part), 1)[0] for part in parts]
    return math.sqrt((STRETCHES - 1) * float(np.var(slopes)))


def verdict_of(line: Line, window: int) -> str:
    if not window:
        return f"{UNRESOLVED}: what the gradients do from step to step is no noise, it is not white over any window"
    if line.decades < LEAST_DECADES:
        return f"{UNRESOLVED}: kappa spans {line.decades:.2g} decades, a slope needs {LEAST_DECADES:g}"
    if 2 * line.half > WIDEST:
        return f"{UNRESOLVED}: the interval is {2 * line.half:.2g} long"
    held = [name for alpha, name in REGIMES.items() if abs(line.alpha - alpha) <= line.half]
    return held[0] if held else BETWEEN
