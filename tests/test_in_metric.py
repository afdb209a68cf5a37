"""Distances in a metric: a rule in other coordinates, and what of its constants depends on them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eqdyn as eq
from eqdyn.covariant import coordinates, in_metric

NUM, DIM = 12, 3
H = np.array([[4.0, 1.0, 0.0], [1.0, 2.0, 0.5], [0.0, 0.5, 1.0]])
G = np.array([[9.0, 2.0, 0.0], [2.0, 3.0, -0.5], [0.0, -0.5, 1.0]])


def loss(x):
    return 0.5 * jnp.einsum("ij,jk,ik->", x, jnp.asarray(H, x.dtype), x) + 0.3 * jnp.sum(jnp.cos(x)) + 0.05 * jnp.sum(jnp.sum(x, 0) ** 2)


def descended(x, state, data=None, *, key=None):
    """Descent whose metric is G."""
    return eq.Update(-jax.grad(loss)(x) @ jnp.asarray(np.linalg.inv(G), x.dtype), state)


RULES = {
    "gradient": eq.rules.gradient(loss),
    "consensus": eq.rules.consensus(),
    "Adam": eq.rules.adam(loss),
    "natural": eq.Rule(lambda x: (), descended),
}


def in_g(v):
    """Norms of rows in G."""
    return np.sqrt(np.einsum("...i,ij,...j->...", v, G, v))


@pytest.mark.parametrize("dtype", [jnp.float32, pytest.param(jnp.float64, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", RULES)
def test_it_is_the_same_run_and_its_constants_are_those_of_g(name, dtype, key):
    rule = RULES[name]
    x = jax.random.normal(key, (NUM, DIM), jnp.float64).astype(dtype)
    turned, y = in_metric(rule, G), coordinates(x, G)
    one, other = (eq.simulate(r, start, eta=0.05, num_steps=20) for r, start in ((rule, x), (turned, y)))
    tolerance = 1e-5 if dtype == jnp.float32 else 1e-11
    np.testing.assert_allclose(coordinates(one.x, G), other.x, atol=10 * tolerance, rtol=tolerance)
    found = eq.measure.pair_constants(y, turned.update(y, turned.init(y)).u)
    u, p = np.asarray(rule.update(x, rule.init(x)).u, float), np.asarray(x, float)
    du, dx = u[:, None] - u, p[:, None] - p
    away = ~np.eye(NUM, dtype=bool)
    np.testing.assert_allclose(found.k_pair, (in_g(du)[away] / in_g(dx)[away]).max(), rtol=10 * tolerance)
    approach = -np.einsum("ijk,kl,ijl->ij", du, G, dx)[away] / in_g(dx)[away] ** 2
    np.testing.assert_allclose(found.mu, approach.max(), rtol=10 * tolerance, atol=10 * tolerance)


@pytest.mark.parametrize("name", [pytest.param(name, marks=[] if name == "Adam" else pytest.mark.slow) for name in RULES])
def test_the_laws_hold_in_g(name, key):
    rule = in_metric(RULES[name], G)
    report = eq.check(rule, coordinates(jax.random.normal(key, (NUM, DIM)), G), eta=0.01, key=key, num_draws=8)
    assert report.holds, str({k: v for k, v in report.laws.items() if v.verdict == "fails"})


def test_tracers_weights_and_lifted_particles_come_along(key):
    field = eq.field.mean_field(lambda x: (x, 1.0), lambda x, s: s[0] / s[1] - x**3)
    rule, x = eq.rules.gradient(field), jax.random.normal(key, (NUM, DIM))
    turned, y = in_metric(rule, G), coordinates(x, G)
    probes = jax.random.normal(key, (5, DIM))
    run, other = (eq.simulate(r, start, eta=0.1, num_steps=5, tracers=t)
                  for r, start, t in ((rule, x, probes), (turned, y, coordinates(probes, G))))  # fmt: skip
    np.testing.assert_allclose(coordinates(run.tracers, G), other.tracers, rtol=1e-9, atol=1e-11)
    heavy = eq.Weighted(x, jnp.arange(1.0, NUM + 1))
    one, two = (eq.simulate(r, start, eta=0.1, num_steps=5).x for r, start in ((rule, heavy), (turned, coordinates(heavy, G))))
    np.testing.assert_allclose(coordinates(one, G).x, two.x, rtol=1e-9, atol=1e-11)
    np.testing.assert_array_equal(one.weight, two.weight)
    lifting = eq.Rule(rule.init, rule.update, lift=lambda x, state: jnp.concatenate([x, 2 * x], axis=1))
    lifted = eq.lifted(in_metric(lifting, G), y, ())
    np.testing.assert_allclose(lifted, jnp.concatenate([y, 2 * x], axis=1), rtol=1e-12, atol=1e-13)


def test_folds_do_not_depend_on_the_metric_and_its_own_has_the_least_constant(key):
    """U = -G^-1 grad L is self-adjoint in G: there K_transverse is the spectral radius, which no norm goes below."""

    def velocity(x, s):
        return -(x @ jnp.asarray(H) - 0.3 * jnp.sin(x) + 0.1 * s[0]) @ jnp.asarray(np.linalg.inv(G))

    rule, x = eq.rules.gradient(eq.field.mean_field(lambda x: (x, 1.0), velocity)), jax.random.normal(key, (NUM, DIM))
    euclid = eq.measure.swap_curvature(rule, x)
    own = eq.measure.swap_curvature(in_metric(rule, G), coordinates(x, G))
    eigenvalues = [np.sort_complex(np.linalg.eigvals(np.asarray(found.T))) for found in (euclid, own)]
    np.testing.assert_allclose(eigenvalues[0], eigenvalues[1], atol=1e-10)
    radius = np.abs(eigenvalues[0]).max(axis=-1)
    least, other = (np.linalg.norm(np.asarray(found.T), 2, axis=(1, 2)) for found in (own, euclid))
    np.testing.assert_allclose(least, radius, rtol=1e-10)
    assert np.all(other > 1.02 * radius)


def test_a_step_that_only_its_own_metric_certifies():
    """Stiff and skew: eta*K_pair is above 1 in Euclid's distances and below in those of g; nobody merges."""
    g = np.diag([1.0, 100.0])
    h = np.array([[1.0, 5.0], [5.0, 100.0]])
    rule = eq.Rule(lambda x: (), lambda x, state, data=None, *, key=None: eq.Update(-x @ jnp.asarray(h @ np.linalg.inv(g)), state))
    x = jax.random.normal(jax.random.key(3), (50, 2))
    eta = 0.62
    constants = [eq.measure.pair_constants(start, r.update(start, ()).u) for r, start in ((rule, x), (in_metric(rule, g), coordinates(x, g)))]
    assert eta * float(constants[1].k_pair) < 1 < eta * float(constants[0].k_pair)
    assert float(eq.measure.stretch(x, eq.step(rule, x, (), eta)[0]).low) > 0


