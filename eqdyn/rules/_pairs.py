"""Sums over all pairs of a tile, one coordinate after another: by differences, and nothing of size (n, n, d) is formed."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from eqdyn._types import Points


def squared_distances(rows: Points, points: Points) -> jax.Array:
    """`|p_j - r_i|^2`, `(m, n)`."""

    def add(total: jax.Array, coordinate: tuple) -> tuple[jax.Array, None]:
        r, p = coordinate
        return total + jnp.square(p[None] - r[:, None]), None

    return jax.lax.scan(add, jnp.zeros((rows.shape[0], points.shape[0]), rows.dtype), (rows.T, points.T))[0]


def drift(pull: jax.Array, rows: Points, points: Points) -> Points:
    """`sum_j pull_ij (p_j - r_i)`, `(m, d)`. Every row is summed alike, so that equal rows get equal answers."""

    def along(coordinate: tuple) -> jax.Array:
        r, p = coordinate
        return jnp.sum(pull * (p[None] - r[:, None]), axis=1)

    return jax.lax.map(along, (rows.T, points.T)).T
