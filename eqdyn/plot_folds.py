"""A mesh carried by tracers before and after, with what became of it marked. Marks differ in shape and shade, and work in grey."""

from __future__ import annotations

from typing import Any

import numpy as np

from eqdyn.shapes import Mesh

# what is marked: its shape, its face, its size, and its name in the legend
_MARKS = {
    "folded": ("^", "black", 38, "turns back"),
    "crossing": ("x", "black", 30, "crosses itself"),
    "torn": ("s", "white", 26, "torn edge"),
    "collapsed": ("o", "white", 26, "collapsed"),
}
_FLIPPED, _FACE = "#404040", "#d9d9d9"


def fold_map(
    mesh: Mesh, before: Any, after: Any, change: Any, *, labels: tuple[str, str] = ("incoming weight w", "outgoing weight a"), title: str = "",
    names: tuple[str, str] = ("before", "after"),
) -> Any:  # fmt: skip
    """A curve or triangulation of the plane before and after, each with axes of its own.

    The shade of a curve runs along its points, so that each strand can be found again; triangles that flipped are dark, fold
    lines are heavy, and where sheets overlap only the title counts the crossings.

    Args:
        mesh: whose points moved.
        before: `(m, 2)` its points.
        after: `(m, 2)`.
        change: `eq.measure.mesh_change(mesh, before, after)`; what it found is marked in both panels, where it came from and
            where it is.
        labels: of the axes; weights have no unit here.
        title: what was found; default the first line of `change.summary()`.
        names: of the panels.

    Returns:
        The matplotlib figure.
    """
    import matplotlib.pyplot as plt
    from matplotlib.collections import LineCollection, PolyCollection

    fig, axes = plt.subplots(1, 2, figsize=(9.6, 4.6), layout="constrained")
    seen: dict[str, Any] = {}
    for ax, name, x in zip(axes, names, (before, after), strict=True):
        x = np.asarray(x, float)
        if x.ndim != 2 or x.shape != (len(mesh.points), 2):
            msg = f"{name}: got shape {x.shape}; expected ({len(mesh.points)}, 2), the points of a mesh in the plane."
            raise ValueError(msg)
        if len(mesh.faces):
            flipped = np.isin(np.arange(len(mesh.faces)), change.flipped)
            for colour, faces, label in ((_FACE, mesh.faces[~flipped], None), (_FLIPPED, mesh.faces[flipped], "flipped triangle")):
                patches = ax.add_collection(PolyCollection(x[faces], facecolors=colour, edgecolors="white", linewidths=0.3))
                if label and len(faces):
                    seen[label] = patches
            if len(change.folded_edges):
                lines = LineCollection(list(x[mesh.edges[change.folded_edges]]), colors="black", linewidths=2.2)
                seen["fold line"] = ax.add_collection(lines)
        else:
            shade = plt.get_cmap("cividis")(np.linspace(0, 0.8, len(mesh.edges)))
            ax.add_collection(LineCollection(list(x[mesh.edges]), colors=shade, linewidths=1.3))
        for kind, places in _places(mesh, x, change).items():
            shape, face, size, label = _MARKS[kind]
            style = {"c": "black"} if shape == "x" else {"facecolors": face, "edgecolors": "black"}
            if len(places):
                seen[label] = ax.scatter(*places.T, marker=shape, s=size, linewidths=0.9, zorder=3, **style)
        ax.autoscale_view()
        ax.locator_params(nbins=5)
        ax.set(xlabel=f"{labels[0]} (no unit)", ylabel=f"{labels[1]} (no unit)", title=name)
    if seen:
        fig.legend(seen.values(), seen.keys(), loc="outside lower center", ncols=len(seen), fontsize=9, frameon=False)
    fig.suptitle(title or change.summary().split("\n")[0])
    return fig


def _places(mesh: Mesh, x: np.ndarray, change: Any) -> dict[str, np.ndarray]:
    """Where to put each kind of mark: points, and the middles of edges."""
    middle = x[mesh.edges].mean(1)
    # where sheets overlap edges cross by the hundred: the dark triangles show it
    pairs = mesh.edges[change.crossings] if not len(mesh.faces) else np.zeros((0, 2, 2), int)
    return {
        "folded": x[change.folded_vertices],
        "crossing": _crossing_places(x, pairs),
        "torn": middle[change.torn],
        "collapsed": np.concatenate([middle[change.collapsed_edges], x[mesh.faces[change.collapsed_faces]].mean(1)]),
    }


def _crossing_places(x: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Where two edges cross; where they do not (before), the middle of each."""
    (a, b), (c, d) = x[pairs[:, 0]].transpose(1, 0, 2), x[pairs[:, 1]].transpose(1, 0, 2)
    r, s, apart = b - a, d - c, c - a
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = r[:, 0] * s[:, 1] - r[:, 1] * s[:, 0]
        t = (apart[:, 0] * s[:, 1] - apart[:, 1] * s[:, 0]) / scale
        u = (apart[:, 0] * r[:, 1] - apart[:, 1] * r[:, 0]) / scale
        cross = (t >= 0) & (t <= 1) & (u >= 0) & (u <= 1)
    return np.concatenate([(a + t[:, None] * r)[cross], (a / 2 + b / 2)[~cross], (c / 2 + d / 2)[~cross]])
