"""The rows of `benchmarks/partition.py`: what is trained, and what is measured of its partition."""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from partition_peers import Layers

import eqdyn as eq

PROGRESS = sys.stderr.isatty()


class Row:
    """What one process measures and says."""

    def __init__(self) -> None:
        self.parts: dict[str, dict[str, float]] = {}
        self.said: list[str] = []
        self.facts: dict[str, Any] = {}

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        began, used = time.perf_counter(), time.process_time()
        yield
        self.parts[name] = {"seconds": time.perf_counter() - began, "CPU seconds": time.process_time() - used}

    def say(self, facts: dict[str, Any]) -> None:
        """Words, numbers, and lists of numbers."""
        self.facts |= facts
        for name, value in facts.items():
            values = value if isinstance(value, list) else [value]
            self.said.append(
                f"{name} {' '.join(f'{one:.4g}' if isinstance(one, float) else f'{one:,}' if isinstance(one, int) else one for one in values)}"
            )


def spread(values: Any) -> list[float]:
    """Least, 5 %, middle, 95 %, greatest."""
    return [float(q) for q in np.nanquantile(np.asarray(values, float), [0, 0.05, 0.5, 0.95, 1])]


# --- networks ---------------------------------------------------------------------------------------------------------------------------


def drawn(sizes: list[int], seed: int = 0) -> Layers:
    """He's weights, small offsets."""
    rng = np.random.default_rng(seed)
    return [(rng.standard_normal((b, a)) * np.sqrt(2 / a), 0.1 * rng.standard_normal(b)) for a, b in itertools.pairwise(sizes)]


def outputs(params: Any, z: Any) -> Any:
    for w, b in params[:-1]:
        z = jax.nn.relu(z @ w.T + b)
    return z @ params[-1][0].T + params[-1][1]


def right(layers: Layers, x: np.ndarray, y: np.ndarray) -> float:
    found = outputs(layers, jnp.asarray(x, jnp.float32))
    return float(((found.argmax(1) if found.shape[1] > 1 else found[:, 0] > 0) == jnp.asarray(y)).mean())


def trained(x: np.ndarray, y: np.ndarray, sizes: list[int], num_steps: int, batch: int = 256) -> Layers:
    """In float32 by Adam at 3e-3 on cross-entropy, from He's weights; handed over as float64."""
    data, labels = jnp.asarray(x, jnp.float32), jnp.asarray(y)
    start = [(jnp.asarray(w, jnp.float32), jnp.zeros(len(b))) for w, b in drawn(sizes)]
    rng = np.random.default_rng(1)
    batches = np.stack([rng.choice(len(x), min(batch, len(x)), replace=False) for _ in range(num_steps)])
    adam = optax.adam(3e-3)

    def loss(params: Any, rows: Any) -> Any:
        found = outputs(params, data[rows])
        if sizes[-1] == 1:
            return optax.sigmoid_binary_cross_entropy(found[:, 0], labels[rows]).mean()
        return optax.softmax_cross_entropy_with_integer_labels(found, labels[rows]).mean()

    @jax.jit
    def run(params: Any) -> Any:
        def step(carry: Any, rows: Any) -> Any:
            params, state = carry
            updates, state = adam.update(jax.grad(loss)(params, rows), state, params)
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(step, (params, adam.init(params)), batches)[0][0]

    return [(np.asarray(w, np.float64), np.asarray(b, np.float64)) for w, b in run(start)]


