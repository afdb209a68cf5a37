"""The area that a sheet sweeps between two runs, in the space of weights or of outputs."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from eqdyn import _checks
from eqdyn._types import Kind, Tree
from eqdyn.field import with_data
from eqdyn.paths._affine import between
from eqdyn.paths._asked import one_architecture, params_of
from eqdyn.paths._path import Path, both_paths
from eqdyn.paths._reparametrise import two_at_least

MEMORY = 2**31  # bytes that a sheet or its outputs may take
_COLUMNS = 2**16  # coordinates at once, in float64


class Area(float):
    """An area, as a number, and `cells` `(S - 1, T - 1)`, that of each cell of the grid.

    `kind` is "exact": of the triangles through the points of the grid. Of the smooth sheet it is an estimate that converges with the grid.
    """

    kind: Kind = "exact"
    cells: np.ndarray

    def __repr__(self) -> str:
        return f"Area({float(self):.6g}, {self.kind}, {self.cells.shape[0]} x {self.cells.shape[1]} cells)"


def sheet(a: Path, b: Path, num: int = 11) -> Tree:
    """The linear sheet between two runs, `H(s, t) = (1 - t) a(s) + t b(s)`: the parameter tree with leaves `(S, num, ...)`.

    Checkpoint by checkpoint: align (`align`) and reparametrise (`reparametrise`) the runs first.

    Raises:
        ValueError: paths of other architectures or numbers of checkpoints, or of one only.
        MemoryError: the sheet would take more than 2 GiB.

    Example:
        >>> import numpy as np, eqdyn as eq
        >>> a, b = (eq.paths.path(np.array([[0.0, y], [1.0, y]], np.float32)) for y in (0.0, 2.0))
        >>> eq.paths.sheet(a, b, 3)[:, :, 1].tolist()
        [[0.0, 1.0, 2.0], [0.0, 1.0, 2.0]]
    """
    num = _checks.count(num, "num", least=2)
    if not both_paths(a, b, ("a", "b")) or a.num != b.num:
        got = f"{a.num} and {b.num} checkpoints" if isinstance(a, Path) else f"{type(a).__name__} and {type(b).__name__}"
        msg = f"a, b: got {got}; expected two paths of one number of checkpoints; write eq.paths.reparametrise(path, by, num)."
        raise ValueError(msg)
    two_at_least(a, "a")
    one_architecture(a.params, b.params, ("a", "b"), stacked=True)
    size = num * sum(leaf.nbytes for leaf in jax.tree.leaves(a.params))
    _checks.fits_budget(size, MEMORY, "sheet", "take fewer checkpoints or a smaller num")
    with jax.enable_x64():
        rows = [between(a.params, b.params, t) for t in np.linspace(0.0, 1.0, num)]
        return jax.tree.map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves], axis=1), *rows)


def area(points: Tree, apply: Callable | None = None, data: Tree = None) -> Area:
    """The area of a sheet of networks, in weight space, or in the space of what they compute.

        area = integral sqrt(det Gram(dH/ds, dH/dt)) ds dt,      Gram_ij = <d_i H, d_j H>

    EXACT, to rounding, of the sheet of triangles through the points (the mean over both diagonals of each cell): of plane pieces that is the
    area. Of a curved sheet it is an ESTIMATE.

    Args:
        points: `sheet(a, b)`, the `curves` of an elastic `barrier`, or any tree with leaves `(S, T, ...)`.
        apply: None for weights; or `(params, data)` to an array `(n, ...)`, one row an example. The length of a change of outputs is then the
            root of its mean square over examples, so that areas do not grow with the probe set.
        data: of `apply`: the probe set.

    Returns:
        `Area`, a float [weight^2, or output^2].

    Raises:
        ValueError: leaves that are no grid of at least 2 x 2 points.
        MemoryError: outputs all over the sheet would take more than 2 GiB.

    Example:
        >>> import numpy as np, eqdyn as eq
        >>> a, b = (eq.paths.path(np.array([[0.0, y], [3.0, y]], np.float32)) for y in (0.0, 2.0))
        >>> float(eq.paths.area(eq.paths.sheet(a, b)))
        6.0

    References:
        Categorical Invariants of Learning Dynamics, arXiv:2510.04376 (the volume of a homotopy; its norm is not stated there).
    """
    points = params_of(points, "points", on_device=apply is not None)
    grids = {np.shape(leaf)[:2] for leaf in jax.tree.leaves(points)}
    if len(grids) != 1 or len(grid := grids.pop()) < 2 or min(grid) < 2:
        got = [np.shape(leaf) for leaf in jax.tree.leaves(points)][:4]
        msg = f"points: got leaves {got}; expected (S, T, ...), both at least 2; write eq.paths.sheet(a, b)."
        raise ValueError(msg)
    scale = 1.0
    if apply is not None:
        points, scale = _outputs(apply, points, data, grid)
    along_s, along_t = np.zeros((grid[0] - 1, grid[1])), np.zeros((grid[0], grid[1] - 1))
    corners = np.zeros((2, 2, grid[0] - 1, grid[1] - 1))
    for leaf in jax.tree.leaves(points):
        flat = leaf.reshape(*grid, -1)
        for first in range(0, flat.shape[2], _COLUMNS):
            x = flat[:, :, first : first + _COLUMNS].astype(np.float64)
            e, f = np.diff(x, axis=0), np.diff(x, axis=1)
            along_s += np.einsum("stp,stp->st", e, e)
            along_t += np.einsum("stp,stp->st", f, f)
            for i, j in np.ndindex(2, 2):  # the side along s at t + j, the side along t at s + i
                corners[i, j] += np.einsum("stp,stp->st", e[:, j : grid[1] - 1 + j], f[i : grid[0] - 1 + i])
    cells = np.zeros((grid[0] - 1, grid[1] - 1))
    for i, j in np.ndindex(2, 2):  # each corner is that of one triangle of one diagonal: half a parallelogram, and half for the mean
        gram = along_s[:, j : grid[1] - 1 + j] * along_t[i : grid[0] - 1 + i] - corners[i, j] ** 2
        cells += np.sqrt(np.maximum(gram, 0.0)) / 4
    found = Area(cells.sum() * scale)
    found.cells = cells * scale
    return found


def _outputs(apply: Callable, points: Tree, data: Tree, grid: tuple[int, ...]) -> tuple[Any, float]:
    """What the networks of a sheet compute, `(S, T, n, ...)`, and 1 / n."""
    call = with_data(apply, 1, "apply")
    data = _checks.batch(data) if data is not None else None
    flat = jax.tree.map(lambda leaf: leaf.reshape(grid[0] * grid[1], *leaf.shape[2:]), points)
    like = jax.eval_shape(call, jax.tree.map(lambda leaf: leaf[0], flat), data)
    if not isinstance(like, jax.ShapeDtypeStruct) or not like.shape:
        msg = f"apply: got one that returns {like}; expected an array (n, ...), one row an example."
        raise ValueError(msg)
    _checks.fits_budget(grid[0] * grid[1] * like.size * like.dtype.itemsize, MEMORY, "outputs on the sheet", "take fewer examples or a coarser grid")
    return np.asarray(_all(call, flat, data)).reshape(*grid, *like.shape), 1.0 / like.shape[0]


@functools.partial(jax.jit, static_argnames=("call",))
def _all(call: Callable, params: Tree, data: Tree) -> Any:
    return jax.lax.map(lambda one: call(one, data), params)
