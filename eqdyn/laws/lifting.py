"""Lifted invertibility: can a step fold the lifted particles, parameters and optimizer state together?"""

from __future__ import annotations

from typing import Any

import numpy as np

from eqdyn._ask.derive import Lifted
from eqdyn.laws._law import EPS, Law, Residual, Told

_ROUNDING = 64  # roundings that eliminating the state may cost, in units of its terms


def fold_rate(response: np.ndarray, dim: int, eps: float) -> tuple[float, float]:
    """The largest b for which the lifted step map folds at `eta = 1/b`, 0 if none does; and the norm of what it was found from.

    The state moves alike at every eta, `s' = S_x x + S_s s`, and `U = V_x x + V_s s`. By the Schur complement

        det J(eta) = det(S_s) det(I + eta T),      T = V_x - V_s S_s^-1 S_x

    so it vanishes where T has the real eigenvalue -b. Heavy ball, Adam: T = 0. Gradient descent: T is the swap curvature. Where S_s
    is singular, b is an eigenvalue of the pencil: `det [[V_x + b I, V_s], [S_x, S_s]] = 0`.
    """
    M = response.T
    # a coordinate of the state that nothing reads belongs to no particle
    read = np.append(np.ones(dim, bool), np.abs(M[:, dim:]).max(axis=0) > 0)
    M = M[read][:, read]
    v_x, v_s, s_x, s_s = M[:dim, :dim], M[:dim, dim:], M[dim:, :dim], M[dim:, dim:]
    scale = float(np.linalg.norm(v_x, 2))
    if not len(s_s):
        T = v_x
    else:
        unit = np.abs(s_x).max(axis=1)  # second moments have another unit than first ones
        unit = np.where(unit > 0, unit, 1)
        s_x, s_s, v_s = s_x / unit[:, None], s_s * (unit[None] / unit[:, None]), v_s * unit[None]
        values = np.linalg.svd(s_s, compute_uv=False)
        if values[-1] <= _ROUNDING * len(s_s) * eps * values[0]:
            return _pencil(np.block([[v_x, v_s], [s_x, s_s]]), dim, eps)
        correction = v_s @ np.linalg.solve(s_s, s_x)
        T, scale = v_x - correction, scale + float(np.linalg.norm(correction, 2))
    values = np.linalg.eigvals(T)
    real = values.real[np.abs(values.imag) <= np.sqrt(eps) * np.linalg.norm(T, 2)]
    return float(max(0.0, -real.min(initial=0.0))), scale


def _pencil(M: np.ndarray, dim: int, eps: float) -> tuple[float, float]:
    from scipy.linalg import eigvals

    scale = float(np.linalg.norm(M, 2))
    values = eigvals(M, -np.diag(np.arange(len(M)) < dim).astype(M.dtype))
    values = values[np.isfinite(values) & (np.abs(values) < scale / np.sqrt(eps))]
    real = values.real[np.abs(values.imag) <= np.sqrt(eps) * scale]
    return float(real.max(initial=0.0)), scale


def lifted_residual(found: Lifted | None, dim: int, eta: float, K: float, num_draws: int) -> Residual:
    """Of every draw, on the host. At the eta given, or 1/K of a K declared: by how much it lies beyond the fold. With neither,
    the fold itself, in units of the Jacobian.
    """
    if found is None:
        nothing = np.full(num_draws, np.nan)
        return Residual(nothing, nothing, nothing)
    rows, eps = [], float(np.finfo(found.response.dtype).eps)
    for response in np.asarray(found.response, np.float64):
        if not np.isfinite(response).all():
            rows.append((np.nan, np.nan, np.nan))
            continue
        (b, scale), (shaken, _) = (fold_rate(one, dim, eps) for one in response)
        noise = _ROUNDING * (eps * scale * len(response[0]) ** 0.5 + abs(b - shaken))
        b = b if b > noise else 0.0
        if np.isfinite(eta) or np.isfinite(K):
            at = eta if np.isfinite(eta) else 1 / K  # a fold at 1/K itself is what the theorem allows
            rows.append((max(at * b - 1, 0.0), at * noise + EPS * eps, b))
        else:
            rows.append((b / scale if scale else 0.0, noise / scale if scale else eps, b))
    return Residual(*np.asarray(rows, np.float64).T)


def _depends_on_eta(excess: bool, told: Told) -> str:
    return "holds" if not excess else "fails" if told.eta or told.K else "unresolved"


def _on_the_host(*_: Any) -> Residual:
    raise NotImplementedError  # its eigenvalues are those of matrices without symmetry: see lifted_residual


LIFTED = Law(
    "Lifted invertibility",
    "distinct lifted particles stay distinct: the lifted step map folds nowhere up to eta, or at no eta if none is given",
    _on_the_host,
    _depends_on_eta,
    "folds at eta = {inverse:.3g}",
)
