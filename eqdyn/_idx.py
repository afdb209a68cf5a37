"""IDX, the format of MNIST: two zero bytes, a type, the number of axes, their lengths, and the numbers, all big-endian."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

_BYTES = 8  # the code of unsigned bytes


def read(path: Path, num_axes: int) -> np.ndarray:
    """The array of unsigned bytes in an IDX file, plain or gzipped (told by its first bytes). Raises ValueError if it is none."""
    content = path.read_bytes()
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except (EOFError, OSError, zlib.error) as error:
            msg = f"{path.name}: got a gzip file that is cut short or damaged ({error}); expected a whole one; fetch it again."
            raise ValueError(msg) from error
    magic = bytes([0, 0, _BYTES, num_axes])
    if content[:4] != magic:
        msg = f"{path.name}: got first bytes {content[:4].hex() or 'none'}; expected {magic.hex()}, an IDX file of bytes with {num_axes} axes."
        raise ValueError(msg)
    start = 4 + 4 * num_axes
    lengths = struct.unpack(f">{num_axes}I", content[4:start]) if len(content) >= start else ()
    if not lengths or len(content) - start != math.prod(lengths):
        wanted = f"{math.prod(lengths)}, of shape {lengths}" if lengths else "sizes and data"
        msg = f"{path.name}: got {max(len(content) - start, 0)} bytes after the head; expected {wanted}; fetch the file again."
        raise ValueError(msg)
    return np.frombuffer(content, np.uint8, offset=start).reshape(lengths)
