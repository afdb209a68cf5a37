"""Topology read along a run, beside it: the particles leave the device, and threads of the host read them while the run goes on."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from eqdyn import topology
from eqdyn.observe.along import each, particles_of
from eqdyn.observer import Observer


def betti(
    *, group: Any = None, stride: int = 1, scale: Any = "diameter/4", max_dim: int = 2, engine: str | None = None, workers: int = 1
) -> Observer:
    """Records Betti numbers b_0 ... b_max_dim before the step, `(t, max_dim + 1)` integers. Exact at the stated scale; a diagnostic.

    Off the critical path: the particles of every chunk are read by threads beside the simulation, which waits when four chunks are
    under way; no reading is dropped, and none changes the run. -1 throughout where particles are not finite, or a reading failed
    (a warning says why).

    Args:
        group: None for rows, a `Group`, or a dict of groups by name.
        stride: in steps.
        scale, max_dim, engine: as in `topology.betti`; one scale.
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
    read = functools.partial(topology.betti_along, scale=scale, max_dim=max_dim, engine=engine, workers=workers)
    read(np.zeros((1, 1, 1)))  # arguments that make no sense are refused now, not in the thread
    lost = np.full(max_dim + 1, -1)
    return each(particles_of, group, stride, leaving=_Leaving(read, lost))


def persistence(*, group: Any = None, stride: int = 1, max_dim: int = 1, longest: float = float("inf"), engine: str = "ripser") -> Observer:
    """Records persistence diagrams before the step: `(t,)` an array of `Diagram`; None where there is none (see `betti`).

    Off the critical path, as `betti`.

    Args:
        group, stride: as in `betti`.
        max_dim, longest, engine: as in `topology.persistence`.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> watch = {"bars": eq.observe.persistence(max_dim=0)}
        >>> run = eq.simulate(eq.rules.consensus(), jnp.array([[0.0], [4.0]]), eta=0.5, num_steps=2, observe=watch)
        >>> [diagram.bars[0].tolist() for diagram in run.observed["bars"].values]
        [[[0.0, 4.0]], [[0.0, 2.0]]]
    """

    def read(clouds: np.ndarray) -> np.ndarray:
        found = np.empty(len(clouds), object)
        for k, cloud in enumerate(clouds):
            found[k] = topology.persistence(cloud, max_dim=max_dim, longest=longest, engine=engine) if np.all(np.isfinite(cloud)) else None
        return found

    return each(particles_of, group, stride, leaving=_Leaving(read, None))


class _Leaving:
    """Reads particles `(..., t, n, d)` into records `(..., t, ...)`; compared by identity, so that each observer keeps its own records."""

    def __init__(self, read: Callable[[np.ndarray], np.ndarray], lost: Any):
        self.read, self.lost = read, lost

    def __call__(self, values: Any) -> Any:
        return jax.tree.map(self._one, values)

    def _one(self, x: np.ndarray) -> np.ndarray:
        clouds = np.asarray(x).reshape(-1, *x.shape[-2:])
        try:
            found = self.read(clouds)
        except Exception as error:  # a reading that fails must not end the run that it watches
            warnings.warn(f"topology was not read for {len(clouds)} records: {error}", stacklevel=2)
            found = np.empty(len(clouds), object) if self.lost is None else np.tile(self.lost, (len(clouds), 1))
        return found.reshape(*x.shape[:-2], *found.shape[1:])
