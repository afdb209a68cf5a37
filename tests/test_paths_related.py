"""Two representations of the same points: planted affine relations, definitions, brute force, and controls that must fail."""

import math

import numpy as np
import pytest

from eqdyn.paths import affine, cka, procrustes


def draw(seed, *shape, dtype=np.float64):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


# --- affine relations -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("h0", "h1"), [(1, 1), (4, 4), (6, 2), (2, 9), (12, 100)])
@pytest.mark.parametrize("seed", [1, 2])
def test_planted_relations_are_recovered(h0, h1, seed):
    x, matrix, offset = draw(seed, 80, h0), draw(seed + 1, h1, h0), draw(seed + 2, h1)
    found = affine(x, x @ matrix.T + offset)
    np.testing.assert_allclose(found.matrix, matrix, rtol=0, atol=1e-12 * np.abs(matrix).max())
    np.testing.assert_allclose(found.offset, offset, rtol=0, atol=1e-11)
    assert 1 - found.r2 < 1e-25
    assert np.all(1 - found.folds < 1e-25)
    assert found.ridge == 0
    np.testing.assert_allclose(found(x), x @ matrix.T + offset, atol=1e-11)


def test_in_float32_to_its_rounding():
    x, matrix = draw(0, 100, 6, dtype=np.float32), draw(1, 5, 6, dtype=np.float32)
    assert 1 - affine(x, x @ matrix.T).r2 < 1e-12


@pytest.mark.parametrize("noise", [0.1, 1.0])
def test_with_noise_the_score_is_the_share_that_is_not_noise(noise):
    x, matrix = draw(0, 4000, 5), draw(1, 3, 5)
    found = affine(x, x @ matrix.T + noise * draw(2, 4000, 3))
    expected = np.sum(matrix**2) / (np.sum(matrix**2) + 3 * noise**2)
    assert abs(found.r2 - expected) < 0.02
    assert len(found.folds) == 5


def test_folds_are_held_out_and_solved_by_least_squares():
    """An independent route, fold by fold, by lstsq on the fitted points alone."""
    x, y = draw(0, 60, 4), np.tanh(draw(0, 60, 4) @ draw(1, 4, 3))
    found = affine(x, y, folds=3, ridge=0, seed=5)
    parts = np.array_split(np.random.default_rng(5).permutation(60), 3)
    errors, spreads = [], []
    for part in parts:
        rest = np.setdiff1d(np.arange(60), part)
        way = np.linalg.lstsq(np.c_[x[rest], np.ones(len(rest))], y[rest], rcond=None)[0]
        errors.append(np.sum((y[part] - np.c_[x[part], np.ones(len(part))] @ way) ** 2))
        spreads.append(np.sum((y[part] - y[rest].mean(0)) ** 2))
    np.testing.assert_allclose(found.folds, 1 - np.array(errors) / spreads, rtol=1e-10)
    np.testing.assert_allclose(found.r2, 1 - sum(errors) / sum(spreads), rtol=1e-10)


@pytest.mark.parametrize("ridge", [1e-4, 0.5])
def test_a_given_ridge_is_the_stated_one(ridge):
    x, y = draw(0, 40, 4) + 3, draw(1, 40, 2)
    z, t = x - x.mean(0), y - y.mean(0)
    weight = ridge * np.sum(z**2) / 4
    expected = np.linalg.solve(z.T @ z + weight * np.eye(4), z.T @ t).T
    found = affine(x, y, ridge=ridge)
    np.testing.assert_allclose(found.matrix, expected, rtol=1e-10)
    np.testing.assert_allclose(found.offset, y.mean(0) - expected @ x.mean(0), rtol=1e-10)
    assert found.ridge == ridge


@pytest.mark.parametrize("weight", [0.0, 1e-4, 1.0])
def test_leaving_one_out_is_what_refitting_gives(weight):
    from eqdyn.paths._relate import Fitted

    x, y = draw(0, 12, 3), draw(1, 12, 2)
    x, y = x - x.mean(0), y - y.mean(0)
    total = 0.0
    for i in range(12):
        rest = np.delete(np.arange(12), i)
        # the constant is not shrunk; the weight stays what it is for all points
        z = np.c_[x[rest], np.ones(11)]
        way = np.linalg.solve(z.T @ z + weight * np.diag([1.0, 1.0, 1.0, 0.0]), z.T @ y[rest])
        total += np.sum((y[i] - np.r_[x[i], 1.0] @ way) ** 2)
    fitted = Fitted.of(x, np.arange(12))
    (found,) = fitted.left_out(y, fitted.along.T @ y, np.array([weight]))
    np.testing.assert_allclose(found, total, rtol=1e-10)


