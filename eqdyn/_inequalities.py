"""The inequalities between sharpness, swap curvature and pair constants: both sides computed, conditions looked at."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from eqdyn import groups
from eqdyn._precise import Force, tried
from eqdyn._types import Key, Points, Tree, Weighted
from eqdyn.linalg import lanczos_rows
from eqdyn.measure.sharpness import Sharpness, sharpness
from eqdyn.measure.swap import Transverse
from eqdyn.rule import Rule, matching_subtrees, points_of, weight_of

_NUM_NODES = 30
_ROUNDING = 256  # roundings by which two sides that are equal may differ


class Inequality(NamedTuple):
    """`left <= right`, both computed. `verdict`: "holds", "fails", or "not due" where its condition is not met (it may hold or not: look)
    or a side is not known (NaN).
    """

    statement: str
    left: float
    right: float
    verdict: str
    condition: str


def inequalities(
    rule: Rule, group: Any, x: Tree, state: Tree, data: Tree, key: Key | None, known: Force, constants: Mapping[str, Any],
    places: Transverse, hessian: Sharpness, deep: int,
) -> dict[str, Inequality]:  # fmt: skip
    value, pair = {name: one.value for name, one in constants.items()}, constants["pair"].where
    open_ = constants["one_sided"].error  # mu and K_pair may be known to different precision
    eps = float(jnp.finfo(hessian.norm.dtype).eps)
    slack = _ROUNDING * eps
    scale = max(value["pair"], value["transverse"], 0.0)
    found = {"mu <= K_pair": _judged("mu <= K_pair", value["one_sided"], value["pair"], open_ + slack * scale, "always", met=True)}
    apart = bool(pair) and bool(np.any(known.x[pair[0]] != known.x[pair[1]]))
    if rule.probe is not None and apart and not matching_subtrees(x, state):
        segment = functools.partial(_segment, rule, group, i=pair[0], j=pair[1])
        finer = tried(np.float64, segment, x, state, data, key) if known.dtype == np.float64 else None
        along, missed = (float(part) for part in (segment(x, state, data, key) if finer is None else finer))
        name = "K_pair <= ||T|| on its segment"
        found[name] = _judged(name, value["pair"], along, missed + slack * scale, "the field is frozen and smooth along it", met=True)
    if places.route == "probe" and isinstance(group, groups.Rows) and not matching_subtrees(x, state):
        double = _doubled(rule, x, data, key)
        if double is not None:
            name, condition = "||T|| <= ||J|| of the doubled system", "T and J symmetric, so that Lanczos knows the norm"
            lean = max(places.asymmetry, float(double.asymmetry)) <= slack * known.x.shape[0] ** 0.5
            found[name] = _judged(
                name, value["transverse"], float(double.norm), float(double.norm_residual) + slack * float(double.norm), condition, met=lean
            )
    if places.route == "probe" and not matching_subtrees(x, state):
        newton, met = _gauss_newton(rule, group, x, state, data, key, places, deep, hessian, slack)
        name = "fold <= lambda_max"
        condition = f"weights 1, and the Gauss-Newton form is not negative along the fold (here {newton:.3g})"
        found[name] = _judged(name, value["fold"], float(hessian.value), float(hessian.residual) + slack * float(hessian.norm), condition, met=met)
    name = "K_pair <= sharpness"
    found[name] = _judged(name, value["pair"], float(hessian.norm), slack * scale, "only for a pair in the limit", met=False)
    return found


def _judged(statement: str, left: float, right: float, slack: float, condition: str, *, met: bool) -> Inequality:
    known = not any(map(math.isnan, (left, right, slack)))
    return Inequality(statement, left, right, ("holds" if left <= right + slack else "fails") if met and known else "not due", condition)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _segment(rule: Rule, group: Any, x: Tree, state: Tree, data: Tree, key: Any, i: Any, j: Any) -> tuple[jax.Array, jax.Array]:
    """The largest `|T e|` on the segment between two particles, and by how much its mean there misses `(U_i - U_j) / d`."""
    rows = group.particles(x)
    nodes, weights = (jnp.asarray(part, rows.dtype) for part in np.polynomial.legendre.leggauss(_NUM_NODES))
    dx = rows[i] - rows[j]
    e = dx / jnp.linalg.norm(dx)
    y = rows[j][None] + (1 + nodes[:, None]) / 2 * dx[None]

    def velocity(y: Points) -> Points:
        return rule.probe(y, rule.init(y), x, state, data, key=key).u  # type: ignore[misc]

    _, along = jax.jvp(velocity, (y,), (jnp.broadcast_to(e, y.shape),))
    ends = velocity(jnp.stack([rows[i], rows[j]]))
    mean = jnp.sum(weights[:, None] / 2 * along, axis=0)
    return jnp.max(jnp.linalg.norm(along, axis=1)), jnp.linalg.norm(mean - (ends[0] - ends[1]) / jnp.linalg.norm(dx))


def _doubled(rule: Rule, x: Tree, data: Tree, key: Key | None) -> Sharpness | None:
    """The Hessian's extremes where every particle is two twins of half its weight; None for a rule that does not take weights."""
    points, weight = points_of(x), weight_of(x)
    twice = Weighted(jnp.concatenate([points, points]), jnp.concatenate([weight, weight]) / 2)
    try:
        u, u_twice = (np.asarray(points_of(rule.update(at, rule.init(at), data, key=key).u)) for at in (x, twice))
    except Exception:  # a rule for plain arrays only
        return None
    same = np.abs(u_twice[: len(u)] - u).max() <= _ROUNDING * len(u) ** 0.5 * float(jnp.finfo(u.dtype).eps) * np.abs(u).max()
    return sharpness(rule, twice, data=data, key=key) if same else None


def _gauss_newton(
    rule: Rule, group: Any, x: Tree, state: Tree, data: Tree, key: Key | None, places: Transverse, deep: int, hessian: Sharpness, slack: float
) -> tuple[float, bool]:
    """`v (Hess_ii + T_i) v` along the direction v in which particle i folds first: the Gauss-Newton part, not negative if the loss is
    convex in the field; and whether the inequality is due.
    """
    i = int(np.atleast_1d(places.where[deep])[0])
    one = isinstance(x, Weighted) and not np.all(np.asarray(x.weight) == 1)
    if not places.low[deep] < 0:
        return 0.0, not one  # nothing folds
    second, curvature = (float(part) for part in _along_fold(rule, group, x, state, data, key, i))
    newton = curvature - second
    return newton, not one and places.asymmetry <= slack * 16 and newton >= -slack * abs(curvature)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _along_fold(rule: Rule, group: Any, x: Tree, state: Tree, data: Tree, key: Any, i: Any) -> tuple[jax.Array, jax.Array]:
    """`-v T v` and `v Hess_ii v` along the lowest direction v of T at particle i, by 32 steps of Lanczos on it alone."""
    rows = group.particles(x)

    def velocity(y: Points) -> Points:
        return rule.probe(y, rule.init(y), x, state, data, key=key).u  # type: ignore[misc]

    _, product = jax.linearize(velocity, rows[i][None])
    ends = lanczos_rows(product, rows[i][None], num_iters=32, key=jax.random.key(1))
    v = ends.low_vector[0]
    tangent = jnp.zeros_like(rows).at[i].set(v)

    def force(rows: Points) -> Points:
        return group.particles(rule.update(group.with_particles(x, rows), state, data, key=key).u)

    _, du = jax.jvp(force, (rows,), (tangent,))
    return -ends.low[0], -jnp.vdot(v, du[i])
