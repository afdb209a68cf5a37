"""One cell of a sweep: its lanes from start to end, and what is kept of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from eqdyn import _checks
from eqdyn._run import Run
from eqdyn._simulate import simulate
from eqdyn._sweeps.plan import Cell, Plan, Point, taken, with_hyper
from eqdyn._types import Tree
from eqdyn.observe.ledger import Ledger
from eqdyn.observer import is_series

Kept = dict[str, np.ndarray]


def begin(plan: Plan, cell: Cell) -> tuple[Run, dict[str, Any]]:
    """The lanes before their first step, and what `simulate` needs to go on with them."""
    points = [plan.point(int(at)) for at in cell.points]
    first, lanes = points[0], len(points)
    rule, data, observe = plan.rule(first), plan.batches(first), plan.observers(first)
    x0 = _stacked(plan, points)
    keys = jnp.stack([plan.keys(point)[1] for point in points])
    eta = jnp.asarray([plan.step_size(point) for point in points], jnp.result_type(*jax.tree.leaves(x0)))
    more = {"eta": eta, "data": data, "observe": observe, "every": plan.every, "chunk": plan.chunk}
    run = simulate(rule, x0, num_steps=0, lanes=lanes, key=keys, tracers=plan.tracers, **more)
    return dataclasses.replace(run, _carry=with_hyper(plan, run._carry, points)), {"rule": rule} | more


def compute(plan: Plan, cell: Cell) -> Kept:
    """What is kept of each wanted lane, lanes first. The other lanes fill the cell up."""
    run, more = begin(plan, cell)
    run = simulate(more.pop("rule"), run, num_steps=plan.num_steps, **more)
    found: Mapping[str, Any] = kept(run) if plan.keep is None else _checked(plan.keep(run), len(cell.points))
    status = {"status": np.asarray(run._carry.status), "status_step": np.asarray(run.status_step)}  # as a code, not as text
    return {name: np.asarray(value)[: cell.wanted] for name, value in {**status, **found}.items()}


def _stacked(plan: Plan, points: list[Point]) -> Tree:
    """The starts of all lanes, each made once; or one for all."""
    if not callable(plan.x0):
        return plan.x0
    decide = {*taken(plan.x0, plan.grid), "seed"}  # the seed by the key
    made: dict[str, Tree] = {}
    starts = []
    for point in points:
        name = repr([value for key, value in point.items() if key in decide])
        if name not in made:
            made[name] = _checks.configuration(plan.start(point), "x0")
        starts.append(made[name])
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *starts)


def _checked(found: Any, lanes: int) -> Mapping[str, Any]:
    if not isinstance(found, Mapping) or any(np.shape(value)[:1] != (lanes,) for value in found.values()):
        what = {name: np.shape(value) for name, value in found.items()} if isinstance(found, Mapping) else type(found).__name__
        msg = f"keep: got {what}; expected names with arrays, lanes ({lanes}) first; write {{'x': run.x}}."
        raise ValueError(msg)
    if ours := {"status", "status_step"} & set(found):
        msg = f"keep: got {sorted(ours)[0]!r}, which is kept anyway; expected another name."
        raise ValueError(msg)
    return found


def kept(run: Run) -> Kept:
    """What a sweep keeps of a run with lanes unless it is told otherwise; a `keep` of your own can add to it.

    Args:
        run: with lanes.

    Returns:
        Arrays by name, lanes first: `loss`, the last; every series, by the observer's name; of every ledger `_q` and `_eta_mu`, the largest,
        `_q_first`, `_sharper` (the largest of the smaller of the two), `_could_merge`, `_first_possible` and `_merged`.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> watch = {"ledger": eq.observe.certificate()}
        >>> x0, etas = jnp.array([[0.0], [4.0]]), jnp.array([0.5, 1.0])
        >>> run = eq.simulate(eq.rules.consensus(), x0, eta=etas, lanes=2, num_steps=1, observe=watch)
        >>> eq.kept(run)["ledger_merged"].tolist()
        [0, 1]

    References:
        Derived.
    """
    found: Kept = {}
    if run.loss is not None and run.loss.size:
        found["loss"] = np.asarray(run.loss)[:, -1]
    for name, read in run.observed.items():
        found |= _of(name, read, np.asarray(run.status_step))
    return found


def _of(name: str, read: Any, ended: np.ndarray) -> Kept:
    if isinstance(read, Ledger):
        return of_ledger(name, read, ended)
    if is_series(read):
        paths = jax.tree_util.tree_leaves_with_path(read.values)
        return {"_".join([name, *_checks.path_name(path).split("/")]).rstrip("_"): np.asarray(leaf) for path, leaf in paths}
    if isinstance(read, Mapping):
        return {key: value for part, one in read.items() for key, value in _of(f"{name}_{part}", one, ended).items()}
    return {}


def of_ledger(name: str, ledger: Ledger, ended: np.ndarray) -> Kept:
    """Of the steps that a lane made: eta*K_pair of the first and the largest, eta*mu (a step needs one of the two below 1: `sharper` is the
    largest of the smaller), how many steps could have merged particles, the first of them, and how many did.
    """
    made = (ended[:, None] < 0) | (np.asarray(ledger.steps)[None] < ended[:, None])
    values = ledger.values
    could = ledger.open & made
    first = np.where(could.any(axis=1), np.asarray(ledger.steps)[np.argmax(could, axis=1)], -1) if could.size else np.full(len(ended), -1)

    def largest(value: np.ndarray) -> np.ndarray:
        return np.where(made, np.where(np.isnan(value), np.inf, value), 0.0).max(axis=1, initial=0.0)

    return {
        f"{name}_q_first": values.q[:, 0] if len(ledger.steps) else np.full(len(ended), np.nan),
        f"{name}_q": largest(values.q), f"{name}_eta_mu": largest(values.eta_mu), f"{name}_sharper": largest(np.fmin(values.q, values.eta_mu)),
        f"{name}_could_merge": could.sum(axis=1), f"{name}_first_possible": first, f"{name}_merged": np.where(made, values.merged, 0).sum(axis=1),
    }  # fmt: skip
