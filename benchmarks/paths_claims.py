"""Do classes of runs, areas between them, affine relations or the persistence of a minimum tell how well a network generalises?

    EQDYN_DATA=folder python3 benchmarks/paths_claims.py

72 networks 784-h-10 on 3,000 MNIST images: h = 32, 64 or 128; SGD, momentum or Adam; a smaller and a larger step size; labels right, or a fifth of
them drawn anew; two seeds; 20 epochs in batches of 100. Claims of "Categorical Invariants of Learning Dynamics" (arXiv:2510.04376), as they can be
tested. What follows was written before the first run in full.

1. Runs of one class generalise alike. Classes: whole runs, aligned, sheets of 11 x 11 at moments of equal loss, single linkage of barriers, at the
   level in the middle of the longest range over which their number lasts (more than one class, at most half as many as runs). Primary: the
   permutation test of test accuracy within strata of label noise, width by width (between networks of two widths there is no path), each at
   0.05 / 3. Reproduced if two widths or more reject, not reproduced if none does though classes could be formed, else not decidable.
2. What is far apart generalises differently: the area that the linear sheet between two aligned runs sweeps in the space of outputs (probabilities,
   256 images) against the absolute difference of test accuracies. Primary: rank correlation over pairs of one width, the mean of the three;
   permutation test that deals accuracies within width and label noise. Reproduced if it is above 0 at 0.05.
3. The persistence of a minimum predicts the generalisation gap (training accuracy on its own labels less test accuracy): the more, the smaller.
   Primary: normalised total persistence on random planes, partial correlation after width, norm and training loss. Reproduced if it is below 0 at
   0.05, contradicted if above 0 at 0.05, not reproduced if its interval leaves out -0.5 and +0.5, else not decidable.
4. Runs of two optimizers that are affinely related (a 2-cell) generalise alike. Pairs of runs from one start; primary: rank correlation of the
   held-out R^2 at the end with the absolute difference of test accuracies, permutation test that deals accuracies among the runs of one start.
   Reproduced if it is below 0 at 0.05.
5. Link to the core, without a claim: runs from one start below and above the critical step size, two moons: are they connected to the run of a small
   step?

Added after the first run, in which all runs of a width were one class at every level, and all balls and most planes bowls: classes of runs as they
are, without alignment (secondary); the control of 2 by the distance of outputs at the ends alone; planes of twice the size. Rules and primary tests
are as they were.

Tests 2 and 4 that are not reproduced are "not reproduced" at 0.05, no more. The loss of sheets and planes is cross-entropy on 1,024 (512) training
images with their true labels, the same for all runs.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import common
import jax
import numpy as np
import partition_along as moons
from paths_runs import WIDTHS, hidden, logits, loss, networks, probabilities
from paths_verdicts import LEVEL, dealt, drawn, verdicts

import eqdyn as eq


def level(tree: Any) -> float:
    """In the middle of the longest range over which more than one class, and at most half as many as runs, last."""
    gaps = [gap for gap in tree.gaps if 1 < gap[2] <= tree.num / 2 and np.isfinite(gap[1])]
    return float(gaps[0][:2].mean()) if gaps else float(np.median(tree.levels))


def classes(runs: list[dict[str, Any]], data: Any, num: int) -> tuple[list[dict[str, Any]], np.ndarray]:
    """Classes of whole runs of one width, aligned and as they are, and what they say of test accuracy; the barriers of aligned runs."""
    own = eq.networks.find_groups(logits, runs[0]["path"].end, data[0][:4])
    paths, rows, heights = [run["path"] for run in runs], [], {}
    right, upper = [run["test accuracy"] for run in runs], np.triu_indices(len(runs), 1)
    for name, groups in (("aligned", own), ("as they are", None)):
        heights[name] = eq.paths.barriers(loss, paths, groups, num, data=data, progress=True)
        ends = eq.paths.barriers(loss, [path.end for path in paths], groups, num, data=data)
        tree = eq.paths.classes(heights[name])
        delta = level(tree)
        strata = ([run["noise"] for run in runs], [f"{run['noise']} {run['optimizer']} {run['eta']}" for run in runs])
        free, held, finer = (eq.paths.contrast(tree, right, delta, strata=one) for one in (None, *strata))
        rows.append({
            "width": runs[0]["width"], "runs": name, "one class from": float(tree.levels[-1]), "delta": delta, "classes": len(free.sizes),
            "sizes": sorted(free.sizes, reverse=True), "within": 100 * free.within, "between": 100 * free.between,
            "range within": 100 * free.range_within, "eta2": free.eta2, "p": free.p_value, "p within noise": held.p_value,
            "p within optimizer too": finer.p_value, "barrier": float(np.median(heights[name][upper])), "of ends": float(np.median(ends[upper])),
        })  # fmt: skip
    return rows, heights["aligned"]


def areas(runs: list[dict[str, Any]], data: Any, num: int) -> tuple[np.ndarray, np.ndarray]:
    """Swept in the space of outputs between aligned runs of one width, `(R, R)`; and the distance of outputs at the ends."""
    groups = eq.networks.find_groups(logits, runs[0]["path"].end, data[0][:4])
    paths = [eq.paths.reparametrise(run["path"], "loss", num) for run in runs]
    outputs = [np.asarray(probabilities(path.end, data[0][:256])) for path in paths]
    found, ends = np.full((2, len(runs), len(runs)), np.nan)
    for i, j in itertools.combinations(range(len(runs)), 2):
        other = eq.paths.align(paths[i], paths[j], groups).params
        found[i, j] = eq.paths.area(eq.paths.sheet(paths[i], other, num), probabilities, data[0][:256])
        ends[i, j] = np.sqrt(np.mean(np.sum((outputs[i] - outputs[j]) ** 2, axis=1)))
    return found, ends


def two_cells(runs: list[dict[str, Any]], probe: Any) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Held-out R^2 at the ends `(R, R)`, of runs from one start; and the verdicts by pair of optimizers."""
    found, kept = np.full((len(runs), len(runs)), np.nan), []
    for i, j in itertools.combinations(range(len(runs)), 2):
        a, b = runs[i], runs[j]
        if (a["width"], a["noise"], a["seed"]) != (b["width"], b["noise"], b["seed"]):
            continue
        ways = [eq.paths.reparametrise(run["path"], "time", 3) for run in (a, b)]
        cell = eq.paths.two_cell(hidden, *ways, probe, num_controls=3)
        found[i, j] = cell.r2[-1]
        kept.append((" and ".join(sorted({a["optimizer"], b["optimizer"]})), cell, abs(a["test accuracy"] - b["test accuracy"])))
    rows = []
    for name in dict.fromkeys(one[0] for one in kept):
        some = [one[1] for one in kept if one[0] == name]
        ends = [cell.verdicts[-1] for cell in some]
        rows.append({
            "optimizers": name, "pairs": len(some), "R2 at the end": float(np.median([cell.r2[-1] for cell in some])),
            "least": min(float(cell.r2[-1]) for cell in some), "untrained": float(np.median([cell.untrained[-1] for cell in some])),
            "CKA": float(np.median([cell.cka[-1] for cell in some])), "related": ends.count("affinely related"),
            "not related": ends.count("not related"), "unresolved": ends.count("unresolved"),
            "difference of accuracy, points": 100 * float(np.mean([one[2] for one in kept if one[0] == name])),
        })  # fmt: skip
    return found, rows


