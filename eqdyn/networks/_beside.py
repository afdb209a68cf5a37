"""A process beside the training that reads topology, and the thread that talks to it. Nothing here can stop the training."""

from __future__ import annotations

import contextlib
import io
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

_WAITING = 4  # clouds that may wait; later ones are left out, and counted
_STARTS = 3  # times a process is started, in all
# one thread: the cores are the training's
_ALONE = {"JAX_PLATFORMS": "cpu"} | dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
_CODE = "import sys; from eqdyn.networks._reader import main; main(*sys.argv[1:])"


class Beside:
    """Sends clouds off and hears of their Betti numbers.

    Args:
        scale, max_dim: as in `topology.betti`; the scale a number or a string.
        heard: called from the thread for each answer, `(tag, betti or None, seconds, reason or None)`.
    """

    def __init__(self, scale: Any, max_dim: int, heard: Callable[[Any, list[int] | None, float, str | None], None]):
        self._arguments = [json.dumps(scale), str(max_dim)]
        self._heard = heard
        self._jobs: queue.Queue = queue.Queue(_WAITING)
        self._process: subprocess.Popen | None = None
        self._starts = 0
        self.skipped = 0
        self._thread = threading.Thread(target=self._work, name="eqdyn-topology", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int | None:
        """The process that reads now, if there is one."""
        return None if self._process is None else self._process.pid

    def send(self, tag: Any, cloud: np.ndarray) -> None:
        """Hand a cloud over, at once; left out where too many wait."""
        try:
            self._jobs.put_nowait((tag, cloud))
        except queue.Full:
            self.skipped += 1

    def close(self, seconds: float) -> bool:
        """Wait for what is under way, `seconds` at most, and end the process; whether all was read."""
        with contextlib.suppress(queue.Full):
            self._jobs.put(None, timeout=seconds)
        self._thread.join(seconds)
        done = not self._thread.is_alive()
        self._end()
        return done

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with contextlib.suppress(OSError, ValueError):
                    if pipe is not None:
                        pipe.close()

    def _work(self) -> None:
        with contextlib.suppress(Exception):  # starting takes seconds: it is done while nobody waits
            self._asked(np.zeros((4, 2)))
        while (job := self._jobs.get()) is not None:
            tag, cloud = job
            try:
                answer = self._asked(cloud)
            except Exception as error:
                answer = {"error": f"the reading process was lost ({type(error).__name__}: {error})", "seconds": 0.0}
                self._end()
            self._heard(tag, answer.get("betti"), answer["seconds"], answer.get("error"))

    def _asked(self, cloud: np.ndarray) -> dict:
        if self._process is None:
            if self._starts == _STARTS:
                return {"error": f"the reading process ended {_STARTS} times; it is not started again", "seconds": 0.0}
            self._starts += 1
            # a program of its own, not a copy of the user's: what their script does at the top is not done again
            environment = os.environ | _ALONE | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
            command = [sys.executable, "-c", _CODE, *self._arguments]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        packed = io.BytesIO()
        np.save(packed, cloud, allow_pickle=False)
        process.stdin.write(packed.getbuffer().nbytes.to_bytes(8, "little"))
        process.stdin.write(packed.getbuffer())
        process.stdin.flush()
        line = process.stdout.readline()
        if not line:
            process.wait()
            msg = f"it ended with status {process.returncode}"
            raise ConnectionError(msg)
        return json.loads(line)
