"""Particles out of parameter trees and back: which axes of which leaves belong to one exchangeable unit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from eqdyn import _checks
from eqdyn._types import Points, Tree, Weighted


class Leaf(NamedTuple):
    """Where units lie along an axis of one leaf: unit i holds the positions `start + i*width ... + width - 1` for each start.

    Fields:
        path, axis, shape: the leaf's place in the tree, the axis, the leaf's shape.
        starts: where the axis begins with unit 0; more than one where it holds several numbers a unit (the gates of a recurrent
            cell, the places of a flattened image).
        width: neighbouring positions that belong to one unit (the dimension of a head, where heads lie one after another).
        outgoing: whether these are weights by which the unit's value enters a sum over units; None where nobody has said, or where
            more than such sums runs over the units (a mean over them).
    """

    path: str
    axis: int
    shape: tuple[int, ...]
    starts: tuple[int, ...] = (0,)
    width: int = 1
    outgoing: bool | None = None

    def positions(self, size: int) -> np.ndarray:
        """Positions along the axis by unit, `(size, len(starts) * width)`."""
        blocks = np.asarray(self.starts)[:, None] + np.arange(self.width)
        return blocks.reshape(1, -1) + self.width * np.arange(size)[:, None]

    @property
    def rest(self) -> tuple[int, ...]:
        return self.shape[: self.axis] + self.shape[self.axis + 1 :]

    def dim(self) -> int:
        """Numbers of one unit in this leaf."""
        return math.prod(self.rest) * len(self.starts) * self.width

    def __str__(self) -> str:
        part = "" if self.starts == (0,) else f", from {', '.join(map(str, self.starts[:4]))}{', ...' * (len(self.starts) > 4)}"
        part += f", {self.width} a unit" if self.width > 1 else ""
        return f"{self.path}[axis {self.axis} of {self.shape}{part}]"


class Group(NamedTuple):
    """Which axes of which leaves belong to the same exchangeable units. Made by `from_axes`; hashable, equal by value.

    Fields:
        size: number of particles N.
        dim: numbers a particle holds, D.
        leaves: the axes, by name.

    What lies outside the group is data of U: a weight between two hidden layers belongs to particles of both groups.
    """

    size: int
    dim: int
    leaves: tuple[Leaf, ...]

    def particles(self, tree: Tree) -> Points:
        """The particles `(size, dim)`; coordinates in the order of `leaves`. Raises ValueError if the tree does not fit."""
        found = self._find(tree)
        blocks = []
        for leaf in self._own():
            rows = jnp.moveaxis(jnp.asarray(found[leaf.path]), leaf.axis, 0)
            if leaf.starts != (0,) or leaf.width > 1 or rows.shape[0] != self.size:
                rows = rows[leaf.positions(self.size)]
            blocks.append(rows.reshape(self.size, -1))
        return jnp.concatenate(blocks, axis=1)

    def with_particles(self, tree: Tree, x: Points) -> Tree:
        """The tree with its particles replaced by `x` `(size, dim)`."""
        if jnp.shape(x) != (self.size, self.dim):
            msg = f"x: got shape {jnp.shape(x)}; expected {(self.size, self.dim)}, the particles of this group."
            raise ValueError(msg)
        return self.with_units(tree, x)

    def with_units(self, tree: Tree, y: Points) -> Tree:
        """The tree with its particles replaced by any number of others, `y` `(m, dim)`: the axes of the group become m units long.

        Raises ValueError where m differs from `size` and a leaf holds weights between units of the group (a recurrent kernel).
        """
        if jnp.ndim(y) != 2 or jnp.shape(y)[1] != self.dim:
            msg = f"y: got shape {jnp.shape(y)}; expected (m, {self.dim}), particles of this group."
            raise ValueError(msg)
        new, own, at = self._find(tree), self._own(), 0
        if y.shape[0] != self.size and (self.between or len({leaf.path for leaf in own}) < len(own)):
            msg = f"y: got {y.shape[0]} particles; expected {self.size}: a leaf of this group holds its units along two axes or in two widths."
            raise ValueError(msg)
        for leaf in own:
            block = y[:, at : at + leaf.dim()].reshape(y.shape[0], len(leaf.starts), leaf.width, *leaf.rest)
            new[leaf.path] = _placed(new[leaf.path], leaf, self.size, block)
            at += leaf.dim()
        return jax.tree_util.tree_map_with_path(lambda path, old: new.get(_checks.path_name(path), old), tree)

    def permute(self, tree: Tree, perm: Any) -> Tree:
        """The tree with its units in the order `perm`: particle i of the answer is particle `perm[i]`."""
        new = self._find(tree)
        for leaf in self.leaves:
            if leaf.starts == (0,) and leaf.width == 1 and leaf.shape[leaf.axis] == self.size:
                order = jnp.asarray(perm)
            else:
                where = leaf.positions(self.size)
                order = jnp.arange(leaf.shape[leaf.axis]).at[where].set(jnp.asarray(where)[jnp.asarray(perm)])
            new[leaf.path] = jnp.take(new[leaf.path], order, axis=leaf.axis)
        return jax.tree_util.tree_map_with_path(lambda path, old: new.get(_checks.path_name(path), old), tree)

    @property
    def between(self) -> tuple[str, ...]:
        """Leaves with two axes of this group, such as recurrent kernels.

        A particle holds its numbers along the first of these axes; permuting the group relabels the coordinates along the other.
        """
        axes: dict[str, set[int]] = {}
        for leaf in self.leaves:
            axes.setdefault(leaf.path, set()).add(leaf.axis)
        return tuple(path for path, held in axes.items() if len(held) > 1)

    def _own(self) -> list[Leaf]:
        first: dict[str, int] = {}
        return [leaf for leaf in self.leaves if first.setdefault(leaf.path, leaf.axis) == leaf.axis]

    def _find(self, tree: Tree) -> dict[str, Any]:
        found = {_checks.path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
        for leaf in self.leaves:
            if leaf.path not in found:
                msg = f"tree: got leaves {sorted(found)}; expected one at {leaf.path!r}, as in the tree the group was made for."
                raise ValueError(msg)
            if jnp.shape(found[leaf.path]) != leaf.shape:
                msg = f"tree[{leaf.path}]: got shape {jnp.shape(found[leaf.path])}; expected {leaf.shape}."
                raise ValueError(msg)
        return found


def _placed(old: Any, leaf: Leaf, size: int, block: Any) -> Any:
    """The leaf with `block` `(m, starts, width, ...)` in place of its units."""
    rows, pieces, at = jnp.moveaxis(jnp.asarray(old), leaf.axis, 0), [], 0
    block = block.astype(rows.dtype)
    for k in sorted(range(len(leaf.starts)), key=leaf.starts.__getitem__):
        pieces += [rows[at : leaf.starts[k]], block[:, k].reshape(-1, *leaf.rest)]
        at = leaf.starts[k] + size * leaf.width
    whole = [piece for piece in [*pieces, rows[at:]] if piece.shape[0]]
    return jnp.moveaxis(jnp.concatenate(whole) if len(whole) > 1 else whole[0], 0, leaf.axis)


def from_axes(params: Tree, axes: Mapping[str, int]) -> Group:
    """The group of units that lie along the given axes. The axes are taken at your word: `eq.check` verifies them.

    Args:
        params: the parameter tree.
        axes: axis by path, for each leaf that belongs to the units: `{"hidden/kernel": 1, "hidden/bias": 0, "out/kernel": 0}`.

    Returns:
        `Group`; its particles join the blocks in the order given.

    Raises:
        ValueError: no leaf at a path, no such axis, or axes of different lengths.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> params = {"kernel": jnp.ones((3, 5)), "bias": jnp.ones(5), "out": jnp.ones((5, 2))}
        >>> group = eq.groups.from_axes(params, {"kernel": 1, "bias": 0, "out": 0})
        >>> group.size, group.dim, group.particles(params).shape
        (5, 6, (5, 6))
    """
    found = {_checks.path_name(path): jnp.shape(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(params)}
    leaves = []
    for path, axis in axes.items():
        if path not in found:
            msg = f"axes: got {path!r}; expected one of {sorted(found)}."
            raise ValueError(msg)
        if not -len(found[path]) <= axis < len(found[path]):
            msg = f"axes[{path!r}]: got {axis}; expected an axis of a leaf of shape {found[path]}."
            raise ValueError(msg)
        leaves.append(Leaf(path, axis % len(found[path]), found[path]))
    sizes = {leaf.shape[leaf.axis] for leaf in leaves}
    if len(sizes) != 1:
        msg = f"axes: got lengths { {leaf.path: leaf.shape[leaf.axis] for leaf in leaves} }; expected one length along all axes."
        raise ValueError(msg)
    size = sizes.pop()
    return from_leaves(size, leaves)


def from_leaves(size: int, leaves: Sequence[Leaf]) -> Group:
    """The group of `size` units that lie at the given places; a leaf with two axes in the group counts once in the particles."""
    made = Group(size, 0, tuple(leaves))
    return made._replace(dim=sum(leaf.dim() for leaf in made._own()))


def rows(x: Any) -> Any:
    """The group of the rows of an array or a `Weighted`: what `group=None` means."""
    points = x.x if isinstance(x, Weighted) else x
    if not hasattr(points, "ndim"):
        msg = f"group: got None for x of type {type(x).__name__}; expected a Group for a tree; write eq.groups.from_axes(x, {{path: axis}})."
        raise TypeError(msg)
    return Rows(*np.shape(points))


class Rows(NamedTuple):
    """Rows of an array, with the interface of `Group`; the weight of a `Weighted` goes with them."""

    size: int
    dim: int

    def particles(self, x: Tree) -> Points:
        return x.x if isinstance(x, Weighted) else x

    def with_particles(self, x: Tree, points: Points) -> Tree:
        return x._replace(x=points) if isinstance(x, Weighted) else points

    def permute(self, x: Tree, perm: Any) -> Tree:
        return jax.tree.map(lambda leaf: jnp.take(leaf, jnp.asarray(perm), axis=0), x)


def resolve(group: Any, x: Tree) -> dict[str, Any]:
    """The groups asked for, by name: `group=None` is the rows of an array, one `Group` is called "particles"."""
    if group is None:
        return {"particles": rows(x)}
    groups = dict(group) if isinstance(group, Mapping) else {"particles": group}
    if not groups:
        msg = "group: got an empty dict; expected at least one Group; write {'hidden': eq.groups.from_axes(params, axes)}."
        raise ValueError(msg)
    for name, one in groups.items():
        if not isinstance(one, (Group, Rows)):
            msg = f"group[{name!r}]: got {type(one).__name__}; expected a Group; write eq.groups.from_axes(params, axes)."
            raise TypeError(msg)
        one.particles(x)
    return groups
