"""What a folder cannot hold is given again to whoever loads it: rule, data, observers, a schedule. Held against what the folder says of it."""

from __future__ import annotations

import warnings
from typing import Any

import jax
import numpy as np

from eqdyn import _checks
from eqdyn._chunk import Carry
from eqdyn._legs import Leg, Past
from eqdyn._start import checked_observers
from eqdyn._types import Tree
from eqdyn.data import Batches
from eqdyn.observer import Observer, Series
from eqdyn.rule import Rule
from eqdyn.store import _manifest
from eqdyn.store._describe import described
from eqdyn.store._structure import fit


def with_states_of(rule: Any, carry: Carry, lanes: int | None) -> Carry:
    """The carry with states in the structure that the rule gives them."""
    if not isinstance(rule, Rule):
        msg = f"rule: got {type(rule).__name__}; expected the eq.Rule that the run was made with."
        raise TypeError(msg)
    one = rule.init if lanes is None else jax.vmap(rule.init)
    state = fit(carry.state, jax.eval_shape(one, carry.x), "rule: its state")
    y_state = None if carry.y is None else fit(carry.y_state, jax.eval_shape(one, carry.y), "rule: the state of its tracers")
    return carry._replace(state=state, y_state=y_state)


def legs_of(
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


def warn_of(manifest: dict[str, Any]) -> None:
    differ = _manifest.bit_for_bit(manifest["environments"][-1] if manifest["environments"] else {}, _manifest.environment())
    if differ:
        warnings.warn(f"the run was made elsewhere, and goes on from here to rounding, not to the bit: {', '.join(differ)}", stacklevel=4)
