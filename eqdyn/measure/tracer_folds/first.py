"""The first step size at which the step map folds anywhere on a set, and where."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from eqdyn import _checks
from eqdyn.measure._meshes import checked
from eqdyn.measure.tracer_folds.spectrum import spectrum
from eqdyn.measure.tracer_folds.velocity import Velocity, partial
from eqdyn.shapes import Mesh

WIDTH = 64  # edges or triangles that are halved together


class FoldEta(NamedTuple):
    """The first fold on a set of tracers.

    Attributes:
        eta: the smallest step size found to fold, [eta]; an UPPER bound of the smallest on the set, infinite if none was found; NaN if
            none was found and T was not finite somewhere.
        place, direction: `(d,)` where it folds, and the unit vector that collapses there; NaN if nowhere.
        error: by how much eta still fell over the last two halvings, [eta]: an estimate of what is left; 0 for bare points.
    """

    eta: float
    place: np.ndarray
    direction: np.ndarray
    error: float


def fold_eta(velocity: Velocity, points: Any, *, num_halvings: int = 12) -> FoldEta:
    """The smallest step size at which the step map of tracers folds on a set, and where.

    T does not depend on eta, and a direction that has turned over at some eta stays so at every larger one: no search in eta is
    needed, the place decides. On a mesh the `WIDTH` edges or triangles with the lowest eigenvalue are halved again and again;
    that finds the lowest place near the lowest points of the mesh. An UPPER bound of the first eta on the set: at that place
    it does fold; ESTIMATE as far as other places go.

    Args:
        velocity: `(m, d) -> (m, d)`, row by row.
        points: a `Mesh`, searched along its edges or within its triangles; or `(m, d)`, just these points.
        num_halvings: how often to halve, >= 0; an edge is known to its 2^-num_halvings-th part.

    Returns:
        `FoldEta(eta, place, direction, error)`.

    Raises:
        ValueError, TypeError, MemoryError: as `folds`.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> first = eq.measure.fold_eta(lambda y: y - y**3, eq.shapes.mesh.circle(7, radius=2.0))
        >>> round(first.eta, 4), abs(first.place).max().round(3).item()
        (0.0909, 2.0)

    References:
        derived.
    """
    num_halvings = _checks.count(num_halvings, "num_halvings")
    mesh = checked(points) if isinstance(points, Mesh) else None
    y = _checks.points(points if mesh is None else mesh.points, "points")
    call = partial(velocity, y)
    rates, directions = _lowest(call, y)
    best = _first(rates)
    unknown = bool(np.isnan(rates).any())
    trail = [(float(rates[best]), np.asarray(y)[best], directions[best])]
    if mesh is not None:
        cells = mesh.faces if len(mesh.faces) else mesh.edges
        corners, values = np.asarray(y)[cells], rates[cells]
        for _ in range(num_halvings):
            order = np.resize(np.argsort(np.fmin.reduce(values, axis=1), kind="stable"), WIDTH)
            corners, values, found = _halved(call, corners[order], values[order])
            unknown |= bool(np.isnan(values).any())
            trail.append(min(trail[-1], found, key=lambda item: np.nan_to_num(item[0], nan=np.inf)))
    etas = [-1 / rate if rate < 0 else np.inf for rate, _, _ in trail]
    _, place, direction = trail[-1]
    if etas[-1] == np.inf:
        nothing = np.nan if unknown else np.inf
        return FoldEta(nothing, np.full_like(place, np.nan), np.full_like(direction, np.nan), np.nan if unknown else 0.0)
    return FoldEta(etas[-1], place, direction, etas[max(0, len(etas) - 3)] - etas[-1])


def _lowest(velocity: Partial, y: jax.Array) -> tuple[np.ndarray, np.ndarray]:
    """The smallest real eigenvalue of T at each row, inf where there is none, NaN where T is not finite."""
    real, direction = spectrum(velocity, y)
    return real.min(1), direction.astype(y.dtype)


def _first(rates: np.ndarray) -> int:
    """Where the lowest known one is."""
    return int(np.argmin(np.where(np.isnan(rates), np.inf, rates)))


def _halved(velocity: Partial, corners: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, tuple]:
    """Edges in two, triangles in four, with the eigenvalues at their corners; and the lowest new place."""
    num = corners.shape[1]
    pairs = [(0, 1)] if num == 2 else [(0, 1), (1, 2), (2, 0)]
    middle = np.stack([corners[:, i] / 2 + corners[:, j] / 2 for i, j in pairs], 1)
    rates, directions = _lowest(velocity, jnp.asarray(middle.reshape(-1, corners.shape[2])))
    best = _first(rates)
    found = float(rates[best]), middle.reshape(-1, corners.shape[2])[best], directions[best]
    every = np.concatenate([corners, middle], 1)
    rate = np.concatenate([values, rates.reshape(len(corners), -1)], 1)
    cut = [(0, 2), (2, 1)] if num == 2 else [(0, 3, 5), (3, 1, 4), (5, 4, 2), (3, 4, 5)]
    return np.concatenate([every[:, part] for part in cut]), np.concatenate([rate[:, part] for part in cut]), found
