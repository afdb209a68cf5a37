"""A sweep by one worker and by two: how many cells a second, with Dask, with spawned processes, with threads.

    python3 benchmarks/executors.py

The 2-D network, 128 neurons, every step certified; cells of 8 lanes. A worker has one thread of XLA (`NPROC=1`), so that two workers are twice the
machine of one; threads share a process and its threads. Each worker compiles before the clock starts. All give the same bits, or it ends with 1.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import multiprocessing
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ["NPROC"] = "1"  # before XLA starts, here and in the processes that are started

import common
import jax
import numpy as np

import eqdyn as eq
from eqdyn.networks import two_layer


def start(key: Any) -> Any:
    return eq.shapes.start_2d(128, key=key).points


def swept(num_steps: int, cells: int, **more: Any) -> Any:
    split = eq.data.teacher(key=jax.random.key(1))
    grid = {"eta": np.linspace(0.001, 0.02, 8).tolist(), "seed": range(cells)}
    rule, watch = eq.rules.gradient(two_layer.regression_field()), {"ledger": eq.observe.certificate()}
    return eq.sweep(rule, start, grid=grid, num_steps=num_steps, data=eq.Batches(split.train, 128), lanes=8, force=True, observe=watch, **more)


def warm(seconds: float = 0.0) -> int:
    """Compile in this process, and keep it busy long enough that another one gets the next task."""
    swept(1, 1)
    time.sleep(seconds)
    return os.getpid()


def timed(steps: int, cells: int, executor: Any) -> tuple[float, Any]:
    began = time.perf_counter()
    found = swept(steps, cells, executor=executor)
    return time.perf_counter() - began, found


def of_processes(workers: int, steps: int, cells: int) -> tuple[float, Any]:
    with concurrent.futures.ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        pids = {task.result() for task in [pool.submit(warm, 5.0) for _ in range(workers)]}
        assert len(pids) == workers
        return timed(steps, cells, pool)


def of_threads(workers: int, steps: int, cells: int) -> tuple[float, Any]:
    warm()
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        return timed(steps, cells, pool)


def of_dask(workers: int, steps: int, cells: int) -> tuple[float, Any]:
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        client.run(warm)
        return timed(steps, cells, client.get_executor())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=540)
    parser.add_argument("--cells", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out" / "executors.json", help="where the JSON goes")
    options = parser.parse_args()
    first, table, bad = None, [], False
    for kind, by in (("Dask", of_dask), ("spawned processes", of_processes), ("threads", of_threads)):
        seconds: dict[int, float] = {}
        for workers in (1, 2):
            runs = []
            for _ in range(options.repeats):
                taken, found = by(workers, options.steps, options.cells)
                runs.append(taken)
                first = found if first is None else first
                bad |= any(not np.array_equal(value, found[name], equal_nan=value.dtype.kind == "f") for name, value in first.data_vars.items())
            seconds[workers] = float(np.median(runs))
        table.append(
            {"executor": kind, "1 worker, s": seconds[1], "2 workers, s": seconds[2], "times": seconds[1] / seconds[2], "same bits": not bad}
        )
        print(table[-1], flush=True)
    common.table(f"{options.cells} cells of 8 lanes, {options.steps} steps", table)
    common.write(options.out, {"machine": common.machine(), "steps": options.steps, "cells": options.cells, "table": table})
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
