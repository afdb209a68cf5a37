"""What a sweep takes at most at once, against what was told before it started.

    python3 benchmarks/memory.py

Twenty configurations: rules without and with data, all pairs or not, few or many lanes, records of whole configurations or none. Each runs in a
process of its own; the forecast comes first, and what it compiles is what the sweep then runs. Counted is the largest resident size while the sweep
runs, less the size before it. Asked: at most 1.5 times the forecast.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import common
import jax
import jax.numpy as jnp

import eqdyn as eq
from eqdyn.networks import two_layer

# rule, particles, dimension, lanes, steps, observers
CONFIGURATIONS: list[tuple[str, int, int, int, int, str]] = [
    ("consensus", 20_000, 16, 16, 8, "none"),
    ("consensus", 50_000, 32, 8, 8, "none"),
    ("consensus", 100_000, 64, 8, 6, "none"),
    ("consensus", 4_000, 64, 64, 8, "none"),
    ("consensus", 2_000, 32, 32, 20, "places"),
    ("consensus", 1_000, 64, 64, 40, "places"),
    ("consensus", 4_000, 8, 32, 60, "places"),
    ("consensus", 1_024, 32, 32, 8, "certificate"),
    ("consensus", 2_048, 64, 16, 6, "certificate"),
    ("consensus", 4_096, 16, 8, 4, "certificate"),
    ("attention", 1_024, 32, 16, 8, "none"),
    ("attention", 2_048, 64, 16, 6, "none"),
    ("attention", 4_096, 16, 8, 4, "none"),
    ("attention", 1_024, 16, 32, 16, "places"),
    ("gradient", 2_048, 74, 16, 10, "none"),
    ("gradient", 4_096, 74, 16, 8, "none"),
    ("gradient", 1_024, 74, 32, 20, "places"),
    ("adam", 2_048, 74, 16, 10, "none"),
    ("adam", 8_192, 74, 8, 6, "none"),
    ("adam", 1_024, 74, 16, 6, "certificate"),
]


def asked(row: tuple[str, int, int, int, int, str]) -> dict[str, Any]:
    """The arguments of the sweep."""
    name, num, dim, lanes, steps, watch = row
    x0: Any = jax.random.normal(jax.random.key(0), (num, dim))
    data = None
    if name in ("gradient", "adam"):
        rule = getattr(eq.rules, name)(two_layer.cross_entropy)
        x0, data = two_layer.classifier(0.1 * x0, 64), eq.Batches(eq.data.digits().train, 128)
    else:
        rule = eq.rules.consensus() if name == "consensus" else eq.rules.self_attention()
    group = two_layer.neurons(x0) if data is not None else None
    places, ledger = eq.observe.configuration(stride=2, group=group), eq.observe.certificate(group=group)
    observers = {"none": {}, "certificate": {"ledger": ledger}, "places": {"x": places}}
    etas = jnp.linspace(0.01, 0.1, lanes).tolist()
    return {
        "make_rule": rule, "x0": x0, "grid": {"eta": etas}, "num_steps": steps, "data": data, "lanes": lanes, "observe": observers[watch],
    }  # fmt: skip


def resident(field: str) -> int:
    """Bytes of this process: VmRSS now, VmHWM at most since it was last reset."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[field].split()[0]) * 1024


def measure(index: int) -> dict[str, Any]:
    arguments = asked(CONFIGURATIONS[index])
    told = eq.forecast(**arguments)
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # what the probe gave back is not the sweep's
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    eq.sweep(**arguments, force=True, keep=lambda run: {"end": jnp.zeros(run.lanes)})
    return {"forecast": told.bytes, "peak": resident("VmHWM") - before}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=len(CONFIGURATIONS))
    parser.add_argument("--one", type=int, default=None, help="measure one configuration, in this process")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out" / "memory.json", help="where the JSON goes")
    options = parser.parse_args()
    if options.one is not None:
        print(json.dumps(measure(options.one)))
        return
    rows = []
    for index, row in enumerate(CONFIGURATIONS[: options.rows]):
        done = subprocess.run([sys.executable, __file__, "--one", str(index)], capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(done.stderr)
        found = json.loads(done.stdout.splitlines()[-1])
        names = ("rule", "particles", "dimension", "lanes", "steps", "records")
        mebi = {f"{what}, MiB": found[what] / 2**20 for what in ("forecast", "peak")}
        rows.append(dict(zip(names, row, strict=True)) | mebi | {"peak over forecast": found["peak"] / found["forecast"]})
        print(rows[-1], flush=True)
    common.table("memory of a sweep", rows)
    ratios = [row["peak over forecast"] for row in rows]
    print(f"peak over forecast {min(ratios):.2f} to {max(ratios):.2f}; above 1.5 in {sum(ratio > 1.5 for ratio in ratios)} of {len(rows)}")
    common.write(options.out, {"machine": common.machine(), "rows": rows})


if __name__ == "__main__":
    main()
