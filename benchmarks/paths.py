"""Barriers between all pairs of training runs, beside a plain loop over one pair; and weight matching.

    EQDYN_DATA=... python3 benchmarks/paths.py

48 runs of a 784-128-10 network (MNIST, three step sizes, one epoch), 11 moments each, aligned pair by pair, 11 x 11 sheets on 2,048 images: 136,488
forward passes where they are made one by one. The plain loops make those of one pair; the bound is the first layer's products of these, and nothing
else. Without EQDYN_DATA images are random, and runs go nowhere in particular.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import common
import jax
import jax.numpy as jnp
import numpy as np

import eqdyn as eq
from eqdyn.networks import two_layer

INPUTS, WIDTH, CLASSES, IMAGES, NUM = 784, 128, 10, 2048, 11


def images() -> Any:
    if os.environ.get("EQDYN_DATA"):
        return eq.data.mnist()
    random = np.random.default_rng(0)
    train, test = (
        (jnp.asarray(random.random((num, INPUTS)), jnp.float32), jnp.asarray(random.integers(0, CLASSES, num), jnp.int32)) for num in (8192, IMAGES)
    )
    return eq.data.Split(train, test)


def trained(num: int, num_steps: int, split: Any) -> tuple[list[Any], np.ndarray]:
    """Runs of several seeds and step sizes as paths, and their test accuracies."""
    key = jax.random.key(0)
    x0 = jax.vmap(lambda x: two_layer.classifier(x, INPUTS))(jax.random.normal(key, (num, WIDTH, INPUTS + CLASSES)) / INPUTS**0.5)
    keep = {"x": eq.observer.recorder(lambda frame: frame.x, stride=max(1, num_steps // 20))}
    eta = jnp.asarray([0.2, 0.5, 1.0], jnp.float32)[jnp.arange(num) % 3]
    rule = eq.rules.gradient(two_layer.cross_entropy)
    run = eq.simulate(
        rule, x0, eta=eta, num_steps=num_steps, lanes=num, data=eq.Batches(split.train, 128), key=jax.random.split(key, num), observe=keep
    )
    paths = [eq.paths.from_run(run, "x", lane=lane) for lane in range(num)]
    return paths, np.array([float(two_layer.accuracy(path.end, split.test)) for path in paths])


def numpy_pair(a: Any, b: Any, data: Any) -> float:
    z, labels = (np.asarray(part) for part in data)
    found = np.empty((NUM, NUM))
    for s in range(NUM):
        for k, t in enumerate(np.linspace(0, 1, NUM, dtype=np.float32)):
            hidden, output = ((1 - t) * a.params[name][s] + t * b.params[name][s] for name in ("hidden", "output"))
            scores = (1 / (1 + np.exp(-(z @ hidden)))) @ output
            scores -= scores.max(1, keepdims=True)
            found[s, k] = np.mean(np.log(np.exp(scores).sum(1)) - scores[np.arange(len(labels)), labels])
    return float((found - np.maximum(found[:, :1], found[:, -1:])).max())


def torch_pair(a: Any, b: Any, data: Any) -> Callable[[], float] | None:
    try:
        import torch
    except ImportError:
        return None
    z, labels = torch.from_numpy(np.array(data[0])), torch.from_numpy(np.array(data[1])).long()
    one, other = ({name: torch.from_numpy(np.array(path.params[name])) for name in ("hidden", "output")} for path in (a, b))

    def loop() -> float:
        found = torch.empty(NUM, NUM)
        with torch.no_grad():
            for s in range(NUM):
                for k in range(NUM):
                    hidden, output = (torch.lerp(one[name][s], other[name][s], k / (NUM - 1)) for name in ("hidden", "output"))
                    found[s, k] = torch.nn.functional.cross_entropy(torch.sigmoid(z @ hidden) @ output, labels)
        return float((found - torch.maximum(found[:, :1], found[:, -1:])).max())

    return loop


def products(data: Any) -> Callable[[], Any]:
    multiply, w = jax.jit(jnp.matmul), jnp.ones((INPUTS, WIDTH), jnp.float32)
    return lambda: [multiply(data[0], w) for _ in range(NUM * NUM)][-1]


def one_pair(a: Any, b: Any, data: Any, repeats: int) -> list[dict[str, Any]]:
    loss = two_layer.cross_entropy
    rows: dict[str, Callable[[], Any]] = {
        "eqdyn": lambda: eq.paths.barrier(loss, a, b, data=data, by=None),
        "NumPy loop": lambda: numpy_pair(a, b, data),
        "bound: products of the first layer, one by one": products(data),
    }
    torch_loop = torch_pair(a, b, data)
    if torch_loop is not None:
        rows["PyTorch loop"] = torch_loop
    values = {name: float(call()) for name, call in rows.items() if "bound" not in name}
    seconds = common.interleaved(rows, repeats)
    return [
        {"row": f"one pair: {name}", "seconds": found["median"], "all 1,128 so": 1128 * found["median"], "barrier": values.get(name, float("nan"))}
        for name, found in seconds.items()
    ]


def all_pairs(paths: list[Any], data: Any) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    group, rows, found = two_layer.neurons(paths[0].end), [], {}
    count = len(paths) * (len(paths) - 1) // 2
    for name, groups in (("aligned", group), ("as they are", None)):
        eq.paths.barriers(two_layer.cross_entropy, paths, groups, data=(data[0][:8], data[1][:8]))  # not the program, but all else is warm
        start = time.perf_counter()
        found[name] = eq.paths.barriers(two_layer.cross_entropy, paths, groups, data=data)
        seconds = time.perf_counter() - start
        rows.append(
            {"row": f"{count} pairs, {name}", "seconds": seconds, "all 1,128 so": 1128 * seconds / count, "barrier": float(np.median(found[name]))}
        )
    return rows, found


def matched(repeats: int, width: int = 1024) -> list[dict[str, Any]]:
    random, rows = np.random.default_rng(0), []
    a, noise, b = (two_layer.classifier(jnp.asarray(random.standard_normal((width, INPUTS + CLASSES)), jnp.float32), INPUTS) for _ in range(3))
    group = two_layer.neurons(a)
    near = group.permute(jax.tree.map(lambda one, other: one + 0.5 * other, a, noise), random.permutation(width))
    for name, other in (("a noisy copy", near), ("of another seed", b)):
        found = common.interleaved({name: lambda other=other: eq.paths.align(a, other, group).params}, repeats)[name]
        rows.append(
            {"row": f"weight matching, width {width}, {name}", "seconds": found["median"], "all 1,128 so": float("nan"), "barrier": float("nan")}
        )
    return rows


def main() -> None:
    asked = common.arguments(__doc__, "paths")
    split = images()
    paths, accuracy = trained(4 if asked.quick else 48, 20 if asked.quick else split.train[0].shape[0] // 128, split)
    data = (split.train[0][:IMAGES], split.train[1][:IMAGES])
    at = [eq.paths.reparametrise(path, "time", NUM) for path in paths[:2]]
    rows = one_pair(*at, data, asked.repeats)
    more, found = all_pairs(paths, data)
    rows += more + matched(asked.repeats)
    common.table("sheets of 11 x 11 networks on 2,048 images", rows)
    tree = eq.paths.classes(found["aligned"])
    print(f"\n{tree.summary()}")
    facts = {
        "accuracy": accuracy.tolist(),
        "levels": tree.levels.tolist(),
        "levels as they are": eq.paths.classes(found["as they are"]).levels.tolist(),
    }
    common.write(asked.out, {"machine": common.machine(), "images": "MNIST" if os.environ.get("EQDYN_DATA") else "random", "rows": rows, **facts})


if __name__ == "__main__":
    main()
