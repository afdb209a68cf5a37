"""Whether one representation is an affine image of another: fitted on some probe points, scored on those held out."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from eqdyn import _checks

RIDGES = (0.0, 1e-6, 1e-4, 1e-2, 1.0)  # to choose from, in units of the mean variance of an activation
_SKETCH = 32  # directions of the target that the choice looks at
_ALONE = 1e-9


class Affine(NamedTuple):
    """An affine map between two representations, `target = matrix source + offset`.

    Fields:
        matrix: `(h1, h0)`, fitted on all probe points [target / source].
        offset: `(h1,)` [target].
        r2: of held-out points, all folds together: 1 less the squared error over that of the mean of the points that were fitted. ESTIMATE; at
            most 1, and below 0 where the map does worse than the mean.
        folds: `(F,)`, the same fold by fold.
        ridge: the weight that `matrix` was fitted with, in units of the mean variance of an activation of the source.
    """

    matrix: np.ndarray
    offset: np.ndarray
    r2: float
    folds: np.ndarray
    ridge: float

    def __call__(self, source: Any) -> np.ndarray:
        """What it makes of a representation `(n, h0)`: `(n, h1)`."""
        return np.asarray(source, np.float64) @ self.matrix.T + self.offset[None]


def affine(source: Any, target: Any, *, folds: int = 5, ridge: float | None = None, seed: int = 0) -> Affine:
    """How well one representation is an affine image of another, by cross-validation on the probe points.

        min over A, b of  sum_x |target(x) - A source(x) - b|^2 + ridge * s |A|^2,      s = sum_x |source(x) - mean|^2 / h0
        r2 = 1 - sum over held-out x of |target(x) - A source(x) - b|^2 / sum of |target(x) - mean of the fitted|^2

    ESTIMATE, of what new points of the same kind would give: each point is predicted by a map that has not seen it. Points that are copies of each
    other spoil that. Two wide networks that have learnt nothing reach a high r2 too: a number without a control says little (`two_cell` has one).
    A little weight is needed where h0 is near n, or where a unit is silent but for a point or two; none where the relation is exact: each fold
    chooses it among 0, 1e-6, 1e-4, 1e-2 and 1 by leaving out one fitted point at a time. A unit that speaks up at a held-out point alone can spoil
    a fold all the same: look at `folds`. Where directions of the source hardly vary the matrix is not determined (r2 is): those below rounding
    are left out. In float64. Time O(F (n h0^2 + h0^3)).

    Args:
        source: `(n, h0)`, one row a probe point, any unit.
        target: `(n, h1)`, the same points in the same order.
        folds: parts of the probe points, at least 2; each is held out once.
        ridge: weight on the size of the map; None chooses it, and wants h0 + 2 points or more to fit on.
        seed: of the division into folds.

    Returns:
        `Affine`.

    Raises:
        ValueError: other probe points, fewer of them than unknowns, values that are not finite, or that are the same for all points.

    Example:
        >>> import numpy as np, eqdyn as eq
        >>> x = np.random.default_rng(0).standard_normal((60, 2))
        >>> found = eq.paths.affine(x, x @ np.array([[2.0, 1.0, 1.0], [1.0, 3.0, -1.0]]) + 5.0)
        >>> np.round(found.matrix, 6).tolist(), np.round(found.offset, 6).tolist(), round(found.r2, 6)
        ([[2.0, 1.0], [1.0, 3.0], [1.0, -1.0]], [5.0, 5.0, 5.0], 1.0)
        >>> eq.paths.affine(x, np.random.default_rng(1).permutation(x)).r2 < 0.1                   # the points shuffled
        True

    References:
        Categorical Invariants of Learning Dynamics, arXiv:2510.04376 (affinely related representations); Stone, Journal of the Royal
        Statistical Society B 36 (1974) 111 (cross-validation).
    """
    x, y = pair_of(source, target, ("source", "target"))
    held = Source(x, folds, ridge, seed, "source")
    r2, each = held.held_out(y, "target")
    matrix, offset, weight = held.fit(y)
    return Affine(matrix, offset, r2, each, weight)


class Source:
    """A representation made ready to predict others: its folds, their means and principal directions."""

    def __init__(self, x: np.ndarray, folds: int, ridge: float | None, seed: int, name: str):
        folds = _checks.count(folds, "folds", least=2)
        num, width = x.shape
        fitted = num - -(-num // folds)
        least = width + 2
        if fitted < (least if not ridge else 2):
            msg = (
                f"{name}: got {num} probe points in {folds} folds, {fitted} to fit on, for {width} activations; expected {least} or more to fit on;"
                f" write a probe of {least + -(-least // (folds - 1))} points, or a weight such as ridge=1e-2."
            )
            raise ValueError(msg)
        self.weights = RIDGES if ridge is None else (float(_checks.number(ridge, "ridge", least=0.0)),)
        self.x = x
        self.parts = np.array_split(np.random.default_rng(seed).permutation(num), folds)
        self._of_folds: list[Fitted] | None = None

    def held_out(self, y: np.ndarray, name: str) -> tuple[float, np.ndarray]:
        """r2 of all held-out points, and fold by fold `(F,)`."""
        if self._of_folds is None:
            everyone = np.arange(len(self.x))
            self._of_folds = [Fitted.of(self.x, np.setdiff1d(everyone, part)) for part in self.parts]
        errors, spreads = [], []
        for part, fitted in zip(self.parts, self._of_folds, strict=True):
            matrix, offset, _ = fitted.solved(y, self.weights)
            errors.append(np.sum((y[part] - self.x[part] @ matrix.T - offset[None]) ** 2))
            spreads.append(np.sum((y[part] - y[fitted.which].mean(axis=0, keepdims=True)) ** 2))
            if not spreads[-1] > 0:
                msg = f"{name}: got activations that are the same for all {len(part)} points of a fold; expected some that vary; write fewer folds."
                raise ValueError(msg)
        return 1 - float(np.sum(errors) / np.sum(spreads)), 1 - np.array(errors) / np.array(spreads)

    def fit(self, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        """Matrix `(h1, h0)`, offset `(h1,)` and weight, from all points."""
        return Fitted.of(self.x, np.arange(len(self.x))).solved(y, self.weights)


class Fitted(NamedTuple):
    """Some of the points of a source: which, their mean, the principal directions `(h, r)` that are more than rounding, the points along these
    `(n, r)`, and the squares of that.
    """

    which: np.ndarray
    mean: np.ndarray
    directions: np.ndarray
    along: np.ndarray
    squares: np.ndarray

    @classmethod
    def of(cls, x: np.ndarray, which: np.ndarray) -> Fitted:
        some = x[which]
        mean = some.mean(axis=0)
        centred = some - mean[None]
        values, vectors = np.linalg.eigh(centred.T @ centred)
        kept = values > values[-1] * max(some.shape) * np.finfo(np.float64).eps
        return cls(which, mean, vectors[:, kept], centred @ vectors[:, kept], values[kept])

    def solved(self, y: np.ndarray, weights: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray, float]:
        some = y[self.which]
        middle = some.mean(axis=0)
        some = some - middle[None]
        products, unit = self.along.T @ some, self.squares.sum() / len(self.mean)
        weight = weights[0]
        if len(weights) > 1:
            weight = weights[int(np.argmin(self.left_out(some, products, unit * np.array(weights))))]
        matrix = (self.directions @ (products / (self.squares + weight * unit)[:, None])).T
        return matrix, middle - matrix @ self.mean, weight

    def left_out(self, some: np.ndarray, products: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """The squared error of predicting each point from all others, for each weight; of wide targets on random directions."""
        if some.shape[1] > _SKETCH:
            sketch = np.random.default_rng(0).standard_normal((some.shape[1], _SKETCH))
            some, products = some @ sketch, products @ sketch
        divided = 1 / (self.squares[:, None] + weights[None])
        left = 1 - 1 / len(some) - (self.along * self.along) @ divided
        alone = left < _ALONE  # nothing but the point itself tells of a direction: without it the mean is what remains
        told = self.along @ (divided[:, :, None] * products[:, None]).reshape(len(products), len(weights) * products.shape[1])
        rest = some[:, None] - told.reshape(len(some), len(weights), -1)
        return np.sum(np.where(alone[:, :, None], some[:, None], rest / np.where(alone, 1.0, left)[:, :, None]) ** 2, axis=(0, 2))


def pair_of(a: Any, b: Any, names: tuple[str, str], *, least: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Two representations of the same probe points."""
    x, y = (rows_of(values, name, least=least) for values, name in zip((a, b), names, strict=True))
    if len(x) != len(y):
        msg = f"{names[0]}, {names[1]}: got {len(x)} and {len(y)} probe points; expected the same points, in the same order."
        raise ValueError(msg)
    return x, y


def rows_of(values: Any, name: str, *, least: int = 3) -> np.ndarray:
    """A representation `(n, h)` that varies, in float64."""
    given = np.asarray(values)
    if given.ndim != 2 or len(given) < least or not given.shape[1] or not jnp.issubdtype(given.dtype, jnp.floating):
        msg = f"{name}: got shape {given.shape} {given.dtype}; expected real (n, h), one row a probe point, at least {least} of them."
        raise ValueError(msg)
    found = given.astype(np.float64)
    if not np.isfinite(found).all():
        msg = f"{name}: got {int((~np.isfinite(found)).sum())} activations that are not finite; expected finite ones."
        raise ValueError(msg)
    if np.all(np.ptp(found, axis=0) <= 4 * float(jnp.finfo(given.dtype).eps) * np.max(np.abs(found), axis=0)):
        msg = f"{name}: got the same activations for all {len(found)} probe points; expected some that vary: there is nothing to compare."
        raise ValueError(msg)
    return found
