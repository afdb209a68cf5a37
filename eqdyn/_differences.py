"""Extreme values over all pairs of particles, decided by differences: what is asked of a pair, and the plain scan over all of them.

A pair is asked in terms of `dx = x_i - x_j` and of `du`, the difference of U or of what a step added; all values are to be maximised.

    rate      |du|^2 / |dx|^2                     R^2
    closing   -<du, dx> / |dx|^2                  -p
    high      |dy|^2 / |dx|^2                     s^2, y the places after the step
    low       -|dy|^2 / |dx|^2
    margin    -|dy|^2 / (|y_i| + |y_j|)^2         what is left of a distance, against the size of what was rounded
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from eqdyn._types import Points, Scalar

TWIN = 32  # roundings of the largest U by which the U of two coincident particles may differ
UNROLL = {1: 4, 32: 16}  # from that dimension on, coordinates that are added to the sums of a tile at a time (measured)
_TILE_PAIRS = 2**16  # pairs a tile holds: its sums stay in the cache


class Asked(NamedTuple):
    """What is looked for. `moved`: the second array holds the places after the step, not U. `torn`: coincident particles that part
    count as infinite; else they are left out of the values, and counted. `floor`: a pair of margin up to `floor^2` is unresolved.
    """

    quantities: tuple[str, ...]
    moved: bool
    torn: bool = True
    floor: float = 0.0


class Cloud(NamedTuple):
    """Particles with their U or their next places, read through powers of two: squares of differences keep clear of the ends of the
    floating range, and the scaling is exact.

    x, w: `(n, d)`, as given; w is U, or the next places. of_x, of_w: `(2,)`, two factors each. size: `(n,)`, `|y_i|`, 0 where not
    asked for. unit_u, unit_y: of U and of the next places, over that of x. tear: the square of what coincident particles may part by.
    """

    x: Points
    w: Points
    of_x: jax.Array
    of_w: jax.Array
    size: jax.Array
    unit_u: Scalar
    unit_y: Scalar
    tear: Scalar

    def rows(self, at: jax.Array) -> tuple[Points, Points]:
        """Rows of x and w, scaled."""
        return self.x[at] * self.of_x[0] * self.of_x[1], self.w[at] * self.of_w[0] * self.of_w[1]


class Extremes(NamedTuple):
    """The largest value of each quantity and a pair that attains it, -inf where no pair has one; how many pairs coincide and stay
    (`twins`), coincide and part (`torn`, and one of them), and are distinct but not resolved after the step.
    """

    value: jax.Array
    at: jax.Array
    twins: jax.Array
    torn: jax.Array
    torn_at: jax.Array
    unresolved: jax.Array


def power_of_two(size: Scalar) -> Scalar:
    """The power of two above a size, within the range whose inverse is a normal number."""
    _, exponent = jnp.frexp(size)
    info = jnp.finfo(size.dtype)
    return jnp.ldexp(jnp.ones((), size.dtype), jnp.clip(exponent, info.minexp + 1, info.maxexp - 1))


def scaled(x: Points) -> tuple[Points, Scalar]:
    """X over a power of two, so that squares of differences neither overflow nor vanish; the scaling is exact."""
    scale = power_of_two(jnp.max(jnp.abs(x)))
    return x / scale, scale


class Centred(NamedTuple):
    """Rows about their mean, over a power of two (`unit`) above their coordinates then; `off`: the length of the mean, over it."""

    rows: Points
    unit: Scalar
    off: Scalar


def centred(x: Points) -> Centred:
    mean = jnp.mean(x, axis=0, keepdims=True)
    rows, unit = scaled(x - mean)
    return Centred(rows, unit, jnp.sqrt(jnp.sum((mean / unit) ** 2)))


def cloud(asked: Asked, x: Points, w: Points) -> tuple[Cloud, Centred, Centred]:
    """What pairs are asked of; X and U about their means."""
    dtype = x.dtype
    if not asked.moved:
        (xs, x_scale), (us, u_scale) = scaled(x), scaled(w)
        of_x, of_u = centred(xs), centred(us)
        unit = (u_scale / x_scale) * (of_u.unit / of_x.unit)
        tear = TWIN * jnp.finfo(dtype).eps * jnp.max(jnp.abs(us)) / of_u.unit
        factors = (1 / jnp.stack([x_scale, of_x.unit]), 1 / jnp.stack([u_scale, of_u.unit]))
        return Cloud(x, w, *factors, jnp.zeros(x.shape[:1], dtype), unit, unit, tear * tear), of_x, of_u._replace(off=jnp.zeros((), dtype))
    scale = power_of_two(jnp.maximum(jnp.max(jnp.abs(x)), jnp.max(jnp.abs(w))))
    xs, ys = x / scale, w / scale
    of_x, of_u, of_y = centred(xs), centred(ys - xs), centred(ys)
    factors = (1 / jnp.stack([scale, of_x.unit]), 1 / jnp.stack([scale, of_y.unit]))
    size = jnp.sqrt(jnp.sum((ys / of_y.unit) ** 2, axis=1)) if asked.floor else jnp.zeros(x.shape[:1], dtype)
    return Cloud(x, w, *factors, size, of_u.unit / of_x.unit, of_y.unit / of_x.unit, jnp.zeros((), dtype)), of_x, of_u


def terms(asked: Asked, at: Cloud, dx: jax.Array, dw: jax.Array) -> tuple[jax.Array, ...]:
    """What is summed over the coordinates of a pair: `|dx|^2`, `|dw|^2`, and `<du, dx>` where w is U; of a step, where they are asked
    for, `|du|^2` and `<du, dx>` as well.
    """
    if not asked.moved:
        return dx * dx, dw * dw, dx * dw
    if not {"rate", "closing"} & set(asked.quantities):
        return dx * dx, dw * dw
    du = dw * (at.unit_y / at.unit_u) - dx / at.unit_u
    return dx * dx, dw * dw, du * du, dx * du


def values(asked: Asked, at: Cloud, sums: tuple[jax.Array, ...], sizes: jax.Array) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    """The quantities of pairs, `(k, ...)`, and which are twins, torn, and unresolved."""
    dx2, dw2 = sums[:2]
    du2 = sums[2] if len(sums) == 4 else dw2
    same = dx2 == 0
    torn = same & (dw2 > at.tear)
    over = jnp.where(same, 1, dx2)

    def value(name: str) -> jax.Array:
        if name == "margin":
            return -dw2 / jnp.where(sizes > 0, sizes * sizes, 1)
        return {"rate": du2, "closing": -sums[-1], "high": dw2, "low": -dw2}[name] / over  # divided: equal squares give 1

    of_torn = {name: jnp.inf if asked.torn and name in ("rate", "high") else -jnp.inf for name in asked.quantities}
    found = [jnp.where(same, jnp.where(torn, of_torn[name], -jnp.inf), value(name)) for name in asked.quantities]
    unresolved = ~same & (dw2 <= (asked.floor * sizes) ** 2) if asked.floor else jnp.zeros_like(same)
    return jnp.stack(found), (same & ~torn, torn, unresolved)


def tile(asked: Asked, at: Cloud, rows: jax.Array, others: jax.Array) -> tuple[jax.Array, ...]:
    """The terms of the pairs of `rows` and `others`, summed one coordinate after another: nothing of size (n, n, d) is formed."""
    (xa, wa), (xb, wb) = at.rows(rows), at.rows(others)
    zero = jnp.zeros((xa.shape[0], xb.shape[0]), xa.dtype)

    def add(sums: tuple, coordinate: tuple) -> tuple[tuple, None]:
        p, q, r, s = coordinate
        new = terms(asked, at, p[:, None] - q[None], r[:, None] - s[None])
        return tuple(a + b for a, b in zip(sums, new, strict=True)), None

    unroll = min(max(count for least, count in UNROLL.items() if least <= xa.shape[1]), xa.shape[1]) if xa.shape[0] > 3 else 1
    num = len(terms(asked, at, xa[:1, 0], wa[:1, 0]))
    return jax.lax.scan(add, (zero,) * num, (xa.T, xb.T, wa.T, wb.T), unroll=unroll)[0]


def scan(asked: Asked, at: Cloud) -> Extremes:
    """All pairs by differences, in tiles of rows; the last tile is filled with copies of the last row. Time O(n^2 d)."""
    n = at.x.shape[0]
    height = max(1, min(n, _TILE_PAIRS // n))
    num = -(-n // height)

    def table(rows: jax.Array) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        return values(asked, at, tile(asked, at, rows, jnp.arange(n)), at.size[rows][:, None] + at.size[None])

    def best(rows: jax.Array) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        found, flags = table(rows)
        return found.max(2).T, tuple(flag.sum(1) for flag in flags)

    every = jnp.minimum(jnp.arange(num * height), n - 1).reshape(num, height)
    found, (twins, torn, unresolved) = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:n], jax.lax.map(best, every))
    i = jnp.argmax(found, axis=0)
    ends = jnp.concatenate([i, jnp.argmax(torn)[None]])
    partners, flags = table(ends)
    j = jnp.argmax(jnp.diagonal(partners[:, :-1], axis1=0, axis2=1).T, axis=1)
    return Extremes(
        jnp.take_along_axis(found, i[None], axis=0)[0],
        jnp.stack([i, j], axis=1).astype(jnp.int32),
        (jnp.sum(twins - 1) // 2).astype(jnp.int32),
        (jnp.sum(torn) // 2).astype(jnp.int32),
        jnp.stack([ends[-1], jnp.argmax(flags[1][-1])]).astype(jnp.int32),
        (jnp.sum(unresolved) // 2).astype(jnp.int32),
    )
