"""Particles over several devices: weak scaling, and one step of 200,000 particles with its pair constant.

    python3 benchmarks/scale.py

Weak scaling: particles a device fixed, on 1, 2, 4 devices of one process (a CPU that XLA is told to split; they share its cores, so
that beyond as many devices as cores nothing can be gained). All-pairs work grows with the square of N: what should stay is the time
times devices over N^2, "of one device" in the table; 1 is perfect, up to the number of cores. A sum over particles: the time itself.
On GPUs, where there are some, each is a device.

The large step runs in a process of its own, which tells its peak memory: bounded confidence (all pairs by differences), then K_pair and
mu of that step, on as many devices as cores. `--particles` says how many.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
LARGE = "--in-this-process" in sys.argv
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={CORES if LARGE else 4}"

import common  # noqa: E402 - XLA is told first
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402

import eqdyn as eq  # noqa: E402

DIM, RADIUS = 32, 7.5  # of standard normal particles in 32 dimensions some 40% of all are within reach


def start(n: int, devices: list) -> jax.Array:
    mesh = jax.make_mesh((len(devices),), ("particles",), axis_types=(jax.sharding.AxisType.Auto,), devices=devices)
    return eq.parallel.shard(jax.random.normal(jax.random.key(0), (n, DIM), jnp.float32), mesh)


def work(x: jax.Array) -> dict[str, Callable[[], Any]]:
    """What is timed, by name."""

    def steps(rule: eq.Rule, num: int) -> Callable[[], Any]:
        return lambda: eq.simulate(rule, x, eta=0.5, num_steps=num, chunk=num).x

    u = jax.jit(lambda x: jnp.sin(x) - x)(x)
    return {
        "mean field, 100 steps": steps(eq.rules.kuramoto(), 100),
        "bounded confidence": steps(eq.rules.hegselmann_krause(radius=RADIUS), 1),
        "self-attention": steps(eq.rules.self_attention(beta=0.1), 1),
        "pair constants": lambda: eq.measure.pair_constants(x, u),
    }


def weak(kind: str, per_device: int, repeats: int) -> list[dict[str, Any]]:
    try:
        devices = jax.devices(kind)
    except RuntimeError:
        return [
            {"device": f"no {kind.upper()} here", "work": "-", "devices": 0, "particles": 0, "seconds": "-", "first call": "-", "of one device": "-"}
        ]
    calls, sizes = {}, {}
    for num in (1, 2, 4):
        if num <= len(devices):
            x = start(num * per_device, devices[:num])
            for name, call in work(x).items():
                calls[num, name], sizes[num, name] = call, x.shape[0]
    times = common.interleaved(calls, repeats)
    rows = []
    for num, name in sorted(calls, key=lambda key: (key[1], key[0])):
        seconds, alone = times[num, name]["median"], times[1, name]["median"]
        grows = 1 if name.startswith("mean field") else num  # of the work of a device
        rows.append(
            {
                "device": kind,
                "work": name,
                "devices": num,
                "particles": sizes[num, name],
                "seconds": seconds,
                "first call": times[num, name]["first"],
                "of one device": alone * grows / seconds,
            }
        )
    return rows


def large(n: int) -> dict[str, Any]:
    """One step of all pairs and its pair constant: seconds, compilation included, and the most memory this process has held."""
    devices = jax.devices("cpu")[:CORES]
    n -= n % len(devices)
    x = start(n, devices)
    began = time.perf_counter()
    run = eq.simulate(eq.rules.hegselmann_krause(radius=RADIUS), x, num_steps=1)
    stepped = time.perf_counter()
    found = eq.measure.pair_constants(x, run.x - x)
    k_pair = float(found.k_pair)
    done = time.perf_counter()
    if k_pair < float(found.mu) * (1 - 1e-5):  # no pair approaches faster than it moves: seen once, on a crowded machine, and not again
        msg = f"K_pair {k_pair} is below mu {float(found.mu)}: an answer that cannot be."
        raise RuntimeError(msg)
    unit = 2**20 if sys.platform != "darwin" else 2**30
    return {
        "particles": n,
        "dimension": DIM,
        "devices": len(devices),
        "step, s": stepped - began,
        "pair constant, s": done - stepped,
        "peak, GiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit,
        "K_pair": k_pair,
        "mu": float(found.mu),
        "status": run.status,
    }


def apart(n: int) -> dict[str, Any]:
    call = [sys.executable, __file__, "--in-this-process", "--particles", str(n)]
    return json.loads(subprocess.run(call, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--particles", type=int, help="of the large step (default: 200,000; 4,096 with --quick)")
    parser.add_argument("--repeats", type=int, default=5, help="timed rounds; the median counts (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="few particles, to see that it runs; figures are not to be quoted")
    parser.add_argument("--in-this-process", action="store_true", help="the large step alone, as a line of JSON")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out" / "scale.json", help="where the JSON goes")
    args = parser.parse_args()
    particles = args.particles or (4096 if args.quick else 200_000)
    if args.in_this_process:
        print(json.dumps(large(particles)))
        return
    machine = common.machine()
    print(", ".join(f"{name} {value}" for name, value in machine.items()), "| float32")
    per_device = 256 if args.quick else 4096
    rows = [row for kind in ("cpu", "gpu") for row in weak(kind, per_device, args.repeats)]
    common.table(f"weak scaling, {per_device:,} particles a device in {DIM} dimensions", rows)
    steps = [apart(particles)]
    common.table("one step of all pairs, and its pair constant", steps)
    common.write(
        args.out,
        {"machine": machine, "dtype": "float32", "repeats": args.repeats, "quick": args.quick, "rows": {"weak scaling": rows, "large step": steps}},
    )


if __name__ == "__main__":
    main()
