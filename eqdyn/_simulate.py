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
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from eqdyn import _mesh
from eqdyn._chunk import host_frame, run_chunk
from eqdyn._legs import last_leg
from eqdyn._ready import padded, ready_of, rows_of
from eqdyn._run import History, Interrupted, Run, finished
from eqdyn._types import Key, Status
from eqdyn.observer import Observer
from eqdyn.rule import Rule

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
    ready = ready_of(rule, x0, eta, num_steps, data, key, lanes, observe, tracers, every, chunk)
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
                    frame = host_frame(program, np.int32(step), array, carry, jnp.asarray(etas(step, 1)[0]), rows_of(batches, key, step, 1, 0), key)
                    host_carry = {**host_carry, name: one.update(host_carry[name], frame._replace(step=step))}
            steps = min(pace.steps, last - step, ready.most, *(one.stride - step % one.stride for one in host.values()))
            rows = rows_of(batches, key, step, steps, capacity)
            eta_now = jnp.asarray(padded(etas(step, steps), capacity, axis=0))
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


def resumed(run: Run, num_steps: int, *, progress: Any = None, throw: bool = False) -> Run:
    """The run gone on with the arguments that it has."""
    leg = last_leg(run._legs)
    return simulate(
        leg.rule, run, eta=leg.eta, num_steps=num_steps, data=leg.data, observe=leg.observers, every=leg.every, chunk=leg.chunk,
        progress=progress, throw=throw,
    )  # fmt: skip


# --- between chunks -----------------------------------------------------------------------------------------------------


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
