"""The legs of a run: with which arguments it was begun, and with which it went on. They and the start decide its bits."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import numpy as np

from eqdyn._types import Key, Tree
from eqdyn.data import Batches
from eqdyn.observer import Observer
from eqdyn.rule import Rule


@dataclasses.dataclass(frozen=True, eq=False)
class Leg:
    """The arguments that a run was simulated with from step `first` on. The first leg has its start: configuration and tracers."""

    first: int
    rule: Rule
    eta: Any
    data: Any
    key: Key | None
    every: int
    chunk: int
    observers: dict[str, Observer]
    start: Tree = None


class Past(NamedTuple):
    """A leg as a run folder tells it: nothing in it can be called. `missing`: what it needs to go on."""

    first: int
    description: dict[str, Any]
    missing: tuple[str, ...] = ()


def legs_of(before: tuple[Leg | Past, ...], leg: Leg) -> tuple[Leg | Past, ...]:
    """The legs of a run that goes on; one more only where an argument is another."""
    return before if before and _goes_on(before[-1], leg) else (*before, leg)


def _goes_on(old: Leg | Past, new: Leg) -> bool:
    plain = ("rule", "every", "chunk", "observers")
    return isinstance(old, Leg) and old.key is new.key and all(getattr(old, name) == getattr(new, name) for name in plain) and _same(old, new)


def _same(old: Leg, new: Leg) -> bool:
    """Whether step size and data are the same; arrays by identity, since to compare them takes long."""
    if not (callable(old.eta) or callable(new.eta)):
        same_eta = np.shape(old.eta) == np.shape(new.eta) and bool(np.all(np.asarray(old.eta) == np.asarray(new.eta)))
    else:
        same_eta = old.eta is new.eta
    forms = [(data.arrays, data.batch_size) if isinstance(data, Batches) else (data, None) for data in (old.data, new.data)]
    structures: list[Any] = [jax.tree.structure(arrays) for arrays, _ in forms]
    same_form = forms[0][1] == forms[1][1] and structures[0] == structures[1]
    return same_eta and same_form and all(a is b for a, b in zip(*(jax.tree.leaves(arrays) for arrays, _ in forms), strict=True))


def last_leg(legs: tuple[Leg | Past, ...]) -> Leg:
    """The leg that a run goes on with."""
    last = legs[-1]
    if isinstance(last, Past):
        given = ", ".join(name if name == "rule" else f"{name}=..." for name in last.missing)
        msg = f"resume: got a run that was loaded without {', '.join(last.missing)}; expected what it was made with; write eq.load(folder, {given})."
        raise ValueError(msg)
    return last
