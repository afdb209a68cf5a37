"""Graphs of points that live on an accelerator: Gram product, threshold and packing happen there, N^2/8 bytes come back."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from eqdyn import _checks
from eqdyn.topology import _passes
from eqdyn.topology._cloud import Cloud
from eqdyn.topology._scales import Fraction, LocalScale, NeighbourScale
from eqdyn.topology._table import between, words

_ROOM = 2**14  # pairs near the threshold that come back to be decided one by one


class DeviceCloud:
    """The same questions as `Cloud`. Local and neighbour scales, and clouds with too many near ties, are brought to the host."""

    def __init__(self, points: Any):
        self.points = _checks.points(points)
        self.num, self.dim = self.points.shape
        _checks.fits_budget(3 * self.num**2 * self.points.dtype.itemsize, 2**36, "betti", "take fewer points")
        self._y, unit = _centred(self.points)
        self._unit, self._highest = float(unit), float(_highest(self._y))
        if not np.isfinite(self._unit):
            _checks.finite(self.points, "points")
        dtype = np.promote_types(self.points.dtype, np.float32)
        self._slack = 4.1 * (self.dim + 10) * float(jnp.finfo(dtype).eps) / 2 + 40 * float(jnp.finfo(dtype).eps)
        self._host: Cloud | None = None

    def radius(self, scale: float | Fraction | NeighbourScale) -> float:
        """r, [points]."""
        if isinstance(scale, NeighbourScale):
            return self._on_host().radius(scale)
        if not isinstance(scale, Fraction):
            return scale
        if not 0 < self._unit < np.inf:
            return self._on_host().radius(scale)
        level = self._highest - self._slack
        i, j, count = _places(_graph(self._y, level, self._slack, above=True)[1])
        if int(count) > _ROOM:
            return self._on_host().radius(scale)
        return float(self._exact(i, j)[2].max(initial=0.0)) / scale.divisor

    def packed(self, scale: float | Fraction | NeighbourScale | LocalScale) -> np.ndarray:
        """The graph at a scale, as packed rows."""
        if isinstance(scale, LocalScale):
            return self._on_host().packed(scale)
        r = self.radius(scale)
        if not 0 < self._unit < np.inf:  # all at one place, or too far for the device's arithmetic
            return self._on_host().packed(r)
        level = min(r / self._unit, 3.0) ** 2
        rows, near = _graph(self._y, level, self._slack, above=False)
        i, j, count = _places(near)
        if int(count) > _ROOM:
            return self._on_host().packed(r)
        graph = np.zeros((self.num, 8 * words(self.num)), np.uint8)
        graph[:, : rows.shape[1]] = np.asarray(rows)
        graph = graph.view("<u8")
        i, j, d = self._exact(i, j)
        _passes.put(graph, i, j, d <= r)
        return graph

    def _exact(self, i: Any, j: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Distances of the named pairs from differences in float64: only their rows come back."""
        i, j = np.asarray(i), np.asarray(j)
        i, j = i[i >= 0], j[i >= 0]
        needed, place = np.unique(np.concatenate([i, j]), return_inverse=True)
        x = np.asarray(self.points[needed]).astype(np.float64)
        return i, j, between(x, place[: len(i)], place[len(i) :])

    def _on_host(self) -> Cloud:
        self._host = self._host or Cloud(np.asarray(self.points).astype(np.float64))
        return self._host


def _squares(y: jax.Array) -> jax.Array:
    squares = jnp.sum(y**2, axis=1)
    gram = jnp.matmul(y, y.T, precision=jax.lax.Precision.HIGHEST)
    return squares[:, None] + squares[None, :] - 2 * gram


@jax.jit
def _centred(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The centred points in units of the largest norm, and that unit. A program of its own: all that follows sees the same numbers."""
    y = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    y = y - jnp.mean(y, axis=0, keepdims=True)
    largest = jnp.max(jnp.abs(y))
    y = y / jnp.where(largest > 0, largest, 1)
    norm = jnp.sqrt(jnp.max(jnp.sum(y**2, axis=1)))
    return y / jnp.where(norm > 0, norm, 1), largest * norm


@jax.jit
def _highest(y: jax.Array) -> jax.Array:
    return jnp.max(_squares(y))


@functools.partial(jax.jit, static_argnames="above")
def _graph(y: jax.Array, level: Any, slack: Any, *, above: bool) -> tuple[jax.Array, jax.Array]:
    """Packed rows of the pairs certainly within the level, and a mask of the pairs i < j near it (or above it)."""
    squares = _squares(y)
    level, slack = jnp.asarray(level, squares.dtype), jnp.asarray(slack, squares.dtype)
    n = len(y)
    row, column = jnp.arange(n)[:, None], jnp.arange(n)[None, :]
    edges = (squares <= level - slack) & (row != column)
    # twice as wide as need be: parts of a program may round the same expression differently
    near = (squares >= level - 2 * slack) & (row < column)
    near = near if above else near & (squares <= level + 2 * slack)
    return jnp.packbits(edges, axis=1, bitorder="little"), near


@jax.jit
def _places(near: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The pairs that are set, as many as there is room for. A program of its own: nonzero must see one mask, not two roundings of it."""
    i, j = jnp.nonzero(near, size=_ROOM, fill_value=-1)
    return i, j, jnp.sum(near)
