"""The two- and three-dimensional networks: both step sizes side by side, every step certified."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from eqdyn import data, measure, observe, rules, shapes, topology
from eqdyn._simulate import simulate
from eqdyn._types import Points
from eqdyn.data import Batches
from eqdyn.networks import two_layer
from eqdyn.reproduce._experiment import RATES, Experiment
from eqdyn.reproduce._outcome import Outcome

# the curve that the neurons lie on, carried along by tracers
_MESHES: dict[str, Callable[[int], Any]] = {
    "start_2d": shapes.mesh.figure_eight,
    "start_2d_two_circles": lambda num: shapes.mesh.two_circles(num // 2, apart=2.4),
}
_CODE_SCALES = {"2d": (1.0, 0.6), "3d": (1.0 / 128**0.25, 0.6 / 128**0.25)}  # of the teacher's layers, in the public code


class LowRun(NamedTuple):
    """The neurons at the start and at the end of each step size, and what is said of them."""

    start: np.ndarray
    ends: dict[str, np.ndarray]
    outcomes: list[Outcome]


def run(experiment: Experiment, seed: int, *, quick: bool = False, progress: Any = None) -> LowRun:
    """One seed of an experiment in the plane or in space; `quick` takes few neurons and epochs, and shows that it works."""
    of_data, of_start, of_run = jax.random.split(jax.random.key(seed), 3)
    dim = {"2d": 1, "3d": 2}[experiment.network]
    width = min(experiment.width, 256) if quick else experiment.width
    split = data.teacher(key=of_data, input_dim=dim, scales=_CODE_SCALES[experiment.network])
    x0 = getattr(shapes, experiment.start)(width, key=of_start).points
    rule = getattr(rules, experiment.optimizer)(two_layer.regression_field())
    mesh = _MESHES[experiment.start](512) if experiment.start in _MESHES else None
    batches = Batches(split.train, experiment.batch)
    epochs = max(experiment.epochs.values())
    num_steps = batches.steps_per_epoch * (min(epochs, 2) if quick else epochs)
    etas = jnp.asarray([experiment.rates[rate] for rate in RATES], x0.dtype)
    done = simulate(
        rule, x0, eta=etas, lanes=2, num_steps=num_steps, data=batches, key=of_run, progress=progress, observe={"ledger": observe.certificate()},
        tracers=None if mesh is None else mesh.points,
    )  # fmt: skip
    top = float(measure.sharpness(rules.gradient(two_layer.regression), x0, data=split.train).value)
    ends = {rate: np.asarray(done.x[lane]) for lane, rate in enumerate(RATES)}
    outcomes = []
    for lane, rate in enumerate(RATES):
        ledger, eta, end = done.observed["ledger"].lane(lane), experiment.rates[rate], ends[rate]
        status = "ok" if done.status[lane] == "ok" else f"{done.status[lane]} at step {done.status_step[lane]}"
        found = topology.change(x0, end, max_dim=dim, throughout=ledger) if status == "ok" else None
        q = np.where(np.isnan(ledger.values.q), np.inf, ledger.values.q)
        outcomes.append(
            Outcome(
                experiment.name, seed, rate, eta, status, num_steps, ledger.steps_seen, int(ledger.open.sum()), float(q.max()),
                float(ledger.values.eta_mu.max()),
                int(ledger.values.merged.sum()), *_stretch(found), eta * top, *_betti(x0, found, dim),
                tuple(one.verdict for one in found.degrees) if found else (), float(two_layer.regression(x0, split.train)),
                float(two_layer.regression(done.x[lane], split.train)), float("nan"),
                "" if mesh is None or status != "ok" else _curve(mesh, np.asarray(done.tracers[lane])),
            )
        )  # fmt: skip
    return LowRun(np.asarray(x0), ends, outcomes)


def _curve(mesh: Any, now: np.ndarray) -> str:
    """What became of the curve from which the neurons started, by its mesh: no scale is needed."""
    if not np.all(np.isfinite(now)):
        return "its mesh ran away"
    found, held = measure.mesh_change(mesh, mesh.points, now), topology.mesh_betti(mesh, now)
    seen = {"folds": len(found.folded_vertices), "tears": len(found.torn), "crossings": len(found.crossings)}
    words = ", ".join(f"{count} {what}" for what, count in seen.items() if count)
    return f"(b0, b1) = {held.betti[:2]} as a curve, " + (words or "no fold, tear or crossing")


def _stretch(found: Any) -> tuple[float, float]:
    return (float("nan"), float("nan")) if found is None else (found.low, found.high)


def _betti(x0: Points, found: Any, dim: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return (found.before, found.after) if found else (topology.betti(x0, max_dim=dim), (-1,) * (dim + 1))
