"""Does a penalty on bending help a network that has to fit wrong labels?

    python3 benchmarks/partition_regularise.py

Digits of scikit-learn, 300 for training, a fifth of their labels wrong; 64-48-48-10, ReLU, Adam at 2e-3, batch 50. Every run stops at the first step
at which the training loss (cross-entropy on all 300, wrong labels as they are, without penalty) is below 0.1: wrong labels are learnt by heart by
then, as to leave them alone costs over 0.4. So all that are compared fit the same labels equally well; they share, seed by seed, the examples, the
wrong labels, the first weights, the batches and the optimizer.

    plain           no penalty
    weight decay    decoupled (AdamW)
    Jacobian        the mean over the batch of its squared Frobenius norm
    bending         eq.partition.bending on the batch at tau = 0.25

Hypothesis, written before the ten seeds were run: of networks that fit the same labels equally well, those that bend less near their data have
learnt wrong labels more locally, and are right more often elsewhere. Primary measure: accuracy on 797 digits that no run has seen, labels right;
bending less plain, paired by seed, with the 95 % interval of Student's t. What weight decay, or a penalty on the Jacobian, does as well is no
merit of the partition: the differences from those are given beside it. All else is secondary: steps, accuracy under Gaussian noise of 0.2 on the
pixels, the median distance from test points to the boundary of their cell, and the bending itself.

Strengths are tuned alike, five each up to where runs begin to miss the training loss, by the accuracy over five other seeds on digits of the pool
that those seeds do not train on; the test digits are not looked at. A strength at which a seed misses the training loss is out. A pilot on
those five seeds set the ranges, and brought in the Jacobian as a control.
"""

from __future__ import annotations

import argparse
import itertools
import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import common
import jax
import jax.numpy as jnp
import numpy as np
import optax

import eqdyn as eq
from eqdyn import plot
from eqdyn.partition import _facets

SIZES, TAU, TARGET, NOISE = (64, 48, 48, 10), 0.25, 0.1, 0.2
TRAIN, WRONG, BATCH, STEP_SIZE, EVERY = 300, 0.2, 50, 2e-3, 10
TUNED_ON = range(1000, 1005)  # seeds
STRENGTHS = {
    "plain": (0.0,),
    "weight decay": (0.05, 0.1, 0.2, 0.3, 0.4),
    "Jacobian": (1e-5, 3e-5, 1e-4, 3e-4, 6e-4),
    "bending": (1e-5, 3e-5, 1e-4, 3e-4, 6e-4),
}
MEASURES = ("accuracy", "accuracy under noise", "median distance to a facet", "bending")  # the first is primary


class Task(NamedTuple):
    """Of a seed: training digits with labels, rows of the batches, first weights, and what accuracy is read on."""

    z: Any
    y: Any
    rows: Any
    start: Any
    held: tuple[Any, Any]


class Found(NamedTuple):
    """`way (checks, 2)`: training loss and held-out accuracy every EVERY steps, NaN after the end."""

    layers: Any
    steps: Any
    loss: Any
    way: Any


