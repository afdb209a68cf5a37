"""Betti numbers at every step of a run, beside the paper's recipe for one reading.

    python3 benchmarks/watching.py

1,024 neurons in the plane for 2,700 steps: the paper's 2-D network, its starts, gradient descent at 2.5e-3. Run without and with
`observe.betti`; the paper's recipe (GUDHI, diameter/4, dimension 3) reads the start once, in a process that is killed at its limit.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import common
import jax
import numpy as np

import eqdyn as eq
from eqdyn.networks import two_layer

RECIPE = """
import resource, sys, time, numpy as np
resource.setrlimit(resource.RLIMIT_AS, (16 * 2**30,) * 2)  # billions of simplices must not take the machine down
from eqdyn import topology
x = np.load(sys.argv[1])
began = time.perf_counter()
found = topology.paper_recipe(x, memory=2**36)
print(time.perf_counter() - began, *found)
"""


def recipe(x: np.ndarray, limit: float, folder: Path) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "watching_points.npy"
    np.save(path, np.asarray(x, np.float64))
    try:
        done = subprocess.run([sys.executable, "-c", RECIPE, path], capture_output=True, text=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        return {"seconds": limit, "status": f"not finished in {limit:g} s"}
    if done.returncode:
        said = done.stderr.strip().splitlines()
        return {"seconds": float("nan"), "status": f"ended: {said[-1] if said else done.returncode}"}
    seconds, *betti = done.stdout.split()
    return {"seconds": float(seconds), "status": f"ok, {tuple(map(int, betti))}"}


def main() -> None:
    options = common.arguments(__doc__.splitlines()[0], "watching")
    num_steps, width, limit = (60, 128, 30.0) if options.quick else (2700, 1024, 90.0)
    of_start, of_data, of_run = jax.random.split(jax.random.key(0), 3)
    split, rule = eq.data.teacher(key=of_data), eq.rules.gradient(two_layer.regression_field())
    rows = []
    for name, start in (("figure eight", eq.shapes.start_2d), ("two circles", eq.shapes.start_2d_two_circles)):
        x0 = start(width, key=of_start).points
        runs: dict[str, Any] = {"run alone": {}, "run, b0 b1 b2 at every step": {"betti": eq.observe.betti()}}
        for what, watch in runs.items():
            for warm in (True, False):  # the first compiles
                began = time.perf_counter()
                steps = 20 if warm else num_steps
                run = eq.simulate(rule, x0, eta=2.5e-3, num_steps=steps, data=eq.Batches(split.train, 128), key=of_run, observe=watch, every=27)
                seconds = time.perf_counter() - began
            read = run.observed.get("betti")
            status = run.status if read is None else f"{len(read)} readings, {tuple(read.values[0].tolist())} -> {tuple(read.values[-1].tolist())}"
            rows.append({"start": name, "row": what, "seconds": seconds, "status": status})
        rows.append({"start": name, "row": "paper's recipe, ONE reading of the start", **recipe(np.asarray(x0), limit, options.out.parent)})
    common.table(f"{width} neurons in the plane, {num_steps} steps", rows)
    common.write(options.out, {"machine": common.machine(), "rows": rows})


if __name__ == "__main__":
    main()
