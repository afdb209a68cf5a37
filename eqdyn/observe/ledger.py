"""The ledger of a run: for every step whether it could have merged particles, whether it did, and how distances add up."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from eqdyn import _checks, _screen, geometry, groups
from eqdyn._branch import rarely
from eqdyn._lifted import lifted_rows
from eqdyn._types import Points, Tree
from eqdyn._value import bind
from eqdyn.measure.coincidence import count_crossings, count_merges
from eqdyn.observe._tangent import plus
from eqdyn.observer import Frame, Observer, Series, series_like

_EVERY = 20  # records between two stretches since the start, in many dimensions


class LedgerRecord(NamedTuple):
    """Of one step; no unit.

    Fields:
        q: `eta * K_pair`; below 1 the step merges nobody, but for the rounding of `x + eta * U`. Exact; 0 where no two are distinct.
        eta_mu: `eta * mu`; below 1 likewise, and sharper. Exact; 0 where no two are distinct.
        at: the pair that attains q.
        bound_low, bound_high: what the certificates of the steps seen so far add up to, `sum log(1 - eta mu)` and `sum log(1 + q)`: bounds of the
            log-stretch since the start, of any pair, where every step was seen, up to the rounding of the steps themselves. Minus infinity
            once a step was not certified, or merged particles all the same.
        log_low, log_high: log of the smallest and largest stretch since the start, of the pairs themselves. Exact. In many dimensions,
            where it costs as much as all else here, taken at every twentieth record and at the last; NaN at the others.
        merged: distinct (lifted) particles that this step made one.
        crossings: pairs of places that became one in coordinates only; the state parts them again. 0 where the state is not known.
    """

    q: Any
    eta_mu: Any
    at: Any
    bound_low: Any
    bound_high: Any
    log_low: Any
    log_high: Any
    merged: Any
    crossings: Any


@dataclasses.dataclass(frozen=True, eq=False)
class Ledger:
    """What `observe.certificate` read. With lanes all arrays have the lane axis in front, and the numbers below are arrays `(lanes,)`.

    Fields:
        steps: `(t,)` the absolute steps that were seen.
        values: `LedgerRecord` of arrays `(t,)`.
        stride: every how many steps it looked: the ledger certifies the steps that it saw.
        laned: whether there are lanes.
    """

    steps: np.ndarray
    values: LedgerRecord
    stride: int
    laned: bool = False

    @property
    def steps_seen(self) -> int:
        """How many steps were looked at, also those that a lane stood still after it had ended (`eq.compare` leaves them out)."""
        return len(self.steps)

    @property
    def open(self) -> np.ndarray:
        """Which steps could have merged particles, neither q nor eta * mu being below 1, or did, by rounding; `(t,)`."""
        return ~((self.values.q < 1) | (self.values.eta_mu < 1)) | (self.values.merged > 0)

    @property
    def certified(self) -> Any:
        """Whether every step that was seen is certified injective, and merged nobody by rounding either."""
        return _plain(np.asarray(~self.open.any(axis=-1)))

    @property
    def first_possible(self) -> Any:
        """The first step seen at which merging was possible; -1 if none."""
        return self._first(self.open)

    @property
    def first_merge(self) -> Any:
        """The first step seen at which particles merged; -1 if none."""
        return self._first(self.values.merged > 0)

    @property
    def worst(self) -> tuple[Any, Any, Any]:
        """The step of the largest q, that q, and its pair."""
        if not len(self.steps):
            return -1, np.nan, np.array([-1, -1])
        q = np.where(np.isnan(self.values.q), np.inf, self.values.q)
        at = np.argmax(q, axis=-1)
        pick = np.expand_dims(at, -1)
        pair: np.ndarray = np.take_along_axis(self.values.at, pick[..., None], axis=-2)[..., 0, :]
        return _plain(self.steps[at]), _plain(np.take_along_axis(self.values.q, pick, axis=-1)[..., 0]), pair

    def _first(self, found: np.ndarray) -> Any:
        if not len(self.steps):
            return -1
        return _plain(np.where(found.any(axis=-1), self.steps[np.argmax(found, axis=-1)], -1))

    def lane(self, index: int) -> Ledger:
        """The ledger of one lane."""
        return Ledger(self.steps, LedgerRecord(*(leaf[index] for leaf in self.values)), self.stride)

    def summary(self) -> str:
        """What can be said, in words; a few lines a lane."""
        if self.laned:
            return "\n".join(f"lane {k}: {self.lane(k).summary()}" for k in range(len(self.values.q)))
        if not len(self.steps):
            return "no step was seen"
        step, q, pair = self.worst
        seen = f"{self.steps_seen} steps seen" + (f", one in {self.stride}: nothing is said of the others" if self.stride > 1 else "")
        num, merged, crossed = int(self.open.sum()), int(self.values.merged.sum()), int(self.values.crossings.sum())
        could = "no step could merge two particles" if not num else f"{num} could have merged particles, from step {self.first_possible}"
        did = f"{merged} merged, first at step {self.first_merge}" if merged else "nobody merged"
        low, high = (float(np.exp(value[-1])) for value in (self.values.log_low, self.values.log_high))
        return (
            f"{could}; {did}\n{seen}; largest eta*K_pair {float(q):.3g} at step {step}, particles {pair[0]} and {pair[1]}"
            f"\ndistances are {low:.3g} to {high:.3g} times those at the start" + (f"; {crossed} crossings" if crossed else "")
        )


def _plain(value: np.ndarray) -> Any:
    return value.item() if np.ndim(value) == 0 else value


class _Carry(NamedTuple):
    """`start` and `now`: the particles before the first record and after the last one, of which there have been `seen`. `twins`: whether
    some were at one place at the start. `low` and `high`: sums, with the rounding that each has lost so far.
    """

    start: Points
    now: Points
    twins: jax.Array
    seen: jax.Array
    low: tuple[jax.Array, jax.Array]
    high: tuple[jax.Array, jax.Array]
    series: Series


def certificate(*, group: Any = None, stride: int = 1, lifted: bool = False) -> Observer:
    """Keeps the ledger of a run: for every step seen `q = eta K_pair` and `eta mu`, the pair that attains q, the certificates added up
    beside the stretch since the start, and merges; read as a `Ledger` (for a dict of groups a dict of them).

    Exact for the steps that it sees, up to rounding: q and mu are those of U, and what the rounding of `x + eta * U` merges all the same is
    found bit for bit and leaves the step uncertified (`eq.certify` also tells of pairs that it has brought near that). Distinct particles
    so near that their squared distance is no number of the dtype leave it open. A stride of 20 certifies one step in 20, and says so.
    Time O(n^2 d) a record, at the speed of matrix products for large d.

    Args:
        group: None for rows, a `Group`, or a dict of them.
        stride: in steps.
        lifted: the rule has a state that follows its particles (a momentum, second moments): merges are those of particles and state
            together, and coincidences of parameters alone are counted as crossings. q and mu are those of the parameters in any case:
            sufficient there, not needed.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> x0 = jnp.array([[0.0], [1.0], [4.0]])
        >>> run = eq.simulate(eq.rules.consensus(), x0, eta=0.5, num_steps=3, observe={"ledger": eq.observe.certificate()})
        >>> book = run.observed["ledger"]
        >>> book.certified, book.first_possible, book.worst[1]
        (True, -1, 0.5)
        >>> eq.simulate(eq.rules.consensus(), x0, eta=1.0, num_steps=2, observe={"ledger": eq.observe.certificate()}).observed["ledger"].first_merge
        0

    References:
        Derived, from the swap argument of Yang et al., arXiv:2510.02670, lemma 4; sums of logs: the stretch of several steps.
    """
    _checks.count(stride, "stride", least=1)
    if isinstance(group, Mapping):
        named = tuple(sorted(group.items()))
        return Observer(bind(_init_named, named), bind(_update_named, named, lifted), bind(_read_named, stride), stride)
    return Observer(bind(_init, group), bind(_update, group, lifted), bind(_read, stride), stride)


def _rows(group: Any, tree: Tree) -> Any:
    return groups.rows(tree) if group is None else group


def _init(group: Any, frame: Frame) -> _Carry:
    start = _rows(group, frame.x).particles(frame.x)
    _checks.points(start, "x", least=2)
    zero, none = jnp.zeros((), start.dtype), jnp.zeros((), jnp.int32)
    record = LedgerRecord(zero, zero, jnp.zeros((2,), jnp.int32), zero, zero, zero, zero, none, none)
    twins = _coincide(start)
    return _Carry(start, start, twins, none, (zero, zero), (zero, zero), series_like(record))


def _update(group: Any, lifted: bool, carry: _Carry, frame: Frame) -> _Carry:
    one = _rows(group, frame.x)
    x, x_next = one.particles(frame.x), one.particles(frame.x_next)
    found = geometry.pair_constants(x, one.particles(frame.u))
    eta = frame.eta.astype(x.dtype)
    q, eta_mu = eta * found.k_pair, eta * jnp.where(jnp.isneginf(found.mu), 0, found.mu)
    every = _EVERY if _screen.pays(x) else 1
    ends = carry.start, x_next
    log_low, log_high = _since(*ends) if every == 1 else jax.lax.cond(carry.seen % every == 0, _since, _not_taken, *ends)
    met = _may_coincide(carry.twins, log_low, x, x_next, frame.state) if every == 1 else _coincide(x_next)
    merged, crossings = rarely(met, functools.partial(_coincidences, group, lifted), _none, frame)
    # without a certificate of its own a step may have brought any pair to nothing
    sure = (eta_mu < 1) & (merged == 0)
    low = plus(*carry.low, jnp.where(sure, jnp.log1p(-jnp.where(sure, eta_mu, 0)), -jnp.inf))
    high = plus(*carry.high, jnp.where(jnp.isnan(q), jnp.inf, jnp.log1p(q)))
    record = LedgerRecord(q, eta_mu, found.k_pair_at, low[0], high[0], log_low, log_high, merged, crossings)
    return _Carry(carry.start, x_next, carry.twins, carry.seen + 1, low, high, carry.series.append(frame.step, record))


def _coincide(x: Points) -> jax.Array:
    return geometry.num_places(geometry.labels(x)) < x.shape[0]


def _may_coincide(twins: jax.Array, log_low: jax.Array, x: Points, x_next: Points, state: Tree) -> jax.Array:
    """Whether the step may have something to count, without sorting: distances tell that distinct particles have come to nothing, or cannot
    tell (they are not finite). Without a state nothing happens where nobody moves, as in a lane that has ended.
    """
    met = twins | ~(log_low > -jnp.inf)
    if jax.tree.leaves(state):
        return met
    return met & jnp.any((x_next != x) & ~(jnp.isnan(x_next) & jnp.isnan(x)))


def _coincidences(group: Any, lifted: bool, frame: Frame) -> tuple[jax.Array, jax.Array]:
    """Merges of the step, and places that are shared by parameters alone."""
    one = _rows(group, frame.x)
    x, x_next = one.particles(frame.x), one.particles(frame.x_next)
    if not lifted:
        return count_merges(x, x_next).merged, jnp.zeros((), jnp.int32)
    z, z_next = lifted_rows(one, frame.x, frame.state), lifted_rows(one, frame.x_next, frame.state_next)
    found = count_crossings(z, z_next, x_next)
    return found.merged, found.crossings


def _none(frame: Frame) -> tuple[jax.Array, jax.Array]:
    """Of distinct parameters neither is possible."""
    return jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32)


def _since(start: Points, now: Points) -> tuple[jax.Array, jax.Array]:
    """Log of the smallest and largest stretch since the start."""
    found = geometry.stretch(start, now)
    return jnp.log(found.low), jnp.log(found.high)


def _not_taken(start: Points, now: Points) -> tuple[jax.Array, jax.Array]:
    return jnp.full((), jnp.nan, start.dtype), jnp.full((), jnp.nan, start.dtype)


_since_at_last, _since_at_last_of_lanes = jax.jit(_since), jax.jit(jax.vmap(_since))


def _read(stride: int, carry: _Carry) -> Ledger:
    series = carry.series
    values = jax.tree.map(np.array, series.values)
    if len(series) and np.isnan(values.log_low[..., -1]).any():
        last = (_since_at_last_of_lanes if series.laned else _since_at_last)(carry.start, carry.now)
        values.log_low[..., -1], values.log_high[..., -1] = (np.asarray(value) for value in last)
    return Ledger(np.asarray(series.steps), values, stride, series.laned)


def _init_named(named: tuple, frame: Frame) -> dict[str, _Carry]:
    return {name: _init(group, frame) for name, group in named}


def _update_named(named: tuple, lifted: bool, carry: dict[str, _Carry], frame: Frame) -> dict[str, _Carry]:
    return {name: _update(group, lifted, carry[name], frame) for name, group in named}


def _read_named(stride: int, carry: dict[str, _Carry]) -> dict[str, Ledger]:
    return {name: _read(stride, one) for name, one in carry.items()}
