"""What a simulation gives back."""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import os
import queue
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from eqdyn import _mesh
from eqdyn._chunk import Carry
from eqdyn._types import STATUS_NAMES, Key, Tree
from eqdyn.observer import Observer, Series, is_series


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """A run, whole or so far. Pass it to `simulate` in place of `x0` to go on from it.

    With lanes every array has the lane axis in front.

    Fields:
        x, state: the configuration and the rule's state after the last step; in a lane that ended, the last finite ones.
        step: absolute number of the next step.
        key: the key of the run.
        tracers: their places `(m, d)`, or None. They do not decide the status: one that runs away stays away.
        status: "ok", "diverged" (squared distances would overflow) or "nonfinite"; with lanes an array of these.
        status_step: the step at which it ended, -1 where it did not.
        lanes: how many lanes, or None.
        steps: `(t,)` absolute steps at which the loss was recorded.
        observed: what each observer read, by name.
        loss: `(t,)` loss at x before each recorded step, if the rule tells one; NaN once a lane has ended.
    """

    x: Tree
    state: Tree
    step: int
    key: Key | None
    tracers: Tree
    status: Any
    status_step: Any
    lanes: int | None
    steps: np.ndarray
    observed: dict[str, Tree]
    loss: np.ndarray | None
    _carry: Any = dataclasses.field(repr=False, default=None)
    _host: Any = dataclasses.field(repr=False, default=None)
    _observers: Any = dataclasses.field(repr=False, default=None)
    _history: Any = dataclasses.field(repr=False, default=None)
    _legs: Any = dataclasses.field(repr=False, default=())

    def resume(self, num_steps: int, *, progress: Any = None, throw: bool = False) -> Run:
        """The run after `num_steps` more steps with the arguments that it has; `run(n)` resumed for m steps is `run(n + m)`, bit for bit.

        A run from a folder needs what cannot be stored to have been given to `eq.load`: ValueError where it was not.

        Example:
            >>> import jax.numpy as jnp, eqdyn as eq
            >>> run = eq.simulate(eq.rules.consensus(), jnp.array([[0.0], [4.0]]), eta=0.5, num_steps=1).resume(1)
            >>> run.step, run.x.ravel().tolist()
            (2, [1.5, 2.5])
        """
        from eqdyn._simulate import resumed

        return resumed(self, num_steps, progress=progress, throw=throw)

    def summary(self) -> str:
        """The run in a few lines of text: steps taken, how each lane stands, first and last loss."""
        shapes = ", ".join(str(np.shape(leaf)) for leaf in jax.tree.leaves(self.x))
        lines = [f"{self.step} steps of {shapes}" + (f" in {self.lanes} lanes" if self.lanes is not None else "")]
        statuses, at = np.atleast_1d(self.status), np.atleast_1d(self.status_step)
        losses = None if self.loss is None or not self.loss.size else np.atleast_2d(self.loss)
        for lane, (status, step) in enumerate(zip(statuses, at, strict=True)):
            line = f"lane {lane}: " if self.lanes is not None else ""
            line += str(status) if status == "ok" else f"{status} at step {step}"
            if losses is not None:
                line += f", loss {losses[lane, 0]:.4g} -> {losses[lane, -1]:.4g}"
            lines.append(line)
        return "\n".join(lines)

    def to_xarray(self) -> Any:
        """Loss, status and recorded series as an `xarray.Dataset` with named axes (`lane`, `step`); needs `eqdyn[data]`."""
        try:
            import xarray
        except ImportError as error:
            msg = "to_xarray: xarray is missing; write pip install 'eqdyn[data]'."
            raise ImportError(msg) from error
        lane = () if self.lanes is None else ("lane",)
        variables: dict[str, Any] = {"status": (lane, np.asarray(self.status)), "status_step": (lane, np.asarray(self.status_step))}
        coordinates: dict[str, Any] = {}
        if self.loss is not None:
            variables["loss"], coordinates["step"] = ((*lane, "step"), self.loss), self.steps
        for name, read in self.observed.items():
            if not is_series(read):
                continue
            coordinates[f"{name}_step"] = read.steps
            leaves = jax.tree_util.tree_leaves_with_path(read.values)
            for path, leaf in leaves:
                label = "_".join([name, *jax.tree_util.keystr(path, simple=True, separator="_").split()])
                axes = (*lane, f"{name}_step") if read.laned else (f"{name}_step",)
                extra = tuple(f"{label}_{k}" for k in range(np.ndim(leaf) - len(axes)))
                variables[label] = ((*axes, *extra), np.asarray(leaf))
        return xarray.Dataset(variables, coordinates, attrs={"num_steps": self.step})


