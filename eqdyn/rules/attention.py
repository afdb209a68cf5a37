"""Self-attention on particles: tokens that look at each other, layer after layer."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from eqdyn import _checks
from eqdyn._types import Points, Tree
from eqdyn._value import Constant, bind
from eqdyn.field import Field, from_field, over_pairs
from eqdyn.rule import Rule, points_of, velocity, weight_of


def self_attention(*, beta: float = 1.0, query: Any = None, key: Any = None, value: Any = None) -> Rule:
    """Self-attention, `U_i = sum_j softmax_j(beta <Q x_i, K x_j>) V x_j`. Exact up to the order of summation.

    Weights multiply the softmax terms, `w_j exp(beta <Q x_i, K x_j>)`: two copies count as one particle of weight 2. Time
    O(n^2 d) as three matrix products; memory O(n d) and a tile. At this configuration, of diameter D,
    `K_pair <= |beta| |Q| |K| |V| D^2 / 4` (spectral norms): the Jacobian of a tracer's velocity is beta times a softmax covariance.
    P2 fails over all configurations, as that grows with D; P3 holds.

    Args:
        beta: inverse temperature, no unit when Q x and K x have none.
        query, key, value: matrices `(d, d)`, acting on columns; None for the identity.

    Raises:
        ValueError: a matrix is not square, or at the first step does not fit the particles.
        TypeError: data, which the rule does not take.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> rule = eq.rules.self_attention(beta=0.0)            # uniform attention: everybody sees the mean
        >>> rule.update(jnp.array([[0.0], [4.0]]), ()).u.ravel().tolist()
        [2.0, 2.0]

    References:
        Geshkovski, Letrouit, Polyanskiy, Rigollet, arXiv:2312.10794 (attention as particles).
    """
    matrices = tuple(None if m is None else _matrix(m, name) for m, name in ((query, "query"), (key, "key"), (value, "value")))
    beta = _checks.number(beta, "beta")
    return from_field(Field(bind(_force, beta, matrices), bind(_at, beta, matrices)))


def _matrix(m: Any, name: str) -> Constant:
    if np.ndim(m) != 2 or np.shape(m)[0] != np.shape(m)[1]:
        msg = f"{name}: got shape {np.shape(m)}; expected a matrix (d, d)."
        raise ValueError(msg)
    _checks.finite(m, name) if hasattr(m, "dtype") else None
    return Constant(m)


def _apply(m: Constant | None, rows: Points) -> Points:
    if m is None:
        return rows
    if m.value.shape[0] != rows.shape[1]:
        d = rows.shape[1]
        msg = f"query, key, value: got a matrix of shape {m.value.shape} for particles of dimension {d}; expected ({d}, {d})."
        raise ValueError(msg)
    return rows @ jnp.asarray(m.value, rows.dtype).T


def _at(beta: float, matrices: tuple[Constant | None, ...], y: Points, x: Tree, data: Tree) -> Points:
    _checks.no_data(data, "self_attention")
    query, key, value = matrices
    points = points_of(x)
    keys, values, log_weight = _apply(key, points), _apply(value, points), jnp.log(weight_of(x))

    def logits(tile: Points, keys: Points, log_weight: jax.Array) -> jax.Array:
        return jnp.asarray(beta, points.dtype) * (_apply(query, tile) @ keys.T) + log_weight[None]

    def highest(tile: Points, keys: Points, log_weight: jax.Array) -> jax.Array:
        return jnp.max(logits(tile, keys, log_weight), axis=1, keepdims=True)

    def part(tile: Points, keys: Points, values: Points, log_weight: jax.Array) -> tuple[jax.Array, Points]:
        share = jnp.exp(logits(tile[:, :-1], keys, log_weight) - tile[:, -1:])
        return jnp.sum(share, axis=1, keepdims=True), share @ values

    # apart from the sums: so these do not depend on the order in which particles are met, and twins get one answer
    top = over_pairs(highest, y, keys, log_weight, pair_bytes=3 * points.dtype.itemsize, merge=jnp.maximum)
    rows = jnp.concatenate([y, jax.lax.stop_gradient(top)], axis=1)
    mass, total = over_pairs(part, rows, keys, values, log_weight, pair_bytes=3 * points.dtype.itemsize)
    return total / mass


def _force(beta: float, matrices: tuple[Constant | None, ...], x: Tree, data: Tree) -> tuple[Tree, None]:
    return velocity(x, _at(beta, matrices, points_of(x), x, data)), None
