"""The meter where the metric is known: the slope of log g over log kappa."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from eqdyn._exponent import BLOCK, DRAWS, NARROWEST, Exponent, Line, differences, verdict_of, windowed
from eqdyn.covariant.bowl import definite


def metric_exponent(gradients: Any, metric: Any, *, window: int | None = None, confidence: float = 0.95, seed: int = 0) -> Exponent:
    """Reads alpha of `g ~ kappa^alpha` where g is known: the slope of log g over the log variance of the gradients along g's eigenvectors (X3).

    Noise, windows and the interval are as in `exponent`. ESTIMATE. A metric that was averaged from these very gradients lags behind them and
    shares their errors: take gradients that it has not seen.

    Args:
        gradients: `(T, P)`, noisy gradients, one a step.
        metric: g, `(P, P)` symmetric positive definite, or `(P,)`, its diagonal.
        window: steps averaged into one sample; None takes the shortest after which the noise is white.
        confidence: of the interval.
        seed: of the bootstrap.

    Returns:
        `Exponent`, its method "metric"; `log_update` holds log g.

    Raises:
        ValueError: shapes that do not fit, fewer than 32 steps, values that are not finite, or a metric that is none.

    Example:
        >>> import numpy as np, eqdyn as eq
        >>> kappa = np.logspace(-1, 1, 8)
        >>> g = np.random.default_rng(0).standard_normal((2000, 8)) * np.sqrt(kappa)
        >>> round(eq.covariant.metric_exponent(g, kappa**0.25).alpha, 1)
        0.2

    References:
        Vanchurin, arXiv:2504.14728 (the power law); the estimator is derived.
    """
    from scipy.stats import t

    g, values, vectors = _asked(gradients, metric, confidence)
    whiteness, white = windowed(g, window)
    along = differences(g @ vectors, max(white, 1))
    squares = np.add.reduceat(along * along, np.arange(0, len(along), BLOCK))
    live = squares.sum(0) > 1e-12 * squares.sum(0).max(initial=0.0)
    squares, y = squares[:, live], np.log(values[live])
    x = np.log(squares.sum(0) / len(along)) if live.any() else np.zeros(0)
    if len(x) < 2:
        line = Line(math.nan, math.nan, 0.0, math.nan, x, y, math.nan)
    else:
        weights = np.random.default_rng(seed).multinomial(len(squares), np.full(len(squares), 1 / len(squares)), size=DRAWS)
        many = np.log(np.maximum(weights @ squares, np.finfo(float).tiny))
        error = float(np.mean(np.var(many, axis=0)))
        alpha, slopes = _slope(x, y, error), _slope(many, y, 2 * error)  # a draw has the error twice
        residual = (y - y.mean()) - alpha * (x - x.mean())
        degrees, level = len(x) - 2, (1 + confidence) / 2
        scattered = math.sqrt(np.sum(residual**2) / max(1, degrees) / np.sum((x - x.mean()) ** 2))
        half = max(NARROWEST, float(np.std(slopes)) * t.ppf(level, 200), scattered * t.ppf(level, degrees) if degrees else 0.0)
        line = Line(float(alpha), half, float(np.ptp(x)) / math.log(10), math.sqrt(np.mean(residual**2)), x, y, math.nan)
    return Exponent(
        line.alpha, line.alpha - line.half, line.alpha + line.half, verdict_of(line, white), "metric", line.decades, max(white, 1), len(along), x, y,
        line.scatter, whiteness, math.nan,
    )  # fmt: skip


def _slope(x: np.ndarray, y: np.ndarray, error: float) -> np.ndarray:
    """Of y over x, which has errors of a known variance."""
    dx, dy = x - x.mean(-1, keepdims=True), y - y.mean()
    spread = np.mean(dx * dx, -1)
    share = (x.shape[-1] - 1) / x.shape[-1]
    return np.mean(dx * dy, -1) / np.maximum(spread - share * error, 0.25 * spread)


def _asked(gradients: Any, metric: Any, confidence: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    g = np.asarray(gradients, np.float64)
    if g.ndim != 2 or len(g) < 32 or not np.isfinite(g).all():
        msg = f"gradients: got shape {g.shape}, or values that are not finite; expected (T, P), finite, T at least 32."
        raise ValueError(msg)
    if not (isinstance(confidence, (int, float)) and 0 < confidence < 1):
        msg = f"confidence: got {confidence!r}; expected a number between 0 and 1."
        raise ValueError(msg)
    matrix = definite(metric, "metric")
    if len(matrix) != g.shape[1]:
        msg = f"metric: got shape {np.shape(metric)} with gradients {g.shape}; expected ({g.shape[1]},) or ({g.shape[1]}, {g.shape[1]})."
        raise ValueError(msg)
    return g, *((np.diag(matrix), np.eye(len(matrix))) if np.ndim(metric) == 1 else np.linalg.eigh(matrix))
