"""Full persistence diagrams by ripser or GUDHI, behind a forecast, in a process that can be killed."""

from __future__ import annotations

import importlib.util
import io
import math
import subprocess
import sys
from typing import Any

import numpy as np

from eqdyn import _checks
from eqdyn.topology import _tree, _worker
from eqdyn.topology._betti import asked, distances, points_of
from eqdyn.topology._diagram import Diagram

MEMORY = 2**32  # bytes that a computation may be forecast to take
SECONDS = 600.0
_AT_ONCE = 0.3  # seconds below which no process is worth starting


def persistence(
    points: Any, *, max_dim: int = 1, longest: float = math.inf, landmarks: int | None = None, engine: str = "ripser", prime: int = 2,
    memory: float = MEMORY, seconds: float = SECONDS,
) -> Diagram:  # fmt: skip
    """The persistence diagram of the Rips filtration of points.

    Degree 0 comes from the minimum spanning tree in float64; higher degrees from ripser (which rounds distances to float32) or
    GUDHI, in a process of its own: Ctrl-C ends it at once. Memory and time are forecast from the number of simplices, to within
    a small factor, and refused over a budget.

    Args:
        points: `(n, d)`, real.
        max_dim: highest degree, 0 to 3.
        longest: the filtration is cut at this edge length, [points].
        landmarks: None for all points, or how many farthest-point landmarks stand for them; the error is then at most twice
            the distance of any point to its landmark (Hausdorff distance; stability), and stated.
        engine: "ripser" or "gudhi" (`eqdyn[gudhi]`).
        prime: characteristic of the field.
        memory: bytes, the budget.
        seconds: the budget; a computation that takes longer is killed.

    Returns:
        `Diagram`.

    Raises:
        ValueError: arguments that make no sense.
        MemoryError: the forecast exceeds a budget.
        TimeoutError: it took longer than `seconds`.

    Example:
        >>> import numpy as np, eqdyn as eq
        >>> t = np.arange(12) * np.pi / 6
        >>> found = eq.topology.persistence(np.stack([np.cos(t), np.sin(t)], 1))
        >>> found.bars[1].round(3).tolist()         # (2 sin(pi/n), 2 sin(pi ceil(n/3)/n))
        [[0.518, 1.732]]

    References:
        Bauer, ripser; Chazal, de Silva, Oudot, Persistence stability for geometric complexes (the error of landmarks).
    """
    x = points_of(points)
    error, rows = 0.0, np.arange(len(x))
    if landmarks is not None:
        count = _checks.count(landmarks, "landmarks", least=1)
        rows, cover = farthest_points(x, min(count, len(x)))
        error = 2 * cover
    _checks.fits_budget(16 * len(rows) ** 2, memory, "persistence", "take landmarks")
    from scipy.spatial.distance import cdist

    table = cdist(x[rows], x[rows])
    # cdist need not be symmetric to the last bit
    return _of_table(np.minimum(table, table.T), max_dim, longest, engine, prime, memory, seconds, error)


def persistence_of_distances(
    d: Any, *, max_dim: int = 1, longest: float = math.inf, engine: str = "ripser", prime: int = 2, memory: float = MEMORY, seconds: float = SECONDS,
) -> Diagram:  # fmt: skip
    """The persistence diagram of a distance matrix; see `persistence`.

    Args:
        d: `(n, n)`, symmetric, zero on the diagonal, not negative; infinite means never joined.
        max_dim, longest, engine, prime, memory, seconds: as in `persistence`.

    Example:
        >>> import numpy as np, eqdyn as eq
        >>> eq.topology.persistence_of_distances(3.0 * (1 - np.eye(3))).bars[0].tolist()
        [[0.0, 3.0], [0.0, 3.0]]
    """
    return _of_table(distances(d), max_dim, longest, engine, prime, memory, seconds, 0.0)


def forecast(num: int, max_dim: int, degree: float | None = None) -> tuple[float, float]:
    """Bytes and seconds that a diagram will take, to within a small factor.

    Fitted to ripser on manifold clouds: 160 bytes a simplex of dimension max_dim + 1 or below, and times that grow with their number.

    Args:
        num: points.
        max_dim: highest degree.
        degree: mean number of neighbours within the cut; None for all others.

    Example:
        >>> import eqdyn as eq
        >>> memory, seconds = eq.topology.forecast(1024, 1)
        >>> 1e8 < memory < 1e9, seconds < 60
        (True, True)
    """
    near = num - 1 if degree is None else min(degree, num - 1)
    simplices = [num * math.prod((near - j) / (j + 2) if near > j else 0.0 for j in range(k)) for k in range(max_dim + 2)]
    columns, cofacets = simplices[max_dim], simplices[max_dim + 1]
    # what a column costs grows with the number of its cofacets
    return 32.0 * num**2 + 160.0 * columns, 4e-9 * cofacets * (1.0 if max_dim < 2 else max(1.0, near / 12))


