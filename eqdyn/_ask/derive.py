"""Derivatives of U and of the lifted step where two particles are twins."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from eqdyn._ask.draws import Draw
from eqdyn._ask.lifted import in_batches, lifted_rows, with_lifted
from eqdyn._types import Points, Scalar, Tree
from eqdyn.measure.equivariance import one_rounding

WIDEST = 64  # numbers of a lifted particle up to which its whole Jacobian is formed
_FRAME = 16  # else: directions of a random frame


class Jacobian(NamedTuple):
    """Derivatives of U at TWINS; those of `(e_i - e_j) (x) v` with i, j the twins. Each at four places, `(4, ...)`: at X, at X moved
    by one rounding, and with the twins a thousandth apart, one way and the other, which tells a kink.

    Fields:
        frame: the directions v of x, `(k, d)`.
        first, second: `dU_i` and `-dU_j`, `(4, k, d)`: two ways to the swap curvature T v.
        others: the largest component of any other particle's `dU`, `(4,)`; no cross-talk makes it 0.
        turn: how much dU changes from one side of the twins to the other, its largest component.
        swap: the norm of `v -> dU / sqrt 2` over v in the frame, `(4,)`.
        lipschitz: the norm of dU over antisymmetric directions and over common shifts of x, `(4,)`.
    """

    frame: jax.Array
    first: jax.Array
    second: jax.Array
    others: jax.Array
    turn: Scalar
    swap: jax.Array
    lipschitz: jax.Array


class Lifted(NamedTuple):
    """The lifted step map at twins, `(x, s) -> (x + eta U, s')`, differentiated: `(2, d + s, d + s)`, at X and moved by one
    rounding; row: direction, column: response, first of U, then of s'.
    """

    response: jax.Array


def jacobian(force: Any, group: Any, lanes: int, draw: Draw, x: Tree, state: Tree) -> tuple[Jacobian, Lifted | None]:
    rows = lifted_rows(group, x, state)
    width, d = rows.shape[1], group.dim
    i, j = draw.perm[0], draw.perm[1]
    whole = width <= WIDEST
    if whole:
        directions = jnp.eye(width, dtype=rows.dtype)
    else:
        frame, _ = jnp.linalg.qr(jax.random.normal(draw.key, (d, min(d, _FRAME)), rows.dtype))
        directions = jnp.concatenate([frame.T, jnp.zeros((frame.shape[1], width - d), rows.dtype)], axis=1)
    k = d if whole else directions.shape[0]  # those that move x
    apart = jnp.zeros((len(directions), *rows.shape), rows.dtype).at[:, i].set(directions).at[:, j].set(-directions)
    together = jnp.broadcast_to(directions[:k, None], (k, *rows.shape))

    def respond(rows: Points) -> tuple[Tree, Points]:
        u, after = force(*with_lifted(group, x, state, rows))
        return u, lifted_rows(group, x, after)[:, d:]

    def at(rows: Points) -> tuple[tuple, jax.Array]:
        du, ds = in_batches(lambda along: jax.jvp(respond, (rows,), (along,))[1], jnp.concatenate([apart, together]), lanes)
        du_rows = jax.vmap(group.particles)(du)[: len(apart)]
        first, second = du_rows[:k, i], -du_rows[:k, j]
        others = jnp.max(jnp.abs(du_rows[:k].at[:, i].set(0).at[:, j].set(0)), initial=0)
        flat = jnp.concatenate([leaf.reshape(len(leaf), -1).astype(rows.dtype) for leaf in jax.tree.leaves(du)], axis=1)
        two, num = (jnp.asarray(count, rows.dtype) for count in (2, len(rows)))
        swap, shift = _operator_norm(flat[:k] / jnp.sqrt(two)), _operator_norm(flat[len(apart) :] / jnp.sqrt(num))
        response = jnp.concatenate([(du_rows[:, i] - du_rows[:, j]) / 2, (ds[: len(apart), i] - ds[: len(apart), j]) / 2], axis=1)
        return (first, second, others, du_rows[:k], swap, jnp.maximum(swap, shift)), response

    step = 1e-3 * jnp.std(rows[:, :d]) * jax.random.normal(draw.key, (d,), rows.dtype)
    aside = jnp.zeros_like(rows).at[i, :d].set(step).at[j, :d].set(-step)
    places = jnp.stack([rows, one_rounding(rows), rows + aside, rows - aside])
    (first, second, others, du, swap, lipschitz), response = jax.lax.map(at, places)
    turn = jnp.max(jnp.abs(du[2] - du[3]))
    return Jacobian(directions[:k, :d], first, second, others, turn, swap, lipschitz), Lifted(response[:2]) if whole else None


def _operator_norm(rows: jax.Array) -> Scalar:
    """The largest singular value of a wide matrix; scaled first, since squares overflow early."""
    scale = jnp.maximum(jnp.max(jnp.abs(rows)), jnp.finfo(rows.dtype).tiny)
    gram = (rows / scale) @ (rows / scale).T
    return scale * jnp.sqrt(jnp.maximum(jnp.linalg.eigvalsh(gram)[-1], 0))
