"""All that the laws want to know of a rule at a draw, in one program.

The rule is traced three times whatever the number of laws: for roll-outs, for halvings, for derivatives.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from eqdyn._ask import derive, draws, halve
from eqdyn._ask.derive import Jacobian, Lifted
from eqdyn._ask.draws import AT, NEAR, SHAKEN, SWAPPED, TWINS, Draw
from eqdyn._ask.halve import Halvings
from eqdyn._ask.lifted import in_batches, largest_row, norm
from eqdyn._types import Key, Points, Scalar, Tree, Weighted
from eqdyn.groups import Rows
from eqdyn.rule import Rule, add, map_matching, matching_subtrees

ROLL_OUT = 4  # evaluations of a roll-out from a fresh state; the last finds the state settled


class Swaps(NamedTuple):
    """How far U moves when one pair of NEAR is exchanged, `U(X) - U(PX)`: as a whole, and its largest particle; `(pairs,)`."""

    change: jax.Array
    row: jax.Array


class Asked(NamedTuple):
    """The answers of a rule at one draw.

    Fields:
        fresh: U along roll-outs from a fresh state, at AT, PERMUTED, SHAKEN; leaves `(3, ROLL_OUT, ...)`.
        given: U of one step from the given state, leaves `(3, 1, ...)`; None without one.
        x, u: every variant with its state settled, and U there, `(variants, n, d)`.
        twins: U along the roll-out from TWINS, `(steps, n, d)`.
        again: U at AT, asked anew.
        has_state: whether the rule remembers anything.
        leak: the fastest change of a weight, over the largest weight; 1/[eta].
        weight: of each particle, `(n,)`; particles of unequal weight are not exchangeable.
    """

    fresh: Tree
    given: Tree
    x: Points
    u: Points
    twins: Points
    again: Points
    has_state: jax.Array
    leak: Scalar
    weight: jax.Array
    swaps: Swaps
    halvings: Halvings
    jacobian: Jacobian | None


def ask(rule: Rule, group: Any, differentiable: bool, lanes: int, given: Tree, draw: Draw, data: Tree) -> tuple[Asked, Lifted | None]:
    """All that the laws want to know of a rule at one draw; `given` is None or the user's state, `lanes` the number of
    evaluations of U that fit side by side.
    """
    starts, orders = draws.variants(group, draw)
    xs, states, us = in_batches(lambda x: _roll(rule, group, draw.key, data, x), starts, lanes)
    compared = jax.tree.map(lambda leaf: leaf[: SHAKEN + 1], us)
    if given is None:
        # without a state there is nothing to settle
        last = ROLL_OUT - 1 if jax.tree.leaves(states) else 0
        (x, state, u), when = jax.tree.map(lambda leaf: leaf[:, last], (xs, states, us)), last
        twins = jax.vmap(group.particles)(jax.tree.map(lambda leaf: leaf[TWINS], us))
        from_given = None
    else:
        when = ROLL_OUT - 1
        state = jax.vmap(lambda order: _follow(group, draw.x, given, order))(orders)
        x, u = starts, in_batches(lambda one: _force(rule, draw.key, when, data, *one), (starts, state), lanes)
        twins = group.particles(jax.tree.map(lambda leaf: leaf[TWINS], u))[None]
        from_given = jax.tree.map(lambda leaf: leaf[: SHAKEN + 1, None], u)

    def force(x: Tree, state: Tree) -> tuple[Tree, Tree]:
        new = rule.update(x, state, data, key=jax.random.fold_in(draw.key, when))
        return new.u, new.state

    near = jax.tree.map(lambda leaf: leaf[SWAPPED:] - leaf[NEAR][None], u)
    at, at_twins = (jax.tree.map(lambda leaf, k=k: leaf[k], (x, state)) for k in (AT, TWINS))
    halvings, again = halve.halvings(force, group, lanes, draw, *at)
    jacobian, lifted = derive.jacobian(force, group, lanes, draw, *at_twins) if differentiable else (None, None)
    answers = Asked(
        fresh=compared,
        given=from_given,
        x=jax.vmap(group.particles)(x),
        u=jax.vmap(group.particles)(u),
        twins=twins,
        again=group.particles(again),
        has_state=jnp.asarray(bool(jax.tree.leaves(state))),
        leak=_leak(draw.x, jax.tree.map(lambda leaf: leaf[AT], u)),
        weight=_weight(draw.x, group),
        swaps=Swaps(jax.vmap(norm)(near), jax.vmap(lambda one: largest_row(group, one))(near)),
        halvings=halvings,
        jacobian=jacobian,
    )
    return answers, lifted


def _follow(group: Any, x: Tree, state: Tree, order: jax.Array) -> Tree:
    """A given state, with its particles in another order: the subtrees shaped like x; for rows also leaves of one entry a row."""

    def reorder(node: Tree) -> Tree:
        return group.permute(node, order)

    if not isinstance(group, Rows):
        return map_matching(reorder, x, state)
    ours = {id(leaf) for part in matching_subtrees(x, state) for leaf in jax.tree.leaves(part)}

    def leaf(one: Any) -> Any:
        return jnp.take(one, order, axis=0) if id(one) in ours or jnp.shape(one)[:1] == (group.size,) else one

    return jax.tree.map(leaf, state)


def _force(rule: Rule, key: Key, k: Any, data: Tree, x: Tree, state: Tree) -> Tree:
    return rule.update(x, state, data, key=jax.random.fold_in(key, k)).u


def _roll(rule: Rule, group: Any, key: Key, data: Tree, x: Tree) -> tuple[Tree, Tree, Tree]:
    """x, state and U at each step of a roll-out from a fresh state; steps of a hundredth of the spread, so that momenta and
    moments are soon no longer zero.
    """

    def advance(carry: tuple, k: jax.Array) -> tuple[tuple, tuple]:
        x, state = carry
        new = rule.update(x, state, data, key=jax.random.fold_in(key, k))
        rows, u = group.particles(x), group.particles(new.u)
        largest = jnp.max(jnp.abs(u))
        eta = 0.01 * jnp.max(jnp.std(rows, axis=0)) / jnp.where(largest > 0, largest, 1)
        return (add(x, eta, new.u), new.state), (x, state, new.u)

    return jax.lax.scan(advance, (x, rule.init(x)), jnp.arange(ROLL_OUT))[1]


def _leak(x: Tree, u: Tree) -> Scalar:
    if not isinstance(x, Weighted):
        return jnp.zeros((), jnp.result_type(*jax.tree.leaves(x)))
    return jnp.max(jnp.abs(u.weight)) / jnp.max(x.weight)


def _weight(x: Tree, group: Any) -> jax.Array:
    return x.weight if isinstance(x, Weighted) else jnp.ones((group.size,), jnp.result_type(*jax.tree.leaves(x)))
