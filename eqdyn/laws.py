"""The laws that equivariance imposes, each as the residual of one draw.

A law is in two parts. `answer` asks the rule: it is all that has to be compiled for a rule. `residual` compares what came back
with what the law says: it knows particles and numbers only, and serves every rule of one shape. Both are functions of one draw;
`eq.check` maps them over many. Every law can fail: it compares two things that agree only if the law holds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from eqdyn import geometry
from eqdyn._types import Key, Points, Scalar, Tree
from eqdyn.geometry import PairConstants
from eqdyn.measure.coincidence import count_merges
from eqdyn.measure.equivariance import compare, one_rounding, roll_outs
from eqdyn.rule import Rule, step

ROLL_OUT = 3  # steps that a roll-out from a fresh state takes
_PAIRS = 4  # random pairs a draw looks at, beside the two extreme ones
_MARGIN = 16  # on top of what one rounding of the input does to the output


class Draw(NamedTuple):
    """One drawn configuration, its permutation and its key; drawn without knowing the rule."""

    x: Tree
    perm: jax.Array
    key: Key


class Moved(NamedTuple):
    """What the rule does at a draw: `u`, the particles' part of U; `noise`, what one rounding of x does to it at most."""

    u: Points
    noise: Scalar


class Sizes(NamedTuple):
    """Step sizes of a draw: those asked for, or 0.5 and 0.99 of `1/K_pair`; `K` is NaN if none was declared."""

    constants: PairConstants
    half: Scalar
    most: Scalar
    K: Scalar


class Residual(NamedTuple):
    """How far a draw misses the law, and what rounding alone may do; no unit. An error above the tolerance refutes the law."""

    error: Any
    tolerance: Any


class Law(NamedTuple):
    """A law by name: its statement, the question to the rule, and the residual of the answer.

    `answer`: `(rule, group, given, draw, sizes, data) -> tree`, with `given` None or the user's state.
    `residual`: `(group, draw, moved, sizes, answer) -> Residual`.
    """

    name: str
    says: str
    answer: Callable[..., Tree]
    residual: Callable[..., Residual]


def draw(group: Any, x: Tree, key: Key, index: jax.Array) -> Draw:
    """Draw number `index`: number 0 is x itself, the others lie around it, at a tenth of its spread."""
    of_x, of_perm, of_rule = jax.random.split(jax.random.fold_in(key, index), 3)
    points = group.particles(x)
    spread = jnp.std(points, axis=0, keepdims=True)
    largest = jnp.max(jnp.abs(points))
    spread = jnp.where(spread > 0, spread, jnp.where(largest > 0, largest, 1))
    noise = jax.random.normal(of_x, points.shape, points.dtype)
    around = jnp.where(index == 0, points, points + 0.1 * spread * noise)
    return Draw(group.with_particles(x, around), jax.random.permutation(of_perm, group.size).astype(jnp.int32), of_rule)


def moved(rule: Rule, group: Any, draw: Draw, data: Tree) -> Moved:
    """U at the draw, and its conditioning."""

    def force(x: Tree) -> Points:
        return group.particles(_force(rule, draw, data, x))

    up = jax.tree.map(lambda a: a * (1 + jnp.finfo(a.dtype).eps), draw.x)
    either = jax.tree.map(lambda *leaves: jnp.stack(leaves), draw.x, one_rounding(draw.x), up)
    u, *shaken = jax.vmap(force)(either)
    change = jnp.maximum(*(jnp.max(jnp.abs(other - u)) for other in shaken))
    return Moved(u, change + jnp.finfo(u.dtype).eps * jnp.max(jnp.abs(u)))


