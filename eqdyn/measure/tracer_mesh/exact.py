"""Which side of a line or plane a point lies on, with the right sign always: a rounding filter in float64, whole numbers for the rest."""

from __future__ import annotations

from typing import Any

import numpy as np

_U = 2.0**-53  # one rounding
# Shewchuk's bounds for the determinants in just this form, relative to their permanents; the absolute part covers underflow of
# numbers up to 1e100
_RELATIVE = {2: (3 + 16 * _U) * _U, 3: (7 + 56 * _U) * _U}
_ABSOLUTE = 1e-200


def orientation(x: np.ndarray, *rows: np.ndarray) -> np.ndarray:
    """The sign, -1, 0 or 1, of the turn of d + 1 points of `x` `(m, d)`, d = 2 or 3, for each entry of `rows`. Exact.

    Positive: in the plane a, b, c turn to the left; in space d lies below the plane through a, b, c that turn left seen from above.
    Floats are fractions: what the filter leaves open is computed in whole numbers without rounding.
    """
    value, size = _determinant(*(x[row] for row in rows))
    sign = np.sign(value)
    with np.errstate(invalid="ignore"):  # inf - inf after an overflow leaves it open, too
        is_open = ~(np.abs(value) > _RELATIVE[x.shape[1]] * size + _ABSOLUTE)
    at = np.nonzero(is_open)[0]
    if at.size:
        whole = whole_numbers(x, np.unique(np.concatenate([row[at] for row in rows])))
        exact, _ = _determinant(*(whole[row[at]] for row in rows), size=False)
        sign[at] = (exact > 0).astype(np.int8) - (exact < 0).astype(np.int8)
    return sign.astype(np.int8)


def whole_numbers(x: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Those rows of x times one power of two, as Python's whole numbers `(m, d)`; other rows stay 0."""
    fraction, exponent = np.frexp(x[rows])
    digits = (fraction * 2.0**53).astype(np.int64)
    shift = np.where(digits == 0, 0, exponent - exponent[digits != 0].min(initial=0))
    whole = np.zeros(x.shape, object)
    whole[rows] = digits.astype(object) << shift.astype(object)
    return whole


def _determinant(a: Any, b: Any, c: Any, d: Any = None, *, size: bool = True) -> tuple[Any, Any]:
    """The determinant of the differences to the last point, and the sum of the magnitudes of its terms."""
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        if d is None:
            a, b = a - c, b - c
            left, right = a[:, 0] * b[:, 1], a[:, 1] * b[:, 0]
            return left - right, np.abs(left) + np.abs(right) if size else None
        a, b, c = a - d, b - d, c - d
        value: Any = 0
        bound: Any = 0
        for p, q, r in ((a, b, c), (b, c, a), (c, a, b)):
            left, right = q[:, 0] * r[:, 1], r[:, 0] * q[:, 1]
            value = value + p[:, 2] * (left - right)
            bound = bound + (np.abs(left) + np.abs(right)) * np.abs(p[:, 2]) if size else None
        return value, bound


# --- do two pieces meet? ---------------------------------------------------------------------------------------------------


def edges_meet(x: np.ndarray, first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whether edges in the plane cross, and whether they only touch (an end on the other, or an overlap); `(p, 2)` rows of x each.

    For pairs whose boxes overlap; exact.
    """
    (a, b), (c, d) = first.T, second.T
    cd = orientation(x, a, b, c) * orientation(x, a, b, d)
    ab = orientation(x, c, d, a) * orientation(x, c, d, b)
    # on one line: overlapping boxes are overlapping edges
    return (cd < 0) & (ab < 0), (cd <= 0) & (ab <= 0) & ~((cd < 0) & (ab < 0))


def edge_meets_face(x: np.ndarray, edge: np.ndarray, face: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whether edges in space go through triangles, and whether they only touch them; `(p, 2)` and `(p, 3)` rows of x.

    For pairs whose boxes overlap; exact. A triangle without area is met by nobody.
    """
    (p, q), (a, b, c) = edge.T, face.T
    above, below = orientation(x, a, b, c, p), orientation(x, a, b, c, q)
    sides = np.stack([orientation(x, p, q, *pair) for pair in ((a, b), (b, c), (c, a))])
    flat = (above == 0) & (below == 0)
    through = (above * below < 0) & (np.abs(sides.sum(0)) == 3)
    meets = ~flat & (above * below <= 0) & ~((sides < 0).any(0) & (sides > 0).any(0))
    if flat.any():
        meets[flat] = _meet_in_plane(x, edge[flat], face[flat])
    return through, meets & ~through


def _meet_in_plane(x: np.ndarray, edge: np.ndarray, face: np.ndarray) -> np.ndarray:
    """Whether edges meet triangles in the same plane: seen along the axis on which the triangle shows most of its area."""
    views = [np.delete(x, axis, axis=1) for axis in range(3)]
    corners = x[face]
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        normal = np.abs(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]))
    shows = np.stack([orientation(view, *face.T) != 0 for view in views], 1)
    along = np.where(shows.any(1), np.argmax(np.where(shows, normal, -1), axis=1), -1)
    meets = np.zeros(len(edge), bool)
    for axis, view in enumerate(views):
        at = np.nonzero(along == axis)[0]
        corner = face[at].T
        for k in range(3):
            side = np.stack([corner[k], corner[(k + 1) % 3]], 1)
            lower, upper = (np.stack([end(view[pair], axis=1) for pair in (edge[at], side)]) for end in (np.min, np.max))
            boxes = ((lower[0] <= upper[1]) & (lower[1] <= upper[0])).all(1)
            meets[at] |= boxes & np.logical_or(*edges_meet(view, edge[at], side))
        turns = np.stack([orientation(view, corner[k], corner[(k + 1) % 3], edge[at, 0]) for k in range(3)])
        meets[at] |= np.abs(turns.sum(0)) == 3
    return meets
