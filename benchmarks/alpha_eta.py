"""Does the exponent of an optimizer's metric move the step size at which topology breaks?

    python3 benchmarks/alpha_eta.py

Covariant descent without momentum, g = (avg of grad grad^t + eps)^alpha, on the 2-D network: width 128, squared error against a sigmoid teacher,
batch 128, 540 steps; alpha from 0 (SGD) to 1, one metric for all neurons ("particle") or one a coordinate ("diagonal": 1/2 is RMSProp). The unit
of eta changes with alpha; step sizes are given in units of G^(2 alpha) / width, G the root mean square of the gradient at the start: equal numbers
are first steps of about equal length. eps = (damping G)^2. Every step is certified over all pairs, and breakdown is seen without U, as in
`phase_diagram.py`, on 4,096 tracers of the first curve.
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
from phase_diagram import LOSS, MESH, keep

import eqdyn as eq
from eqdyn import plot, plot_phase

WIDTH, AXES = 128, ("structure", "alpha", "seed", "eta")


def start(key: Any) -> Any:
    return eq.shapes.start_2d(WIDTH, key=key).points


class Scale:
    """The rule and its step size, `eta G^(2 alpha) / width`."""

    def __init__(self, gradient: float, damping: float):
        self.gradient, self.eps = gradient, (damping * gradient) ** 2

    def make_rule(self, structure: str, alpha: Any) -> eq.Rule:
        return eq.covariant.rule(LOSS, alpha, tau2=99, eps=self.eps, structure=structure)

    def step_size(self, eta: float, alpha: float) -> float:
        return eta * self.gradient ** (2 * alpha) / WIDTH


def size_of_gradient(data: Any) -> float:
    """Root mean square over coordinates, all training data, at the start of seed 0."""
    return float(jnp.sqrt(jnp.mean(LOSS.force(start(jax.random.key(0)), data)[0] ** 2)))


def thresholds(found: Any) -> tuple[Any, Any]:
    """By line: the smallest eta that breaks, and the largest up to which every step is certified; NaN where there is none."""
    etas = found["eta"].values
    broken = found["broken"].transpose(*AXES).values > 0
    sure = (found["ledger_q"].transpose(*AXES).values < 1) & ~broken
    upto = np.cumprod(sure, axis=-1).sum(-1)
    return (
        np.where(broken.any(-1), etas[np.argmax(broken, axis=-1)], np.nan),
        np.where(upto > 0, etas[np.maximum(upto, 1) - 1], np.nan),
    )


def rows(found: Any) -> list[dict[str, Any]]:
    first, largest = thresholds(found)
    broken, merged, loss = (found[name].transpose(*AXES).values for name in ("broken", "ledger_merged", "loss"))
    diverged = found["status"].transpose(*AXES).values != "ok"
    table = []
    for i, structure in enumerate(found["structure"].values):
        for k, alpha in enumerate(found["alpha"].values):
            of_kept = np.where(broken[i, k] > 0, np.inf, loss[i, k]).min(-1)
            table.append({
                "structure": str(structure), "alpha": float(alpha), "first that breaks": middle(first[i, k]), "least": float(np.min(first[i, k])),
                "most": float(np.max(first[i, k])), "eta*K_pair < 1 throughout, up to": middle(largest[i, k]),
                "merged somebody": int(np.sum(merged[i, k] > 0)), "diverged": int(diverged[i, k].sum()),
                "least loss unbroken": float(np.median(of_kept)), "least loss": float(np.median(np.nanmin(loss[i, k], -1))),
            })  # fmt: skip
    return table


def middle(values: np.ndarray) -> float:
    """The median, where a line without a value counts as one below all."""
    value = float(np.median(np.nan_to_num(values, nan=0.0)))
    return value if value > 0 else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--alphas", type=int, default=9)
    parser.add_argument("--etas", type=int, default=32)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=540)
    parser.add_argument("--lanes", type=int, default=16)
    parser.add_argument("--first", type=float, default=0.01, help="smallest step size, in units of G^(2 alpha) / width")
    parser.add_argument("--last", type=float, default=10.0, help="largest")
    parser.add_argument("--damping", type=float, default=0.03, help="root of eps over G")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out" / "alpha_eta.json", help="where the JSON goes")
    options = parser.parse_args()
    split = eq.data.teacher(key=jax.random.key(1234))
    gradient = size_of_gradient(split.train)
    scale = Scale(gradient, options.damping)
    grid = {
        "structure": ["particle", "diagonal"], "alpha": np.linspace(0, 1, options.alphas).tolist(), "seed": range(options.seeds),
        "eta": np.geomspace(options.first, options.last, options.etas).round(5).tolist(),
    }  # fmt: skip
    before, began = eq.compile_count(), time.perf_counter()
    found = eq.sweep(
        scale.make_rule, start, grid=grid, eta=scale.step_size, num_steps=options.steps, data=eq.Batches(split.train, 128), key=jax.random.key(0),
        tracers=MESH.points, every=27, observe={"ledger": eq.observe.certificate(), "curve": eq.observe.tracer_curve(MESH)}, keep=keep,
        lanes=options.lanes, force=True, progress=True,
    )  # fmt: skip
    seconds, compiled = time.perf_counter() - began, eq.compile_count() - before
    table = rows(found)
    common.table(f"{found['status'].size:,} runs of {options.steps} steps in {seconds:.0f} s, {compiled} compilations; G = {gradient:.3g}", table)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    for structure in grid["structure"]:
        drawn(found.sel(structure=structure), structure, [row for row in table if row["structure"] == structure], options.out)
    common.write(options.out, {
        "machine": common.machine(), "seconds": seconds, "compilations": compiled, "runs": int(found["status"].size), "steps": options.steps,
        "gradient": gradient, "damping": options.damping, "table": table,
    })  # fmt: skip


def drawn(found: Any, structure: str, table: list[dict[str, Any]], out: Path) -> None:
    phase = plot_phase.phases(found)
    said = ", ".join(f"{int(np.sum(phase == k)):,} {name}" for k, name in enumerate(plot_phase.PHASES) if np.any(phase == k))
    _, largest = thresholds(found.expand_dims("structure"))
    certified = found["broken"].transpose(*AXES[1:]).isel(eta=0, drop=True).copy(data=largest[0])
    at = [table[k]["first that breaks"] for k in (0, len(table) // 2, -1)]
    title = f"{structure}: breaks at {at[0]:.2g} (alpha = 0), {at[1]:.2g} (1/2), {at[2]:.2g} (1)\n{said}"
    lines = {"eta*K_pair < 1 throughout": certified}
    picture = plot_phase.phase_diagram(found, y="alpha", lines=lines, title=title, units="G^(2 alpha)/width")
    plot.save(picture, out.with_name(f"{out.stem}_{structure}.png"))


if __name__ == "__main__":
    main()
