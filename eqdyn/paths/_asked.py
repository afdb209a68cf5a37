"""The checks that the room shares: parameter trees, one architecture, several runs."""

from __future__ import annotations

import contextlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from eqdyn import _checks
from eqdyn._types import Tree


def params_of(tree: Any, name: str, *, on_device: bool = False) -> Tree:
    """A tree of finite floating arrays of any shapes, on the host. Float64 needs x64 only where a loss is to be computed, on the device."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    if not leaves:
        msg = f"{name}: got {type(tree).__name__} without arrays; expected a tree of parameters, or an array."
        raise TypeError(msg)

    def leaf(path: Any, value: Any) -> np.ndarray:
        where = f"{name}[{_checks.path_name(path)}]" if path else name
        with contextlib.nullcontext() if on_device else jax.enable_x64():
            return np.asarray(_checks.floating(value, where))

    tree = jax.tree_util.tree_map_with_path(leaf, tree)
    _checks.finite(tree, name)
    return tree


def one_architecture(a: Tree, b: Tree, names: tuple[str, str], *, stacked: bool = False) -> None:
    """Two trees of one structure, with leaves of the same shapes and dtypes; `stacked` leaves the first axis out."""
    skip = 1 if stacked else 0
    first, second = (
        {_checks.path_name(path): (*np.shape(leaf)[skip:], str(np.asarray(leaf).dtype)) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
        for tree in (a, b)
    )
    differ = [path or "the array" for path in sorted(first | second) if first.get(path) != second.get(path)]
    forms: list[Any] = [jax.tree.structure(tree) for tree in (a, b)]
    if differ or forms[0] != forms[1]:
        where = f"{names[1]} differs from {names[0]} at {', '.join(differ[:4])}" if differ else "containers of other kinds"
        msg = f"{names[0]}, {names[1]}: got different architectures ({where}); expected runs of one architecture: the same leaves, shapes and dtypes."
        raise ValueError(msg)


def row(params: Tree, k: int) -> Tree:
    """One of the trees that are stacked along the first axis."""
    return jax.tree.map(lambda leaf: leaf[k], params)


def loss_like(loss: Any, params: Tree, data: Tree) -> Any:
    """The shape and dtype of a loss, which must be a number."""
    found = jax.eval_shape(loss, params, data)
    if not isinstance(found, jax.ShapeDtypeStruct) or found.shape != () or not jnp.issubdtype(found.dtype, jnp.floating):
        msg = f"loss: got one that returns {jax.tree.map(lambda leaf: (leaf.shape, str(leaf.dtype)), found)}; expected one real number; write mean."
        raise ValueError(msg)
    return found
