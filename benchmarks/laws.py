"""The property check as a benchmark: verdict, error and cost of every law over rules x N x D x dtype.

    python3 benchmarks/laws.py

Every rule of the gallery is checked with 64 draws at each size, in one process; compilation is apart, the median of several
rounds counts. All laws of a rule are asked in one program, so their cost is one number. At the first size there stand beside it
a plain loop (the same draws one after another, each by a compiled call) and the bound: the program's evaluations of U alone, as many
and as wide, without drawing, state, comparing or derivatives (each derivative counted as one evaluation). Asked for: 17 rules at
N = 64, D = 8, 64 draws in at most 30 s after compilation on 2 cores.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import common
import jax
import jax.numpy as jnp
import numpy as np

import eqdyn as eq
from eqdyn._ask import derive, draws, halve, lifted
from eqdyn._ask.ask import ROLL_OUT
from eqdyn.networks import two_layer

DRAWS = 64
SIZES = [(64, 8), (256, 8), (64, 32)]
LOSS = two_layer.regression


def wells(x: jax.Array) -> jax.Array:
    """A double well for every coordinate, and a pull of the mean."""
    return jnp.sum((x**2 - 1) ** 2) / 4 + jnp.sum(jnp.mean(x, axis=0) ** 2)


def well(x: jax.Array) -> jax.Array:
    return jnp.sum(x**2) / 2


def spread(x: jax.Array, mass: jax.Array) -> jax.Array:
    return jnp.sum(mass[:, None] * x**2) / 2 + jnp.sum((mass @ x) ** 2) / 2


# name -> (rule, whether it takes the batch)
RULES: dict[str, tuple[eq.Rule, bool]] = {
    "gradient": (eq.rules.gradient(LOSS), True),
    "heavy_ball": (eq.rules.heavy_ball(LOSS), True),
    "nesterov": (eq.rules.nesterov(LOSS), True),
    "rmsprop": (eq.rules.rmsprop(LOSS), True),
    "adam": (eq.rules.adam(LOSS), True),
    "adam_delayed": (eq.rules.adam_delayed(LOSS), True),
    "adamw": (eq.rules.adamw(LOSS), True),
    "sign_descent": (eq.rules.sign_descent(LOSS), True),
    "lion": (eq.rules.lion(LOSS), True),
    "weight_decay": (eq.rules.weight_decay(eq.rules.heavy_ball(LOSS), decay=0.1), True),
    "consensus": (eq.rules.consensus(), False),
    "self_attention": (eq.rules.self_attention(beta=0.5), False),
    "attraction_repulsion": (eq.rules.attraction_repulsion(), False),
    "hegselmann_krause": (eq.rules.hegselmann_krause(radius=4.0), False),
    "stein": (eq.rules.stein(well, bandwidth=2.0), False),
    "kuramoto": (eq.rules.kuramoto(), False),
    "wasserstein_flow": (eq.rules.wasserstein_flow(spread), False),
    "langevin": (eq.rules.langevin(wells, length=1.0), False),
}


def start(n: int, d: int, dtype: Any) -> tuple[jax.Array, Any]:
    """A Gaussian cloud, and a batch of 256 for networks with d - 1 inputs."""
    key = jax.random.key(0)
    batch = eq.data.teacher(key=key, input_dim=d - 1, num_examples=512, dtype=dtype).train
    return jax.random.normal(key, (n, d), dtype), tuple(leaf[:256] for leaf in batch)


@functools.partial(jax.jit, static_argnums=0)
def evaluations(rule: eq.Rule, xs: jax.Array, data: Any, key: jax.Array) -> jax.Array:
    """U at many configurations, one per lane, again and again: `(rounds, lanes, n, d)`."""
    state = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (xs.shape[1], *leaf.shape)), rule.init(xs[0, 0]))
    return jax.lax.map(lambda x: jax.vmap(lambda x, s: rule.update(x, s, data, key=key).u)(x, state), xs)


def num_evaluations(n: int, d: int, state_blocks: int, dtype: Any) -> int:
    """Evaluations of U that one draw asks for, a derivative counted as one."""
    variants = draws.SWAPPED + min(draws.NUM_PAIRS, n // 2)
    wide = d * (1 + state_blocks)
    directions = 2 * d + state_blocks * d if wide <= derive.WIDEST else 32
    return variants * ROLL_OUT + 4 * (halve.num_levels(dtype) + 1) + 4 * directions


def rows(n: int, d: int, dtype: Any, repeats: int, names: list[str], draws: int, *, beside: bool) -> list[dict[str, Any]]:
    x, batch = start(n, d, dtype)
    found, key = [], jax.random.key(1)
    for name in names:
        rule, takes_data = RULES[name]
        data = batch if takes_data else None
        check: Callable = functools.partial(eq.check, rule, x, data=data, key=key)
        calls = {"check": lambda check=check: check(num_draws=draws)}
        if beside:
            blocks = len(jax.tree.leaves(lifted.parts(x, rule.init(x))))
            count = num_evaluations(n, d, blocks, dtype)
            lanes = jnp.broadcast_to(x, (-(-count * draws // 256), 256, n, d))
            calls["plain loop"] = lambda check=check: [check(num_draws=1) for _ in range(draws // 8)]
            calls["bound"] = lambda rule=rule, lanes=lanes, data=data: evaluations(rule, lanes, data, key)
        times = common.interleaved(calls, repeats)
        report = check(num_draws=draws)
        verdicts = {law: one.verdict for law, one in report.laws.items()}
        found.append(
            {
                "row": f"{name}",
                "fails": ", ".join(law for law, verdict in verdicts.items() if verdict == "fails") or "-",
                "P1 error": report.laws["P1"].error,
                "tolerance": report.laws["P1"].tolerance,
                "K >=": report.laws["P2-K"].bound,
                "seconds": times["check"]["median"],
                **(
                    {"plain loop": 8 * times["plain loop"]["median"], "bound: U alone": times["bound"]["median"], "evaluations": count * draws}
                    if beside
                    else {}
                ),
                "first call": times["check"]["first"],
                "verdicts": verdicts,
                "errors": {law: [one.error, one.tolerance] for law, one in report.laws.items()},
            }
        )
    return found


def main() -> None:
    options = common.arguments(__doc__.splitlines()[0], "laws")
    sizes, draws = (SIZES[:1], 8) if options.quick else (SIZES, DRAWS)
    names = list(RULES)[:1] if options.quick else list(RULES)
    result: dict[str, Any] = {"machine": common.machine(), "draws": draws, "rows": {}}
    for n, d in sizes:
        for dtype in ("float32",) if options.quick else ("float32", "float64"):
            with jax.enable_x64(dtype == "float64"):
                began = time.perf_counter()
                found = rows(n, d, jnp.dtype(dtype), options.repeats, names, draws, beside=(n, d) == SIZES[0])
                whole = time.perf_counter() - began
            total = float(np.sum([row["seconds"] for row in found]))
            title = (
                f"N = {n}, D = {d}, {dtype}: {len(found)} rules in {total:.2f} s after compilation ({whole:.0f} s with it, all rounds and columns)"
            )
            common.table(title, [{key: value for key, value in row.items() if not isinstance(value, dict)} for row in found])
            result["rows"][f"{n}x{d} {dtype}"] = found
            result[f"seconds, {n}x{d} {dtype}"] = total
    common.write(options.out, result)


if __name__ == "__main__":
    main()
