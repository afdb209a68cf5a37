"""Pictures. Axes carry labels and units, colours work in grey, titles say what was found. matplotlib loads when used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

_STYLES = (("#1f4e79", "-"), ("#e08214", "--"), ("#4d4d4d", ":"), ("#7fbf7b", "-."))  # dark to light, and told apart by their dashes


def _pyplot() -> Any:
    import matplotlib.pyplot as plt

    return plt


def configurations(clouds: Mapping[str, Any], *, labels: tuple[str, str] = ("incoming weight w", "outgoing weight a"), title: str = "") -> Any:
    """Configurations in the plane side by side, each with axes of its own: shape is what is compared, not size.

    Args:
        clouds: `(n, 2)` by panel title.
        labels: of the axes; weights have no unit here.
        title: what was found.

    Returns:
        The matplotlib figure.
    """
    plt = _pyplot()
    fig, axes = plt.subplots(1, len(clouds), figsize=(4.2 * len(clouds), 3.8), layout="constrained", squeeze=False)
    for ax, (name, x) in zip(axes[0], clouds.items(), strict=True):
        x = np.asarray(x)
        if x.ndim != 2 or x.shape[1] != 2:
            msg = f"clouds[{name!r}]: got shape {x.shape}; expected (n, 2)."
            raise ValueError(msg)
        ax.plot(x[:, 0], x[:, 1], ".", color=_STYLES[0][0], markersize=3, alpha=0.6)
        ax.set(xlabel=f"{labels[0]} (no unit)", ylabel=f"{labels[1]} (no unit)", title=name)
    fig.suptitle(title)
    return fig


def along_run(curves: Mapping[str, tuple[Any, Any]], *, levels: Mapping[str, float] | None = None, ylabel: str, title: str) -> Any:
    """Curves over steps on a logarithmic axis, with horizontal levels where something changes.

    Args:
        curves: `(steps, values)` by name; values that are not positive are left out.
        levels: height by name.
        ylabel: with its unit.
        title: what was found.

    Returns:
        The matplotlib figure.
    """
    plt = _pyplot()
    fig, ax = plt.subplots(figsize=(7.5, 4.2), layout="constrained")
    for (name, (steps, values)), (colour, dash) in zip(curves.items(), _cycle(len(curves)), strict=True):
        values = np.asarray(values, float)
        ax.plot(np.asarray(steps) + 1, np.where(values > 0, values, np.nan), dash, color=colour, label=name, linewidth=1.4)
    for name, height in (levels or {}).items():
        ax.axhline(height, color="black", linewidth=0.8)
        ax.annotate(
            name,
            (1, height),
            xycoords=("axes fraction", "data"),
            xytext=(-4, -10),
            textcoords="offset points",
            ha="right",
            fontsize=8,
            bbox={"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 1},
        )
    ax.set(xscale="log", yscale="log", xlabel="step (count, from 1)", ylabel=ylabel, title=title)
    ax.legend(fontsize=8)
    return fig


def _cycle(count: int) -> Sequence[tuple[str, str]]:
    return [_STYLES[k % len(_STYLES)] for k in range(count)]


_VERDICTS = {"holds": ("#ffffff", "holds"), "not refuted": ("#e6e6e6", "not\nrefuted"), "unresolved": ("#b0b0b0", "?"), "fails": ("#1f4e79", "FAILS")}


def law_matrix(reports: Mapping[str, Any], *, title: str = "") -> Any:
    """Rules x laws: one square a verdict, "?" for what is unresolved; dark squares are laws that fail.

    Args:
        reports: of `eq.check`, by the name of the rule; all with the same laws.
        title: what was found.

    Returns:
        The matplotlib figure.
    """
    plt = _pyplot()
    laws = list(next(iter(reports.values())).laws)
    fig, ax = plt.subplots(figsize=(2.5 + 0.72 * len(laws), 1.6 + 0.42 * len(reports)), layout="constrained")
    for i, report in enumerate(reports.values()):
        for j, law in enumerate(laws):
            colour, word = _VERDICTS[report.laws[law].verdict]
            ax.add_patch(plt.Rectangle((j, i), 1, 1, facecolor=colour, edgecolor="#808080", linewidth=0.6))
            ax.text(j + 0.5, i + 0.5, word, ha="center", va="center", fontsize=7, color="white" if word == "FAILS" else "black")
    ax.set(xlim=(0, len(laws)), ylim=(len(reports), 0), xlabel="law", ylabel="rule", title=title)
    ax.set_xticks([j + 0.5 for j in range(len(laws))], [law.replace(" ", "\n", 1) for law in laws], fontsize=8)
    ax.set_yticks([i + 0.5 for i in range(len(reports))], list(reports), fontsize=8)
    ax.tick_params(length=0)
    return fig


def in_space(clouds: Mapping[str, Any], *, title: str) -> Any:
    """Configurations of any dimension, side by side, through their first three principal directions; colour is the particle's
    place along the first direction of the first cloud, so that neurons can be followed.

    Args:
        clouds: `(n, d)` by panel title, the same particles in each.
        title: what was found.

    Returns:
        The matplotlib figure.
    """
    plt = _pyplot()
    fig = plt.figure(figsize=(4.4 * len(clouds), 4.2), layout="constrained")
    shade = None
    for k, (name, x) in enumerate(clouds.items()):
        centred = np.asarray(x, float) - np.mean(x, axis=0)
        _, singular, directions = np.linalg.svd(centred, full_matrices=False)
        y = centred @ directions[:3].T
        share = float(np.sum(singular[:3] ** 2) / np.sum(singular**2))
        shade = y[:, 0] if shade is None else shade
        ax = fig.add_subplot(1, len(clouds), k + 1, projection="3d")
        ax.scatter(*y.T, c=shade, cmap="cividis", s=9, depthshade=False)
        ax.set(xlabel="PC 1 (weight)", ylabel="PC 2 (weight)", zlabel="PC 3 (weight)")
        ax.set_title(f"{name}\n{share:.0%} of the variance shown", fontsize=10)
    fig.suptitle(title)
    return fig


def save(fig: Any, path: Any) -> None:
    """Write a figure as PNG and close it."""
    fig.savefig(path, dpi=130)
    _pyplot().close(fig)
