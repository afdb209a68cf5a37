"""Is transfer a pullback? A frozen representation behind a trained affine map, beside its peers, at half a percent of the parameters.

    EQDYN_DATA=... python3 benchmarks/paths_transfer.py

Sources are 784-256-32-10 (ReLU) on one half of MNIST's training set, 64-256-32-10 on scikit-learn's digits, 784-256-32-5 on the digits 0 to 4.
Targets are drawn from the other half of MNIST, or from the digits: 100 or 1,000 labels a run, or all (25,000; digits 1,150; 5 to 9 about 12,200).

    MNIST to digits        8 x 8 to 28 x 28
    digits to MNIST        28 x 28 to 8 x 8
    turned, 90 degrees     MNIST
    turned, any angle      MNIST, one angle, drawn once
    inverted               MNIST, 1 - z
    0-4 to 5-9             MNIST; the head begins at 0, elsewhere at the source's

All methods but "scratch" see inputs through one map T from target to source inputs, made without labels from the two samples: "plain" (the image
resized, or as it is), "wasserstein" behind it, or "gromov" (`eq.paths.transport`), the one under which a trained head alone does best on the
validation split. Trained are, in at most 1,047 numbers, 0.5 % of the 209,514 of 784-256-32-10, head included:

    pullback       f = T + an affine map between principal axes, and the head; the representation is frozen
    probe          the head, and a hidden layer beside it
    adapter        the head, and a residual bottleneck behind each layer
    head alone     fewer numbers

and, in as many as there are: "fine-tuning" and "scratch" (a new network on plain inputs). All by Adam at batch 64 for as many steps; each run takes
that of three step sizes which does best on the validation split. The test set is looked at once, at the end. A seed is a source network, a draw of
labels, a start and batches; all methods share them.

Hypothesis, the source's claim in words: the pullback gets near fine-tuning with 0.5 % of the parameters. *Near* is taken as at most 2 percentage
points of test accuracy below. Primary comparison: pullback less fine-tuning at 1,000 labels, mean over the six tasks, 95 % interval of Student's t
over seeds. Reproduced if the whole interval is above -2, not reproduced if it is all below, else not decidable. What probe or adapter do as well in
as many numbers is no merit of the pullback: the differences from those are the first secondary comparisons. Secondary besides: single tasks, 100
labels and all, the three starts, 4 and 16 times the numbers, and a control with a source that was never trained.

Written before the seeds were run. A pilot on another split (one seed; turned images) set the range of step sizes and the number of axes of
"gromov", and showed that this start finds turns without labels.
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import common
import jax
import numpy as np
from paths_tasks import ANGLE, STAGES, Task, data_of, fresh

import eqdyn as eq
from eqdyn import plot

NUM_PARAMS, MORE, AXES, NEAR = 1047, (4, 16), 64, 2.0
LABELS = (100, 1000, None)
STEP_SIZES = (1e-3, 3e-3, 1e-2)
FEW = ("pullback", "probe", "adapter")
METHODS = (*FEW, "head alone", "fine-tuning", "scratch")
STARTS = ("plain", "wasserstein", "gromov")
TITLES = {
    "main": "at 0.5 % of the parameters, or all", "starts": "other starts", "numbers": "more numbers", "control": "source never trained",
    "alone": "nothing trained: start, source and its head",
}  # fmt: skip


def trained_sources(sources: dict[str, Any], seeds: int, num_steps: int) -> tuple[dict[str, Any], dict[str, float]]:
    """For each source its representations and heads, leaves `(seeds, ...)`, and their mean accuracy on its own test set."""
    found, accuracy = {}, {}
    for k, (name, (train, test)) in enumerate(sources.items()):
        keys = jax.random.split(jax.random.fold_in(jax.random.key(1), k), seeds)
        begin = partial(fresh, num_inputs=train[0].shape[1])
        budget = eq.paths.Budget(num_steps, 128, (3e-3,))
        own = eq.paths.transfer("scratch", STAGES, jax.vmap(begin)(keys), train, test, fresh=begin, budget=budget, key=keys)
        found[name] = own.params["trained"]["features"], own.params["trained"]["head"]
        accuracy[name] = float(np.mean(own.accuracy))
    return found, accuracy


class Bench(NamedTuple):
    """What all runs on a task share."""

    name: str
    task: Task
    features: Any
    head: Any
    starts: dict[str, Any]
    keys: Any
    budget: Any


def bench_of(name: str, task: Task, inputs: Any, source: Any, seeds: int, num_steps: int) -> Bench:
    starts = {kind: eq.paths.transport(task.train[0], inputs, kind, lift=None if kind == "gromov" else task.lift, num_axes=AXES) for kind in STARTS}
    keys = jax.random.split(jax.random.key(2), seeds)
    head = None if name == "0-4 to 5-9" else source[1]
    return Bench(name, task, source[0], head, starts, keys, eq.paths.Budget(num_steps, 64, STEP_SIZES))


def run(bench: Bench, method: str, num_labels: int | None, start: str, num_params: int | None = NUM_PARAMS, *, source: Any = None) -> dict[str, Any]:
    """A row, with the accuracies by seed. `source` in place of the trained one."""
    task = bench.task
    num_params = None if method == "head alone" else num_params
    num_labels = None if num_labels is not None and num_labels >= len(task.train[0]) else num_labels
    features, head = (bench.features, bench.head) if source is None else source
    found = eq.paths.transfer(
        "probe" if method in ("head alone", "start alone") else method, STAGES, features, task.train, task.test, num_params=num_params,
        num_labels=num_labels, start=bench.starts[start], head=head, validation=task.validation, key=bench.keys,
        fresh=partial(fresh, num_inputs=task.train[0].shape[1]), budget=bench.budget,
    )  # fmt: skip
    mean, half = interval(found.accuracy)
    return {
        "task": bench.name, "labels": num_labels or len(task.train[0]), "method": method, "start": "-" if method == "scratch" else start,
        "times": (num_params or NUM_PARAMS) // NUM_PARAMS, "accuracy": 100 * mean, "+-": 100 * half, "trained": found.num_trained,
        "share": found.num_trained / found.num_source, "seconds": found.seconds, "step size": float(np.median(found.step_size)),
        "validation": 100 * float(np.mean(np.max(found.validation, axis=1))), "by seed": (100 * np.asarray(found.accuracy)).tolist(),
    }  # fmt: skip


def interval(values: Any) -> tuple[float, float]:
    """Mean, and half of its 95 % interval by Student's t."""
    from scipy.stats import t

    values = np.asarray(values)
    return float(np.mean(values)), float(t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))


