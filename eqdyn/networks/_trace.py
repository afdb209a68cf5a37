"""Walks through a traced function and ties axes, operation by operation; loops and branches are walked through once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from eqdyn.networks import _layout, _lookups  # noqa: F401 - they put their rules into the table
from eqdyn.networks._axes import Axis, find, pin
from eqdyn.networks._primitives import RULES, together, unknown
from eqdyn.networks._value import Value, constant, plain

# what only lays a parameter out anew
_LAID_OUT = frozenset(["transpose", "reshape", "squeeze", "expand_dims", "broadcast_in_dim", "slice", "split", "convert_element_type", "copy"])


def walk(jaxpr: Any, consts: Sequence[Any], values: Sequence[Value], outer: str = "") -> list[Value]:
    """What comes out of a jaxpr for operands with the given axes; `outer` is the place of the call that it is the inside of."""
    known: dict[Any, Value] = dict(zip(jaxpr.invars, values, strict=True))
    held = dict(zip(jaxpr.constvars, consts, strict=True))

    def read(atom: Any, where: str) -> Value:
        """A constant is looked at where it is first used, so that the reason can name the line."""
        if hasattr(atom, "val"):
            return constant(atom.val, f"a constant inside the function ({where})")
        if atom not in known:
            known[atom] = constant(held[atom], f"a constant array of shape {np.shape(held[atom])} inside the function ({where})")
        return known[atom]

    for eqn in jaxpr.eqns:
        where = place(eqn) or outer
        made = _one(eqn, [read(atom, where) for atom in eqn.invars], where)
        known.update(zip(eqn.outvars, made, strict=True))
    return [read(atom, outer or "returned") for atom in jaxpr.outvars]


def _one(eqn: Any, values: list[Value], where: str) -> list[Value]:
    name = eqn.primitive.name
    if name == "scan":
        return _scan(eqn, values, where)
    if name == "while":
        return _while(eqn.params, values, where)
    if name == "cond":
        return _cond(eqn.params, values, where)
    params = {**eqn.params, "name": name, "shapes": [tuple(getattr(var.aval, "shape", ())) for var in eqn.outvars]}
    if name in RULES:
        made = RULES[name](params, values, where)
        # an expert that was looked up is a parameter still, an embedding that was looked up is what goes through the network
        kept = name in _LAID_OUT or (name == "gather" and values[1].points is not None)
        return [value._replace(origin=values[0].origin) for value in made] if kept else made
    inner = [eqn.params[key] for key in ("jaxpr", "call_jaxpr", "fun_jaxpr") if key in eqn.params]
    if len(inner) == 1 and len(_open(inner[0]).invars) == len(values):
        return _call(inner[0], values, where)
    return unknown(name, params, values, where)


def _open(jaxpr: Any) -> Any:
    return getattr(jaxpr, "jaxpr", jaxpr)


def _call(jaxpr: Any, values: Sequence[Value], where: str) -> list[Value]:
    return walk(_open(jaxpr), getattr(jaxpr, "consts", ()), values, where)


def _carried(values: Sequence[Value], where: str) -> list[Value]:
    """What a loop carries: what is even at the start need not stay so."""
    held = [plain(value, where) for value in values]
    return [Value(tuple(Axis(axis.size) if axis.even else axis for axis in map(find, value.axes))) for value in held]


def _tie(values: Sequence[Value], others: Sequence[Value], where: str) -> None:
    for value, other in zip(values, others, strict=True):
        together([plain(value, where), plain(other, where)])


def _scan(eqn: Any, values: list[Value], where: str) -> list[Value]:
    # constants, then what is carried, then what is gone through row by row: told by ranks, since releases of JAX name the counts differently
    params, body = eqn.params, _open(eqn.params["jaxpr"])
    num_rows = sum(len(value.axes) > len(inner.aval.shape) for value, inner in zip(values, body.invars, strict=True))
    num_stacked = sum(len(outer.aval.shape) > len(inner.aval.shape) for outer, inner in zip(eqn.outvars, body.outvars, strict=True))
    last = len(values) - num_rows
    first = last - (len(eqn.outvars) - num_stacked)
    carry = _carried(values[first:last], where)
    rows = []
    for value in values[last:]:
        held = plain(value, where)
        pin(held.axes[0], f"gone through in order ({where})")
        rows.append(Value(held.axes[1:], origin=held.origin))
    out = _call(params["jaxpr"], [*values[:first], *carry, *rows], where)
    _tie(carry, out[: len(carry)], where)
    stacked = [plain(value, where) for value in out[len(carry) :]]
    order = f"gone through in order ({where})"
    return carry + [Value((Axis(params["length"], pinned=order), *value.axes)) for value in stacked]


def _while(params: Any, values: list[Value], where: str) -> list[Value]:
    tests, body = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]
    carry = _carried(values[body:], where)
    _call(params["cond_jaxpr"], [*values[:tests], *carry], where)
    _tie(carry, _call(params["body_jaxpr"], [*values[tests:body], *carry], where), where)
    return carry


def _cond(params: Any, values: list[Value], where: str) -> list[Value]:
    plain(values[0], where)
    first, *others = [_call(branch, values[1:], where) for branch in params["branches"]]
    return [Value(together([plain(value, where) for value in column])) for column in zip(first, *others, strict=True)]


def place(eqn: Any) -> str:
    """The operation, and file and line of the user's code that asked for it; empty inside a library."""
    from jax.extend import source_info_util  # heavy to import

    line = source_info_util.summarize(eqn.source_info).rsplit("/", 1)[-1]
    return f"{eqn.primitive.name} at {line}" if line else ""
