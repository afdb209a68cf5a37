"""The properties of the paper: P1 equivariance, P2-K and P2' continuity, P3 smoothness."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from eqdyn._ask.derive import Jacobian
from eqdyn._ask.draws import NEAR, pairs
from eqdyn._types import Scalar
from eqdyn.laws._law import EPS, Facts, Law, Residual, Told, per, worst
from eqdyn.laws.pairs import alike
from eqdyn.measure.equivariance import compare, margin

_GROWS = 0.4  # powers of 2 a halving by which a rate may grow and still be thought to end; a jump shows 1, a square root 1/2
_BENDS = 0.4  # share of a second difference that half of the halvings may leave; a kink leaves about 1, a curve 1/64 or less


def _p1(group: Any, facts: Facts) -> Residual:
    return worst(*[Residual(*compare(group, facts.draw.x, facts.draw.perm, us)) for us in (facts.asked.fresh, facts.asked.given) if us is not None])


# --- continuity: |U(X) - U(Y)| <= K |X - Y| ---------------------------------------------------------------------------------


def _p2(group: Any, facts: Facts) -> Residual:
    return _continuity(group, facts, facts.asked.halvings.change, facts.asked.swaps.change, 1.0)


def _p2_altered(group: Any, facts: Facts) -> Residual:
    """max_i |U_i(X) - U_i(Y)| <= (K'/2) |X - Y|; a K of P2 makes 2 K one of P2'."""
    return _continuity(group, facts, facts.asked.halvings.row, facts.asked.swaps.row, 2.0)


def _continuity(group: Any, facts: Facts, halved: jax.Array, swapped: jax.Array, factor: float) -> Residual:
    """A lower bound of the constant from pairs of configurations, and whether the rate grows without bound along the halvings.

    The half where U changes more has at least the rate of the whole, so the rate never falls: it ends at a slope, or grows, by 2 at
    each halving where U jumps, by 2^(1-a) where it goes like |x|^a. A small jump beside a large slope may be left out; P3 sees it.
    """
    asked, K = facts.asked, facts.K
    rows, eps = asked.x[NEAR], jnp.finfo(halved.dtype).eps
    noise = 2 * _noise_along(facts) * jnp.sqrt(jnp.asarray(rows.size, rows.dtype))
    lengths = asked.halvings.length * jnp.asarray(0.5 ** np.arange(len(halved)), rows.dtype)
    jumps = (halved[-1] > 4 * noise) & (halved[-1] > 0)
    growth = jnp.where(jumps, 1 + _growth(jnp.where(jumps, halved, 1)), 0)
    growth = jnp.where(jnp.isfinite(halved[-1]), growth, jnp.nan)
    samples = [per(jnp.maximum(halved - noise, 0), lengths)]
    two = pairs(facts.draw)
    distance = jnp.linalg.norm(rows[two[:, 0]] - rows[two[:, 1]], axis=1) * jnp.sqrt(jnp.asarray(2, rows.dtype))
    # with a state the swap exchanged that, too, which counts in |X - Y|: the halvings know
    near = 2 * facts.near_noise * jnp.sqrt(jnp.asarray(rows.size, rows.dtype))
    samples.append(jnp.where(asked.has_state | ~alike(facts, two), 0, per(jnp.maximum(swapped - near, 0), distance)))
    if asked.jacobian is not None and factor == 1.0:
        samples.append(jnp.maximum(asked.jacobian.lipschitz[0] - _derivative_noise(group, asked.jacobian), 0)[None])
    found = jnp.concatenate(samples)
    known = jnp.isfinite(found)  # JAX may know no derivative at twins
    bound = jnp.where(jnp.any(known), factor * jnp.max(jnp.where(known, found, 0)), jnp.nan)
    over = jnp.where(jnp.isnan(K), 0, jnp.maximum(bound / (factor * K) - 1, 0))
    return worst(Residual(growth, jnp.asarray(_GROWS, growth.dtype)), Residual(over, EPS * eps))._replace(bound=bound)


def _growth(values: jax.Array) -> Scalar:
    """Powers of 2 a halving, over a third of the halvings and over the last two, the smaller: a steep slope that was found ends there."""
    before = np.asarray([-1 - len(values) // 3, -3])
    return jnp.min(jnp.log2(values[-1] / values[before]) / jnp.asarray(-1 - before, values.dtype))


def _noise_along(facts: Facts) -> Scalar:
    """What rounding may do to a component of U along the halvings, where U may be larger than at X."""
    largest, eps = facts.asked.halvings.largest, jnp.finfo(facts.noise.dtype).eps
    larger = jnp.where(facts.norm > 0, largest / jnp.where(facts.norm > 0, facts.norm, 1), 1)
    return facts.noise * jnp.maximum(larger, 1) + EPS * eps * largest


def _derivative_noise(group: Any, found: Jacobian) -> Scalar:
    eps = jnp.finfo(found.first.dtype).eps
    return margin(group.size) * (jnp.abs(found.lipschitz[1] - found.lipschitz[0]) + eps * found.lipschitz[0])


def _only_refuted(excess: bool, told: Told) -> str:
    return "fails" if excess else "not refuted" if told.K else "unresolved"


# --- smoothness -------------------------------------------------------------------------------------------------------------


def _p3(group: Any, facts: Facts) -> Residual:
    """Second differences over an interval, per its length: they vanish with it where U is C^1, and stay at a kink."""
    bend = facts.asked.halvings.bend
    noise = _noise_along(facts) * jnp.asarray(2.0 ** np.arange(len(bend)), bend.dtype)
    known = jnp.where(bend > noise, bend, 0)
    largest, last = jnp.max(known[len(bend) // 2 :]), jnp.max(known[-2:])
    left = jnp.where(last > 0, last / jnp.where(last > 0, largest, 1), 0)
    return Residual(jnp.where(jnp.all(jnp.isfinite(bend)), left, jnp.nan), jnp.asarray(_BENDS, left.dtype))


def _never_proved(excess: bool, told: Told) -> str:
    return "fails" if excess else "not refuted"


PROPERTIES = (
    Law("P1", "U(PX) = P U(X) for every permutation P", _p1),
    Law("P2-K", "|U(X) - U(Y)| <= K |X - Y|", _p2, _only_refuted, "K >= {bound:.3g}"),
    Law("P2'", "max_i |U_i(X) - U_i(Y)| <= (K'/2) |X - Y|; K' = 2 K where a K is declared", _p2_altered, _only_refuted, "K' >= {bound:.3g}"),
    Law("P3", "U is C^1 where a pair is exchanged", _p3, _never_proved),
)
