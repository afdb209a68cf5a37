"""A shape moved: into another space without stretching, or shaken."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from eqdyn import _checks
from eqdyn._types import Key
from eqdyn.shapes._shape import FAILS, Shape, length, span


def embed(shape: Shape, dim: int, *, key: Key) -> Shape:
    """The shape in R^dim, through a random orthonormal d-frame: an isometry, so Betti numbers and interval stay.

        y = x Q^T,   Q (dim, d) with orthonormal columns

    With `dim` equal to the dimension d of the points it is a random rotation or reflection. Distances are kept up to rounding.

    Args:
        shape: any `Shape`.
        dim: dimension of the space, >= d.
        key: of the frame.

    Raises:
        ValueError, TypeError: `dim` below that of the points, no `Shape`, no key.

    Example:
        >>> import jax, eqdyn as eq
        >>> of_points, of_frame = jax.random.split(jax.random.key(0))
        >>> eq.shapes.embed(eq.shapes.torus(400, key=of_points), 50, key=of_frame).points.shape
        (400, 50)
    """
    x = _points_of(shape)
    _checks.count(dim, "dim", least=x.shape[1])
    _checks.needs_key(_checks.key(key), "the frame is drawn")
    frame, _ = jnp.linalg.qr(jax.random.normal(key, (dim, x.shape[1]), x.dtype))
    return shape._replace(points=x @ frame.T)


def jitter(shape: Shape, sigma: float, *, key: Key) -> Shape:
    """The shape with Gaussian noise of standard deviation `sigma` on every coordinate.

        interval (low + c, high - c),   c = sqrt(2) sigma (sqrt(d) + sqrt(2 log(50 n^2)))

    No distance between two points changes by more than c in all but 1 % of draws, so every class of the set that lives
    from `low` to `high` lives there still (stability of Rips filtrations). Noise may add bars of its own, none longer than
    2 c. In many dimensions all distances grow: embed after the noise where noise should stay on the set's own space.

    Args:
        shape: any `Shape`.
        sigma: > 0, in the unit of the points.
        key: of the noise.

    Raises:
        ValueError, TypeError: `sigma` not positive, no `Shape`, no key.

    Example:
        >>> import jax, eqdyn as eq
        >>> of_points, of_noise = jax.random.split(jax.random.key(0))
        >>> shape = eq.shapes.jitter(eq.shapes.circle(100, key=of_points), 0.01, key=of_noise)
        >>> shape.betti, shape.name
        ((1, 1), 'circle, jittered')

    References:
        Chazal, de Silva, Oudot, "Persistence stability for geometric complexes" (2014).
    """
    x, sigma = _points_of(shape), length(sigma, "sigma")
    _checks.needs_key(_checks.key(key), "the noise is drawn")
    num, dim = x.shape
    moved = math.sqrt(2) * sigma * (math.sqrt(dim) + math.sqrt(2 * math.log(num**2 / 2 / FAILS)))
    interval = None if shape.interval is None else span(shape.interval[0] + moved, shape.interval[1] - moved)
    x = x + sigma * jax.random.normal(key, x.shape, x.dtype)
    return shape._replace(points=x, name=f"{shape.name}, jittered", interval=interval)


def _points_of(shape: Any) -> jax.Array:
    if not isinstance(shape, Shape):
        msg = f"shape: got {type(shape).__name__}; expected an eq.shapes.Shape; write eq.shapes.Shape(points, betti, name)."
        raise TypeError(msg)
    return _checks.points(shape.points, "shape.points")
