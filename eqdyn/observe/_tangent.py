"""What observers of infinitesimal pairs share: a step of tracers in the frozen field, sums without drift, groups by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from eqdyn import groups
from eqdyn._lifted import lifted_rows, with_lifted
from eqdyn._types import Points, Tree
from eqdyn._value import bind
from eqdyn.observer import Frame, Observer, Series
from eqdyn.rule import Rule
from eqdyn.transverse import has_probe


def rows_of(group: Any, tree: Tree) -> Any:
    return groups.rows(tree) if group is None else group


def frozen(rule: Rule, y: Points, y_state: Tree, frame: Frame, *, lifted: bool) -> tuple[Points, Callable[[Points], tuple[Points, Points]]]:
    """Tracers `z` `(n, d)`, or `(n, d + s)` with their state, and what the frame's field makes of them: `z -> (u, next state)`."""
    if not lifted:
        return y, lambda y: (rule.probe(y, y_state, frame.x, frame.state, frame.data).u, y[:, :0])  # type: ignore[misc]
    rows = groups.Rows(*y.shape)

    def moved(z: Points) -> tuple[Points, Points]:
        new = rule.probe(*with_lifted(rows, y, y_state, z), frame.x, frame.state, frame.data)  # type: ignore[misc]
        return new.u, lifted_rows(rows, y, new.state)[:, y.shape[1] :]

    return lifted_rows(rows, y, y_state), moved


def increment(eta: jax.Array, v: Points, changed: tuple[Points, Points]) -> Points:
    """What a step adds to tangents `v`, given the derivative `(du, next state)` along them."""
    du, state = changed
    return jnp.concatenate([eta * du, state - v[:, du.shape[1] :]], axis=1)


def runs(frame: Frame, z: Points, change: Callable[[Points], tuple[Points, Points]], alive: jax.Array) -> jax.Array:
    """Whether the lane still runs: in one that has ended the frame stands still, though the rule would move its particles."""
    leaves = [leaf.reshape(-1) for leaf in jax.tree.leaves(frame.u)]

    def still(every: int) -> jax.Array:
        return jnp.all(jnp.stack([jnp.all(leaf[:: max(leaf.size // every, 1)] == 0) for leaf in leaves]))

    def ended() -> jax.Array:
        u = change(z)[0]
        rounding = 16 * jnp.finfo(z.dtype).eps * jnp.max(jnp.abs(z[:, : u.shape[1]]))
        moves = ~(jnp.abs(frame.eta.astype(z.dtype) * u) <= rounding)  # what is not finite counts as moving
        return still(max(leaf.size for leaf in leaves)) & jnp.any(moves)

    # a look at a few numbers of a leaf tells of nearly every step that it moves: to look at all is dear, and the velocity dearer
    return alive & ~jax.lax.cond(still(64), ended, lambda: jnp.zeros((), bool))


def plus(total: jax.Array, lost: jax.Array, term: jax.Array) -> tuple[jax.Array, jax.Array]:
    """`total + term` with the rounding that was lost so far (Kahan); minus infinity stays: what has collapsed does not come back."""
    wanted = term - lost
    new = total + wanted
    lost = jnp.where(jnp.isfinite(new), (new - total) - wanted, 0)
    return jnp.where(total == -jnp.inf, total, new), lost


def recorded(series: Series, frame: Frame, stride: int, value: Tree) -> Series:
    """The series with `value`, at the steps of the stride."""
    if stride == 1:
        return series.append(frame.step, value)
    return jax.lax.cond(frame.step % stride == 0, lambda old: old.append(frame.step, value), lambda old: old, series)


def for_groups(rule: Any, group: Any, make: Callable[[Rule, Any, str | None], Observer]) -> Observer:
    """The observer of one group, or of a dict of them, read as a dict; the rule may be one, or one a group."""
    if not isinstance(group, Mapping):
        return make(_checked(rule), group, None)
    if not group:
        msg = "group: got an empty dict; expected at least one Group; write {'hidden': eq.groups.from_axes(params, axes)}."
        raise ValueError(msg)
    if isinstance(rule, Mapping) and set(rule) != set(group):
        msg = f"rule: got rules for {sorted(rule)}; expected one for each of {sorted(group)}, or one for all."
        raise ValueError(msg)
    parts = tuple((name, make(_checked(rule[name] if isinstance(rule, Mapping) else rule), one, name)) for name, one in sorted(group.items()))
    return Observer(bind(_init_all, parts), bind(_update_all, parts), bind(_read_all, parts), 1)


def _checked(rule: Any) -> Rule:
    if not isinstance(rule, Rule):
        msg = f"rule: got {type(rule).__name__}; expected the eq.Rule that is simulated."
        raise TypeError(msg)
    has_probe(rule, "the observer")
    return rule


def _init_all(parts: tuple, frame: Frame) -> dict[str, Tree]:
    return {name: one.init(frame) for name, one in parts}


def _update_all(parts: tuple, carry: dict[str, Tree], frame: Frame) -> dict[str, Tree]:
    return {name: one.update(carry[name], frame) for name, one in parts}


def _read_all(parts: tuple, carry: dict[str, Tree]) -> dict[str, Tree]:
    return {name: one.read(carry[name]) for name, one in parts}
