"""Representations along runs: functoriality to the bit, and neighbours pair by pair."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eqdyn as eq
from eqdyn.paths import representations, violation_rate

# --- runs of a small network ------------------------------------------------------------------------------------------------


def features(params, z):
    return jax.nn.relu(z @ params["w"] + params["b"][None])


def draw(seed, *shape, dtype=np.float64):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def run(seed, num=4, dim=3, width=8, dtype=np.float64):
    """Weights that wander from a start."""
    rng = np.random.default_rng(seed)
    steps = {"w": rng.standard_normal((num, dim, width)), "b": rng.standard_normal((num, width))}
    scale = np.r_[1.0, np.full(num - 1, 0.3)]
    return eq.paths.path({name: (leaf * scale.reshape(-1, *(1,) * (leaf.ndim - 1))).cumsum(0).astype(dtype) for name, leaf in steps.items()})


PROBE = draw(9, 150, 3)
GROUP = eq.groups.from_axes(run(0).end, {"w": 1, "b": 0})

# --- the functor ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rows", [None, 1, 64, 150])
def test_the_representation_of_a_composed_path_is_those_of_its_parts(rows, dtype):
    a, probe = run(1, dtype=dtype), PROBE.astype(dtype)
    b = run(2, num=3, dtype=dtype)
    b = eq.paths.path(jax.tree.map(lambda leaf, end: np.concatenate([end[None], leaf[1:]]), b.params, a.end))
    parts = [representations(features, one, probe, rows=rows) for one in (a, b)]
    whole = representations(features, eq.paths.compose(a, b), probe, rows=rows)
    assert whole.tobytes() == np.concatenate([parts[0], parts[1][1:]]).tobytes()
    assert whole.dtype == dtype
    assert whole.shape == (6, 150, 8)
    still = representations(features, eq.paths.identity(a.end), probe, rows=rows)
    assert still.tobytes() == parts[0][-1:].tobytes()
    plain = np.maximum(probe @ a.params["w"] + a.params["b"][:, None], 0)
    np.testing.assert_allclose(parts[0], plain, rtol=0, atol=64 * np.finfo(dtype).eps)


def test_a_permuted_run_has_its_columns_permuted():
    perm = np.random.default_rng(0).permutation(8)
    one, other = (representations(features, path, PROBE) for path in (run(1), eq.paths.permuted(run(1), GROUP, perm)))
    np.testing.assert_allclose(other, one[:, :, perm], rtol=1e-13, atol=1e-13)


def test_traced_once_for_all_checkpoints():
    count = 0

    def counted(w, z):
        nonlocal count
        count += 1
        return z @ w

    path = eq.paths.path(draw(0, 5, 3, 2))
    for k in range(3):
        representations(counted, path, draw(k, 7, 3))
    assert count <= 3 + 2 * 3  # the shape is asked for at each call, the program is made once


# --- neighbours -------------------------------------------------------------------------------------------------------------


def torn(phi, k):
    """Pair by pair."""
    apart = [[np.sqrt(np.sum((one[i] - one[j]) ** 2)) for i, j in itertools.combinations(range(len(one)), 2)] for one in phi]
    near = [d < k for d in apart[0]]
    return [sum(n and d > k for n, d in zip(near, one, strict=True)) / sum(near) for one in apart], sum(near)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize(("n", "scale", "shift"), [(2, 1.0, 0.0), (25, 1.0, 0.0), (25, 1e-160, 0.0), (25, 1e150, 0.0), (25, 1.0, 1e6)])
def test_violations_pair_by_pair(n, scale, shift, seed, dtype):
    if dtype == np.float32 and not 1e-30 < scale < 1e30:
        scale = scale**0.1
    phi = (draw(seed, 3, n, 4) * scale + shift).astype(dtype)
    wide = phi.astype(np.float64) / scale
    for k in (1.7, 2.5, 4.0) if n > 2 else (9.0,):
        rates, near = torn(wide, k)
        found = violation_rate(phi, k * scale)
        assert found.num_near == near
        np.testing.assert_allclose(found.rates, rates, rtol=1e-14)
        assert found.rates[0] == 0


def test_pairs_at_exactly_k_are_decided_by_differences():
    """On a grid of whole numbers many distances are k: not near, and not torn. Far from 0 products would not tell."""
    grid = np.stack(np.meshgrid(*[np.arange(5.0)] * 3), -1).reshape(-1, 3) + 1e7
    k = 3.0
    apart = np.round(np.linalg.norm(grid[:, None] - grid[None], axis=-1), 12)[np.triu_indices(125, 1)]
    found = violation_rate(np.stack([grid, grid, grid[:, ::-1], 2 * grid]), k)
    assert found.num_near == np.sum(apart < k)
    np.testing.assert_array_equal(found.rates[:3], 0)
    assert found.rates[3] == np.sum((apart < k) & (2 * apart > k)) / np.sum(apart < k)


@pytest.mark.parametrize("seed", [1, 2])
def test_isometries_tear_nothing_apart_and_order_does_not_matter(seed):
    phi = draw(seed, 700, 3)  # more than a tile
    turn = np.linalg.qr(draw(seed + 10, 3, 3))[0]
    moved = np.stack([phi, phi @ turn + 2.0, phi[:, ::-1] - 1.0])
    found = violation_rate(moved, 0.5)
    assert found.num_near > 1000
    np.testing.assert_array_equal(found.rates, 0)
    several = np.stack([phi, 1.5 * phi, draw(seed + 20, 700, 3)])
    perm = np.random.default_rng(seed).permutation(700)
    one, other = (violation_rate(x, 0.5) for x in (several, several[:, perm]))
    assert one.num_near == other.num_near
    np.testing.assert_array_equal(one.rates, other.rates)
    assert 0 < one.rates[1] < one.rates[2]


def test_several_tiles_are_what_one_matrix_gives():
    phi = draw(0, 2, 1100, 5, dtype=np.float32)
    i, j = np.triu_indices(1100, 1)
    apart = [np.linalg.norm(one[i] - one[j], axis=1) for one in phi.astype(np.float64)]
    found = violation_rate(phi, 1.0)
    assert found.num_near == np.sum(apart[0] < 1)
    assert found.rates[1] == np.sum((apart[0] < 1) & (apart[1] > 1)) / found.num_near


# --- bad input ------------------------------------------------------------------------------------------------------------

X = draw(0, 40, 3)
NAN = X.copy()
NAN[4, 1] = np.nan
A = run(1)


def overflows(params, z):
    return jnp.exp(1e3 * features(params, z))


BAD = {
    "no path": (lambda: representations(features, A.end, PROBE), TypeError, "path: got dict; expected a Path"),
    "one number a point": (lambda: representations(lambda p, z: features(p, z)[:, 0], A, PROBE), ValueError, r"expected .150, h., one row each"),
    "one row": (lambda: representations(lambda p, z: features(p, z)[:1], A, PROBE), ValueError, "for 150 probe points"),
    "two arrays": (lambda: representations(lambda p, z: (z, z), A, PROBE), ValueError, "for 150 probe points"),
    "counts": (lambda: representations(lambda p, z: jnp.zeros(z.shape, int), A, PROBE), TypeError, "real floating dtype"),
    "NaN activations": (lambda: representations(overflows, A, PROBE), ValueError, "path, at checkpoint 0: got .* not finite"),
    "too large": (lambda: representations(features, A, PROBE, memory=1e3), MemoryError, "memory="),
    "uneven probe": (lambda: representations(features, A, {"a": X, "b": X[1:]}), ValueError, "probe: got leaves with first axes"),
    "no rows": (lambda: representations(features, A, PROBE, rows=0), ValueError, "rows: got 0"),
    "violations of one checkpoint": (lambda: violation_rate(X[None], 1.0), ValueError, "at least two checkpoints"),
    "violations of points": (lambda: violation_rate(X, 1.0), ValueError, "write eq.paths.representations"),
    "violations of NaN": (lambda: violation_rate(np.stack([X, NAN]), 1.0), ValueError, "not finite at checkpoint 1"),
    "none is near": (lambda: violation_rate(np.stack([X, X]), 1e-6), ValueError, "no two of 40 probe points are nearer"),
    "no distance": (lambda: violation_rate(np.stack([X, X]), 0.0), ValueError, "k: got 0.0"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_clear_error(name):
    call, kind, said = BAD[name]
    with pytest.raises(kind, match=said):
        call()
