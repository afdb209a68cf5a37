"""Reads topology in a process of its own: arrays come in by the pipe, a line of JSON goes out for each. Started by `_beside`."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import sys
import time

import numpy as np


def main(scale: str, max_dim: str) -> None:
    """Reads until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the training
    with contextlib.suppress(OSError, AttributeError):
        os.nice(19)
    from eqdyn import topology

    told, degree = json.loads(scale), int(max_dim)
    source, answers = sys.stdin.buffer, sys.stdout
    while True:
        length = source.read(8)
        if len(length) < 8:  # the pipe was closed
            return
        cloud = np.load(io.BytesIO(source.read(int.from_bytes(length, "little"))), allow_pickle=False)
        begin = time.perf_counter()
        try:
            found: dict = {"betti": list(topology.betti(cloud, scale=told, max_dim=degree))}
        except Exception as error:
            found = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(found | {"seconds": time.perf_counter() - begin}) + "\n")
        answers.flush()
