"""Matrix-free linear algebra: extreme eigenvalues of a symmetric operator, with their residuals."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from eqdyn._types import Key, Scalar, Tree


class Extremes(NamedTuple):
    """Extreme Ritz values of a symmetric operator. `high` is a lower bound of the largest eigenvalue, `low` an upper bound of
    the smallest; an eigenvalue lies within `residual` of each. `vector_high` has the structure of the operator's argument.
    """

    high: Scalar
    high_residual: Scalar
    low: Scalar
    low_residual: Scalar
    vector_high: Tree


def lanczos_extremes(product: Callable[[Tree], Tree], like: Tree, *, num_iters: int, key: Key) -> Extremes:
    """Both ends of the spectrum of a symmetric operator by Lanczos with full reorthogonalisation.

    Estimates from inside; the residuals tell how far off. Memory `num_iters` vectors; jittable.

    Args:
        product: `v -> A v` on trees like `like`; symmetry is not checked.
        like: an example of the argument.
        num_iters: Lanczos steps, capped by the dimension.
        key: of the start vector.
    """
    flat, unravel = ravel_pytree(like)
    size, dtype = flat.shape[0], flat.dtype
    num = min(num_iters, size)

    def apply(v: jax.Array) -> jax.Array:
        return ravel_pytree(product(unravel(v)))[0]

    start = jax.random.normal(key, (size,), dtype)
    basis = jnp.zeros((num, size), dtype).at[0].set(start / jnp.linalg.norm(start))
    tiny = jnp.finfo(dtype).eps

    def body(k: jax.Array, carry: tuple) -> tuple:
        basis, alphas, betas = carry
        w = apply(basis[k])
        alpha = jnp.vdot(w, basis[k])
        norm_before = jnp.linalg.norm(w)
        for _ in range(2):  # twice is enough; rows not yet filled are zero and do nothing
            w = w - basis.T @ (basis @ w)
        beta = jnp.linalg.norm(w)
        # an invariant subspace: stop there, with the remaining rows zero
        ended = beta <= 8 * tiny * jnp.maximum(norm_before, jnp.abs(alpha))
        beta = jnp.where(ended, 0, beta)
        following = jnp.where(ended, 0, w / jnp.where(ended, 1, beta))
        basis = basis.at[k + 1].set(following, mode="drop")
        return basis, alphas.at[k].set(alpha), betas.at[k].set(beta)

    zeros = jnp.zeros((num,), dtype)
    basis, alphas, betas = jax.lax.fori_loop(0, num, body, (basis, zeros, zeros))
    filled = jnp.concatenate([jnp.ones((1,), bool), jnp.cumprod(betas[:-1] > 0).astype(bool)])
    off = jnp.where(filled[1:], betas[:-1], 0)
    # rows past an invariant subspace repeat its first Rayleigh quotient: they add nothing at either end
    _, vectors = jnp.linalg.eigh(jnp.diag(jnp.where(filled, alphas, alphas[0])) + jnp.diag(off, 1) + jnp.diag(off, -1))

    def end(at: int) -> tuple[Scalar, Scalar, jax.Array]:
        v = basis.T @ jnp.where(filled, vectors[:, at], 0)
        v = v / jnp.maximum(jnp.linalg.norm(v), tiny)
        w = apply(v)
        value = jnp.vdot(v, w)
        return value, jnp.linalg.norm(w - value * v), v

    (low, low_residual, _), (high, high_residual, vector) = end(0), end(-1)
    return Extremes(high, high_residual, low, low_residual, unravel(vector))
