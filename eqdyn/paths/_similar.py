"""How alike two representations are up to rotations: linear centred kernel alignment, and the orthogonal Procrustes distance."""

from __future__ import annotations

from typing import Any

import numpy as np

from eqdyn.paths._relate import pair_of


def cka(a: Any, b: Any, *, unbiased: bool = False) -> float:
    """Linear centred kernel alignment of two representations of the same points, no unit.

        cka = |Y^T X|_F^2 / (|X^T X|_F |Y^T Y|_F),     X, Y centred

    EXACT for the probe points, in float64. 1 for a copy that is rotated, reflected, scaled and moved, at most; other affine images have less.
    Independent representations of h activations each have about h / (n + h), not 0: with `unbiased` an ESTIMATE of their population's value,
    whose mean is near 0 for independent ones (each of its three terms is unbiased, their ratio nearly); it can be negative. Large directions
    count most. Time O(n h0 h1).

    Args:
        a: `(n, h0)`, one row a probe point, any unit.
        b: `(n, h1)`, the same points in the same order.
        unbiased: leave out what a point has in common with itself; n at least 4.

    Raises:
        ValueError: other probe points, values that are not finite, or that are the same for all points.

    Example:
        >>> import numpy as np, eqdyn as eq
        >>> x = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
        >>> round(eq.paths.cka(x, 3 * x[:, ::-1] + 1), 6), round(eq.paths.cka(x, x[:, :1]), 6)
        (1.0, 0.707107)

    References:
        Kornblith et al., arXiv:1905.00414; unbiased: Song et al., Journal of Machine Learning Research 13 (2012) 1393, as Nguyen et al.,
        arXiv:2010.15327, put it to use.
    """
    x, y = (_unit(rows) for rows in pair_of(a, b, ("a", "b"), least=4 if unbiased else 3))
    inner = _inner_unbiased if unbiased else _inner
    own = inner(x, x) * inner(y, y)
    if not own > 0:
        msg = "a, b: got representations whose points have nothing in common, pair by pair; expected more probe points; write unbiased=False."
        raise ValueError(msg)
    return inner(x, y) / own**0.5


def _unit(rows: np.ndarray) -> np.ndarray:
    """Centred, of norm 1."""
    centred = rows - rows.mean(axis=0, keepdims=True)
    centred = centred / np.max(np.abs(centred))
    return centred / np.linalg.norm(centred)


def _inner(x: np.ndarray, y: np.ndarray) -> float:
    """`<K, L>` of the kernels `K = X X^T`, `L = Y Y^T`, without making them where they are larger than what they come from."""
    if len(x) < min(x.shape[1], y.shape[1]):
        return float(np.sum((x @ x.T) * (y @ y.T)))
    return float(np.sum((y.T @ x) ** 2))


def _inner_unbiased(x: np.ndarray, y: np.ndarray) -> float:
    """The unbiased form, of kernels with their diagonals left out; up to a factor that cancels."""
    n = len(x)
    own = np.sum(x * x, axis=1), np.sum(y * y, axis=1)
    rows = tuple(z @ z.sum(axis=0) - diagonal for z, diagonal in zip((x, y), own, strict=True))
    whole = rows[0].sum() * rows[1].sum() / ((n - 1) * (n - 2))
    return float(_inner(x, y) - own[0] @ own[1] + whole - 2 / (n - 2) * (rows[0] @ rows[1]))


def procrustes(a: Any, b: Any, *, scaled: bool = True) -> float:
    """The orthogonal Procrustes distance of two representations of the same points: what no rotation or reflection takes away.

        distance = min over orthogonal Q of |X - Y Q|_F,     X, Y centred, and of norm 1 where `scaled`; the narrower padded with zeros

    EXACT for the probe points, in float64. A metric up to rotations, reflections and shifts (and the scale); scaled it lies between 0, for copies,
    and the root of 2. Time O(n h^2 + h^3).

    Args:
        a: `(n, h0)`, one row a probe point, any unit.
        b: `(n, h1)`, the same points in the same order.
        scaled: whether the size is taken out; if not the distance is in units of the activations.

    Raises:
        ValueError: other probe points, values that are not finite, or that are the same for all points.

    Example:
        >>> import numpy as np, eqdyn as eq
        >>> x = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
        >>> round(eq.paths.procrustes(x, 3 * x[:, ::-1] + 1), 6), round(eq.paths.procrustes(x, x[:, :1]), 6)
        (0.0, 0.765367)

    References:
        Schoenemann, Psychometrika 31 (1966) 1; Ding, Denain, Steinhardt, arXiv:2108.01661; Williams et al., arXiv:2110.14739.
    """
    x, y = pair_of(a, b, ("a", "b"))
    x, y = (_unit(rows) if scaled else rows - rows.mean(axis=0, keepdims=True) for rows in (x, y))
    width = max(x.shape[1], y.shape[1])
    x, y = (np.pad(rows, ((0, 0), (0, width - rows.shape[1]))) for rows in (x, y))
    left, _, right = np.linalg.svd(y.T @ x)
    return float(np.linalg.norm(x - y @ (left @ right)))  # the residual itself: from the singular values it would lose half of the digits
