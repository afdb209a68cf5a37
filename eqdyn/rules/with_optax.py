"""Any optax optimizer as a rule. The only file that knows optax."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from typing import Any

import jax

from eqdyn._types import Key, Points, Tree
from eqdyn._value import Bound, bind, typed
from eqdyn.field import Field, Info, as_field
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
    init, update = _Part(tx.init), _Part(tx.update)
    return Rule(
        bind(_init, init),
        bind(_update, field, update, extra),
        bind(_probe, field, update) if separable and field.at is not None else None,
    )


class _Part:
    """`init` or `update` of a transformation, equal to another that the same optax calls made from equal numbers.

    Looks into closures of optax's own code only, whose captured values never change; whatever else they hold (a user's
    schedule, say) must be the same object. The key is taken once.
    """

    def __init__(self, call: Callable):
        self.call, self._key = call, _made_of(call)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.call(*args, **kwargs)

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Part) and self._key == other._key

    def __repr__(self) -> str:
        return getattr(self.call, "__qualname__", repr(self.call))


class _Same:
    """An object that equals only itself; kept alive, so that no other takes its place."""

    def __init__(self, value: Any):
        self.value = value

    def __hash__(self) -> int:
        return id(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.value is other.value


def _made_of(value: Any) -> Any:
    if isinstance(value, tuple):
        return type(value), tuple(_made_of(item) for item in value)
    if isinstance(value, Bound):  # ours are compared by value
        return value
    if isinstance(value, functools.partial) and not value.keywords:
        return functools.partial, _made_of((value.func, *value.args))
    if isinstance(value, types.FunctionType) and value.__module__.split(".")[0] == "optax":
        filled = [cell.cell_contents for cell in value.__closure__ or () if _is_filled(cell)]
        if not any(inside is value for inside in filled):
            defaults = tuple((value.__kwdefaults__ or {}).items())
            return value.__code__, _made_of((value.__defaults__, defaults, tuple(filled)))
    return typed(value) if isinstance(value, (bool, int, float, complex, str, type(None))) else _Same(value)


def _is_filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


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
    if extra and isinstance(info, Info):  # a field without a loss has no value to give
        arguments = {"value": info.loss, "value_fn": bind(_loss, field, x, data)}
    u, state = _transform(update, points_of(force), state, points_of(x), arguments)
    return Update(velocity(x, u), state, info)


def _loss(field: Field, x: Tree, data: Tree, params: Tree) -> jax.Array:
    """The loss at other parameters, for line searches."""
    return field.force(x._replace(x=params) if points_of(x) is not x else params, data)[1].loss


def _probe(field: Field, update: Callable, y: Points, y_state: Tree, x: Tree, state: Tree, data: Tree = None, *, key: Key | None = None) -> Update:
    v, y_state = _transform(update, field.at(y, x, data), y_state, y, {})  # type: ignore[misc]
    return Update(v, y_state)