def task(seed: int, num_steps: int, *, tune: bool) -> Task:
    everything = eq.data.digits(test_share=797 / 1797)  # pool and test
    (z, y), rng = (np.asarray(part) for part in everything.train), np.random.default_rng(seed)
    order = rng.permutation(len(z))
    own, others = order[:TRAIN], order[TRAIN:]
    wrong = rng.random(TRAIN) < WRONG
    labels = np.where(wrong, (y[own] + rng.integers(1, 10, TRAIN)) % 10, y[own])
    epochs = [rng.permutation(TRAIN) for _ in range(-(-num_steps * BATCH // TRAIN))]
    start = [((rng.standard_normal((b, a)) * np.sqrt(2 / a)).astype(np.float32), np.zeros(b, np.float32)) for a, b in itertools.pairwise(SIZES)]
    held = (z[others], y[others]) if tune else tuple(np.asarray(part) for part in everything.test)
    return Task(z[own], labels.astype(np.int32), np.concatenate(epochs)[: num_steps * BATCH].reshape(num_steps, BATCH).astype(np.int32), start, held)


def logits(layers: Any, z: Any) -> Any:
    for w, b in layers[:-1]:
        z = jax.nn.relu(z @ w.T + b)
    return z @ layers[-1][0].T + layers[-1][1]


def cross_entropy(layers: Any, z: Any, y: Any) -> Any:
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits(layers, z), y))


def accuracy(layers: Any, z: Any, y: Any) -> Any:
    return jnp.mean(jnp.argmax(logits(layers, z), axis=1) == y)


def jacobian(layers: Any, z: Any) -> Any:
    """Mean over points of the squared Frobenius norm."""
    return jnp.mean(jnp.sum(jax.vmap(jax.jacrev(lambda one: logits(layers, one)))(z) ** 2, axis=(1, 2)))


PENALTIES = {"Jacobian": jacobian, "bending": partial(eq.partition.bending, tau=TAU)}


@partial(jax.jit, static_argnames="arm")
def trained(tasks: Task, strength: Any, target: Any, arm: str) -> Found:
    """Each seed until it has the training loss."""
    num_steps = tasks.rows.shape[1]

    def one(task: Task) -> Found:
        tx = optax.adamw(STEP_SIZE, weight_decay=strength if arm == "weight decay" else 0.0)

        def objective(layers: Any, z: Any, y: Any) -> Any:
            return cross_entropy(layers, z, y) + (strength * PENALTIES[arm](layers, z) if arm in PENALTIES else 0.0)

        def on(carry: Any) -> Any:
            return (carry[3] >= target) & (carry[2] < num_steps)

        def step(carry: Any) -> Any:
            layers, state, at, loss, way = carry
            way = way.at[at // EVERY].set(jnp.where(at % EVERY == 0, jnp.stack([loss, accuracy(layers, *task.held)]), way[at // EVERY]))
            rows = task.rows[at]
            updates, state = tx.update(jax.grad(objective)(layers, task.z[rows], task.y[rows]), state, layers)
            layers = optax.apply_updates(layers, updates)
            return layers, state, at + 1, cross_entropy(layers, task.z, task.y), way

        way = jnp.full((-(-num_steps // EVERY), 2), jnp.nan)
        first = (task.start, tx.init(task.start), 0, cross_entropy(task.start, task.z, task.y), way)
        layers, _, steps, loss, way = jax.lax.while_loop(on, step, first)
        return Found(layers, steps, loss, way)

    return jax.lax.map(one, tasks)  # as lanes all would wait for the last


@jax.jit
def measured(layers: Any, tasks: Task) -> dict[str, Any]:
    def one(layers: Any, task: Task) -> dict[str, Any]:
        z, y = task.held
        noisy = z + NOISE * jax.random.normal(jax.random.key(0), (8, *z.shape))
        seen = _facets.facets(layers, z, (0.0, 1.0))
        return {
            "accuracy": accuracy(layers, z, y),
            "accuracy under noise": jnp.mean(jax.vmap(lambda z: accuracy(layers, z, y))(noisy)),
            "median distance to a facet": jnp.median(jnp.min(jnp.where(seen.moving, seen.distances, jnp.inf), axis=1)),
            "bending": eq.partition.bending(layers, z, tau=TAU),
        }

    return jax.vmap(one)(layers, tasks)


def stacked(seeds: Any, num_steps: int, *, tune: bool) -> Task:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *[task(seed, num_steps, tune=tune) for seed in seeds])


def tuned(arm: str, num_steps: int) -> tuple[float, list[dict[str, Any]]]:
    """The strength of the best accuracy among those at which no seed misses the training loss, and all that were tried."""
    tasks, tried = stacked(TUNED_ON, num_steps, tune=True), []
    for strength in STRENGTHS[arm]:
        found = trained(tasks, strength, TARGET, arm)
        missed = int(np.sum(np.asarray(found.loss) >= TARGET))
        tried.append({
            "arm": arm, "strength": strength, "missed": missed, "steps": float(np.median(found.steps)),
            "accuracy": float(np.mean(measured(found.layers, tasks)["accuracy"])),
        })  # fmt: skip
    able = [row for row in tried if not row["missed"]]
    if not able:
        msg = f"{arm}: no strength of {STRENGTHS[arm]} lets all seeds reach a training loss of {TARGET} in {num_steps} steps; write smaller ones."
        raise RuntimeError(msg)
    return max(able, key=lambda row: row["accuracy"])["strength"], tried


def interval(values: np.ndarray) -> tuple[float, float, float]:
    """Mean, and its 95 % interval by Student's t."""
    from scipy.stats import t

    half = t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return float(np.mean(values)), float(np.mean(values) - half), float(np.mean(values) + half)


def apart_of(values: dict[str, dict[str, np.ndarray]], measure: str, arm: str, other: str) -> np.ndarray:
    """Over the seeds that both brought to the training loss."""
    apart = values[arm][measure] - values[other][measure]
    return apart[np.isfinite(apart)]


def differences(values: dict[str, dict[str, np.ndarray]]) -> list[dict[str, Any]]:
    """Of all arms from plain, and of bending from the other two."""
    pairs = [(arm, "plain") for arm in values if arm != "plain"] + [("bending", arm) for arm in ("weight decay", "Jacobian")]
    rows = []
    for measure, (arm, other) in itertools.product(MEASURES, pairs):
        apart = apart_of(values, measure, arm, other)
        mean, low, high = interval(apart)
        first = measure == MEASURES[0] and (arm, other) == ("bending", "plain")
        rows.append({
            "measure": measure, "arm": arm, "less": other, "mean": mean, "low": low, "high": high, "pairs": len(apart),
            "": "primary" if first else "secondary",
        })  # fmt: skip
    return rows


def picture(values: dict[str, dict[str, np.ndarray]], ways: dict[str, np.ndarray], target: float) -> Any:
    import matplotlib.pyplot as plt

    fig, (left, right) = plt.subplots(1, 2, figsize=(10.5, 4.2), layout="constrained")
    arms = [arm for arm in values if arm != "plain"]
    for shift, measure, face in ((-0.15, MEASURES[0], "black"), (0.15, MEASURES[1], "white")):
        for k, arm in enumerate(arms):
            apart = 100 * apart_of(values, measure, arm, "plain")
            mean, low, high = interval(apart)
            left.plot(np.full(len(apart), k + shift + 0.08), apart, "o", markersize=3, color="0.6")
            bar = [[mean - low], [high - mean]]
            left.errorbar(k + shift, mean, bar, fmt="o", color="black", markerfacecolor=face, capsize=4, label=measure if k == 0 else None)
    left.axhline(0, color="0.5", linewidth=0.8)
    left.set_xticks(range(len(arms)), arms)
    mean, low, high = interval(100 * apart_of(values, MEASURES[0], "bending", "plain"))
    left.set(xlim=(-0.5, len(arms) - 0.5), xlabel="penalty", ylabel="test set, minus plain training (percentage points)")
    left.set_title(f"At equal training loss bending changes accuracy by {mean:.1f} [{low:.1f}, {high:.1f}]", fontsize=10)
    left.legend(fontsize=8, title="mean, 95 %, and each seed")
    at = np.geomspace(1.5, target, 60)
    for (arm, way), dash, shade in zip(ways.items(), ("-", ":", "-.", "--"), ("0.6", "0.45", "0.3", "0.0"), strict=True):
        lines = []
        for one in way:
            loss, held = one[np.isfinite(one[:, 0])].T
            lowest = np.minimum.accumulate(loss)
            lines.append(np.interp(-np.log(at), -np.log(lowest), held))
        line = 100 * np.mean(lines, axis=0)
        right.plot(at, line, dash, color=shade, linewidth=1.8, label=arm)
        if arm == "plain":
            right.set_title(f"On the way there: plain training is best at a loss of {at[np.argmax(line)]:.2g}, {line.max():.0f} %", fontsize=10)
    right.set(xscale="log", xlabel="training loss (nats), falling as training goes on", ylabel="test accuracy, %, mean over seeds")
    right.set_xticks([1.0, 0.5, 0.2, 0.1], ["1", "0.5", "0.2", "0.1"])
    right.set_xticks([], minor=True)
    right.invert_xaxis()
    right.legend(fontsize=8)
    return fig


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--quick", action="store_true", help="two seeds to a larger loss, nothing tuned; figures are not to be quoted")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out" / "partition_regularise.json", help="where the JSON goes")
    options = parser.parse_args()
    began, num_steps, target = time.perf_counter(), *((600, 0.7) if options.quick else (3000, TARGET))
    seeds = range(2 if options.quick else options.seeds)
    tasks = stacked(seeds, num_steps, tune=False)
    rows, tuning, values, ways = [], [], {}, {}
    for arm, strengths in STRENGTHS.items():
        strength = strengths[len(strengths) // 2]
        if not options.quick and len(strengths) > 1:
            strength, tried = tuned(arm, num_steps)
            tuning += tried
        found = trained(tasks, strength, target, arm)
        reached = np.asarray(found.loss) < target
        ways[arm] = np.asarray(found.way)
        values[arm] = {name: np.where(reached, np.asarray(part, float), np.nan) for name, part in measured(found.layers, tasks).items()}
        rows.append({
            "arm": arm, "strength": strength, "missed": int(np.sum(~reached)), "steps": float(np.median(found.steps)),
            "training loss": float(np.mean(found.loss)), **{name: float(np.nanmean(values[arm][name])) for name in MEASURES},
        })  # fmt: skip
    apart = differences(values)
    common.table(f"{len(seeds)} seeds, each run to a training loss of {target}: means", rows)
    common.table("differences, paired by seed, with their 95 % intervals", apart)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    plot.save(picture(values, ways, target), options.out.with_suffix(".png"))
    common.write(options.out, {
        "machine": common.machine(), "target": target, "seconds": time.perf_counter() - began, "rows": rows, "differences": apart, "tuning": tuning,
        "by seed": {arm: {name: part.tolist() for name, part in of.items()} for arm, of in values.items()},
    })  # fmt: skip


if __name__ == "__main__":
    main()
