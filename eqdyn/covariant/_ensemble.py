"""The Schroedinger route as a diagnostic: density, phase and Madelung residual of an ensemble of runs."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from eqdyn import _checks
from eqdyn.covariant.bowl import definite

_LEAST_TIMES = 3
_BLOCKS = 100  # of runs, at most, that are drawn again
_MOST_LEFT = 0.05  # of what changes, that the equation may leave unexplained, beside twice what the draws do


class Madelung(NamedTuple):
    """Of an ensemble, seen as Gaussian at every time. ESTIMATE.

    Fields:
        times: `(S,)`, in units of `dt`'s, of the rows below.
        mean, covariance: of the density p, `(S, d)`, `(S, d, d)`.
        phase_gradient, phase_hessian: of S at the mean, with `g^-1 grad S` the current velocity, `(S, d)`, `(S, d, d)`.
        circulation: `(S,)`, antisymmetric part of the velocity's gradient over the whole, in g: 0 where there is a phase at all.
        continuity: `(S,)`, what `d_t p + div(p v) = 0` leaves of the covariance's rate, over the size of its terms.
        fisher: `(S,)`, `integral g^mn d_m p d_n p / p = tr(g^-1 Sigma^-1)`.
        hbar_squared, low, high: fitted, and its 95 % interval over runs drawn again. Negative: an imaginary hbar.
        potential: the Hessian of the potential V that fits all times, `(d, d)`.
        residual: what the Hamilton-Jacobi equation with quantum potential leaves of the changes in time, 0 to 1.
        noise: what of that is due to the number of runs, by drawing them again.
        kurtosis: largest excess kurtosis of a coordinate: far from 0 the ensemble is not Gaussian and nothing here holds.
        verdict: what that shows, in words.
    """

    times: np.ndarray
    mean: np.ndarray
    covariance: np.ndarray
    phase_gradient: np.ndarray
    phase_hessian: np.ndarray
    circulation: np.ndarray
    continuity: np.ndarray
    fisher: np.ndarray
    hbar_squared: float
    low: float
    high: float
    potential: np.ndarray
    residual: float
    noise: float
    kurtosis: float
    verdict: str


class _Moments(NamedTuple):
    mean: np.ndarray
    covariance: np.ndarray
    drift: np.ndarray
    slope: np.ndarray


def madelung(ensemble: Any, metric: Any, *, dt: float = 1.0, lag: int = 1, draws: int = 50, seed: int = 0) -> Madelung:
    """Whether an ensemble moves as Madelung's fluid, which is Schroedinger's equation where hbar^2 > 0:

        v = (E[q(t+h) - q | q] + E[q - q(t-h) | q]) / 2h,      g v = grad S,      d_t p + div(p v) = 0
        d_t S + g^mn d_m S d_n S / 2 + V - (hbar^2 / 2) Lap_g sqrt(p) / sqrt(p) = 0

    In the Gaussian closure: p from mean and covariance, v linear in q by regression, S quadratic. In coordinates in which g = I, with A the
    Hessian of S, the second equation says `dA/dt + A^2 = (hbar^2/4) Sigma^-2 - V''` at every time; hbar^2 and V'' are fitted to all.

    What it shows: noisy descent in a bowl with diffusion `D g^-1`, which needs alpha = 1, fulfils it exactly with **hbar^2 = -4 D^2 < 0**: a heat
    equation, the Schroedinger equation in imaginary time, for any landscape. A small residual alone is therefore no sign of quantum
    dynamics; a positive hbar^2 would be. For other alpha, where kappa differs from direction to direction, the diffusion is not `~ g^-1` and the
    residual does not vanish. What it does not show: that S is defined up to multiples of 2 pi hbar, the postulate of the source,
    on which a Gaussian has no bearing.

    Args:
        ensemble: `(T, M, d)`, M runs at T times, M much larger than d; on the way, not at rest.
        metric: g, `(d, d)` or its diagonal `(d,)`, constant.
        dt: time between two rows.
        lag: h over dt. Noise falls with it, as h^(-3/2), and what curves within 2h is lost.
        draws: of the runs, in up to 100 blocks, for the interval.
        seed: of the draws.

    Returns:
        `Madelung`.

    Raises:
        ValueError: shapes that do not fit, fewer than 4 lags and 3 times, fewer than 10 runs a dimension, values that are not finite.

    Example:
        >>> import numpy as np, eqdyn as eq
        >>> t, start = np.linspace(0, 2, 41), np.random.default_rng(0).standard_normal((2000, 1))
        >>> packet = np.sqrt(1 + t[:, None, None] ** 2 / 4) * start                        # a free wave packet with hbar = 1 spreads
        >>> round(eq.covariant.madelung(packet, [1.0], dt=t[1]).hbar_squared, 1)
        1.0

    References:
        Vanchurin, arXiv:2504.14728 (the route); Nelson, Physical Review 150 (1966) 1079 (the current velocity). The sign is derived.
    """
    q, root, back = _asked(ensemble, metric)
    dt, lag = float(_checks.number(dt, "dt", above=0)), _checks.count(lag, "lag", least=1)
    draws = _checks.count(draws, "draws", least=2)
    if len(q) < 4 * lag + _LEAST_TIMES:
        most = (len(q) - _LEAST_TIMES) // 4
        msg = f"lag: got {lag} for {len(q)} times; expected at least {4 * lag + _LEAST_TIMES} times, or a lag of at most {most}."
        raise ValueError(msg)
    q = q @ root  # where g = I
    centre = q.mean((0, 1))
    sums = _sums(q - centre, lag)
    found = _moments(sums, np.ones(len(sums.runs)), lag, dt)
    fit = _fitted(found, lag, dt)
    weights = np.random.default_rng(seed).multinomial(len(sums.runs), np.full(len(sums.runs), 1 / len(sums.runs)), size=draws)
    drawn = [_fitted(_moments(sums, weight, lag, dt), lag, dt) for weight in weights]
    spread = 1.96 * float(np.std([one.hbar_squared for one in drawn]))
    low, high = fit.hbar_squared - spread, fit.hbar_squared + spread
    residual, noise = (float(np.sum(v)) / fit.changes for v in (fit.left**2, np.var([one.left for one in drawn], axis=0)))
    even = (found.slope + np.swapaxes(found.slope, 1, 2)) / 2
    size = np.linalg.norm(found.slope, axis=(1, 2))
    inverse = np.linalg.inv(found.covariance)
    centred = q - q.mean(1, keepdims=True)
    kurtosis = np.mean(centred**4, axis=1) / np.mean(centred**2, axis=1) ** 2 - 3
    inner = slice(lag, -lag)
    return Madelung(
        dt * np.arange(lag, len(q) - lag), (found.mean[inner] + centre) @ back, back @ found.covariance[inner] @ back, found.drift @ root,
        root @ even @ root, np.linalg.norm(found.slope - even, axis=(1, 2)) / np.where(size > 0, size, 1), _continuity(found, lag, dt),
        np.trace(inverse[inner], axis1=1, axis2=2), fit.hbar_squared, low, high, root @ fit.potential @ root, residual, noise,
        float(kurtosis.flat[np.argmax(np.abs(kurtosis))]), _verdict(low, high, residual, noise),
    )  # fmt: skip


def _asked(ensemble: Any, metric: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    q = np.asarray(ensemble, np.float64)
    if q.ndim != 3 or q.shape[1] < 10 * q.shape[2] or not np.isfinite(q).all():
        msg = f"ensemble: got shape {q.shape}, or values that are not finite; expected (T, M, d), finite, M at least 10 d."
        raise ValueError(msg)
    values, vectors = np.linalg.eigh(definite(metric, "metric"))
    if len(values) != q.shape[2]:
        msg = f"metric: got shape {np.shape(metric)} for runs of {q.shape[2]} numbers; expected ({q.shape[2]}, {q.shape[2]}), or its diagonal."
        raise ValueError(msg)
    return q, (vectors * np.sqrt(values)) @ vectors.T, (vectors / np.sqrt(values)) @ vectors.T


def _rate(rows: np.ndarray, lag: int, dt: float) -> np.ndarray:
    return (rows[2 * lag :] - rows[: -2 * lag]) / (2 * lag * dt)


class _Sums(NamedTuple):
    """Over blocks of runs, so that runs can be drawn again: of 1, of q, of q q^t, and of q(t+h) - q(t-h) times q(t)^t."""

    runs: np.ndarray
    first: np.ndarray
    second: np.ndarray
    ahead: np.ndarray


def _sums(q: np.ndarray, lag: int) -> _Sums:
    parts = np.array_split(q, min(_BLOCKS, q.shape[1]), axis=1)
    turned = [np.swapaxes(part, 1, 2) for part in parts]
    return _Sums(
        np.array([part.shape[1] for part in parts], float), np.stack([part.sum(1) for part in parts]),
        np.stack([back @ part for back, part in zip(turned, parts, strict=True)]),
        np.stack([(back[2 * lag :] - back[: -2 * lag]) @ part[lag:-lag] for back, part in zip(turned, parts, strict=True)]),
    )  # fmt: skip


def _moments(sums: _Sums, weight: np.ndarray, lag: int, dt: float) -> _Moments:
    """Mean and covariance at all times; drift at the mean and its gradient, of the current velocity, at all but the first and last h."""
    count = weight @ sums.runs
    mean, second, ahead = (np.tensordot(weight, v, 1) / count for v in sums[1:])
    covariance = second - mean[:, :, None] * mean[:, None]
    drift = _rate(mean, lag, dt)
    with_q = ahead / (2 * lag * dt) - drift[:, :, None] * mean[lag:-lag, None]
    slope = np.swapaxes(np.linalg.solve(covariance[lag:-lag], np.swapaxes(with_q, 1, 2)), 1, 2)
    return _Moments(mean, covariance, drift, slope)


def _continuity(found: _Moments, lag: int, dt: float) -> np.ndarray:
    rate, moved = _rate(found.covariance, lag, dt), found.slope @ found.covariance[lag:-lag]
    size = np.linalg.norm(rate, axis=(1, 2)) + 2 * np.linalg.norm(moved, axis=(1, 2))
    return np.linalg.norm(rate - moved - np.swapaxes(moved, 1, 2), axis=(1, 2)) / np.where(size > 0, size, 1)


class _Fit(NamedTuple):
    """`left` is what the equation leaves at every time, `changes` the square of what it is to explain."""

    hbar_squared: float
    potential: np.ndarray
    left: np.ndarray
    changes: float


def _fitted(found: _Moments, lag: int, dt: float) -> _Fit:
    """Least squares of `dA/dt + A^2 = (hbar^2/4) Sigma^-2 - V''`."""
    even = (found.slope + np.swapaxes(found.slope, 1, 2)) / 2
    told = _rate(even, lag, dt) + even[lag:-lag] @ even[lag:-lag]
    inverse = np.linalg.inv(found.covariance[2 * lag : -2 * lag])
    spread = inverse @ inverse / 4
    away, spread_away = told - told.mean(0), spread - spread.mean(0)
    changes, moving = float(np.sum(away**2)), float(np.sum(spread_away**2))
    if moving <= 1e-12 * float(np.sum(spread**2)) or changes == 0:
        return _Fit(math.nan, np.full(told.shape[1:], math.nan), np.zeros_like(told), math.nan)
    hbar_squared = float(np.sum(away * spread_away)) / moving
    return _Fit(hbar_squared, hbar_squared * spread.mean(0) - told.mean(0), away - hbar_squared * spread_away, changes)


def _verdict(low: float, high: float, residual: float, noise: float) -> str:
    if not all(map(math.isfinite, (low, high, residual))):
        return "unresolved: the density does not change"
    if residual > _MOST_LEFT + 2 * noise:
        return f"no Madelung fluid in this metric: {residual:.0%} of the changes are left, {noise:.0%} by sampling"
    if high < 0:
        return "a heat equation: hbar^2 < 0, as of noisy descent"
    if low > 0:
        return "a Schroedinger equation: hbar^2 > 0"
    return "unresolved: hbar^2 may be 0"
