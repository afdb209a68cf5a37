"""Extreme values over all pairs at the speed of matrix products: Gram products find candidates, differences decide.

The products `X X^t`, `U U^t` and `V V^t`, V = X + U, give the three terms of every pair, each with a bound on its rounding. A pair
whose interval stays below what some pair is known to attain is done with, and nearly all are. The others, near pairs always among
them, are decided by differences (`_differences`), the most promising first. Where too many stay in doubt (all tied, coincident
clouds) a block of pairs is decided by differences as a whole: that costs time, never the answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from eqdyn._differences import Asked, Centred, Cloud, Extremes, cloud, merged, power_of_two, terms, tile, values
from eqdyn._types import Points, Scalar

BLOCK = 256  # rows; a block of pairs is BLOCK by BLOCK
PART = 200  # coordinates that a product sums at a time
LIST = 512  # candidates that are looked at closely at a time
CHUNK = 64  # of them, those that are decided at a time
SHARE = 16  # of a block's pairs: with more candidates than that left after two lists, it is decided as a whole
LEAST_DIM, LEAST_WORK = 16, 2**22  # below that dimension, or that many n^2 d, the plain scan is faster
_LANES = 16  # partial sums of a decided pair: vectorised, and rounded less than one long sum
HIGHEST = jax.lax.Precision.HIGHEST


def pays(x: Points) -> bool:
    """Whether products beat the plain scan; beyond some 10^5 dimensions in float32 their rounding is not bounded here."""
    n, d = x.shape
    return d >= LEAST_DIM and n * n * d >= LEAST_WORK and d * float(jnp.finfo(x.dtype).eps) < 0.01


class Grams(NamedTuple):
    """Of X, U and V about their means: rows filled up to whole blocks, as pieces of at most PART coordinates; squared norms; errors:
    `error[i] + error[j]` bounds what rounding does to `norm[i] + norm[j] - 2 <row i, row j>` as the square of the exact difference.
    """

    rows: tuple[tuple[jax.Array, ...], ...]
    norms: tuple[jax.Array, ...]
    errors: tuple[jax.Array, ...]


class Form(NamedTuple):
    """Each quantity as a ratio of the three squares, `(k, 3)` coefficients over `|dx|^2` or, where `sized`, over
    `(|y_i| + |y_j|)^2`; a decided value v is `v * scale + shift` of that ratio.
    """

    coefficients: jax.Array
    sized: tuple[bool, ...]
    scale: jax.Array
    shift: jax.Array


class Found(NamedTuple):
    """What is known so far. `least`: of each ratio what some pair attains for certain."""

    best: Extremes
    least: jax.Array


def screen(asked: Asked, x: Points, w: Points, *, block: int = BLOCK, slack: float = 1.0) -> tuple[Extremes, Cloud]:
    """The extreme values over all pairs, and the units they are in. `slack` multiplies the bound of the rounding: only a test makes it
    other than 1. Under `vmap` one after another: there a branch would be taken on both sides.
    """
    count = -(-x.shape[0] // block)
    pairs = np.asarray([(i, j) for i in range(count) for j in range(i, count)], np.int32)

    @jax.custom_batching.sequential_vmap
    def one(x: Points, w: Points, pairs: jax.Array) -> tuple[Extremes, Cloud]:
        return _screen(asked, x, w, pairs, -(-x.shape[0] // count), slack)

    return one(x, w, jnp.asarray(pairs))  # an argument: a constant inside could not be batched with a branch around it


def _screen(asked: Asked, x: Points, w: Points, pairs: jax.Array, block: int, slack: float) -> tuple[Extremes, Cloud]:
    n = x.shape[0]
    at, of_x, of_u = cloud(asked, x, w)
    grams, balance = grams_of(of_x, of_u, -n % block, slack)
    form, there = form_of(asked, at, balance), jnp.arange(n + -n % block) < n

    def one(found: Found, pair: jax.Array) -> tuple[Found, None]:
        return of_tile(asked, at, grams, there, form, block, found, pair * block), None

    return jax.lax.scan(one, nothing(len(asked.quantities), x.dtype), pairs)[0].best, at


def nothing(num: int, dtype: Any) -> Found:
    """Of so many quantities, before any pair was seen."""
    none, zero = jnp.full((num,), -jnp.inf, dtype), jnp.zeros((), jnp.int32)
    return Found(Extremes(none, jnp.zeros((num, 2), jnp.int32), zero, zero, jnp.zeros((2,), jnp.int32), zero), none)


def grams_of(of_x: Centred, of_u: Centred, missing: int, slack: float) -> tuple[Grams, Scalar]:
    """A product of length d is off by at most `d eps/2` of the norms in any order of summation, to first order; so pieces are short.
    40 more for the norms' sums, what is made of them, and the rounding of the centred rows; 2% for what is not first order.
    V = X + c U, with c (given back) so that both are of one length.
    """
    d, info = of_x.rows.shape[1], jnp.finfo(of_x.rows.dtype)
    num = -(-d // PART)
    length, half = -(-d // num), float(info.eps) / 2

    def pieces(a: Points) -> tuple[jax.Array, ...]:
        return tuple(a[:, first : first + length] for first in range(0, d, length))

    def squared(a: tuple[jax.Array, ...]) -> jax.Array:
        return sum((jnp.einsum("nd,nd->n", piece, piece, precision=HIGHEST) for piece in a), start=jnp.zeros((), a[0].dtype))

    xc, uc = (jnp.pad(a.rows, ((0, missing), (0, 0))) for a in (of_x, of_u))
    x2, u2 = squared(pieces(xc)), squared(pieces(uc))
    of_x_max, of_u_max = (jnp.sqrt(jnp.max(norm)) for norm in (x2, u2))
    balance = power_of_two(of_x_max) / power_of_two(of_u_max)
    rows = tuple(pieces(a) for a in (xc, uc, xc + balance * uc))
    norms = (x2, u2, squared(rows[2]))
    off = half * of_u.off  # what the rounding of U as a difference of two places, of size `off`, adds to that of its centred rows
    extra = (0 * x2, 4 * half * u2 + 4 * off * (of_u_max + off), 12 * half * (balance * balance * u2 + x2) + 4 * off * balance * (of_x_max + off))
    flushed = 8 * d * float(info.tiny)  # products below the smallest normal number
    own = 2.04 * half * (length + num + 40)
    moving = (u2 > 0) | (of_u.off > 0)
    inexact = (x2 > 0, moving, (x2 > 0) | moving)  # rows of zeros are exact
    parts = zip(norms, extra, inexact, strict=True)
    errors = tuple(slack * jnp.where(some, own * norm + more + flushed, 0) for norm, more, some in parts)
    return Grams(rows, norms, errors), balance


def form_of(asked: Asked, at: Cloud, balance: Scalar) -> Form:
    """With `|dv|^2 = |dx|^2 + 2 c <du, dx> + c^2 |du|^2`; of a step, in units of the larger of x and u, `dy = p dx + r du`."""
    one = jnp.ones((), at.x.dtype)
    zero, p = 0 * one, 1 / jnp.maximum(one, at.unit_u)
    r, y = at.unit_u * p, at.unit_y * p
    # |dx|^2, <du, dx>, |du|^2; scale, shift
    table = {
        "rate": (zero, zero, one, one, zero),
        "closing": (zero, -one, zero, one, zero),
        "high": (zero, 2 * p * r, r * r, y * y, -p * p),
        "low": (zero, -2 * p * r, -r * r, y * y, p * p),
        "margin": (-p * p, -2 * p * r, -r * r, y * y, zero),
    }
    chosen = jnp.stack([jnp.stack(table[name]) for name in asked.quantities])
    of_x, cross, of_u, scale, shift = chosen.T
    half = cross / (2 * balance)
    coefficients = jnp.stack([of_x - half, of_u - half * balance * balance, half], axis=1)
    return Form(coefficients, tuple(name == "margin" for name in asked.quantities), scale, shift)


def of_tile(
    asked: Asked, at: Cloud, grams: Grams, there: jax.Array, form: Form, block: int, found: Found, first: jax.Array
) -> Found:  # fmt: skip
    """What the pairs of rows `first[0] ...` and rows `first[1] ...` add; `there`: which rows are particles."""
    n, k = at.x.shape[0], len(asked.quantities)
    a, b = (jax.tree.map(lambda leaf, f=f: jax.lax.dynamic_slice_in_dim(leaf, f, block), grams) for f in first)
    products: list[Any] = [
        sum(jnp.matmul(p, q.T, precision=HIGHEST) for p, q in zip(*pieces, strict=True)) for pieces in zip(a.rows, b.rows, strict=True)
    ]
    i, j = (f + jnp.arange(block, dtype=jnp.int32) for f in first)
    valid = (i[:, None] < j[None]) & there[i][:, None] & there[j][None]
    i, j = jnp.minimum(i, n - 1), jnp.minimum(j, n - 1)
    sizes: Any = jnp.square(at.size[i][:, None] + at.size[j][None]) if any(form.sized) else None

    def ends(c: jax.Array, sign: int) -> tuple[jax.Array, ...]:
        """What the rows of both sides bring to the upper or lower end of a combination of the three squares."""
        return tuple(sum(c[m] * one.norms[m] + sign * jnp.abs(c[m]) * one.errors[m] for m in range(3)) for one in (a, b))

    def of_block(c: jax.Array, sign: int) -> jax.Array:
        left, right = ends(c, sign)
        return left[:, None] + right[None] - 2 * (c[0] * products[0] + c[1] * products[1] + c[2] * products[2])

    of_x = jnp.eye(3, dtype=at.size.dtype)[0]
    x_low, x_high = of_block(of_x, -1), of_block(of_x, 1)
    apart = valid & (x_low > 0)
    attained = []
    for q in range(k):
        low = of_block(form.coefficients[q], -1)
        over = jnp.where(sizes > 0, sizes, 1) if form.sized[q] else jnp.where(low > 0, x_high, x_low)
        attained.append(jnp.max(jnp.where(apart, low / jnp.where(apart, over, 1), -jnp.inf)))
    found = found._replace(least=jnp.maximum(found.least, jnp.stack(attained)))

    def again(found: Found, done: jax.Array) -> tuple[jax.Array, jax.Array]:
        score = _promise(asked, form, found, of_block, x_low <= 0, sizes, valid & ~done)
        return score, jnp.sum(score > 0, dtype=jnp.int32)

    def listed(carry: tuple) -> tuple:
        found, done, score, left, lists = carry
        value, flat = jax.lax.top_k(score.ravel(), min(LIST, block * block))
        rows, columns = flat // block, flat % block
        some = [product.ravel()[flat] for product in products]

        def of_list(c: jax.Array, sign: int) -> jax.Array:
            left, right = ends(c, sign)
            return left[rows] + right[columns] - 2 * (c[0] * some[0] + c[1] * some[1] + c[2] * some[2])

        near, size = x_low.ravel()[flat] <= 0, None if sizes is None else sizes.ravel()[flat]

        def decide(carry: tuple) -> tuple:
            found, score, open_ = carry
            _, first = jax.lax.top_k(score, min(CHUNK, len(flat)))
            one, other = i[rows[first]], j[columns[first]]
            found = _merged(asked, form, found, *_decided(asked, at, one, other), one, other, score[first] > 0)
            open_ = open_.at[first].set(False)
            return found, _promise(asked, form, found, of_list, near, size, open_), open_

        found, _, _ = jax.lax.while_loop(lambda carry: jnp.any(carry[1] > 0), decide, (found, value, value > 0))
        done = done.ravel().at[flat].set(True).reshape(done.shape)
        # what is not listed promises no more than before
        score, left = jax.lax.cond(left > len(flat), again, lambda found, done: (jnp.zeros_like(score), jnp.zeros_like(left)), found, done)
        return found, done, score, left, lists + 1

    def more(carry: tuple) -> jax.Array:
        _, _, _, left, lists = carry
        return (left > 0) & ((lists < 2) | (left <= block * block // SHARE))

    def whole(found: Found, score: jax.Array) -> Found:
        of_pairs, flags = values(asked, at, *tile(asked, at, i, j), at.size[i][:, None] + at.size[j][None])
        one, other = (jnp.broadcast_to(index, score.shape).ravel() for index in (i[:, None], j[None]))
        return _merged(asked, form, found, of_pairs.reshape(k, -1), tuple(flag.ravel() for flag in flags), one, other, (score > 0).ravel())

    nobody = jnp.zeros_like(valid)
    carry = found, nobody, *again(found, nobody), jnp.zeros((), jnp.int32)
    found, _, score, left, _ = jax.lax.while_loop(more, listed, carry)
    return jax.lax.cond(left > 0, whole, lambda found, _: found, found, score)


def _promise(
    asked: Asked, form: Form, found: Found, end: Callable[[jax.Array, int], jax.Array], near: jax.Array, sizes: Any, live: jax.Array
) -> jax.Array:
    """Positive for pairs that may be better than what is attained, more where they promise more; and for pairs that may coincide."""
    info = jnp.finfo(form.scale.dtype)
    tiny, eps, big = float(info.tiny), float(info.eps), float(info.max) ** 0.5
    of_x = jnp.eye(3, dtype=form.scale.dtype)[0]
    score = jnp.where(near, tiny, 0)
    for q, sized in enumerate(form.sized):
        least = jnp.clip(found.least[q], -big, big)
        if sized:
            least = jnp.minimum(least, -(asked.floor**2) * form.scale[q])  # whatever is not resolved is counted
            over = end(form.coefficients[q], 1) - least * sizes
        else:
            over = end(form.coefficients[q] - least * of_x, 1)
        # where nothing moves, any pair will do; where everything meets, all count
        exact = (over == 0) & (sized | jnp.isneginf(found.best.value[q]))
        score = jnp.maximum(score, jnp.where(exact, tiny, over / jnp.maximum(jnp.abs(least), eps)))
    return jnp.where(live, score, 0)


def _decided(asked: Asked, at: Cloud, i: jax.Array, j: jax.Array) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    """Pairs `(i[m], j[m])` by differences."""

    def folded(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.pad(a - b, ((0, 0), (0, -a.shape[1] % _LANES))).reshape(len(i), -1, _LANES)

    dx, dw = (folded(a, b) for a, b in zip(at.rows(i), at.rows(j), strict=True))
    sums = (term.sum(axis=1).sum(axis=1) for term in terms(asked, at, dx, dw))
    return values(asked, at, tuple(sums), jnp.any(at.x[i] != at.x[j], axis=1), at.size[i] + at.size[j])


def _merged(
    asked: Asked, form: Form, found: Found, of_pairs: jax.Array, flags: tuple[jax.Array, ...], i: jax.Array, j: jax.Array, live: jax.Array
) -> Found:
    """What is known with the decided pairs `(i[m], j[m])`, where live, put to it."""
    best = merged(found.best, of_pairs, flags, i, j, live)
    known = jnp.where(jnp.isneginf(best.value), -jnp.inf, best.value * form.scale + form.shift)
    return Found(best, jnp.maximum(found.least, known))
