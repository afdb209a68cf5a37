"""optax against a NumPy loop and against PyTorch, on the paper's network: the optimizers are the ones that people mean.

Where definitions differ: optax.rmsprop puts eps under the root unless told otherwise, and PyTorch outside; PyTorch's `weight_decay` is added
to the gradient (`optax.add_decayed_weights` in front of the optimizer), except in AdamW, where it is decoupled (`optax.adamw`). The first
step of momentum is the gradient in both. PyTorch is optional: where it is absent its rows say so, and the NumPy loop stands.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import eqdyn as eq
from eqdyn.networks import two_layer

RATE, STEPS, BETA, EPS = 1e-3, 100, 0.9, 1e-8


def problem(dtype):
    random = np.random.default_rng(0)
    x, z, y = random.standard_normal((32, 3)), random.standard_normal((64, 2)), random.standard_normal(64)
    return x.astype(dtype), (z.astype(dtype), y.astype(dtype))


def slope(x, data):
    """The gradient of the mean squared error of `sum_i a_i sig(<w_i, z>)`, by hand."""
    z, y = data
    w, a = x[:, :-1], x[:, -1]
    s = 1 / (1 + np.exp(-(w @ z.T)))
    error = 2 * (a @ s - y) / len(y)
    return np.concatenate([((error * s * (1 - s)) @ z) * a[:, None], (s @ error)[:, None]], axis=1)


def loop(name, decay, x, data, steps):
    """Plain NumPy, as the books have it."""
    m, v = np.zeros_like(x), np.zeros_like(x)
    for t in range(1, steps + 1):
        g = slope(x, data) + (0 if name == "adamw" else decay * x)
        if name == "sgd":
            x = x - RATE * g
        elif name in ("momentum", "nesterov"):
            m = BETA * m + g
            x = x - RATE * (g + BETA * m if name == "nesterov" else m)
        elif name == "rmsprop":
            v = 0.99 * v + (1 - 0.99) * g**2
            x = x - RATE * g / (np.sqrt(v) + EPS)
        else:
            m, v = BETA * m + (1 - BETA) * g, 0.999 * v + (1 - 0.999) * g**2
            x = (1 - RATE * decay * (name == "adamw")) * x - RATE * (m / (1 - BETA**t)) / (np.sqrt(v / (1 - 0.999**t)) + EPS)
    return x


OPTAX = {
    "sgd": optax.sgd(RATE),
    "momentum": optax.sgd(RATE, momentum=BETA),
    "nesterov": optax.sgd(RATE, momentum=BETA, nesterov=True),
    "adam": optax.adam(RATE, eps=EPS),
    "rmsprop": optax.rmsprop(RATE, decay=0.99, eps=EPS, eps_in_sqrt=False),
}


def with_optax(name, decay, x, data, steps):
    tx = optax.adamw(RATE, eps=EPS, weight_decay=decay) if name == "adamw" else optax.chain(optax.add_decayed_weights(decay), OPTAX[name])
    rule = eq.rules.from_optax(tx, two_layer.regression)
    return np.asarray(eq.simulate(rule, jnp.asarray(x), num_steps=steps, data=jax.tree.map(jnp.asarray, data)).x)


def with_torch(name, decay, x, data, steps):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed; the NumPy loop stands")
    made = {
        "sgd": lambda p: torch.optim.SGD(p, RATE, weight_decay=decay),
        "momentum": lambda p: torch.optim.SGD(p, RATE, momentum=BETA, weight_decay=decay),
        "nesterov": lambda p: torch.optim.SGD(p, RATE, momentum=BETA, nesterov=True, weight_decay=decay),
        "adam": lambda p: torch.optim.Adam(p, RATE, eps=EPS, weight_decay=decay),
        "adamw": lambda p: torch.optim.AdamW(p, RATE, eps=EPS, weight_decay=decay),
        "rmsprop": lambda p: torch.optim.RMSprop(p, RATE, alpha=0.99, eps=EPS, weight_decay=decay),
    }
    held = torch.tensor(x, requires_grad=True)
    z, y = (torch.tensor(part) for part in data)
    optimizer = made[name]([held])
    for _ in range(steps):
        optimizer.zero_grad()
        torch.mean((held[:, -1] @ torch.sigmoid(held[:, :-1] @ z.T) - y) ** 2).backward()
        optimizer.step()
    return held.detach().numpy()


@pytest.mark.parametrize("decay", [0.0, 0.05])
@pytest.mark.parametrize("name", [*OPTAX, "adamw"])
@pytest.mark.parametrize("peer", [loop, with_torch], ids=["NumPy loop", "PyTorch"])
def test_optimizers_are_what_people_mean(peer, name, decay):
    x, data = problem(np.float64)
    one, many = (with_optax(name, decay, x, data, steps) for steps in (1, STEPS))
    moved = np.abs(many - x).max()
    assert moved > 1e-3
    assert np.abs(peer(name, decay, x, data, 1) - one).max() < 1e-12
    assert np.abs(peer(name, decay, x, data, STEPS) - many).max() < 1e-12
    x, data = problem(np.float32)
    one, many = (with_optax(name, decay, x, data, steps) for steps in (1, STEPS))
    assert many.dtype == np.float32
    assert np.abs(peer(name, decay, x, data, 1) - one).max() < 1e-6
    assert np.abs(peer(name, decay, x, data, STEPS) - many).max() < 1e-4 * moved
