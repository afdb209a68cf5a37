"""What a sweep will take, told before it starts: bytes by the compiler's own count, or by what some steps of a cell are seen to take where that is
more, seconds by those steps.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from eqdyn._ready import Memory, memory_of
from eqdyn._simulate import simulate
from eqdyn._sweeps.cell import begin
from eqdyn._sweeps.plan import Cell, Plan

WIDTH = 64  # lanes side by side, unless memory or the grid has fewer: a step is then long beside what it takes to start one
MACHINERY = 2**25  # bytes that JAX and XLA take for themselves when a program is compiled and run (measured)
_PROBE = 0.2  # seconds that a probe should take at least


class Forecast(NamedTuple):
    """What a sweep will take in one process. ESTIMATE: seconds by a probe of each program, which data-dependent loops and other work on
    the machine move.

    Fields:
        cells: how many.
        lanes: side by side in the widest.
        bytes: at most at once, beside what the process holds before: the carry of a cell, twice while a chunk runs, scratch, records, data,
            and 32 MiB for JAX itself.
        seconds: for all cells, compilation left out; NaN if not probed.
        programs: at most, one for each group of points that cannot run side by side; those of equal shapes share one.
    """

    cells: int
    lanes: int
    bytes: int
    seconds: float
    programs: int

    def summary(self) -> str:
        """In a line."""
        took = "" if np.isnan(self.seconds) else f", about {self.seconds:.3g} s"
        return f"{self.cells} cells of up to {self.lanes} lanes, {self.programs} programs at most: {self.bytes / 2**20:.3g} MiB{took}"


def available() -> int:
    """Bytes that this machine could give now."""
    try:
        with open("/proc/meminfo") as file:
            held = dict(line.split(":") for line in file)
        return int(held["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def cell_bytes(plan: Plan, cell: Cell) -> int:
    """What a cell takes at most at once: what a chunk is given, beside what comes out and scratch; records once in parts and once joined."""
    return _bytes(_counted(plan, cell))


def _counted(plan: Plan, cell: Cell) -> Memory:
    run, more = begin(plan, cell)
    return memory_of(more.pop("rule"), run, num_steps=plan.num_steps, **more)


def _bytes(found: Memory) -> int:
    return found.given + found.result + found.scratch + 2 * found.records + MACHINERY


def width_within(plan: Plan, budget: int, widest: int | None = None) -> int:
    """The most lanes, halved from `widest`, whose cells take no more than the budget; at least 1."""
    width = min(WIDTH if widest is None else widest, max(len(places) for places in plan.groups()))
    while width > 1 and max(cell_bytes(plan, cell) for cell in one_a_program(plan, width)) > budget:
        width = -(-width // 2)
    return width


def one_a_program(plan: Plan, width: int) -> list[Cell]:
    """The first cell of every group of points."""
    return list({cell.group: cell for cell in reversed(plan.cells(width))}.values())[::-1]


def forecast_of(plan: Plan, width: int, *, workers: int = 1, timed: bool = True) -> Forecast:
    """Of a plan cut into cells of `width` lanes, `workers` of them at a time."""
    cells = plan.cells(width)
    bytes_of, seconds_of = {}, {}
    for cell in one_a_program(plan, width):
        counted = _counted(plan, cell)
        bytes_of[cell.group], seconds_of[cell.group] = _bytes(counted), float("nan")
        if timed:
            with _growth() as seen:
                seconds_of[cell.group] = _seconds(plan, cell)
            # a library's matrix products take scratch that the compiler does not count
            bytes_of[cell.group] = max(bytes_of[cell.group], seen[0] + counted.records)
    return Forecast(
        len(cells), max(len(cell.points) for cell in cells), workers * max(bytes_of.values()),
        sum(seconds_of[cell.group] for cell in cells) / workers, len(bytes_of),
    )  # fmt: skip


@contextlib.contextmanager
def _growth() -> Iterator[list[int]]:
    """By how many bytes this process grows at most while the block runs, in the list's one place; 0 where the system does not tell."""
    found = [0]
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the largest size is counted from now on
        before = _size("VmRSS")
    except (OSError, KeyError):
        yield found
        return
    yield found
    found[0] = max(0, _size("VmHWM") - before)


def _size(field: str) -> int:
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[field].split()[0]) * 1024


def _seconds(plan: Plan, cell: Cell) -> float:
    """Of a whole cell, by some of its first steps; what it takes to begin is told apart by beginning twice."""
    run, more = begin(plan, cell)
    rule = more.pop("rule")

    def taken(steps: int) -> float:
        began = time.perf_counter()
        simulate(rule, run, num_steps=steps, **more)
        return time.perf_counter() - began

    taken(1)
    begin_twice, steps = taken(1), 4
    while (longer := taken(1 + steps) - begin_twice) < _PROBE and steps < min(64, plan.num_steps):
        steps *= 4
    return begin_twice + max(longer, 0.0) / steps * plan.num_steps
