"""Groups, data, shapes, topology: each against an independent route."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eqdyn as eq
from eqdyn.networks import two_layer

# --- groups ----------------------------------------------------------------------------------------------------------------

PARAMS = {
    "conv": jnp.arange(2 * 3 * 4 * 5.0).reshape(2, 3, 4, 5),
    "bias": jnp.arange(5.0),
    "next": {"kernel": jnp.arange(5 * 6.0).reshape(5, 6)},
    "other": jnp.arange(4.0),
}
GROUP = eq.groups.from_axes(PARAMS, {"conv": 3, "bias": -1, "next/kernel": 0})


def test_particles_are_the_slices_and_come_back():
    x = GROUP.particles(PARAMS)
    assert (GROUP.size, GROUP.dim, x.shape) == (5, 2 * 3 * 4 + 1 + 6, (5, 31))
    for i in range(5):
        np.testing.assert_array_equal(x[i], np.concatenate([PARAMS["conv"][..., i].ravel(), [PARAMS["bias"][i]], PARAMS["next"]["kernel"][i]]))
    back = GROUP.with_particles(PARAMS, 2 * x)
    np.testing.assert_array_equal(GROUP.particles(back), 2 * x)
    np.testing.assert_array_equal(back["other"], PARAMS["other"])
    assert back["conv"].shape == PARAMS["conv"].shape


def test_permuting_the_tree_permutes_the_particles():
    perm = np.asarray([3, 1, 4, 0, 2])
    np.testing.assert_array_equal(GROUP.particles(GROUP.permute(PARAMS, perm)), GROUP.particles(PARAMS)[perm])
    assert eq.groups.from_axes(PARAMS, {"conv": 3, "bias": 0, "next/kernel": 0}) == GROUP
    assert hash(GROUP) == hash(eq.groups.from_axes(PARAMS, {"conv": 3, "bias": 0, "next/kernel": 0}))
    assert [leaf.path for leaf in GROUP.leaves] == ["conv", "bias", "next/kernel"]


def test_a_classifier_is_its_particles():
    x = jax.random.normal(jax.random.key(0), (9, 4 + 3))
    params = two_layer.classifier(x, 4)
    np.testing.assert_array_equal(two_layer.neurons(params).particles(params), x)
    z = jax.random.normal(jax.random.key(1), (6, 4))
    np.testing.assert_allclose(two_layer.logits(params, z), jax.nn.sigmoid(z @ x[:, :4].T) @ x[:, 4:], atol=1e-13)


# --- data ------------------------------------------------------------------------------------------------------------------


def test_digits_are_the_digits():
    from sklearn.datasets import load_digits

    split = eq.data.digits()
    z, y = (np.concatenate([np.asarray(part) for part in pair]) for pair in zip(split.train, split.test, strict=True))
    found = load_digits()
    assert z.dtype == np.float32
    assert sorted(map(tuple, (z * 16).astype(int))) == sorted(map(tuple, found.data.astype(int)))
    assert np.bincount(y).tolist() == np.bincount(found.target).tolist()
    assert 0 <= z.min() <= z.max() <= 1


@pytest.mark.parametrize("input_dim", [1, 2])
def test_teacher_has_the_papers_statistics(input_dim):
    split = eq.data.teacher(key=jax.random.key(0), input_dim=input_dim)
    z = np.asarray(split.train[0])
    assert z.shape == (3500, input_dim)
    assert split.test[1].shape == (1500,)
    np.testing.assert_allclose(z.var(), 4, rtol=0.05)


# --- shapes ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize(
    ("make", "scale"),
    [
        (lambda key, dtype: eq.shapes.circle(120, key=key, dtype=dtype), 0.7),
        (lambda key, dtype: eq.shapes.clusters(60, key=key, count=3, dtype=dtype), 1.5),
        (lambda key, dtype: eq.shapes.sphere(256, key=key, even=True, dtype=dtype), "diameter/4"),
        (lambda key, dtype: eq.shapes.sphere(256, key=key, even=True, dim=74, dtype=dtype), "diameter/4"),
        (lambda key, dtype: eq.shapes.sphere(600, key=key, dtype=dtype), "diameter/4"),
    ],
)
def test_shapes_have_their_betti_numbers(make, scale, dtype):
    shape = make(jax.random.key(2), dtype)
    assert shape.points.dtype == dtype
    betti = eq.topology.betti(shape.points, scale=scale)
    assert betti[: len(shape.betti)] == shape.betti
    assert not any(betti[len(shape.betti) :])


def test_figure_eight_is_the_papers_curve():
    """Two loops: seen after stretching the narrow axis, which a Rips complex at one scale cannot follow."""
    shape = eq.shapes.figure_eight(600, key=jax.random.key(0))
    w, a = np.asarray(shape.points).T
    np.testing.assert_allclose(a**2, 4 * ((w + 2) / 0.1) ** 2 * (1 - ((w + 2) / 0.1) ** 2), atol=2e-4)
    assert eq.topology.betti(np.stack([10 * (w + 2), a], 1), scale=0.25) == (1, 2, 0)


def test_sphere_is_isometric_through_its_frame():
    x = eq.shapes.sphere(50, key=jax.random.key(0), dim=20, radius=3.0, dtype=jnp.float64).points
    np.testing.assert_allclose(jnp.linalg.norm(x, axis=1), 3, rtol=1e-12)
    assert np.linalg.matrix_rank(x) == 3


# --- topology --------------------------------------------------------------------------------------------------------------


def by_ranks(edges, prime=2):
    """b0, b1 of the flag complex of a small graph, from ranks over the rationals of the boundary matrices."""
    n = len(edges)
    pairs = [s for s in itertools.combinations(range(n), 2) if edges[s]]
    triangles = [t for t in itertools.combinations(range(n), 3) if all(edges[s] for s in itertools.combinations(t, 2))]
    d1, d2 = np.zeros((n, len(pairs))), np.zeros((len(pairs), len(triangles)))
    for k, (i, j) in enumerate(pairs):
        d1[i, k], d1[j, k] = -1, 1
    for k, (a, b, c) in enumerate(triangles):
        d2[pairs.index((a, b)), k], d2[pairs.index((b, c)), k], d2[pairs.index((a, c)), k] = 1, 1, -1
    rank1 = np.linalg.matrix_rank(d1) if pairs else 0
    rank2 = np.linalg.matrix_rank(d2) if triangles else 0
    return n - rank1, len(pairs) - rank1 - rank2


def test_betti_numbers_are_those_of_boundary_ranks():
    rng = np.random.default_rng(0)
    for _ in range(40):
        x = rng.normal(size=(rng.integers(2, 13), 2))
        r = rng.uniform(0.2, 2)
        d = np.linalg.norm(x[:, None] - x[None], axis=2)
        assert eq.topology.betti(x, scale=r, max_dim=1) == by_ranks(d <= r)


@pytest.mark.parametrize(
    ("points", "scale", "expected"),
    [
        (np.zeros((1, 2)), 1.0, (1, 0, 0)),
        (np.zeros((5, 2)), "diameter/4", (1, 0, 0)),
        (np.asarray([[0.0], [1.0]]), 0.5, (2, 0, 0)),
        (np.asarray([[0, 0], [1, 0], [1, 1], [0, 1]]), 1.0, (1, 1, 0)),
        (np.asarray([[0, 0], [1, 0], [1, 1], [0, 1]]) * (1 + 1e-9), 1.0, (4, 0, 0)),
        (np.asarray([[0, 0], [1, 0], [1, 1], [0, 1]]) + 1e8, 1.0, (1, 1, 0)),
        (np.concatenate([np.eye(3), -np.eye(3)]), 1.5, (1, 0, 1)),
    ],
)
def test_betti_in_corners(points, scale, expected):
    assert eq.topology.betti(points, scale=scale) == expected
