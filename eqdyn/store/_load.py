"""A run out of its folder."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from eqdyn._chunk import Carry
from eqdyn._run import History, Run, finished
from eqdyn._types import STATUS_NAMES, Tree
from eqdyn.observer import Observer, is_series
from eqdyn.rule import Rule
from eqdyn.store import _files, _manifest, _records, _tree
from eqdyn.store._again import legs_of, warn_of, with_states_of
from eqdyn.store._files import Damaged, damaged
from eqdyn.store._structure import fit


def load(
    folder: str | Path, rule: Rule | None = None, data: Any = None, *, observe: Mapping[str, Observer] | None = None,
    eta: Callable | None = None, x0: Tree = None,
) -> Any:  # fmt: skip
    """What a folder holds: a `Run`, or the Dataset of a sweep.

    All is checked before it is used: sizes before anything is allocated, then checksums. Exact: with what the run was made with,
    `load(folder, rule, data, observe=...).resume(m)` has the bits of the run that was never interrupted, in the same environment (a warning says
    where JAX, devices or flags are others). Without them the run can be looked at: `observed` then has the loss and the series as they were
    recorded, and what an observer carries is left unread.

    Args:
        folder: one that `store.save` or `store.run` wrote, or a sweep.
        rule: to go on: the rule of the run.
        data: to go on: its data, a tree or `Batches`.
        observe: to go on, or to have them read: its observers, by name.
        eta: to go on: its schedule, if it had one; a number is in the folder.
        x0: a configuration of the same structure, where that is a tree with nodes of other classes than dicts, lists and tuples.

    Raises:
        Damaged: a ValueError that names the file and the field; also for links and sizes that do not fit.
        ValueError: no run folder, another schema, or a rule, data, observers or schedule that are not those of the run.
        TypeError: an array of 64 bits while x64 is off.

    Example:
        >>> import tempfile, jax.numpy as jnp, eqdyn as eq
        >>> folder = tempfile.mkdtemp()
        >>> eq.store.save(eq.simulate(eq.rules.consensus(), jnp.array([[0.0], [4.0]]), eta=0.5, num_steps=2), folder)
        >>> run = eq.load(folder)
        >>> run.step, run.x.ravel().tolist()
        (2, [1.5, 2.5])
        >>> run.resume(1)
        Traceback (most recent call last):
        ValueError: resume: got a run that was loaded without rule; expected what it was made with; write eq.load(folder, rule).
    """
    folder = Path(folder)
    if _manifest.kind(folder) == "sweep":
        from eqdyn._sweep import dataset_of

        return dataset_of(folder)
    manifest = _manifest.read(folder)
    while True:
        try:
            return _loaded(folder, manifest, rule, data, observe, eta, x0)
        except Damaged:
            newer = _manifest.read(folder)
            if newer == manifest:
                raise
            manifest = newer  # a writer has gone on meanwhile


def _loaded(folder: Path, manifest: dict[str, Any], rule: Any, data: Any, observe: Any, eta: Any, x0: Any) -> Run:
    held = _checkpoint(folder, manifest)
    carry, step, lanes = Carry(**held["carry"]), manifest["step"], manifest["configuration"]["lanes"]
    if x0 is not None:
        carry = carry._replace(x=fit(carry.x, x0, "x0", shapes=False))  # with lanes they may be others
    if rule is not None:
        carry = with_states_of(rule, carry, lanes)
    series = _series(folder, manifest)
    legs, observers = legs_of(manifest, rule, data, observe, eta, held["key"], series)
    if {name for name, one in observers.items() if one.on_host} != set(held["host"]) or set(observers) - set(held["host"]) != set(carry.watched):
        damaged(_manifest.NAME, "configuration", f"got the observers {sorted(observers)}; the checkpoint has others")
    if rule is not None:
        warn_of(manifest)
    with contextlib.closing(History(None, observers, threading.Event())) as history:
        history.parts = {place: parts for place, parts in series.items() if not place.startswith(".host")}
        return finished(carry, held["host"], history, observers, step, held["key"], lanes, legs)


def _checkpoint(folder: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    name = _manifest.checkpoint_name(manifest["step"])
    try:
        if _files.digest(_files.read(folder, f"{name}/index.json")) != manifest["checkpoint"]:
            damaged("index.json", "sha256", "it is not that in the manifest")
        held, meta = _tree.read(folder / name)
    except Damaged as error:
        if error.file.startswith("checkpoints"):
            raise
        raise error.within(name) from error
    if not _is_held(held, manifest["configuration"]["lanes"]) or meta != {"step": manifest["step"], "lanes": manifest["configuration"]["lanes"]}:
        damaged(f"{name}/index.json", "structure", "it is not that of a run")
    return held


def _is_held(held: Any, lanes: int | None) -> bool:
    """Whether a tree is what `save` makes of a run."""
    if (
        not isinstance(held, dict)
        or set(held) != {"carry", "host", "key"}
        or not isinstance(held["carry"], dict)
        or not isinstance(held["host"], dict)
    ):
        return False
    carry, key = held["carry"], held["key"]
    if set(carry) != set(Carry._fields) or not isinstance(carry["watched"], dict) or not (carry["loss"] is None or is_series(carry["loss"])):
        return False
    flat = () if lanes is None else (lanes,)
    leaves = jax.tree.leaves((carry["x"], carry["state"], carry["y"], carry["y_state"], carry["status"], carry["status_step"]))
    series = [node for node in jax.tree.leaves((carry["watched"], carry["loss"]), is_leaf=is_series) if is_series(node)]
    buffers = [buffer for one in series for buffer in (one.steps, *jax.tree.leaves(one.values))]
    return (
        (key is None or jax.dtypes.issubdtype(getattr(key, "dtype", None), jax.dtypes.prng_key))
        and not any(isinstance(leaf, str) for leaf in leaves)  # before the first step a state may hold plain numbers
        and all(np.shape(carry[name]) == flat and getattr(carry[name], "dtype", None) == np.int32 for name in ("status", "status_step"))
        and (not carry["status"].size or 0 <= int(np.min(carry["status"])) <= int(np.max(carry["status"])) < len(STATUS_NAMES))
        and all(isinstance(buffer, jax.Array) and buffer.shape[: len(flat) + 1] == (*flat, 1) for buffer in buffers)
        and all(np.shape(one.count) == flat for one in series)
    )


def _series(folder: Path, manifest: dict[str, Any]) -> dict[str, list[tuple[np.ndarray, Tree]]]:
    """The records by place, one part a segment; without those of observers that were replaced."""
    found: dict[str, list[tuple[np.ndarray, Tree]]] = {}
    for one in manifest["segments"]:
        name = _manifest.segment_name(one["first"], one["last"])
        content = _files.read(folder, name, most=one["bytes"])
        for records in _records.unpack(name, content, one["sha256"]):
            first = manifest["series"].get(records.place)
            if first is not None and len(records.steps) and records.steps[0] >= first:
                found.setdefault(records.place, []).append((records.steps, records.values))
    return found
