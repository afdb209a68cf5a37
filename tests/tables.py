"""The tables that all tests share: rules, broken rules, a batch and a start. A new rule is a row."""

import jax
import jax.numpy as jnp
import optax

import eqdyn as eq
from eqdyn.networks import two_layer

N, D = 24, 3


def batch(dtype):
    split = eq.data.teacher(key=jax.random.key(7), input_dim=D - 1, num_examples=200, dtype=dtype)
    return split.train


def start(dtype, seed=0, n=N, d=D):
    return jax.random.normal(jax.random.key(seed), (n, d), dtype)


LOSS, WEIGHTED = two_layer.regression, two_layer.weighted_regression

# name -> (constructor, whether it takes the batch)
RULES = {
    "gradient": (lambda: eq.rules.gradient(LOSS), True),
    "heavy_ball": (lambda: eq.rules.heavy_ball(LOSS), True),
    "adam": (lambda: eq.rules.adam(LOSS), True),
    "adam_delayed": (lambda: eq.rules.adam_delayed(LOSS), True),
    "consensus": (lambda: eq.rules.consensus(), False),
    "self_attention": (lambda: eq.rules.self_attention(beta=2.0), False),
    "nesterov": (lambda: eq.rules.nesterov(LOSS), True),
    "rmsprop": (lambda: eq.rules.rmsprop(LOSS), True),
    "adamw": (lambda: eq.rules.adamw(LOSS), True),
    "sign_descent": (lambda: eq.rules.sign_descent(LOSS), True),
    "lion": (lambda: eq.rules.lion(LOSS, decay=0.1), True),
    "weight_decay": (lambda: eq.rules.weight_decay(eq.rules.heavy_ball(LOSS), decay=0.1), True),
    "attraction_repulsion": (lambda: eq.rules.attraction_repulsion(), False),
    "hegselmann_krause": (lambda: eq.rules.hegselmann_krause(radius=1.5), False),
    "stein": (lambda: eq.rules.stein(wells), False),
    "kuramoto": (lambda: eq.rules.kuramoto(), False),
    "wasserstein_flow": (lambda: eq.rules.wasserstein_flow(spread), False),
}
# those that draw: without a key they are an error
KEYED = {
    "langevin": (lambda: eq.rules.langevin(LOSS, length=1.0), True),
}
# further forms of the same contract
ADAPTED = {
    "gradient, weighted": (lambda: eq.rules.gradient(WEIGHTED, weighted=True), True),
    "adam, weighted": (lambda: eq.rules.adam(WEIGHTED, weighted=True), True),
    "optax sgd": (lambda: eq.rules.from_optax(optax.sgd(1.0, momentum=0.9), LOSS), True),
    "optax adam": (lambda: eq.rules.from_optax(optax.adam(1.0), LOSS), True),
    "optax clipped": (lambda: eq.rules.from_optax(optax.chain(optax.clip_by_global_norm(0.1), optax.sgd(1.0)), LOSS), True),
    "pair kernel": (lambda: eq.rules.from_field(eq.field.pair_kernel(_spring, normalize=True)), False),
    "own function": (lambda: eq.rules.from_function(_towards_mean), False),
}


def wells(x):
    """A potential of one particle."""
    return jnp.sum(x**2) / 2 + jnp.sum(jnp.cos(2 * x))


def spread(x, mass):
    """An energy of a measure: a bowl, and repulsion at close range."""
    distances2 = jnp.sum((x[:, None] - x[None]) ** 2, axis=2)
    return mass @ jnp.sum(x**2, axis=1) / 2 + mass @ jnp.exp(-distances2) @ mass


def _spring(a, b):
    return (b - a) * jnp.exp(-jnp.sum((a - b) ** 2))


def _towards_mean(x):
    return jnp.mean(x, axis=0, keepdims=True) - x


def _index(x):
    return jnp.arange(x.shape[0], dtype=x.dtype)[:, None] / x.shape[0]


def _per_particle_key(x, *, key):
    noise = jax.vmap(lambda k: jax.random.normal(k, x.shape[1:], x.dtype))(jax.random.split(key, x.shape[0]))
    return _towards_mean(x) + 1e-2 * noise


def _one_after_another(x):
    """Gauss-Seidel in place of Jacobi, with a step of 1e-3: particle i sees those before it already moved."""

    def move(y, i):
        u = jnp.mean(y, axis=0) - y[i]
        return y.at[i].add(1e-3 * u), u

    return jax.lax.scan(move, x, jnp.arange(x.shape[0]))[1]


# each must FAIL P1
BROKEN = {
    "index-dependent rate of 1e-3": lambda x: (1 + 1e-3 * _index(x)) * _towards_mean(x),
    "sorted": lambda x: jnp.sort(x, axis=0),
    "cumulative sum": lambda x: jnp.cumsum(x, axis=0),
    "dropped particle": lambda x: _towards_mean(x).at[-1].set(0.0),
    "per-particle key": _per_particle_key,
    "particle after particle": _one_after_another,
    "neighbour in memory": lambda x: jnp.roll(x, 1, axis=0) - x,
    "particle 0 leads": lambda x: x[:1] - x,
    "softmax normalised under a causal mask": lambda x: jax.nn.softmax(jnp.where(jnp.tri(x.shape[0], dtype=bool), x @ x.T, -jnp.inf), axis=1) @ x,
    "normalised along the wrong axis": lambda x: (x @ x.T / jnp.sum(jnp.abs(jnp.cumsum(x @ x.T, axis=0)), axis=0, keepdims=True)) @ x,
    "even and odd rows apart": lambda x: jnp.where((jnp.arange(x.shape[0]) % 2 == 0)[:, None], -x, -1.01 * x),
    "per-particle offset": lambda x: -(x - 1e-3 * jnp.sin(7 * _index(x))),
    "normalised with the wrong neighbour": lambda x: x / (1 + jnp.linalg.norm(jnp.flip(x, axis=0), axis=1, keepdims=True)),
}


# equivariant rules whose coefficients c (4,) come as data: many rules, one program a kind
KINDS = {
    "mean field": lambda: eq.rules.from_field(
        eq.field.mean_field(lambda x, c: (jnp.tanh(c[0] * x), 1.0), lambda x, s, c: c[1] * s[0] / s[1] - c[2] * x * jnp.sum(x * s[0]) / s[1])
    ),
    "pair kernel": lambda: eq.rules.from_field(
        eq.field.pair_kernel(lambda a, b, c: c[0] * (b - a) / (1 + c[1] ** 2 * jnp.sum((a - b) ** 2)), normalize=True)
    ),
    "energy": lambda: eq.rules.heavy_ball(
        lambda x, c: c[0] * jnp.sum(jnp.cos(x)) + c[1] * jnp.sum(jnp.mean(jnp.sin(c[2] * x), axis=0) ** 2), beta=0.5
    ),
    "attention": lambda: eq.rules.from_function(lambda x, c: c[1] * jax.nn.softmax(c[0] * x @ x.T, axis=1) @ x),
    "median": lambda: eq.rules.from_function(
        lambda x, c: c[0] * jnp.mean(x**2, axis=0, keepdims=True) * x + c[1] * jnp.median(x, axis=0, keepdims=True) - x
    ),
}


def coefficients(seed, dtype):
    return jax.random.uniform(jax.random.key(seed), (4,), dtype, minval=-2, maxval=2)