def test_a_unit_that_is_silent_but_for_two_points_does_not_spoil_the_map():
    """What a plain fit makes of it: a coefficient from a small value, and an answer that is far out at a large one."""
    x = draw(0, 100, 4)
    y = x @ draw(1, 4, 4) + 0.1 * draw(2, 100, 4)
    quiet = np.zeros((100, 1))
    quiet[3], quiet[50] = 1e-3, 3.0
    source = np.c_[x, quiet]
    assert affine(source, y, ridge=0).r2 < 0
    found = affine(source, y)
    assert found.r2 > 0.9
    assert found.ridge > 0


def test_dead_and_copied_units_change_nothing():
    x, matrix = draw(0, 60, 3), draw(1, 4, 3)
    padded = np.c_[x, np.zeros((60, 2)), x[:, :1]]
    found = affine(padded, x @ matrix.T)
    assert 1 - found.r2 < 1e-25
    np.testing.assert_array_equal(found.matrix[:, 3:5], 0)


def test_composition_and_identity_of_maps():
    x, y = draw(0, 70, 4), None
    y = x @ draw(1, 5, 4).T + 1
    z = y @ draw(2, 3, 5).T - 2
    one, two, both = affine(x, y), affine(y, z), affine(x, z)
    np.testing.assert_allclose(two.matrix @ one.matrix, both.matrix, atol=1e-11)
    np.testing.assert_allclose(two.matrix @ one.offset + two.offset, both.offset, atol=1e-11)
    np.testing.assert_allclose(affine(x, x).matrix, np.eye(4), atol=1e-13)


CONTROLS = {
    "noise": lambda x: draw(5, len(x), 4),
    "the points shuffled": lambda x: np.random.default_rng(5).permutation(x),
    "squares": lambda x: x**2,
}


@pytest.mark.parametrize("name", CONTROLS)
def test_what_is_no_affine_image_scores_nothing(name):
    x = draw(0, 300, 4)
    assert affine(x, CONTROLS[name](x)).r2 < 0.05


# --- alike up to rotations --------------------------------------------------------------------------------------------------


def turn(seed, h):
    return np.linalg.qr(draw(seed, h, h))[0]


@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_cka_does_not_see_rotation_scale_and_shift(seed, unbiased):
    x, y = draw(seed, 40, 5), draw(seed + 1, 40, 3) + draw(seed, 40, 5)[:, :3]
    value = cka(x, y, unbiased=unbiased)
    for other in (y @ turn(seed, 3), -7e-5 * y, y + 100 * draw(4, 1, 3), np.c_[y, np.zeros(40)]):
        assert math.isclose(cka(x, other, unbiased=unbiased), value, rel_tol=1e-10)
    assert math.isclose(cka(y, x, unbiased=unbiased), value, rel_tol=1e-12)
    perm = np.random.default_rng(seed).permutation(40)
    assert math.isclose(cka(x[perm], y[perm], unbiased=unbiased), value, rel_tol=1e-10)
    assert math.isclose(cka(x, 3 * x @ turn(seed, 5) - 1, unbiased=unbiased), 1.0, rel_tol=1e-12)
    assert abs(cka(x, x @ draw(7, 5, 5)) - 1) > 0.01, "other linear maps it does see"


@pytest.mark.parametrize(("n", "h0", "h1"), [(6, 2, 2), (30, 4, 7), (10, 25, 40)])
def test_cka_by_its_kernels(n, h0, h1):
    """The definition, with kernels of all pairs: centred; and Song's unbiased one, with the diagonal left out."""
    x, y = draw(1, n, h0), draw(2, n, h1) + 1
    middle = np.eye(n) - 1 / n
    k, m = (middle @ z @ z.T @ middle for z in (x, y))
    assert math.isclose(cka(x, y), np.sum(k * m) / math.sqrt(np.sum(k * k) * np.sum(m * m)), rel_tol=1e-10)

    def inner(a, b):
        a, b = (z @ z.T * (1 - np.eye(n)) for z in (a, b))
        one = np.ones(n)
        return (np.trace(a @ b) + a.sum() * b.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * one @ a @ b @ one) / (n * (n - 3))

    expected = inner(x, y) / math.sqrt(inner(x, x) * inner(y, y))
    assert math.isclose(cka(x, y, unbiased=True), expected, rel_tol=1e-9, abs_tol=1e-12)


