"""The moments of Adam, which several rules use in their own order."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from eqdyn import _checks
from eqdyn._types import Tree
from eqdyn.rules._optimizer import average, root, zeros


class AdamState(NamedTuple):
    """`t` steps taken; first moment `m` and second moment `v`, in the shapes of the particles."""

    t: jax.Array
    m: Tree
    v: Tree


class Rates(NamedTuple):
    beta1: float
    beta2: float
    eps: float


def rates(beta1: float, beta2: float, eps: float) -> Rates:
    beta1, beta2 = (_checks.number(beta, name, least=0, below=1) for beta, name in ((beta1, "beta1"), (beta2, "beta2")))
    return Rates(beta1, beta2, _checks.number(eps, "eps", above=0))


def start(x: Tree) -> AdamState:
    return AdamState(jnp.zeros((), jnp.int32), zeros(x), zeros(x))


def moments(rates: Rates, g: Tree, state: AdamState) -> AdamState:
    """The state with the gradient g taken in."""
    square = jax.tree.map(jnp.square, g)
    return AdamState(state.t + 1, average(rates.beta1, state.m, g), average(rates.beta2, state.v, square))


def quotient(rates: Rates, state: AdamState) -> Tree:
    """`-(m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)`."""

    def leaf(m: jax.Array, v: jax.Array) -> jax.Array:
        t = state.t.astype(m.dtype)
        correct1, correct2 = (1 - jnp.asarray(beta, m.dtype) ** t for beta in (rates.beta1, rates.beta2))
        return -(m / correct1) / (root(v / correct2) + jnp.asarray(rates.eps, m.dtype))

    return jax.tree.map(leaf, state.m, state.v)
