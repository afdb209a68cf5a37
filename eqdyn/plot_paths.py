"""Pictures of paths: dendrograms of runs, the loss on a sheet between two, a 2-cell along training, the loss around a minimum with its bars."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

_DARK, _LIGHT, _GREY = "#1f4e79", "#e08214", "#7f7f7f"
_MARKS = ("o", "^", "s", "D", "v", "P", "X", "*", "<", ">")


def dendrogram(
    tree: Any,
    *,
    delta: float | None = None,
    names: Sequence[str] | None = None,
    values: Any = None,
    what: str = "",
    unit: str = "loss",
    title: str = "",
) -> Any:
    """Which runs are joined at which level, and below it a number a run.

    Args:
        tree: `paths.Dendrogram`. What is never joined hangs from the top.
        delta: a level, drawn as a line; each run's mark below says its class there.
        names: of the runs; None numbers them.
        values: `(R,)`, a number a run, say test accuracy; None for none.
        what: what these are, with their unit.
        unit: of the levels.
        title: what was found.

    Returns:
        The matplotlib figure.

    Raises:
        ValueError: names or values that are not one a run.
    """
    import matplotlib.pyplot as plt

    named = [str(k) for k in range(tree.num)] if names is None else [str(name) for name in names]
    numbers = None if values is None else np.asarray(values, float)
    if len(named) != tree.num or (numbers is not None and numbers.shape != (tree.num,)):
        got = f"{len(named)} names" if numbers is None else f"{len(named)} names and values of shape {numbers.shape}"
        msg = f"names, values: got {got}; expected one for each of {tree.num} runs."
        raise ValueError(msg)
    order = _order(tree)
    place = {run: k for k, run in enumerate(order)}
    rows = 1 if numbers is None else 2
    fig, panels = plt.subplots(
        rows, 1, figsize=(max(5.0, 0.22 * tree.num + 2), 3.2 + 2.2 * (rows - 1)), layout="constrained", squeeze=False, sharex=True,
        height_ratios=(1.6, 1)[:rows],
    )  # fmt: skip
    top = panels[0, 0]
    finite = tree.levels[np.isfinite(tree.levels)]
    roof = 1.08 * float(finite.max()) if len(finite) and finite.max() > 0 else 1.0
    at: dict[int, tuple[float, float]] = {run: (float(place[run]), 0.0) for run in range(tree.num)}
    for k, (one, other, level, _) in enumerate(tree.merges):
        (x, low), (x_other, low_other) = at[int(one)], at[int(other)]
        high = level if np.isfinite(level) else roof
        top.plot([x, x, x_other, x_other], [low, high, high, low_other], color=_DARK if np.isfinite(level) else "white", linewidth=1.2)
        if not np.isfinite(level):
            top.plot([x, x], [low, roof], ":", color=_DARK, linewidth=1.0)
            top.plot([x_other, x_other], [low_other, roof], ":", color=_DARK, linewidth=1.0)
        at[tree.num + k] = ((x + x_other) / 2, high)
    top.set(ylabel=f"level at which they join [{unit}]", title=title, ylim=(0, roof))
    if delta is not None:
        top.axhline(delta, color=_LIGHT, linestyle="--", linewidth=1.2, label=f"level {delta:.3g}")
        top.legend(fontsize=8)
    bottom = panels[-1, 0]
    if numbers is not None:
        labels = tree.labels(delta) if delta is not None else np.zeros(tree.num, int)
        for one in range(labels.max() + 1):
            some = [k for k in range(tree.num) if labels[k] == one]
            bottom.plot([place[k] for k in some], numbers[some], _MARKS[one % len(_MARKS)], color=_DARK if one % 2 == 0 else _LIGHT, markersize=5)
        bottom.set(ylabel=what)
    bottom.set_xticks(range(tree.num), [named[run] for run in order], rotation=90 if max(map(len, named)) > 2 else 0, fontsize=7)
    bottom.set(xlabel="run")
    return fig


def _order(tree: Any) -> list[int]:
    """Runs from left to right, so that no lines cross."""
    held = {run: [run] for run in range(tree.num)}
    for k, (one, other, *_) in enumerate(tree.merges):
        held[tree.num + k] = held.pop(int(one)) + held.pop(int(other))
    return [run for part in held.values() for run in part]


def sheets(barriers: dict[str, Any], *, unit: str = "loss", title: str = "") -> Any:
    """The excess of the loss over the ends, on sheets between two runs, or on the way between two networks; on one scale.

    Args:
        barriers: by title, each of `paths.barrier`.
        unit: of the loss.
        title: what was found.

    Returns:
        The matplotlib figure. Infinite losses are white; the largest excess is marked.
    """
    import matplotlib.pyplot as plt

    known = np.concatenate([one.excess[np.isfinite(one.excess)].ravel() for one in barriers.values()])
    low, high = min(0.0, float(known.min())), max(float(known.max()), 1e-12)
    fig, panels = plt.subplots(1, len(barriers), figsize=(3.9 * len(barriers) + 0.9, 3.6), layout="constrained", squeeze=False)
    drawn = None
    for ax, (name, one) in zip(panels[0], barriers.items(), strict=True):
        if one.excess.ndim == 1:
            t = np.linspace(0, 1, len(one.excess))
            ax.plot(t, np.where(np.isfinite(one.excess), one.excess, np.nan), "o-", color=_DARK, markersize=4)
            ax.axhline(0, color=_GREY, linewidth=0.8)
            ax.set(xlabel="t, from one to the other", ylabel=f"loss above the higher end [{unit}]", ylim=(low - 0.05 * (high - low), 1.05 * high))
        else:
            drawn = ax.imshow(
                np.ma.masked_invalid(one.excess), origin="lower", extent=(0, 1, 0, 1), aspect="auto", cmap="cividis", vmin=low, vmax=high
            )  # fmt: skip
            s, t = ((k + 0.5) / length for k, length in zip(one.where, one.excess.shape, strict=True))
            ax.plot(t, s, "x", color="white", markersize=9, markeredgewidth=2)
            ax.set(xlabel="t, from one run to the other", ylabel="s, along training")
        ax.set_title(f"{name}: barrier {float(one):.3g}", fontsize=10)
    if drawn is not None:
        fig.colorbar(drawn, ax=panels[0].tolist(), label=f"loss above the higher end [{unit}]", shrink=0.9)
    fig.suptitle(title)
    return fig


def two_cells(cells: dict[str, Any], *, title: str = "") -> Any:
    """How well one run's representation gives the other's, along training, beside the controls.

    Args:
        cells: by title, each of `paths.two_cell`.
        title: what was found.

    Returns:
        The matplotlib figure.
    """
    import matplotlib.pyplot as plt

    fig, panels = plt.subplots(1, len(cells), figsize=(3.9 * len(cells), 3.4), layout="constrained", squeeze=False, sharey=True)
    for ax, (name, cell) in zip(panels[0], cells.items(), strict=True):
        at = np.arange(len(cell.r2))
        ax.fill_between(at, cell.folds.min(1), cell.folds.max(1), color=_DARK, alpha=0.2, linewidth=0)
        ax.plot(at, cell.r2, "o-", color=_DARK, markersize=4, label="the other run (band: folds)")
        ax.plot(at, cell.back, "^--", color=_GREY, markersize=4, label="the way back")
        ax.plot(at, cell.untrained, "s:", color=_LIGHT, markersize=4, label="untrained networks")
        ax.axhline(cell.thresholds.r2, color="0.6", linewidth=0.8)
        ax.set(xlabel="checkpoint [number]", ylim=(min(0.0, float(cell.folds.min()), float(cell.untrained.min())) - 0.02, 1.03))
        ax.set_title(f"{name}: {cell.verdict}", fontsize=10)
    panels[0, 0].set_ylabel("held-out $R^2$ of the affine map [1]")
    panels[0, 0].legend(fontsize=7, loc="lower left")
    fig.suptitle(title)
    return fig


def minima(found: dict[str, Any], *, unit: str = "loss", title: str = "") -> Any:
    """The loss on one plane through each minimum, that of the largest total persistence, and below it the bars of its sublevel sets.

    Args:
        found: by title, each of `paths.planes`.
        unit: of the loss.
        title: what was found.

    Returns:
        The matplotlib figure.
    """
    import matplotlib.pyplot as plt

    fig, panels = plt.subplots(2, len(found), figsize=(3.7 * len(found) + 0.8, 5.6), layout="constrained", squeeze=False, height_ratios=(2, 1))
    for k, (name, one) in enumerate(found.items()):
        most = int(np.argmax(one.totals.sum(1)))
        values, radius = one.losses[most], one.radius
        shown = panels[0, k].imshow(
            np.ma.masked_invalid(values), origin="lower", extent=(-radius, radius, -radius, radius), cmap="cividis", aspect="equal"
        )  # fmt: skip
        panels[0, k].contour(np.linspace(-radius, radius, one.num), np.linspace(-radius, radius, one.num), values, 8, colors="white", linewidths=0.5)
        panels[0, k].plot(0, 0, "x", color="white", markersize=8)
        panels[0, k].set(xlabel="first direction [size of the parameters]", ylabel="second direction [same]" if k == 0 else "")
        panels[0, k].set_title(f"{name}\ntotal persistence {one.total:.3g}, over the range {one.normalised:.3g}", fontsize=9)
        fig.colorbar(shown, ax=panels[0, k], label=f"loss [{unit}]", shrink=0.85)
        row = 0
        for degree, (bars, colour) in enumerate(zip(one.diagrams[most].bars, (_DARK, _LIGHT), strict=False)):
            for birth, death in bars[:12]:
                panels[1, k].plot([birth, death], [row, row], color=colour, linewidth=3, solid_capstyle="butt", label=f"degree {degree}")
                row += 1
        handles = dict(zip(*panels[1, k].get_legend_handles_labels()[::-1], strict=True))
        if handles:
            panels[1, k].legend(handles.values(), handles.keys(), fontsize=7)
        else:
            panels[1, k].text(0.5, 0.5, "no bar that dies", ha="center", va="center", transform=panels[1, k].transAxes, fontsize=9)
        panels[1, k].set(xlabel=f"level [{unit}]", yticks=[])
    panels[1, 0].set_ylabel("longest bars")
    fig.suptitle(title)
    return fig
