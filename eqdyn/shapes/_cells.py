"""What meshes are made of: the record, rings and grids of triangles, and the cut of a torus at a plane."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from eqdyn._types import Points
from eqdyn.shapes._shape import floating


class Mesh(NamedTuple):
    """A curve or surface in pieces.

    Attributes:
        points: `(m, d)`, in any unit.
        edges: `(k, 2)` integers, rows of `points`; each edge once, for a surface with the lower row first.
        faces: `(t, 3)` integers, `(0, 3)` for a curve.
        closed: whether it has no boundary: every edge in two triangles, or no vertex of a curve in one edge only.
        name: as that of the `Shape`.
    """

    points: Points
    edges: np.ndarray
    faces: np.ndarray
    closed: bool
    name: str

    @property
    def euler(self) -> int:
        """The Euler characteristic V - E + F; equals b0 - b1 + b2."""
        return len(self.points) - len(self.edges) + len(self.faces)


def torus_grid(num: int, radius: float, tube: float) -> tuple[np.ndarray, np.ndarray]:
    around = max(3, math.ceil(num * radius / tube))
    section = tube * ring(num)
    x = np.empty((num, around, 3))
    x[..., :2], x[..., 2] = (radius + section[:, :1, None]) * ring(around)[None], section[:, 1:]
    return x.reshape(-1, 3), grid(around, num, wrap=(True, True))


def on_seam(x: np.ndarray, radius: float, tube: float, apart: float) -> np.ndarray:
    """Points near where the left torus meets x = 0, moved onto that curve by Newton's steps within the plane."""
    y, z = x[:, 1].copy(), x[:, 2].copy()
    for _ in range(20):
        out = np.hypot(apart / 2, y)
        value, dy, dz = (out - radius) ** 2 + z**2 - tube**2, 2 * (out - radius) * y / out, 2 * z
        step = value / (dy**2 + dz**2)
        y, z = y - step * dy, z - step * dz
    return np.stack([np.zeros_like(y), y, z], 1)


def left_of_seam(x: np.ndarray, faces: np.ndarray, on_seam: Any) -> tuple[np.ndarray, np.ndarray]:
    """The part of a triangulated surface with x <= 0; triangles across x = 0 are cut, with new vertices on the seam."""
    points, made, kept = list(x), {}, []

    def cut(a: int, b: int) -> int:
        pair = (min(a, b), max(a, b))
        if pair not in made:
            s = x[pair[0], 0] / (x[pair[0], 0] - x[pair[1], 0])
            made[pair] = len(points)
            points.append(on_seam((x[pair[0]] + s * (x[pair[1]] - x[pair[0]]))[None])[0])
        return made[pair]

    for face in faces:
        if (x[face, 0] < 0).any():
            corners = []
            for k in range(3):
                a, b = int(face[k]), int(face[(k + 1) % 3])
                if x[a, 0] <= 0:
                    corners.append(a)
                if x[a, 0] * x[b, 0] < 0:
                    corners.append(cut(a, b))
            kept += [(corners[0], corners[k], corners[k + 1]) for k in range(1, len(corners) - 1)]
    used, flat = np.unique(np.asarray(kept), return_inverse=True)
    return np.asarray(points)[used], flat.reshape(-1, 3)


def ring(num: int) -> np.ndarray:
    t = 2 * np.pi * np.arange(num) / num
    return np.stack([np.cos(t), np.sin(t)], 1)


def cycle(num: int) -> np.ndarray:
    return np.stack([np.arange(num), (np.arange(num) + 1) % num], 1)


def steps(whole: float, step: float) -> int:
    return max(1, round(whole / step))


def grid(across: int, down: int, *, wrap: tuple[bool, bool]) -> np.ndarray:
    """Two triangles for every cell of a grid of `down` rows of `across` vertices; a wrapped axis closes up."""
    i, j = (axis.ravel() for axis in np.indices((down - (not wrap[1]), across - (not wrap[0]))))
    below, right = (i + 1) % down, (j + 1) % across
    a, b, c, d = i * across + j, i * across + right, below * across + j, below * across + right
    return np.concatenate([np.stack([a, b, d], 1), np.stack([a, d, c], 1)])


def curve(x: np.ndarray, edges: np.ndarray, dtype: Any, name: str) -> Mesh:
    return Mesh(jnp.asarray(x, floating(dtype)), edges.astype(np.int32), np.zeros((0, 3), np.int32), closed=True, name=name)


def surface(x: np.ndarray, faces: np.ndarray, dtype: Any, name: str) -> Mesh:
    sides = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    edges, times = np.unique(sides, axis=0, return_counts=True)
    return Mesh(jnp.asarray(x, floating(dtype)), edges.astype(np.int32), faces.astype(np.int32), bool((times == 2).all()), name)
