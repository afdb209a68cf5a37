"""What a law is told: drawn configurations, what the rule does there, and the step sizes that follow."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from eqdyn import geometry
from eqdyn._types import Key, Points, Scalar, Tree
from eqdyn.geometry import PairConstants
from eqdyn.measure.equivariance import margin, one_rounding
from eqdyn.rule import Rule, add, map_matching

ROLL_OUT = 3  # steps that a roll-out from a fresh state takes, and that settle a state
_PAIRS = 4  # random pairs a draw looks at, beside the two extreme ones


class Draw(NamedTuple):
    """One drawn configuration, its permutation and its key; drawn without knowing the rule."""

    x: Tree
    perm: jax.Array
    key: Key


class Moved(NamedTuple):
    """What the rule does at a draw, once its state has settled: `x` and `state` there; `u`, the particles' part of U; `noise`,
    what rounding may do to it at most.
    """

    x: Tree
    state: Tree
    u: Points
    noise: Scalar


class Sizes(NamedTuple):
    """Step sizes of a draw: those asked for, or 0.5 and 0.99 of `1/K_pair`; `K` is NaN if none was declared."""

    constants: PairConstants
    half: Scalar
    most: Scalar
    K: Scalar


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


def moved(rule: Rule, group: Any, given: Tree, draw: Draw, data: Tree) -> Moved:
    """U at the draw with its state settled, and its conditioning."""
    x, state = settled(rule, group, given, draw, data, draw.x, jnp.arange(group.size, dtype=jnp.int32))
    up = jax.tree.map(lambda a: a * (1 + jnp.finfo(a.dtype).eps), x)
    either = jax.tree.map(lambda *leaves: jnp.stack(leaves), x, one_rounding(x), up)
    u, *shaken = jax.vmap(lambda x: group.particles(force(rule, draw, data, x, state)))(either)
    change = jnp.maximum(*(jnp.max(jnp.abs(other - u)) for other in shaken))
    return Moved(x, state, u, margin(group.size) * (change + jnp.finfo(u.dtype).eps * jnp.max(jnp.abs(u))))


def settled(rule: Rule, group: Any, given: Tree, draw: Draw, data: Tree, x: Tree, order: jax.Array) -> tuple[Tree, Tree]:
    """The configuration in another order, with the rule's state there: the given one, permuted with it, or what a few small
    steps from a fresh one make of both. Momenta and moments are then no longer zero.
    """
    x = group.permute(x, order)
    if given is not None:
        return x, map_matching(lambda tree: group.permute(tree, order), x, given)
    state = rule.init(x)
    if not jax.tree.leaves(state):
        return x, state

    def advance(carry: tuple, k: jax.Array) -> tuple[tuple, None]:
        x, state = carry
        new = rule.update(x, state, data, key=jax.random.fold_in(draw.key, k))
        rows, u = group.particles(x), group.particles(new.u)
        largest = jnp.max(jnp.abs(u))
        eta = 0.01 * jnp.max(jnp.std(rows, axis=0)) / jnp.where(largest > 0, largest, 1)
        return (add(x, eta, new.u), new.state), None

    return jax.lax.scan(advance, (x, state), jnp.arange(ROLL_OUT))[0]


def sizes(group: Any, draw: Draw, moved: Moved, eta: Scalar, K: Scalar) -> Sizes:
    """The pair constants at the draw, and the step sizes that follow; `eta` and `K` are NaN where none was given."""
    found = geometry.pair_constants(group.particles(moved.x), moved.u)
    usable = jnp.isfinite(found.k_pair) & (found.k_pair > 0)
    inverse = jnp.where(usable, 1 / jnp.where(usable, found.k_pair, 1), 1)
    half, most = (jnp.where(jnp.isnan(eta), share * inverse, eta) for share in (0.5, 0.99))
    return Sizes(found, half, most, K)


def force(rule: Rule, draw: Draw, data: Tree, x: Tree, state: Tree) -> Tree:
    """U of the step after those that settled the state."""
    return rule.update(x, state, data, key=jax.random.fold_in(draw.key, ROLL_OUT)).u


def looked_at(draw: Draw, sizes: Sizes) -> jax.Array:
    """Disjoint random pairs, the near one first, then the two that attain the constants."""
    count = min(_PAIRS, draw.perm.shape[0] // 2)
    random = draw.perm[: 2 * count].reshape(count, 2)
    return jnp.concatenate([random, sizes.constants.k_pair_at[None], sizes.constants.mu_at[None]])
