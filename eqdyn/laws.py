"""The laws that equivariance imposes, each as the residual of one draw.

A law is in two parts. `answer` asks the rule: it is all that has to be compiled for a rule. `residual` compares what came back
with what the law says: it knows particles and numbers only, and serves every rule of one shape. Both are functions of one draw;
`eq.check` maps them over many. P1 and lemma 1 fail where particles are treated unlike, lemma 2 there and above a declared K. The
merge law is an identity of x + eta U(x): without a declared K it fails only for a rule that does not repeat its U.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from eqdyn import geometry
from eqdyn._draws import ROLL_OUT, Draw, Moved, Sizes, force, looked_at, settled
from eqdyn._types import Points, Scalar, Tree
from eqdyn.measure.coincidence import count_merges
from eqdyn.measure.equivariance import compare, roll_outs
from eqdyn.rule import Rule, step

_EPS = 16  # roundings of a few operations on numbers near 1


class Residual(NamedTuple):
    """How far a draw misses the law, and what rounding alone may do; no unit. An error above the tolerance refutes the law."""

    error: Any
    tolerance: Any


class Law(NamedTuple):
    """A law by name: its statement, the question to the rule, and the residual of the answer.

    `answer`: `(rule, group, given, draw, moved, sizes, data) -> tree`, with `given` None or the user's state.
    `residual`: `(group, draw, moved, sizes, answer) -> Residual`.
    """

    name: str
    says: str
    answer: Callable[..., Tree]
    residual: Callable[..., Residual]


# --- P1 and lemma 1: equivariance, and what it does to equal particles -----------------------------------------------------


def _p1_answer(rule: Rule, group: Any, given: Tree, draw: Draw, moved: Moved, sizes: Sizes, data: Tree) -> Tree:
    fresh = roll_outs(rule, group, ROLL_OUT, draw.x, draw.perm, None, data, sizes.half, draw.key)
    return (fresh,) if given is None else (fresh, roll_outs(rule, group, 1, draw.x, draw.perm, given, data, sizes.half, draw.key))


def _p1_residual(group: Any, draw: Draw, moved: Moved, sizes: Sizes, answer: Tree) -> Residual:
    found = [compare(group, draw.x, draw.perm, us) for us in answer]
    return _worst(jnp.stack([one.error for one in found]), jnp.stack([one.tolerance for one in found]))


def _twins(group: Any, draw: Draw) -> Tree:
    """Particle perm[1] made a copy of particle perm[0], weight included."""
    return group.permute(draw.x, jnp.arange(group.size, dtype=jnp.int32).at[draw.perm[1]].set(draw.perm[0]))


def _lemma1_answer(rule: Rule, group: Any, given: Tree, draw: Draw, moved: Moved, sizes: Sizes, data: Tree) -> Tree:
    x = _twins(group, draw)

    def advance(carry: tuple, k: jax.Array) -> tuple[tuple, Points]:
        x, state = carry
        x, state, _ = step(rule, x, state, sizes.half, data, key=jax.random.fold_in(draw.key, k))
        return (x, state), group.particles(x)

    _, rows = jax.lax.scan(advance, (x, rule.init(x)), jnp.arange(ROLL_OUT))
    return rows


def _lemma1_residual(group: Any, draw: Draw, moved: Moved, sizes: Sizes, rows: Points) -> Residual:
    path = jnp.concatenate([group.particles(_twins(group, draw))[None], rows])
    eps, largest = jnp.finfo(path.dtype).eps, jnp.max(jnp.abs(path))
    way = jnp.maximum(jnp.max(jnp.abs(path[1:] - path[:-1])), eps * largest + jnp.finfo(path.dtype).tiny)
    apart = jnp.max(jnp.abs(path[:, draw.perm[0]] - path[:, draw.perm[1]]))
    floor = 4 * eps * largest + ROLL_OUT * sizes.half * moved.noise
    return Residual(apart / way, jnp.where(apart == 0, _EPS * eps, floor / way))  # equal to the bit: nothing to tell


# --- lemma 2 and the merge law: pairs of particles -------------------------------------------------------------------------


def _with_near_pair(group: Any, draw: Draw) -> Tree:
    """Particle perm[1] put next to particle perm[0], at a hundredth of their distance: there K is a local matter."""
    rows = group.particles(draw.x)
    i, j = draw.perm[0], draw.perm[1]
    return group.with_particles(draw.x, rows.at[j].set(rows[i] + 0.01 * (rows[j] - rows[i])))


class _Exchanged(NamedTuple):
    """Near a close pair: the particles and their U, and how far U as a whole moves when one pair is exchanged,
    `|U(X) - U(PX)|` with P the swap, for each looked-at pair.
    """

    x: Points
    u: Points
    change: jax.Array


def _lemma2_answer(rule: Rule, group: Any, given: Tree, draw: Draw, moved: Moved, sizes: Sizes, data: Tree) -> Tree:
    near = _with_near_pair(group, draw)
    same = jnp.arange(group.size, dtype=jnp.int32)
    orders = jax.vmap(lambda pair: same.at[pair[0]].set(pair[1]).at[pair[1]].set(pair[0]))(looked_at(draw, sizes))

    def exchanged(order: jax.Array) -> tuple[Tree, Tree]:
        x, state = settled(rule, group, given, draw, data, near, order)
        return group.particles(x), force(rule, draw, data, x, state)

    x, u = jax.vmap(exchanged)(jnp.concatenate([same[None], orders]))
    change = jnp.sqrt(sum(jnp.sum((leaf[1:] - leaf[:1]) ** 2, axis=tuple(range(1, leaf.ndim))) for leaf in jax.tree.leaves(u)))
    return _Exchanged(x[0], group.particles(jax.tree.map(lambda leaf: leaf[0], u)), change)


def _lemma2_residual(group: Any, draw: Draw, moved: Moved, sizes: Sizes, answer: _Exchanged) -> Residual:
    pairs = looked_at(draw, sizes)
    dx, du = (rows[pairs[:, 0]] - rows[pairs[:, 1]] for rows in (answer.x, answer.u))
    d = jnp.linalg.norm(dx, axis=1)
    distance, eps = jnp.where(d > 0, d, 1), jnp.finfo(d.dtype).eps
    noise = moved.noise * jnp.sqrt(jnp.asarray(group.dim, d.dtype))
    # |U(X) - U(PX)| / |X - PX| with |X - PX| = sqrt(2) d: the constant that lemma 4 uses, taken without P1
    sampled = answer.change / (jnp.sqrt(jnp.asarray(2, d.dtype)) * distance)
    K = jnp.where(jnp.isnan(sizes.K), sampled, sizes.K)
    errors, tolerances = [], []
    for eta in (sizes.half, sizes.most):
        stretch = jnp.linalg.norm(dx + eta * du, axis=1) / distance
        errors.append(jnp.where(d > 0, jnp.maximum(jnp.abs(stretch - 1) - eta * K, 0), 0))
        tolerances.append(jnp.where(d > 0, eta * noise / distance, 0) + _EPS * eps)
    # a declared K must cover every pair of the draw, not only those looked at
    rows = group.particles(moved.x)
    i, j = sizes.constants.k_pair_at
    attained = jnp.linalg.norm(rows[i] - rows[j])
    over = jnp.where(jnp.isnan(sizes.K), 0, jnp.maximum(sizes.constants.k_pair / sizes.K - 1, 0))
    room = jnp.where(jnp.isnan(sizes.K) | (attained == 0), 0, noise / (jnp.where(attained > 0, attained, 1) * sizes.K)) + _EPS * eps
    return _worst(jnp.append(jnp.concatenate(errors), over), jnp.append(jnp.concatenate(tolerances), room))


class _Approach(NamedTuple):
    """Of each looked-at pair: whether it closes in, at which eta it is closest, and how close: `s^2 = 1 - p^2/R^2`."""

    closing: jax.Array
    rate: jax.Array
    eta: jax.Array
    stretch2: jax.Array


def _approach(group: Any, draw: Draw, moved: Moved, sizes: Sizes) -> _Approach:
    x, pairs = group.particles(moved.x), looked_at(draw, sizes)
    dx, du = (rows[pairs[:, 0]] - rows[pairs[:, 1]] for rows in (x, moved.u))
    d, rate = jnp.linalg.norm(dx, axis=1), jnp.linalg.norm(du, axis=1)
    some = (d > 0) & (rate > 0)
    d, rate = jnp.where(some, d, 1), jnp.where(some, rate, 1)
    cosine = jnp.sum((dx / d[:, None]) * (du / rate[:, None]), axis=1)  # p / R
    eta = -cosine * d / rate
    closing = some & (eta > 0) & jnp.isfinite(eta)
    return _Approach(closing, rate, jnp.where(closing, eta, sizes.half), 1 - cosine**2)


def _merge_answer(rule: Rule, group: Any, given: Tree, draw: Draw, moved: Moved, sizes: Sizes, data: Tree) -> Tree:
    """A step at each pair's closest approach, and one at 0.99/K_pair; each asks the rule for its U anew."""

    def at(eta: Scalar) -> Points:
        return group.particles(step(rule, moved.x, moved.state, eta, data, key=jax.random.fold_in(draw.key, ROLL_OUT))[0])

    below = 0.99 / jnp.where(sizes.constants.k_pair > 0, sizes.constants.k_pair, 1)
    return jax.vmap(at)(jnp.append(_approach(group, draw, moved, sizes).eta, below))


