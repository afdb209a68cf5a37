"""Swap curvature: what a step does to an infinitesimal pair at each particle, in size and at the fold."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from eqdyn import _checks, groups
from eqdyn._lifted import lifted_rows
from eqdyn._twins import matched, response
from eqdyn._types import Key, Kind, Tree
from eqdyn.linalg import RowExtremes, lanczos_rows
from eqdyn.measure._transverse import LEAN, Transverse, of_matrices
from eqdyn.rule import Rule, weight_of
from eqdyn.transverse import dense, step_map

WIDEST = 64  # dimension up to which the matrices are formed
_NUM_ITERS = 24


class SwapCurvature(NamedTuple):
    """`T` `(m, d, d)`, 1/[eta]; `where` `(m,)` particles, or `(m, 2)` pairs; `error` `(m,)`: how much T changes with the way it was
    found, its largest entry, which bounds nothing; `route`: "probe" or "twins".
    """

    T: jax.Array
    where: np.ndarray
    error: jax.Array
    route: str


def swap_curvature(rule: Rule, x: Any, state: Tree = None, data: Tree = None, *, group: Any = None, key: Key | None = None) -> SwapCurvature:
    """The transverse Jacobian of every particle as a matrix, `T_i = dU_i/dx_i - dU_j/dx_i` at a twin `x_j = x_i`.

    Exact at the particles for a rule that knows its probe (the derivative of the probe, with the field held fixed). Else from
    antisymmetric derivatives at near pairs brought together, which is T at their middle: exact where all pairs are twins, else an
    estimate whose `error` is the change against the derivative where they are; that may vanish where the estimate is far off.

    Args:
        rule: the update rule; T is that of its U, with the state held fixed.
        x: configuration, or a tree with a group.
        state: None for `rule.init(x)`.
        data: the batch.
        group: None for rows, or one `Group`.
        key: of the step, for rules that draw.

    Returns:
        `SwapCurvature(T, where, error, route)`.

    Raises:
        MemoryError: the matrices would exceed `eqdyn.transverse.DENSE_BYTES`: use `measure.transverse`.
        ValueError, TypeError: arguments that do not fit.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> found = eq.measure.swap_curvature(eq.rules.consensus(), jnp.array([[0.0], [4.0]]))
        >>> found.T.ravel().tolist(), found.route
        ([-1.0, -1.0], 'probe')

    References:
        Derived; Yang et al., arXiv:2510.02670, theorem 1 and property P3.
    """
    rule, one, x, state, data, key = _asked(rule, x, state, data, group, key)
    if rule.probe is not None:
        T = _dense_probe(rule, one, x, state, data, key)
        return SwapCurvature(T, np.arange(one.size), jnp.zeros(one.size, T.dtype), "probe")
    pairs, T, apart = _at_pairs(rule, one, x, state, data, key)
    return SwapCurvature(T, pairs, jnp.max(jnp.abs(T - apart), axis=(1, 2)), "twins")


def transverse(
    rule: Rule,
    x: Any,
    state: Tree = None,
    data: Tree = None,
    *,
    group: Any = None,
    num_iters: int = _NUM_ITERS,
    key: Key | None = None,
) -> Transverse:
    """Norm, fold and approach of the swap curvature at every particle; dense up to d = 64, matrix-free by Lanczos beyond.

    See `swap_curvature` for what T is and how it is found. Matrix-free, all particles take part in every product: `num_iters` of them,
    each as dear as one or two evaluations of U.

    Args:
        rule, x, state, data, group, key: as in `swap_curvature`; the key also starts Lanczos.
        num_iters: Lanczos steps, capped by d.

    Returns:
        `Transverse(norm, low, approach, error, asymmetry, where, route, kind, eigenvalues)`.

    Raises:
        ValueError, TypeError: arguments that do not fit.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> found = eq.measure.transverse(eq.rules.consensus(), jnp.array([[0.0], [4.0]]))
        >>> found.norm.tolist(), found.eta_fold().tolist(), found.num_nonpositive(2.0).tolist()
        ([1.0, 1.0], [1.0, 1.0], [1, 1])

    References:
        Derived; Yang et al., arXiv:2510.02670, theorem 1.
    """
    _checks.count(num_iters, "num_iters", least=1)
    rule, one, x, state, data, key = _asked(rule, x, state, data, group, key)
    if one.dim <= WIDEST:
        T, where, error, route = swap_curvature(rule, x, state, data, group=one, key=key)
        kind: Kind = "exact" if route == "probe" or _all_twins(one, x, state, where) else "estimate"
        return of_matrices(np.asarray(T), where, np.asarray(error), route, kind)
    start = jax.random.key(0) if key is None else key
    where, rounds = (np.arange(one.size), None) if rule.probe is not None else _pairs(one, x, state)
    pairs = None if rounds is None else (jnp.asarray(where), jnp.asarray(rounds))
    lean = np.asarray(_asymmetry(rule, one, x, state, data, key, pairs, start))
    rounding = LEAN * float(jnp.finfo(one.particles(x).dtype).eps) * one.dim**0.5
    symmetric = lean <= rounding
    found = _lanczos(rule, one, num_iters, bool(symmetric.all()), x, state, data, key, pairs, start)
    ends, norm, error = jax.tree.map(np.asarray, found)
    settled = num_iters >= one.dim and bool(np.all(error <= rounding * norm)) and (pairs is None or _all_twins(one, x, state, where))
    kind = "lower" if settled and not symmetric.all() else "estimate"
    ritz = np.where(symmetric[:, None], ends.ritz, np.nan)
    return Transverse(norm, ends.low, -ends.low, error, float(lean.max()), where, "twins" if pairs else "probe", kind, ritz)


def _asked(rule: Any, x: Any, state: Any, data: Any, group: Any, key: Any) -> tuple:
    if not isinstance(rule, Rule):
        msg = f"rule: got {type(rule).__name__}; expected an eq.Rule; write eq.rules.from_function(f) for a plain function."
        raise TypeError(msg)
    x = _checks.configuration(x)
    named = groups.resolve(group, x)
    if len(named) != 1:
        msg = f"group: got {len(named)} groups; expected one; ask group by group."
        raise ValueError(msg)
    (one,) = named.values()
    if rule.probe is None and one.size < 2:
        msg = f"x: got {one.size} particle for a rule without probe; expected at least 2, since pairs are brought together."
        raise ValueError(msg)
    return rule, one, x, rule.init(x) if state is None else state, _checks.batch(data), _checks.key(key)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _dense_probe(rule: Rule, group: Any, x: Tree, state: Tree, data: Tree, key: Key | None) -> jax.Array:
    dtype = group.particles(x).dtype
    return dense(step_map(rule, group, x, state, data, key).product, group.size, group.dim, dtype)


def _pairs(group: Any, x: Tree, state: Tree) -> tuple[np.ndarray, np.ndarray]:
    weight = np.asarray(weight_of(x)) if isinstance(group, groups.Rows) else np.ones(group.size)
    rows = lifted_rows(group, x, state)
    _checks.finite(rows[:, : group.dim], "x")
    _checks.finite(rows[:, group.dim :], "state")
    pairs, rounds = matched(np.asarray(rows, np.float64), weight)
    if not len(pairs):
        msg = "x: got particles of which no two have the same weight, for a rule without probe; expected pairs of one weight."
        raise ValueError(msg)
    return pairs, rounds


def _all_twins(group: Any, x: Tree, state: Tree, where: np.ndarray) -> bool:
    """Whether both of every pair are the same lifted particle."""
    rows = np.asarray(lifted_rows(group, x, state))
    return bool(np.all(rows[where[:, 0]] == rows[where[:, 1]]))


def _at_pairs(rule: Rule, group: Any, x: Tree, state: Tree, data: Tree, key: Key | None) -> tuple[np.ndarray, jax.Array, jax.Array]:
    where, rounds = _pairs(group, x, state)
    pairs = jnp.asarray(where), jnp.asarray(rounds)
    together, apart = (_dense_twins(rule, group, near, x, state, data, key, pairs) for near in (True, False))
    return where, together, apart


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _dense_twins(rule: Rule, group: Any, together: bool, x: Tree, state: Tree, data: Tree, key: Key | None, pairs: Any) -> jax.Array:
    product, like = _operator(rule, group, x, state, data, key, pairs, together=together)
    return dense(product, len(like), group.dim, like.dtype)


def _operator(rule: Rule, group: Any, x: Tree, state: Tree, data: Tree, key: Key | None, pairs: Any, *, together: bool = True) -> tuple[Any, Any]:
    """`v -> T v` at the particles or at the pairs, and zeros in the shape of v."""
    like = group.particles(x)
    if pairs is None:
        return step_map(rule, group, x, state, data, key).product, jnp.zeros_like(like)
    return functools.partial(response, rule, group, together, x, state, data, key, *pairs), jnp.zeros((len(pairs[0]), group.dim), like.dtype)


def _length(rows: jax.Array) -> jax.Array:
    return jnp.linalg.norm(rows, axis=1)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _asymmetry(rule: Rule, group: Any, x: Tree, state: Tree, data: Tree, key: Key | None, pairs: Any, start: Key) -> jax.Array:
    """`|T v - T^t v|` over `|T v|`, of every particle or pair."""
    product, like = _operator(rule, group, x, state, data, key, pairs)
    v = jax.random.normal(start, like.shape, like.dtype)
    forth, (back,) = product(v), jax.linear_transpose(product, like)(v)
    return _length(forth - back) / jnp.maximum(_length(forth), jnp.finfo(like.dtype).tiny)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _lanczos(
    rule: Rule, group: Any, num_iters: int, symmetric: bool, x: Tree, state: Tree, data: Tree, key: Key | None, pairs: Any, start: Key
) -> tuple[RowExtremes, jax.Array, jax.Array]:
    """Both ends of the symmetric part, the norm, and the error of either."""
    product, like = _operator(rule, group, x, state, data, key, pairs)
    if symmetric:
        ends = lanczos_rows(product, like, num_iters=num_iters, key=start)
        norm, error = jnp.maximum(jnp.abs(ends.low), jnp.abs(ends.high)), jnp.maximum(ends.low_residual, ends.high_residual)
    else:
        turned = jax.linear_transpose(product, like)
        ends = lanczos_rows(lambda v: (product(v) + turned(v)[0]) / 2, like, num_iters=num_iters, key=start)
        square = lanczos_rows(lambda v: turned(product(v))[0], like, num_iters=num_iters, key=start)
        norm = jnp.sqrt(jnp.maximum(square.high, 0))
        error = jnp.maximum(ends.low_residual, square.high_residual / jnp.maximum(2 * norm, jnp.finfo(like.dtype).tiny))
    if pairs is not None:  # what bringing the pair together did along the lowest direction
        apart, _ = _operator(rule, group, x, state, data, key, pairs, together=False)
        error = jnp.maximum(error, _length(product(ends.low_vector) - apart(ends.low_vector)))
    return ends, norm, error
