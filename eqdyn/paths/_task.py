"""What `transfer` is asked: checked, and brought into the form of the compiled part."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from eqdyn import _checks
from eqdyn._types import Key, Tree
from eqdyn.paths._asked import params_of
from eqdyn.paths._parts import FORMS, METHODS, Plan, begin, stage_widths, units_of
from eqdyn.paths._transport import Transport


def asked(
    method: str, features: Any, source_params: Any, sets: dict[str, Any], num_params: Any, num_labels: Any, start: Any, form: str, head: Any,
    fresh: Callable | None, budget: Any, key: Any,
) -> tuple[Plan, Tree, dict[str, Any], Key, Any]:  # fmt: skip
    """The plan; what is frozen, leaves `(S, ...)` but for the start; the data; keys `(S,)`; step sizes `(G,)`."""
    for name, value, known in (("method", method, METHODS), ("form", form, FORMS)):
        if value not in known:
            msg = f"{name}: got {value!r}; expected {', '.join(map(repr, known))}."
            raise ValueError(msg)
    _checks.needs_key(key, "examples, starts and batches are drawn")
    keys: Any = _checks.key(key, lanes=key.size if getattr(key, "ndim", 0) == 1 else None)
    several = keys.ndim == 1
    keys = keys if several else keys.reshape(1)
    steps = _budget(budget, sets["validation"] is not None)
    data: dict[str, Any] = {name: _examples(part, name) if part is not None else None for name, part in sets.items()}
    z, labels = data["train"]
    if num_labels is not None and _checks.count(num_labels, "num_labels", least=1) > len(z):
        msg = f"num_labels: got {num_labels}; expected at most {len(z)}, the examples in train."
        raise ValueError(msg)
    stages = (features,) if callable(features) else tuple(features)
    params = [source_params] if callable(features) else list(source_params)
    if not stages or len(stages) != len(params):
        msg = f"features, source_params: got {len(stages)} stages and {len(params)} trees of parameters; expected one tree a stage."
        raise ValueError(msg)
    params = jax.tree.map(jnp.asarray, params_of(params, "source_params"))
    if several and any(leaf.shape[:1] != keys.shape for leaf in jax.tree.leaves(params)):
        msg = f"source_params: got leaves without an axis {keys.shape} in front; expected a source for each of the keys; write jnp.stack of them."
        raise ValueError(msg)
    params = params if several else jax.tree.map(lambda leaf: leaf[None], params)
    frozen_start = _start(start, z)
    width, widths = _widths(stages, jax.tree.map(lambda leaf: leaf[0], params), frozen_start, z)
    head = _head(head, several, len(keys), width, int(labels.max()) + 1, z.dtype)
    num_classes = head[1].shape[1]
    for name, part in data.items():
        if part is not None and (part[0].shape[1:] != z.shape[1:] or part[0].dtype != z.dtype or int(part[1].max()) >= num_classes):
            got = f"inputs {part[0].shape[1:]} {part[0].dtype}, labels to {int(part[1].max())}"
            msg = f"{name}: got {got}; expected {z.shape[1:]} {z.dtype} as in train, and labels below {num_classes}."
            raise ValueError(msg)
    plan = Plan(method, form, stages, fresh if method == "scratch" else None, (), num_classes)
    frozen = {"features": params, "start": frozen_start, "head": head}
    if method == "scratch":
        _fresh(plan, z, keys[0])
    else:
        plan = plan._replace(units=_units(method, form, num_params, width, widths, num_classes, z.shape[1], frozen_start))
    return plan, frozen, {name: None if part is None else tuple(map(jnp.asarray, part)) for name, part in data.items()}, keys, steps


def _budget(budget: Any, chooses: Any) -> Any:
    _checks.count(budget.num_steps, "budget.num_steps", least=0)
    _checks.count(budget.batch_size, "budget.batch_size", least=1)
    sizes = tuple(budget.step_sizes)
    for size in sizes:
        _checks.number(size, "budget.step_sizes", above=0.0)
    if not sizes or (len(sizes) > 1 and not chooses):
        msg = f"budget.step_sizes: got {sizes} and {'a' if chooses else 'no'} validation split; expected one, or several and validation=(z, labels)."
        raise ValueError(msg)
    return jnp.asarray(sizes, jnp.float32)


def _examples(part: Any, name: str) -> tuple[Any, np.ndarray]:
    if not isinstance(part, (tuple, list)) or len(part) != 2:
        msg = f"{name}: got {type(part).__name__}; expected (inputs, labels)."
        raise ValueError(msg)
    z, labels = _checks.points(part[0], f"{name}[0]"), np.asarray(part[1])
    _checks.finite(z, f"{name}[0]")
    if not np.issubdtype(labels.dtype, np.integer):
        msg = f"{name}[1]: got dtype {labels.dtype}; expected whole numbers from 0, a class each; write labels.astype('int32')."
        raise TypeError(msg)
    if labels.shape != z.shape[:1] or labels.min() < 0:
        msg = f"{name}[1]: got shape {labels.shape}, least {labels.min(initial=0)}; expected {z.shape[:1]}, one label from 0 on for each input."
        raise ValueError(msg)
    return z, labels.astype(np.int32)


def _start(start: Any, z: Any) -> dict[str, Any]:
    if start is None:
        return {}
    if not isinstance(start, Transport):
        msg = f"start: got {type(start).__name__}; expected a Transport; write eq.paths.transport(target, source, ...)."
        raise TypeError(msg)
    if start.weight.shape[0] != z.shape[1]:
        msg = f"start: got one of {start.weight.shape[0]} inputs; expected {z.shape[1]}, as in train."
        raise ValueError(msg)
    return {name: jnp.asarray(getattr(start, name), z.dtype) for name in ("weight", "bias", "mean", "whiten", "colour")}


def _widths(stages: tuple, params: Any, start: dict[str, Any], z: Any) -> tuple[int, list[int]]:
    size = start["weight"].shape[1] if start else z.shape[1]
    try:
        widths = stage_widths(stages, params, jax.ShapeDtypeStruct((1, size), z.dtype))
    except (TypeError, ValueError, IndexError) as error:
        first = str(error).splitlines()[0]
        msg = f"features: got an error on inputs (1, {size}) {z.dtype} ({first}); expected stages (params, z) -> (n, h); other sizes need a start."
        raise ValueError(msg) from error
    return widths[-1], widths


def _head(head: Any, several: bool, runs: int, width: int, num_classes: int, dtype: Any) -> tuple[Any, Any]:
    if head is None:
        return jnp.zeros((runs, width, num_classes), dtype), jnp.zeros((runs, num_classes), dtype)
    weight, bias = (_checks.floating(part, "head") for part in head)
    weight, bias = (weight, bias) if several else (weight[None], bias[None])
    if weight.ndim != 3 or weight.shape[:2] != (runs, width) or bias.shape != (runs, weight.shape[2]):
        lead = (runs,) if several else ()
        msg = f"head: got {tuple(np.shape(part) for part in head)}; expected {(*lead, width, 'c')} and {(*lead, 'c')}, outputs c from features."
        raise ValueError(msg)
    return weight.astype(dtype), bias.astype(dtype)


def _fresh(plan: Plan, z: Any, key: Key) -> None:
    if plan.fresh is None:
        msg = "fresh: got None; expected (key) -> params, since a network from scratch needs a start; write fresh=."
        raise ValueError(msg)
    try:
        jax.eval_shape(lambda z, key: begin(plan, {}, z, key), jax.ShapeDtypeStruct((1, z.shape[1]), z.dtype), key)
    except (TypeError, ValueError, IndexError) as error:
        first = str(error).splitlines()[0]
        msg = (
            f"fresh: got parameters that the stages cannot use on inputs (1, {z.shape[1]}) {z.dtype} ({first}); expected a network for target inputs."
        )
        raise ValueError(msg) from error


def _units(
    method: str, form: str, num_params: Any, width: int, widths: list[int], num_classes: int, d: int, start: dict[str, Any]
) -> tuple[int, ...]:  # fmt: skip
    if method == "fine-tuning":
        return ()
    if method == "pullback" and form == "principal" and not start:
        msg = (
            "form: got 'principal' without a start; expected start=eq.paths.transport(target, source, ...), which knows the axes; or form='low rank'."
        )
        raise ValueError(msg)
    of_head = (width + 1) * num_classes
    extra = None if num_params is None else _checks.count(num_params, "num_params", least=1) - of_head
    sizes, num_axes = (d, start["weight"].shape[1] if start else d), len(start["colour"]) if start else 0
    found = units_of(method, form, extra, widths, num_classes, sizes, num_axes) if extra is None or extra >= 0 else (0,)
    if (method != "probe" and not any(found)) or (extra is not None and extra < 0):
        more = "" if method == "probe" else f" and at least one unit of the {method}"
        msg = f"num_params: got {num_params}; expected enough for the head, {of_head},{more}."
        raise ValueError(msg)
    return found
