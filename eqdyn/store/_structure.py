"""A tree of arrays as plain arrays and a structure in JSON; nothing in either can be called."""

from __future__ import annotations

import collections
import functools
import sys
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np

from eqdyn._types import Tree
from eqdyn.observer import Series, is_series

_SMALL = ("bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3", "float8_e3m4", "float8_e4m3b11fnuz", "float8_e4m3fnuz", "float8_e5m2fnuz")
_PLAIN = (
    "bool",
    "complex64",
    "complex128",
    *(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)),
    "float16",
    "float32",
    "float64",
)
DTYPES = {name: np.dtype(name) for name in _PLAIN} | {name: np.dtype(getattr(ml_dtypes, name)) for name in _SMALL if hasattr(ml_dtypes, name)}
KINDS = ("jax", "numpy", "scalar", "key")
_DEPTH = 64  # nodes within nodes


class Leaf(NamedTuple):
    """An array by its tree path, and what it was: of JAX, of NumPy, a NumPy scalar, or the words of typed keys."""

    path: str
    kind: str
    array: np.ndarray
    impl: str | None = None

    def entry(self) -> dict[str, Any]:
        """What an index says of it."""
        entry = {"path": self.path, "kind": self.kind, "dtype": self.array.dtype.name, "shape": list(self.array.shape)}
        return entry if self.impl is None else {**entry, "impl": self.impl}


# --- from a tree -----------------------------------------------------------------------------------------------------------


def encode(tree: Tree, name: str = "") -> tuple[Any, list[Leaf]]:
    """The structure, in which leaves are numbers, and the leaves.

    Raises:
        TypeError: a leaf that is no array, key, number, text or None, or a dict whose keys are neither text nor whole numbers.
    """
    leaves: list[Leaf] = []
    return _node(tree, name, leaves), leaves


def _node(tree: Tree, path: str, leaves: list[Leaf]) -> Any:
    if tree is None or isinstance(tree, (bool, int, str)):
        return {"value": tree}
    if type(tree) is float:
        return {"float": tree.hex()}
    if type(tree) is complex:
        return {"complex": [tree.real.hex(), tree.imag.hex()]}
    if isinstance(tree, np.ndarray) and tree.dtype == object:
        return {"objects": list(tree.shape), "items": [_node(item, f"{path}[{k}]", leaves) for k, item in enumerate(tree.ravel())]}
    if isinstance(tree, (jax.Array, np.ndarray, np.generic)):
        leaves.append(_leaf(tree, path))
        return {"leaf": len(leaves) - 1}
    return _inner(tree, path, leaves)


def _leaf(value: Any, path: str) -> Leaf:
    if isinstance(value, jax.Array) and jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
        return Leaf(path, "key", np.asarray(jax.random.key_data(value)), str(jax.random.key_impl(value)))
    array = np.asarray(value)
    if array.dtype.name not in DTYPES:
        msg = f"{path}: got an array of dtype {array.dtype}; expected numbers or bool."
        raise TypeError(msg)
    kind = "jax" if isinstance(value, jax.Array) else "scalar" if isinstance(value, np.generic) else "numpy"
    return Leaf(path, kind, array.astype(DTYPES[array.dtype.name], copy=False))


def _inner(tree: Tree, path: str, leaves: list[Leaf]) -> Any:
    if isinstance(tree, dict):
        if not all(type(key) in (str, int) for key in tree):
            msg = f"{path}: got a dict with keys {list(tree)}; expected text or whole numbers."
            raise TypeError(msg)
        return {"dict": [[key, _node(item, f"{path}[{key!r}]", leaves)] for key, item in tree.items()]}
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        items = [_node(item, f"{path}.{name}", leaves) for name, item in zip(tree._fields, tree, strict=True)]
        return {"record": f"{type(tree).__module__}:{type(tree).__qualname__}", "fields": list(tree._fields), "items": items}
    if isinstance(tree, (list, tuple)):
        return {type(tree).__name__ if type(tree) in (list, tuple) else "tuple": [_node(item, f"{path}[{k}]", leaves) for k, item in enumerate(tree)]}
    children, _ = jax.tree_util.tree_flatten_with_path(tree, is_leaf=lambda node: node is not tree)
    if children and children[0][1] is tree:
        msg = f"{path}: got a leaf of class {type(tree).__name__}; expected arrays, keys, numbers, text or None."
        raise TypeError(msg)
    items = [_node(item, path + jax.tree_util.keystr(at), leaves) for at, item in children]
    if is_series(tree):
        return {"series": items}
    return {"dict": [[jax.tree_util.keystr(at, simple=True), item] for (at, _), item in zip(children, items, strict=True)]}


# --- and back --------------------------------------------------------------------------------------------------------------


def decode(node: Any, values: list[Any]) -> Tree:
    """The tree of a structure. A record is of its own class where a module that is loaded has it, else of one with its fields; what was
    a node of another class comes back as a dict.

    Raises:
        ValueError: no structure, or one that does not name every leaf once.
    """
    used: list[int] = []
    tree = _tree(node, values, used, 0)
    if used != list(range(len(values))):
        msg = f"the structure names {len(used)} leaves; there are {len(values)}"
        raise ValueError(msg)
    return tree


