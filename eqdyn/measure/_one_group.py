"""The arguments that measures of lifted particles share: checked, with the one group they speak of."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax

from eqdyn import _checks, groups
from eqdyn._types import Key, Tree
from eqdyn.rule import Rule


class Asked(NamedTuple):
    rule: Rule
    group: Any
    x: Tree
    state: Tree
    data: Tree
    key: Key | None


def asked(rule: Any, x: Any, state: Tree, data: Tree, group: Any, key: Key | None, *, least: int = 1) -> Asked:
    """`state=None` is a fresh one."""
    if not isinstance(rule, Rule):
        msg = f"rule: got {type(rule).__name__}; expected an eq.Rule; write eq.rules.from_function(f) for a plain function."
        raise TypeError(msg)
    _checks.hashable(rule, "rule")
    x = _checks.configuration(x)
    named = groups.resolve(group, x)
    if len(named) != 1:
        msg = f"group: got {len(named)} groups; expected one; ask group by group."
        raise ValueError(msg)
    (one,) = named.values()
    if one.size < least:
        msg = f"x: got {one.size} particle{'s' * (one.size != 1)}; expected at least {least}."
        raise ValueError(msg)
    _checks.state_like(state, lambda: jax.eval_shape(rule.init, x))
    return Asked(rule, one, x, rule.init(x) if state is None else state, _checks.batch(data), _checks.key(key))
