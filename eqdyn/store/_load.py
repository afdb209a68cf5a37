"""A run out of its folder."""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from eqdyn import _checks
from eqdyn._chunk import Carry
from eqdyn._legs import Leg, Past
from eqdyn._run import History, Run, finished
from eqdyn._start import checked_observers
from eqdyn._types import STATUS_NAMES, Tree
from eqdyn.data import Batches
from eqdyn.observer import Observer, Series, is_series
from eqdyn.rule import Rule
from eqdyn.store import _files, _manifest, _records, _tree
from eqdyn.store._describe import described
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
        carry = _with_states_of(rule, carry, lanes)
    series = _series(folder, manifest)
    legs, observers = _legs(manifest, rule, data, observe, eta, held["key"], series)
    if {name for name, one in observers.items() if one.on_host} != set(held["host"]) or set(observers) - set(held["host"]) != set(carry.watched):
        damaged(_manifest.NAME, "configuration", f"got the observers {sorted(observers)}; the checkpoint has others")
    if rule is not None:
        _warn_of(manifest)
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


def _with_states_of(rule: Any, carry: Carry, lanes: int | None) -> Carry:
    """The carry with states in the structure that the rule gives them."""
    if not isinstance(rule, Rule):
        msg = f"rule: got {type(rule).__name__}; expected the eq.Rule that the run was made with."
        raise TypeError(msg)
    one = rule.init if lanes is None else jax.vmap(rule.init)
    state = fit(carry.state, jax.eval_shape(one, carry.x), "rule: its state")
    y_state = None if carry.y is None else fit(carry.y_state, jax.eval_shape(one, carry.y), "rule: the state of its tracers")
    return carry._replace(state=state, y_state=y_state)


def _legs(
    manifest: dict[str, Any], rule: Any, data: Any, observe: Any, eta: Any, key: Any, series: dict[str, Any]
) -> tuple[tuple[Leg | Past, ...], dict[str, Observer]]:
    """The legs of the run, the last one able to go on if all that it needs was given; and the observers, or who stands in for them."""
    *before, last = manifest["configuration"]["legs"]
    legs = [Past(leg["from"], leg) for leg in before]
    given = checked_observers(observe)
    unknown = sorted(set(given) - set(last["observers"]))
    if unknown:
        msg = f"observe: got {unknown}; expected those of the run, {sorted(last['observers'])}; give others when it goes on, to eq.simulate."
        raise ValueError(msg)
    scheduled = isinstance(last["eta"], dict)
    if eta is not None and not (scheduled and callable(eta)):
        msg = f"eta: got {eta!r}; expected {'the schedule of the run' if scheduled else 'None: that of the run is in its folder'}."
        raise ValueError(msg)
    needs = {"rule": rule is None, "data": last["data"] is not None and data is None, "eta": scheduled and eta is None}
    missing = tuple(name for name, lacking in needs.items() if lacking) + (("observe",) if set(given) != set(last["observers"]) else ())
    size = eta if scheduled else last["eta"] if isinstance(last["eta"], float) else np.asarray(last["eta"], np.float64)
    array = data if isinstance(data, Batches) else _checks.batch(data)
    leg = Leg(last["from"], rule, size, array, key, last["every"], last["chunk"], given, last.get("start"))
    told, asked = described(leg), {"rule": rule, "data": data, "eta": eta}
    for name in (name for name, value in asked.items() if value is not None):
        _hold(name, told[name], last[name])
    for name in given:
        _hold(f"observe[{name!r}]", told["observers"][name], last["observers"][name])
    stand_ins = {name: given.get(name) or _stand_in(about, series.get(f".host[{name!r}]")) for name, about in last["observers"].items()}
    return (*legs, Past(last["from"], last, missing) if missing else leg), stand_ins


def _hold(name: str, got: Any, expected: Any) -> None:
    """What was given is what the run was made with, as far as can be told."""
    if name == "data" and got is not None and expected is not None and got != expected:
        forms = [{path: leaf[:2] for path, leaf in one["leaves"].items()} | {"batch_size": one["batch_size"]} for one in (got, expected)]
        differ = [path or "data" for path in sorted({*forms[0], *forms[1]}) if forms[0].get(path) != forms[1].get(path)]
        path = differ[0] if differ else next(path or "data" for path, leaf in expected["leaves"].items() if got["leaves"][path] != leaf)
        of = [one.get("" if path == "data" else path) for one in forms]
        what = f"got {of[0]}; expected {of[1]}" if differ else "got other numbers; expected those of the run"
        msg = f"data: {path}: {what}; write eq.simulate(rule, eq.load(folder), data=...) to go on with others."
        raise ValueError(msg)
    if got != expected:
        msg = f"{name}: got {got}; expected {expected}, as the run was made; write eq.simulate(..., eq.load(folder), ...) to go on with another."
        raise ValueError(msg)


def _stand_in(about: dict[str, Any], parts: list[tuple[np.ndarray, Tree]] | None) -> Observer:
    """In the place of an observer that was not given: what was recorded, and what is carried, as it is."""

    def read(carry: Tree) -> Tree:
        if not parts:
            return carry
        values = jax.tree.map(lambda *leaves: np.concatenate(leaves), *(part[1] for part in parts))
        return Series(np.concatenate([part[0] for part in parts]), values)

    def never(*_: Any) -> Any:
        msg = "observe: got none for an observer of a run from a folder; write eq.load(folder, rule, data, observe=...)."
        raise ValueError(msg)

    return Observer(never, never, read, about["stride"], on_host=about["on_host"])


def _warn_of(manifest: dict[str, Any]) -> None:
    differ = _manifest.bit_for_bit(manifest["environments"][-1] if manifest["environments"] else {}, _manifest.environment())
    if differ:
        warnings.warn(f"the run was made elsewhere, and goes on from here to rounding, not to the bit: {', '.join(differ)}", stacklevel=4)