def sizes(group: Any, draw: Draw, moved: Moved, eta: Scalar, K: Scalar) -> Sizes:
    """The pair constants at the draw, and the step sizes that follow; `eta` and `K` are NaN where none was given."""
    found = geometry.pair_constants(group.particles(draw.x), moved.u)
    usable = jnp.isfinite(found.k_pair) & (found.k_pair > 0)
    inverse = jnp.where(usable, 1 / jnp.where(usable, found.k_pair, 1), 1)
    half, most = (jnp.where(jnp.isnan(eta), share * inverse, eta) for share in (0.5, 0.99))
    return Sizes(found, half, most, K)


# --- P1 and lemma 1: equivariance, and what it does to equal particles -----------------------------------------------------


def _p1_answer(rule: Rule, group: Any, given: Tree, draw: Draw, sizes: Sizes, data: Tree) -> Tree:
    fresh = roll_outs(rule, group, ROLL_OUT, draw.x, draw.perm, None, data, sizes.half, draw.key)
    return (fresh,) if given is None else (fresh, roll_outs(rule, group, 1, draw.x, draw.perm, given, data, sizes.half, draw.key))


def _p1_residual(group: Any, draw: Draw, moved: Moved, sizes: Sizes, answer: Tree) -> Residual:
    found = [compare(group, draw.x, draw.perm, us) for us in answer]
    return _worst(jnp.stack([one.error for one in found]), jnp.stack([one.tolerance for one in found]))


def _twins(group: Any, draw: Draw) -> Tree:
    """Particle perm[1] made a copy of particle perm[0], weight included."""
    return group.permute(draw.x, jnp.arange(group.size, dtype=jnp.int32).at[draw.perm[1]].set(draw.perm[0]))


def _lemma1_answer(rule: Rule, group: Any, given: Tree, draw: Draw, sizes: Sizes, data: Tree) -> Tree:
    x = _twins(group, draw)

    def advance(carry: tuple, k: jax.Array) -> tuple[tuple, Points]:
        x, state = carry
        x, state, _ = step(rule, x, state, sizes.half, data, key=jax.random.fold_in(draw.key, k))
        return (x, state), group.particles(x)

    _, rows = jax.lax.scan(advance, (x, rule.init(x)), jnp.arange(ROLL_OUT))
    return rows


def _lemma1_residual(group: Any, draw: Draw, moved: Moved, sizes: Sizes, rows: Points) -> Residual:
    path = jnp.concatenate([group.particles(_twins(group, draw))[None], rows])
    way = jnp.maximum(jnp.max(jnp.abs(path[1:] - path[:-1])), jnp.finfo(path.dtype).tiny)
    apart = jnp.max(jnp.abs(path[:, draw.perm[0]] - path[:, draw.perm[1]]))
    floor = 4 * jnp.finfo(path.dtype).eps * jnp.max(jnp.abs(path)) + ROLL_OUT * _MARGIN * sizes.half * moved.noise
    return Residual(apart / way, floor / way)


# --- lemma 2 and the merge law: pairs of particles -------------------------------------------------------------------------


def _with_near_pair(group: Any, draw: Draw) -> Tree:
    """Particle perm[1] put next to particle perm[0], at a hundredth of their distance: there K is a local matter."""
    rows = group.particles(draw.x)
    i, j = draw.perm[0], draw.perm[1]
    return group.with_particles(draw.x, rows.at[j].set(rows[i] + 0.01 * (rows[j] - rows[i])))


def _lemma2_answer(rule: Rule, group: Any, given: Tree, draw: Draw, sizes: Sizes, data: Tree) -> Tree:
    """U near a close pair, and how far U as a whole moves when one pair is exchanged, `|U(X) - U(PX)|`, P the swap."""
    x = _with_near_pair(group, draw)
    pairs = _pairs(draw, sizes)
    orders = jax.vmap(lambda pair: jnp.arange(group.size, dtype=jnp.int32).at[pair[0]].set(pair[1]).at[pair[1]].set(pair[0]))(pairs)
    asked = jnp.concatenate([jnp.arange(group.size, dtype=jnp.int32)[None], orders])
    u = jax.vmap(lambda order: _force(rule, draw, data, group.permute(x, order)))(asked)
    exchanged = jnp.sqrt(sum(jnp.sum((leaf[1:] - leaf[:1]) ** 2, axis=tuple(range(1, leaf.ndim))) for leaf in jax.tree.leaves(u)))
    return group.particles(jax.tree.map(lambda leaf: leaf[0], u)), exchanged


