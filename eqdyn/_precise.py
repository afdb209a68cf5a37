"""U and T in float64, whatever x is in, and how far rounding can have moved them: what differences of near particles and fitted data need."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from eqdyn import geometry
from eqdyn._lifted import tracer_state
from eqdyn._types import Key, Tree
from eqdyn.measure.swap import Transverse, transverse
from eqdyn.rule import Rule

_MARGIN = 8  # by how much the rounding of one evaluation may exceed that of another


class Force(NamedTuple):
    """Particles and U `(n, d)` as NumPy arrays, and the rounding of each row's U `(n,)`, a measured estimate, in the unit of U. Coincident
    particles whose U agree up to rounding have the same U.

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
    fine = given if own.dtype == np.float64 else tried(np.float64, functools.partial(_force, rule, group), x, state, data, key)
    coarse = given if own.dtype == np.float32 else tried(np.float32, functools.partial(_force, rule, group), x, state, data, key)
    if fine is None or coarse is None:
        u = given.astype(np.float64)
        size = float(np.max(np.abs(u), initial=0))
        return _settled(Force(own.astype(np.float64), u, np.full(len(u), 32 * float(jnp.finfo(own.dtype).eps) * size), own.dtype))
    with np.errstate(invalid="ignore"):  # a U that is not finite
        shift = np.linalg.norm(fine - coarse.astype(np.float64), axis=1)
    # x of a float64 run is itself rounded on the way to float32, which only makes the measure larger
    rounding = _MARGIN * np.maximum(shift / np.finfo(np.float32).eps, np.linalg.norm(fine, axis=1)) * np.finfo(np.float64).eps
    return _settled(Force(own.astype(np.float64), fine, rounding, np.dtype(np.float64)))


def _settled(found: Force) -> Force:
    """Coincident particles get one U, that of the first, where theirs differ by no more than their rounding."""
    with jax.enable_x64(True):  # noqa: FBT003
        first = np.asarray(geometry.labels(jnp.asarray(found.x)))
    with np.errstate(invalid="ignore"):
        apart = np.linalg.norm(found.u - found.u[first], axis=1)
    same = apart <= found.rounding + found.rounding[first]
    return found._replace(u=np.where(same[:, None], found.u[first], found.u))


def curvature(rule: Rule, group: Any, x: Tree, state: Tree, data: Tree, num_iters: int, key: Key | None) -> Transverse:
    """`measure.transverse` in float64; its error holds what rounding does, measured by the difference of float32 and float64.

    T is proportional to the residual of a fit, whose cancellation no rounding of T itself tells of. Where the rule cannot be had in both
    dtypes, T is what it gives in the dtype of x, and an estimate.
    """
    own, given = transverse(rule, x, state, data, group=group, num_iters=num_iters, key=key), group.particles(x).dtype

    def measured(x: Tree, state: Tree, data: Tree, key: Key | None) -> Transverse:
        return transverse(rule, x, state, data, group=group, num_iters=num_iters, key=key)

    velocity = functools.partial(_velocity, rule, group)
    fine, coarse = (own if given == dtype else tried(dtype, measured, x, state, data, key, traced=velocity) for dtype in (np.float64, np.float32))
    if fine is None or coarse is None or not np.array_equal(fine.where, coarse.where):
        return own._replace(kind="estimate")
    with np.errstate(invalid="ignore"):
        shift = np.abs(np.stack([fine.norm - coarse.norm, fine.low - coarse.low, fine.approach - coarse.approach]))
    rounding = _MARGIN * np.max(shift, initial=0, where=np.isfinite(shift)) / np.finfo(np.float32).eps * np.finfo(np.float64).eps
    return fine._replace(error=fine.error + rounding)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _velocity(rule: Rule, group: Any, x: Tree, state: Tree, data: Tree, key: Key | None) -> jax.Array:
    """What is differentiated."""
    if rule.probe is None:
        return group.particles(rule.update(x, state, data, key=key).u)
    return rule.probe(group.particles(x), tracer_state(group, x, state), x, state, data, key=key).u


def tried(dtype: Any, call: Callable, *arguments: Any, traced: Callable | None = None) -> Any:
    """`call(*arguments)` in another dtype, as NumPy arrays, if what is done works in it from end to end; else None. The last argument is
    the key. `traced`: what is looked at, if `call` cannot be traced.
    """
    if arguments[-1] is not None:
        return None  # a key draws other numbers in another dtype
    with jax.enable_x64(dtype == np.float64):
        try:
            cast = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf, arguments)
            if dtype == np.float64 and _coarser(jax.make_jaxpr(call if traced is None else traced)(*cast).jaxpr):
                return None
            return jax.tree.map(lambda leaf: np.asarray(leaf) if isinstance(leaf, jax.Array) else leaf, call(*cast))
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