def farthest_points(x: np.ndarray, count: int) -> tuple[np.ndarray, float]:
    """Farthest-point landmarks and the largest distance of a point to its nearest one."""
    rows = np.zeros(count, np.int64)
    near = np.sqrt(((x - x[0]) ** 2).sum(1))
    for k in range(1, count):
        rows[k] = int(near.argmax())
        np.minimum(near, np.sqrt(((x - x[rows[k]]) ** 2).sum(1)), out=near)
    return rows, float(near.max())


def _of_table(d: np.ndarray, max_dim: Any, longest: Any, engine: str, prime: Any, memory: float, seconds: float, error: float) -> Diagram:
    degree, prime, _ = asked(max_dim, prime, None)
    if engine not in ("ripser", "gudhi"):
        msg = f"engine: got {engine!r}; expected 'ripser' or 'gudhi'."
        raise ValueError(msg)
    if engine == "gudhi" and importlib.util.find_spec("gudhi") is None:
        msg = "engine: gudhi is missing; write pip install 'eqdyn[gudhi]', or engine='ripser'."
        raise ImportError(msg)
    try:
        longest = float(longest)
    except (TypeError, ValueError):
        longest = math.nan
    if not longest >= 0:
        msg = f"longest: got {longest}; expected a length >= 0."
        raise ValueError(msg)
    num = len(d)
    ends = _tree.deaths(num, d.__getitem__) if num > 1 else np.zeros(0)
    dying = ends[ends <= longest] if math.isfinite(longest) else ends[np.isfinite(ends)]
    bars = [np.stack([np.zeros(len(dying)), dying], 1)]
    essential = [np.zeros(num - len(dying))]
    largest = float(np.max(d, where=np.isfinite(d), initial=0.0))
    if degree > 0:
        higher = _higher(d, degree, min(longest, largest), engine, prime, memory, seconds) if largest > 0 else [np.zeros((0, 2))] * degree
        for bar in higher:
            alive = np.isinf(bar[:, 1])
            bars.append(bar[~alive])
            essential.append(bar[alive, 0])
    rounding = largest * float(np.finfo(np.float32 if engine == "ripser" else np.float64).eps)
    return Diagram(tuple(bars), tuple(essential), longest, rounding, error, "estimate" if error else "exact", prime, num)


def _higher(d: np.ndarray, degree: int, longest: float, engine: str, prime: int, memory: float, seconds: float) -> list[np.ndarray]:
    """Bars of degrees 1 ... `degree`, at a scale where float32 is at home."""
    scale = float(np.max(d, where=np.isfinite(d), initial=0.0))
    # the cone over the points ends all classes at the least eccentricity: nothing is left to die beyond
    reach = min(longest, float(d.max(1).min()))
    bytes_, time = forecast(len(d), degree, float(np.mean(np.sum(d <= reach, 1) - 1)))
    for got, budget, what, unit in ((bytes_ / 2**20, memory / 2**20, "memory", "MiB"), (time, seconds, "seconds", "s")):
        if got > budget:
            msg = (
                f"persistence: {len(d)} points up to degree {degree} would take about {got:.3g} {unit}, over the budget of {budget:.3g} {unit}; "
                f"take a lower max_dim, a cut (longest), landmarks, or {what}=... if you mean it; eq.topology.betti reads one scale at once."
            )
            raise MemoryError(msg)
    ask = (d / scale, degree, prime, (reach / scale) * (1 + 1e-6), engine)
    found = _worker.bars_of(*ask) if time < _AT_ONCE else _in_process(*ask, seconds=seconds)
    higher = []
    for bar in found[1:]:
        bar = bar * scale
        # what dies after the cut is alive at it
        higher.append(np.where((bar > longest) & (np.arange(2) == 1), np.inf, bar)[bar[:, 0] <= longest])
    return higher


def _in_process(d: np.ndarray, degree: int, prime: int, longest: float, engine: str, *, seconds: float) -> list[np.ndarray]:
    given = io.BytesIO()
    np.savez(given, d=d, max_dim=degree, prime=prime, longest=longest, engine=engine)
    # a session of its own: Ctrl-C reaches us alone, and we kill it
    with subprocess.Popen(
        [sys.executable, "-P", _worker.__file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        try:
            out, err = process.communicate(given.getvalue(), timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            msg = f"persistence: took longer than {seconds:g} s; take a lower max_dim, a cut (longest), landmarks, or seconds=..."
            raise TimeoutError(msg) from None
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        last = err.decode(errors="replace").strip().splitlines()
        msg = f"persistence: {engine} ended with status {process.returncode}: {last[-1] if last else 'no message (killed, or out of memory)'}"
        raise RuntimeError(msg)
    with np.load(io.BytesIO(out), allow_pickle=False) as bars:
        return [bars[str(k)] for k in range(degree + 1)]
