"""Lifted particles as rows: x joined with the subtrees of the state that follow it, taken apart and put together again."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from eqdyn._types import Points, Tree
from eqdyn.rule import map_matching, matching_subtrees


def parts(x: Tree, state: Tree) -> list[Tree]:
    """The real subtrees of `state` that have the structure and shapes of x."""
    found = matching_subtrees(x, state)
    return [part for part in found if all(jnp.issubdtype(jnp.result_type(leaf), jnp.floating) for leaf in jax.tree.leaves(part))]


def lifted_rows(group: Any, x: Tree, state: Tree) -> Points:
    """`(n, d + s)`: the particles of a group with their state."""
    rows = group.particles(x)
    return jnp.concatenate([rows, *[group.particles(part).astype(rows.dtype) for part in parts(x, state)]], axis=1)


def with_lifted(group: Any, x: Tree, state: Tree, rows: Points) -> tuple[Tree, Tree]:
    """Configuration and state with their lifted particles replaced."""
    blocks = iter(jnp.split(rows, rows.shape[1] // group.dim, axis=1))
    moved = group.with_particles(x, next(blocks))
    wanted = {id(leaf) for part in parts(x, state) for leaf in jax.tree.leaves(part)}

    def replace(part: Tree) -> Tree:
        return group.with_particles(part, next(blocks)) if {id(leaf) for leaf in jax.tree.leaves(part)} <= wanted else part

    return moved, map_matching(replace, x, state)


def tracer_state(group: Any, x: Tree, state: Tree) -> Tree:
    """The state of a group's particles seen as tracers: what follows x in rows `(n, d)`, the rest as it is."""
    return map_matching(group.particles, x, state)
