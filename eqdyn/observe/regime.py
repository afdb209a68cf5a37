"""The noise of gradients and of the updates made from them, recorded along a run: which power of the noise is the optimizer's metric?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from eqdyn import _checks
from eqdyn._exponent import Exponent, exponent
from eqdyn._value import bind
from eqdyn.field import Field, as_field
from eqdyn.observer import Frame, Observer, Series, series_like
from eqdyn.rule import points_of


class NoiseRecord(NamedTuple):
    """Of one step: the gradient on the step's batch and the update U made of it, at the recorded coordinates, `(num,)` each."""

    gradient: jax.Array
    update: jax.Array


class Regime(NamedTuple):
    """What a run recorded of its noise. With lanes arrays have the lane axis in front.

    Fields:
        steps: `(T,)`.
        gradients, updates: `(T, num)`.
        coordinates: `(num,)`, which of the P parameters, in the order of the flattened configuration.
        laned: whether there are lanes.
    """

    steps: np.ndarray
    gradients: np.ndarray
    updates: np.ndarray
    coordinates: np.ndarray
    laned: bool

    def lane(self, index: int) -> Regime:
        """That of one lane."""
        return Regime(self.steps, self.gradients[index], self.updates[index], self.coordinates, laned=False)

    def exponent(self, first: int = 0, last: int | None = None, **options: Any) -> Exponent:
        """The exponent over the records from `first` to before `last`; see `covariant.exponent`. Raises ValueError where there are lanes."""
        if self.laned:
            msg = f"regime: got {len(self.gradients)} lanes; expected one; write regime.lane(0).exponent()."
            raise ValueError(msg)
        return exponent(self.gradients[first:last], self.updates[first:last], **options)


def regime(loss: Callable | Field, *, num: int = 256, stride: int = 1, weighted: bool = False) -> Observer:
    """Records gradients and updates at up to `num` coordinates drawn once, and reads the exponent of the metric off them: `.exponent()`.

    Costs a gradient a record, on the batch of the step. Exact records; the exponent is an ESTIMATE.

    Args:
        loss: what is descended, `(x, data) -> scalar`, or its `Field`: the gradients are minus its force.
        num: coordinates; all where there are fewer.
        stride: in steps.
        weighted: whether the loss takes weights.

    Raises:
        ValueError: num or stride below 1.

    Example:
        >>> import jax, jax.numpy as jnp, eqdyn as eq
        >>> size = jnp.logspace(-1, 1, 8)
        >>> loss = lambda x, data: jnp.sum(x * data * size[:, None])                     # all noise: the data are the gradients
        >>> data = eq.Batches(jax.random.normal(jax.random.key(0), (512, 8, 1)), 1)
        >>> loss_of_one = lambda x, batch: loss(x, batch[0])
        >>> watch = {"regime": eq.observe.regime(loss_of_one)}
        >>> rule, x0 = eq.rules.gradient(loss_of_one), jnp.zeros((8, 1))
        >>> run = eq.simulate(rule, x0, eta=0.1, num_steps=512, data=data, observe=watch, key=jax.random.key(1))
        >>> run.observed["regime"].exponent().verdict
        'equilibration (alpha = 0)'

    References:
        Derived; Vanchurin, arXiv:2504.14728, for the power law.
    """
    num = _checks.count(num, "num", least=1)
    field = as_field(loss, weighted=weighted)
    return Observer(bind(_init, num), bind(_update, field, num), bind(_read, num), _checks.count(stride, "stride", least=1))


class _Carry(NamedTuple):
    """`size`: an empty row as long as all parameters."""

    series: Series
    size: jax.Array


def _at(size: int, num: int) -> np.ndarray:
    return np.arange(size) if size <= num else np.sort(np.random.default_rng(0).choice(size, num, replace=False))


def _init(num: int, frame: Frame) -> _Carry:
    flat, _ = ravel_pytree(points_of(frame.x))
    zero = jnp.zeros((len(_at(flat.size, num)),), flat.dtype)
    return _Carry(series_like(NoiseRecord(zero, zero)), jnp.zeros((0, flat.size), bool))


def _update(field: Field, num: int, carry: _Carry, frame: Frame) -> _Carry:
    force, _ = field.force(frame.x, frame.data)
    gradient, update = (ravel_pytree(points_of(tree))[0] for tree in (force, frame.u))
    at = _at(gradient.size, num)
    return carry._replace(series=carry.series.append(frame.step, NoiseRecord(-gradient[at], update[at])))


def _read(num: int, carry: _Carry) -> Regime:
    series = carry.series
    record = jax.tree.map(np.asarray, series.values)
    return Regime(np.asarray(series.steps), record.gradient, record.update, _at(carry.size.shape[-1], num), series.laned)
