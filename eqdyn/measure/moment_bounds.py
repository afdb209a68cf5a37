"""Bounds of the lifted step in closed form: what momentum and second moments allow, from the pair rate of the gradient."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from eqdyn import _checks, geometry
from eqdyn._types import Points, Scalar


class MomentBound(NamedTuple):
    """An upper bound of the largest `|dz_i - dz_j| / |z_i - z_j|` of lifted particles, in the norm with these weights.

    Fields:
        value: the bound at eta, no unit.
        eta_crit: the value is below 1 exactly for smaller step sizes, from this state: then the step merges nobody.
        weights: `(1,)` of m, or `(2,)` of m and v; unit: that of x over that of m, of v. 0 stands for a weight as small as one likes.
        couplings: `p_1` of m, or `p_1, p_2`; no unit, linear in eta.
    """

    value: Scalar
    eta_crit: Scalar
    weights: jax.Array
    couplings: jax.Array


def heavy_ball_bound(x: Any, g: Any, *, eta: Any, beta: float = 0.9, rate: Any = None) -> MomentBound:
    """A closed upper bound for the heavy ball, `m' = beta m + g`, `x' = x - eta m'`, in the norm `|x|^2 + c^2 |m|^2`.

        q <= || [[p, sqrt(beta p)], [sqrt(beta p), 1 - beta]] ||,   p = eta R,   c^2 = eta beta / R;      < 1  <=>  eta R < 1/2

    R is the largest `|g_i - g_j| / |x_i - x_j|`. Proved for this configuration and every momentum; `measure.lifted_constants` has the
    constant itself, which is smaller. The heavy ball merges nobody at any eta: above the bound nothing is said.

    Args:
        x: particles `(n, d)`, n >= 2.
        g: what drives the momentum, `(n, d)`: the gradient, or minus the force of a field.
        eta: step size, > 0.
        beta: decay of the momentum, in (0, 1).
        rate: None for the R of these pairs, or a Lipschitz constant of g, 1/[eta]; then the bound is for all particles where it holds.

    Returns:
        `MomentBound(value, eta_crit, weights, couplings)`; an upper bound.

    Raises:
        ValueError, TypeError: arguments that do not fit.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> x = jnp.array([[0.0], [1.0]])
        >>> found = eq.measure.heavy_ball_bound(x, 10 * x, eta=0.01)
        >>> bool(found.value < 1), round(float(found.eta_crit), 3)
        (True, 0.05)

    References:
        Derived; the weighted norm of a lifted particle, pair by pair.
    """
    x, g = _two(x, g)
    beta = _checks.number(beta, "beta", least=0, below=1)
    return _heavy_ball(x, g, _numbers(x, eta=eta, beta=beta, rest=1 - beta), _rate(rate, "rate", x))


def adam_bound(
    x: Any,
    g: Any,
    state: Any,
    *,
    eta: Any,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    delayed: bool = False,
    rate: Any = None,
    square_rate: Any = None,
) -> MomentBound:
    """A closed upper bound for Adam in the norm `|x|^2 + c1^2 |m|^2 + c2^2 |v|^2`, with the weights that balance the couplings.

        a = max 1 / ((1 - beta1^t) (sqrt(vhat) + eps)),     b = max |mhat| / (2 (1 - beta2^t) sqrt(vhat) (sqrt(vhat) + eps)^2)
        p1 = eta (1 - beta1) a R,    p2 = eta (1 - beta2) b R2,    c1^2 = p1 / ((1 - beta1) R)^2,    c2^2 = p2 / ((1 - beta2) R2)^2

        delayed   q <= || [[0, sqrt p1, sqrt p2], [., 1 - beta1, 0], [., 0, 1 - beta2]] ||       < 1  <=>  p1/beta1 + p2/beta2 < 1
        usual     q <= || [[p1 + p2, sqrt(beta1 p1), sqrt(beta2 p2)], [., 1 - beta1, 0], [., 0, 1 - beta2]] ||  < 1  <=>  p1 + p2 < 1/2

    (symmetric matrices; for the usual order c1^2 and c2^2 carry a factor beta1, beta2.) R and R2 are the largest `|g_i - g_j|` and
    `|g_i^2 - g_j^2|` over `|x_i - x_j|`. The moments that U reads (the old ones, if delayed; else the new) lie, coordinate by coordinate,
    between those of the pair: the largest |m| and the smallest v of all particles bound a and b. A coordinate in which
    some v is 0 and some m is not makes b infinite, and the bound with it: the root is not Lipschitz at 0.

    Proved for this configuration and state. Delayed and without the row of v the condition is tight for scalars: the determinant
    `det(I + eta A (1 - beta1) G / beta1)` vanishes there. Adam in its usual order merges nobody at any eta: above the bound nothing is said.

    Args:
        x: particles `(n, d)`, n >= 2.
        g: the gradient, `(n, d)`, or minus the force of a field.
        state: the state before the step, with `t`, `m` and `v`, as `rules.adam` keeps it.
        eta: step size, > 0.
        beta1, beta2: decay of the moments, in (0, 1).
        eps: added to the root, > 0.
        delayed: whether U reads the old moments (`rules.adam_delayed`).
        rate: None for the R of these pairs, or a Lipschitz constant of g, 1/[eta].
        square_rate: None for the R2 of these pairs, or a Lipschitz constant of g^2 (`2 ||diag(g) G||`).

    Returns:
        `MomentBound(value, eta_crit, weights, couplings)`; an upper bound.

    Raises:
        ValueError, TypeError: arguments that do not fit.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> x = jnp.array([[1.0], [2.0]])
        >>> rule = eq.rules.adam_delayed(lambda x: 5 * jnp.sum(x**2))
        >>> state = rule.update(x, rule.init(x)).state
        >>> found = eq.measure.adam_bound(x, 10 * x, state, eta=1e-3, delayed=True)
        >>> bool(found.value < 1), bool(found.eta_crit > 1e-3)
        (True, True)

    References:
        Derived; Yang et al., arXiv:2510.02670, equation 16 (the delayed form) and section 5.2.
    """
    x, g = _two(x, g)
    beta1, beta2 = (_checks.number(beta, name, least=0, below=1) for beta, name in ((beta1, "beta1"), (beta2, "beta2")))
    eps = _checks.number(eps, "eps", above=0)
    if not all(hasattr(state, name) for name in ("t", "m", "v")):
        msg = f"state: got {type(state).__name__}; expected one with t, m and v; write rule.init(x) of a rules.adam, or what a step gave."
        raise TypeError(msg)
    _checks.same_shape(x, _checks.points(state.m, "state.m"), ("x", "state.m"))
    _checks.same_shape(x, _checks.points(state.v, "state.v"), ("x", "state.v"))
    numbers = _numbers(x, eta=eta, beta1=beta1, rest1=1 - beta1, beta2=beta2, rest2=1 - beta2, eps=eps)
    return _adam(delayed, x, g, (state.t, state.m, state.v), numbers, _rate(rate, "rate", x), _rate(square_rate, "square_rate", x))


def _two(x: Any, g: Any) -> tuple[Points, Points]:
    x, g = _checks.points(x, least=2), _checks.points(g, "g", least=2)
    _checks.same_shape(x, g, ("x", "g"))
    return x, g


def _numbers(x: Points, *, eta: Any, **rates: Any) -> dict[str, Scalar]:
    _checks.step_size(eta)
    return {name: jnp.asarray(value, x.dtype) for name, value in {"eta": eta, **rates}.items()}


def _rate(value: Any, name: str, x: Points) -> Scalar | None:
    return None if value is None else jnp.asarray(_checks.number(value, name, least=0), x.dtype)


def _over(a: jax.Array, b: jax.Array) -> jax.Array:
    """`a / b`, and 0 where a is 0."""
    return jnp.where(a > 0, a / jnp.where(a > 0, b, 1), 0)


@jax.jit
def _heavy_ball(x: Points, g: Points, numbers: dict[str, Scalar], rate: Scalar | None) -> MomentBound:
    eta, beta, rest = (numbers[name] for name in ("eta", "beta", "rest"))
    R = geometry.pair_constants(x, g).k_pair if rate is None else rate
    p = eta * R
    corner = jnp.sqrt(beta * p)
    value = _norm(jnp.stack([jnp.stack([p, corner]), jnp.stack([corner, rest])]))
    return MomentBound(value, jnp.where(beta > 0, 1 / (2 * R), 0), jnp.sqrt(_over(eta * beta, R))[None], p[None])


@functools.partial(jax.jit, static_argnums=0)
def _adam(
    delayed: bool, x: Points, g: Points, state: tuple, numbers: dict[str, Scalar], rate: Scalar | None, square_rate: Scalar | None
) -> MomentBound:
    eta, eps = numbers["eta"], numbers["eps"]
    beta, rest = (jnp.stack([numbers[f"{name}1"], numbers[f"{name}2"]]) for name in ("beta", "rest"))
    t, m, v = state
    R, R2 = (geometry.pair_constants(x, h).k_pair if known is None else known for h, known in ((g, rate), (g**2, square_rate)))
    if not delayed:
        t, m, v = t + 1, beta[0] * m + rest[0] * g, beta[1] * v + rest[1] * g**2
    correct1, correct2 = 1 - beta ** jnp.maximum(t, 1).astype(x.dtype)
    root = jnp.sqrt(jnp.min(v, axis=0) / correct2)
    a = jnp.max(1 / (correct1 * (root + eps)))
    b = jnp.max(_over(jnp.max(jnp.abs(m), axis=0) / correct1, 2 * correct2 * root * (root + eps) ** 2))
    a, b = (jnp.where(t > 0, part, 0) for part in (a, b))  # U is 0 before the first moments
    from_x = rest * jnp.stack([R, R2])  # what a change of x does to the moments
    onto_x = eta * jnp.stack([a, b])  # what a change of the moments that U reads does to x
    p = jnp.where(from_x > 0, onto_x * from_x, 0)
    kept = jnp.ones_like(beta) if delayed else beta  # U reads this share of the old moments
    corner, top = jnp.sqrt(kept * p), jnp.zeros_like(eta) if delayed else jnp.sum(p)
    load = jnp.where(jnp.all(beta > 0), jnp.sum(p / beta) if delayed else 2 * jnp.sum(p), jnp.inf)
    bounded = jnp.all(jnp.isfinite(p))
    matrix = jnp.diag(jnp.append(top, rest)).at[0, 1:].set(corner).at[1:, 0].set(corner)
    value = jnp.where(bounded, _norm(jnp.where(bounded, matrix, 0)), jnp.sum(p))
    return MomentBound(value, eta / load, jnp.sqrt(_over(kept * onto_x, from_x)), p)


def _norm(matrix: jax.Array) -> Scalar:
    """Of a symmetric matrix without negative entries: its largest eigenvalue."""
    return jnp.linalg.eigvalsh(matrix)[-1]