def persistence(runs: list[dict[str, Any]], data: Any, options: Any) -> None:
    """Total persistence around the end of each run, into its record."""
    for k, run in enumerate(runs):
        end = run["path"].end
        groups = eq.networks.find_groups(logits, end, data[0][:4])
        for name, radius in (("planes", 1.0), ("planes of twice the size", 2.0)):
            flat = eq.paths.planes(
                loss, end, groups=groups, data=data, num_planes=options.planes, num=options.grid, radius=radius, key=jax.random.key(7)
            )  # fmt: skip
            run |= {name: flat.total, f"{name}, normalised": flat.normalised}
        solid = eq.paths.ball(loss, end, groups=groups, data=data, num=options.grid**2 // 2, key=jax.random.key(8))
        run |= {"ball": solid.total, "ball, normalised": solid.normalised}
        if k % 12 == 11:
            print(f"persistence of {k + 1} minima", flush=True)


def predictions(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    column = {name: np.array([run[name] for run in runs]) for name in ("gap", "width", "norm", "train loss")}
    controls = {name: np.log(column[name] + (1e-6 if name == "train loss" else 0)) for name in ("width", "norm", "train loss")}
    rows = []
    for name in ("planes, normalised", "planes", "planes of twice the size, normalised", "planes of twice the size", "ball, normalised", "ball"):
        found = eq.paths.predicts([run[name] for run in runs], column["gap"], controls)
        rows.append({
            "estimator": name, "minima with bars": int(sum(run[name] > 0 for run in runs)), "slope": found.slope,
            "R2": found.r2, "low": found.low, "high": found.high, "partial": found.partial,
            "partial low": found.partial_low, "partial high": found.partial_high, "p": found.p_value, "verdict": found.verdict,
        })  # fmt: skip
    return rows


def core(options: Any) -> list[dict[str, Any]]:
    """Two moons, one start, several step sizes: barriers to the run of the smallest, on the way from end to end."""
    etas = [0.25, 1.0, 4.0, 8.0, 16.0]
    rows = []
    for eta in etas:
        row: dict[str, list[float]] = {"q": [], "neurons": [], "barrier": [], "not aligned": [], "together": []}
        for seed in range(options.starts):
            small, steps = moons.trained(etas[0], seed, options.moon_steps * 4)[1], int(options.moon_steps / min(eta, 1.0))
            run, params = moons.trained(eta, seed, steps)
            groups = eq.networks.find_groups(moons.apply, params, moons.Z)
            aligned, plain = (float(eq.paths.barrier(moons.loss, small, params, held, 25)) for held in (groups, None))
            for name, value in zip(row, (run.largest_q[-1], run.num_neurons[-1, 0], aligned, plain, aligned <= LEVEL), strict=True):
                row[name].append(float(value))
        together = int(sum(row.pop("together")))
        middle = {name: float(np.median(values)) for name, values in row.items()}
        rows.append({"eta": eta} | middle | {"connected": together, "of": options.starts})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--num", type=int, default=11)
    parser.add_argument("--planes", type=int, default=3)
    parser.add_argument("--grid", type=int, default=21)
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--moon-steps", type=int, default=400)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out" / "paths_claims.json", help="where the JSON goes")
    options = parser.parse_args()
    began = time.perf_counter()
    split = eq.data.mnist()
    sheet_data, plane_data = (tuple(part[:num] for part in split.train) for num in (1024, 512))
    runs = networks(split, options.images, options.epochs, options.seeds, sheet_data)
    of_width = {width: [run for run in runs if run["width"] == width] for width in WIDTHS}
    found = [classes(some, sheet_data, options.num) for some in of_width.values()]
    heights = {width: one[1] for width, one in zip(WIDTHS, found, strict=True)}
    firsts = dict(zip(WIDTHS, np.cumsum([0, *(len(some) for some in of_width.values())]).tolist(), strict=False))
    measured = {firsts[width]: areas(some, sheet_data, options.num) for width, some in of_width.items()}
    swept, apart = ({first: pair[k] for first, pair in measured.items()} for k in (0, 1))
    print("areas done", flush=True)
    related, cells = two_cells(runs, split.test[0][:1000])
    print("2-cells done", flush=True)
    persistence(runs, plane_data, options)

    def tested(name: str, of_pairs: dict[int, Any], stratum: Callable) -> dict[str, Any]:
        seen, below, above = dealt(of_pairs, runs, [stratum(run) for run in runs])
        pairs = sum(int(np.isfinite(matrix).sum()) for matrix in of_pairs.values())
        return {"of pairs": name, "pairs": pairs, "rank correlation": seen, "p below": below, "p above": above}

    def of_noise(run: dict[str, Any]) -> Any:
        return run["width"], run["noise"]

    rows = {
        "classes": [row for one in found for row in one[0]],
        "areas": [tested("area", swept, of_noise), tested("control: distance at the ends", apart, of_noise)],
        "2-cells": cells,
        "affine relation and accuracy": [tested("R2 at the end", {0: related}, lambda run: (*of_noise(run), run["seed"]))],
        "persistence": predictions(runs),
        "below and above the critical step": core(options),
    }
    for title, table in rows.items():
        common.table(title, table)
    said = verdicts(rows)
    print("\n" + "\n".join(said))
    kept = [{key: value for key, value in run.items() if key != "path"} for run in runs]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    drawn(heights, runs, rows, options.out)
    common.write(
        options.out, {"machine": common.machine(), "seconds": time.perf_counter() - began, "verdicts": said, "table": rows, "runs": kept}
    )  # fmt: skip


if __name__ == "__main__":
    main()
