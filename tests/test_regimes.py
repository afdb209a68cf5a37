"""The regime of real training: digits and MNIST, 4 x 4 pixels, a network of 118 parameters after 3,000 steps of Adam."""

import functools
import os

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import eqdyn as eq

NUM, HIDDEN, STEPS = 16, 4, 6000
TAU = 3999  # memory of the natural gradient's metric; it moves once that is filled


def loss(params, data):
    z, labels = data
    hidden = jnp.tanh(z @ params["in"] + params["b"][None])
    return optax.softmax_cross_entropy_with_integer_labels(hidden @ params["out"] + params["c"][None], labels).mean()


@functools.cache
def trained(name):
    """Images pooled to 4 x 4, and parameters where gradients are mostly noise."""
    images, labels = (eq.data.digits() if name == "digits" else eq.data.mnist()).train
    side = int(np.sqrt(images.shape[1]))
    images = np.asarray(images[:10_000], float).reshape(-1, 4, side // 4, 4, side // 4).mean((2, 4)).reshape(-1, NUM)
    data = jnp.asarray(images / images.max()), jnp.asarray(labels[:10_000])
    one, two = jax.random.split(jax.random.key(0))
    params = {
        "in": jax.random.normal(one, (NUM, HIDDEN)) / 4, "b": jnp.zeros(HIDDEN), "out": jax.random.normal(two, (HIDDEN, 10)) / 2, "c": jnp.zeros(10),
    }  # fmt: skip
    rule = eq.rules.from_optax(optax.adam(1.0), loss)
    return data, eq.simulate(rule, params, eta=1e-3, num_steps=3000, data=eq.Batches(data, 32), key=jax.random.key(3)).x


def waiting(count):
    return jnp.where(count < STEPS // 3, 0.0, 1.0)


OPTIMIZERS = {
    "SGD": (optax.sgd(1.0), 0.05, 0.0),
    "Adam, beta1 = 0": (optax.adam(1.0, b1=0.0), 1e-4, 0.5),
    # a metric that lags behind its noise is another metric: ten times this step reads 0.94
    "natural": (eq.covariant.descent(waiting, 1.0, tau1=0, tau2=TAU, structure="full", refresh=10), 1e-6, 1.0),
}
CASES = [
    pytest.param(data, name, marks=pytest.mark.slow if data == "mnist" or name == "natural" else ())
    for data in ("digits", "mnist") for name in OPTIMIZERS
]  # fmt: skip


def read(data, params, tx, eta, batch, num_steps=STEPS):
    data = data if batch is None else eq.Batches(data, batch)
    run = eq.simulate(eq.rules.from_optax(tx, loss), params, eta=eta, num_steps=num_steps, data=data, key=jax.random.key(1),
                      observe={"regime": eq.observe.regime(loss)})  # fmt: skip
    return run, run.observed["regime"].exponent(first=num_steps // 3)


@pytest.mark.parametrize(("data", "name"), CASES)
def test_the_regime_of_an_optimizer_in_training(data, name):
    if data == "mnist" and "EQDYN_DATA" not in os.environ:
        pytest.skip("EQDYN_DATA is not set")
    tx, eta, alpha = OPTIMIZERS[name]
    data, params = trained(data)
    run, found = read(data, params, tx, eta, 8)
    print(f"{name}: {found.alpha:.4f} ({found.low:.4f} to {found.high:.4f}), {found.verdict}, {found.method}, {found.decades:.1f} decades")
    assert found.low <= alpha <= found.high
    assert found.high - found.low < 0.05
    if name != "SGD":  # for which both are right
        assert found.method == {"Adam, beta1 = 0": "coordinates", "natural": "directions"}[name]
    assert float(loss(run.x, data)) < float(loss(params, data)), "it trains"


def test_where_there_is_no_noise_it_says_so():
    data, params = trained("digits")
    _, found = read(data, params, optax.adam(1.0, b1=0.0), 1e-4, None, 600)
    assert found.verdict.startswith("unresolved: what the gradients do from step to step is no noise")
