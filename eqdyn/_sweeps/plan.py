"""A grid as cells: points whose programs agree run as lanes of one, side by side."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from eqdyn import _checks
from eqdyn._types import Key, Tree
from eqdyn._value import bind, parameters
from eqdyn.data import Batches, take
from eqdyn.rule import Rule, Update

Point = dict[str, Any]


class Cell(NamedTuple):
    """Lanes that are computed together: `points` are places in the flattened grid, of which the first `wanted` are asked for; the others
    repeat the last, so that every cell of a width runs in the same program.
    """

    number: int
    group: int
    points: np.ndarray
    wanted: int


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """What is swept, checked, and not yet cut into cells.

    `static` are the names that open a program of their own for each value, `traced` those that are built into the rule inside the trace.
    """

    make_rule: Any
    x0: Any
    grid: dict[str, tuple]
    eta: Any
    num_steps: int
    data: Any
    key: Key
    observe: Any
    tracers: Any
    every: int | None
    chunk: int | None
    keep: Any
    static: tuple[str, ...] = ()
    traced: tuple[str, ...] = ()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"key": (jax.random.key_data(self.key), jax.random.key_impl(self.key))}

    def __setstate__(self, state: dict[str, Any]) -> None:
        data, name = state["key"]
        self.__dict__.update(state | {"key": jax.random.wrap_key_data(data, impl=name)})

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(len(values) for values in self.grid.values())

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))

    def point(self, at: int) -> Point:
        """The values at a place of the flattened grid."""
        places = np.unravel_index(at, self.shape)
        return {name: values[k] for (name, values), k in zip(self.grid.items(), places, strict=True)}

    def groups(self) -> list[np.ndarray]:
        """Places that share a program's arguments, in the order of the grid."""
        names = list(self.grid)
        along = [names.index(name) for name in self.static]
        places = np.stack(np.unravel_index(np.arange(self.size), self.shape), axis=1)
        held: dict[tuple, list[int]] = {}
        for at, row in enumerate(places):
            held.setdefault(tuple(row[along]), []).append(at)
        return [np.asarray(ats) for ats in held.values()]

    def cells(self, width: int) -> list[Cell]:
        """The grid in cells of `width` lanes, or of a group's size where that is smaller."""
        cells: list[Cell] = []
        for group, places in enumerate(self.groups()):
            lanes = min(width, len(places))
            for first in range(0, len(places), lanes):
                wanted = places[first : first + lanes]
                filled = np.concatenate([wanted, np.repeat(wanted[-1:], lanes - len(wanted))])
                cells.append(Cell(len(cells), group, filled, len(wanted)))
        return cells

    # --- what a point makes of the arguments ------------------------------------------------------------------------------

    def rule(self, point: Point) -> Rule:
        if isinstance(self.make_rule, Rule):
            return self.make_rule
        fixed = tuple((name, point[name]) for name in taken(self.make_rule, self.grid) if name not in self.traced)
        if not self.traced:
            return self.make_rule(**dict(fixed))
        first = tuple((name, self.grid[name][0]) for name in self.traced)
        parts = self.make_rule, fixed, first
        made = self.make_rule(**dict(fixed), **dict(first))
        return Rule(bind(_init, *parts), bind(_update, *parts), None if made.probe is None else bind(_probe, *parts), None)

    def start(self, point: Point) -> Tree:
        if not callable(self.x0):
            return self.x0
        return self.x0(**{name: point[name] for name in taken(self.x0, self.grid)} | ({"key": self.keys(point)[0]} if _takes(self.x0, "key") else {}))

    def step_size(self, point: Point) -> float:
        if callable(self.eta):
            return float(self.eta(**{name: point[name] for name in taken(self.eta, self.grid)}))
        return float(point["eta"] if self.eta is None else self.eta)

    def batches(self, point: Point) -> Any:
        if not callable(self.data):
            return self.data
        return self.data(**{name: point[name] for name in taken(self.data, self.grid)})

    def observers(self, point: Point) -> Any:
        if not callable(self.observe):
            return self.observe
        return self.observe(**{name: point[name] for name in taken(self.observe, self.grid)})

    def keys(self, point: Point) -> tuple[Key, Key]:
        """Of the start and of the run: they follow from the seed alone, so that points which differ elsewhere are compared at equal draws."""
        of_start, of_run = jax.random.split(jax.random.fold_in(self.key, int(point.get("seed", 0))))
        return of_start, of_run


