"""The structures of a metric: what is averaged of the gradients, how its inverse is made of that, how that moves a force.

Each has `start(params)`, `square(deviation)` (or `grown(second, deviation, tau)`), `made(second, power)` and `moved(inverse, force)`. What belongs to
single particles has the shape of the parameters, so that it follows them when they are permuted; what they share does not.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from eqdyn import _checks
from eqdyn._types import Points, Tree
from eqdyn.covariant import _powers
from eqdyn.groups import Group, Leaf


class Power(NamedTuple):
    """How a second moment becomes an inverse metric."""

    alpha: Any
    eps: float
    inside: bool

    def is_none(self) -> bool:
        """Whether the metric is flat, whatever kappa is."""
        return isinstance(self.alpha, float) and self.alpha == 0

    def of_values(self, v: jax.Array) -> jax.Array:
        return _powers.inverse_metric(v, self.alpha, self.eps, inside=self.inside)

    def of_matrices(self, s: jax.Array) -> jax.Array:
        return _powers.matrix_inverse_metric(s, self.alpha, self.eps, inside=self.inside)


class Diagonal(NamedTuple):
    """One number a coordinate, O(P)."""

    def start(self, params: Tree) -> Tree:
        return jax.tree.map(jnp.zeros_like, params)

    def square(self, f: Tree) -> Tree:
        return jax.tree.map(lambda a: a * a, f)

    def made(self, second: Tree, power: Power) -> Tree:
        return jax.tree.map(lambda v: power.of_values(jnp.maximum(v, 0)), second)

    def moved(self, inverse: Tree, force: Tree) -> Tree:
        return jax.tree.map(jnp.multiply, inverse, force)


class Shared(NamedTuple):
    """One D x D metric for all particles of a group, the mean over them; coordinates outside all groups as in `Diagonal`."""

    groups: tuple[Group, ...] | None

    def rows(self, tree: Tree) -> list[Points]:
        return [tree] if self.groups is None else [group.particles(tree) for group in self.groups]

    def start(self, params: Tree) -> Tree:
        self.fits(params)
        shared = [jnp.zeros((1, rows.shape[1], rows.shape[1]), rows.dtype) for rows in self.rows(params)]
        return shared, jax.tree.map(jnp.zeros_like, self.others(params))

    def square(self, f: Tree) -> Tree:
        outer = [(rows.T @ rows / rows.shape[0])[None] for rows in self.rows(f)]
        return outer, jax.tree.map(lambda a: a * a, self.others(f))

    def made(self, second: Tree, power: Power) -> Tree:
        shared, others = second
        return [power.of_matrices(s) for s in shared], jax.tree.map(lambda v: power.of_values(jnp.maximum(v, 0)), others)

    def moved(self, inverse: Tree, force: Tree) -> Tree:
        shared, others = inverse
        if self.groups is None:
            return force @ shared[0][0]
        for group, metric in zip(self.groups, shared, strict=True):
            force = _turned(group, force, metric[0])
        return jax.tree_util.tree_map_with_path(
            lambda path, leaf: leaf * others[name] if (name := _checks.path_name(path)) in others else leaf, force
        )

    def others(self, tree: Tree) -> dict[str, jax.Array]:
        """Leaves of no group, by name."""
        if self.groups is None:
            return {}
        held = {leaf.path for group in self.groups for leaf in group.leaves}
        named = {_checks.path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
        return {name: leaf for name, leaf in named.items() if name not in held}

    def fits(self, params: Tree) -> None:
        if self.groups is None:
            if not (hasattr(params, "ndim") and params.ndim == 2):
                msg = "params: got a tree, or an array not of rows; expected particles (n, d); write groups=[...], as networks.find_groups gives."
                raise TypeError(msg)
            return
        seen: set[str] = set()
        for group in self.groups:
            paths = {leaf.path for leaf in group.leaves}
            if seen & paths:
                msg = (
                    f"groups: got two that hold {sorted(seen & paths)[0]!r}; expected groups without a leaf in common: "
                    "write groups.from_axes with the incoming weights of each alone."
                )
                raise ValueError(msg)
            seen |= paths
        self.rows(params)


def _turned(group: Group, tree: Tree, matrix: jax.Array) -> Tree:
    """The tree with its particles times a symmetric matrix. Where most numbers lie with particles along the last axis they stay so: to turn
    them over costs a fair part of the product.
    """
    largest = max(group.leaves, key=Leaf.dim)
    plain = all(leaf.starts == (0,) and leaf.width == 1 and leaf.shape[leaf.axis] == group.size for leaf in group.leaves)
    if largest.axis == 0 or not plain or len({leaf.path for leaf in group.leaves}) < len(group.leaves):
        return group.with_particles(tree, group.particles(tree) @ matrix)
    held = {_checks.path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
    columns = [jnp.moveaxis(held[leaf.path], leaf.axis, -1).reshape(-1, group.size) for leaf in group.leaves]
    product, at, new = matrix @ jnp.concatenate(columns), 0, {}
    for leaf in group.leaves:
        block = product[at : at + leaf.dim()].reshape(*leaf.rest, group.size)
        new[leaf.path], at = jnp.moveaxis(block, -1, leaf.axis), at + leaf.dim()
    return jax.tree_util.tree_map_with_path(lambda path, old: new.get(_checks.path_name(path), old), tree)


class Own(NamedTuple):
    """A D x D metric for every particle `(n, d)`, kept column by column, each of the shape of x: it follows its particle. O(N D^2)."""

    def start(self, params: Tree) -> Tree:
        Shared(None).fits(params)
        return (jnp.zeros_like(params),) * params.shape[1]

    def square(self, f: Points) -> Tree:
        return tuple(f * column[:, None] for column in f.T)

    def made(self, second: Tree, power: Power) -> Tree:
        return tuple(jnp.moveaxis(power.of_matrices(jnp.stack(second, axis=2)), 2, 0))

    def moved(self, inverse: Tree, force: Points) -> Points:
        return sum(column * f[:, None] for column, f in zip(inverse, force.T, strict=True))


class Full(NamedTuple):
    """One P x P metric over all coordinates, O(P^2), O(P^3) a refresh."""

    def start(self, params: Tree) -> jax.Array:
        flat, _ = ravel_pytree(params)
        return jnp.zeros((flat.size, flat.size), flat.dtype)

    def square(self, f: Tree) -> jax.Array:
        flat, _ = ravel_pytree(f)
        return jnp.outer(flat, flat)

    def made(self, second: jax.Array, power: Power) -> jax.Array:
        return power.of_matrices(second)

    def moved(self, inverse: jax.Array, force: Tree) -> Tree:
        flat, back = ravel_pytree(force)
        return back(inverse @ flat)


class LowRank(NamedTuple):
    """The `rank` strongest directions, and one number for all others: what was left out of them, spread evenly. O(P r).

    A direction is kept times the root of its second moment, in the shape of the parameters: it follows them.
    """

    rank: int

    def start(self, params: Tree) -> Tree:
        rank = min(self.rank, sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params)))
        return (jax.tree.map(jnp.zeros_like, params),) * rank, jnp.zeros((), jax.tree.leaves(params)[0].dtype)

    def grown(self, second: Tree, deviation: Tree, tau: float) -> Tree:
        kept, rest = second
        beta = _powers.decay_of(tau)
        flat, back = ravel_pytree(deviation)
        table = jnp.stack([math.sqrt(beta) * ravel_pytree(one)[0] for one in kept] + [math.sqrt(1 - beta) * flat])  # (rank + 1, P)
        values, vectors = jnp.linalg.eigh(table @ table.T)
        turned = vectors[:, ::-1].T @ table  # descending
        rest = beta * rest + jnp.maximum(values[0], 0)
        return tuple(back(turned[k]) for k in range(len(kept))), rest

    def made(self, second: Tree, power: Power) -> Tree:
        kept, rest = second
        flat = jnp.stack([ravel_pytree(one)[0] for one in kept])
        values = jnp.sum(flat * flat, axis=1)
        rank, num = flat.shape
        spread = rest / max(1, num - rank)
        outside = power.of_values(spread)
        # g^-1 = outside * I + sum_k (inside_k - outside) u_k u_k^t, u_k = row / |row|
        scale = jnp.where(values > 0, (power.of_values(jnp.maximum(values, spread)) - outside) / jnp.where(values > 0, values, 1), 0)
        return kept, scale, outside

    def moved(self, inverse: Tree, force: Tree) -> Tree:
        kept, scale, outside = inverse
        flat, back = ravel_pytree(force)
        directions = jnp.stack([ravel_pytree(one)[0] for one in kept])
        return back(outside * flat + (scale * (directions @ flat)) @ directions)


Metric = Any  # one of the above


def grown(metric: Metric, second: Tree, deviation: Tree, tau: float) -> Tree:
    """The average of a metric's second moment, one step on."""
    return metric.grown(second, deviation, tau) if isinstance(metric, LowRank) else _powers.averaged(second, metric.square(deviation), tau)


def read_at_every_step(metric: Metric) -> bool:
    """Whether a second moment is read between two refreshes, too: an outer product is cheap beside a mean of them, or an eigendecomposition."""
    return isinstance(metric, Full)


def scaled(metric: Metric, second: Tree, weight: jax.Array) -> Tree:
    """A second moment over the weight that its average has so far."""
    if not isinstance(metric, LowRank):
        return jax.tree.map(lambda v: v / weight, second)
    kept, rest = second
    return jax.tree.map(lambda v: v / jnp.sqrt(weight), kept), rest / weight
