"""Public enumerators of a ReLU network's cells, each called as its authors say, apart from eqdyn: what `benchmarks/partition.py` puts beside us.

    python partition_peers.py NAME NETWORK.npz [FOLDER]

NETWORK.npz holds `w0, b0, w1, ...`, `low` and `high`. Prints one line of JSON: number of cells, a hash of their codes, seconds (after a call on a
network of a few units, which loads and compiles what there is to load), or why there are none.
This file needs NumPy and the peer alone, so that an interpreter of its own can run it.

SplineCam (MIT licence, github.com/AhmedImtiazPrio/splinecam, arXiv:2302.12828): cells of a box in the plane. A checkout's folder is given; it needs
PyTorch, igraph and graph-tool. It asks for a GPU by default and for torchvision's models: here the default is the CPU, the models are left out, and
functions that PyTorch no longer compiles (it was written for 1.12) run as they stand.
parx 0.1.3 (MIT licence, `pip install parx==0.1.3`): cells of the whole space, by linear programs. Its Python method is run; importing it asks for
Julia, whose method its authors say is 10 to 50 times as fast.
Not run: relu_edge_subdivision (arXiv:2306.07212), whose repository had no licence; relucent (AGPL-3.0), which needs Gurobi, which is not free.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import resource
import shutil
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Layers = list[tuple[np.ndarray, np.ndarray]]
LOADED = ("numpy", "scipy", "torch", "igraph", "graph_tool", "parx", "eqdyn")
Timed = tuple[Callable[[], Any], Callable[[Any], np.ndarray]]


def read(path: str) -> tuple[Layers, np.ndarray, np.ndarray]:
    with np.load(path) as kept:
        layers = [(kept[f"w{k}"], kept[f"b{k}"]) for k in range(sum(name[0] == "w" for name in kept))]
        return layers, kept["low"], kept["high"]


def codes_at(layers: Layers, z: np.ndarray) -> np.ndarray:
    bits = []
    for w, b in layers[:-1]:
        z = z @ w.T + b
        bits.append(z > 0)
        z = np.maximum(z, 0)
    return np.concatenate(bits, axis=1)


def named(codes: np.ndarray) -> dict[str, Any]:
    """How many different codes, and a hash of the set."""
    once = np.unique(np.packbits(np.asarray(codes, bool), axis=1), axis=0)
    return {"cells": len(once), "codes": hashlib.sha256(once.tobytes()).hexdigest()[:16]}


def peak() -> float:
    """GiB that this process held at most; `ru_maxrss` would start from what its parent held."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(dict(line.split(":", 1) for line in status.read_text().splitlines())["VmHWM"].split()[0]) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform != "darwin" else 2**30)


