"""Runs as Moore paths: checkpoints of a network with the time between them. Lengths add, so that composition is associative to the bit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from eqdyn._run import Run
from eqdyn._types import Tree
from eqdyn.observer import is_series
from eqdyn.paths._asked import one_architecture, params_of, row


class Path(NamedTuple):
    """Checkpoints of a run, joined by straight lines. Made by `path` and `from_run`; on the host.

    Fields:
        params: the parameter tree at the checkpoints, leaves `(T, ...)`.
        durations: time from each checkpoint to the next, > 0, `(T - 1,)`. Kept in place of times, which would be rounded when paths are joined.
        losses: `(T,)`, NaN where nobody has told the loss.
    """

    params: Tree
    durations: np.ndarray
    losses: np.ndarray

    @property
    def num(self) -> int:
        """Checkpoints, T."""
        return len(self.losses)

    @property
    def times(self) -> np.ndarray:
        """Of the checkpoints, `(T,)`, from 0."""
        return np.concatenate([np.zeros(1), np.cumsum(self.durations)])

    @property
    def length(self) -> float:
        """The time from first to last checkpoint: the sum of the durations, rounded once."""
        return math.fsum(self.durations)

    @property
    def start(self) -> Tree:
        """The first checkpoint."""
        return row(self.params, 0)

    @property
    def end(self) -> Tree:
        """The last checkpoint."""
        return row(self.params, -1)


def path(checkpoints: Any, times: Any = None, losses: Any = None) -> Path:
    """A run as a path.

    Args:
        checkpoints: the parameter tree with the checkpoints stacked along a new first axis, leaves `(T, ...)`, of one real floating dtype each.
            From a list of trees: `jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)`.
        times: `(T,)`, increasing, in any unit (steps, epochs); None counts the checkpoints. What counts is the time between them.
        losses: `(T,)`, the training loss at each, or None.

    Returns:
        `Path`.

    Raises:
        ValueError: checkpoints or losses that are not finite, shapes that do not fit, times that do not increase.
        TypeError: leaves that are no real floating arrays.

    Example:
        >>> import numpy as np, eqdyn as eq
        >>> run = eq.paths.path({"w": np.array([[0.0], [1.0], [4.0]], np.float32)}, times=[0, 10, 30], losses=[2.0, 1.0, 0.5])
        >>> run.num, run.length, run.end["w"].tolist()
        (3, 30.0, [4.0])

    References:
        Categorical Invariants of Learning Dynamics, arXiv:2510.04376 (training trajectories as morphisms).
    """
    params = params_of(checkpoints, "checkpoints")
    lengths = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(params)}
    if len(lengths) != 1 or lengths & {(), (0,)}:
        msg = (
            f"checkpoints: got leaves with first axes {sorted(lengths)}; expected one length T >= 1, one row a checkpoint;"
            " write jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees) for a list of trees."
        )
        raise ValueError(msg)
    num = lengths.pop()[0]
    at = _series(times, num, "times") if times is not None else np.arange(num, dtype=np.float64)
    durations = np.diff(at)
    if not np.all(durations > 0):
        k = int(np.argmin(durations > 0))
        msg = f"times: got {at[k + 1]:g} after {at[k]:g}; expected times that increase, one a checkpoint."
        raise ValueError(msg)
    return Path(params, durations, _series(losses, num, "losses") if losses is not None else np.full(num, np.nan))


def _series(values: Any, num: int, name: str) -> np.ndarray:
    found = np.asarray(values, np.float64)
    if found.shape != (num,) or not np.isfinite(found).all():
        msg = f"{name}: got shape {found.shape}, {int((~np.isfinite(found)).sum())} of them not finite; expected ({num},) finite, one a checkpoint."
        raise ValueError(msg)
    return found


def from_run(run: Run, name: str, *, lane: int | None = None) -> Path:
    """The path of a run whose parameters were recorded: `observe={name: eq.observer.recorder(lambda frame: frame.x, stride=...)}`.

    Times are steps. Losses are those that the rule told at these steps (of the batch, where there are batches). The parameters after the
    last step are the end, its loss not told. A recorder may keep a part of the parameters: then the last record is the end.

    Args:
        run: of `eq.simulate`.
        name: of the observer.
        lane: which, of a run with lanes.

    Raises:
        ValueError: no such records, or a lane that is not there.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> keep = {"x": eq.observer.recorder(lambda frame: frame.x, stride=2)}
        >>> run = eq.simulate(eq.rules.consensus(), jnp.array([[0.0], [8.0]]), eta=0.5, num_steps=3, observe=keep)
        >>> found = eq.paths.from_run(run, "x")
        >>> found.times.tolist(), found.params[:, 1, 0].tolist()
        ([0.0, 2.0, 3.0], [8.0, 5.0, 4.5])
    """
    series: Any = run.observed.get(name)
    if not is_series(series):
        msg = f"name: got {name!r}; expected one of {[key for key, one in run.observed.items() if is_series(one)]}, a recorder of this run."
        raise ValueError(msg)
    if (lane is None) != (run.lanes is None) or (lane is not None and not 0 <= lane < (run.lanes or 0)):
        msg = f"lane: got {lane} of a run with lanes={run.lanes}; expected {'None' if run.lanes is None else f'a whole number below {run.lanes}'}."
        raise ValueError(msg)
    pick: Any = (lambda leaf: np.asarray(leaf)[lane]) if lane is not None else np.asarray
    params, end, steps = jax.tree.map(pick, series.values), jax.tree.map(pick, run.x), series.steps
    if _rows_like(params, end) and (not len(steps) or steps[-1] < run.step):
        params = jax.tree.map(lambda rows, leaf: np.concatenate([rows, leaf[None]]), params, end)
        steps = np.append(steps, run.step)
    found = path(params, steps)
    told = {} if run.loss is None else dict(zip(run.steps.tolist(), np.atleast_1d(pick(run.loss)).tolist(), strict=True))
    return found._replace(losses=np.array([told.get(step, np.nan) for step in steps.tolist()]))


def _rows_like(params: Tree, end: Tree) -> bool:
    forms: list[Any] = [jax.tree.structure(tree) for tree in (params, end)]
    return forms[0] == forms[1] and all(
        rows.shape[1:] == leaf.shape for rows, leaf in zip(jax.tree.leaves(params), jax.tree.leaves(end), strict=True)
    )


def identity(params: Tree) -> Path:
    """The path that stays at a point for no time: composed with another, it gives the other, bit for bit.

    Example:
        >>> import numpy as np, eqdyn as eq
        >>> stay = eq.paths.identity(np.ones(3, np.float32))
        >>> stay.num, stay.length
        (1, 0.0)
    """
    return path(jax.tree.map(lambda leaf: leaf[None], params_of(params, "params")))


def compose(*paths: Path) -> Path:
    """One path after the other: `compose(a, b)` runs through a, then b, which begins where a ends. Lengths add.

    EXACT: `compose(compose(a, b), c)` and `compose(a, compose(b, c))` are the same bits. Where both tell the loss of the point that they
    share, that of the first is kept.

    Raises:
        ValueError: a path that does not begin where the one before ends, bit for bit; other architectures.

    Example:
        >>> import numpy as np, eqdyn as eq
        >>> a = eq.paths.path(np.array([[0.0], [1.0]], np.float32), times=[0, 10])
        >>> b = eq.paths.path(np.array([[1.0], [3.0], [2.0]], np.float32), times=[10, 15, 16])
        >>> whole = eq.paths.compose(a, b)
        >>> whole.times.tolist(), whole.params.ravel().tolist()
        ([0.0, 10.0, 15.0, 16.0], [0.0, 1.0, 3.0, 2.0])

    References:
        Moore paths: Brown, Topology and Groupoids, section 6.1.
    """
    if not paths or not all(isinstance(one, Path) for one in paths):
        msg = f"paths: got {[type(one).__name__ for one in paths]}; expected one Path or more; write eq.paths.compose(a, b)."
        raise TypeError(msg)
    whole = paths[0]
    for k, following in enumerate(paths[1:], 1):
        names = (f"paths[{k - 1}]", f"paths[{k}]")
        one_architecture(whole.params, following.params, names, stacked=True)
        apart = max(
            np.max(np.abs(one - other), initial=0.0) for one, other in zip(jax.tree.leaves(whole.end), jax.tree.leaves(following.start), strict=True)
        )
        if apart > 0:
            msg = f"{names[1]}: got a first checkpoint that is up to {apart:.2g} from the last of {names[0]}; expected the very same numbers."
            raise ValueError(msg)
        whole = _joined(whole, following)
    return whole


def _joined(a: Path, b: Path) -> Path:
    shared = a.losses[-1:] if not np.isnan(a.losses[-1]) else b.losses[:1]
    return Path(
        jax.tree.map(lambda one, other: np.concatenate([one, other[1:]]), a.params, b.params),
        np.concatenate([a.durations, b.durations]),
        np.concatenate([a.losses[:-1], shared, b.losses[1:]]),
    )


def both_paths(a: Any, b: Any, names: tuple[str, str]) -> bool:
    """Whether both are paths; one path beside one tree is refused, and so is another architecture."""
    kinds = [isinstance(one, Path) for one in (a, b)]
    if any(kinds) and not all(kinds):
        msg = f"{names[0]}, {names[1]}: got {type(a).__name__} and {type(b).__name__}; expected two paths, or two parameter trees; write path.end."
        raise TypeError(msg)
    return all(kinds)


def all_paths(runs: Sequence[Any], name: str) -> bool:
    for k, run in enumerate(runs):
        both_paths(runs[0], run, (f"{name}[0]", f"{name}[{k}]"))
    return isinstance(runs[0], Path)
