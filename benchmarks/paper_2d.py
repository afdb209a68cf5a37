"""The paper's 2-D experiments, small and large step, over ten seeds: which constant tells the kept from the torn?

    python3 benchmarks/paper_2d.py

1,024 neurons (w, a) on the figure eight (Adam: on two circles), teacher data, batch 128; a run is 100 epochs of gradient descent, 50 with
momentum 0.9, 40 of Adam, all seeds of an optimizer in one compiled program. Every step is looked at: eta*K_pair and eta*mu of the step that was made
(the coordinates alone for momentum and Adam), eta*||T|| of the force field on the step's batch, merges. 510 tracers carry the curve along; folds,
tears and crossings are those of their mesh, looked at every second epoch. eta*lambda_max is that of all training data at the start.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import common
import jax
import jax.numpy as jnp
import numpy as np

import eqdyn as eq
from eqdyn.networks import two_layer

LOSS = two_layer.regression_field()
STEPS_PER_EPOCH = 3500 // 128
LOOK = 2 * STEPS_PER_EPOCH  # steps between two looks at the mesh


class Experiment(NamedTuple):
    rule: eq.Rule
    start: Callable
    mesh: Any
    etas: dict[str, float]
    epochs: int


EXPERIMENTS = {
    "GD": Experiment(eq.rules.gradient(LOSS), eq.shapes.start_2d, eq.shapes.mesh.figure_eight(512), {"small": 2.5e-3, "large": 3e-3}, 100),
    "momentum": Experiment(eq.rules.heavy_ball(LOSS), eq.shapes.start_2d, eq.shapes.mesh.figure_eight(512), {"small": 5e-4, "large": 4.5e-3}, 50),
    "Adam": Experiment(
        eq.rules.adam(LOSS), eq.shapes.start_2d_two_circles, eq.shapes.mesh.two_circles(256, apart=2.4), {"small": 1e-4, "large": 1e-2}, 40
    ),
}


def starts(experiment: Experiment, num_seeds: int) -> tuple[jax.Array, Any, jax.Array]:
    """Lanes: seeds within step sizes. One data set for all seeds would leave only the batches: each seed has its own start, and batches."""
    keys = [jax.random.split(jax.random.key(seed), 2) for seed in range(num_seeds)]
    x = jnp.stack([experiment.start(key=one[0]).points for one in keys])
    return jnp.concatenate([x] * len(experiment.etas)), jnp.concatenate([jnp.stack([one[1] for one in keys])] * len(experiment.etas)), keys


def train(name: str, num_seeds: int, epochs: int | None) -> dict[str, Any]:
    """All lanes of an experiment, and what was seen of each."""
    one = EXPERIMENTS[name]
    x0, keys, _ = starts(one, num_seeds)
    lanes = len(x0)
    split = eq.data.teacher(key=jax.random.key(1234))
    etas = jnp.repeat(jnp.asarray(list(one.etas.values()), jnp.float32), num_seeds)
    force = eq.rules.gradient(LOSS)
    watch = {
        "pairs": eq.observe.pair_constants(),
        "merges": eq.observe.merges(),
        "T": eq.observe.transverse(force),
    }
    seen = [{"torn": 0, "folded": 0, "crossed": 0, "first look": -1} for _ in range(lanes)]
    run, before, num_steps = x0, one.mesh.points, STEPS_PER_EPOCH * (epochs or one.epochs)
    done = 0
    while done < num_steps:
        more = {} if done else {"lanes": lanes, "key": keys, "tracers": before}
        run = eq.simulate(
            one.rule, run, eta=etas, num_steps=min(LOOK, num_steps - done), data=eq.Batches(split.train, 128), observe=watch, chunk=LOOK, **more
        )
        done = run.step
        tracers = np.asarray(run.tracers)
        for lane in range(lanes):
            now = eq.measure.mesh_change(one.mesh, one.mesh.points, tracers[lane])
            counts = {"torn": len(now.torn), "folded": len(now.folded_vertices), "crossed": len(now.crossings)}
            if seen[lane]["first look"] < 0 and any(counts.values()):
                seen[lane]["first look"] = done
            for what, count in counts.items():
                seen[lane][what] = max(seen[lane][what], count)
    top = jax.jit(jax.vmap(lambda x: eq.measure.sharpness(force, x, data=split.train).value))(x0[:num_seeds])
    stretch = jax.jit(jax.vmap(eq.measure.stretch))(x0, run.x)
    return {"run": run, "stretch": stretch, "seen": seen, "etas": np.asarray(etas), "lambda": np.tile(np.asarray(top), len(one.etas))}


def verdict(row: dict[str, Any]) -> str:
    if row["status"] != "ok":
        return row["status"]
    if row["merges"]:
        return "merged"
    if row["max eta*mu"] < 1:
        return "injective throughout"
    return "open: pairs" + (", folds" if row["max eta*|T|"] >= 1 else "")


def rows(name: str, found: dict[str, Any], num_seeds: int) -> list[dict[str, Any]]:
    pairs, T = (found["run"].observed[key].values for key in ("pairs", "T"))
    stretch = found["stretch"]
    table = []
    for lane, eta in enumerate(found["etas"]):
        status = str(found["run"].status[lane])
        row: dict[str, Any] = {
            "optimizer": name,
            "eta": float(f"{eta:.3g}"),
            "seed": lane % num_seeds,
            "eta*lambda_max": float(eta * found["lambda"][lane]),
            "max eta*|T|": float(T.eta_norm[lane].max()),
            "max eta*K_pair": float(pairs.q[lane].max()),
            "max eta*mu": float(pairs.eta_mu[lane].max()),
            "merges": int(found["run"].observed["merges"].values[lane].sum()),
            "fold": int(np.sum(T.num_folded[lane] > 0)),
            **{f"mesh {what}": found["seen"][lane][what] for what in ("folded", "torn", "crossed")},
            "stretch": f"{float(stretch.low[lane]):.2g} - {float(stretch.high[lane]):.3g}",
            "status": status,
        }
        row["verdict"] = verdict(row)
        table.append(row)
    return table


def orderings(table: list[dict[str, Any]]) -> dict[str, str]:
    """What the reference measurements order, seed by seed; where a seed disagrees it is named."""
    small, large = ([row for row in table if row["eta"] == eta] for eta in sorted({row["eta"] for row in table}))

    def judged(holds: list[bool]) -> str:
        odd = [row["seed"] for row, ok in zip(small, holds, strict=True) if not ok]
        return f"{len(holds) - len(odd)} of {len(holds)}" + (f", not for seeds {odd}" if odd else "")

    pairs = list(zip(small, large, strict=True))
    return {
        "eta*lambda_max > 2 at both steps": judged([s["eta*lambda_max"] > 2 < b["eta*lambda_max"] for s, b in pairs]),
        "max eta*|T| < 1 at the small step": judged([s["max eta*|T|"] < 1 for s, _ in pairs]),
        "max eta*|T| > 1 at the large step": judged([b["max eta*|T|"] > 1 for _, b in pairs]),
        "max eta*K_pair < 1 at the small step": judged([s["max eta*K_pair"] < 1 for s, _ in pairs]),
        "max eta*K_pair > 1 at the large step": judged([b["max eta*K_pair"] > 1 for _, b in pairs]),
        "max eta*|T| grows with eta": judged([s["max eta*|T|"] < b["max eta*|T|"] for s, b in pairs]),
        "nobody merged": judged([s["merges"] == 0 == b["merges"] for s, b in pairs]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10, help="starts and batch orders (default: %(default)s)")
    parser.add_argument("--epochs", type=int, help="instead of the paper's")
    parser.add_argument("--only", choices=list(EXPERIMENTS), help="one optimizer")
    parser.add_argument("--quick", action="store_true", help="two seeds, two epochs, to see that it runs")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out" / "paper_2d.json", help="where the JSON goes")
    options = parser.parse_args()
    seeds, epochs = (2, 2) if options.quick else (options.seeds, options.epochs)
    result: dict[str, Any] = {"machine": common.machine(), "rows": [], "orderings": {}}
    for name in [options.only] if options.only else list(EXPERIMENTS):
        began = time.perf_counter()
        table = rows(name, train(name, seeds, epochs), seeds)
        common.table(f"{name}: {seeds} seeds, {time.perf_counter() - began:.0f} s", table)
        result["rows"] += table
        if name == "GD":
            result["orderings"] = orderings(table)
            print("\nOrderings, over seeds:")
            for what, holds in result["orderings"].items():
                print(f"  {what}: {holds}")
    common.write(options.out, result)


if __name__ == "__main__":
    main()
