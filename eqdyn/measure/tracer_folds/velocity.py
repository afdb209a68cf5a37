"""The velocity of tracers in a field that stands still, as a function of their places alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax.tree_util import Partial

from eqdyn import _checks
from eqdyn._types import Key, Points, Tree
from eqdyn._value import bind
from eqdyn.rule import Rule

Velocity = Callable[[Points], Points]


def frozen(rule: Rule, x: Any, state: Tree = None, data: Tree = None, *, key: Key | None = None) -> Velocity:
    """The velocity of tracers in the field of x, `y -> v(y)`, as a function: row i of v depends on row i of y alone.

    Each tracer has a fresh state, `rule.init(y)`. Exact. Two such functions of one rule run the same compiled programs.

    Args:
        rule: a rule with a `probe`.
        x: configuration that makes the field.
        state: None for `rule.init(x)`.
        data: the batch.
        key: for rules that draw.

    Returns:
        A function `(m, d) -> (m, d)`, for `folds`, `fold_eta` and `tangent_stretch`.

    Raises:
        ValueError, TypeError: arguments that do not fit; the rule does not move tracers.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> spring = eq.field.pair_kernel(lambda a, b: b - a, normalize=True)
        >>> v = eq.measure.frozen(eq.rules.from_field(spring), jnp.array([[0.0], [4.0]]))
        >>> v(jnp.array([[1.0]])).tolist()
        [[1.0]]

    References:
        derived (the step map, terms of theorem 2 of Yang et al., arXiv:2510.02670).
    """
    if not isinstance(rule, Rule):
        msg = f"rule: got {type(rule).__name__}; expected an eq.Rule; write eq.rules.from_function(f) for a plain function."
        raise TypeError(msg)
    if rule.probe is None:
        msg = (
            "rule: got one without probe, which cannot move tracers; expected a rule that knows the field between its particles; "
            "write eq.rules.gradient(loss, weighted=True) with a loss (x, weight, data), or eq.rules.from_field(field)."
        )
        raise ValueError(msg)
    _checks.hashable(rule, "rule")
    x = _checks.configuration(x)
    _checks.state_like(state, lambda: rule.init(x))
    return Partial(bind(_probed, rule), x, rule.init(x) if state is None else state, _checks.batch(data), _checks.key(key))


def _probed(rule: Rule, x: Tree, state: Tree, data: Tree, key: Key | None, y: Points) -> Points:
    return rule.probe(y, rule.init(y), x, state, data, key=key).u  # type: ignore[misc]


def partial(velocity: Any, y: jax.Array) -> Partial:
    """A velocity as a tree: what it holds is an argument of compiled programs, what it does their key. Its answer is looked at first."""
    if not callable(velocity):
        msg = f"velocity: got {type(velocity).__name__}; expected a function (m, d) -> (m, d); write eq.measure.frozen(rule, x)."
        raise TypeError(msg)
    _checks.hashable(getattr(velocity, "func", velocity), "velocity")
    call = velocity if isinstance(velocity, Partial) else Partial(velocity)
    _checks.moved_like(jax.eval_shape(call, y), y, "velocity")
    return call
