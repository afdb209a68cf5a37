"""Single linkage against brute force, and a number per run against classes that are planted."""

import itertools

import numpy as np
import pytest

import eqdyn as eq
from eqdyn.paths import classes, contrast

# --- dendrograms ------------------------------------------------------------------------------------------------------------


def matrix(seed, num, *, ties=False, holes=False):
    rng = np.random.default_rng(seed)
    m = rng.integers(0, 4, (num, num)).astype(float) if ties else rng.uniform(size=(num, num))
    if holes:
        m[rng.uniform(size=m.shape) < 0.4] = np.inf
    m = np.triu(m, 1)
    return m + m.T


def lowest_pass(m):
    """Over all ways through all other runs, one by one."""
    num = len(m)
    found = np.full_like(m, np.inf)
    np.fill_diagonal(found, 0.0)
    for i, j in itertools.permutations(range(num), 2):
        others = [k for k in range(num) if k not in (i, j)]
        for count in range(num - 1):
            for way in itertools.permutations(others, count):
                found[i, j] = min(found[i, j], max(m[a, b] for a, b in itertools.pairwise([i, *way, j])))
    return found


KINDS = {"plain": {}, "ties": {"ties": True}, "holes": {"holes": True}}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num", [2, 3, 5, 6])
@pytest.mark.parametrize("seed", [1, 2])
def test_single_linkage_is_the_lowest_pass(kind, num, seed):
    m = matrix(seed, num, **KINDS[kind])
    found = classes(m)
    np.testing.assert_array_equal(found.minimax, lowest_pass(m))
    assert np.all(np.diff(found.levels) >= 0)
    for delta in (0.0, 0.3, 1.0, 2.5, np.inf):
        labels = found.labels(delta)
        np.testing.assert_array_equal(labels[:, None] == labels[None], found.minimax <= delta)
        assert labels[0] == 0
        assert set(labels) == set(range(labels.max() + 1))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_same_tree_as_scipy_and_the_same_bars_as_rips(seed):
    from scipy.cluster.hierarchy import cophenet, linkage
    from scipy.spatial.distance import squareform

    m = matrix(seed, 20)
    found, theirs = classes(m), linkage(squareform(m), "single")
    np.testing.assert_array_equal(found.merges, theirs)
    np.testing.assert_array_equal(squareform(found.minimax), cophenet(found.merges))
    rips = eq.topology.persistence_of_distances(m, max_dim=0)
    np.testing.assert_array_equal(found.diagram.bars[0], rips.bars[0])
    assert eq.topology.distance(found.diagram, rips, 0) == 0.0


def test_what_is_never_joined_stays_apart():
    m = np.full((4, 4), np.inf)
    m[0, 1] = m[1, 0] = m[2, 3] = m[3, 2] = 1.0
    np.fill_diagonal(m, 0.0)
    found = classes(m)
    assert found.levels.tolist() == [1.0, 1.0, np.inf]
    assert found.labels(1e300).tolist() == [0, 0, 1, 1]
    assert found.diagram.bars[0].tolist() == [[0.0, 1.0], [0.0, 1.0]]
    assert len(found.diagram.essential[0]) == 2
    assert found.gaps.tolist() == [[1.0, np.inf, 2.0], [0.0, 1.0, 4.0]]


def test_gaps_and_words():
    m = np.array([[0, 0.1, 5, 5], [0.1, 0, 5, 5], [5, 5, 0, 0.2], [5, 5, 0.2, 0.0]])
    found = classes(m)
    np.testing.assert_allclose(found.gaps, [[5, np.inf, 1], [0.2, 5, 2], [0, 0.1, 4], [0.1, 0.2, 3]])
    said = found.summary(1.0)
    assert "2 classes for delta from 0.2 to 5" in said
    assert "class 1 at level 1: runs 2, 3" in said
    assert said.endswith("not connected within the searched family at level 1")
    assert "not connected" not in found.summary(6.0)
    assert "homotop" not in said
    many = classes(matrix(0, 30))
    assert f"{many.levels[0]:.4g} to {many.levels[-1]:.4g}" in many.summary()


def test_rounding_between_the_halves_is_taken_and_more_is_not():
    m = matrix(0, 5)
    m[1, 2] *= 1 + 1e-9
    assert classes(m).minimax.shape == (5, 5)
    m[1, 2] *= 1.01
    with pytest.raises(ValueError, match="halves differ"):
        classes(m)


# --- a number per run -------------------------------------------------------------------------------------------------------


def planted(sizes):
    """Classes of the given sizes, apart at level 1."""
    of = np.repeat(np.arange(len(sizes)), sizes)
    return classes((of[:, None] != of[None]).astype(float))


def test_differences_within_and_between_by_hand():
    found = contrast(planted([2, 3]), [1.0, 2.0, 5.0, 5.0, 8.0], 0.5)
    assert found.sizes == (2, 3)
    np.testing.assert_allclose(found.within, np.mean([1, 0, 3, 3]))
    np.testing.assert_allclose(found.between, np.mean([4, 4, 7, 3, 3, 6]))
    np.testing.assert_allclose([found.range_within, found.range_between], [3, 4.5])
    between, total = 2 * (1.5 - 4.2) ** 2 + 3 * (6 - 4.2) ** 2, np.var([1, 2, 5, 5, 8]) * 5
    rest = (total - between) / 3
    np.testing.assert_allclose([found.eta2, found.omega2], [between / total, (between - rest) / (total + rest)])