def _merge_residual(group: Any, draw: Draw, moved: Moved, sizes: Sizes, after: Points) -> Residual:
    x, pairs, eps = group.particles(moved.x), looked_at(draw, sizes), jnp.finfo(moved.u.dtype).eps
    noise = moved.noise * jnp.sqrt(jnp.asarray(group.dim, x.dtype))
    found = _approach(group, draw, moved, sizes)
    told = found.closing & (found.rate > 2 * noise)  # else rounding alone decides when the pair is closest

    def floor(y: Points, pair: jax.Array, eta: Scalar) -> tuple[Scalar, Scalar]:
        """The stretch of a pair, and the stretch below which it is not resolved (theory: 4 eps (|x_i'| + |x_j'|) / d_ij)."""
        i, j = pair
        d = jnp.linalg.norm(x[i] - x[j])
        d = jnp.where(d > 0, d, 1)
        size = jnp.linalg.norm(y[i]) + jnp.linalg.norm(y[j]) + jnp.linalg.norm(x[i])
        return jnp.linalg.norm(y[i] - y[j]) / d, (4 * eps * size + eta * noise) / d

    reached, unresolved = jax.vmap(floor)(after[:-1], pairs, found.eta)
    # squares: near a merge the stretch is the root of a difference of two numbers near 1
    miss = jnp.abs(reached**2 - found.stretch2)
    room = _EPS * eps + unresolved * (unresolved + 2 * jnp.sqrt(jnp.maximum(found.stretch2, 0)))
    # merged below the declared 1/K, by more than the rounding of the eta at which the pair is closest; false without a K
    below_declared = found.eta * sizes.K < 1 - noise / found.rate - _EPS * eps
    miss = jnp.where(below_declared & (reached <= unresolved), 1, miss)
    k = sizes.constants.k_pair
    safe = 0.99 / jnp.where(k > 0, k, 1)
    low = geometry.stretch(x, after[-1])
    _, unresolved = floor(after[-1], low.low_at, safe)
    nobody = count_merges(x, after[-1]).merged == 0
    short = jnp.where(nobody | (unresolved > 0.01), jnp.maximum(1 - safe * k - low.low, 0), 1)
    errors = jnp.append(jnp.where(told, miss, 0), short)
    return _worst(errors, jnp.append(jnp.where(told, room, _EPS * eps), unresolved + _EPS * eps))


# --- what the laws share ---------------------------------------------------------------------------------------------------


def _worst(errors: jax.Array, tolerances: jax.Array) -> Residual:
    at = jnp.argmax(errors / tolerances)
    return Residual(errors[at], tolerances[at])


LAWS = (
    Law("P1", "U(PX) = P U(X) for every permutation P", _p1_answer, _p1_residual),
    Law("Lemma 1", "equal particles stay equal", _lemma1_answer, _lemma1_residual),
    Law("Lemma 2", "1 - eta K <= |x_i' - x_j'| / |x_i - x_j| <= 1 + eta K", _lemma2_answer, _lemma2_residual),
    Law("Merge law", "closest at eta = -p/R^2, by sqrt(1 - p^2/R^2); below 1/K_pair nobody merges", _merge_answer, _merge_residual),
)
