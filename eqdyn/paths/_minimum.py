"""Persistence of a minimum: how its loss lies around it on random planes and in a ball, and how several minima join."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from eqdyn import _checks, topology
from eqdyn._types import Key, Tree
from eqdyn.groups import Group

_AT_ONCE = 16  # networks side by side


class Persistence(NamedTuple):
    """Total persistence around one minimum. ESTIMATE: it depends on the directions drawn, the size and the resolution, which are stated.

    Fields:
        totals: `(k, degrees)`, the sum of death - birth over the bars that die, of each plane (or of the ball), in units of the loss.
        ranges: `(k,)`, highest less lowest finite loss that was seen.
        diagrams: `k` of `topology.Sublevels`.
        losses: `(k, num, num)` on planes, `(1, num)` in a ball, the minimum first.
        radius, num: the size, relative to the parameters, and the resolution.
    """

    totals: np.ndarray
    ranges: np.ndarray
    diagrams: tuple[topology.Sublevels, ...]
    losses: np.ndarray
    radius: float
    num: int

    @property
    def total(self) -> float:
        """Mean over planes of the total over degrees, in units of the loss."""
        return float(self.totals.sum(1).mean())

    @property
    def normalised(self) -> float:
        """Mean over planes of the total over the range of the loss; no unit. 0 where the loss is constant."""
        share = self.totals.sum(1) / np.where(self.ranges > 0, self.ranges, 1)
        return float(share.mean())


def planes(
    loss: Callable, params: Tree, *, groups: Any = None, data: Tree = None, num_planes: int = 4, num: int = 25, radius: float = 1.0, key: Key
) -> Persistence:
    """Sublevel persistence of the loss on random planes through a minimum, degrees 0 and 1. ESTIMATE.

    Directions are normal, the second at right angles to the first, and scaled to the parameters: particle by particle where groups are given (a
    weight that belongs to two groups as the later one says), leaf by leaf outside them. Losses that are not finite count as the highest that is.

    Args:
        loss: `(params)`, or `(params, data)`, to a number; jittable.
        params: the minimum, a tree of floating arrays.
        groups: None, a `Group`, a list or a dict of them.
        data: handed to the loss.
        num_planes: planes.
        num: points along each axis of a plane, odd ones hold the minimum itself.
        radius: half the side of a plane, in units of the parameters' own size.
        key: of the directions.

    Returns:
        `Persistence`.

    Raises:
        ValueError: counts, a radius or parameters that make no sense, or a minimum without a finite loss.

    Example:
        >>> import jax, jax.numpy as jnp, eqdyn as eq
        >>> bowl = lambda x: jnp.sum(x**2)
        >>> eq.paths.planes(bowl, jnp.ones(5), num_planes=2, num=9, key=jax.random.key(0)).total      # no other well
        0.0

    References:
        Li et al., Visualizing the loss landscape, arXiv:1712.09913; Categorical Invariants of Learning Dynamics, arXiv:2510.04376.
    """
    num_planes, num = _checks.count(num_planes, "num_planes", least=1), _checks.count(num, "num", least=3)
    radius, at, own = _asked(loss, params, groups, data, radius, key)
    steps = jnp.linspace(-radius, radius, num)
    losses = np.stack([np.asarray(_plane(loss, own, at, data, one, steps), np.float64) for one in jax.random.split(key, num_planes)])
    diagrams = tuple(topology.sublevel_grid(_finite(plane)) for plane in losses)
    return _record(losses, diagrams, 2, radius, num)


def ball(
    loss: Callable, params: Tree, *, groups: Any = None, data: Tree = None, num: int = 256, neighbours: int = 8, radius: float = 0.5, key: Key
) -> Persistence:
    """Degree 0 of the sublevel sets of the loss on points drawn in a ball about a minimum, each joined to its nearest. ESTIMATE.

    Points are `minimum + radius u^(1/D) * direction`, directions as in `planes`, u uniform; the graph joins each to its `neighbours` nearest, either
    way.

    Args:
        loss, params, groups, data, key: as in `planes`.
        num: points, with the minimum.
        neighbours: of each in the graph.
        radius: of the ball, in units of the parameters' own size.

    Returns:
        `Persistence`, of one row.

    Raises:
        ValueError: as `planes`, or as many neighbours as points.

    Example:
        >>> import jax, jax.numpy as jnp, eqdyn as eq
        >>> found = eq.paths.ball(lambda x: jnp.sum(x**2), jnp.ones(2), num=200, neighbours=12, key=jax.random.key(0))
        >>> found.losses.shape, found.normalised < 0.1
        ((1, 200), True)

    References:
        Categorical Invariants of Learning Dynamics, arXiv:2510.04376, of which this is a reading.
    """
    from scipy.spatial import cKDTree

    num = _checks.count(num, "num", least=3)
    neighbours = _checks.count(neighbours, "neighbours", least=1)
    if neighbours >= num:
        msg = f"neighbours: got {neighbours} of {num} points; expected fewer."
        raise ValueError(msg)
    radius, at, own = _asked(loss, params, groups, data, radius, key)
    dim = sum(leaf.size for leaf in jax.tree.leaves(at))
    near, far = jax.random.split(key)
    share = radius * jax.random.uniform(near, (num - 1,)) ** (1 / dim)

    found, cloud = _cloud(loss, own, at, data, jax.random.split(far, num - 1), share)
    losses = np.r_[float(_value(loss, data, at)), np.asarray(found, np.float64)][None]
    middle = np.concatenate([np.asarray(leaf, np.float64).ravel() for leaf in jax.tree.leaves(at)])
    places = np.concatenate([middle[None], np.asarray(cloud, np.float64)])
    nearest = cKDTree(places).query(places, k=neighbours + 1)[1][:, 1:]
    edges = np.stack([np.repeat(np.arange(num), neighbours), nearest.ravel()], axis=1)
    return _record(losses, (topology.sublevel_graph(_finite(losses[0]), edges),), 1, radius, num)


def merge_tree(losses: Any, barriers: Any) -> topology.Sublevels:
    """How minima join as the level rises: born at their losses, joined at `max(L_i, L_j) + barrier_ij` or by way of others below. Degree 0.

    Deaths are UPPER bounds as the barriers are; EXACT for these.

    Args:
        losses: `(n,)`, of the minima.
        barriers: `(n, n)`, symmetric, as `barriers` gives them, above the higher of two ends; infinite for none found.

    Raises:
        ValueError: arrays that do not fit.

    Example:
        >>> import eqdyn as eq
        >>> tree = eq.paths.merge_tree([0.0, 0.5], [[0.0, 1.0], [1.0, 0.0]])
        >>> tree.bars[0].tolist()
        [[0.5, 1.5]]
    """
    at, height = np.asarray(losses, np.float64), np.asarray(barriers, np.float64)
    if at.ndim != 1 or height.shape != (len(at), len(at)) or not np.array_equal(height, height.T) or not np.all(height >= 0):
        msg = f"barriers: got shapes {at.shape} and {height.shape}; expected (n,) and (n, n), symmetric and at least 0."
        raise ValueError(msg)
    i, j = np.triu_indices(len(at), 1)
    return topology.sublevel_graph(at, np.stack([i, j], axis=1), levels=np.maximum(at[i], at[j]) + height[i, j])


def _asked(loss: Callable, params: Tree, groups: Any, data: Tree, radius: float, key: Key) -> tuple[float, Tree, tuple[Group, ...]]:
    _checks.hashable(loss, "loss")
    size = _checks.number(radius, "radius", above=0.0)
    _checks.key(key)
    _checks.needs_key(key, "directions are drawn")
    at = jax.tree.map(lambda leaf: _checks.floating(leaf, "params"), params)
    _checks.finite(at, "params")
    if groups is None:
        own: tuple[Group, ...] = ()
    elif isinstance(groups, Group):
        own = (groups,)
    elif isinstance(groups, Mapping):
        own = tuple(groups.values())
    elif isinstance(groups, Sequence):
        own = tuple(groups)
    else:
        msg = f"groups: got {type(groups).__name__}; expected None, a Group, or a list or dict of them."
        raise TypeError(msg)
    if not np.isfinite(float(_value(loss, data, at))):
        msg = "params: got a minimum whose loss is not finite."
        raise ValueError(msg)
    return size, at, own


def _value(loss: Callable, data: Tree, params: Tree) -> jax.Array:
    return loss(params) if data is None else loss(params, data)


def _direction(at: Tree, groups: tuple[Group, ...], key: Key, across: Tree = None) -> Tree:
    """Normal, at right angles to `across`, as long as the parameters: leaf by leaf, then particle by particle of each group."""
    leaves, form = jax.tree.flatten(at)
    drawn = [jax.random.normal(one, leaf.shape, leaf.dtype) for one, leaf in zip(jax.random.split(key, len(leaves)), leaves, strict=True)]
    if across is not None:  # in few dimensions two directions may be near each other: a valley across the grid, with minima that are the grid's
        share = _inner(drawn, other := jax.tree.leaves(across)) / _inner(other, other)
        drawn = [d - share.astype(d.dtype) * o for d, o in zip(drawn, other, strict=True)]
    sizes = [_size(d) for d in drawn]
    way = jax.tree.unflatten(form, [d * (_size(leaf) / jnp.where(size > 0, size, 1)) for d, size, leaf in zip(drawn, sizes, leaves, strict=True)])
    for group in groups:
        rows, own = group.particles(way), group.particles(at)
        length = jnp.linalg.norm(rows, axis=1, keepdims=True)
        scaled = rows * (jnp.linalg.norm(own, axis=1, keepdims=True) / jnp.where(length > 0, length, 1))
        way = group.with_particles(way, scaled)
    return way


def _inner(a: list, b: list) -> jax.Array:
    parts = [jnp.sum(x * y) for x, y in zip(a, b, strict=True)]
    return sum(part.astype(parts[0].dtype) for part in parts[1:]) + parts[0]


def _size(leaf: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.sum(leaf**2))


@functools.partial(jax.jit, static_argnames=("loss", "groups"))
def _plane(loss: Callable, groups: tuple[Group, ...], at: Tree, data: Tree, key: Key, steps: jax.Array) -> jax.Array:
    """The loss on a plane, `(num, num)`."""
    first, second = jax.random.split(key)
    one = _direction(at, groups, first)
    other = _direction(at, groups, second, across=one)

    def value(place: jax.Array) -> jax.Array:
        return _value(loss, data, jax.tree.map(lambda a, b, c: a + place[0].astype(a.dtype) * b + place[1].astype(a.dtype) * c, at, one, other))

    places = jnp.stack(jnp.meshgrid(steps, steps, indexing="ij"), axis=-1).reshape(-1, 2)
    return jax.lax.map(value, places, batch_size=_AT_ONCE).reshape(len(steps), len(steps))


@functools.partial(jax.jit, static_argnames=("loss", "groups"))
def _cloud(loss: Callable, groups: tuple[Group, ...], at: Tree, data: Tree, keys: Key, share: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Losses of points in a ball, and the points `(num - 1, D)`."""

    def place(item: tuple[Key, jax.Array]) -> tuple[jax.Array, jax.Array]:
        one, size = item
        moved = jax.tree.map(lambda a, b: a + size.astype(a.dtype) * b, at, _direction(at, groups, one))
        return _value(loss, data, moved), jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(moved)])

    return jax.lax.map(place, (keys, share), batch_size=_AT_ONCE)


def _finite(values: np.ndarray) -> np.ndarray:
    known = np.isfinite(values)
    return np.where(known, values, values[known].max())


def _record(losses: np.ndarray, diagrams: tuple[topology.Sublevels, ...], degrees: int, radius: float, num: int) -> Persistence:
    totals = np.array([[found.total(degree) for degree in range(degrees)] for found in diagrams])
    finite = [values[np.isfinite(values)] for values in losses]
    return Persistence(totals, np.array([np.ptp(values) for values in finite]), diagrams, losses, radius, num)
