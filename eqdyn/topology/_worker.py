"""One persistence computation in a process of its own, which can be killed. Run by path: it imports ripser or GUDHI, nothing else of ours."""

from __future__ import annotations

import contextlib
import io
import signal
import sys

import numpy as np


def bars_of(d: np.ndarray, max_dim: int, prime: int, longest: float, engine: str) -> list[np.ndarray]:
    """Bars by degree `(m, 2)`, infinite deaths for those alive at `longest`."""
    if engine == "gudhi":
        import gudhi

        tree = gudhi.RipsComplex(distance_matrix=d, max_edge_length=longest).create_simplex_tree(max_dimension=1)
        tree.expansion(max_dim + 1)
        # the complex itself may stop short of the dimension that was asked for, whose classes would be left out
        tree.compute_persistence(homology_coeff_field=prime, min_persistence=0, persistence_dim_max=tree.dimension() <= max_dim)
        return [np.asarray(tree.persistence_intervals_in_dimension(k)).reshape(-1, 2) for k in range(max_dim + 1)]
    # the C entry point: its wrapper imports scikit-learn, most of a second, and makes two tables of indices
    from pyRipser import doRipsFiltrationDM

    place = np.arange(len(d))
    return as_arrays(doRipsFiltrationDM(d[place[:, None] < place].astype(np.float32), max_dim, longest, prime))


def as_arrays(found: dict) -> list[np.ndarray]:
    """Bars by degree `(m, 2)` of what ripser's C entry points return."""
    return [np.asarray(bars, np.float64).reshape(-1, 2) for bars in found["births_and_deaths_by_dim"]]


def _limit(memory: float) -> None:
    """No more than so many bytes beyond those held now, where the system can (Linux): an allocation then fails, here alone."""
    with contextlib.suppress(Exception):
        import resource

        with open("/proc/self/statm") as statm:
            held = int(statm.read().split()[5]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_DATA, (held + int(memory),) * 2)


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent kills
    with contextlib.suppress(Exception):  # where Linux: not to outlive it
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    with np.load(io.BytesIO(sys.stdin.buffer.read()), allow_pickle=False) as given:
        d, engine = given["d"], str(given["engine"])
        __import__("gudhi" if engine == "gudhi" else "pyRipser")
        _limit(float(given["memory"]))
        bars = bars_of(d, int(given["max_dim"]), int(given["prime"]), float(given["longest"]), engine)
    out = io.BytesIO()
    np.savez(out, **{str(k): bar for k, bar in enumerate(bars)})  # type: ignore[arg-type]
    sys.stdout.buffer.write(out.getvalue())


if __name__ == "__main__":
    main()
