"""The driver: a host loop over compiled chunks.

A chunk is a loop with a traced number of steps, so that a remainder runs in the same program as a whole chunk, and two runs
that share rule, shapes and observers share one compilation. Progress, Ctrl-C and host observers live at chunk borders;
nothing calls back from inside.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from eqdyn import _checks, _mesh
from eqdyn._chunk import Carry, Program, host_frame, run_chunk
from eqdyn._legs import Leg, last_leg, legs_of
from eqdyn._run import History, Interrupted, Run, finished
from eqdyn._start import begun, checked_observers, continued, prepared, started
from eqdyn._types import Key, Status, Tree
from eqdyn.data import Batches, take
from eqdyn.observer import Observer, record_bytes
from eqdyn.rule import Rule

CHUNK = 256  # steps a chunk can hold
_SECONDS = 0.5  # what a chunk should take: the wait for Ctrl-C and for progress
_FIRST = 16  # steps of the first chunk, before its speed is known


def simulate(
    rule: Rule, x0: Any, *, eta: Any = 1.0, num_steps: int, data: Any = None, key: Key | None = None, lanes: int | None = None,
    observe: Mapping[str, Observer] | None = None, tracers: Any = None, every: int | None = None, chunk: int | None = None,
    progress: Any = None, throw: bool = False,
) -> Run:  # fmt: skip
    """Move particles for `num_steps` steps, `x' = x + eta * U(x)`.

    The same arguments give the same bits on the same JAX version, kind of device and lane width; `run(n)` then `run(m)` equals
    `run(n + m)`, bit for bit at equal `chunk`. Divergence ends a lane with a status and its last finite values; the other
    lanes go on as if it had not.

    Args:
        rule: the update rule.
        x0: configuration `(n, d)`, a `Weighted`, or a tree of parameters; or a `Run`, to go on from it. Particles that
            `parallel.shard` has put on several devices stay there.
        eta: step size > 0: a number, `(lanes,)` of them, or an optax schedule of the absolute step (evaluated on the host).
        num_steps: steps to take, >= 0.
        data: None; a tree that every step sees; or `Batches`.
        key: a typed key, or `(lanes,)`; for batches (`fold_in(key, epoch)`) and for rules that draw.
        lanes: how many copies run side by side; `eta`, `key` and the leaves of `x0` that carry the axis `(lanes, ...)` are
            zipped. In a tree a leaf whose first axis is `lanes` carries it if the rule can be traced so.
        observe: observers by name; see `eqdyn.observe`.
        tracers: `(m, d)` massless tracers, moved by `rule.probe`, each with its own state.
        every: stride of the recorded loss, in steps; default 1.
        chunk: most steps a compiled chunk takes; a run that is to equal another bit for bit needs the same.
        progress: True for a bar, or a function `(step, last_step, run_so_far)` called between chunks.
        throw: raise FloatingPointError when a lane ends early.

    Returns:
        `Run`: `.x .state .step .key .tracers .status .status_step .lanes .steps .observed[name] .loss`.

    Raises:
        ValueError, TypeError: an argument that does not fit; before anything is traced.
        FloatingPointError: with `throw=True`, a lane ended early.
        Interrupted: Ctrl-C; a KeyboardInterrupt whose `.run` holds what was done so far.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> run = eq.simulate(eq.rules.consensus(), jnp.array([[0.0], [4.0]]), eta=0.5, num_steps=2)
        >>> run.x.ravel().tolist(), run.status
        ([1.5, 2.5], 'ok')

    References:
        Yang et al., arXiv:2510.02670, equation 4.
    """
    ready = _ready(rule, x0, eta, num_steps, data, key, lanes, observe, tracers, every, chunk)
    program, array, etas, batches, capacity = ready.program, ready.array, ready.etas, ready.batches, ready.capacity
    key, lanes = ready.key, ready.lanes
    observers, carry, host_carry, step = ready.observers, ready.carry, ready.host_carry, ready.step
    host = {name: one for name, one in observers.items() if one.on_host}
    last = step + ready.num_steps
    pace = _Pace(capacity)

    def so_far() -> Run:
        return finished(carry, host_carry, history, observers, step, key, lanes, ready.legs)

    with (
        _mesh.over(carry.x),
        _interruptible() as interrupted,
        contextlib.closing(History(ready.before, observers, interrupted)) as history,
        _bar(progress, step, last) as report,
    ):
        while step < last:
            for name, one in host.items():
                if step % one.stride == 0:
                    frame = host_frame(program, np.int32(step), array, carry, jnp.asarray(etas(step, 1)[0]), _rows(batches, key, step, 1, 0), key)
                    host_carry = {**host_carry, name: one.update(host_carry[name], frame._replace(step=step))}
            steps = min(pace.steps, last - step, ready.most, *(one.stride - step % one.stride for one in host.values()))
            rows = _rows(batches, key, step, steps, capacity)
            eta_now = jnp.asarray(_padded(etas(step, steps), capacity, axis=0))
            with pace.timing(steps):
                carry = jax.block_until_ready(run_chunk(program, np.int32(steps), np.int32(step), carry, eta_now, array, rows, key))
            step += steps
            carry = history.drain(carry, lanes is not None)
            report(step, so_far)
            if interrupted.is_set():
                raise Interrupted(so_far())
        run = so_far()
        if interrupted.is_set():  # while records were still being read
            raise Interrupted(run)
    if throw and not np.all(np.asarray(carry.status) == Status.OK):
        raise FloatingPointError(run.summary())
    return run


class _Ready(NamedTuple):
    """A run before its first step."""

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


def _ready(
    rule: Any, x0: Any, eta: Any, num_steps: Any, data: Any, key: Any, lanes: Any, observe: Any, tracers: Any, every: Any, chunk: Any
) -> _Ready:
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
    etas = _eta_table(eta, schedule, dtype)
    return _Ready(program, carry, host_carry, observers, most, capacity, before, step, num_steps, batches, array, etas, key, lanes, legs)


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
    ready = _ready(rule, x0, eta, num_steps, data, key, lanes, observe, tracers, every, chunk)
    rows = _rows(ready.batches, ready.key, ready.step, 1, ready.capacity)
    table = jnp.asarray(_padded(ready.etas(ready.step, 1), ready.capacity, axis=0))
    arguments = ready.program, np.int32(1), np.int32(ready.step), ready.carry, table, ready.array, rows, ready.key
    found = run_chunk.lower(*arguments).compile().memory_analysis()
    series = [(ready.carry.loss, ready.program.every), *((ready.carry.watched[name], one.stride) for name, one in ready.program.observers)]
    records = sum(record_bytes(tree) * -(-num_steps // stride) for tree, stride in series)
    return Memory(found.argument_size_in_bytes, found.output_size_in_bytes, found.temp_size_in_bytes, records)


def resumed(run: Run, num_steps: int, *, progress: Any = None, throw: bool = False) -> Run:
    """The run gone on with the arguments that it has."""
    leg = last_leg(run._legs)
    return simulate(
        leg.rule, run, eta=leg.eta, num_steps=num_steps, data=leg.data, observe=leg.observers, every=leg.every, chunk=leg.chunk,
        progress=progress, throw=throw,
    )  # fmt: skip


# --- between chunks -----------------------------------------------------------------------------------------------------


def _rows(batches: Any, key: Any, first: int, num: int, capacity: int) -> jax.Array | None:
    """Row indices of `num` steps, filled up to the capacity; of one step alone at capacity 0."""
    if batches is None:
        return None
    rows = batches.rows(key, first, num)
    return jnp.asarray(_padded(rows, capacity, axis=rows.ndim - 2) if capacity else rows[..., 0, :])


def _padded(values: np.ndarray, capacity: int, *, axis: int) -> np.ndarray:
    """`values` filled up to `capacity` along `axis`, so that a remainder has the shapes of a whole chunk."""
    missing = capacity - values.shape[axis]
    widths = [(0, missing if k == axis else 0) for k in range(values.ndim)]
    return np.pad(values, widths)


def _eta_table(eta: Any, schedule: Callable | None, dtype: Any) -> Callable[[int, int], np.ndarray]:
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


class _Pace:
    """How many steps to take before the next look at the world."""

    def __init__(self, capacity: int):
        self.capacity, self.steps, self.warm = capacity, min(capacity, _FIRST), False

    @contextlib.contextmanager
    def timing(self, steps: int) -> Iterator[None]:
        start = time.perf_counter()
        yield
        seconds = (time.perf_counter() - start) / steps
        if self.warm:  # the first chunk may have compiled
            self.steps = int(np.clip(_SECONDS / max(seconds, 1e-9), 1, self.capacity))
        self.warm = True


@contextlib.contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """Ctrl-C waits for the chunk to end, not for what is read beside the run; a second one does not wait."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    old = signal.getsignal(signal.SIGINT)

    def ask(number: int, frame: Any) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    try:
        signal.signal(signal.SIGINT, ask)
        yield asked
    finally:
        signal.signal(signal.SIGINT, old)


@contextlib.contextmanager
def _bar(progress: Any, first: int, last: int) -> Iterator[Callable]:
    """What is called between chunks with the step and a function that gives the run so far."""
    if progress in (None, False):
        yield lambda step, so_far: None
    elif callable(progress):
        yield lambda step, so_far: progress(step, last, so_far())
    else:
        from tqdm.auto import tqdm

        with tqdm(total=last, initial=first, unit="step", desc="simulate", leave=False) as bar:
            yield lambda step, so_far: bar.update(step - bar.n)
