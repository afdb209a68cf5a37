"""A tree of arrays in a directory, committed by a marker that is written last.

    leaves.bin     the bytes of the leaves, one after another, little-endian
    index.json     the structure, and of each leaf path, kind, dtype, shape, offset, bytes, SHA-256
    complete       the SHA-256 of index.json

Names are fixed: no path is ever read from a file. Sizes are held against each other before anything is allocated.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np

from eqdyn._types import Tree
from eqdyn.store import _files
from eqdyn.store._files import damaged, digest
from eqdyn.store._structure import DTYPES, KINDS, Leaf, decode, encode, fit, restored

SCHEMA = 1
_ENTRY = {"path": str, "kind": str, "dtype": str, "shape": list, "offset": int, "bytes": int, "sha256": str}


def write(directory: Path, tree: Tree, *, meta: dict[str, Any] | None = None) -> str:
    """Write a tree into a new directory, which is there whole or not at all, and on disk when this returns.

    Args:
        directory: the place; what a dead writer left there is removed.
        tree: dicts, lists, tuples, named tuples and registered classes of arrays, typed keys, numbers, text and None.
        meta: anything that JSON holds.

    Returns:
        The SHA-256 of the index, which holds those of all leaves.

    Raises:
        FileExistsError: the directory holds a tree already.
        TypeError: a leaf of another kind, by its path.
        OSError: the system refuses; nothing is left behind.
    """
    directory = Path(directory)
    if (directory / "complete").exists():
        msg = f"{directory}: got a directory that holds a tree; expected a new one; remove it first."
        raise FileExistsError(msg)
    structure, leaves = encode(tree)
    aside = directory.with_name(f".{directory.name}.new")
    _files.remove(aside)
    try:
        aside.mkdir(parents=True)
        entries: list[dict[str, Any]] = []
        _files.write(aside / "leaves.bin", _blocks(leaves, entries))
        index = _text({"schema": SCHEMA, "structure": structure, "leaves": entries, "meta": meta})
        _files.write(aside / "index.json", [index])
        _files.write(aside / "complete", [_marker(index)])
        _files.remove(directory)
        os.rename(aside, directory)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    _files.settle(directory.parent)
    return digest(index)


def read(directory: Path, like: Tree = None) -> tuple[Tree, Any]:
    """The tree in a directory, and its meta.

    Without `like` the structure is that of the index: named tuples whose class is loaded are themselves again (`eq.Weighted` always),
    others have the same fields; nodes of other classes are dicts. Arrays are of JAX or of NumPy, as they were.

    Args:
        directory: one that `write` made.
        like: a tree of arrays or `jax.ShapeDtypeStruct`, into whose structure the leaves are put.

    Raises:
        Damaged: a file is missing, cut short or changed; says which file, and which leaf or field.
        ValueError: another schema; a leaf that does not fit `like`, by its path.
        TypeError: an array of 64 bits while x64 is off.
    """
    directory = Path(directory)
    index = _files.read(directory, "index.json")
    if _files.read(directory, "complete", most=2**10) != _marker(index):
        damaged("complete", "sha256", "it is not that of index.json")
    content = parsed("index.json", index)
    if content.get("schema") != SCHEMA:
        msg = f"{directory / 'index.json'}: schema: got {content.get('schema')!r}; expected {SCHEMA}; read it with the eqdyn that wrote it."
        raise ValueError(msg)
    if set(content) != {"schema", "structure", "leaves", "meta"} or not isinstance(content["leaves"], list):
        damaged("index.json", "leaves", f"got the fields {sorted(content)}")
    offset = 0
    for entry in content["leaves"]:
        offset = _checked(entry, offset)
    with _files.opened(directory, "leaves.bin") as (descriptor, size):
        if size != offset:
            damaged("leaves.bin", "size", f"got {size} bytes; expected {offset}")
        with os.fdopen(os.dup(descriptor), "rb") as file:
            leaves = [_leaf(entry, file) for entry in content["leaves"]]
    try:
        tree = decode(content["structure"], [restored(leaf) for leaf in leaves])
    except (ValueError, KeyError, RecursionError) as error:
        damaged("index.json", "structure", str(error))
    return (tree if like is None else fit(tree, like, str(directory))), content["meta"]


def parsed(name: str, text: bytes) -> dict[str, Any]:
    """The JSON object in a file."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        damaged(name, "JSON", str(error))
    if not isinstance(content, dict):
        damaged(name, "JSON", f"got {type(content).__name__}; expected an object")
    return content


def _text(content: Any) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()


def _marker(index: bytes) -> bytes:
    return f"{digest(index)}\n".encode()


def _blocks(leaves: list[Leaf], entries: list[dict[str, Any]]) -> Any:
    """The bytes of each leaf; what the index says of it is appended on the way."""
    offset = 0
    for leaf in leaves:
        block = little_endian(leaf.array)
        entries.append({**leaf.entry(), "offset": offset, "bytes": len(block), "sha256": digest(block)})
        offset += len(block)
        yield block


def little_endian(array: np.ndarray) -> memoryview:
    """The bytes of an array in the order of rows."""
    array = np.ascontiguousarray(array)
    array = array.byteswap() if sys.byteorder == "big" else array
    return array.reshape(-1).view(np.uint8).data


def _checked(entry: Any, offset: int) -> int:
    """The end of a leaf that begins at `offset`, if its entry makes sense."""
    if not isinstance(entry, dict):
        damaged("index.json", "leaves", f"got {str(entry)[:40]} among them")
    field = str(entry.get("path"))
    more = {"impl": str} if entry.get("kind") == "key" else {}
    if {name: type(value) for name, value in entry.items()} != {**_ENTRY, **more} or entry["dtype"] not in DTYPES or entry["kind"] not in KINDS:
        damaged("index.json", field, f"got the entry {str(entry)[:200]}")
    if not all(type(size) is int and 0 <= size < 2**48 for size in entry["shape"]) or len(entry["shape"]) > 32:
        damaged("index.json", field, f"got the shape {entry['shape']}")
    num_bytes = math.prod(entry["shape"]) * DTYPES[entry["dtype"]].itemsize
    if entry["offset"] != offset or entry["bytes"] != num_bytes:
        what = f"got {entry['bytes']} bytes at {entry['offset']}; expected {num_bytes} at {offset}"
        damaged("index.json", field, what)
    return offset + num_bytes


def _leaf(entry: dict[str, Any], file: Any) -> Leaf:
    array = np.empty(entry["shape"], DTYPES[entry["dtype"]])
    block = array.reshape(-1).view(np.uint8).data
    if file.readinto(block) != entry["bytes"] or digest(block) != entry["sha256"]:
        damaged("leaves.bin", entry["path"], "its bytes do not have the SHA-256 in the index")
    if sys.byteorder == "big":
        array = array.byteswap()
    return Leaf(entry["path"], entry["kind"], array, entry.get("impl"))
