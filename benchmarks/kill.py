"""A sweep is killed with kill -9 at random moments and started again, until it is done: are its files those of the sweep that nobody killed?

    python3 benchmarks/kill.py

Each round starts the sweep in a new folder, kills its process after a random time, every second time counted from the first cell that it commits
(starting Python, compiling, computing and writing are all hit), starts it again, and so on; the last start is left alone. With `--workers 2` one of
two that share the folder is killed. Then every file of the folder is held against the unbroken one's, the manifest but for its section `log`; cells
that were done before a kill must not have been written again, and no claim may be left. Exits with 1 if anything differs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import common

ROOT = Path(__file__).parent.parent
SWEEP = """
import sys
import jax, jax.numpy as jnp, eqdyn as eq
def start(key):
    return eq.shapes.disc(64, key=key).points
grid = {"eta": [0.1, 0.5, 1.0, 1.5, 2.5], "seed": range(40)}
watch = {"ledger": eq.observe.certificate()}
eq.sweep(eq.rules.consensus(), start, grid=grid, num_steps=500, lanes=4, folder=sys.argv[1], force=True, observe=watch, lease=5.0)
print("done", flush=True)
"""


def started(folder: Path) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_COMPILATION_CACHE_DIR": str(folder.parent / "cache")}
    environment |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0"}
    return subprocess.Popen([sys.executable, "-c", SWEEP, str(folder)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def files(folder: Path) -> dict[str, Any]:
    held: dict[str, Any] = {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    manifest = json.loads(held.pop("manifest.json"))
    manifest.pop("log")
    return held | {"manifest.json": manifest}


def stamps(folder: Path) -> dict[str, int]:
    return {path.parent.name: path.stat().st_mtime_ns for path in (folder / "cells").glob("[0-9]*/complete")}


def round_of(folder: Path, kills: int, whole: dict[str, Any], draw: random.Random, workers: int) -> dict[str, Any]:
    """One folder, killed so many times."""
    again, during, done_at = 0, {"start": 0, "compute": 0}, []
    for number in range(kills):
        before = stamps(folder)
        others = [started(folder) for _ in range(workers - 1)]
        worker = started(folder)
        if number % 2:  # at work: computing and writing
            while worker.poll() is None and len(stamps(folder)) == len(before):
                time.sleep(0.005)
            time.sleep(draw.uniform(0.0, 0.5))
        else:  # at any time, most of which is the start
            time.sleep(draw.uniform(0.0, 4.0))
        worker.send_signal(signal.SIGKILL)
        worker.communicate()
        for other in others:
            other.communicate(timeout=300)
        after = stamps(folder)
        again += sum(after.get(name) != stamp for name, stamp in before.items())
        during["compute" if len(after) > len(before) else "start"] += 1
        done_at.append(len(after))
    before = stamps(folder)
    last = started(folder)
    out, err = last.communicate(timeout=300)
    again += sum(stamps(folder).get(name) != stamp for name, stamp in before.items())
    found = files(folder)
    differs = sorted(name for name in set(whole) | set(found) if whole.get(name) != found.get(name))
    return {"kills": kills, "ended": out.strip() or err[-200:], "cells at each kill": done_at, "done again": again, "differs": differs, **during}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out" / "kill.json", help="where the JSON goes")
    options = parser.parse_args()
    draw = random.Random(options.seed)
    place = Path(tempfile.mkdtemp())
    try:
        out, err = started(place / "whole").communicate(timeout=600)
        if out != "done\n":
            sys.exit(err)
        whole = files(place / "whole")
        rows = []
        for k in range(options.rounds):
            kills = options.kills // options.rounds + (k < options.kills % options.rounds)
            rows.append(round_of(place / f"round{k}", kills, whole, draw, options.workers))
            print(rows[-1], flush=True)
            shutil.rmtree(place / f"round{k}")
    finally:
        shutil.rmtree(place, ignore_errors=True)
    bad = [row for row in rows if row["ended"] != "done" or row["differs"] or row["done again"]]
    table = [
        {
            "kills": sum(row["kills"] for row in rows),
            "files": len(whole),
            "rounds that differ": len(bad),
            "cells done again": sum(r["done again"] for r in rows),
        }
    ]
    common.table("killed with kill -9 and started again", table)
    common.write(options.out, {"machine": common.machine(), "rows": rows, "table": table})
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
