"""Whether the step map turns over at given points."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from eqdyn import _checks
from eqdyn.measure.tracer_folds.spectrum import spectrum
from eqdyn.measure.tracer_folds.velocity import Velocity, partial


class Folds(NamedTuple):
    """The spectrum of `I + eta * T(y)` at each point, T the Jacobian of the velocity. NaN, and -1, where T is not finite.

    Attributes:
        margin: `(m,)` the smallest real eigenvalue, no unit; <= 0 is a fold. Infinite where no eigenvalue is real: then no
            step size folds.
        num_nonpositive: `(m,)` how many real eigenvalues are <= 0. Two of them leave the determinant positive.
        eta_fold: `(m,)` the smallest step size at which one reaches 0, [eta]; infinite if none does.
        direction: `(m, d)` unit eigenvector of the margin: what collapses first; NaN where there is none.
    """

    margin: np.ndarray
    num_nonpositive: np.ndarray
    eta_fold: np.ndarray
    direction: np.ndarray


def folds(velocity: Velocity, y: Any, *, eta: Any = 1.0) -> Folds:
    """Whether the step map `y + eta * v(y)` turns over at given points: the real eigenvalues of `I + eta * T(y)`, T = dv/dy.

        eta_fold = 1 / max(0, -smallest real eigenvalue of T)

    EXACT at the points up to rounding, silent between them. The number of eigenvalues <= 0 decides, not the sign of the
    determinant: T = -(2/eta) I in the plane has determinant 1 and two of them, for on the way from 0 to eta the map passed
    through a collapse. Eigenvalues count as real whose imaginary part is below eps^(2/3) |T|, eps that of the dtype.
    Time: one Jacobian-vector product per dimension for all points at once; memory O(m d^2); eigenvalues on the host.

    Args:
        velocity: `(m, d) -> (m, d)`, row by row: of `frozen`, or your own.
        y: `(m, d)` points.
        eta: step size, > 0, for `margin` and `num_nonpositive`.

    Returns:
        `Folds(margin, num_nonpositive, eta_fold, direction)`, in the dtype of y.

    Raises:
        ValueError, TypeError: arguments that do not fit, or a velocity whose rows act on each other, as far as one random half of the
            rows acts on the other.
        MemoryError: the Jacobians would take more than `JACOBIAN_BYTES`.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> found = eq.measure.folds(lambda y: y - y**3, jnp.array([[0.0], [1.0], [2.0]]), eta=0.25)
        >>> found.margin.tolist(), found.num_nonpositive.tolist(), [round(float(eta), 4) for eta in found.eta_fold]
        ([1.25, 0.5, -1.75], [0, 0, 1], [inf, 0.5, 0.0909])

    References:
        derived; Yang et al., arXiv:2510.02670, theorem 2 is the statement below the first fold.
    """
    _checks.step_size(eta)
    y = _checks.points(y, "y")
    real, direction = spectrum(partial(velocity, y), y)
    dtype, eta = np.dtype(y.dtype), float(eta)
    lowest = real.min(1)
    known = ~np.isnan(lowest)
    with np.errstate(divide="ignore"):
        eta_fold = np.where(lowest < 0, -1 / np.where(lowest < 0, lowest, 1.0), np.where(known, np.inf, np.nan))
    count = np.where(known, (1 + eta * real <= 0).sum(1), -1)
    return Folds((1 + eta * lowest).astype(dtype), count, eta_fold.astype(dtype), direction.astype(dtype))
