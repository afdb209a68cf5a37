"""Collapse: the step size from which noise brings together what the mean drives apart."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from eqdyn import _checks, groups
from eqdyn._differences import power_of_two
from eqdyn._lifted import parts
from eqdyn._types import Key, Points, Tree
from eqdyn.data import Batches, take
from eqdyn.rule import Rule
from eqdyn.transverse import DENSE_BYTES, dense, has_probe, step_map

_HALVINGS = 60


class Collapse(NamedTuple):
    """Rates at which infinitesimal pairs part, over sampled batches, and the step size at which noise outweighs their mean.

    Fields:
        eta_c: `(n,)`, where the mean of `log |1 + eta T|` over the batches comes back to 0, [eta]. 0: pairs close in at any small
            step (`E T <= 0`). Infinite: no batch brings them together, none at all was seen. NaN where T of some batch is not finite.
        eta_c_error: `(n,)`, its standard error from the spread of the batches; NaN where `eta_c` is 0 or infinite.
        small_eta: `(n,)`, the formula for small steps beside it, `2 E[T] / E[T^2]`, and 0, infinite or NaN alike.
        mean, mean_square: `(n,)`, `E[T]` 1/[eta] and `E[T^2]` along the direction.
        etas: `(k,)`, the step sizes asked for.
        exponent, exponent_error: `(k, n)`, the mean of `log |1 + eta T|` there, in nats a step, and its standard error.
        direction: `(n, d)`, unit vectors.
        turned: `(n,)`, the part of `T e` that is not along e, as a share of its length: at 0 the direction is kept by every batch, and
            the numbers are those of the exponent; else they are those of the direction alone.
    """

    eta_c: np.ndarray
    eta_c_error: np.ndarray
    small_eta: np.ndarray
    mean: np.ndarray
    mean_square: np.ndarray
    etas: np.ndarray
    exponent: np.ndarray
    exponent_error: np.ndarray
    direction: np.ndarray
    turned: np.ndarray


def collapse(
    rule: Rule,
    x: Any,
    batches: Any,
    state: Tree = None,
    *,
    group: Any = None,
    direction: Any = "smallest",
    etas: Any = (),
    num_batches: int = 64,
    key: Key | None = None,
) -> Collapse | dict[str, Collapse]:
    """The collapse step size of every particle, from the swap curvature `T = <e, T_i e>` of sampled batches at one configuration.

        exponent(eta) = E log |1 + eta T|,      0 again at eta_c,      for small steps  eta_c = 2 E[T] / E[T^2]

    A direction that repels on average, `E[T] > 0`, gathers pairs once `eta > eta_c`: a threshold of the noise, unrelated to
    sharpness. An estimate: of sampled batches, at a configuration that stands still. Of the sample itself `eta_c` is exact, the one zero
    before the first step size at which some batch takes a pair together (up to there the mean is concave).

    Args:
        rule: a rule with a probe, whose particles carry no state (with one, watch `observe.lyapunov` along runs at several eta).
        x: configuration, or a tree with a group.
        batches: a tree of batches, stacked along a first axis of 2 or more, each outcome as likely as the others; or `Batches`,
            from which `num_batches` are drawn.
        state: None for `rule.init(x)`.
        group: None for rows, a `Group`, or a dict of them, for a dict of answers.
        direction: "smallest" or "largest", for the one along which the mean of T is (dense matrices): where pairs first come together,
            and where they last do; or an array, `(d,)` for all or `(n, d)`.
        etas: step sizes > 0 at which the exponent is wanted.
        num_batches: how many are drawn from `Batches`, at least 2.
        key: of the draw; a typed key.

    Returns:
        `Collapse(eta_c, eta_c_error, small_eta, mean, mean_square, etas, exponent, exponent_error, direction, turned)`.

    Raises:
        ValueError, TypeError: arguments that do not fit; a rule without probe, or with state.
        MemoryError: no array is given as direction, and matrices of all particles would exceed `eqdyn.transverse.DENSE_BYTES`.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> noisy = eq.field.mean_field(lambda x: 1.0, lambda x, s, sign: (0.5 + 2 * sign) * x)       # T = 1/2 + 2 s, s = +-1
        >>> found = eq.measure.collapse(eq.rules.from_field(noisy), jnp.ones((1, 1)), jnp.array([1.0, -1.0]), etas=[0.1])
        >>> [round(float(value[0]), 4) for value in (found.eta_c, found.small_eta, found.exponent[0])]       # 4/15, 4/17
        [0.2667, 0.2353, 0.0303]

    References:
        Derived (Jensen: `E log(1 + eta T) <= log(1 + eta E T)`).
    """
    if not isinstance(rule, Rule):
        msg = f"rule: got {type(rule).__name__}; expected an eq.Rule."
        raise TypeError(msg)
    has_probe(rule, "the collapse step size")
    x = _checks.configuration(x)
    state = rule.init(x) if state is None else state
    if parts(x, state):
        msg = "rule: got one whose particles carry a state; expected one without; write observe.lyapunov(rule) along runs at several eta."
        raise ValueError(msg)
    try:
        steps = np.asarray(etas, np.float64).reshape(-1)
    except (TypeError, ValueError):
        steps = np.array([np.nan])
    if not np.all(np.isfinite(steps) & (steps > 0)):
        msg = f"etas: got {etas!r}; expected finite step sizes > 0; write etas=[0.1, 0.2]."
        raise ValueError(msg)
    stacked, rows = _sampled(batches, num_batches, _checks.key(key))
    found = {name: _of_group(rule, one, x, state, stacked, rows, direction, steps) for name, one in groups.resolve(group, x).items()}
    return found if isinstance(group, Mapping) else found["particles"]


def _sampled(batches: Any, num_batches: int, key: Key | None) -> tuple[Tree, jax.Array | None]:
    """Arrays, and the rows of every batch in them; or batches that are stacked already, and None."""
    if isinstance(batches, Batches):
        _checks.needs_key(key, "batches are drawn")
        return batches.arrays, jnp.asarray(batches.rows(key, 0, _checks.count(num_batches, "num_batches", least=2)))  # type: ignore[arg-type]
    stacked = _checks.batch(batches, "batches")
    lengths = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(stacked)}
    if len(lengths) != 1 or not min(lengths) or min(lengths)[0] < 2:
        msg = f"batches: got first axes {sorted(lengths)}; expected one of 2 or more, batches in a stack; write eq.Batches(arrays, size)."
        raise ValueError(msg)
    return stacked, None


def _of_group(rule: Rule, group: Any, x: Tree, state: Tree, stacked: Tree, rows: Any, direction: Any, etas: np.ndarray) -> Collapse:
    along = _direction(rule, group, x, state, stacked, rows, direction)
    rates, across = (np.asarray(part, np.float64) for part in _rates(rule, group, x, state, stacked, rows, along))
    return _summed(rates, across, etas, np.asarray(along))


def _direction(rule: Rule, group: Any, x: Tree, state: Tree, stacked: Tree, rows: Any, direction: Any) -> Points:
    y = group.particles(x)
    n, d = y.shape
    if isinstance(direction, str) and direction in ("smallest", "largest"):
        _checks.fits_budget(n * d * d * y.dtype.itemsize, DENSE_BYTES, "the mean of T", "give direction as an array, (d,) or (n, d)")
        mean = _mean_matrix(rule, group, x, state, stacked, rows)
        vectors = jnp.linalg.eigh((mean + jnp.swapaxes(mean, 1, 2)) / 2)[1]
        return vectors[:, :, 0 if direction == "smallest" else -1]
    if isinstance(direction, str) or direction is None:
        msg = f'direction: got {direction!r}; expected "smallest", "largest", or an array of shape {(d,)} or {(n, d)}.'
        raise ValueError(msg)
    along = jnp.asarray(direction, y.dtype)
    if along.shape not in ((d,), (n, d)) or not bool(jnp.all(jnp.any(along != 0, axis=-1)) & jnp.all(jnp.isfinite(along))):
        msg = f"direction: got shape {along.shape} and {along.ravel()[:3]}; expected {(d,)} or {(n, d)}, finite, without a zero direction."
        raise ValueError(msg)
    along = jnp.broadcast_to(along, (n, d))
    along = along / power_of_two(jnp.max(jnp.abs(along), axis=1, keepdims=True))  # squares neither overflow nor vanish
    return along / jnp.linalg.norm(along, axis=1, keepdims=True)


def _scan(stacked: Tree, rows: Any) -> tuple[Any, Any]:
    """What to walk through, and how to make a batch of what is met."""
    return (stacked, lambda batch: batch) if rows is None else (rows, lambda at: take(stacked, at))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _mean_matrix(rule: Rule, group: Any, x: Tree, state: Tree, stacked: Tree, rows: Any) -> jax.Array:
    walk, batch_of = _scan(stacked, rows)
    n, d = group.particles(x).shape
    dtype = group.particles(x).dtype

    def enter(total: jax.Array, at: Any) -> tuple[jax.Array, None]:
        return total + dense(step_map(rule, group, x, state, batch_of(at)).product, n, d, dtype), None

    total, _ = jax.lax.scan(enter, jnp.zeros((n, d, d), dtype), walk)
    return total / len(jax.tree.leaves(walk)[0])


@functools.partial(jax.jit, static_argnums=(0, 1))
def _rates(rule: Rule, group: Any, x: Tree, state: Tree, stacked: Tree, rows: Any, along: Points) -> tuple[jax.Array, jax.Array]:
    """`<e, T e>` and the length of `T e` across e, `(batches, n)`."""
    walk, batch_of = _scan(stacked, rows)

    def one(at: Any) -> tuple[jax.Array, jax.Array]:
        moved = step_map(rule, group, x, state, batch_of(at)).product(along)
        rate = jnp.sum(along * moved, axis=1)
        return rate, jnp.linalg.norm(moved - rate[:, None] * along, axis=1)

    return jax.lax.map(one, walk)


def _summed(rates: np.ndarray, across: np.ndarray, etas: np.ndarray, along: np.ndarray) -> Collapse:
    """In float64 on the host: the logarithms nearly cancel."""
    num, known = len(rates), np.isfinite(rates).all(axis=0)
    rates, across = (np.where(known, part, np.nan) for part in (rates, across))
    mean, mean_square = rates.mean(axis=0), (rates**2).mean(axis=0)
    never = rates.min(axis=0) >= 0
    some = np.where(mean > 0, 2 * mean / np.where(mean_square > 0, mean_square, 1), 0.0)
    eta_c = np.where(mean > 0, np.where(never, np.inf, _zero(rates)), np.where(mean_square > 0, 0.0, np.inf))
    inside = np.isfinite(eta_c) & (eta_c > 0)
    at = np.where(inside, eta_c, 0.0)
    slope = (rates / (1 + at * rates)).mean(axis=0)
    spread = np.log1p(at * rates).std(axis=0, ddof=1) / num**0.5
    error = np.where(inside, spread / np.abs(np.where(inside, slope, 1)), np.nan)
    with np.errstate(divide="ignore"):
        logs = np.log(np.abs(1 + etas[:, None, None] * rates))
    with np.errstate(invalid="ignore"):  # of a batch that takes the pair together: minus infinity, without a spread
        exponent, exponent_error = logs.mean(axis=1), logs.std(axis=1, ddof=1) / num**0.5
    length = np.sqrt(mean_square + (across**2).mean(axis=0))
    turned = np.sqrt((across**2).mean(axis=0)) / np.where(length > 0, length, 1)
    small_eta = np.where(mean_square > 0, some, np.inf)
    eta_c, small_eta = (np.where(known, part, np.nan) for part in (eta_c, small_eta))
    found = (eta_c, error, small_eta, mean, mean_square, etas, exponent, exponent_error, along, turned)
    return Collapse(*(np.asarray(part, along.dtype) for part in found))


def _zero(rates: np.ndarray) -> np.ndarray:
    """Where the mean of `log(1 + eta T)` comes back to 0: it is concave, and minus infinity where a batch first takes a pair together."""
    low, high = np.zeros(rates.shape[1]), 1 / np.maximum(-rates.min(axis=0), np.finfo(np.float64).tiny)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            parts_still = np.log1p(middle * rates).mean(axis=0) > 0
        low, high = np.where(parts_still, middle, low), np.where(parts_still, high, middle)
    return (low + high) / 2
