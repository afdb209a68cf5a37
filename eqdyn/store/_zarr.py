"""Zarr, version 3, in a zip file: the little of the format that records need, written by hand and compared when it is read.

A reader of all of Zarr runs the codecs that a file names. Here nothing that a file says is interpreted: what describes an array has to be,
byte for byte, what is written for an array of that shape and dtype. One chunk an array, not compressed, so that its size is known before there
is room for it; no dates, so that equal records give equal bytes. The zarr package reads the result, and a test holds that it does.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from eqdyn.store._files import damaged
from eqdyn.store._tree import little_endian

_WORDS: dict[int, Any] = {1: np.uint8, 2: np.uint16}  # for numbers that Zarr does not know
META = "zarr.json"


def about_group(attributes: dict[str, Any]) -> bytes:
    """What describes a group."""
    return _text({"zarr_format": 3, "node_type": "group", "attributes": attributes})


def put(entries: dict[str, bytes], path: str, array: np.ndarray, dimensions: list[str]) -> None:
    """An array of two entries: what describes it, and its chunk."""
    entries[f"{path}/{META}"] = _about_array(array.shape, array.dtype, dimensions)
    if array.size:
        entries[_chunk(path, array.ndim)] = bytes(little_endian(array))


def get(file: str, entries: Mapping[str, bytes], path: str, shape: tuple[int, ...], dtype: np.dtype, dimensions: list[str]) -> np.ndarray:
    """The array at `path`, if it is one of that shape and dtype."""
    chunk = entries.get(_chunk(path, len(shape)), b"")
    if entries.get(f"{path}/{META}") != _about_array(shape, dtype, dimensions) or len(chunk) != math.prod(shape) * dtype.itemsize:
        damaged(file, path, f"it is not described as an array of shape {list(shape)} {dtype}, or not as long")
    return np.frombuffer(chunk, dtype.newbyteorder("<")).astype(dtype).reshape(shape)


def pack(entries: Mapping[str, bytes]) -> bytes:
    """The entries as a zip file."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(entries):
            archive.writestr(zipfile.ZipInfo(name), entries[name])  # without a date
    return file.getvalue()


def unpack(name: str, content: bytes) -> dict[str, bytes]:
    """The entries of a zip file that holds no more than its own size."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            held = archive.infolist()
            if any(one.compress_type != zipfile.ZIP_STORED for one in held) or sum(one.file_size for one in held) > len(content):
                damaged(name, "archive", "got compressed entries, or more bytes than there are")
            return {one.filename: archive.read(one) for one in held}
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        damaged(name, "archive", str(error))


def broken_part(content: bytes) -> str:
    """The first entry whose own checksum is wrong; "archive" where that cannot be told."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return archive.testzip() or "archive"
    except Exception:  # whatever damage does to a reader
        return "archive"


def _chunk(path: str, ndim: int) -> str:
    return f"{path}/c{'/0' * ndim}"


def _about_array(shape: tuple[int, ...], dtype: np.dtype, dimensions: list[str]) -> bytes:
    plain = dtype if dtype.isbuiltin == 1 else np.dtype(_WORDS[dtype.itemsize])
    fill: Any = {"b": False, "c": [0.0, 0.0], "f": 0.0}.get(plain.kind, 0)
    order = {} if plain.itemsize == 1 else {"configuration": {"endian": "little"}}
    return _text({
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": plain.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [max(1, size) for size in shape]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": fill,
        "codecs": [{"name": "bytes"} | order],
        "dimension_names": dimensions,
        "attributes": {},
    })  # fmt: skip


def _text(content: Any) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()
