"""A run into a folder: records, then a checkpoint, then the manifest, which commits them; then what it no longer names goes."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from eqdyn._run import Run
from eqdyn._types import Tree
from eqdyn.observer import Series, is_series
from eqdyn.store import _files, _manifest, _records, _tree
from eqdyn.store._files import Damaged, damaged
from eqdyn.store._records import Records, group_name

# what a save may have left behind, by room
_OURS = {".": r"\..+\.new", "checkpoints": r"\d{10,}|\..+\.new", "observations": r"\d{10,}-\d{10,}\.zarr\.zip|\..+\.new"}


def save(run: Run, folder: str | Path) -> None:
    """Write a run into a folder, or what is new of it since it was saved there.

        manifest.json       what the run is, versions, devices, checksums; `log` with times, host and process
        checkpoints/STEP/   the run after its last step: leaves.bin, index.json, complete
        observations/       a Zarr archive for each save: the loss, and the series of the observers

    Exact: the run goes on from there bit for bit. To replace the manifest is to commit, so that a process killed at any moment leaves what was
    committed before; what a dead writer left is removed at the next save. One writer at a time. Nothing is pickled: what cannot be
    written as numbers (rule, data, observers, a schedule) is given again to `eq.load`, and held against what the manifest says of it.

    Args:
        run: a run, or one that goes on from the one that is there.
        folder: a new or empty folder, or that of the run.

    Raises:
        ValueError: the folder holds another run, or more of this one, or files of somebody else; `Damaged` where it is.
        TypeError: a host observer that carries what is neither array, number nor text.
        OSError: the system refuses (no room, no right to write); what was saved before is as it was.

    Example:
        >>> import tempfile, jax.numpy as jnp, eqdyn as eq
        >>> rule, folder = eq.rules.consensus(), tempfile.mkdtemp()
        >>> run = eq.simulate(rule, jnp.array([[0.0], [4.0]]), eta=0.5, num_steps=1)
        >>> eq.store.save(run, folder)
        >>> eq.store.save(run.resume(1), folder)
        >>> eq.load(folder, rule).resume(1).x.ravel().tolist()
        [1.75, 2.25]
    """
    folder = Path(folder)
    before = _committed(folder)
    now = _manifest.configuration(run)
    if before is None:
        _nothing_else_in(folder)
    else:
        _same_run(before, now, run, folder)
    with _files.saving(folder):
        for room in ("checkpoints", "observations"):
            (folder / room).mkdir(parents=True, exist_ok=True)
        _sweep(folder, before)
        if before is None or run.step > before["step"]:
            try:
                _append(run, folder, before, now)
            finally:
                # by what is there: Ctrl-C may come after the commit. What is left over does not matter, and goes at the next save
                with contextlib.suppress(OSError, Damaged):
                    _sweep(folder, _committed(folder))


def _committed(folder: Path) -> dict[str, Any] | None:
    return None if _manifest.kind(folder) is None else _manifest.read(folder)


def _append(run: Run, folder: Path, before: dict[str, Any] | None, now: dict[str, Any]) -> None:
    """Write what is new, and commit it."""
    first = 0 if before is None else before["step"]
    segments = [] if before is None else list(before["segments"])
    held = list(_held(run, first))
    new = [one for _, one in held if len(one.steps)]
    if new:
        archive = _records.pack(new)
        _files.write(folder / _manifest.segment_name(first, run.step), [archive])
        segments.append({"first": first, "last": run.step, "bytes": len(archive), "sha256": _files.digest(archive)})
    place = _manifest.checkpoint_name(run.step)
    here, environments = _manifest.environment(), [] if before is None else before["environments"]
    if not environments or environments[-1] != {"from": environments[-1]["from"], **here}:
        environments = [*environments, {"from": first, **here}]
    content = {
        "configuration": now,
        "environments": environments,
        "step": run.step,
        # records before that are of another observer of that name
        "series": {one.place: begins for begins, one in held},
        "checkpoint": _tree.write(folder / place, _checkpoint(run), meta={"step": run.step, "lanes": run.lanes}),
        "segments": segments,
    }
    _manifest.write(folder, content, None if before is None else before["log"].get("created"))


def _checkpoint(run: Run) -> dict[str, Any]:
    """What the next step needs. Buffers hold nothing between steps, and what they held depends on the pace of the run."""

    def emptied(node: Any) -> Any:
        if not is_series(node):
            return node
        axis = 0 if run.lanes is None else 1

        def blank(leaf: Any) -> jax.Array:
            return jnp.zeros((*leaf.shape[:axis], 1, *leaf.shape[axis + 1 :]), leaf.dtype)

        return Series(blank(node.steps), jax.tree.map(blank, node.values), jnp.zeros_like(node.count))

    carry = jax.tree.map(emptied, run._carry, is_leaf=is_series)
    return {"carry": carry._asdict(), "host": run._host, "key": run.key}


def _held(run: Run, first: int) -> Iterator[tuple[int, Records]]:
    """Of every series the step of its first record, and the records that are new: of steps not yet taken when `first` was the next."""
    axis = 0 if run.lanes is None else 1
    for path, node in jax.tree_util.tree_leaves_with_path(run._carry, is_leaf=is_series):
        if is_series(node):
            parts = [part for part in run._history.get(jax.tree_util.keystr(path), ()) if len(part[0])]
            begins = int(parts[0][0][0]) if parts else run.step
            yield begins, _since(first, path, axis, [part for part in parts if part[0][-1] >= first])
    for name in run._host:
        read = run.observed[name]
        if is_series(read):
            path = (jax.tree_util.GetAttrKey("host"), jax.tree_util.DictKey(name))
            yield int(read.steps[0]) if len(read) else run.step, _since(first, path, 0, [(read.steps, read.values)])


def _since(first: int, path: Any, axis: int, parts: list[tuple[np.ndarray, Tree]]) -> Records:
    """The records of these parts from step `first` on."""
    steps = np.concatenate([np.zeros(0, np.int64), *(part[0] for part in parts)])
    cut = (slice(None),) * axis + (slice(int(np.searchsorted(steps, first)), None),)
    values = jax.tree.map(lambda *leaves: np.concatenate(leaves, axis=axis)[cut], *(part[1] for part in parts)) if parts else ()
    return Records(jax.tree_util.keystr(path), group_name(path), axis, steps[cut[-1]], values)


# --- whose folder it is ----------------------------------------------------------------------------------------------------


def _nothing_else_in(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        msg = f"folder: got {folder}, which is a file; expected a folder; write another name."
        raise ValueError(msg)
    others = sorted(path.name for path in folder.glob("*") if path.name not in _OURS and not re.fullmatch(_OURS["."], path.name))
    if others:
        msg = f"folder: got {folder}, which holds {', '.join(others[:3])} and is no run folder; expected a new or empty one; write another name."
        raise ValueError(msg)


def _same_run(before: dict[str, Any], now: dict[str, Any], run: Run, folder: Path) -> None:
    """The run went on from what is committed: the same start, and the same arguments up to there."""
    there, here, step = before["configuration"], now, before["step"]
    for name in ("lanes", "x", "tracers"):
        if there.get(name) != here[name]:
            msg = f"folder: {folder} holds a run with {name} {there.get(name)}; got one with {here[name]}; expected the same run; write a new folder."
            raise ValueError(msg)
    olds, news = there["legs"], here["legs"]
    for k, old in enumerate(olds):
        differs = "legs" if k >= len(news) else difference(old, news[k])
        if differs is not None:
            msg = f"folder: {folder} holds a run with another {differs} from step {old['from']} on; expected one that goes on; write a new folder."
            raise ValueError(msg)
    if run.step < step or (len(news) > len(olds) and news[len(olds)]["from"] < step):
        at = run.step if run.step < step else news[len(olds)]["from"]
        msg = f"folder: {folder} holds {step} steps; got a run that left it at step {at}; expected one that goes on from there; write a new folder."
        raise ValueError(msg)


def difference(old: dict[str, Any], new: dict[str, Any]) -> str | None:
    """The first argument in which two legs differ."""
    return next((name for name in sorted({*old, *new}) if old.get(name) != new.get(name)), None)


def _sweep(folder: Path, named: dict[str, Any] | None) -> None:
    """Remove what a manifest does not name, of what has names like ours."""
    kept = set() if named is None else {_manifest.checkpoint_name(named["step"])}
    kept |= set() if named is None else {_manifest.segment_name(one["first"], one["last"]) for one in named["segments"]}
    for room, names in _OURS.items():
        if (folder / room).is_symlink() and room != ".":
            damaged(room, "path", "it is a link, which could lead out of the folder")
        for path in (folder / room).iterdir():
            if re.fullmatch(names, path.name) and path.relative_to(folder).as_posix() not in kept:
                _files.remove(path)
