"""Pairs of particles: lemmas 1, 2, 4 and 5, and the merge law."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from eqdyn import geometry
from eqdyn._ask.draws import AT, NEAR
from eqdyn._ask.draws import pairs as random_pairs
from eqdyn._ask.lifted import lengths
from eqdyn._types import Points, Scalar
from eqdyn.laws._law import EPS, Facts, Law, Residual, per, worst


def looked_at(facts: Facts) -> jax.Array:
    """Random pairs, the near one first, then the two that attain the constants."""
    return jnp.concatenate([random_pairs(facts.draw), facts.constants.k_pair_at[None], facts.constants.mu_at[None]])


# --- lemma 1 ----------------------------------------------------------------------------------------------------------------


def torn(facts: Facts) -> Residual:
    """Equal particles that get an unequal U, over a roll-out."""
    u, eps = facts.asked.twins, jnp.finfo(facts.asked.twins.dtype).eps
    largest = jnp.maximum(jnp.max(jnp.abs(u)), jnp.finfo(u.dtype).tiny)
    copies = facts.draw.perm[1 : 3 if u.shape[1] > 3 else 2]
    apart = jnp.max(jnp.abs(u[:, copies] - u[:, facts.draw.perm[:1]]))
    floor = facts.noise + 4 * eps * largest
    return Residual(apart / largest, jnp.where(apart == 0, EPS * eps, floor / largest))  # equal to the bit: nothing to tell


def _lemma1(group: Any, facts: Facts) -> Residual:
    return facts.shared["torn"]


# --- lemmas 2, 4 and 5: pairs near and far, and U with one of them exchanged ------------------------------------------------


def alike(facts: Facts, pairs: jax.Array) -> jax.Array:
    """Whether the two have one weight: a declared K speaks of fixed weights, and an exchange of others changes them."""
    return facts.asked.weight[pairs[..., 0]] == facts.asked.weight[pairs[..., 1]]


class _Pairs(NamedTuple):
    """The random pairs at NEAR: distance, `x_i - x_j`, `U_i - U_j`; `sqrt2_d` is `|X - PX|` of their swap; what rounding does to |dU|;
    the K that bounds them, infinite where the declared one says nothing.
    """

    distance: jax.Array
    dx: Points
    du: Points
    sqrt2_d: jax.Array
    noise: Scalar
    declared: jax.Array


def _near(group: Any, facts: Facts) -> _Pairs:
    two = random_pairs(facts.draw)
    dx, du = (rows[two[:, 0]] - rows[two[:, 1]] for rows in (facts.asked.x[NEAR], facts.asked.u[NEAR]))
    d = lengths(dx)
    sqrt2, root = (jnp.sqrt(jnp.asarray(count, d.dtype)) for count in (2, group.dim))
    return _Pairs(d, dx, du, sqrt2 * d, facts.near_noise * root, jnp.where(alike(facts, two), facts.K, jnp.inf))


def _beyond_declared(group: Any, facts: Facts) -> Residual:
    """A declared K must cover every pair of the draw, not only those looked at."""
    x, (i, j) = facts.asked.x[AT], facts.constants.k_pair_at
    d, eps = lengths((x[i] - x[j])[None])[0], jnp.finfo(x.dtype).eps
    silent = jnp.isnan(facts.K) | ~alike(facts, facts.constants.k_pair_at)
    over = jnp.where(silent, 0, jnp.maximum(facts.constants.k_pair / facts.K - 1, 0))
    noise = facts.noise * jnp.sqrt(jnp.asarray(group.dim, x.dtype))
    return Residual(over, jnp.where(silent | (d == 0), 0, per(noise, d * facts.K)) + EPS * eps)


def _lemma2(group: Any, facts: Facts) -> Residual:
    at = _near(group, facts)
    # |U(X) - U(PX)| / |X - PX|: the constant that lemma 4 uses, taken without P1
    K = jnp.where(jnp.isnan(facts.K), per(facts.asked.swaps.change, at.sqrt2_d), at.declared)
    found = [_beyond_declared(group, facts)]
    for eta in (facts.half, facts.most):
        stretch = per(lengths(at.dx + eta * at.du), at.distance)
        error = jnp.where(at.distance > 0, jnp.maximum(jnp.abs(stretch - 1) - eta * K, 0), 0)
        tolerance = jnp.where(at.distance > 0, per(eta * at.noise, at.distance), 0) + EPS * jnp.finfo(K.dtype).eps
        found.append(Residual(error, tolerance))
    return worst(*found)


def _lemma4(group: Any, facts: Facts) -> Residual:
    at = _near(group, facts)
    K = jnp.where(jnp.isnan(facts.K), per(facts.asked.swaps.change, at.sqrt2_d), at.declared)
    return _no_splitting(group, facts, at, K, facts.K)


def _lemma5(group: Any, facts: Facts) -> Residual:
    at = _near(group, facts)
    K = jnp.where(jnp.isnan(facts.K), per(facts.asked.swaps.row, at.sqrt2_d), at.declared)
    return _no_splitting(group, facts, at, 2 * K, 2 * facts.K)


def _no_splitting(group: Any, facts: Facts, at: _Pairs, K: jax.Array, declared: Scalar) -> Residual:
    """|U_i - U_j| <= K |x_i - x_j|, in units of the largest U; of the near pairs, and of all with a declared K."""
    eps = jnp.finfo(at.du.dtype).eps
    error = per(jnp.where(at.distance > 0, jnp.maximum(lengths(at.du) - K * at.distance, 0), 0), facts.near_norm)
    near = Residual(error, jnp.full(error.shape, per(at.noise, facts.near_norm) + EPS * eps))
    x, (i, j) = facts.asked.x[AT], facts.constants.k_pair_at
    far = lengths((x[i] - x[j])[None])[0]
    silent = jnp.isnan(declared) | ~alike(facts, facts.constants.k_pair_at) | (far == 0)
    beyond = jnp.where(silent, 0, jnp.maximum(facts.constants.k_pair - declared, 0) * far)
    noise = facts.noise * jnp.sqrt(jnp.asarray(group.dim, x.dtype))
    return worst(near, Residual(per(beyond, facts.norm), per(noise, facts.norm) + EPS * eps))


# --- the merge law ----------------------------------------------------------------------------------------------------------


class _Approach(NamedTuple):
    """Of each looked-at pair: whether it closes in, at which eta it is closest, and how close: `s^2 = 1 - p^2/R^2`."""

    closing: jax.Array
    rate: jax.Array
    eta: jax.Array
    stretch2: jax.Array


def _approach(facts: Facts) -> _Approach:
    x, u, pairs = facts.asked.x[AT], facts.asked.u[AT], looked_at(facts)
    dx, du = (rows[pairs[:, 0]] - rows[pairs[:, 1]] for rows in (x, u))
    d, rate = lengths(dx), lengths(du)
    some = (d > 0) & (rate > 0)
    d, rate = jnp.where(some, d, 1), jnp.where(some, rate, 1)
    cosine = jnp.sum((dx / d[:, None]) * (du / rate[:, None]), axis=1)  # p / R
    eta = -cosine * d / rate
    closing = some & (eta > 0) & jnp.isfinite(eta)
    return _Approach(closing, rate, jnp.where(closing, eta, facts.half), 1 - cosine**2)


def _floor(x: Points, y: Points, pair: jax.Array, eta: Scalar, noise: Scalar) -> tuple[Scalar, Scalar]:
    """The stretch of a pair, and the stretch below which it is not resolved (theory: 4 eps (|x_i'| + |x_j'|) / d_ij)."""
    i, j = pair
    d = jnp.linalg.norm(x[i] - x[j])
    d = jnp.where(d > 0, d, 1)
    size = jnp.linalg.norm(y[i]) + jnp.linalg.norm(y[j]) + jnp.linalg.norm(x[i])
    return jnp.linalg.norm(y[i] - y[j]) / d, (4 * jnp.finfo(y.dtype).eps * size + eta * noise) / d


def _closest(group: Any, facts: Facts) -> tuple[_Approach, jax.Array, jax.Array, Scalar]:
    """Each looked-at pair, moved by U asked anew to where it is closest: its stretch there, and what is not resolved."""
    x, found = facts.asked.x[AT], _approach(facts)
    noise = facts.noise * jnp.sqrt(jnp.asarray(group.dim, x.dtype))
    reached, unresolved = jax.vmap(lambda pair, eta: _floor(x, x + eta * facts.asked.again, pair, eta, noise))(looked_at(facts), found.eta)
    return found, reached, unresolved, noise


def merged_early(group: Any, facts: Facts) -> Residual:
    """A pair that merges below the declared 1/K, or anybody who merges below 1/K_pair; 1 for a merge, or what the stretch lacks."""
    x, eps = facts.asked.x[AT], jnp.finfo(facts.asked.x.dtype).eps
    found, reached, unresolved, noise = _closest(group, facts)
    # by more than the rounding of the eta at which the pair is closest; false without a K
    below = (found.eta * facts.K < 1 - noise / found.rate - EPS * eps) & alike(facts, looked_at(facts))
    early = jnp.where(found.closing & below & (reached <= unresolved), 1, 0)
    k = jnp.where(jnp.isinf(facts.constants.k_pair), 0, facts.constants.k_pair)  # coincident particles are torn: lemma 1 says so
    safe = 0.99 / jnp.where(k > 0, k, 1)
    after = x + safe * facts.asked.again
    low = geometry.stretch(x, after)
    _, coarse = _floor(x, after, low.low_at, safe, noise)
    short = jnp.where((low.low > 0) | (coarse > 0.01), jnp.maximum(1 - safe * k - low.low, 0), 1)
    distinct = jnp.any(x != x[:1]) & ~jnp.isinf(facts.constants.k_pair)
    short, coarse = jnp.where(distinct, short, 0), jnp.where(distinct, coarse, 0)
    return worst(Residual(early.astype(x.dtype), jnp.full(early.shape, EPS * eps)), Residual(short, coarse + EPS * eps))


def _merge_law(group: Any, facts: Facts) -> Residual:
    eps = jnp.finfo(facts.asked.x.dtype).eps
    found, reached, unresolved, noise = _closest(group, facts)
    told = found.closing & (found.rate > 2 * noise)  # else rounding alone decides when the pair is closest
    # squares: near a merge the stretch is the root of a difference of two numbers near 1
    miss = jnp.where(told, jnp.abs(reached**2 - found.stretch2), 0)
    room = jnp.where(told, unresolved * (unresolved + 2 * jnp.sqrt(jnp.maximum(found.stretch2, 0))), 0) + EPS * eps
    return worst(Residual(miss, room), facts.shared["merged early"])


LEMMA_1 = Law("Lemma 1", "equal particles stay equal", _lemma1)
LEMMA_2 = Law("Lemma 2", "1 - eta K <= |x_i' - x_j'| / |x_i - x_j| <= 1 + eta K", _lemma2)
LEMMA_4 = Law("Lemma 4", "|U_i - U_j| <= K |x_i - x_j|", _lemma4)
LEMMA_5 = Law("Lemma 5", "|U_i - U_j| <= K' |x_i - x_j| with the K' of P2'", _lemma5)
MERGE_LAW = Law("Merge law", "closest at eta = -p/R^2, by sqrt(1 - p^2/R^2); below 1/K_pair nobody merges", _merge_law)
