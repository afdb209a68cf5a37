"""Constants of the lifted step over pairs of particles, in the norm of parameters and optimizer state that suits them best."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from eqdyn import _checks
from eqdyn._types import Key, Points, Tree
from eqdyn.geometry import PAIR_BYTES
from eqdyn.measure._one_group import asked
from eqdyn.measure._weights import Least, least_worst, worst
from eqdyn.rule import Rule, add, lifted

_TWIN = 32  # roundings of the largest change by which two equal lifted particles may change unlike
_TOLERANCE = 1e-6  # of the square of a constant, between the weights found and the bound for all weights


class AtPair(NamedTuple):
    """A constant and the pair `(2,)` that attains it; no unit."""

    value: np.ndarray
    at: np.ndarray


class InNorm(NamedTuple):
    """A constant in the norm `|theta|^2 + sum_k weights_k^2 |s_k|^2` of lifted particles, with the weights that make it smallest.

    Fields:
        value: exact for these weights, up to rounding; no unit.
        at: the pair `(2,)` that attains it.
        weights: one for each part of the state, `(k,)`, in the order of `eq.lifted`; unit: that of x over that of the part.
        bound: no weights make it smaller: a lower bound, proved by the multipliers of a linear program, up to rounding.
    """

    value: np.ndarray
    at: np.ndarray
    weights: np.ndarray
    bound: np.ndarray


class LiftedConstants(NamedTuple):
    """What one step does to pairs of lifted particles; no unit (eta is in it).

    Fields:
        q: the largest `|dz_i - dz_j| / |z_i - z_j|`, in the norm in which it is smallest.
        mu: the strongest approach, the largest `-<dz_i - dz_j, z_i - z_j> / |z_i - z_j|^2`, in the norm in which that is smallest.
        raw: q with all weights 1, the state in whatever unit it has.
        theta: `eta K_pair(U)`, of the parameters alone; infinite where two share their parameters but not their U.
        num_twins: pairs of equal lifted particles, left out.
    """

    q: InNorm
    mu: InNorm
    raw: AtPair
    theta: AtPair
    num_twins: int

    @property
    def certified(self) -> bool:
        """Whether q or mu is below 1 in some norm: then this step merges no two lifted particles. False says nothing."""
        return bool(self.q.value < 1 or self.mu.value < 1)


def lifted_constants(
    rule: Rule, x: Any, state: Tree = None, data: Tree = None, *, eta: float, group: Any = None, key: Key | None = None
) -> LiftedConstants:  # fmt: skip
    """Pair constants of the lifted step, in the norm of `(theta, s_1, s_2, ...)` in which they are smallest.

        z = (theta, s_1, ...),   dz = (eta U, s_1' - s_1, ...),   |z|^2 = |theta|^2 + sum_k c_k^2 |s_k|^2
        q  = min over c of max_ij |dz_i - dz_j| / |z_i - z_j|
        mu = min over c of max_ij -<dz_i - dz_j, z_i - z_j> / |z_i - z_j|^2

    Exact over the pairs of this configuration, for the weights that are reported; those are the best up to the gap between `value`
    and `bound`. Either below 1, in any one norm: no two lifted particles coincide after this step (before rounding), since
    `|z_i' - z_j'| >= (1 - q) |z_i - z_j|`. Not below 1 is no merge: heavy ball and Adam merge nobody at any step size. In raw
    units q hardly depends on eta, since the moments move by a share of themselves and of the gradient.

    Any rule will do; no probe is needed. The parts of the state are those that `eq.lifted` joins; a rule with a lift of its own has
    one part. Tables of all pairs, a linear program for every few worst pairs; on the host.

    Args:
        rule: the update rule.
        x: configuration, n >= 2, or a tree with a group.
        state: None for `rule.init(x)`.
        data: the batch.
        eta: step size, > 0.
        group: None for rows, or one `Group`.
        key: of the step, for rules that draw.

    Returns:
        `LiftedConstants(q, mu, raw, theta, num_twins)` with `.certified`; NaN where a particle or its change is not finite, and in
        float64 where two parts are distinct but nearer than some 1e-145 of their extent.

    Raises:
        ValueError, TypeError: arguments that do not fit.
        MemoryError: the tables would exceed `geometry.PAIR_BYTES`.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> rule = eq.rules.heavy_ball(lambda x: 10 * jnp.sum(x**2), beta=0.5)
        >>> x = jnp.array([[-2.0], [0.0], [1.0]])
        >>> state = rule.init(x)._replace(momentum=jnp.array([[3.0], [0.0], [2.0]]))
        >>> found = eq.measure.lifted_constants(rule, x, state, eta=0.01)
        >>> bool(found.raw.value < 1), bool(found.q.value < 1), found.certified
        (False, True, True)

    References:
        Derived; Yang et al., arXiv:2510.02670, section 5.2 (the lifted particle) and lemma 4, in a weighted norm.
    """
    _checks.step_size(eta)
    found = asked(rule, x, state, data, group, key, least=2)
    dtype = found.group.particles(found.x).dtype
    z, dz = _moved(found.rule, found.group, found.x, found.state, found.data, found.key, jnp.asarray(eta, dtype))
    ends = _ends(found.rule, found.group.dim, z.shape[1])
    size = 8 * len(ends) * 4 * len(z) ** 2  # three tables and a sum, in float64
    _checks.fits_budget(size, PAIR_BYTES, "lifted_constants", "take fewer particles, or the parameters alone (measure.pair_constants)")
    finite = np.isfinite(z).all() and np.isfinite(dz).all()
    with jax.enable_x64(True):  # noqa: FBT003 - squares of near pairs are numbers of float64
        tables, distinct, units, speed = _tables(ends, *(jnp.asarray(np.asarray(rows, np.float64)) for rows in (z, dz)))
    apart2, moved2, closing = (np.array(table) for table in tables)
    hidden = np.asarray(distinct) & (apart2 < z.shape[1] * np.finfo(np.float64).tiny / np.finfo(np.float64).eps)
    if not finite or hidden.any():
        nothing, nowhere = np.asarray(np.nan, dtype), np.zeros(2, np.int32)
        unknown = InNorm(nothing, nowhere, np.full(len(ends) - 1, np.nan, dtype), nothing)
        return LiftedConstants(unknown, unknown, AtPair(nothing, nowhere), AtPair(nothing, nowhere), 0)
    eps = float(jnp.finfo(dtype).eps)
    twin = ~np.asarray(distinct).any(axis=0)
    moved2[:, twin & (moved2.sum(axis=0) <= (_TWIN * eps) ** 2 * len(ends))] = 0  # equal particles may change unlike by rounding
    unit, faster = np.asarray(units, np.float64), float(speed)

    def norm(least: Least, value: float, bound: float) -> InNorm:
        weights = np.sqrt(least.w[1:] / least.w[0]) * unit[0] / unit[1:]
        return InNorm(np.asarray(value, dtype), np.asarray(least.where, np.int32), weights.astype(dtype), np.asarray(bound, dtype))

    def alone(w: np.ndarray, num: np.ndarray) -> AtPair:
        value, where = worst(num, apart2, w)
        return AtPair(np.asarray(faster * max(value, 0.0) ** 0.5, dtype), np.asarray(where, np.int32))

    first = moved2.copy()  # equal parameters and, up to rounding, equal U: no pair of the parameters
    first[0, (apart2[0] == 0) & (first[0] <= (_TWIN * eps) ** 2)] = 0
    q, mu = (least_worst(num, apart2, tolerance=_TOLERANCE) for num in (moved2, closing))
    return LiftedConstants(
        norm(q, faster * max(q.value, 0.0) ** 0.5, faster * max(q.bound, 0.0) ** 0.5),
        norm(mu, faster * mu.value, faster * mu.bound),
        alone(unit**2 / np.max(unit**2), moved2),
        alone(np.eye(len(ends))[0], first),
        int(np.sum(twin) - len(z)) // 2,
    )


def _ends(rule: Rule, dim: int, width: int) -> tuple[int, ...]:
    """Where the parts of a lifted particle end."""
    return tuple(range(dim, width + 1, dim)) if rule.lift is None else tuple(dict.fromkeys((dim, width)))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _moved(rule: Rule, group: Any, x: Tree, state: Tree, data: Tree, key: Key | None, eta: jax.Array) -> tuple[Points, Points]:
    """Lifted particles `(n, d + s)` and how they change; the parameters by `eta U`, not by a difference that rounds."""
    new = rule.update(x, state, data, key=key)
    _checks.moved_like(new.u, x)
    before, after = (lifted(rule, at, s, group) for at, s in ((x, state), (add(x, eta, new.u), new.state)))
    return before, jnp.concatenate([eta * group.particles(new.u), (after - before)[:, group.dim :]], axis=1)


@functools.partial(jax.jit, static_argnums=0)
def _tables(ends: tuple[int, ...], z: Points, dz: Points) -> tuple[tuple[jax.Array, jax.Array, jax.Array], jax.Array, jax.Array, jax.Array]:
    """`|z_i - z_j|^2`, `|dz_i - dz_j|^2` and `-<dz_i - dz_j, z_i - z_j>` of each part, `(parts, n, n)`; where parts are distinct; the
    units of the parts and that of all changes, powers of two.
    """
    zs, dzs = (jnp.split(rows, ends[:-1], axis=1) for rows in (z, dz))
    units = [
        _power_of_two(jnp.where(jnp.any(a != a[:1]), jnp.max(jnp.abs(a - a[:1])), jnp.max(jnp.abs(b - b[:1])))) for a, b in zip(zs, dzs, strict=True)
    ]
    dzs = [b / unit for b, unit in zip(dzs, units, strict=True)]
    speed = _power_of_two(jnp.max(jnp.stack([jnp.max(jnp.abs(b - b[:1])) for b in dzs])))
    parts = [_products(a, unit, b / speed) for a, b, unit in zip(zs, dzs, units, strict=True)]
    apart2, moved2, along, distinct = (jnp.stack(part) for part in zip(*parts, strict=True))
    return (apart2, moved2, -along), distinct, jnp.stack(units), speed


def _power_of_two(size: jax.Array) -> jax.Array:
    """The next above; 1 for 0."""
    _, exponent = jnp.frexp(size)
    exponent = jnp.clip(exponent, jnp.finfo(size.dtype).minexp + 1, jnp.finfo(size.dtype).maxexp - 2)
    return jnp.where(size > 0, jnp.ldexp(jnp.ones((), size.dtype), exponent), 1)


def _products(x: Points, unit: jax.Array, u: Points) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """`|dx|^2, |du|^2, <du, dx>` of all pairs by differences, one coordinate after another, x in that unit; which pairs are distinct."""
    zero = jnp.zeros((len(x), len(x)), x.dtype)

    def add(sums: tuple, coordinate: tuple) -> tuple[tuple, None]:
        p, q = coordinate
        dx, du = p[:, None] / unit - p[None] / unit, q[:, None] - q[None]
        return (sums[0] + dx * dx, sums[1] + du * du, sums[2] + dx * du, sums[3] | (p[:, None] != p[None])), None

    return jax.lax.scan(add, (zero, zero, zero, zero > 0), (x.T, u.T))[0]
