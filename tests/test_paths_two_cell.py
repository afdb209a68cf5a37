"""2-cells between runs: planted relations and maps, and runs that must not be called related."""

import math

import jax
import numpy as np
import pytest
from test_paths_functor import GROUP, PROBE, draw, features, run

import eqdyn as eq
from eqdyn.paths import Thresholds, affine, two_cell

# --- runs of a small network ------------------------------------------------------------------------------------------------


def linear(params, z):
    return z @ params["w"] + params["b"][None]


# --- 2-cells ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_permuted_copies_of_a_run_are_related(dtype):
    a, perm = run(3, dtype=dtype), np.random.default_rng(3).permutation(8)
    cell = two_cell(features, a, eq.paths.permuted(a, GROUP, perm), PROBE.astype(dtype))
    assert cell.verdict == "affinely related"
    assert cell.since == 0
    assert np.all(1 - cell.r2 < (1e-10 if dtype == np.float32 else 1e-20))
    np.testing.assert_allclose(cell.maps, np.broadcast_to(np.eye(8)[perm], (4, 8, 8)), atol=1e-4 if dtype == np.float32 else 1e-10)
    np.testing.assert_allclose(cell.cka, 1, atol=1e-6)
    assert np.all(cell.procrustes < 1e-5)
    assert np.all(cell.changes < 1e-3)
    assert np.all(cell.untrained < 0.95)
    assert np.all(cell.shuffled < 0.1)
    assert np.all(cell.gain > 0.99)


def scaled_features(params, z):
    return params["gain"] * jax.nn.relu(z @ params["w"]) + params["shift"]


def test_the_maps_and_how_they_change_are_those_planted():
    """phi_b = (1 + k) phi_a + k: A_k = (1 + k) I, which changes by 1 / (1 + k) of itself."""
    w = draw(1, 4, 3, 6)
    a = eq.paths.path({"w": w, "gain": np.ones(4), "shift": np.zeros(4)})
    b = eq.paths.path({"w": w, "gain": 1.0 + np.arange(4), "shift": np.arange(4.0)})
    cell = two_cell(scaled_features, a, b, PROBE, ridge=0)
    np.testing.assert_allclose(cell.maps, (1 + np.arange(4)).reshape(-1, 1, 1) * np.eye(6)[None], atol=1e-11)
    np.testing.assert_allclose(cell.offsets, np.broadcast_to(np.arange(4.0)[:, None], (4, 6)), atol=1e-10)
    np.testing.assert_allclose(cell.changes, 1 / (1 + np.arange(3)), rtol=1e-10)
    np.testing.assert_allclose(cell.changes_seen, 1 / (1 + np.arange(3)), rtol=1e-10)
    np.testing.assert_allclose(cell.back, 1)


def fed_by_noise(params, z):
    """Features of other coordinates: with `side` 1 of those behind, which the others know nothing of."""
    ahead, behind = z[:, :3], z[:, 3:]
    return jax.nn.relu((1 - params["side"]) * ahead @ params["w"] + params["side"] * behind @ params["w"])


def test_what_must_not_be_called_related():
    """Two random networks; two that look at different things; linear networks, of which any two are related."""
    found = two_cell(features, run(3), run(4), PROBE)
    assert found.verdict == "not related"
    assert found.since is None
    wide = two_cell(features, run(3, width=24), run(4, width=24), PROBE)
    assert np.all(wide.r2 > 0.9), "as high as one could wish"
    assert np.all(wide.untrained > 0.9)
    assert wide.verdict == "not related", "and yet no more than any two"
    z, w = draw(9, 150, 6), run(3).params["w"]
    sides = [eq.paths.path({"w": w, "side": np.full(4, side)}) for side in (0.0, 1.0)]
    found = two_cell(fed_by_noise, *sides, z)
    assert found.verdict == "not related"
    assert np.all(found.r2 < 0.1)
    for dtype in (np.float32, np.float64):
        every = two_cell(linear, run(3, dtype=dtype), run(4, dtype=dtype), PROBE.astype(dtype))
        np.testing.assert_allclose(every.r2, 1)
        assert every.verdict == "unresolved"
        assert np.all(np.isnan(every.gain))
        assert "leaves nothing open" in every.summary()


def joined(a, b, at):
    """The run a, which goes on as b does from checkpoint `at` on."""
    return eq.paths.path(jax.tree.map(lambda one, other: np.concatenate([one[:at], other[at:]]), a.params, b.params))


