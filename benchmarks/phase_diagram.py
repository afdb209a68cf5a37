"""The phase diagram of the 2-D network, and which constant tells where topology breaks.

    python3 benchmarks/phase_diagram.py

Gradient descent on particles (w, a), squared error against a sigmoid teacher of one input, batch 128, 540 steps (20 epochs); widths 128, 256, 512,
step sizes in units of 1/width (the loss has no factor 1/N), 16 seeds. Every step is certified over all pairs. Breakdown is seen *without* U: of 4,096
tracers of the initial curve an edge shrinks below 1 % in one step, or at the end their mesh folds or meets itself as it did not before, or the
run diverges. The smallest step size that breaks, line by line, is held against (a) the largest with eta*K_pair below 1 at every step, (b)
1/lambda_max and (c) 2/lambda_max of all training data at the start: correlation over the lines, and how far off in the middle.
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
from eqdyn import plot, plot_phase
from eqdyn.networks import two_layer

LOSS = two_layer.regression_field()
RULE, WIDTHS = eq.rules.gradient(LOSS), (128, 256, 512)
SHRINK, FOLD = 0.01, 90.0  # of an edge in one step; degrees
MESH = eq.shapes.mesh.figure_eight(4096)


def start(width: int, key: Any) -> Any:
    return eq.shapes.start_2d(width, key=key).points


def step_size(eta: float, width: int) -> float:
    return eta / width


def keep(run: eq.Run) -> dict[str, Any]:
    """What is kept of every lane: the ledger's sums, and what became of the curve."""
    found = {name: value for name, value in eq.kept(run).items() if name.startswith(("ledger", "loss"))}
    curve = run.observed["curve"].values
    ended = np.asarray(run.status_step)
    made = (ended[:, None] < 0) | (np.asarray(run.observed["curve"].steps)[None] < ended[:, None])
    least = np.where(made, curve.shrink, 1.0).min(axis=1)
    tracers, status = np.asarray(run.tracers), np.asarray(run.status)
    folds, crossings = np.zeros(len(status), int), np.zeros(len(status), int)
    for lane in np.nonzero(status == "ok")[0]:
        change = eq.measure.mesh_change(MESH, MESH.points, tracers[lane], fold=FOLD)
        folds[lane], crossings[lane] = len(change.folded_vertices) + len(change.lost), len(change.crossings)
    broken = (status != "ok") | (least < SHRINK) | (folds > 0) | (crossings > 0)
    return found | {"shrink": least, "folds": folds, "crossings": crossings, "broken": broken.astype(int)}


def thresholds(found: Any, data: Any, key: Any) -> dict[str, np.ndarray]:
    """By line `(width, seed)`, in units of 1/width: the smallest eta that breaks, and the three that are to tell it."""
    etas = found["eta"].values
    broken = found["broken"].transpose("width", "seed", "eta").values > 0
    certified = found["ledger_q"].transpose("width", "seed", "eta").values < 1
    first = np.where(broken.any(-1), etas[np.argmax(broken, axis=-1)], np.nan)
    upto = np.cumprod(certified & (found["status"].transpose("width", "seed", "eta").values == "ok"), axis=-1).sum(-1)
    largest = np.where(upto > 0, etas[np.maximum(upto, 1) - 1], np.nan)
    top = np.empty(first.shape)
    for i, width in enumerate(found["width"].values):
        for j, seed in enumerate(found["seed"].values):
            of_start, _ = jax.random.split(jax.random.fold_in(key, int(seed)))
            top[i, j] = eq.measure.sharpness(RULE, start(int(width), of_start), data=data).value
    per = found["width"].values[:, None] / top
    return {"first that breaks": first, "(a) eta*K_pair < 1 throughout": largest, "(b) 1/lambda_max(0)": per, "(c) 2/lambda_max(0)": 2 * per}


def rows(lines: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    first = lines["first that breaks"].ravel()
    table = []
    for name, values in lines.items():
        values = values.ravel()
        both = np.isfinite(first) & np.isfinite(values)
        row: dict[str, Any] = {"": name, "lines": int(both.sum()), "median": float(np.median(values[both])) if both.any() else float("nan")}
        if name != "first that breaks":
            ratio = values[both] / first[both]
            spread = both.sum() > 2 and np.ptp(values[both]) > 0 and np.ptp(first[both]) > 0
            row |= {
                "correlation": float(np.corrcoef(values[both], first[both])[0, 1]) if spread else float("nan"),
                "over the first that breaks, median": float(np.median(ratio)), "least": float(ratio.min()), "most": float(ratio.max()),
            }  # fmt: skip
        else:
            row |= dict.fromkeys(("correlation", "over the first that breaks, median", "least", "most"), 1.0)
        table.append(row)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--etas", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--steps", type=int, default=540)
    parser.add_argument("--lanes", type=int, default=16)
    parser.add_argument("--first", type=float, default=0.5, help="smallest step size, in units of 1/width")
    parser.add_argument("--last", type=float, default=5.0, help="largest")
    parser.add_argument("--folder", type=Path, default=None, help="where cells are committed, to go on after a kill")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out" / "phase_diagram.json", help="where the JSON goes")
    options = parser.parse_args()
    split = eq.data.teacher(key=jax.random.key(1234))
    key = jax.random.key(0)
    grid = {"width": WIDTHS, "eta": np.linspace(options.first, options.last, options.etas).round(4).tolist(), "seed": range(options.seeds)}
    before, began = eq.compile_count(), time.perf_counter()
    found = eq.sweep(
        RULE, start, grid=grid, eta=step_size, num_steps=options.steps, data=eq.Batches(split.train, 128), key=key, tracers=MESH.points, every=27,
        observe={"ledger": eq.observe.certificate(), "curve": eq.observe.tracer_curve(MESH)}, keep=keep, lanes=options.lanes, force=True,
        folder=options.folder, progress=True,
    )  # fmt: skip
    seconds, compiled = time.perf_counter() - began, eq.compile_count() - before
    lines = thresholds(found, split.train, key)
    table = rows(lines)
    common.table(
        f"{found['status'].size:,} runs of {options.steps} steps in {seconds:.0f} s, {compiled} compilations; step sizes in units of 1/width", table
    )
    phase = plot_phase.phases(found)
    said = ", ".join(f"{int(np.sum(phase == k)):,} {name}" for k, name in enumerate(plot_phase.PHASES) if np.any(phase == k))
    print(said)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    arrays = {
        name: found["broken"].isel(eta=0, drop=True).copy(data=values)
        for name, values in list(lines.items())[1:]
        for values in [lines_of(found, values)]
    }
    picture = plot_phase.phase_diagram(found, lines=arrays, title=f"{found['status'].size:,} runs: {said}", units="1/width")
    plot.save(picture, options.out.with_suffix(".png"))
    held = {name: values.round(5).tolist() for name, values in lines.items()}
    common.write(options.out, {
        "machine": common.machine(), "seconds": seconds, "compilations": compiled, "runs": int(found["status"].size), "steps": options.steps,
        "lanes": options.lanes, "phases": said, "widths": list(WIDTHS), "lines": held, "table": table,
    })  # fmt: skip


def lines_of(found: Any, values: np.ndarray) -> np.ndarray:
    """Thresholds `(width, seed)` in the order of the dataset's axes."""
    order = [name for name in found["broken"].dims if name != "eta"]
    return values if order == ["width", "seed"] else values.T


if __name__ == "__main__":
    main()
