"""The swap curvature recorded along a run."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from eqdyn import _checks, groups
from eqdyn._value import bind
from eqdyn.linalg import lanczos_rows
from eqdyn.observer import Frame, Observer, recorder
from eqdyn.rule import Rule
from eqdyn.transverse import has_probe, step_map


class TransverseRecord(NamedTuple):
    """Of one step, before it is taken; no unit.

    Fields:
        eta_norm: `eta * max ||T||`.
        margin: the smallest eigenvalue of `I + eta T` over all particles: at or below 0 the step map is folded there.
        at: the particle of that margin.
        num_folded: particles with a margin <= 0.
        residual: of Lanczos, times eta; rounding where its steps reach d.
    """

    eta_norm: jax.Array
    margin: jax.Array
    at: jax.Array
    num_folded: jax.Array
    residual: jax.Array


def transverse(rule: Rule, *, group: Any = None, stride: int = 1, num_iters: int = 12, symmetric: bool = True) -> Observer:
    """Records `TransverseRecord` at the particles, on the batch of the step: exact up to d = `num_iters`, beyond an estimate.

    Args:
        rule: the rule that is watched, or another that moves the same particles (the plain gradient of a stateful optimizer, say: its
            state is then fresh); it must know its probe.
        group: None for rows, or one `Group`.
        stride: in steps.
        num_iters: products a record costs; each is as dear as one or two evaluations of U.
        symmetric: T is symmetric, as for a gradient rule. If not, `margin` is that of the symmetric part, a lower bound, and the norm
            takes as many products again, and their transposes.

    Raises:
        ValueError: the rule has no probe.
        TypeError: particles in a dtype of 16 bits (when the run starts).

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> watch = {"T": eq.observe.transverse(eq.rules.consensus())}
        >>> run = eq.simulate(eq.rules.consensus(), jnp.array([[0.0], [4.0]]), eta=0.5, num_steps=2, observe=watch)
        >>> run.observed["T"].values.margin.tolist()
        [0.5, 0.5]

    References:
        Derived; Yang et al., arXiv:2510.02670, theorem 1.
    """
    has_probe(rule, "observe.transverse")
    _checks.count(num_iters, "num_iters", least=1)
    return recorder(bind(_record, rule, group, num_iters, symmetric), stride=stride)


def _record(rule: Rule, group: Any, num_iters: int, symmetric: bool, frame: Frame) -> TransverseRecord:
    one = groups.rows(frame.x) if group is None else group
    like = jnp.zeros_like(one.particles(frame.x))
    if jnp.finfo(like.dtype).bits < 32:
        msg = f"observe.transverse: got particles in {like.dtype}; expected float32 or float64; write x0.astype('float32')."
        raise TypeError(msg)
    fresh = rule.init(frame.x)
    forms: tuple[Any, Any] = jax.tree.structure(fresh), jax.tree.structure(frame.state)
    product = step_map(rule, one, frame.x, frame.state if forms[0] == forms[1] else fresh, frame.data).product
    key = jax.random.key(0)
    if symmetric:
        ends = lanczos_rows(product, like, num_iters=num_iters, key=key)
        norm = jnp.maximum(jnp.abs(ends.low), jnp.abs(ends.high))
    else:
        turned = jax.linear_transpose(product, like)
        ends = lanczos_rows(lambda v: (product(v) + turned(v)[0]) / 2, like, num_iters=num_iters, key=key)
        norm = jnp.sqrt(jnp.maximum(lanczos_rows(lambda v: turned(product(v))[0], like, num_iters=num_iters, key=key).high, 0))
    eta = frame.eta.astype(like.dtype)
    margin, residual = 1 + eta * ends.low, eta * jnp.maximum(jnp.max(ends.low_residual), jnp.max(ends.high_residual))
    at = jnp.argmin(margin).astype(jnp.int32)
    return TransverseRecord(eta * jnp.max(norm), margin[at], at, jnp.sum(margin <= 0).astype(jnp.int32), residual)
