"""Stein variational gradient descent: particles that become a sample."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from eqdyn import _checks
from eqdyn._types import Points, Tree
from eqdyn._value import bind
from eqdyn.field import Field, from_field, over_pairs, with_data
from eqdyn.rule import Rule, points_of, velocity, weight_of
from eqdyn.rules._pairs import drift, squared_distances


def stein(potential: Callable, *, bandwidth: float = 1.0) -> Rule:
    """Stein variational gradient descent for the density `exp(-V(x))`, with the weighted mean. Exact up to the order of summation.

        U_i = mean_j [ -k(x_j, x_i) grad V(x_j) + grad_{x_j} k(x_j, x_i) ],   k(x, y) = exp(-|x - y|^2 / (2 h^2))

    One particle descends V. Spread as the density itself, the particles rest, and so does every tracer (Stein's identity). For
    h to infinity all move alike, by the mean of -grad V. At this configuration, with the mean over the particles,
    `K_pair <= exp(-1/2) mean |grad V| / h + 1 / h^2` (the slopes of k and of its gradient). P2 holds where grad V is bounded and
    Lipschitz; not for a Gaussian, whose grad V grows.

    Time O(n^2 d) and n gradients of V, memory O(n d) and a tile.

    Args:
        potential: `(x_k (d,), data) -> scalar`, V at one particle, minus the log density up to a constant; the data may be left out.
        bandwidth: h > 0; unit: that of x.

    Raises:
        TypeError: the potential is no function, or takes another number of arguments.
        ValueError: a bandwidth that is not positive.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> rule = eq.rules.stein(lambda x: 0.5 * jnp.sum(x**2))
        >>> rule.update(jnp.array([[3.0]]), ()).u.tolist()
        [[-3.0]]

    References:
        Liu, Wang, arXiv:1608.04471.
    """
    if not callable(potential):
        msg = f"potential: got {type(potential).__name__}; expected a function (x_k, data) -> scalar of one particle."
        raise TypeError(msg)
    potential, bandwidth = with_data(potential, 1, "potential"), _checks.number(bandwidth, "bandwidth", above=0)
    return from_field(Field(bind(_force, potential, bandwidth), bind(_at, potential, bandwidth)))


def _at(potential: Callable, bandwidth: float, y: Points, x: Tree, data: Tree) -> Points:
    points, weight = points_of(x), weight_of(x)
    h, share = jnp.asarray(bandwidth, points.dtype), weight / jnp.sum(weight)
    slopes = jax.vmap(lambda row: jax.grad(potential)(row, data))(points)

    def part(tile: Points, points: Points, share: jax.Array, slopes: Points) -> Points:
        k = share[None] * jnp.exp(-squared_distances(tile / h, points / h) / 2)
        return -(k @ slopes) - drift(k, tile / h, points / h) / h

    return over_pairs(part, y, points, share, slopes, pair_bytes=4 * points.dtype.itemsize)


def _force(potential: Callable, bandwidth: float, x: Tree, data: Tree) -> tuple[Tree, None]:
    return velocity(x, _at(potential, bandwidth, points_of(x), x, data)), None
