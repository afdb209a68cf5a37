"""Phase diagrams: where along the step size topology is kept, may break, breaks, and where the run diverges."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from eqdyn.plot import _pyplot

PHASES = ("kept", "could merge", "broken", "diverged", "not computed")
_COLOURS = ("#e8eef5", "#9db8d2", "#c8691c", "#2b2b2b", "#ffffff")  # light to dark, and told apart in grey
_DASHES = ("-", "--", ":", "-.")


def phases(found: Any) -> np.ndarray:
    """The phase of every point of a sweep's dataset, as places in `PHASES`, in the shape of `status`.

    Kept: every step seen is certified. Could merge: some step is not. Broken: somebody merged, or a variable `broken` is not zero.
    """
    status = np.asarray(found["status"].values).astype(str)
    phase = np.zeros(status.shape, int)
    for name, place in (("could_merge", 1), ("merged", 2), ("broken", 2)):
        for variable in found.data_vars:
            if str(variable).endswith(name) and found[variable].dims == found["status"].dims:
                phase = np.where(np.asarray(found[variable].values) > 0, np.maximum(phase, place), phase)
    return np.where(status == "ok", phase, np.where(status == "", 4, 3))


def thresholds(found: Any) -> dict[str, Any]:
    """What the start says of the step size, as data arrays over the grid without eta, from what a sweep kept of its first step:
    `1/K_pair` by the ledger, `1/lambda_max` and `2/lambda_max` by `observe.sharpness`.
    """
    lines: dict[str, Any] = {}
    for variable in found.data_vars:
        name = str(variable)
        if name.endswith("_q_first"):
            lines["1/K_pair"] = (found["eta"] / found[name]).median("eta")
        if name.endswith("sharpness_eta_lambda"):
            first = found[name].isel({found[name].dims[-1]: 0})
            lines |= {f"{k}/lambda_max": (k * found["eta"] / first).median("eta") for k in (1, 2)}
    return lines


def phase_diagram(found: Any, *, y: str | None = None, lines: Mapping[str, Any] | None = None, title: str = "", units: str = "[eta]") -> Any:
    """The phases of a sweep over the step size, with the thresholds that the start tells.

    Args:
        found: an `xarray.Dataset` of `eqdyn.sweep`, with "eta" among its axes.
        y: the name of the other axis; by default the first that is not eta. Each point of all further axes is a row of it.
        lines: data arrays of step sizes over the axes without eta, by name; by default `thresholds(found)`.
        title: what was found.
        units: of the step size.

    Returns:
        The matplotlib figure.

    Raises:
        ValueError: no axis "eta", or no axis of that name.
    """
    names = [str(name) for name in found["status"].dims]
    others = [name for name in names if name != "eta"]
    if "eta" not in names or (y is not None and y not in others):
        msg = f"found, y: got the axes {names} and y={y!r}; expected 'eta' among them, and y another one."
        raise ValueError(msg)
    plt = _pyplot()
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    lines = thresholds(found) if lines is None else lines
    order = list(dict.fromkeys(([y] if y else []) + others))
    etas = np.sort(np.asarray(found["eta"].values, float))
    whole = found.sortby("eta").transpose(*order, "eta", ...)
    phase = phases(whole).reshape(-1, len(etas))
    fig, ax = plt.subplots(figsize=(7.6, 4.8), layout="constrained")
    edges = _edges(etas)
    ax.pcolormesh(edges, np.arange(len(phase) + 1) - 0.5, phase, cmap=ListedColormap(_COLOURS), vmin=-0.5, vmax=len(PHASES) - 0.5)
    for dash, (name, line) in zip(_DASHES, lines.items(), strict=False):
        values = line.transpose(*order).values.reshape(-1) if order else np.atleast_1d(line.values)
        if not np.any((values >= edges[0]) & (values <= edges[-1])):
            name += ", off the axis"
        ax.plot(np.repeat(values, 2), np.ravel([[k - 0.5, k + 0.5] for k in range(len(values))]), dash, color="black", linewidth=1.3, label=name)
    if _by_factors(etas):
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        ax.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xlim(edges[0], edges[-1])
    _ticks(ax, whole, order)
    ax.set(xlabel=f"step size eta ({units})", title=title)
    shown = [Patch(facecolor=_COLOURS[k], edgecolor="grey", label=PHASES[k]) for k in np.unique(phase)]
    ax.legend(handles=[*shown, *ax.get_legend_handles_labels()[0]], fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return fig


def _by_factors(etas: np.ndarray) -> bool:
    """Whether step sizes are a factor apart rather than a difference."""
    if len(etas) < 3 or etas[0] <= 0:
        return False
    factors, steps = np.diff(np.log(etas)), np.diff(etas)
    return bool(factors.max() / factors.min() < steps.max() / steps.min())


def _edges(etas: np.ndarray) -> np.ndarray:
    """Between the step sizes, and as far beyond the first and the last."""
    if len(etas) == 1:
        return np.array([0.5, 1.5]) * etas
    log = _by_factors(etas)
    x = np.log(etas) if log else etas
    middle = (x[1:] + x[:-1]) / 2
    edges = np.concatenate([[2 * x[0] - middle[0]], middle, [2 * x[-1] - middle[-1]]])
    return np.exp(edges) if log else edges


def _ticks(ax: Any, whole: Any, order: list[str]) -> None:
    """Rows are points of all axes but eta: ticks name the first axis, and the second where there is room."""
    if not order:
        ax.set(yticks=[], ylabel="")
        return
    first, inner = order[0], int(np.prod([whole.sizes[name] for name in order[1:]]))
    values = whole[first].values
    step = max(1, len(values) // 16)
    ax.set_yticks([k * inner + (inner - 1) / 2 for k in range(0, len(values), step)], [str(value) for value in values[::step]])
    for k in range(1, len(values)):
        if inner > 1:
            ax.axhline(k * inner - 0.5, color="grey", linewidth=0.6)
    ax.set_ylabel(f"{first} (no unit)" + (f"; rows within: {', '.join(order[1:])}" if order[1:] else ""))
