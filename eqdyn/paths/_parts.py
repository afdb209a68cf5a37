"""What each way of transfer trains, and how many numbers that is: f and a head, a head and a layer beside it, bottlenecks, all."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from eqdyn._types import Key, Tree

METHODS = ("pullback", "probe", "adapter", "fine-tuning", "scratch")
FORMS = ("principal", "low rank", "affine")


class Plan(NamedTuple):
    """All that a compiled program is made for, but shapes.

    Fields:
        method, form: the latter of "pullback".
        stages: the layers of the representation, `(params, z) -> z`.
        fresh: `(key) -> params` of a network that is begun anew; of "scratch".
        units: how large the trained part is: principal axes, rank, units beside the head, units after each stage.
        num_classes: outputs of the head.
    """

    method: str
    form: str
    stages: tuple[Callable, ...]
    fresh: Callable | None
    units: tuple[int, ...]
    num_classes: int


def through(stages: tuple[Callable, ...], params: Any, z: Any) -> Any:
    for stage, held in zip(stages, params, strict=True):
        z = stage(held, z)
    return z


def units_of(
    method: str, form: str, extra: int | None, widths: list[int], num_classes: int, sizes: tuple[int, int], num_axes: int
) -> tuple[int, ...]:
    """The largest part that trains no more than `extra` numbers besides the head; none at all is an empty or a zero tuple.

    Args:
        extra: None for no limit.
        widths: of what comes out of each stage.
        sizes: target and source inputs.
        num_axes: principal axes that are known.
    """
    d, m = sizes
    if method == "pullback":
        if form == "affine":
            return (min(d + 1, m),) if extra is None or extra >= (d + 1) * m else (0,)
        if extra is None:
            return (0,)
        if form == "low rank":
            return (min(extra // (d + 1 + m), d + 1, m),)
        return (min((math.isqrt(4 * extra + 1) - 1) // 2, num_axes),)
    if method == "probe":
        return (0 if extra is None else extra // (widths[-1] + 1 + num_classes),)
    if method == "adapter":
        left, costs = extra or 0, [2 * width + 1 for width in widths]
        each = left // sum(costs)
        left -= each * sum(costs)
        found = []
        for cost in costs:
            found.append(each + left // cost)
            left %= cost
        return tuple(found)
    return ()


def _bottleneck(key: Key, width: int, units: int, out: int, dtype: Any) -> Tree:
    """A hidden layer that begins without effect."""
    into = jax.random.normal(key, (width, units), dtype) / math.sqrt(width)
    return {"in": into, "bias": jnp.zeros(units, dtype), "out": jnp.zeros((units, out), dtype)}


def _beside(held: Tree, z: Any) -> Any:
    return jax.nn.relu(z @ held["in"] + held["bias"][None]) @ held["out"]


def begin(plan: Plan, frozen: Tree, z: Any, key: Key) -> Tree:
    """What is trained, at its start: the same function as the frozen network, but for "scratch". `z`: some inputs, for shapes and dtype."""
    d, dtype = z.shape[1], z.dtype
    if plan.method == "scratch":
        features = plan.fresh(key) if plan.fresh is not None else ()
        width = jax.eval_shape(lambda: through(plan.stages, features, z)).shape[1]
        return {"features": features, "head": (jnp.zeros((width, plan.num_classes), dtype), jnp.zeros(plan.num_classes, dtype))}
    head = {"head": frozen["head"]}
    if plan.method == "fine-tuning":
        return {"features": frozen["features"], **head}
    if plan.method == "pullback":
        r, m = plan.units[0], frozen["start"]["weight"].shape[1] if frozen["start"] else d
        if plan.form == "principal":
            return {"f": {"matrix": jnp.zeros((r, r), dtype), "bias": jnp.zeros(r, dtype)}, **head}
        if plan.form == "affine":
            return {"f": {"matrix": jnp.zeros((d, m), dtype), "bias": jnp.zeros(m, dtype)}, **head}
        into = jax.random.normal(key, (d, r), dtype) / math.sqrt(d)
        return {"f": {"in": into, "bias": jnp.zeros(r, dtype), "out": jnp.zeros((r, m), dtype)}, **head}
    widths = stage_widths(plan.stages, frozen["features"], jax.eval_shape(lambda: started(frozen, z)))
    if plan.method == "probe":
        return {"beside": _bottleneck(key, widths[-1], plan.units[0], plan.num_classes, dtype), **head}
    keys = jax.random.split(key, len(widths))
    return {"adapters": [_bottleneck(k, width, units, width, dtype) for k, width, units in zip(keys, widths, plan.units, strict=True)], **head}


def stage_widths(stages: tuple[Callable, ...], params: Any, z: Any) -> list[int]:
    """Of what comes out of each stage; z may be a shape."""
    found = []
    for stage, held in zip(stages, params, strict=True):
        z = jax.eval_shape(stage, held, z)
        found.append(z.shape[1])
    return found


def started(frozen: Tree, z: Any) -> Any:
    """Target inputs where the source takes them."""
    return z @ frozen["start"]["weight"] + frozen["start"]["bias"][None] if frozen["start"] else z


def prepare(plan: Plan, frozen: Tree, z: Any) -> Tree:
    """What no training changes, computed once for all inputs: as far into the network as nothing is trained."""
    if plan.method == "scratch":
        return (z,)
    x = started(frozen, z)
    if plan.method == "pullback":
        if plan.form == "principal":
            start = frozen["start"]
            return x, (z - start["mean"][None]) @ start["whiten"][:, : plan.units[0]]
        return x, z
    if plan.method == "fine-tuning":
        return (x,)
    reach = 1 if plan.method == "adapter" else len(plan.stages)
    return (through(plan.stages[:reach], frozen["features"][:reach], x),)


def logits(plan: Plan, trained: Tree, frozen: Tree, held: Tree) -> Any:
    """Outputs `(n, classes)` from what `prepare` gave."""
    x = held[0]
    if plan.method in ("fine-tuning", "scratch"):
        x = through(plan.stages, trained["features"], x)
    elif plan.method == "pullback":
        f = trained["f"]
        if plan.form == "principal":
            moved = (held[1] @ f["matrix"] + f["bias"][None]) @ frozen["start"]["colour"][: plan.units[0]]
        elif plan.form == "affine":
            moved = held[1] @ f["matrix"] + f["bias"][None]
        else:
            moved = (held[1] @ f["in"] + f["bias"][None]) @ f["out"]
        x = through(plan.stages, frozen["features"], x + moved)
    elif plan.method == "adapter":
        x = x + _beside(trained["adapters"][0], x)
        for stage, params, adapter in zip(plan.stages[1:], frozen["features"][1:], trained["adapters"][1:], strict=True):
            x = stage(params, x)
            x = x + _beside(adapter, x)
    weight, bias = trained["head"]
    out = x @ weight + bias[None]
    return out + _beside(trained["beside"], x) if plan.method == "probe" else out
