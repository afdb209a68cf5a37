"""The Jacobian of a velocity at many points, and its real eigenvalues."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from eqdyn import _checks
from eqdyn._types import Points

JACOBIAN_BYTES = 2**29  # what the Jacobians at all points may take


@jax.jit
def jacobians(velocity: Partial, y: Points) -> tuple[jax.Array, jax.Array]:
    """T at every row, `(m, d, d)`, and how much odd rows move when only even rows do."""
    _, along = jax.linearize(velocity, y)
    columns = jax.vmap(lambda e: along(jnp.broadcast_to(e[None], y.shape)))(jnp.eye(y.shape[1], dtype=y.dtype))
    even = jnp.arange(y.shape[0])[:, None] % 2 == 0
    leak = jnp.where(even, 0, along(jnp.where(even, jnp.ones_like(y), 0)))
    return jnp.transpose(columns, (1, 2, 0)), jnp.max(jnp.abs(leak))


def spectrum(velocity: Partial, y: jax.Array) -> tuple[np.ndarray, np.ndarray]:
    """The real eigenvalues of T at each row, inf in place of the others, and the unit eigenvector of the lowest."""
    num, dim = y.shape
    _checks.fits_budget(num * dim**2 * y.dtype.itemsize, JACOBIAN_BYTES, "y: the Jacobians", "pass fewer points at a time")
    jacobian, leak = (np.asarray(value, np.float64) for value in jacobians(velocity, y))
    # sums of the batch that cancel leave more than one rounding in T: to so much of |T| it is symmetric, an eigenvalue real
    noise = float(jnp.finfo(y.dtype).eps) ** (2 / 3)
    finite: np.ndarray = np.all(np.isfinite(jacobian), axis=(1, 2))
    t = np.where(finite[:, None, None], jacobian, 0.0)
    size = np.sqrt((t * t).sum((1, 2)))
    if leak > noise * size.max():
        msg = (
            f"velocity: got one whose rows act on each other (row 1 moves by {float(leak):.2g} when row 0 does); expected row i to depend "
            "on row i of y alone, the field frozen; write eq.measure.frozen(rule, x)."
        )
        raise ValueError(msg)
    symmetric = np.sqrt(((t - t.transpose(0, 2, 1)) ** 2).sum((1, 2))) <= noise * size
    values, vectors = np.empty((num, dim), complex), np.empty((num, dim, dim), complex)
    values[symmetric], vectors[symmetric] = np.linalg.eigh((t + t.transpose(0, 2, 1))[symmetric] / 2)
    values[~symmetric], vectors[~symmetric] = np.linalg.eig(t[~symmetric])
    real = np.where(np.abs(values.imag) <= noise * size[:, None], values.real, np.inf)
    first = np.argmin(real, axis=1)
    direction = np.take_along_axis(vectors, first[:, None, None], axis=2)[:, :, 0].real
    with np.errstate(invalid="ignore", divide="ignore"):
        direction = direction / np.linalg.norm(direction, axis=1, keepdims=True)
    direction[~np.isfinite(real.min(1))] = np.nan
    real[~finite], direction[~finite] = np.nan, np.nan
    return real, direction
