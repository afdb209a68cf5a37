"""Does one number per run predict another? Regression with its interval, and what is left when other numbers are taken out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from eqdyn import _checks


class Prediction(NamedTuple):
    """One number per run against another. ESTIMATE of a population from this sample.

    Fields:
        slope, intercept: of the least-squares line.
        r2: share of the variance that it explains; low, high: bootstrap interval over runs.
        spearman: rank correlation, no line assumed.
        partial: correlation of what linear regression on the controls leaves of both; NaN where nothing is left.
        partial_low, partial_high: its bootstrap interval.
        p_value: of the partial correlation, by permuting what is left (two-sided).
        controls: their names.
        verdict: a sentence.
    """

    slope: float
    intercept: float
    r2: float
    low: float
    high: float
    spearman: float
    partial: float
    partial_low: float
    partial_high: float
    p_value: float
    controls: tuple[str, ...]
    verdict: str


def predicts(
    values: Any, target: Any, controls: Mapping[str, Any] | None = None, *, num_draws: int = 2000, seed: int = 0, confidence: float = 0.95
) -> Prediction:
    """Whether a number predicts another over runs, by itself and beyond the controls.

    R^2 of the line with a bootstrap interval; then the correlation of both after linear regression on the controls (width, norm, training loss),
    which a number that only stands for one of them does not survive.

    Args:
        values: `(R,)`, the number that is to predict, say total persistence.
        target: `(R,)`, what is predicted, say the generalisation gap.
        controls: by name, `(R,)` each; None for none.
        num_draws: of the bootstrap and of the permutation test.
        seed: of these.
        confidence: of the intervals, and 1 less the level of the test.

    Returns:
        `Prediction`.

    Raises:
        ValueError: numbers that do not fit, or fewer runs than controls and four.

    Example:
        >>> import numpy as np, eqdyn as eq
        >>> width = np.repeat([1.0, 2.0, 3.0], 20)
        >>> noise = np.random.default_rng(0).standard_normal((2, 60)) / 4
        >>> found = eq.paths.predicts(width + noise[0], width + noise[1], {"width": width})      # both go with the width
        >>> found.r2 > 0.7, found.verdict
        (True, 'predicts by itself, not beyond width')

    References:
        Categorical Invariants of Learning Dynamics, arXiv:2510.04376, whose claim it tests; Jiang et al., arXiv:1912.02178, on controls.
    """
    from scipy.stats import spearmanr

    x, y = np.asarray(values, np.float64), np.asarray(target, np.float64)
    held = {} if controls is None else {name: np.asarray(value, np.float64) for name, value in controls.items()}
    for name, one in {"values": x, "target": y, **held}.items():
        if one.shape != x.shape or one.ndim != 1 or not np.isfinite(one).all():
            msg = f"{name}: got shape {one.shape}, or values that are not finite; expected one finite number a run, {x.shape}."
            raise ValueError(msg)
    if len(x) < len(held) + 4:
        msg = f"values: got {len(x)} runs with {len(held)} controls; expected at least {len(held) + 4}."
        raise ValueError(msg)
    num_draws = _checks.count(num_draws, "num_draws", least=100)
    z = np.stack([np.ones(len(x)), *held.values()], axis=1)
    rng = np.random.default_rng(seed)
    tail = 100 * (1 - confidence) / 2
    rows = rng.integers(0, len(x), (num_draws, len(x)))
    squares = [_correlation(x[one], y[one]) ** 2 for one in rows]
    partials = [_partial(x[one], y[one], z[one]) for one in rows]
    low, high = _interval(squares, tail)
    partial = _partial(x, y, z)
    left = [_left(one, z) for one in (x, y)]
    dealt = [abs(_correlation(left[0], rng.permutation(left[1]))) for _ in range(num_draws)]
    p_value = (1 + np.sum(np.array(dealt) >= abs(partial) * (1 - 1e-12))) / (1 + num_draws) if np.isfinite(partial) else np.nan
    r2 = _correlation(x, y) ** 2
    slope = np.cov(x, y)[0, 1] / np.var(x, ddof=1) if np.var(x) > 0 else np.nan
    between = _interval(partials, tail)
    alone = np.isfinite(r2) and _alone(x, y, rng, num_draws) <= 1 - confidence
    return Prediction(
        float(slope), float(y.mean() - slope * x.mean()), float(r2), low, high, float(spearmanr(x, y)[0]) if np.ptp(x) else np.nan,
        float(partial), *between, float(p_value), tuple(held), _verdict(alone, p_value, 1 - confidence, tuple(held)),
    )  # fmt: skip


def _interval(draws: list[float], tail: float) -> tuple[float, float]:
    """Of the draws in which there was a correlation at all."""
    known = np.array(draws)[np.isfinite(draws)]
    low, high = np.percentile(known, [tail, 100 - tail]) if len(known) else (np.nan, np.nan)
    return float(low), float(high)


def _correlation(x: np.ndarray, y: np.ndarray) -> float:
    a, b = x - x.mean(), y - y.mean()
    size = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / size) if size > 0 else np.nan


def _left(y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """What regression on the controls does not explain; 0 where that is a rounding."""
    rest = y - z @ np.linalg.lstsq(z, y, rcond=None)[0]
    least = max(1e-10 * np.linalg.norm(y - y.mean()), 1e-13 * np.linalg.norm(y))
    return rest if np.linalg.norm(rest) > least else np.zeros_like(rest)


def _partial(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> float:
    return _correlation(_left(x, z), _left(y, z))


def _alone(x: np.ndarray, y: np.ndarray, rng: np.random.Generator, num_draws: int) -> float:
    seen = abs(_correlation(x, y))
    return (1 + sum(abs(_correlation(x, rng.permutation(y))) >= seen * (1 - 1e-12) for _ in range(num_draws))) / (1 + num_draws)


def _verdict(alone: bool, p_value: float, level: float, controls: tuple[str, ...]) -> str:
    names = " and ".join([", ".join(controls[:-1]), controls[-1]]) if len(controls) > 1 else "".join(controls)
    beyond = bool(p_value <= level)
    if not controls:
        return "predicts" if alone else "not shown to predict"
    if alone:
        return f"predicts, also beyond {names}" if beyond else f"predicts by itself, not beyond {names}"
    return f"predicts only once {names} are taken out" if beyond else "not shown to predict"
