"""What `paths_claims.py` concludes: the test of pairs, the verdicts by the rules that it states, and the picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from eqdyn import plot

LEVEL = 0.05  # of the tests, and of the barrier at which two runs count as connected


def dealt(of_pairs: dict[int, Any], runs: list[dict[str, Any]], strata: list[Any], num_draws: int = 9999) -> tuple[float, float, float]:
    """Rank correlation of numbers `(R, R)` over pairs with the absolute difference of test accuracies, the mean over parts; and how often accuracies
    dealt anew within strata give as much: below, above (Mantel). Parts are given as {first run: matrix}, NaN where a pair does not count.
    """
    from scipy.stats import rankdata

    right = np.array([run["test accuracy"] for run in runs])
    parts = []
    for first, matrix in of_pairs.items():
        i, j = np.nonzero(np.triu(np.isfinite(matrix), 1))
        parts.append((i + first, j + first, rankdata(matrix[i, j])))
    blocks = [np.flatnonzero([one == other for other in strata]) for one in dict.fromkeys(strata)]

    def correlation(values: np.ndarray) -> float:
        return float(np.mean([np.corrcoef(ranks, rankdata(np.abs(values[i] - values[j])))[0, 1] for i, j, ranks in parts]))

    seen, random, found = correlation(right), np.random.default_rng(0), []
    for _ in range(num_draws):
        other = right.copy()
        for block in blocks:
            other[block] = random.permutation(right[block])
        found.append(correlation(other))
    below, above = ((1 + int(np.sum(side))) / (1 + num_draws) for side in (np.array(found) <= seen + 1e-12, np.array(found) >= seen - 1e-12))
    return seen, below, above


def _of_classes(rows: list[dict[str, Any]]) -> str:
    known = [row for row in rows if np.isfinite(row["p within noise"])]
    rejected = sum(row["p within noise"] <= LEVEL / len(rows) for row in known)
    said = "reproduced" if rejected >= 2 else "not reproduced" if known and not rejected else "not decidable"
    if not known:
        return f"{said}, for all runs of a width are one class from level {max(row['one class from'] for row in rows):.2g} on"
    tests = ", ".join(f"{row['p within noise']:.2g}" for row in rows)
    spread = "; ".join(f"{row['within']:.2f} and {row['between']:.2f}" for row in rows)
    return f"{said}; p = {tests} within label noise by width, mean difference of two runs within and between classes {spread} points"


def verdicts(rows: dict[str, Any]) -> list[str]:
    """A sentence a claim, by the rules that were set before."""
    of_classes, area, cell, first = rows["classes"], rows["areas"][0], rows["affine relation and accuracy"][0], rows["persistence"][0]
    said = {name: _of_classes([row for row in of_classes if row["runs"] == name]) for name in ("aligned", "as they are")}
    partial = f"{first['partial']:+.2f} ({first['partial low']:+.2f} to {first['partial high']:+.2f}), p = {first['p']:.2g}"
    if first["p"] <= LEVEL:
        persists = "reproduced" if first["partial"] < 0 else "contradicted"
    else:
        persists = "not reproduced" if first["partial low"] > -0.5 and first["partial high"] < 0.5 else "not decidable"
    apart = "reproduced" if area["p above"] <= LEVEL else "not reproduced"
    related = "reproduced" if cell["p below"] <= LEVEL else "not reproduced"
    small = [row for row in rows["below and above the critical step"] if row["q"] < 1]
    large = [row for row in rows["below and above the critical step"] if row["q"] >= 1]
    joined = [f"{sum(row['connected'] for row in some)} of {sum(row['of'] for row in some)}" for some in (small, large)]
    return [
        f"classes tell test accuracy: {said['aligned']}",
        f"classes of runs as they are (secondary): {said['as they are']}",
        f"areas tell differences of test accuracy: {apart}; rank correlation {area['rank correlation']:+.2f}, p = {area['p above']:.2g}; the distance"
        f" of outputs at the ends alone {rows['areas'][1]['rank correlation']:+.2f}",
        f"persistence of a minimum tells the generalisation gap: {persists}; R^2 = {first['R2']:.2f} ({first['low']:.2f} to {first['high']:.2f})"
        f" alone, partial correlation {partial}",
        f"affinely related runs generalise alike: {related}; rank correlation {cell['rank correlation']:+.2f}, p = {cell['p below']:.2g}",
        f"connected to the run of a small step at {LEVEL}: {joined[0]} runs with q < 1, {joined[1]} with q >= 1",
    ]


def drawn(heights: dict[int, np.ndarray], runs: list[dict[str, Any]], rows: dict[str, Any], out: Path) -> None:
    import matplotlib.pyplot as plt

    fig, axes = plt.subplots(1, 3, figsize=(14, 4), layout="constrained")
    shades = ("#1f4e79", "#e08214", "#7f7f7f")
    for k, (width, height) in enumerate(heights.items()):
        some = [run for run in runs if run["width"] == width]
        i, j = np.triu_indices(len(some), 1)
        alike = np.array([some[a]["noise"] == some[b]["noise"] for a, b in zip(i, j, strict=True)])
        right = 100 * np.array([run["test accuracy"] for run in some])
        axes[0].plot(height[i, j][alike], np.abs(right[i] - right[j])[alike], "o^s"[k], color=shades[k], markersize=3, label=f"width {width}")
    axes[0].legend(fontsize=7)
    axes[0].set_xscale("symlog", linthresh=1e-3)
    axes[0].set(xlim=(-1e-4, None), xlabel="barrier between two aligned runs [nats]", ylabel="difference of test accuracy [points]")
    classes = [row["classes"] for row in rows["classes"] if row["runs"] == "aligned"]
    axes[0].set_title(f"pairs of equal label noise; classes by width: {', '.join(map(str, classes))}", fontsize=9)
    first = rows["persistence"][0]
    for wrong, mark in ((False, "o"), (True, "x")):
        some = [run for run in runs if (run["noise"] > 0) == wrong]
        name = "a fifth of labels wrong" if wrong else "labels right"
        axes[1].plot([run[first["estimator"]] for run in some], [run["gap"] for run in some], mark, color=shades[0], label=name)
    axes[1].legend(fontsize=7)
    axes[1].set(xlabel="total persistence over range of the loss [1]", ylabel="training less test accuracy [1]")
    axes[1].set_title(f"$R^2$ = {first['R2']:.2f} ({first['low']:.2f} to {first['high']:.2f}); {first['verdict']}", fontsize=9)
    table = rows["below and above the critical step"]
    axes[2].plot([row["eta"] for row in table], [row["not aligned"] for row in table], "s--", color=shades[1], label="as they are")
    axes[2].plot([row["eta"] for row in table], [row["barrier"] for row in table], "o-", color=shades[0], label="aligned")
    above = [row["eta"] for row in table if row["q"] >= 1]
    if above:
        axes[2].axvspan(min(above), max(above), color="#d9d9d9", zorder=0, label="q >= 1: steps may merge")
    axes[2].legend(fontsize=7)
    axes[2].set(xscale="log", xlabel="step size [eta]", ylabel="barrier to the run at eta = 0.25 [loss]")
    axes[2].set_title("two moons, one start", fontsize=9)
    plot.save(fig, out.with_suffix(".png"))
