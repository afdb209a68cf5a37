"""Do classes of runs, or the persistence of a minimum, tell how well a network generalises?

    EQDYN_DATA=folder python3 benchmarks/paths_claims.py

48 networks 784-h-10 on 3,000 MNIST images: h = 64 or 128; SGD, momentum or Adam; a smaller and a larger step size; labels right, or a fifth of them
drawn anew; two seeds; 20 epochs in batches of 100. Claims of "Categorical Invariants of Learning Dynamics" (arXiv:2510.04376), as they can be tested:

1. Runs of one class generalise alike. Classes: whole runs, aligned, sheets of 11 x 11 at moments of equal loss, single linkage of barriers, at the
   level in the middle of the longest range over which their number lasts (more than one class, at most half as many as runs). Primary: the permutation
   test of test accuracy within strata of label noise, width by width (between networks of two widths there is no path).
2. The persistence of a minimum predicts the generalisation gap (training accuracy on its own labels less test accuracy). Primary: normalised total
   persistence on random planes, beyond width, norm and training loss.
3. Link to the core: runs from one start below and above the critical step size, two moons: are they connected to the run of a small step?

The loss of sheets and planes is cross-entropy on 1,024 (512) training images with their true labels, the same for all runs.
"""

from __future__ import annotations

import argparse
import itertools
import time
from pathlib import Path
from typing import Any

import common
import jax
import jax.numpy as jnp
import numpy as np
import optax
import partition_along as moons

import eqdyn as eq
from eqdyn import plot

OPTIMIZERS = {
    "SGD": (lambda eta: optax.sgd(eta), (0.05, 0.3)),
    "momentum": (lambda eta: optax.sgd(eta, momentum=0.9), (0.005, 0.05)),
    "Adam": (lambda eta: optax.adam(eta), (3e-4, 3e-3)),
}
WIDTHS, NOISES, BATCH = (64, 128), (0.0, 0.2), 100


def logits(params: Any, z: jax.Array) -> jax.Array:
    return jax.nn.relu(z @ params["w"] + params["b"]) @ params["out"] + params["c"]


def loss(params: Any, data: Any) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(logits(params, data[0]), data[1]).mean()


@jax.jit
def accuracy(params: Any, data: Any) -> jax.Array:
    return jnp.mean(logits(params, data[0]).argmax(1) == data[1])


def start(key: Any, width: int) -> Any:
    one, other = jax.random.split(key)
    return {
        "w": jax.random.normal(one, (784, width)) * (2 / 784) ** 0.5, "b": jnp.zeros(width),
        "out": jax.random.normal(other, (width, 10)) * (1 / width) ** 0.5, "c": jnp.zeros(10),
    }  # fmt: skip


def trained(width: int, optimizer: str, eta: float, z: jax.Array, labels: jax.Array, seeds: list[int], steps: int, every: int) -> Any:
    """Checkpoints `(lanes, T, ...)`; a lane has its own labels `(lanes, n)` and seed."""
    tx = OPTIMIZERS[optimizer][0](eta)

    @jax.jit
    @jax.vmap
    def run(params: Any, own: jax.Array, key: Any) -> Any:
        def step(carry: Any, k: jax.Array) -> tuple[Any, None]:
            params, state = carry
            rows = jax.random.randint(jax.random.fold_in(key, k), (BATCH,), 0, len(z))
            updates, state = tx.update(jax.grad(loss)(params, (z[rows], own[rows])), state)
            return (optax.apply_updates(params, updates), state), None

        def piece(carry: Any, k: jax.Array) -> tuple[Any, Any]:
            carry, _ = jax.lax.scan(step, carry, k * every + jnp.arange(every))
            return carry, carry[0]

        _, kept = jax.lax.scan(piece, (params, tx.init(params)), jnp.arange(steps // every))
        return jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), params, kept)

    keys = jnp.stack([jax.random.key(seed) for seed in seeds])
    return run(jax.vmap(lambda key: start(key, width))(keys), labels, keys)


