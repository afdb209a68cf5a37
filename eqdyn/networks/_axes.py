"""What an axis is made of: units that may be exchanged, positions told apart, joined end to end or multiplied out.

An axis of an array is a node. An atom stands for units that lie along it, one a position; `Cat` joins axes end to end, `Prod` multiplies
them out (the last factor runs fastest); an even axis is one along which values do not change. Tying two axes makes one node of them:
unification, as in the inference of types. A pinned atom has positions that are told apart, and says by what.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence


class Axis:
    """A node; `find` gives what it has become."""

    __slots__ = ("counted", "even", "factors", "parts", "pinned", "size", "to")

    def __init__(self, size: int, *, even: bool = False, pinned: str | None = None, counted: bool = False):
        self.size = size
        self.counted = counted  # something besides a sum with weights runs over the units: twice the same unit counts twice
        self.even = even or size == 1
        self.pinned = pinned
        self.to: Axis | None = None
        self.parts: list[Axis] | None = None
        self.factors: list[Axis] | None = None

    @property
    def atom(self) -> bool:
        return self.parts is None and self.factors is None


def find(node: Axis) -> Axis:
    while node.to is not None:
        if node.to.to is not None:
            node.to = node.to.to
        node = node.to
    return node


def even(size: int) -> Axis:
    return Axis(size, even=True)


def cat(parts: Sequence[Axis]) -> Axis:
    """Axes end to end; axes of length 0 are left out."""
    flat = [one for part in parts if part.size for one in pieces(part)]
    if len(flat) == 1:
        return flat[0]
    node = Axis(sum(one.size for one in flat))  # even parts may differ from each other
    node.parts = flat
    return node


def prod(factors: Sequence[Axis]) -> Axis:
    """Axes multiplied out, the last running fastest; axes of length 1 are left out."""
    flat = [one for factor in factors for one in _factors(factor) if one.size != 1]
    if not flat:
        return even(1)
    if len(flat) == 1:
        return flat[0]
    node = Axis(math.prod(one.size for one in flat), even=all(one.even for one in flat))
    if not node.even:
        node.factors = flat
    return node


def pieces(node: Axis) -> list[Axis]:
    """What lies end to end along an axis."""
    node = find(node)
    return [node] if node.parts is None else [one for part in node.parts for one in pieces(part)]


def _factors(node: Axis) -> list[Axis]:
    node = find(node)
    return [node] if node.factors is None else [one for factor in node.factors for one in _factors(factor)]


def pin(node: Axis, reason: str) -> Axis:
    """Positions along the axis are told apart from now on. The first reason stays."""
    node = find(node)
    if node.even:
        return node
    for child in node.parts or node.factors or ():
        pin(child, reason)
    if node.atom and node.pinned is None:
        node.pinned = reason
    return node


def count(node: Axis) -> Axis:
    """Something besides a sum with weights runs over the units of the axis."""
    node = find(node)
    for child in node.parts or node.factors or ():
        count(child)
    node.counted = True
    return node


def _become(node: Axis, other: Axis) -> Axis:
    if node is not other:
        node.to = other
        if node.counted:
            count(other)
    return other


def _solid(node: Axis) -> Axis:
    """The axis with atoms in place of what is even in it: another value may change there."""
    node = find(node)
    if node.even:
        return Axis(node.size) if node.size > 1 else node
    if node.parts is not None:
        return cat([_solid(part) for part in node.parts])
    if node.factors is not None:
        return prod([_solid(factor) for factor in node.factors])
    return node


def join(a: Axis, b: Axis) -> Axis:
    """One axis of two that are tied position by position."""
    a, b = find(a), find(b)
    if a is b or a.even or b.even:
        return b if a.even and (not b.even or b.size > a.size) else a
    if a.atom and a.pinned is None:
        return _become(a, _solid(b))
    if b.atom and b.pinned is None:
        return _become(b, _solid(a))
    if a.atom or b.atom:
        one, other = (a, b) if a.atom else (b, a)
        return pin(other, str(one.pinned))
    if a.factors is not None and b.factors is not None:
        return _join_products(a, b)
    if a.parts is not None and b.parts is not None:
        return _join_ends(a, b)
    return _join_unlike(a, b) if a.parts is not None else _join_unlike(b, a)


def _join_products(a: Axis, b: Axis) -> Axis:
    sizes = _common([one.size for one in _factors(a)], [one.size for one in _factors(b)])
    if sizes is None:
        return _give_up(a, b)
    return prod([join(one, other) for one, other in zip(split(a, sizes), split(b, sizes), strict=True)])


def _common(a: Sequence[int], b: Sequence[int]) -> list[int] | None:
    """The coarsest sequence of factors that refines both, or None."""
    a, b, out = list(a), list(b), []
    while a and b:
        small, large = (a, b) if a[0] <= b[0] else (b, a)
        if large[0] % small[0]:
            return None
        out.append(small[0])
        large[0] //= small.pop(0)
        if large[0] == 1:
            large.pop(0)
    return out


def _join_ends(a: Axis, b: Axis) -> Axis:
    cuts = sorted({0, *_borders(a), *_borders(b)})
    return cat([join(cut(a, low, high), cut(b, low, high)) for low, high in itertools.pairwise(cuts)])


def _borders(node: Axis) -> Iterator[int]:
    at = 0
    for part in pieces(node):
        at += part.size
        yield at


def _join_unlike(ends: Axis, product: Axis) -> Axis:
    """End to end on one side, multiplied out on the other: cut the first factor, or make the parts rows of a product."""
    parts, borders = pieces(ends), [0, *_borders(ends)]
    inner = product.size // _factors(product)[0].size
    if all(border % inner == 0 for border in borders):
        return cat([join(part, cut(product, low, low + part.size)) for part, low in zip(parts, borders, strict=False)])
    if len({part.size for part in parts}) > 1 or _common([len(parts), parts[0].size], [one.size for one in _factors(product)]) is None:
        return _give_up(ends, product)
    first, rest = split(product, [len(parts), parts[0].size])
    pin(first, "parts of a concatenation are told apart")
    for part in parts:
        rest = join(rest, part)
    return prod([first, rest])


def _give_up(a: Axis, b: Axis) -> Axis:
    reason = "axes cut in different ways are tied"
    pin(a, reason)
    return pin(b, reason)


def split(node: Axis, sizes: Sequence[int]) -> list[Axis]:
    """The axis as a product of the given sizes: what a reshape makes of it."""
    node = find(node)
    wanted = [size for size in sizes if size != 1]
    if len(wanted) <= 1:
        found = iter([node])
    elif node.even:
        found = iter([even(size) for size in wanted])
    else:
        found = iter(_split(node, wanted))
    return [even(1) if size == 1 else next(found) for size in sizes]


def _split(node: Axis, sizes: list[int]) -> list[Axis]:
    if node.atom:
        if node.pinned is not None:
            return [Axis(size, pinned=node.pinned) for size in sizes]
        made = [Axis(size, counted=node.counted) for size in sizes]
        node.factors = made
        return made
    if node.factors is not None:
        held = _factors(node)
        fine = _common([one.size for one in held], sizes)
        if fine is None:
            return _cut_up(node, sizes)
        queue = list(fine)
        small: list[Axis] = []
        for one in held:
            group: list[int] = []
            while math.prod(group) < one.size:
                group.append(queue.pop(0))
            small += split(one, group)
        out = []
        for size in sizes:
            group_of: list[Axis] = []
            while math.prod(one.size for one in group_of) < size:
                group_of.append(small.pop(0))
            out.append(prod(group_of))
        return out
    parts = pieces(node)
    if len({part.size for part in parts}) == 1 and len(parts) == sizes[0]:
        rest = parts[0]
        for part in parts[1:]:
            rest = join(rest, part)
        return [Axis(sizes[0], pinned="parts of a concatenation are told apart"), *split(rest, sizes[1:])]
    return _cut_up(node, sizes)


def _cut_up(node: Axis, sizes: Sequence[int]) -> list[Axis]:
    reason = "a reshape cuts across the units"
    pin(node, reason)
    return [Axis(size, pinned=reason) for size in sizes]


def cut(node: Axis, start: int, stop: int) -> Axis:
    """The positions from `start` to `stop` of the axis: what a slice takes."""
    node = find(node)
    if (start, stop) == (0, node.size):
        return node
    if node.even:
        return even(stop - start)
    if node.atom:
        if node.pinned is not None:
            return Axis(stop - start, pinned=node.pinned)
        made = [Axis(size, counted=node.counted) for size in (start, stop - start, node.size - stop) if size]
        node.parts = made
        return made[1] if start else made[0]
    if node.factors is not None:
        lead, *others = _factors(node)
        inner = node.size // lead.size
        if start % inner or stop % inner:
            reason = "a slice cuts across the units"
            pin(node, reason)
            return Axis(stop - start, pinned=reason)
        return prod([cut(lead, start // inner, stop // inner), *others])
    taken, at = [], 0
    for part in pieces(node):
        low, high = max(start, at), min(stop, at + part.size)
        if low < high:
            taken.append(cut(part, low - at, high - at))
        at += part.size
    return cat(taken)


def units(node: Axis) -> Iterator[tuple[Axis, int, int]]:
    """Where atoms lie along an axis: `(atom, start, width)`, unit i holds the positions `start + i*width ...`, `width` of them."""
    yield from _units(node, 0, 1)


def _units(node: Axis, start: int, inner: int) -> Iterator[tuple[Axis, int, int]]:
    node = find(node)
    if node.even:
        return
    if node.parts is not None:
        for part in node.parts:
            yield from _units(part, start, inner)
            start += part.size * inner
    elif node.factors is not None:
        factors = node.factors
        for at, factor in enumerate(factors):
            width = inner * math.prod(one.size for one in factors[at + 1 :])
            for outer in range(math.prod(one.size for one in factors[:at])):
                yield from _units(factor, start + outer * factor.size * width, width)
    else:
        yield node, start, inner
