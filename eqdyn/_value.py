"""Rules as values: a function with its hyperparameters, compared by what was filled in.

`jax.jit` finds a compiled program again by comparing what it was compiled for. Two rules made from the same functions and equal
hyperparameters are equal here, and compile once. A user's function is itself: as everywhere in JAX it must be pure, and what
it captures must not change under it.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import jax
import numpy as np


def typed(value: Any) -> Any:
    """A key that tells 1 from 1.0 and True, and 0.0 from -0.0, through tuples."""
    if isinstance(value, tuple):
        return type(value), tuple(typed(item) for item in value)
    return (type(value), repr(value)) if isinstance(value, (bool, int, float, complex, np.generic)) else value


@dataclasses.dataclass(frozen=True, eq=False)
class Bound:
    """A function with its leading arguments filled in, equal when function and arguments are."""

    function: Callable
    arguments: tuple

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*self.arguments, *args, **kwargs)

    def __hash__(self) -> int:
        return hash((self.function, typed(self.arguments)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Bound) and self.function == other.function and typed(self.arguments) == typed(other.arguments)

    def __repr__(self) -> str:
        return f"{getattr(self.function, '__qualname__', self.function)}{self.arguments!r}"


def bind(call: Callable, *arguments: Any) -> Bound:
    """`call` with `arguments` in front; hashable and equal by value when the arguments are."""
    return Bound(call, arguments)


class Constant:
    """A small array compared by its content, for matrices that are hyperparameters. A copy: the user's may change."""

    __slots__ = ("_content", "value")

    def __init__(self, value: Any):
        traced = isinstance(value, jax.core.Tracer)
        self.value = value if traced else np.array(value)
        self._content = None if traced else (self.value.shape, str(self.value.dtype), self.value.tobytes())

    def __hash__(self) -> int:
        if self._content is None:
            msg = "a traced hyperparameter cannot be compared; build the rule inside the trace that sweeps it"
            raise TypeError(msg)
        return hash(self._content)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Constant) and (self is other or (self._content is not None and self._content == other._content))

    def __repr__(self) -> str:
        return f"array{getattr(self.value, 'shape', ())}"


def parameters(call: Callable) -> list[inspect.Parameter] | None:
    """The parameters that are still open, or None for builtins that do not tell."""
    if isinstance(call, Bound):
        inner = parameters(call.function)
        return None if inner is None else inner[len(call.arguments) :]
    try:
        return list(inspect.signature(call).parameters.values())
    except (TypeError, ValueError):
        return None


def arity(call: Callable, full: int, what: str) -> int:
    """How many of `full` positional arguments `call` wants; the last (the data) may be left out by the user.

    An argument with a default is not filled, unless it is named `data`.
    """
    found = parameters(call)
    if found is None:
        return full - 1
    if any(p.kind is p.VAR_POSITIONAL for p in found):
        return full
    positional = [p for p in found if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    wanted = sum((p.default is p.empty and p.name != "key") or p.name == "data" for p in positional)
    if wanted not in (full - 1, full):
        msg = f"{what}: got a function of {wanted} arguments; expected {full - 1}, or {full} with the data last."
        raise TypeError(msg)
    return wanted
