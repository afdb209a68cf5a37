"""The metric that goes through all regimes, g = eps I + kappa^(1/2) + zeta kappa: its local exponent, and where one regime ends."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from eqdyn import _checks


class Crossovers(NamedTuple):
    """Where the exponent changes, in units of kappa. EXACT.

    Fields:
        equilibration: `eps^2`, from 0 to 1/2; NaN where there is no window.
        natural: `1 / zeta^2`, from 1/2 to 1; infinite where zeta = 0, NaN where there is no window.
        middle: `eps / zeta`, where the exponent is 1/2 whatever the two are.
        window: decades between the first two; negative where 0 goes over into 1 directly.
    """

    equilibration: float
    natural: float
    middle: float
    window: float


def metric(kappa: Any, eps: float, zeta: float) -> np.ndarray:
    """`g = eps I + kappa^(1/2) + zeta kappa` of a covariance `(d, d)`, or of eigenvalues of any other shape. EXACT.

    Example:
        >>> import eqdyn as eq
        >>> eq.covariant.interpolation.metric([4.0], 1.0, 0.5).tolist()
        [5.0]

    References:
        A reading of Vanchurin, arXiv:2504.14728, which gives the regimes, not the sum.
    """
    eps, zeta = _sizes(eps, zeta)
    k = np.asarray(kappa, np.float64)
    if k.ndim == 2 and k.shape[0] == k.shape[1]:
        values, vectors = np.linalg.eigh(k)
        return (vectors * metric(np.maximum(values, 0), eps, zeta)) @ vectors.T
    if not np.all(k >= 0):
        msg = "kappa: got a negative eigenvalue; expected numbers >= 0, or a covariance (d, d)."
        raise ValueError(msg)
    return eps + np.sqrt(k) + zeta * k


def local_exponent(kappa: Any, eps: float, zeta: float) -> np.ndarray:
    """`alpha(k) = d log g / d log k = (k^(1/2) / 2 + zeta k) / (eps + k^(1/2) + zeta k)`, for eigenvalues k > 0 of any shape. EXACT.

    Grows with k from 0 to 1 (to 1/2 where zeta = 0); 1/2 at `k = eps / zeta`.

    Example:
        >>> import eqdyn as eq
        >>> eq.covariant.interpolation.local_exponent([1e-12, 2.0, 1e12], 1.0, 0.5).round(3).tolist()
        [0.0, 0.5, 1.0]
    """
    eps, zeta = _sizes(eps, zeta)
    k = np.asarray(kappa, np.float64)
    root = np.sqrt(k)
    return (root / 2 + zeta * k) / (eps + root + zeta * k)


def crossovers(eps: float, zeta: float) -> Crossovers:
    """Where the exponent goes from 0 to 1/2 and from 1/2 to 1, and how wide the window between is. EXACT.

    Example:
        >>> import eqdyn as eq
        >>> eq.covariant.interpolation.crossovers(0.01, 0.1).window
        6.0
    """
    eps, zeta = _sizes(eps, zeta)
    window = float("inf") if eps * zeta == 0 else -2 * float(np.log10(eps * zeta)) + 0.0
    first, last = eps**2, (1 / zeta**2 if zeta else float("inf"))
    none = window < 0
    return Crossovers(float("nan") if none else first, float("nan") if none else last, eps / zeta if zeta else float("inf"), round(window, 12))


def _sizes(eps: Any, zeta: Any) -> tuple[float, float]:
    return float(_checks.number(eps, "eps", least=0)), float(_checks.number(zeta, "zeta", least=0))
