"""The compiled part: the loss all over linear sheets, pair by pair, in bounded memory."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from eqdyn._types import Tree
from eqdyn.paths._affine import between, split

MEMORY = 2**28  # bytes of parameters that are handed over at once


@functools.partial(jax.jit, static_argnames=("loss", "at_once"))
def _over(loss: Callable, a: Tree, bs: Tree, count: Any, ts: Any, data: Tree, at_once: int | None) -> Any:
    """Losses `(S, B, T)` on the sheets from a, leaves `(S, ...)`, to the first `count` of bs, leaves `(S, B, ...)`."""
    prefix, rest = split(lambda params: loss(params, data), jax.tree.map(lambda leaf: leaf[0], a))

    def at(ends: tuple[Tree, Tree]) -> Any:
        one, others = ends
        known = prefix(one)

        def to(k: Any, found: Any) -> Any:
            other = jax.tree.map(lambda leaf: leaf[k], others)
            reached = prefix(other)
            line = jax.lax.map(lambda t: rest(between(one, other, t), between(known, reached, t)), ts, batch_size=at_once)
            return found.at[k].set(line)

        shape = jax.eval_shape(loss, one, data)
        return jax.lax.fori_loop(0, count, to, jnp.zeros((jax.tree.leaves(others)[0].shape[0], ts.shape[0]), shape.dtype))

    return jax.lax.map(at, (a, bs))


def on_sheets(loss: Callable, a: Tree, others: list[Tree], num: int, data: Tree, room: int) -> np.ndarray:
    """The loss at `H(s, t) = (1 - t) a(s) + t b(s)`, `(B, S, num)` float64, for each b; trees with leaves `(S, ...)`.

    `room` is the number of b that the program is made for: calls with fewer do not compile again.
    """
    held = [*others, *[others[0]] * (room - len(others))]
    bs = jax.tree.map(lambda *leaves: np.stack(leaves, axis=1), *held)
    ts = jnp.linspace(0.0, 1.0, num, dtype=max((leaf.dtype for leaf in jax.tree.leaves(a)), key=lambda dtype: dtype.itemsize))
    # on a CPU one at a time keeps what is made in the cache; elsewhere the device is to be filled
    at_once = None if jax.default_backend() == "cpu" else num
    found = _over(loss, a, bs, len(others), ts, data, at_once)
    return np.asarray(found, np.float64).transpose(1, 0, 2)[: len(others)]


@functools.partial(jax.jit, static_argnames=("loss",))
def _along(loss: Callable, params: Tree, data: Tree) -> Any:
    return jax.lax.map(lambda one: loss(one, data), params)


def along(loss: Callable, params: Tree, data: Tree) -> np.ndarray:
    """The loss at each checkpoint, `(T,)` float64."""
    return np.asarray(_along(loss, params, data), np.float64)
