"""The stationary density of noisy descent whose noise and metric vary over the parameters, on a grid in one or two dimensions.

    dp/dt = d_m(gamma p g^mn d_n L) + (gamma^2 / 2) d_m d_n(kappa_up^mn p),   kappa_up = g^-1 kappa g^-1,   g = (kappa + eps I)^alpha

Ito, flat volume, as the discrete update is.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from eqdyn import _checks
from eqdyn.covariant.bowl import alpha_of


class Density(NamedTuple):
    """On a grid.

    Fields:
        grid: the places along each axis, `d` arrays.
        density: `(n_1, ..., n_d)`, its sum times the cell's volume is 1.
        residual: largest rate of change that is left, over the largest term of it.
    """

    grid: tuple[np.ndarray, ...]
    density: np.ndarray
    residual: float


def fokker_planck(
    gradient: Callable, kappa: Callable, step_size: float, alpha: float, *, box: Sequence[tuple[float, float]], num: int = 101, eps: float = 0.0,
) -> Density:  # fmt: skip
    """The stationary solution of the Fokker-Planck equation with walls that reflect. ESTIMATE: of first order in the step size (the discrete
    update has corrections of relative order `step_size * rate`), and of second order in the grid's spacing.

    Args:
        gradient: `q (m, d) -> (m, d)`, of the loss.
        kappa: `q (m, d) -> (m, d, d)`, covariance of the gradient noise.
        step_size: gamma.
        alpha: 0 to 1.
        box: `(low, high)` of each axis, d = 1 or 2.
        num: places along each axis.
        eps: damping of kappa.

    Raises:
        ValueError: another dimension, or functions that give other shapes.

    Example:
        >>> import numpy as np, eqdyn as eq
        >>> found = eq.covariant.fokker_planck(lambda q: q, lambda q: np.ones((len(q), 1, 1)), 0.1, 0.0, box=[(-2, 2)])
        >>> x, p = found.grid[0], found.density
        >>> round(float(np.sum(p * x**2) / np.sum(p)), 4)                            # gamma c / 2
        0.05
    """
    from scipy import sparse
    from scipy.sparse.linalg import spsolve

    gamma, exponent = float(_checks.number(step_size, "step_size", above=0)), alpha_of(alpha)
    dim, num = len(box), _checks.count(num, "num", least=5)
    if dim not in (1, 2):
        msg = f"box: got {dim} axes; expected one or two."
        raise ValueError(msg)
    grid = tuple(np.linspace(low, high, num) for low, high in box)
    q = np.stack(np.meshgrid(*grid, indexing="ij"), -1).reshape(-1, dim)
    slope, noise = np.asarray(gradient(q), float), np.asarray(kappa(q), float)
    if slope.shape != q.shape or noise.shape != (*q.shape, dim):
        msg = f"gradient, kappa: got shapes {slope.shape} and {noise.shape} for {q.shape}; expected {q.shape} and {(*q.shape, dim)}."
        raise ValueError(msg)
    values, vectors = np.linalg.eigh(noise)
    inverse = np.einsum("mij,mj,mkj->mik", vectors, (np.maximum(values, 0) + eps) ** -exponent, vectors)
    drift = -gamma * np.einsum("mij,mj->mi", inverse, slope)
    spread = gamma**2 / 2 * inverse @ noise @ inverse
    places = np.arange(len(q)).reshape((num,) * dim)
    rows, columns, entries = [], [], []

    def flow(source: np.ndarray, target: np.ndarray, rate: np.ndarray, of: np.ndarray) -> None:
        """Density at `of` moves from `source` to `target` at `rate`."""
        for where, sign in ((source, -1), (target, 1)):
            rows.append(where)
            columns.append(of)
            entries.append(sign * rate)

    for axis in range(dim):
        h = grid[axis][1] - grid[axis][0]
        here, there = (np.take(places, range(k, num - 1 + k), axis=axis).ravel() for k in (0, 1))
        # J = drift p - d(spread p) at the face, exponentially fitted
        b = (drift[here, axis] + drift[there, axis]) / 2
        mean = (spread[here, axis, axis] + spread[there, axis, axis]) / 2
        peclet = b * h / mean
        for of, sign in ((here, 1), (there, -1)):
            weight = _bernoulli(-sign * peclet) * spread[of, axis, axis] / h**2
            flow(here, there, sign * weight, of)
        if dim == 2:  # - d_n(spread_mn p) along the other axis, at the face, by central differences
            other = 1 - axis
            width = grid[other][1] - grid[other][0]
            ahead, back = (_moved(places, other, k) for k in (1, -1))
            for of, sign in itertools.product((here, there), (1, -1)):
                at = (ahead if sign > 0 else back)[of]
                at = np.where(at >= 0, at, of)  # mirrored at a wall
                flow(here, there, -sign * spread[at, axis, other] / (4 * h * width), at)
    size = len(q)
    matrix = sparse.csr_matrix((np.concatenate(entries), (np.concatenate(rows), np.concatenate(columns))), (size, size))
    cell = np.prod([axis[1] - axis[0] for axis in grid])
    whole = matrix.tolil()
    whole[0] = cell
    right = np.zeros(size)
    right[0] = 1.0
    density = spsolve(whole.tocsc(), right)
    left = np.abs(matrix @ density).max() / max(float((abs(matrix) @ np.abs(density)).max()), np.finfo(float).tiny)
    return Density(grid, density.reshape((num,) * dim), float(left))


def _bernoulli(x: np.ndarray) -> np.ndarray:
    """`x / (exp(x) - 1)`, 1 at 0."""
    small = np.abs(x) < 1e-6
    safe = np.where(small, 1.0, x)
    return np.where(small, 1 - x / 2, safe / np.expm1(np.clip(safe, -700, 700)))


def _moved(places: np.ndarray, axis: int, by: int) -> np.ndarray:
    """For every place its neighbour along an axis, -1 beyond the wall, by number."""
    moved = np.full(places.shape, -1)
    to: list[Any] = [slice(None)] * places.ndim
    come = list(to)
    to[axis], come[axis] = (slice(0, -1), slice(1, None)) if by > 0 else (slice(1, None), slice(0, -1))
    moved[tuple(to)] = places[tuple(come)]
    return moved.ravel()