def test_the_test_against_all_deals():
    """All 10 choose 4 deals, each as likely: the estimate is within its error of the exact probability."""
    y = np.random.default_rng(0).standard_normal(10)
    y[:4] += 1.0
    found = contrast(planted([4, 6]), y, 0.5, num_draws=20_000)
    as_much = []
    for chosen in itertools.combinations(range(10), 4):
        first = np.isin(np.arange(10), chosen)
        as_much.append(y[first].mean() - y[~first].mean())
    exact = np.mean(np.abs(as_much) >= abs(as_much[0]) - 1e-12)
    assert abs(found.p_value - exact) < 4 * np.sqrt(exact * (1 - exact) / 20_000) + 1e-4


def test_chance_is_found_as_often_as_stated():
    tree, rng = planted([5, 7, 8]), np.random.default_rng(1)
    p = np.array([contrast(tree, rng.standard_normal(20), 0.5, num_draws=199).p_value for _ in range(400)])
    assert 0.02 < np.mean(p <= 0.05) < 0.08
    assert 0.4 < np.mean(p) < 0.6
    omega = [contrast(tree, rng.standard_normal(20), 0.5, num_draws=1).omega2 for _ in range(400)]
    assert abs(np.mean(omega)) < 0.02


def test_a_planted_effect_is_found_and_what_strata_explain_is_not():
    tree, rng = planted([10, 10]), np.random.default_rng(2)
    strata = np.repeat([0, 1], 10)
    y = rng.standard_normal(20) + 5 * strata
    assert contrast(tree, y, 0.5).p_value < 0.001
    mixed = np.r_[np.zeros(8), np.ones(2), np.zeros(2), np.ones(8)].astype(int)
    found = {"alone": [], "within strata": []}
    for _ in range(60):
        y = rng.standard_normal(20) + 5 * mixed
        found["alone"].append(contrast(tree, y, 0.5, num_draws=199).p_value <= 0.05)
        found["within strata"].append(contrast(tree, y, 0.5, strata=mixed, num_draws=199).p_value <= 0.05)
    assert np.mean(found["alone"]) > 0.9
    assert np.mean(found["within strata"]) < 0.15
    assert contrast(tree, rng.standard_normal(20) + 5 * strata, 0.5, strata=strata).p_value == 1.0, "no deal within the strata says more"


@pytest.mark.parametrize(
    ("delta", "y", "said"),
    [
        (2.0, [1.0, 2.0, 3.0], "one class only"),
        (0.0, [1.0, 2.0, 3.0], "a class of its own"),
        (0.2, [1.0, 1.0, 1.0], "all values are the same"),
        (0.2, [1.0, 2.0, 1.5], "not refuted that classes say nothing"),
    ],
)
def test_what_cannot_be_told_is_said(delta, y, said):
    found = contrast(classes([[0, 0.1, 1], [0.1, 0, 1], [1, 1, 0.0]]), y, delta)
    assert said in found.verdict
    assert np.isnan(found.p_value) == ("unresolved" in found.verdict)


# --- bad input --------------------------------------------------------------------------------------------------------------

TREE = planted([2, 2])
BAD = {
    "no matrix": (lambda: classes(np.ones(3)), ValueError, r"got shape .3,.; expected .R, R"),
    "one run": (lambda: classes(np.zeros((1, 1))), ValueError, "at least two runs"),
    "NaN": (lambda: classes([[0, np.nan], [np.nan, 0]]), ValueError, "got NaN"),
    "negative": (lambda: classes([[0, -1.0], [-1.0, 0]]), ValueError, "negative values"),
    "diagonal": (lambda: classes(np.ones((2, 2))), ValueError, "diagonal that is not 0"),
    "one half infinite": (lambda: classes([[0, np.inf], [1.0, 0]]), ValueError, "halves differ"),
    "negative level": (lambda: TREE.labels(-1.0), ValueError, "delta: got -1"),
    "a matrix for a tree": (lambda: contrast(np.zeros((2, 2)), [1, 2], 0.1), TypeError, "expected a Dendrogram"),
    "other runs": (lambda: contrast(TREE, [1, 2], 0.1), ValueError, r"expected \(4,\) finite"),
    "NaN values": (lambda: contrast(TREE, [1, 2, 3, np.nan], 0.1), ValueError, "values"),
    "strata of others": (lambda: contrast(TREE, [1, 2, 3, 4], 0.1, strata=[1, 2]), ValueError, "strata"),
    "sure": (lambda: contrast(TREE, [1, 2, 3, 4], 0.1, confidence=1.0), ValueError, "confidence"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_clear_error(name):
    call, kind, said = BAD[name]
    with pytest.raises(kind, match=said):
        call()