def networks(options: Any, split: Any) -> list[dict[str, Any]]:
    """All runs, with what is told of each."""
    z, y = split.train[0][: options.images], split.train[1][: options.images]
    test, found = split.test, []
    steps = options.epochs * options.images // BATCH
    every = max(1, steps // 10)
    for width, optimizer in itertools.product(WIDTHS, OPTIMIZERS):
        for eta in OPTIMIZERS[optimizer][1]:
            lanes = list(itertools.product(NOISES, range(options.seeds)))
            own = jnp.stack([mislabelled(y, noise, seed) for noise, seed in lanes])
            kept = jax.device_get(trained(width, optimizer, eta, z, own, [seed for _, seed in lanes], every * 10, every))
            for k, (noise, seed) in enumerate(lanes):
                path = eq.paths.path(jax.tree.map(lambda leaf, k=k: leaf[k], kept), times=np.arange(11) * every)
                found.append(told(path, (z, own[k]), test) | {"width": width, "optimizer": optimizer, "eta": eta, "noise": noise, "seed": seed})
        print(f"{len(found)} runs trained", flush=True)
    return found


def mislabelled(y: jax.Array, noise: float, seed: int) -> jax.Array:
    one, other = jax.random.split(jax.random.key(1000 + seed))
    return jnp.where(jax.random.uniform(one, y.shape) < noise, jax.random.randint(other, y.shape, 0, 10), y)


def told(path: Any, train: Any, test: Any) -> dict[str, Any]:
    end = path.end
    seen, unseen = float(accuracy(end, train)), float(accuracy(end, test))
    sizes = {"train loss": float(loss(end, train)), "norm": float(optax.global_norm(end))}
    return {"path": path, "train accuracy": seen, "test accuracy": unseen, "gap": seen - unseen} | sizes


def level(tree: Any) -> float:
    """In the middle of the longest range over which more than one class, and fewer than half as many as runs, last."""
    gaps = [gap for gap in tree.gaps if 1 < gap[2] <= tree.num / 2 and np.isfinite(gap[1])]
    return float(gaps[0][:2].mean()) if gaps else float(np.median(tree.levels))


def classes(runs: list[dict[str, Any]], data: Any, num: int) -> dict[str, Any]:
    """Classes of whole runs of one width, and what they say of test accuracy."""
    groups = eq.networks.find_groups(logits, runs[0]["path"].end, data[0][:4])
    height = eq.paths.barriers(loss, [run["path"] for run in runs], groups, num, data=data, progress=True)
    plain = eq.paths.barriers(loss, [run["path"].end for run in runs], None, num, data=data)
    ends = eq.paths.barriers(loss, [run["path"].end for run in runs], groups, num, data=data)
    tree = eq.paths.classes(height)
    delta = level(tree)
    right = [run["test accuracy"] for run in runs]
    strata = [int(10 * run["noise"]) for run in runs]
    free, held = eq.paths.contrast(tree, right, delta), eq.paths.contrast(tree, right, delta, strata=strata)
    upper = np.triu_indices(len(runs), 1)
    return {
        "width": runs[0]["width"], "tree": tree, "delta": delta, "classes": len(free.sizes), "sizes": sorted(free.sizes, reverse=True),
        "within": 100 * free.within, "between": 100 * free.between, "range within": 100 * free.range_within, "eta2": free.eta2, "p": free.p_value,
        "p within noise strata": held.p_value, "verdict": held.verdict, "barrier of runs": float(np.median(height[upper])),
        "of ends": float(np.median(ends[upper])), "of ends, not aligned": float(np.median(plain[upper])),
    }  # fmt: skip


def persistence(runs: list[dict[str, Any]], data: Any, options: Any) -> None:
    """Total persistence around the end of each run, into its record."""
    for k, run in enumerate(runs):
        end = run["path"].end
        groups = eq.networks.find_groups(logits, end, data[0][:4])
        flat = eq.paths.planes(loss, end, groups=groups, data=data, num_planes=options.planes, num=options.grid, key=jax.random.key(7))
        solid = eq.paths.ball(loss, end, groups=groups, data=data, num=options.grid**2 // 2, key=jax.random.key(8))
        run |= {"planes": flat.total, "planes, normalised": flat.normalised, "ball": solid.total, "ball, normalised": solid.normalised}
        if k % 12 == 11:
            print(f"persistence of {k + 1} minima", flush=True)


def predictions(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    column = {name: np.array([run[name] for run in runs]) for name in ("gap", "width", "norm", "train loss")}
    controls = {name: np.log(column[name] + (1e-6 if name == "train loss" else 0)) for name in ("width", "norm", "train loss")}
    rows = []
    for name in ("planes, normalised", "planes", "ball, normalised", "ball"):
        found = eq.paths.predicts([run[name] for run in runs], column["gap"], controls)
        rows.append({
            "estimator": name, "slope": found.slope, "R2": found.r2, "low": found.low, "high": found.high, "partial": found.partial,
            "partial low": found.partial_low, "partial high": found.partial_high, "p": found.p_value, "verdict": found.verdict,
        })  # fmt: skip
    return rows


def core(options: Any) -> list[dict[str, Any]]:
    """Two moons, one start, several step sizes: barriers to the run of the smallest, on the way from end to end."""
    etas = [0.25, 1.0, 4.0, 8.0, 16.0]
    rows = []
    for eta in etas:
        row: dict[str, list[float]] = {"q": [], "neurons": [], "barrier": [], "not aligned": [], "together at 0.05": []}
        for seed in range(options.starts):
            small, steps = moons.trained(etas[0], seed, options.moon_steps * 4)[1], int(options.moon_steps / min(eta, 1.0))
            run, params = moons.trained(eta, seed, steps)
            groups = eq.networks.find_groups(moons.apply, params, moons.Z)
            aligned = float(eq.paths.barrier(moons.loss, small, params, groups, 25))
            for name, value in zip(
                row,
                (run.largest_q[-1], run.num_neurons[-1, 0], aligned, eq.paths.barrier(moons.loss, small, params, None, 25), aligned <= 0.05),
                strict=True,
            ):
                row[name].append(float(value))
        rows.append(
            {"eta": eta} | {name: float(np.median(values)) for name, values in row.items() if name[0] != "t"}
            | {"connected at 0.05": f"{int(sum(row['together at 0.05']))} of {options.starts}"}
        )  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--num", type=int, default=11)
    parser.add_argument("--planes", type=int, default=3)
    parser.add_argument("--grid", type=int, default=15)
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--moon-steps", type=int, default=400)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out" / "paths_claims.json", help="where the JSON goes")
    options = parser.parse_args()
    began = time.perf_counter()
    split = eq.data.mnist()
    runs = networks(options, split)
    sheet_data, plane_data = (tuple(part[:num] for part in split.train) for num in (1024, 512))
    found = [classes([run for run in runs if run["width"] == width], sheet_data, options.num) for width in WIDTHS]
    persistence(runs, plane_data, options)
    rows = {
        "classes": [{key: value for key, value in one.items() if key != "tree"} for one in found],
        "persistence": predictions(runs),
        "below and above the critical step": core(options),
    }
    for title, table in rows.items():
        common.table(title, table)
    kept = [{key: value for key, value in run.items() if key != "path"} for run in runs]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    drawn(found, runs, rows, options.out)
    common.write(options.out, {"machine": common.machine(), "seconds": time.perf_counter() - began, "table": rows, "runs": kept})


def drawn(found: list[dict[str, Any]], runs: list[dict[str, Any]], rows: dict[str, Any], out: Path) -> None:
    import matplotlib.pyplot as plt

    fig, axes = plt.subplots(1, 3, figsize=(14, 4), layout="constrained")
    for k, one in enumerate(found):
        labels = one["tree"].labels(one["delta"])
        right = 100 * np.array([run["test accuracy"] for run in runs if run["width"] == one["width"]])
        noisy = np.array([run["noise"] > 0 for run in runs if run["width"] == one["width"]])
        for wrong, mark in ((False, "o"), (True, "x")):
            axes[0].plot(
                labels[noisy == wrong] + 0.25 * k, right[noisy == wrong], mark, color=("#1f4e79", "#e08214")[k], markersize=5,
                label=f"width {one['width']}, {'a fifth of labels wrong' if wrong else 'labels right'}",
            )  # fmt: skip
    axes[0].legend(fontsize=7)
    axes[0].set(xlabel="class at the level taken [number]", ylabel="test accuracy [%]")
    axes[0].set_title("; ".join(f"width {one['width']}: p = {one['p within noise strata']:.2g} within noise" for one in found), fontsize=9)
    first = rows["persistence"][0]
    for wrong, mark in ((False, "o"), (True, "x")):
        some = [run for run in runs if (run["noise"] > 0) == wrong]
        name = "a fifth of labels wrong" if wrong else "labels right"
        axes[1].plot([run[first["estimator"]] for run in some], [run["gap"] for run in some], mark, color="#1f4e79", label=name)
    axes[1].legend(fontsize=7)
    axes[1].set(xlabel="total persistence over range of the loss [1]", ylabel="training less test accuracy [1]")
    axes[1].set_title(f"$R^2$ = {first['R2']:.2f} ({first['low']:.2f} to {first['high']:.2f}); {first['verdict']}", fontsize=9)
    table = rows["below and above the critical step"]
    axes[2].plot([row["eta"] for row in table], [row["not aligned"] for row in table], "s--", color="#e08214", label="as they are")
    axes[2].plot([row["eta"] for row in table], [row["barrier"] for row in table], "o-", color="#1f4e79", label="aligned")
    above = [row["eta"] for row in table if row["q"] >= 1]
    if above:
        axes[2].axvspan(min(above), max(above), color="#d9d9d9", zorder=0, label="q >= 1: steps may merge")
    axes[2].legend(fontsize=7)
    axes[2].set(xscale="log", xlabel="step size [eta]", ylabel="barrier to the run at eta = 0.25 [loss]")
    axes[2].set_title("two moons, one start", fontsize=9)
    plot.save(fig, out.with_suffix(".png"))


if __name__ == "__main__":
    main()