def test_metric_is_the_power_of_a_covariance():
    np.testing.assert_allclose(eq.covariant.metric(G, 0.5) @ eq.covariant.metric(G, 0.5), G, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(eq.covariant.metric([1.0, 4.0], 0.25, eps=0.5), np.array([1.5, 4.5]) ** 0.25)
    np.testing.assert_allclose(eq.covariant.metric(np.zeros((2, 2)), 1.0, eps=0.5), 0.5 * np.eye(2))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: coordinates(jnp.ones((4, 3)), np.eye(2)), "metric: got one of 2 dimensions"),
        (lambda: coordinates(jnp.ones((4, 2)), [[1.0, 2.0], [2.0, 1.0]]), "metric: got an array of shape"),
        (lambda: in_metric(RULES["consensus"], [1.0, -1.0]), "metric: got an array of shape"),
        (lambda: eq.simulate(in_metric(RULES["consensus"], np.eye(2)), jnp.ones((4, 3)), eta=0.1, num_steps=1), "metric: got one of 2 dimensions"),
        (lambda: eq.covariant.metric([0.0, 1.0], 0.5), "kappa"),
        (lambda: eq.covariant.metric([1.0, 1.0], 2), "alpha: got 2"),
    ],
)
def test_bad_metrics(call, message):
    with pytest.raises(ValueError, match=message):
        call()
