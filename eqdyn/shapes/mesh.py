"""The sets of this room as meshes, for tracers: points to move, edges and triangles to see what became of the set.

Same default sizes as the clouds, so the points of a mesh lie on the set that the cloud was drawn from. No point comes twice;
triangles of one surface turn the same way, outwards where it is closed, anticlockwise in the plane.
"""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
import numpy as np

from eqdyn import _checks
from eqdyn.shapes._cells import Mesh, curve, cycle, grid, left_of_seam, on_seam, ring, steps, surface, torus_grid
from eqdyn.shapes._shape import length, smaller
from eqdyn.shapes.curves import arc_angles, knot
from eqdyn.shapes.surfaces import ROLL, spiral, two_tori

__all__ = [
    "Mesh",
    "annulus",
    "circle",
    "disc",
    "double_torus",
    "figure_eight",
    "sphere",
    "swiss_roll",
    "torus",
    "trefoil",
    "two_circles",
]


def circle(resolution: int = 64, *, radius: float = 1.0, dtype: Any = jnp.float32) -> Mesh:
    """The circle as a regular polygon of `resolution` edges, >= 3.

    Example:
        >>> import eqdyn as eq
        >>> eq.shapes.mesh.circle(32).euler
        0
    """
    num, radius = _checks.count(resolution, "resolution", least=3), length(radius, "radius")
    return curve(radius * ring(num), cycle(num), dtype, "circle")


