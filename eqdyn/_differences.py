"""Extreme values over all pairs of particles, decided by differences: what is asked of a pair, and what tiles of pairs answer.

A pair is asked in terms of `dx = x_i - x_j` and of `du`, the difference of U or of what a step added; all values are to be maximised.

    rate      |du|^2 / |dx|^2                     R^2
    closing   -<du, dx> / |dx|^2                  -p
    high      |dy|^2 / |dx|^2                     s^2, y the places after the step
    low       -|dy|^2 / |dx|^2
    margin    -|dy|^2 / (|y_i| + |y_j|)^2         what is left of a distance, against the size of what was rounded
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from eqdyn._types import Points, Scalar

TWIN = 32  # roundings of the largest U by which the U of two coincident particles may differ
UNROLL = {1: 4, 32: 16}  # from that dimension on, coordinates that are added to the sums of a tile at a time (measured)
LONG = 4096  # coordinates that are summed one after another; more are summed in parts
MOST = 2**31 - 1  # where counts of pairs stop


class Asked(NamedTuple):
    """What is looked for. `moved`: the second array holds the places after the step, not U. `torn`: coincident particles that part
    count as infinite; else they are left out of the values, and counted. `floor`: a pair of margin up to `floor^2` is unresolved.
    `eps`: what one rounding of U is; 0 for that of the array it comes in.
    """

    quantities: tuple[str, ...]
    moved: bool
    torn: bool = True
    floor: float = 0.0
    eps: float = 0.0


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
    (`twins`), coincide and part (`torn`, and one of them), and are distinct but not resolved after the step. Distinct pairs whose
    squares would not be numbers of this dtype are told nothing of: their values are the worst that there are. Counts stop at `MOST`.
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
    return jnp.ldexp(jnp.ones((), size.dtype), jnp.clip(exponent, info.minexp + 1, info.maxexp - 2))


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
        tear = TWIN * (asked.eps or float(jnp.finfo(dtype).eps)) * jnp.max(jnp.abs(us)) / of_u.unit
        factors = (1 / jnp.stack([x_scale, of_x.unit]), 1 / jnp.stack([u_scale, of_u.unit]))
        return Cloud(x, w, *factors, jnp.zeros(x.shape[:1], dtype), unit, unit, tear * tear), of_x, of_u._replace(off=jnp.zeros((), dtype))
    scale = power_of_two(jnp.maximum(jnp.max(jnp.abs(x)), jnp.max(jnp.abs(w))))
    xs, ys = x / scale, w / scale
    of_x, of_u, of_y = centred(xs), centred(ys - xs), centred(ys)
    factors = (1 / jnp.stack([scale, of_x.unit]), 1 / jnp.stack([scale, of_y.unit]))
    size = lengths(ys / of_y.unit) if asked.floor else jnp.zeros(x.shape[:1], dtype)
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


def values(
    asked: Asked, at: Cloud, sums: tuple[jax.Array, ...], apart: jax.Array, sizes: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, ...]]:  # fmt: skip
    """`listed`, with the quantities in one array `(k, ...)`."""
    found, flags = listed(asked, at, sums, apart, sizes)
    return jnp.stack(found), flags


def listed(
    asked: Asked, at: Cloud, sums: tuple[jax.Array, ...], apart: jax.Array, sizes: jax.Array
) -> tuple[list[jax.Array], tuple[jax.Array, ...]]:  # fmt: skip
    """The quantities of pairs, and which are twins, torn, and unresolved. `apart`: which are distinct."""
    dx2, dw2 = sums[:2]
    du2 = sums[2] if len(sums) == 4 else dw2
    info = jnp.finfo(dx2.dtype)
    torn = ~apart & (dw2 > at.tear)
    near = apart & (dx2 < at.x.shape[1] * float(info.tiny) / float(info.eps))  # of what was flushed more than a rounding
    over = jnp.where(apart & ~near, dx2, 1)

    def value(name: str) -> jax.Array:
        if name == "margin":
            return -dw2 / jnp.where(sizes > 0, sizes * sizes, 1)
        if name == "low":
            return -value("high")
        return {"rate": du2, "closing": -sums[-1], "high": dw2}[name] / over  # divided: equal squares give 1

    worst = {"low": 0.0, "margin": 0.0}
    found = [jnp.where(apart, jnp.where(near, worst.get(name, jnp.inf), value(name)), coincident(asked, name, torn)) for name in asked.quantities]
    unresolved = apart & (near | (dw2 <= (asked.floor * sizes) ** 2)) if asked.floor else jnp.zeros_like(apart)
    return found, (~apart & ~torn, torn, unresolved)


def coincident(asked: Asked, name: str, torn: jax.Array) -> jax.Array:
    return jnp.where(torn, jnp.inf if asked.torn and name in ("rate", "high") else -jnp.inf, -jnp.inf)


def tile(asked: Asked, at: Cloud, rows: jax.Array, others: jax.Array) -> tuple[tuple[jax.Array, ...], jax.Array]:
    """The terms of the pairs of `rows` and `others`, summed over coordinates, and which pairs are distinct: nothing of size (n, n, d)
    is formed.
    """
    xa, wa, xb, wb = at.x[rows], at.w[rows], at.x[others], at.w[others]
    zero = jnp.zeros((xa.shape[0], xb.shape[0]), xa.dtype)

    def add(carry: tuple, coordinate: tuple) -> tuple:
        sums, apart = carry
        p, q = coordinate[:2]
        scaled = [v * factor[0] * factor[1] for v, factor in zip(coordinate, (at.of_x, at.of_x, at.of_w, at.of_w), strict=True)]
        new = terms(asked, at, scaled[0][:, None] - scaled[1][None], scaled[2][:, None] - scaled[3][None])
        return tuple(a + b for a, b in zip(sums, new, strict=True)), apart | (p[:, None] != q[None])

    num = len(terms(asked, at, xa[:1, 0], wa[:1, 0]))
    return over_coordinates(add, ((zero,) * num, zero > 0), (xa, xb, wa, wb))


def over_coordinates(add: Callable[[tuple, tuple], tuple], start: tuple, rows: tuple[Points, ...], *, unrolled: bool = True) -> Any:
    """`(sums, flags)` over the coordinates of rows, one after another; beyond `LONG` of them in parts, whose sums are added."""
    d = rows[0].shape[1]
    unroll = min(max(count for least, count in UNROLL.items() if least <= d), d) if unrolled and rows[0].shape[0] > 3 else 1

    def part(carry: tuple, coordinates: tuple) -> tuple:
        return jax.lax.scan(lambda carry, one: (add(carry, one), None), carry, coordinates, unroll=unroll)[0]

    coordinates = tuple(a.T for a in rows)
    if d <= LONG:
        return part(start, coordinates)
    num = -(-d // LONG)
    parts = tuple(jnp.pad(a, ((0, num * LONG - d), (0, 0))).reshape(num, LONG, -1) for a in coordinates)

    def whole(carry: tuple, one: tuple) -> tuple[tuple, None]:
        sums, flags = part((start[0], carry[1]), one)
        return (tuple(a + b for a, b in zip(carry[0], sums, strict=True)), flags), None

    return jax.lax.scan(whole, start, parts)[0]


def of_tile(asked: Asked, at: Cloud, there: jax.Array, height: int, best: Extremes, first: jax.Array) -> Extremes:
    """`best`, with the pairs of rows `first[0] ...` and rows `first[1] ...` put to it; `there`: which rows are particles."""
    i, j = (f + jnp.arange(height, dtype=jnp.int32) for f in first)
    found, flags = values(asked, at, *tile(asked, at, i, j), at.size[i][:, None] + at.size[j][None])
    live = (i[:, None] < j[None]) & there[i][:, None] & there[j][None]
    one, other = (jnp.broadcast_to(index, live.shape).ravel() for index in (i[:, None], j[None]))
    return merged(best, found.reshape(len(found), -1), tuple(flag.ravel() for flag in flags), one, other, live.ravel())


def merged(best: Extremes, found: jax.Array, flags: tuple[jax.Array, ...], i: jax.Array, j: jax.Array, live: jax.Array) -> Extremes:
    """`best`, with the pairs `(i[m], j[m])`, where live, put to it."""
    found = jnp.where(live, found, -jnp.inf)
    top, value = jnp.argmax(found, axis=1), jnp.max(found, axis=1)
    at = jnp.where((value > best.value)[:, None], jnp.stack([i[top], j[top]], axis=1), best.at)
    twins, torn, unresolved = (flag & live for flag in flags)
    tear = jnp.argmax(torn)
    return Extremes(
        jnp.maximum(value, best.value),
        at,
        added(best.twins, jnp.sum(twins, dtype=jnp.int32)),
        added(best.torn, jnp.sum(torn, dtype=jnp.int32)),
        jnp.where(torn[tear], jnp.stack([i[tear], j[tear]]), best.torn_at),
        added(best.unresolved, jnp.sum(unresolved, dtype=jnp.int32)),
    )


def total(counts: jax.Array) -> jax.Array:
    """The sum of counts below `MOST / 2`, which stops there where it would be more."""
    return jnp.where(jnp.sum(counts.astype(jnp.float32)) < 0.999 * MOST, jnp.sum(counts, dtype=jnp.int32), MOST)


def added(a: jax.Array, b: jax.Array) -> jax.Array:
    """Of two counts: past the largest whole number of 32 bits a sum turns negative."""
    found = a + b
    return jnp.where(found < 0, np.int32(MOST), found)


# --- in the units of x and w -----------------------------------------------------------------------------------------------


def measured(asked: Asked, at: Cloud, found: Extremes) -> Extremes:
    """Values not squared, in the units of x and w: R, -p, s, -s, and minus the margin."""
    unit = {"rate": at.unit_u, "closing": at.unit_u, "high": at.unit_y, "low": at.unit_y, "margin": jnp.ones_like(at.unit_y)}
    roots = [v if name == "closing" else jnp.sign(v) * jnp.sqrt(jnp.abs(v)) for name, v in zip(asked.quantities, found.value, strict=True)]
    return found._replace(value=jnp.stack([root * unit[name] for name, root in zip(asked.quantities, roots, strict=True)]))


def lengths(rows: Points) -> jax.Array:
    """Of each row; squares neither overflow nor vanish."""
    unit = power_of_two(jnp.max(jnp.abs(rows), axis=1))
    return jnp.sqrt(jnp.sum((rows / unit[:, None]) ** 2, axis=1)) * unit
