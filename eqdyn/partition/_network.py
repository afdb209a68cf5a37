"""A piecewise linear network as bits and affine maps: on every cell of its input space it is one affine map, and the bits say which."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

SLOPES = {"relu": (0.0, 1.0), "abs": (-1.0, 1.0)}  # below and above 0
_ROUNDINGS = 16
KINDS = "'relu', 'abs', 'leaky_relu', ('leaky_relu', slope) or ('max_pool', size)"


class Layer(NamedTuple):
    """A hidden layer: `w (n, before)`, `b (n,)`; its `slopes` below and above 0, or the maximum over each `pool` units in a row.

    Values up to `floor (n,)` are roundings of 0: a unit that is 0 on a whole cell by cancellation is not above 0 there.
    """

    w: np.ndarray
    b: np.ndarray
    slopes: tuple[float, float]
    pool: int
    floor: np.ndarray

    @property
    def num_rows(self) -> int:
        """Half-spaces that bound a cell."""
        return len(self.b) // self.pool * (self.pool - 1) if self.pool else len(self.b)

    def bits(self, a: np.ndarray) -> np.ndarray:
        """Of values `(..., n)` before the activation: above 0, or the largest of its pool (the first of those), by more than a rounding."""
        if not self.pool:
            return a > self.floor
        pools = a.reshape(*a.shape[:-1], -1, self.pool)
        first = (pools >= pools.max(-1, keepdims=True) - self.floor.reshape(-1, self.pool).max(-1, keepdims=True)).argmax(-1)
        return (first[..., None] == np.arange(self.pool)).reshape(a.shape)

    def after(self, a: np.ndarray, bits: np.ndarray) -> np.ndarray:
        """Rows `(n, ...)` as they leave the activation where the unit's bits are these."""
        if self.pool:
            return a[bits]
        return np.where(bits, self.slopes[1], self.slopes[0]).reshape(-1, *[1] * (a.ndim - 1)) * a


class Rows(NamedTuple):
    """What bounds the cell of a code, `a z + c >= 0`, and the network on it, `jacobian z + offset`.

    Fields:
        a, c: `(r, d)`, `(r,)`: a row a unit; of a pool a row for each unit that is not the largest.
        units: `(r,)`, the hidden unit that is 0, or that takes over.
        flips: `(r, 2)`, the bits that change beyond the facet: the unit's, and the one it takes over from (or the same).
        floors: `(r,)`, values of a row that are roundings of 0.
        jacobian, offset: `(out, d)`, `(out,)`.
    """

    a: np.ndarray
    c: np.ndarray
    units: np.ndarray
    flips: np.ndarray
    floors: np.ndarray
    jacobian: np.ndarray
    offset: np.ndarray


class Network(NamedTuple):
    """Hidden layers and the last, `(w (out, before), b (out,))`, float64."""

    hidden: tuple[Layer, ...]
    last: tuple[np.ndarray, np.ndarray]

    @property
    def dim(self) -> int:
        return (self.hidden[0].w if self.hidden else self.last[0]).shape[1]

    def within(self, reach: np.ndarray) -> Network:
        """With the floors of a region, `|z| <= reach (d,)`: what sums of terms so large may be off by."""
        hidden, size = [], reach
        for layer in self.hidden:
            size = np.abs(layer.w) @ size + np.abs(layer.b)
            hidden.append(layer._replace(floor=_ROUNDINGS * np.finfo(float).eps * size))
            size = size.reshape(-1, layer.pool).max(1) if layer.pool else size * max(map(abs, layer.slopes))
        return self._replace(hidden=tuple(hidden))

    @property
    def num_units(self) -> int:
        return sum(len(layer.b) for layer in self.hidden)

    def codes(self, z: np.ndarray) -> np.ndarray:
        """Bits of all hidden units, `(n, m)`."""
        bits, h = [], z
        for layer in self.hidden:
            a = h @ layer.w.T + layer.b
            bits.append(layer.bits(a))
            h = a[bits[-1]].reshape(len(z), -1) if layer.pool else np.where(bits[-1], layer.slopes[1], layer.slopes[0]) * a
        return np.concatenate(bits, axis=1) if bits else np.zeros((len(z), 0), bool)

    def outputs(self, z: np.ndarray) -> np.ndarray:
        h = z
        for layer in self.hidden:
            a = h @ layer.w.T + layer.b
            h = a.reshape(len(z), -1, layer.pool).max(-1) if layer.pool else np.where(a > 0, layer.slopes[1], layer.slopes[0]) * a
        return h @ self.last[0].T + self.last[1]

    def rows(self, code: np.ndarray) -> Rows:
        a, c, at = np.eye(self.dim), np.zeros(self.dim), 0
        parts = []
        for layer in self.hidden:
            a, c = layer.w @ a, layer.w @ c + layer.b
            bits = code[at : at + len(c)]
            parts.append(bounds(layer, a, c, bits, at))
            a, c, at = layer.after(a, bits), layer.after(c, bits), at + len(bits)
        w, b = self.last
        none = (np.zeros((0, self.dim)), np.zeros(0), np.zeros(0, int), np.zeros((0, 2), int), np.zeros(0))
        normals, heights, units, flips, floors = (np.concatenate(part) for part in zip(none, *parts, strict=True))
        return Rows(normals, heights, units, flips, floors, w @ a, w @ c + b)