def processor() -> float:
    """Seconds, with those of children."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def by_splinecam(layers: Layers, low: np.ndarray, high: np.ndarray, folder: str) -> Timed:
    """The call to be timed, and codes of what it gave."""
    if not folder:
        msg = "no folder of a checkout was given: --splinecam FOLDER"
        raise ImportError(msg)
    os.environ["PYTORCH_JIT"] = "0"  # before torch is imported
    sys.path.insert(0, folder)
    for name in ("torchvision", "torchvision.models"):
        sys.modules[name] = types.ModuleType(name)
    sys.modules["torchvision"].models = sys.modules["torchvision.models"]
    import torch
    from splinecam import compute, graph, utils, wrappers

    torch.Tensor.cuda = lambda self, *_, **__: self
    for module in (compute, graph, utils, wrappers):
        for found in vars(module).values():
            call = getattr(found, "__wrapped__", found)
            if isinstance(call, types.FunctionType) and call.__defaults__:
                call.__defaults__ = tuple("cpu" if value == "cuda" else value for value in call.__defaults__)
    parts: list[Any] = []
    for w, b in layers:
        linear = torch.nn.Linear(w.shape[1], w.shape[0]).double()
        linear.weight.data, linear.bias.data = torch.tensor(w), torch.tensor(b)
        parts += [linear, torch.nn.ReLU()]
    corners = [[low[0], low[1]], [high[0], low[1]], [high[0], high[1]], [low[0], high[1]], [low[0], low[1]]]
    domain, plane = torch.tensor(np.array(corners)), torch.eye(2, 3, dtype=torch.float64)
    network = wrappers.model_wrapper(torch.nn.Sequential(*parts[:-1]).eval(), input_shape=(2,), T=plane, dtype=torch.float64, device="cpu")
    if not network.verify():
        msg = "its network is not ours"
        raise ValueError(msg)
    return (
        lambda: compute.get_partitions_with_db(domain, plane, network)[0],
        lambda polygons: codes_at(layers, np.array([polygon.numpy().mean(0) for polygon in polygons])),
    )


def by_parx(layers: Layers, low: np.ndarray, high: np.ndarray, folder: str) -> Timed:
    which, shutil.which = shutil.which, lambda name, *_, **__: name  # "is Julia there?"
    try:
        from parx.methods import get_method
    finally:
        shutil.which = which
    weights, biases = zip(*layers[:-1], strict=True)
    begin = 0.5 * (low + high)
    return lambda: get_method("exact_python")(list(weights), list(biases), begin[None]), lambda found: found.patterns > 0


def by_programs(layers: Layers, low: np.ndarray, high: np.ndarray, folder: str) -> Timed:
    return lambda: _codes_by_programs(layers, low, high), lambda codes: codes


def _codes_by_programs(layers: Layers, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Codes without vertices: an inner point tells one side of the next unit, a linear program whether a ball lies on the other."""
    dim = len(low)
    walls = np.c_[np.r_[np.eye(dim), -np.eye(dim)], np.r_[-high, low]]  # rows n, -h of n z <= h
    pending, codes = [(walls, 0.5 * (low + high), ())], []
    while pending:
        rows, inner, bits = pending.pop()
        unit = _unit(layers, bits, dim)
        if unit is None:
            codes.append(bits)
            continue
        side = unit[:-1] @ inner + unit[-1] > 0
        pending.append((np.r_[rows, [-unit if side else unit]], inner, (*bits, side)))
        beyond = np.r_[rows, [unit if side else -unit]]
        centre, radius = _ball(beyond) if np.any(unit[:-1]) else (inner, 0.0)
        if radius > 1e-9:
            pending.append((beyond, centre, (*bits, not side)))
    return np.array(codes)


def _unit(layers: Layers, bits: tuple[bool, ...], dim: int) -> np.ndarray | None:
    """The next unit as an affine function where those before have these bits."""
    affine, at = np.eye(dim + 1), 0
    for w, b in layers[:-1]:
        affine = np.r_[np.c_[w, b] @ affine, [np.eye(dim + 1)[-1]]]
        if len(bits) < at + len(b):
            return affine[len(bits) - at]
        affine[:-1] *= np.array(bits[at : at + len(b)])[:, None]
        at += len(b)
    return None


def _ball(rows: np.ndarray) -> tuple[np.ndarray, float]:
    from scipy.optimize import linprog

    dim = rows.shape[1] - 1
    norms = np.linalg.norm(rows[:, :-1], axis=1)
    rows, norms = rows[norms > 0], norms[norms > 0]
    asked = np.c_[rows[:, :-1] / norms[:, None], np.ones(len(rows))]
    found = linprog(np.r_[np.zeros(dim), -1.0], A_ub=asked, b_ub=-rows[:, -1] / norms, bounds=[(None, None)] * dim + [(0, None)])
    return (found.x[:-1], float(found.x[-1])) if found.status == 0 else (np.zeros(dim), 0.0)


def by_ours(layers: Layers, low: np.ndarray, high: np.ndarray, folder: str) -> Timed:
    import eqdyn as eq

    build = eq.partition.build
    return lambda: build(layers, (low, high), measures=False), lambda found: found.codes


PEERS = {"ours": by_ours, "linear programs": by_programs, "SplineCam": by_splinecam, "parx": by_parx}


def main() -> None:
    name, path, folder = [*sys.argv[1:], ""][:3]
    layers, low, high = read(path)
    dim = len(low)
    try:
        small, _ = PEERS[name]([(np.eye(dim), np.full(dim, 0.1)), (np.ones((1, dim)), np.zeros(1))], low, high, folder)
        call, codes = PEERS[name](layers, low, high, folder)
    except ImportError as error:
        print(json.dumps({"absent": str(error)}))
        return
    with contextlib.redirect_stdout(io.StringIO()):
        small()
        began, used = time.perf_counter(), processor()
        found = call()
        seconds, cpu = time.perf_counter() - began, processor() - used
    loaded = {name: str(getattr(sys.modules[name], "__version__", "")) for name in LOADED if name in sys.modules}
    print(json.dumps(named(codes(found)) | {"seconds": seconds, "CPU seconds": cpu, "peak, GiB": peak(), "with": loaded}))


if __name__ == "__main__":
    main()
