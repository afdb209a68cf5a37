"""Any optax optimizer as a rule. The only file that knows optax."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from eqdyn._types import Key, Points, Tree
from eqdyn._value import bind, function
from eqdyn.field import Field, as_field
from eqdyn.rule import Rule, Update, points_of, velocity


def from_optax(tx: Any, loss: Callable | Field, *, weighted: bool = False, separable: bool = False) -> Rule:
    """An `optax.GradientTransformation` as a rule: `U` is exactly optax's update, so `eta = 1` is the optimizer as written.

    To sweep eta build `tx` with learning rate 1; a bare `scale_by_*` chain needs `optax.scale(-1)`, since optax's updates are
    added. Transformations with extra arguments get `value`, `grad` and `value_fn`. optax's code runs under JAX's standard
    dtype promotion whatever yours is.

    Args:
        tx: the transformation; two made by the same optax call are equal.
        loss: `(x, data) -> scalar`, or `(x, weight, data)` with `weighted=True`. Or a `Field`.
        weighted: whether the loss takes weights.
        separable: declare that `tx` treats every row alone, given its gradient (sgd, adam: yes; clipping by a global norm:
            no). Tracers are moved only then. Not checked.

    Raises:
        TypeError: `tx` is no optax transformation.
        ImportError: optax is missing.

    Example:
        >>> import jax.numpy as jnp, optax, eqdyn as eq
        >>> rule = eq.rules.from_optax(optax.sgd(0.5), lambda x: 0.5 * jnp.sum(x**2))
        >>> x = jnp.ones((1, 1))
        >>> eq.step(rule, x, rule.init(x))[0].tolist()
        [[0.5]]
    """
    import optax

    if not (isinstance(tx, tuple) and hasattr(tx, "init") and hasattr(tx, "update")):
        msg = f"tx: got {type(tx).__name__}; expected an optax.GradientTransformation; write optax.sgd(1.0)."
        raise TypeError(msg)
    extra = isinstance(tx, optax.GradientTransformationExtraArgs)
    field = as_field(loss, weighted=weighted)
    init, update = function(tx.init), function(tx.update)
    return Rule(
        bind(_init, init),
        bind(_update, field, update, extra),
        bind(_probe, field, update) if separable and field.at is not None else None,
    )


def _init(init: Callable, x: Tree) -> Tree:
    with jax.numpy_dtype_promotion("standard"):
        return init(points_of(x))


def _transform(update: Callable, force: Tree, state: Tree, params: Tree, extra: dict[str, Any]) -> tuple[Tree, Tree]:
    gradient = jax.tree.map(lambda f: -f, force)
    with jax.numpy_dtype_promotion("standard"):
        return update(gradient, state, params, **({"grad": gradient, **extra} if extra else {}))


def _update(field: Field, update: Callable, extra: bool, x: Tree, state: Tree, data: Tree = None, *, key: Key | None = None) -> Update:
    force, info = field.force(x, data)
    arguments = {}
    if extra:
        value_fn = bind(_loss, field, x, data)
        arguments = {"value": info.loss if info is not None else value_fn(points_of(x)), "value_fn": value_fn}
    u, state = _transform(update, points_of(force), state, points_of(x), arguments)
    return Update(velocity(x, u), state, info)


def _loss(field: Field, x: Tree, data: Tree, params: Tree) -> jax.Array:
    """The loss at other parameters, for line searches."""
    return field.force(x._replace(x=params) if points_of(x) is not x else params, data)[1].loss


def _probe(field: Field, update: Callable, y: Points, y_state: Tree, x: Tree, state: Tree, data: Tree = None, *, key: Key | None = None) -> Update:
    v, y_state = _transform(update, field.at(y, x, data), y_state, y, {})  # type: ignore[misc]
    return Update(v, y_state)
