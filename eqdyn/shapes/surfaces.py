"""Surfaces: two parameters, Betti numbers (b0, b1, b2)."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from eqdyn import _checks
from eqdyn._types import Key
from eqdyn.shapes._shape import BOUNDED, CLOSED, Shape, accepted, across, compiled, flag, length, request, room, sample, smaller, tilted

ROLL = (1.5 * math.pi, 4.5 * math.pi)  # the angles between which a Swiss roll is wound
NODES = 4096  # of the table of lengths along its spiral


def disc(num: int, *, key: Key, radius: float = 1.0, even: bool = False, dtype: Any = jnp.float32) -> Shape:
    """The filled disc in the plane, uniform by area.

        r (cos t, sin t),   r = radius sqrt(u),   t uniform on [0, 2 pi),   u uniform on [0, 1)

    Convex: its Rips complexes can be shrunk to a point at every scale above the gaps. The interval ends at the diameter,
    beyond which every two points are joined.

    Args:
        num: number of points, >= 1.
        key: of the points.
        radius: > 0, in any unit.
        even: spread by farthest-point sampling out of sixteen times as many.
        dtype: of the points.

    Raises:
        ValueError, TypeError: arguments that make no sense.

    Example:
        >>> import jax, eqdyn as eq
        >>> eq.shapes.disc(100, key=jax.random.key(0)).betti
        (1, 0, 0)
    """
    dtype, radius = request(num, key, dtype), length(radius, "radius")
    x = sample(_ring, num, key, dtype, 0.0, radius, even=even)
    interval = across(num, math.pi * radius**2, 2 * radius, dim=2, even=even, factor=BOUNDED)
    return Shape(x, (1, 0, 0), "disc", interval)


def annulus(num: int, *, key: Key, inner: float = 0.5, outer: float = 1.0, even: bool = False, dtype: Any = jnp.float32) -> Shape:
    """The ring between two circles in the plane, uniform by area.

        r (cos t, sin t),   r^2 uniform on [inner^2, outer^2),   t uniform on [0, 2 pi)

    The hole is seen up to `sqrt(3) inner`: below that no triangle of points encloses the centre.

    Args:
        num: number of points, >= 1.
        key: of the points.
        inner: radius of the hole, > 0, in any unit.
        outer: radius, > inner.
        even: spread by farthest-point sampling out of sixteen times as many.
        dtype: of the points.

    Raises:
        ValueError, TypeError: arguments that make no sense.

    Example:
        >>> import jax, eqdyn as eq
        >>> eq.shapes.annulus(100, key=jax.random.key(0)).betti
        (1, 1, 0)
    """
    dtype, inner, outer = request(num, key, dtype), length(inner, "inner"), length(outer, "outer")
    smaller(inner, outer, ("inner", "outer"))
    x = sample(_ring, num, key, dtype, inner, outer, even=even)
    interval = across(num, math.pi * (outer**2 - inner**2), math.sqrt(3) * inner, dim=2, even=even, factor=BOUNDED)
    return Shape(x, (1, 1, 0), "annulus", interval)


def swiss_roll(num: int, *, key: Key, pitch: float = 1.0, width: float = 3.0, even: bool = False, dtype: Any = jnp.float32) -> Shape:
    """A strip rolled up in R^3 along a spiral of Archimedes, uniform by area (through a table of lengths: to 1e-5).

        (r cos t, y, r sin t),   r = pitch t / (2 pi),   t from 3/2 pi to 9/2 pi,   y from 0 to width

    It can be shrunk to a point; a Rips complex knows as long as it does not join one layer to the next, `pitch` further out
    (measured: up to 0.95 pitch).

    Args:
        num: number of points, >= 1.
        key: of the points.
        pitch: from one layer to the next, > 0, in any unit.
        width: of the strip, > 0.
        even: spread by farthest-point sampling out of sixteen times as many.
        dtype: of the points.

    Raises:
        ValueError, TypeError: arguments that make no sense.

    Example:
        >>> import jax, eqdyn as eq
        >>> eq.shapes.swiss_roll(100, key=jax.random.key(0)).points.shape
        (100, 3)
    """
    dtype, pitch, width = request(num, key, dtype), length(pitch, "pitch"), length(width, "width")
    whole = float(spiral()[0][-1])
    interval = across(num, width * pitch / (2 * math.pi) * whole, 0.95 * pitch, dim=2, even=even, factor=BOUNDED)
    return Shape(sample(_roll, num, key, dtype, pitch, width, even=even), (1, 0, 0), "swiss roll", interval)


def sphere(num: int, *, key: Key, dim: int = 3, radius: float = 1.0, even: bool = False, dtype: Any = jnp.float32) -> Shape:
    """The 2-sphere in R^dim, through a random orthonormal 3-frame (the paper's start on MNIST), uniform by area.

    Its Rips complexes stay a sphere up to `sqrt(8/3) radius` = 1.63 radius, the edge of the regular tetrahedron inside; the
    interval ends at 1.5 radius.

    Args:
        num: number of points, >= 1.
        key: of points and frame.
        dim: dimension of the space, >= 3.
        radius: > 0, in any unit.
        even: a Fibonacci lattice in place of points drawn uniformly by area. A few hundred drawn points leave gaps wider than
            a quarter of the diameter, evenly spaced ones do not.
        dtype: of the points.

    Raises:
        ValueError, TypeError: arguments that make no sense.

    Example:
        >>> import jax, eqdyn as eq
        >>> eq.shapes.sphere(256, key=jax.random.key(0), dim=74).points.shape
        (256, 74)

    References:
        Yang et al., arXiv:2510.02670, section 6; Adamaszek, Adams, Frick, "Metric reconstruction via optimal transport" (2018).
    """
    dtype, radius = request(num, key, dtype), length(radius, "radius")
    _checks.count(dim, "dim", least=3)
    flag(even, "even")
    of_points, of_frame = jax.random.split(key)
    if even:
        height = 1 - (2 * jnp.arange(num, dtype=dtype) + 1) / num
        turn = jnp.pi * (3 - 5**0.5) * jnp.arange(num, dtype=dtype)
        ring = jnp.sqrt(1 - height**2)
        unit = jnp.stack([ring * jnp.cos(turn), ring * jnp.sin(turn), height], 1)
    else:
        v = jax.random.normal(of_points, (num, 3), dtype)
        unit = v / jnp.linalg.norm(v, axis=1, keepdims=True)
    frame, _ = jnp.linalg.qr(jax.random.normal(of_frame, (dim, 3), dtype))
    interval = across(num, 4 * math.pi * radius**2, 1.5 * radius, dim=2, even=even, factor=CLOSED)
    return Shape(radius * unit @ frame.T, (1, 0, 1), "sphere", interval)


def torus(num: int, *, key: Key, radius: float = 1.0, tube: float = 0.5, even: bool = False, dtype: Any = jnp.float32) -> Shape:
    """The torus in R^3, uniform by area: the angle of the tube has density 1 + (tube / radius) cos.

        ((radius + tube cos s) cos t, (radius + tube cos s) sin t, tube sin s)

    Upper end of the interval: `sqrt(3) min(tube, radius - tube)`, where the loop round the tube or the one round the hole
    closes (measured; tube near radius / 2 leaves most room).

    Args:
        num: number of points, >= 1.
        key: of the points.
        radius: of the circle in the middle of the tube, > tube, in any unit.
        tube: radius of the tube, > 0.
        even: spread by farthest-point sampling out of sixteen times as many.
        dtype: of the points.

    Raises:
        ValueError, TypeError: arguments that make no sense.

    Example:
        >>> import jax, eqdyn as eq
        >>> eq.shapes.torus(400, key=jax.random.key(0)).betti
        (1, 2, 1)

    References:
        Diaconis, Holmes, Shahshahani, "Sampling from a manifold" (2013).
    """
    dtype, radius, tube = request(num, key, dtype), length(radius, "radius"), length(tube, "tube")
    smaller(tube, radius, ("tube", "radius"))
    x = sample(_torus, num, key, dtype, radius, tube, even=even)
    high = math.sqrt(3) * min(tube, radius - tube)
    return Shape(x, (1, 2, 1), "torus", across(num, 4 * math.pi**2 * radius * tube, high, dim=2, even=even, factor=CLOSED))


def double_torus(
    num: int, *, key: Key, radius: float = 1.0, tube: float = 0.5, apart: float = 2.0, even: bool = False, dtype: Any = jnp.float32
) -> Shape:
    """A closed surface of genus 2 in R^3, uniform by area: the boundary of the union of two solid tori in the plane z = 0.

        min(f(x + apart/2, y, z), f(x - apart/2, y, z)) = tube^2,   f(x, y, z) = (sqrt(x^2 + y^2) - radius)^2 + z^2

    Smooth but for a crease on x = 0, where the two meet. Drawn on the two tori and kept where it lies on the union's boundary.
    Upper end of the interval: as for the torus, with half the height of the neck in place of tube.

    Args:
        num: number of points, >= 1.
        key: of the points.
        radius: of the circles in the middle of the tubes, > tube, in any unit.
        tube: radius of the tubes, > 0.
        apart: distance between the centres, in [2 radius, 2 (radius + tube)).
        even: spread by farthest-point sampling out of sixteen times as many.
        dtype: of the points.

    Raises:
        ValueError, TypeError: arguments that make no sense.

    Example:
        >>> import jax, eqdyn as eq
        >>> eq.shapes.double_torus(100, key=jax.random.key(0)).betti
        (1, 4, 1)
    """
    dtype = request(num, key, dtype)
    radius, tube, apart = two_tori(radius, tube, apart)
    x = sample(_double_torus, num, key, dtype, radius, tube, apart, even=even)
    high = math.sqrt(3) * min(math.sqrt(tube**2 - (apart / 2 - radius) ** 2), radius - tube)
    return Shape(x, (1, 4, 1), "double torus", across(num, 8 * math.pi**2 * radius * tube, high, dim=2, even=even, factor=CLOSED))


def spiral() -> tuple[np.ndarray, np.ndarray]:
    """The length of the spiral r = t up to each of many angles, and those angles."""
    turn = np.linspace(*ROLL, NODES + 1)
    run = (turn * np.sqrt(1 + turn**2) + np.arcsinh(turn)) / 2
    return run - run[0], turn


def two_tori(radius: Any, tube: Any, apart: Any) -> tuple[float, float, float]:
    radius, tube, apart = length(radius, "radius"), length(tube, "tube"), length(apart, "apart")
    smaller(tube, radius, ("tube", "radius"))
    if not 2 * radius <= apart < 2 * (radius + tube):
        msg = f"apart: got {apart}; expected a number in [2 radius, 2 (radius + tube)) = [{2 * radius:g}, {2 * (radius + tube):g}), genus 2."
        raise ValueError(msg)
    return radius, tube, apart


@compiled
def _ring(num: int, key: Key, dtype: Any, inner: Any, outer: Any) -> jax.Array:
    u = jax.random.uniform(key, (2, num), dtype)
    t, r = 2 * jnp.pi * u[0], jnp.sqrt(inner**2 + (outer**2 - inner**2) * u[1])
    return jnp.stack([r * jnp.cos(t), r * jnp.sin(t)], 1)


@compiled
def _roll(num: int, key: Key, dtype: Any, pitch: Any, width: Any) -> jax.Array:
    run, turn = spiral()
    u = jax.random.uniform(key, (2, num), dtype)
    t = jnp.interp(u[0], jnp.asarray(run / run[-1], dtype), jnp.asarray(turn, dtype))
    r = pitch / (2 * jnp.pi) * t
    return jnp.stack([r * jnp.cos(t), width * u[1], r * jnp.sin(t)], 1)


@compiled
def _torus(num: int, key: Key, dtype: Any, radius: Any, tube: Any) -> jax.Array:
    of_angles, of_tilt = jax.random.split(key)
    s, t = 2 * jnp.pi * jax.random.uniform(of_angles, (2, num), dtype)
    out = radius + tube * tilted(jnp.cos(s), tube / radius, of_tilt)
    return jnp.stack([out * jnp.cos(t), out * jnp.sin(t), tube * jnp.sin(s)], 1)


@compiled
def _double_torus(num: int, key: Key, dtype: Any, radius: Any, tube: Any, apart: Any) -> jax.Array:
    of_side, of_points = jax.random.split(key)
    x, y, z = _torus(room(num), of_points, dtype, radius, tube).T
    left = accepted(jnp.stack([x - apart / 2, y, z], 1), x <= apart / 2, num)
    side = jnp.where(jax.random.bernoulli(of_side, 0.5, (num,)), jnp.ones(num, dtype), -jnp.ones(num, dtype))
    return left.at[:, 0].multiply(side)
