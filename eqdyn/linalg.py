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


class RowExtremes(NamedTuple):
    """Extreme Ritz values of the symmetric operator that acts on each row, `(n,)` each, as in `Extremes`. `ritz` `(n, k)`: all of
    them, NaN past an invariant subspace; no more eigenvalues lie below a number than it takes Ritz values to be below it, or more.
    """

    high: jax.Array
    high_residual: jax.Array
    low: jax.Array
    low_residual: jax.Array
    low_vector: jax.Array
    ritz: jax.Array


def lanczos_rows(product: Callable[[jax.Array], jax.Array], like: jax.Array, *, num_iters: int, key: Key) -> RowExtremes:
    """Both ends of the spectra of n symmetric operators at once, by Lanczos with full reorthogonalisation.

    Estimates from inside, exact once `num_iters` reaches d; the residuals tell how far off. Memory `num_iters` configurations.

    Args:
        product: `(n, d) -> (n, d)`, whose row i depends on row i alone, linearly; symmetry is not checked.
        like: `(n, d)`.
        num_iters: Lanczos steps, capped by d.
        key: of the start vectors.
    """
    n, d = like.shape
    num, dtype = min(num_iters, d), like.dtype
    tiny = jnp.finfo(dtype).eps

    def inner(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.sum(a * b, axis=-1)

    def over(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.where(b > 0, a / jnp.where(b > 0, b, 1), 0)

    start = jax.random.normal(key, (n, d), dtype)
    start = start / jnp.sqrt(inner(start, start))[:, None]
    basis = jnp.zeros((num, n, d), dtype).at[0].set(start)

    def body(k: jax.Array, carry: tuple) -> tuple:
        basis, alphas, betas = carry
        w = product(basis[k])
        alpha, before = inner(w, basis[k]), jnp.sqrt(inner(w, w))
        for _ in range(2):  # twice is enough; vectors not yet filled are zero and do nothing
            w = w - jnp.einsum("kn,knd->nd", jnp.einsum("knd,nd->kn", basis, w), basis)
        beta = jnp.sqrt(inner(w, w))
        beta = jnp.where(beta <= 8 * tiny * d**0.5 * jnp.maximum(before, jnp.abs(alpha)), 0, beta)  # an invariant subspace: stop there
        return basis.at[k + 1].set(over(w, beta[:, None]), mode="drop"), alphas.at[k].set(alpha), betas.at[k].set(beta)

    zeros = jnp.zeros((num, n), dtype)
    basis, alphas, betas = jax.lax.fori_loop(0, num, body, (basis, zeros, zeros))
    filled = jnp.concatenate([jnp.ones((1, n), bool), jnp.cumprod(betas[:-1] > 0, axis=0).astype(bool)])
    off = jnp.where(filled[1:], betas[:-1], 0).T
    # rows past an invariant subspace repeat its first Rayleigh quotient: they add nothing at either end
    tri = jax.vmap(jnp.diag)(jnp.where(filled, alphas, alphas[:1]).T)
    tri = tri + jax.vmap(lambda b: jnp.diag(b, 1) + jnp.diag(b, -1))(off)
    ritz, vectors = jnp.linalg.eigh(tri)

    def end(at: int) -> tuple[jax.Array, jax.Array, jax.Array]:
        v = jnp.einsum("knd,nk->nd", basis, jnp.where(filled.T, vectors[:, :, at], 0))
        v = over(v, jnp.sqrt(inner(v, v))[:, None])
        w = product(v)
        value = inner(v, w)
        return value, jnp.sqrt(inner(w - value[:, None] * v, w - value[:, None] * v)), v

    (low, low_residual, low_vector), (high, high_residual, _) = end(0), end(-1)
    inside = jnp.sum(jnp.where(filled.T[:, :, None], vectors, 0) ** 2, axis=1) > 0.5
    return RowExtremes(high, high_residual, low, low_residual, low_vector, jnp.where(inside, ritz, jnp.nan))