def _lemma2_residual(group: Any, draw: Draw, moved: Moved, sizes: Sizes, answer: Tree) -> Residual:
    u, exchanged = answer
    x = group.particles(_with_near_pair(group, draw))
    pairs = _pairs(draw, sizes)
    dx, du = (rows[pairs[:, 0]] - rows[pairs[:, 1]] for rows in (x, u))
    d = jnp.linalg.norm(dx, axis=1)
    distance = jnp.where(d > 0, d, 1)
    # |U(X) - U(PX)| / |X - PX| with |X - PX| = sqrt(2) d: the constant that lemma 4 uses, taken without P1
    sampled = exchanged / (jnp.sqrt(jnp.asarray(2, d.dtype)) * distance)
    K = jnp.where(jnp.isnan(sizes.K), sampled, sizes.K)
    errors, tolerances = [], []
    for eta in (sizes.half, sizes.most):
        stretch = jnp.linalg.norm(dx + eta * du, axis=1) / distance
        errors.append(jnp.where(d > 0, jnp.maximum(jnp.abs(stretch - 1) - eta * K, 0), 0))
        room = _MARGIN * (eta * moved.noise * jnp.sqrt(jnp.asarray(group.dim, d.dtype)) / distance + jnp.finfo(d.dtype).eps)
        tolerances.append(jnp.where(d > 0, room, _MARGIN * jnp.finfo(d.dtype).eps))
    # a declared K must cover every pair of the draw, not only those looked at
    over = jnp.where(jnp.isnan(sizes.K), 0, jnp.maximum(sizes.constants.k_pair / sizes.K - 1, 0))
    return _worst(jnp.append(jnp.concatenate(errors), over), jnp.append(jnp.concatenate(tolerances), _MARGIN * jnp.finfo(d.dtype).eps))


class _Approach(NamedTuple):
    """Of each looked-at pair: whether it closes in, at which eta it is closest, and how close: `s^2 = 1 - p^2/R^2`."""

    closing: jax.Array
    rate: jax.Array
    eta: jax.Array
    stretch2: jax.Array


def _approach(group: Any, draw: Draw, u: Points, sizes: Sizes) -> _Approach:
    x, pairs = group.particles(draw.x), _pairs(draw, sizes)
    dx, du = (rows[pairs[:, 0]] - rows[pairs[:, 1]] for rows in (x, u))
    d, rate = jnp.linalg.norm(dx, axis=1), jnp.linalg.norm(du, axis=1)
    some = (d > 0) & (rate > 0)
    d, rate = jnp.where(some, d, 1), jnp.where(some, rate, 1)
    cosine = jnp.sum((dx / d[:, None]) * (du / rate[:, None]), axis=1)  # p / R
    eta = -cosine * d / rate
    closing = some & (eta > 0) & jnp.isfinite(eta)
    return _Approach(closing, rate, jnp.where(closing, eta, sizes.half), 1 - cosine**2)


def _merge_answer(rule: Rule, group: Any, given: Tree, draw: Draw, sizes: Sizes, data: Tree) -> Tree:
    """A step at each pair's closest approach, and one at 0.99/K_pair; each asks the rule for its U anew."""
    fresh = rule.init(draw.x)

    def at(eta: Scalar) -> Points:
        return group.particles(step(rule, draw.x, fresh, eta, data, key=jax.random.fold_in(draw.key, 0))[0])

    u = group.particles(_force(rule, draw, data, draw.x))
    below = 0.99 / jnp.where(sizes.constants.k_pair > 0, sizes.constants.k_pair, 1)
    return jax.vmap(at)(jnp.append(_approach(group, draw, u, sizes).eta, below))


