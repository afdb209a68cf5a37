"""The paper's networks: two layers, sigmoid, no bias. A neuron is its incoming weights w and its outgoing weights a.

    f(z) = sum_i a_i sig(<w_i, z>)

As particles `(n, d + c)`, rows `(w_i, a_i)`, or as a tree of kernels `{"hidden": (d, n), "output": (n, c)}`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from eqdyn._types import Points, Scalar, Tree, Weights
from eqdyn.field import Field, additive
from eqdyn.groups import Group, from_axes

Data = tuple[jax.Array, jax.Array]  # inputs (n, d), and targets (n,) or labels (n,)


def regression(x: Points, data: Data) -> Scalar:
    """Mean squared error of the scalar network on particles `(n, d + 1)`, `mean (f(z) - y)^2`.

    Example:
        >>> import jax.numpy as jnp
        >>> from eqdyn.networks import two_layer
        >>> float(two_layer.regression(jnp.array([[0.0, 2.0]]), (jnp.ones((1, 1)), jnp.zeros(1))))
        1.0

    References:
        Yang et al., arXiv:2510.02670, equation 17.
    """
    z, y = data
    d = z.shape[1]
    f = x[:, d] @ jax.nn.sigmoid(x[:, :d] @ z.T)  # neurons in rows: XLA then makes one pass for sigmoid and slope
    return jnp.mean((f - y) ** 2)


def weighted_regression(x: Points, weight: Weights, data: Data) -> Scalar:
    """`regression` with row i standing for `weight[i]` neurons: `f = sum_i weight_i a_i sig(<w_i, z>)`."""
    d = data[0].shape[1]
    return regression(jnp.concatenate([x[:, :d], weight[:, None] * x[:, d:]], axis=1), data)


def regression_field() -> Field:
    """The additive field of `weighted_regression`: neurons act through the outputs `f(z)` alone.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> from eqdyn.networks import two_layer
        >>> rule, batch = eq.rules.gradient(two_layer.regression_field()), (jnp.ones((1, 1)), jnp.zeros(1))
        >>> rule.update(jnp.array([[0.0, 2.0]]), (), batch).u.tolist()
        [[-1.0, -1.0]]
    """
    return additive(_outputs, _squared_error)


def _outputs(x: Points, weight: Weights, data: Data) -> jax.Array:
    d = data[0].shape[1]
    return (weight * x[:, d]) @ jax.nn.sigmoid(x[:, :d] @ data[0].T)


def _squared_error(f: jax.Array, data: Data) -> Scalar:
    return jnp.mean((f - data[1]) ** 2)


def classifier(x: Points, num_inputs: int) -> Tree:
    """Particles `(n, d + c)` as the parameter tree of a classifier.

    Example:
        >>> import jax.numpy as jnp
        >>> from eqdyn.networks import two_layer
        >>> {name: kernel.shape for name, kernel in two_layer.classifier(jnp.ones((256, 74)), 64).items()}
        {'hidden': (64, 256), 'output': (256, 10)}
    """
    return {"hidden": x[:, :num_inputs].T, "output": x[:, num_inputs:]}


def neurons(params: Tree) -> Group:
    """The group of hidden units of a classifier."""
    return from_axes(params, {"hidden": 1, "output": 0})


def logits(params: Tree, z: jax.Array) -> jax.Array:
    """The outputs of a classifier, `(n, c)`."""
    return jax.nn.sigmoid(z @ params["hidden"]) @ params["output"]


def cross_entropy(params: Tree, data: Data) -> Scalar:
    """Mean cross-entropy of a classifier, in nats."""
    return _log_loss(_logits(params, data), params, data)


def classifier_field(params: Tree) -> Field:
    """The additive field of `cross_entropy`, with the hidden units of `params` as particles: tracers are neurons of the network.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> from eqdyn.networks import two_layer
        >>> params = two_layer.classifier(jnp.ones((5, 4)), 3)
        >>> rule, batch = eq.rules.gradient(two_layer.classifier_field(params)), (jnp.ones((2, 3)), jnp.zeros(2, int))
        >>> rule.probe(jnp.ones((7, 4)), (), params, (), batch).u.shape
        (7, 4)
    """
    return additive(_logits, _log_loss, group=neurons(params))


def _logits(params: Tree, data: Data) -> jax.Array:
    return logits(params, data[0])


def _log_loss(s: jax.Array, params: Tree, data: Data) -> Scalar:
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(s), data[1][:, None], axis=1))


def accuracy(params: Tree, data: Data) -> Scalar:
    """Share of examples whose largest output is the right one."""
    z, labels = data
    return jnp.mean(jnp.argmax(logits(params, z), axis=1) == labels)
