"""Decoupled weight decay around any rule."""

from __future__ import annotations

from eqdyn import _checks
from eqdyn._types import Key, Points, Tree
from eqdyn._value import bind
from eqdyn.rule import Rule, Update, add, points_of, velocity


def weight_decay(rule: Rule, *, decay: float) -> Rule:
    """Decoupled weight decay, `U = U_rule - decay * x`. Exact up to rounding.

    With K_pair that of the inner rule, every pair stretch lies within `(1 - eta decay) -+ eta K_pair`, so that
    `eta K_pair < 1 - eta decay` certifies that nobody merges. Decay alone is linear: K = mu = decay, every stretch is
    `1 - eta decay`, and all merge in the origin at `eta = 1 / decay`. The determinant of a lifted step that cannot fold is multiplied
    by `(1 - eta decay)^d`: `(beta (1 - eta decay))^d` for the heavy ball. P1, P2 and P3 hold where they hold for the inner rule.

    Args:
        rule: any rule; its state, tracers and lift are passed on.
        decay: rate of the pull to the origin, >= 0; unit: 1 over that of eta. The weights of a `Weighted` do not decay.

    Raises:
        TypeError: `rule` is no `Rule`.
        ValueError: a negative decay.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> rule = eq.rules.weight_decay(eq.rules.consensus(), decay=0.5)
        >>> rule.update(jnp.array([[0.0], [4.0]]), ()).u.ravel().tolist()
        [2.0, -4.0]

    References:
        Loshchilov, Hutter, arXiv:1711.05101.
    """
    if not isinstance(rule, Rule):
        msg = f"rule: got {type(rule).__name__}; expected an eq.Rule; write weight_decay(eq.rules.heavy_ball(loss), decay=0.01)."
        raise TypeError(msg)
    decay = _checks.number(decay, "decay", least=0)
    return Rule(rule.init, bind(_update, rule, decay), None if rule.probe is None else bind(_probe, rule, decay), rule.lift)


def _update(rule: Rule, decay: float, x: Tree, state: Tree, data: Tree = None, *, key: Key | None = None) -> Update:
    new = rule.update(x, state, data, key=key)
    _checks.moved_like(new.u, x)
    return new._replace(u=add(new.u, -decay, velocity(x, points_of(x))))


def _probe(rule: Rule, decay: float, y: Points, y_state: Tree, x: Tree, state: Tree, data: Tree = None, *, key: Key | None = None) -> Update:
    new = rule.probe(y, y_state, x, state, data, key=key)  # type: ignore[misc]
    return new._replace(u=add(new.u, -decay, y))
