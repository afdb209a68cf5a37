"""Steps per second of the driver, beside plain loops and the bound that sigmoids and matrix products set.

    python3 benchmarks/simulate.py

Two networks: the paper's 2-D one (1,024 neurons, batch 128) as 8 seeds at once, and 784-1024-10 at batch 1,024. All rows train
on minibatches by gradient descent in float32, in one process, in turn; the median of several rounds counts and compilation is
apart. The bound is what this machine needs for
the sigmoids and products alone: in the 2-D network XLA's loops of nothing else over all seeds, in the large one each product by
the faster of XLA and NumPy's BLAS. Asked for: 1.5 times the best plain loop and 0.6 of the bound; 0.8 of the bound.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import common
import jax
import jax.numpy as jnp
import numpy as np

import eqdyn as eq
from eqdyn.networks import two_layer

try:
    import torch
except ImportError:
    torch = None

ETA = 1e-3


# --- the 2-D network -------------------------------------------------------------------------------------------------------

WIDTH, BATCH, LANES = 1024, 128, 8


def small_numpy(x: np.ndarray, z: np.ndarray, y: np.ndarray, rows: np.ndarray) -> Callable[[], Any]:
    """The best plain loop we know: gradients by hand, buffers reused."""

    def run() -> np.ndarray:
        w, a = x[:, 0].copy(), x[:, 1].copy()
        h, dh = (np.empty((BATCH, len(w)), np.float32) for _ in range(2))
        for at in rows:
            batch, target = z[at, 0], y[at]
            np.outer(-batch, w, out=h)
            np.exp(h, out=h)
            h += 1
            np.reciprocal(h, out=h)
            residual = (h @ a - target) * np.float32(2 / BATCH)
            np.multiply(h, h, out=dh)
            np.subtract(h, dh, out=dh)
            slope = a * ((residual * batch) @ dh)
            a -= np.float32(ETA) * (residual @ h)
            w -= np.float32(ETA) * slope
        return np.stack([w, a], 1)

    return run


def small_torch(x: np.ndarray, z: np.ndarray, y: np.ndarray, rows: np.ndarray, *, by_hand: bool) -> Callable[[], Any]:
    z, y, rows = (torch.from_numpy(array) for array in (z, y, rows.astype(np.int64)))

    def autograd() -> Any:
        w, a = (torch.tensor(x[:, k : k + 1], requires_grad=True) for k in (0, 1))
        optimizer = torch.optim.SGD([w, a], lr=ETA)
        for at in rows:
            optimizer.zero_grad()
            loss = torch.mean(((torch.sigmoid(z[at] @ w.T) @ a)[:, 0] - y[at]) ** 2)
            loss.backward()
            optimizer.step()
        return w

    def hand() -> Any:
        w, a = (torch.tensor(x[:, k]) for k in (0, 1))
        with torch.inference_mode():
            for at in rows:
                batch = z[at]
                h = torch.sigmoid(batch * w)
                residual = (h @ a - y[at]) * (2 / BATCH)
                slope = a * ((residual * batch[:, 0]) @ (h - h * h))
                a -= ETA * (residual @ h)
                w -= ETA * slope
        return w

    return hand if by_hand else autograd


def small_bound(steps: int, key: Any) -> dict[str, Callable[[], Any]]:
    """`steps` repetitions of the sigmoids, and of the three contractions of a step, of all lanes, and nothing else."""
    keys = jax.random.split(key, 4)
    pre, d = (jax.random.normal(k, (LANES, BATCH, WIDTH)) for k in keys[:2])
    a, y = jax.random.normal(keys[2], (LANES, WIDTH)), jax.random.normal(keys[3], (LANES, BATCH))

    @jax.jit
    def sigmoids(h: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, steps, lambda _, h: jax.nn.sigmoid(h), h)

    @jax.jit
    def products(h: jax.Array, d: jax.Array, a: jax.Array) -> jax.Array:
        def body(_: Any, carry: tuple) -> tuple:
            a, w = carry  # each product needs the one before: none can be left out or moved out of the loop
            residual = jnp.einsum("lbn,ln->lb", h, a) - y
            return a - 1e-9 * jnp.einsum("lb,lbn->ln", residual, h), w - 1e-9 * jnp.einsum("lb,lbn->ln", residual * y, d)

        return jax.lax.fori_loop(0, steps, body, (a, a))

    return {"sigmoids": functools.partial(sigmoids, pre), "products": functools.partial(products, pre, d, a)}


def small(repeats: int, steps: int) -> list[dict[str, Any]]:
    split = eq.data.teacher(key=jax.random.key(0))
    keys = jax.random.split(jax.random.key(1), LANES)
    starts = jnp.stack([eq.shapes.figure_eight(WIDTH, key=k).points for k in keys])
    rule, batches = eq.rules.gradient(two_layer.regression), eq.Batches(split.train, BATCH)
    z, y, x = np.array(split.train[0]), np.array(split.train[1]), np.array(starts[0])
    rows = np.array(batches.rows(jax.random.key(2), 0, steps))

    def ours(lanes: int | None) -> Callable[[], Any]:
        start, key = (starts[0], keys[0]) if lanes is None else (starts, keys)
        return lambda: eq.simulate(rule, start, eta=ETA, lanes=lanes, num_steps=steps, data=batches, key=key).x

    calls = {"eqdyn, 8 seeds at once": (ours(LANES), LANES), "eqdyn, 1 seed": (ours(None), 1), "NumPy loop, by hand": (small_numpy(x, z, y, rows), 1)}
    if torch is not None:
        calls |= {
            "PyTorch loop, by hand": (small_torch(x, z, y, rows, by_hand=True), 1),
            "PyTorch loop, autograd": (small_torch(x, z, y, rows, by_hand=False), 1),
        }
    bound = small_bound(steps, jax.random.key(3))
    times = common.interleaved({**{name: call for name, (call, _) in calls.items()}, **bound}, repeats)
    floor = (times["sigmoids"]["median"] + times["products"]["median"]) / (LANES * steps)
    found = [row(name, times[name], lanes * steps) for name, (_, lanes) in calls.items()]
    if torch is None:
        found.append(absent("PyTorch loops"))
    best = max(r["steps per second"] for r in found if "loop" in r["row"] and r["steps per second"])
    found.append(bound_row("bound: sigmoids and products alone", floor))
    return with_ratios(found, best, 1 / floor)


# --- 784-1024-10 -----------------------------------------------------------------------------------------------------------

INPUTS, HIDDEN, CLASSES, LARGE_BATCH, EXAMPLES = 784, 1024, 10, 1024, 8192


def large_products(key: Any) -> dict[str, tuple[Callable[[], Any], Callable[[], Any]]]:
    """The five products of a step, by XLA and by NumPy."""
    shapes = {
        "z W": ((LARGE_BATCH, INPUTS), (INPUTS, HIDDEN)),
        "h A": ((LARGE_BATCH, HIDDEN), (HIDDEN, CLASSES)),
        "r A^t": ((LARGE_BATCH, CLASSES), (CLASSES, HIDDEN)),
        "h^t r": ((HIDDEN, LARGE_BATCH), (LARGE_BATCH, CLASSES)),
        "z^t d": ((INPUTS, LARGE_BATCH), (LARGE_BATCH, HIDDEN)),
    }
    multiply = jax.jit(jnp.matmul)
    calls = {}
    for name, (left, right) in shapes.items():
        a, b = (jax.random.normal(k, shape) for k, shape in zip(jax.random.split(key), (left, right), strict=True))
        calls[name] = (functools.partial(multiply, a, b), functools.partial(np.matmul, np.asarray(a), np.asarray(b)))
    return calls


def large_torch(params: dict, z: np.ndarray, y: np.ndarray, rows: np.ndarray) -> Callable[[], Any]:
    z, y, rows = torch.from_numpy(z), torch.from_numpy(y.astype(np.int64)), torch.from_numpy(rows.astype(np.int64))

    def run() -> Any:
        model = torch.nn.Sequential(torch.nn.Linear(INPUTS, HIDDEN, bias=False), torch.nn.Sigmoid(), torch.nn.Linear(HIDDEN, CLASSES, bias=False))
        with torch.no_grad():
            model[0].weight.copy_(torch.tensor(np.asarray(params["hidden"]).T))
            model[2].weight.copy_(torch.tensor(np.asarray(params["output"]).T))
        optimizer = torch.optim.SGD(model.parameters(), lr=ETA)
        for at in rows:
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(z[at]), y[at]).backward()
            optimizer.step()
        return model[0].weight

    return run


def large(repeats: int, steps: int) -> list[dict[str, Any]]:
    of_z, of_y, of_x, of_run = jax.random.split(jax.random.key(0), 4)
    z = jax.random.uniform(of_z, (EXAMPLES, INPUTS))
    y = jax.random.randint(of_y, (EXAMPLES,), 0, CLASSES)
    params = two_layer.classifier(eq.shapes.sphere(HIDDEN, key=of_x, dim=INPUTS + CLASSES).points, INPUTS)
    rule, batches = eq.rules.gradient(two_layer.cross_entropy), eq.Batches((z, y), LARGE_BATCH)
    rows = batches.rows(of_run, 0, steps)

    @jax.jit
    def bare(params: Any, rows: jax.Array) -> Any:
        def body(params: Any, at: jax.Array) -> tuple[Any, None]:
            gradient = jax.grad(two_layer.cross_entropy)(params, (z[at], y[at]))
            return jax.tree.map(lambda p, g: p - ETA * g, params, gradient), None

        return jax.lax.scan(body, params, rows)[0]

    calls: dict[str, Callable[[], Any]] = {
        "eqdyn": lambda: eq.simulate(rule, params, eta=ETA, num_steps=steps, data=batches, key=of_run).x,
        "bare JAX loop, one scan": lambda: bare(params, jnp.asarray(rows)),
    }
    if torch is not None:
        calls["PyTorch loop, autograd"] = large_torch(params, np.array(z), np.array(y), rows)
    products = large_products(jax.random.key(4))
    each = {f"{name} {how}": call for name, pair in products.items() for how, call in zip(("XLA", "NumPy"), pair, strict=True)}
    times = common.interleaved(calls, repeats)
    product_times = common.interleaved(each, 3 * repeats)
    floor = sum(min(product_times[f"{name} {how}"]["median"] for how in ("XLA", "NumPy")) for name in products)
    found = [row(name, times[name], steps) for name in calls]
    if torch is None:
        found.append(absent("PyTorch loop, autograd"))
    found.append(bound_row("bound: matrix products alone", floor))
    best = max(r["steps per second"] for r in found if "loop" in r["row"] and r["steps per second"])
    return with_ratios(found, best, 1 / floor)


# --- rows ------------------------------------------------------------------------------------------------------------------


def row(name: str, times: dict[str, float], steps: int) -> dict[str, Any]:
    seconds = times["median"] / steps
    best = times["min"] / steps
    return {
        "row": name,
        "steps per second": 1 / seconds,
        "microseconds a step": seconds * 1e6,
        "in the best round": best * 1e6,
        "first call, s": times["first"],
    }


def bound_row(name: str, seconds: float) -> dict[str, Any]:
    return {"row": name, "steps per second": 1 / seconds, "microseconds a step": seconds * 1e6, "in the best round": "-", "first call, s": "-"}


def absent(name: str) -> dict[str, Any]:
    return {
        "row": f"{name}: absent (pip install torch==2.13.0)",
        "steps per second": 0.0,
        "microseconds a step": "-",
        "in the best round": "-",
        "first call, s": "-",
    }


def with_ratios(rows: list[dict[str, Any]], best: float, bound: float) -> list[dict[str, Any]]:
    return [{**r, "of the best loop": r["steps per second"] / best, "of the bound": r["steps per second"] / bound} for r in rows]


def main() -> None:
    args = common.arguments(__doc__.splitlines()[0], "simulate")
    machine = common.machine()
    print(", ".join(f"{name} {value}" for name, value in machine.items()), "| float32")
    found = {
        "2-D network, 1024 neurons, batch 128": small(args.repeats, 54 if args.quick else 2700),
        "784-1024-10, batch 1024": large(args.repeats, 4 if args.quick else 32),
    }
    for title, rows in found.items():
        common.table(f"{title} (a step of one seed)", rows)
    common.write(args.out, {"machine": machine, "dtype": "float32", "repeats": args.repeats, "quick": args.quick, "rows": found})


if __name__ == "__main__":
    main()