def taken(call: Callable, grid: Mapping[str, Any]) -> list[str]:
    """The names of the grid that a function takes."""
    found = parameters(call)
    if found is None:
        return []
    if any(one.kind is one.VAR_KEYWORD for one in found):
        return list(grid)
    names = {one.name for one in found if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)}
    return [name for name in grid if name in names]


def _takes(call: Callable, name: str) -> bool:
    return any(one.name == name and one.kind is not inspect.Parameter.POSITIONAL_ONLY for one in parameters(call) or [])


# --- a rule whose hyperparameters are traced: they travel in its state ---------------------------------------------------------


def _made(make_rule: Callable, fixed: tuple, hyper: Mapping[str, Any]) -> Rule:
    return make_rule(**dict(fixed), **hyper)


def _init(make_rule: Callable, fixed: tuple, first: tuple, x: Tree) -> tuple[dict, Tree]:
    # weights and velocities are in the dtype of x, and so are the numbers that rules multiply them by
    dtype = jnp.result_type(*jax.tree.leaves(x))
    hyper = {name: jnp.asarray(value, dtype) for name, value in first}
    return hyper, _made(make_rule, fixed, hyper).init(x)


def _update(make_rule: Callable, fixed: tuple, first: tuple, x: Tree, state: tuple, data: Tree = None, *, key: Any = None) -> Update:
    hyper, inner = state
    new = _made(make_rule, fixed, hyper).update(x, inner, data, key=key)
    return new._replace(state=(hyper, new.state))


def _probe(
    make_rule: Callable, fixed: tuple, first: tuple, y: Any, y_state: tuple, x: Tree, state: tuple, data: Tree = None, *, key: Any = None
) -> Update:
    hyper, inner = state
    new = _made(make_rule, fixed, hyper).probe(y, y_state[1], x, inner, data, key=key)  # type: ignore[misc]
    return new._replace(state=(hyper, new.state))


def with_hyper(plan: Plan, carry: Any, points: Sequence[Point]) -> Any:
    """The carry of a run that has not begun, each lane's rule begun with the lane's own hyperparameters."""
    if not plan.traced:
        return carry
    fixed = tuple((name, points[0][name]) for name in taken(plan.make_rule, plan.grid) if name not in plan.traced)
    dtype = jnp.result_type(*jax.tree.leaves(carry.x))
    hyper = {name: jnp.asarray([point[name] for point in points], dtype) for name in plan.traced}

    def begun(x: Tree, hyper: dict) -> tuple[dict, Tree]:
        return hyper, _made(plan.make_rule, fixed, hyper).init(x)

    state = jax.vmap(begun)(carry.x, hyper)
    return carry._replace(state=state, y_state=None if carry.y is None else jax.vmap(begun)(carry.y, hyper))


# --- checks --------------------------------------------------------------------------------------------------------------------


