"""The induced map from the set of particles to the set after a step: lemma 3, theorem 1, theorem 2."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from eqdyn._ask.derive import Jacobian
from eqdyn.laws._law import EPS, Facts, Law, Residual, per, worst
from eqdyn.measure.equivariance import margin


def _lemma3(group: Any, facts: Facts) -> Residual:
    """Well defined: one place, one image, so that it is onto the set of images; one to one: no two places share an image."""
    return worst(facts.shared["torn"], facts.shared["merged early"])


def _theorem1(group: Any, facts: Facts) -> Residual:
    parts = [facts.shared["torn"], facts.shared["merged early"]]
    return worst(*parts, *([] if facts.asked.jacobian is None else _jacobian(group, facts.asked.jacobian, facts)))


def _jacobian(group: Any, found: Jacobian, facts: Facts) -> list[Residual]:
    """The Jacobian of the induced map, `v + eta T v`: found alike at either particle of a pair (A.4 of the paper, by exchange),
    felt by nobody else, with singular values in `[1 - eta K, 1 + eta K]`. What a kink explains (no P3), the turn of dU from one
    side of the twins to the other, does not count.
    """
    first, second, eps = found.first[0], found.second[0], jnp.finfo(found.first.dtype).eps
    change = jnp.maximum(*(jnp.max(jnp.abs(way[1] - way[0])) for way in (found.first, found.second)))
    change = jnp.maximum(change, jnp.abs(found.others[1] - found.others[0]))
    noise = margin(group.size) * (change + eps * found.lipschitz[0])
    apart = jnp.maximum(jnp.max(jnp.abs(first - second)), found.others[0])
    parts = [Residual(per(jnp.maximum(apart - found.turn, 0), found.lipschitz[0]), per(noise, found.lipschitz[0]) + EPS * eps)]
    T = jnp.where(jnp.isfinite(first + second), (first + second) / 2, 0)
    K = jnp.where(jnp.isnan(facts.K), found.swap[0], facts.K)
    for eta in (facts.half, facts.most):
        values = jnp.linalg.svd(found.frame + eta * T, compute_uv=False)
        outside = jnp.maximum(jnp.max(values) - (1 + eta * K), 1 - eta * K - jnp.min(values))
        room = eta * noise * T.size**0.5 + EPS * eps * (1 + eta * K) * T.shape[1] ** 0.5
        parts.append(Residual(jnp.maximum(outside - eta * found.turn * T.size**0.5, 0), room))
    # where JAX knows no derivative (a norm at 0, say) there is nothing to hold it against
    known = jnp.isfinite(found.lipschitz[0]) & jnp.isfinite(found.turn)
    return [Residual(jnp.where(known, part.error, 0), jnp.where(known, part.tolerance, EPS * eps)) for part in parts]


def _theorem2(group: Any, facts: Facts) -> Residual:
    """Mass is kept: weights do not move. Multiplicities never fall: no atom is torn; below eta* they do not rise, either."""
    leak = Residual(facts.most * facts.asked.leak, jnp.asarray(4 * jnp.finfo(facts.noise.dtype).eps, facts.noise.dtype))
    return worst(leak, facts.shared["torn"], facts.shared["merged early"])


LEMMA_3 = Law("Lemma 3", "the induced map is well defined and onto; below 1/K it is one to one", _lemma3)
THEOREM_1 = Law("Theorem 1", "the induced map is a surjection, below 1/K a bijection, its Jacobian within 1 +- eta K", _theorem1)
THEOREM_2 = Law("Theorem 2", "mass is kept and multiplicities never fall", _theorem2)
