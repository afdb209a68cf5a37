"""Lengths of runs: closed forms, invariances, and the way of natural descent, which is no geodesic."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eqdyn as eq
from eqdyn.paths import length


def as_they_are(theta):
    return theta[None]


def relu_logits(params, z):
    return jax.nn.relu(z @ params["w"] + params["b"][None]) @ params["o"]


def network(seed, num=6):
    rng = np.random.default_rng(seed)
    return {"w": rng.standard_normal((num, 3, 5)), "b": rng.standard_normal((num, 5)), "o": rng.standard_normal((num, 5, 4))}


def sphere(p, q):
    """The shortest way between two distributions: twice the angle between their roots."""
    return 2 * np.arccos(np.sum(np.sqrt(p * q)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_weights_are_those_of_the_straight_pieces(dtype):
    run = eq.paths.path(np.array([[0, 0], [3, 4], [3, 5]], dtype))
    assert length(run).pieces.tolist() == [5.0, 1.0]
    assert length(run) == 6.0


@pytest.mark.parametrize("num", [2, 5, 40])
def test_the_sum_is_that_of_the_matrix(num):
    """An independent route: F as a matrix of the model's own derivatives, at the middles."""
    rng = np.random.default_rng(num)
    params, z = network(num, num), jnp.asarray(rng.standard_normal((7, 3)))
    run, expected = eq.paths.path(params), []
    for k in range(num - 1):
        middle = jax.tree.map(lambda leaf, k=k: (leaf[k] + leaf[k + 1]) / 2, params)
        flat, back = jax.flatten_util.ravel_pytree(middle)
        p = np.asarray(jax.nn.softmax(relu_logits(middle, z), axis=1))
        slopes = np.asarray(jax.jacobian(lambda one, back=back: jax.nn.log_softmax(relu_logits(back(one), z), axis=1))(flat))
        matrix = np.einsum("nc,nci,ncj->ij", p, slopes, slopes) / 7
        way = np.concatenate([np.ravel(leaf[k + 1] - leaf[k]) for leaf in jax.tree.leaves(params)])
        expected.append(np.sqrt(way @ matrix @ way))
    np.testing.assert_allclose(length(run, relu_logits, z).pieces, expected, rtol=1e-9)


def test_it_converges_of_second_order_to_the_arc():
    """Along the straight line of roots, which projects to a great circle, the length is the angle."""
    p, q = np.array([0.7, 0.2, 0.1]), np.array([0.1, 0.3, 0.6])
    errors = []
    for num in (9, 17, 33, 65):
        t = np.linspace(0, 1, num)[:, None]
        roots = (1 - t) * np.sqrt(p) + t * np.sqrt(q)
        run = eq.paths.path(2 * np.log(roots))  # logits need no norm
        errors.append(abs(length(run, as_they_are) - sphere(p, q)))
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert errors[-1] < 1e-3
    assert np.all(np.abs(orders - 2) < 0.1), orders


def test_neurons_in_another_order_or_scaled_make_no_difference():
    params, z = network(0), jnp.asarray(np.random.default_rng(1).standard_normal((20, 3)))
    run = eq.paths.path(params)
    group = eq.groups.from_axes(run.end, {"w": 1, "b": 0, "o": 0})
    other = eq.paths.permuted(run, group, np.random.default_rng(2).permutation(5))
    scaled = eq.paths.path({"w": 4 * params["w"], "b": 4 * params["b"], "o": params["o"] / 4})
    expected = length(run, relu_logits, z)
    np.testing.assert_allclose(length(other, relu_logits, z), expected, rtol=1e-9)
    np.testing.assert_allclose(length(scaled, relu_logits, z), expected, rtol=1e-9)
    assert abs(length(scaled) / length(run) - 1) > 0.1


def test_natural_descent_is_steepest_and_not_shortest():
    """On the simplex with its Fisher metric the natural flow of a linear loss is p_i' = -p_i (l_i - <p, l>): a straight line of logits."""
    loss, p = np.array([0.0, 1.0, 3.0]), np.array([0.2, 0.3, 0.5])
    t = np.linspace(0, 3, 2001)[:, None]
    run = eq.paths.path(np.log(p) - t * loss)
    end = np.exp(run.end) / np.exp(run.end).sum()
    flow = jax.jvp(jax.nn.softmax, (jnp.asarray(np.log(p)),), (jnp.asarray(-loss),))[1]
    np.testing.assert_allclose(flow, -p * (loss - p @ loss))  # which is the natural gradient, F^-1 on the simplex
    assert length(run, as_they_are) > 1.02 * sphere(p, end)


def test_lengths_add():
    a, b = (eq.paths.path(np.random.default_rng(seed).standard_normal((4, 3))) for seed in (0, 1))
    b = eq.paths.path(np.concatenate([a.end[None], b.params[1:]]))
    whole = eq.paths.compose(a, b)
    for logits in (None, as_they_are):
        np.testing.assert_allclose(length(whole, logits), length(a, logits) + length(b, logits), rtol=1e-12)
    stay = eq.paths.path(np.ones((3, 2)))
    assert length(stay) == length(stay, as_they_are) == 0


@pytest.mark.parametrize(
    ("path", "logits", "error", "message"),
    [
        (np.ones((3, 2)), None, TypeError, "expected a Path"),
        (eq.paths.identity(np.ones(2)), None, ValueError, "one checkpoint"),
        (eq.paths.path(np.ones((3, 2))), lambda theta: theta, ValueError, r"expected a real array \(n, classes\)"),
        (eq.paths.path(np.ones((3, 2))), lambda theta: jnp.log(theta - 1)[None], ValueError, "between checkpoints 0 and 1"),
    ],
)
def test_bad_input(path, logits, error, message):
    with pytest.raises(error, match=message):
        length(path, logits)
