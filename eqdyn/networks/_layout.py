"""Rules for what lays numbers out anew: reshapes, transposes, slices, concatenations, padding, counting."""

from __future__ import annotations

import math
from collections.abc import Sequence

from eqdyn.networks._axes import Axis, cat, cut, even, find, pin, prod, split
from eqdyn.networks._primitives import Params, rule, together
from eqdyn.networks._value import Value, plain


@rule("broadcast_in_dim")
def broadcast_in_dim(params: Params, values: Sequence[Value], where: str) -> list[Value]:
    value, shape = values[0], params["shapes"][0]
    axes, iota = [even(size) for size in shape], None
    for d, at in enumerate(params["broadcast_dimensions"]):
        if find(value.axes[d]).size == shape[at]:
            axes[at] = value.axes[d]
            iota = at if value.iota == d else iota
    return [Value(tuple(axes), points=value.points, iota=iota, number=None if shape else value.number)]


@rule("transpose")
def transpose(params: Params, values: Sequence[Value], where: str) -> list[Value]:
    value, order = values[0], [int(d) for d in params["permutation"]]
    return [value._replace(axes=tuple(value.axes[d] for d in order), iota=None if value.iota is None else order.index(value.iota))]


@rule("squeeze", "expand_dims", "reshape")
def reshape(params: Params, values: Sequence[Value], where: str) -> list[Value]:
    value, shape = values[0], tuple(params["shapes"][0])
    kept = [d for d, size in enumerate(value.shape) if size != 1]
    if [value.shape[d] for d in kept] == [size for size in shape if size != 1]:
        places = [d for d, size in enumerate(shape) if size != 1]
        axes = [even(1)] * len(shape)
        for d, at in zip(kept, places, strict=True):
            axes[at] = value.axes[d]
        iota = places[kept.index(value.iota)] if value.iota in kept else None
        return [Value(tuple(axes), points=value.points, iota=iota, number=value.number if not shape else None)]
    return [Value(tuple(_regrouped(plain(value._replace(points=None), where).axes, shape, where)), points=value.points)]


def _regrouped(axes: Sequence[Axis], shape: Sequence[int], where: str) -> list[Axis]:
    """The smallest runs of axes whose lengths multiply to the same: each is merged, then split."""
    out: list[Axis] = []
    i = j = 0
    while i < len(axes) or j < len(shape):
        left, right = [i], [j]
        i, j = i + 1, j + 1
        run = math.prod(find(axis).size for axis in axes[left[0] : i])
        made = math.prod(shape[right[0] : j])
        while run != made and (i < len(axes) or j < len(shape)):
            if run < made and i < len(axes):
                run, i = run * find(axes[i]).size, i + 1
            else:
                made, j = made * shape[j], j + 1
        taken, wanted = list(axes[left[0] : i]), list(shape[right[0] : j])
        if not wanted:
            continue
        if not taken:
            out += [even(1)] * len(wanted)
        elif len(wanted) == 1:
            out.append(prod(taken))
        elif run == 0:
            out += [Axis(size, pinned=f"nothing along it ({where})") for size in wanted]
        else:
            out += split(prod(taken), wanted)
    return out


@rule("concatenate")
def concatenate(params: Params, values: Sequence[Value], where: str) -> list[Value]:
    at = params["dimension"]
    held = [plain(value, where) for value in values]
    others = together([value._replace(axes=value.axes[:at] + value.axes[at + 1 :]) for value in held])
    return [Value((*others[:at], cat([value.axes[at] for value in held]), *others[at:]))]


@rule("slice")
def slice_(params: Params, values: Sequence[Value], where: str) -> list[Value]:
    value, out = plain(values[0], where), []
    strides = params["strides"] or [1] * len(value.axes)
    for axis, start, stop, stride in zip(value.axes, params["start_indices"], params["limit_indices"], strides, strict=True):
        size = find(axis).size
        if stride == 1:
            out.append(cut(axis, start, stop))
        elif size % stride == 0 and start < stride and -(-(stop - start) // stride) == size // stride:
            lead, within = split(axis, (size // stride, stride))
            pin(within, f"every {stride}th is taken ({where})")
            out.append(lead)
        else:
            reason = f"every {stride}th is taken ({where})"
            pin(axis, reason)
            out.append(Axis(-(-(stop - start) // stride), pinned=reason))
    return [Value(tuple(out))]


@rule("split")
def split_(params: Params, values: Sequence[Value], where: str) -> list[Value]:
    value, at, start, out = plain(values[0], where), params["axis"], 0, []
    for size in params["sizes"]:
        out.append(Value((*value.axes[:at], cut(value.axes[at], start, start + size), *value.axes[at + 1 :])))
        start += size
    return out


@rule("pad")
def pad(params: Params, values: Sequence[Value], where: str) -> list[Value]:
    value, out = plain(values[0], where), []
    for axis, (low, high, inside) in zip(value.axes, params["padding_config"], strict=True):
        size = find(axis).size
        if inside:
            reason = f"padded inside ({where})"
            pin(axis, reason)
            out.append(Axis(size + low + high + inside * max(size - 1, 0), pinned=reason))
            continue
        kept = cut(axis, max(0, -low), size - max(0, -high))
        out.append(cat([Axis(max(low, 0), pinned="padding"), kept, Axis(max(high, 0), pinned="padding")]))
    return [Value(tuple(out))]


@rule("iota")
def iota(params: Params, values: Sequence[Value], where: str) -> list[Value]:
    return [Value(tuple(even(size) for size in params["shapes"][0]), iota=params["dimension"])]


@rule("tile")
def tile(params: Params, values: Sequence[Value], where: str) -> list[Value]:
    value, shape = plain(values[0], where), params["shapes"][0]
    axes = (*[even(1)] * (len(shape) - len(value.axes)), *value.axes)
    return [Value(tuple(prod([even(size // find(axis).size), axis]) for size, axis in zip(shape, axes, strict=True)))]


@rule("stack")
def stack(params: Params, values: Sequence[Value], where: str) -> list[Value]:
    axes = list(together([plain(value, where) for value in values]))
    axes.insert(params["axis"], Axis(len(values), pinned=f"stacked one by one ({where})"))
    return [Value(tuple(axes))]


@rule("unstack")
def unstack(params: Params, values: Sequence[Value], where: str) -> list[Value]:
    value, at = plain(values[0], where), params["axis"]
    pin(value.axes[at], f"taken apart one by one ({where})")
    return [Value(value.axes[:at] + value.axes[at + 1 :]) for _ in range(find(value.axes[at]).size)]
