"""Fields: energies, pair kernels and mean fields, turned into rules, with the velocity of tracers where it is known.

A field is what particles feel. It moves the particles that make it (`force`) and massless tracers in it (`at`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from eqdyn import _tiles
from eqdyn._types import Key, Points, Tree
from eqdyn._value import arity, bind
from eqdyn.rule import Rule, Update, no_state, points_of, velocity, weight_of

TILE_BYTES = 2**26  # what one tile of an all-pairs sum may take
_TILE_TRACERS = 512  # tracers at once: what they feel of each input of a batch stays in the cache, several lanes of it too


class Field(NamedTuple):
    """How particles are moved and how tracers would be.

    Fields:
        force: `(x, data) -> (u, info)`, U of all particles.
        at: `(y, x, data) -> v`, the velocity of tracers `y` `(m, d)` in the field of `x`; None where it is not known.
    """

    force: Callable[[Tree, Tree], tuple[Tree, Tree]]
    at: Callable[[Points, Tree, Tree], Points] | None = None


class Info(NamedTuple):
    """What an energy shows of a step: the loss at x, and the norm of U (for gradient descent, that of the gradient)."""

    loss: jax.Array
    force_norm: jax.Array


def norm(tree: Tree) -> jax.Array:
    return jnp.sqrt(sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(tree)))


def with_data(call: Callable, num_inputs: int, what: str, *, drop: bool = False) -> Callable:
    """`call(*inputs, data)`, for a user's function that may leave the data out; data that nobody takes is an error unless `drop`."""
    if arity(call, num_inputs + 1, what) == num_inputs + 1:
        return call
    return bind(_without_data, call, what, drop)


def _without_data(call: Callable, what: str, drop: bool, *inputs_and_data: Any, **keywords: Any) -> Any:
    *inputs, data = inputs_and_data
    if data is not None and not drop:
        msg = f"data: got a batch, but {what} takes none; expected data=None; write it with data as its last argument."
        raise TypeError(msg)
    return call(*inputs, **keywords)


def energy(loss: Callable, *, weighted: bool = False) -> Field:
    """The field of an energy, `U = -grad L`.

        black box   U_i = -dL/dx_i,            L(x, data)
        weighted    U_i = -(1/w_i) dL/dx_i,    L(x, weight, data)
        tracers     v(y) = -grad_y d/deps L(x + {y}; weight + {eps}) at eps = 0        (first variation; weighted only)

    Exact up to rounding. At a particle the tracer's velocity is that of the particle.

    Args:
        loss: `(x, data) -> scalar`, or `(x, weight, data) -> scalar` with `weighted=True`; the data may be left out. A weighted
            loss must count row i as `weight[i]` particles; that is not checked here (`measure.equivariance` and the tests of
            the first variation see it).
        weighted: whether the loss takes weights. It then works for any number of rows.

    Raises:
        TypeError: the loss takes another number of arguments.
    """
    if weighted:
        loss = with_data(loss, 2, "loss with weighted=True")
        return Field(bind(_weighted_force, loss), bind(_first_variation, loss))
    return Field(bind(_force, with_data(loss, 1, "loss")))


def _force(loss: Callable, x: Tree, data: Tree) -> tuple[Tree, Info]:
    value, gradient = jax.value_and_grad(loss)(points_of(x), data)
    u = jax.tree.map(jnp.negative, gradient)
    return velocity(x, u), Info(value, norm(u))


def _weighted_force(loss: Callable, x: Tree, data: Tree) -> tuple[Tree, Info]:
    if not hasattr(points_of(x), "shape"):
        msg = f"x: got {type(x).__name__} for a loss with weighted=True; expected particles in rows, an array (n, d) or eq.Weighted."
        raise TypeError(msg)
    weight = weight_of(x)
    value, gradient = jax.value_and_grad(loss)(points_of(x), weight, data)
    u = -gradient / weight[:, None]
    return velocity(x, u), Info(value, norm(u))


def _first_variation(loss: Callable, y: Points, x: Tree, data: Tree) -> Points:
    # All tracers at once: at eps = 0 none of them is felt by the others, so one derivative along eps = (t, ..., t) serves all.
    points, weight = points_of(x), weight_of(x)

    def pull(eps: jax.Array) -> Points:
        def of_tracers(y: Points) -> jax.Array:
            return loss(jnp.concatenate([points, y]), jnp.concatenate([weight, jnp.full(y.shape[:1], eps)]), data)

        return jax.grad(of_tracers)(y)

    zero = jnp.zeros((), points.dtype)
    return -jax.jvp(pull, (zero,), (jnp.ones_like(zero),))[1]


