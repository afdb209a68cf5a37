"""Functions and arrays as values: two made alike are equal.

`jax.jit` finds a compiled program again by comparing what it was compiled for. A closure is equal only to itself, so a rule
made twice from the same loss and hyperparameters would compile twice. `bind` and `function` compare what a function computes
with instead of where it lies in memory. Only what cannot change counts as comparable; a mutable captured value makes two
functions unequal, which costs a compilation and never a wrong answer.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import itertools
import types
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

_DEPTH = 64  # of nested tuples and closures; a function that captures itself ends here, and is compared by identity


class _IncomparableError(Exception):
    """A captured value that may change, or that cannot be compared."""


def _key(value: Any, depth: int = 0) -> Any:
    """What must agree for two captured values to be interchangeable. Identities are those of objects that both sides keep alive."""
    if depth > _DEPTH:
        raise _IncomparableError
    if isinstance(value, (bool, int, float, complex, str, bytes, np.generic, np.dtype, type(None), type(...))):
        return type(value), repr(value)  # repr tells 0.0 from -0.0, and nan equals itself
    if isinstance(value, (type, types.ModuleType, types.BuiltinFunctionType, jax.Array)):
        return id(value)
    if isinstance(value, types.FunctionType):
        try:
            cells = tuple(cell.cell_contents for cell in value.__closure__ or ())
        except ValueError:  # a cell that is not filled yet
            raise _IncomparableError from None
        keywords = tuple(sorted((value.__kwdefaults__ or {}).items()))
        return id(value.__code__), id(value.__globals__), _key((value.__defaults__, keywords, cells), depth + 1)
    if isinstance(value, types.MethodType):
        return _key((value.__func__, value.__self__), depth + 1)
    if isinstance(value, functools.partial):
        return functools.partial, _key((value.func, value.args, tuple(sorted(value.keywords.items()))), depth + 1)
    if isinstance(value, Function):
        return _key(value.call, depth + 1)
    if isinstance(value, tuple):
        return type(value), tuple(_key(item, depth + 1) for item in value)
    if isinstance(value, frozenset):
        return frozenset(_key(item, depth + 1) for item in value)
    if isinstance(value, Constant) or (dataclasses.is_dataclass(value) and getattr(type(value), "__dataclass_params__").frozen):  # noqa: B009
        return value
    raise _IncomparableError


def _globals_read(code: types.CodeType, scope: dict[str, Any]) -> tuple[tuple[str, Any], ...]:
    """The global objects that a code object and those nested in it name, so that a changed global is a changed function."""
    names: set[str] = set(code.co_names)
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            names |= {name for name, _ in _globals_read(const, scope)}
    return tuple((name, scope[name]) for name in sorted(names) if name in scope)


class Function:
    """A user's function that equals another made by the same factory from equal values.

    Hash and equality look at the code object, the captured values and the globals as they stood when this was made.
    """

    __slots__ = ("__weakref__", "_globals", "call")

    def __init__(self, call: Callable):
        self.call = call
        plain = isinstance(call, types.FunctionType)
        self._globals = _globals_read(call.__code__, call.__globals__) if plain else ()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.call(*args, **kwargs)

    def __hash__(self) -> int:
        return hash(self.call.__code__) if isinstance(self.call, types.FunctionType) else hash(type(self.call))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Function):
            return NotImplemented
        if self.call is other.call:
            return True
        if not all(a is b for (_, a), (_, b) in itertools.zip_longest(self._globals, other._globals, fillvalue=("", self))):
            return False
        try:
            return _key(self.call) == _key(other.call)
        except _IncomparableError:
            return False

    def __repr__(self) -> str:
        return getattr(self.call, "__qualname__", repr(self.call))


def function(call: Callable) -> Function:
    """`call` as a value; see `Function`."""
    return call if isinstance(call, Function) else Function(call)


@dataclasses.dataclass(frozen=True)
class Bound:
    """A function with its leading arguments filled in, equal when function and arguments are."""

    function: Callable
    arguments: tuple

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*self.arguments, *args, **kwargs)

    def __repr__(self) -> str:
        return f"{getattr(self.function, '__qualname__', self.function)}{self.arguments!r}"


def bind(call: Callable, *arguments: Any) -> Bound:
    """`call` with `arguments` in front; hashable and equal by value when the arguments are."""
    return Bound(call, arguments)


class Constant:
    """A small array compared by its content, for matrices that are hyperparameters."""

    __slots__ = ("_content", "value")

    def __init__(self, value: Any):
        self.value = value if isinstance(value, jax.core.Tracer) else np.asarray(value)
        self._content = None if isinstance(value, jax.core.Tracer) else (self.value.shape, str(self.value.dtype), self.value.tobytes())

    def __hash__(self) -> int:
        if self._content is None:
            msg = "a traced hyperparameter cannot be compared; build the rule inside the trace that sweeps it"
            raise TypeError(msg)
        return hash(self._content)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Constant) and (self is other or (self._content is not None and self._content == other._content))

    def __repr__(self) -> str:
        return f"array{getattr(self.value, 'shape', ())}"


def arity(call: Callable, full: int, what: str) -> int:
    """How many of `full` positional arguments `call` wants; the last (the data) may be left out by the user.

    An argument with a default is not filled, unless it is named `data`.
    """
    if isinstance(call, Bound):
        return arity(call.function, full + len(call.arguments), what) - len(call.arguments)
    try:
        parameters = inspect.signature(call).parameters.values()
    except (TypeError, ValueError):  # builtins and C functions do not tell
        return full - 1
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return full
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    wanted = sum(p.default is p.empty or p.name == "data" for p in positional)
    if wanted not in (full - 1, full):
        msg = f"{what}: got a function of {wanted} arguments; expected {full - 1}, or {full} with the data last."
        raise TypeError(msg)
    return wanted
