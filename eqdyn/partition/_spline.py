"""Smooth functions of cells: filters of the finite-volume Laplacian, and splines that refine a network, smoothed by cross-validation."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from eqdyn.partition._partition import Partition, asked_for, measured, points_of

MOST = 5000  # cells: eigenvectors of a dense matrix
RESPONSES = {
    "heat": lambda t, values: np.exp(-t * values),
    "tikhonov": lambda t, values: 1 / (1 + t * values),
    "spline": lambda t, values: 1 / (1 + t * values**2),
}
_ZERO = 1e-13  # of the largest eigenvalue
_GRID = np.logspace(-8, 8, 129)  # of t, in units of what halves a middling mode


class Spline(NamedTuple):
    """What was added to a network, a constant on each cell.

    Fields:
        partition: its cells.
        values: `(n, out)`, added to the network's output on each cell.
        t: the weight of roughness that was taken.
        score: its generalised cross-validation score, [output]^2.
        freedom: the trace of the smoother: between the number of components and that of cells with data.
        curve: `(2, k)`, all weights that were tried, and their scores.
    """

    partition: Partition
    values: np.ndarray
    t: float
    score: float
    freedom: float
    curve: np.ndarray

    def __call__(self, points: Any) -> np.ndarray:
        """The refined network at points `(num, d)`; `(num, out)`, NaN where the cell is not listed."""
        z = points_of(points, self.partition.network.dim)
        cell = self.partition.locate(z)
        return np.where(cell[:, None] >= 0, self.partition.network.outputs(z) + self.values[cell], np.nan)


def smooth(partition: Partition, values: Any, t: float, *, kind: str = "spline") -> np.ndarray:
    """A function of cells, filtered: `sum_l response(t l) <f, phi_l> phi_l` over the modes of `L = M_0^-1 A`. EXACT, dense: up to 5,000 cells.

    The mean weighted by volume is kept. "spline", `1 / (1 + t l^2)`, is the minimiser of `sum_i M_i (y_i - f_i)^2 + t f^t A M_0^-1 A f`.

    Args:
        partition: of `build`, with measures.
        values: `(n,)` or `(n, k)`, a value for each cell.
        t: 0 or more; [z]^2 for heat, `exp(-t l)`, and Tikhonov, `1 / (1 + t l)`; [z]^4 for the spline.
        kind: "heat", "tikhonov" or "spline".

    Raises:
        TypeError, ValueError: arguments that do not fit, or too many cells.

    Example:
        >>> import numpy as np, eqdyn as eq
        >>> found = eq.partition.build([(np.eye(1), np.zeros(1)), (np.ones((1, 1)), np.zeros(1))])
        >>> eq.partition.smooth(found, [0.0, 1.0], 1e9, kind="heat").round(6).tolist()
        [0.5, 0.5]

    References:
        Gajer and Ravel, arXiv:2508.02080.
    """
    measured(asked_for(partition))
    if kind not in RESPONSES:
        msg = f"kind: got {kind!r}; expected one of {sorted(RESPONSES)}."
        raise ValueError(msg)
    f = np.asarray(values, np.float64)
    if f.ndim not in (1, 2) or len(f) != len(partition.codes) or not np.isfinite(f).all():
        msg = f"values: got shape {f.shape}, or values that are not finite; expected ({len(partition.codes)},) or ({len(partition.codes)}, k)."
        raise ValueError(msg)
    _few(len(f))
    root = np.sqrt(partition.volumes)
    modes, vectors = np.linalg.eigh(partition.stiffness().toarray() / root[:, None] / root)
    response = RESPONSES[kind](_weight(t), np.where(modes > _ZERO * modes.max(initial=0.0), modes, 0))
    scaled = vectors.T @ (root[:, None] * f.reshape(len(f), -1))
    return ((vectors @ (response[:, None] * scaled)) / root[:, None]).reshape(f.shape)


def spline(partition: Partition, points: Any, y: Any, *, t: float | None = None) -> Spline:
    """Refines a network on its own cells: to its affine map on each cell a constant is added, smooth over the complex, fitted to data.

    Minimises `sum_p |y_p - network(z_p) - f_cell(p)|^2 + t tr f^t A M_0^-1 A f`. EXACT for its t. Cells without data are filled by their neighbours.
    t is chosen by generalised cross-validation, `num RSS / (num - trace H)^2`, over 129 weights: that is an ESTIMATE of what predicts best.

    Args:
        partition: of `build`, with measures; connected where data are to be carried from cell to cell.
        points: `(num, d)`, in listed cells.
        y: `(num,)` or `(num, out)`, what the network should give there.
        t: the weight of roughness, [z]^(4-d); None for cross-validation.

    Returns:
        `Spline`, which can be called.

    Raises:
        TypeError, ValueError: arguments that do not fit, points in no listed cell, or more than 5,000 cells.

    Example:
        >>> import numpy as np, eqdyn as eq
        >>> w, cuts = np.ones((9, 1)), np.linspace(-0.8, 0.8, 9)
        >>> flat = [(w, -cuts), (np.zeros((1, 9)), np.zeros(1))]      # a network that gives 0, on ten cells
        >>> found, z = eq.partition.build(flat), np.linspace(-0.99, 0.99, 100)[:, None]
        >>> refined = eq.partition.spline(found, z, np.sin(3 * z[:, 0]))
        >>> bool(np.abs(refined(z)[:, 0] - np.sin(3 * z[:, 0])).max() < 0.35)
        True

    References:
        Gajer and Ravel, arXiv:2508.02080; Wahba, Spline Models for Observational Data (1990), for cross-validation.
    """
    measured(asked_for(partition))
    z = points_of(points, partition.network.dim)
    target = np.asarray(y, np.float64).reshape(len(z), -1) if np.shape(y)[:1] == (len(z),) else np.zeros((0, 0))
    if target.shape != (len(z), len(partition.network.last[1])) or not np.isfinite(target).all():
        msg = f"y: got shape {np.shape(y)}, or values that are not finite; expected ({len(z)}, {len(partition.network.last[1])})."
        raise ValueError(msg)
    cell = partition.locate(z)
    if np.any(cell < 0):
        msg = f"points: got {int(np.sum(cell < 0))} of {len(z)} in cells that are not listed; write them into build(..., points=...)."
        raise ValueError(msg)
    size = len(partition.codes)
    _few(size)
    counts = np.bincount(cell, minlength=size).astype(float)
    left = target - partition.network.outputs(z)
    sums = np.stack([np.bincount(cell, column, size) for column in left.T], axis=1)
    stiffness = partition.stiffness().toarray()
    rough = stiffness @ (stiffness / partition.volumes[:, None])
    within = float((left**2).sum() - (sums**2 / np.maximum(counts, 1)[:, None]).sum())  # what no constant on a cell explains
    shares, vectors, scale = _pencil(counts, rough)
    weights = _GRID * scale if t is None else np.array([_weight(t)])
    tried = [_scored(weight, shares, vectors, scale, counts, sums, within, len(z)) for weight in weights]
    best = int(np.argmin([score for score, _, _ in tried]))
    score, freedom, values = tried[best]
    return Spline(partition, values, float(weights[best]), score, freedom, np.stack([weights, np.array([score for score, _, _ in tried])]))


def _pencil(counts: np.ndarray, rough: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Vectors in which counts and roughness are both diagonal: `V^t N V = diag(shares)`, `V^t R V = diag(1 - shares) / scale`."""
    scale = float(counts.sum() / max(np.trace(rough), 1e-300))
    whole = np.diag(counts) + scale * rough
    root = np.linalg.eigh(whole)
    kept = root.eigenvalues > 1e-13 * root.eigenvalues.max()
    half = root.eigenvectors[:, kept] / np.sqrt(root.eigenvalues[kept])
    shares, turn = np.linalg.eigh(half.T @ (counts[:, None] * half))
    return np.where(shares > _ZERO, np.minimum(shares, 1), 0), half @ turn, scale


def _scored(
    t: float, shares: np.ndarray, vectors: np.ndarray, scale: float, counts: np.ndarray, sums: np.ndarray, within: float, num: int
) -> tuple[float, float, np.ndarray]:
    stiff = shares + t * (1 - shares) / scale
    response = np.where(stiff > 0, 1 / np.where(stiff > 0, stiff, 1), 0)  # what data do not see and roughness does not weigh stays 0
    values = vectors @ (response[:, None] * (vectors.T @ sums))
    freedom = float((shares * response).sum())
    means = sums / np.maximum(counts, 1)[:, None]
    rss = within + float((counts[:, None] * (means - values) ** 2).sum())
    return num * rss / max(num - freedom, 1e-9) ** 2 / sums.shape[1], freedom, values


def _few(size: int) -> None:
    if size > MOST:
        msg = f"partition: got {size:,} cells; expected at most {MOST:,}, for the eigenvectors of a dense matrix."
        raise ValueError(msg)


def _weight(t: Any) -> float:
    if not (isinstance(t, (int, float, np.floating, np.integer)) and np.isfinite(t) and t >= 0):
        msg = f"t: got {t!r}; expected a number of at least 0."
        raise ValueError(msg)
    return float(t)
