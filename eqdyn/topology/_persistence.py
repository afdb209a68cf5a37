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
from eqdyn.topology._table import all_between, lengths

MEMORY = 2**32  # bytes that a computation may be forecast to take
SECONDS = 600.0
_AT_ONCE = 2e5  # simplices that last 0.3 s at the very worst (random distances of 110 points): done at once, without a process
# what a process without memory says; a library that cannot even throw, for want of its thread's data, aborts
_NO_MEMORY = (b"bad_alloc", b"MemoryError", b"annot allocate memory", b"failed to map segment")
_ALL = 2.0  # in units of the largest distance: beyond all that are finite


def persistence(
    points: Any, *, max_dim: int = 1, longest: float = math.inf, landmarks: int | None = None, engine: str = "ripser", prime: int = 2,
    memory: float = MEMORY, seconds: float = SECONDS,
) -> Diagram:  # fmt: skip
    """The persistence diagram of the Rips filtration of points.

    Degree 0 comes from the minimum spanning tree in float64; higher degrees from ripser (which rounds distances to float32) or
    GUDHI, in a process of its own unless it is tiny: Ctrl-C ends it at once. Memory and time are forecast (`forecast`) and refused
    over a budget; what gets going all the same is killed at it.

    Args:
        points: `(n, d)`, real.
        max_dim: highest degree, 0 to 3.
        longest: the filtration is cut at this edge length, [points].
        landmarks: None for all points, or how many farthest-point landmarks stand for them; the error is then at most twice
            the distance of any point to its landmark (Hausdorff distance; stability), and stated.
        engine: "ripser" or "gudhi" (`eqdyn[gudhi]`).
        prime: characteristic of the field.
        memory: bytes, the budget of the engine; a computation that takes more is ended (Linux).
        seconds: the budget of the engine; a computation that takes longer is killed.

    Returns:
        `Diagram`.

    Raises:
        ValueError: arguments that make no sense.
        MemoryError: the forecast exceeds a budget, or the computation that of memory.
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
    how = _asked(max_dim, prime, longest, engine)
    error, rows = 0.0, np.arange(len(x))
    if landmarks is not None:
        count = _checks.count(landmarks, "landmarks", least=1)
        rows, cover = farthest_points(x, min(count, len(x)))
        error = 2 * cover
    _checks.fits_budget(16 * len(rows) ** 2, memory, "persistence", "take landmarks")
    # landmarks that are fewer are an estimate even at no distance: bars of coincident points are lost
    return _of_table(all_between(x[rows]), how, memory, seconds)._replace(error=error, kind="exact" if len(rows) == len(x) else "estimate")


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
    return _of_table(distances(d), _asked(max_dim, prime, longest, engine), memory, seconds)


def forecast(num: int, max_dim: int, degree: Any = None, *, engine: str = "ripser") -> tuple[float, float]:
    """Bytes and seconds that a diagram will take, from the number of simplices up to dimension max_dim + 1.

    ripser is reckoned with 100 to 400 bytes a column (simplex of dimension max_dim) and 35 to 80 ns a simplex of the dimension above.
    Clouds of 40 to 2,000 points were measured to take a third to three times the memory, and a fifteenth (large spheres) to three
    times (circles) the time; random distances, which no points have, a hundred times. GUDHI keeps all simplices, 80 bytes and 1 us each.

    Args:
        num: points.
        max_dim: highest degree.
        degree: number of neighbours within the cut, the mean or one for every point `(num,)`, which unequal ones need; None for all.
        engine: "ripser" or "gudhi".

    Example:
        >>> import eqdyn as eq
        >>> memory, seconds = eq.topology.forecast(1024, 1)
        >>> 1e8 < memory < 1e9, seconds < 60
        (True, True)
    """
    num, max_dim = _checks.count(num, "num", least=1), _checks.count(max_dim, "max_dim")
    simplices = _simplices(num, max_dim, degree)
    if engine == "gudhi":
        return 32.0 * num**2 + 80.0 * sum(simplices), 1e-6 * sum(simplices)
    # ripser looks at all points for each column, neighbours or not
    time = (3.5e-8 if max_dim < 3 else 8e-8) * simplices[-1] + 3e-9 * num * simplices[-2]
    return 32.0 * num**2 + (400.0 if max_dim < 2 else 100.0) * simplices[-2], time


def _simplices(num: int, max_dim: int, degree: Any) -> list[float]:
    """At most how many of dimension 0 ... max_dim + 1: those of a point are sets of its neighbours, each counted from all its vertices."""
    near = np.clip(num - 1.0 if degree is None else np.asarray(degree, np.float64), 0, num - 1.0) * np.ones(num)
    found, sets = [float(num)], np.ones(num)
    for k in range(1, max_dim + 2):
        sets = sets * np.maximum(near - k + 1, 0) / k
        found.append(float(sets.sum()) / (k + 1))
    return found


def farthest_points(x: np.ndarray, count: int) -> tuple[np.ndarray, float]:
    """Farthest-point landmarks and the largest distance of a point to its nearest one."""
    rows = np.zeros(count, np.int64)
    near = lengths(x - x[0])
    for k in range(1, count):
        near[rows[k - 1]] = -1.0  # nobody twice, even where all that are left coincide with landmarks
        rows[k] = int(near.argmax())
        np.minimum(near, lengths(x - x[rows[k]]), out=near)
    return rows, max(0.0, float(near.max()))


def _asked(max_dim: Any, prime: Any, longest: Any, engine: str) -> tuple[int, int, float, str]:
    """The arguments, before anything is computed."""
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
    return degree, prime, longest, engine


def _of_table(d: np.ndarray, how: tuple[int, int, float, str], memory: float, seconds: float) -> Diagram:
    degree, prime, longest, engine = how
    num = len(d)
    ends = _tree.deaths(num, d.__getitem__) if num > 1 else np.zeros(0)
    dying = ends[ends <= longest] if math.isfinite(longest) else ends[np.isfinite(ends)]
    bars = [np.stack([np.zeros(len(dying)), dying], 1)]
    essential = [np.zeros(num - len(dying))]
    largest = float(np.max(d, where=np.isfinite(d), initial=0.0))
    # the cone over the points ends all classes at the least eccentricity: nothing is left to die beyond
    cone = float(d.max(1).min())
    if degree > 0:
        higher = _higher(d, min(longest, cone), largest or 1.0, how, memory, seconds) if cone > 0 else [np.zeros((0, 2))] * degree
        for bar in higher:
            alive = np.isinf(bar[:, 1])
            bars.append(bar[~alive])
            essential.append(bar[alive, 0])
    rounding = largest * float(np.finfo(np.float32 if engine == "ripser" else np.float64).eps)
    return Diagram(tuple(bars), tuple(essential), longest, rounding, 0.0, "exact", prime, num)


def _higher(d: np.ndarray, reach: float, scale: float, how: tuple[int, int, float, str], memory: float, seconds: float) -> list[np.ndarray]:
    """Bars of degrees 1 and up, up to `reach`, at a scale where float32 is at home."""
    degree, prime, _, engine = how
    near = d <= min(reach, scale)
    degrees = np.sum(near, 1) - 1
    bytes_, time = forecast(len(d), degree, degrees, engine=engine)
    for got, budget, what, unit in ((bytes_ / 2**20, memory / 2**20, "memory", "MiB"), (time, seconds, "seconds", "s")):
        if got > budget:
            msg = (
                f"persistence: {len(d)} points up to degree {degree} would take about {got:.3g} {unit}, over the budget of {budget:.3g} {unit}; "
                f"take a lower max_dim, a cut (longest), landmarks, or {what}=... if you mean it; eq.topology.betti reads one scale at once."
            )
            raise MemoryError(msg)
    # what is beyond the cut is no edge: float32 then cannot carry a birth or death across it
    given = np.where(near, d / scale, np.inf).astype(np.float32 if engine == "ripser" else np.float64)
    simplices = _simplices(len(d), degree, degrees)
    few = sum(simplices) < _AT_ONCE and len(d) * sum(simplices[:-1]) < 50 * _AT_ONCE  # ripser looks at all points for each
    ask = (given, degree, prime, _ALL, engine)
    found = _worker.bars_of(*ask) if few else _in_process(*ask, memory=memory, seconds=seconds)
    return [np.where(np.isinf(bar), np.inf, np.minimum(bar * scale, reach)) for bar in found[1:]]


def _in_process(d: np.ndarray, degree: int, prime: int, longest: float, engine: str, *, seconds: float, memory: float = MEMORY) -> list[np.ndarray]:
    given = io.BytesIO()
    np.savez(given, d=d, max_dim=degree, prime=prime, longest=longest, engine=engine, memory=min(memory, 2.0**62))
    # a session of its own: Ctrl-C reaches us alone, and we kill it
    with subprocess.Popen(
        [sys.executable, "-P", _worker.__file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        try:
            out, err = process.communicate(given.getvalue(), timeout=min(seconds, 2e6))
        except subprocess.TimeoutExpired:
            process.kill()
            msg = f"persistence: took longer than {seconds:g} s; take a lower max_dim, a cut (longest), landmarks, or seconds=..."
            raise TimeoutError(msg) from None
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        if any(sign in err for sign in _NO_MEMORY):
            msg = (
                f"persistence: {engine} needs more than the budget of {memory / 2**20:.3g} MiB; "
                "take a lower max_dim, a cut (longest), landmarks, or memory=... if you mean it."
            )
            raise MemoryError(msg)
        last = err.decode(errors="replace").strip().splitlines()
        msg = f"persistence: {engine} ended with status {process.returncode}: {last[-1] if last else 'no message (killed, or out of memory)'}"
        raise RuntimeError(msg)
    with np.load(io.BytesIO(out), allow_pickle=False) as bars:
        return [bars[str(k)] for k in range(degree + 1)]
