"""What the constants of a step cost: all pairs beside the matrix products that they cannot avoid.

    EQDYN_DATA=... python3 benchmarks/critical.py

All pairs of N = 1024 particles in D = 794, float32: random clouds, the paper's sphere start on MNIST with the network's U, the
same after training, and the worst case, a linear rule, where all pairs are tied and differences have to decide every one. The bound
is the two full Gram products `X X^t` and `U U^t` in the same dtype, with the same threads, in the same run. Beside it stand the plain
scan by differences and SciPy's `pdist`. N = 20,000 in D = 64 runs in a process of its own, for its memory. Last, what
`observe.certificate(stride=20)` adds to a step of training, and sharpness and swap curvature beside hessian-eigenthings. Asked for:
2.5 times the bound; 2 GiB; 10 %. Without EQDYN_DATA the network sees random images of the same shape, and the rows say so.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import common
import curvature
import jax
import jax.numpy as jnp
import numpy as np
from scipy.spatial.distance import pdist

import eqdyn as eq
from eqdyn import _differences, geometry
from eqdyn.networks import two_layer

INPUTS, CLASSES, HIDDEN, BATCH, ETA, STRIDE = 784, 10, 1024, 1024, 0.5, 20
MANY = (20_000, 64)


# --- all pairs ------------------------------------------------------------------------------------------------------------


@jax.jit
def grams(x: jax.Array, u: jax.Array) -> tuple[jax.Array, jax.Array]:
    return tuple(jnp.matmul(a, a.T, precision=jax.lax.Precision.HIGHEST) for a in (x, u))


@jax.jit
def plain(x: jax.Array, u: jax.Array) -> jax.Array:
    asked = _differences.Asked(("rate", "closing"), moved=False)
    return _differences.scan(asked, _differences.cloud(asked, x, u)[0]).value


def scipy_pairs(x: np.ndarray, u: np.ndarray, y: np.ndarray) -> tuple[float, float, float]:
    """K_pair and the range of the stretch; mu would need a third kind of product."""
    d = pdist(x)
    stretch = pdist(y) / d
    return float((pdist(u) / d).max()), float(stretch.min()), float(stretch.max())


def pair_calls(x: jax.Array, u: jax.Array, y: jax.Array) -> dict[str, Callable[[], Any]]:
    host = [np.asarray(a) for a in (x, u, y)]
    moved = jax.jit(geometry.moved, static_argnums=2)
    floor = 4 * float(jnp.finfo(x.dtype).eps)
    return {
        "bound: two Gram products": lambda: grams(x, u),
        "K_pair and mu": lambda: eq.measure.pair_constants(x, u),
        "stretch range": lambda: eq.measure.stretch(x, y),
        "both, and the rounding rule, in one pass": lambda: moved(x, y, floor),
        "eq.certify, from NumPy arrays": lambda: eq.certify(host[0], host[2]).q,
        "K_pair and mu, plain scan by differences": lambda: plain(x, u),
        "K_pair and stretch range, SciPy pdist": lambda: scipy_pairs(*host),
    }


def all_pairs(clouds: dict[str, tuple[jax.Array, jax.Array]], repeats: int) -> list[dict[str, Any]]:
    table = []
    for cloud, (x, u) in clouds.items():
        calls = pair_calls(x, u, x + jnp.asarray(ETA, x.dtype) * u)
        times = common.interleaved(calls, repeats)
        bound = times["bound: two Gram products"]
        n, d = x.shape
        table += [
            {
                "cloud": f"{cloud}, {n} x {d}",
                "row": row,
                "ms": 1e3 * found["median"],
                "best round": 1e3 * found["min"],
                "of the bound": found["median"] / bound["median"],
                "of the bound, best rounds": found["min"] / bound["min"],
                "first call, s": found["first"],
            }
            for row, found in times.items()
        ]
    return table


# --- memory ---------------------------------------------------------------------------------------------------------------

FRESH = """
import json, pathlib, re, time
import jax, jax.numpy as jnp
import eqdyn as eq
from eqdyn import geometry
n, d, what = {n}, {d}, "{what}"
of_x, of_u = jax.random.split(jax.random.key(0))
x = jax.random.normal(of_x, (n, d))
u = 0.1 * jax.random.normal(of_u, (n, d)) if what == "random" else -0.1 * x
jax.block_until_ready((x, u))


def peak():
    # KiB, of this process alone: what getrusage tells may be of the one that started it
    return int(re.search("VmHWM:[^0-9]*([0-9]+)", pathlib.Path("/proc/self/status").read_text())[1])


