"""Density: how a run thins and crowds the space that its particles move in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from eqdyn import _checks
from eqdyn._lifted import lifted_rows, tracer_state
from eqdyn._types import Points, Tree
from eqdyn._value import Constant, bind
from eqdyn.observe._tangent import for_groups, frozen, increment, plus, recorded, rows_of, runs
from eqdyn.observer import Frame, Observer, Series, series_like
from eqdyn.rule import Rule, add
from eqdyn.transverse import DENSE_BYTES, dense


class TracerDensity(NamedTuple):
    """Of the tracers: their `places` `(m, d)` after the last step, and the fields of `Density`."""

    places: np.ndarray
    log_det: np.ndarray
    reversals: np.ndarray

    @property
    def density(self) -> np.ndarray:
        """At each tracer's place, relative to the density where it started, `(m,)`; see `Density.density`."""
        return _relative(self.log_det)


class Density(NamedTuple):
    """Volume around every particle, relative to the start. With lanes every array has the lane axis in front.

    Fields:
        log_det: `(n,)`, the sum over the steps of `log |det(I + eta T_i)|`, in nats. Minus infinity: a volume became flat.
        reversals: `(n,)`, at how many steps the determinant was negative; odd: turned over. Twice turned over is not unfolded.
        steps: how many were taken.
        series: the running `log_det`, `.steps` and `.values` (with tracers a pair, particles and tracers), each up to after the step.
        tracers: None, or `TracerDensity(places, log_det, reversals)`.
    """

    log_det: np.ndarray
    reversals: np.ndarray
    steps: np.ndarray
    series: Series
    tracers: TracerDensity | None

    @property
    def density(self) -> np.ndarray:
        """Density that moves along, relative to the start, `exp(-log_det)` `(n,)`. Where the step map is not injective several sheets
        lie over one place, and this is the share of one of them.
        """
        return _relative(self.log_det)


