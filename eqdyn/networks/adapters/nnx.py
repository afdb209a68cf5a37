"""Flax NNX modules as `(apply, params)`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from eqdyn._types import Tree


def split(model: Any) -> tuple[Callable[[Tree, Any], Any], Tree]:
    """The function and the parameters of a Flax NNX module.

    Args:
        model: the module, called as `model(inputs)`; put it in the mode you mean before (`model.eval()`).

    Returns:
        `apply(params, inputs)` and `params`, the `nnx.Param`s as nested dicts of arrays. Everything else (statistics, keys) is held
        fixed; what the call changes of it is dropped.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> from flax import nnx
        >>> from eqdyn.networks.adapters import nnx as adapter
        >>> model = nnx.Sequential(nnx.Linear(3, 16, rngs=nnx.Rngs(0)), nnx.relu, nnx.Linear(16, 2, rngs=nnx.Rngs(1)))
        >>> apply, params = adapter.split(model)
        >>> eq.networks.find_groups(apply, params, jnp.ones((4, 3)))[0].size
        16
    """
    from flax import nnx

    graph, params, rest = nnx.split(model, nnx.Param, ...)

    def apply(pure: Tree, inputs: Any) -> Any:
        held = nnx.merge(graph, params, rest, copy=True)
        nnx.update(held, nnx.State(pure))
        return held(inputs)

    return apply, nnx.to_pure_dict(params)
