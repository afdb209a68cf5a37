"""Covariant gradient descent: what a step of each structure costs, and what it brings on two problems with noise.

    python3 benchmarks/covariant.py

Cost: the whole training step (gradient and update) of the 784-1024-10 network at batch 128, and of a 2-16-16-1 network whose full metric is
feasible. `particle` refreshes its metric every `--refresh` steps. Problems: Rosenbrock's valley from (-1.2, 1) with Gaussian noise on the gradient,
and learning to multiply, (u, v) uniform on [-1, 1]^2, by a 2-16-16-1 tanh network. The step size of every method is tuned by the same rule, on a grid
of three a decade, by the median final loss over five seeds that are not among the twenty that count.
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
import optax

import eqdyn as eq
from eqdyn.networks import two_layer

SIZES = (2, 16, 16, 1)
CHECKS = 10  # times along a run at which loss and effective rank are read


class Problem(NamedTuple):
    """`gradient(params, key)`, noisy; `loss(params)`, without noise; `start(key)`."""

    gradient: Callable[[Any, Any], Any]
    loss: Callable[[Any], Any]
    start: Callable[[Any], Any]
    num_steps: int


def rosenbrock(noise: float) -> Problem:
    def loss(q: Any) -> Any:
        x, y = q[0]
        return (1 - x) ** 2 + 100 * (y - x * x) ** 2

    def gradient(q: Any, key: Any) -> Any:
        return jax.grad(loss)(q) + noise * jax.random.normal(key, q.shape)

    return Problem(gradient, loss, lambda key: jnp.array([[-1.2, 1.0]]), 4000)


def multiplication() -> Problem:
    held = jax.random.uniform(jax.random.key(123), (1024, 2), minval=-1, maxval=1)

    def output(params: Any, z: Any) -> Any:
        for name in ("in", "between"):
            z = jnp.tanh(z @ params[name]["w"] + params[name]["b"])
        return (z @ params["out"]["w"] + params["out"]["b"])[:, 0]

    def error(params: Any, z: Any) -> Any:
        return jnp.mean((output(params, z) - z[:, 0] * z[:, 1]) ** 2)

    def gradient(params: Any, key: Any) -> Any:
        return jax.grad(error)(params, jax.random.uniform(key, (32, 2), minval=-1, maxval=1))

    def start(key: Any) -> Any:
        params = {}
        for name, fan_in, fan_out, k in zip(("in", "between", "out"), SIZES, SIZES[1:], jax.random.split(key, 3), strict=True):
            params[name] = {"w": jax.random.normal(k, (fan_in, fan_out)) / np.sqrt(fan_in), "b": jnp.zeros(fan_out)}
        return params

    return Problem(gradient, lambda params: error(params, held), start, 4000)


def incoming(params: Any) -> list[Any]:
    """Hidden units as particles: their incoming weights and bias."""
    return [eq.groups.from_axes(params, {f"{name}/w": 1, f"{name}/b": 0}) for name in ("in", "between")]


def methods(params: Any) -> dict[str, Callable[[float], Any]]:
    rows = not isinstance(params, dict)
    groups = None if rows else incoming(params)
    return {
        "SGD": optax.sgd,
        "Adam": optax.adam,
        "AdaBelief": optax.adabelief,
        "diagonal": lambda step: eq.covariant.descent(step, 0.5),
        "particle": lambda step: eq.covariant.descent(step, 0.5, structure="particle", groups=groups, refresh=10),
        "full": lambda step: eq.covariant.descent(step, 0.5, structure="full", refresh=10),
        "full, centred": lambda step: eq.covariant.descent(step, 0.5, tau2=99, structure="full", refresh=10, moment="centred", eps=1e-4),
    }


def rank_of(state: Any) -> Any:
    """Effective rank of the second moment that a state holds, NaN where it holds none."""
    for part in jax.tree.leaves(state, is_leaf=lambda node: hasattr(node, "second") or hasattr(node, "nu")):
        second = getattr(part, "second", None) if hasattr(part, "second") else getattr(part, "nu", None)
        leaves = jax.tree.leaves(second)
        if not leaves:
            continue
        traces, squares = [], []
        for leaf in leaves:
            matrix = leaf.ndim >= 2 and leaf.shape[-1] == leaf.shape[-2] and hasattr(part, "inverse") and not isinstance(part.inverse, tuple)
            traces.append(jnp.trace(leaf, axis1=-2, axis2=-1).sum() if matrix else jnp.sum(leaf))
            squares.append(jnp.sum(leaf**2))
        return sum(traces) ** 2 / sum(squares)
    return jnp.nan


def train(problem: Problem, tx: Any, seeds: list[int]) -> tuple[np.ndarray, np.ndarray, float]:
    """Losses and effective ranks `(seeds, CHECKS + 1)`, and seconds a step of one run."""
    every = problem.num_steps // CHECKS

    def one(key: Any) -> Any:
        params = problem.start(key)
        state = tx.init(params)

        def step(carry: Any, key: Any) -> Any:
            params, state = carry
            updates, state = tx.update(problem.gradient(params, key), state, params)
            return (optax.apply_updates(params, updates), state), None

        def some(carry: Any, key: Any) -> Any:
            carry, _ = jax.lax.scan(step, carry, jax.random.split(key, every))
            return carry, (problem.loss(carry[0]), rank_of(carry[1]))

        _, (losses, ranks) = jax.lax.scan(some, (params, state), jax.random.split(jax.random.fold_in(key, 1), CHECKS))
        return jnp.concatenate([problem.loss(params)[None], losses]), ranks

    run = jax.jit(jax.vmap(one))
    keys = jax.vmap(jax.random.key)(jnp.asarray(seeds))
    compiled = run.lower(keys).compile()
    began = time.perf_counter()
    losses, ranks = jax.block_until_ready(compiled(keys))
    return np.asarray(losses), np.asarray(ranks), (time.perf_counter() - began) / problem.num_steps / len(seeds)


def compared(name: str, problem: Problem, seeds: int, grid: list[float]) -> list[dict[str, Any]]:
    table = []
    for method, made in methods(problem.start(jax.random.key(0))).items():
        tuned = []
        for step in grid:
            losses, _, _ = train(problem, made(step), list(range(1000, 1005)))
            tuned.append(np.nan_to_num(np.median(losses[:, -1]), nan=np.inf))
        step = grid[int(np.argmin(tuned))]
        losses, ranks, seconds = train(problem, made(step), list(range(seeds)))
        final = losses[:, -1]
        table.append({
            "problem": name, "method": method, "step size": step, "loss, half of the steps": float(np.median(losses[:, CHECKS // 2])),
            "loss, median": float(np.median(final)), "quarter": float(np.quantile(final, 0.25)), "three quarters": float(np.quantile(final, 0.75)),
            "diverged": int(np.sum(~np.isfinite(final))), "us a step": seconds * 1e6,
            "effective rank, first": float(np.nanmedian(ranks[:, 0])), "last": float(np.nanmedian(ranks[:, -1])),
        })  # fmt: skip
        print(table[-1], flush=True)
    return table


def costs(repeats: int, refresh: int, num_steps: int) -> list[dict[str, Any]]:
    """Seconds of a whole training step, all structures in turn."""
    key = jax.random.key(0)
    x = jax.random.normal(key, (1024, 794)) / 28
    params = two_layer.classifier(x, 784)
    batch = (jax.random.normal(key, (128, 784)), jnp.zeros(128, jnp.int32))
    group = two_layer.neurons(params)
    small = multiplication().start(key)
    z = jax.random.uniform(key, (128, 2))
    rows: dict[str, tuple[Any, Any, Any]] = {
        "784-1024-10: optax Adam": (optax.adam(1e-3), params, lambda p: two_layer.cross_entropy(p, batch)),
        "784-1024-10: diagonal": (eq.covariant.descent(1e-3), params, lambda p: two_layer.cross_entropy(p, batch)),
        f"784-1024-10: particle, refreshed every {refresh} steps": (
            eq.covariant.descent(1e-3, structure="particle", groups=group, refresh=refresh), params, lambda p: two_layer.cross_entropy(p, batch)
        ),
        "784-1024-10: low rank 8": (eq.covariant.descent(1e-3, structure="low_rank"), params, lambda p: two_layer.cross_entropy(p, batch)),
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
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out" / "covariant.json")
    options = parser.parse_args()
    table = costs(1 if options.quick else options.repeats, options.refresh, 20 if options.quick else options.refresh)
    common.table("a whole training step", table)
    grid = [10.0**k for k in ((-2, -1) if options.quick else np.arange(-4, 0.4, 1 / 3).round(4))]
    problems = {"Rosenbrock, noise 1": rosenbrock(1.0), "multiplication": multiplication()}
    found = []
    for name, problem in problems.items():
        found += compared(name, problem._replace(num_steps=100) if options.quick else problem, 3 if options.quick else options.seeds, grid)
    common.table("two problems, step sizes tuned alike", found)
    common.write(options.out, {"machine": common.machine(), "rows": table, "problems": found})


if __name__ == "__main__":
    main()
