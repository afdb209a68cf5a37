"""Phase diagrams: a rule over a grid of step sizes, seeds, widths and hyperparameters, lanes of one shape side by side."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import BrokenExecutor, Executor, as_completed
from pathlib import Path
from typing import Any

import numpy as np

from eqdyn import _checks
from eqdyn._sweeps import boundary, describe
from eqdyn._sweeps import folder as folders
from eqdyn._sweeps.cell import Kept, compute
from eqdyn._sweeps.claims import LEASE
from eqdyn._sweeps.dataset import assembled
from eqdyn._sweeps.forecast import Forecast, available, forecast_of, width_within
from eqdyn._sweeps.plan import Cell, Plan, planned
from eqdyn._types import Key


def sweep(
    make_rule: Any, x0: Any, *, grid: Mapping[str, Iterable], eta: Any = None, num_steps: int, data: Any = None, key: Key | None = None,
    observe: Any = None, tracers: Any = None, every: int | None = None, chunk: int | None = None, keep: Callable | None = None,
    lanes: int | None = None, adaptive: bool = False, broken: Any = None, folder: Any = None, executor: Executor | None = None,
    memory: int | None = None, seconds: float | None = None, force: bool = False, lease: float = LEASE, progress: Any = None,
) -> Any:  # fmt: skip
    """Simulate every point of a grid. Points whose programs agree run as lanes of one; a name that changes a shape opens a new program.

    Names of the grid are arguments: of `make_rule`, `x0`, `eta`, `data` and `observe` where these are functions, each of the names that it
    takes. Two are known anyway: "eta" is the step size, "seed" decides the draws of the start and of the run (`fold_in(key, seed)`), whatever
    else differs. Hyperparameters that are floats are built into the rule inside the trace where it can be, and cost no compilation.

    A lane that diverges is data. The same grid, at equal `lanes`, gives the same bits, however it was computed: at once, broken off and
    gone on with, by threads, processes or machines.

    Args:
        make_rule: `(**names) -> Rule`, or a `Rule`.
        x0: a configuration, or `(**names, key) -> configuration`.
        grid: names with their values, in the order of the axes.
        eta: a number, or `(**names) -> number`; None if the grid has "eta".
        num_steps: of every point.
        data: as in `simulate`, or `(**names) -> data`; shared by the lanes of a cell.
        key: all draws follow from it; default `jax.random.key(0)`.
        observe, tracers, every, chunk: as in `simulate`; `observe` may be `(**names) -> observers`.
        keep: `(run) -> {name: array}`, lanes first: what is kept of a cell's run. By default the last loss, every series, and of every ledger
            its largest `q` and `eta_mu`, how many steps could have merged particles, the first of them, and how many did.
        lanes: side by side at most; by default as many as memory allows, up to 64. Recorded, since bits depend on it.
        adaptive: find where lines along "eta" break by bisection, in place of the whole grid: `boundary` lies between `boundary_low`, which
            keeps, and `boundary_high`, which breaks, two neighbours of the grid. Right if a line that breaks stays broken above.
        broken: what breaking is, for `adaptive`: the name of a kept variable that is not zero then, or `(kept) -> (lanes,)`. By default
            diverged, or somebody merged.
        folder: where cells are committed as they are done. Called again with it a sweep goes on where it was, whatever ended it.
        executor: any `concurrent.futures.Executor`; each task computes a cell. Processes must be spawned, and need functions that can be
            imported.
        memory: bytes that it may take; default half of what the machine has left. A sweep that would take more is refused.
        seconds: that it may take; by default any.
        force: begin all the same.
        lease: seconds after which another worker's claim that was not renewed is taken over.
        progress: True for a bar, or a function `(done, total, so_far)` called after every cell, `so_far()` giving the dataset as it stands.

    Returns:
        `xarray.Dataset`: an axis a name; `status` ("ok", "diverged", "nonfinite"), `status_step`, and what was kept. Attributes say how to
        repeat it. With `adaptive`, points that were not needed are missing.

    Raises:
        ValueError, TypeError: an argument that does not fit, before anything is computed; a folder of another sweep.
        MemoryError, TimeoutError: the forecast is over `memory` or `seconds`.
        ImportError: xarray is missing.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> x0 = jnp.array([[0.0], [4.0]])
        >>> kept = lambda run: {"spread": jnp.ptp(run.x, axis=(1, 2))}
        >>> found = eq.sweep(eq.rules.consensus(), x0, grid={"eta": [0.5, 1.0]}, num_steps=1, keep=kept)
        >>> found["spread"].values.tolist(), found["status"].values.tolist()
        ([2.0, 0.0], ['ok', 'ok'])

    References:
        Yang et al., arXiv:2510.02670, section 4.3: what happens above the critical step size.
    """
    plan, width, cells = _asked(make_rule, x0, grid, eta, num_steps, data, key, observe, tracers, every, chunk, keep, lanes, memory, folder)
    if adaptive and "eta" not in plan.grid:
        msg = "adaptive: got a grid without 'eta'; expected one along which lines break; write grid={'eta': [...]}."
        raise ValueError(msg)
    if adaptive and "eta" in plan.static:
        msg = "adaptive: got functions that take 'eta' beside the step; expected it as the step size alone."
        raise ValueError(msg)
    workers = getattr(executor, "_max_workers", 1) or 1
    if not force and not (folder is not None and folders.all_done(Path(folder), cells)):
        refuse(forecast_of(plan, width, workers=workers, timed=seconds is not None), memory, seconds)
    into = None if folder is None else folders.opened(Path(folder), plan, width, adaptive=adaptive)
    work = _Work(plan, into, executor, lease)
    attributes = describe.description(plan, width) | {"adaptive": int(adaptive)}
    if not adaptive:
        kept = work.compute(cells, _shown(progress, len(cells), lambda kept: assembled(plan.grid, cells, kept, attributes)))
        lines, done = None, cells
    else:
        lines, kept = _adaptive(plan, width, work, broken, progress, attributes)
        done = work.done
    if into is not None:
        folders.closed(into, done, lines)
    return _with_boundary(assembled(plan.grid, done, kept, attributes), lines)


def forecast(
    make_rule: Any, x0: Any, *, grid: Mapping[str, Iterable], eta: Any = None, num_steps: int, data: Any = None, key: Key | None = None,
    observe: Any = None, tracers: Any = None, every: int | None = None, chunk: int | None = None, keep: Callable | None = None,
    lanes: int | None = None, memory: int | None = None, workers: int = 1,
) -> Forecast:  # fmt: skip
    """What `eqdyn.sweep` with these arguments will take, without running it. ESTIMATE.

    Bytes are the compiler's count of the largest cell, or what its probe is seen to take where that is more, `workers` times; seconds come from
    that probe, some steps of one cell of each program.

    Args:
        make_rule, x0, grid, eta, num_steps, data, key, observe, tracers, every, chunk, keep, lanes, memory: as in `sweep`.
        workers: how many compute at a time.

    Returns:
        `Forecast(cells, lanes, bytes, seconds, programs)`, with `.summary()`.

    Raises:
        ValueError, TypeError: as `sweep`.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> found = eq.forecast(eq.rules.consensus(), jnp.array([[0.0], [4.0]]), grid={"eta": [0.5, 1.0]}, num_steps=1)
        >>> found.cells, found.lanes
        (1, 2)

    References:
        Derived.
    """
    plan, width, _ = _asked(make_rule, x0, grid, eta, num_steps, data, key, observe, tracers, every, chunk, keep, lanes, memory, None)
    return forecast_of(plan, width, workers=_checks.count(workers, "workers", least=1))


def dataset_of(folder: Path) -> Any:
    """The dataset in a sweep's folder, with whatever is done so far."""
    content, kept, points, lines = folders.found_in(folder)
    grid = {name: tuple(values) for name, values in content["grid"]}
    cells = [Cell(k, 0, np.asarray(points[name], int), len(points[name])) for k, name in enumerate(kept)]
    return _with_boundary(assembled(grid, cells, dict(enumerate(kept.values())), content["configuration"]), lines)


