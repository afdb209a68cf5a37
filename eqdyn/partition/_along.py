"""The partition at checkpoints of a run, beside the neurons that merged until then."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from eqdyn.partition._build import build
from eqdyn.partition._network import Network
from eqdyn.partition._partition import Partition, progress_of
from eqdyn.partition._ricci import ricci_ollivier


class Along(NamedTuple):
    """Partitions at k checkpoints, row for row. EXACT up to rounding for each checkpoint.

    Fields:
        steps: `(k,)`.
        num_cells: `(k,)`, in the region (or, of data alone, with data).
        num_data_cells: `(k,)`, cells that hold points.
        entropy: `(k,)`, of the masses, nats.
        kink: `(k,)`, mean kink strength of facets, weighted by area, [output]/[z].
        ricci_ollivier: `(k,)`, mean over the facets between cells that hold points, with their masses; NaN without any.
        num_neurons: `(k, hidden layers)`, distinct neurons: rows of incoming weights, bias and outgoing weights no nearer than `tolerance`.
        num_hyperplanes: `(k,)`, distinct bent hyperplanes that bound cells, by hidden unit.
        merged: `(k,)`, neurons that the monitor saw merge until then; NaN without a monitor.
        largest_q: `(k,)`, the largest `eta K_pair` that it saw since the checkpoint before; NaN likewise.
        partitions: of each checkpoint.
    """

    steps: np.ndarray
    num_cells: np.ndarray
    num_data_cells: np.ndarray
    entropy: np.ndarray
    kink: np.ndarray
    ricci_ollivier: np.ndarray
    num_neurons: np.ndarray
    num_hyperplanes: np.ndarray
    merged: np.ndarray
    largest_q: np.ndarray
    partitions: tuple[Partition, ...]


def along(
    checkpoints: Mapping[int, Sequence[tuple[Any, Any]]], box: Any = (-1.0, 1.0), points: Any = None, activation: Any = "relu", *,
    cells: str = "all", monitor: Any = None, tolerance: float = 0.0, progress: bool | None = None,
) -> Along:  # fmt: skip
    """Partitions along a run: how many cells there are, how data are spread over them, how they curve, and who merged.

    Neurons of one hidden layer that merge have one bent hyperplane from then on; with a step below the critical one nobody merges, and hyperplanes
    are lost only out of the region.

    Args:
        checkpoints: layers by step, as in `build`; the same shapes.
        box, points, activation, cells: as in `build`.
        monitor: a `networks.Monitor` that watched the run, for its certificates; counts of steps as in `checkpoints`.
        tolerance: neurons as near count as one, [weight].
        progress: True for a bar.

    Returns:
        `Along`.

    Raises:
        ValueError: checkpoints that do not fit, as `build` says, with the step.

    Example:
        >>> import numpy as np, eqdyn as eq
        >>> def layers(shift):      # two neurons that come together
        ...     return [(np.array([[1.0, shift], [1.0, 0.0]]), np.zeros(2)), (np.ones((1, 2)), np.zeros(1))]
        >>> run = eq.partition.along({0: layers(0.5), 10: layers(0.1), 20: layers(0.0)})
        >>> run.num_cells.tolist(), run.num_neurons.ravel().tolist()
        ([4, 4, 2], [2, 2, 1])
    """
    if not isinstance(checkpoints, Mapping) or not checkpoints:
        msg = f"checkpoints: got {type(checkpoints).__name__}; expected layers by step, {{0: [(W, b), ...], ...}}, one at least."
        raise ValueError(msg)
    steps = sorted(checkpoints)
    found = []
    for step in progress_of(steps, progress, "checkpoints"):
        try:
            found.append(build(checkpoints[step], box, points, activation, cells=cells))
        except ValueError as error:
            msg = f"checkpoints[{step}]: {error}"
            raise ValueError(msg) from error
    shapes = [[layer.w.shape for layer in one.network.hidden] for one in found]
    if any(shape != shapes[0] for shape in shapes):
        msg = (
            f"checkpoints: got networks of hidden layers {sorted(map(str, shapes))[0]} and {sorted(map(str, shapes))[-1]}; expected one architecture."
        )
        raise ValueError(msg)
    data_cells, entropy, kink, curvature = (np.array(column) for column in zip(*(_read(one) for one in found), strict=True))
    num_cells = np.array([len(one.codes) for one in found])
    num_neurons = np.array([_neurons(one.network, tolerance) for one in found]).reshape(len(found), -1)
    num_hyperplanes = np.array([len(np.unique(one.units)) for one in found])
    merged, largest = _seen(monitor, steps)
    return Along(np.array(steps), num_cells, data_cells, entropy, kink, curvature, num_neurons, num_hyperplanes, merged, largest, tuple(found))


def _read(one: Partition) -> tuple[int, float, float, float]:
    """Cells with data, entropy of masses, mean kink, mean curvature between cells with data."""
    held = one.masses > 0  # none where there are no points
    mass = one.masses[held]
    entropy = float(-(mass * np.log(mass)).sum()) if len(mass) else np.nan
    kink = float(one.kinks @ one.facet_areas / one.facet_areas.sum()) if len(one.kinks) else 0.0
    inner = one.edges[held[one.edges].all(1)]
    return int(held.sum()), entropy, kink, float(ricci_ollivier(inner, np.nan_to_num(one.masses)).mean()) if len(inner) else np.nan


def _neurons(network: Network, tolerance: float) -> list[int]:
    """Distinct ones of each hidden layer."""
    from scipy.cluster.hierarchy import fcluster, linkage

    after = [layer.w for layer in network.hidden[1:]] + [network.last[0]]
    counts = []
    for layer, out in zip(network.hidden, after, strict=True):
        behind = np.repeat(out, layer.pool, axis=1) if layer.pool else out
        neurons = np.concatenate([layer.w, layer.b[:, None], behind.T], axis=1)
        exact = np.unique(neurons, axis=0)
        counts.append(len(exact) if tolerance == 0 or len(exact) < 2 else int(fcluster(linkage(exact, "single"), tolerance, "distance").max()))
    return counts


def _seen(monitor: Any, steps: list[int]) -> tuple[np.ndarray, np.ndarray]:
    merged, largest = np.full(len(steps), np.nan), np.full(len(steps), np.nan)
    if monitor is None:
        return merged, largest
    records = [(step, record) for group in monitor.steps.values() for step, record in group]
    for k, step in enumerate(steps):
        until = [(at, record) for at, record in records if at < step]
        merged[k] = sum(int(record.merged) for _, record in until)
        since = [float(record.q) for at, record in until if k and at >= steps[k - 1]]
        largest[k] = max(since, default=np.nan)
    return merged, largest
