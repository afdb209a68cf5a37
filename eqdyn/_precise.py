"""U in float64, whatever x is in, and how far rounding can have moved it: what differences of near particles need."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from eqdyn._types import Key, Tree
from eqdyn.rule import Rule

_MARGIN = 8  # by how much the rounding of one evaluation may exceed that of another


class Force(NamedTuple):
    """Particles and U `(n, d)` as NumPy arrays, and the rounding of each row's U `(n,)`, a measured estimate, in the unit of U.

    `dtype`: in which U was found.
    """

    x: np.ndarray
    u: np.ndarray
    rounding: np.ndarray
    dtype: np.dtype


@functools.partial(jax.jit, static_argnums=(0, 1))
def _force(rule: Rule, group: Any, x: Tree, state: Tree, data: Tree, key: Key | None) -> jax.Array:
    return group.particles(rule.update(x, state, data, key=key).u)


def force(rule: Rule, group: Any, x: Tree, state: Tree, data: Tree, key: Key | None) -> Force:
    """U of a group's particles, found in float32 and in float64: the difference of the two measures what rounding does.

    Where the rule cannot be had in float64 (it casts to a coarser dtype within, draws from a key, or fails), U is what it gives in the
    dtype of x, and the rounding is taken as 32 roundings of the largest U.
    """
    own = np.asarray(group.particles(x))
    given = np.asarray(_force(rule, group, x, state, data, key))
    fine = given if own.dtype == np.float64 else _in(np.float64, rule, group, x, state, data, key)
    coarse = given if own.dtype == np.float32 else _in(np.float32, rule, group, x, state, data, key)
    if fine is None or coarse is None:
        u = given.astype(np.float64)
        size = float(np.max(np.abs(u), initial=0))
        return Force(own.astype(np.float64), u, np.full(len(u), 32 * float(jnp.finfo(own.dtype).eps) * size), own.dtype)
    shift = np.linalg.norm(fine - coarse.astype(np.float64), axis=1)
    # x of a float64 run is itself rounded on the way to float32, which only makes the measure larger
    rounding = _MARGIN * np.maximum(shift / np.finfo(np.float32).eps, np.linalg.norm(fine, axis=1)) * np.finfo(np.float64).eps
    return Force(own.astype(np.float64), fine, rounding, np.dtype(np.float64))


def _in(dtype: Any, rule: Rule, group: Any, *arguments: Any) -> np.ndarray | None:
    """U in another dtype, if the rule works in it from end to end."""
    if arguments[-1] is not None:
        return None  # a key draws other numbers in another dtype
    with jax.enable_x64(dtype == np.float64):
        try:
            cast = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf, arguments)
            if dtype == np.float64 and _coarser(jax.make_jaxpr(functools.partial(_force, rule, group))(*cast).jaxpr):
                return None
            return np.asarray(_force(rule, group, *cast))
        except Exception:  # a rule that knows one dtype only is no mistake here
            return None


def _coarser(jaxpr: Any) -> bool:
    """Whether a float64 program rounds to a coarser dtype on its way."""
    for equation in jaxpr.eqns:
        for variable in equation.outvars:
            dtype = getattr(variable.aval, "dtype", None)
            if dtype is not None and jnp.issubdtype(dtype, jnp.floating) and jnp.finfo(dtype).bits < 64:
                return True
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda node: hasattr(node, "eqns") or hasattr(node, "jaxpr")):
            inside = getattr(inner, "jaxpr", inner)
            if hasattr(inside, "eqns") and _coarser(inside):
                return True
    return False
