"""What a sweep will take, told before it starts: bytes by the compiler's own count, seconds by a few steps of one cell of each program."""

from __future__ import annotations

import os
import time
from typing import NamedTuple

import numpy as np

from eqdyn._ready import memory_of
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
    run, more = begin(plan, cell)
    found = memory_of(more.pop("rule"), run, num_steps=plan.num_steps, **more)
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
        bytes_of[cell.group] = cell_bytes(plan, cell)
        seconds_of[cell.group] = _seconds(plan, cell) if timed else float("nan")
    return Forecast(
        len(cells), max(len(cell.points) for cell in cells), workers * max(bytes_of.values()),
        sum(seconds_of[cell.group] for cell in cells) / workers, len(bytes_of),
    )  # fmt: skip


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