def bounds(layer: Layer, a: np.ndarray, c: np.ndarray, bits: np.ndarray, at: int) -> tuple[np.ndarray, ...]:
    """A layer's part of `Rows`; `a`, `c` its values before the activation, `at` the number of its first unit."""
    if not layer.pool:
        sign, units = np.where(bits, 1.0, -1.0), at + np.arange(len(bits))
        return sign[:, None] * a, sign * c, units, np.stack([units, units], axis=1), layer.floor
    largest = np.repeat(np.nonzero(bits)[0], layer.pool - 1)
    others = np.nonzero(~bits)[0]
    floors = layer.floor[largest] + layer.floor[others]
    return a[largest] - a[others], c[largest] - c[others], at + others, at + np.stack([others, largest], axis=1), floors


def network_of(layers: Sequence[tuple[Any, Any]], activation: Any) -> Network:
    """Checked; `activation` as in `build`."""
    if not isinstance(layers, Sequence) or len(layers) < 1:
        msg = f"layers: got {type(layers).__name__}; expected a list of (W, b), hidden layers first, the output layer last."
        raise ValueError(msg)
    kinds = list(activation) if isinstance(activation, list) else [activation] * (len(layers) - 1)
    if len(kinds) != len(layers) - 1:
        msg = f"activation: got {len(kinds)}; expected one for each of the {len(layers) - 1} hidden layers, or one for all."
        raise ValueError(msg)
    made: list[Layer] = []
    width: int | None = None
    for k, layer in enumerate(layers):
        w, b = _weights(k, layer, width)
        slopes, pool = _kind(kinds[k]) if k < len(kinds) else ((1.0, 1.0), 0)
        if pool and len(b) % pool:
            msg = f"layers[{k}]: got {len(b)} units in pools of {pool}; expected a multiple of {pool}."
            raise ValueError(msg)
        made.append(Layer(w, b, slopes, pool, np.zeros(len(b))))
        width = len(b) // (pool or 1)
    return Network(tuple(made[:-1]), made[-1][:2])


def slopes_of(activation: Any) -> tuple[float, float]:
    """Slopes below and above 0, checked; pools have none."""
    slopes, pool = _kind(activation)
    if pool:
        msg = f"activation: got {activation!r}; expected 'relu', 'abs', 'leaky_relu' or ('leaky_relu', slope)."
        raise ValueError(msg)
    return slopes


def _kind(activation: Any) -> tuple[tuple[float, float], int]:
    name, value = activation if isinstance(activation, tuple) and len(activation) == 2 else (activation, None)
    if isinstance(name, str) and name in SLOPES and value is None:
        return SLOPES[name], 0
    if name == "leaky_relu" and (value is None or (isinstance(value, (int, float)) and np.isfinite(value) and value != 1)):
        return (0.01 if value is None else float(value), 1.0), 0
    if name == "max_pool" and isinstance(value, int) and value >= 2:
        return (1.0, 1.0), value
    msg = f"activation: got {activation!r}; expected {KINDS}, size at least 2: others have no cells."
    raise ValueError(msg)


def _weights(k: int, layer: Any, width: int | None) -> tuple[np.ndarray, np.ndarray]:
    if not isinstance(layer, (tuple, list)) or len(layer) != 2:
        msg = f"layers[{k}]: got {type(layer).__name__}; expected (W (out, in), b (out,))."
        raise ValueError(msg)
    w, b = (np.asarray(a, np.float64) for a in layer)
    if w.ndim != 2 or 0 in w.shape or b.shape != w.shape[:1] or (width is not None and w.shape[1] != width):
        wanted = "W (out, in)" if width is None else f"W (out, {width})"
        msg = f"layers[{k}]: got shapes {w.shape} and {b.shape}; expected {wanted} and b (out,), at least one unit."
        raise ValueError(msg)
    if not (np.isfinite(w).all() and np.isfinite(b).all()):
        msg = f"layers[{k}]: got weights that are not finite."
        raise ValueError(msg)
    return w, b
