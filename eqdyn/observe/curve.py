"""A curve carried along by tracers, step by step: how its edges stretch, and where it bends."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from eqdyn import _checks
from eqdyn._value import Constant, bind
from eqdyn.measure._meshes import checked
from eqdyn.measure.tracer_mesh import local
from eqdyn.observer import Frame, Observer, recorder
from eqdyn.shapes import Mesh


class CurveStep(NamedTuple):
    """Of one step.

    Fields:
        shrink: the least length after over length before of an edge, no unit.
        grow: the largest.
        turn: by how many degrees the curve turns most, after the step; 180 turns back.
    """

    shrink: jax.Array
    grow: jax.Array
    turn: jax.Array


def tracer_curve(mesh: Mesh, *, stride: int = 1) -> Observer:
    """Records what every step does to a curve that the run's tracers carry: its edges' stretch and its sharpest turn. Read as a `Series`.

    Up to rounding exact for the polygon; DIAGNOSTIC for the curve, of which nothing is known between the mesh's points. `measure.mesh_change`
    also finds where the curve meets itself, between two placements. Device; time O(m) a record.

    Args:
        mesh: a curve of `eq.shapes.mesh`, or of your own, whose points were given to `simulate` as `tracers`.
        stride: in steps.

    Returns:
        An observer of `CurveStep(shrink, grow, turn)`, each `(t,)`; 0/0, NaN, where an edge had no length.

    Raises:
        ValueError, TypeError: no mesh, or one with faces; when the run starts, a run without tracers, or with others.

    Example:
        >>> import eqdyn as eq
        >>> mesh = eq.shapes.mesh.circle(64)
        >>> watch = {"curve": eq.observe.tracer_curve(mesh)}
        >>> run = eq.simulate(eq.rules.consensus(), mesh.points, eta=0.5, num_steps=1, tracers=mesh.points, observe=watch)
        >>> seen = run.observed["curve"].values
        >>> round(float(seen.shrink[0]), 4), round(float(seen.turn[0]), 1)              # a circle half as large; 360/64 degrees a point
        (0.5, 5.6)

    References:
        derived.
    """
    checked(mesh)
    if len(mesh.faces):
        msg = f"mesh: got one with {len(mesh.faces)} faces; expected a curve; write eq.measure.mesh_change for a surface."
        raise ValueError(msg)
    _checks.count(stride, "stride", least=1)
    at = local.passages(mesh, np.asarray(mesh.points, np.float64))
    return recorder(bind(_read, Constant(np.asarray(mesh.edges)), Constant(at), len(mesh.points)), stride=stride)


def _read(edges: Any, at: Any, num: int, frame: Frame) -> CurveStep:
    if frame.tracers is None or frame.tracers.shape[0] != num:
        what = "none" if frame.tracers is None else f"{frame.tracers.shape[0]}"
        msg = f"tracers: got {what}; expected the {num} points of the mesh; write simulate(..., tracers=mesh.points)."
        raise ValueError(msg)
    before, after = (_lengths(y, edges.value) for y in (frame.tracers, frame.tracers_next))
    ratio = after / before
    here, *ends = (_rows(frame.tracers_next, at.value[:, k]) for k in range(3))
    one, other = ((v := end - here) / jnp.linalg.norm(v, axis=1, keepdims=True) for end in ends)
    # of the halves of sum and difference: accurate near 0 and near 180 degrees; the angle grows with their ratio
    up, down = (jnp.sum(v * v, axis=1) for v in (one + other, one - other))
    most = jnp.argmax(up / down)
    turn = 2 * jnp.arctan2(jnp.sqrt(up[most]), jnp.sqrt(down[most]))
    return CurveStep(jnp.min(ratio), jnp.max(ratio), jnp.degrees(turn))


def _lengths(y: jax.Array, edges: np.ndarray) -> jax.Array:
    return jnp.linalg.norm(_rows(y, edges[:, 1]) - _rows(y, edges[:, 0]), axis=1)


def _rows(y: jax.Array, at: np.ndarray) -> jax.Array:
    """`y[at]`, from slices where the rows follow one another, as along most curves: rows one by one take longer."""
    starts = [0, *(np.flatnonzero(np.diff(at) != 1) + 1), len(at)]
    if len(starts) > 16:
        return y[at]
    return jnp.concatenate([y[at[i] : at[j - 1] + 1] for i, j in itertools.pairwise(starts)])
