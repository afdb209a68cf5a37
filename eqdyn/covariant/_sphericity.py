"""Is the noise of updates the same in all directions? It is where alpha = 1/2."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from eqdyn import _checks
from eqdyn._exponent import UNRESOLVED, windows

_A_DIRECTION = 4  # samples a direction, and
_LEAST = 25  # samples in all: with fewer the test rejects too often


class Sphericity(NamedTuple):
    """What `sphericity` found. ESTIMATE: the law of the statistic is asymptotic.

    Fields:
        statistic: `det S / (tr S / P)^P` to the power 1/P, geometric over arithmetic mean of the eigenvalues: 1 where all are equal.
        p_value: how often noise that is the same in all directions looks as unequal as this.
        samples: independent differences of windows.
        verdict: "the same in all directions: alpha = 1/2 is not excluded", "not the same: alpha is not 1/2", or "unresolved" and why.
    """

    statistic: float
    p_value: float
    samples: int
    verdict: str


def sphericity(updates: Any, *, window: int = 1, confidence: float = 0.95) -> Sphericity:
    """Mauchly's test that the updates' noise has one variance in all directions, as `g^-1 kappa g^-1` has where `g = kappa^(1/2)` (X4).

    Noise is the difference of two neighbouring windows, each used once; with Bartlett's correction. It rejects, and cannot confirm.

    Args:
        updates: `(T, P)`, one a step.
        window: steps averaged into one sample; longer than the memory of a momentum.
        confidence: 1 less the level of the test.

    Returns:
        `Sphericity`; "unresolved" with fewer than 25 samples, or 4 a direction: some 100 windows tell at P = 6.

    Raises:
        ValueError: another shape, or values that are not finite.

    Example:
        >>> import numpy as np, eqdyn as eq
        >>> u = np.random.default_rng(0).standard_normal((400, 6))
        >>> eq.covariant.sphericity(u).verdict
        'the same in all directions: alpha = 1/2 is not excluded'
        >>> eq.covariant.sphericity(u * [1, 1, 1, 1, 1, 3]).verdict
        'not the same: alpha is not 1/2'

    References:
        Mauchly, Annals of Mathematical Statistics 11 (1940) 204; Anderson, An Introduction to Multivariate Statistical Analysis, section 10.7.
    """
    from scipy.stats import chi2

    u = np.asarray(updates, np.float64)
    if u.ndim != 2 or u.shape[1] < 2 or not np.isfinite(u).all():
        msg = f"updates: got shape {u.shape}, or values that are not finite; expected (T, P), finite, P at least 2."
        raise ValueError(msg)
    if not (isinstance(confidence, (int, float)) and 0 < confidence < 1):
        msg = f"confidence: got {confidence!r}; expected a number between 0 and 1."
        raise ValueError(msg)
    means = windows(u, _checks.count(window, "window", least=1))
    num, dim = len(means) // 2, u.shape[1]
    noise = (means[0 : 2 * num : 2] - means[1 : 2 * num : 2]) / math.sqrt(2)
    needed = max(_LEAST, _A_DIRECTION * dim)
    if num < needed:
        return Sphericity(math.nan, math.nan, num, f"{UNRESOLVED}: {num} samples in {dim} directions, {needed} are needed")
    values = np.linalg.eigvalsh(noise.T @ noise / num)
    if not values[-1] > 0:
        return Sphericity(math.nan, math.nan, num, f"{UNRESOLVED}: no noise")
    if values[0] <= dim * np.finfo(float).eps * values[-1]:
        return Sphericity(0.0, 0.0, num, "not the same: alpha is not 1/2")
    log_ratio = float(np.mean(np.log(values)) - np.log(np.mean(values)))  # <= 0
    corrected = num - (2 * dim**2 + dim + 2) / (6 * dim)  # the mean of a difference is known
    p_value = float(chi2.sf(-corrected * dim * log_ratio, dim * (dim + 1) // 2 - 1))
    same = p_value >= 1 - confidence
    verdict = "the same in all directions: alpha = 1/2 is not excluded" if same else "not the same: alpha is not 1/2"
    return Sphericity(math.exp(log_ratio), p_value, num, verdict)
