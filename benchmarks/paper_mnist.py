"""MNIST at the paper's large and small step: what the sharpness says, what the pair constants certify, and what the neurons did.

    EQDYN_DATA=... python3 benchmarks/paper_mnist.py

784-1024-10 sigmoid, cross-entropy, batch 1,024, inputs in [0, 1], neurons starting on a sphere in R^794; gradient descent at 0.5
and 0.02, 100 epochs. eta*K_pair and eta*mu are found at every step at 0.5 (once an epoch at 0.02), on its batch; eta*lambda_max and
eta*||T|| once an epoch, on the batch of its first step; the stretch is that of X^0 -> X^t; Betti numbers at a quarter of the diameter.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import common
import jax
import numpy as np

import eqdyn as eq
from eqdyn.networks import two_layer

BATCH, LOOK = 1024, 10  # epochs between two rows of the table


def train(eta: float, epochs: int, width: int, seed: int, split: Any, *, every_step: bool) -> list[dict[str, Any]]:
    of_start, of_run = jax.random.split(jax.random.key(seed))
    run: Any = two_layer.classifier(eq.shapes.start_mnist(width, key=of_start).points, 784)
    neurons, rule = two_layer.neurons(run), eq.rules.gradient(two_layer.classifier_field(run))
    start, per_epoch = neurons.particles(run), len(split.train[1]) // BATCH
    watch = {
        "certificate": eq.observe.pair_constants(group=neurons, stride=1 if every_step else per_epoch),
        "T": eq.observe.transverse(rule, group=neurons, stride=per_epoch),
        "sharpness": eq.observe.sharpness(rule, stride=per_epoch, num_iters=20),
    }
    table = []
    for epoch in range(0, epochs + 1, LOOK):
        began = time.perf_counter()
        more = {} if epoch else {"key": of_run}
        # one step into the epoch, so that what is recorded there can be read
        num_steps = 1 if epoch == 0 else LOOK * per_epoch
        run = eq.simulate(rule, run, eta=eta, num_steps=num_steps, data=eq.Batches(split.train, BATCH), observe=watch, **more)
        found = {name: record.values for name, record in run.observed.items()}
        now = neurons.particles(run.x)
        stretch = eq.measure.stretch(start, now)
        certificate = found["certificate"]
        table.append(
            {
                "eta": eta,
                "epoch": epoch,
                "eta*lambda_max": float(found["sharpness"].eta_lambda[-1]),
                "eta*|T|, worst": float(found["T"].eta_norm.max()),
                "eta*K_pair": float(certificate.q[-1]),
                "worst": float(certificate.q.max()),
                "steps": len(certificate.q),
                "injective": int(np.sum((certificate.q < 1) | (certificate.eta_mu < 1))),
                "stretch low": float(stretch.low),
                "stretch high": float(stretch.high),
                "Betti": eq.topology.betti(now),
                "test accuracy": float(two_layer.accuracy(run.x, split.test)),
                "seconds": time.perf_counter() - began,
            }
        )
        shown = ", ".join(f"{key} {value:.4g}" for key, value in table[-1].items() if isinstance(value, float) and key != "eta")
        print(f"  eta {eta:g}, epoch {epoch}: {shown}", flush=True)
    return table


def orderings(tables: dict[float, list[dict[str, Any]]], small: float, large: float) -> dict[str, bool]:
    found = {
        "large: every step certified injective": all(row["injective"] == row["steps"] for row in tables[large]),
        "large: eta*K_pair < 1 throughout": tables[large][-1]["worst"] < 1,
        "large: eta*lambda_max > 1 in the first 40 epochs": all(row["eta*lambda_max"] > 1 for row in tables[large] if row["epoch"] <= 40),
        "large: nobody came closer than 0.95 of the first distance": min(row["stretch low"] for row in tables[large]) > 0.95,
        "small: every step that was seen certified injective": all(row["injective"] == row["steps"] for row in tables[small]),
    }
    if tables[large][-1]["epoch"] >= 60:
        found["large: b2 lost before epoch 60, or at it"] = any(row["Betti"][2] == 0 for row in tables[large] if row["epoch"] <= 60)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out" / "paper_mnist.json", help="where the JSON goes")
    options = parser.parse_args()
    split, etas = eq.data.mnist(), (0.5, 0.02)
    tables = {eta: train(eta, options.epochs, options.width, options.seed, split, every_step=eta == max(etas)) for eta in etas}
    for eta, table in tables.items():
        common.table(f"GD {eta:g}: {sum(row['seconds'] for row in table):.0f} s", table)
    found = orderings(tables, min(etas), max(etas))
    print("\nOrderings of the reference measurements:")
    for what, holds in found.items():
        print(f"  {'holds' if holds else 'FAILS'}: {what}")
    common.write(options.out, {"machine": common.machine(), "rows": [row for table in tables.values() for row in table], "orderings": found})


if __name__ == "__main__":
    main()
