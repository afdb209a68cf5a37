"""What becomes of a network's cells below and above the critical step size?

    python3 benchmarks/partition_along.py

Two moons, 24 ReLU neurons, gradient descent on the logistic loss with weight decay 1e-3, from the same starts at every step size; as long in units
of eta * steps up to eta = 1, 400 steps above. Every fifth step is certified over all pairs: q = max eta*K_pair of those; a step with q < 1 could
merge nobody. At the end: cells, linear pieces (kinks up to 1e-3 taken for none), distinct neurons (no nearer than 1e-3), neurons that some point
switches on.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import common
import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import make_moons

import eqdyn as eq
from eqdyn import plot, plot_partition

NUM, DECAY, NEAR = 24, 1e-3, 1e-3
MOONS, SIDE = make_moons(400, noise=0.15, random_state=0)
Z = jnp.asarray((MOONS - MOONS.mean(0)) / MOONS.std(0) / 1.2, jnp.float32)
SIGN = jnp.asarray(2 * SIDE - 1, jnp.float32)


def apply(params: Any, z: jax.Array) -> jax.Array:
    return (jax.nn.relu(z @ params["w"] + params["b"]) @ params["out"])[:, 0]


def loss(params: Any) -> jax.Array:
    return jnp.mean(jnp.logaddexp(0, -SIGN * apply(params, Z))) + DECAY * sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(params))


@jax.jit
def step(params: Any, eta: float) -> Any:
    return jax.tree.map(lambda leaf, slope: leaf - eta * slope, params, jax.grad(loss)(params))


def start(seed: int) -> Any:
    keys = jax.random.split(jax.random.key(seed), 3)
    shapes = {"w": (2, NUM), "b": (NUM,), "out": (NUM, 1)}
    return {name: 0.5 * jax.random.normal(key, shape) for key, (name, shape) in zip(keys, shapes.items(), strict=True)}


def layers(params: Any) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(np.asarray(params["w"]).T, np.asarray(params["b"])), (np.asarray(params["out"]).T, np.zeros(1))]


def trained(eta: float, seed: int, steps: int) -> tuple[Any, Any]:
    """Start and end as partitions, and the parameters."""
    params = start(seed)
    checkpoints = {0: layers(params)}
    with eq.networks.Monitor(eq.networks.find_groups(apply, params, Z), certificate=5) as monitor:
        for _ in range(steps):
            monitor(params)
            params = step(params, eta)
        monitor(params)
    checkpoints[steps] = layers(params)
    return eq.partition.along(checkpoints, "data", Z, monitor=monitor, tolerance=NEAR), params


def row(eta: float, runs: list[tuple[Any, Any]]) -> dict[str, Any]:
    def over(read: Any) -> tuple[float, float, float]:
        values = [float(read(run, params)) for run, params in runs]
        return float(np.median(values)), min(values), max(values)

    read = {
        "q": lambda run, params: run.largest_q[-1],
        "cells": lambda run, params: run.num_cells[-1] / run.num_cells[0],
        "pieces": lambda run, params: (pieces(run, -1) + 1) / (pieces(run, 0) + 1),
        "neurons": lambda run, params: run.num_neurons[-1, 0],
        "switched on": lambda run, params: np.sum(np.asarray((Z @ params["w"] + params["b"] > 0).any(0))),
        "curvature": lambda run, params: run.ricci_ollivier[-1],
        "accuracy": lambda run, params: np.mean(np.asarray((apply(params, Z) > 0) == (SIGN > 0))),
    }
    found: dict[str, Any] = {"eta": eta}
    for name, one in read.items():
        found[name], low, high = over(one)
        found[f"{name}, range"] = f"{low:.3g} to {high:.3g}"
    return found


def pieces(run: Any, k: int) -> int:
    return int(eq.partition.pieces(run.partitions[k], tolerance=NEAR).max())


def curvature_of(found: Any) -> np.ndarray:
    """Mean Ollivier curvature of the facets between cells with data."""
    inner = (found.masses > 0)[found.edges].all(1)
    kappa = np.full(len(found.edges), np.nan)
    kappa[inner] = eq.partition.ricci_ollivier(found.edges[inner], found.masses)
    return eq.partition.of_cells(found.edges, kappa, len(found.codes))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--etas", type=float, nargs="+", default=[0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out" / "partition_along.json", help="where the JSON goes")
    options = parser.parse_args()
    began = time.perf_counter()
    runs = {}
    for eta in options.etas:
        steps = int(np.ceil(options.steps / min(eta, 1.0)))
        runs[eta] = [trained(eta, seed, steps) for seed in range(options.seeds)]
        print(f"eta = {eta:g}: {time.perf_counter() - began:.0f} s", flush=True)
    table = [row(eta, found) for eta, found in runs.items()]
    shown = [{key: value for key, value in one.items() if key in ("eta", "q", "q, range") or "," not in key} for one in table]
    common.table(f"Middle of {options.seeds} starts; cells and pieces as a share of those at the start; {NUM} neurons at the start", shown)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    drawn(runs, options.out)
    common.write(
        options.out,
        {"machine": common.machine(), "seconds": time.perf_counter() - began, "seeds": options.seeds, "steps": options.steps, "table": table},
    )


def drawn(runs: Any, out: Path) -> None:
    """The first start: before, and after with the largest step below 1/K and with the largest of all."""
    kept = {eta: found[0][0] for eta, found in runs.items()}
    low = max((eta for eta, run in kept.items() if run.largest_q[-1] < 1), default=min(kept))
    high = max(kept)
    shown = {
        "start": kept[low].partitions[0],
        f"eta = {low:g}: largest q {kept[low].largest_q[-1]:.2f}, {kept[low].num_neurons[-1, 0]} neurons": kept[low].partitions[-1],
        f"eta = {high:g}: largest q {kept[high].largest_q[-1]:.2f}, {kept[high].num_neurons[-1, 0]} neurons": kept[high].partitions[-1],
    }
    title = f"Cells before and after neurons merge: {', '.join(str(len(found.codes)) for found in shown.values())} of them"
    values = {name: curvature_of(found) for name, found in shown.items()}
    unit = "ricci_ollivier, mean over a cell's facets [1]"
    plot.save(plot_partition.cells(shown, values, points=Z[::2], labels=SIDE[::2], unit=unit, title=title), out.with_suffix(".png"))


if __name__ == "__main__":
    main()
