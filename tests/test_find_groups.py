"""Groups that are found against groups written by hand; symmetry that is broken on purpose is refused with the reason."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import BROKEN, MODELS, draw, inputs, made

import eqdyn as eq
from eqdyn.groups import Leaf, from_leaves


@pytest.fixture(autouse=True)
def as_users_write():
    """The models are written as users write theirs."""
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


def written(params, spec):
    """A group from its table in models.py."""
    leaves = []
    for path, places in sorted(spec.items()):
        for place in places if isinstance(places, list) else [places]:
            axis, starts, width = (place, (0,), 1) if isinstance(place, int) else place
            leaves.append(Leaf(path, axis, params[path].shape, starts, width))
    first = leaves[0]
    size = first.shape[first.axis] // (len(first.starts) * first.width) if first.starts == (0,) and first.width == 1 else None
    size = size or min(leaf.shape[leaf.axis] // (len(leaf.starts) * leaf.width) for leaf in leaves)
    return from_leaves(size, leaves)


def bare(group):
    return tuple(leaf._replace(outgoing=None) for leaf in group.leaves)


@pytest.mark.parametrize("name", MODELS)
def test_groups_are_those_written_by_hand(name):
    apply, params, batch, spec, found = made(name)
    expected = [written(params, one) for one in spec]
    assert {bare(group): (group.size, group.dim) for group in found} == {group.leaves: (group.size, group.dim) for group in expected}
    for group, seen in zip(found, found.verifications, strict=True):
        assert seen.holds
        assert (seen.dtype, seen.tolerance < 1e-10) == ("float64", True)
        assert eq.networks.verify(apply, params, batch, group, seed=7).holds
    assert len(found.named()) == len(found)
    assert all(str(group.size) in found.summary() for group in found)


@pytest.mark.parametrize("name", BROKEN)
def test_broken_symmetry_is_refused_with_the_reason(name):
    apply, words = BROKEN[name]
    params, batch = draw(w0=(3, 6), w1=(6, 2)), inputs(4, 3)
    found = eq.networks.find_groups(apply, params, batch)
    assert not found, found.summary()
    hidden = [one for one in found.fixed if (one.leaf.path, one.leaf.axis) in (("w0", 1), ("w1", 0))]
    assert hidden
    assert any(words in str(one) for one in hidden), hidden
    by_hand = eq.groups.from_axes(params, {"w0": 1, "w1": 0})
    assert not eq.networks.verify(apply, params, batch, by_hand).holds


LARGE = {
    "residual convolution, depthwise",
    "mixture of experts, two of four",
    "mixture of experts, looked up",
    "transformer with heads",
    "tied embeddings",
}


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow if name in LARGE else []) for name in MODELS])
def test_particles_go_there_and_back_and_permute(name):
    _, params, _, _, found = made(name)
    for group in found:
        x = group.particles(params)
        assert x.shape == (group.size, group.dim)
        back = group.with_particles(params, x)
        assert jax.tree.all(jax.tree.map(lambda a, b: jnp.array_equal(a, b), params, back))
        perm = np.random.default_rng(0).permutation(group.size)
        if not group.between:
            assert jnp.array_equal(group.particles(group.permute(params, perm)), x[perm])
        moved = group.with_particles(params, x + 1.0)
        assert jnp.allclose(group.particles(moved), x + 1.0, atol=1e-6)


def test_more_units_take_their_place_among_others():
    params = draw(left=(3, 4), right=(3, 4), out=(8, 2))
    apply, _, batch, _, found = made("concatenated branches")
    left = next(group for group in found if group.leaves[0].path == "left")
    x = left.particles(params)
    grown = left.with_units(params, jnp.concatenate([x, jnp.zeros((2, left.dim), x.dtype)]))
    assert {name: leaf.shape for name, leaf in grown.items()} == {"left": (3, 6), "right": (3, 4), "out": (10, 2)}
    assert jnp.allclose(apply(grown, batch), apply(params, batch))


def test_a_group_that_does_not_hold_by_a_little_is_refuted():
    """What a float32 check would take for rounding."""
    params, batch = draw(w0=(3, 6), w1=(6, 2)), inputs(4, 3)
    group = eq.groups.from_axes(params, {"w0": 1, "w1": 0})
    wrong = eq.networks.verify(lambda p, z: jnp.tanh(z @ p["w0"] + 1e-9 * jnp.arange(6)) @ p["w1"], params, batch, group)
    right = eq.networks.verify(lambda p, z: jnp.tanh(z @ p["w0"]) @ p["w1"], params, batch, group)
    assert (right.holds, wrong.holds) == (True, False)


@pytest.mark.parametrize("name", ["LSTM", "tied embeddings", "residual convolution, depthwise", "mixture of experts, two of four"])
def test_gradients_are_permuted_with_the_units(name):
    """P1 for gradient descent on a real model."""
    apply, params, batch, _, found = made(name)
    params, batch = jax.tree.map(lambda leaf: leaf.astype(jnp.float64) if leaf.dtype == jnp.float32 else leaf, (params, batch))
    slope = jax.jit(jax.grad(lambda p: jnp.mean(apply(p, batch) ** 2)))
    for group in found:
        perm = np.random.default_rng(3).permutation(group.size)
        permuted, moved = group.permute(slope(params), perm), slope(group.permute(params, perm))
        assert all(jax.tree.leaves(jax.tree.map(lambda a, b: bool(jnp.allclose(a, b, rtol=1e-9, atol=1e-12)), permuted, moved)))


OUTGOING = {
    "MLP of 2 hidden layers, biases": [{"w1"}, {"w2"}],
    "convolution with pooling": [{"k2"}, {"out"}],
    "batch normalisation": [{"out"}],
    "gated MLP": [{"down"}],
    "concatenated branches": [{"out"}, {"out"}],
    "mixture of experts, looked up": [{"down"}, {"not told"}],
    "tied embeddings": [{"not told"}, {"wo"}, {"wo"}, {"not told"}, {"down"}],
}


@pytest.mark.parametrize("name", OUTGOING)
def test_outgoing_weights_are_told_from_incoming_ones(name):
    *_, found = made(name)
    told = [{leaf.path if leaf.outgoing is not None else "not told" for leaf in group.leaves if leaf.outgoing is not False} for group in found]
    assert sorted(map(sorted, told)) == sorted(map(sorted, OUTGOING[name]))
