"""Pictures of paths show what they are given."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eqdyn as eq
from eqdyn import plot_paths


def well(x):
    return jnp.sum((x**2 - 1) ** 2)


def relu(w, z):
    return jnp.maximum(z @ w, 0)


def test_a_dendrogram_has_no_lines_that_cross():
    random = np.random.default_rng(0)
    points = random.standard_normal((9, 2))
    heights = np.linalg.norm(points[:, None] - points[None], axis=2)
    tree = eq.paths.classes(heights)
    order = plot_paths._order(tree)
    assert sorted(order) == list(range(9))
    for level in tree.levels:  # the runs of a class stand side by side
        labels = tree.labels(float(level) + 1e-9)[order]
        assert np.sum(labels[1:] != labels[:-1]) == labels.max()
    fig = plot_paths.dendrogram(tree, delta=1.0, names="abcdefghi", values=np.arange(9.0), what="accuracy [%]", title="t")
    top, bottom = fig.axes
    drawn = [line.get_ydata()[1] for line in top.lines if len(line.get_xdata()) == 4]
    np.testing.assert_allclose(sorted(drawn), tree.levels)
    assert [label.get_text() for label in bottom.get_xticklabels()] == ["abcdefghi"[run] for run in order]
    assert len(bottom.lines) == tree.labels(1.0).max() + 1


def test_what_is_never_joined_hangs_from_the_top():
    tree = eq.paths.classes([[0, 1, np.inf], [1, 0, np.inf], [np.inf, np.inf, 0]])
    fig = plot_paths.dendrogram(tree)
    assert sum(line.get_linestyle() == ":" for line in fig.axes[0].lines) == 2
    alone = eq.paths.classes([[0, np.inf], [np.inf, 0]])
    assert plot_paths.dendrogram(alone).axes[0].get_ylim() == (0, 1)


@pytest.mark.parametrize("kwargs", [{"names": ["a"]}, {"values": [1.0]}])
def test_names_and_values_that_do_not_fit(kwargs):
    with pytest.raises(ValueError, match="one for each of 2 runs"):
        plot_paths.dendrogram(eq.paths.classes([[0, 1], [1, 0]]), **kwargs)


def test_sheets_mark_the_highest_place():
    ends = [np.array([[v], [v]], np.float32) for v in (-1, 1)]
    whole = eq.paths.barrier(well, *(eq.paths.path(end) for end in ends), num=5, by=None)
    way = eq.paths.barrier(well, *(end[0] for end in ends), num=5)
    fig = plot_paths.sheets({"runs": whole}, title="t")
    mark = fig.axes[0].lines[0]
    np.testing.assert_allclose(mark.get_xdata(), [0.5])
    np.testing.assert_allclose(mark.get_ydata(), [0.25])
    np.testing.assert_array_equal(fig.axes[0].images[0].get_array(), whole.excess)
    line = plot_paths.sheets({"ends": way}).axes[0].lines[0]
    np.testing.assert_allclose(line.get_ydata(), way.excess)
    assert "barrier 1" in plot_paths.sheets({"ends": way}).axes[0].get_title()


def test_two_cells_and_minima():
    random = np.random.default_rng(0)
    z, w = (random.standard_normal(shape).astype(np.float32) for shape in [(60, 3), (3, 3, 4)])
    cell = eq.paths.two_cell(relu, eq.paths.path(w), eq.paths.path(w[:, :, ::-1]), z, num_controls=1)
    fig = plot_paths.two_cells({"copy": cell, "again": cell}, title="t")
    assert [ax.get_title() for ax in fig.axes] == ["copy: affinely related", "again: affinely related"]
    np.testing.assert_allclose(fig.axes[0].lines[0].get_ydata(), cell.r2)
    around = eq.paths.planes(well, jnp.array([1.0, -1.0], jnp.float32), num_planes=1, num=15, radius=2.0, key=jax.random.key(0))
    fig = plot_paths.minima({"wells": around}, title="t")
    assert fig.axes[0].images[0].get_array().shape == (15, 15)
    assert len(fig.axes[1].lines) == min(12, len(around.diagrams[0].bars[0])) + min(12, len(around.diagrams[0].bars[1]))
