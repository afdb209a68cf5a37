"""What bounds the cells: a box, the box of the data, or a polytope around a ball."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from eqdyn.partition._polytope import Polytope, clip
from eqdyn.partition._polytope import box as box_of

HIGHEST = 6  # dimension in which vertices are listed
MARGIN = 0.05  # of the data's range, on each side of the data's box
_SIDES = 64  # of the polygon around a disc
_MOST_DIAGONALS = 3  # dimensions, with walls in all directions of {-1, 0, 1}^d; above in those of {-1, 1}^d


class Region(NamedTuple):
    """`{z: normals z <= heights}`, bounded, the polytope itself (None above the dimension in which vertices are listed); walls numbered."""

    normals: np.ndarray
    heights: np.ndarray
    low: np.ndarray
    high: np.ndarray
    whole: Polytope | None


def region_of(box: Any, dim: int, points: np.ndarray | None) -> Region:
    """Checked: `(low, high)`, "data", or `("ball", centre, radius)`."""
    if isinstance(box, str) and box == "data":
        if points is None:
            msg = "box: got 'data' without points; write points=..., or box=(low, high)."
            raise ValueError(msg)
        low, high = points.min(0), points.max(0)
        margin = MARGIN * np.maximum(high - low, 1e-12 + 1e-6 * np.abs(high))
        return _box(low - margin, high + margin)
    if isinstance(box, tuple) and len(box) == 3 and isinstance(box[0], str) and box[0] == "ball":
        return _ball(box, dim)
    if not isinstance(box, (tuple, list)) or len(box) != 2:
        msg = f"box: got {box!r}; expected (low, high), numbers or arrays ({dim},); 'data'; or ('ball', centre, radius)."
        raise ValueError(msg)
    try:
        low, high = (np.broadcast_to(np.asarray(side, np.float64), (dim,)).copy() for side in box)
    except ValueError:
        msg = f"box: got shapes {[np.shape(side) for side in box]}; expected numbers or arrays ({dim},)."
        raise ValueError(msg) from None
    if not (np.isfinite(low).all() and np.isfinite(high).all() and (low < high).all()):
        msg = f"box: got {low.tolist()} to {high.tolist()}; expected a bounded box, low below high along every axis."
        raise ValueError(msg)
    return _box(low, high)


def _box(low: np.ndarray, high: np.ndarray) -> Region:
    dim = len(low)
    normals = np.stack([-np.eye(dim), np.eye(dim)], axis=1).reshape(2 * dim, dim)  # wall 2 axis + side
    return Region(normals, np.stack([-low, high], axis=1).ravel(), low, high, box_of(low, high) if dim <= HIGHEST else None)


def _ball(box: tuple, dim: int) -> Region:
    try:
        centre, radius = np.broadcast_to(np.asarray(box[1], np.float64), (dim,)), float(box[2])
    except (TypeError, ValueError):
        msg = f"box: got a ball of centre {np.shape(box[1])} and radius {box[2]!r}; expected a centre ({dim},) and a number."
        raise ValueError(msg) from None
    if not (np.isfinite(centre).all() and np.isfinite(radius) and radius > 0):
        msg = f"box: got a ball of radius {radius:g}; expected a finite centre and a radius above 0."
        raise ValueError(msg)
    whole = _box(centre - radius, centre + radius)
    if whole.whole is None:
        msg = f"box: got a ball in {dim} dimensions; expected at most {HIGHEST}; write box=(centre - radius, centre + radius)."
        raise ValueError(msg)
    if dim == 1:
        return whole
    more = _tangents(dim)
    normals, heights = np.concatenate([whole.normals, more]), np.concatenate([whole.heights, more @ centre + radius])
    part = clip(whole.whole, -more, more @ centre + radius, -1 - 2 * dim - np.arange(len(more)))
    return Region(normals, heights, whole.low, whole.high, part)


def _tangents(dim: int) -> np.ndarray:
    """Directions of the walls around a ball, beside those of the axes."""
    if dim == 2:
        angles = 2 * np.pi * np.arange(_SIDES) / _SIDES
        directions = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    else:
        digits = (np.arange(3**dim)[:, None] // 3 ** np.arange(dim)) % 3 - 1.0
        directions = digits[np.abs(digits).sum(1) > 1]
        directions = directions if dim <= _MOST_DIAGONALS else directions[np.abs(directions).sum(1) == dim]
    directions = directions / np.linalg.norm(directions, axis=1)[:, None]
    return directions[np.abs(directions).max(1) < 1 - 1e-9]
