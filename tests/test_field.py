"""Fields: the first variation, twins without cross-talk, sums over all pairs in tiles."""

import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import USERS_FLAGS
from tables import WEIGHTED, batch, start

import eqdyn as eq

RULE = eq.rules.gradient(WEIGHTED, weighted=True)


def weighted_start(seed=0):
    x = start(jnp.float64, seed)
    return eq.Weighted(x, jax.random.uniform(jax.random.key(seed), (len(x),), minval=0.5, maxval=3.0))


@pytest.mark.parametrize("weights", ["one", "random"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_probe_at_the_particles_is_update(seed, weights):
    data = batch(jnp.float64)
    x = weighted_start(seed) if weights == "random" else start(jnp.float64, seed)
    points = x.x if weights == "random" else x
    u = RULE.update(x, (), data).u
    v = RULE.probe(points, (), x, (), data).u
    np.testing.assert_allclose(v, u.x if weights == "random" else u, rtol=0, atol=1e-12)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_probe_jacobian_is_the_half_weight_twin_jvp(seed):
    """One JVP of the doubled system, +v and -v on the two halves of every particle, gives T_i v_i for all i at once."""
    data, x = batch(jnp.float64), weighted_start(seed)
    n = len(x.weight)
    v = jax.random.normal(jax.random.key(seed + 10), x.x.shape)
    jacobian = jax.vmap(jax.jacfwd(lambda y: RULE.probe(y[None], (), x, (), data).u[0]))(x.x)
    expected = jnp.einsum("nij,nj->ni", jacobian, v)

    def doubled(points):
        return RULE.update(eq.Weighted(points, jnp.concatenate([x.weight, x.weight]) / 2), (), data).u.x

    twins = jnp.concatenate([x.x, x.x])
    _, along = jax.jvp(doubled, (twins,), (jnp.concatenate([v, -v]),))
    np.testing.assert_allclose(along[:n], expected, rtol=0, atol=1e-10)
    np.testing.assert_allclose(along[n:], -expected, rtol=0, atol=1e-10)
    # no cross-talk: a tangent on one pair of twins moves nobody else
    lone = jnp.zeros_like(v).at[3].set(v[3])
    _, along = jax.jvp(doubled, (twins,), (jnp.concatenate([lone, -lone]),))
    others = np.delete(np.asarray(along), [3, n + 3], axis=0)
    assert np.max(np.abs(others)) < 1e-12


def test_probe_jacobian_is_the_closed_form_swap_curvature():
    """Two layers, scalar output, squared loss: T = -(2/n) sum_z r [[a s'' z z^t, s' z], [s' z^t, 0]]."""
    x, (z, y) = start(jnp.float64), batch(jnp.float64)
    jacobian = jax.vmap(jax.jacfwd(lambda p: RULE.probe(p[None], (), x, (), (z, y)).u[0]))(x)
    w, a = x[:, :-1], x[:, -1]
    s = jax.nn.sigmoid(z @ w.T)
    s1, s2 = s * (1 - s), s * (1 - s) * (1 - 2 * s)
    r = s @ a - y
    corner = -2 / len(z) * jnp.einsum("b,bn,bi,bj->nij", r, a[None] * s2, z, z)
    edge = -2 / len(z) * jnp.einsum("b,bn,bi->ni", r, s1, z)
    np.testing.assert_allclose(jacobian[:, :-1, :-1], corner, atol=1e-13)
    np.testing.assert_allclose(jacobian[:, -1, :-1], edge, atol=1e-13)
    np.testing.assert_allclose(jacobian[:, -1, -1], 0, atol=1e-13)


def test_tracers_feel_the_field_and_do_not_act_back():
    data, x = batch(jnp.float64), start(jnp.float64)
    y = jax.random.normal(jax.random.key(3), (7, 3))
    alone = RULE.probe(y[:1], (), x, (), data).u
    together = RULE.probe(y, (), x, (), data).u
    np.testing.assert_allclose(alone, together[:1], atol=1e-14)


@pytest.mark.parametrize("normalize", [False, True])
def test_pair_kernel_is_the_double_sum(normalize, monkeypatch):
    def kernel(a, b, data):
        return data * (b - a) * jnp.exp(-jnp.sum((a - b) ** 2))

    x = weighted_start()
    field = eq.field.pair_kernel(kernel, normalize=normalize)
    expected = np.array([sum(float(w) * np.asarray(kernel(a, b, 2.0)) for b, w in zip(x.x, x.weight, strict=True)) for a in x.x])
    expected = expected / float(jnp.sum(x.weight)) if normalize else expected
    np.testing.assert_allclose(field.force(x, 2.0)[0].x, expected, atol=1e-13)
    monkeypatch.setattr(eq.field, "TILE_BYTES", 20_000)  # several tiles, the last one filled up
    np.testing.assert_allclose(field.force(x, 2.0)[0].x, expected, atol=1e-13)
    np.testing.assert_allclose(field.at(x.x[:5], x, 2.0), expected[:5], atol=1e-13)


def test_mean_field_is_the_sum_over_all_with_weights():
    x = weighted_start()
    field = eq.field.mean_field(lambda p, data: data * p**2, lambda p, s: s - p)
    total = jnp.sum(x.weight[:, None] * 3 * x.x**2, axis=0, keepdims=True)
    np.testing.assert_allclose(field.force(x, 3.0)[0].x, total - x.x, atol=1e-12)


def test_equal_particles_get_equal_bits_in_tiles(monkeypatch):
    monkeypatch.setattr(eq.field, "TILE_BYTES", 30_000)
    x = start(jnp.float32, n=50).at[49].set(start(jnp.float32, n=50)[0])
    u = eq.rules.from_field(eq.field.pair_kernel(lambda a, b: (b - a) / (1 + jnp.sum((a - b) ** 2)))).update(x, ()).u
    np.testing.assert_array_equal(u[0], u[49])


@pytest.mark.slow
def test_twenty_thousand_particles_fit_in_two_gib():
    """All pairs of N = 20,000 in float32: peak memory of a fresh process, in KiB (Linux tells it)."""
    if not pathlib.Path("/proc/self/status").exists():
        pytest.skip("peak memory is read from /proc")
    code = """
import re, jax, jax.numpy as jnp, eqdyn as eq
x = jax.random.normal(jax.random.key(0), (20_000, 2), jnp.float32)
rule = eq.rules.from_field(eq.field.pair_kernel(lambda a, b: (b - a) / (1 + jnp.sum((a - b) ** 2)), normalize=True))
x, _, _ = jax.jit(lambda x: eq.step(rule, x, (), 0.1))(x)
x, _, _ = jax.jit(lambda x: eq.step(eq.rules.self_attention(), x, (), 0.1))(x)
eq.measure.pair_constants(x, -x).k_pair.block_until_ready()
print(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])
"""
    environment = os.environ | {"XLA_FLAGS": USERS_FLAGS}  # as a user has it: it computes longer than it compiles
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert int(done.stdout) < 2 * 2**20, f"{int(done.stdout) / 2**20:.2f} GiB"
