"""Lifted particles: x and the subtrees of the state that follow it, rows joined."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from eqdyn._types import Points, Scalar, Tree
from eqdyn.rule import map_matching, matching_subtrees


def parts(x: Tree, state: Tree) -> list[Tree]:
    found = matching_subtrees(x, state)
    return [part for part in found if all(jnp.issubdtype(jnp.result_type(leaf), jnp.floating) for leaf in jax.tree.leaves(part))]


def lifted_rows(group: Any, x: Tree, state: Tree) -> Points:
    rows = group.particles(x)
    return jnp.concatenate([rows, *[group.particles(part).astype(rows.dtype) for part in parts(x, state)]], axis=1)


def with_lifted(group: Any, x: Tree, state: Tree, rows: Points) -> tuple[Tree, Tree]:
    blocks = iter(jnp.split(rows, rows.shape[1] // group.dim, axis=1))
    moved = group.with_particles(x, next(blocks))
    wanted = {id(leaf) for part in parts(x, state) for leaf in jax.tree.leaves(part)}

    def replace(part: Tree) -> Tree:
        return group.with_particles(part, next(blocks)) if {id(leaf) for leaf in jax.tree.leaves(part)} <= wanted else part

    return moved, map_matching(replace, x, state)


def norm(tree: Tree) -> Scalar:
    return jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(tree)))


def largest_row(group: Any, tree: Tree) -> Scalar:
    return jnp.max(jnp.linalg.norm(group.particles(tree), axis=1))
