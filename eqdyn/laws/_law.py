"""What a law is: a statement and the residual of what a rule answered, at one draw."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from eqdyn import geometry
from eqdyn._ask.ask import Asked
from eqdyn._ask.draws import AT, NEAR, NEAR_SHAKEN, SHAKEN, UP, Draw
from eqdyn._types import Points, Scalar
from eqdyn.geometry import PairConstants
from eqdyn.measure.equivariance import margin

EPS = 16  # roundings of a few operations on numbers near 1


class Residual(NamedTuple):
    """How far a draw misses the law, and what rounding alone may do; no unit. An error above the tolerance refutes the law.

    `bound`: what the draw says of a constant, 1/[eta]; NaN where the law speaks of none.
    """

    error: Any
    tolerance: Any
    bound: Any = jnp.nan


class Told(NamedTuple):
    """What the user declared: whether a step size, whether a constant."""

    eta: bool
    K: bool


def passes_or_fails(excess: bool, told: Told) -> str:
    return "fails" if excess else "holds"


class Law(NamedTuple):
    """A law by name.

    Fields:
        name, says: the statement.
        residual: `(group, facts) -> Residual`, mapped over the draws; None for a law whose residual is found on the host.
        verdict: `(some draw exceeds its tolerance, Told) -> verdict`, for draws that rounding leaves sharp.
        note: what its bound says in words, with `{bound}` for the largest over the draws.
    """

    name: str
    says: str
    residual: Callable[..., Residual] | None
    verdict: Callable[[bool, Told], str] = passes_or_fails
    note: str = ""


class Facts(NamedTuple):
    """What the laws know of a draw.

    Fields:
        draw, asked: what was drawn, and what the rule answered.
        constants: the pair constants at the draw.
        half, most: the eta asked for, or 0.5 and 0.99 of `1/K_pair`.
        K: as declared; NaN if not.
        noise, norm: what rounding may do to a component of U, at most; the largest component.
        near_noise, near_norm: the same at NEAR, where U may be much larger.
        shared: residuals that several laws contain, by name.
    """

    draw: Draw
    asked: Asked
    constants: PairConstants
    half: Scalar
    most: Scalar
    K: Scalar
    noise: Scalar
    norm: Scalar
    near_noise: Scalar
    near_norm: Scalar
    shared: dict[str, Residual]


def facts(group: Any, draw: Draw, asked: Asked, eta: Scalar, K: Scalar) -> Facts:
    """`eta` and `K` are NaN where none was given."""
    x, u = asked.x[AT], asked.u[AT]
    found = geometry.pair_constants(x, u)
    usable = jnp.isfinite(found.k_pair) & (found.k_pair > 0)
    inverse = jnp.where(usable, 1 / jnp.where(usable, found.k_pair, 1), 1)
    half, most = (jnp.where(jnp.isnan(eta), share * inverse, eta) for share in (0.5, 0.99))

    def rounding(shaken: Points, u: Points) -> tuple[Scalar, Scalar]:
        change, norm = jnp.max(jnp.abs(shaken - u[None])), jnp.max(jnp.abs(u))
        return margin(group.size) * (change + jnp.finfo(u.dtype).eps * norm), norm

    near = rounding(asked.u[NEAR_SHAKEN : NEAR_SHAKEN + 1], asked.u[NEAR])
    return Facts(draw, asked, found, half, most, K, *rounding(asked.u[SHAKEN : UP + 1], u), *near, {})


def per(amount: jax.Array, scale: jax.Array) -> jax.Array:
    """`amount / scale`, and 0 where both are 0."""
    return jnp.where(scale > 0, amount / jnp.where(scale > 0, scale, 1), jnp.where(amount > 0, jnp.inf, amount))


def worst(*residuals: Residual) -> Residual:
    """The residual that exceeds its tolerance most, of one draw; NaN wins where none exceeds it."""
    errors, tolerances = (jnp.concatenate([jnp.ravel(jnp.asarray(r[k])) for r in residuals]) for k in (0, 1))
    ratio = errors / tolerances
    told = jnp.where(jnp.isnan(ratio), -1, ratio)
    at = jnp.where(jnp.any(jnp.isnan(ratio)) & (jnp.max(told) <= 1), jnp.argmax(ratio), jnp.argmax(told))
    return Residual(errors[at], tolerances[at])
