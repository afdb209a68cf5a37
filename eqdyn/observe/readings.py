"""Topology read along a run, beside it: the particles leave the device, and threads of the host read them while the run goes on."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from eqdyn import topology
from eqdyn._run import stopping
from eqdyn._value import bind
from eqdyn.observe.along import each, particles_of
from eqdyn.observer import Observer
from eqdyn.topology._persistence import MEMORY, SECONDS


def betti(
    *, group: Any = None, stride: int = 1, scale: Any = "diameter/4", max_dim: int = 2, prime: int = 2, engine: str | None = None, workers: int = 1
) -> Observer:
    """Records Betti numbers b_0 ... b_max_dim before the step, `(t, max_dim + 1)` integers. Exact at the stated scale; a diagnostic.

    Off the critical path: the particles of every chunk are read by threads beside the simulation, which waits when four chunks are
    under way; no reading is dropped, and none changes the run. -1 throughout where particles are not finite, a reading failed (a
    warning says why), or Ctrl-C came before it was read. Until their chunk ends particles wait on the device, which makes room for 64 MiB
    of them, all lanes together, or for one configuration; chunks are as short as that asks.

    Args:
        group: None for rows, a `Group`, or a dict of groups by name.
        stride: in steps.
        scale, max_dim, prime, engine: as in `topology.betti`; one scale.
        workers: threads that read at once, with the compiled engine.

    Example:
        >>> import numpy as np, jax.numpy as jnp, eqdyn as eq
        >>> t = np.linspace(0, 2 * np.pi, 40, endpoint=False)
        >>> circle = jnp.asarray(np.stack([np.cos(t), np.sin(t)], 1), jnp.float32)
        >>> watch = {"betti": eq.observe.betti(max_dim=1)}
        >>> run = eq.simulate(eq.rules.consensus(), circle, eta=0.5, num_steps=2, observe=watch)
        >>> run.observed["betti"].values.tolist()
        [[1, 1], [1, 1]]
    """
    if isinstance(scale, (list, np.ndarray, jax.Array)):
        if isinstance(scale, list) or scale.ndim:
            msg = f"scale: got {type(scale).__name__} of {len(scale)}; expected one scale; write an observer for each, under a name of its own."
            raise ValueError(msg)
        scale = float(scale)
    read = bind(_betti, scale, max_dim, prime, engine, workers)
    read(np.zeros((1, 1, 1)))  # arguments that make no sense are refused now, not in the thread
    # one at a time can be stopped after each, and fails alone; threads want some to share
    return each(particles_of, group, stride, leaving=bind(_records, read, max_dim + 1, 1 if workers == 1 else 4 * workers))


def _betti(scale: Any, max_dim: int, prime: int, engine: str | None, workers: int, clouds: np.ndarray) -> np.ndarray:
    return topology.betti_along(clouds, scale=scale, max_dim=max_dim, prime=prime, engine=engine, workers=workers)


def persistence(
    *, group: Any = None, stride: int = 1, max_dim: int = 1, longest: float = float("inf"), engine: str = "ripser", prime: int = 2,
    memory: float = MEMORY, seconds: float = SECONDS,
) -> Observer:  # fmt: skip
    """Records persistence diagrams before the step: `(t,)` an array of `Diagram`; None where there is none (see `betti`).

    Off the critical path, and with as little room on the device, as `betti`.

    Args:
        group, stride: as in `betti`.
        max_dim, longest, engine, prime: as in `topology.persistence`.
        memory, seconds: as there, of each diagram.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> watch = {"bars": eq.observe.persistence(max_dim=0)}
        >>> run = eq.simulate(eq.rules.consensus(), jnp.array([[0.0], [4.0]]), eta=0.5, num_steps=2, observe=watch)
        >>> [diagram.bars[0].tolist() for diagram in run.observed["bars"].values]
        [[[0.0, 4.0]], [[0.0, 2.0]]]
    """
    for name, value in (("memory", memory), ("seconds", seconds)):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
            msg = f"{name}: got {value!r}; expected a number > 0, the budget of each diagram."
            raise ValueError(msg)
    read = bind(_persistence, max_dim, longest, engine, prime, memory, seconds)
    read(np.zeros((1, 2, 1)))
    return each(particles_of, group, stride, leaving=bind(_records, read, 0, 1))


def _persistence(max_dim: int, longest: float, engine: str, prime: int, memory: float, seconds: float, clouds: np.ndarray) -> np.ndarray:
    found = np.empty(len(clouds), object)
    for k, cloud in enumerate(clouds):
        if np.all(np.isfinite(cloud)):
            found[k] = topology.persistence(cloud, max_dim=max_dim, longest=longest, engine=engine, prime=prime, memory=memory, seconds=seconds)
    return found


def _records(read: Callable[[np.ndarray], np.ndarray], width: int, at_once: int, values: Any) -> Any:
    """What is read of particles `(..., t, n, d)`: `(..., t, width)` integers, or `(..., t)` objects where width is 0."""
    return jax.tree.map(bind(_of_group, read, width, at_once), values)


def _of_group(read: Callable[[np.ndarray], np.ndarray], width: int, at_once: int, x: Any) -> np.ndarray:
    shape = np.shape(x)
    clouds = np.asarray(x).reshape(-1, *shape[-2:])
    found = np.full((len(clouds), width), -1) if width else np.full(len(clouds), None)
    failures: list[Exception] = []

    def attempt(first: int, count: int) -> None:
        if stopping():
            return
        try:
            found[first : first + count] = read(clouds[first : first + count])
        except Exception as error:  # a reading that fails must not end the run that it watches, nor take others with it
            if count == 1:
                failures.append(error)
            else:
                for k in range(first, min(first + count, len(clouds))):
                    attempt(k, 1)

    for first in range(0, len(clouds), at_once):
        attempt(first, at_once)
    if failures and not stopping():
        warnings.warn(f"topology was not read for {len(failures)} of {len(clouds)} records: {failures[0]}", stacklevel=2)
    return found.reshape(*shape[:-2], *found.shape[1:])