def _asked(
    make_rule: Any, x0: Any, grid: Any, eta: Any, num_steps: Any, data: Any, key: Any, observe: Any, tracers: Any, every: Any, chunk: Any, keep: Any,
    lanes: Any, memory: Any, folder: Any,
) -> tuple[Plan, int, list[Cell]]:  # fmt: skip
    plan = planned(Plan(make_rule, x0, grid, eta, num_steps, data, key, observe, tracers, every, chunk, keep))
    widest = None if lanes is None else _checks.count(lanes, "lanes", least=1)
    recorded = None if folder is None else folders.width_of(Path(folder))
    if recorded is not None:
        width = recorded
    elif widest is not None:
        width = min(widest, max(len(places) for places in plan.groups()))
    else:
        width = width_within(plan, _budget(memory))
    return plan, width, plan.cells(width)


def _budget(memory: int | None) -> int:
    return available() // 2 if memory is None else _checks.count(memory, "memory", least=1)


def refuse(found: Forecast, memory: int | None, seconds: float | None) -> None:
    """Raise if a sweep would take more than it may."""
    if found.bytes > _budget(memory):
        msg = (
            f"memory: got a sweep that takes {found.bytes / 2**20:.4g} MiB at once ({found.summary()}); expected at most "
            f"{_budget(memory) / 2**20:.4g} MiB; write lanes={max(1, found.lanes // 2)}, a larger memory, or force=True."
        )
        raise MemoryError(msg)
    if seconds is not None and found.seconds > seconds:
        msg = f"seconds: got a sweep of about {found.seconds:.3g} s ({found.summary()}); expected at most {seconds:g} s; write force=True to begin."
        raise TimeoutError(msg)


