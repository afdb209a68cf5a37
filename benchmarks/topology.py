"""Betti numbers at one scale: ours, compiled and in plain Python, beside ripser, GUDHI and the paper's own call.

    python3 benchmarks/topology.py

Points in, (b0, b1, b2) over Z/2 out; distances included for all, r handed in, one BLAS thread. A floor is measured in the same run: one Gram product
and one pass that compares it with a threshold. Answers are compared before any ratio is printed. Every method runs in a process of its own, which is
killed at its time limit ("not finished") and whose peak memory is read at its end. Checkpoints of an MNIST run are added where
`benchmarks/mnist_topology.py` has left them.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import common
import numpy as np

OUT = Path(__file__).parent / "out"
DIM = 795


def sphere(rng: np.random.Generator, num: int, dim: int = DIM) -> np.ndarray:
    """The paper's start: a sphere in a random 3-frame, noise 0.02 / sqrt(dim)."""
    x = rng.standard_normal((num, 3))
    frame = np.linalg.qr(rng.standard_normal((dim, 3)))[0]
    return x / np.linalg.norm(x, axis=1)[:, None] @ frame.T + 0.02 / np.sqrt(dim) * rng.standard_normal((num, dim))


def flat_torus(rng: np.random.Generator, num: int) -> np.ndarray:
    t = rng.uniform(0, 2 * np.pi, (num, 2))
    return np.c_[np.cos(t), np.sin(t)] @ np.linalg.qr(rng.standard_normal((DIM, 4)))[0].T


