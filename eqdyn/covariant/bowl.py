"""Stationary fluctuations in a quadratic bowl, in closed form: what a metric g ~ kappa^alpha does with the noise, step by step, exactly.

q' = q - gamma g^-1 (H q + xi),   Cov xi = kappa,   g = (kappa + eps I)^alpha
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from eqdyn import _checks


class Stationary(NamedTuple):
    """Of a bowl. EXACT, in discrete time.

    Fields:
        covariance: of q, `(d, d)`; NaN where it is not stable.
        rates: eigenvalues of `g^-1 H`, ascending, `(d,)`, one over steps times gamma: a mode shrinks by `1 - gamma rate` a step.
        excess_loss: `tr(H S) / 2`.
        stable: `gamma * rate < 2` for all.
        update_covariance: `g^-1 kappa g^-1`, `(d, d)`, of the noise in a step over gamma.
    """

    covariance: np.ndarray
    rates: np.ndarray
    excess_loss: float
    stable: bool
    update_covariance: np.ndarray


def stationary(hessian: Any, kappa: Any, step_size: float, alpha: float, *, eps: float = 0.0) -> Stationary:
    """Covariance, relaxation rates and excess loss of `q' = q - step_size g^-1 (H q + xi)`, `g = (kappa + eps I)^alpha`. EXACT.

    Solves `S = M S M^t + step_size^2 g^-1 kappa g^-1`, `M = I - step_size g^-1 H`; H and kappa need not commute. Where `kappa = c H`:

        S = (gamma/2) c^(1-alpha) H^-alpha / (1 - gamma r / 2),   r = c^-alpha H^(1-alpha)

    Args:
        hessian: `(d, d)`, symmetric positive definite, or its eigenvalues `(d,)`.
        kappa: covariance of the gradient noise, `(d, d)`, symmetric positive definite, or `(d,)`, its diagonal.
        step_size: gamma, > 0.
        alpha: 0 to 1.
        eps: damping, >= 0.

    Raises:
        ValueError: matrices that are not symmetric positive definite, of two sizes, or numbers out of range.

    Example:
        >>> import numpy as np, eqdyn as eq
        >>> h = np.array([0.3, 1.0, 3.0])
        >>> found = eq.covariant.bowl.stationary(h, 0.7 * h, 0.05, 1.0)
        >>> np.round(found.rates, 4).tolist(), round(found.excess_loss, 5)          # alpha = 1: every mode has one rate
        ([1.4286, 1.4286, 1.4286], 0.03889)

    References:
        Derived, by the Lyapunov equation of a linear recursion; Vanchurin, arXiv:2504.14728, for the metric.
    """
    from scipy.linalg import eigh, solve_discrete_lyapunov

    h, k = definite(hessian, "hessian"), definite(kappa, "kappa")
    if h.shape != k.shape:
        msg = f"hessian, kappa: got shapes {h.shape} and {k.shape}; expected one size."
        raise ValueError(msg)
    gamma = float(_checks.number(step_size, "step_size", above=0))
    exponent = alpha_of(alpha)
    damping = float(_checks.number(eps, "eps", least=0))
    values, vectors = np.linalg.eigh(k)
    inverse = (vectors * (values + damping) ** -exponent) @ vectors.T
    noise = inverse @ k @ inverse
    rates = eigh(h, np.linalg.inv(inverse), eigvals_only=True)
    stable = bool(np.all(gamma * rates < 2))
    step = np.eye(len(h)) - gamma * inverse @ h
    covariance = solve_discrete_lyapunov(step, gamma**2 * noise) if stable else np.full_like(h, np.nan)
    covariance = (covariance + covariance.T) / 2
    return Stationary(covariance, rates, float(np.sum(h * covariance) / 2), stable, noise)


def alpha_of(alpha: Any) -> float:
    if not (isinstance(alpha, (int, float, np.number)) and 0 <= alpha <= 1):
        msg = f"alpha: got {alpha!r}; expected a number from 0 to 1."
        raise ValueError(msg)
    return float(alpha)


def definite(matrix: Any, name: str) -> np.ndarray:
    a = np.asarray(matrix, np.float64)
    a = np.diag(a) if a.ndim == 1 else a
    right = a.ndim == 2 and a.shape[0] == a.shape[1] and np.isfinite(a).all() and np.allclose(a, a.T, rtol=1e-10, atol=0)
    if not right or a.size == 0 or np.linalg.eigvalsh(a)[0] <= 0:
        msg = f"{name}: got an array of shape {np.shape(matrix)}; expected a symmetric positive definite matrix (d, d), or its diagonal (d,) > 0."
        raise ValueError(msg)
    return a
