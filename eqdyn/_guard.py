"""The guard: an optimizer's step, made so small that it provably merges nobody."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from eqdyn import _checks, geometry, groups
from eqdyn._types import Points, Scalar, Tree

CONSTANTS = ("pair", "one_sided")


class GuardState(NamedTuple):
    """What a guard remembers. All numbers stay finite, so that a guarded run is not taken for one that blew up.

    Fields:
        scale: the factor of the last step: 1 where it was let through, 0 where it was refused.
        q: the step as it was proposed, `eta * K_pair` (or `eta * mu`), the largest over the groups; the largest number of the
            dtype where it is infinite or NaN; 0 where no two particles are distinct.
        num_scaled: steps that were made smaller, the refused ones among them.
        num_refused: steps that could not be certified at any size, and were not made.
        lost: sum of `1 - scale`: the time of a run is `eta * (steps - lost)`.
    """

    scale: jax.Array
    q: jax.Array
    num_scaled: jax.Array
    num_refused: jax.Array
    lost: jax.Array


def guard(c: float = 0.9, *, group: Any = None, constant: Literal["pair", "one_sided"] = "pair") -> Any:
    """An optax transformation that lets no step merge particles. Put it last: it takes the updates for the whole step.

        q     = max |du_i - du_j| / |x_i - x_j|                          "pair",      eta * K_pair of the step
        q     = max -<du_i - du_j, x_i - x_j> / |x_i - x_j|^2            "one_sided", eta * mu, which is at most that
        du'   = min(1, c / q) du                                         all leaves: the direction stays
        s_ij >= 1 - c                                                    for every pair of distinct particles

    A certificate of each step, with weight decay and all else that is in the updates. It holds for the updates as they are returned:
    they are measured again once they are scaled, and `d + 8` roundings of q are allowed for (if rounding near a close pair stands in
    the way, the scale is the next smaller power of two). What is left is the rounding of `x + du` itself: a pair is safe if it is
    resolved, `4 eps (|x_i'| + |x_j'|) / |x_i - x_j| < 1 - c`. A step within the bound passes bit for bit. "pair" also holds all
    distances below `1 + c` of what they were; "one_sided" scales less, since turning and parting do not count.

    The updates are limited as they are. Who multiplies them again voids the guarantee: simulate the rule of a guarded optimizer at the
    default eta of 1 (at another one q is up to `eta c`), and set the step size in the optimizer.

    Refused, that is replaced by zero and counted: a step that is not finite, and one that tears coincident particles apart (their q
    is infinite; no equivariant optimizer does that). What stands before the guard keeps its state of such a step.

    Optimizers with a state: the parameters of distinct particles stay distinct, which is more than their lifted particles need.

    Args:
        c: bound on q, 0 < c < 1.
        group: None for an array of rows, the `Group` that reads particles out of a parameter tree, or a dict of groups, of which
            the largest q decides. Leaves outside are scaled too, but for those of integers.
        constant: "pair" or "one_sided".

    Returns:
        `optax.GradientTransformationExtraArgs` with a `GuardState`; its `update` needs `params`. Two guards of equal arguments are
        equal in `rules.from_optax`. Time O(n^2 d) a step, in tiles, and twice that for a step that is scaled.

    Raises:
        ValueError: c out of range, another constant, no params, or a tree that does not fit the group.
        TypeError: a group that is none.
        ImportError: optax is missing.

    Example:
        >>> import jax.numpy as jnp, optax, eqdyn as eq
        >>> tx = optax.chain(optax.sgd(2.0), eq.guard(0.5))
        >>> x = jnp.array([[0.0], [4.0]])                          # under the loss |x|^2 / 2 this step would exchange the two
        >>> updates, state = tx.update(x, tx.init(x), x)
        >>> x = optax.apply_updates(x, updates)
        >>> [round(float(row[0]), 5) for row in x], round(float(state[1].scale), 5), float(state[1].q)
        ([0.0, 2.0], 0.25, 2.0)

    References:
        Derived, from the swap argument of Yang et al., arXiv:2510.02670, lemma 4.
    """
    import optax

    c = _checks.number(c, "c", above=0, below=1)
    if constant not in CONSTANTS:
        msg = f"constant: got {constant!r}; expected one of {list(CONSTANTS)}."
        raise ValueError(msg)
    named = tuple(sorted(group.items())) if isinstance(group, Mapping) else group
    # partials of plain functions: `rules.from_optax` compares them by what they hold
    return optax.GradientTransformationExtraArgs(functools.partial(_init, named), functools.partial(_update, c, named, constant))


def _particles(named: Any, tree: Tree) -> list[Points]:
    """The particles of every group, in float32 where they are narrower: the bound is no coarser than that."""
    group = dict(named) if type(named) is tuple else named
    found = [one.particles(tree) for one in groups.resolve(group, tree).values()]
    return [x.astype(_wider(x.dtype, jnp.float32)) for x in found]


def _wider(*dtypes: Any) -> Any:
    return max(dtypes, key=lambda dtype: jnp.finfo(dtype).bits)


def _init(named: Any, params: Tree) -> GuardState:
    dtype = _wider(*(x.dtype for x in _particles(named, params)))
    none = jnp.zeros((), jnp.int32)
    return GuardState(jnp.ones((), dtype), jnp.zeros((), dtype), none, none, jnp.zeros((), dtype))


def _update(c: float, named: Any, constant: str, updates: Tree, state: GuardState, params: Tree = None, **extra: Any) -> tuple[Tree, GuardState]:
    if params is None:
        msg = "params: got None; expected the parameters, whose particles are guarded; write tx.update(grads, state, params)."
        raise ValueError(msg)
    xs, dtype = _particles(named, params), state.scale.dtype
    most, one, zero = (jnp.asarray(value, dtype) for value in (c, 1, 0))

    def attempt(now: _Attempt) -> _Attempt:
        found = [_constants(constant, x, u) for x, u in zip(xs, _particles(named, now.updates), strict=True)]
        q, bound = (jnp.max(jnp.stack([value.astype(dtype) for value in values])) for values in zip(*found, strict=True))
        first = now.number == 0
        q, allowed = jnp.where(first, q, now.q), jnp.where(first, most / bound, now.allowed)
        exact = jnp.ldexp(one, jnp.frexp(allowed)[1] - 1)  # the power of two below
        less = [jnp.maximum(now.scale * (most / bound) ** power, exact) for power in (2, 4)]
        smaller = jnp.stack([allowed, *less, exact, jnp.zeros_like(most)])[now.number]
        fits = bound <= most
        scale = jnp.where(fits, now.scale, jnp.where(jnp.isfinite(bound), smaller, 0))
        return _Attempt(_scaled(updates, scale), now.number + 1, scale, q, allowed, fits | (scale == 0))

    finite = _finite(updates)
    start = _Attempt(updates, jnp.zeros((), jnp.int32), jnp.where(finite, one, zero), jnp.where(finite, zero, jnp.nan), zero, ~finite)
    last = jax.lax.while_loop(lambda now: ~now.done, attempt, start)
    largest = jnp.finfo(dtype).max
    new = GuardState(
        last.scale,
        jnp.nan_to_num(last.q, nan=largest, posinf=largest, neginf=0),
        state.num_scaled + (last.scale < 1).astype(jnp.int32),
        state.num_refused + (last.scale == 0).astype(jnp.int32),
        state.lost + (1 - last.scale),
    )
    return jax.tree.map(
        lambda leaf: jnp.where((last.scale == 0) & jnp.issubdtype(leaf.dtype, jnp.inexact), jnp.zeros_like(leaf), leaf), last.updates
    ), new


class _Attempt(NamedTuple):
    """The updates as they would be returned, to be held against c. Carried through a loop, they are rounded before they are measured
    (a fused product would not be), which near pairs feel. Each time they are too large for that they are made smaller by twice and
    four times what was missing, and in the end scaled by a power of two, which rounds nothing.
    """

    updates: Tree
    number: jax.Array
    scale: jax.Array
    q: jax.Array  # of the step as proposed
    allowed: jax.Array  # c over its bound
    done: jax.Array


def _finite(tree: Tree) -> jax.Array:
    return functools.reduce(jnp.logical_and, (jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)))


def _scaled(updates: Tree, scale: jax.Array) -> Tree:
    def scaled(leaf: jax.Array) -> jax.Array:
        if not jnp.issubdtype(leaf.dtype, jnp.inexact):
            return leaf  # a count, say: no part of a step
        wide = _wider(leaf.dtype, scale.dtype)
        return (leaf.astype(wide) * scale.astype(wide)).astype(leaf.dtype)

    return jax.tree.map(scaled, updates)


@functools.partial(jax.jit, static_argnums=0)
def _constants(constant: str, x: Points, u: Points) -> tuple[Scalar, Scalar]:
    """q, and what it may truly be: sums of d products are off by at most d + 8 roundings of `|du| / |dx|`."""
    found = geometry.pair_constants(x, u)
    q = found.k_pair if constant == "pair" else found.mu
    bound = q + (x.shape[1] + 8) * jnp.finfo(x.dtype).eps * found.k_pair
    return q, jnp.where(found.k_pair == 0, 0, bound)  # nobody moves against anybody
