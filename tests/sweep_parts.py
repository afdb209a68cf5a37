"""What the tests of sweeps share, importable by the processes that they start."""

import os
import time

import jax.numpy as jnp

import eqdyn as eq

X0 = jnp.asarray([[0.0, 1.0], [4.0, 0.5], [1.0, -2.0], [0.3, 0.7]], jnp.float32)
ASKED = {
    "grid": {"eta": [0.1, 0.5, 1.0, 1.5, 2.5], "seed": [0, 1, 2]}, "num_steps": 6, "lanes": 4, "force": True,
    "observe": {"ledger": eq.observe.certificate()},
}  # fmt: skip


def start(key):
    """A start that follows from the seed."""
    return eq.shapes.disc(12, key=key).points


def slow_start(key):
    """One that takes its time, so that a worker can be killed meanwhile."""
    time.sleep(float(os.environ.get("SLOW", "0")))
    return start(key)


def consensus(rate=1.0):
    return eq.rules.consensus(rate=rate)