def _tree(node: Any, values: list[Any], used: list[int], depth: int) -> Tree:
    form = set(node) if isinstance(node, dict) else None
    if depth > _DEPTH or form is None:
        msg = f"no structure: {str(node)[:40]}" if form is None else f"nodes more than {_DEPTH} deep"
        raise ValueError(msg)

    def items_of(items: Any) -> list[Tree]:
        if not isinstance(items, list):
            msg = f"no list of nodes: {str(items)[:40]}"
            raise ValueError(msg)
        return [_tree(item, values, used, depth + 1) for item in items]

    match node:
        case {"value": None | bool() | int() | str() as value} if form == {"value"}:
            return value
        case {"float": str() as digits} if form == {"float"}:
            return float.fromhex(digits)
        case {"complex": [str() as real, str() as imag]} if form == {"complex"}:
            return complex(float.fromhex(real), float.fromhex(imag))
        case {"leaf": int() as at} if form == {"leaf"} and 0 <= at < len(values):
            used.append(at)
            return values[at]
        case {"list": items} if form == {"list"}:
            return items_of(items)
        case {"tuple": items} if form == {"tuple"}:
            return tuple(items_of(items))
        case {"dict": list() as pairs} if form == {"dict"} and all(isinstance(p, list) and len(p) == 2 and type(p[0]) in (str, int) for p in pairs):
            return dict(zip((pair[0] for pair in pairs), items_of([pair[1] for pair in pairs]), strict=True))
        case {"series": [_, _, _] as items} if form == {"series"}:
            return Series(*items_of(items))
        case {"record": str() as name, "fields": list() as fields, "items": items} if form == {"record", "fields", "items"}:
            found = items_of(items)
            return tuple.__new__(_class_of(name, tuple(fields), len(found)), found)
        case {"objects": list() as shape, "items": items} if form == {"objects", "items"}:
            return _objects(shape, items_of(items))
    msg = f"no structure: {str(node)[:40]}"
    raise ValueError(msg)


def _objects(shape: list, items: list) -> np.ndarray:
    array = np.empty(len(items), object)
    for k, item in enumerate(items):
        array[k] = item
    if not all(type(size) is int and size >= 0 for size in shape):
        msg = f"no shape: {shape}"
        raise ValueError(msg)
    return array.reshape(shape)


def _class_of(name: str, fields: tuple, num: int) -> type:
    """The named tuple of that name and fields. Nothing is imported for it, and none of its own code runs."""
    module, _, label = name.partition(":")
    found = vars(sys.modules[module]).get(label) if module in sys.modules else None
    if len(fields) != num or not all(isinstance(field, str) for field in fields):
        msg = f"{name}: got {num} items for the fields {fields}"
        raise ValueError(msg)
    if isinstance(found, type) and issubclass(found, tuple) and getattr(found, "_fields", None) == fields:
        return found
    return _record(label if label.isidentifier() else "Record", fields)


@functools.cache
def _record(label: str, fields: tuple[str, ...]) -> type:
    return collections.namedtuple(label.lstrip("_") or "Record", fields)


def restored(leaf: Leaf) -> Any:
    """The value that a leaf was.

    Raises:
        ValueError: no leaf, or words that are no key.
        TypeError: an array of JAX in 64 bits while x64 is off.
    """
    if leaf.kind == "key":
        return jax.random.wrap_key_data(jnp.asarray(leaf.array), impl=leaf.impl)
    if leaf.kind != "jax":
        return leaf.array[()] if leaf.kind == "scalar" else leaf.array
    if jax.dtypes.canonicalize_dtype(leaf.array.dtype) != leaf.array.dtype:
        msg = f"{leaf.path}: got {leaf.array.dtype} while jax_enable_x64 is off; write jax.config.update('jax_enable_x64', True) before loading."
        raise TypeError(msg)
    return jnp.asarray(leaf.array)


# --- into the structure of another tree ------------------------------------------------------------------------------------


def fit(tree: Tree, like: Tree, name: str, *, shapes: bool = True) -> Tree:
    """The leaves of `tree` in the structure of `like`, whose leaves tell shapes and dtypes.

    Raises:
        ValueError: a leaf that is missing, too many, or of another shape or dtype; by its path.
    """

    def named(tree: Tree) -> dict[tuple[str, ...], Any]:
        found = jax.tree_util.tree_flatten_with_path(tree)[0]
        return {tuple(jax.tree_util.keystr((key,), simple=True) for key in path): leaf for path, leaf in found}

    stored, wanted = named(tree), named(like)
    for path in [*wanted, *stored]:
        where = f"{name}: {'/'.join(path)}" if path else name
        if path not in stored or path not in wanted:
            msg = f"{where}: got {'none' if path not in stored else 'a leaf'}; expected {'a leaf' if path not in stored else 'none'} there."
            raise ValueError(msg)
        got, expected = ((jnp.shape(leaf), getattr(leaf, "dtype", type(leaf).__name__)) for leaf in (stored[path], wanted[path]))
        if shapes and got != expected:
            msg = f"{where}: got {got[0]} {got[1]}; expected {expected[0]} {expected[1]}."
            raise ValueError(msg)
    return jax.tree.unflatten(jax.tree.structure(like), [stored[path] for path in wanted])