def images(quick: bool) -> tuple[str, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The first 10,000 of MNIST and its test images, or the digits, by name; rows of pixels in [0, 1]."""
    small = quick or "EQDYN_DATA" not in os.environ
    split = eq.data.digits() if small else eq.data.mnist()
    (x, y), (x_test, y_test) = ((np.asarray(z, np.float64).reshape(len(z), -1), np.asarray(label)) for z, label in split)
    scale = max(1.0, x.max())
    num = 300 if quick else 10_000
    return "digits" if small else "MNIST", x[:num] / scale, y[:num], x_test / scale, y_test


# --- rows -------------------------------------------------------------------------------------------------------------------------------


def components(row: Row, quick: bool) -> None:
    name, z, y, z_test, y_test = images(quick)
    mean = z.mean(0)
    onto = np.linalg.svd(z - mean, full_matrices=False)[2][:6].T
    x, x_test = (z - mean) @ onto, (z_test - mean) @ onto
    with row.part("training"):
        layers = trained(x, y, [6, 8, 8, 10] if quick else [6, 32, 32, 10], 200 if quick else 4000)
    row.say({"data": name, "images": len(x), "right in training": right(layers, x, y), "on test images": right(layers, x_test, y_test)})
    with row.part("codes, masses, cells, facets, kinks"):
        found = eq.partition.build(layers, "data", x, cells="data", measures=False, progress=PROGRESS)
    with row.part("Ollivier curvature"):
        curvature = eq.partition.ricci_ollivier(found.edges, found.masses)
    held, degree = np.round(found.masses * len(x)), np.bincount(found.edges.ravel(), minlength=len(found.codes))
    own = [int((cell.facets >= 0).sum()) for cell in found.cells]
    row.say({"cells": len(found.codes), "edges": len(found.edges), "cells without a neighbour that holds data": int((degree == 0).sum())})
    row.say({"cells of one image": int((held == 1).sum()), "most images in one": int(held.max()), "images a cell": spread(held)})
    row.say({"facets a cell": spread(own), "vertices a cell": spread([len(cell.vertices) for cell in found.cells]), "kinks": spread(found.kinks)})
    row.say({"curvature": spread(curvature)})
    beyond = {code.tobytes() for code in np.concatenate([_flipped(code, cell) for code, cell in zip(found.codes, found.cells, strict=True)])}
    beyond -= {code.tobytes() for code in found.codes}
    each = np.mean([sum(part.nbytes for part in cell) for cell in found.cells])
    row.say({"neighbours without data": len(beyond), "they would take, GiB": float(len(beyond) * each / 2**30)})
    some, margin = 5 if quick else 250, 0.05 * np.ptp(x, axis=0)
    with row.part(f"with all neighbours of {some} images"):
        ring = eq.partition.build(layers, (x.min(0) - margin, x.max(0) + margin), x[:some], cells="data", ring=True, measures=False)
    mass = dict(zip((code.tobytes() for code in found.codes), found.masses, strict=True))
    with row.part("its Ollivier curvature, by masses of all"):
        around = eq.partition.ricci_ollivier(ring.edges, [mass.get(code.tobytes(), 0.0) for code in ring.codes], progress=PROGRESS)
    row.say({"cells with the neighbours": len(ring.codes), "their edges": len(ring.edges), "their curvature": spread(around)})


def _flipped(code: np.ndarray, cell: Any) -> np.ndarray:
    own = cell.facets[cell.facets >= 0]
    beyond = np.repeat(code[None], len(own), axis=0)
    beyond[np.arange(len(own)), own] ^= True
    return beyond


def pixels(row: Row, quick: bool) -> None:
    name, x, y, x_test, y_test = images(quick)
    width = 16 if quick else 64
    with row.part("training"):
        layers = trained(x, y, [x.shape[1], width, width, 10], 200 if quick else 2000)
    row.say({"data": name, "images": len(x), "right in training": right(layers, x, y), "on test images": right(layers, x_test, y_test)})
    with row.part("codes, facet distances, kinks"):
        found = eq.partition.local(layers, x, progress=PROGRESS)
    with row.part("nearest by crossed hyperplanes, k = 10 (DIAGNOSTIC)"):
        _, crossed = eq.partition.nearest_by_crossed(found.codes, 10)
    row.say({"cells": len(found.codes), "radii": spread(found.radii), "kinks": spread(found.kinks)})
    row.say({"hyperplanes to the nearest code": spread(crossed[:, 0]), "to the tenth": spread(crossed[:, -1])})
    with row.part("facets of 20 cells, by linear programs"):
        rings = [eq.partition.one_ring(layers, z, (0.0, 1.0)) for z in x[:20]]
    row.say({"half-spaces": sum(ring.num_rows for ring in rings), "programs": sum(ring.num_programs for ring in rings)})
    row.say({"facets in all": sum(len(ring.units) for ring in rings), "facets of a cell": spread([len(ring.units) for ring in rings])})


def plane(row: Row, quick: bool, moons: bool) -> None:
    from scipy import sparse
    from scipy.sparse.linalg import eigsh
    from sklearn.datasets import make_moons

    sizes = [2, 8, 8, 1] if quick else [2, 32, 32, 32, 1]
    x, y = make_moons(1000, noise=0.1, random_state=0)
    layers = drawn(sizes)
    if moons:
        with row.part("training"):
            layers = trained(x, y, sizes, 100 if quick else 1000)
        row.say({"right in training": right(layers, x, y)})
    with row.part("codes, cells, areas, facets, kinks"):
        found = eq.partition.build(layers, "data", x, progress=PROGRESS) if moons else eq.partition.build(layers, progress=PROGRESS)
    with row.part("angles"):
        ridges = eq.partition.ridges(found)
    with row.part("mean curvature"):
        curvature = eq.partition.mean_curvature(found)
    with row.part("Laplacian, 6 eigenvalues"):
        stiffness, volumes = found.stiffness(), sparse.diags(found.volumes).tocsc()
        values = np.sort(eigsh(stiffness.tocsc(), 6, volumes, sigma=-0.01, return_eigenvectors=False))
    row.say({"cells": len(found.codes), "edges": len(found.edges), "corners": len(ridges.angles)})
    row.say({"areas": spread(found.volumes), "kinks": spread(found.kinks)})
    row.say({"areas less the box's, of it": float(abs(found.volumes.sum() / found.region_volume - 1)), "mean curvature": spread(curvature)})
    row.say({"eigenvalues": [float(value) for value in values]})


MINUTES, MINUTE, MEMORY = 300.0, 60.0, 4.0  # s, s, GiB
ROWS = {  # by what is called, and the seconds it is asked to take
    "images in 6 components": (components, MINUTES),
    "images in 784 pixels": (pixels, MINUTES),
    "plane, random": (lambda row, quick: plane(row, quick, False), MINUTE),
    "plane, two moons": (lambda row, quick: plane(row, quick, True), MINUTE),
}