before = peak()
call = jax.jit(lambda x, y: (geometry.pair_constants(x, y - x), geometry.moved(x, y, 4 * 2.0**-23)))
start = time.perf_counter()
found = jax.block_until_ready(call(x, x + u))
print(json.dumps([peak(), before, time.perf_counter() - start, float(found[1].q)]))
"""


def memory(n: int, d: int) -> list[dict[str, Any]]:
    table = []
    for what in ("random", "tied"):
        printed = subprocess.run([sys.executable, "-c", FRESH.format(n=n, d=d, what=what)], capture_output=True, text=True, check=True).stdout
        peak, before, seconds, _ = json.loads(printed.splitlines()[-1])
        row = f"K_pair and mu, and all of a step: {what}, {n} x {d}"
        table.append({"row": row, "peak MiB": peak / 1024, "before the call": before / 1024, "seconds, compilation too": seconds})
    return table


# --- along a run ----------------------------------------------------------------------------------------------------------


def images(key: Any, hidden: int) -> tuple[str, tuple[jax.Array, jax.Array]]:
    if "EQDYN_DATA" in os.environ and hidden == HIDDEN:
        return "MNIST", eq.data.mnist().train
    of_z, of_y = jax.random.split(key)
    z = jax.random.uniform(of_z, (4 * BATCH, INPUTS))
    return "random images", (z, jax.random.randint(of_y, (len(z),), 0, CLASSES))


class Network:
    """The paper's network from its sphere start, and what it trains on."""

    def __init__(self, hidden: int):
        of_x, of_data, self.key = jax.random.split(jax.random.key(0), 3)
        self.name, self.data = images(of_data, hidden)
        self.params = two_layer.classifier(eq.shapes.start_mnist(hidden, key=of_x).points, INPUTS)
        self.rule, self.group = eq.rules.gradient(two_layer.cross_entropy), two_layer.neurons(self.params)

    def train(self, steps: int, observe: Any = None) -> Any:
        return eq.simulate(self.rule, self.params, eta=ETA, num_steps=steps, data=eq.Batches(self.data, BATCH), key=self.key, observe=observe)

    def cloud(self, params: Any) -> tuple[jax.Array, jax.Array]:
        u = self.rule.update(params, (), jax.tree.map(lambda leaf: leaf[:BATCH], self.data)).u
        return self.group.particles(params), self.group.particles(u)


def certificate_share(network: Network, repeats: int, steps: int) -> list[dict[str, Any]]:
    """Training with and without, in turn; the share is of the difference."""
    ledger = {"ledger": eq.observe.certificate(group=network.group, stride=STRIDE)}
    calls = {"training": lambda: network.train(steps).x, f"with the certificate at stride {STRIDE}": lambda: network.train(steps, ledger).x}
    times = common.interleaved(calls, repeats)
    bare = times["training"]
    return [
        {
            "row": f"{name}, {network.name}",
            "ms a step": 1e3 * found["median"] / steps,
            "best round": 1e3 * found["min"] / steps,
            "added, %": 100 * (found["median"] / bare["median"] - 1),
            "added, best rounds, %": 100 * (found["min"] / bare["min"] - 1),
        }
        for name, found in times.items()
    ]


# --- everything -----------------------------------------------------------------------------------------------------------


def pair_tables(options: Any) -> dict[str, list[dict[str, Any]]]:
    hidden, steps = (256, 20) if options.quick else (HIDDEN, 580)
    network = Network(hidden)
    of_x, of_u = jax.random.split(jax.random.key(1))
    shape = (hidden, INPUTS + CLASSES)
    x = jax.random.normal(of_x, shape)
    clouds = {
        "random": (x, jax.random.normal(of_u, shape)),
        f"sphere start, {network.name}": network.cloud(network.params),
        f"after {steps} steps, {network.name}": network.cloud(network.train(steps).x),
        "linear rule, all tied": (x, -x),
    }
    return {
        "All pairs, float32": all_pairs(clouds, options.repeats),
        "Memory, in a process of its own": memory(*((2000, 64) if options.quick else MANY)),
        "The certificate along training": certificate_share(network, min(options.repeats, 3), 2 * STRIDE if options.quick else 20 * STRIDE),
    }


def curvature_tables(options: Any) -> dict[str, list[dict[str, Any]]]:
    network = Network(64 if options.quick else HIDDEN)
    batch = jax.tree.map(lambda leaf: leaf[: 128 if options.quick else BATCH], network.data)
    title = f"Curvature of the network, {network.name}, one batch of {len(batch[1])}"
    return {title: curvature.curvature(network.params, batch, min(options.repeats, 3))}


SECTIONS: tuple[Callable[[Any], dict[str, list[dict[str, Any]]]], ...] = (pair_tables, curvature_tables)


def main() -> None:
    options = common.arguments(__doc__.splitlines()[0], "critical")
    machine = common.machine()
    print(", ".join(f"{name} {value}" for name, value in machine.items()), "| float32")
    tables = functools.reduce(dict.__or__, (section(options) for section in SECTIONS))
    for title, rows in tables.items():
        common.table(title, rows)
    common.write(options.out, {"machine": machine, "dtype": "float32", "repeats": options.repeats, "quick": options.quick, "rows": tables})


if __name__ == "__main__":
    main()
