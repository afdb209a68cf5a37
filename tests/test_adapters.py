"""Models of other libraries: the same function, groups that are found and verified. Where a library is absent its rows say so."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import inputs

import eqdyn as eq


@pytest.fixture(autouse=True)
def as_users_write():
    with jax.enable_x64(False), jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


def equinox_mlp():
    equinox = pytest.importorskip("equinox")
    from eqdyn.networks.adapters import equinox as adapter

    model = equinox.nn.MLP(3, 2, 16, 2, key=jax.random.key(0))
    return (*adapter.split(model), jnp.asarray(inputs(4, 3)), jax.vmap(model), {16: 2})


def equinox_attention():
    equinox = pytest.importorskip("equinox")
    from eqdyn.networks.adapters import equinox as adapter

    class Block(equinox.Module):
        attention: equinox.nn.MultiheadAttention
        norm: equinox.nn.LayerNorm
        embed: equinox.nn.Linear
        out: equinox.nn.Linear

        def __call__(self, z):
            h = jax.vmap(self.embed)(z)
            n = jax.vmap(self.norm)(h)
            return jax.vmap(self.out)(h + self.attention(n, n, n))

    keys = jax.random.split(jax.random.key(0), 3)
    model = Block(
        equinox.nn.MultiheadAttention(2, 8, key=keys[0]),
        equinox.nn.LayerNorm(8),
        equinox.nn.Linear(3, 8, key=keys[1]),
        equinox.nn.Linear(8, 2, key=keys[2]),
    )
    return (*adapter.split(model), inputs(2, 5, 3), jax.vmap(model), {8: 1, 2: 1, 4: 2})  # stream, heads, units within query-key and value


def nnx_convolution():
    nnx = pytest.importorskip("flax.nnx")
    from eqdyn.networks.adapters import nnx as adapter

    class Model(nnx.Module):
        def __init__(self, rngs):
            self.conv, self.norm = nnx.Conv(1, 6, (3, 3), rngs=rngs), nnx.BatchNorm(6, use_running_average=True, rngs=rngs)
            self.out = nnx.Linear(4 * 4 * 6, 3, rngs=rngs)

        def __call__(self, z):
            h = nnx.relu(self.norm(self.conv(z)))
            return self.out(h.reshape(h.shape[0], -1))

    model = Model(nnx.Rngs(0))
    return (*adapter.split(model), inputs(2, 4, 4, 1), model, {6: 1})


def haiku_lstm():
    haiku = pytest.importorskip("haiku")
    from eqdyn.networks.adapters import haiku as adapter

    def forward(z):
        core = haiku.LSTM(7)
        h, _ = haiku.dynamic_unroll(core, jnp.swapaxes(z, 0, 1), core.initial_state(z.shape[0]))
        return haiku.Linear(2)(h[-1])

    model, z = haiku.without_apply_rng(haiku.transform(forward)), inputs(4, 5, 3)
    params = model.init(jax.random.key(0), z)
    return (*adapter.split(model, params, keyed=False), z, lambda z: model.apply(params, z), {7: 1})


def linen_gru():
    linen = pytest.importorskip("flax.linen")
    from eqdyn.networks.adapters import haiku as adapter

    class Model(linen.Module):
        @linen.compact
        def __call__(self, z):
            return linen.Dense(2)(linen.RNN(linen.GRUCell(features=6))(z)[:, -1])

    model, z = Model(), inputs(4, 5, 3)
    params = model.init(jax.random.key(0), z)
    return (*adapter.split(model, params, keyed=False), z, lambda z: model.apply(params, z), {6: 1})


@pytest.mark.parametrize("made", [equinox_mlp, pytest.param(equinox_attention, marks=pytest.mark.slow), nnx_convolution, haiku_lstm, linen_gru])
def test_models_of_other_libraries(made):
    apply, params, z, whole, sizes = made()
    np.testing.assert_allclose(apply(params, z), whole(z), rtol=1e-5, atol=1e-6)
    found = eq.networks.find_groups(apply, params, z)
    counts = {}
    for group in found:
        counts[group.size] = counts.get(group.size, 0) + 1
    assert counts == sizes, found.summary()
    monitor = eq.networks.Monitor(found, certificate=1)
    for _ in range(3):
        monitor(params)
        params = jax.tree.map(lambda p, g: p - 0.05 * g, params, jax.grad(lambda p: jnp.mean(apply(p, z) ** 2))(params))
    assert "nobody merged" in monitor.close().summary()


@pytest.mark.slow
def test_views_of_a_state_dict_will_do():
    """What PyTorch has in a `state_dict`: NumPy views, rows the units of a layer, columns those of the layer before."""
    random = np.random.default_rng(0)
    shapes = {"0.weight": (32, 5), "0.bias": (32,), "2.weight": (3, 32)}
    state = {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    hidden = eq.groups.from_axes(state, {"0.weight": 0, "0.bias": 0, "2.weight": 1})
    after = {name: leaf * np.float32(0.9) for name, leaf in state.items()}
    found = eq.certify(state, after, group=hidden)
    assert found.verdict == "injective"
    assert abs(found.q - 0.1) < 1e-6
    assert eq.topology.betti(hidden.particles(state), max_dim=1)[0] >= 1
