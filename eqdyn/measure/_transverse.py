"""The swap curvature in numbers, from the matrices of all particles."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from eqdyn._types import Kind

LEAN = 64  # roundings by which a symmetric matrix may be unsymmetric


class Transverse(NamedTuple):
    """The swap curvature in numbers, `(m,)` each, 1/[eta]: at every particle, or at every pair of near particles.

    Fields:
        norm: `||T||`, the rate at which an infinitesimal pair there can move apart or together. NaN, as all that follows, where T is
            not finite.
        low: the smallest real eigenvalue of T; infinite where there is none. The step map folds at `eta = -1 / low` if it is negative.
        approach: minus the smallest eigenvalue of `(T + T^t) / 2`: the one-sided constant of an infinitesimal pair.
        error: by how much `norm`, `low` and `approach` may be off. Dense: 64 roundings of T, for the `low` of an unsymmetric T times the
            condition of that eigenvalue, to first order, but no more than Elsner's bound. Else, or beside that, the residual of Lanczos,
            and what bringing a pair together did: sizes, not bounds.
        asymmetry: the largest `|T - T^t|` over `||T||` of the same particle; by Lanczos of `|T v - T^t v|` over `|T v|`: rounding for a
            gradient rule.
        where: `(m,)` particles, or `(m, 2)` pairs.
        route: "probe" (exact derivative in the frozen field) or "twins" (antisymmetric derivatives at pairs).
        kind: "exact" (dense matrices at particles, or at pairs that are all twins, state and all), else "estimate". "lower": `low` is a
            lower bound of the smallest real eigenvalue, that of the symmetric part: of an unsymmetric T by as many steps of Lanczos as it
            has dimensions, with a residual of rounding; norm and approach are then known as well.
        eigenvalues: `(m, k)`: all of them, or Ritz values with NaN; NaN where T is not finite, and for an unsymmetric T by Lanczos.
    """

    norm: np.ndarray
    low: np.ndarray
    approach: np.ndarray
    error: np.ndarray
    asymmetry: float
    where: np.ndarray
    route: str
    kind: Kind
    eigenvalues: np.ndarray

    def fold_margin(self, eta: float) -> np.ndarray:
        """The smallest real eigenvalue of `I + eta T`, `(m,)`; infinite where it has none. At or below 0: folded there."""
        return 1 + eta * self.low

    def num_nonpositive(self, eta: float) -> np.ndarray:
        """How many real eigenvalues of `I + eta T` are <= 0, `(m,)`: what the sign of the determinant cannot tell (two are invisible to
        it). Exact with dense matrices; a lower bound with Lanczos; -1, unknown, where T is not finite, or by Lanczos and unsymmetric.
        """
        known = ~np.isnan(self.eigenvalues).all(axis=1)
        return np.where(known, np.sum(1 + eta * _real(self.eigenvalues, self.norm) <= 0, axis=1), -1)

    def eta_fold(self) -> np.ndarray:
        """The step size at which the step map first folds at each place, `(m,)`; infinite if it never does, NaN if `low` is."""
        falls = self.low < 0
        return np.where(falls, -1 / np.where(falls, self.low, 1), np.where(np.isnan(self.low), np.nan, np.inf))


def _real(eigenvalues: np.ndarray, norm: np.ndarray, eps: float = 0.0) -> np.ndarray:
    """The real ones, NaN elsewhere; `eps`: one rounding, 0 for that of the eigenvalues."""
    if not np.iscomplexobj(eigenvalues):
        return eigenvalues
    rounding = (eps or np.finfo(eigenvalues.real.dtype).eps) ** 0.5 * norm[:, None]
    return np.where(np.abs(eigenvalues.imag) <= rounding, eigenvalues.real, np.nan)


def of_matrices(T: np.ndarray, where: np.ndarray, apart: np.ndarray, route: str, kind: Kind) -> Transverse:
    """From matrices `(m, d, d)`; `apart`: by how much each entry may be off, beside rounding."""
    eps, d = float(np.finfo(T.dtype).eps), T.shape[1]
    finite = np.isfinite(T).all(axis=(1, 2))
    safe = np.where(finite[:, None, None], T, 0).astype(np.float64)
    norm = np.linalg.norm(safe, 2, axis=(1, 2))
    turned = np.swapaxes(safe, 1, 2)
    lean = np.max(np.abs(safe - turned), axis=(1, 2)) / np.where(norm > 0, norm, 1)
    half = np.linalg.eigvalsh((safe + turned) / 2)
    off = d * apart + LEAN * eps * norm
    leans = lean > LEAN * eps * d**0.5
    values: np.ndarray = half
    error = off
    if leans.any():
        values, error = half.astype(complex), off.copy()
        values[leans], condition = _eigenvalues(safe[leans])
        real = _real(values, norm, eps)
        first = np.argmin(np.where(np.isnan(real), np.inf, real), axis=1)[leans]
        elsner = (2 * norm[leans] + off[leans]) ** (1 - 1 / d) * off[leans] ** (1 / d)
        error[leans] = np.minimum(off[leans] * np.take_along_axis(condition, first[:, None], axis=1)[:, 0], elsner)
    real = _real(values, norm, eps)
    low = np.min(np.where(np.isnan(real), np.inf, real), axis=1)
    norm, low, high, error = (np.where(finite, part, np.nan).astype(T.dtype) for part in (norm, low, -half[:, 0], error))
    values = np.where(finite[:, None], values, np.nan).astype(np.result_type(T.dtype, np.complex64) if leans.any() else T.dtype)
    return Transverse(norm, low, high, error, float(lean.max()), where, route, kind, values)


def _eigenvalues(T: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues `(m, d)` and their conditions `1 / |y^H x|`, with unit eigenvectors x and y of both sides; infinite if defective."""
    values, right = np.linalg.eig(T)
    condition = np.full(values.shape, np.inf)
    sizes = np.linalg.cond(right)
    sound = np.isfinite(sizes) & (sizes < 1 / np.finfo(np.float64).eps)
    condition[sound] = np.linalg.norm(np.linalg.inv(right[sound]), axis=2)
    return values, condition