def _relative(log_det: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return np.exp(-log_det)


class _Ledger(NamedTuple):
    total: jax.Array
    lost: jax.Array
    reversals: jax.Array


class _Carry(NamedTuple):
    particles: _Ledger
    tracers: _Ledger | None
    y: Tree
    y_state: Tree
    steps: jax.Array
    alive: jax.Array
    series: Series


def density(
    rule: Rule | Mapping[str, Rule], *, group: Any = None, tracers: Any = None, stride: int = 1, lifted: bool = True
) -> Observer:  # fmt: skip
    """Carries the density of particles through every step by the change of variables of the step map; read as `Density`.

        rho_t(x_i(t)) = rho_0(x_i(0)) exp(-sum_t log |det(I + eta_t T_i(t))|)

    Exact up to rounding (d roundings a step), at the particles and at tracers, which the observer moves itself. `log_det` is also the
    sum of all transverse exponents times the steps. Says nothing of sheets that are folded over each other: see `reversals`, and
    `measure.transverse` for folds that the sign of the determinant does not show.

    Args:
        rule: the rule that is simulated; it needs a probe, and must not draw (a frame has no key). For a dict of groups one rule,
            or one a group with the field of that group.
        group: None for rows, a `Group`, or a dict of them, for a dict of answers.
        tracers: None, or `(m, d)`, the same in every lane (a dict of them for a dict of groups).
        stride: of the recorded series, in steps; the ledger itself sees every step.
        lifted: volumes of particles with their optimizer's state, the density in the lifted space. False: the state held fixed.

    Raises:
        ValueError: a rule without probe, or that draws (at the first step); tracers that do not fit.
        TypeError: particles in a dtype of 16 bits (when the run starts).
        MemoryError: the matrices of all particles, or of all tracers, would exceed `eqdyn.transverse.DENSE_BYTES`.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> rule = eq.rules.weight_decay(eq.rules.consensus(), decay=0.25)
        >>> watch = {"density": eq.observe.density(rule, tracers=jnp.array([[1.0, 1.0]]))}
        >>> run = eq.simulate(rule, jnp.array([[0.0, 0.0], [4.0, 0.0]]), eta=0.4, num_steps=2, observe=watch)
        >>> found = run.observed["density"]
        >>> found.density.round(4).tolist(), found.tracers.density.round(4).tolist()       # (1 - 0.4 * 1.25) ** -(2 * 2)
        ([16.0, 16.0], [16.0])

    References:
        Yang et al., arXiv:2510.02670, theorem 2 (the measure pushed forward); the change of variables is derived.
    """
    stride = _checks.count(stride, "stride", least=1)
    if isinstance(group, Mapping) and tracers is not None and set(tracers) != set(group):
        msg = f"tracers: got tracers for {sorted(tracers)}; expected one array for each of {sorted(group)}."
        raise ValueError(msg)

    def make(rule: Rule, one: Any, name: str | None) -> Observer:
        given = None if tracers is None else _checks.points(tracers if name is None else tracers[name], "tracers")
        _checks.finite(given, "tracers")
        places = None if given is None else Constant(given)
        return Observer(bind(_init, rule, one, places, lifted), bind(_update, rule, one, lifted, stride), _read, 1)

    return for_groups(rule, group, make)


def _init(rule: Rule, group: Any, places: Constant | None, lifted: bool, frame: Frame) -> _Carry:
    one = rows_of(group, frame.x)
    x = one.particles(frame.x)
    if jnp.finfo(x.dtype).bits < 32:
        msg = f"observe.density: got particles in {x.dtype}; expected float32 or float64; write x0.astype('float32')."
        raise TypeError(msg)
    y = y_state = None
    if places is not None:
        if places.value.shape[1] != x.shape[1] or places.value.dtype != x.dtype:
            msg = f"tracers: got {places.value.shape} {places.value.dtype}; expected (m, {x.shape[1]}) {x.dtype}, one tracer a row."
            raise ValueError(msg)
        y = jnp.asarray(places.value)
        y_state = rule.init(y)
    width = lifted_rows(one, frame.x, frame.state).shape[1] if lifted else x.shape[1]
    most = max(len(x), 0 if y is None else len(y))
    instead = "give fewer tracers, or watch observe.lyapunov, which needs no matrices"
    _checks.fits_budget(most * width**2 * x.dtype.itemsize, DENSE_BYTES, "density", instead)
    particles, tracers = _blank(len(x), x.dtype), None if y is None else _blank(len(y), x.dtype)
    series = series_like(particles.total if tracers is None else (particles.total, tracers.total))
    return _Carry(particles, tracers, y, y_state, jnp.zeros((), jnp.int32), jnp.ones((), bool), series)


def _blank(num: int, dtype: Any) -> _Ledger:
    return _Ledger(jnp.zeros((num,), dtype), jnp.zeros((num,), dtype), jnp.zeros((num,), jnp.int32))


def _update(rule: Rule, group: Any, lifted: bool, stride: int, carry: _Carry, frame: Frame) -> _Carry:
    one = rows_of(group, frame.x)
    x = one.particles(frame.x)
    eta = frame.eta.astype(x.dtype)

    def determinants(y: Points, y_state: Tree) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        z, change = frozen(rule, y, y_state, frame, lifted=lifted)
        _, along = jax.linearize(change, z)
        num, width = z.shape
        found = _sign_and_log(dense(lambda v: v + increment(eta, v, along(v)), num, width, z.dtype))
        return runs(frame, z, change, carry.alive), found

    alive, found = determinants(x, tracer_state(one, frame.x, frame.state))
    particles, tracers, y, y_state = _entered(carry.particles, *found, alive), carry.tracers, carry.y, carry.y_state
    if tracers is not None:
        tracers = _entered(tracers, *determinants(y, y_state)[1], alive)
        moved = rule.probe(y, y_state, frame.x, frame.state, frame.data)  # type: ignore[misc]
        y, y_state = jax.tree.map(lambda new, old: jnp.where(alive, new, old), (add(y, eta, moved.u), moved.state), (y, y_state))
    value = particles.total if tracers is None else (particles.total, tracers.total)
    return _Carry(particles, tracers, y, y_state, carry.steps + alive.astype(jnp.int32), alive, recorded(carry.series, frame, stride, value))


def _sign_and_log(matrices: jax.Array) -> tuple[jax.Array, jax.Array]:
    if matrices.shape[1] == 1:
        flat = matrices[:, 0, 0]
        return jnp.sign(flat), jnp.log(jnp.abs(flat))
    return jnp.linalg.slogdet(matrices)


def _entered(ledger: _Ledger, sign: jax.Array, log: jax.Array, alive: jax.Array) -> _Ledger:
    total, lost = plus(ledger.total, ledger.lost, log)
    new = _Ledger(total, lost, ledger.reversals + (sign < 0).astype(jnp.int32))
    return jax.tree.map(lambda a, b: jnp.where(alive, a, b), new, ledger)


def _read(carry: _Carry) -> Density:
    (log_det, _, reversals), tracers = carry.particles, None
    if carry.tracers is not None:
        tracers = TracerDensity(np.asarray(carry.y), np.asarray(carry.tracers.total), np.asarray(carry.tracers.reversals))
    return Density(np.asarray(log_det), np.asarray(reversals), np.asarray(carry.steps), carry.series, tracers)