def additive(summary: Callable, head: Callable, *, group: Any = None) -> Field:
    """The field of an energy that sees its particles through a sum, `L = head(s)`, `s = sum_k w_k phi(x_k)`: any layer of a network.

        force       U_i = -(1/w_i) dL/dx_i
        tracers     v(y) = -grad_y <d head/d s, phi(y)>          the field that backpropagation brings to the layer, held fixed

    The same as the first variation, from one backward pass; nothing of the Gauss-Newton part is formed. Exact up to rounding. That
    `summary` is a sum over its particles is not checked here (`measure.equivariance` and the probe at the particles see it).

    Args:
        summary: rows: `(x (n, d), weight (n,), data) -> s`, any tree of arrays, linear in `weight`, for any number of rows. With a
            group: `(params, data) -> s`, for any number of units (the next layer's inputs before its nonlinearity).
        head: rows: `(s, data) -> scalar`; with a group `(s, params, data) -> scalar`, where `params` serve the layers above and
            the group's own leaves must not be read.
        group: None for rows; else the `Group` of units in a parameter tree. Tracers are then such units, `(m, group.dim)`.

    Raises:
        TypeError: a function of another number of arguments.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> bump = eq.field.additive(lambda x, weight: weight @ jnp.sin(x), lambda s: jnp.sum(s**2) / 2)
        >>> x = jnp.array([[0.0], [1.0]])
        >>> rule = eq.rules.from_field(bump)
        >>> bool(jnp.allclose(rule.probe(x, (), x, ()).u, rule.update(x, ()).u))
        True

    References:
        Derived; the additive form of a layer, and the frozen field of its particles.
    """
    num, more = (2, 1) if group is None else (1, 2)
    one_takes_it = arity(summary, num + 1, "summary") == num + 1 or arity(head, more + 1, "head") == more + 1
    summary, head = with_data(summary, num, "summary", drop=one_takes_it), with_data(head, more, "head", drop=one_takes_it)
    if group is None:
        return Field(bind(_additive_force, summary, head), bind(_additive_at, summary, head))
    return Field(bind(_layer_force, summary, head), bind(_layer_at, summary, head, group))


def _additive_force(summary: Callable, head: Callable, x: Tree, data: Tree) -> tuple[Tree, Info]:
    weight = weight_of(x)
    value, gradient = jax.value_and_grad(lambda points: head(summary(points, weight, data), data))(points_of(x))
    u = -gradient / weight[:, None]
    return velocity(x, u), Info(value, norm(u))


def _pull(summary: Callable, pull: Tree, y: Points) -> Points:
    def felt(y: Points) -> jax.Array:
        return sum(jnp.vdot(a, b) for a, b in zip(jax.tree.leaves(pull), jax.tree.leaves(summary(y)), strict=True))  # type: ignore[return-value]

    return -jax.grad(felt)(y)