def figure_eight(resolution: int = 128, *, dtype: Any = jnp.float32) -> Mesh:
    """The figure eight of the paper, equal steps of t; the crossing is ONE vertex, with four edges.

    Args:
        resolution: number of edges, even, >= 6.
        dtype: of the points.

    Example:
        >>> import eqdyn as eq
        >>> eq.shapes.mesh.figure_eight(128).euler
        -1
    """
    num = _checks.count(resolution, "resolution", least=6)
    if num % 2:
        msg = f"resolution: got {num}; expected an even number of edges, since the crossing is passed at both half turns; write {num + 1}."
        raise ValueError(msg)
    t = 2 * np.pi * np.arange(num) / num
    row = np.arange(num) - (np.arange(num) > num // 2)
    row[num // 2] = 0  # t = 0 and t = pi are the crossing
    x = np.delete(np.stack([0.1 * np.sin(t) - 2, np.sin(2 * t)], 1), num // 2, axis=0)
    return curve(x, row[cycle(num)], dtype, "figure eight")


def two_circles(resolution: int = 64, *, radius: float = 1.0, apart: float = 3.0, dtype: Any = jnp.float32) -> Mesh:
    """Two circles side by side, each a regular polygon of `resolution` edges, >= 3.

    Example:
        >>> import eqdyn as eq
        >>> len(eq.shapes.mesh.two_circles(32).edges)
        64
    """
    num, radius, apart = _checks.count(resolution, "resolution", least=3), length(radius, "radius"), length(apart, "apart")
    smaller(2 * radius, apart, ("2 radius", "apart"))
    centre = np.array([[apart / 2, 0.0]])
    x = radius * ring(num)
    return curve(np.concatenate([x - centre, x + centre]), np.concatenate([cycle(num), num + cycle(num)]), dtype, "two circles")


def trefoil(resolution: int = 192, *, radius: float = 1.0, tube: float = 0.5, dtype: Any = jnp.float32) -> Mesh:
    """The trefoil knot in `resolution` edges of nearly equal length, >= 12.

    Example:
        >>> import eqdyn as eq
        >>> eq.shapes.mesh.trefoil(96).points.shape
        (96, 3)
    """
    num, radius, tube = _checks.count(resolution, "resolution", least=12), length(radius, "radius"), length(tube, "tube")
    smaller(tube, radius, ("tube", "radius"))
    run, nodes = arc_angles(radius, tube)
    return curve(knot(np.interp(np.arange(num) / num, run / run[-1], nodes), radius, tube, np), cycle(num), dtype, "trefoil")


def disc(resolution: int = 16, *, radius: float = 1.0, dtype: Any = jnp.float32) -> Mesh:
    """The disc: a centre and `resolution` rings, >= 1, the k-th of 6 k vertices.

    Example:
        >>> import eqdyn as eq
        >>> eq.shapes.mesh.disc(16).euler
        1
    """
    num, radius = _checks.count(resolution, "resolution", least=1), length(radius, "radius")
    x = np.concatenate([np.zeros((1, 2)), *[radius * k / num * ring(6 * k) for k in range(1, num + 1)]])

    def row(k: int, j: int) -> int:  # vertex j of ring k
        return 1 + 3 * k * (k - 1) + j % (6 * k) if k else 0

    faces = []
    for k in range(1, num + 1):
        for sector in range(6):
            out, within = sector * k, sector * (k - 1)
            faces += [(row(k, out + j), row(k, out + j + 1), row(k - 1, within + j)) for j in range(k)]
            faces += [(row(k - 1, within + j), row(k, out + j + 1), row(k - 1, within + j + 1)) for j in range(k - 1)]
    return surface(x, np.asarray(faces), dtype, "disc")


def annulus(resolution: int = 64, *, inner: float = 0.5, outer: float = 1.0, dtype: Any = jnp.float32) -> Mesh:
    """The ring between two circles, `resolution` vertices around, >= 3, and rings about as far apart.

    Example:
        >>> import eqdyn as eq
        >>> eq.shapes.mesh.annulus(48).euler
        0
    """
    num, inner, outer = _checks.count(resolution, "resolution", least=3), length(inner, "inner"), length(outer, "outer")
    smaller(inner, outer, ("inner", "outer"))
    radii = np.linspace(inner, outer, 1 + steps(outer - inner, math.pi * (inner + outer) / num))
    x = radii[:, None, None] * ring(num)[None]
    return surface(x.reshape(-1, 2), grid(num, len(radii), wrap=(True, False))[:, ::-1], dtype, "annulus")


def swiss_roll(resolution: int = 96, *, pitch: float = 1.0, width: float = 3.0, dtype: Any = jnp.float32) -> Mesh:
    """The Swiss roll, `resolution` equal steps along the spiral, >= 3, and rows about as far apart.

    Example:
        >>> import eqdyn as eq
        >>> eq.shapes.mesh.swiss_roll(96).closed
        False
    """
    num, pitch, width = _checks.count(resolution, "resolution", least=3), length(pitch, "pitch"), length(width, "width")
    run, turn = spiral()
    t = np.interp(np.linspace(0, 1, num + 1), run / run[-1], turn)
    t[[0, -1]] = ROLL
    y = np.linspace(0, width, 1 + steps(width, pitch / (2 * np.pi) * run[-1] / num))
    r, y = (np.broadcast_to(z, (len(y), num + 1)) for z in ((pitch / (2 * np.pi) * t)[None], y[:, None]))
    x = np.stack([r * np.cos(t)[None], y, r * np.sin(t)[None]], -1).reshape(-1, 3)
    return surface(x, grid(num + 1, len(y), wrap=(False, False)), dtype, "swiss roll")


def sphere(resolution: int = 8, *, radius: float = 1.0, dtype: Any = jnp.float32) -> Mesh:
    """The sphere in R^3 from an icosahedron, each edge cut in `resolution`, >= 1: 10 resolution^2 + 2 vertices.

    Example:
        >>> import eqdyn as eq
        >>> eq.shapes.mesh.sphere(4).points.shape, eq.shapes.mesh.sphere(4).euler
        ((162, 3), 2)
    """
    num, radius = _checks.count(resolution, "resolution", least=1), length(radius, "radius")
    high = np.arctan(0.5)  # two rings of five between the poles
    t = np.pi / 5 * np.arange(10)
    belt = np.stack([np.cos(high) * np.cos(t), np.cos(high) * np.sin(t), np.sin(high) * (-1.0) ** np.arange(10)], 1)
    corners = np.concatenate([[[0, 0, 1]], belt[::2], belt[1::2], [[0, 0, -1]]])
    faces = []
    for j in range(5):
        a, b, c, d = 1 + j, 1 + (j + 1) % 5, 6 + j, 6 + (j + 1) % 5
        faces += [(0, a, b), (a, c, b), (b, c, d), (c, 11, d)]
    pieces = [(i, j) for i in range(num + 1) for j in range(num + 1 - i)]
    row = {piece: k for k, piece in enumerate(pieces)}
    cut = [(row[i, j], row[i + 1, j], row[i, j + 1]) for i, j in pieces if i + j < num]
    cut += [(row[i + 1, j], row[i + 1, j + 1], row[i, j + 1]) for i, j in pieces if i + j < num - 1]
    weight = np.asarray([(num - i - j, i, j) for i, j in pieces]) / num
    x = np.concatenate([weight @ corners[list(face)] for face in faces])
    triangles = np.concatenate([np.asarray(cut) + k * len(pieces) for k in range(20)])
    # neighbouring faces made the points of their common side twice, equal up to rounding
    _, first, where = np.unique(x.round(9) + 0.0, axis=0, return_index=True, return_inverse=True)
    x = x[first]
    return surface(radius * x / np.linalg.norm(x, axis=1, keepdims=True), where.reshape(-1)[triangles], dtype, "sphere")


def torus(resolution: int = 32, *, radius: float = 1.0, tube: float = 0.5, dtype: Any = jnp.float32) -> Mesh:
    """The torus, `resolution` vertices round the tube, >= 3, and steps about as long along it.

    Example:
        >>> import eqdyn as eq
        >>> eq.shapes.mesh.torus(16).euler
        0
    """
    num, radius, tube = _checks.count(resolution, "resolution", least=3), length(radius, "radius"), length(tube, "tube")
    smaller(tube, radius, ("tube", "radius"))
    return surface(*torus_grid(num, radius, tube), dtype, "torus")


def double_torus(resolution: int = 32, *, radius: float = 1.0, tube: float = 0.5, apart: float = 2.0, dtype: Any = jnp.float32) -> Mesh:
    """The closed surface of genus 2, `resolution` vertices round each tube, >= 8; the crease on x = 0 runs along edges.

    Example:
        >>> import eqdyn as eq
        >>> eq.shapes.mesh.double_torus(16).euler
        -2
    """
    num = _checks.count(resolution, "resolution", least=8)
    radius, tube, apart = two_tori(radius, tube, apart)
    x, faces = torus_grid(num, radius, tube)
    x[:, 0] -= apart / 2
    near = np.abs(x[:, 0]) < math.pi * tube / num / 2  # those next to the plane go onto it, so that no triangle gets thin
    x[near] = on_seam(x[near], radius, tube, apart)
    x, faces = left_of_seam(x, faces, lambda p: on_seam(p, radius, tube, apart))
    seam = x[:, 0] == 0
    twin = np.where(seam, np.arange(len(x)), len(x) - 1 + np.cumsum(~seam))
    both = np.concatenate([x, x[~seam] * np.array([[-1, 1, 1]])])
    return surface(both, np.concatenate([faces, twin[faces[:, ::-1]]]), dtype, "double torus")
