"""Records in a Zarr archive: one for each time a run is saved, and never touched again.

An array that grows in place would have its last chunk and its length rewritten at every save, in two files: a kill between the two, and
what was committed before is no longer what it was. Here what is new goes into a file of its own, which is there whole or not at all,
and has one checksum.

In the archive every series is a group, `loss` or `observed/NAME`, with the absolute steps as `step` and an array for each leaf of its
values; `xarray.open_zarr(zarr.storage.ZipStore(file, mode="r"), group="loss", consolidated=False)` reads it.
"""

from __future__ import annotations

import json
import math
import re
import urllib.parse
from typing import Any, NamedTuple

import jax
import numpy as np

from eqdyn._types import Tree
from eqdyn.store import _zarr
from eqdyn.store._files import Damaged, damaged, digest
from eqdyn.store._structure import DTYPES, Leaf, decode, encode
from eqdyn.store._tree import little_endian, parsed


class Records(NamedTuple):
    """What a series gained: `steps` `(t,)`, and values with t along `axis`. `place` is where the series is in the run, `group` in the archive."""

    place: str
    group: str
    axis: int
    steps: np.ndarray
    values: Tree


def group_name(path: Any) -> str:
    """The name of a series in the archive, from its path in the carry; whatever an observer is called, it is one name."""
    keys = [jax.tree_util.keystr((key,), simple=True) for key in path]
    return "/".join(["observed" if keys[0] in ("watched", "host") else keys[0], *map(_quoted, keys[1:])])


def _quoted(text: str) -> str:
    return urllib.parse.quote(text, safe="").replace(".", "%2E").replace("_", "%5F" if text.startswith("_") else "_") or "%"


# --- into an archive -------------------------------------------------------------------------------------------------------


def pack(records: list[Records]) -> bytes:
    """The archive. Equal records give equal bytes."""
    entries: dict[str, bytes] = {}
    for one in records:
        structure, leaves = encode(_with_bytes(one.values))
        labels = _labels(leaves)
        about = {"place": one.place, "axis": one.axis, "structure": structure}
        about["leaves"] = [{**leaf.entry(), "name": label} for leaf, label in zip(leaves, labels, strict=True)]
        rooms = one.group.split("/")
        entries |= {"/".join([*rooms[:k], _zarr.META]): _zarr.about_group({}) for k in range(len(rooms))}
        entries[f"{one.group}/{_zarr.META}"] = _zarr.about_group(about)
        num = len(one.steps)
        _zarr.put(entries, f"{one.group}/step", one.steps.astype(np.int64), ["step"])
        for leaf, label in zip(leaves, labels, strict=True):
            _zarr.put(entries, f"{one.group}/{label}", leaf.array, _dimensions(label, leaf.array.shape, one.axis, num))
    return _zarr.pack(entries)


def _labels(leaves: list[Leaf]) -> list[str]:
    """Names for arrays: what can be read of their paths, `values` where there is nothing to be read."""
    labels: list[str] = []
    for leaf in leaves:
        label = re.sub(r"[^A-Za-z0-9]+", "_", leaf.path).strip("_") or "values"
        while label in ("step", *labels):
            label += "_"
        labels.append(label)
    return labels


def _dimensions(label: str, shape: tuple[int, ...], axis: int, num: int) -> list[str]:
    """Names for axes. What holds objects as bytes has none along the steps."""
    known = ["lane", "step"][1 - axis :] if shape[axis : axis + 1] == (num,) else []
    return known + [f"{label}_{k}" for k in range(len(shape) - len(known))]


class _Packed(NamedTuple):
    """Objects, of which Zarr knows nothing, as bytes."""

    content: Any


def _is_packed(node: Any) -> bool:
    return isinstance(node, _Packed)


def _with_bytes(values: Tree) -> Tree:
    return jax.tree.map(lambda leaf: _Packed(_bytes_of(leaf)) if isinstance(leaf, np.ndarray) and leaf.dtype == object else leaf, values)


def _bytes_of(objects: np.ndarray) -> np.ndarray:
    structure, leaves = encode(objects)
    head = json.dumps([structure, [leaf.entry() for leaf in leaves]]).encode()
    return np.frombuffer(b"".join([len(head).to_bytes(8, "little"), head, *(bytes(little_endian(leaf.array)) for leaf in leaves)]), np.uint8)


# --- and out of it ---------------------------------------------------------------------------------------------------------


def unpack(name: str, content: bytes, checksum: str) -> list[Records]:
    """The records in an archive.

    Raises:
        Damaged: it does not have that checksum, or is none that `pack` made.
    """
    if digest(content) != checksum:
        damaged(name, _zarr.broken_part(content), "its bytes do not have the SHA-256 in the manifest")
    entries, found = _zarr.unpack(name, content), []
    for key in sorted(entries):
        about = parsed(name, entries[key]).get("attributes") if key.endswith(f"/{_zarr.META}") else None
        if about:
            try:
                found.append(_records(name, key.removesuffix(f"/{_zarr.META}"), about, entries))
            except (KeyError, TypeError, ValueError, AttributeError, RecursionError, OverflowError) as error:
                if isinstance(error, Damaged):
                    raise
                damaged(name, key, f"it describes no series ({error})")
    return found


def _records(name: str, path: str, about: dict[str, Any], entries: dict[str, bytes]) -> Records:
    place, axis, leaves = about["place"], about["axis"], about["leaves"]
    num = len(entries.get(f"{path}/step/c/0", b"")) // 8
    steps = _zarr.get(name, entries, f"{path}/step", (num,), np.dtype(np.int64), ["step"])
    values = []
    for leaf in leaves:
        shape = tuple(leaf["shape"])
        values.append(_zarr.get(name, entries, f"{path}/{leaf['name']}", shape, DTYPES[leaf["dtype"]], _dimensions(leaf["name"], shape, axis, num)))
    tree = jax.tree.map(lambda node: _objects_of(node.content) if _is_packed(node) else node, decode(about["structure"], values), is_leaf=_is_packed)
    if not isinstance(place, str) or axis not in (0, 1) or any(np.shape(leaf)[axis : axis + 1] != (num,) for leaf in jax.tree.leaves(tree)):
        damaged(name, path, "its arrays are not as long as its steps")
    return Records(place, path, axis, steps, tree)


def _objects_of(packed: np.ndarray) -> np.ndarray:
    content = packed.tobytes()
    at = 8 + int.from_bytes(content[:8], "little")
    structure, entries = json.loads(content[8:at])
    values = []
    for entry in entries:
        dtype, size = DTYPES[entry["dtype"]], math.prod(entry["shape"])
        values.append(np.frombuffer(content, dtype, size, at).reshape(entry["shape"]).copy())
        at += size * dtype.itemsize
    return decode(structure, values)
