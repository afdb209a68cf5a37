"""Lifted invertibility: can a step fold the lifted particles, parameters and optimizer state together?"""

from __future__ import annotations

import numpy as np

from eqdyn import _folding
from eqdyn._ask.derive import Lifted
from eqdyn._folding import ROUNDING
from eqdyn.laws._law import EPS, Law, Residual, Told


def fold_rate(response: np.ndarray, dim: int, eps: float) -> tuple[float, float]:
    """The largest b for which the lifted step map folds at `eta = 1/b`, 0 if none does; and the norm of what it was found from.

    `response`: a row for each direction, as in `Lifted`.
    """
    found = _folding.folds(response.T, dim, eps)
    return float(found.rates[np.isfinite(found.rates)].max(initial=0.0)), found.scale


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
        noise = ROUNDING * (eps * scale * len(response[0]) ** 0.5 + abs(b - shaken))
        b = b if b > noise else 0.0
        if np.isfinite(eta) or np.isfinite(K):
            at = eta if np.isfinite(eta) else 1 / K  # a fold at 1/K itself is what the theorem allows
            rows.append((max(at * b - 1, 0.0), at * noise + EPS * eps, b))
        else:
            rows.append((b / scale if scale else 0.0, noise / scale if scale else eps, b))
    return Residual(*np.asarray(rows, np.float64).T)


def _depends_on_eta(excess: bool, told: Told) -> str:
    return "holds" if not excess else "fails" if told.eta or told.K else "unresolved"


LIFTED = Law(
    "Lifted invertibility",
    "distinct lifted particles stay distinct: the lifted step map folds nowhere up to eta, or at no eta if none is given",
    None,  # eigenvalues of matrices without symmetry: see lifted_residual
    _depends_on_eta,
    "folds at eta = {inverse:.3g}",
)
