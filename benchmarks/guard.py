"""What the guard costs a step, and what training reaches under it at the step size that tears the paper's 2-D network.

Part one trains the 2-D network (1,024 neurons on a figure eight, minibatches of 128, 50 epochs) without and with the guard, seed by
seed, on equal batches and for equal time `eta t`: a guarded run takes as many steps more as it was held back. Asked for: every step
certified (q <= 0.9), and a training loss within 5 % of that of the unguarded run, or below.

Part two times plain optax loops, one scan, in float32, in one process, in turn; the median of several rounds counts. MNIST is read
from the folder in EQDYN_DATA; without it that part is left out.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any

import common
import jax
import jax.numpy as jnp
import optax

import eqdyn as eq
from eqdyn.networks import two_layer

SMALL, LARGE, WIDTH, BATCH = 2.5e-3, 3e-3, 1024, 128


# --- what training reaches -------------------------------------------------------------------------------------------------

WATCH = {"pairs": eq.observe.pair_constants()}
OPTIMIZERS = {
    "3e-3, no guard": (LARGE, optax.sgd(LARGE)),
    "3e-3, guard": (LARGE, optax.chain(optax.sgd(LARGE), eq.guard())),
    "3e-3, one-sided guard": (LARGE, optax.chain(optax.sgd(LARGE), eq.guard(constant="one_sided"))),
    "2.5e-3, no guard": (SMALL, optax.sgd(SMALL)),
}


def trained(eta: float, tx: Any, seed: int, num_steps: int) -> dict[str, Any]:
    """One run to time `LARGE * num_steps`."""
    of_data, of_start, of_run = jax.random.split(jax.random.key(seed), 3)
    split = eq.data.teacher(key=of_data)
    x0 = eq.shapes.start_2d(WIDTH, key=of_start).points
    rule, batches = eq.rules.from_optax(tx, two_layer.regression), eq.Batches(split.train, BATCH)
    run = eq.simulate(rule, x0, num_steps=round(num_steps * LARGE / eta), data=batches, key=of_run, observe=WATCH)
    guarded = [leaf for leaf in run.state if hasattr(leaf, "lost")] if isinstance(run.state, tuple) else []
    more = math.ceil(float(guarded[0].lost)) if guarded else 0
    if more:
        run = eq.simulate(rule, run, num_steps=more, data=batches, observe=WATCH)
        guarded = [leaf for leaf in run.state if hasattr(leaf, "lost")]
    q, eta_mu = run.observed["pairs"].values.q, run.observed["pairs"].values.eta_mu
    stretch = eq.measure.stretch(x0, run.x)
    return {
        "steps": run.step,
        "scaled": int(guarded[0].num_scaled) if guarded else 0,
        "lost": float(guarded[0].lost) if guarded else 0.0,
        "max q": float(q.max()),
        "max eta*mu": float(eta_mu.max()),
        "steps open": int(((q >= 1) & (eta_mu >= 1)).sum()),
        "merges": int(eq.measure.merges(x0, run.x).merged),
        "stretch low": float(stretch.low),
        "stretch high": float(stretch.high),
        "training loss": float(two_layer.regression(run.x, split.train)),
        "test loss": float(two_layer.regression(run.x, split.test)),
    }


def reached(seeds: int, num_steps: int) -> list[dict[str, Any]]:
    rows = []
    for seed in range(seeds):
        found = {name: trained(eta, tx, seed, num_steps) for name, (eta, tx) in OPTIMIZERS.items()}
        torn = found["3e-3, no guard"]["training loss"]
        rows += [{"row": f"{seed}: {name}", **row, "of the unguarded loss": row["training loss"] / torn} for name, row in found.items()]
    return rows


# --- what a step costs -----------------------------------------------------------------------------------------------------


def loop(tx: Any, loss: Callable, params: Any, batches: Any) -> Callable[[], Any]:
    """Anyone's optax loop over batches that lie ready."""

    @jax.jit
    def run(params: Any, batches: Any) -> Any:
        def body(carry: tuple, batch: Any) -> tuple[tuple, None]:
            params, state = carry
            updates, state = tx.update(jax.grad(loss)(params, batch), state, params)
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(body, (params, tx.init(params)), batches)[0]

    return lambda: run(params, batches)


def cost(repeats: int, steps: int, eta: float, loss: Callable, params: Any, arrays: Any, batch_size: int, group: Any) -> list[dict[str, Any]]:
    batches = eq.Batches(arrays, batch_size)
    rows = batches.rows(jax.random.key(0), 0, steps)
    ready = jax.tree.map(lambda leaf: leaf[jnp.asarray(rows)], batches.arrays)
    optimizers = {
        "optax.sgd": optax.sgd(eta),
        "guarded": optax.chain(optax.sgd(eta), eq.guard(group=group)),
        "guarded, every step scaled": optax.chain(optax.sgd(eta), eq.guard(1e-6, group=group)),
    }
    calls = {name: loop(tx, loss, params, ready) for name, tx in optimizers.items()}
    times = common.interleaved(calls, repeats)
    bare = times["optax.sgd"]["median"]
    return [
        {
            "row": name,
            "microseconds a step": times[name]["median"] / steps * 1e6,
            "in the best round": times[name]["min"] / steps * 1e6,
            "of the bare loop": times[name]["median"] / bare,
            "steps scaled": int(calls[name]()[1][-1].num_scaled) if name != "optax.sgd" else 0,
            "first call, s": times[name]["first"],
        }
        for name in calls
    ]


def main() -> None:
    args = common.arguments(__doc__.splitlines()[0], "guard")
    machine = common.machine()
    print(", ".join(f"{name} {value}" for name, value in machine.items()), "| float32")
    found = {}

    def part(title: str, rows: list[dict[str, Any]]) -> None:
        found[title] = rows
        common.table(title, rows)

    split = eq.data.teacher(key=jax.random.key(0))
    x0 = eq.shapes.start_2d(WIDTH, key=jax.random.key(1)).points
    given = LARGE, two_layer.regression, x0, split.train, BATCH, None
    part("2-D network, 1024 neurons, batch 128: a step", cost(args.repeats, 10 if args.quick else 200, *given))
    if os.environ.get("EQDYN_DATA"):
        params = two_layer.classifier(eq.shapes.start_mnist(key=jax.random.key(2)).points, 784)
        given = 0.5, two_layer.cross_entropy, params, eq.data.mnist().train, 1024, two_layer.neurons(params)
        part("MNIST, 784-1024-10, batch 1024: a step", cost(args.repeats, 2 if args.quick else 8, *given))
    else:
        print("MNIST is left out: EQDYN_DATA is not set")
    part("2-D network at equal time eta*t, by seed", reached(1 if args.quick else 10, 54 if args.quick else 2700))
    common.write(args.out, {"machine": machine, "dtype": "float32", "repeats": args.repeats, "quick": args.quick, "rows": found})


if __name__ == "__main__":
    main()
