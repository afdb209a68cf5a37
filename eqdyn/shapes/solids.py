"""Solids and sets of three and more dimensions."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from eqdyn import _checks
from eqdyn._types import Key
from eqdyn.shapes._shape import CLOSED, FAILS, SAFETY, SOLID, Shape, accepted, across, compiled, length, request, room, sample, smaller, span, tilted


def handlebody(
    num: int, *, key: Key, radius: float = 1.0, tube: float = 0.4, apart: float = 2.0, even: bool = False, dtype: Any = jnp.float32
) -> Shape:
    """The solid of genus 2 in R^3, uniform by volume: the union of two solid tori in the plane z = 0.

        min(f(x + apart/2, y, z), f(x - apart/2, y, z)) <= tube^2,   f(x, y, z) = (sqrt(x^2 + y^2) - radius)^2 + z^2

    Filled: two loops and no void, unlike its boundary, the `double_torus`. A point that lies in both tori is kept with chance
    1/2. Upper end of the interval: `sqrt(3) (radius - tube)` for two whole holes (apart >= 2 radius), measured; where one torus
    reaches into the hole of the other, half of what is left of the hole.

    Args:
        num: number of points, >= 1.
        key: of the points.
        radius: of the circles in the middle of the tubes, > tube, in any unit.
        tube: radius of the tubes, > 0.
        apart: distance between the centres, above 2 tube and 2 (radius - tube), below 2 (radius + tube).
        even: spread by farthest-point sampling out of sixteen times as many.
        dtype: of the points.

    Raises:
        ValueError, TypeError: arguments that make no sense.

    Example:
        >>> import jax, eqdyn as eq
        >>> eq.shapes.handlebody(100, key=jax.random.key(0)).betti
        (1, 2, 0)
    """
    dtype, radius, tube, apart = request(num, key, dtype), length(radius, "radius"), length(tube, "tube"), length(apart, "apart")
    smaller(tube, radius, ("tube", "radius"))
    least, most = max(2 * tube, 2 * (radius - tube)), 2 * (radius + tube)
    if not least < apart < most:
        msg = f"apart: got {apart}; expected a number above {least:g} and below {most:g}, where the union has two holes."
        raise ValueError(msg)
    x = sample(_handlebody, num, key, dtype, radius, tube, apart, even=even)
    hole = min(radius - tube, (apart - 2 * tube) / 2)
    interval = across(num, 4 * math.pi**2 * radius * tube**2, math.sqrt(3) * hole, dim=3, even=even, factor=SOLID)
    return Shape(x, (1, 2, 0), "handlebody", interval)


def sphere_circle(num: int, *, key: Key, radius: float = 1.0, tube: float = 0.5, even: bool = False, dtype: Any = jnp.float32) -> Shape:
    """S^1 x S^2 in R^4, uniform by volume: the points at distance `tube` from a circle.

        ((radius + tube a) cos t, (radius + tube a) sin t, tube b, tube c),   (a, b, c) on the unit sphere with density 1 + (tube / radius) a

    A closed 3-manifold. Upper end of the interval: `min(sqrt(8/3) tube, sqrt(3) (radius - tube))`, where the
    sphere or the hole closes (measured; tube near radius / 2 leaves most room). It takes some 400 even points.

    Args:
        num: number of points, >= 1.
        key: of the points.
        radius: of the circle, > tube, in any unit.
        tube: > 0.
        even: spread by farthest-point sampling out of sixteen times as many.
        dtype: of the points.

    Raises:
        ValueError, TypeError: arguments that make no sense.

    Example:
        >>> import jax, eqdyn as eq
        >>> eq.shapes.sphere_circle(100, key=jax.random.key(0)).betti
        (1, 1, 1, 1)
    """
    dtype, radius, tube = request(num, key, dtype), length(radius, "radius"), length(tube, "tube")
    smaller(tube, radius, ("tube", "radius"))
    x = sample(_sphere_circle, num, key, dtype, radius, tube, even=even)
    high = min(math.sqrt(8 / 3) * tube, math.sqrt(3) * (radius - tube))
    interval = across(num, 8 * math.pi**2 * radius * tube**2, high, dim=3, even=even, factor=(CLOSED[0], SOLID[1]))
    return Shape(x, (1, 1, 1, 1), "sphere x circle", interval)


def clusters(num: int, *, key: Key, count: int = 2, gap: float = 4.0, spread: float = 0.1, dim: int = 2, dtype: Any = jnp.float32) -> Shape:
    """Gaussian clusters in a row along the first axis, `gap` apart; row i belongs to cluster i mod count.

    The interval runs from the widest cluster to the narrowest gap: there every cluster is one full simplex. Both ends follow
    from a bound on the norm of a Gaussian vector that fails in fewer than 1 % of draws.

    Args:
        num: number of points, >= 1.
        key: of the points.
        count: number of clusters, >= 1.
        gap: between neighbouring centres, > 0, in any unit.
        spread: standard deviation of every coordinate, > 0.
        dim: dimension of the space, >= 1.
        dtype: of the points.

    Raises:
        ValueError, TypeError: arguments that make no sense.

    Example:
        >>> import jax, eqdyn as eq
        >>> eq.shapes.clusters(60, key=jax.random.key(0), count=3).betti
        (3, 0)
    """
    dtype, gap, spread = request(num, key, dtype), length(gap, "gap"), length(spread, "spread")
    _checks.count(count, "count", least=1)
    _checks.count(dim, "dim", least=1)
    centres = gap * jnp.arange(count, dtype=dtype)[:, None] * jnp.eye(1, dim, dtype=dtype)
    x = centres[jnp.arange(num) % count] + spread * jax.random.normal(key, (num, dim), dtype)
    wide = 2 * spread * (math.sqrt(dim) + math.sqrt(2 * math.log(num / FAILS)))
    return Shape(x, (count, 0), f"{count} clusters", span(wide, SAFETY * (gap - wide)) if num >= count else None)


@compiled
def _handlebody(num: int, key: Key, dtype: Any, radius: Any, tube: Any, apart: Any) -> jax.Array:
    of_side, of_section, of_tilt, of_fate = jax.random.split(key, 4)
    size = (room(num),)
    side = jnp.where(jax.random.bernoulli(of_side, 0.5, size), jnp.ones(size, dtype), -jnp.ones(size, dtype))
    u, v, t = jax.random.uniform(of_section, (3, *size), dtype)
    t, v = 2 * jnp.pi * t, 2 * jnp.pi * v
    out = radius + tube * tilted(jnp.sqrt(u) * jnp.cos(v), tube / radius, of_tilt)
    x, y, z = out * jnp.cos(t) + side * apart / 2, out * jnp.sin(t), tube * jnp.sqrt(u) * jnp.sin(v)
    in_other = (jnp.hypot(x + side * apart / 2, y) - radius) ** 2 + z**2 <= tube**2
    return accepted(jnp.stack([x, y, z], 1), ~in_other | jax.random.bernoulli(of_fate, 0.5, size), num)


@compiled
def _sphere_circle(num: int, key: Key, dtype: Any, radius: Any, tube: Any) -> jax.Array:
    of_sphere, of_turn, of_tilt = jax.random.split(key, 3)
    v = jax.random.normal(of_sphere, (num, 3), dtype)
    a, b, c = (v / jnp.linalg.norm(v, axis=1, keepdims=True)).T
    t = 2 * jnp.pi * jax.random.uniform(of_turn, (num,), dtype)
    out = radius + tube * tilted(a, tube / radius, of_tilt)
    return jnp.stack([out * jnp.cos(t), out * jnp.sin(t), tube * b, tube * c], 1)
