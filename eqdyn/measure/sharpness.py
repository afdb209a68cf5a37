"""Sharpness: the top of the Hessian's spectrum, at one batch, with its residual."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from eqdyn import _checks
from eqdyn._types import Key, Scalar, Tree
from eqdyn.linalg import lanczos_extremes
from eqdyn.rule import Rule, points_of


class Sharpness(NamedTuple):
    """Extreme eigenvalues of the Hessian, `-dU/dx`. Unit: 1/[eta].

    `value`: largest eigenvalue, `norm`: largest absolute eigenvalue; both estimates from below, an eigenvalue lies within
    `residual` of `value` and one within `norm_residual` of `norm`. `asymmetry`: |<v, Jw> - <w, Jv>| over the larger of |Jv|,
    |Jw|, for two random unit vectors; above rounding U is no gradient and the values have no meaning.
    """

    value: Scalar
    residual: Scalar
    norm: Scalar
    norm_residual: Scalar
    asymmetry: Scalar


def sharpness(rule: Rule, x: Any, state: Tree = None, data: Tree = None, *, num_iters: int = 30, key: Key | None = None) -> Sharpness:
    """The largest eigenvalue of the Hessian at x, by Lanczos on Hessian-vector products over one fixed batch.

    An estimate from below, with residuals. `1 / value` is an estimate of `1 / K`, never a certificate: the local value bounds
    pair rates only in the limit of a close pair.

    Args:
        rule: a gradient rule; products are `-J v` with J the Jacobian of its U, so momentum at rest will do, too.
        x: configuration, `Weighted`, or tree; all of it is perturbed, but no weights.
        state: None for `rule.init(x)`.
        data: the batch, the same for every product.
        num_iters: Lanczos steps; 20 to 30 give the top to 1e-5 or better.
        key: of the step, for rules that draw; it also starts Lanczos, from `jax.random.key(0)` without one.

    Returns:
        `Sharpness(value, residual, norm, norm_residual, asymmetry)`.

    Raises:
        ValueError, TypeError: arguments that do not fit.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> rule = eq.rules.gradient(lambda x: jnp.sum(jnp.array([[1.0, 5.0]]) * x**2) / 2)
        >>> round(float(eq.measure.sharpness(rule, jnp.ones((3, 2))).value), 4)
        5.0

    References:
        Yang et al., arXiv:2510.02670, section 4 ("role of K").
    """
    x = _checks.configuration(x)
    _checks.count(num_iters, "num_iters", least=1)
    return _sharpness(rule, num_iters, x, rule.init(x) if state is None else state, _checks.batch(data), _checks.key(key))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _sharpness(rule: Rule, num_iters: int, x: Tree, state: Tree, data: Tree, key: Key | None) -> Sharpness:
    return sharpness_of(rule, num_iters, x, state, data, key)


def sharpness_of(rule: Rule, num_iters: int, x: Tree, state: Tree, data: Tree, key: Key | None = None) -> Sharpness:
    """`sharpness`, inside a trace."""
    start = jax.random.key(0) if key is None else key

    def force(points: Tree) -> Tree:
        moved = points if points_of(x) is x else x._replace(x=points)
        return points_of(rule.update(moved, state, data, key=key).u)

    _, along = jax.linearize(force, points_of(x))

    def product(v: Tree) -> Tree:
        return jax.tree.map(jnp.negative, along(v))

    ends = lanczos_extremes(product, points_of(x), num_iters=num_iters, key=start)
    top = jnp.abs(ends.high) >= jnp.abs(ends.low)
    norm = jnp.where(top, jnp.abs(ends.high), jnp.abs(ends.low))
    v, w = _random_pair(points_of(x), start)
    jv, jw = product(v), product(w)
    lean = jnp.abs(_inner(w, jv) - _inner(v, jw))
    size = jnp.sqrt(jnp.maximum(_inner(jv, jv), _inner(jw, jw)))
    tiny = jnp.finfo(norm.dtype).tiny
    return Sharpness(ends.high, ends.high_residual, norm, jnp.where(top, ends.high_residual, ends.low_residual), lean / jnp.maximum(size, tiny))


def _inner(a: Tree, b: Tree) -> jax.Array:
    return sum(jnp.vdot(p, q) for p, q in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))  # type: ignore[return-value]


def _random_pair(like: Tree, key: Key) -> tuple[Tree, Tree]:
    """Two random unit vectors shaped like a tree."""
    leaves, structure = jax.tree.flatten(like)
    rebuild: Any = structure
    pair = []
    for which in (1, 2):
        keys = jax.random.split(jax.random.fold_in(key, which), len(leaves))
        drawn = [jax.random.normal(k, leaf.shape, leaf.dtype) for k, leaf in zip(keys, leaves, strict=True)]
        length = jnp.sqrt(sum(jnp.vdot(leaf, leaf) for leaf in drawn))
        pair.append(rebuild.unflatten([leaf / length for leaf in drawn]))
    return pair[0], pair[1]
