"""How each operation of JAX ties the axes of what it takes to those of what it gives: a rule for each name.

A rule takes the parameters of the operation, its operands and the place in the user's code, and returns the values that come out.
An operation without a rule pins every axis that enters it, and is named as the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from eqdyn.networks._axes import Axis, count, find, join, pin, split
from eqdyn.networks._value import Value, pinned, plain

Params = Mapping[str, Any]
Rule = Callable[[Params, Sequence[Value], str], list[Value]]
RULES: dict[str, Rule] = {}

_SAME_SHAPE = """
    abs acos acosh add and asin asinh atan atan2 atanh bessel_i0e bessel_i1e bitcast_convert_type cbrt ceil clamp clz complex conj
    convert_element_type copy copy_p cos cosh digamma div eq erf erf_inv erfc exp exp2 expm1 floor ge gt igamma igammac imag integer_pow
    is_finite le lgamma log log1p logistic lt max min mul mulhi ne neg nextafter not or polygamma population_count pow real
    reduce_precision regularized_incomplete_beta rem round rsqrt select_n sharding_constraint shift_left shift_right_arithmetic
    shift_right_logical sign sin sinh sqrt square stop_gradient sub tan tanh xor zeta"""
_RANDOM = """
    random_bits random_seed random_split random_fold_in random_wrap random_unwrap threefry2x32 rng_bit_generator rng_uniform"""
_MOVES = ("convert_element_type", "copy", "copy_p", "stop_gradient")  # what leaves positions and counts what they are


def rule(*names: str) -> Callable[[Rule], Rule]:
    def put(made: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, made))
        return made

    return put


def together(values: Sequence[Value]) -> tuple[Axis, ...]:
    """The axes of arrays that meet element by element; scalars and axes of length 1 meet everything."""
    rank = max((len(value.axes) for value in values), default=0)
    full = [value.axes for value in values if len(value.axes) == rank]
    out = list(full[0])
    for axes in full[1:]:
        out = [join(one, other) for one, other in zip(out, axes, strict=True)]
    # earlier operands may hold coarser axes than the last ones made of them
    return tuple(find(axis) for axis in out)


@rule(*_SAME_SHAPE.split())
def elementwise(params: Params, values: Sequence[Value], where: str) -> list[Value]:
    if params["name"] == "bitcast_convert_type" and values[0].shape != params["shapes"][0]:
        return unknown(params["name"], params, values, where)
    kept = _positions(params["name"], values)
    if kept is not None:
        return [kept]
    return [Value(together([plain(value, where) for value in values]))]


def _positions(name: str, values: Sequence[Value]) -> Value | None:
    """What element-wise operations make of positions: a wrapped or clipped one is one still, and compared with a count it marks a unit."""
    held = [value for value in values if value.points is not None]
    counts = [value for value in values if value.iota is not None]
    numbers = [value.number for value in values if value.number is not None]
    if name in _MOVES:
        return values[0] if held or counts else None
    if name == "eq" and len(values) == 2 and counts and len(held) + len(counts) == 2:
        return _marks(*values)
    if held and not counts:
        node = held[0].points
        assert node is not None
        others = [value for value in values if value.points is None and value.number is None]
        if name == "select_n" and len(held) == len(values) - 1:
            for one in held[1:]:
                assert one.points is not None
                node = join(node, one.points)
            return Value(together(values), points=node)
        if not others and len(numbers) == len(values) - len(held) == 1 and len(held) == 1:
            size, number = find(node).size, numbers[0]
            if name in ("lt", "ge") and number == 0:
                return Value(held[0].axes)
            if (name == "add" and number in (0, size)) or (name == "max" and number <= 0) or (name == "min" and number >= size - 1):
                return held[0]
        if name == "clamp" and len(held) == 1 and len(numbers) == 2 and numbers[0] <= 0 and numbers[1] >= find(node).size - 1:
            return held[0]
    if counts and not held and name == "add" and numbers == [0] and len(values) == 2:
        return counts[0]
    return None


def _marks(a: Value, b: Value) -> Value | None:
    """Positions compared with a count: an indicator of units; two counts along two axes: the identity matrix."""
    rank = max(len(a.axes), len(b.axes))
    if len(a.axes) != len(b.axes) or (a.iota is not None and a.iota == b.iota):
        return None
    axes = list(together([a, b]))
    if a.iota is not None and b.iota is not None:
        size = find(axes[a.iota]).size
        if rank < 2 or find(axes[b.iota]).size != size:
            return None
        axes[a.iota] = axes[b.iota] = Axis(size)
        return Value(tuple(axes))
    count, point = (a, b) if a.iota is not None else (b, a)
    assert count.iota is not None
    assert point.points is not None
    if not find(point.axes[count.iota]).even or find(axes[count.iota]).size != find(point.points).size:
        return None
    axes[count.iota] = find(point.points)
    return Value(tuple(axes))


@rule("reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "reduce_and", "reduce_or", "reduce_xor")
def reduction(params: Params, values: Sequence[Value], where: str) -> list[Value]:
    gone = {int(axis) for axis in params["axes"]}
    _count(values, gone)
    return [Value(tuple(axis for d, axis in enumerate(plain(value, where).axes) if d not in gone)) for value in values]


def _count(values: Sequence[Value], dims: set[int]) -> None:
    for value in values:
        for d in dims:
            count(value.axes[d])


@rule("argmax", "argmin")
def argmax(params: Params, values: Sequence[Value], where: str) -> list[Value]:
    (axis,) = params["axes"]
    value = plain(values[0], where)
    count(value.axes[axis])
    return [Value(value.axes[:axis] + value.axes[axis + 1 :], points=value.axes[axis])]


@rule("top_k")
def top_k(params: Params, values: Sequence[Value], where: str) -> list[Value]:
    value, at = plain(values[0], where), params.get("axis", -1) % len(values[0].axes)
    count(value.axes[at])
    axes = (*value.axes[:at], Axis(params["k"], pinned="ordered by value"), *value.axes[at + 1 :])
    return [Value(axes), Value(axes, points=value.axes[at])]


@rule("sort")
def sort(params: Params, values: Sequence[Value], where: str) -> list[Value]:
    at, keys = params["dimension"], params["num_keys"]
    ordered = [value for d, value in enumerate(values) if not (value.iota == at and d >= keys)]
    axes = together([plain(value, where) for value in ordered])
    count(axes[at])
    out = (*axes[:at], Axis(find(axes[at]).size, pinned="ordered by value"), *axes[at + 1 :])
    return [Value(out, points=None if any(value is one for one in ordered) else axes[at]) for value in values]


@rule("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp")
def cumulative(params: Params, values: Sequence[Value], where: str) -> list[Value]:
    value = plain(values[0], where)
    return [_with_order(value, [params["axis"]], where)]


@rule("rev")
def rev(params: Params, values: Sequence[Value], where: str) -> list[Value]:
    return [_with_order(plain(values[0], where), params["dimensions"], where)]


def _with_order(value: Value, dims: Sequence[int], where: str) -> Value:
    axes = list(value.axes)
    for d in dims:
        reason = f"its order matters ({where})"
        pin(axes[d], reason)
        axes[d] = Axis(find(axes[d]).size, pinned=reason)
    return Value(tuple(axes))


@rule("dot_general")
def dot_general(params: Params, values: Sequence[Value], where: str) -> list[Value]:
    (left, right), (left_batch, right_batch) = params["dimension_numbers"]
    a, b = (plain(value, where) for value in values)
    for i, j in zip(left, right, strict=True):
        tied = join(a.axes[i], b.axes[j])
        if a.origin is None and b.origin is None:
            count(tied)
        _sum_over(a, tied)
        _sum_over(b, tied)
    batch = [join(a.axes[i], b.axes[j]) for i, j in zip(left_batch, right_batch, strict=True)]
    rest_a = [axis for d, axis in enumerate(a.axes) if d not in (*left, *left_batch)]
    rest_b = [axis for d, axis in enumerate(b.axes) if d not in (*right, *right_batch)]
    return [Value((*batch, *rest_a, *rest_b))]


def _sum_over(value: Value, axis: Axis) -> None:
    if value.origin is not None:
        value.origin.contracted.append(axis)


@rule("conv_general_dilated")
def conv_general_dilated(params: Params, values: Sequence[Value], where: str) -> list[Value]:
    numbers, groups = params["dimension_numbers"], params["feature_group_count"]
    image, kernel = (plain(value, where) for value in values)
    reason = f"places in space ({where})"
    for value, spec in ((image, numbers.lhs_spec), (kernel, numbers.rhs_spec)):
        for d in spec[2:]:
            pin(value.axes[d], reason)
    out_axis, in_axis = (kernel.axes[d] for d in numbers.rhs_spec[:2])
    batch, feature = (image.axes[d] for d in numbers.lhs_spec[:2])
    _sum_over(kernel, in_axis)
    if params["batch_group_count"] > 1:
        for axis in (batch, feature, out_axis, in_axis):
            pin(axis, f"groups over the batch ({where})")
    elif groups == 1:
        join(feature, in_axis)
    else:
        lead, inner = split(feature, (groups, find(feature).size // groups))
        join(inner, in_axis)
        join(lead, split(out_axis, (groups, find(out_axis).size // groups))[0])
    shape = params["shapes"][0]
    axes = [Axis(size, pinned=reason) for size in shape]
    if params["batch_group_count"] == 1:
        axes[numbers.out_spec[0]] = batch
    axes[numbers.out_spec[1]] = out_axis
    return [Value(tuple(axes))]


@rule("reduce_window_max", "reduce_window_min", "reduce_window_sum", "reduce_window")
def reduce_window(params: Params, values: Sequence[Value], where: str) -> list[Value]:
    value, out = plain(values[0], where), []
    for d, axis in enumerate(value.axes):
        if params["window_dimensions"][d] == params["window_strides"][d] == 1 and tuple(params["padding"][d]) == (0, 0):
            out.append(axis)
        else:
            reason = f"places under a window ({where})"
            pin(axis, reason)
            out.append(Axis(params["shapes"][0][d], pinned=reason))
    return [Value(tuple(out))]


@rule("optimization_barrier", "device_put")
def same(params: Params, values: Sequence[Value], where: str) -> list[Value]:
    return list(values)


@rule(*_RANDOM.split())
def random(params: Params, values: Sequence[Value], where: str) -> list[Value]:
    return [pinned(shape, f"random numbers drawn inside ({where})") for shape in params["shapes"]]


def unknown(name: str, params: Params, values: Sequence[Value], where: str) -> list[Value]:
    """No rule: all that enters is told apart."""
    reason = f"there is no rule for the operation {name} ({where})"
    for value in values:
        for axis in plain(value, where).axes:
            pin(axis, reason)
    return [pinned(shape, reason) for shape in params["shapes"]]
