"""What has to be known before the first step: lanes, states, tracers, observers and room for their records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from eqdyn import _checks
from eqdyn._chunk import Carry, Program, frame_of, loss_of
from eqdyn._run import Run
from eqdyn._types import Tree, Weighted
from eqdyn.observer import Frame, Observer, Series, is_series, series_like
from eqdyn.rule import Rule, points_of

ROOM_BYTES = 2**26  # how much of an observer's records may wait on the device, lanes together


def continued(rule: Rule, before: Run, lanes: Any, key: Any, tracers: Any) -> tuple[Any, Any, Any]:
    if lanes not in (None, before.lanes):
        msg = f"lanes: got {lanes}; expected {before.lanes}, as in the run that goes on."
        raise ValueError(msg)
    if tracers is not None:
        msg = "tracers: got new tracers; expected None: the run that goes on has its own."
        raise ValueError(msg)
    if before.tracers is not None and rule.probe is None:
        msg = "rule: got one without probe for a run with tracers; expected one that moves them."
        raise ValueError(msg)
    one = (lambda f: f) if before.lanes is None else jax.vmap
    fresh, kept = (jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree) for tree in (jax.eval_shape(one(rule.init), before.x), before.state))
    if fresh != kept:
        msg = f"rule: got one whose state is {fresh}; expected that of the run that goes on, {kept}."
        raise ValueError(msg)
    return before.lanes, before.key if key is None else key, before.tracers


def checked_observers(observe: Mapping[str, Observer] | None) -> dict[str, Observer]:
    observers = dict(sorted((observe or {}).items()))
    for name, one in observers.items():
        if not isinstance(one, Observer):
            msg = f"observe[{name!r}]: got {type(one).__name__}; expected an Observer; write eq.observe.{name}() or eq.observer.recorder(f)."
            raise TypeError(msg)
        _checks.count(one.stride, f"observe[{name!r}].stride", least=1)
    return observers


def started(rule: Rule, x0: Any, lanes: int | None, example: Tree, key: Any) -> tuple[Tree, Tree]:
    """The checked configuration, and which of its leaves carry the lane axis."""
    if lanes is None:
        x, marks = _checks.configuration(x0), jax.tree.map(lambda _: False, x0)
    else:
        marks = _lane_marks(rule, x0, lanes, example, key if key is None or key.ndim == 0 else key[0])
        x = jax.tree.map(lambda leaf: _checks.floating(leaf, "x0"), x0)
        _checks.configuration(_first_lane(x, marks))
    _checks.finite(x, "x0")
    return x, marks


def _first_lane(x: Tree, marks: Tree) -> Tree:
    return jax.tree.map(lambda leaf, mark: leaf[0] if mark else leaf, x, marks)


def _lane_marks(rule: Rule, x0: Any, lanes: int, example: Tree, key: Any) -> Tree:
    """Which leaves carry the lane axis: told by rank where ranks are known, else by whether the rule can be traced so."""
    if isinstance(x0, Weighted):
        if any(np.ndim(leaf) == rank and len(leaf) != lanes for leaf, rank in zip(x0, (3, 2), strict=True)):
            msg = f"x0: got shapes {np.shape(x0.x)} and {np.shape(x0.weight)} with lanes={lanes}; expected (n, d) and (n,), or (lanes, ...)."
            raise ValueError(msg)
        return Weighted(*(np.ndim(leaf) == rank for leaf, rank in zip(x0, (3, 2), strict=True)))  # type: ignore[arg-type]
    if hasattr(x0, "ndim"):
        if x0.ndim == 3 and x0.shape[0] != lanes:
            msg = f"x0: got shape {x0.shape} with lanes={lanes}; expected (n, d), or (lanes, n, d)."
            raise ValueError(msg)
        return x0.ndim == 3
    zipped = jax.tree.map(lambda leaf: np.shape(leaf)[:1] == (lanes,), x0)
    shared = jax.tree.map(lambda _: False, x0)
    if not any(jax.tree.leaves(zipped)):
        return shared

    def failure(marks: Tree) -> Exception | None:
        try:
            x = _checks.configuration(_first_lane(x0, marks))
            jax.eval_shape(lambda x: rule.update(x, rule.init(x), example, key=key), x)
        except Exception as error:
            return error
        return None

    not_zipped, not_shared = failure(zipped), failure(shared)
    if not_zipped is not None and not_shared is not None:
        raise not_zipped
    if not_zipped is None and not_shared is None and not all(jax.tree.leaves(zipped)):
        msg = (
            f"x0: got a leaf whose first axis is as long as lanes={lanes}, and the rule runs with it as lanes and without; "
            f"expected one reading; give all leaves the axis."
        )
        raise ValueError(msg)
    return shared if not_zipped is not None else zipped


def begun(rule: Rule, x: Tree, laned_x: Tree, lanes: int | None, tracers: Any) -> Carry:
    """The carry of a run that starts, without series."""
    if lanes is not None:
        x = jax.tree.map(lambda leaf, mark: leaf if mark else jnp.broadcast_to(leaf, (lanes, *leaf.shape)), x, laned_x)
    per_lane = jax.vmap if lanes is not None else (lambda f: f)
    y = y_state = None
    if tracers is not None:
        if rule.probe is None:
            msg = "tracers: got tracers for a rule without probe; expected None; or write the energy with weights, L(x, weight, data), weighted=True."
            raise ValueError(msg)
        y = _checks.floating(tracers, "tracers")
        wanted = (2,) if lanes is None else (2, 3)
        points = points_of(x)  # of a tree the rule's field knows which units it moves, and how many numbers they hold
        dim, dtype = (points.shape[-1], points.dtype) if hasattr(points, "shape") else (y.shape[-1], jnp.result_type(*jax.tree.leaves(points)))
        if y.ndim not in wanted or y.shape[-1] != dim or y.dtype != dtype or (y.ndim == 3 and y.shape[0] != lanes):
            msg = f"tracers: got {y.shape} {y.dtype}; expected (m, {dim}) {dtype}, one tracer a row."
            raise ValueError(msg)
        _checks.finite(y, "tracers")
        y = y if lanes is None or y.ndim == 3 else jnp.broadcast_to(y, (lanes, *y.shape))
        y_state = per_lane(rule.init)(y)
    flat = () if lanes is None else (lanes,)
    status = jnp.zeros(flat, jnp.int32)
    return Carry(x, per_lane(rule.init)(x), y, y_state, status, status - 1, {}, None)


def _abstract_step(program: Program, data: Tree, key: Any, carry: Carry) -> Frame:
    """The shapes of one lane's frame, without computing it."""
    one = _lane(carry, program.lanes)
    one_key = key if key is None or key.ndim == 0 else key[0]
    eta = jnp.zeros((), jnp.result_type(*jax.tree.leaves(carry.x)))
    single = program._replace(batched=False)
    return jax.eval_shape(lambda c: frame_of(single, jnp.int32(0), data, c, eta, None, one_key)[0], one)


