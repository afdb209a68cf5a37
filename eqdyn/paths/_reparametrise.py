"""Which moments of two runs are held against each other: those of equal loss, of equal length of way, or of equal time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from eqdyn import _checks
from eqdyn._types import Tree
from eqdyn.paths._path import Path

WAYS = ("loss", "length", "time")


def reparametrise(path: Path, by: str = "loss", num: int = 11, *, levels: Any = None) -> Path:
    """The path with checkpoints at equal steps of its loss, of the way it went, or of time; s runs from 0 to 1, at length 1.

        loss      the envelope min_{j <= k} loss_j falls by equal amounts; where it rests, its first moment counts, and s = 1 is the end all the same
        length    the way in parameter space, sum |params_{k+1} - params_k|, grows by equal amounts
        time      times do

    Exact at checkpoints; between two of them parameters and loss are taken to be linear. A run whose loss never falls, or which never moves,
    goes by time.

    Args:
        path: at least two checkpoints.
        by: "loss" (all losses must be told), "length" or "time".
        num: checkpoints of the answer.
        levels: with "loss", `(num,)` falling values in place of equal steps between the run's own: where the envelope first gets there. A level
            above the first loss is the start, one below the last the end. With the same levels runs are at equal loss.

    Returns:
        `Path` of `num` checkpoints at s = 0 ... 1, with the losses that fall onto given checkpoints.

    Raises:
        ValueError: one checkpoint only, losses that nobody has told, or a way that is none.

    Example:
        >>> import numpy as np, eqdyn as eq
        >>> run = eq.paths.path(np.array([[0.0], [1.0], [3.0], [9.0]], np.float32), losses=[4.0, 2.0, 3.0, 0.0])
        >>> [eq.paths.reparametrise(run, by, 3).params.ravel().tolist() for by in ("loss", "length", "time")]
        [[0.0, 1.0, 9.0], [0.0, 4.5, 9.0], [0.0, 2.0, 9.0]]

    References:
        derived; equal training loss stands in for the common parameter s of arXiv:2510.04376, which does not name one.
    """
    if by not in WAYS:
        msg = f"by: got {by!r}; expected {', '.join(map(repr, WAYS[:-1]))} or {WAYS[-1]!r}."
        raise ValueError(msg)
    if not isinstance(path, Path):
        msg = f"path: got {type(path).__name__}; expected a Path; write eq.paths.path(checkpoints, times, losses)."
        raise TypeError(msg)
    two_at_least(path, "path")
    if by == "loss" and np.isnan(path.losses).any():
        msg = f"path: got {int(np.isnan(path.losses).sum())} checkpoints without a loss; expected one for each; write by='length', or losses=..."
        raise ValueError(msg)
    if levels is not None:
        if by != "loss":
            msg = f"levels: got them with by={by!r}; expected by='loss'."
            raise ValueError(msg)
        wanted = _levels(levels)
        return _at(path, _by_levels(path.losses, wanted))
    share = np.linspace(0.0, 1.0, _checks.count(num, "num", least=2))
    progress = _progress(path, by)
    if progress[-1] == 0:
        progress = path.times
    where = _first(progress / progress[-1], share)
    where[-1] = path.num - 1  # a loss that rises again at the end does not cut the run short
    return _at(path, where)


def common(paths: Sequence[Path], by: str | None, num: int) -> list[Path]:
    """Runs at the moments that are held against each other: with "loss", at levels between the highest start and the lowest end of all."""
    if by is None:
        return list(paths)
    if by == "loss":
        high, low = max(one.losses[0] for one in paths), min(one.losses.min() for one in paths)
        if high > low:
            levels = np.linspace(high, low, num)
            found = [_by_levels(one.losses, levels) for one in paths]
            for one, where in zip(paths, found, strict=True):
                where[-1] = one.num - 1
            return [_at(one, where) for one, where in zip(paths, found, strict=True)]
    return [reparametrise(one, by if by != "loss" else "time", num) for one in paths]


def two_at_least(path: Path, name: str) -> None:
    if path.num < 2:
        msg = f"{name}: got a path with one checkpoint only; expected two or more; to compare end points, hand in {name}.end, a parameter tree."
        raise ValueError(msg)


def _levels(levels: Any) -> np.ndarray:
    wanted = np.asarray(levels, np.float64)
    if wanted.ndim != 1 or len(wanted) < 2 or not np.isfinite(wanted).all() or np.any(np.diff(wanted) > 0):
        msg = f"levels: got shape {wanted.shape}; expected (num,) finite values that do not rise, at least two."
        raise ValueError(msg)
    return wanted


def _progress(path: Path, by: str) -> np.ndarray:
    if by == "time":
        return path.times
    if by == "loss":
        return path.losses[0] - np.minimum.accumulate(path.losses)
    squares = np.zeros(path.num - 1)
    for leaf in jax.tree.leaves(path.params):
        for k in range(path.num - 1):  # one step at a time: runs are long and float64 is wide
            squares[k] += np.sum(np.square(leaf[k + 1].astype(np.float64) - leaf[k]))
    return np.concatenate([np.zeros(1), np.cumsum(np.sqrt(squares))])


def _first(progress: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Where a curve that never falls first gets to each of the wanted values; the end where it never does."""
    k = np.searchsorted(progress, wanted, side="left")
    after, before = np.minimum(k, len(progress) - 1), np.maximum(np.minimum(k, len(progress) - 1) - 1, 0)
    rise = progress[after] - progress[before]
    part = np.where(rise > 0, (wanted - progress[before]) / np.where(rise > 0, rise, 1.0), 1.0)
    return np.where(k == 0, 0.0, np.where(k == len(progress), len(progress) - 1.0, before + part))


def _by_levels(losses: np.ndarray, levels: np.ndarray) -> np.ndarray:
    return _first(-np.minimum.accumulate(losses), -levels)


def _at(path: Path, where: np.ndarray) -> Path:
    """The path at places between its checkpoints, `(num,)` from 0 to T - 1."""
    near = np.round(where)
    where = np.where(np.abs(where - near) < 1e-9, near, where)  # a checkpoint that was meant is a checkpoint, whatever its time was rounded to
    before = np.minimum(np.floor(where).astype(int), path.num - 2)
    part = where - before

    def leaf(rows: Any) -> Tree:
        share = part.astype(rows.dtype).reshape(-1, *(1,) * (rows.ndim - 1))
        # from the nearer end, so that both ends come out to the bit
        up, down = rows[before] + share * (rows[before + 1] - rows[before]), rows[before + 1] - (1 - share) * (rows[before + 1] - rows[before])
        return np.where(share < 0.5, up, down)

    losses = np.where(where == near, path.losses[near.astype(int)], np.nan)
    return Path(jax.tree.map(leaf, path.params), np.full(len(where) - 1, 1.0 / (len(where) - 1)), losses)
