"""Covariant gradient descent: what a whole training step of each structure costs, beside optax's Adam.

    python3 benchmarks/covariant.py

The step is gradient and update: of the 784-1024-10 network at batch 128 and 512, and of a 2-16-16-1 network whose full metric is feasible.
`particle` refreshes its metric every `--refresh` steps. Compile time apart; medians over rounds in which all take turns.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import common
import jax
import jax.numpy as jnp
import optax
from covariant_problems import incoming, multiplication

import eqdyn as eq
from eqdyn.networks import two_layer


def turning(group: Any) -> Any:
    """SGD, and the particles of the gradient times a matrix in the best layout there is: what a shared metric cannot go below."""

    def init(params: Any) -> Any:
        return jnp.eye(group.dim), jnp.zeros((group.dim, group.size))

    def update(grads: Any, state: Any, params: Any = None) -> Any:
        metric, columns = state
        return jax.tree.map(lambda g: -1e-3 * g, grads), (metric, metric @ (columns + grads["output"][0, 0]))

    return optax.GradientTransformation(init, update)


def costs(repeats: int, refresh: int, num_steps: int) -> list[dict[str, Any]]:
    """Seconds of a whole training step, all structures in turn."""
    key = jax.random.key(0)
    x = jax.random.normal(key, (1024, 794)) / 28
    params = two_layer.classifier(x, 784)
    group = two_layer.neurons(params)
    small = multiplication().start(key)
    z = jax.random.uniform(key, (128, 2))
    rows: dict[str, tuple[Any, Any, Any]] = {}
    for size in (128, 512):
        batch = (jax.random.normal(key, (size, 784)), jnp.zeros(size, jnp.int32))
        loss = functools.partial(two_layer.cross_entropy, data=batch)
        net = f"784-1024-10, batch {size}"
        rows |= {
            f"{net}: optax Adam": (optax.adam(1e-3), params, loss),
            f"{net}: diagonal": (eq.covariant.descent(1e-3), params, loss),
            f"{net}: particle, refreshed every {refresh} steps": (
                eq.covariant.descent(1e-3, structure="particle", groups=group, refresh=refresh), params, loss
            ),
            f"{net}: bound: SGD and one product of 1024 x 794 with 794 x 794": (turning(group), params, loss),
            f"{net}: low rank 8, refreshed every 10 steps": (eq.covariant.descent(1e-3, structure="low_rank", refresh=10), params, loss),
        }  # fmt: skip

    def error(p: Any) -> Any:
        h = z
        for name in ("in", "between"):
            h = jnp.tanh(h @ p[name]["w"] + p[name]["b"])
        return jnp.mean((h @ p["out"]["w"] + p["out"]["b"]) ** 2)

    for name, tx in (
        ("optax Adam", optax.adam(1e-3)), ("diagonal", eq.covariant.descent(1e-3)),
        ("particle", eq.covariant.descent(1e-3, structure="particle", groups=incoming(small))),
        ("low rank 8", eq.covariant.descent(1e-3, structure="low_rank")),
        ("full, every 10 steps", eq.covariant.descent(1e-3, structure="full", refresh=10)),
        ("full, every step (the full-matrix baseline)", eq.covariant.descent(1e-3, structure="full")),
    ):  # fmt: skip
        rows[f"2-16-16-1: {name}"] = (tx, small, error)

    def call(tx: Any, params: Any, loss: Any) -> Callable[[], Any]:
        @jax.jit
        def steps(params: Any, state: Any) -> Any:
            def step(carry: Any, _: None) -> Any:
                params, state = carry
                updates, state = tx.update(jax.grad(loss)(params), state, params)
                return (optax.apply_updates(params, updates), state), None

            return jax.lax.scan(step, (params, state), None, length=num_steps)[0]

        state = tx.init(params)
        return lambda: steps(params, state)

    times = common.interleaved({name: call(*row) for name, row in rows.items()}, repeats)
    table = []
    for name, found in times.items():
        adam = times[name.split(":")[0] + ": optax Adam"]["median"]
        row = {"row": name, "ms a step": found["median"] / num_steps * 1e3}
        table.append(row | {"times Adam": found["median"] / adam, "first call, s": found["first"]})
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--refresh", type=int, default=200)
    parser.add_argument("--quick", action="store_true", help="few steps, to see that it runs; figures are not to be quoted")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out" / "covariant.json", help="where the JSON goes")
    options = parser.parse_args()
    table = costs(1 if options.quick else options.repeats, options.refresh, 3 if options.quick else options.refresh)
    common.table("a whole training step", table)
    common.write(options.out, {"machine": common.machine(), "rows": table})


if __name__ == "__main__":
    main()
