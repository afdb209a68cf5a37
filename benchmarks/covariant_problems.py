"""Covariant gradient descent on two problems with noise, beside SGD, Adam and AdaBelief.

    python3 benchmarks/covariant_problems.py

Rosenbrock's valley from (-1.2, 1) with Gaussian noise on the gradient, and learning to multiply, (u, v) uniform on [-1, 1]^2, by a 2-16-16-1 tanh
network at batch 32; 4,000 steps. The step size of every method is tuned by the same rule, on a grid of three a decade, by the median final loss over
five seeds that are not among the twenty that count. Loss over steps and over seconds, and the effective rank of the metric's second moment.
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
from eqdyn import plot

SIZES = (2, 16, 16, 1)
TUNED_ON = 5  # seeds
CHECKS = 20  # times along a run at which loss and effective rank are read


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
        for name, fan_in, fan_out, k in zip(("in", "between", "out"), SIZES[:-1], SIZES[1:], jax.random.split(key, 3), strict=True):
            params[name] = {"w": jax.random.normal(k, (fan_in, fan_out)) / np.sqrt(fan_in), "b": jnp.zeros(fan_out)}
        return params

    return Problem(gradient, lambda params: error(params, held), start, 4000)


def incoming(params: Any) -> list[Any]:
    """Hidden units as particles: their incoming weights and bias."""
    return [eq.groups.from_axes(params, {f"{name}/w": 1, f"{name}/b": 0}) for name in ("in", "between")]


class Method(NamedTuple):
    """`made(step size)` is an optimizer; `rank(its state)` the effective rank of its metric, NaN where it has none."""

    made: Callable[[float], Any]
    rank: Callable[[Any], Any]


def rank_of_diagonal(second: Any) -> Any:
    leaves = jax.tree.leaves(second)
    return sum(jnp.sum(v) for v in leaves) ** 2 / sum(jnp.sum(v * v) for v in leaves)


def rank_of_matrices(second: Any) -> Any:
    """Of all blocks together, those of a group once."""
    leaves = [v.reshape(-1, *v.shape[-2:]) for v in jax.tree.leaves(second)]
    return sum(jnp.trace(v, axis1=1, axis2=2).sum() for v in leaves) ** 2 / sum(jnp.sum(v * v) for v in leaves)


def methods(params: Any) -> dict[str, Method]:
    groups = incoming(params) if isinstance(params, dict) else None
    none, ours = (lambda state: jnp.nan), eq.covariant.descent

    def full(step: float, **options: Any) -> Any:
        return ours(step, 0.5, structure="full", refresh=50 if groups else 1, **options)

    return {
        "SGD": Method(optax.sgd, none),
        "Adam": Method(optax.adam, lambda state: rank_of_diagonal(state[0].nu)),
        "AdaBelief": Method(optax.adabelief, lambda state: rank_of_diagonal(state[0].nu)),
        "diagonal": Method(lambda step: ours(step, 0.5), lambda state: rank_of_diagonal(state[0].second)),
        "particle": Method(
            lambda step: ours(step, 0.5, structure="particle", groups=groups, refresh=10), lambda state: rank_of_matrices(state[0].second[0]),
        ),
        "full": Method(full, lambda state: rank_of_matrices(state[0].second)),
        "full, residual": Method(lambda step: full(step, moment="residual"), lambda state: rank_of_matrices(state[0].second)),
    }  # fmt: skip


def train(problem: Problem, method: Method, step_size: float, seeds: list[int]) -> tuple[np.ndarray, np.ndarray, float]:
    """Losses and effective ranks `(seeds, CHECKS + 1)`, `(seeds, CHECKS)`, and seconds a step; one run after the other."""
    every, tx = problem.num_steps // CHECKS, method.made(step_size)

    def one(key: Any) -> Any:
        params = problem.start(key)

        def step(carry: Any, key: Any) -> Any:
            params, state = carry
            updates, state = tx.update(problem.gradient(params, key), state, params)
            return (optax.apply_updates(params, updates), state), None

        def some(carry: Any, key: Any) -> Any:
            carry, _ = jax.lax.scan(step, carry, jax.random.split(key, every))
            return carry, (problem.loss(carry[0]), method.rank(carry[1]))

        _, (losses, ranks) = jax.lax.scan(some, (params, tx.init(params)), jax.random.split(jax.random.fold_in(key, 1), CHECKS))
        return jnp.concatenate([problem.loss(params)[None], losses]), ranks

    keys = jax.vmap(jax.random.key)(jnp.asarray(seeds))
    compiled = jax.jit(lambda keys: jax.lax.map(one, keys)).lower(keys).compile()
    began = time.perf_counter()
    losses, ranks = jax.block_until_ready(compiled(keys))
    return np.asarray(losses), np.asarray(ranks), (time.perf_counter() - began) / problem.num_steps / len(seeds)


def compared(name: str, problem: Problem, seeds: int, grid: list[float]) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """A row a method, and the median loss along its way."""
    table, ways = [], {}
    for label, method in methods(problem.start(jax.random.key(0))).items():
        tuned = [0.0]
        for step in grid[: len(grid) if len(grid) > 1 else 0]:
            losses, _, _ = train(problem, method, step, list(range(1000, 1000 + TUNED_ON)))
            tuned.append(np.median(np.nan_to_num(losses[:, -1], nan=np.inf)))
        step = grid[int(np.argmin(tuned[1:])) if len(grid) > 1 else 0]
        losses, ranks, seconds = train(problem, method, step, list(range(seeds)))
        losses = np.nan_to_num(losses, nan=np.inf)
        final, ways[label] = losses[:, -1], np.median(losses, axis=0)
        table.append({
            "problem": name, "method": label, "step size": step, "loss, half of the steps": float(np.median(losses[:, CHECKS // 2])),
            "loss, median": float(np.median(final)), "quarter": quantile(final, 0.25), "three quarters": quantile(final, 0.75),
            "diverged": int(np.sum(~np.isfinite(final))), "us a step": seconds * 1e6,
            "effective rank, first": middle(ranks[:, 0]), "last": middle(ranks[:, -1]),
        })  # fmt: skip
        print(table[-1], flush=True)
    return table, ways


def middle(values: np.ndarray) -> float:
    """The median of those that are numbers."""
    return float(np.median(values[np.isfinite(values)])) if np.isfinite(values).any() else float("nan")


def quantile(values: np.ndarray, share: float) -> float:
    return float(np.quantile(values, share, method="nearest"))


def picture(found: list[dict[str, Any]], ways: dict[str, dict[str, np.ndarray]], num_steps: dict[str, int]) -> Any:
    """Loss over steps and over seconds, a row a problem."""
    import matplotlib.pyplot as plt

    fig, axes = plt.subplots(len(ways), 2, figsize=(9, 3.4 * len(ways)), layout="constrained", squeeze=False)
    styles = [(dash, width) for width in (1.2, 2.2) for dash in ("-", "--", ":", "-.")]
    for row, (problem, of) in zip(axes, ways.items(), strict=True):
        micro = {entry["method"]: entry["us a step"] for entry in found if entry["problem"] == problem}
        best = min(of, key=lambda label: of[label][-1])
        for k, ((label, way), (dash, width)) in enumerate(zip(of.items(), styles, strict=False)):
            steps = np.linspace(0, num_steps[problem], len(way))
            for ax, x in zip(row, (steps, steps * micro[label] * 1e-6), strict=True):
                ax.plot(x[1:], way[1:], dash, linewidth=width, color=plt.get_cmap("viridis")(k / len(of)), label=label)
        row[0].set(xlabel="steps", ylabel="loss (no unit), median", yscale="log", title=f"{problem}: least by {best}")
        row[1].set(xlabel="seconds of one run", yscale="log", xscale="log", title="the same over time")
    axes[0, 1].legend(fontsize=8)
    return fig


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--quick", action="store_true", help="few steps at one step size, to see that it runs; figures are not to be quoted")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out" / "covariant_problems.json", help="where the JSON goes")
    options = parser.parse_args()
    grid = [10.0**k for k in ((-2,) if options.quick else np.arange(-4, 0.4, 1 / 3).round(4))]
    problems = {"Rosenbrock, noise 1": rosenbrock(1.0), "multiplication": multiplication()}
    problems = {name: problem._replace(num_steps=CHECKS) if options.quick else problem for name, problem in problems.items()}
    found: list[dict[str, Any]] = []
    ways = {}
    for name, problem in problems.items():
        rows, ways[name] = compared(name, problem, 2 if options.quick else options.seeds, grid)
        found += rows
    common.table("two problems, step sizes tuned alike", found)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    plot.save(picture(found, ways, {name: problem.num_steps for name, problem in problems.items()}), options.out.with_suffix(".png"))
    common.write(options.out, {"machine": common.machine(), "rows": found})


if __name__ == "__main__":
    main()