WAITING = 4  # chunks of records that may be on their way beside the simulation
GRACE = 0.5  # seconds that Ctrl-C leaves to what is being read


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a simulation. `.run` is the run so far: pass it to `simulate` to go on.

    Records that were still to be read beside it are lost: -1, NaN or None in the series, by their dtype.
    """

    def __init__(self, run: Run):
        super().__init__(f"stopped after step {run.step}; the run so far is in .run of this exception")
        self.run = run


_here = threading.local()


def stopping() -> bool:
    """Whether the run that the calling thread reads for has ended early: what is left need not be read."""
    stop = getattr(_here, "stop", None)
    return stop is not None and stop.is_set()


class Beside:
    """A thread that reads records in order while the run goes on. Python does not wait for it to end, nor does Ctrl-C."""

    def __init__(self, interrupted: threading.Event):
        self.interrupted, self._stop = interrupted, threading.Event()
        self._jobs: queue.SimpleQueue = queue.SimpleQueue()
        self._room = threading.Semaphore(WAITING)
        self._until: float | None = None  # when Ctrl-C waits no longer
        self._thread = threading.Thread(target=self._work, name="eqdyn-leaving", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        _here.stop = self._stop
        while (job := self._jobs.get()) is not None:
            promise, apply, values = job
            if promise.set_running_or_notify_cancel():
                try:
                    promise.set_result(apply(values))
                except BaseException as error:
                    promise.set_exception(error)
            self._room.release()

    def submit(self, apply: Callable[[Tree], Tree], values: Tree) -> Future:
        """A promise of what becomes of the values; waits while too many are under way, and is cancelled if Ctrl-C comes meanwhile."""
        promise: Future = Future()
        while not self._room.acquire(timeout=0.1):
            if self.interrupted.is_set():
                promise.cancel()
                return promise
        self._jobs.put((promise, apply, values))
        return promise

    def result(self, promise: Future) -> Any:
        """What was promised, or None if Ctrl-C came first."""
        while not promise.done():
            if not self.interrupted.is_set():
                wait([promise], 0.1)
                continue
            if self._until is None:
                self._until = time.monotonic() + GRACE
            wait([promise], max(0.0, self._until - time.monotonic()))
            if not self._stop.is_set() and not promise.done():
                self.end()
            promise.cancel()
            break
        # one that still runs is left to itself
        return promise.result() if promise.done() and not promise.cancelled() else None

    def end(self) -> None:
        """Let the thread end, now: a reading in a process of its own is killed, another one may go on unheeded for a while."""
        self._stop.set()
        self._jobs.put(None)
        until = time.monotonic() + GRACE
        while self._thread.is_alive() and time.monotonic() < until:
            _kill_children(self._thread.native_id)
            self._thread.join(0.02)
        if self._thread.is_alive():
            # a thread that comes back from foreign code while Python ends would bring it down
            atexit.register(self._thread.join, 1.0)


def _kill_children(thread: int | None) -> None:
    """Kill the processes that a thread of ours has started, where Linux tells which."""
    with contextlib.suppress(OSError):
        for number in Path(f"/proc/self/task/{thread}/children").read_text().split():
            os.kill(int(number), signal.SIGKILL)


class History:
    """Records that have left the device, by the place of their series in the carry."""

    def __init__(self, before: Run | None, observers: dict[str, Observer], interrupted: threading.Event):
        self.parts: dict[str, list[tuple]] = {}
        if before is not None:
            # an observer that was replaced, or was away for a leg, starts its records anew
            gone = [_place(name) for name in before._observers if observers.get(name) != before._observers[name]]
            self.parts = {place: list(parts) for place, parts in before._history.items() if not any(place.startswith(name) for name in gone)}
        self.leaving = {_place(name): one.leaving for name, one in observers.items() if one.leaving is not None}
        self._beside = Beside(interrupted) if self.leaving else None

    def drain(self, carry: Carry, laned: bool) -> Carry:
        """Move what the series hold to the host, and empty them."""

        def empty(path: Any, node: Any) -> Any:
            if not is_series(node) or isinstance(node.steps, np.ndarray):
                return node
            count = int(np.max(np.asarray(node.count), initial=0))
            if count:
                cut = (slice(None), slice(count)) if laned else (slice(count),)
                steps = np.asarray(node.steps)[(0, slice(count)) if laned else cut]
                values = jax.tree.map(lambda leaf: _mesh.on_host(leaf)[cut].copy(), node.values)  # a view would keep all the room
                place = jax.tree_util.keystr(path)
                self.parts.setdefault(place, []).append((steps, self._sent_off(place, values)))
            return Series(node.steps, node.values, jnp.zeros_like(node.count))

        return jax.tree_util.tree_map_with_path(empty, carry, is_leaf=is_series)

    def _sent_off(self, place: str, values: Tree) -> Any:
        """The records as they are, or a promise of what becomes of them."""
        apply = self._leaving_of(place)
        return values if apply is None or self._beside is None else self._beside.submit(apply, values)

    def _leaving_of(self, place: str) -> Callable[[Tree], Tree] | None:
        return next((leaving for name, leaving in self.leaving.items() if place.startswith(name)), None)

    def close(self) -> None:
        """Let the thread beside end."""
        if self._beside is not None:
            self._beside.end()

    def whole(self, path: Any, node: Any, laned: bool) -> Any:
        """The series at `path` with all its records; those that Ctrl-C left unread are -1, NaN or None, by their dtype."""
        if not is_series(node) or isinstance(node.steps, np.ndarray):
            return node
        axis, place = 1 if laned else 0, jax.tree_util.keystr(path)
        none = jax.tree.map(lambda leaf: _mesh.on_host(leaf)[(slice(None),) * axis + (slice(0),)], node.values)
        leaving = self._leaving_of(place)
        none = none if leaving is None else leaving(none)
        parts = [(steps, self._arrived(steps, values, none, axis)) for steps, values in self.parts.get(place, [])]
        if parts:
            self.parts[place] = parts
        steps = np.concatenate([np.zeros(0, np.int64), *(part[0] for part in parts)])
        values = jax.tree.map(lambda *leaves: np.concatenate(leaves, axis=axis), *([part[1] for part in parts] or [none]))
        return Series(steps.astype(np.int64), values, laned=laned)

    def _arrived(self, steps: np.ndarray, values: Any, none: Tree, axis: int) -> Tree:
        if not isinstance(values, Future):
            return values
        found = self._beside.result(values) if self._beside is not None else None
        return jax.tree.map(lambda leaf: _lost(leaf, axis, len(steps)), none) if found is None else found


def _place(name: str) -> str:
    """Where the series of an observer are in the carry."""
    return f".watched[{name!r}]"


def _lost(none: np.ndarray, axis: int, count: int) -> np.ndarray:
    value = None if none.dtype == object else np.nan if np.issubdtype(none.dtype, np.inexact) else -1 if none.dtype.kind == "i" else 0
    return np.full((*none.shape[:axis], count, *none.shape[axis + 1 :]), value, none.dtype)


def finished(
    carry: Carry, host_carry: dict[str, Tree], history: History, observers: dict[str, Observer], step: int, key: Any, lanes: int | None,
    legs: tuple = (),
) -> Run:  # fmt: skip
    laned = lanes is not None
    whole = jax.tree_util.tree_map_with_path(lambda path, node: history.whole(path, node, laned), carry, is_leaf=is_series)
    observed = {name: one.read(host_carry[name] if one.on_host else whole.watched[name]) for name, one in observers.items()}
    status = np.asarray(carry.status)
    names = np.asarray(STATUS_NAMES)[status]
    return Run(
        x=carry.x, state=carry.state, step=step, key=key, tracers=carry.y, status=str(names) if not laned else names,
        status_step=np.asarray(carry.status_step) if laned else int(carry.status_step), lanes=lanes,
        steps=whole.loss.steps if carry.loss is not None else np.zeros(0, np.int64), observed=observed,
        loss=whole.loss.values if carry.loss is not None else None,
        _carry=carry, _host=host_carry, _observers=observers, _history={name: tuple(parts) for name, parts in history.parts.items()},
        _legs=legs,
    )  # fmt: skip
