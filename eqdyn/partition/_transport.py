"""Exact optimal transport between small measures: the one wall in front of the solver.

The solver is HiGHS, by way of SciPy: nothing new to install. A call costs 2 ms before it begins, more than most problems take, so many are stacked
into one program: 0.4 ms a problem of 10 x 10, 8 to 12 s for 20,000 edges. POT's network simplex takes 3 to 4 s for these, once its import, which
loads JAX and scikit-learn, has taken 2 s or more: too little gained for one more dependency.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias

import numpy as np

Problem: TypeAlias = tuple[np.ndarray, np.ndarray, np.ndarray]  # masses (k,), masses (l,) of the same sum, cost (k, l)

_TOGETHER = 4096  # variables in one program: fewer pay the overhead of calls, more pay for long columns
_UNITS = 1e4  # HiGHS's least tolerance, 1e-10, is absolute: masses and costs are brought to this size first


def transports(problems: Iterable[Problem]) -> Iterator[np.ndarray]:
    """The least cost of moving the first masses onto the second, `sum_ab plan_ab cost_ab`, in order, in arrays of some dozens.

    EXACT: vertices of the linear program, to 1e-13 of mass times greatest cost.

    Args:
        problems: `(p (k,), q (l,), cost (k, l))`, masses > 0 with `sum p = sum q`, costs >= 0; k or l may be 0.

    Raises:
        RuntimeError: the solver gave up.
    """
    held: list[Problem] = []
    size = 0
    for problem in problems:
        held.append(problem)
        size += problem[2].size
        if size >= _TOGETHER:
            yield _solved(held)
            held, size = [], 0
    if held:
        yield _solved(held)


def _solved(problems: list[Problem]) -> np.ndarray:
    values = np.zeros(len(problems))
    left = []
    for at, (p, q, cost) in enumerate(problems):
        if 0 in cost.shape:
            continue
        if 1 in cost.shape:  # only one plan
            values[at] = p @ cost @ q / p.sum()
        elif len(p) == len(q) and np.ptp(p) == np.ptp(q) == 0:  # a permutation is best (Birkhoff)
            from scipy.optimize import linear_sum_assignment

            values[at] = p[0] * cost[linear_sum_assignment(cost)].sum()
        elif cost.max() > 0:
            left.append(at)
    if left:
        values[left] = _programs([problems[at] for at in left])
    return values


def _programs(problems: list[Problem]) -> np.ndarray:
    """Side by side in one linear program: each has its own variables, the plan, and its own rows, the masses."""
    from scipy import sparse
    from scipy.optimize import linprog

    rows, columns, right, costs, units = [], [], [], [], []
    row = column = 0
    for p, q, cost in problems:
        moved, greatest = p.sum(), cost.max()
        last = int(np.argmax(q))  # what is left goes there: its row would follow from the others, and contradict them by a rounding
        plan = column + np.arange(cost.size).reshape(cost.shape)
        num, rest = len(p), len(q) - 1
        rows += [np.repeat(row + np.arange(num), rest + 1), np.tile(row + num + np.arange(rest), num)]
        columns += [plan.ravel(), np.delete(plan, last, axis=1).ravel()]
        right += [p * (_UNITS / moved), np.delete(q, last) * (_UNITS / q.sum())]
        costs.append(cost.ravel() * (_UNITS / greatest))
        units.append(moved * greatest / _UNITS**2)
        row, column = row + num + rest, column + cost.size
    at, where, c = np.concatenate(rows), np.concatenate(columns), np.concatenate(costs)
    matrix = sparse.csc_array((np.ones(len(at)), (at, where)), (row, column))
    # presolve costs more than it saves on transport problems
    options = {"presolve": False, "primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
    found = linprog(c, A_eq=matrix, b_eq=np.concatenate(right), method="highs-ds", options=options)
    if found.status != 0:
        msg = f"transport: the solver gave up on {len(problems)} problems ({found.message}); look at masses and lengths of very different sizes."
        raise RuntimeError(msg)
    first = np.cumsum([0] + [cost.size for *_, cost in problems[:-1]])
    return np.add.reduceat(found.x * c, first) * units
