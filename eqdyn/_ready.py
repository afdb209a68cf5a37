"""A run before its first step: every argument checked, and what it will take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from eqdyn import _checks, _mesh
from eqdyn._chunk import Carry, Program, run_chunk
from eqdyn._legs import Leg, legs_of
from eqdyn._run import Run
from eqdyn._start import begun, checked_observers, continued, prepared, started
from eqdyn._types import Tree
from eqdyn.data import Batches, take
from eqdyn.observer import Observer, record_bytes
from eqdyn.rule import Rule

CHUNK = 256  # steps a chunk can hold


class Ready(NamedTuple):
    """What the first chunk is given, and what decides the others."""

    program: Program
    carry: Carry
    host_carry: dict[str, Tree]
    observers: dict[str, Observer]
    most: int  # steps that there is room for
    capacity: int
    before: Run | None
    step: int
    num_steps: int
    batches: Batches | None
    array: Tree
    etas: Callable[[int, int], np.ndarray]
    key: Any
    lanes: int | None
    legs: tuple


def ready_of(
    rule: Any, x0: Any, eta: Any, num_steps: Any, data: Any, key: Any, lanes: Any, observe: Any, tracers: Any, every: Any, chunk: Any
) -> Ready:
    """Every argument checked, and what has to be known before the first step."""
    if not isinstance(rule, Rule):
        msg = f"rule: got {type(rule).__name__}; expected an eq.Rule; write eq.rules.from_function(f) for a plain function."
        raise TypeError(msg)
    num_steps = _checks.count(num_steps, "num_steps")
    stride = _checks.count(1 if every is None else every, "every", least=1)
    capacity = _checks.count(CHUNK if chunk is None else chunk, "chunk", least=1)
    before = x0 if isinstance(x0, Run) else None
    if before is not None:
        lanes, key, tracers = continued(rule, before, lanes, key, tracers)
    lanes = None if lanes is None else _checks.count(lanes, "lanes", least=1)
    _checks.key(key, lanes=lanes)
    batches = data if isinstance(data, Batches) else None
    if batches is not None:
        _checks.needs_key(key, "batches are drawn")
    schedule = eta if callable(eta) else None
    if schedule is None:
        _checks.step_size(eta, lanes=lanes)
    observers = checked_observers(observe)
    device = tuple((name, one) for name, one in observers.items() if not one.on_host)
    array = batches.arrays if batches else _checks.batch(data)
    # one lane's batch, for shapes
    example = array if batches is None else take(array, jnp.arange(batches.batch_size))
    if before is None:
        x, laned_x = started(rule, x0, lanes, example, key)
        carry = begun(rule, x, laned_x, lanes, tracers)
        step, start = 0, (x, tracers)
    else:
        carry, step, start = before._carry, before.step, None
    leg = Leg(step, rule, eta, batches or array, key, stride, capacity, observers, start)
    legs = legs_of(before._legs if before else (), leg)
    dtype = jnp.result_type(*jax.tree.leaves(carry.x))
    laned = (schedule is None and np.ndim(eta) == 1, key is not None and key.ndim == 1)
    program = Program(rule, device, stride, lanes is not None, batches is not None, laned)
    _checks.hashable(program, "rule")

    carry, host_carry, most = prepared(carry, before, program, observers, example, key, capacity, step)
    carry = _mesh.settled(carry)
    etas = eta_table(eta, schedule, dtype)
    return Ready(program, carry, host_carry, observers, most, capacity, before, step, num_steps, batches, array, etas, key, lanes, legs)


class Memory(NamedTuple):
    """Bytes that a run takes: what a chunk is given, what comes out of it, its scratch, and the records of all steps on the host."""

    given: int
    result: int
    scratch: int
    records: int


def memory_of(
    rule: Any, x0: Any, *, eta: Any, num_steps: int, data: Any = None, key: Any = None, lanes: Any = None, observe: Any = None, tracers: Any = None,
    every: Any = None, chunk: Any = None,
) -> Memory:  # fmt: skip
    """What such a run will take. Of the chunk by the compiler's own count: what is compiled for it is what the run then uses."""
    ready = ready_of(rule, x0, eta, num_steps, data, key, lanes, observe, tracers, every, chunk)
    rows = rows_of(ready.batches, ready.key, ready.step, 1, ready.capacity)
    table = jnp.asarray(padded(ready.etas(ready.step, 1), ready.capacity, axis=0))
    arguments = ready.program, np.int32(1), np.int32(ready.step), ready.carry, table, ready.array, rows, ready.key
    found: Any = run_chunk.lower(*arguments).compile().memory_analysis()
    series = [(ready.carry.loss, ready.program.every), *((ready.carry.watched[name], one.stride) for name, one in ready.program.observers)]
    records = sum(record_bytes(tree) * -(-num_steps // stride) for tree, stride in series)
    return Memory(found.argument_size_in_bytes, found.output_size_in_bytes, found.temp_size_in_bytes, records)


# --- of the steps of a chunk ------------------------------------------------------------------------------------------------


def rows_of(batches: Any, key: Any, first: int, num: int, capacity: int) -> jax.Array | None:
    """Row indices of `num` steps, filled up to the capacity; of one step alone at capacity 0."""
    if batches is None:
        return None
    rows = batches.rows(key, first, num)
    return jnp.asarray(padded(rows, capacity, axis=rows.ndim - 2) if capacity else rows[..., 0, :])


def padded(values: np.ndarray, capacity: int, *, axis: int) -> np.ndarray:
    """`values` filled up to `capacity` along `axis`, so that a remainder has the shapes of a whole chunk."""
    missing = capacity - values.shape[axis]
    widths = [(0, missing if k == axis else 0) for k in range(values.ndim)]
    return np.pad(values, widths)


def eta_table(eta: Any, schedule: Callable | None, dtype: Any) -> Callable[[int, int], np.ndarray]:
    """Step sizes of steps `first ...` as `(num, ...)`; a schedule is evaluated one step at a time, so that chunks do not matter."""
    if schedule is None:
        value = np.asarray(eta, dtype)
        return lambda first, num: np.broadcast_to(value, (num, *value.shape))

    def table(first: int, num: int) -> np.ndarray:
        values = np.asarray([np.asarray(schedule(step)) for step in range(first, first + num)], dtype)
        if values.shape != (num,) or not np.all(np.isfinite(values)) or not np.all(values >= 0):
            msg = f"eta: the schedule gave {values[:3]}... at steps {first}...; expected one finite number >= 0 a step."
            raise ValueError(msg)
        return values

    return table
