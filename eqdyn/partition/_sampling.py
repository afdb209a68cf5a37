"""Volumes of cells in more dimensions than vertices can be listed in: hit-and-run, with error bars."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from eqdyn.partition._build import inside
from eqdyn.partition._metric import largest_ball
from eqdyn.partition._network import network_of
from eqdyn.partition._partition import points_of
from eqdyn.partition._region import region_of

_GROUPS = 8  # of chains, whose scatter is the error bar


class Sampled(NamedTuple):
    """ESTIMATE of one cell by hit-and-run.

    Fields:
        log_volume: of the cell, log [z]^d.
        error: one standard deviation of `log_volume`: the relative error of the volume, where it is small.
        centre: `(d,)`, mean of the points, [z].
        points: `(num, d)`, where the chains ended in the whole cell.
        radius: of the largest ball in the cell, exact, [z].
    """

    log_volume: float
    error: float
    centre: np.ndarray
    points: np.ndarray
    radius: float


def hit_and_run(
    layers: Sequence[tuple[Any, Any]], point: Any, box: Any = (-1.0, 1.0), activation: Any = "relu", *,
    num_chains: int = 400, num_steps: int | None = None, seed: int = 0,
) -> Sampled:  # fmt: skip
    """Volume and centre of the cell of a point, in any number of dimensions, by random chords. ESTIMATE, with its error bar.

    `vol(C) = vol(B_0) prod_i vol(C n B_i) / vol(C n B_(i-1))`, balls about the centre of the largest inscribed one, `B_0`, each of twice the volume
    of the last; every ratio is the share of points of the larger body in the smaller. The error is the scatter of 8 groups of chains; it does not
    see what all chains miss, when they are too short for a cell long and thin.

    Args:
        layers, activation: as in `build`.
        point: `(d,)`, in the region.
        box: the region, as in `build`, without "data".
        num_chains: side by side, a multiple of 8.
        num_steps: chords of each chain in each body; None for 2 d + 20.
        seed: of the chords.

    Returns:
        `Sampled`.

    Raises:
        ValueError: arguments that do not fit, or a cell without inside.

    Example:
        >>> import numpy as np, eqdyn as eq
        >>> layers = [(np.eye(8), np.zeros(8)), (np.ones((1, 8)), np.zeros(1))]
        >>> cube = eq.partition.hit_and_run(layers, np.full(8, 0.5))      # [0, 1]^8
        >>> abs(cube.log_volume) < 4 * cube.error < 1
        True

    References:
        Lovasz and Vempala, Hit-and-run from a corner (2006); Smith (1984).
    """
    network = network_of(layers, activation)
    z = points_of(np.asarray(point, np.float64)[None], network.dim)
    region = region_of(box, network.dim, None)
    inside(z, region)
    if num_chains < _GROUPS or num_chains % _GROUPS:
        msg = f"num_chains: got {num_chains}; expected a multiple of {_GROUPS}."
        raise ValueError(msg)
    rows = network.rows(network.codes(z)[0])
    size = np.linalg.norm(rows.a, axis=1)
    live = size > 0
    normals = np.concatenate([-rows.a[live] / size[live, None], region.normals])
    heights = np.concatenate([rows.c[live] / size[live], region.heights])
    centre, radius = largest_ball(normals, heights)
    if not radius > 0:
        msg = "point: got one on a hyperplane, in a cell without inside; write another."
        raise ValueError(msg)
    reach = float(np.sqrt((np.maximum(np.abs(region.high - centre), np.abs(region.low - centre)) ** 2).sum()))
    log_shares, at = _grown(normals, heights - normals @ centre, radius, reach, num_chains, num_steps, np.random.default_rng(seed))
    dim = network.dim
    ball = 0.5 * dim * math.log(math.pi) - math.lgamma(0.5 * dim + 1) + dim * math.log(radius)
    groups = ball - log_shares
    return Sampled(float(groups.mean()), float(groups.std(ddof=1) / math.sqrt(_GROUPS)), centre + at.mean(0), centre + at, radius)


def _grown(
    normals: np.ndarray, slack: np.ndarray, radius: float, reach: float, num_chains: int, num_steps: int | None, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Per group the sum of log shares of each body in the next, and points of the last; the origin is the centre."""
    dim = normals.shape[1]
    steps = 2 * dim + 20 if num_steps is None else num_steps
    at = np.zeros((num_chains, dim))
    log_shares = np.zeros(_GROUPS)
    inner = radius
    while inner < reach:
        outer = min(inner * 2 ** (1 / dim), reach * (1 + 1e-12))
        within = np.zeros(num_chains)
        for step in range(2 * steps):
            at = _chord(at, normals, slack, outer, rng)
            if step >= steps:  # the first half only forgets the last body
                within += np.linalg.norm(at, axis=1) <= inner
        share = (within / steps).reshape(_GROUPS, -1).mean(1)
        log_shares += np.log(np.maximum(share, 0.5 / (steps * num_chains / _GROUPS)))
        inner = outer
    return log_shares, at


def _chord(at: np.ndarray, normals: np.ndarray, slack: np.ndarray, outer: float, rng: np.random.Generator) -> np.ndarray:
    """A random place on a random line through each point, within the cell and the ball."""
    way = rng.standard_normal(at.shape)
    way /= np.linalg.norm(way, axis=1)[:, None]
    speed, left = way @ normals.T, np.maximum(slack - at @ normals.T, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        when = left / speed
    ahead = np.where(speed > 0, when, np.inf).min(1)
    behind = np.where(speed < 0, when, -np.inf).max(1)
    along, off = (at * way).sum(1), outer**2 - (at**2).sum(1)
    half = np.sqrt(np.maximum(along**2 + off, 0))
    ahead, behind = np.minimum(ahead, half - along), np.maximum(behind, -half - along)
    return at + (behind + rng.random(len(at)) * (ahead - behind))[:, None] * way
