"""Haiku-style models (`init` and `apply` of plain trees; Flax Linen too) as `(apply, params)`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from eqdyn._types import Tree


def split(transformed: Any, params: Tree, *, state: Tree = None, key: Any = None, keyed: bool = True) -> tuple[Callable[[Tree, Any], Any], Tree]:
    """The function and the parameters of a transformed Haiku function, or of a Flax Linen module.

    Args:
        transformed: what `haiku.transform` or `haiku.transform_with_state` made, or a Linen module.
        params: its parameters; of a Linen module the whole variables, `{"params": ..., "batch_stats": ...}`.
        state: of `transform_with_state`, held fixed.
        key: passed to the call; None where it draws nothing.
        keyed: the call takes a key, as it does after `haiku.transform`; not so after `haiku.without_apply_rng`, nor for Linen.

    Returns:
        `apply(params, inputs)` and `params`.

    Example:
        >>> import haiku, jax, jax.numpy as jnp, eqdyn as eq
        >>> from eqdyn.networks.adapters import haiku as adapter
        >>> model, z = haiku.transform(lambda z: haiku.nets.MLP([16, 2])(z)), jnp.ones((4, 3))
        >>> apply, params = adapter.split(model, model.init(jax.random.key(0), z))
        >>> eq.networks.find_groups(apply, params, z)[0].size
        16
    """

    def apply(params: Tree, inputs: Any) -> Any:
        before = (params,) if state is None else (params, state)
        out = transformed.apply(*before, *((key,) if keyed else ()), inputs)
        return out if state is None else out[0]

    return apply, params
