"""A limit that computes something: the directions that several representations have in common, up to affine maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from eqdyn import _checks
from eqdyn.paths._relate import Fitted, rows_of


class Shared(NamedTuple):
    """What m representations of n probe points share. Agreement and what is explained are ESTIMATES, of held-out points.

    Fields:
        num: directions that all of them have: agreement at least `level`.
        level: that threshold.
        agreement: `(k,)`, of each direction that was tried, falling: held-out R^2 between what one representation says of it and what the others say
            in the mean, of the representation that does worst; from 0 to 1.
        in_sample: `(k,)`, mean R^2 with which the representations give the direction on the points that were fitted: at most 1, and above 1 / m
            by construction, so that it proves nothing by itself.
        maps, offsets: of each representation, `(num, h_i)` and `(num,)`: its reading of the shared directions is `map phi + offset`.
        coordinates: `(n, num)`, the shared representation of the probe points: the readings of all, joined; variance 1 where it was fitted.
        explained: `(m,)`, share of the variance of each representation that an affine map of the coordinates gives, held out.
        num_held_out: points that agreement and explained were measured on.
    """

    num: int
    level: float
    agreement: np.ndarray
    in_sample: np.ndarray
    maps: tuple[np.ndarray, ...]
    offsets: tuple[np.ndarray, ...]
    coordinates: np.ndarray
    explained: np.ndarray
    num_held_out: int

    def read(self, i: int, representation: Any) -> np.ndarray:
        """The shared directions `(n, num)` as the i-th task or run reads them off its own representation `(n, h_i)`."""
        return np.asarray(representation, np.float64) @ self.maps[i].T + self.offsets[i][None]


def shared_representation(
    representations: Sequence[Any], *, components: int | None = None, held_out: float = 0.3, level: float = 0.9, seed: int = 0
) -> Shared:
    """The largest space of directions that all of several representations have, up to affine maps: tasks, runs or layers on the same points.

    A limit: of the spaces of functions on the probe points that are affine in each representation, the intersection. On it the maps from all
    representations agree, which is what an equaliser asks. Found as the leading directions of the stacked, whitened representations,

        [U_1 ... U_m] = G S V^T,      U_i an orthonormal basis of representation i, centred;      S^2 = m where all of them have a direction

    on some of the points; how far the readings agree is measured on the others. EXACT for a common part without noise; where there is noise an
    ESTIMATE at the stated level. Whitening makes no difference between large and small directions: what the shared ones amount to is in `explained`.
    Two untrained networks that look at the same points share directions as well: a number says little without that of such a control.
    Time O(n w^2 + w^3), w the sum of the widths.

    Args:
        representations: two or more `(n, h_i)`, one row a probe point, the same points in the same order; any units.
        components: principal components that are kept of each; None keeps all that are more than rounding.
        held_out: the share of points that agreement is measured on; at least w + 2 points must be left to fit on, since fewer have directions in
            common by chance alone.
        level: the agreement from which a direction counts as shared.
        seed: of the choice of these points.

    Returns:
        `Shared`.

    Raises:
        ValueError: fewer than two representations, other probe points, too few of them, values that are not finite or that do not vary.

    Example:
        >>> import numpy as np, eqdyn as eq
        >>> random = np.random.default_rng(0)
        >>> common = random.standard_normal((200, 1))
        >>> first, second = (np.hstack([common, random.standard_normal((200, 2))]) @ random.standard_normal((3, 3)) for _ in range(2))
        >>> found = eq.paths.shared_representation([first, second])
        >>> found.num, np.round(found.agreement, 3).tolist()[0], bool(found.agreement[1] < 0.2)
        (1, 1.0, True)

    References:
        Categorical Invariants of Learning Dynamics, arXiv:2510.04376 (limits of tasks); Kettenring, Biometrika 58 (1971) 433 (MAXVAR); Raghu et al.,
        SVCCA, arXiv:1706.05806.
    """
    xs = _all(representations)
    components = _checks.count(components, "components", least=1) if components is not None else None
    held_out = _checks.number(held_out, "held_out", above=0.0, below=1.0)
    level = _checks.number(level, "level", above=0.0, below=1.0)
    num = len(xs[0])
    order = np.random.default_rng(seed).permutation(num)
    aside = max(3, round(held_out * num))
    test, which = order[:aside], np.sort(order[aside:])
    fitted = [_leading(Fitted.of(x, which), components) for x in xs]
    widths = [one.directions.shape[1] for one in fitted]
    if len(which) < sum(widths) + 2:
        msg = (
            f"representations: got {num} probe points, {len(which)} to fit on, for {sum(widths)} directions in all; expected {sum(widths) + 2} or"
            " more: fewer have directions in common by chance; write more probe points, or components=..."
        )
        raise ValueError(msg)
    bases = [one.along / np.sqrt(one.squares)[None] for one in fitted]
    stacked = np.concatenate(bases, axis=1)
    values, vectors = np.linalg.eigh(stacked.T @ stacked)
    some = slice(None, -min(widths) - 1, -1)
    values, directions = values[some], stacked @ vectors[:, some] / np.sqrt(values[some])[None]
    size = np.sqrt(len(which))
    maps = [one.directions @ (basis.T @ directions / np.sqrt(one.squares)[:, None]) * size for one, basis in zip(fitted, bases, strict=True)]
    readings = np.stack([(x - one.mean[None]) @ way for x, one, way in zip(xs, fitted, maps, strict=True)])
    told = readings[:, test]
    agreement = np.min([_explained(one, told.sum(0) - one) for one in told], axis=0)
    best = np.argsort(-agreement, kind="stable")
    shared = best[: int(np.sum(agreement >= level))]
    coordinates = readings[:, :, shared].sum(0) / values[None, shared]
    explained = [_held_out(coordinates, x, which, test) for x in xs]
    maps = [way[:, shared].T for way in maps]
    offsets = tuple(-way @ one.mean for way, one in zip(maps, fitted, strict=True))
    return Shared(
        len(shared), float(level), agreement[best], values[best] / len(xs), tuple(maps), offsets, coordinates, np.array(explained), len(test)
    )  # fmt: skip


def _all(representations: Any) -> list[np.ndarray]:
    if not isinstance(representations, (list, tuple, np.ndarray)) or len(representations) < 2:
        msg = f"representations: got {type(representations).__name__}; expected a list of two or more, each (n, h)."
        raise ValueError(msg)
    xs = [rows_of(one, f"representations[{i}]") for i, one in enumerate(representations)]
    if len({len(x) for x in xs}) > 1:
        msg = f"representations: got {[len(x) for x in xs][:8]} probe points; expected the same points, in the same order."
        raise ValueError(msg)
    return xs


def _leading(fitted: Fitted, components: int | None) -> Fitted:
    """Its largest principal directions; they come in rising order."""
    if components is None:
        return fitted
    last = slice(-components, None)
    return fitted._replace(directions=fitted.directions[:, last], along=fitted.along[:, last], squares=fitted.squares[last])


def _explained(one: np.ndarray, others: np.ndarray) -> np.ndarray:
    """R^2 of a line through readings `(n, k)` of the same direction; 0 where one falls as the other rises."""
    a, b = (z - z.mean(axis=0, keepdims=True) for z in (one, others))
    with np.errstate(invalid="ignore", divide="ignore"):
        r = np.sum(a * b, axis=0) / np.sqrt(np.sum(a * a, axis=0) * np.sum(b * b, axis=0))
    return np.where(r > 0, np.minimum(r, 1.0) ** 2, 0.0)


def _held_out(coordinates: np.ndarray, x: np.ndarray, which: np.ndarray, test: np.ndarray) -> float:
    """The share of x that the coordinates explain on the test points."""
    centre, mean = coordinates[which].mean(axis=0, keepdims=True), x[which].mean(axis=0, keepdims=True)
    way = np.linalg.lstsq(coordinates[which] - centre, x[which] - mean, rcond=None)[0]
    return 1 - float(np.sum((x[test] - mean - (coordinates[test] - centre) @ way) ** 2) / np.sum((x[test] - mean) ** 2))
