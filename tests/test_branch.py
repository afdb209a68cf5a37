"""A branch that stays one with lanes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eqdyn._branch import rarely


def dear(x, y):
    return {"a": jnp.sin(x) * y, "b": jnp.int32(1)}


def cheap(x, y):
    return {"a": jnp.zeros_like(x), "b": jnp.int32(0)}


@pytest.mark.parametrize("wanted", [[False] * 4, [True] * 4, [False, True, False, True], False, True])
@pytest.mark.parametrize("axes", [(0, 0), (0, None), (None, 0)])
def test_it_is_the_branch_of_every_lane(wanted, axes):
    x = jnp.arange(4.0) + 1 if axes[0] == 0 else jnp.float64(2.0)
    y = jnp.arange(4.0) - 7 if axes[1] == 0 else jnp.float64(3.0)
    lanes = 0 if isinstance(wanted, list) else None
    wanted = jnp.asarray(wanted)

    def one(wanted, x, y):
        return rarely(wanted, dear, cheap, x, y)

    def plain(wanted, x, y):
        return jax.lax.cond(wanted, dear, cheap, x, y)

    found, expected = (jax.jit(jax.vmap(call, in_axes=(lanes, *axes)))(wanted, x, y) for call in (one, plain))
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name])


def test_without_lanes_and_inside_loops():
    def step(carry, wanted):
        return carry + rarely(wanted, dear, cheap, carry, carry)["a"], None

    wanted = jnp.array([True, False, True])
    looped = jax.jit(lambda x: jax.lax.scan(step, x, wanted)[0])
    x = jnp.float64(0.3)
    expected = x
    for one in wanted:
        expected = expected + (jnp.sin(expected) * expected if one else 0)
    np.testing.assert_allclose(looped(x), expected, rtol=1e-14)
    lanes = jax.vmap(lambda x: jax.lax.scan(step, x, wanted)[0])(jnp.array([0.3, 0.7]))
    np.testing.assert_allclose(lanes[0], expected, rtol=1e-14)


def test_nothing_dear_is_computed_when_no_lane_wants_it():
    """Seen in the time that it takes: a callback in the dear side is not called."""
    calls = []

    def counted(x):
        return jax.pure_callback(lambda v: (calls.append(1), np.asarray(v))[1], jax.ShapeDtypeStruct(x.shape, x.dtype), x, vmap_method="sequential")

    call = jax.jit(jax.vmap(lambda wanted, x: rarely(wanted, counted, lambda x: x, x)))
    call(jnp.zeros(5, bool), jnp.arange(5.0)).block_until_ready()
    assert calls == []
    call(jnp.arange(5) == 2, jnp.arange(5.0)).block_until_ready()
    assert len(calls) == 5
