"""What of a loss is affine in the parameters, cut off in front: between two networks it is known from its values at the two.

    loss(p) = rest(p, A(p)),  A affine:      A((1-t) p + t q) = (1-t) A(p) + t A(q)

A holds the products of data with parameters: the sums that enter the units of the first layer. On a sheet these are most of the work, and there they
are made once for each end in place of once for each t. Found by walking through the traced loss; one that is not understood has no such part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from eqdyn._types import Tree


class Level(IntEnum):
    """How a value depends on the parameters."""

    CONSTANT = 0
    PLAIN = 1  # affine, and no dearer than the parameters themselves
    PRODUCT = 2  # affine, with a product in it
    OTHER = 3


class _Step(NamedTuple):
    primitive: Any
    params: dict[str, Any]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    level: Level


_PRODUCTS = frozenset(["dot_general", "conv_general_dilated"])
_BILINEAR = _PRODUCTS | {"mul"}  # affine in one operand where the other is constant
_LINEAR = frozenset([
    "add", "add_any", "broadcast_in_dim", "concatenate", "copy", "copy_p", "cumsum", "expand_dims", "neg", "pad", "reduce_sum",
    "reduce_window_sum", "reshape", "rev", "slice", "split", "squeeze", "sub", "transpose",
])  # fmt: skip
_FIRST = frozenset(["div", "dynamic_slice", "gather"])  # in the first operand, where the others are constant
_CALLS = frozenset(["jit", "pjit", "closed_call", "core_call", "custom_jvp_call", "custom_vjp_call", "checkpoint", "remat", "remat2"])


def _affine(name: str, params: dict[str, Any], levels: Sequence[Level], aval: Any) -> bool:
    """Whether an operation on affine and constant operands gives affine values."""
    varying = [k for k, level in enumerate(levels) if level]
    if name == "convert_element_type":
        return bool(jnp.issubdtype(params["new_dtype"], jnp.floating) and jnp.issubdtype(aval.dtype, jnp.floating))
    if name == "select_n":
        return 0 not in varying
    return name in _LINEAR or (name in _BILINEAR and len(varying) == 1) or (name in _FIRST and varying == [0])


class _Graph:
    """The steps of a traced function in order, calls opened up; values by number. What is constant is computed at once."""

    def __init__(self) -> None:
        self.steps: list[_Step] = []
        self.constants: dict[int, Any] = {}
        self.levels: list[Level] = []

    def new(self, level: Level) -> int:
        self.levels.append(level)
        return len(self.levels) - 1

    def hold(self, value: Any) -> int:
        at = self.new(Level.CONSTANT)
        self.constants[at] = value
        return at

    def walk(self, jaxpr: Any, consts: Sequence[Any], inputs: Sequence[int]) -> list[int]:
        """Numbers of what comes out of a jaxpr."""
        known = dict(zip(jaxpr.invars, inputs, strict=True)) | {var: self.hold(value) for var, value in zip(jaxpr.constvars, consts, strict=True)}

        def read(atom: Any) -> int:
            return self.hold(atom.val) if hasattr(atom, "val") else known[atom]

        for eqn in jaxpr.eqns:
            operands = [read(atom) for atom in eqn.invars]
            known.update(zip(eqn.outvars, self._one(eqn, operands), strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def _one(self, eqn: Any, operands: list[int]) -> list[int]:
        name = eqn.primitive.name
        levels = [self.levels[k] for k in operands]
        if not any(levels):
            return [self.hold(value) for value in _applied(eqn.primitive, eqn.params, [self.constants[k] for k in operands])]
        inner = [eqn.params[key] for key in ("jaxpr", "call_jaxpr", "fun_jaxpr") if key in eqn.params]
        if name in _CALLS and len(inner) == 1:
            body = getattr(inner[0], "jaxpr", inner[0])
            if len(body.invars) == len(operands):
                return self.walk(body, getattr(inner[0], "consts", ()), operands)
        level = Level.OTHER
        if max(levels) < Level.OTHER and _affine(name, eqn.params, levels, eqn.invars[0].aval):
            level = Level.PRODUCT if name in _PRODUCTS else max(levels)
        outputs = tuple(self.new(level) for _ in eqn.outvars)
        self.steps.append(_Step(eqn.primitive, eqn.params, tuple(operands), outputs, level))
        return list(outputs)


def _applied(primitive: Any, params: dict[str, Any], values: Sequence[Any]) -> list[Any]:
    out = primitive.bind(*values, **primitive.get_bind_params(params))
    return list(out) if primitive.multiple_results else [out]


def split(loss: Callable[[Tree], Any], like: Tree) -> tuple[Callable[[Tree], list], Callable[[Tree, list], Any]]:
    """`(A, rest)` with `loss(p) = rest(p, A(p))` to rounding, A affine; A gives an empty list where no product with data comes first.

    To be called while tracing: what is constant is computed here, once, outside of any loop that A and rest are put into.

    Args:
        loss: any function of a parameter tree, its data filled in.
        like: a tree of the structure, shapes and dtypes that it takes.
    """
    leaves, structure = jax.tree.flatten(like)
    closed = jax.make_jaxpr(lambda flat: loss(jax.tree.unflatten(structure, flat)))(leaves)
    if closed.effects:  # what it prints, it prints once
        return (lambda params: []), (lambda params, held: loss(params))
    graph = _Graph()
    entering = [graph.new(Level.PLAIN) for _ in leaves]
    (out,) = graph.walk(closed.jaxpr, closed.consts, entering)
    taken = {k for step in graph.steps if step.level == Level.OTHER for k in step.inputs} | {out}
    cut = sorted(k for k in taken if graph.levels[k] == Level.PRODUCT)

    def run(params: Tree, levels: Sequence[Level], held: dict[int, Any], wanted: Sequence[int]) -> list[Any]:
        values = graph.constants | dict(zip(entering, jax.tree.leaves(params), strict=True)) | held
        for step in graph.steps:
            if step.level in levels:
                values.update(zip(step.outputs, _applied(step.primitive, step.params, [values[k] for k in step.inputs]), strict=True))
        return [values[k] for k in wanted]

    def prefix(params: Tree) -> list:
        return run(params, (Level.PLAIN, Level.PRODUCT), {}, cut)

    def rest(params: Tree, held: list) -> Any:
        return run(params, (Level.PLAIN, Level.OTHER), dict(zip(cut, held, strict=True)), [out])[0]

    return prefix, rest


def between(a: Tree, b: Tree, t: Any) -> Tree:
    """`(1 - t) a + t b`, from the nearer end: both ends, and all of a line of no length, come out to the bit."""

    def leaf(one: Any, other: Any) -> Any:
        share, way = jnp.asarray(t).astype(one.dtype), other - one
        return jnp.where(share < 0.5, one + share * way, other - (1 - share) * way)

    return jax.tree.map(leaf, a, b)