def _lane(carry: Carry, lanes: bool) -> Tree:
    bare = carry._replace(watched={}, loss=None)
    return jax.tree.map(lambda leaf: leaf[0], bare) if lanes else bare


def prepared(
    carry: Carry, before: Run | None, program: Program, observers: dict[str, Observer], data: Tree, key: Any, capacity: int, step: int
) -> tuple[Carry, dict[str, Tree], int]:
    """The carry with its observers begun, or gone on with, and room in every series; the carries of the host observers; and how many steps
    there is room for.
    """
    shapes = _abstract_step(program, data, key, carry)
    per_lane = jax.vmap if program.lanes else (lambda f: f)

    def still(x: Tree, state: Tree, y: Tree) -> Frame:
        """Nothing has moved yet: what `Observer.init` sees."""
        eta, u, info = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), (shapes.eta, shapes.u, shapes.info))
        return Frame(jnp.int32(step), eta, x, u, x, state, info, data, state, y, y)  # data: an example of a batch

    watched, host_carry = {}, {}
    for name, one in observers.items():
        known = before is not None and before._observers.get(name) == one
        if one.on_host:
            frame = per_lane(still)(carry.x, carry.state, carry.y)._replace(step=step)
            frame = frame if program.batched else frame._replace(data=data)  # shared by all lanes
            host_carry[name] = before._host[name] if known else one.init(frame)  # type: ignore[union-attr]
        elif known:
            watched[name] = before._carry.watched[name]  # type: ignore[union-attr]
        else:
            watched[name] = per_lane(lambda x, state, y, one=one: one.init(still(x, state, y)))(carry.x, carry.state, carry.y)
    loss = loss_of(shapes.info)
    loss = None if loss is None else per_lane(lambda _: series_like(loss))(carry.status)
    axis = 1 if program.lanes else 0

    def records_of(name: str) -> int:
        """How many records a chunk has room for. Of whole configurations room for all 256 would fill a device; what there is room
        for does not depend on num_steps, since the program does on it.
        """
        full = -(-capacity // observers[name].stride)
        series = [node for node in jax.tree.leaves(watched[name], is_leaf=is_series) if is_series(node)]
        size = sum(leaf.nbytes // leaf.shape[axis] for node in series for leaf in jax.tree.leaves(node.values))
        return max(1, min(full, ROOM_BYTES // max(1, size)))

    def roomy(tree: Tree, records: int) -> Tree:
        """Every series, emptied, with room for so many records."""

        def buffer(leaf: Any) -> jax.Array:
            return jnp.zeros((*leaf.shape[:axis], records, *leaf.shape[axis + 1 :]), leaf.dtype)

        def room(node: Any) -> Any:
            return Series(buffer(node.steps), jax.tree.map(buffer, node.values), jnp.zeros_like(node.count)) if is_series(node) else node

        return jax.tree.map(room, tree, is_leaf=is_series)

    records = {name: records_of(name) for name in watched}
    most = min([capacity, *(records[name] * observers[name].stride for name in watched)])
    watched = {name: roomy(tree, records[name]) for name, tree in watched.items()}
    return carry._replace(watched=watched, loss=roomy(loss, -(-capacity // program.every))), host_carry, most
