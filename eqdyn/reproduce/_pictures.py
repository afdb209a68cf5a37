"""The paper's figures in its layout, and clouds in space that can be turned in a browser."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

_STYLES = (("#6f9fcf", "-"), ("#e08214", "--"), ("#000000", ":"))  # told apart in grey by their dashes
_WIDTHS = (3.0, 1.8, 1.6)  # the dotted line shows on the solid one, where both are 1
_VIEWS = ((22, -58), (6, -4))  # elevation and azimuth, degrees: onto the sheet from the side, and along w1, through its holes


def _pyplot() -> Any:
    import matplotlib.pyplot as plt

    return plt


def in_space(clouds: Mapping[str, Any], *, title: str) -> Any:
    """Clouds `(n, 3)` of neurons (w1, w2, a) side by side, each seen from two sides; colour is the place at the start."""
    plt = _pyplot()
    fig = plt.figure(figsize=(4.2 * len(clouds), 4.0 * len(_VIEWS)), layout="constrained")
    first = np.asarray(next(iter(clouds.values())))
    for row, (elevation, azimuth) in enumerate(_VIEWS):
        for column, (name, x) in enumerate(clouds.items()):
            ax = fig.add_subplot(len(_VIEWS), len(clouds), row * len(clouds) + column + 1, projection="3d")
            ax.scatter(*np.asarray(x).T, c=first[:, 1], cmap="cividis", s=2, depthshade=False)
            ax.view_init(elevation, azimuth)
            ax.set(xlabel="w1 (weight)", ylabel="w2 (weight)", zlabel="a (weight)")
            if row == 0:
                ax.set_title(name, fontsize=10)
    fig.suptitle(title)
    return fig


def betti_curves(large: np.ndarray, small: np.ndarray, *, title: str, names: tuple[str, str]) -> Any:
    """Betti numbers by epoch, mean and standard deviation over runs `(runs, epochs + 1, 3)`: large step outside, small one in the inset."""
    plt = _pyplot()
    fig, ax = plt.subplots(figsize=(7.5, 4.8), layout="constrained")
    _bands(ax, large)
    ax.set(xlabel="epoch", ylabel="Betti number at diameter/4 (count)", title=f"{title}\n{names[0]}; inset: {names[1]}")
    top = max(1.0, float(np.max(large.mean(axis=0) + large.std(axis=0))))
    ax.set_ylim(-0.04 * top, 2.3 * top)  # room for the inset above every curve
    ax.legend(loc="upper left", fontsize=9)
    inset = ax.inset_axes((0.5, 0.56, 0.48, 0.41))
    _bands(inset, small)
    inset.tick_params(labelsize=7)
    return fig


def betti_and_sharpness(rows: Mapping[str, tuple[np.ndarray, np.ndarray, float]], *, title: str) -> Any:
    """Betti numbers above, 1/K below, a column for each step size: `(betti (runs, t, 3), inverse_k (runs, t), eta)` by name."""
    plt = _pyplot()
    fig, axes = plt.subplots(2, len(rows), figsize=(5.2 * len(rows), 6.4), layout="constrained", squeeze=False, sharex="col")
    for column, (name, (betti, inverse, eta)) in enumerate(rows.items()):
        _bands(axes[0, column], betti)
        axes[0, column].set(ylabel="Betti number at diameter/4 (count)", title=name)
        below = axes[1, column]
        epochs = np.arange(inverse.shape[1])
        middle, spread = np.nanmean(inverse[:, :-1], axis=0), np.nanstd(inverse[:, :-1], axis=0)
        below.plot(epochs[:-1], middle, color=_STYLES[0][0], label="1/lambda_max")
        below.fill_between(epochs[:-1], middle - spread, middle + spread, color=_STYLES[0][0], alpha=0.2, linewidth=0)
        below.axhline(eta, color=_STYLES[1][0], linestyle="--", label=f"step size {eta:g}")
        below.set(xlabel="epoch", ylabel="1/lambda_max (step size)", yscale="log")
        below.legend(fontsize=8)
    axes[0, 0].legend(fontsize=8)
    fig.suptitle(title)
    return fig


def _bands(ax: Any, runs: np.ndarray) -> None:
    middle, spread = runs.mean(axis=0), runs.std(axis=0)
    epochs = np.arange(runs.shape[1])
    for axis in (ax.xaxis, ax.yaxis):
        axis.get_major_locator().set_params(integer=True)
    for degree, (colour, dash) in enumerate(_STYLES):
        ax.plot(epochs, middle[:, degree], dash, color=colour, label=f"b{degree}", linewidth=_WIDTHS[degree])
        low = np.maximum(middle[:, degree] - spread[:, degree], 0)  # counts
        ax.fill_between(epochs, low, middle[:, degree] + spread[:, degree], color=colour, alpha=0.2, linewidth=0)


def page(path: Path, clouds: Mapping[str, Any], *, title: str, lines: Sequence[str]) -> None:
    """An HTML page of clouds `(n, 3)` side by side, turned together by dragging; needs nothing from elsewhere."""
    first = np.asarray(next(iter(clouds.values())))[:, 1]
    shade = (first - first.min()) / max(float(np.ptp(first)), 1e-30)
    held = {name: _unit(np.asarray(x)).round(4).tolist() for name, x in clouds.items()}
    parts = {"TITLE": _escaped(title), "LINES": "".join(f"<li>{_escaped(line)}</li>" for line in lines)}
    template = (resources.files("eqdyn.reproduce") / "clouds.html").read_text()
    text = template.replace("CLOUDS", json.dumps(held)).replace("SHADE", json.dumps(shade.round(3).tolist()))
    for word, value in parts.items():
        text = text.replace(word, value)
    path.write_text(text)


def _unit(x: np.ndarray) -> np.ndarray:
    """Centred, each axis as long as it is against the others: shape is what is compared, not size."""
    centred = x - x.mean(axis=0)
    return centred / max(float(np.abs(centred).max()), 1e-30)


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
