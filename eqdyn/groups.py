"""Particles out of parameter trees and back: which axes of which leaves belong to one exchangeable unit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from eqdyn import _checks
from eqdyn._types import Points, Tree, Weighted


class Leaf(NamedTuple):
    """One leaf of a tree, the axis along which its units lie, and its shape."""

    path: str
    axis: int
    shape: tuple[int, ...]


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
        return jnp.concatenate([jnp.moveaxis(found[leaf.path], leaf.axis, 0).reshape(self.size, -1) for leaf in self.leaves], axis=1)

    def with_particles(self, tree: Tree, x: Points) -> Tree:
        """The tree with its particles replaced by `x` `(size, dim)`."""
        if jnp.shape(x) != (self.size, self.dim):
            msg = f"x: got shape {jnp.shape(x)}; expected {(self.size, self.dim)}, the particles of this group."
            raise ValueError(msg)
        return self.with_units(tree, x)

    def with_units(self, tree: Tree, y: Points) -> Tree:
        """The tree with its particles replaced by any number of others, `y` `(m, dim)`: the axes of the group become m long."""
        if jnp.ndim(y) != 2 or jnp.shape(y)[1] != self.dim:
            msg = f"y: got shape {jnp.shape(y)}; expected (m, {self.dim}), particles of this group."
            raise ValueError(msg)
        found, start, new = self._find(tree), 0, {}
        for leaf in self.leaves:
            width = math.prod(leaf.shape) // self.size
            rest = leaf.shape[: leaf.axis] + leaf.shape[leaf.axis + 1 :]
            block = y[:, start : start + width].reshape(y.shape[0], *rest).astype(found[leaf.path].dtype)
            new[leaf.path], start = jnp.moveaxis(block, 0, leaf.axis), start + width
        return jax.tree_util.tree_map_with_path(lambda path, old: new.get(_checks.path_name(path), old), tree)

    def permute(self, tree: Tree, perm: Any) -> Tree:
        """The tree with its units in the order `perm`: particle i of the answer is particle `perm[i]`."""
        self._find(tree)
        axes = {leaf.path: leaf.axis for leaf in self.leaves}

        def leaf(path: Any, old: Any) -> Any:
            axis = axes.get(_checks.path_name(path))
            return old if axis is None else jnp.take(old, jnp.asarray(perm), axis=axis)

        return jax.tree_util.tree_map_with_path(leaf, tree)

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
    return Group(size, sum(math.prod(leaf.shape) // size for leaf in leaves), tuple(leaves))


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
