"""What every cloud shares: the record, the checks of its arguments, the scales at which it shows its set, even spacing."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from eqdyn import _checks
from eqdyn._types import Key, Points

OVERSAMPLE = 16  # points drawn for every one that an even cloud keeps
SAFETY = 0.99  # of a geometric bound: at the bound itself an edge of exactly that length would count
FAILS = 0.01  # how often `low` may be too small for a drawn cloud
# low = factor * (size / n)^(1/dim), (even, drawn): the largest seen with ripser in 20 to 100 draws a size, and a little more
CLOSED, BOUNDED, SOLID = (2.15, 1.7), (2.15, 1.9), (2.25, 1.65)


class Shape(NamedTuple):
    """A cloud, and what is known of the set it was drawn from.

    The Rips complex with the edges d <= r shows `betti` for r in `interval`, in the unit of the points. The upper end is
    geometry (where the set itself would change); the lower end follows from the number of points and how they were drawn:
    ESTIMATE, calibrated with ripser so that fewer than one draw in a hundred needs a larger one.

    Attributes:
        points: `(n, d)`, in any unit.
        betti: Betti numbers of the set, from degree 0; degrees beyond are 0.
        name: of the set, with spaces.
        interval: `(low, high)`; None if that many points show the set at no scale, or if nothing is known.
    """

    points: Points
    betti: tuple[int, ...]
    name: str
    interval: tuple[float, float] | None = None


def request(num: Any, key: Any, dtype: Any) -> Any:
    """Checks what every factory takes, and gives the dtype back."""
    _checks.count(num, "num", least=1)
    _checks.needs_key(_checks.key(key), "the points are drawn")
    return floating(dtype)


def floating(dtype: Any) -> Any:
    try:
        found = None if dtype is None else np.dtype(dtype)  # NumPy reads None as float64
    except TypeError:
        found = None
    if found is None or not jnp.issubdtype(found, jnp.floating):
        msg = f"dtype: got {dtype if found is None else found}; expected a real floating dtype; write dtype=jnp.float32."
        raise TypeError(msg)
    if found == np.float64 and not jax.config.jax_enable_x64:  # type: ignore[attr-defined]
        msg = (
            "dtype: got float64 while jax_enable_x64 is off, where JAX would silently work in float32; expected float32; "
            "write jax.config.update('jax_enable_x64', True) first, or dtype=jnp.float32."
        )
        raise TypeError(msg)
    return found


def length(value: Any, name: str) -> float:
    """A number > 0, as a Python float, whose dtype is that of what it meets."""
    if isinstance(value, (bool, str)) or not isinstance(value, (int, float, np.number, np.ndarray, jax.Array)) or np.ndim(value) != 0:
        what = f"shape {np.shape(value)}" if isinstance(value, (np.ndarray, jax.Array)) else repr(value)
        msg = f"{name}: got {what}; expected one finite number > 0."
        raise TypeError(msg)
    if not _checks.concrete(value):
        msg = f"{name}: got a traced value; expected a number, since scales follow from it; scale the points instead."
        raise TypeError(msg)
    return _checks.number(float(value), name, above=0)


def smaller(small: float, large: float, names: tuple[str, str]) -> None:
    if not small < large:
        msg = f"{names[0]}: got {small} with {names[1]}={large}; expected {names[0]} < {names[1]}."
        raise ValueError(msg)


def flag(value: Any, name: str) -> None:
    if not isinstance(value, bool):
        msg = f"{name}: got {value!r}; expected True or False."
        raise TypeError(msg)


def span(low: float, high: float) -> tuple[float, float] | None:
    return (low, high) if low < high else None


def along(num: int, whole: float, high: float, *, even: bool) -> tuple[float, float] | None:
    """The scales of a curve of length `whole`: `low` is its longest gap, drawn uniformly exceeded in fewer than 1 % of draws."""
    # the chance of a gap beyond x is at most n (1 - x / L)^(n - 1)
    gap = whole / num if even else whole * (math.log(num / FAILS) / max(num - 1, 1))
    return span(gap / SAFETY, SAFETY * high)


def across(num: int, size: float, high: float, *, dim: int, even: bool, factor: tuple[float, float]) -> tuple[float, float] | None:
    """The scales of a set of area or volume `size`: `low = factor * (size / n)^(1/dim)` spread evenly, with log n beside size if drawn."""
    drawn = size * math.log(num) / num
    return span(factor[0] * (size / num) ** (1 / dim) if even else factor[1] * drawn ** (1 / dim), SAFETY * high) if num > 1 else None


def sample(draw: Callable[..., jax.Array], num: int, key: Key, dtype: Any, *sizes: float, even: bool) -> jax.Array:
    """`num` points of `draw(num, key, dtype, *sizes)`, or those of sixteen times as many that farthest-point sampling takes."""
    flag(even, "even")
    return spread_out(draw(OVERSAMPLE * num, key, dtype, *sizes), num) if even else draw(num, key, dtype, *sizes)


def compiled(draw: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """`draw(num, key, dtype, *sizes)` as one program for every number of points, whatever the sizes."""
    return jax.jit(draw, static_argnums=(0, 2))


@functools.partial(jax.jit, static_argnums=1)
def spread_out(x: jax.Array, num: int) -> jax.Array:
    """Farthest-point sampling: from the first row on, always the row farthest from those that were taken."""

    def take(i: Any, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        rows, nearest = carry
        rows = rows.at[i].set(jnp.argmax(nearest).astype(rows.dtype))
        return rows, jnp.minimum(nearest, jnp.sum((x - x[rows[i]][None]) ** 2, axis=1))

    start = jnp.zeros(num, jnp.int32), jnp.sum((x - x[:1]) ** 2, axis=1)
    rows, _ = jax.lax.fori_loop(1, num, take, start)
    return x[rows]


def tilted(c: jax.Array, ratio: Any, key: Key) -> jax.Array:
    """Coordinates c of a symmetric law, turned into those of density `1 + ratio c`: kept with chance (1 + ratio c) / 2, else -c."""
    return jnp.where(2 * jax.random.uniform(key, c.shape, c.dtype) < 1 + ratio * c, c, -c)


def accepted(x: jax.Array, keep: jax.Array, num: int) -> jax.Array:
    """The first `num` of `room(num)` proposals that were kept; one in two must be, then too few come once in 10^9 draws at most."""
    return x[jnp.nonzero(keep, size=num, fill_value=0)[0]]


def room(num: int) -> int:
    return 4 * num + 64