def rows_of(bench: Bench, labels: tuple[int | None, ...], *, more: bool) -> list[dict[str, Any]]:
    """All methods on a task, on the start under which a trained head alone does best on the validation split."""
    middle, rows = sorted(labels, key=lambda n: n or 10**9)[len(labels) // 2], []
    alone = {start: run(bench, "head alone", middle, start) for start in bench.starts}
    best = max(STARTS, key=lambda start: alone[start]["validation"])
    for num_labels in labels:
        for method in METHODS:
            known = method == "head alone" and num_labels == middle
            rows.append((alone[best] if known else run(bench, method, num_labels, best)) | {"part": "main"})
            print(line(rows[-1]), flush=True)
    if not more:
        return rows
    for start in STARTS:
        if start != best:
            rows += [
                row | {"part": "starts"} for row in (alone[start], *(run(bench, method, middle, start) for method in ("pullback", "fine-tuning")))
            ]
    rows += [run(bench, method, middle, best, times * NUM_PARAMS) | {"part": "numbers"} for times in MORE for method in FEW]
    of = jax.vmap(partial(fresh, num_inputs=bench.starts[best].weight.shape[1]))(jax.random.split(jax.random.key(3), len(bench.keys)))
    rows += [run(bench, method, middle, best, source=(of, None)) | {"part": "control"} for method in ("pullback", "probe")]
    if bench.head is not None:
        still = bench._replace(budget=bench.budget._replace(num_steps=0, step_sizes=STEP_SIZES[:1]))
        rows += [run(still, "start alone", middle, start) | {"part": "alone", "trained": 0, "share": 0.0} for start in STARTS]
    return rows


def line(row: dict[str, Any]) -> str:
    return f"{row['task']}, {row['labels']} labels, {row['method']}: {row['accuracy']:.1f} +- {row['+-']:.1f}, {row['trained']} numbers"


def less(rows: list[dict[str, Any]], one: str, other: str, labels: int | None, names: Any) -> np.ndarray:
    """Accuracy of one method less that of another, percentage points, by seed, mean over tasks."""
    most = {name: max(row["labels"] for row in rows if row["task"] == name) for name in names}

    def of(method: str) -> np.ndarray:
        wanted = {name: min(labels or most[name], most[name]) for name in names}
        kept = [row for row in rows if row["part"] == "main" and row["method"] == method and row["labels"] == wanted.get(row["task"])]
        return np.mean([row["by seed"] for row in kept], axis=0)

    return of(one) - of(other)


def comparisons(rows: list[dict[str, Any]], labels: tuple[int | None, ...], primary: int | None) -> list[dict[str, Any]]:
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    asked = [("pullback", other, n, None) for n in labels for other in ("fine-tuning", "probe", "adapter", "scratch")]
    asked += [("pullback", other, primary, name) for name in tasks for other in ("fine-tuning", "probe", "adapter")]
    found = []
    for one, other, n, name in asked:
        mean, half = interval(less(rows, one, other, n, tasks if name is None else [name]))
        first = (other, n, name) == ("fine-tuning", primary, None)
        found.append({
            "task": name or "mean of all", "labels": n or "all", "method": one, "less": other, "mean": mean, "low": mean - half, "high": mean + half,
            "": "primary" if first else "secondary",
        })  # fmt: skip
    return sorted(found, key=lambda row: row[""])


def verdict(found: list[dict[str, Any]]) -> str:
    """Of the source's claim, by the rule that was set before."""
    first, of = found[0], {row["less"]: row for row in found if row["task"] == "mean of all" and row["labels"] == found[0]["labels"]}
    said = "reproduced" if first["low"] > -NEAR else "not reproduced" if first["high"] < -NEAR else "not decidable"
    merit = [f"{row['mean']:+.1f} [{row['low']:+.1f}, {row['high']:+.1f}] against {other}" for other, row in of.items() if other != "fine-tuning"]
    return (
        f"{said}: at {first['labels']} labels and 0.5 % of the parameters the pullback is {first['mean']:+.1f} "
        f"[{first['low']:+.1f}, {first['high']:+.1f}] points from fine-tuning (near: {-NEAR:.0f}), and {', '.join(merit)}"
    )


def picture(rows: list[dict[str, Any]], primary: int | None, said: str) -> Any:
    """By task, as differences from fine-tuning; and over the number of trained parameters."""
    import matplotlib.pyplot as plt

    tasks = list(dict.fromkeys(row["task"] for row in rows))
    fig, (left, right) = plt.subplots(1, 2, figsize=(12, 4.8), layout="constrained", width_ratios=(1.5, 1))
    marks = {"pullback": ("o", "black"), "probe": ("s", "0.45"), "adapter": ("^", "0.65"), "scratch": ("x", "0.3")}
    for shift, (method, (mark, shade)) in zip(np.linspace(-0.27, 0.27, len(marks)), marks.items(), strict=True):
        for k, name in enumerate([*tasks, None]):
            mean, half = interval(less(rows, method, "fine-tuning", primary, [name] if name else tasks))
            left.errorbar(mean, k + shift, xerr=half, fmt=mark, color=shade, markersize=6, capsize=3, label=method if k == 0 else None)
    left.axvline(0, color="0.5", linewidth=0.8)
    left.axvline(-NEAR, color="0.5", linewidth=0.8, linestyle=":")
    left.text(-NEAR, -0.62, "near ", fontsize=8, ha="right", va="center")
    left.axhline(len(tasks) - 0.5, color="0.8", linewidth=0.8)
    left.set_yticks(range(len(tasks) + 1), [*tasks, "mean of all"])
    left.set_ylim(len(tasks) + 0.5, -0.8)
    left.set(xlabel=f"test accuracy at {primary or 'all'} labels, less fine-tuning (percentage points), 95 %")
    left.set_xlim(left=1.35 * left.get_xlim()[0])
    left.legend(fontsize=8, title="trained", loc="lower left")
    left.set_title(f"The claim: {said.split(':')[0]}", fontsize=10)
    whole = {method: np.mean([row["accuracy"] for row in at(rows, primary) if row["method"] == method]) for method in ("fine-tuning", "scratch")}
    for method, dash in zip(FEW, ("-", "--", ":"), strict=True):
        points = []
        for part in ("main", "numbers"):
            kept = [row for row in (at(rows, primary) if part == "main" else rows) if row["part"] == part and row["method"] == method]
            for times in sorted({row["times"] for row in kept}):
                some = [row for row in kept if row["times"] == times]
                points.append((np.mean([row["trained"] for row in some]), np.mean([row["accuracy"] for row in some])))
        right.plot(*zip(*points, strict=True), dash, marker=marks[method][0], color=marks[method][1], label=method)
    for method, dash in zip(whole, ("-.", (0, (1, 3))), strict=True):
        right.axhline(whole[method], linestyle=dash, color="black", linewidth=1, label=f"{method}, all numbers")
    right.set(xscale="log", xlabel="numbers trained, mean over tasks", ylabel="test accuracy, %, mean over tasks")
    low, high = right.get_ylim()
    right.set_ylim(low, high + 0.45 * (high - low))
    right.legend(fontsize=8, loc="upper left")
    right.set_title("What more numbers buy", fontsize=10)
    return fig


def at(rows: list[dict[str, Any]], labels: int | None) -> list[dict[str, Any]]:
    """The main rows at a number of labels, or at all of a task that has fewer."""
    most = {row["task"]: max(other["labels"] for other in rows if other["task"] == row["task"]) for row in rows}
    return [row for row in rows if row["part"] == "main" and row["labels"] == min(labels or most[row["task"]], most[row["task"]])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="two tasks, few images and steps, to see that it runs; figures are not to be quoted")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out" / "paths_transfer.json", help="where the JSON goes")
    options = parser.parse_args()
    began, seeds = time.perf_counter(), 2 if options.quick else options.seeds
    sources, tasks = data_of(600 if options.quick else None)
    labels, primary, of_source, of_target = ((100,), 100, 60, 20) if options.quick else (LABELS, 1000, 1500, 500)
    if options.quick:
        tasks = {name: tasks[name] for name in ("MNIST to digits", "inverted")}
    trained, accuracy = trained_sources({name: sources[name] for name in {task.source for task in tasks.values()}}, seeds, of_source)
    rows: list[dict[str, Any]] = []
    for name, task in tasks.items():
        rows += rows_of(bench_of(name, task, sources[task.source][0][0], trained[task.source], seeds, of_target), labels, more=not options.quick)
    found = comparisons(rows, labels, primary)
    said = verdict(found)
    shown = ("task", "labels", "method", "start", "accuracy", "+-", "trained", "share", "seconds", "step size")
    for part in dict.fromkeys(row["part"] for row in rows):
        title = f"{TITLES[part]}: test accuracy in %, mean of {seeds} seeds with its 95 % interval"
        common.table(title, [{key: row[key] for key in shown} for row in rows if row["part"] == part])
    common.table("differences in percentage points, paired by seed, with 95 % intervals", found)
    print(f"\n{said}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    plot.save(picture(rows, primary, said), options.out.with_suffix(".png"))
    common.write(options.out, {
        "machine": common.machine(), "seconds": time.perf_counter() - began, "seeds": seeds, "angle": ANGLE, "sources": accuracy, "verdict": said,
        "rows": rows, "differences": found,
    })  # fmt: skip


if __name__ == "__main__":
    main()
