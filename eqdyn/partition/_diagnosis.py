"""What cells say about a trained model: how many there are per mass, and whether errors go with curvature."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

_Z = 1.959963984540054  # of a normal law: 95 %


class Diagnosis(NamedTuple):
    """Cells per mass, and the error rate of test points by the curvature of their cell.

    Fields:
        masses: `(n,)`, of the cells that hold data, largest first.
        entropy: `-sum mass log mass`, nats: `log n` for equal masses.
        edges: `(bins + 1,)`, of curvature: bins of equally many test points.
        num, rate, low, high: `(bins,)`, test points, share of wrong ones, and its 95 % interval (Wilson). ESTIMATE.
        elsewhere: number and error rate of test points in cells without a curvature: not listed, or without a neighbour.
        spearman: rank correlation of curvature and error over test points, and its p-value under independence (of points; those of a cell share their
            curvature, so it is too small where cells hold many).
        name: of the curvature.
    """

    masses: np.ndarray
    entropy: float
    edges: np.ndarray
    num: np.ndarray
    rate: np.ndarray
    low: np.ndarray
    high: np.ndarray
    elsewhere: tuple[int, float]
    spearman: tuple[float, float]
    name: str


def diagnose(masses: Any, cell_of: Any, wrong: Any, curvature: Any, *, name: str, bins: int = 6) -> Diagnosis:
    """Error rates of test points against the curvature of the cells they fall into. ESTIMATE, with intervals; no law says that they must go together.

    Args:
        masses: `(n,)`, of the cells, from training data.
        cell_of: `(num,)`, the cell of each test point, as `Partition.locate` gives it; -1 for none.
        wrong: `(num,)` bool, whether the model fails on it.
        curvature: `(n,)`, of the cells, NaN where there is none; `of_cells` makes it from that of edges.
        name: which curvature it is, for the record and the picture.
        bins: of curvature.

    Returns:
        `Diagnosis`; `plot_partition.diagnosis` draws it.

    Raises:
        ValueError: arrays that do not fit, or fewer test points than bins.

    Example:
        >>> import numpy as np, eqdyn as eq
        >>> cell_of = np.repeat([0, 1], 50)
        >>> found = eq.partition.diagnose([0.5, 0.5], cell_of, cell_of == 1, [0.0, -1.0], name="planted", bins=2)
        >>> found.rate.tolist(), found.spearman[0] < -0.99
        ([1.0, 0.0], True)

    References:
        Gajer and Ravel, arXiv:2508.02080; Wilson (1927).
    """
    from scipy.stats import spearmanr

    mass, values = np.asarray(masses, np.float64), np.asarray(curvature, np.float64)
    cell, fails = np.asarray(cell_of), np.asarray(wrong)
    if mass.ndim != 1 or values.shape != mass.shape or cell.ndim != 1 or fails.shape != cell.shape or fails.dtype != bool:
        shapes = f"{mass.shape}, {values.shape}, {cell.shape}, {fails.shape} ({fails.dtype})"
        msg = f"masses, curvature, cell_of, wrong: got shapes {shapes}; expected (n,) twice and (num,) twice, wrong bool."
        raise ValueError(msg)
    if len(cell) and not (cell.dtype.kind == "i" and cell.min() >= -1 and cell.max() < len(mass)):
        msg = f"cell_of: got values outside -1 to {len(mass) - 1}."
        raise ValueError(msg)
    at = np.where(cell >= 0, values[cell], np.nan)
    known = ~np.isnan(at)
    if bins < 1 or known.sum() < bins:
        msg = f"bins: got {bins} for {int(known.sum())} test points in cells with a curvature; expected at least a point for each."
        raise ValueError(msg)
    edges = np.unique(np.quantile(at[known], np.linspace(0, 1, bins + 1)))
    edges = np.r_[edges, edges] if len(edges) == 1 else edges  # one value everywhere
    which = np.clip(np.searchsorted(edges, at[known], side="right") - 1, 0, len(edges) - 2)
    num = np.bincount(which, minlength=len(edges) - 1)
    rate = np.bincount(which, fails[known], len(num)) / np.maximum(num, 1)
    low, high = _wilson(rate, num)
    varied = np.ptp(at[known]) > 0 and 0 < fails[known].sum() < known.sum()
    found = spearmanr(at[known], fails[known]) if varied else (np.nan, np.nan)
    elsewhere = int((~known).sum()), float(fails[~known].mean()) if not known.all() else np.nan
    held = np.sort(mass[mass > 0])[::-1]
    return Diagnosis(
        held, float(-(held * np.log(held)).sum()), edges, num, rate, low, high, elsewhere, (float(found[0]), float(found[1])), name,
    )  # fmt: skip


def _wilson(rate: np.ndarray, num: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    n = np.maximum(num, 1)
    middle = (rate + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z * np.sqrt(rate * (1 - rate) / n + _Z**2 / (4 * n**2)) / (1 + _Z**2 / n)
    return np.maximum(middle - half, 0), np.minimum(middle + half, 1)


def of_cells(edges: Any, values: Any, num_cells: int) -> np.ndarray:
    """Mean over the edges of each cell, of what is known of edges: their curvature, kinks; `(num_cells,)`, NaN for a cell without.

    Args:
        edges: `(e, 2)`, as `Partition.edges`.
        values: `(e,)`; NaN is left out.
        num_cells: n.

    Raises:
        ValueError: arrays that do not fit.

    Example:
        >>> import eqdyn as eq
        >>> eq.partition.of_cells([(0, 1), (1, 2)], [1.0, 3.0], 4).tolist()
        [1.0, 2.0, 3.0, nan]
    """
    pairs, of_edge = np.asarray(edges, int).reshape(-1, 2), np.asarray(values, np.float64)
    if of_edge.shape != (len(pairs),) or (len(pairs) and not (pairs.min() >= 0 and pairs.max() < num_cells)):
        got = f"{len(pairs)} of cells up to {pairs.max(initial=-1)}, and values {of_edge.shape}"
        msg = f"edges: got {got}; expected a value for each edge of {num_cells} cells."
        raise ValueError(msg)
    known = ~np.isnan(of_edge)
    ends, both = pairs[known].ravel(), np.repeat(of_edge[known], 2)
    count = np.bincount(ends, minlength=num_cells)
    return np.where(count > 0, np.bincount(ends, both, num_cells) / np.maximum(count, 1), np.nan)
