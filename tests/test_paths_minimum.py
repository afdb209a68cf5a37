"""Persistence of a minimum: planted landscapes, invariances, brute force."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eqdyn as eq


def wells(x):
    """Two wells along the first axis, as deep as each other, a pass of height 1 between."""
    return (x[0] ** 2 - 1) ** 2 + jnp.sum(x[1:] ** 2)


def ring(x):
    return (jnp.sum(x**2) - 1) ** 2


def test_a_bowl_has_no_bars_and_a_ring_has_a_loop():
    key = jax.random.key(0)
    bowl = eq.paths.planes(lambda x: jnp.sum(x**2), jnp.ones(6), num_planes=3, num=11, key=key)
    assert bowl.total == 0
    assert np.all(bowl.ranges > 0)
    # all of the plane lies through the origin's neighbour on the ring: the ring itself, a loop from 0 to 1
    found = eq.paths.planes(ring, jnp.array([1.0, 0.0]), num_planes=4, num=81, radius=4.0, key=key)
    np.testing.assert_allclose(found.totals[:, 1], 1, atol=0.15)
    assert found.losses.shape == (4, 81, 81)


def test_totals_shift_and_scale_with_the_loss():
    key, x = jax.random.key(1), jnp.array([1.0, 0.3])
    one = eq.paths.planes(wells, x, num=31, radius=2.0, key=key)
    shifted = eq.paths.planes(lambda x: wells(x) + 5, x, num=31, radius=2.0, key=key)
    scaled = eq.paths.planes(lambda x: 3 * wells(x), x, num=31, radius=2.0, key=key)
    assert one.total > 0
    np.testing.assert_allclose(shifted.total, one.total, rtol=1e-6)
    np.testing.assert_allclose(scaled.total, 3 * one.total, rtol=1e-6)
    np.testing.assert_allclose(scaled.normalised, one.normalised, rtol=1e-6)
    same = eq.paths.planes(wells, x, num=31, radius=2.0, key=key)
    np.testing.assert_array_equal(same.losses, one.losses)


def test_the_ball_finds_the_other_well():
    """Two wells in three dimensions, the second of depth 0 too: a bar of about the height of the pass, when the ball reaches it."""
    x = jnp.array([1.0, 0.0, 0.0])
    near = eq.paths.ball(wells, x, num=600, neighbours=10, radius=0.5, key=jax.random.key(0))
    far = eq.paths.ball(wells, x, num=3000, neighbours=10, radius=2.5, key=jax.random.key(0))
    longest = [max((bar[1] - bar[0] for bar in found.diagrams[0].bars[0]), default=0) for found in (near, far)]
    assert longest[0] < 0.1
    assert 0.8 < longest[1] < 1.4  # the graph passes the col near by, above it
    assert far.losses[0, 0] == 0


def test_directions_are_as_long_as_the_particles():
    """Filter-normalised: along a direction every particle moves by its own length; leaves outside groups by theirs."""
    params = {"w": jnp.array([[1.0, 2.0, 0.0], [1.0, -2.0, 0.0]]), "out": jnp.array([2.0, 3.0, 0.0]), "b": jnp.array([0.1])}
    groups = eq.networks.find_groups(lambda p, z: jnp.tanh(z @ p["w"]) @ p["out"] + p["b"], params, jnp.ones((4, 2)))
    from eqdyn.paths._minimum import _direction

    for seed in range(5):
        way = _direction(params, tuple(groups), jax.random.key(seed))
        np.testing.assert_allclose(jnp.linalg.norm(groups[0].particles(way), axis=1), jnp.linalg.norm(groups[0].particles(params), axis=1), rtol=1e-5)
        np.testing.assert_allclose(jnp.abs(way["b"]), 0.1, rtol=1e-5)
        assert np.all(np.isfinite(np.concatenate([np.asarray(leaf).ravel() for leaf in jax.tree.leaves(way)])))


def test_a_network_scaled_from_layer_to_layer_is_the_same_up_to_its_filters():
    """relu(c w z) out / c is the same function: with directions per particle the totals stay of one size, without groups they need not."""
    z = jax.random.normal(jax.random.key(5), (64, 2))
    y = jnp.sin(3 * z[:, 0]) * z[:, 1]

    def apply(p, z):
        return jax.nn.relu(z @ p["w"]) @ p["out"]

    params = {"w": jax.random.normal(jax.random.key(6), (2, 12)), "out": jax.random.normal(jax.random.key(7), (12,)) / 4}
    groups = eq.networks.find_groups(apply, params, z)
    found = eq.paths.planes(lambda p: jnp.mean((apply(p, z) - y) ** 2), params, groups=groups, num=9, num_planes=2, key=jax.random.key(0))
    assert found.ranges.shape == (2,)
    assert np.all(found.ranges > 0)


def test_merge_trees_are_minimax_paths():
    rng = np.random.default_rng(0)
    at = rng.uniform(0, 0.1, 7)
    height = rng.uniform(0, 1, (7, 7))
    height = height + height.T
    np.fill_diagonal(height, 0)
    found = eq.paths.merge_tree(at, height)
    level = np.maximum(at[:, None], at) + height
    for k in range(7):
        level = np.minimum(level, np.maximum(level[:, k][:, None], level[k]))
    order = np.argsort(at)
    deaths = [min(level[order[k], order[j]] for j in range(k)) for k in range(1, 7)]
    np.testing.assert_allclose(np.sort(found.bars[0][:, 1]), np.sort(deaths))
    assert found.essential[0].tolist() == [at.min()]


def test_losses_that_are_not_finite_come_last():
    found = eq.paths.planes(
        lambda x: jnp.where(jnp.sum(x**2) > 2, jnp.inf, jnp.sum(x**2)), jnp.array([1.0, 0.0]), num=21, radius=2.0, key=jax.random.key(0)
    )
    assert np.isinf(found.losses).any()
    assert np.isfinite(found.total)
    assert np.all(found.ranges < 2.1)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"radius": -1.0}, ValueError, "radius"),
        ({"num": 2}, ValueError, "num"),
        ({"num_planes": 0}, ValueError, "num_planes"),
        ({"params": jnp.array([jnp.nan])}, ValueError, "params"),
        ({"loss": lambda x: jnp.inf * jnp.sum(x)}, ValueError, "loss is not finite"),
        ({"groups": 3}, TypeError, "groups: got int"),
    ],
)
def test_bad_input(change, error, message):
    arguments = {"loss": lambda x: jnp.sum(x**2), "params": jnp.ones(3), "num": 5, "num_planes": 1, "key": jax.random.key(0)} | change
    with pytest.raises(error, match=message):
        eq.paths.planes(arguments.pop("loss"), arguments.pop("params"), **arguments)
    with pytest.raises(ValueError, match="neighbours: got 9"):
        eq.paths.ball(lambda x: jnp.sum(x**2), jnp.ones(3), num=9, neighbours=9, key=jax.random.key(0))
    with pytest.raises(ValueError, match="symmetric"):
        eq.paths.merge_tree([0.0, 1.0], [[0.0, 1.0], [2.0, 0.0]])
