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
    """T at every row, `(m, d, d)`, and how much the rows of one half, drawn at random, move when only those of the other do."""
    _, along = jax.linearize(velocity, y)
    columns = jax.vmap(lambda e: along(jnp.broadcast_to(e[None], y.shape)))(jnp.eye(y.shape[1], dtype=y.dtype))
    of_half, of_v = jax.random.split(jax.random.key(0))
    half = jax.random.permutation(of_half, y.shape[0])[:, None] % 2 == 0
    v = jax.random.normal(of_v, y.shape, y.dtype)
    leaks = [jnp.where(moved, 0, along(jnp.where(moved, v, 0))) for moved in (half, ~half)]
    leak = jnp.maximum(*(jnp.max(jnp.where(jnp.isnan(one), 0, jnp.abs(one))) for one in leaks))
    return jnp.transpose(columns, (1, 2, 0)), leak


def spectrum(velocity: Partial, y: jax.Array) -> tuple[np.ndarray, np.ndarray]:
    """The real eigenvalues of T at each row, inf in place of the others, and the unit eigenvector of the lowest."""
    num, dim = y.shape
    _checks.fits_budget(num * dim**2 * y.dtype.itemsize, JACOBIAN_BYTES, "y: the Jacobians", "pass fewer points at a time")
    jacobian, leak = (np.asarray(value, np.float64) for value in jacobians(velocity, y))
    # sums of the batch that cancel leave more than one rounding in T: to so much of |T| it is symmetric; where two eigenvalues meet
    # and there is one direction only, one rounding parts them by its root
    eps = float(jnp.finfo(y.dtype).eps)
    noise, meeting = eps ** (2 / 3), 2 * eps**0.5
    finite: np.ndarray = np.all(np.isfinite(jacobian), axis=(1, 2))
    t = np.where(finite[:, None, None], jacobian, 0.0)
    size = np.sqrt((t * t).sum((1, 2)))
    if leak > noise * size.max():
        msg = (
            f"velocity: got one whose rows act on each other (some move by {float(leak):.2g} when only others do); expected row i to depend "
            "on row i of y alone, the field frozen; write eq.measure.frozen(rule, x)."
        )
        raise ValueError(msg)
    symmetric = np.sqrt(((t - t.transpose(0, 2, 1)) ** 2).sum((1, 2))) <= noise * size
    values, vectors = np.empty((num, dim), complex), np.empty((num, dim, dim), complex)
    values[symmetric], vectors[symmetric] = np.linalg.eigh((t + t.transpose(0, 2, 1))[symmetric] / 2)
    values[~symmetric], vectors[~symmetric] = np.linalg.eig(t[~symmetric])
    real = np.where(np.abs(values.imag) <= meeting * size[:, None], values.real, np.inf)
    first = np.argmin(real, axis=1)
    direction = np.take_along_axis(vectors, first[:, None, None], axis=2)[:, :, 0].real
    with np.errstate(invalid="ignore", divide="ignore"):
        direction = direction / np.linalg.norm(direction, axis=1, keepdims=True)
    direction[~np.isfinite(real.min(1))] = np.nan
    real[~finite], direction[~finite] = np.nan, np.nan
    return real, direction
