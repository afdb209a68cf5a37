"""The hyperplanes of a network's hidden units as data points see them, in JAX: distances, angles and kinks, without rows as long as the input."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from eqdyn import _checks
from eqdyn.partition._network import slopes_of

Layers = list[tuple[jax.Array, jax.Array]]
_ROUNDINGS = 8  # of a row whose terms cancel


class Products(NamedTuple):
    """The rows of `W_1`, `W_2 S_1 W_1`, `W_3 S_2 W_2 S_1 W_1` ..., S diagonal and of each of n points, and their inner products.

    Where rows are longer than W_1 has many, they are kept as combinations of those of W_1, whose Gram matrix says the rest: the long ones are
    never made.

    Fields:
        rows: `(1, m_1, k)`, then `(n, m_l, k)`, k the smaller side of W_1; None for the rows of W_1 themselves where it is m_1.
        duals: the same shapes; inner products are `rows @ duals^t`.
    """

    rows: list[jax.Array | None]
    duals: list[jax.Array]

    def squares(self) -> list[jax.Array]:
        """Squared lengths, `(1, m_1)`, then `(n, m_l)`."""
        return [
            jnp.diagonal(dual, axis1=1, axis2=2) if row is None else jnp.sum(row * dual, axis=2)
            for row, dual in zip(self.rows, self.duals, strict=True)
        ]

    def inner(self, a: int, b: int) -> jax.Array:
        """Inner products of the rows of block a with those of block `b >= a`, `(1 or n, m_a, m_b)`."""
        row, dual = self.rows[a], jnp.swapaxes(self.duals[b], 1, 2)
        return dual if row is None else row @ dual


def products(first: jax.Array, then: Iterable[tuple[jax.Array, jax.Array]]) -> Products:
    """Of W_1 `(m_1, k)`, then W_l `(m_l, m_l-1)` with the slopes in front of it, `(n, m_l-1)`."""
    short = first.shape[1] <= first.shape[0]
    gram = (first if short else first @ first.T)[None]
    rows: list[jax.Array | None] = [gram if short else None]
    duals = [gram]
    for w, slope in then:
        last = rows[-1]
        row = w[None] * slope[:, None, :] if last is None else w[None] @ (slope[:, :, None] * last)
        rows.append(row)
        duals.append(row if short else row @ gram)
    return Products(rows, duals)


class Facets(NamedTuple):
    """The m hidden units at n points: on the cell of a point each is `A z + b`, and `A z + b = 0` its hyperplane.

    Fields:
        above: `(n, m)` bool, the code.
        values: `(n, m)`, `A z + b`.
        moving: `(n, m)` bool, whether A is not 0, to rounding: a unit that is constant has no hyperplane.
        lengths: `(n, m)`, `|A|`; 1 where the unit is constant.
        slopes: `(n, m_l)` by layer, of the activation at the point.
        rows: inner products of all A.
    """

    above: jax.Array
    values: jax.Array
    moving: jax.Array
    lengths: jax.Array
    slopes: list[jax.Array]
    rows: Products

    @property
    def distances(self) -> jax.Array:
        """`|A z + b| / |A|`, [z]; not to be used where the unit is constant."""
        return jnp.abs(self.values) / self.lengths

    def near(self, tau: Any) -> jax.Array:
        """`exp(-distance^2 / (2 tau^2))`, 0 for units that are constant."""
        ratio = self.distances / tau
        return jnp.where(self.moving, jnp.exp(-ratio * ratio / 2), 0)


def facets(layers: Layers, z: jax.Array, slopes: tuple[float, float]) -> Facets:
    """Of at least one hidden layer."""
    values: list[jax.Array] = []
    kinds: list[jax.Array] = []
    h = z
    for w, b in layers[:-1]:
        a = h @ w.T + b[None]
        low, high = (jnp.asarray(slope, a.dtype) for slope in slopes)
        values.append(a)
        kinds.append(jnp.where(a > 0, high, low))
        h = kinds[-1] * a
    then = list(zip([w for w, _ in layers[1:-1]], kinds[:-1], strict=True))
    rows = products(layers[0][0], then)
    moving, lengths = _lengths(rows, then)
    a = jnp.concatenate(values, axis=1)
    return Facets(a > 0, a, _joined(moving, kinds), _joined(lengths, kinds), kinds, rows)


def _joined(parts: list[jax.Array], like: list[jax.Array]) -> jax.Array:
    """Blocks `(1 or n, m_l)` as `(n, m)`."""
    return jnp.concatenate([jnp.broadcast_to(part, full.shape) for part, full in zip(parts, like, strict=True)], axis=1)


def _lengths(rows: Products, then: list[tuple[jax.Array, jax.Array]]) -> tuple[list[jax.Array], list[jax.Array]]:
    """By block whether a row is not 0, and its length, 1 where it is. Squared lengths out of a Gram matrix are known to a rounding of the
    lengths that were added, not of what is left of them.
    """
    first, *others = rows.squares()
    eps = _ROUNDINGS * float(jnp.finfo(first.dtype).eps)
    least = eps if rows.rows[0] is None else eps * eps
    moving = [first > 0]
    lengths = [jnp.sqrt(jnp.where(moving[0], first, 1))]
    for square, (w, slope) in zip(others, then, strict=True):
        most = (jnp.abs(slope) * jnp.where(moving[-1], lengths[-1], 0)) @ jnp.abs(w).T  # the length if nothing cancelled
        moving.append(square > least * most * most)
        lengths.append(jnp.sqrt(jnp.where(moving[-1], square, 1)))
    return moving, lengths


def kinks(seen: Facets, layers: Layers, slopes: tuple[float, float]) -> jax.Array:
    """`|u|^2` of the jump of the Jacobian, `J_above - J_below = u n^t`, `(n, m)`, [out]^2 / [z]^2; what lies behind a unit as it is at the point."""
    back = [(w.T, slope) for (w, _), slope in zip(layers[1:-1], seen.slopes[1:], strict=True)]
    behind = _joined(products(layers[-1][0].T, back[::-1]).squares()[::-1], seen.slopes)
    length = jnp.where(seen.moving, seen.lengths, 0)
    return (slopes[1] - slopes[0]) ** 2 * length * length * jnp.maximum(behind, 0)


def checked(layers: Any, z: Any, activation: Any) -> tuple[Layers, jax.Array, tuple[float, float]]:
    """Layers and points as JAX arrays of one dtype, and the slopes of the activation."""
    slopes = slopes_of(activation)
    z = _checks.points(z, "z")
    if not isinstance(layers, Sequence) or len(layers) < 1:
        msg = f"layers: got {type(layers).__name__}; expected a list of (W, b), hidden layers first, the output layer last."
        raise ValueError(msg)
    made: Layers = []
    width = z.shape[1]
    for k, layer in enumerate(layers):
        if not isinstance(layer, (tuple, list)) or len(layer) != 2:
            msg = f"layers[{k}]: got {type(layer).__name__}; expected (W (out, in), b (out,))."
            raise ValueError(msg)
        w, b = (_checks.floating(part, f"layers[{k}][{at}]") for at, part in enumerate(layer))
        if w.ndim != 2 or w.shape[0] < 1 or w.shape[1] != width or b.shape != w.shape[:1]:
            of = f"{width} of the layer before" if k else f"{width} of z"
            msg = f"layers[{k}]: got shapes {w.shape} and {b.shape}; expected W (out, {width}) and b (out,), in = {of}; write w.T if W is (in, out)."
            raise ValueError(msg)
        if {w.dtype, b.dtype} != {z.dtype}:
            msg = f"layers[{k}]: got {w.dtype} and {b.dtype} beside z of {z.dtype}; expected one dtype; write z.astype({w.dtype})."
            raise TypeError(msg)
        made.append((w, b))
        width = w.shape[0]
    _checks.finite(made, "layers")
    _checks.finite(z, "z")
    return made, z, slopes
