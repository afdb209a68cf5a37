"""Curvature of cells as vertices: angle defects in the plane, growth of balls."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from eqdyn.partition._complex import corners
from eqdyn.partition._partition import Partition, asked_for, measured


class AngleDefect(NamedTuple):
    """Curvature of the cells of a plane, on the triangles that their centres form around corners.

    Fields:
        values: `(n,)`, rad; they sum to `2 pi euler`, exactly.
        triangles: `(t, 3)` cells.
        lengths: `(t, 3)`, of the sides opposite.
        euler: cells - sides + triangles.
        num_broken: triangles whose lengths break the triangle inequality: they count as flat, angles 0, 0, pi.
    """

    values: np.ndarray
    triangles: np.ndarray
    lengths: np.ndarray
    euler: int
    num_broken: int


def angle_defect(partition: Partition, *, power: float = 0.0) -> AngleDefect:
    """Angle defect of every cell of a plane: `2 pi` less the angles around it; `K_v = 2 pi - pi deg(v) + sum_triangles (pi - angle)`.

    The formula holds in any complex of triangles and sides: inside a surface it is `2 pi - sum`, on its border `pi - sum`. Angles are those of
    triangles with sides `|c_i - c_j| / rho^power`, rho the mean density (mass / volume) of two cells; around a corner where four or more
    cells meet, triangles are made by diagonals that turn none over, the short one first. EXACT for these lengths; with power 0 they are flat, and
    the defect is 0 inside wherever no triangle is turned over.

    Args:
        partition: of `build`, in the plane, with measures.
        power: a of the density-weighted length; above 0 it needs masses, all positive.

    Returns:
        `AngleDefect`.

    Raises:
        TypeError, ValueError: another dimension, or masses that are missing.

    Example:
        >>> import numpy as np, eqdyn as eq
        >>> cuts = np.array([-0.5, 0.0, 0.5])
        >>> w = np.repeat(np.eye(2), 3, axis=0)
        >>> found = eq.partition.build([(w, -np.tile(cuts, 2)), (np.ones((1, 6)), np.zeros(1))])      # a grid of 4 x 4 squares
        >>> defect = eq.partition.angle_defect(found)
        >>> inside = (np.abs(found.centres) < 0.5).all(1)
        >>> bool(np.allclose(defect.values[inside], 0)), round(float(defect.values.sum() / np.pi), 9)
        (True, 2.0)

    References:
        Gajer and Ravel, arXiv:2508.02080; Regge (1961).
    """
    measured(asked_for(partition))
    if partition.centres.shape[1] != 2:
        msg = f"partition: got one in {partition.centres.shape[1]} dimensions; expected a plane, where centres form triangles."
        raise ValueError(msg)
    triangles = _triangles(partition)
    sides = np.sort(triangles[:, [[1, 2], [2, 0], [0, 1]]], axis=2)
    flat = np.linalg.norm(partition.centres[sides[..., 0]] - partition.centres[sides[..., 1]], axis=2)
    lengths = flat / _density(partition)[sides].mean(2) ** power if power else flat
    a, b, c = lengths.T
    with np.errstate(divide="ignore", invalid="ignore"):
        cosines = np.stack([(b**2 + c**2 - a**2) / (2 * b * c), (c**2 + a**2 - b**2) / (2 * c * a), (a**2 + b**2 - c**2) / (2 * a * b)], axis=1)
    angles = np.arccos(np.clip(cosines, -1, 1))
    every = np.unique(np.concatenate([sides.reshape(-1, 2), np.sort(partition.edges, axis=1)]), axis=0)
    size = len(partition.codes)
    degree = np.bincount(every.ravel(), minlength=size)
    values = 2 * np.pi - np.pi * degree + np.bincount(triangles.ravel(), (np.pi - angles).ravel(), size)
    num_broken = int(np.sum(2 * lengths.max(1, initial=0) > lengths.sum(1) * (1 + 1e-12)))
    return AngleDefect(values, triangles, lengths, size - len(every) + len(triangles), num_broken)


def _triangles(partition: Partition) -> np.ndarray:
    """Of the cells around each corner, in their order about it."""
    found: set[tuple[int, ...]] = set()
    low, high = partition.centres.min(0), partition.centres.max(0)
    size = float((high - low).max())
    edges = {(int(min(pair)), int(max(pair))) for pair in partition.edges}
    for cells, place in zip(*corners(partition), strict=True):
        if len(cells) < 3:
            continue
        away = partition.centres[cells] - place
        ring = [int(k) for k in cells[np.argsort(np.arctan2(away[:, 1], away[:, 0]))]]
        gaps = [k for k in range(len(ring)) if (min(ring[k - 1], ring[k]), max(ring[k - 1], ring[k])) not in edges]
        if len(gaps) > 1:  # the cells around it touch in the corner alone: they make several fans
            continue
        if len(gaps) == 1:  # at the border: an open fan, from its first cell on
            ring = ring[gaps[0] :] + ring[: gaps[0]]
        found |= {tuple(sorted(triangle)) for triangle in _cut_up(ring, partition.centres, 1e-12 * size**2)}
    return np.array(sorted(found), int).reshape(-1, 3)


def _cut_up(ring: list[int], at: np.ndarray, least: float) -> list[tuple[int, int, int]]:
    """A polygon in triangles: always the ear with the shortest diagonal that is not turned over; if there is none, the shortest."""
    found = []
    while len(ring) > 3:
        ears = []
        for k in range(len(ring)):
            before, here, after = ring[k - 1], ring[k], ring[(k + 1) % len(ring)]
            rest = [ring[j] for j in range(len(ring)) if j != k]
            turned = _twice(at, before, here, after) <= least or (len(rest) == 3 and _twice(at, *rest) <= least)
            ears.append((turned, float(np.linalg.norm(at[before] - at[after])), min(before, after), k))
        k = min(ears)[-1]
        found.append((ring[k - 1], ring[k], ring[(k + 1) % len(ring)]))
        del ring[k]
    return [*found, (ring[0], ring[1], ring[2])]


def _twice(at: np.ndarray, i: int, j: int, k: int) -> float:
    """Twice the signed area."""
    one, other = at[j] - at[i], at[k] - at[i]
    return float(one[0] * other[1] - one[1] * other[0])


def _density(partition: Partition) -> np.ndarray:
    rho = partition.masses / partition.volumes
    if not np.all(rho > 0):
        msg = "power: got one above 0, and cells without data; write points=... and cells='data' in build, or power=0."
        raise ValueError(msg)
    return rho


def volume_growth(partition: Partition, radius: float) -> np.ndarray:
    """`1 - mass(B_r) / expected` of every cell: B_r the cells with centres within r of its own, expected `rho_i w_d r^d`, w_d the unit ball's volume.

    Positive where the data thin out around a cell, negative where they grow denser; `(n,)`. ESTIMATE: cells count whole, by their centres; near the
    border of the region, where part of the ball is cut off, it is too high. NaN for cells without data.

    Args:
        partition: of `build`, with measures and masses.
        radius: r, [z], above 0.

    Raises:
        TypeError, ValueError: arguments that do not fit.

    Example:
        >>> import numpy as np, eqdyn as eq
        >>> w, cuts = np.ones((39, 1)), np.linspace(0, 1, 41)[1:-1]
        >>> z = (np.arange(4000)[:, None] + 0.5) / 4000
        >>> found = eq.partition.build([(w, -cuts), (np.ones((1, 39)), np.zeros(1))], (0.0, 1.0), z)
        >>> growth = eq.partition.volume_growth(found, 0.0875)[np.argsort(found.centres[:, 0])]
        >>> bool(np.abs(growth[5:-5]).max() < 1e-9)      # uniform data inside
        True

    References:
        Gajer and Ravel, arXiv:2508.02080.
    """
    from scipy.spatial import cKDTree

    measured(asked_for(partition))
    if not (np.isfinite(radius) and radius > 0):
        msg = f"radius: got {radius!r}; expected a number above 0."
        raise ValueError(msg)
    if np.isnan(partition.masses).any():
        msg = "partition: got one without points; write build(..., points=...)."
        raise ValueError(msg)
    dim = partition.centres.shape[1]
    tree = cKDTree(partition.centres)
    held = np.array([partition.masses[near].sum() for near in tree.query_ball_point(partition.centres, radius)])
    ball = math.pi ** (dim / 2) / math.gamma(dim / 2 + 1) * radius**dim
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = partition.masses / partition.volumes * ball
        return np.where(partition.masses > 0, 1 - held / expected, np.nan)
