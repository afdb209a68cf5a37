"""Transverse Lyapunov exponents: an infinitesimal pair at every particle, carried along a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from eqdyn import _checks
from eqdyn._lifted import lifted_rows, tracer_state
from eqdyn._types import Key, Points
from eqdyn._value import Constant, bind
from eqdyn.observe._tangent import for_groups, frozen, increment, plus, recorded, rows_of, runs
from eqdyn.observer import Frame, Observer, Series, series_like
from eqdyn.rule import Rule

_ABREAST = 16  # tangents that one product carries at a time


class Exponents(NamedTuple):
    """How far infinitesimal pairs were stretched, at every particle. With lanes every array has the lane axis in front.

    Fields:
        log_growth: `(n,)`, or `(n, num)`: log of the stretch over all steps, in nats. Minus infinity: a step took the whole pair
            together, and it stays so. NaN: the rule has no derivative there (Adam where a second moment is 0).
        steps: how many were taken; those of a lane that ended do not count from then on.
        series: the running log-growth, `.steps` and `.values`, each up to after the step.
        tangent: `(n, w)` or `(n, w, num)`, the unit tangents after the last step, w = d, or d + s with the state.
    """

    log_growth: np.ndarray
    steps: np.ndarray
    series: Series
    tangent: np.ndarray

    @property
    def exponent(self) -> np.ndarray:
        """Log-growth a step, in the shape of `log_growth`, in nats; NaN before the first step."""
        steps = self.steps.reshape(self.steps.shape + (1,) * (self.log_growth.ndim - self.steps.ndim))
        return np.where(steps > 0, self.log_growth / np.maximum(steps, 1), np.nan).astype(self.log_growth.dtype)

    @property
    def top(self) -> np.ndarray:
        """The exponent of the first tangent, `(n,)`: the top one, once it has turned into its direction."""
        return self._of_first(self.exponent)

    def _of_first(self, values: np.ndarray) -> np.ndarray:
        return values if values.ndim == self.steps.ndim + 1 else values[..., 0]

    @property
    def share_negative(self) -> np.ndarray:
        """Share of the particles whose first tangent shrank, one number a lane."""
        return np.mean(self.top < 0, axis=-1)

    def predicted_steps(self, tolerance: float, distance: float) -> np.ndarray:
        """Steps until a pair at `distance` is within `tolerance`, `log(tolerance / distance) / exponent`, `(n,)`; infinite where
        the exponent is not negative, NaN where it is. An estimate: it takes the future to be like the past, and the pair to be infinitesimal.
        """
        tolerance, distance = (_checks.number(value, name, above=0) for value, name in ((tolerance, "tolerance"), (distance, "distance")))
        ratio = min(np.log(tolerance / distance), 0.0)
        shrinks = self.top < 0
        steps = np.where(shrinks, ratio / np.where(shrinks, self.top, -1), 0.0 if ratio == 0 else np.inf) + 0.0
        return np.where(np.isnan(self.top), np.nan, steps)

    def summary(self) -> str:
        """Log-growth and the share of particles that gather their neighbours, in a line a lane."""
        first = self._of_first(self.log_growth)
        lines = []
        for lane, growth in enumerate(np.reshape(first, (-1, first.shape[-1]))):
            known = growth[~np.isnan(growth)]
            words = f"lane {lane}: " if self.steps.ndim else ""
            words += f"{growth.size} particles, {int(self.steps.reshape(-1)[lane])} steps"
            if known.size:
                # ordered, not interpolated: between infinities there is nothing to interpolate
                low, middle, high = (float(np.sort(known)[at]) for at in (0, known.size // 2, -1))
                words += f", log-growth {low:.3g} / {middle:.3g} / {high:.3g} (min / median / max), {np.mean(growth < 0):.0%} negative"
            words += f", {growth.size - known.size} without derivative" * (known.size < growth.size)
            lines.append(words)
        return "\n".join(lines)


class _Carry(NamedTuple):
    tangent: Points
    total: jax.Array
    lost: jax.Array
    steps: jax.Array
    alive: jax.Array
    series: Series


def lyapunov(
    rule: Rule | Mapping[str, Rule],
    *,
    group: Any = None,
    stride: int = 1,
    num: int = 1,
    lifted: bool = True,
    start: Any = None,
    key: Key | None = None,
) -> Observer:
    """Carries an infinitesimal pair at every particle through every step, `v' = (I + eta T_i) v`; read as `Exponents`.

        L_i = (1/t) log |prod_t (I + eta_t T_i(t)) v|,     T with the field and the batch of step t

    A negative exponent: the particle gathers its near neighbours like `exp(L_i t)`, at whatever step size, though no step merges.
    Exact for the run and the pair that was followed, up to rounding (a few roundings of `|eta T|` a step with one tangent, of 1 with
    several); for the largest stretch of any pair a lower bound, and an estimate of the future. A step costs one derivative of the
    probe along each tangent.

    Args:
        rule: the rule that is simulated; it needs a probe, and must not draw (a frame has no key). For a dict of groups one rule,
            or one a group with the field of that group.
        group: None for rows, a `Group`, or a dict of them, for a dict of answers.
        stride: of the recorded series, in steps; the pair itself sees every step.
        num: tangents a particle, kept orthogonal by QR: column sums of `log_growth` are exact log-volumes, and all w of them give
            the spectrum, whose sum is `log |det|`.
        lifted: carry the optimizer's state of the pair, too: the pair starts at equal state, and is measured in parameters and
            state together, each in its own unit. False: the state of both stays that of the particle, no real pair if there is one.
        start: None for random unit tangents, or `(n, d)` directions without a zero row, the same in every lane (a dict of them for
            a dict of groups); with `num=1`.
        key: of the random tangents, default `jax.random.key(0)`; the same in every lane.

    Raises:
        ValueError: a rule without probe, or that draws (at the first step); more tangents than numbers in a particle.
        TypeError: no rule; no typed key.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> rule = eq.rules.consensus()
        >>> watch = {"pairs": eq.observe.lyapunov(rule)}
        >>> run = eq.simulate(rule, jnp.array([[0.0], [4.0]]), eta=0.5, num_steps=3, observe=watch)
        >>> found = run.observed["pairs"]
        >>> [round(float(e), 4) for e in found.exponent], float(found.share_negative)       # log(1 - eta) for every pair
        ([-0.6931, -0.6931], 1.0)
        >>> [round(float(steps)) for steps in found.predicted_steps(tolerance=1e-3, distance=1.0)]
        [10, 10]

    References:
        Derived; Benettin, Galgani, Giorgilli, Strelcyn 1980 (tangents with renormalisation and QR).
    """
    num, stride = _checks.count(num, "num", least=1), _checks.count(stride, "stride", least=1)
    _checks.key(key)
    seed = None if key is None else (Constant(jax.random.key_data(key)), jax.random.key_impl(key))
    if start is not None and num > 1:
        msg = f"start: got directions with num={num}; expected num=1, one direction a particle."
        raise ValueError(msg)
    if isinstance(group, Mapping) and start is not None and set(start) != set(group):
        msg = f"start: got directions for {sorted(start)}; expected one array for each of {sorted(group)}."
        raise ValueError(msg)

    def make(rule: Rule, one: Any, name: str | None) -> Observer:
        along = None if start is None else _directions(start if name is None else start[name])
        return Observer(bind(_init, one, num, lifted, along, seed), bind(_update, rule, one, lifted, stride), _read, 1)

    return for_groups(rule, group, make)


def _directions(start: Any) -> Constant:
    start = np.asarray(_checks.points(start, "start"))
    length = np.linalg.norm(start, axis=1, keepdims=True)
    if not np.all(np.isfinite(length) & (length > 0)):
        msg = "start: got a direction of length 0 or not finite; expected one direction a particle, (n, d)."
        raise ValueError(msg)
    return Constant(start / length)


def _init(group: Any, num: int, lifted: bool, along: Constant | None, seed: Any, frame: Frame) -> _Carry:
    one = rows_of(group, frame.x)
    y = one.particles(frame.x)
    n, d = y.shape
    width = lifted_rows(one, frame.x, frame.state).shape[1] if lifted else d
    if num > width:
        msg = f"num: got {num}; expected at most {width}, the numbers of a {'lifted ' * (width > d)}particle."
        raise ValueError(msg)
    if along is not None and along.value.shape != (n, d):
        msg = f"start: got shape {along.value.shape}; expected {(n, d)}, one direction a particle."
        raise ValueError(msg)
    key = jax.random.key(0) if seed is None else jax.random.wrap_key_data(jnp.asarray(seed[0].value), impl=seed[1])
    if num == 1:
        v = jax.random.normal(key, (n, d), y.dtype) if along is None else jnp.asarray(along.value, y.dtype)
        tangent = jnp.pad(v / jnp.linalg.norm(v, axis=1, keepdims=True), ((0, 0), (0, width - d)))
        total = jnp.zeros((n,), y.dtype)
    else:
        tangent, total = _frames(key, n, d, width, num, y.dtype), jnp.zeros((n, num), y.dtype)
    return _Carry(tangent, total, jnp.zeros_like(total), jnp.zeros((), jnp.int32), jnp.ones((), bool), series_like(total))


def _frames(key: Key, n: int, d: int, width: int, num: int, dtype: Any) -> jax.Array:
    """Random orthonormal tangents `(n, w, num)`: of the parameters first, of the state when those are used up."""
    of_parameters, of_state = jax.random.split(key)
    first = min(num, d)
    q = jnp.pad(jnp.linalg.qr(jax.random.normal(of_parameters, (n, d, first), dtype))[0], ((0, 0), (0, width - d), (0, 0)))
    if num == first:
        return q
    rest = jnp.linalg.qr(jax.random.normal(of_state, (n, width - d, num - first), dtype))[0]
    return jnp.concatenate([q, jnp.pad(rest, ((0, 0), (d, 0), (0, 0)))], axis=2)


def _update(rule: Rule, group: Any, lifted: bool, stride: int, carry: _Carry, frame: Frame) -> _Carry:
    one = rows_of(group, frame.x)
    y = one.particles(frame.x)
    eta = frame.eta.astype(y.dtype)
    z, change = frozen(rule, y, tracer_state(one, frame.x, frame.state), frame, lifted=lifted)
    if carry.tangent.ndim == 2:
        _, changed = jax.jvp(change, (z,), (carry.tangent,))
        term, tangent = _stretched(carry.tangent, increment(eta, carry.tangent, changed))
    else:
        _, along = jax.linearize(change, z)
        columns = jnp.moveaxis(carry.tangent, 2, 0)
        added = jax.lax.map(lambda v: increment(eta, v, along(v)), columns, batch_size=min(len(columns), _ABREAST))
        tangent, triangle = jnp.linalg.qr(jnp.moveaxis(columns + added, 0, 2))
        term = jnp.log(jnp.abs(jnp.diagonal(triangle, axis1=1, axis2=2)))
        term = term.at[:, 0].set(_stretched(columns[0], added[0])[0])
    alive = runs(frame, z, change, carry.alive)
    total, lost = plus(carry.total, carry.lost, term)
    total, lost, tangent = (jnp.where(alive, new, old) for new, old in ((total, carry.total), (lost, carry.lost), (tangent, carry.tangent)))
    return _Carry(tangent, total, lost, carry.steps + alive.astype(jnp.int32), alive, recorded(carry.series, frame, stride, total))


def _stretched(v: Points, added: Points) -> tuple[jax.Array, Points]:
    """`log |v + w|` for unit v, and the unit tangents along v + w; where nothing is left, minus infinity, and v again."""
    new = v + added
    square = jnp.sum(new * new, axis=1)
    info = jnp.finfo(new.dtype)
    in_range = jnp.all((square > info.tiny / info.eps) & (square < jnp.inf))
    scale, length = jax.lax.cond(in_range, lambda: (jnp.ones_like(square), jnp.sqrt(square)), lambda: _scaled_length(new))
    change = jnp.sum(added * (2 * v + added), axis=1)
    small = jnp.abs(change) < 0.5  # a small change loses nothing to the 1 that it is added to
    term = jnp.where(small, jnp.log1p(jnp.where(small, change, 0)) / 2, jnp.log(scale) + jnp.log(length))
    left = (length > 0) & (length < jnp.inf)
    return term, jnp.where(left[:, None], new / scale[:, None] / jnp.where(left, length, 1)[:, None], v)


def _scaled_length(rows: Points) -> tuple[jax.Array, jax.Array]:
    """A scale of each row, and its length in that: squares of what is tiny or huge leave the range of floats."""
    largest = jnp.max(jnp.abs(rows), axis=1)
    scale = jnp.where((largest > 0) & (largest < jnp.inf), largest, 1)
    return scale, jnp.linalg.norm(rows / scale[:, None], axis=1)


def _read(carry: _Carry) -> Exponents:
    return Exponents(np.asarray(carry.total), np.asarray(carry.steps), carry.series, np.asarray(carry.tangent))
