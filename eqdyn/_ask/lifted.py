"""Lifted particles: x and the subtrees of the state that follow it, rows joined; norms; evaluations in batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from eqdyn._lifted import lifted_rows, parts, with_lifted
from eqdyn._types import Points, Scalar, Tree

__all__ = ["in_batches", "largest_row", "lengths", "lifted_rows", "norm", "parts", "with_lifted"]


def norm(tree: Tree) -> Scalar:
    """Of all leaves; scaled first, since squares overflow and vanish early."""
    leaves = jax.tree.leaves(tree)
    dtype = jnp.result_type(*leaves)
    largest = jnp.max(jnp.stack([jnp.max(jnp.abs(leaf)).astype(dtype) for leaf in leaves]))
    scale = jnp.where((largest > 0) & jnp.isfinite(largest), largest, 1)
    return scale * jnp.sqrt(sum(jnp.sum((leaf.astype(dtype) / scale) ** 2) for leaf in leaves))


def lengths(rows: Points) -> jax.Array:
    """The norm of every row, scaled first."""
    largest = jnp.max(jnp.abs(rows))
    scale = jnp.where((largest > 0) & jnp.isfinite(largest), largest, 1)
    return scale * jnp.linalg.norm(rows / scale, axis=1)


def largest_row(group: Any, tree: Tree) -> Scalar:
    return jnp.max(lengths(group.particles(tree)))


def in_batches(function: Callable, xs: Tree, size: int) -> Tree:
    """`vmap(function)(xs)`, at most `size` at a time; the last batch is filled up, so that all run in one program."""
    num = len(jax.tree.leaves(xs)[0])
    if num <= size:
        return jax.vmap(function)(xs)
    batches = -(-num // size)
    at = jnp.minimum(jnp.arange(batches * size), num - 1)
    filled = jax.tree.map(lambda leaf: leaf[at].reshape(batches, size, *leaf.shape[1:]), xs)
    answers = jax.lax.map(jax.vmap(function), filled)
    return jax.tree.map(lambda leaf: leaf.reshape(batches * size, *leaf.shape[2:])[:num], answers)