def merged(rng: np.random.Generator, num: int) -> np.ndarray:
    x = sphere(rng, num)
    x[: num // 2] = x[:12][rng.integers(0, 12, num // 2)] + 1e-6 * rng.standard_normal((num // 2, DIM))
    return x


def collapsed(rng: np.random.Generator, num: int) -> np.ndarray:
    return sphere(rng, 20)[rng.integers(0, 20, num)] + 1e-3 / np.sqrt(DIM) * rng.standard_normal((num, DIM))


def on_sphere(rng: np.random.Generator, num: int, dim: int) -> np.ndarray:
    x = rng.standard_normal((num, dim + 1))
    return x / np.linalg.norm(x, axis=1)[:, None]


def curve(rng: np.random.Generator, num: int, twice: int) -> np.ndarray:
    t = rng.uniform(0, 2 * np.pi, num)
    return np.c_[np.cos(t) if twice == 1 else np.sin(t), np.sin(twice * t)]


def quantile(x: np.ndarray, share: float) -> float:
    from scipy.spatial.distance import pdist

    return float(np.quantile(pdist(x), share))


CLOUDS: dict[str, tuple[Any, Any]] = {
    "sphere": (sphere, 4),
    "flat torus": (flat_torus, 4),
    "half the sphere merged into 12": (merged, 4),
    "collapsed into 20": (collapsed, 4),
    "circle in the plane": (lambda rng, num: curve(rng, num, 1), 4),
    "figure eight in the plane": (lambda rng, num: curve(rng, num, 2), 4),
    "Gaussian": (lambda rng, num: rng.standard_normal((num, DIM)), 4),
    "Gaussian, nearest 5 %": (lambda rng, num: rng.standard_normal((num, DIM)), "5 %"),
    "Gaussian in R^12, diameter/3": (lambda rng, num: rng.standard_normal((num, 12)), 3),
    "S^5, diameter/2": (lambda rng, num: on_sphere(rng, num, 5), 2),
    "S^9, diameter/2": (lambda rng, num: on_sphere(rng, num, 9), 2),
}
METHODS = ("floor", "compiled", "plain", "ripser", "GUDHI collapsed", "paper's call")


def cloud(name: str, num: int, seed: int) -> tuple[np.ndarray, float]:
    """The points and the scale."""
    from scipy.spatial.distance import pdist

    if name.startswith("MNIST"):
        with np.load(OUT / "mnist_checkpoints.npz") as kept:
            x, divisor = kept[name.split()[-1]].astype(np.float64), 4
    else:
        make, divisor = CLOUDS[name]
        x = make(np.random.default_rng(seed), num)
    return x, quantile(x, 0.05) if divisor == "5 %" else float(pdist(x).max()) / divisor


# --- the methods: points and r in, three integers out ----------------------------------------------------------------------------------


def method(name: str) -> Any:
    import eqdyn as eq

    if name in ("compiled", "plain"):
        return lambda x, r: eq.topology.betti(x, scale=r, engine=name)
    if name == "floor":

        def floor(x: np.ndarray, r: float) -> Any:
            gram = x @ x.T
            return np.packbits(gram <= r), ()

        return lambda x, r: (floor(x, r), (-1, -1, -1))[1]
    if name == "ripser":
        from ripser import ripser

        def by_ripser(x: np.ndarray, r: float) -> tuple[int, ...]:
            # float32 inside: a hair more, so that no edge that counts is lost
            return tuple(int(np.isinf(bar[:, 1]).sum()) for bar in ripser(x, maxdim=2, thresh=r * (1 + 1e-7))["dgms"])

        return by_ripser
    import gudhi

    def padded(tree: Any) -> tuple[int, ...]:
        tree.compute_persistence(homology_coeff_field=2, persistence_dim_max=tree.dimension() < 3)
        return tuple([*tree.betti_numbers(), 0, 0, 0][:3])

    if name == "paper's call":
        # its field and its dropped dimension made good: the cost is the same, and the answer can be compared
        return lambda x, r: padded(gudhi.RipsComplex(points=x, max_edge_length=r).create_simplex_tree(max_dimension=3))

    def collapsed_edges(x: np.ndarray, r: float) -> tuple[int, ...]:
        """The strongest public rival: all edges at one value, so that the collapse may take any; distances by BLAS."""
        squares = np.einsum("ij,ij->i", x, x)
        near = np.triu(squares[:, None] + squares[None, :] - 2 * x @ x.T <= r * r, 1)
        tree = gudhi.SimplexTree()
        tree.insert_batch(np.arange(len(x), dtype=np.int32)[None], np.zeros(len(x)))
        i, j = np.nonzero(near)
        tree.insert_batch(np.stack([i, j]).astype(np.int32), np.zeros(len(i)))
        tree.collapse_edges(3)
        tree.expansion(3)
        return padded(tree)

    return collapsed_edges


def child(name: str, which: str, num: int, seed: int, repeats: int) -> None:
    """One method on one cloud, in this process; prints one line of JSON."""
    import warnings

    warnings.simplefilter("ignore")
    x, r = cloud(which, num, seed)
    call = method(name)
    if name == "compiled":  # the compiler's memory is not the method's; its time is reported as the first call's
        method(name)(np.random.default_rng(0).standard_normal((70, 3)), 1.0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    found = call(x, r)
    times = [time.perf_counter() - began]
    # what has not repeated within the limit is told by its first call
    while len(times) <= repeats and sum(times) < 20:
        began = time.perf_counter()
        call(x, r)
        times.append(time.perf_counter() - began)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    warm = times[1:] or times
    print(
        json.dumps(
            {
                "betti": found,
                "first": times[0],
                "median": statistics.median(warm),
                "min": min(warm),
                "peak MB": peak / 1024,
                "more MB": (peak - before) / 1024,
            }
        )
    )


def measured(name: str, which: str, num: int, seed: int, repeats: int, limit: float) -> dict[str, Any]:
    ask = [sys.executable, __file__, "--child", name, which, str(num), str(seed), str(repeats)]
    try:
        done = subprocess.run(ask, capture_output=True, text=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        return {"status": f"> {limit:g} s"}
    if done.returncode:
        last = done.stderr.strip().splitlines()
        return {"status": "absent" if "No module" in done.stderr else f"failed: {last[-1] if last else done.returncode}"}
    return {"status": "ok", **json.loads(done.stdout.strip().splitlines()[-1])}


def throughput(num: int, repeats: int) -> list[dict[str, Any]]:
    """Checkpoints a second with one and two workers."""
    import eqdyn as eq

    clouds = [sphere(np.random.default_rng(seed), num) for seed in range(8)]
    rows = []
    for engine in ("compiled", "plain"):
        for workers in (1, 2):
            if engine == "plain" and workers == 2:
                continue  # spawned processes: their start is longer than this
            eq.topology.betti_along(clouds[:1], engine=engine, workers=workers)
            times = []
            for _ in range(repeats):
                began = time.perf_counter()
                eq.topology.betti_along(clouds, engine=engine, workers=workers)
                times.append((time.perf_counter() - began) / len(clouds))
            rows.append({"engine": engine, "workers": workers, "checkpoints/s": 1 / statistics.median(times)})
    return rows


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        name, which, num, seed, repeats = sys.argv[2:7]
        child(name, which, int(num), int(seed), int(repeats))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5, help="timed rounds after the first; the median counts (default: %(default)s)")
    parser.add_argument("--limit", type=float, default=60.0, help="seconds after which a method is killed, its start included")
    parser.add_argument("--sizes", default="512,1024,2048,4096", help="points; all clouds at 1,024, the sphere at every size")
    parser.add_argument("--quick", action="store_true", help="one small size, to see that it runs; figures are not to be quoted")
    parser.add_argument("--out", type=Path, default=OUT / "topology.json", help="where the JSON goes")
    options = parser.parse_args()
    sizes = [256] if options.quick else [int(size) for size in options.sizes.split(",")]
    main_size = 256 if options.quick else 1024
    cases = [(which, num) for num in sizes for which in CLOUDS if num == main_size or which == "sphere"]
    if (OUT / "mnist_checkpoints.npz").exists() and not options.quick:
        cases += [(f"MNIST {name}", main_size) for name in ("start", "middle", "end")]
    repeats = 1 if options.quick else options.repeats
    results = []
    for which, num in cases:
        found = {name: measured(name, which, num, 0, repeats, options.limit) for name in METHODS}
        answers = {name: tuple(one["betti"]) for name, one in found.items() if one["status"] == "ok" and name != "floor"}
        if len(set(answers.values())) > 1:
            print(f"{which}, N = {num}: ANSWERS DIFFER {answers}; no ratio is printed")
            results += [{"cloud": which, "N": num, "method": name, **one, "agree": False} for name, one in found.items()]
            continue
        ours = found["compiled"].get("median", float("nan"))
        rows = []
        for name, one in found.items():
            done = one["status"] == "ok"
            seconds = one["median"] if done else options.limit
            rows.append(
                {
                    "method": name,
                    "Betti": str(tuple(one["betti"])) if done and name != "floor" else "",
                    "ms": round(1e3 * seconds, 1) if done else one["status"],
                    "first (ms)": round(1e3 * one["first"], 1) if done else "",
                    "of compiled": f"{'> ' if not done and one['status'].startswith('>') else ''}{seconds / ours:.3g}"
                    if one["status"][0] in "o>"
                    else "",
                    "more MB": round(one["more MB"]) if done else "",
                }
            )
        common.table(f"{which}, N = {num}", rows)
        results += [{"cloud": which, "N": num, "method": name, **one, "agree": True} for name, one in found.items()]
    rates = throughput(main_size, repeats)
    common.table(f"sphere, N = {main_size}: several checkpoints at once", rates)
    common.write(options.out, {"machine": common.machine(), "limit_s": options.limit, "rows": results, "throughput": rates})


if __name__ == "__main__":
    main()
