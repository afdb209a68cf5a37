"""The compiled part of a run: a loop with a traced number of steps over one program."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from eqdyn import _checks
from eqdyn._types import Status, Tree
from eqdyn.data import take
from eqdyn.observer import Frame, Observer
from eqdyn.rule import Rule, Update, add, points_of

_compilations = 0


def compile_count() -> int:
    """How many chunk programs this process has traced so far. Two calls that agree in all but values add one.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> for eta in (0.1, 0.2):
        ...     before = eq.compile_count()
        ...     _ = eq.simulate(eq.rules.consensus(), jnp.ones((7, 3)), eta=eta, num_steps=5)
        >>> eq.compile_count() - before
        0
    """
    return _compilations


class Program(NamedTuple):
    """What a chunk is compiled for."""

    rule: Rule
    observers: tuple[tuple[str, Observer], ...]
    every: int
    lanes: bool
    batched: bool
    laned: tuple[bool, bool]  # whether eta and key carry the lane axis


class Carry(NamedTuple):
    """What a chunk hands to the next; every leaf but the series has the lane axis in front when there are lanes."""

    x: Tree
    state: Tree
    y: Tree
    y_state: Tree
    status: jax.Array
    status_step: jax.Array
    watched: dict[str, Tree]
    loss: Tree


@functools.partial(jax.jit, static_argnums=0)
def run_chunk(program: Program, steps: Any, first: Any, carry: Carry, etas: jax.Array, data: Tree, rows: Any, key: Any) -> Carry:
    global _compilations
    _compilations += 1

    def body(k: jax.Array, carry: Carry) -> Carry:
        step = first + k
        at = None if rows is None else jax.lax.dynamic_index_in_dim(rows, k, rows.ndim - 2, keepdims=False)
        advance = functools.partial(_advance, program, step, data)
        if not program.lanes:
            return advance(carry, etas[k], at, key)
        laned_eta, laned_key = program.laned
        axes = (0, 0 if laned_eta else None, 0 if laned_key and at is not None else None, 0 if laned_key else None)
        return jax.vmap(advance, in_axes=axes)(carry, etas[k], at, key)

    return jax.lax.fori_loop(0, steps, body, carry)


def frame_of(program: Program, step: Any, data: Tree, carry: Carry, eta: jax.Array, rows: Any, key: Any) -> tuple[Frame, Update, Any, Any]:
    """One step of one lane, not yet taken: the frame, the tracers' update, the batch and the key of the step."""
    batch = take(data, rows) if program.batched else data
    # a stream of its own: fold_in(key, n) alone belongs to the batches of epoch n
    key = None if key is None else jax.random.fold_in(jax.random.fold_in(key, step), 1)
    new = program.rule.update(carry.x, carry.state, batch, key=key)
    _checks.moved_like(new.u, carry.x)
    return Frame(step, eta, carry.x, new.u, add(carry.x, eta, new.u), carry.state, new.info, batch, new.state), new, batch, key


def _advance(program: Program, step: Any, data: Tree, carry: Carry, eta: jax.Array, rows: Any, key: Any) -> Carry:
    frame, new, batch, key = frame_of(program, step, data, carry, eta, rows, key)
    status, status_step = _status(carry, frame.x_next, new.state, step)
    alive = status == Status.OK

    def keep(new: Tree, old: Tree) -> Tree:
        return jax.tree.map(lambda a, b: jnp.where(alive, a, b), new, old)

    still = jax.tree.map(jnp.zeros_like, frame.u)
    y, y_state = keep(_traced(program, carry, eta, batch, key), (carry.y, carry.y_state))
    frame = frame._replace(
        u=keep(frame.u, still), x_next=keep(frame.x_next, carry.x), state_next=keep(new.state, carry.state), tracers=carry.y, tracers_next=y
    )
    watched = {name: _strided(step, one.stride, one.update, carry.watched[name], frame) for name, one in program.observers}
    loss = carry.loss
    if loss is not None:
        value = jnp.where(alive, loss_of(frame.info), jnp.nan)
        loss = _strided(step, program.every, lambda series, value: series.append(step, value), loss, value)
    return Carry(frame.x_next, frame.state_next, y, y_state, status, status_step, watched, loss)


