"""Closest approach along a run: when the named pairs were nearest to each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from eqdyn import _checks
from eqdyn._types import Tree
from eqdyn._value import Constant, bind
from eqdyn.observe.along import _rows
from eqdyn.observer import Frame, Observer, Series, series_like


class Approach(NamedTuple):
    """Of each named pair: when it was closest. Shapes () for one pair, `(k,)` for k; with lanes the lane axis in front.

    Fields:
        step: how many steps had been taken when the pair was closest (the first time, if more than once).
        distance: its distance then, [x].
        stretch: that distance over the first one seen, no unit; NaN for a pair that began coincident.
        series: the distance before every observed step, `.steps` and `.values`.
    """

    step: jax.Array
    distance: jax.Array
    stretch: jax.Array
    series: Series


class _Carry(NamedTuple):
    start: jax.Array
    step: jax.Array
    distance: jax.Array
    series: Series


def closest(pair: Any, *, group: Any = None, stride: int = 1) -> Observer:
    """Records the distance of named pairs, and keeps when each was closest: read as `Approach(step, distance, stretch, series)`.

    Exact for the configurations that were seen: those before and after every observed step, with stride 1 all of the run. Distances
    are taken from differences. See `measure.closest` for where within a step, or beyond it, a pair comes closest.

    Args:
        pair: `(i, j)`, or `(k, 2)` of them.
        group: None for rows, or the `Group` whose particles are meant.
        stride: in steps.

    Raises:
        ValueError, TypeError: no pairs of particles; a dict of groups. Indices are held against the particles when the run starts.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> rule = eq.rules.from_function(lambda x: jnp.array([[1.0], [0.0]]))            # the first passes the second
        >>> watch = {"meeting": eq.observe.closest((0, 1))}
        >>> found = eq.simulate(rule, jnp.array([[0.0], [2.5]]), eta=1.0, num_steps=5, observe=watch).observed["meeting"]
        >>> int(found.step), float(found.distance), found.series.values.tolist()
        (2, 0.5, [2.5, 1.5, 0.5, 0.5, 1.5])
    """
    if isinstance(group, Mapping):
        msg = "group: got a dict; expected one Group, since a pair names two of its particles; write one observer a group."
        raise TypeError(msg)
    named = Constant(_checks.pairs(pair))
    return Observer(bind(_init, named, group), bind(_update, named, group), _read, stride)


def _distance(named: Constant, group: Any, tree: Tree) -> jax.Array:
    x = _rows(group, tree)
    pair = _checks.pairs(named.value, x.shape[0])
    dx = x[pair[..., 0]] - x[pair[..., 1]]
    # over the largest coordinate: squares neither overflow nor vanish
    unit = jnp.max(jnp.abs(dx), axis=-1)
    return unit * jnp.linalg.norm(dx / jnp.where(unit > 0, unit, 1)[..., None], axis=-1)


def _init(named: Constant, group: Any, frame: Frame) -> _Carry:
    distance = _distance(named, group, frame.x)
    return _Carry(distance, jnp.full(distance.shape, frame.step, jnp.int32), distance, series_like(distance))


def _update(named: Constant, group: Any, carry: _Carry, frame: Frame) -> _Carry:
    before, after = (_distance(named, group, x) for x in (frame.x, frame.x_next))
    step, least = carry.step, carry.distance
    for taken, distance in ((frame.step, before), (frame.step + 1, after)):
        step = jnp.where(distance < least, jnp.asarray(taken, step.dtype), step)
        least = jnp.minimum(distance, least)
    return carry._replace(step=step, distance=least, series=carry.series.append(frame.step, before))


def _read(carry: _Carry) -> Approach:
    start = jnp.where(carry.start > 0, carry.start, jnp.nan)
    return Approach(carry.step, carry.distance, carry.distance / start, carry.series)
