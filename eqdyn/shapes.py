"""Point clouds with known Betti numbers."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from eqdyn import _checks
from eqdyn._types import Key, Points


class Shape(NamedTuple):
    """A cloud and what is known of the set it was drawn from: `points` `(n, d)`, Betti numbers from degree 0, a name."""

    points: Points
    betti: tuple[int, ...]
    name: str


def circle(num: int, *, key: Key, radius: float = 1.0, dtype: Any = jnp.float32) -> Shape:
    """The circle in the plane, uniform by length.

    Example:
        >>> import jax, eqdyn as eq
        >>> eq.shapes.circle(100, key=jax.random.key(0)).betti
        (1, 1)
    """
    t = _angles(num, key, dtype)
    return Shape(radius * jnp.stack([jnp.cos(t), jnp.sin(t)], 1), (1, 1), "circle")


def figure_eight(num: int, *, key: Key, dtype: Any = jnp.float32) -> Shape:
    """The paper's 2-D start as its public code draws it: `w = 0.1 sin t - 2`, `a = sin 2t`, t uniform (not uniform by length).

    A figure eight in the (w, a) plane. The paper calls it a genus-2 surface; it is a curve with two loops.

    Example:
        >>> import jax, eqdyn as eq
        >>> eq.shapes.figure_eight(1024, key=jax.random.key(0)).betti
        (1, 2)

    References:
        Yang et al., arXiv:2510.02670, figure 3.
    """
    t = _angles(num, key, dtype)
    return Shape(jnp.stack([0.1 * jnp.sin(t) - 2, jnp.sin(2 * t)], 1), (1, 2), "figure eight")


def sphere(num: int, *, key: Key, dim: int = 3, radius: float = 1.0, even: bool = False, dtype: Any = jnp.float32) -> Shape:
    """The 2-sphere in R^dim, through a random orthonormal 3-frame (the paper's start on MNIST).

    Args:
        num: number of points.
        key: of points and frame.
        dim: dimension of the space, >= 3.
        radius: in any unit.
        even: a Fibonacci lattice in place of points drawn uniformly by area. A few hundred drawn points leave gaps wider than
            a quarter of the diameter, evenly spaced ones do not.
        dtype: of the points.

    Example:
        >>> import jax, eqdyn as eq
        >>> eq.shapes.sphere(256, key=jax.random.key(0), dim=74).points.shape
        (256, 74)

    References:
        Yang et al., arXiv:2510.02670, section 6.
    """
    _check(num, key)
    _checks.count(dim, "dim", least=3)
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
    return Shape(radius * unit @ frame.T, (1, 0, 1), "sphere")


def clusters(num: int, *, key: Key, count: int = 2, gap: float = 4.0, spread: float = 0.1, dim: int = 2, dtype: Any = jnp.float32) -> Shape:
    """Gaussian clusters in a row along the first axis, `gap` apart.

    Example:
        >>> import jax, eqdyn as eq
        >>> eq.shapes.clusters(60, key=jax.random.key(0), count=3).betti
        (3, 0)
    """
    _check(num, key)
    centres = gap * jnp.arange(count, dtype=dtype)[:, None] * jnp.eye(1, dim, dtype=dtype)
    return Shape(centres[jnp.arange(num) % count] + spread * jax.random.normal(key, (num, dim), dtype), (count, 0), f"{count} clusters")


def _check(num: int, key: Key) -> None:
    _checks.count(num, "num", least=1)
    _checks.needs_key(_checks.key(key), "the points are drawn")


def _angles(num: int, key: Key, dtype: Any) -> jax.Array:
    _check(num, key)
    return 2 * jnp.pi * jax.random.uniform(key, (num,), dtype)
