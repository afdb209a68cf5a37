"""Betti numbers of many configurations: threads where the engine lets them run, spawned processes where it does not."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import numpy as np

from eqdyn import _checks
from eqdyn.topology import _flag
from eqdyn.topology._betti import asked, betti, points_of
from eqdyn.topology._cloud import Cloud
from eqdyn.topology._scales import parsed


def betti_along(
    clouds: Iterable[Any], *, scale: Any = "diameter/4", max_dim: int = 2, prime: int = 2, engine: str | None = None, workers: int | None = None
) -> np.ndarray:
    """Betti numbers of many configurations, several at a time.

    Args:
        clouds: arrays `(n, d)`, or one `(t, n, d)`; NaN or infinite ones give -1 throughout, so that a run that diverged can be read.
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
    if isinstance(scale, list):
        msg = "scale: got a list; expected one scale for all configurations; call betti for several scales of one."
        raise ValueError(msg)
    count = (os.cpu_count() or 1) if engine == "compiled" else 1
    count = _checks.count(count if workers is None else workers, "workers", least=1)
    lost = (-1,) * (degree + 1)

    def one(cloud: Any) -> tuple[int, ...]:
        if np.ndim(cloud) == 2 and np.issubdtype(np.asarray(cloud).dtype, np.inexact) and not np.all(np.isfinite(cloud)):
            return lost
        return tuple(betti(cloud, scale=scale, max_dim=degree, prime=prime, engine=engine))

    if count == 1:
        found = [one(cloud) for cloud in clouds]
    elif engine == "compiled":
        from threadpoolctl import threadpool_limits

        # one cloud a core: products must not ask for them all
        with threadpool_limits(1, "blas"), ThreadPoolExecutor(count) as pool:
            found = list(pool.map(one, clouds))
    else:
        found = _in_processes(clouds, parsed(scale, 2**31), degree, prime, count, lost)
    return np.asarray(found, np.int64).reshape(-1, degree + 1)


def _in_processes(clouds: Iterable[Any], scale: Any, degree: int, prime: int, count: int, lost: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The graph is made here and sent, N^2/8 bytes; forking is not safe once JAX runs."""
    import multiprocessing

    pool: Executor
    with ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn")) as pool:
        waiting: list[Any] = []
        for cloud in clouds:
            if not np.all(np.isfinite(cloud)):
                waiting.append(None)
                continue
            waiting.append(pool.submit(_flag.betti_of_packed, Cloud(points_of(cloud)).packed(scale), degree, prime, "plain"))
        return [lost if one is None else one.result() for one in waiting]
