"""Where topology breaks along eta, by bisection: all lines of the grid at once, each at its own step size."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from eqdyn._sweeps.cell import Kept
from eqdyn._sweeps.plan import Cell, Plan
from eqdyn._types import Status

Broken = Callable[[Kept], np.ndarray]


class Boundary(NamedTuple):
    """For every line, a point of the grid without eta: between which of the grid's step sizes it first breaks.

    `low` `(lines,)` is the place of the largest step size known to keep, -1 if the first already breaks; `high` of the smallest known to
    break, as many as there are if none does.
    """

    low: np.ndarray
    high: np.ndarray


def default_broken(kept: Kept) -> np.ndarray:
    """Diverged, or somebody merged."""
    merged = [np.asarray(value) > 0 for name, value in kept.items() if name.endswith("merged")]
    return np.any([np.asarray(kept["status"]) != Status.OK, *merged], axis=0)


def named(variable: str) -> Broken:
    """Diverged, or a kept variable is not zero."""

    def broken(kept: Kept) -> np.ndarray:
        if variable not in kept:
            msg = f"broken: got {variable!r}; expected one of {', '.join(sorted(kept))}, or a function of what is kept."
            raise ValueError(msg)
        return (np.asarray(kept["status"]) != Status.OK) | (np.asarray(kept[variable]) != 0)

    return broken


def bisected(plan: Plan, width: int, compute: Callable[[list[Cell]], dict[int, Kept]], broken: Broken) -> Boundary:
    """The boundary of every line. Assumes that a line which breaks stays broken above: with one
    change along it the answer is that of the whole grid.
    """
    axis = list(plan.grid).index("eta")
    order = np.argsort(plan.grid["eta"])
    lines = np.moveaxis(np.arange(plan.size).reshape(plan.shape), axis, -1).reshape(-1, plan.shape[axis])[:, order]
    group_of = np.empty(plan.size, int)
    for group, places in enumerate(plan.groups()):
        group_of[places] = group
    low, high = np.full(len(lines), -1), np.full(len(lines), len(order))
    number = 0
    while (going := np.nonzero(high - low > 1)[0]).size:
        middle = (low + high)[going] // 2
        cells = _cells(lines[going, middle], group_of, width, number)
        found = compute(cells)
        breaks: dict[int, bool] = {}
        for cell in cells:
            breaks |= dict(zip(cell.points[: cell.wanted].tolist(), np.asarray(broken(found[cell.number])).tolist(), strict=True))
        for line, at in zip(going, middle, strict=True):
            if breaks[int(lines[line, at])]:
                high[line] = at
            else:
                low[line] = at
        number += len(cells)
    return Boundary(low, high)


def _cells(places: np.ndarray, group_of: np.ndarray, width: int, first: int) -> list[Cell]:
    """Places as cells of one width, group by group: a program is compiled for one width."""
    cells: list[Cell] = []
    for group in np.unique(group_of[places]):
        held = places[group_of[places] == group]
        for at in range(0, len(held), width):
            wanted = held[at : at + width]
            cells.append(Cell(first + len(cells), int(group), np.concatenate([wanted, np.repeat(wanted[-1:], width - len(wanted))]), len(wanted)))
    return cells
