"""MNIST at 0.5 and 0.1: every change of the Betti numbers at diameter/4, with its verdict, beside locally scaled ones.

    EQDYN_DATA=... python3 benchmarks/mnist_topology.py

784-1024-10 sigmoid, cross-entropy, batch 1,024, inputs in [0, 1], neurons starting on a sphere in R^794; gradient descent for 100 epochs at 0.5,
every step certified, and for 200 at 0.1 (as long as 40 at 0.5 in eta * t), every twentieth. Start, middle and end of the run at 0.5 go to
`out/mnist_checkpoints.npz`, for `benchmarks/topology.py`.
"""

from __future__ import annotations

import argparse
import itertools
import time
from pathlib import Path
from typing import Any

import common
import jax
import numpy as np

import eqdyn as eq
from eqdyn.networks import two_layer

BATCH, OUT = 1024, Path(__file__).parent / "out"
QUANTILES = (0.03, 0.045, 0.06, 0.08)


def train(eta: float, looks: list[int], stride: int, width: int, seed: int, split: Any, kept: dict[int, np.ndarray]) -> list[dict[str, Any]]:
    of_start, of_run = jax.random.split(jax.random.key(seed))
    run: Any = two_layer.classifier(eq.shapes.start_mnist(width, key=of_start).points, 784)
    neurons, rule = two_layer.neurons(run), eq.rules.gradient(two_layer.classifier_field(run))
    per_epoch = len(split.train[1]) // BATCH
    start = np.asarray(neurons.particles(run))
    kept[0] = start
    watch = {
        "certificate": eq.observe.certificate(group=neurons, stride=stride),
        "betti": eq.observe.betti(group=neurons, stride=per_epoch),
    }
    table, more = [], {"key": of_run}
    for before, epoch in zip([0, *looks], looks, strict=False):
        began = time.perf_counter()
        run = eq.simulate(rule, run, eta=eta, num_steps=(epoch - before) * per_epoch, data=eq.Batches(split.train, BATCH), observe=watch, **more)
        more, seconds = {}, time.perf_counter() - began
        now, ledger = np.asarray(neurons.particles(run.x)), run.observed["certificate"]
        kept[epoch] = now
        began = time.perf_counter()
        found = eq.topology.change(start, now, throughout=ledger, quantiles=QUANTILES)
        verdicts = {f"b{one.degree}": one.verdict for one in found.degrees if one.verdict != "unchanged"}
        table.append(
            {
                "eta": eta,
                "epoch": epoch,
                "eta*t": eta * epoch,
                "Betti": found.after,
                "verdict": "; ".join(f"{name}: {verdict}" for name, verdict in verdicts.items()) or "unchanged",
                "low": found.low,
                "high": found.high,
                "certified steps": int(np.sum(~ledger.open)),
                "steps seen": ledger.steps_seen,
            }
            | {f"local {q:g}": eq.topology.betti(now, scale=eq.topology.LocalScale(12, quantile=q)) for q in QUANTILES}
            | {"change (s)": time.perf_counter() - began, "training (s)": seconds, "accuracy": float(two_layer.accuracy(run.x, split.test))}
        )
        print(f"eta {eta:g}, epoch {epoch}, {seconds:.0f} s\n{found.summary()}", flush=True)
    readings = run.observed["betti"]
    lost = [int(step) // per_epoch for step, row in zip(readings.steps, readings.values, strict=True) if row[2] == 0]
    table[-1]["b2 first lost at epoch"] = lost[0] if lost else -1
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=100, help="at 0.5; twice as many at 0.1")
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=OUT / "mnist_topology.json", help="where the JSON goes")
    options = parser.parse_args()
    split, e = eq.data.mnist(), options.epochs
    kept: dict[int, np.ndarray] = {}
    tables = {
        0.5: train(0.5, sorted({max(1, e * k // 10) for k in (1, 2, 3, 6, 8, 10)}), 1, options.width, options.seed, split, kept),
        0.1: train(0.1, sorted({max(1, e * k // 10) for k in (5, 10, 15, 20)}), 20, options.width, options.seed, split, {}),
    }
    OUT.mkdir(exist_ok=True)
    names = ("start", "middle", "end")
    np.savez_compressed(
        OUT / "mnist_checkpoints.npz", **dict(zip(names, (kept[epoch] for epoch in (0, sorted(kept)[len(kept) // 2], max(kept))), strict=True))
    )
    for eta, table in tables.items():
        common.table(f"GD {eta:g}", [{k: v for k, v in row.items() if k != "b2 first lost at epoch"} for row in table])
    lost = {eta: table[-1]["b2 first lost at epoch"] for eta, table in tables.items()}
    print("\nb2 at diameter/4 is first lost at", ", ".join(f"eta {eta:g}: epoch {epoch} (eta*t {eta * epoch:.3g})" for eta, epoch in lost.items()))
    rows = [row for table in tables.values() for row in table]
    at_half = tables[0.5]
    found = {
        "0.5: every step certified, nobody closer than 0.95 of the first distance": all(
            row["certified steps"] == row["steps seen"] and row["low"] > 0.95 for row in at_half
        ),
        "0.5: every change of b2 is a metric effect": all("b2: metric effect" in row["verdict"] for row in at_half if row["Betti"][2] != 1),
        "0.5: locally scaled Betti numbers are (1, 0, 1) at two neighbouring quantiles to the end": all(
            any(row[f"local {a:g}"] == row[f"local {b:g}"] == (1, 0, 1) for a, b in itertools.pairwise(QUANTILES)) for row in at_half
        ),
        "0.1 loses b2 too, at an eta*t within a factor of three": lost[0.1] > 0 and lost[0.5] > 0 and 1 / 3 < 0.1 * lost[0.1] / (0.5 * lost[0.5]) < 3,
    }
    for what, holds in found.items():
        print(f"  {'holds' if holds else 'FAILS'}: {what}")
    common.write(options.out, {"machine": common.machine(), "rows": rows, "b2 lost": {str(k): v for k, v in lost.items()}, "orderings": found})


if __name__ == "__main__":
    main()