def _traced(program: Program, carry: Carry, eta: jax.Array, batch: Tree, key: Any) -> tuple[Tree, Tree]:
    """The tracers after a step, with their states."""
    if carry.y is None:
        return None, carry.y_state
    moved = program.rule.probe(carry.y, carry.y_state, carry.x, carry.state, batch, key=key)  # type: ignore[misc]
    _checks.moved_like(moved.u, carry.y, "probe")
    return add(carry.y, eta, moved.u), moved.state


def _strided(step: Any, stride: int, update: Callable, carry: Tree, value: Tree) -> Tree:
    return update(carry, value) if stride == 1 else jax.lax.cond(step % stride == 0, update, lambda old, _: old, carry, value)


def loss_of(info: Tree) -> Any:
    """The loss that a rule shows, if it does."""
    return info.get("loss") if isinstance(info, dict) else getattr(info, "loss", None)


def _status(carry: Carry, x_next: Tree, state: Tree, step: Any) -> tuple[jax.Array, jax.Array]:
    def all_of(test: Callable, *trees: Tree) -> jax.Array:
        leaves = zip(*(jax.tree.leaves(tree) for tree in trees), strict=True)
        found = [jnp.all(test(*leaf)) for leaf in leaves if jnp.issubdtype(jnp.result_type(leaf[0]), jnp.floating)]
        return jnp.all(jnp.stack(found)) if found else jnp.ones((), bool)

    points = points_of(x_next)
    # a state may hold an infinity from the start (a best loss so far), but none may come up
    finite = all_of(jnp.isfinite, points) & all_of(lambda new, old: jnp.isfinite(new) | ~jnp.isfinite(old), state, carry.state)
    # beyond sqrt(max) squared distances overflow, and nothing can be measured any more
    near = all_of(lambda leaf: jnp.abs(leaf) < float(jnp.finfo(leaf.dtype).max) ** 0.5, points)
    now = jnp.where(finite, jnp.where(near, Status.OK, Status.DIVERGED), Status.NONFINITE).astype(jnp.int32)
    ended = carry.status != Status.OK
    status = jnp.where(ended, carry.status, now)
    return status, jnp.where(ended | (now == Status.OK), carry.status_step, jnp.asarray(step, jnp.int32))


@functools.partial(jax.jit, static_argnums=0)
def host_frame(program: Program, step: Any, data: Tree, carry: Carry, eta: Any, rows: Any, key: Any) -> Frame:
    def one(carry: Carry, eta: Any, rows: Any, key: Any) -> Frame:
        frame, new, batch, key = frame_of(program, step, data, carry, eta, rows, key)
        alive = _status(carry, frame.x_next, new.state, step)[0] == Status.OK
        u = jax.tree.map(lambda u: jnp.where(alive, u, jnp.zeros_like(u)), frame.u)
        after = (frame.x_next, frame.state_next, _traced(program, carry, eta, batch, key)[0]), (carry.x, carry.state, carry.y)
        x_next, state_next, y_next = jax.tree.map(lambda a, b: jnp.where(alive, a, b), *after)
        shown = batch if program.batched else None  # shared data need no copy a lane
        return frame._replace(u=u, x_next=x_next, state_next=state_next, data=shown, tracers=carry.y, tracers_next=y_next)

    if program.lanes:
        laned_eta, laned_key = program.laned
        axes = (0, 0 if laned_eta else None, 0 if laned_key and rows is not None else None, 0 if laned_key else None)
        one = jax.vmap(one, in_axes=axes)
    frame = one(carry._replace(watched={}, loss=None), eta, rows, key)
    return frame if program.batched else frame._replace(data=data)
