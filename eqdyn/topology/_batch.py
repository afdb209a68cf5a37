"""Betti numbers of many configurations: threads where the engine lets them run, spawned processes where it does not."""

from __future__ import annotations

import functools
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from eqdyn import _checks
from eqdyn.topology import _flag
from eqdyn.topology._betti import asked, betti, points_of, several
from eqdyn.topology._cloud import Cloud
from eqdyn.topology._scales import parsed

_ANY = 2**31  # points: enough for any scale to make sense, before the configurations are seen


def betti_along(
    clouds: Iterable[Any], *, scale: Any = "diameter/4", max_dim: int = 2, prime: int = 2, engine: str | None = None, workers: int | None = None
) -> np.ndarray:
    """Betti numbers of many configurations, several at a time.

    Args:
        clouds: arrays `(n, d)`, or one `(t, n, d)`; an iterator is read as they are done. NaN or infinite ones give -1
            throughout, so that a run that diverged can be read.
        scale: one scale, as in `betti`.
        max_dim, prime, engine: as in `betti`.
        workers: threads ("compiled") or spawned processes ("plain", where a script needs its `if __name__ == "__main__"`);
            None for as many threads as cores, and no process.

    Returns:
        `(t, max_dim + 1)` integers.

    Example:
        >>> import numpy as np, eqdyn as eq
        >>> t = np.linspace(0, 2 * np.pi, 40, endpoint=False)
        >>> circle = np.stack([np.cos(t), np.sin(t)], 1)
        >>> eq.topology.betti_along([circle, circle * [1, 0.1]], max_dim=1).tolist()
        [[1, 1], [1, 0]]
    """
    degree, prime, engine = asked(max_dim, prime, engine)
    if several(scale, _ANY)[1]:
        msg = f"scale: got {type(scale).__name__} of scales; expected one for all configurations; call betti for several scales of one."
        raise ValueError(msg)
    count = (os.cpu_count() or 1) if engine == "compiled" else 1
    count = _checks.count(count if workers is None else workers, "workers", least=1)
    lost = (-1,) * (degree + 1)

    def one(cloud: Any) -> tuple[int, ...]:
        return lost if _diverged(cloud) else tuple(betti(cloud, scale=scale, max_dim=degree, prime=prime, engine=engine))

    if count == 1:
        found = [one(cloud) for cloud in clouds]
    elif engine == "compiled":
        from threadpoolctl import threadpool_limits

        # one cloud a core: products must not ask for them all
        with threadpool_limits(1, "blas"), ThreadPoolExecutor(count) as pool:
            found = _in_turn((pool.submit(one, cloud) for cloud in clouds), 2 * count)
    else:
        import multiprocessing

        # the graph is made here and sent, N^2/8 bytes; forking is not safe once JAX runs
        with ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn")) as processes:
            ask = functools.partial(_submit, processes, scale, degree, prime, lost)
            found = _in_turn((ask(cloud) for cloud in clouds), 2 * count)
    return np.asarray(found, np.int64).reshape(-1, degree + 1)


def _diverged(cloud: Any) -> bool:
    """Whether a configuration is one of numbers that are not all finite; what is no configuration at all is left to be refused."""
    try:
        dtype = cloud.dtype if isinstance(cloud, (jax.Array, np.ndarray)) else np.asarray(cloud).dtype
    except ValueError:
        return False
    if np.ndim(cloud) != 2 or not jax.dtypes.issubdtype(dtype, np.floating):
        return False
    return not (jnp.isfinite(cloud) if isinstance(cloud, jax.Array) else np.isfinite(cloud)).all()


def _submit(pool: Executor, scale: Any, degree: int, prime: int, lost: tuple[int, ...], cloud: Any) -> Future:
    if _diverged(cloud):
        done: Future = Future()
        done.set_result(lost)
        return done
    x = points_of(cloud)
    return pool.submit(_flag.betti_of_packed, Cloud(x).packed(parsed(scale, len(x))), degree, prime, "plain")


def _in_turn(asked_for: Iterator[Future], most: int) -> list[Any]:
    """Their results in order; no more than `most` wait at a time, so that a generator of checkpoints is read as they are done."""
    found: list[Any] = []
    waiting: deque[Future] = deque()
    for one in asked_for:
        waiting.append(one)
        if len(waiting) == most:
            found.append(waiting.popleft().result())
    return found + [one.result() for one in waiting]
