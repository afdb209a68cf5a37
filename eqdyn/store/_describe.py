"""What a leg of a run was made with, as JSON: two legs of equal descriptions have equal arguments, as far as can be told.

Functions are told by their names and by what they hold (bound arguments, defaults, closures), not by their source.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import types
import weakref
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from eqdyn._legs import Leg, Past
from eqdyn._types import Tree
from eqdyn._value import Bound, Constant
from eqdyn.data import Batches
from eqdyn.observer import Observer
from eqdyn.store._files import digest
from eqdyn.store._structure import encode
from eqdyn.store._tree import little_endian

_LONG = 240  # characters of a name; the rest is a checksum
_known: weakref.WeakKeyDictionary[Leg, dict[str, Any]] = weakref.WeakKeyDictionary()


def described(leg: Leg | Past) -> dict[str, Any]:
    """The arguments of a leg."""
    if isinstance(leg, Past):
        return leg.description
    if leg not in _known:
        _known[leg] = {
            "from": leg.first,
            "rule": named(leg.rule),
            "eta": _eta(leg),
            "data": _data(leg.data),
            "key": _key(leg.key),
            "every": leg.every,
            "chunk": leg.chunk,
            "observers": {name: _observer(one) for name, one in leg.observers.items()},
        }
        if leg.start is not None:  # of a run from a folder the checksum alone is known
            _known[leg]["start"] = leg.start if isinstance(leg.start, str) else checksum(leg.start)
    return _known[leg]


def _eta(leg: Leg) -> Any:
    if not callable(leg.eta):
        return np.asarray(leg.eta, np.float64).tolist()
    begins = float(leg.eta(leg.first))  # called before it is named: a closure may convert what it holds when it is called first
    return {"schedule": named(leg.eta), "begins": begins}


def _key(key: Any) -> Any:
    return None if key is None else {"impl": str(jax.random.key_impl(key)), "words": np.asarray(jax.random.key_data(key)).tolist()}


def _observer(one: Observer) -> dict[str, Any]:
    return {"stride": one.stride, "on_host": one.on_host, "measure": named((one.update, one.leaving))}


def history(legs: tuple[Leg | Past, ...], step: int) -> list[dict[str, Any]]:
    """The legs of a run that is at `step`: those in which a step was taken, and of two that agree the first."""
    ends = [*(leg.first for leg in legs[1:]), step]
    taken = [described(leg) for leg, end in zip(legs, ends, strict=True) if end > leg.first] or [described(legs[-1])]
    found = [taken[0] | {"start": described(legs[0])["start"]}]
    for one in taken[1:]:
        if _arguments(one) != _arguments(found[-1]):
            found.append(one)
    return found


def _arguments(description: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in description.items() if name not in ("from", "start")}


def _data(data: Any) -> Any:
    if data is None:
        return None
    arrays, size = (data.arrays, data.batch_size) if isinstance(data, Batches) else (data, None)
    leaves = {leaf.path: [leaf.array.dtype.name, list(leaf.array.shape), digest(little_endian(leaf.array))] for leaf in encode(arrays)[1]}
    return {"batch_size": size, "leaves": leaves}


def checksum(tree: Tree) -> str:
    """Of paths, dtypes, shapes and bytes of a tree; not of where its arrays lie."""
    parts = [f"{leaf.path} {leaf.array.dtype.name} {leaf.array.shape} {digest(little_endian(leaf.array))}" for leaf in encode(tree)[1]]
    return digest("\n".join(parts).encode())


def named(value: Any) -> str:
    """A name for a rule, an observer or a schedule that is the same in every process."""
    name = _name(value, ())
    return name if len(name) <= _LONG else f"{name[:_LONG]}... {digest(name.encode())[:16]}"


def _name(value: Any, above: tuple[int, ...]) -> str:
    if value is None or (isinstance(value, (bool, int, float, complex, str)) and not isinstance(value, np.generic)):
        return repr(int(value) if isinstance(value, float) and value.is_integer() else value)
    if id(value) in above or len(above) > 32:
        return "..."
    within = functools.partial(_name, above=(*above, id(value)))
    if isinstance(value, (jax.Array, np.ndarray, np.generic, Constant)):
        array = np.asarray(value.value if isinstance(value, Constant) else value)
        return f"{array.dtype.name}{list(array.shape)}:{digest(little_endian(array))[:16]}"
    if isinstance(value, (Bound, functools.partial)):
        function, arguments = (value.function, value.arguments) if isinstance(value, Bound) else (value.func, (*value.args, *value.keywords.items()))
        return f"{within(function)}({', '.join(map(within, arguments))})"
    if isinstance(value, types.FunctionType):
        held = [*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values(), *_cells(value)]
        return value.__qualname__ + (f"[{', '.join(map(within, held))}]" if held else "")
    if isinstance(value, types.MethodType):
        return f"{within(value.__func__)}({within(value.__self__)})"
    if hasattr(value, "__wrapped__"):
        return within(value.__wrapped__)
    if isinstance(value, dict):
        return f"{{{', '.join(f'{within(key)}: {within(item)}' for key, item in value.items())}}}"
    if isinstance(value, (tuple, list)):
        return f"{type(value).__name__}({', '.join(map(within, value))})"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return f"{type(value).__name__}({', '.join(within(getattr(value, field.name)) for field in dataclasses.fields(value))})"
    if callable(value) and not isinstance(value, type) and hasattr(value, "__dict__"):
        held = [item for name, item in sorted(vars(value).items()) if not name.startswith("_")]
        return f"{type(value).__qualname__}({', '.join(map(within, held))})"
    return getattr(value, "__qualname__", type(value).__qualname__)


def _cells(function: types.FunctionType) -> Iterator[Any]:
    """What a closure holds; a cell may still be empty."""
    for cell in function.__closure__ or ():
        with contextlib.suppress(ValueError):
            yield cell.cell_contents
