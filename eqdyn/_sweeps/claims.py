"""Who computes which cell: claims in a shared folder, so that workers may come and go.

A claim is a file made in one atomic step. Its worker renews it; one that is not renewed for a lease, or whose process on this host is gone,
may be taken over. Claims decide who works, never what comes out: a cell is committed whole by an atomic rename, and computed twice has the
same bits.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

LEASE = 60.0  # seconds after which a claim that was not renewed is a dead worker's


class Claims:
    """The claims of one worker in `folder`, which all workers share."""

    def __init__(self, folder: Path, lease: float = LEASE):
        self.folder, self.lease = folder, lease
        self.worker = {"host": socket.gethostname(), "pid": os.getpid(), "born": _born(os.getpid()), "id": uuid.uuid4().hex}
        folder.mkdir(parents=True, exist_ok=True)

    @contextlib.contextmanager
    def held(self, name: str) -> Iterator[bool]:
        """Whether the claim on `name` is ours, for as long as the block runs."""
        path = self.folder / name
        if not self._made(path) and not (self._dead(path) and self._made(path)):
            yield False
            return
        done = threading.Event()
        renewing = threading.Thread(target=self._renew, args=(path, done), name="eqdyn-claim", daemon=True)
        renewing.start()
        try:
            yield True
        finally:
            done.set()
            renewing.join()
            if self._whose(path) == self.worker:
                path.unlink(missing_ok=True)

    def _made(self, path: Path) -> bool:
        """Whether nobody had it. Written aside and linked: whoever reads a claim reads all of it."""
        aside = self.folder / f".{uuid.uuid4().hex}"
        aside.write_text(json.dumps(self.worker))
        try:
            os.link(aside, path)
        except FileExistsError:
            return False
        finally:
            aside.unlink()
        return True

    def _dead(self, path: Path) -> bool:
        """Whether the claim was a dead worker's, and is out of the way now."""
        whose = self._whose(path)
        if not path.exists():
            return True
        if not (whose is not None and self._gone(whose)) and self._age(path) < self.lease:  # what cannot be read has a lease, too
            return False
        aside = self.folder / f".{uuid.uuid4().hex}"
        try:
            path.rename(aside)
        except FileNotFoundError:  # somebody else was faster
            return False
        if self._whose(aside) != whose:  # and has claimed it already: give it back, unless a third has
            with contextlib.suppress(FileExistsError):
                os.link(aside, path)
            aside.unlink()
            return False
        aside.unlink()
        return True

    def _gone(self, whose: dict) -> bool:
        """Whether its process was on this host and is no more; a number that was given again is told by the time of birth."""
        if whose.get("host") != self.worker["host"] or not isinstance(whose.get("pid"), int):
            return False
        return _born(whose["pid"]) != whose.get("born")

    def _age(self, path: Path) -> float:
        """Seconds since it was renewed, by the clock of the file system: hosts need not agree on the time."""
        aside = self.folder / f".{uuid.uuid4().hex}"
        aside.touch()
        try:
            return aside.stat().st_mtime - path.stat().st_mtime
        except FileNotFoundError:
            return 0.0
        finally:
            aside.unlink()

    def _renew(self, path: Path, done: threading.Event) -> None:
        while not done.wait(self.lease / 4):
            with contextlib.suppress(OSError):
                os.utime(path)

    @staticmethod
    def _whose(path: Path) -> dict | None:
        try:
            found = json.loads(path.read_text())
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def sweep_up(self) -> None:
        """Remove what dead workers left of their claims."""
        for path in self.folder.glob(".*"):
            if self._age(path) > self.lease:
                path.unlink(missing_ok=True)
        for path in self.folder.glob("[!.]*"):
            self._dead(path)


def _born(pid: int) -> str | None:
    """When a process started, in ticks since boot, where the system tells; whether it is there at all elsewhere."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return None
    except OSError:
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except OSError:
        pass
    return "alive"