def test_since_when():
    a, b = run(3), run(4)
    perm = np.random.default_rng(0).permutation(8)
    late = two_cell(features, a, eq.paths.permuted(joined(b, a, 2), GROUP, perm), PROBE)
    assert late.verdict == "not related"
    assert late.verdicts == ("not related", "not related", "affinely related", "affinely related")
    assert late.since == 2
    assert "related from checkpoint 2 on" in late.summary()
    early = two_cell(features, a, joined(a, b, 2), PROBE)
    assert early.verdicts[:2] == ("affinely related",) * 2
    assert (early.verdict, early.since) == ("not related", None)


def test_thresholds_are_those_stated():
    a = run(3)
    near = eq.paths.path(jax.tree.map(lambda leaf: leaf + 0.25 * draw(3, *leaf.shape), a.params))
    cell = two_cell(features, a, near, PROBE)
    lowest, low_gain = cell.folds.min(), cell.gain_folds.min()
    assert lowest > 0.2
    told = {
        "affinely related": Thresholds(r2=lowest, gain=low_gain, low_r2=0.0, low_gain=0.0),
        "unresolved": Thresholds(r2=lowest + 1e-9, gain=low_gain, low_r2=0.0, low_gain=0.0),
        "not related": Thresholds(r2=1.0, gain=0.0, low_r2=1.0, low_gain=-9.0),
    }
    for verdict, thresholds in told.items():
        found = two_cell(features, a, near, PROBE, thresholds=thresholds)
        assert found.verdict == verdict
        assert found.thresholds == thresholds
        np.testing.assert_array_equal(found.folds, cell.folds)
        assert verdict in found.summary()


def test_controls_can_be_given_and_the_best_counts():
    a, b = run(3), run(4)
    given = two_cell(features, a, b, PROBE, controls=[run(5).start, b.start])
    assert math.isclose(given.untrained[0], 1.0)
    assert math.isclose(
        given.untrained[1], affine(*(np.asarray(features(p, PROBE)) for p in (b.start, jax.tree.map(lambda leaf: leaf[1], b.params)))).r2
    )
    assert given.verdict == "not related"


def test_a_representation_that_lost_directions_is_told_by_the_way_back():
    a = run(3)
    flat = {"w": a.params["w"] * np.r_[1.0, np.zeros(7)], "b": a.params["b"]}
    cell = two_cell(features, a, eq.paths.path(flat), PROBE)
    assert np.all(cell.r2 > 0.99)
    assert np.all(cell.back < 0.5)


# --- bad input ------------------------------------------------------------------------------------------------------------

X = draw(0, 40, 3)
A, B = run(1), run(2)
BROKEN = A._replace(params={**A.params, "b": np.where(np.arange(32).reshape(4, 8) == 17, np.nan, A.params["b"])})
DEAD = eq.paths.path({"w": A.params["w"] * 0, "b": A.params["b"]})
BAD = {
    "other architecture": (lambda: two_cell(features, A, run(2, width=9), PROBE), ValueError, "different architectures .* at b, w"),
    "other length": (lambda: two_cell(features, A, run(2, num=5), PROBE), ValueError, "got paths of 4 and 5 checkpoints"),
    "one checkpoint only": (lambda: two_cell(features, eq.paths.identity(A.end), eq.paths.identity(B.end), PROBE), ValueError, "one checkpoint only"),
    "NaN checkpoints": (lambda: two_cell(features, A, BROKEN, PROBE), ValueError, "b: got 1 values that are not finite in b"),
    "two trees": (lambda: two_cell(features, A.end, B.end, PROBE), TypeError, "expected two paths"),
    "a path and a tree": (lambda: two_cell(features, A, B.end, PROBE), TypeError, "expected two paths"),
    "a small probe": (lambda: two_cell(features, A, B, PROBE[:11]), ValueError, "11 probe points in 5 folds, 8 to fit on, for 8 activations"),
    "a dead run": (lambda: two_cell(features, A, DEAD, PROBE), ValueError, "b, at checkpoint 0: got the same activations for all 150"),
    "no control": (lambda: two_cell(features, A, B, PROBE, controls=[]), ValueError, "controls: got list"),
    "a control like no other": (lambda: two_cell(features, A, B, PROBE, controls=[{"w": X}]), ValueError, "different architectures"),
    "thresholds": (lambda: two_cell(features, A, B, PROBE, thresholds=Thresholds(r2=0.1)), ValueError, "low_r2 <= r2 <= 1"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_clear_error(name):
    call, kind, said = BAD[name]
    with pytest.raises(kind, match=said):
        call()
