"""The transverse Jacobian: how the step map, with the field held fixed, acts on an infinitesimal pair at every particle.

    T_i = dU_i/dx_i - dU_j/dx_i at a twin x_j = x_i,        step map  y -> y + eta u(y; s),  Jacobian  I + eta T

All particles at once: a tracer feels the field alone, so one derivative along (v_1, ..., v_n) gives every T_i v_i.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from eqdyn import _checks
from eqdyn._lifted import lifted_rows, tracer_state, with_lifted
from eqdyn._types import Key, Points, Tree
from eqdyn.groups import Rows
from eqdyn.rule import Rule

DENSE_BYTES = 2**28  # what the matrices of all particles may take


class StepMap(NamedTuple):
    """The frozen field at every particle, linearised.

    Fields:
        product: `(n, d) -> (n, d)`, every `T_i v_i`.
        lifted: `(n, d + s) -> ((n, d), (n, s))`, what a change of particle and state does to U and to the next state.
        width: d + s.
    """

    product: Callable[[Points], Points]
    lifted: Callable[[Points], tuple[Points, Points]]
    width: int


def has_probe(rule: Rule, what: str) -> None:
    if rule.probe is None:
        msg = (
            f"rule: got one without probe, but {what} needs the velocity of tracers; write the loss with weights (weighted=True), "
            f"as eq.field.additive, or the rule from a pair kernel or mean field."
        )
        raise ValueError(msg)


def step_map(rule: Rule, group: Any, x: Tree, state: Tree, data: Tree, key: Key | None = None) -> StepMap:
    """The step map of a rule that knows its probe, at the particles of a group; inside a trace. Exact."""
    y, y_state = group.particles(x), tracer_state(group, x, state)
    rows = Rows(*y.shape)
    z = lifted_rows(rows, y, y_state)

    def moved(z: Points) -> tuple[Points, Points]:
        new = rule.probe(*with_lifted(rows, y, y_state, z), x, state, data, key=key)  # type: ignore[misc]
        return new.u, lifted_rows(rows, y, new.state)[:, y.shape[1] :]

    def velocity(y: Points) -> Points:
        return rule.probe(y, y_state, x, state, data, key=key).u  # type: ignore[misc]

    _, product = jax.linearize(velocity, y)
    _, lifted = jax.linearize(moved, z)
    return StepMap(product, lifted, z.shape[1])


def dense(product: Callable[[Points], Any], n: int, d: int, dtype: Any) -> Any:
    """The matrices `(n, rows, d)` of an operator that acts on every row alone, by d products; a tree for a tree of answers."""
    _checks.fits_budget(n * d * d * jnp.dtype(dtype).itemsize, DENSE_BYTES, "swap curvature", "use measure.transverse, which works matrix-free")
    columns = jax.lax.map(lambda e: product(jnp.broadcast_to(e, (n, d))), jnp.eye(d, dtype=dtype), batch_size=min(d, 16))
    return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, 2), columns)
