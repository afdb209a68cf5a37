"""The runs of `paths_claims.py`: networks 784-h-10 of several widths, optimizers, step sizes and label noise on MNIST, with their checkpoints."""

from __future__ import annotations

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import eqdyn as eq

OPTIMIZERS = {
    "SGD": (lambda eta: optax.sgd(eta), (0.05, 0.3)),
    "momentum": (lambda eta: optax.sgd(eta, momentum=0.9), (0.005, 0.05)),
    "Adam": (lambda eta: optax.adam(eta), (3e-4, 3e-3)),
}
WIDTHS, NOISES, BATCH, CHECKPOINTS = (32, 64, 128), (0.0, 0.2), 100, 10


def hidden(params: Any, z: jax.Array) -> jax.Array:
    return jax.nn.relu(z @ params["w"] + params["b"])


def logits(params: Any, z: jax.Array) -> jax.Array:
    return hidden(params, z) @ params["out"] + params["c"]


def probabilities(params: Any, z: jax.Array) -> jax.Array:
    return jax.nn.softmax(logits(params, z))


def loss(params: Any, data: Any) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(logits(params, data[0]), data[1]).mean()


@jax.jit
def accuracy(params: Any, data: Any) -> jax.Array:
    return jnp.mean(logits(params, data[0]).argmax(1) == data[1])


def start(key: Any, width: int) -> Any:
    one, other = jax.random.split(key)
    return {
        "w": jax.random.normal(one, (784, width)) * (2 / 784) ** 0.5, "b": jnp.zeros(width),
        "out": jax.random.normal(other, (width, 10)) * (1 / width) ** 0.5, "c": jnp.zeros(10),
    }  # fmt: skip


def trained(width: int, optimizer: str, eta: float, z: jax.Array, labels: jax.Array, seeds: list[int], every: int) -> Any:
    """Checkpoints `(lanes, T, ...)`; a lane has its own labels `(lanes, n)` and seed. Seeds share start and batches over optimizers."""
    tx = OPTIMIZERS[optimizer][0](eta)

    @jax.jit
    @jax.vmap
    def run(params: Any, own: jax.Array, key: Any) -> Any:
        def step(carry: Any, k: jax.Array) -> tuple[Any, None]:
            params, state = carry
            rows = jax.random.randint(jax.random.fold_in(key, k), (BATCH,), 0, len(z))
            updates, state = tx.update(jax.grad(loss)(params, (z[rows], own[rows])), state)
            return (optax.apply_updates(params, updates), state), None

        def piece(carry: Any, k: jax.Array) -> tuple[Any, Any]:
            carry, _ = jax.lax.scan(step, carry, k * every + jnp.arange(every))
            return carry, carry[0]

        _, kept = jax.lax.scan(piece, (params, tx.init(params)), jnp.arange(CHECKPOINTS))
        return jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), params, kept)

    keys = jnp.stack([jax.random.key(seed) for seed in seeds])
    return run(jax.vmap(lambda key: start(key, width))(keys), labels, keys)


def mislabelled(y: jax.Array, noise: float, seed: int) -> jax.Array:
    one, other = jax.random.split(jax.random.key(1000 + seed))
    return jnp.where(jax.random.uniform(one, y.shape) < noise, jax.random.randint(other, y.shape, 0, 10), y)


def networks(split: Any, images: int, epochs: int, seeds: int, common: Any) -> list[dict[str, Any]]:
    """All runs, with what is told of each; `common` are the images and labels by whose loss runs are compared."""
    z, y = split.train[0][:images], split.train[1][:images]
    every = max(1, epochs * images // BATCH // CHECKPOINTS)
    along = jax.jit(jax.vmap(loss, (0, None)))
    found = []
    for width, optimizer in itertools.product(WIDTHS, OPTIMIZERS):
        for eta in OPTIMIZERS[optimizer][1]:
            lanes = list(itertools.product(NOISES, range(seeds)))
            own = jnp.stack([mislabelled(y, noise, seed) for noise, seed in lanes])
            kept = jax.device_get(trained(width, optimizer, eta, z, own, [seed for _, seed in lanes], every))
            for k, (noise, seed) in enumerate(lanes):
                rows = jax.tree.map(lambda leaf, k=k: leaf[k], kept)
                path = eq.paths.path(rows, times=np.arange(CHECKPOINTS + 1) * every, losses=along(rows, common))
                seen, unseen = float(accuracy(path.end, (z, own[k]))), float(accuracy(path.end, split.test))
                found.append({
                    "path": path, "width": width, "optimizer": optimizer, "eta": eta, "noise": noise, "seed": seed, "train accuracy": seen,
                    "test accuracy": unseen, "gap": seen - unseen, "train loss": float(loss(path.end, (z, own[k]))),
                    "norm": float(optax.global_norm(path.end)),
                })  # fmt: skip
        print(f"{len(found)} runs trained", flush=True)
    return found
