"""IDX, the format of MNIST: two zero bytes, a type, the number of axes, their lengths, and the numbers, all big-endian."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

_BYTES = 8  # the code of unsigned bytes
_PACKED = 1040  # bytes that deflate makes of one at most, and some


def read(path: Path, num_axes: int) -> np.ndarray:
    """The array of unsigned bytes in an IDX file, plain or gzipped (told by its first bytes). Raises ValueError if it is none.

    The lengths in the head are held against the size of the file before anything is read: no more is allocated than the file justifies.
    Damage to a gzipped file is found by its checksum; a plain one has none, and a wrong byte among its numbers is not seen.
    """
    size = path.stat().st_size
    with path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        if not packed:
            return _array(path, raw, num_axes, size, size)
        try:
            with gzip.open(raw) as unpacked:
                return _array(path, unpacked, num_axes, _PACKED * size, None)  # type: ignore[arg-type]
        except (EOFError, OSError, zlib.error) as error:
            msg = f"{path.name}: got a gzip file that is cut short or damaged ({error}); expected a whole one; fetch it again."
            raise ValueError(msg) from error


def _array(path: Path, file: BinaryIO, num_axes: int, most: int, size: int | None) -> np.ndarray:
    """The array in an open file that holds `most` bytes at most, exactly `size` where that is known."""
    start = 4 + 4 * num_axes
    head = file.read(start)
    magic = bytes([0, 0, _BYTES, num_axes])
    if head[:4] != magic:
        msg = f"{path.name}: got first bytes {head[:4].hex() or 'none'}; expected {magic.hex()}, an IDX file of bytes with {num_axes} axes."
        raise ValueError(msg)
    lengths = struct.unpack(f">{num_axes}I", head[4:]) if len(head) == start else ()
    total = math.prod(lengths) if lengths else -1
    held = (most if size is None else size) - start
    if 0 <= total <= held and size in (None, start + total):
        content = file.read(total + 1)  # one more tells whether there is more, and makes gzip look at its checksum
        if len(content) == total:
            return np.frombuffer(content, np.uint8).reshape(lengths)
        found = f"{len(content)}" if len(content) < total else f"more than {total}"
    else:
        found = f"{max(held, 0)}" if size is not None else f"at most {max(held, 0)}"
    wanted = f"{total}, of shape {lengths}" if lengths else "sizes and data"
    msg = f"{path.name}: got {found} bytes after the head; expected {wanted}; fetch the file again."
    raise ValueError(msg)
