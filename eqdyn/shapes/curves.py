"""Curves: one parameter, Betti numbers (b0, b1)."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from eqdyn._types import Key
from eqdyn.shapes._shape import Shape, along, flag, length, request, smaller

NODES = 4096  # of the table of lengths along a trefoil


def circle(num: int, *, key: Key, radius: float = 1.0, even: bool = False, dtype: Any = jnp.float32) -> Shape:
    """The circle in the plane, uniform by length.

        (radius cos t, radius sin t),   t uniform on [0, 2 pi)

    The Rips complex of a set of points on a circle is a circle from its longest gap up to `sqrt(3) radius`, where an
    equilateral triangle closes it: both ends of the interval are theorems, the lower one in all but 1 % of draws.

    Args:
        num: number of points, >= 1.
        key: of the points.
        radius: > 0, in any unit.
        even: a regular polygon, turned at random.
        dtype: of the points.

    Raises:
        ValueError, TypeError: arguments that make no sense.

    Example:
        >>> import jax, eqdyn as eq
        >>> eq.shapes.circle(100, key=jax.random.key(0)).betti
        (1, 1)
        >>> [round(r, 2) for r in eq.shapes.circle(100, key=jax.random.key(0), even=True).interval]
        [0.06, 1.71]

    References:
        Adamaszek, Adams, "The Vietoris-Rips complexes of a circle", Pacific J. Math. 290 (2017).
    """
    dtype, radius = request(num, key, dtype), length(radius, "radius")
    t = 2 * jnp.pi * _fractions(num, key, dtype, even=even)
    interval = along(num, 2 * math.pi * radius, math.sqrt(3) * radius, even=even)
    return Shape(_round(t, radius), (1, 1), "circle", interval)


def figure_eight(num: int, *, key: Key, even: bool = False, dtype: Any = jnp.float32) -> Shape:
    """The paper's 2-D start as its public code draws it: a figure eight in the (w, a) plane.

        w = 0.1 sin t - 2,   a = sin 2t,   t uniform on [0, 2 pi)

    Not uniform by length: dense where a turns, sparse at the crossing. The paper calls it a genus-2 surface; it is a curve
    with two loops. Each loop is 2 high but only 0.1 wide, so that its strands lie about one edge apart somewhere at every scale,
    and open squares there unless the steps are tiny: a Rips complex sees both loops from 135 / n to 0.095, with n >= 2600 even
    points (measured). Thousands of drawn points leave it to luck: interval None.

    Args:
        num: number of points, >= 1.
        key: of the points.
        even: equal steps of t from a random start.
        dtype: of the points.

    Raises:
        ValueError, TypeError: arguments that make no sense.

    Example:
        >>> import jax, eqdyn as eq
        >>> eq.shapes.figure_eight(1024, key=jax.random.key(0)).betti
        (1, 2)

    References:
        Yang et al., arXiv:2510.02670, figure 3.
    """
    dtype = request(num, key, dtype)
    t = 2 * jnp.pi * _fractions(num, key, dtype, even=even)
    interval = (135 / num, 0.095) if even and num >= 2600 else None
    return Shape(jnp.stack([0.1 * jnp.sin(t) - 2, jnp.sin(2 * t)], 1), (1, 2), "figure eight", interval)


def two_circles(num: int, *, key: Key, radius: float = 1.0, apart: float = 3.0, even: bool = False, dtype: Any = jnp.float32) -> Shape:
    """Two equal circles side by side in the plane, uniform by length; even rows on the left one, odd rows on the right one.

        centres (-apart/2, 0), (apart/2, 0);   shortest way between them  apart - 2 radius

    Args:
        num: number of points on both, >= 1.
        key: of the points.
        radius: > 0, in any unit.
        apart: distance between the centres, > 2 radius.
        even: two regular polygons, turned at random.
        dtype: of the points.

    Raises:
        ValueError, TypeError: arguments that make no sense.

    Example:
        >>> import jax, eqdyn as eq
        >>> eq.shapes.two_circles(200, key=jax.random.key(0)).betti
        (2, 2)
    """
    dtype, radius, apart = request(num, key, dtype), length(radius, "radius"), length(apart, "apart")
    smaller(2 * radius, apart, ("2 radius", "apart"))
    left, right = jax.random.split(key)
    halves = ((num - num // 2, left, -apart / 2), (num // 2, right, apart / 2))
    both = [_round(2 * jnp.pi * _fractions(half, part, dtype, even=even), radius, at) for half, part, at in halves]
    x = jnp.zeros((num, 2), dtype).at[::2].set(both[0]).at[1::2].set(both[1])
    interval = along(num // 2, 2 * math.pi * radius, min(math.sqrt(3) * radius, apart - 2 * radius), even=even) if num > 3 else None
    return Shape(x, (2, 2), "two circles", interval)


def trefoil(num: int, *, key: Key, radius: float = 1.0, tube: float = 0.5, even: bool = False, dtype: Any = jnp.float32) -> Shape:
    """The trefoil knot in R^3, on a torus, uniform by length (through a table of lengths: to 1e-5).

        ((radius + tube cos 3t) cos 2t, (radius + tube cos 3t) sin 2t, tube sin 3t)

    Homology does not see the knot: the Betti numbers are those of a circle. Upper end of the interval: the smaller of 1.6 tube,
    where strands pass each other, and 1.7 (radius - tube), where the hole closes (both measured).

    Args:
        num: number of points, >= 1.
        key: of the points.
        radius: of the circle in the middle of the torus, > tube, in any unit.
        tube: radius of the tube, > 0.
        even: equal steps of length from a random start.
        dtype: of the points.

    Raises:
        ValueError, TypeError: arguments that make no sense.

    Example:
        >>> import jax, eqdyn as eq
        >>> eq.shapes.trefoil(100, key=jax.random.key(0)).points.shape
        (100, 3)
    """
    dtype, radius, tube = request(num, key, dtype), length(radius, "radius"), length(tube, "tube")
    smaller(tube, radius, ("tube", "radius"))
    run, nodes = arc_angles(radius, tube)
    whole = float(run[-1])
    t = jnp.interp(_fractions(num, key, dtype, even=even), jnp.asarray(run / whole, dtype), jnp.asarray(nodes, dtype))
    return Shape(knot(t, radius, tube, jnp), (1, 1), "trefoil", along(num, whole, min(1.6 * tube, 1.7 * (radius - tube)), even=even))


def _round(t: jax.Array, radius: float, at: float = 0.0) -> jax.Array:
    x = radius * jnp.stack([jnp.cos(t), jnp.sin(t)], 1)
    return x.at[:, 0].add(at) if at else x


def arc_angles(radius: float, tube: float) -> tuple[np.ndarray, np.ndarray]:
    """The length of a trefoil up to each of many angles, and those angles."""
    nodes = np.linspace(0, 2 * np.pi, NODES + 1)
    ahead = np.linalg.norm(np.diff(knot(nodes, radius, tube, np), axis=0), axis=1)
    return np.concatenate([[0.0], np.cumsum(ahead)]), nodes


def knot(t: Any, radius: float, tube: float, xp: Any) -> Any:
    out = radius + tube * xp.cos(3 * t)
    return xp.stack([out * xp.cos(2 * t), out * xp.sin(2 * t), tube * xp.sin(3 * t)], 1)


def _fractions(num: int, key: Key, dtype: Any, *, even: bool) -> jax.Array:
    """Where along a closed curve, in [0, 1)."""
    flag(even, "even")
    if even:
        return (jnp.arange(num, dtype=dtype) + jax.random.uniform(key, (), dtype)) / max(num, 1)
    return jax.random.uniform(key, (num,), dtype)
