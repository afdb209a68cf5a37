"""Where the lifted step map of one particle folds as the step size grows, and its determinant: arithmetic of one small matrix.

The matrix M `(d + s, d + s)` says what a change of particle and state does: rows `U` first, then `s'`; columns in the same order.

    J(eta) = [[I + eta V_x, eta V_s], [S_x, S_s]],      M = [[V_x, V_s], [S_x, S_s]]
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

ROUNDING = 64  # roundings that eliminating the state may cost, in units of its terms


class Folds(NamedTuple):
    """`rates`: every b > 0 for which the lifted map is singular at `eta = 1/b`, with multiplicity, largest first; 1/[eta]; one infinite
    rate if it is singular at every eta. `scale`: the norm of the terms they were found from, for rounding.
    """

    rates: np.ndarray
    scale: float


def in_units(M: np.ndarray, dim: int) -> np.ndarray:
    """M without coordinates of the state that nothing reads (they belong to no particle), the others in units of what x does to
    them: second moments have another unit than first ones. Determinant and folds stay as they are.
    """
    read = np.append(np.ones(dim, bool), np.abs(M[:, dim:]).max(axis=0) > 0)
    M = M[read][:, read]
    unit = np.append(np.ones(dim), np.abs(M[dim:, :dim]).max(axis=1))
    unit = np.where(unit > 0, unit, 1)
    return M * (unit[None] / unit[:, None])


def folds(M: np.ndarray, dim: int, eps: float) -> Folds:
    """The folds of a lifted step map. Exact up to rounding; eigenvalues count as real up to `sqrt(eps)` of the largest.

    The state moves alike at every eta, `s' = S_x x + S_s s`, and `U = V_x x + V_s s`. By the Schur complement

        det J(eta) = det(S_s) det(I + eta T),      T = V_x - V_s S_s^-1 S_x

    so it vanishes where T has the real eigenvalue -b. Heavy ball, Adam: T = 0. Gradient descent: T is the swap curvature. Where S_s
    is singular, b is an eigenvalue of the pencil: `det [[V_x + b I, V_s], [S_x, S_s]] = 0`.
    """
    M = in_units(M, dim)
    v_x, v_s, s_x, s_s = M[:dim, :dim], M[:dim, dim:], M[dim:, :dim], M[dim:, dim:]
    T, scale = v_x, float(np.linalg.norm(v_x, 2))
    if len(s_s):
        values = np.linalg.svd(s_s, compute_uv=False)
        if values[-1] <= ROUNDING * len(s_s) * eps * values[0]:
            return _pencil(M, dim, eps)
        correction = v_s @ np.linalg.solve(s_s, s_x)
        T, scale = v_x - correction, scale + float(np.linalg.norm(correction, 2))
    values = np.linalg.eigvals(T)
    return Folds(_positive(-values[np.abs(values.imag) <= np.sqrt(eps) * np.linalg.norm(T, 2)].real), scale)


def _pencil(M: np.ndarray, dim: int, eps: float) -> Folds:
    from scipy.linalg import eigvals

    scale = float(np.linalg.norm(M, 2))
    if any(_dependent(part, eps) for part in (M[dim:].T, M[:, dim:])):
        return Folds(np.array([np.inf]), scale)  # the next state forgets, or what is read of the last one does not tell it
    values = eigvals(M, -np.diag(np.arange(len(M)) < dim).astype(M.dtype))
    values = values[np.isfinite(values) & (np.abs(values) < scale / np.sqrt(eps))]
    return Folds(_positive(values[np.abs(values.imag) <= np.sqrt(eps) * scale].real), scale)


def _dependent(columns: np.ndarray, eps: float) -> bool:
    size = np.abs(columns).max(axis=0)
    values = np.linalg.svd(columns / np.where(size > 0, size, 1), compute_uv=False)
    return bool(values[-1] <= ROUNDING * len(columns) * eps * values[0])


def _positive(rates: np.ndarray) -> np.ndarray:
    return np.sort(rates[rates > 0])[::-1]


def log_determinant(M: np.ndarray, dim: int, eta: float) -> tuple[float, float]:
    """Sign of `det J(eta)` and the logarithm of its size: `(beta1 beta2)^d` neither vanishes nor loses its sign."""
    J = in_units(M, dim)
    J[:dim] *= eta
    J[:dim, :dim] += np.eye(dim)
    sign, log = np.linalg.slogdet(J)
    return float(sign), float(log)
