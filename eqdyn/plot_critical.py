"""Pictures of critical step sizes: the stretch of every pair against eta, and the ledger of a run."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

_DARK, _LIGHT, _GREY = "#1f4e79", "#e08214", "#4d4d4d"
_MARKS = {
    "sharpness": ("sharpness: 1/K, an estimate", ":"),
    "pair": ("pair: 1/K_pair", "-"),
    "one_sided": ("one-sided: 1/mu", "--"),
    "fold": ("fold at a particle", "-."),
}


def stretch_curve(found: Any, *, etas: Any = None, eta: Mapping[str, float] | None = None, title: str = "") -> Any:
    """The range of the pair stretch against the step size, with the critical step sizes on the axis.

    Args:
        found: what `eq.critical` gave.
        etas: step sizes; None for those of `found.stretch()`.
        eta: step sizes of one's own to be marked, by name.
        title: what was found.

    Returns:
        The matplotlib figure.
    """
    import matplotlib.pyplot as plt

    curve = found.stretch(etas)
    fig, ax = plt.subplots(figsize=(9.5, 4.4), layout="constrained")
    ax.fill_between(curve.eta, curve.low, curve.high, color=_DARK, alpha=0.18, linewidth=0, label="all pairs")
    ax.plot(curve.eta, curve.low, color=_DARK, linewidth=1.6, label="closest: smallest stretch")
    ax.plot(curve.eta, curve.high, color=_DARK, linewidth=1.0, linestyle="--", label="largest stretch")
    fastest = found.one_sided.value + np.nan_to_num(found.one_sided.error)  # where rounding hides pairs, the largest that is possible
    ax.plot(curve.eta, np.maximum(1 - curve.eta * fastest, 0), color=_GREY, linewidth=1.0, linestyle=":", label="bound 1 - eta mu")
    top = float(np.max(curve.high[np.isfinite(curve.high)], initial=1.0))
    for name, (words, dash) in _MARKS.items():
        at = getattr(found, name).eta_crit
        if curve.eta[0] <= at <= curve.eta[-1]:
            ax.axvline(at, color="black", linewidth=1.0, linestyle=dash, label=f"{words} = {at:.3g}")
    for name, at in (eta or {}).items():
        ax.axvline(at, color=_LIGHT, linewidth=2.0, label=f"{name} = {at:g}")
    ax.set(xscale="log", xlabel="step size eta (unit of the rule)", ylabel="distance after / before (no unit)", title=title)
    ax.set_yscale("symlog", linthresh=1)
    ax.set_ylim(0, max(2.0, 1.1 * top))
    fig.legend(fontsize=8, loc="outside right upper")
    return fig


def ledger(book: Any, *, others: Mapping[str, tuple[Any, Any]] | None = None, title: str = "") -> Any:
    """The ledger of a run: each step's `eta K_pair` and `eta mu` against 1 above; below, how far distances have changed since the start,
    directly and as the certificates add up.

    Args:
        book: what `observe.certificate()` was read as, of one lane.
        others: further curves of products with eta, `(steps, values)` by name.
        title: what was found.

    Returns:
        The matplotlib figure.

    Raises:
        ValueError: the ledger of several lanes, or one without records.
    """
    if book.laned or not len(book.steps):
        what = f"the ledger of {len(book.values.q)} lanes" if book.laned else "a ledger without records"
        write = "book.lane(0)" if book.laned else "num_steps=1 or more"
        msg = f"book: got {what}; expected that of one lane, with a step seen; write {write}."
        raise ValueError(msg)
    import matplotlib.pyplot as plt

    steps, values = np.asarray(book.steps) + 1, book.values
    fig, (top, bottom) = plt.subplots(2, 1, figsize=(7.8, 6.6), layout="constrained", sharex=True)
    curves: dict[str, tuple[Any, ...]] = {"eta K_pair": (steps, values.q, _DARK, "-"), "eta mu": (steps, values.eta_mu, _LIGHT, "--")}
    styles = itertools.cycle(((_GREY, ":"), ("#7fbf7b", "-."), ("black", "--"), ("#b35fa5", (0, (1, 1)))))
    for (name, (at, other)), (colour, dash) in zip((others or {}).items(), styles, strict=False):  # the styles have no end
        curves[name] = (np.asarray(at) + 1, other, colour, dash)
    for name, (at, height, colour, dash) in curves.items():
        height = np.asarray(height, float)
        top.plot(at, np.where(height > 0, height, np.nan), linestyle=dash, color=colour, label=name, linewidth=1.3)
    top.axhline(1, color="black", linewidth=0.8)
    top.annotate(
        "below 1 (pair constants): nobody merges",
        (0.01, 1),
        xycoords=("axes fraction", "data"),
        xytext=(0, 3),
        textcoords="offset points",
        fontsize=8,
    )
    for at, words, colour in ((book.first_possible, "merging possible", _LIGHT), (book.first_merge, "first merge", "black")):
        if at >= 0:
            top.axvline(at + 1, color=colour, linewidth=1.5, linestyle="-.", label=f"{words} from step {at}")
    top.set(xscale="log", yscale="log", ylabel="eta * constant (no unit)", title=title)
    top.legend(fontsize=8)

    known = np.isfinite(np.asarray(values.log_low, float))  # in many dimensions it is taken now and then
    bottom.plot(steps[known], np.asarray(values.log_low)[known], color=_DARK, linewidth=1.3, label="closest pair since the start")
    bottom.plot(steps[known], np.asarray(values.log_high)[known], color=_DARK, linewidth=1.0, linestyle="--", label="farthest")
    low, high = np.asarray(values.bound_low, float), np.asarray(values.bound_high, float)
    bottom.plot(
        steps,
        np.where(np.isfinite(low), low, np.nan),
        color=_GREY,
        linewidth=1.0,
        linestyle=":",
        label="certified: sum log(1 - eta mu), sum log(1 + eta K_pair)",
    )
    bottom.plot(steps, np.where(np.isfinite(high), high, np.nan), color=_GREY, linewidth=1.0, linestyle=":")
    bottom.axhline(0, color="black", linewidth=0.6)
    bottom.set(xlabel="step (count, from 1)", ylabel="log(distance / distance at the start)")
    bottom.set_yscale("symlog", linthresh=0.1)
    bottom.legend(fontsize=8, loc="upper left")
    return fig
