"""Files that are there whole or not at all, and the one error for those that are neither."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NoReturn

TEXT_BYTES = 2**28  # a manifest or an index beyond this is none
_HINTS = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "make room, and save again"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "write to a folder of your own"),
}


class Damaged(ValueError):  # noqa: N818 - as Interrupted
    """What was stored is not what is there.

    Fields:
        file: the file, relative to the folder that was read.
        field: what in it is wrong: a leaf by its tree path, an entry, or a checksum.
        what: how.
    """

    def __init__(self, file: str, field: str, what: str):
        super().__init__(f"{file}: {field}: {what}; the folder is damaged, or was made by something else; load a copy of it.")
        self.file, self.field, self.what = file, field, what

    def within(self, folder: str) -> Damaged:
        """The same, told from further up."""
        return Damaged(f"{folder}/{self.file}", self.field, self.what)


def damaged(file: str, field: str, what: str) -> NoReturn:
    """Raise `Damaged`."""
    raise Damaged(file, field, what)


def digest(content: bytes | memoryview) -> str:
    """SHA-256, in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def read(folder: Path, name: str, *, most: int = TEXT_BYTES) -> bytes:
    """The bytes of `folder/name`, at most so many; no link is followed below the folder."""
    with opened(folder, name) as (descriptor, size):
        if size > most:
            damaged(name, "size", f"got {size} bytes; expected at most {most}")
        with os.fdopen(os.dup(descriptor), "rb") as file:
            return file.read()


@contextlib.contextmanager
def opened(folder: Path, name: str) -> Iterator[tuple[int, int]]:
    """A descriptor of a regular file below the folder, and its size."""
    path = folder
    for part in name.split("/"):
        path = path / part
        if path.is_symlink():
            damaged(name, "path", f"{part} is a link, which could lead out of the folder")
    if not path.is_file():
        damaged(name, "file", "it is missing")
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0))
    try:
        yield descriptor, os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)


def write(path: Path, chunks: Iterable[bytes | memoryview]) -> None:
    """Put the chunks into a file that is on disk when this returns; under its own name only once it is."""
    aside = path.with_name(f".{path.name}.new")
    try:
        with open(aside, "wb") as file:
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    settle(path.parent)


def settle(directory: Path) -> None:
    """Let the names in a directory reach the disk, where the system can say so."""
    with contextlib.suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove(path: Path) -> None:
    """Remove a file, a link or a directory, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def saving(folder: Path) -> Iterator[None]:
    """What the system refuses is told in one line, as an error of the same class."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        hint = _HINTS.get(error.errno, "look at the disk")
        msg = f"{folder}: could not be written ({os.strerror(error.errno)}); what was saved there before is as it was; {hint}."
        raise OSError(error.errno, msg) from error
