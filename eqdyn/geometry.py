"""Pairs of particles: distances, rates, stretch, atoms. Pure functions of configurations, in tiles.

Differences of near floats are exact where a Gram matrix has lost the distance; all pair quantities here come from them. In many
dimensions Gram products tell which pairs need not be looked at (`_screen`).
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from eqdyn import _checks, _differences, _mesh, _near, _round, _scan, _screen
from eqdyn._differences import Asked, Extremes
from eqdyn._types import Labels, Points, Scalar, Weights

PAIR_BYTES = 2**30  # what a dense table of all pairs may take


class PairTerms(NamedTuple):
    """All pairs of a configuration and one U, as `(n, n)` tables; the stretch of every pair at every eta follows from them.

        distance  d = |x_i - x_j|                        [x]
        rate      R = |U_i - U_j| / d                    1/[eta]
        approach  p = <U_i - U_j, x_i - x_j> / d^2       1/[eta], negative when the pair closes in
        across    |U_i - U_j - p (x_i - x_j)| / d        1/[eta], what is left of the rate: R^2 = p^2 + across^2

    Entries of coincident pairs (the diagonal among them) are NaN.
    """

    distance: jax.Array
    rate: jax.Array
    approach: jax.Array
    across: jax.Array

    def stretch(self, eta: jax.Array | float) -> jax.Array:
        """The stretch of every pair at step size eta, `sqrt((1 + eta p)^2 + (eta across)^2)`. To a few roundings of the larger of 1 and
        `eta R`: also of pairs that nearly meet.
        """
        eta = jnp.asarray(eta, self.rate.dtype)
        return jnp.hypot(1 + eta * self.approach, eta * self.across)

    def closest(self) -> tuple[jax.Array, jax.Array]:
        """The eta at which each pair is closest, `-p / R^2`, and its stretch there, `across / R`; eta <= 0 for pairs that do not
        approach.
        """
        moving = self.rate > 0
        rate = jnp.where(moving, self.rate, 1)
        return jnp.where(moving, -self.approach / rate, 0) / rate, jnp.where(moving, jnp.minimum(self.across / rate, 1), 1)


class PairConstants(NamedTuple):
    """The largest pair rate and the strongest approach of a configuration, with the pairs that attain them.

        k_pair = max R_ij,   mu = max -p_ij          1/[eta]

    `num_twins` counts pairs of coincident particles with U equal up to 32 roundings of the largest U: left out. A coincident
    pair that U tears further apart makes `k_pair` infinite.
    """

    k_pair: Scalar
    k_pair_at: jax.Array
    mu: Scalar
    mu_at: jax.Array
    num_twins: jax.Array


class Stretch(NamedTuple):
    """The extreme factors by which distances changed, with the pairs that attain them. No unit.

    NaN where no two particles are distinct; a coincident pair that separates makes `high` infinite.
    """

    low: Scalar
    low_at: jax.Array
    high: Scalar
    high_at: jax.Array


class Moved(NamedTuple):
    """What a step did to all pairs, from the places before and after it; no unit. -inf or NaN where no two particles are distinct.

        low, high   = min, max |y_i - y_j| / |x_i - x_j|
        q           = max |(y_i - y_j) - (x_i - x_j)| / |x_i - x_j|            eta * K_pair of the step as it was taken
        closing     = max -<(y_i - y_j) - (x_i - x_j), x_i - x_j> / |x_i - x_j|^2    eta * mu
        margin      = min |y_i - y_j| / (|y_i| + |y_j|)

    with the pairs that attain them. Coincident pairs are left out: `num_twins` stay together, `num_torn` part, one of them `torn_at`.
    `num_unresolved` counts distinct pairs with a margin up to the floor asked for.
    """

    low: Scalar
    low_at: jax.Array
    high: Scalar
    high_at: jax.Array
    q: Scalar
    q_at: jax.Array
    closing: Scalar
    closing_at: jax.Array
    margin: Scalar
    margin_at: jax.Array
    num_twins: jax.Array
    num_torn: jax.Array
    torn_at: jax.Array
    num_unresolved: jax.Array


def _extremes(asked: Asked, x: Points, w: Points) -> Extremes:
    """By matrix products where they pay, else by the plain scan; which of the two follows from the shape alone. Dtypes of less than 32
    bits in float32, where they are exact.
    """
    dtype = x.dtype
    if dtype.itemsize < 4:
        asked = asked._replace(eps=float(jnp.finfo(dtype).eps))
        x, w = x.astype(jnp.float32), w.astype(jnp.float32)
    mesh = _mesh.ambient(x.shape[0])
    if mesh is not None:
        found, at = _round.extremes(asked, x, w, mesh)
    elif _screen.pays(x):
        found, at = _screen.screen(asked, x, w)
    else:
        at = _differences.cloud(asked, x, w)[0]
        found = _scan.scan(asked, at)
    found = _differences.measured(asked, at, found)
    return found._replace(value=found.value.astype(dtype))


def _finite(*arrays: Points) -> jax.Array:
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(array)) for array in arrays]))


def pair_constants(x: Points, u: Points, eps: float = 0.0) -> PairConstants:
    """`K_pair` and `mu` over all pairs; see `measure.pair_constants` for the checked, documented form. Infinite where distinct particles
    are so near that their squared distance is no number of the dtype. `eps`: a rounding of U, if not that of its dtype.
    """
    found = _extremes(Asked(("rate", "closing"), moved=False, eps=eps), x, u)
    bad = ~_finite(x, u)
    return PairConstants(
        jnp.where(bad, jnp.nan, jnp.maximum(found.value[0], 0)),
        found.at[0],
        jnp.where(bad, jnp.nan, found.value[1]),
        found.at[1],
        found.twins,
    )


def stretch(x: Points, y: Points) -> Stretch:
    """The range of `|y_i - y_j| / |x_i - x_j|` over all pairs; see `measure.stretch`. 0 to infinity where distinct particles are so near
    that their squared distance is no number of the dtype.
    """
    found = _extremes(Asked(("low", "high"), moved=True), x, y)
    bad = ~_finite(x, y) | jnp.isneginf(found.value[0])
    low, high = (jnp.where(bad, jnp.nan, jnp.maximum(value, 0)) for value in (-found.value[0], found.value[1]))
    return Stretch(low, found.at[0], high, found.at[1])


def moved(x: Points, y: Points, floor: float) -> Moved:
    """All that the places before and after a step tell about its pairs, in one pass; `floor` > 0, of `num_unresolved`."""
    found = _extremes(Asked(("low", "high", "rate", "closing", "margin"), moved=True, torn=False, floor=floor), x, y)
    low, high, rate, closing, margin = found.value
    values = (jnp.maximum(-low, 0), jnp.maximum(high, 0), jnp.maximum(rate, 0), closing, jnp.maximum(-margin, 0))
    bad = ~_finite(x, y) | jnp.isneginf(low)
    pairs = [item for value, pair in zip(values, found.at, strict=True) for item in (jnp.where(bad, jnp.nan, value), pair)]
    return Moved(*[*pairs, found.twins, found.torn, found.torn_at, found.unresolved])


def pair_terms(x: Points, u: Points) -> PairTerms:
    """The terms of every pair, `(n, n)`; see `measure.pair_terms`."""
    n = x.shape[0]
    _checks.fits_budget(12 * n**2 * max(x.dtype.itemsize, 4), PAIR_BYTES, "pair_terms", "use measure.pair_constants, which works in tiles")
    wide = x.dtype if x.dtype.itemsize >= 4 else jnp.dtype(jnp.float32)
    return PairTerms(*(part.astype(x.dtype) for part in _near.terms_of_all(x.astype(wide), u.astype(wide))))


class Atoms(NamedTuple):
    """Particles at one place, seen as one.

    `label` `(n,)`: the smallest index among the particles at the same place. `mass` `(n,)`: summed weight of the atom, at its
    label's row, 0 elsewhere. `num_atoms`: how many.
    """

    label: Labels
    mass: Weights
    num_atoms: jax.Array


def atoms(x: Points, weight: Weights | None = None) -> Atoms:
    """Which particles coincide; see `measure.atoms`. Time O(n log n)."""
    label = labels(x)
    weight = jnp.ones(x.shape[:1], x.dtype) if weight is None else weight
    mass = jnp.zeros_like(weight).at[label].add(weight)
    return Atoms(label, mass, num_places(label))


def labels(x: jax.Array) -> Labels:
    """The smallest index of a row equal to each row, for real or integer rows. Rows are brought together by sorting 64-bit
    hashes and then compared: two unequal rows of one hash could part a third, with a chance below n^2 / 2^64.
    """
    n = x.shape[0]
    x = jnp.where(x == 0, jnp.zeros((), x.dtype), x)  # -0 and 0 are one place
    order = jnp.lexsort((jnp.arange(n), *_row_hashes(x)))
    y = x[order]
    starts = jnp.concatenate([jnp.ones((1,), bool), jnp.any(y[1:] != y[:-1], axis=1)])
    leader = jax.lax.cummax(jnp.where(starts, jnp.arange(n), 0))
    return jnp.zeros((n,), jnp.int32).at[order].set(order[leader].astype(jnp.int32))


def num_places(label: Labels) -> jax.Array:
    """How many distinct rows the labels tell apart."""
    return jnp.sum(label == jnp.arange(label.shape[0], dtype=label.dtype)).astype(jnp.int32)


def _row_hashes(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Two 32-bit hashes of each row's bits: sums of its words, each salted by its column and mixed as murmur3 does at the end."""
    word = {1: jnp.uint8, 2: jnp.uint16}.get(x.dtype.itemsize, jnp.uint32)
    words = jax.lax.bitcast_convert_type(x, word).reshape(x.shape[0], -1).astype(jnp.uint32)

    def mixed(h: jax.Array) -> jax.Array:
        for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
            h = (h ^ (h >> jnp.uint32(shift))) * jnp.uint32(factor)
        return h

    columns = jnp.arange(1, words.shape[1] + 1, dtype=jnp.uint32)
    first, second = (jnp.sum(mixed(words + mixed(columns * jnp.uint32(salt))[None]), axis=1, dtype=jnp.uint32) for salt in (0xCC9E2D51, 0x1B873593))
    return first, second
