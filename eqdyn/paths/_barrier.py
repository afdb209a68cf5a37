"""How high the loss rises between two networks, or between two whole runs: the linear sheet, then an elastic one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from eqdyn import _checks
from eqdyn._types import Kind, Tree
from eqdyn.field import with_data
from eqdyn.paths._align import align
from eqdyn.paths._asked import loss_like, one_architecture, params_of, row
from eqdyn.paths._elastic import Elastic, asked, relaxed
from eqdyn.paths._grid import MEMORY, along, on_sheets
from eqdyn.paths._path import Path, all_paths, both_paths
from eqdyn.paths._reparametrise import WAYS, common, two_at_least


class Barrier(float):
    """A barrier, in units of the loss: a number, and the sheet on which it was found.

    Fields:
        kind: "upper": some sheet between the two is no higher than this, at the points that were looked at.
        losses: on the sheet, `(S, T)` by s and t, or `(T,)` between two trees; on an elastic one at `2 refine` points a piece.
        excess: `losses` less the higher of the two ends, at each s.
        where: the place of the largest excess in `losses`.
        perms: the permutations by which the second was aligned, in the container of the groups; None without groups.
        curves: of an elastic sheet its points, the parameter tree with leaves `(S, T, ...)` or `(T, ...)`; else None.
    """

    kind: Kind = "upper"
    losses: np.ndarray
    excess: np.ndarray
    where: tuple[int, ...]
    perms: Any = None
    curves: Tree = None

    def __repr__(self) -> str:
        return f"Barrier({float(self):.6g}, {self.kind}, at {self.where} of {self.losses.shape})"


def barrier(
    loss: Callable, a: Any, b: Any, groups: Any = None, num: int = 11, *, data: Tree = None, by: str | None = "loss", activations: Any = None,
    restarts: int = 0, elastic: Elastic | None = None,
) -> Barrier:  # fmt: skip
    """How far the loss rises above the ends on the way from one network to another, or on a sheet from one run to another.

        H(s, t) = (1 - t) a(s) + t b(s),     e(s, t) = L(H) - max(L(a(s)), L(b(s))),     barrier = max(0, max e)

    UPPER bound on the least barrier of all sheets between the two, up to the resolution of the grid. 0 says that the two are connected at the
    points that were looked at; a barrier says that they are not connected within the searched family: straight lines, or with `elastic` the
    curves that an optimizer came to. It never says that no path exists. A loss that is not finite between the ends counts as infinite.

    Args:
        loss: `(params)` or `(params, data)` to a number; jittable. What is affine in the parameters in front of the first nonlinearity (the products
            with the data) is computed at the ends only.
        a, b: two parameter trees, or two `Path`s.
        groups: None compares them as they are; a `Group`, a list or a dict of them aligns b to a first (`align`), paths by their ends.
        num: points along t, and for paths along s.
        data: handed to the loss.
        by: which moments of two runs are compared: those of equal "loss", "length" of way or "time" (`reparametrise`); None for checkpoint against
            checkpoint. With "loss", from the higher of the two starts to the lower of the two least losses; these are the told ones where
            both runs have them all, else both are computed.
        activations, restarts: of `align`.
        elastic: how to bend a sheet that is not flat (`Elastic`); None leaves it straight.

    Returns:
        `Barrier`, a float [loss], 0 or more.

    Raises:
        ValueError: other architectures, no groups in common, one checkpoint only, values or losses at the ends that are not finite.
        TypeError: a path and a tree; leaves that are no real floating arrays.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> well = lambda x: jnp.sum((x**2 - 1) ** 2)
        >>> float(eq.paths.barrier(well, -jnp.ones(1, jnp.float32), jnp.ones(1, jnp.float32)))
        1.0

    References:
        Frankle et al., arXiv:1912.05671 (linear barriers); Ainsworth et al., arXiv:2209.04836; sheets between runs stand in for the homotopies of
        arXiv:2510.04376, which are trivial in parameter space.
    """
    loss, num = with_data(loss, 1, "loss"), _checks.count(num, "num", least=2)
    asked(elastic, num)
    data = _checks.batch(data) if data is not None else None
    paths = both_paths(a, b, ("a", "b"))
    a, b = _runs([a, b], ("a", "b"), paths, loss, data)
    perms = None
    if groups is not None:
        b, perms = align(a, b, groups, activations=activations, restarts=restarts)
    one, other = _rows(loss, [a, b], ("a", "b"), by, num, data)
    losses = on_sheets(loss, one, [other], num, data, 1)[0]
    _ends_finite(losses, ("a", "b"))
    found = _barrier(losses, paths)
    if elastic is not None and found > elastic.above:
        bent, curves = relaxed(loss, one, other, num, data, elastic)
        found = _barrier(bent, paths)
        found.curves = curves if paths else jax.tree.map(lambda leaf: leaf[0], curves)
    found.perms = perms
    return found


def barriers(
    loss: Callable, runs: Sequence[Any], groups: Any = None, num: int = 11, *, data: Tree = None, by: str | None = "loss", restarts: int = 0,
    elastic: Elastic | None = None, memory: float = MEMORY, progress: bool | None = None,
) -> np.ndarray:  # fmt: skip
    """The barriers between all pairs of runs or networks: what `classes` takes. Symmetric by construction: of each pair the later one is aligned.

    As `barrier`, pair by pair, with two differences: the compiled program goes through many pairs, and with `by="loss"` the levels of all runs
    are the same. Memory: the runs at `num` moments on the host, a chunk of them on the device.

    Args:
        loss, groups, num, data, by, restarts: as in `barrier`.
        runs: parameter trees or `Path`s, R of one architecture.
        elastic: bends the sheets whose linear barrier is above `elastic.above`.
        memory: bytes of parameters on the device at once.
        progress: True for a bar.

    Returns:
        `(R, R)` float64 [loss], upper bounds, 0 on the diagonal.

    Raises:
        ValueError, TypeError: as in `barrier`; fewer than two runs.

    Example:
        >>> import numpy as np, jax.numpy as jnp, eqdyn as eq
        >>> well = lambda x: jnp.sum((x**2 - 1) ** 2)
        >>> eq.paths.barriers(well, [np.array([v], np.float32) for v in (-1, 1, 1)]).tolist()
        [[0.0, 1.0, 1.0], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]
    """
    loss, num = with_data(loss, 1, "loss"), _checks.count(num, "num", least=2)
    asked(elastic, num)
    data = _checks.batch(data) if data is not None else None
    if isinstance(runs, Path) or len(runs) < 2:
        msg = f"runs: got {type(runs).__name__} of {1 if isinstance(runs, Path) else len(runs)}; expected two parameter trees or paths, or more."
        raise ValueError(msg)
    names = [f"runs[{k}]" for k in range(len(runs))]
    paths = all_paths(runs, "runs")
    held = _runs(runs, names, paths, loss, data)
    rows = _rows(loss, held, names, by, num, data)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(rows[0]))
    room = max(1, min(len(rows) - 1, int(memory // size)))
    todo: Any = range(len(rows) - 1)
    if progress:
        from tqdm import tqdm

        todo = tqdm(todo, desc="barriers")
    found = np.zeros((len(rows), len(rows)))
    for i in todo:
        for first in range(i + 1, len(rows), room):
            which = range(first, min(first + room, len(rows)))
            others = [_aligned(rows[i], rows[j], groups, restarts) for j in which]
            losses = on_sheets(loss, rows[i], others, num, data, room)
            for j, one, other in zip(which, losses, others, strict=True):
                _ends_finite(one, (names[i], names[j]))
                value = float(_barrier(one, paths))
                if elastic is not None and value > elastic.above:
                    value = float(_barrier(relaxed(loss, rows[i], other, num, data, elastic)[0], paths))
                found[i, j] = found[j, i] = value
    return found


def _runs(runs: Sequence[Any], names: Sequence[str], paths: bool, loss: Callable, data: Tree) -> list[Any]:
    """The runs, of one architecture, which the loss takes."""
    trees = [params_of(run.params if paths else run, name, on_device=True) for run, name in zip(runs, names, strict=True)]
    for tree, name in zip(trees[1:], names[1:], strict=True):
        one_architecture(trees[0], tree, (names[0], name), stacked=paths)
    _checks.hashable(loss, "loss")
    loss_like(loss, row(trees[0], -1) if paths else trees[0], data)
    return [run._replace(params=tree) for run, tree in zip(runs, trees, strict=True)] if paths else trees


def _rows(loss: Callable, runs: Sequence[Any], names: Sequence[str], by: str | None, num: int, data: Tree) -> list[Tree]:
    """Each run as a tree with leaves `(S, ...)`, at the moments that are compared; S is 1 for single networks."""
    if not isinstance(runs[0], Path):
        return [jax.tree.map(lambda leaf: np.asarray(leaf)[None], run) for run in runs]
    if by not in (*WAYS, None):
        msg = f"by: got {by!r}; expected {', '.join(map(repr, WAYS))} or None."
        raise ValueError(msg)
    for run, name in zip(runs, names, strict=True):
        two_at_least(run, name)
    if by is None and len({run.num for run in runs}) > 1:
        msg = f"by: got None with paths of {[run.num for run in runs][:8]} checkpoints; expected one number, or by='loss', 'length' or 'time'."
        raise ValueError(msg)
    if by == "loss":
        if any(np.isnan(run.losses).any() for run in runs):  # one loss for all
            runs = [run._replace(losses=along(loss, run.params, data)) for run in runs]
        for run, name in zip(runs, names, strict=True):
            if not np.isfinite(run.losses).all():
                msg = f"{name}: got a loss that is not finite at checkpoint {int(np.argmin(np.isfinite(run.losses)))}; expected finite ones."
                raise ValueError(msg)
    return [run.params for run in common(runs, by, num)]


def _aligned(reference: Tree, params: Tree, groups: Any, restarts: int) -> Tree:
    """Rows of one run aligned to those of another by their ends."""
    if groups is None:
        return params
    rest = np.zeros(jax.tree.leaves(params)[0].shape[0] - 1), np.zeros(jax.tree.leaves(params)[0].shape[0])
    return align(Path(reference, *rest), Path(params, *rest), groups, restarts=restarts).params.params


def _ends_finite(losses: np.ndarray, names: tuple[str, str]) -> None:
    for column, name in zip((0, -1), names, strict=True):
        bad = ~np.isfinite(losses[:, column])
        if bad.any():
            msg = f"{name}: got a loss that is not finite at s = {int(np.argmax(bad))} of {len(bad)}; expected finite losses of what is compared."
            raise ValueError(msg)


def _barrier(losses: np.ndarray, paths: bool) -> Barrier:
    """From losses `(S, T)`."""
    losses = np.where(np.isnan(losses), np.inf, losses)
    excess = losses - np.maximum(losses[:, :1], losses[:, -1:])
    found = Barrier(max(0.0, float(excess.max())))
    found.losses, found.excess = (losses, excess) if paths else (losses[0], excess[0])
    found.where = tuple(int(k) for k in np.unravel_index(int(np.argmax(found.excess)), found.excess.shape))
    return found
