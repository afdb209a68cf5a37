"""The tasks of `paths_transfer.py`: images of two data sets, resized, turned, inverted, split by class; and the network that learns them."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import eqdyn as eq

HIDDEN = (256, 32)
ANGLE = float(np.random.default_rng(0).uniform(0, 360))


def layer(params: Any, z: Any) -> Any:
    return jax.nn.relu(z @ params["w"] + params["b"][None])


STAGES = (layer, layer)


def fresh(key: Any, num_inputs: int) -> list[Any]:
    sizes = (num_inputs, *HIDDEN)
    keys = jax.random.split(key, len(HIDDEN))
    return [{"w": jax.random.normal(k, (a, b)) * np.sqrt(2 / a), "b": jnp.zeros(b)} for a, b, k in zip(sizes[:-1], sizes[1:], keys, strict=True)]


class Task(NamedTuple):
    """Inputs and labels; `source` names a source; `lift` is the plain map from target to source inputs, None for the identity."""

    source: str
    train: Any
    validation: Any
    test: Any
    lift: Any = None


def resized(side: int, to: int, box: tuple[int, int]) -> np.ndarray:
    """Bilinear, from side x side into rows and columns `box` of to x to: the matrix `(side^2, to^2)`."""
    first, last = box
    at = np.clip((np.arange(first, last) - first + 0.5) * side / (last - first) - 0.5, 0, side - 1)
    one = np.zeros((side, to))
    one[:, first:last] = np.maximum(0, 1 - np.abs(at[None] - np.arange(side)[:, None]))
    return np.kron(one, one).astype(np.float32)


def averaged(side: int, to: int, box: tuple[int, int]) -> np.ndarray:
    """From rows and columns `box` of side x side to means over to x to equal parts."""
    edges = np.linspace(*box, to + 1)
    pixels = np.arange(side)[:, None]
    one = np.clip(np.minimum(pixels + 1, edges[None, 1:]) - np.maximum(pixels, edges[None, :-1]), 0, None) / np.diff(edges)[None]
    return np.kron(one, one).astype(np.float32)


def turn(degrees: float, side: int = 28) -> np.ndarray:
    """Bilinear, about the centre: the matrix from images to images."""
    from scipy.ndimage import rotate

    units = np.eye(side * side, dtype=np.float32).reshape(-1, side, side)
    return rotate(units, degrees, axes=(1, 2), reshape=False, order=1).reshape(side * side, -1)


def data_of(num: int | None) -> tuple[dict[str, Any], dict[str, Task]]:
    """What sources are trained and tested on, and the tasks; with `num`, of so many images of each part."""
    split, digits = eq.data.mnist(), eq.data.digits()
    (z, y), (z_test, y_test) = ([np.asarray(part) for part in side] for side in split)
    order, half = np.random.default_rng(0).permutation(len(z)), len(z) // 2
    rows = {"source": order[:half], "train": order[half:-5000], "validation": order[-2000:]}
    parts = {name: (z[at[:num]], y[at[:num]]) for name, at in rows.items()} | {"test": (z_test[:num], y_test[:num])}
    (zd, yd), test_d = ([np.asarray(part) for part in side] for side in digits)
    small = {"source": (zd, yd), "train": (zd[:1150], yd[:1150]), "validation": (zd[1150:], yd[1150:]), "test": test_d}
    target, turned = ("train", "validation", "test"), turn(ANGLE)

    def moved(way: Any) -> list[Any]:
        return [(way(parts[name][0]).astype(np.float32), parts[name][1]) for name in target]

    def classes(name: str, first: int) -> Any:
        images, labels = parts[name]
        kept = (labels >= first) & (labels < first + 5)
        return images[kept], labels[kept] - first

    tasks = {
        "MNIST to digits": Task("MNIST", *(small[name] for name in target), resized(8, 28, (4, 24))),
        "digits to MNIST": Task("digits", *(parts[name] for name in target), averaged(28, 8, (4, 24))),
        "turned, 90 degrees": Task("MNIST", *moved(lambda z: np.rot90(z.reshape(-1, 28, 28), axes=(1, 2)).reshape(len(z), -1))),
        "turned, any angle": Task("MNIST", *moved(lambda z: z @ turned)),
        "inverted": Task("MNIST", *moved(lambda z: 1 - z)),
        "0-4 to 5-9": Task("0-4", *(classes(name, 5) for name in target)),
    }
    sources = {"MNIST": (parts["source"], parts["test"]), "digits": (small["source"], test_d), "0-4": (classes("source", 0), classes("test", 0))}
    return sources, tasks
