"""Exponential averages, and powers of symmetric matrices with damping."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from eqdyn._types import Scalar, Tree


def decay_of(tau: float) -> float:
    """`beta = tau / (1 + tau)`; tau in steps."""
    return tau / (1.0 + tau)


def averaged(old: Tree, new: Tree, tau: float) -> Tree:
    """`A = f / (1 + tau) + tau / (1 + tau) A`, leaf by leaf; with `tau = 0` it is f itself, bit for bit."""
    if tau == 0:
        return new
    beta = decay_of(tau)
    return jax.tree.map(lambda a, f: (1 - beta) * f + beta * a, old, new)


def missing(tau: float, count: jax.Array, dtype: Any) -> Scalar:
    """What an average that began at 0 has of its weight after `count` terms, `1 - beta^count`."""
    return 1 - jnp.asarray(decay_of(tau), dtype) ** count.astype(dtype)


def power(v: jax.Array, exponent: Any) -> jax.Array:
    """`v^exponent` of numbers >= 0; roots as roots where the exponent is known."""
    named = {0.0: jnp.ones_like, 0.5: jnp.sqrt, 1.0: lambda v: v}
    if isinstance(exponent, float):
        return named[exponent](v) if exponent in named else v**exponent
    return v ** jnp.asarray(exponent, v.dtype)


def inverse_metric(v: jax.Array, alpha: Any, eps: float, *, inside: bool) -> jax.Array:
    """`1 / g` for eigenvalues v >= 0 of kappa: `(v + eps)^-alpha`, or `1 / (v^alpha + eps)` where the damping is outside."""
    return 1 / (power(v + eps, alpha) if inside else power(v, alpha) + eps)


def spectrum(s: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Eigenvalues and -vectors of symmetric matrices `(..., d, d)`; eigenvalues below what rounding makes of 0 are put there: a negative
    power of a rounding would be as good as random.
    """
    values, vectors = jnp.linalg.eigh((s + jnp.swapaxes(s, -1, -2)) / 2)
    floor = s.shape[-1] * float(jnp.finfo(s.dtype).eps) * jnp.max(jnp.abs(values), axis=-1, keepdims=True)
    return jnp.maximum(values, floor), vectors


def matrix_inverse_metric(s: jax.Array, alpha: Any, eps: float, *, inside: bool) -> jax.Array:
    """`g^-1` for symmetric `(..., d, d)` kappa >= 0."""
    values, vectors = spectrum(s)
    scales = inverse_metric(values, alpha, eps, inside=inside)
    return jnp.einsum("...ij,...j,...kj->...ik", vectors, scales, vectors)


def effective_rank(values: jax.Array) -> Scalar:
    """`(tr kappa)^2 / tr kappa^2` of eigenvalues `(..., d)`: 1 where one direction has all the noise, d where all have the same."""
    return jnp.sum(values, axis=-1) ** 2 / jnp.sum(values**2, axis=-1)
