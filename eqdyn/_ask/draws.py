"""Where a rule is asked: configurations and permutations drawn around x. Drawn without knowing the rule."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from eqdyn._types import Key, Tree
from eqdyn.measure.equivariance import one_rounding

NUM_PAIRS = 4  # random pairs that a draw looks at, at most
# the variants of a drawn configuration, by number
AT, PERMUTED, SHAKEN, UP, NEAR, NEAR_SHAKEN, TWINS, SWAPPED = range(8)  # SWAPPED and those after it: NEAR with one pair exchanged each


class Draw(NamedTuple):
    """One drawn configuration, its permutation and its key."""

    x: Tree
    perm: jax.Array
    key: Key


def draw(group: Any, x: Tree, key: Key, index: jax.Array) -> Draw:
    """Draw number `index`: number 0 is x itself, the others lie around it, at a tenth of its spread."""
    of_x, of_perm, of_rule = jax.random.split(jax.random.fold_in(key, index), 3)
    points = group.particles(x)
    spread = jnp.std(points, axis=0, keepdims=True)
    largest = jnp.max(jnp.abs(points))
    spread = jnp.where(spread > 0, spread, jnp.where(largest > 0, largest, 1))
    noise = jax.random.normal(of_x, points.shape, points.dtype)
    around = jnp.where(index == 0, points, points + 0.1 * spread * noise)
    return Draw(group.with_particles(x, around), jax.random.permutation(of_perm, group.size).astype(jnp.int32), of_rule)


def pairs(draw: Draw) -> jax.Array:
    """Disjoint random pairs, `(NUM_PAIRS, 2)` or as many as there are; the near one first."""
    count = min(NUM_PAIRS, draw.perm.shape[0] // 2)
    return draw.perm[: 2 * count].reshape(count, 2)


def swap(num: int, pair: jax.Array) -> jax.Array:
    """The order that exchanges one pair."""
    same = jnp.arange(num, dtype=jnp.int32)
    return same.at[pair[0]].set(pair[1]).at[pair[1]].set(pair[0])


def num_variants(num: int) -> int:
    return SWAPPED + min(NUM_PAIRS, num // 2)


def variants(group: Any, draw: Draw) -> tuple[Tree, jax.Array]:
    """The configurations that the rule is asked at, leaves `(num_variants, ...)`, and the order in which each has taken the
    particles of the draw, `(num_variants, n)`; the state follows that order.

        AT        the drawn x
        PERMUTED  P x
        SHAKEN    each coordinate moved by one rounding, up or down
        UP        each coordinate moved up by one rounding
        NEAR      particle perm[1] put next to particle perm[0], at a hundredth of their distance: there K is a local matter
        NEAR_SHAKEN  the same, each coordinate moved by one rounding
        TWINS     particle perm[1] (and perm[2] of four or more) made a copy of particle perm[0], weight included
        SWAPPED   NEAR with the first pair exchanged, then the second, ...
    """
    num, perm = group.size, draw.perm
    same = jnp.arange(num, dtype=jnp.int32)
    i, j = perm[0], perm[1]
    rows = group.particles(draw.x)
    near = group.with_particles(draw.x, rows.at[j].set(rows[i] + 0.01 * (rows[j] - rows[i])))
    twins = same.at[j].set(i)
    twins = twins.at[perm[2]].set(i) if num > 3 else twins
    swaps = [swap(num, pair) for pair in pairs(draw)]
    up = jax.tree.map(lambda a: a * (1 + jnp.finfo(a.dtype).eps), draw.x)
    bases = [draw.x, draw.x, one_rounding(draw.x), up, near, one_rounding(near), draw.x, *[near for _ in swaps]]
    orders = jnp.stack([same, perm, same, same, same, same, twins, *swaps])
    taken = jax.vmap(group.permute)(jax.tree.map(lambda *leaves: jnp.stack(leaves), *bases), orders)
    return taken, orders
