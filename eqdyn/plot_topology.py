"""Pictures of topology: barcodes with the bars that must survive, and Betti numbers read along a run."""

from __future__ import annotations

from typing import Any

import numpy as np

_DARK, _LIGHT, _GREY = "#1f4e79", "#e08214", "#8c8c8c"
_STYLES = ((_DARK, "-"), (_LIGHT, "--"), ("#4d4d4d", ":"), ("#7fbf7b", "-."))
MOST = 15  # bars of a degree that are drawn


def barcode(diagram: Any, *, certified: Any = None, unit: str = "[x]", title: str = "") -> Any:
    """The bars of a diagram on a logarithmic axis, longest ratio first; those that must survive a stretch thick and dark.

    A length on this axis is a ratio death / birth: a bar is certified where it is longer than the ratio high / low of the stretch.

    Args:
        diagram: `topology.Diagram`; the longest 15 bars of each degree are drawn, those of degree 0 from the smallest birth shown.
        certified: None, or `CertifiedBars` of one degree or several of them.
        unit: of the edge length.
        title: what was found.

    Returns:
        The matplotlib figure.
    """
    import matplotlib.pyplot as plt

    several = () if certified is None else [certified] if hasattr(certified, "degree") else certified
    marked = {one.degree: one for one in several}
    bars = {degree: diagram.all_bars(degree)[:MOST] for degree in range(diagram.max_dim + 1)}
    ends = np.concatenate([found[np.isfinite(found) & (found > 0)] for found in bars.values()])
    low, high = (0.8 * ends.min(), 1.25 * ends.max()) if len(ends) else (0.5, 2.0)
    height = max(2.6, 0.13 * sum(map(len, bars.values())) + 1.5)
    fig, ax = plt.subplots(figsize=(7.8, height), layout="constrained")
    row, ticks = 0, []
    for degree, found in bars.items():
        first = row
        for k, (birth, death) in enumerate(found):
            must = degree in marked and k < len(marked[degree].certified) and bool(marked[degree].certified[k])
            ax.plot(
                [max(birth, low), min(death, high)], [row, row], color=_DARK if must else _GREY, linewidth=3.2 if must else 1.2, solid_capstyle="butt"
            )
            if not np.isfinite(death):
                ax.plot(high, row, ">", color=_DARK if must else _GREY, markersize=5)
            row -= 1
        ticks.append(((first + row + 1) / 2, f"degree {degree}"))
        ax.axhline(row + 0.5, color="black", linewidth=0.4)
    for one in marked.values():
        ax.plot([], [], color=_DARK, linewidth=3.2, label=f"degree {one.degree}: must survive, death / birth > {one.high / max(one.low, 1e-300):.3g}")
    ax.plot([], [], color=_GREY, linewidth=1.2, label="may vanish" if marked else "bars")
    ax.set(xscale="log", xlim=(low, high), xlabel=f"edge length {unit}", title=title)
    ax.set_yticks([at for at, _ in ticks], [words for _, words in ticks])
    ax.legend(fontsize=8, loc="best")
    return fig


def readings(series: Any, *, marks: Any = None, title: str = "") -> Any:
    """Betti numbers read along a run, a panel a degree; gaps where nothing was read.

    Args:
        series: what `observe.betti()` was read as, of one lane.
        marks: None, or steps to be marked, by name.
        title: what was found.

    Returns:
        The matplotlib figure.

    Raises:
        ValueError: the readings of several lanes, or groups.
    """
    if isinstance(series.values, dict):
        msg = f"series: got readings by group, {sorted(series.values)}; expected those of one; write Series(steps, values[name])."
        raise ValueError(msg)
    values = np.asarray(series.values)
    if values.ndim != 2:
        msg = f"series: got readings of shape {values.shape}; expected (t, degrees) of one lane; write Series(steps, values[0])."
        raise ValueError(msg)
    import matplotlib.pyplot as plt

    fig, axes = plt.subplots(values.shape[1], 1, figsize=(7.8, 1.1 + 1.5 * values.shape[1]), layout="constrained", sharex=True, squeeze=False)
    for degree, ax in enumerate(axes[:, 0]):
        colour, _ = _STYLES[degree % len(_STYLES)]
        shown = np.where(values[:, degree] >= 0, values[:, degree], np.nan)
        ax.step(np.asarray(series.steps), shown, where="post", color=colour, linewidth=1.3)
        for name, at in (marks or {}).items():
            ax.axvline(at, color="black", linewidth=0.9, linestyle=":", label=name)
        ax.set(ylabel=f"b{degree} (count)")
        ax.set_ylim(-0.3, np.nanmax(shown, initial=1.0) * 1.1 + 0.3)
        if marks and degree == 0:
            ax.legend(fontsize=8)
    axes[-1, 0].set_xlabel("step (count)")
    fig.suptitle(title)
    return fig
