"""A branch that stays one with lanes: `jax.lax.cond` under `vmap` computes both sides in every lane."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from eqdyn._types import Tree


def rarely(wanted: jax.Array, dear: Callable, cheap: Callable, *operands: Any) -> Tree:
    """`dear(*operands)` where `wanted`, else `cheap(*operands)`; with lanes `dear` is computed for all of them when one wants it, else for none."""

    @jax.custom_batching.custom_vmap
    def chosen(wanted: jax.Array, operands: tuple) -> Tree:
        return jax.lax.cond(wanted, dear, cheap, *operands)

    @chosen.def_vmap
    def _(axis_size: int, batched: tuple, wanted: jax.Array, operands: tuple) -> tuple[Tree, Tree]:
        lanes, of_operands = batched
        axes = jax.tree.map(lambda laned: 0 if laned else None, of_operands)

        def of_all(call: Callable) -> Callable:
            return lambda operands: jax.vmap(lambda operands: call(*operands), in_axes=(axes,), axis_size=axis_size)(operands)

        def some(operands: tuple) -> Tree:
            if not lanes:
                return of_all(dear)(operands)
            return jax.tree.map(
                lambda one, other: jnp.where(wanted.reshape((-1,) + (1,) * (one.ndim - 1)), one, other),
                of_all(dear)(operands),
                of_all(cheap)(operands),
            )

        found = jax.lax.cond(jnp.any(wanted), some, of_all(cheap), operands)
        return found, jax.tree.map(lambda leaf: True, found)

    return chosen(wanted, operands)
