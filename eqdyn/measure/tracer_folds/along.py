"""How much the step map stretches a mesh along itself: cusps of the set."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from eqdyn import _checks
from eqdyn._differences import power_of_two
from eqdyn._types import Points
from eqdyn.measure._meshes import checked
from eqdyn.measure.tracer_folds.velocity import Velocity, partial
from eqdyn.shapes import Mesh


class TangentStretch(NamedTuple):
    """How much the step map stretches a mesh along itself.

    Attributes:
        value: the smallest `|(I + eta T) tau|` over the edges, no unit; 0 is a cusp of the set. NaN if it is not finite at some edge.
        edge: the edge that attains it, or the first of those.
        place: `(d,)` its midpoint.
        stretch: `(k,)` for every edge.
    """

    value: float
    edge: int
    place: np.ndarray
    stretch: np.ndarray


def tangent_stretch(velocity: Velocity, mesh: Mesh, eta: Any = 1.0) -> TangentStretch:
    """How much the step map stretches a mesh along its edges, `|(I + eta T) tau|` with tau the unit tangent of an edge at its midpoint.

    EXACT for the polygon's edges, an estimate of the curve's tangents. 0 is a cusp: the curve stops and turns back there, though
    no two of its points need to meet and the step map need not fold across it.

    Args:
        velocity: `(m, d) -> (m, d)`, row by row.
        mesh: a curve, or the edges of a surface, where it now lies: `mesh._replace(points=run.tracers)`.
        eta: step size, > 0.

    Returns:
        `TangentStretch(value, edge, place, stretch)`; edges of no length count as infinite, in the dtype of the points.

    Raises:
        ValueError, TypeError: arguments that do not fit.

    Example:
        >>> import eqdyn as eq
        >>> mesh = eq.shapes.mesh.circle(64)
        >>> found = eq.measure.tangent_stretch(lambda y: -y, mesh, eta=0.75)
        >>> round(found.value, 6)
        0.25

    References:
        derived.
    """
    checked(mesh)
    _checks.step_size(eta)
    y = _checks.points(mesh.points, "mesh.points")
    place, tau, point = _tangents(y, jnp.asarray(mesh.edges))
    stretch = np.asarray(_stretched(partial(velocity, place), place, tau, jnp.asarray(eta, y.dtype)))
    stretch = np.where(np.asarray(point), np.inf, stretch)
    edge = int(np.argmin(stretch))
    return TangentStretch(float(stretch[edge]), edge, np.asarray(place)[edge], stretch)


@jax.jit
def _stretched(velocity: Partial, y: Points, tau: Points, eta: jax.Array) -> jax.Array:
    return jnp.linalg.norm(tau + eta * jax.jvp(velocity, (y,), (tau,))[1], axis=1)


@jax.jit
def _tangents(y: Points, edges: jax.Array) -> tuple[Points, Points, jax.Array]:
    """Midpoints, unit tangents, and which edges have no length; they are scaled first, so that no square overflows or vanishes."""
    a, b = y[edges[:, 0]], y[edges[:, 1]]
    half = b / 2 - a / 2
    largest = jnp.max(jnp.abs(half), axis=1, keepdims=True)
    along = half / power_of_two(largest)
    length = jnp.linalg.norm(along, axis=1, keepdims=True)
    return a / 2 + b / 2, along / jnp.where(length == 0, 1, length), (largest == 0)[:, 0]
