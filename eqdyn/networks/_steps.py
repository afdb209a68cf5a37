"""What a step did to the particles of every group, compiled: one pass over all pairs from the places before and after."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from eqdyn import geometry
from eqdyn._types import Points, Tree
from eqdyn.groups import Group
from eqdyn.measure.coincidence import count_merges

_FLOOR = 4  # roundings of the places after the step that a distance must exceed, as in `eq.certify`


class StepRecord(NamedTuple):
    """What one step did to the particles of one group. No unit.

    Fields:
        q: `max |(x_i'-x_j') - (x_i-x_j)| / |x_i-x_j|`, `eta K_pair` of the step; below 1 it merged nobody.
        q_at: its pair.
        eta_mu: the same, counting only what closes in; below 1 likewise.
        stretch_min, stretch_max: extreme stretches of the step.
        unresolved: pairs that rounding may have parted.
        merged: distinct particles that became one.
    """

    q: Any
    q_at: Any
    eta_mu: Any
    stretch_min: Any
    stretch_max: Any
    unresolved: Any
    merged: Any


@functools.partial(jax.jit, static_argnums=0)
def particles_of(groups: tuple[tuple[str, Group], ...], params: Tree) -> dict[str, Points]:
    return {name: group.particles(params) for name, group in groups}


@jax.jit
def seen(after: dict[str, Points], before: dict[str, Points]) -> dict[str, StepRecord]:
    return {name: _step(before[name], after[name]) for name in before}


def _step(x: Points, y: Points) -> StepRecord:
    found = geometry.moved(x, y, _FLOOR * float(jnp.finfo(x.dtype).eps))
    met = geometry.num_places(geometry.labels(y)) < x.shape[0]
    merged = jax.lax.cond(met, lambda: count_merges(x, y).merged, lambda: jnp.zeros((), jnp.int32))
    return StepRecord(found.q, found.q_at, found.closing, found.low, found.high, found.num_unresolved, merged)


@jax.jit
def since(start: dict[str, Points], now: dict[str, Points]) -> dict[str, tuple[jax.Array, jax.Array]]:
    found = {name: geometry.stretch(start[name], now[name]) for name in now}
    return {name: (one.low, one.high) for name, one in found.items()}
