"""Equinox modules as `(apply, params)`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from eqdyn._types import Tree


def split(model: Any, *, batched: bool = True) -> tuple[Callable[[Tree, Any], Any], Tree]:
    """The function and the parameters of an Equinox module.

    Args:
        model: the module.
        batched: the module takes one example, as is usual there, and inputs have a batch axis in front.

    Returns:
        `apply(params, inputs)` and `params`, the module's floating arrays (the rest is held fixed); `equinox.combine` puts them back.

    Example:
        >>> import equinox, jax, jax.numpy as jnp, eqdyn as eq
        >>> from eqdyn.networks.adapters import equinox as adapter
        >>> apply, params = adapter.split(equinox.nn.MLP(3, 2, 16, 1, key=jax.random.key(0)))
        >>> eq.networks.find_groups(apply, params, jnp.ones((4, 3)))[0].size
        16
    """
    import equinox

    params, static = equinox.partition(model, equinox.is_inexact_array)

    def apply(params: Tree, inputs: Any) -> Any:
        whole = equinox.combine(params, static)
        return jax.vmap(whole)(inputs) if batched else whole(inputs)

    return apply, params
