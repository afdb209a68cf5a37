"""Measures recorded along a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from eqdyn import geometry, groups
from eqdyn._types import Points, Tree
from eqdyn._value import bind
from eqdyn.measure.coincidence import count_merges
from eqdyn.measure.sharpness import sharpness_of
from eqdyn.observer import Frame, Observer, Series, recorder, series_like
from eqdyn.rule import Rule


class PairRecord(NamedTuple):
    """Of one step: `q = eta * K_pair` (below 1: nobody merged), `eta_mu = eta * mu`, and the pair that attains q. No unit."""

    q: jax.Array
    eta_mu: jax.Array
    at: jax.Array


class StretchRecord(NamedTuple):
    """Range of the stretch since the first observed step. No unit."""

    low: jax.Array
    high: jax.Array


class SharpnessRecord(NamedTuple):
    """`eta * lambda_max` and its residual, an estimate. No unit."""

    eta_lambda: jax.Array
    residual: jax.Array


def each(measure: Callable, group: Any, stride: int, leaving: Callable | None = None) -> Observer:
    """Records `measure(group, frame)`; for a dict of groups a dict of answers."""
    if isinstance(group, Mapping):
        return recorder(bind(_by_name, measure, tuple(sorted(group.items()))), stride=stride, leaving=leaving)
    return recorder(bind(measure, group), stride=stride, leaving=leaving)


def _by_name(measure: Callable, named: tuple[tuple[str, Any], ...], frame: Frame) -> dict[str, Tree]:
    return {name: measure(group, frame) for name, group in named}


def _rows(group: Any, tree: Tree) -> Points:
    return (groups.rows(tree) if group is None else group).particles(tree)


def pair_constants(*, group: Any = None, stride: int = 1) -> Observer:
    """Records `PairRecord(q, eta_mu, at)`: `q = eta * K_pair` of the step; exact, and below 1 a certificate that nobody merged.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> run = eq.simulate(eq.rules.consensus(), jnp.array([[0.0], [4.0]]), eta=0.5, num_steps=3, observe={"pairs": eq.observe.pair_constants()})
        >>> run.observed["pairs"].values.q.tolist()
        [0.5, 0.5, 0.5]
    """
    return each(_pairs, group, stride)


def _pairs(group: Any, frame: Frame) -> PairRecord:
    found = geometry.pair_constants(_rows(group, frame.x), _rows(group, frame.u))
    eta = frame.eta.astype(found.k_pair.dtype)
    return PairRecord(eta * found.k_pair, eta * found.mu, found.k_pair_at)


def atoms(*, group: Any = None, stride: int = 1) -> Observer:
    """Records the number of distinct places before the step. Exact."""
    return each(_atoms, group, stride)


def _atoms(group: Any, frame: Frame) -> jax.Array:
    return geometry.atoms(_rows(group, frame.x)).num_atoms


def merges(*, group: Any = None, stride: int = 1) -> Observer:
    """Records how many distinct places each observed step made one (parameters only: see `measure.merges`). Exact."""
    return each(_merges, group, stride)


def _merges(group: Any, frame: Frame) -> jax.Array:
    return count_merges(_rows(group, frame.x), _rows(group, frame.x_next)).merged


def sharpness(rule: Rule, *, stride: int = 1, num_iters: int = 20) -> Observer:
    """Records `eta * lambda_max` on the batch of the step, an estimate from below; `rule` is the gradient rule that is watched."""
    return recorder(bind(_sharpness, rule, num_iters), stride=stride)


def _sharpness(rule: Rule, num_iters: int, frame: Frame) -> SharpnessRecord:
    found = sharpness_of(rule, num_iters, frame.x, frame.state, frame.data)
    eta = frame.eta.astype(found.value.dtype)
    return SharpnessRecord(eta * found.value, eta * found.residual)


def configuration(*, group: Any = None, stride: int = 1) -> Observer:
    """Records the particles `(n, d)` before the step; mind the memory."""
    return each(particles_of, group, stride)


def particles_of(group: Any, frame: Frame) -> Points:
    """The particles before the step."""
    return _rows(group, frame.x)


def stretch(*, group: Any = None, stride: int = 1) -> Observer:
    """Records `StretchRecord(low, high)`: how far distances have changed since the first observed step, up to after the step. Exact."""
    return Observer(bind(_stretch_init, group), bind(_stretch_update, group), _stretch_read, stride)


def _stretch_init(group: Any, frame: Frame) -> tuple[Points, Series]:
    start = _rows(group, frame.x)
    one = jnp.ones((), start.dtype)
    return start, series_like(StretchRecord(one, one))


def _stretch_update(group: Any, carry: tuple[Points, Series], frame: Frame) -> tuple[Points, Series]:
    start, series = carry
    found = geometry.stretch(start, _rows(group, frame.x_next))
    return start, series.append(frame.step, StretchRecord(found.low, found.high))


def _stretch_read(carry: tuple[Points, Series]) -> Series:
    return carry[1]
