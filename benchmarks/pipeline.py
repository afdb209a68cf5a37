"""The authors' pipeline on MNIST, epoch by epoch, and ours beside it for the same numbers.

    EQDYN_DATA=... python3 benchmarks/pipeline.py

784-1024-10 sigmoid, cross-entropy, batch 1,024, gradient descent at 0.5, 20 epochs; inputs normalised as in the public code, neurons starting
on a sphere. Each epoch: training, test accuracy, (b0, b1, b2) at a quarter of the diameter, top eigenvalue of the Hessian on one batch.
Theirs: a PyTorch DataLoader and loop, GUDHI's Rips complex of dimension 3, hessian-eigenthings with 20 steps; ours: `eq.simulate`,
`eq.topology.betti`, `eq.measure.sharpness` with 20 steps. Both start from the same weights and see the same batches in the same order. Peers that
are absent are said to be (`pip install torch==2.13.0 hessian-eigenthings==1.0.0a5`, `eqdyn[gudhi]`). First calls compile, and are told apart.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import common
import curvature
import jax
import jax.numpy as jnp
import numpy as np

import eqdyn as eq
from eqdyn.networks import two_layer

BATCH, ETA, STEPS = 1024, 0.5, 20


def timed(call: Callable, *arguments: Any, **options: Any) -> tuple[Any, float]:
    began = time.perf_counter()
    found = jax.block_until_ready(call(*arguments, **options))
    return found, time.perf_counter() - began


class Torch:
    """The authors' loop: DataLoader, SGD, a test after every epoch."""

    def __init__(self, params: Any, split: Any):
        import torch

        self.torch = torch
        hidden, output = (torch.nn.Linear(*params[name].shape, bias=False) for name in ("hidden", "output"))
        self.model = torch.nn.Sequential(hidden, torch.nn.Sigmoid(), output)
        with torch.no_grad():
            for layer, name in ((hidden, "hidden"), (output, "output")):
                layer.weight.copy_(torch.tensor(np.asarray(params[name]).T))
        self.train, self.test = (torch.utils.data.TensorDataset(torch.tensor(np.asarray(z)), torch.tensor(np.asarray(y)).long()) for z, y in split)
        self.optimizer = torch.optim.SGD(self.model.parameters(), ETA)

    def epoch(self, rows: np.ndarray) -> None:
        loader = self.torch.utils.data.DataLoader(self.train, batch_sampler=[list(map(int, batch)) for batch in rows])
        for z, y in loader:
            self.optimizer.zero_grad()
            self.torch.nn.functional.cross_entropy(self.model(z), y).backward()
            self.optimizer.step()

    def accuracy(self) -> float:
        right = 0
        with self.torch.no_grad():
            for z, y in self.torch.utils.data.DataLoader(self.test, batch_size=1000):
                right += int((self.model(z).argmax(1) == y).sum())
        return right / len(self.test)

    def params(self) -> dict[str, np.ndarray]:
        weights = [layer.weight.detach().numpy().T.copy() for layer in (self.model[0], self.model[2])]
        return {"hidden": weights[0], "output": weights[1]}


def theirs(params: Any, split: Any) -> Torch | None:
    try:
        return Torch(params, split)
    except ImportError:
        return None


def recipe(x: np.ndarray) -> tuple[Any, float]:
    """GUDHI's reading, or why there is none."""
    try:
        return timed(eq.topology.paper_recipe, x, memory=2**34)
    except (ImportError, MemoryError) as error:
        return type(error).__name__, math.nan


def _sharpness(rule: Any, params: Any, batch: Any) -> Any:
    return eq.measure.sharpness(rule, params, data=batch, num_iters=STEPS).value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out" / "pipeline.json", help="where the JSON goes")
    options = parser.parse_args()
    raw = eq.data.mnist()
    split = eq.data.Split(*(((z - jnp.float32(0.1307)) / jnp.float32(0.3081), y) for z, y in raw))
    of_start, of_run = jax.random.split(jax.random.key(0))
    start = two_layer.classifier(eq.shapes.start_mnist(options.width, key=of_start).points, 784)
    neurons, slope = two_layer.neurons(start), eq.rules.gradient(two_layer.cross_entropy)
    batches = eq.Batches(split.train, BATCH)
    probe = tuple(leaf[:BATCH] for leaf in split.train)
    peer, run, per_epoch = theirs(start, split), None, batches.steps_per_epoch
    rows = []
    for epoch in range(1, options.epochs + 1):
        order = batches.rows(of_run, (epoch - 1) * per_epoch, per_epoch)
        row: dict[str, Any] = {"epoch": epoch}
        begin, more = (start, {"key": of_run}) if run is None else (run, {})
        run, row["ours: train"] = timed(eq.simulate, slope, begin, eta=ETA, num_steps=per_epoch, data=batches, **more)
        accuracy, row["ours: test"] = timed(two_layer.accuracy, run.x, split.test)
        x = np.asarray(neurons.particles(run.x))
        betti, row["ours: Betti"] = timed(eq.topology.betti, x)
        top, row["ours: sharpness"] = timed(_sharpness, slope, run.x, probe)
        row |= {"accuracy": float(accuracy), "Betti": betti, "lambda_max": float(top)}
        if peer is not None:
            _, row["theirs: train"] = timed(peer.epoch, order)
            right, row["theirs: test"] = timed(peer.accuracy)
            held = peer.params()
            read, row["theirs: Betti"] = recipe(np.concatenate([held["hidden"].T, held["output"]], axis=1))
            eigenthings = curvature.peer(held, probe, STEPS)
            found, row["theirs: sharpness"] = (math.nan, math.nan) if eigenthings is None else timed(eigenthings)
            row |= {"their accuracy": right, "their Betti": read, "their lambda_max": float(found)}
        rows.append(row)
        print({key: f"{value:.3g}" if isinstance(value, float) else value for key, value in row.items()}, flush=True)
    parts = ("train", "test", "Betti", "sharpness")
    table = []
    for part in parts:
        line: dict[str, Any] = {"part": part}
        for who in ("ours", "theirs"):
            seconds = [row.get(f"{who}: {part}", math.nan) for row in rows]
            line |= {f"{who}, s an epoch": statistics.median(seconds[1:] or seconds), f"{who}, s in all": sum(seconds[1:] or seconds)}
        table.append(line | {"times": line["theirs, s in all"] / line["ours, s in all"]})
    whole = {key: sum(line[key] for line in table) for key in table[0] if key not in ("part", "times")}
    table.append({"part": "all"} | whole | {"times": whole["theirs, s in all"] / whole["ours, s in all"]})
    common.table(f"{len(rows)} epochs, the first left out (it compiles)", table)
    if peer is None:
        print("PyTorch is not installed: nothing stands beside us")
    common.write(options.out, {"machine": common.machine(), "rows": rows, "table": table})


if __name__ == "__main__":
    main()
