"""Pairs of particles: distances, rates, stretch, atoms. Pure functions of configurations, in tiles, by differences.

Differences of near floats are exact where a Gram matrix has lost the distance; all pair quantities here come from them.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from eqdyn import _checks
from eqdyn._types import Labels, Points, Scalar, Weights

PAIR_BYTES = 2**30  # what a dense table of all pairs may take
_TWIN = 32  # roundings of the largest U by which the U of two coincident particles may differ
_TILE_PAIRS = 2**16  # pairs a tile holds: three accumulators stay in the cache


class PairTerms(NamedTuple):
    """All pairs of a configuration and one U, as `(n, n)` tables; the stretch of every pair at every eta follows from them.

        distance  d = |x_i - x_j|                        [x]
        rate      R = |U_i - U_j| / d                    1/[eta]
        approach  p = <U_i - U_j, x_i - x_j> / d^2       1/[eta], negative when the pair closes in

    Entries of coincident pairs (the diagonal among them) are NaN.
    """

    distance: jax.Array
    rate: jax.Array
    approach: jax.Array

    def stretch(self, eta: jax.Array | float) -> jax.Array:
        """The stretch of every pair at step size eta, `sqrt(1 + 2 eta p + eta^2 R^2)`. Exact up to rounding."""
        eta = jnp.asarray(eta, self.rate.dtype)
        return jnp.sqrt(jnp.maximum(1 + 2 * eta * self.approach + (eta * self.rate) ** 2, 0))

    def closest(self) -> tuple[jax.Array, jax.Array]:
        """The eta at which each pair is closest, `-p / R^2`, and its stretch there, `sqrt(1 - p^2 / R^2)`; eta <= 0 for pairs
        that do not approach.
        """
        moving = self.rate > 0
        cosine = jnp.where(moving, self.approach / jnp.where(moving, self.rate, 1), 0)
        return -cosine / jnp.where(moving, self.rate, 1), jnp.sqrt(jnp.maximum(1 - cosine**2, 0))


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


def _scaled(x: Points) -> tuple[Points, Scalar]:
    """X over a power of two, so that squares of differences neither overflow nor vanish; the scaling is exact."""
    _, exponent = jnp.frexp(jnp.max(jnp.abs(x)))
    exponent = jnp.clip(exponent, jnp.finfo(x.dtype).minexp + 1, jnp.finfo(x.dtype).maxexp - 1)
    scale = jnp.ldexp(jnp.ones((), x.dtype), exponent)
    return x / scale, scale


def _products(a: tuple[Points, Points], b: tuple[Points, Points]) -> tuple[jax.Array, jax.Array, jax.Array]:
    """`|dx|^2, |du|^2, <du, dx>` of rows a against rows b, one coordinate after another: nothing of size (n, n, d) is formed."""
    (xa, ua), (xb, ub) = a, b
    zero = jnp.zeros((xa.shape[0], xb.shape[0]), xa.dtype)

    def add(sums: tuple, coordinate: tuple) -> tuple[tuple, None]:
        p, q, r, s = coordinate
        dx, du = p[:, None] - q[None], r[:, None] - s[None]
        return (sums[0] + dx * dx, sums[1] + du * du, sums[2] + dx * du), None

    sums, _ = jax.lax.scan(add, (zero, zero, zero), (xa.T, xb.T, ua.T, ub.T), unroll=min(4, xa.shape[1]) if xa.shape[0] > 2 else 1)
    return sums


def _rates(a: tuple[Points, Points], b: tuple[Points, Points]) -> tuple[jax.Array, jax.Array, jax.Array]:
    """`R^2`, `-p` and the twins of rows a against rows b; coincident pairs are left out (-1, -inf) unless U tears them.

    Equal rows may get a U that differs by rounding: the last rows of a blocked product are summed in another order.
    """
    dx2, du2, dxdu = _products(a, b)
    same = dx2 == 0
    torn = du2 > (_TWIN * jnp.finfo(dx2.dtype).eps * jnp.max(jnp.abs(b[1]))) ** 2
    inverse = 1 / jnp.where(same, 1, dx2)
    rate2 = jnp.where(same, jnp.where(torn, jnp.inf, -1), du2 * inverse)
    return rate2, jnp.where(same, -jnp.inf, -dxdu * inverse), same & ~torn


def _tiles(n: int) -> tuple[int, int]:
    tile = max(1, min(n, _TILE_PAIRS // n))
    return tile, -(-n // tile)


def _over_rows(x: Points, u: Points, table: object) -> tuple[jax.Array, ...]:
    """`table(rows)` reduced over partners, for all rows, tile by tile; the last tile is filled with copies of the last row."""
    n = x.shape[0]
    tile, num = _tiles(n)
    at = jnp.minimum(jnp.arange(tile * num), n - 1).reshape(num, tile)
    out = jax.lax.map(lambda rows: table((x[rows], u[rows])), at)  # type: ignore[operator]
    return jax.tree.map(lambda leaf: leaf.reshape(-1)[:n], out)


def pair_constants(x: Points, u: Points) -> PairConstants:
    """`K_pair` and `mu` over all pairs; see `measure.pair_constants` for the checked, documented form."""
    (xs, x_scale), (us, u_scale) = _scaled(x), _scaled(u)
    everyone = (xs, us)

    def table(rows: tuple[Points, Points]) -> tuple[jax.Array, jax.Array, jax.Array]:
        rate2, closing, twin = _rates(rows, everyone)
        return rate2.max(1), closing.max(1), twin.sum(1)

    rate2, closing, twins = _over_rows(xs, us, table)
    i, k = ends = jnp.stack([jnp.argmax(rate2), jnp.argmax(closing)])
    partners = _rates((xs[ends], us[ends]), everyone)
    j, m = jnp.argmax(partners[0][0]), jnp.argmax(partners[1][1])
    unit = u_scale / x_scale
    bad = ~(jnp.all(jnp.isfinite(x)) & jnp.all(jnp.isfinite(u)))
    return PairConstants(
        jnp.where(bad, jnp.nan, jnp.sqrt(jnp.maximum(rate2[i], 0)) * unit),
        jnp.stack([i, j]).astype(jnp.int32),
        jnp.where(bad, jnp.nan, closing[k] * unit),
        jnp.stack([k, m]).astype(jnp.int32),
        ((jnp.sum(twins) - x.shape[0]) // 2).astype(jnp.int32),
    )


def stretch(x: Points, y: Points) -> Stretch:
    """The range of `|y_i - y_j| / |x_i - x_j|` over all pairs; see `measure.stretch`."""
    (xs, x_scale), (ys, y_scale) = _scaled(x), _scaled(y)

    def ratios(rows: tuple[Points, Points]) -> tuple[jax.Array, jax.Array]:
        dx2, dy2, _ = _products(rows, (xs, ys))
        same = dx2 == 0
        ratio = dy2 / jnp.where(same, 1, dx2)
        return jnp.where(same, jnp.inf, ratio), jnp.where(same, jnp.where(dy2 > 0, jnp.inf, -1), ratio)

    def table(rows: tuple[Points, Points]) -> tuple[jax.Array, jax.Array]:
        low, high = ratios(rows)
        return low.min(1), high.max(1)

    low, high = _over_rows(xs, ys, table)
    i, k = ends = jnp.stack([jnp.argmin(low), jnp.argmax(high)])
    partners = ratios((xs[ends], ys[ends]))
    j, m = jnp.argmin(partners[0][0]), jnp.argmax(partners[1][1])
    bad = ~(jnp.all(jnp.isfinite(x)) & jnp.all(jnp.isfinite(y))) | jnp.isinf(low[i])
    unit = y_scale / x_scale
    return Stretch(
        jnp.where(bad, jnp.nan, jnp.sqrt(low[i]) * unit),
        jnp.stack([i, j]).astype(jnp.int32),
        jnp.where(bad, jnp.nan, jnp.sqrt(jnp.maximum(high[k], 0)) * unit),
        jnp.stack([k, m]).astype(jnp.int32),
    )


def pair_terms(x: Points, u: Points) -> PairTerms:
    """The terms of every pair, `(n, n)`; see `measure.pair_terms`."""
    _checks.fits_budget(6 * x.shape[0] ** 2 * x.dtype.itemsize, PAIR_BYTES, "pair_terms", "use measure.pair_constants, which works in tiles")
    (xs, x_scale), (us, u_scale) = _scaled(x), _scaled(u)
    dx2, du2, dxdu = _products((xs, us), (xs, us))
    dx2 = jnp.where(dx2 == 0, jnp.nan, dx2)
    unit = u_scale / x_scale
    return PairTerms(jnp.sqrt(dx2) * x_scale, jnp.sqrt(du2 / dx2) * unit, dxdu / dx2 * unit)


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
    """Two 32-bit murmur3 hashes of each row's bits, with the constants of the second exchanged."""
    word = {1: jnp.uint8, 2: jnp.uint16}.get(x.dtype.itemsize, jnp.uint32)
    words = jax.lax.bitcast_convert_type(x, word).reshape(x.shape[0], -1).astype(jnp.uint32)
    first = jnp.asarray([[0xCC9E2D51], [0x1B873593]], jnp.uint32)
    second, start = first[::-1], jnp.asarray([[0x9747B28C], [0x3C6EF372]], jnp.uint32)

    def rotated(a: jax.Array, by: int) -> jax.Array:
        return (a << jnp.uint32(by)) | (a >> jnp.uint32(32 - by))

    def mix(h: jax.Array, column: jax.Array) -> tuple[jax.Array, None]:
        return rotated(h ^ (rotated(column[None] * first, 15) * second), 13) * jnp.uint32(5) + jnp.uint32(0xE6546B64), None

    h, _ = jax.lax.scan(mix, jnp.broadcast_to(start, (2, x.shape[0])), words.T)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
        h = (h ^ (h >> jnp.uint32(shift))) * jnp.uint32(factor)
    return h[0], h[1]
