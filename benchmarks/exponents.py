"""Transverse exponents of real networks: where neurons gather their neighbours, and whether near pairs then come together.

    python3 benchmarks/exponents.py             digits: a scan over step size, batch size and weight decay
    python3 benchmarks/exponents.py --mnist     MNIST 784-256-10, six runs (EQDYN_DATA names the folder that holds mnist)

Digits: 64 sigmoid neurons in float64, 32 on a sphere and each with a partner planted at a distance of 1e-6; the tangent of every neuron
starts towards its partner. The table has what the tangents say beside what the pairs did, the picture the share of negative
exponents. MNIST: random tangents in float32; the table has log-growth over the run, stretch of all pairs from start to end, and
accuracy on the test images; below it, which orderings hold. Both end with what carrying the tangents costs.
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

import eqdyn as eq
from eqdyn.networks import two_layer

ETAS = [0.25, 0.5, 1.0, 2.0, 4.0, 8.0]
BATCHES = [16, 64, 256]
DECAYS = [0.0, 1e-3, 3e-3, 1e-2, 3e-2]
DISTANCE = 1e-6
# start, step size, batch size, weight decay, epochs
RUNS = [
    ("sphere", 0.5, 1024, 0.0, 5),
    ("sphere", 2.0, 256, 0.0, 5),
    ("sphere", 5.0, 64, 0.0, 3),
    ("sphere", 0.5, 64, 0.001, 3),
    ("sphere", 0.5, 64, 0.01, 3),
    ("Gaussian / sqrt(784)", 2.0, 64, 0.003, 3),
]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mnist", action="store_true", help="the MNIST runs in place of the scan on digits; needs EQDYN_DATA")
    parser.add_argument("--repeats", type=int, default=5, help="timed rounds of the cost; the median counts (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter runs, to see that it works; figures are not to be quoted")
    parser.add_argument("--out", type=Path, help="where the JSON goes, and the picture beside it (default: benchmarks/out/exponents*.json)")
    args = parser.parse_args()
    args.out = args.out or Path(__file__).parent / "out" / ("exponents_mnist.json" if args.mnist else "exponents.json")
    return args


def network(params: Any, decay: float) -> eq.Rule:
    rule = eq.rules.gradient(two_layer.classifier_field(params))
    return eq.rules.weight_decay(rule, decay=decay) if decay else rule


def cost(params: Any, batches: eq.Batches, decay: float, steps: int, repeats: int, nums: tuple[int, ...]) -> list[dict[str, Any]]:
    """Seconds a step with and without the tangents, the same steps in turn."""
    rule, group = network(params, decay), two_layer.neurons(params)

    def go(**watch: Any) -> Any:
        return eq.simulate(rule, params, eta=0.5, num_steps=steps, data=batches, key=jax.random.key(0), observe=watch, every=steps).x

    watches: dict[str, dict[str, Any]] = {"bound: training alone": {}}
    for num in nums:
        words = "one tangent a neuron" if num == 1 else f"{num}, with QR"
        watches[words] = {"pairs": eq.observe.lyapunov(rule, group=group, stride=steps, num=num)}
    times = common.interleaved({name: (lambda watch=watch: go(**watch)) for name, watch in watches.items()}, repeats)
    bound = times["bound: training alone"]["median"]
    return [
        {"row": name, "seconds": t["median"] / steps, "of the bound": t["median"] / bound, "first call, s": t["first"]} for name, t in times.items()
    ]


# --- digits ------------------------------------------------------------------------------------------------------------------


def planted(seed: int = 0) -> tuple[Any, jax.Array]:
    """A network of 32 neurons and their partners, and the direction from each neuron to its partner."""
    of_start, of_direction = jax.random.split(jax.random.key(seed))
    x = eq.shapes.sphere(32, key=of_start, dim=74, even=True, dtype=jnp.float64).points
    direction = jax.random.normal(of_direction, x.shape, x.dtype)
    direction = direction / jnp.linalg.norm(direction, axis=1, keepdims=True)
    return two_layer.classifier(jnp.concatenate([x, x + DISTANCE * direction]), 64), jnp.concatenate([direction, -direction])


def scan(etas: list[float], sizes: list[int], decays: list[float], steps: int) -> list[dict[str, Any]]:
    split = eq.data.digits(dtype=jnp.float64)
    start, direction = planted()
    group, rows = two_layer.neurons(start), []
    for size in sizes:
        for decay in decays:
            rule = network(start, decay)
            watch = {"pairs": eq.observe.lyapunov(rule, group=group, start=direction, stride=steps)}
            run = eq.simulate(
                rule, start, eta=jnp.asarray(etas), lanes=len(etas), num_steps=steps, data=eq.Batches(split.train, size), key=jax.random.key(1),
                observe=watch, every=steps,
            )  # fmt: skip
            rows += [lane_row(start, run, group, lane, eta, size, decay, split) for lane, eta in enumerate(etas)]
    return rows


def lane_row(start: Any, run: eq.Run, group: eq.Group, lane: int, eta: float, size: int, decay: float, split: Any) -> dict[str, Any]:
    params = jax.tree.map(lambda leaf: leaf[lane], run.x)
    before, after = (np.asarray(group.particles(tree)) for tree in (start, params))
    half = len(before) // 2
    stretch = np.linalg.norm(after[half:] - after[:half], axis=1) / np.linalg.norm(before[half:] - before[:half], axis=1)
    found = run.observed["pairs"]
    growth = found.log_growth[lane][:half]
    return {
        "batch": size,
        "weight decay": decay,
        "eta": eta,
        "log-growth min": float(growth.min()),
        "median": float(np.median(growth)),
        "max": float(growth.max()),
        "share negative": float(np.mean(growth < 0)),
        "pairs closer": float(np.mean(stretch < 1)),
        "same sign": float(np.mean((stretch < 1) == (growth < 0))),
        "closest pair": float(stretch.min()),
        "test accuracy": float(two_layer.accuracy(params, split.test)),
        "status": str(run.status[lane]),
    }


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    sizes, decays, etas = (sorted({row[name] for row in rows}) for name in ("batch", "weight decay", "eta"))
    fig, axes = plt.subplots(1, len(sizes), figsize=(1.2 + 4.4 * len(sizes), 4.0), layout="constrained", squeeze=False)
    for ax, size in zip(axes[0], sizes, strict=True):
        cell = {(row["weight decay"], row["eta"]): row for row in rows if row["batch"] == size}
        share = np.array([[cell[decay, eta]["share negative"] for eta in etas] for decay in decays])
        image = ax.imshow(share, origin="lower", aspect="auto", vmin=0, vmax=1, cmap="cividis")
        for i, decay in enumerate(decays):
            for j, eta in enumerate(etas):
                words = f"{share[i, j]:.2f}\n{cell[decay, eta]['closest pair']:.0e}"
                ax.text(j, i, words, ha="center", va="center", fontsize=7, color="white" if share[i, j] < 0.5 else "black")
                if cell[decay, eta]["median"] < 0:
                    ax.add_patch(plt.Rectangle((j - 0.47, i - 0.47), 0.94, 0.94, fill=False, edgecolor="white", linewidth=2.5))
        ax.set_xticks(range(len(etas)), [f"{eta:g}" for eta in etas])
        ax.set_yticks(range(len(decays)), [f"{decay:g}" for decay in decays])
        ax.set(xlabel="step size eta", ylabel="weight decay (1 / eta)", title=f"batch {size}")
    fig.colorbar(image, ax=axes[0].tolist(), label="share of neurons with negative top exponent")
    decayed, bare = (max((row["share negative"] for row in rows if (row["weight decay"] > 0) is wanted), default=0.0) for wanted in (True, False))
    fig.suptitle(
        f"Digits 64-64-10: {bare:.0%} of the neurons at most gather their neighbours without weight decay, up to {decayed:.0%} with it\n"
        "(numbers: that share, and how close the closest planted pair came, of its first distance; framed: the median exponent is negative)",
        fontsize=10,
    )
    fig.savefig(path, dpi=130)
    plt.close(fig)
    print(f"picture in {path}")


def digits(quick: bool, repeats: int, out: Path) -> dict[str, Any]:
    jax.config.update("jax_enable_x64", True)
    rows = scan([0.5, 2.0], [64], [1e-2], 40) if quick else scan(ETAS, BATCHES, DECAYS, 2000)
    common.table(f"digits 64-64-10, {40 if quick else 2000} steps, 32 pairs planted at {DISTANCE:g}", rows)
    seen = [row for row in rows if row["status"] == "ok"]
    agree = float(np.mean([row["same sign"] for row in seen]))
    print(f"\n{len(seen)} of {len(rows)} runs reached the end; in them {agree:.1%} of the planted pairs went the way that the tangent said")
    gather = [row for row in seen if row["share negative"] > 0.5]
    print(f"in the {len(gather)} runs with a majority of negative exponents, the median of the closest pair is ", end="")
    print(f"{np.median([row['closest pair'] for row in gather]):.2g} of its first distance" if gather else "not there")
    draw(rows, out.with_suffix(".png"))
    split, (start, _) = eq.data.digits(), planted()
    single = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), start)
    spent = cost(single, eq.Batches(split.train, 64), 1e-3, 50 if quick else 1000, repeats, (1,) if quick else (1, 4))
    common.table("cost of a step, 64-64-10, batch 64, float32", spent)
    return {"rows": {"cost of a step, digits": spent}, "runs": rows}


# --- MNIST -------------------------------------------------------------------------------------------------------------------


def mnist(quick: bool, repeats: int) -> dict[str, Any]:
    split = eq.data.mnist()
    rows = []
    for name, eta, size, decay, epochs in RUNS:
        begun = time.perf_counter()
        of_start, of_run, of_tangents = jax.random.split(jax.random.key(0), 3)
        x = eq.shapes.start_mnist(256, key=of_start).points if name == "sphere" else jax.random.normal(of_start, (256, 794)) / 28
        start = two_layer.classifier(x, 784)
        rule, group, batches = network(start, decay), two_layer.neurons(start), eq.Batches(split.train, size)
        steps = 20 if quick else epochs * batches.steps_per_epoch
        watch = {"pairs": eq.observe.lyapunov(rule, group=group, key=of_tangents, stride=steps)}
        run = eq.simulate(rule, start, eta=eta, num_steps=steps, data=batches, key=of_run, observe=watch, every=steps)
        growth, stretch = run.observed["pairs"].log_growth, eq.measure.stretch(x, group.particles(run.x))
        rows.append(
            {
                "start": name, "eta": eta, "batch": size, "weight decay": decay, "epochs": epochs,
                "log-growth min": float(growth.min()), "median": float(np.median(growth)), "max": float(growth.max()),
                "share negative": float(run.observed["pairs"].share_negative), "stretch low": float(stretch.low), "high": float(stretch.high),
                "test accuracy": float(two_layer.accuracy(run.x, split.test)), "status": run.status, "seconds": time.perf_counter() - begun,
            }
        )  # fmt: skip
        print(f"{name}, eta {eta:g}, batch {size}, decay {decay:g}: {run.observed['pairs'].summary()}", flush=True)
    common.table("MNIST 784-256-10, one tangent a neuron", rows)
    held = orderings(rows)
    for words, holds in held.items():
        print(f"{'holds' if holds else 'FAILS'}: {words}")
    spent = cost(start, eq.Batches(split.train, 64), 0.003, 20 if quick else 200, repeats, (1,) if quick else (1, 4))
    common.table("cost of a step, 784-256-10, batch 64, float32", spent)
    return {"rows": {"cost of a step, MNIST": spent}, "runs": rows, "orderings": held}


def orderings(rows: list[dict[str, Any]]) -> dict[str, bool]:
    share, low = (np.array([row[name] for row in rows]) for name in ("share negative", "stretch low"))
    bare = np.array([row["weight decay"] == 0 for row in rows])
    return {
        "no negative exponents without weight decay": bool(np.all(share[bare] == 0)),
        "without weight decay at most one neuron in twenty has a negative exponent": bool(np.all(share[bare] <= 0.05)),
        "a majority of negative exponents in the last row": bool(share[-1] > 0.5),
        "with decay, a larger share of negative exponents goes with a closer approach": bool(
            np.array_equal(np.argsort(share[~bare], kind="stable"), np.argsort(-low[~bare], kind="stable"))
        ),
        "every run with decay comes closer than every run without": bool(low[~bare].max() < low[bare].min()),
    }


def main() -> None:
    args = arguments()
    machine = common.machine()
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    begun = time.perf_counter()
    found = mnist(args.quick, args.repeats) if args.mnist else digits(args.quick, args.repeats, args.out)
    print(f"\n{time.perf_counter() - begun:.0f} s in all")
    common.write(args.out, {"machine": machine, "repeats": args.repeats, "quick": args.quick, **found})


if __name__ == "__main__":
    main()
