"""The facets of one cell in any number of dimensions, by linear programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from eqdyn.partition._build import inside
from eqdyn.partition._local import at_points
from eqdyn.partition._network import Rows, network_of
from eqdyn.partition._partition import points_of, progress_of
from eqdyn.partition._region import Region, region_of

_TIGHT = 1e-9  # of a row's size: beyond by less is not beyond
_PROJECTIONS = 2000
_OVER = 1.5  # of the way to the hyperplane that is most violated


class OneRing(NamedTuple):
    """The facets of one cell, and what lies beyond each. EXACT up to rounding.

    Fields:
        code: `(m,)` of the cell.
        units: `(f,)`, the hidden unit of each facet.
        neighbours: `(f, m)`, codes beyond.
        distances: `(f,)`, from the point to the facet's hyperplane, [z].
        kinks: `(f,)`, [output]/[z].
        num_rows: half-spaces of hidden units that there were; what is left is redundant in the region.
        num_programs: linear programs solved.
    """

    code: np.ndarray
    units: np.ndarray
    neighbours: np.ndarray
    distances: np.ndarray
    kinks: np.ndarray
    num_rows: int
    num_programs: int


def one_ring(
    layers: Sequence[tuple[Any, Any]], point: Any, box: Any = (-1.0, 1.0), activation: Any = "relu", *, progress: bool | None = None
) -> OneRing:
    """The facets of the cell of a point, by a linear program for each half-space that might be redundant; any number of dimensions.

    EXACT up to rounding: row j is a facet where `-(a_j z + c_j)` gets above 0 with all others kept. Rows that a ray from the point meets first, or
    beyond which a point within all others is found by projections, need no program.

    Args:
        layers, activation: as in `build`.
        point: `(d,)`, in the region and off all hyperplanes.
        box: the region; as in `build`, without "data".
        progress: True for a bar.

    Returns:
        `OneRing`.

    Raises:
        ValueError: layers, region or point that do not fit.

    Example:
        >>> import numpy as np, eqdyn as eq
        >>> w = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.1]])
        >>> ring = eq.partition.one_ring([(w, np.array([0.0, 0.0, 5.0])), (np.ones((1, 3)), np.zeros(1))], [0.5, 0.5])
        >>> ring.units.tolist(), ring.num_rows      # the third is never 0 in the box
        ([0, 1], 3)
    """
    network = network_of(layers, activation)
    z = points_of(np.asarray(point, np.float64)[None], network.dim)
    region = region_of(box, network.dim, None)
    inside(z, region)
    rows = network.rows(network.codes(z)[0])
    _, distances, kinks = (found[0] for found in at_points(network, z))
    facets, programs = _facets(rows, region, z[0], progress)
    code = network.codes(z)[0]
    beyond = np.repeat(code[None], len(facets), axis=0)
    for k, facet in enumerate(facets):
        beyond[k, rows.flips[facet]] = ~code[rows.flips[facet]]
    return OneRing(code, rows.units[facets], beyond, distances[facets], kinks[facets], len(rows.c), programs)


def _facets(rows: Rows, region: Region, z: np.ndarray, progress: bool | None) -> tuple[np.ndarray, int]:
    from scipy.optimize import linprog

    size = np.linalg.norm(rows.a, axis=1)
    live = np.nonzero(size > 0)[0]
    a, c = rows.a[live] / size[live, None], rows.c[live] / size[live]
    live, a, c = _once(live, a, c)
    walls = len(region.heights)
    # all as n z <= h: walls of the box are bounds of the variables, those of a ball rows
    certain = _met_first(np.concatenate([-a, region.normals]), np.concatenate([c, region.heights]), z)[: len(live)]
    rest = np.nonzero(~certain)[0]
    certain[rest] = _crossed_alone(rest, a, c, region, z)
    box = walls == 2 * len(z)
    kept = np.ones(len(live), bool)
    programs = 0
    bounds = np.stack([region.low, region.high], axis=1)
    for row in progress_of(np.nonzero(~certain)[0], progress, "programs"):
        others = kept.copy()
        others[row] = False
        left = np.concatenate([-a[others], -a[row][None], *([] if box else [region.normals])])
        right = np.concatenate([c[others], [c[row] + 1.0], *([] if box else [region.heights])])
        found = linprog(a[row], A_ub=left, b_ub=right, bounds=bounds, method="highs")
        programs += 1
        if found.status != 0:
            msg = f"cell: the linear program of unit {rows.units[live[row]]} ended with: {found.message}"
            raise ArithmeticError(msg)
        kept[row] = found.fun + c[row] < -_TIGHT
    return live[kept], programs


def _once(live: np.ndarray, a: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of rows that say the same, the first."""
    same = np.unique(np.round(np.concatenate([a, c[:, None]], axis=1), 12), axis=0, return_index=True)[1]
    first = np.sort(same)
    return live[first], a[first], c[first]


def _met_first(normals: np.ndarray, heights: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Half-spaces whose border a ray from z along one of their normals meets before all others, by a margin."""
    slack = heights - normals @ z
    speed = normals @ normals.T
    with np.errstate(divide="ignore", invalid="ignore"):
        when = np.where(speed > 0, np.maximum(slack, 0) / speed, np.inf)
    two = np.partition(when, 1, axis=1)[:, :2] if when.shape[1] > 1 else np.c_[when, np.full(len(when), np.inf)]
    clear = two[:, 0] < two[:, 1] * (1 - 1e-6)
    found = np.zeros(len(heights), bool)
    found[when.argmin(1)[clear]] = True
    return found


def _crossed_alone(rows: np.ndarray, a: np.ndarray, c: np.ndarray, region: Region, z: np.ndarray) -> np.ndarray:
    """Of some rows, whether a point was found beyond it and within all others: from z's mirror image, projected on what is most violated."""
    more = slice(2 * len(z), None)  # walls beside those of the box
    normals = np.concatenate([a, -region.normals[more]])
    heights = np.concatenate([c, region.heights[more]])
    signs = np.ones((len(rows), len(heights)))
    signs[np.arange(len(rows)), rows] = -1
    at = z - ((a[rows] @ z + c[rows]) * 1.001)[:, None] * a[rows]
    margin = 1e-6 * np.abs(a @ z + c).min()
    done = np.zeros(len(rows), bool)
    for _ in range(_PROJECTIONS):
        left = np.nonzero(~done)[0]
        if not len(left):
            break
        at[left] = np.clip(at[left], region.low, region.high)
        values = signs[left] * (at[left] @ normals.T + heights)
        worst = values.argmin(1)
        least = values[np.arange(len(left)), worst]
        done[left[least > _TIGHT]] = True
        step = np.where(least > _TIGHT, 0, _OVER * (margin + 2 * _TIGHT - least))
        at[left] += (step * signs[left, worst])[:, None] * normals[worst]
    return done