def _merge_residual(group: Any, draw: Draw, moved: Moved, sizes: Sizes, after: Points) -> Residual:
    x, pairs, eps = group.particles(draw.x), _pairs(draw, sizes), jnp.finfo(moved.u.dtype).eps
    root = jnp.sqrt(jnp.asarray(group.dim, x.dtype))
    found = _approach(group, draw, moved.u, sizes)
    told = found.closing & (found.rate > 32 * moved.noise * root)  # else rounding alone decides when the pair is closest

    def floor(y: Points, pair: jax.Array, eta: Scalar) -> tuple[Scalar, Scalar]:
        """The stretch of a pair, and the stretch below which it is not resolved (theory: 4 eps (|x_i'| + |x_j'|) / d_ij)."""
        i, j = pair
        d = jnp.linalg.norm(x[i] - x[j])
        d = jnp.where(d > 0, d, 1)
        size = jnp.linalg.norm(y[i]) + jnp.linalg.norm(y[j]) + jnp.linalg.norm(x[i])
        return jnp.linalg.norm(y[i] - y[j]) / d, (4 * eps * size + _MARGIN * eta * moved.noise * root) / d

    reached, unresolved = jax.vmap(floor)(after[:-1], pairs, found.eta)
    # squares: near a merge the stretch is the root of a difference of two numbers near 1
    miss = jnp.abs(reached**2 - found.stretch2)
    room = _MARGIN * eps + unresolved * (unresolved + 2 * jnp.sqrt(jnp.maximum(found.stretch2, 0)))
    below_declared = found.eta < 1 / sizes.K  # false without a declared K
    miss = jnp.where(below_declared & (reached <= unresolved), 1, miss)
    k = sizes.constants.k_pair
    safe = 0.99 / jnp.where(k > 0, k, 1)
    low = geometry.stretch(x, after[-1])
    _, unresolved = floor(after[-1], low.low_at, safe)
    nobody = count_merges(x, after[-1]).merged == 0
    short = jnp.where(nobody | (unresolved > 0.01), jnp.maximum(1 - safe * k - low.low, 0), 1)
    errors = jnp.append(jnp.where(told, miss, 0), short)
    return _worst(errors, jnp.append(jnp.where(told, room, _MARGIN * eps), unresolved + _MARGIN * eps))


# --- what the laws share ---------------------------------------------------------------------------------------------------


def _force(rule: Rule, draw: Draw, data: Tree, x: Tree) -> Tree:
    """U of the first step from a fresh state."""
    return rule.update(x, rule.init(x), data, key=jax.random.fold_in(draw.key, 0)).u


def _pairs(draw: Draw, sizes: Sizes) -> jax.Array:
    """Disjoint random pairs, the near one first, then the two that attain the constants."""
    count = min(_PAIRS, draw.perm.shape[0] // 2)
    random = draw.perm[: 2 * count].reshape(count, 2)
    return jnp.concatenate([random, sizes.constants.k_pair_at[None], sizes.constants.mu_at[None]])


def _worst(errors: jax.Array, tolerances: jax.Array) -> Residual:
    at = jnp.argmax(errors / tolerances)
    return Residual(errors[at], tolerances[at])


LAWS = (
    Law("P1", "U(PX) = P U(X) for every permutation P", _p1_answer, _p1_residual),
    Law("Lemma 1", "equal particles stay equal", _lemma1_answer, _lemma1_residual),
    Law("Lemma 2", "1 - eta K <= |x_i' - x_j'| / |x_i - x_j| <= 1 + eta K", _lemma2_answer, _lemma2_residual),
    Law("Merge law", "closest at eta = -p/R^2, by sqrt(1 - p^2/R^2); below 1/K_pair nobody merges", _merge_answer, _merge_residual),
)
