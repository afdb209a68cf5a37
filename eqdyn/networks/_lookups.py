"""Rules for what takes and puts by position: gather, scatter, dynamic slices."""

from __future__ import annotations

from collections.abc import Sequence

from eqdyn.networks._axes import Axis, cut, even, find, join, pin
from eqdyn.networks._primitives import Params, rule
from eqdyn.networks._value import Value, plain


def _looked_up(axis: Axis, size: int, where: str) -> Axis:
    reason = f"looked up by position ({where})"
    pin(axis, reason)
    return Axis(size, pinned=reason)


def _pointed(indices: Value, mapped: Sequence[int], operand: Value) -> int | None:
    """The axis of the operand that positions found by argmax, top_k or sort point into, tied to the axis they were found on."""
    if indices.points is None or len(mapped) != 1 or find(indices.points).size != find(operand.axes[mapped[0]]).size:
        return None
    join(indices.points, operand.axes[mapped[0]])
    return mapped[0]


@rule("gather")
def gather(params: Params, values: Sequence[Value], where: str) -> list[Value]:
    numbers, sizes, shape = params["dimension_numbers"], params["slice_sizes"], params["shapes"][0]
    operand, indices = plain(values[0], where), values[1]
    pointed = _pointed(indices, numbers.start_index_map, operand)
    if pointed is None:
        indices = plain(indices, where)
    batch = list(indices.axes[:-1])
    for d, at in zip(numbers.operand_batching_dims, numbers.start_indices_batching_dims, strict=True):
        batch[at] = join(batch[at], operand.axes[d])
    window = []
    for d, axis in enumerate(operand.axes):
        whole = sizes[d] == find(axis).size
        if d in numbers.operand_batching_dims:
            continue
        if d in numbers.start_index_map and not whole and d != pointed:
            axis = _looked_up(axis, sizes[d], where)
        elif d in numbers.start_index_map and not whole:
            axis = even(1) if sizes[d] == 1 else _looked_up(axis, sizes[d], where)
        elif not whole:
            axis = cut(axis, 0, sizes[d])
        if d not in numbers.collapsed_slice_dims:
            window.append(axis)
    return [Value(tuple(window.pop(0) if d in numbers.offset_dims else batch.pop(0) for d in range(len(shape))))]


@rule(
    "scatter", "scatter-add", "scatter_add", "scatter_sub", "scatter_mul", "scatter_min", "scatter_max", "scatter-mul", "scatter-min", "scatter-max"
)
def scatter(params: Params, values: Sequence[Value], where: str) -> list[Value]:
    numbers = params["dimension_numbers"]
    operand, indices, updates = plain(values[0], where), values[1], plain(values[2], where)
    mapped = numbers.scatter_dims_to_operand_dims
    pointed = _pointed(indices, mapped, operand)
    if pointed is None:
        indices = plain(indices, where)
    windows = [updates.axes[d] for d in numbers.update_window_dims]
    batch = [axis for d, axis in enumerate(updates.axes) if d not in numbers.update_window_dims]
    for one, other in zip(batch, indices.axes[:-1], strict=True):
        join(one, other)
    out = list(operand.axes)
    for d, axis in enumerate(operand.axes):
        size = find(axis).size
        window = None
        if d in numbers.operand_batching_dims:
            out[d] = join(axis, batch[numbers.scatter_indices_batching_dims[list(numbers.operand_batching_dims).index(d)]])
        elif d not in numbers.inserted_window_dims:
            window = windows.pop(0)
            if find(window).size == size:
                out[d] = join(axis, window)
        if d == pointed:
            assert indices.points is not None
            out[d] = join(axis, indices.points)
        elif d in mapped and (window is None or find(window).size != size):
            out[d] = _looked_up(axis, size, where)
    return [Value(tuple(out))]


@rule("dynamic_slice")
def dynamic_slice(params: Params, values: Sequence[Value], where: str) -> list[Value]:
    operand = plain(values[0], where)
    for value in values[1:]:
        plain(value, where)
    axes = [axis if find(axis).size == n else _looked_up(axis, n, where) for axis, n in zip(operand.axes, params["slice_sizes"], strict=True)]
    return [Value(tuple(axes))]


@rule("dynamic_update_slice")
def dynamic_update_slice(params: Params, values: Sequence[Value], where: str) -> list[Value]:
    operand, update = plain(values[0], where), plain(values[1], where)
    for value in values[2:]:
        plain(value, where)
    axes = []
    for axis, new in zip(operand.axes, update.axes, strict=True):
        size = find(axis).size
        if find(new).size == size:
            axes.append(join(axis, new))
        else:
            pin(new, f"put in by position ({where})")
            axes.append(_looked_up(axis, size, where))
    return [Value(tuple(axes))]
