"""The contract: a rule is a pair of pure functions that move particles, x' = x + eta * U(x).

`U` and `eta` stay apart: every law of the theory speaks of both, and tiny steps stay exact in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from eqdyn import _checks
from eqdyn._types import Key, Points, Tree, Weighted, Weights


class Update(NamedTuple):
    """What a rule answers: `u = U(x)`, the state that the next call needs, and what a person wants to see."""

    u: Tree
    state: Tree
    info: Tree = None


class InitFn(Protocol):
    def __call__(self, x: Tree, /) -> Tree: ...


class UpdateFn(Protocol):
    def __call__(self, x: Tree, state: Tree, data: Tree = None, /, *, key: Key | None = None) -> Update: ...


class ProbeFn(Protocol):
    def __call__(self, y: Points, y_state: Tree, x: Tree, state: Tree, data: Tree = None, /, *, key: Key | None = None) -> Update: ...


class LiftFn(Protocol):
    def __call__(self, x: Tree, state: Tree, /) -> jax.Array: ...


class Rule(NamedTuple):
    """An update rule U, `x' = x + eta * U(x)`.

    Fields:
        init: `(x) -> state`, the state before the first step.
        update: `(x, state, data=None, *, key=None) -> Update(u, state, info)`; `u` has the structure, shapes and dtypes of `x`.
        probe: `(y, y_state, x, state, data=None, *, key=None) -> Update(v, y_state, info)`, the velocity of massless tracers `y`
            `(m, d)` in the field of `x`, each tracer with a state of its own; None where the rule does not know it.
        lift: `(x, state) -> (n, d + s)`, particles joined with their state; None for the default, see `lifted`.

    Rules are values: two made from the same functions and hyperparameters are equal, and compile once.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> rule = eq.Rule(init=lambda x: (), update=lambda x, state, data=None, *, key=None: eq.Update(-x, state))
        >>> x, state, info = eq.step(rule, jnp.ones((3, 2)), (), eta=0.25)
        >>> float(x[0, 0])
        0.75

    References:
        Yang, Poggio, Chuang, Ziyin, arXiv:2510.02670, equation 4.
    """

    init: InitFn
    update: UpdateFn
    probe: ProbeFn | None = None
    lift: LiftFn | None = None


def add(x: Tree, eta: Any, u: Tree) -> Tree:
    """`x + eta * u`, leaf by leaf, in the dtype of x."""
    return jax.tree.map(lambda a, b: a + jnp.asarray(eta, a.dtype) * b, x, u)


def step(rule: Rule, x: Tree, state: Tree, eta: Any = 1.0, data: Tree = None, *, key: Key | None = None) -> tuple[Tree, Tree, Tree]:
    """One step, `x' = x + eta * U(x)`. Exact up to the rounding of one multiply-add; jittable, `eta` may be traced.

    Args:
        rule: the update rule.
        x: configuration: `(n, d)`, a `Weighted`, or a tree of parameters; real floating.
        state: what `rule.init(x)` or the last step gave.
        eta: step size, > 0; its unit is that of x over that of U.
        data: the batch, the same for all particles.
        key: a typed key, for rules that draw.

    Returns:
        `(x_next, state, info)`.

    Raises:
        ValueError: eta is a concrete number that is not finite and positive, or the rule returns another shape.
        TypeError: the rule returns another structure or dtype, or `key` is no typed key.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> x, _, _ = eq.step(eq.rules.consensus(), jnp.array([[0.0], [4.0]]), (), 0.25)
        >>> x.ravel().tolist()
        [0.5, 3.5]

    References:
        Yang et al., arXiv:2510.02670, equation 4.
    """
    x = _checks.configuration(x)
    _checks.step_size(eta)
    new = rule.update(x, state, data, key=_checks.key(key))
    _checks.moved_like(new.u, x)
    return add(x, eta, new.u), new.state, new.info


def no_state(x: Tree) -> tuple[()]:
    """The `init` of a rule that remembers nothing."""
    return ()


def points_of(x: Tree) -> Tree:
    """The moving part of a configuration: `x.x` of a `Weighted`, else x."""
    return x.x if isinstance(x, Weighted) else x


def weight_of(x: Tree) -> Weights:
    """The weight of each row, 1 where none is given."""
    return x.weight if isinstance(x, Weighted) else jnp.ones(x.shape[:1], x.dtype)


def velocity(x: Tree, u: Tree) -> Tree:
    """`u` as a velocity of `x`: weights do not move."""
    return Weighted(u, jnp.zeros_like(x.weight)) if isinstance(x, Weighted) else u


def _matcher(x: Tree) -> Callable[[Any], bool]:
    """Whether a subtree has the structure and shapes of the moving part of `x`."""

    def form(tree: Tree) -> tuple[Any, list[tuple[int, ...]]]:
        return jax.tree.structure(tree), [jnp.shape(leaf) for leaf in jax.tree.leaves(tree)]

    wanted = form(points_of(x))
    return lambda node: form(node) == wanted


def matching_subtrees(x: Tree, state: Tree) -> list[Tree]:
    """The subtrees of `state` with the structure and shapes of the moving part of `x`, in tree order."""
    matches = _matcher(x)
    return [node for node in jax.tree.leaves(state, is_leaf=matches) if matches(node)]


def map_matching(function: Callable, x: Tree, state: Tree) -> Tree:
    """`state` with `function` applied to each subtree that `matching_subtrees` finds."""
    matches = _matcher(x)
    return jax.tree.map(lambda node: function(node) if matches(node) else node, state, is_leaf=matches)


def lifted(rule: Rule, x: Tree, state: Tree, group: Any = None) -> jax.Array:
    """The lifted particles `(n, d + s)`: each particle with its own part of the optimizer's state.

    The default joins the rows of x with those subtrees of `state` that have the structure and shapes of x (momenta, second
    moments); state that is shared or factored needs a rule with its own `lift`. Exact.

    Args:
        rule: the update rule.
        x: configuration.
        state: its state.
        group: None for the rows of an array, or the `Group` that reads particles out of the tree x.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> rule = eq.rules.adam(lambda x, data: jnp.sum(x**2))
        >>> x = jnp.ones((5, 2))
        >>> eq.lifted(rule, x, rule.init(x)).shape
        (5, 6)

    References:
        Yang et al., arXiv:2510.02670, section 5.2.
    """
    if rule.lift is not None:
        return rule.lift(x, state)
    rows = (lambda tree: tree) if group is None else group.particles
    return jnp.concatenate([rows(tree) for tree in (points_of(x), *matching_subtrees(x, state))], axis=1)
