"""Records in a Zarr archive: one for each time a run is saved, and never touched again.

An array that grows in place would have its last chunk and its length rewritten at every save, in two files: a kill between the two, and
what was committed before is no longer what it was. Here what is new goes into a file of its own, which is there whole or not at all,
and has one checksum. Arrays are not compressed: how much they will take is known from the size of the file.

In the archive every series is a group, `loss` or `observed/NAME`, with the absolute steps as `step` and an array for each leaf of its
values; `xarray.open_zarr(zarr.storage.ZipStore(file, mode="r"), group="loss", consolidated=False)` reads it.
"""

from __future__ import annotations

import io
import json
import math
import re
import urllib.parse
import zipfile
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from eqdyn._types import Tree
from eqdyn.store._files import Damaged, damaged, digest
from eqdyn.store._structure import DTYPES, KINDS, Leaf, decode, encode
from eqdyn.store._tree import little_endian, parsed

_WORDS: dict[int, Any] = {1: np.uint8, 2: np.uint16}  # for numbers that Zarr does not know


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


def _zarr() -> Any:
    try:
        import zarr
    except ImportError as error:
        msg = "store: zarr is missing, which holds what a run has recorded; write pip install 'eqdyn[data]'."
        raise ImportError(msg) from error
    return zarr


# --- into an archive -------------------------------------------------------------------------------------------------------


def pack(records: list[Records]) -> bytes:
    """The archive. Equal records give equal bytes."""
    zarr = _zarr()
    store = zarr.storage.MemoryStore()
    root = zarr.create_group(store)
    for one in records:
        structure, leaves = encode(_with_bytes(one.values))
        names = ["step", *_labels(leaves)]
        entries = [leaf.entry() | {"name": name} for name, leaf in zip(names[1:], leaves, strict=True)]
        about = {"place": one.place, "axis": one.axis, "structure": structure, "leaves": entries}
        group = root.create_group(one.group, attributes=about)
        for name, array in zip(names, [one.steps.astype(np.int64), *(leaf.array for leaf in leaves)], strict=True):
            plain = array if array.dtype.isbuiltin == 1 else array.view(_WORDS[array.dtype.itemsize])
            _put(group, name, plain, 0 if name == "step" else one.axis, len(one.steps))
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(store._store_dict):
            archive.writestr(zipfile.ZipInfo(name), store._store_dict[name].to_bytes())  # without a date
    return file.getvalue()


def _labels(leaves: list[Leaf]) -> list[str]:
    """Names for arrays: what can be read of their paths, `values` where there is but one."""
    labels: list[str] = []
    for k, leaf in enumerate(leaves):
        label = re.sub(r"[^A-Za-z0-9]+", "_", leaf.path).strip("_") or "values"
        labels.append(f"{label}_{k}" if label in ("step", *labels) else label)
    return labels


def _put(group: Any, name: str, array: np.ndarray, axis: int, num: int) -> None:
    dimensions = ["lane", "step"][1 - axis :] if array.shape[axis : axis + 1] == (num,) else []
    dimensions += [f"{name}_{k}" for k in range(array.ndim - len(dimensions))]
    chunks = tuple(max(1, size) for size in array.shape)
    made = group.create_array(
        name, shape=array.shape, chunks=chunks, dtype=array.dtype, compressors=None, dimension_names=dimensions,
        config={"write_empty_chunks": True},
    )  # fmt: skip
    made[...] = array


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
        damaged(name, _broken_part(content), "its bytes do not have the SHA-256 in the manifest")
    zarr = _zarr()
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                damaged(name, "archive", "got compressed entries")
            entries = {entry.filename: archive.read(entry) for entry in archive.infolist()}
        store = zarr.storage.MemoryStore({key: zarr.core.buffer.cpu.Buffer.from_bytes(value) for key, value in entries.items()})
        root = zarr.open_group(store, mode="r")
        return [_records(name, group, path, entries) for path, group in _groups(root, entries)]
    except (zipfile.BadZipFile, KeyError, TypeError, ValueError, RecursionError) as error:
        if isinstance(error, Damaged):
            raise
        damaged(name, "archive", str(error))


def _broken_part(content: bytes) -> str:
    """The first array whose own checksum is wrong; the archive, where it cannot be told."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return archive.testzip() or "archive"
    except Exception:  # whatever damage does to a reader
        return "archive"


def _groups(root: Any, entries: dict[str, bytes]) -> Iterator[tuple[str, Any]]:
    for key in sorted(entries):
        if key.endswith("/zarr.json") and "place" in parsed(key, entries[key]).get("attributes", {}):
            path = key.removesuffix("/zarr.json")
            yield path, root[path]


def _records(name: str, group: Any, path: str, entries: dict[str, bytes]) -> Records:
    about = group.attrs.asdict()
    steps = _array(name, group, path, "step", np.dtype(np.int64), entries)
    leaves = []
    for entry in about["leaves"]:
        if entry["dtype"] not in DTYPES or entry["kind"] not in KINDS:
            damaged(name, f"{path}{entry['path']}", f"got the entry {str(entry)[:200]}")
        leaves.append(Leaf(entry["path"], entry["kind"], _array(name, group, path, entry["name"], DTYPES[entry["dtype"]], entries)))
    values = decode(about["structure"], [leaf.array for leaf in leaves])
    values = jax.tree.map(lambda node: _objects_of(node.content) if _is_packed(node) else node, values, is_leaf=_is_packed)
    place, axis = about["place"], about["axis"]
    if not isinstance(place, str) or axis not in (0, 1) or any(np.shape(leaf)[axis : axis + 1] != steps.shape for leaf in jax.tree.leaves(values)):
        damaged(name, path, "its arrays are not as long as its steps")
    return Records(place, path, axis, steps, values)


def _array(name: str, group: Any, path: str, label: str, dtype: np.dtype, entries: dict[str, bytes]) -> np.ndarray:
    """One array; its bytes are there before room is made for it."""
    found = group[label]
    held = sum(len(value) for key, value in entries.items() if key.startswith(f"{path}/{label}/c"))
    if found.compressors or found.dtype.itemsize != dtype.itemsize or math.prod(found.shape) * dtype.itemsize != held:
        damaged(name, f"{path}/{label}", f"got shape {found.shape} {found.dtype} in {held} bytes")
    return np.asarray(found[...]).view(dtype)


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
