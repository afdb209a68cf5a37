"""What is known of an array inside a traced function: what its axes are made of, and whether it holds positions of an axis."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from eqdyn.networks._axes import Axis, even, find, pin


class Origin(NamedTuple):
    """A parameter, and those of its axes over which a product with something else sums: its units go out along them."""

    contracted: list[Axis]


class Value(NamedTuple):
    """An array seen by the tracer.

    Fields:
        axes: what each axis is made of.
        points: the axis that the numbers in the array point into (of an argmax, of the order of a sort).
        iota: the axis along which the numbers count 0, 1, 2 ...; it is even until somebody reads them as numbers.
        number: the value of a scalar literal.
        origin: the parameter that the array is, laid out anew at most.
    """

    axes: tuple[Axis, ...]
    points: Axis | None = None
    iota: int | None = None
    number: Any = None
    origin: Origin | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(find(axis).size for axis in self.axes)


def fresh(shape: tuple[int, ...]) -> Value:
    """Atoms along every axis: nothing is known yet."""
    return Value(tuple(Axis(size) for size in shape))


def pinned(shape: tuple[int, ...], reason: str) -> Value:
    return Value(tuple(Axis(size, pinned=reason) for size in shape))


def constant(array: Any, reason: str) -> Value:
    """A constant array: even along the axes on which it does not change, told apart along the others."""
    if not hasattr(array, "shape") or np.ndim(array) == 0:
        return Value((), number=array)
    shape = np.shape(array)
    try:
        held = np.asarray(array)
    except TypeError:  # keys of random numbers
        return pinned(shape, reason)
    alike = [held.size == 0 or _same(held, axis) for axis in range(held.ndim)]
    return Value(tuple(even(n) if same else Axis(n, pinned=reason) for n, same in zip(shape, alike, strict=True)))


def _same(held: np.ndarray, axis: int) -> bool:
    first = held.take([0], axis=axis)
    return bool(np.all((held == first) | ((held != held) & (first != first))))


def plain(value: Value, reason: str) -> Value:
    """The value read as numbers: positions that it holds are told apart."""
    if value.points is not None:
        pin(value.points, f"its positions are used as numbers ({reason})")
    axes = value.axes
    if value.iota is not None:
        size = find(axes[value.iota]).size
        axes = (*axes[: value.iota], Axis(size, pinned=f"positions are counted ({reason})"), *axes[value.iota + 1 :])
    return Value(axes, number=value.number, origin=value.origin)
