"""Partitions along a run, what they say about a model, and their pictures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_partition import network, voronoi

import eqdyn as eq
from eqdyn import plot_partition


def merging(share):
    """Ten neurons; at share 1 the first three are one, as are the last two."""
    rng = np.random.default_rng(0)
    (w, b), (v, c) = network(rng, 2, [10])
    neurons = np.concatenate([w, b[:, None], v.T], axis=1)
    goal = neurons.copy()
    goal[1:3], goal[9] = neurons[0], neurons[8]
    now = goal if share == 1 else (1 - share) * neurons + share * goal
    return [(now[:, :2], now[:, 2]), (now[:, 3:].T, c)]


def test_merged_neurons_share_their_hyperplane():
    z = np.random.default_rng(1).uniform(-1, 1, (300, 2))
    run = eq.partition.along({k: merging(k / 4) for k in range(5)}, points=z)
    assert run.num_neurons.ravel().tolist() == [10, 10, 10, 10, 7]
    single = eq.partition.build(
        [(w[[0, 3, 4, 5, 6, 7, 8]], b[[0, 3, 4, 5, 6, 7, 8]]) if k == 0 else (w[:, :7], b) for k, (w, b) in enumerate(merging(1))]
    )
    assert run.num_cells[-1] == len(single.codes) < run.num_cells[0]
    assert run.num_hyperplanes[-1] == len(np.unique(single.units))
    assert np.all(run.num_data_cells <= run.num_cells)
    assert np.all((run.entropy > 0) & (run.entropy <= np.log(run.num_data_cells) + 1e-12))
    assert np.isnan(run.merged).all()
    assert np.all(np.isfinite(run.ricci_ollivier))
    near = eq.partition.along({0: merging(0.999)}, tolerance=0.05)
    assert near.num_neurons.ravel().tolist() == [7]
    fig = plot_partition.checkpoints({"merging": run}, marks={"merging": [4]}, title="t")
    assert len(fig.axes) == 4


def test_a_merge_seen_by_the_monitor_and_in_the_partition():
    """Two neurons made one by a step: the certificate says so, and a hyperplane is gone."""
    start = merging(0)
    params = {"w": jnp.asarray(start[0][0].T), "b": jnp.asarray(start[0][1]), "out": jnp.asarray(start[1][0].T)}

    def apply(p, z):
        return jax.nn.relu(z @ p["w"] + p["b"][None]) @ p["out"]

    groups = eq.networks.find_groups(apply, params, jnp.zeros((4, 2), params["w"].dtype))
    monitor = eq.networks.Monitor(groups, certificate=1)
    checkpoints = {}
    for step in range(4):
        monitor(params)
        checkpoints[step] = [(np.asarray(params["w"]).T, np.asarray(params["b"])), (np.asarray(params["out"]).T, np.zeros(2))]
        if step == 1:
            params = {name: leaf.at[..., 1].set(leaf[..., 0]) if name != "out" else leaf.at[1].set(leaf[0]) for name, leaf in params.items()}
        else:
            params = jax.tree.map(lambda leaf: leaf * 1.01, params)
    run = eq.partition.along(checkpoints, monitor=monitor.close())
    assert run.merged.tolist() == [0, 0, 1, 1]
    assert run.num_neurons.ravel().tolist() == [10, 10, 9, 9]
    assert run.num_hyperplanes[1] - run.num_hyperplanes[2] == 1
    assert run.num_cells[2] < run.num_cells[1]
    assert np.isnan(run.largest_q[0])
    assert run.largest_q[1] < 0.05
    assert run.largest_q[2] >= 1


def test_pieces_are_where_the_function_is_one_affine_map():
    """A facet of no kink parts no pieces: of `relu(x) - relu(-x) + |y|` two are left of four cells; a weak kink counts up to the tolerance."""
    w = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    found = eq.partition.build([(w, np.zeros(4)), (np.array([[1.0, -1.0, 1.0, 1.0]]), np.zeros(1))])
    assert len(found.codes) == 4
    pieces = eq.partition.pieces(found)
    assert pieces.max() == 1
    np.testing.assert_array_equal(pieces, pieces[np.argmax(found.centres[:, 1] > 0)] ^ (found.centres[:, 1] < 0))
    weak = eq.partition.build([(w, np.zeros(4)), (np.array([[1.0, -0.99, 1.0, 1.0]]), np.zeros(1))])
    assert eq.partition.pieces(weak).max() == 3
    assert eq.partition.pieces(weak, tolerance=0.02).max() == 1
    with pytest.raises(ValueError, match="tolerance: got -1"):
        eq.partition.pieces(weak, tolerance=-1)


def test_diagnosis_by_counting():
    """Planted: error rates rise with curvature; intervals cover the truth; the count of a direct loop."""
    rng = np.random.default_rng(0)
    curvature = rng.uniform(-1, 0.5, 200)
    curvature[:10] = np.nan
    cell_of = rng.integers(-1, 200, 20_000)
    truth = np.where(np.isnan(curvature), 0.5, 0.1 + 0.2 * (curvature + 1))
    wrong = rng.random(20_000) < np.where(cell_of >= 0, truth[cell_of], 0.5)
    masses = rng.dirichlet(np.ones(200))
    found = eq.partition.diagnose(masses, cell_of, wrong, curvature, name="planted", bins=5)
    outside = (cell_of < 0) | np.isnan(curvature[cell_of])
    assert found.elsewhere[0] == outside.sum()
    assert abs(found.elsewhere[1] - 0.5) < 0.05
    at = curvature[cell_of]
    for k in range(5):
        rows = ~outside & (at >= found.edges[k]) & ((at < found.edges[k + 1]) | (k == 4))
        assert found.num[k] == rows.sum()
        np.testing.assert_allclose(found.rate[k], wrong[rows].mean())
        assert found.low[k] < truth[cell_of[rows]].mean() < found.high[k]
    assert np.all(np.diff(found.rate) > 0)
    assert found.spearman[0] > 0.1
    assert found.spearman[1] < 1e-10
    np.testing.assert_allclose(found.masses.sum(), 1)
    shuffled = eq.partition.diagnose(masses, cell_of, rng.permutation(wrong), curvature, name="none", bins=5)  # negative control
    assert abs(shuffled.spearman[0]) < 0.03
    assert len(plot_partition.diagnosis(found, title="t").axes) == 2


def test_pictures_of_cells():
    z = np.random.default_rng(0).uniform(0, 1, (50, 2))
    found, _ = voronoi(z[:20], points=z)
    values = np.where(found.masses > 0.03, np.nan, found.masses)
    fig = plot_partition.cells({"a": found, "b": found}, {"a": values, "b": found.volumes}, points=z, labels=np.arange(50) % 3, unit="x", title="t")
    assert len(fig.axes) == 3
    outline = plot_partition._outline(np.array([[0.0, 0.0], [1.0, 1.0], [1.0, 0.0], [0.0, 1.0]]))
    assert abs(np.linalg.norm(np.roll(outline, 1, axis=0) - outline, axis=1) - 1).max() < 1e-12
    with pytest.raises(ValueError, match="expected a plane"):
        plot_partition.cells({"a": voronoi(np.random.default_rng(0).random((4, 3)))[0]})


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: eq.partition.along({}), "checkpoints: got dict"),
        (lambda: eq.partition.along([merging(0)]), "checkpoints: got list"),
        (lambda: eq.partition.along({0: merging(0), 7: [(np.full((2, 2), np.nan), np.zeros(2))]}), r"checkpoints\[7\]: layers\[0\]: got weights"),
        (lambda: eq.partition.along({0: merging(0), 1: network(np.random.default_rng(0), 2, [3])}), "one architecture"),
        (lambda: eq.partition.diagnose([1.0], [0, 0], [True, False], [0.0, 1.0], name="x"), "expected .n,. twice"),
        (lambda: eq.partition.diagnose([1.0], [0, 0], [1, 0], [0.0], name="x"), "wrong bool"),
        (lambda: eq.partition.diagnose([1.0], [0, 3], [True, False], [0.0], name="x"), "outside -1 to 0"),
        (lambda: eq.partition.diagnose([1.0], [0, 0], [True, False], [0.0], name="x", bins=3), "bins: got 3 for 2"),
        (lambda: eq.partition.of_cells([(0, 5)], [1.0], 3), "edges: got 1 of cells up to 5"),
    ],
)
def test_bad_input(ask, message):
    with pytest.raises(ValueError, match=message):
        ask()
