"""The swap curvature of a rule that knows no probe: antisymmetric derivatives at pairs brought together.

A tangent that moves i by v and j by -v moves nobody else where i and j are twins, to first order: many disjoint pairs share one
derivative. Pairs that are only near are put at their middle, lifted rows and all: what that changes in the field is second order
in their distance for the answer of that pair, and what it does is measured.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from eqdyn._lifted import lifted_rows, with_lifted
from eqdyn._types import Key, Points, Tree
from eqdyn.rule import Rule

_BLOCK_BYTES = 2**26


def nearest(x: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each row's nearest other row of the same weight, and how far (infinitely, where there is none); by differences."""
    n = len(x)
    partner, distance = np.empty(n, int), np.empty(n)
    block = max(1, _BLOCK_BYTES // (8 * x.size))
    for first in range(0, n, block):
        rows = np.arange(first, min(first + block, n))
        d2 = np.sum((x[rows, None] - x[None]) ** 2, axis=-1)
        d2[weight[rows, None] != weight[None]] = np.inf  # unlike twins do not cancel
        d2[np.arange(len(rows)), rows] = np.inf
        partner[rows] = np.argmin(d2, axis=1)
        distance[rows] = np.sqrt(d2[np.arange(len(rows)), partner[rows]])
    return partner, distance


def matched(x: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of near rows of one weight, so that every row that can has one, `(p, 2)`; and their rounds `(rounds, width)`, indices of
    pairs that share no row, filled up with -1.
    """
    partner, distance = nearest(x, weight)
    pairs: list[tuple[int, int]] = []
    paired: set[int] = set()
    for i in np.argsort(distance, kind="stable"):
        if int(i) not in paired and np.isfinite(distance[i]):
            pairs.append((int(i), int(partner[i])))
            paired.update(pairs[-1])
    rounds: list[list[int]] = []
    busy: list[set[int]] = []
    for index, pair in enumerate(pairs):
        at = next((k for k, rows in enumerate(busy) if not rows & set(pair)), len(rounds))
        if at == len(rounds):
            rounds.append([])
            busy.append(set())
        rounds[at].append(index)
        busy[at].update(pair)
    width = max(map(len, rounds), default=0)
    return np.asarray(pairs).reshape(-1, 2), np.asarray([row + [-1] * (width - len(row)) for row in rounds])


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def response(
    rule: Rule, group: Any, together: bool, x: Tree, state: Tree, data: Tree, key: Key | None, pairs: jax.Array, rounds: jax.Array, v: Points
) -> Points:
    """`T_p v_p` of every pair, `(p, d)`: `together`: with the pairs of a round put at their middle; else where they are."""
    rows, d = lifted_rows(group, x, state), group.dim

    def one(at: jax.Array) -> Points:
        used = at >= 0
        i, j = jnp.where(used[:, None], pairs[at], len(rows)).T  # past the end: dropped
        middle = rows[i] / 2 + rows[j] / 2
        placed = rows.at[i].set(middle, mode="drop").at[j].set(middle, mode="drop") if together else rows
        tangent = jnp.zeros_like(rows).at[i, :d].add(v[at], mode="drop").at[j, :d].add(-v[at], mode="drop")

        def force(rows: Points) -> Points:
            return group.particles(rule.update(*with_lifted(group, x, state, rows), data, key=key).u)

        du = jax.jvp(force, (placed,), (tangent,))[1]
        return (du[i] - du[j]) / 2

    found = jax.lax.map(one, rounds)
    slots = jnp.where(rounds >= 0, rounds, len(pairs)).reshape(-1)
    slot_of = jnp.zeros(len(pairs), jnp.int32).at[slots].set(jnp.arange(len(slots), dtype=jnp.int32), mode="drop")
    return found.reshape(-1, d)[slot_of]
