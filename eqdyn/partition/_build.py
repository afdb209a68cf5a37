"""The partition of a region by a piecewise linear network: its cells, facets and measures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from eqdyn.partition._network import Layer, Network, Rows, bounds, network_of
from eqdyn.partition._partition import Cell, Partition, Walls, progress_of
from eqdyn.partition._polytope import Polytope, clip, noise_of, sides, split, volume
from eqdyn.partition._polytope import measures as sizes_of
from eqdyn.partition._region import HIGHEST, Region, region_of

_BEYOND = 1e-7  # of the cell's size: how far across a facet to ask for the code there


def build(
    layers: Sequence[tuple[Any, Any]], box: Any = (-1.0, 1.0), points: Any = None, activation: Any = "relu", *,
    cells: str = "all", ring: bool = False, measures: bool = True, most: int = 200_000, progress: bool | None = None,
) -> Partition:  # fmt: skip
    """The cells into which a network cuts a region, and the facets between them, by cutting polytopes; no linear program.

    EXACT up to rounding, in up to 6 dimensions. Units that are constant on a cell, or whose hyperplane is a facet already, cut nothing. In more
    dimensions, `partition.local` tells what can be known at points.

    Args:
        layers: `(W (out, in), b (out,))`, hidden layers first, the output layer last.
        box: `(low, high)`, numbers or `(d,)`; "data" for that of the points and 5 % more on each side; `("ball", centre, radius)` for a polytope
            around the ball (64 sides in a plane; volume above the ball's by 0.1 % there, by more in more dimensions).
        points: data in the region, `(num, d)`, for masses.
        activation: "relu", "abs", "leaky_relu", `("leaky_relu", slope)`, or `("max_pool", size)`, the largest of each `size` units in a row; of
            every hidden layer, or a list with one for each.
        cells: "all", or "data" for the cells that hold points alone.
        ring: with "data", their neighbours across facets too.
        measures: False leaves volumes and areas NaN; in 5 and 6 dimensions they take most of the time.
        most: cells; more are refused.
        progress: True for a bar.

    Returns:
        `Partition`.

    Raises:
        ValueError: layers, region or points that do not fit, an activation that is not piecewise linear, more than 6 dimensions or `most` cells.

    Example:
        >>> import numpy as np, eqdyn as eq
        >>> found = eq.partition.build([(np.eye(2), np.zeros(2)), (np.ones((1, 2)), np.zeros(1))])
        >>> len(found.codes), float(found.volumes.sum()), len(found.edges)
        (4, 4.0, 4)

    References:
        Gajer and Ravel, arXiv:2508.02080; Humayun et al., arXiv:2302.12828, for cutting layer after layer.
    """
    network = network_of(layers, activation)
    if network.dim > HIGHEST:
        msg = f"layers: got inputs of {network.dim} dimensions; expected at most {HIGHEST}, where vertices can be listed; write partition.local(...)."
        raise ValueError(msg)
    data = None if points is None else points_of(points, network.dim)
    region = region_of(box, network.dim, data)
    if data is not None:
        inside(data, region)
    if cells not in ("all", "data"):
        msg = f"cells: got {cells!r}; expected 'all' or 'data'."
        raise ValueError(msg)
    if cells == "data" and data is None:
        msg = "cells: got 'data' without points; write points=..."
        raise ValueError(msg)
    found = _cut(network, region.whole) if cells == "all" else _with_data(network, region.whole, data, ring=ring)  # type: ignore[arg-type]
    listed: list[tuple[np.ndarray, Polytope]] = []
    for one in progress_of(found, progress, "cells"):
        listed.append(one)
        if len(listed) > most:
            msg = f"most: got more than {most} cells; write cells='data', a smaller region, a smaller network, or most={10 * most}."
            raise ValueError(msg)
    return _measured(network, listed, region, data, measures=measures, progress=progress)


def _cut(network: Network, whole: Polytope) -> Iterator[tuple[np.ndarray, Polytope]]:
    """All cells with their codes; one branch of the tree at a time."""
    pending = [(whole, np.zeros(0, bool), np.eye(network.dim), np.zeros(network.dim), 0, 0)]
    while pending:
        cell, code, a, c, depth, row = pending.pop()
        if depth == len(network.hidden):
            yield code, cell
            continue
        layer = network.hidden[depth]
        a, c = layer.w @ a, layer.w @ c + layer.b
        parts = _pooled(cell, layer, a, c, row) if layer.pool else _halved(cell, a, c, row, noise_of(whole, a, c))
        for part, bits in parts:
            pending.append((part, np.concatenate([code, bits]), layer.after(a, bits), layer.after(c, bits), depth + 1, row + layer.num_rows))


def _halved(cell: Polytope, a: np.ndarray, c: np.ndarray, row: int, noise: np.ndarray) -> list[tuple[Polytope, np.ndarray]]:
    """By unit after unit; which is the next that cuts a part is asked of all at once."""
    pending, parts = [(cell, np.zeros(0, bool))], []
    while pending:
        part, bits = pending.pop()
        unit = len(bits)
        values = a[unit:] @ part.vertices.T + c[unit:, None]
        below, above = sides(values, noise[unit:, None])
        up = values.max(1) > -values.min(1)
        cutting = np.nonzero(above.any(1) & below.any(1))[0]
        if not len(cutting):
            parts.append((part, np.concatenate([bits, up])))
            continue
        bits = np.concatenate([bits, up[: cutting[0]]])
        halves = zip(split(part, values[cutting[0]], row + len(bits), noise[len(bits)]), (False, True), strict=True)
        pending += [(half, np.append(bits, side)) for half, side in halves if half is not None][::-1]
    return parts


def _pooled(cell: Polytope, layer: Layer, a: np.ndarray, c: np.ndarray, row: int) -> list[tuple[Polytope, np.ndarray]]:
    parts = [(cell, np.zeros(0, bool))]
    for first in range(0, len(c), layer.pool):
        at, cut = slice(first, first + layer.pool), []
        rows = row + first // layer.pool * (layer.pool - 1) + np.arange(layer.pool - 1)
        for largest in range(layer.pool):
            bits = np.arange(layer.pool) == largest
            normals, heights, _, _ = bounds(layer, a[at], c[at], bits, 0)
            if np.any((normals == 0).all(1) & ((heights < 0) | ((heights == 0) & (np.nonzero(~bits)[0] < largest)))):
                continue  # another is larger everywhere, or the same and comes first
            clipped = [(clip(part, normals, heights, rows), before) for part, before in parts]
            cut += [(part, np.append(before, bits)) for part, before in clipped if part is not None]
        parts = cut
    return parts


def _with_data(network: Network, whole: Polytope, data: np.ndarray, *, ring: bool) -> Iterator[tuple[np.ndarray, Polytope]]:
    """Cells of the points, then their neighbours."""
    pending = list(np.unique(network.codes(data), axis=0))
    seen = {code.tobytes() for code in pending}
    inner = len(pending)
    for k, code in enumerate(pending):  # grows by the neighbours of the first ones
        rows = network.rows(code)
        cell = clip(whole, rows.a, rows.c, np.arange(len(rows.c)))
        if cell is None:  # no inside: points on a hyperplane
            continue
        yield code, cell
        if ring and k < inner:
            for other in _flipped(code, rows, cell.facets[cell.facets >= 0]):
                if other.tobytes() not in seen:
                    seen.add(other.tobytes())
                    pending.append(other)


def _flipped(code: np.ndarray, rows: Rows, facets: np.ndarray) -> np.ndarray:
    """Beyond each facet, as if no other hyperplane coincided with its own."""
    flipped = np.repeat(code[None], len(facets), axis=0)
    bits = rows.flips[facets]
    flipped[np.arange(len(facets))[:, None], bits] = ~code[bits]
    return flipped


def _measured(
    network: Network, listed: list[tuple[np.ndarray, Polytope]], region: Region, data: np.ndarray | None, *, measures: bool, progress: bool | None
) -> Partition:
    codes = np.array([code for code, _ in listed]).reshape(len(listed), network.num_units)
    place = {code.tobytes(): k for k, code in enumerate(codes)}
    num, dim = len(codes), network.dim
    jacobians, offsets, volumes = np.empty((num, len(network.last[1]), dim)), np.empty((num, len(network.last[1]))), np.full(num, np.nan)
    cells, edges, walls, rim = [], [], [], []
    for k, (code, polytope) in progress_of(enumerate(listed), progress, "measures", num):
        rows = network.rows(code)
        jacobians[k], offsets[k] = rows.jacobian, rows.offset
        volumes[k], cell = _cell(polytope, rows, region, measures=measures)
        cells.append(cell)
        for facet, other, *side in zip(cell.facets, _across(network, place, code, rows, cell), cell.areas, cell.normals, strict=True):
            if facet < 0:
                walls.append((k, *side))
            elif other is None:
                rim.append((k, *side))
            elif other > k:
                edges.append((k, other, rows.units[facet], *side))
    pairs = np.array([edge[:2] for edge in edges], int).reshape(-1, 2)
    normals = np.array([edge[4] for edge in edges]).reshape(-1, dim)
    jump = np.einsum("eod,ed->eo", jacobians[pairs[:, 1]] - jacobians[pairs[:, 0]], normals)
    cell_of = np.zeros(0, int) if data is None else np.array([place.get(code.tobytes(), -1) for code in network.codes(data)], int)
    masses = np.full(num, np.nan) if data is None else np.bincount(cell_of[cell_of >= 0], minlength=num) / len(data)
    return Partition(
        codes, volumes, masses, np.array([cell.vertices.mean(0) for cell in cells]).reshape(-1, dim), jacobians, offsets,
        pairs, np.array([edge[2] for edge in edges], int), np.array([edge[3] for edge in edges], float), normals, np.linalg.norm(jump, axis=1),
        _walls(walls, dim), _walls(rim, dim), cell_of, tuple(cells), volume(region.whole.vertices),  # type: ignore[union-attr]
    )  # fmt: skip


def _cell(polytope: Polytope, rows: Rows, region: Region, *, measures: bool) -> tuple[float, Cell]:
    facets = polytope.facets
    own = facets >= 0
    normals = np.empty((len(facets), polytope.vertices.shape[1]))
    normals[own] = -rows.a[facets[own]]
    normals[~own] = region.normals[-1 - facets[~own]]
    normals /= np.linalg.norm(normals, axis=1)[:, None]
    size, areas = sizes_of(polytope, normals) if measures else (np.nan, np.full(len(facets), np.nan))
    return size, Cell(*polytope, normals, areas)


def _across(network: Network, place: dict, code: np.ndarray, rows: Rows, cell: Cell) -> list[int | None]:
    """The cells beyond the facets: the bits of its row differ, and others where hyperplanes coincide."""
    own = np.nonzero(cell.facets >= 0)[0]
    found: list[int | None] = [None] * len(cell.facets)
    for column, other in zip(own, _flipped(code, rows, cell.facets[own]), strict=True):
        found[column] = place.get(other.tobytes())
    lost = [column for column in own if found[column] is None]
    if lost:
        on = cell.on[:, lost]
        middle = (on.T @ cell.vertices) / on.sum(0)[:, None]
        beyond = middle + _BEYOND * np.ptp(cell.vertices, axis=0).max() * cell.normals[lost]
        for column, other in zip(lost, network.codes(beyond), strict=True):
            found[column] = place.get(other.tobytes())
    return found


def _walls(found: list[tuple], dim: int) -> Walls:
    columns = [np.array([one[k] for one in found]) for k in range(3)]
    return Walls(columns[0].astype(int), columns[1].astype(float), columns[2].reshape(-1, dim).astype(float))


def points_of(points: Any, dim: int) -> np.ndarray:
    """Checked."""
    z = np.asarray(points, np.float64)
    if z.ndim != 2 or z.shape[1] != dim or len(z) == 0 or not np.isfinite(z).all():
        msg = f"points: got shape {z.shape}, or values that are not finite; expected (num, {dim})."
        raise ValueError(msg)
    return z


def inside(points: np.ndarray, region: Region) -> None:
    """Refuse points outside the region."""
    out = int(np.sum(np.any(points @ region.normals.T > region.heights + 1e-12 * (1 + np.abs(region.heights)), axis=1)))
    if out:
        msg = f"points: got {out} of {len(points)} outside the box; write box='data', or a larger one."
        raise ValueError(msg)
