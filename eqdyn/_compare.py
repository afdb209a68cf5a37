"""Runs side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from eqdyn import _checks, groups, measure, topology
from eqdyn._types import Tree
from eqdyn.observer import is_series


class Comparison(NamedTuple):
    """One row a run (with lanes one row a lane), as dictionaries of the columns that `compare` lists; None where nothing is known.

    `str()` gives a table of the columns in which something is known.
    """

    rows: list[dict[str, Any]]

    def __str__(self) -> str:
        columns = [name for name in self.rows[0] if any(row[name] is not None for row in self.rows)]
        cells = [columns, *([_text(row[name]) for name in columns] for row in self.rows)]
        widths = [max(len(line[k]) for line in cells) for k in range(len(columns))]
        lines = (
            "  ".join(cell.ljust(w) if k == 0 else cell.rjust(w) for k, (cell, w) in enumerate(zip(line, widths, strict=True))) for line in cells
        )
        return "\n".join(line.rstrip() for line in lines)

    def to_xarray(self) -> Any:
        """The columns as an `xarray.Dataset` along `run`; NaN where a number is not known. Needs `eqdyn[data]`."""
        try:
            import xarray
        except ImportError as error:
            msg = "to_xarray: xarray is missing; write pip install 'eqdyn[data]'."
            raise ImportError(msg) from error
        names = [row["run"] for row in self.rows]
        columns: dict[str, Any] = {}
        for name in self.rows[0]:
            values = [row[name] for row in self.rows]
            if name == "run" or all(value is None for value in values):
                continue
            if name == "status":
                columns[name] = ("run", np.asarray(values))
            elif name.endswith("betti"):
                columns[name] = (("run", "degree"), np.asarray(values))
            else:
                columns[name] = ("run", np.asarray([np.nan if value is None else value for value in values], float))
        return xarray.Dataset(columns, {"run": names})


def _text(value: Any) -> str:
    return "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def compare(
    runs: Mapping[str, Any], x0: Any = None, *, group: Any = None, loss: Callable[[Tree], Any] | None = None, betti: bool = False
) -> Comparison:
    """Runs of one system side by side: what is due to the step size shows as a difference between runs of equal time.

    Columns, all exact for the configurations at hand unless stated:

        run, status, steps      its name, "ok" or why it ended, and the steps that it took
        eta, time               step size, and eta times the steps, where they are told
        loss                    `loss` at the end; without it the last one that the rule told, of the last batch
        stretch_low, _high      range of the stretch of all pairs from x0 to the end; no unit
        atoms_lost              distinct places of x0 that are one at the end (parameters only)
        distance                from the end of the first run, root mean square over the particles [x]
        distance_share          that, over the root mean square way of the first run from x0: the share that is due to what differs
        max_q                   the largest `eta * K_pair` of a step that `observe.certificate` or `observe.pair_constants` recorded (or
                                another observer whose records have a `q`)
        first_open              the first recorded step that could have merged particles: q >= 1, and eta * mu >= 1 if recorded, or that
                                did, by rounding, if recorded; -1 if none
        steps_seen              steps of which q was recorded while the run went on; nothing is said of the others
        betti                   (b0, b1, b2) at diameter/4, a diagnostic

    Args:
        runs: by name: a `Run`, or `eq.Control(run, eta, time)` as `eq.controls` gives them; `(run, eta)` will do, and a time is needed
            where it is not eta times the steps (a schedule, a guard). The first is the one that others are compared with. Lanes become
            rows `name[lane]`; `eta` and `time` then are numbers or `(lanes,)`.
        x0: where they started, or None, and the columns that need it stay empty.
        group: None for rows, a `Group`, or a dict of them: columns of particles are then called `group/column`.
        loss: `(x) -> scalar`, evaluated at every end, so that runs are compared on the same data.
        betti: count holes too; slow for thousands of particles.

    Returns:
        `Comparison` with `.rows`, `str()` and `.to_xarray()`.

    Raises:
        ValueError, TypeError: no runs, ends that do not have the same particles, or a group that does not fit.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> rule, x0 = eq.rules.consensus(), jnp.array([[0.0], [4.0]])
        >>> runs = {f"eta {eta}": (eq.simulate(rule, x0, eta=eta, num_steps=round(1 / eta)), eta) for eta in (1.0, 0.5)}
        >>> print(eq.compare(runs, x0))
        run      status  steps  eta  time  stretch_low  stretch_high  atoms_lost  distance  distance_share
        eta 1.0      ok      1    1     1            0             0           1         0               0
        eta 0.5      ok      2  0.5     1         0.25          0.25           0       0.5            0.25
    """
    if not isinstance(runs, Mapping) or not runs:
        msg = f"runs: got {type(runs).__name__}; expected runs by name, at least one; write {{'large': run, 'small': (other, eta)}}."
        raise TypeError(msg)
    lanes = [lane for name, given in runs.items() for lane in _lanes(name, given, x0)]
    many, resolved = isinstance(group, Mapping), groups.resolve(group, lanes[0].x)
    rows = []
    for lane in lanes:
        row = {"run": lane.name, "status": lane.status, "steps": lane.steps, "eta": lane.eta, "time": lane.time}
        row["loss"] = lane.loss if loss is None else float(loss(lane.x))
        for label, one in resolved.items():
            before = label + "/" if many else ""
            row |= {before + name: value for name, value in _of_particles(one, lane, lanes[0], betti=betti).items()}
        rows.append(row | _of_records(lane))
    return Comparison(rows)


class _Lane(NamedTuple):
    """One run of one lane."""

    name: str
    x: Tree
    x0: Tree  # None where it is not known
    status: str
    steps: int
    eta: float | None
    time: float | None
    loss: float | None
    q: list[tuple[np.ndarray, np.ndarray, np.ndarray]]  # steps, q, and which could have merged particles


def _lanes(name: str, given: Any, x0: Any) -> Iterator[_Lane]:
    run, eta, time = (given, None, None) if hasattr(given, "x") or not isinstance(given, tuple) else (*given, None, None)[:3]
    if not all(hasattr(run, field) for field in ("x", "status", "step", "lanes", "observed")):
        msg = f"runs[{name!r}]: got {type(run).__name__}; expected what eq.simulate or eq.controls gave; write eq.Control(run, eta)."
        raise TypeError(msg)
    for lane in [None] if run.lanes is None else range(run.lanes):
        status = str(_of_lane(run.status, lane))
        steps = int(run.step if status == "ok" or not hasattr(run, "status_step") else _of_lane(run.status_step, lane))
        size = None if eta is None else float(_of_lane(np.asarray(eta), lane if np.ndim(eta) else None))
        took = getattr(run, "time", None) if time is None else float(_of_lane(np.asarray(time), lane if np.ndim(time) else None))
        if took is None and size is not None:
            took = size * steps
        x = jax.tree.map(lambda leaf, lane=lane: _of_lane(leaf, lane), run.x)
        told = None if run.loss is None else _of_lane(run.loss, lane)
        loss = float(told[-1]) if told is not None and len(told) else None
        label = name if lane is None else f"{name}[{lane}]"
        yield _Lane(label, x, _start(x0, run.x, lane, name), status, steps, size, took, loss, list(_q_records(run.observed, lane)))


def _of_lane(value: Any, lane: int | None) -> Any:
    return value if lane is None else value[lane]


def _start(x0: Any, x: Tree, lane: int | None, name: str) -> Tree:
    """x0 of one lane: a leaf carries the lane axis where it is as long as that of the run."""
    if x0 is None:
        return None
    got: Any = jax.tree.structure(x0)
    expected: Any = jax.tree.structure(x)
    if got != expected:
        msg = f"x0: got structure {got}; expected that of runs[{name!r}], {expected}."
        raise TypeError(msg)

    def leaf(start: Any, end: Any) -> jax.Array:
        start, shape = _checks.floating(start, "x0"), np.shape(end)
        if start.shape not in (shape, shape[lane is not None :]):
            msg = f"x0: got shape {start.shape}; expected {shape[lane is not None :]}, as in runs[{name!r}]."
            raise ValueError(msg)
        return start if lane is None or start.shape != shape else start[lane]

    return jax.tree.map(leaf, x0, x)


def _of_particles(group: Any, lane: _Lane, first: _Lane, *, betti: bool) -> dict[str, Any]:
    x, reference = (group.particles(tree) for tree in (lane.x, first.x))
    _checks.same_shape(x, reference, (f"runs[{lane.name!r}]", f"runs[{first.name!r}]"))
    low = high = lost = share = None
    distance = _apart(x, reference)
    if lane.x0 is not None:
        start = group.particles(lane.x0)
        if len(x) > 1:
            found = measure.stretch(start, x)
            low, high = float(found.low), float(found.high)
        lost, way = int(measure.merges(start, x).merged), _apart(reference, group.particles(first.x0))
        share = distance / way if way > 0 else None
    holes = topology.betti(x) if betti and bool(jnp.all(jnp.isfinite(x))) else None
    return {"stretch_low": low, "stretch_high": high, "atoms_lost": lost, "distance": distance, "distance_share": share, "betti": holes}


def _apart(x: jax.Array, y: jax.Array) -> float:
    """Root mean square of the distances between the particles of x and y, in float64 on the host."""
    return float(np.sqrt(np.mean(np.sum((np.asarray(x, np.float64) - np.asarray(y, np.float64)) ** 2, axis=1))))


def _q_records(observed: Mapping[str, Any], lane: int | None) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    for read in jax.tree.leaves(dict(observed), is_leaf=is_series):  # a ledger is a leaf, with the fields of a series
        for record in _with_q(getattr(read, "values", None)):
            of_lane = lane if read.laned else None
            known = record.q, getattr(record, "eta_mu", record.q), getattr(record, "merged", np.zeros(np.shape(record.q)))
            q, eta_mu, merged = (np.asarray(_of_lane(value, of_lane)) for value in known)
            # NaN is open: nothing is known of such a step
            yield np.asarray(read.steps), q, (~(q < 1) & ~(eta_mu < 1)) | (merged > 0)


def _with_q(values: Any) -> Iterator[Any]:
    if hasattr(values, "q"):
        yield values
    elif isinstance(values, Mapping):
        for value in values.values():
            yield from _with_q(value)


def _of_records(lane: _Lane) -> dict[str, Any]:
    if not any(len(steps) for steps, _, _ in lane.q):
        return {"max_q": None, "first_open": None, "steps_seen": None}
    opened = np.concatenate([steps[open_] for steps, _, open_ in lane.q])
    return {
        "max_q": float(np.max(np.concatenate([q for _, q, _ in lane.q]))),
        "first_open": int(opened.min()) if opened.size else -1,
        "steps_seen": len(np.unique(np.concatenate([steps[steps < lane.steps] for steps, _, _ in lane.q]))),
    }