def test_cka_of_independent_representations():
    """h / (n + h) where points are few; about 0 where that is taken out."""
    both = [(draw(k, 100, 50), draw(100 + k, 100, 50)) for k in range(20)]
    biased, unbiased = (np.array([cka(x, y, unbiased=flag) for x, y in both]) for flag in (False, True))
    assert abs(biased.mean() - 50 / 150) < 0.01
    assert abs(unbiased.mean()) < 0.01
    assert unbiased.min() < 0 < unbiased.max()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_procrustes_against_all_angles(seed):
    x, y = draw(seed, 12, 2), draw(seed + 1, 12, 2)
    u, v = ((z - z.mean(0)) / np.linalg.norm(z - z.mean(0)) for z in (x, y))
    angles = np.linspace(0, 2 * np.pi, 20001)
    c, s = np.cos(angles), np.sin(angles)
    every = []
    for flip in (1, -1):
        turned = np.einsum("nk,akl->anl", v * np.array([[1, flip]]), np.stack([np.stack([c, s], -1), np.stack([-s, c], -1)], 1))
        every.append(np.linalg.norm(turned - u, axis=(1, 2)))
    assert abs(procrustes(x, y) - np.min(every)) < 1e-7
    assert procrustes(x, y) <= np.min(every) + 1e-12


@pytest.mark.parametrize("seed", [1, 2])
def test_procrustes_of_copies_is_0_and_it_is_a_metric(seed):
    x, y, z = (draw(seed + k, 30, h) for k, h in enumerate((4, 6, 4)))
    assert procrustes(x, 5 * x @ turn(seed, 4) + 3) < 1e-13
    assert procrustes(x, np.c_[x @ turn(seed, 4), np.zeros((30, 3))]) < 1e-13
    assert procrustes(x, x @ turn(seed, 4) + 3, scaled=False) < 1e-12
    assert math.isclose(procrustes(x, 2 * x, scaled=False), np.linalg.norm(x - x.mean(0)), rel_tol=1e-12)
    assert math.isclose(procrustes(x, y), procrustes(y, x), rel_tol=1e-12)
    assert procrustes(x, z) <= procrustes(x, y) + procrustes(y, z)
    assert 0.1 < procrustes(x, y) <= math.sqrt(2)
    u, v = ((w - w.mean(0)) / np.linalg.norm(w - w.mean(0)) for w in (x, y))
    assert math.isclose(procrustes(x, y) ** 2, 2 - 2 * np.linalg.norm(v.T @ u, "nuc"), rel_tol=1e-10)


# --- bad input ------------------------------------------------------------------------------------------------------------

X = draw(0, 40, 3)
NAN = X.copy()
NAN[4, 1] = np.nan
BAD = {
    "other points": (lambda: affine(X, X[1:]), ValueError, "got 40 and 39 probe points"),
    "too few points": (
        lambda: affine(draw(0, 20, 15), X[:20]),
        ValueError,
        "20 probe points in 5 folds, 16 to fit on, for 15 activations; expected 17",
    ),
    "NaN representation": (lambda: affine(X, NAN), ValueError, "target: got 1 activations that are not finite"),
    "nothing to explain": (lambda: affine(X, np.ones((40, 2))), ValueError, "target: got the same activations for all 40"),
    "nothing to explain it by": (lambda: cka(np.full((40, 2), 0.1), X), ValueError, "a: got the same activations"),
    "a constant fold": (
        lambda: affine(X[:10], np.r_[np.zeros((8, 1)), [[1.0], [-1.0]]], folds=10),
        ValueError,
        "the same for all 1 points of a fold",
    ),
    "one fold": (lambda: affine(X, X, folds=1), ValueError, "folds: got 1"),
    "negative ridge": (lambda: affine(X, X, ridge=-1.0), ValueError, "ridge: got -1.0"),
    "whole numbers": (lambda: procrustes(X, np.ones((40, 2), int)), ValueError, "expected real"),
    "few for unbiased": (lambda: cka(X[:3], X[:3], unbiased=True), ValueError, "at least 4"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_clear_error(name):
    call, kind, said = BAD[name]
    with pytest.raises(kind, match=said):
        call()
