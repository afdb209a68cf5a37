"""Folding merged units: outputs stay within the stated bound on all data, and stay to rounding where it is 0."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import draw, inputs, made

import eqdyn as eq


@pytest.fixture(autouse=True)
def as_users_write():
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


def doubled(params, group, seed=0, *, near=0.0):
    """The tree with half of its units made (nearly) equal to others in what goes in, outgoing weights left as they are."""
    random = np.random.default_rng(seed)
    x = np.array(group.particles(params))
    going = np.repeat([bool(leaf.outgoing) for leaf in group.leaves], [leaf.dim() for leaf in group.leaves])
    units = random.permutation(group.size)
    half = group.size // 2
    noise = near * random.standard_normal((half, int((~going).sum())))
    x[np.ix_(units[:half], ~going)] = x[np.ix_(units[half : 2 * half], ~going)] + noise
    return group.with_particles(params, jnp.asarray(x, jnp.float32))


FOLDED = [
    "MLP of 2 hidden layers, biases",
    "batch normalisation",
    "convolution with pooling",
    "residual convolution, depthwise",
    "gated MLP",
    "concatenated branches",
    "layers in a scan",
    "mixture of experts, two of four",
    "transformer with heads",
]


LARGE = {"residual convolution, depthwise", "layers in a scan", "mixture of experts, two of four", "transformer with heads"}


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow if name in LARGE else []) for name in FOLDED])
def test_outputs_stay_where_units_compute_the_same(name):
    apply, params, batch, _, found = made(name)
    folded = 0
    for group in found:
        if group.between or any(leaf.outgoing is None for leaf in group.leaves) or not any(leaf.outgoing for leaf in group.leaves):
            continue
        twins = doubled(params, group)
        small = eq.networks.compress(twins, group)
        assert small.size == group.size - group.size // 2 == eq.networks.effective_width(twins, group)
        assert small.change == 0.0
        if not any(leaf.width > 1 for leaf in group.leaves):  # a model that splits heads by a fixed number does not take fewer
            before, after = apply(twins, batch), apply(small.params, batch)
            assert float(jnp.max(jnp.abs(before - after))) < 1e-5 * float(jnp.max(jnp.abs(before)) + 1.0)
        folded += 1
    assert folded


@pytest.mark.parametrize("near", [1e-4, 1e-2, 0.3])
@pytest.mark.parametrize(("phi", "lipschitz"), [(jnp.tanh, 1.0), (jax.nn.sigmoid, 0.25), (jax.nn.relu, 1.0)], ids=["tanh", "sigmoid", "relu"])
def test_the_bound_covers_the_change_of_the_output(near, phi, lipschitz):
    def apply(p, z):
        return phi(z @ p["w"] + p["b"]) @ p["out"]

    params, data = draw(w=(5, 64), b=(64,), out=(64, 3)), 3.0 * inputs(500, 5)
    (group,) = eq.networks.find_groups(apply, params, data)
    params = doubled(params, group, near=near)
    small = eq.networks.compress(params, group, tol=10 * near)
    assert small.size < group.size
    assert np.all(small.distance <= 10 * near)
    change = np.linalg.norm(np.asarray(apply(params, data) - apply(small.params, data)), axis=1)
    bound = small.bound(data, lipschitz=lipschitz)
    assert np.all(change <= bound + 1e-4)
    assert np.max(change / bound) > 0.01  # it is of use: not off by orders of magnitude


def test_accuracy_is_unchanged_on_digits():
    """A trained network whose units were doubled: half of it says the same on all test data."""
    from eqdyn.networks import two_layer

    split = eq.data.digits()
    x0 = jax.random.normal(jax.random.key(0), (32, 74), jnp.float32) * 0.3
    rule = eq.rules.gradient(two_layer.cross_entropy)
    run = eq.simulate(rule, two_layer.classifier(x0, 64), eta=1.0, num_steps=400, data=eq.Batches(split.train, 256), key=jax.random.key(1))
    group = two_layer.neurons(run.x)
    twins = group.with_units(run.x, jnp.repeat(group.particles(run.x), 2, axis=0))
    twins = {**twins, "output": twins["output"] / 2.0}
    small = eq.networks.compress(twins, two_layer.neurons(twins), outgoing=["output"])
    assert small.size == 32
    assert small.change == 0.0
    said = [two_layer.logits(tree, split.test[0]) for tree in (twins, small.params)]
    assert jnp.array_equal(jnp.argmax(said[0], 1), jnp.argmax(said[1], 1))
    assert float(jnp.mean(jnp.argmax(said[0], 1) == split.test[1])) > 0.8


def test_what_cannot_be_folded_is_refused():
    params = draw(w=(3, 6), out=(6, 2))
    by_hand = eq.groups.from_axes(params, {"w": 1, "out": 0})
    with pytest.raises(ValueError, match="which weights go out"):
        eq.networks.compress(params, by_hand)
    with pytest.raises(ValueError, match="expected some of"):
        eq.networks.compress(params, by_hand, outgoing=["other"])
    with pytest.raises(ValueError, match="tol"):
        eq.networks.compress(params, by_hand, -1.0, outgoing=["out"])
    for name in ("LSTM", "tied embeddings"):
        _, params, _, _, found = made(name)
        with pytest.raises(ValueError, match=r"between themselves|more than sums"):
            eq.networks.compress(params, found[0])