def _additive_at(summary: Callable, head: Callable, y: Points, x: Tree, data: Tree) -> Points:
    pull = jax.grad(lambda s: head(s, data))(summary(points_of(x), weight_of(x), data))

    def moved(y: Points) -> Points:
        return _pull(lambda y: summary(y, jnp.ones(y.shape[:1], y.dtype), data), pull, y)

    m, d = y.shape
    if m < 2 * _TILE_TRACERS:
        return moved(y)
    num = -(-m // _TILE_TRACERS)
    tiles = jnp.pad(y, ((0, num * _TILE_TRACERS - m), (0, 0)), mode="edge").reshape(num, _TILE_TRACERS, d)
    return jax.lax.map(moved, tiles).reshape(-1, d)[:m]


def _layer_force(summary: Callable, head: Callable, x: Tree, data: Tree) -> tuple[Tree, Info]:
    value, gradient = jax.value_and_grad(lambda params: head(summary(params, data), params, data))(x)
    u = jax.tree.map(jnp.negative, gradient)
    return u, Info(value, norm(u))


def _layer_at(summary: Callable, head: Callable, group: Any, y: Points, x: Tree, data: Tree) -> Points:
    pull = jax.grad(lambda s: head(s, x, data))(summary(x, data))
    return _pull(lambda y: summary(group.with_units(x, y), data), pull, y)


def mean_field(feature: Callable, velocity: Callable) -> Field:
    """Particles that act on each other through a sum over all: `U_i = velocity(x_i, s)`, `s = sum_k w_k feature(x_k)`.

    Exact up to the order of summation; time O(n). A mean is a sum divided by the sum of the feature 1.

    Args:
        feature: `(x_k (d,), data) -> tree`, what one particle adds to the field; the data may be left out.
        velocity: `(x_i (d,), s, data) -> (d,)`; the data may be left out.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> mean = eq.field.mean_field(lambda x: (x, 1.0), lambda x, s: s[0] / s[1] - x)
        >>> rule = eq.rules.from_field(mean)                    # the consensus rule
        >>> rule.update(jnp.array([[0.0], [4.0]]), ()).u.ravel().tolist()
        [2.0, -2.0]
    """
    one_takes_it = arity(feature, 2, "feature") == 2 or arity(velocity, 3, "velocity") == 3
    feature, velocity = with_data(feature, 1, "feature", drop=one_takes_it), with_data(velocity, 2, "velocity", drop=one_takes_it)
    return Field(bind(_mean_force, feature, velocity), bind(_mean_at, feature, velocity))


def _mean_at(feature: Callable, moved: Callable, y: Points, x: Tree, data: Tree) -> Points:
    weight = weight_of(x)
    features = jax.vmap(lambda row: jax.tree.map(lambda leaf: jnp.asarray(leaf, row.dtype), feature(row, data)))(points_of(x))
    s = jax.tree.map(lambda f: jnp.tensordot(weight, f, axes=1), features)
    return jax.vmap(lambda row: moved(row, s, data))(y)


def _mean_force(feature: Callable, moved: Callable, x: Tree, data: Tree) -> tuple[Tree, None]:
    return velocity(x, _mean_at(feature, moved, points_of(x), x, data)), None


def pair_kernel(kernel: Callable, *, normalize: bool = False) -> Field:
    """Particles that act on each other pair by pair: `U_i = sum_j w_j kernel(x_i, x_j)`, the term j = i included.

    Exact up to the order of summation. Time O(n^2 d); memory O(n d) and a tile of `field.TILE_BYTES`.

    Args:
        kernel: `(x_i (d,), x_j (d,), data) -> (d,)`, what j does to i; the data may be left out.
        normalize: divide by the sum of the weights, so that the answer does not grow with n.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> spring = eq.field.pair_kernel(lambda a, b: b - a, normalize=True)
        >>> spring.force(jnp.array([[0.0], [4.0]]), None)[0].ravel().tolist()
        [2.0, -2.0]
    """
    kernel = with_data(kernel, 2, "kernel")
    return Field(bind(_pair_force, kernel, normalize), bind(_pair_at, kernel, normalize))


def _pair_at(kernel: Callable, normalize: bool, y: Points, x: Tree, data: Tree) -> Points:
    points, weight = points_of(x), weight_of(x)

    def part(tile: Points, points: Points, weight: jax.Array) -> Points:
        acts = jax.vmap(lambda a: jax.vmap(lambda b: kernel(a, b, data))(points))(tile)
        return jnp.einsum("n,tnd->td", weight, acts)

    total = over_pairs(part, y, points, weight, pair_bytes=4 * points.shape[1] * points.dtype.itemsize)
    return total / jnp.sum(weight) if normalize else total


def _pair_force(kernel: Callable, normalize: bool, x: Tree, data: Tree) -> tuple[Tree, None]:
    return velocity(x, _pair_at(kernel, normalize, points_of(x), x, data)), None


def map_rows(rows: Callable[[Points], Points], y: Points, *, row_bytes: float) -> Points:
    """`rows(y)` in tiles that take `TILE_BYTES`; equal rows get equal answers."""
    return _tiles.map_rows(rows, y, row_bytes=row_bytes, budget=TILE_BYTES)


def over_pairs(part: Callable, y: Points, *sources: jax.Array, pair_bytes: float, merge: Callable | None = None) -> Tree:
    """What all particles do to each row of y, in tiles that take `TILE_BYTES`; on several devices as a ring. See `_tiles.over_pairs`."""
    return _tiles.over_pairs(part, y, sources, pair_bytes=pair_bytes, budget=TILE_BYTES, merge=merge)


def as_field(loss: Any, *, weighted: bool = False) -> Field:
    """A loss, or a `Field` as it is: optimizer rules take either."""
    if isinstance(loss, Field):
        return loss
    if not callable(loss):
        msg = f"loss: got {type(loss).__name__}; expected a function (x, data) -> scalar, or a Field."
        raise TypeError(msg)
    return energy(loss, weighted=weighted)


def from_field(field: Field) -> Rule:
    """The rule `U(x) = field.force(x)`, without state; it moves tracers where the field knows how.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> spring = eq.field.pair_kernel(lambda a, b: b - a)
        >>> eq.rules.from_field(spring).update(jnp.array([[0.0], [1.0]]), ()).u.ravel().tolist()
        [1.0, -1.0]
    """
    return Rule(no_state, bind(_update, field), None if field.at is None else bind(_probe, field))


def _update(field: Field, x: Tree, state: Tree, data: Tree = None, *, key: Key | None = None) -> Update:
    u, info = field.force(x, data)
    return Update(u, state, info)


def _probe(field: Field, y: Points, y_state: Tree, x: Tree, state: Tree, data: Tree = None, *, key: Key | None = None) -> Update:
    return Update(field.at(y, x, data), y_state)  # type: ignore[misc]
