"""Merged neurons folded into one: the smaller network, and how far its outputs can be from those of the whole one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from eqdyn import _checks
from eqdyn._types import Tree
from eqdyn.groups import Group


class Compression(NamedTuple):
    """A network with merged units folded into one.

    Fields:
        params: the smaller tree.
        units: for each unit of the whole network the unit of the small one that stands for it, `(N,)`.
        size: units left, the effective width at this tolerance.
        distance: for each unit, how far its incoming weights are from those of the one that stands for it, `(N,)`.
        change: `sum_i |outgoing_i| |incoming_i - incoming of the one that stands for it|`.
    """

    params: Tree
    units: np.ndarray
    size: int
    distance: np.ndarray
    change: float

    def bound(self, inputs: Any, *, lipschitz: float = 1.0, bias: bool = True) -> np.ndarray:
        """An upper bound on the change of the sums that the units enter, row by row of what enters the units, `(n, d)`.

        For units `phi(<w, z> + b)` and `|phi(s) - phi(t)| <= lipschitz |s - t|` (1 for ReLU and tanh, 1/4 for the sigmoid), the sums
        `sum_i a_i phi(<w_i, z> + b_i)` change by at most `lipschitz * |(z, 1)| * change`; in a network with one hidden layer these are
        the outputs. Rounding comes on top; where `change` is 0 only rounding is left, whatever the units compute.
        """
        norms = np.linalg.norm(np.asarray(inputs, np.float64), axis=-1)
        return lipschitz * self.change * np.sqrt(norms**2 + float(bias))


def compress(params: Tree, group: Group, tol: float = 0.0, *, outgoing: Sequence[str] | None = None) -> Compression:
    """Folds units whose incoming weights agree within `tol` into one, with the summed outgoing weights.

    The first unit of a cluster stands for the others and keeps its incoming weights; units that differ only in what goes out are folded
    too, since they compute the same. With `tol=0` the outputs stay, to rounding.

    Args:
        params: the parameter tree.
        group: the units; one made by `find_groups` knows which weights go out.
        tol: largest distance of incoming weights, in their own units.
        outgoing: paths of the leaves that hold outgoing weights, for a group written by hand.

    Returns:
        `Compression`: `.params`, `.units`, `.size` and a bound (upper) on the change of the output.

    Raises:
        ValueError: nobody has said which weights go out, something besides sums with weights runs over the units (a normalisation), or
            the weights between the units of the group themselves (a recurrent kernel) would have to be folded.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> params = {"w": jnp.array([[1.0, 1.0, 2.0]]), "out": jnp.array([3.0, 4.0, 5.0])}
        >>> apply = lambda params, z: jnp.tanh(z @ params["w"]) @ params["out"]
        >>> (group,) = eq.networks.find_groups(apply, params, jnp.ones((2, 1)))
        >>> small = eq.networks.compress(params, group)
        >>> small.size, small.units.tolist(), small.params["out"].tolist(), small.change
        (2, [0, 0, 1], [7.0, 5.0], 0.0)
    """
    tol = float(_checks.number(tol, "tol", least=0.0))
    going = _going_out(group, outgoing)
    x = np.asarray(group.particles(params))
    incoming, sums = x[:, ~going].astype(np.float64), x[:, going].astype(np.float64)
    leaders, units = _clusters(incoming, tol)
    distance = np.linalg.norm(incoming - incoming[leaders[units]], axis=1)
    folded = np.zeros((len(leaders), sums.shape[1]))
    np.add.at(folded, units, sums)
    y = np.empty((len(leaders), x.shape[1]), x.dtype)
    y[:, ~going], y[:, going] = x[leaders][:, ~going], folded
    change = float(np.sum(np.linalg.norm(sums, axis=1) * distance))
    return Compression(group.with_units(params, jnp.asarray(y)), units, len(leaders), distance, change)


def _going_out(group: Group, outgoing: Sequence[str] | None) -> np.ndarray:
    """Which coordinates of a particle are outgoing weights, `(D,)`."""
    if group.between:
        msg = f"group: got units with weights between themselves ({', '.join(group.between)}); expected units that only feed others."
        raise ValueError(msg)
    paths = [leaf.path for leaf in group.leaves]
    if outgoing is not None:
        if not set(outgoing) <= set(paths):
            msg = f"outgoing: got {sorted(set(outgoing) - set(paths))}; expected some of {paths}, the leaves of this group."
            raise ValueError(msg)
        told = [leaf.path in outgoing for leaf in group.leaves]
    elif any(leaf.outgoing is None for leaf in group.leaves):
        msg = (
            f"group: got leaves {paths} without a word on which weights go out, or units over which more than sums with weights runs;"
            " expected a group of eq.networks.find_groups for which it is known; write outgoing=[paths] for one made by hand."
        )
        raise ValueError(msg)
    else:
        told = [bool(leaf.outgoing) for leaf in group.leaves]
    if not any(told):
        msg = f"group: got no outgoing weights among {paths}; expected some, to be summed."
        raise ValueError(msg)
    return np.repeat(told, [leaf.dim() for leaf in group.leaves])


def _clusters(x: np.ndarray, tol: float) -> tuple[np.ndarray, np.ndarray]:
    """The first unit of each cluster, and the cluster of each unit: nobody is further than `tol` from the first."""
    units = np.full(len(x), -1)
    leaders: list[int] = []
    for i in range(len(x)):
        if units[i] < 0:
            near = np.flatnonzero((units < 0) & (np.linalg.norm(x - x[i], axis=1) <= tol))
            units[near] = len(leaders)
            leaders.append(i)
    return np.asarray(leaders), units


def effective_width(params: Tree, group: Group, tol: float = 0.0, *, outgoing: Sequence[str] | None = None) -> int:
    """How many units are left when those whose incoming weights agree within `tol` are folded: `compress(...).size`.

    Exact for the stated clusters (each within `tol` of its first unit). Takes what `compress` takes, and raises as it does.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> params = {"w": jnp.array([[1.0, 1.1, 2.0]]), "out": jnp.array([3.0, 4.0, 5.0])}
        >>> group = eq.groups.from_axes(params, {"w": 1, "out": 0})
        >>> [eq.networks.effective_width(params, group, tol, outgoing=["out"]) for tol in (0.0, 0.2, 2.0)]
        [3, 2, 1]
    """
    tol = float(_checks.number(tol, "tol", least=0.0))
    x = np.asarray(group.particles(params))
    return len(_clusters(x[:, ~_going_out(group, outgoing)].astype(np.float64), tol)[0])