class _Work:
    """Cells computed by whoever is there, here or by the executor, and kept here or in the folder."""

    def __init__(self, plan: Plan, folder: Path | None, executor: Executor | None, lease: float):
        self.plan, self.folder, self.executor, self.lease = plan, folder, executor, lease
        self.done: list[Cell] = []

    def compute(self, cells: list[Cell], shown: Callable[[dict[int, Kept]], None]) -> dict[int, Kept]:
        kept: dict[int, Kept] = {}
        try:
            for cell, found in self._computed(cells):
                kept[cell.number] = found
                shown(kept)
        except KeyboardInterrupt as error:
            where = "is lost; write folder=... to keep it" if self.folder is None else f"is in {self.folder}; call sweep again to go on"
            msg = f"stopped after {len(self.done) + len(kept)} cells; what is done {where}"
            raise KeyboardInterrupt(msg) from error
        self.done += cells
        return kept

    def _computed(self, cells: list[Cell]) -> Iterator[tuple[Cell, Kept]]:
        if self.folder is None:
            yield from self._tasks(compute, cells, ())
            return
        waiting = list(cells)
        while waiting:
            left = []
            for cell, is_done in self._tasks(folders.work, waiting, (self.folder, self.lease)):
                if is_done:
                    yield cell, folders.kept_in(self.folder, cell)
                else:
                    left.append(cell)  # somebody else is at it
            if len(left) == len(waiting):
                time.sleep(min(1.0, self.lease / 4))
            waiting = left

    def _tasks(self, task: Callable, cells: list[Cell], more: tuple) -> Iterator[tuple[Cell, Any]]:
        if self.executor is None:
            for cell in cells:
                yield cell, task(self.plan, cell, *more)
            return
        under_way = {self.executor.submit(task, self.plan, cell, *more): cell for cell in cells}
        try:
            for future in as_completed(under_way):
                yield under_way[future], future.result()
        except BrokenExecutor as error:
            msg = "executor: a worker ended and took the executor with it; " + (
                "cells that were done are lost; write folder=... to keep them." if self.folder is None else "done cells are kept; call sweep again."
            )
            raise RuntimeError(msg) from error
        finally:
            for future in under_way:
                future.cancel()


def _adaptive(
    plan: Plan, width: int, work: _Work, broken: Any, progress: Any, attributes: Mapping[str, Any]
) -> tuple[Kept, dict[int, Kept]]:  # fmt: skip
    """Between which step sizes every line breaks, and what was kept of the points that it took to know."""
    judged = boundary.default_broken if broken is None else boundary.named(broken) if isinstance(broken, str) else broken
    kept: dict[int, Kept] = {}
    begun: list[Cell] = []
    shown = _shown(progress, None, lambda kept: assembled(plan.grid, begun, kept, attributes))

    def computed(cells: list[Cell]) -> dict[int, Kept]:
        begun.extend(cells)
        found = work.compute(cells, lambda more: shown(kept | more))
        kept.update(found)
        return found

    limits = boundary.bisected(plan, width, computed, judged)
    etas = np.concatenate([[np.nan], np.sort(np.asarray(plan.grid["eta"], float)), [np.nan]])
    shape = tuple(len(values) for name, values in plan.grid.items() if name != "eta")
    return {"low": etas[limits.low + 1].reshape(shape), "high": etas[limits.high + 1].reshape(shape)}, kept


def _with_boundary(found: Any, lines: Kept | None) -> Any:
    if lines is None:
        return found
    names = [name for name in found["status"].dims if name != "eta"]
    low, high = lines["low"], lines["high"]
    return found.assign(
        boundary_low=(names, low, {"long_name": "largest step size of the grid that keeps", "units": "step size"}),
        boundary_high=(names, high, {"long_name": "smallest step size of the grid that breaks", "units": "step size"}),
        boundary=(names, (low + high) / 2, {"long_name": "between the two; at most half their distance off", "units": "step size"}),
    )


def _shown(progress: Any, total: int | None, so_far: Callable[[dict[int, Kept]], Any]) -> Callable[[dict[int, Kept]], None]:
    """What is called after every cell."""
    if progress in (None, False):
        return lambda kept: None
    if callable(progress):
        return lambda kept: progress(len(kept), total, lambda: so_far(kept))
    from tqdm.auto import tqdm

    bar = tqdm(total=total, unit="cell", desc="sweep", leave=False)

    def update(kept: dict[int, Kept]) -> None:
        bar.update(1)
        if total is not None and len(kept) == total:
            bar.close()

    return update
