"""Density along a run: closed forms, counts of tracers, and what the sign of the determinant does and does not show."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eqdyn as eq
from eqdyn.networks import two_layer


def linear(matrix, dtype=jnp.float64):
    matrix = jnp.asarray(matrix, dtype)
    return eq.rules.from_field(eq.field.mean_field(lambda x: 1.0, lambda x, s: matrix @ x))


def followed(rule, x0, num_steps, tracers=None, eta=1.0, **options):
    observe = {"density": eq.observe.density(rule, tracers=tracers)}
    run = eq.simulate(rule, x0, eta=eta, num_steps=num_steps, observe=observe, **options)
    return run, run.observed["density"]


# --- closed forms ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_decay_and_consensus(dtype):
    """`d log |1 - eta (rate + decay)|` a step, in lanes; at the step size that takes all together the density is infinite."""
    rule = eq.rules.weight_decay(eq.rules.consensus(rate=0.5), decay=0.5)
    etas, tracers = jnp.asarray([0.25, 0.5, 1.0, 2.5], dtype), jnp.asarray([[3.0, 1.0, 0.0]], dtype)
    run, found = followed(rule, jax.random.normal(jax.random.key(0), (5, 3), dtype), 20, tracers, etas, lanes=4)
    kept = np.asarray([0, 1, 3])
    expected = 3 * 20 * np.log(np.abs(1 - np.asarray(etas)[kept]))
    for part in (found, found.tracers):
        # three pivots a step, each a few roundings of numbers of size 1
        np.testing.assert_allclose(
            part.log_det[kept], np.broadcast_to(expected[:, None], part.log_det[kept].shape), rtol=8 * float(jnp.finfo(dtype).eps)
        )
        assert (part.log_det[2] == -np.inf).all()
        assert (part.density[2] == np.inf).all()
        assert part.log_det.dtype == dtype
        assert (part.reversals == [[0], [0], [0], [20]]).all()
    np.testing.assert_array_equal(found.steps, 20)
    assert run.x.shape == (4, 5, 3)


def test_a_shear_carries_a_gaussian():
    """Tracers drawn from a Gaussian: after t steps the density at each is that of the Gaussian with covariance M M^t."""
    matrix, eta, num_steps = np.array([[-0.3, 0.8], [0.1, 0.2]]), 0.5, 12
    tracers = jax.random.normal(jax.random.key(1), (50, 2))
    _, found = followed(linear(matrix), jnp.ones((3, 2)), num_steps, tracers, eta)
    whole = np.linalg.matrix_power(np.eye(2) + eta * matrix, num_steps)
    inverse = np.linalg.inv(whole @ whole.T)
    closed = -np.einsum("ni,ij,nj->n", found.tracers.places, inverse, found.tracers.places) / 2 - np.log(np.abs(np.linalg.det(whole)))
    start = -np.sum(np.asarray(tracers) ** 2, axis=1) / 2
    # the quadratic form takes the condition of M M^t times rounding
    assert np.linalg.cond(whole @ whole.T) * 2.3e-16 < 1e-10
    np.testing.assert_allclose(start + np.log(found.tracers.density), closed, rtol=0, atol=1e-10)
    np.testing.assert_allclose(found.log_det, np.log(np.abs(np.linalg.det(whole))), rtol=0, atol=1e-13)
    np.testing.assert_allclose(found.series.values[0][-1], found.log_det)
    np.testing.assert_allclose(found.series.values[1][:, 0], np.arange(1, 13) * np.log(np.linalg.det(np.eye(2) + eta * matrix)), atol=1e-13)


def test_one_mirror_is_a_reversal_and_two_are_none():
    """I + T is diag(-1, 3/2) at the first particle and -I, folded through, at the second, which the determinant does not see."""
    rule = eq.rules.from_field(eq.field.mean_field(lambda x: 1.0, lambda x, s: x * jnp.stack([-2.0, jnp.where(jnp.abs(x[0]) > 2, -2.0, 0.5)])))
    found = followed(rule, jnp.asarray([[1.0, 1.0], [3.0, 1.0]]), 5)[1]
    assert found.reversals.tolist() == [5, 0]
    np.testing.assert_allclose(found.log_det, [5 * np.log(1.5), 0], rtol=1e-15)


# --- counts ----------------------------------------------------------------------------------------------------------------


def on_a_torus(a, b):
    """A pull with a shear and no symmetry, periodic in both angles."""
    return jnp.stack([jnp.sin(b[0] - a[0]) + 0.6 * jnp.sin(b[1] - a[1]), 0.8 * jnp.sin(b[1] - a[1] + 0.4) - 0.3 * jnp.cos(b[0] - a[0])])


def test_counts_of_tracers_in_cells_are_what_the_density_says():
    """40,000 tracers uniform on the torus, moved in the field of seven particles. In a cell the mean of 1 / density over its
    tracers is the area over the share of tracers, whatever the density does inside; so counts are predicted from the ledger alone.
    """
    rule = eq.rules.from_field(eq.field.pair_kernel(on_a_torus, normalize=True))
    num, cells, around = 40_000, 10, 2 * np.pi
    tracers = jax.random.uniform(jax.random.key(0), (num, 2), maxval=around)
    x0 = jnp.asarray([[1.0, 1.0], [1.5, 1.2], [1.2, 2.0], [4.0, 4.5], [4.2, 4.0], [2.0, 5.0], [0.5, 1.5]])
    _, found = followed(rule, x0, 5, tracers, 0.4)
    assert (found.tracers.reversals == 0).all()
    density = found.tracers.density
    assert density.max() / density.min() > 5
    at = np.floor(np.mod(found.tracers.places, around) / around * cells).astype(int) % cells
    cell = at[:, 0] * cells + at[:, 1]
    counts = np.bincount(cell, minlength=cells**2)
    assert counts.min() > 20

    def misfit(log_density):
        weight = np.exp(-log_density)  # relative to the start, where 1 / density is 1
        inside, square = (np.bincount(cell, weights=weight**power, minlength=cells**2) for power in (1, 2))
        predicted = num / cells**2 * counts / inside
        # the variance of a sum over a random number of tracers, relative
        return np.sum((counts / predicted - 1) ** 2 / (square / inside**2))

    # chi-square of 100 cells, one less since all tracers lie in some cell: four deviations
    assert misfit(np.log(density)) < 99 + 4 * np.sqrt(2 * 99)
    assert misfit(-np.log(density)) > 3000  # the sign exchanged
    assert misfit(0 * density) > 3000


# --- particles and tracers, lifted, mistakes -------------------------------------------------------------------------------


def test_lifted_volumes_and_tracers_that_start_at_particles():
    """`(beta1 beta2)^d` a step for every field; tracers stay with the particles that they start at, state and all."""
    rule, log_det = eq.rules.adam(two_layer.regression_field()), np.log(0.9 * 0.999)
    data = tuple(leaf[:16] for leaf in eq.data.teacher(key=jax.random.key(7), input_dim=2, num_examples=100, dtype=jnp.float64).train)
    x0 = jax.random.normal(jax.random.key(3), (6, 3))
    run, found = followed(rule, x0, 10, jnp.concatenate([x0[:4], x0[:2] + 0.1]), 0.05, data=data)
    np.testing.assert_allclose(found.log_det, 10 * 3 * log_det, rtol=1e-9)  # entries of 1 / sqrt(v) take digits
    np.testing.assert_allclose(found.tracers.log_det, 10 * 3 * log_det, rtol=1e-9)
    np.testing.assert_allclose(found.tracers.places[:4], run.x[:4], rtol=0, atol=1e-12)
    assert (np.abs(found.tracers.places[4:] - run.x[:2]) > 1e-3).any()
    assert (found.reversals == 0).all()


def test_tracers_of_the_observer_go_with_those_of_the_run():
    params = two_layer.classifier(jax.random.normal(jax.random.key(4), (5, 3 + 2)), 3)
    rule, group = eq.rules.gradient(two_layer.classifier_field(params)), two_layer.neurons(params)
    data = jax.random.normal(jax.random.key(5), (6, 3)), jnp.asarray([0, 1, 0, 0, 1, 1])
    tracers = jax.random.normal(jax.random.key(6), (4, 5))
    observe = {"density": eq.observe.density(rule, group={"hidden": group}, tracers={"hidden": tracers}, stride=2)}
    run = eq.simulate(rule, params, eta=0.5, num_steps=5, data=data, observe=observe, tracers=tracers)
    found = run.observed["density"]["hidden"]
    np.testing.assert_allclose(found.tracers.places, run.tracers, rtol=0, atol=1e-14)
    assert found.series.steps.tolist() == [0, 2, 4]
    assert found.tracers.log_det.shape == (4,)
    # the first step against matrices of one tracer at a time
    matrix = jax.jacrev(lambda y: rule.probe(y[None], (), params, (), data).u[0])
    matrices = np.eye(5) + 0.5 * np.asarray(jax.jit(jax.vmap(matrix))(tracers))
    np.testing.assert_allclose(found.series.values[1][0], np.log(np.abs(np.linalg.det(matrices))), rtol=0, atol=1e-13)


CONSENSUS = eq.rules.consensus()
MISTAKES = {
    "no probe": (lambda: eq.observe.density(eq.rules.from_function(lambda x: -x)), ValueError, "without probe"),
    "16 bits": (lambda: followed(CONSENSUS, jnp.ones((2, 2), jnp.bfloat16), 1), TypeError, r"got particles in bfloat16; .* x0.astype"),
    "stride": (lambda: eq.observe.density(CONSENSUS, stride=0), ValueError, "stride: got 0"),
    "tracers of one axis": (lambda: eq.observe.density(CONSENSUS, tracers=jnp.ones(3)), ValueError, "tracers: got an array of shape"),
    "tracers not finite": (lambda: eq.observe.density(CONSENSUS, tracers=jnp.full((1, 1), jnp.nan)), ValueError, "not finite"),
    "tracers of other groups": (
        lambda: eq.observe.density(CONSENSUS, group={"a": None}, tracers={"b": jnp.ones((1, 1))}),
        ValueError,
        "one array for each",
    ),
    "tracers of another dimension": (lambda: followed(CONSENSUS, jnp.ones((2, 2)), 1, jnp.ones((1, 3))), ValueError, r"expected \(m, 2\)"),
    "tracers of another dtype": (lambda: followed(CONSENSUS, jnp.ones((2, 2)), 1, jnp.ones((1, 2), jnp.float32)), ValueError, "float64, one tracer"),
    "matrices too large": (lambda: followed(CONSENSUS, jnp.ones((40, 1024)), 1), MemoryError, "observe.lyapunov"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name):
    call, kind, words = MISTAKES[name]
    with pytest.raises(kind, match=words):
        call()
