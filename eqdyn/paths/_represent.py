"""What a run computes: its representations on fixed probe points, checkpoint by checkpoint, and which neighbours they keep."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from eqdyn import _checks
from eqdyn._types import Tree
from eqdyn.paths._asked import row
from eqdyn.paths._path import Path

MEMORY = 2**31  # bytes that the representations of a run may take on the host
_TILE = 512  # rows of the matrix of distances at once
_NUMBERS = 2**22  # coordinates of differences at once


def representations(features: Callable, path: Path, probe: Tree, *, rows: int | None = None, memory: float = MEMORY) -> np.ndarray:
    """The representations of a run: activations on fixed probe points at each checkpoint, `phi_k(x) = features(params_k, x)`.

    The functor from paths to representations. EXACT test of functoriality: one program makes each checkpoint by itself, so that the
    representations of a composed path are those of its parts, one after the other, bit for bit. That holds by construction; what a run does to
    neighbours (`violation_rate`) and whether two runs are related (`two_cell`) does not. Memory on the device: one checkpoint.

    Args:
        features: `(params, probe) -> (n, h)`, one row a probe point, any unit; jittable. Usually the activations before the last layer.
        path: the run, T checkpoints.
        probe: the points, a tree with leaves `(n, ...)`; the same for all checkpoints, and for all runs that are to be compared.
        rows: probe points at once; None takes all. With a number, features must treat each point by itself (no batch statistics): not checked.
        memory: bytes that the answer may take.

    Returns:
        `(T, n, h)`, in the dtype of the features, on the host.

    Raises:
        ValueError: features of another shape, or that are not finite at a checkpoint.
        TypeError: no `Path`, or features that are not real floating numbers.
        MemoryError: an answer over the budget.

    Example:
        >>> import numpy as np, jax.numpy as jnp, eqdyn as eq
        >>> run = eq.paths.path(np.array([[[1.0, 0.0]], [[1.0, -1.0]]], np.float32))                       # two checkpoints of weights (1, 2)
        >>> relu = lambda w, z: jnp.maximum(z @ w, 0)
        >>> eq.paths.representations(relu, run, np.array([[1.0], [-2.0]], np.float32)).tolist()
        [[[1.0, 0.0], [0.0, 0.0]], [[1.0, 0.0], [0.0, 2.0]]]

    References:
        Categorical Invariants of Learning Dynamics, arXiv:2510.04376 (training as a functor to representations).
    """
    ready = Features.of(features, path, probe, rows)
    size = path.num * ready.shape[0] * ready.shape[1] * np.dtype(ready.dtype).itemsize
    _checks.fits_budget(size, memory, "representations", "take fewer checkpoints or probe points, or memory=...")
    found = np.empty((path.num, *ready.shape), ready.dtype)
    for k, one in enumerate(ready.along(path, "path")):
        found[k] = one
    return found


class Features(NamedTuple):
    """A feature map and its probe points, checked: what makes representations one by one."""

    features: Callable
    parts: tuple[Tree, ...]
    shape: tuple[int, int]
    dtype: Any

    @classmethod
    def of(cls, features: Callable, path: Any, probe: Tree, rows: int | None) -> Features:
        if not isinstance(path, Path):
            msg = f"path: got {type(path).__name__}; expected a Path; write eq.paths.path(checkpoints), or eq.paths.identity(params) for one network."
            raise TypeError(msg)
        _checks.hashable(features, "features")
        probe = _checks.batch(probe, "probe")
        lengths = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(probe)}
        if len(lengths) != 1 or lengths & {(), (0,)}:
            msg = f"probe: got leaves with first axes {sorted(lengths)}; expected one length n >= 1, one row a probe point."
            raise ValueError(msg)
        num = lengths.pop()[0]
        step = num if rows is None else _checks.count(rows, "rows", least=1)
        parts = tuple(jax.tree.map(operator.itemgetter(slice(k, k + step)), probe) for k in range(0, num, step))
        like: Any = [jax.eval_shape(features, path.start, part) for part in parts[:1] + parts[-1:]]
        for found, part in zip(like, (parts[0], parts[-1]), strict=True):
            length = len(jax.tree.leaves(part)[0])
            if not isinstance(found, jax.ShapeDtypeStruct) or found.shape[:1] != (length,) or len(found.shape) != 2 or not found.shape[1]:
                got = jax.tree.map(lambda leaf: leaf.shape, found)
                msg = f"features: got {got} for {length} probe points; expected ({length}, h), one row each; write .reshape(len(z), -1)."
                raise ValueError(msg)
        if not jnp.issubdtype(like[0].dtype, jnp.floating):
            msg = f"features: got dtype {like[0].dtype}; expected a real floating dtype; write .astype('float32')."
            raise TypeError(msg)
        return cls(features, parts, (num, like[0].shape[1]), like[0].dtype)

    def along(self, path: Path, name: str) -> Iterator[np.ndarray]:
        """`(n, h)` of each checkpoint."""
        for k in range(path.num):
            yield self.at(row(path.params, k), f"{name}, at checkpoint {k}")

    def at(self, params: Tree, name: str) -> np.ndarray:
        found = np.concatenate([np.asarray(_one(self.features, params, part)) for part in self.parts])
        bad = int((~np.isfinite(found)).sum())
        if bad:
            msg = f"features of {name}: got {bad} activations that are not finite; expected finite ones; leave out what comes after a run diverged."
            raise ValueError(msg)
        return found


@functools.partial(jax.jit, static_argnames=("features",))
def _one(features: Callable, params: Tree, probe: Tree) -> jax.Array:
    return features(params, probe)


class Violations(NamedTuple):
    """How many neighbours of the start a run has torn apart. EXACT for the probe points.

    Fields:
        rates: `(T,)`, share of the pairs that are near at the start and are not any more; 0 at the start itself.
        num_near: pairs that are near at the start.
        k: what near means: a distance below k [activation].
    """

    rates: np.ndarray
    num_near: int
    k: float


def violation_rate(representations: Any, k: float) -> Violations:
    """The share of pairs of probe points that are neighbours at the start and are not later.

        rate_t = #{i < j : |phi_0(x_i) - phi_0(x_j)| < k  and  |phi_t(x_i) - phi_t(x_j)| > k} / #{i < j : |phi_0(x_i) - phi_0(x_j)| < k}

    The testable part of the functor's k-neighbourhood condition. EXACT, to the rounding of one distance: pairs whose side of k products of
    activations leave open are decided by differences. It is not free of units: a representation that grows by a factor violates, although
    it tears nothing apart; compare at a k in the activations' own unit, or divide each checkpoint by its size first. Time O(T n^2 h), memory
    O(n h) and an n^2 / 16 bytes.

    Args:
        representations: `(T, n, h)`, T and n at least 2, as `representations` makes them.
        k: the distance [activation], > 0; a tenth of the pairs is near with `np.quantile(scipy.spatial.distance.pdist(phi[0]), 0.1)`.

    Returns:
        `Violations`.

    Raises:
        ValueError: one checkpoint only, activations that are not finite, or no pair that is near at the start.

    Example:
        >>> import numpy as np, eqdyn as eq
        >>> phi = np.array([[[0.0], [1.0], [3.0]], [[0.0], [0.5], [3.0]], [[0.0], [2.5], [3.0]]])
        >>> found = eq.paths.violation_rate(phi, k=2.2)                   # near at the start: the first two pairs in a row
        >>> found.rates.tolist(), found.num_near
        ([0.0, 0.5, 0.5], 2)

    References:
        Categorical Invariants of Learning Dynamics, arXiv:2510.04376 (the k-neighbourhood condition on paths).
    """
    phi = np.asarray(representations)
    if phi.ndim != 3 or phi.shape[0] < 2 or phi.shape[1] < 2 or not phi.shape[2] or not jnp.issubdtype(phi.dtype, jnp.floating):
        msg = (
            f"representations: got shape {phi.shape} {phi.dtype}; expected real (T, n, h) of at least two checkpoints and two probe points;"
            " write eq.paths.representations(features, path, probe)."
        )
        raise ValueError(msg)
    if not np.isfinite(phi).all():
        msg = f"representations: got activations that are not finite at checkpoint {_first_bad(phi)}; expected finite ones."
        raise ValueError(msg)
    k = _checks.number(k, "k", above=0.0)
    near = [np.packbits(tile) for tile in _tiles(phi[0], k, closer=True)]
    num_near = sum(int(np.bitwise_count(tile).sum()) for tile in near)
    if not num_near:
        msg = f"k: got {k:g}, and no two of {phi.shape[1]} probe points are nearer at the start; expected a larger distance, or more points."
        raise ValueError(msg)
    torn = [0]
    for one in phi[1:]:
        far = (np.packbits(tile) for tile in _tiles(one, k, closer=False))
        torn.append(sum(int(np.bitwise_count(a & b).sum()) for a, b in zip(near, far, strict=True)))
    return Violations(np.asarray(torn) / num_near, num_near, k)


def _first_bad(phi: np.ndarray) -> int:
    return int(np.argmin([np.isfinite(one).all() for one in phi]))


def _tiles(points: np.ndarray, k: float, *, closer: bool) -> Iterator[np.ndarray]:
    """Tile by tile of the upper triangle, flat: whether a pair is closer than k, or farther."""
    scale = 2.0 ** np.frexp(max(float(np.max(np.abs(points))), k))[1]  # exact; squares do not overflow
    points, k = points.astype(np.float64) / scale, k / scale
    x = points - points.mean(axis=0, keepdims=True)
    squares = np.sum(x * x, axis=1)
    doubt = 8 * (x.shape[1] + 8) * np.finfo(np.float64).eps * (2 * squares.max() + k * k)
    for first in range(0, len(x), _TILE):
        excess = x[first : first + _TILE] @ x[first:].T
        excess *= -2
        excess += squares[first : first + _TILE, None] - k * k
        excess += squares[None, first:]
        answer = (excess < 0) if closer else (excess > 0)
        i, j = np.nonzero(np.abs(excess, out=excess) <= doubt)
        step = max(1, _NUMBERS // x.shape[1])
        for at in range(0, len(i), step):
            a, b = i[at : at + step], j[at : at + step]
            apart = np.sqrt(np.sum((points[first + a] - points[first + b]) ** 2, axis=1))
            answer[a, b] = (apart < k) if closer else (apart > k)
        yield np.triu(answer, 1).ravel()