def planned(plan: Plan) -> Plan:
    """The plan with its names sorted out: which of them change a program."""
    grid = _grid(plan.grid)
    plan = dataclasses.replace(plan, grid=grid, key=jax.random.key(0) if plan.key is None else plan.key)
    _checks.count(plan.num_steps, "num_steps")
    _checks.key(plan.key)
    if not isinstance(plan.make_rule, Rule) and not callable(plan.make_rule):
        msg = f"make_rule: got {type(plan.make_rule).__name__}; expected a function of swept names that gives an eq.Rule, or a Rule."
        raise TypeError(msg)
    if "eta" in grid and plan.eta is not None and not (callable(plan.eta) and "eta" in taken(plan.eta, grid)):
        msg = "eta: got a step size, and the grid sweeps eta, too; expected one of them; leave eta away, or write a function of the swept eta."
        raise ValueError(msg)
    if "eta" not in grid and plan.eta is None:
        msg = "eta: got none, and the grid does not sweep it; expected a step size; write eta=0.1, or grid={'eta': [...]}."
        raise ValueError(msg)
    users = [one for one in (plan.make_rule, plan.x0, plan.eta, plan.data, plan.observe) if callable(one) and not isinstance(one, Rule)]
    known = {"eta", "seed"}.union(*(taken(one, grid) for one in users))
    if unknown := [name for name in grid if name not in known]:
        msg = f"grid: got {unknown[0]!r}, which nobody takes; expected a name of make_rule, x0, eta, data or observe, or 'seed'."
        raise ValueError(msg)
    first = plan.point(0)
    shapes = [name for name in (taken(plan.x0, grid) if callable(plan.x0) else []) if _changes_shape(plan, name)]
    outer = [name for one in (plan.data, plan.observe) if callable(one) for name in taken(one, grid)]
    of_rule = [] if isinstance(plan.make_rule, Rule) else [name for name in taken(plan.make_rule, grid) if name not in (*shapes, *outer)]
    traced = [name for name in of_rule if all(isinstance(value, float) for value in grid[name])]
    if traced and not _traceable(plan, first, tuple(traced)):
        traced = []
    static = {*shapes, *outer, *(name for name in of_rule if name not in traced)}
    plan = dataclasses.replace(plan, static=tuple(name for name in grid if name in static), traced=tuple(traced))
    made = plan.rule(first)
    if not isinstance(made, Rule):
        msg = f"make_rule: got a function that gives {type(made).__name__}; expected one that gives an eq.Rule."
        raise TypeError(msg)
    for at in range(plan.size):
        _checks.step_size(plan.step_size(plan.point(at)))
    return plan


def _grid(grid: Any) -> dict[str, tuple]:
    if not isinstance(grid, Mapping) or not grid:
        what = "no name" if isinstance(grid, Mapping) else type(grid).__name__
        msg = f"grid: got {what}; expected names with their values; write {{'eta': [0.1, 0.2]}}."
        raise TypeError(msg)
    found: dict[str, tuple] = {}
    for name, values in grid.items():
        if isinstance(values, str) or not hasattr(values, "__iter__") or not len(held := [_plain(value) for value in values]):
            msg = f"grid[{name!r}]: got {values!r}; expected a list of one value or more."
            raise TypeError(msg)
        if len({repr(value) for value in held}) != len(held):
            msg = f"grid[{name!r}]: got {held}, with a value twice; expected each once."
            raise ValueError(msg)
        if name == "seed" and not all(isinstance(value, int) and value >= 0 for value in held):
            msg = f"grid['seed']: got {held}; expected whole numbers >= 0."
            raise TypeError(msg)
        found[name] = tuple(held)
    return found


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, (np.generic, np.ndarray, jax.Array)) and np.ndim(value) == 0 else value


def _changes_shape(plan: Plan, name: str) -> bool:
    """Whether the start has another shape, or structure, for another value of a name."""
    starts = (plan.start(plan.point(0) | {name: value}) for value in plan.grid[name])
    return len({str(jax.tree.map(lambda leaf: (np.shape(leaf), jnp.result_type(leaf)), start)) for start in starts}) > 1


def _traceable(plan: Plan, point: Point, names: tuple[str, ...]) -> bool:
    """Whether the rule can be built inside the trace; a hyperparameter that must be known then opens a program for each value."""
    x = _checks.configuration(plan.start(point))
    rule = dataclasses.replace(plan, traced=names).rule(point)
    data = plan.batches(point)
    example = take(data.arrays, jnp.arange(data.batch_size)) if isinstance(data, Batches) else data

    def one(x: Tree, hyper: dict) -> Any:
        inner = _made(plan.make_rule, tuple((name, point[name]) for name in taken(plan.make_rule, plan.grid) if name not in names), hyper).init(x)
        return rule.update(x, (hyper, inner), example, key=jax.random.key(0))

    dtype = jnp.result_type(*jax.tree.leaves(x))
    try:
        jax.eval_shape(one, x, {name: jnp.zeros((), dtype) for name in names})
    except Exception:
        return False
    return True
