"""Pictures of partitions: cells of a plane with values and data, a model's diagnosis, a run's checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

_DARK, _LIGHT = "#1f4e79", "#e08214"
_MARKS = ("o", "^", "s", "D", "v", "P", "X", "*", "<", ">")


def cells(
    partitions: Mapping[str, Any], values: Mapping[str, Any] | None = None, *, points: Any = None, labels: Any = None, unit: str = "",
    axes: tuple[str, str] = ("$z_1$ [z]", "$z_2$ [z]"), title: str = "",
) -> Any:  # fmt: skip
    """Cells of planes, side by side on one scale, coloured by a value each, with the data.

    Args:
        partitions: by title, each `partition.Partition` of a plane.
        values: by the same titles, `(n,)` each; None for no colour. NaN is white. A scale from the 2nd to the 98th percentile of all.
        points: data `(num, 2)`, drawn on each.
        labels: `(num,)` classes of the points, a mark each.
        unit: what the values are, with their unit.
        axes: labels.
        title: what was found.

    Returns:
        The matplotlib figure.

    Raises:
        ValueError: a partition that is not of a plane, or values that do not fit.
    """
    import matplotlib.pyplot as plt
    from matplotlib.collections import PolyCollection

    shown = {} if values is None else {name: np.asarray(value, float) for name, value in values.items()}
    for name, found in partitions.items():
        if found.centres.shape[1] != 2 or (shown and shown[name].shape != (len(found.codes),)):
            got = f"dimension {found.centres.shape[1]}, {len(found.codes)} cells"
            msg = f"partitions[{name!r}]: got {got}; expected a plane, and a value for each cell."
            raise ValueError(msg)
    known = np.concatenate([value[np.isfinite(value)] for value in shown.values()]) if shown else np.zeros(0)
    low, high = np.percentile(known, [2, 98]) if len(known) else (0.0, 1.0)
    fig, panels = plt.subplots(1, len(partitions), figsize=(4.6 * len(partitions) + 0.8, 4.6), layout="constrained", squeeze=False)
    drawn = None
    for ax, (name, found) in zip(panels[0], partitions.items(), strict=True):
        outlines = [_outline(cell.vertices) for cell in found.cells]
        drawn = PolyCollection(outlines, edgecolors="#404040", linewidths=0.4, cmap="cividis", facecolors=None if shown else "white")
        if shown:
            drawn.set_array(np.ma.masked_invalid(shown[name]))
            drawn.set_clim(low, high if high > low else low + 1)
        ax.add_collection(drawn)
        _scatter(ax, points, labels)
        corners = np.concatenate(outlines)
        ax.set(xlim=(corners[:, 0].min(), corners[:, 0].max()), ylim=(corners[:, 1].min(), corners[:, 1].max()), title=name, aspect="equal")
        ax.set(xlabel=axes[0], ylabel=axes[1])
    if shown and drawn is not None:
        fig.colorbar(drawn, ax=panels[0].tolist(), label=unit, shrink=0.85, extend="both")
    fig.suptitle(title)
    return fig


def _scatter(ax: Any, points: Any, labels: Any) -> None:
    if points is None:
        return
    z = np.asarray(points)
    kinds = np.zeros(len(z), int) if labels is None else np.asarray(labels)
    for k, kind in enumerate(np.unique(kinds)):
        rows = kinds == kind
        ax.scatter(
            *z[rows].T, s=9, marker=_MARKS[k % len(_MARKS)], facecolors="white" if k % 2 else "black", edgecolors="black", linewidths=0.4, zorder=3
        )


def _outline(vertices: np.ndarray) -> np.ndarray:
    away = vertices - vertices.mean(0)
    return vertices[np.argsort(np.arctan2(away[:, 1], away[:, 0]))]


def diagnosis(found: Any, *, title: str = "") -> Any:
    """Cells per mass, and the error rate of test points against the curvature of their cell, with 95 % intervals.

    Args:
        found: what `partition.diagnose` returns.
        title: what was found.

    Returns:
        The matplotlib figure.
    """
    import matplotlib.pyplot as plt

    fig, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.9), layout="constrained")
    mass = found.masses
    steps = np.geomspace(mass.min() / 1.1, mass.max() * 1.1, 25)
    left.hist(mass, bins=steps, color=_DARK)
    left.set(xscale="log", yscale="log", xlabel="mass of a cell [share of the data]", ylabel="cells [number]")
    left.set_title(f"{len(mass):,} cells with data, entropy {found.entropy:.2f} of {np.log(max(len(mass), 1)):.2f} nats", fontsize=10)
    middle = (found.edges[1:] + found.edges[:-1]) / 2
    right.errorbar(middle, found.rate, [found.rate - found.low, found.high - found.rate], fmt="o", color=_DARK, capsize=3)
    right.hlines(found.rate, found.edges[:-1], found.edges[1:], color=_DARK, linewidth=1)
    if found.elsewhere[0]:
        right.axhline(found.elsewhere[1], color=_LIGHT, linestyle="--", label=f"cells without a curvature ({found.elsewhere[0]:,} points)")
        right.legend(fontsize=8)
    right.set(xlabel=f"{found.name}, mean over the cell's facets [1]", ylabel="error rate of test points [1]", ylim=(0, None))
    right.set_title(f"rank correlation {found.spearman[0]:+.3f}", fontsize=10)
    fig.suptitle(title)
    return fig


def checkpoints(runs: Mapping[str, Any], *, marks: Mapping[str, Any] | None = None, title: str = "") -> Any:
    """Numbers of cells, of distinct neurons, entropy of masses and curvature along runs.

    Args:
        runs: by name, each what `partition.along` returns.
        marks: by the same names, steps to mark (merges).
        title: what was found.

    Returns:
        The matplotlib figure.
    """
    import matplotlib.pyplot as plt

    rows = (
        ("num_cells", "cells [number]"), ("num_neurons", "distinct neurons [number]"), ("entropy", "entropy of masses [nats]"),
        ("ricci_ollivier", "mean Ollivier curvature [1]"),
    )  # fmt: skip
    fig, panels = plt.subplots(2, 2, figsize=(9.6, 6), layout="constrained", sharex=True)
    styles = ((_DARK, "-", "o"), (_LIGHT, "--", "s"), ("#4d4d4d", ":", "^"))
    for ax, (field, label) in zip(panels.ravel(), rows, strict=True):
        for k, (name, run) in enumerate(runs.items()):
            color, line, mark = styles[k % len(styles)]
            values = getattr(run, field)
            ax.plot(run.steps, values.sum(1) if values.ndim == 2 else values, line, color=color, marker=mark, markersize=3.5, label=name)
            for step in (marks or {}).get(name, ()):
                ax.axvline(step, color=color, linewidth=0.6, linestyle=line)
        ax.set_ylabel(label)
    for ax in panels[1]:
        ax.set_xlabel("step")
    panels[0, 0].legend(fontsize=8)
    fig.suptitle(title)
    return fig
