"""Ensembles of runs as fluids, Wright and Fisher's drift, and the meters X3 and X4."""

import itertools
import math

import jax
import numpy as np
import pytest

import eqdyn as eq
from eqdyn.covariant import madelung, metric_exponent, sphericity, wright_fisher

RUNS = 20_000


def packet(t, hbar, potential, rng):
    """Bohm's trajectories of a Gaussian packet in a bowl (or free), in one dimension for each potential V''; all start with width 1."""
    scale = np.empty((len(t), len(potential)))
    for k, w2 in enumerate(potential):
        w = math.sqrt(w2)
        scale[:, k] = np.sqrt(1 + (hbar * t / 2) ** 2) if w == 0 else np.sqrt(np.cos(w * t) ** 2 + (hbar * np.sin(w * t) / (2 * w)) ** 2)
    return scale[:, None] * rng.standard_normal((RUNS, len(potential)))


def descent(hessian, kappa, alpha, gamma, num_steps, rng, start):
    """Runs of noisy descent with g = kappa^alpha in a bowl; H and kappa diagonal."""
    q = start * rng.standard_normal((RUNS, len(hessian)))
    out = [q]
    for _ in range(num_steps):
        q = q - gamma * kappa**-alpha * (hessian * q + np.sqrt(kappa) * rng.standard_normal(q.shape))
        out.append(q)
    return np.stack(out)


@pytest.mark.parametrize("hbar", [0.5, 2.0])
@pytest.mark.parametrize("metric", [[1.0, 1.0], [4.0, 0.25]])
def test_a_wave_packet_is_known_by_its_hbar(hbar, metric):
    t = np.linspace(0, 2, 81)
    potential = np.array([0.0, 0.49])
    q = packet(t, hbar, potential, np.random.default_rng(0)) / np.sqrt(metric)  # in coordinates in which the metric is `metric`
    found = madelung(q, metric, dt=t[1])
    assert found.verdict == "a Schroedinger equation: hbar^2 > 0"
    np.testing.assert_allclose(found.hbar_squared, hbar**2, rtol=0.03)
    np.testing.assert_allclose(np.diag(found.potential), potential * metric, atol=0.03 * max(1, hbar**2) * max(metric))
    assert found.residual < 0.01
    assert found.circulation.max() < 0.05
    assert found.continuity.max() < 0.01


def test_density_phase_and_fisher_information_of_a_packet():
    t = np.linspace(0, 2, 41)
    found = madelung(packet(t, 1.0, [0.0], np.random.default_rng(0)) + 3 * t[:, None, None], [2.0], dt=t[1])
    width = 1 + found.times**2 / 4
    np.testing.assert_allclose(found.covariance[:, 0, 0], width, rtol=0.05)
    np.testing.assert_allclose(found.fisher, 1 / (2 * width), rtol=0.05)
    np.testing.assert_allclose(found.mean[:, 0], 3 * found.times, atol=0.05)
    np.testing.assert_allclose(found.phase_gradient[:, 0], 2 * 3, rtol=1e-3)
    np.testing.assert_allclose(found.phase_hessian[:, 0, 0], 2 * (found.times / 4) / width, rtol=0.02)


H, KAPPA, GAMMA = np.array([1.0, 2.0]), np.array([1.0, 9.0]), 0.01


def test_natural_descent_is_a_heat_equation():
    """alpha = 1: hbar^2 = -4 D^2 with D = gamma / 2, in time gamma * step."""
    q = descent(H, KAPPA, 1.0, GAMMA, 300, np.random.default_rng(1), 0.3 / np.sqrt(KAPPA))
    found = madelung(q, KAPPA, dt=GAMMA, lag=20)
    assert found.verdict == "a heat equation: hbar^2 < 0, as of noisy descent"
    assert found.low < -(GAMMA**2) < found.high
    np.testing.assert_allclose(found.hbar_squared, -(GAMMA**2), rtol=0.1)
    np.testing.assert_allclose(np.diag(found.potential), -(H**2) / KAPPA, atol=0.1)  # V = -|grad L|^2 / 2 in g, for any landscape
    assert found.residual < 0.1


@pytest.mark.parametrize("alpha", [pytest.param(0.0, marks=pytest.mark.slow), 0.5])
def test_other_exponents_are_no_madelung_fluid(alpha):
    q = descent(H, KAPPA, alpha, GAMMA, 300, np.random.default_rng(1), 0.3 / KAPPA ** (alpha / 2))
    assert madelung(q, KAPPA**alpha, dt=GAMMA, lag=20).verdict.startswith("no Madelung fluid")


def test_what_turns_has_no_phase():
    t = np.linspace(0, 1, 21)
    start = np.random.default_rng(0).standard_normal((RUNS, 2))
    turn = np.stack([np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]) for a in t])
    found = madelung(np.einsum("tij,mj->tmi", turn, start), [1.0, 1.0], dt=t[1])
    assert found.circulation.min() > 0.9


def test_what_rests_tells_nothing():
    q = np.broadcast_to(np.random.default_rng(0).standard_normal((100, 2)), (10, 100, 2))
    assert madelung(q, [1.0, 1.0]).verdict == "unresolved: the density does not change"


@pytest.mark.parametrize(
    ("ensemble", "metric", "options", "message"),
    [
        (np.zeros((10, 100)), [1.0], {}, "ensemble: got shape"),
        (np.zeros((10, 5, 1)), [1.0], {}, "M at least 10 d"),
        (np.full((10, 100, 1), np.nan), [1.0], {}, "not finite"),
        (np.zeros((10, 100, 1)), [1.0, 1.0], {}, "metric: got shape"),
        (np.zeros((10, 100, 1)), [1.0], {"lag": 3}, "lag: got 3 for 10 times"),
    ],
)
def test_what_is_no_ensemble(ensemble, metric, options, message):
    with pytest.raises(ValueError, match=message):
        madelung(ensemble, metric, **options)


# --- Wright and Fisher -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [(0.5, 0.5), (0.2, 0.3, 0.5), (0.1, 0.2, 0.3, 0.4)])
def test_the_covariance_of_a_generation_is_the_inverse_of_the_metric(p):
    """By enumeration of all next generations of 4."""
    num = 4
    mean, square = np.zeros(len(p)), np.zeros((len(p), len(p)))
    for counts in itertools.product(range(num + 1), repeat=len(p)):
        if sum(counts) == num:
            chance = math.factorial(num) * np.prod([q**c / math.factorial(c) for q, c in zip(p, counts, strict=True)])
            step = np.array(counts) / num - p
            mean, square = mean + chance * step, square + chance * np.outer(step, step)
    np.testing.assert_allclose(mean, 0, atol=1e-15)
    exact = wright_fisher.increment_covariance(p, num)
    np.testing.assert_allclose(square[:-1, :-1], exact, atol=1e-15)
    np.testing.assert_allclose(exact, np.linalg.inv(wright_fisher.metric(p)) / num, atol=1e-15)


@pytest.mark.slow
def test_generations_drift_as_they_must(key):
    """Heterozygosity falls as (1 - 1/N)^t, and types are fixed as often as they were frequent."""
    p, num = [0.2, 0.3, 0.5], 10
    runs = np.asarray(wright_fisher.simulate(p, num, 60, key=key, num_runs=2000))
    assert runs.shape == (61, 2000, 3)
    np.testing.assert_allclose(runs.sum(-1), 1)
    mixed = 1 - (runs**2).sum(-1).mean(1)
    np.testing.assert_allclose(mixed[:10], mixed[0] * (1 - 1 / num) ** np.arange(10), rtol=0.05)
    np.testing.assert_allclose((runs[-1] == 1).mean(0), p, atol=0.04)


def test_selection_is_natural_gradient_ascent(key):
    """The mean step is g^-1 grad log <p, w>, in the first k - 1 frequencies."""
    p, w = np.array([0.2, 0.3, 0.5]), np.array([1.2, 1.0, 0.9])
    runs = np.asarray(wright_fisher.simulate(p, 100, 1, key=key, fitness=w, num_runs=20_000))
    slope = (w[:-1] - w[-1]) / (p @ w)
    np.testing.assert_allclose((runs[1] - runs[0]).mean(0)[:-1], np.linalg.inv(wright_fisher.metric(p)) @ slope, atol=1.5e-3)


def test_its_exponent_is_one(key):
    """Updates are drift, gradients what they are in the metric: the meter reads alpha = 1."""
    p = np.array([0.001, 0.004, 0.015, 0.06, 0.12, 0.3, 0.5])
    drift = np.diff(np.asarray(wright_fisher.simulate(p, 20_000, 1, key=key, num_runs=4000)), axis=0)[0, :, :-1]
    found = eq.covariant.exponent(drift @ wright_fisher.metric(p), drift, window=1)
    assert found.verdict == "natural gradient (alpha = 1)"
    assert abs(found.alpha - 1) < 0.03


@pytest.mark.parametrize("call", [
    lambda: wright_fisher.metric([0.0, 1.0]),
    lambda: wright_fisher.increment_covariance([0.4, 0.4], 3),
    lambda: wright_fisher.simulate([0.5, 0.5], 0, 1, key=jax.random.key(0)),
    lambda: wright_fisher.simulate([0.5, 0.5], 4, 1, key=jax.random.key(0), fitness=[1.0]),
    lambda: wright_fisher.simulate([1.5, -0.5], 4, 1, key=jax.random.key(0)),
])  # fmt: skip
def test_what_is_no_population(call):
    with pytest.raises(ValueError, match=r"frequencies|fitness|population"):
        call()


# --- X3 and X4 -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("turned", [False, True])
def test_the_exponent_of_a_known_metric(alpha, turned):
    rng = np.random.default_rng(0)
    kappa = np.logspace(-1, 1.5, 12)
    turn = np.linalg.qr(rng.standard_normal((12, 12)))[0] if turned else np.eye(12)
    gradients = rng.standard_normal((1000, 12)) * np.sqrt(kappa) @ turn.T + rng.standard_normal(12)
    g = kappa**alpha
    found = metric_exponent(gradients, (turn * g) @ turn.T if turned else g)
    if alpha == 0 and turned:
        assert abs(found.alpha) < 1e-10  # every direction is one of its own
        return
    assert found.low <= alpha <= found.high
    assert abs(found.alpha - alpha) < 0.05
    assert not found.verdict.startswith("unresolved")


def test_intervals_of_known_metrics_cover():
    rng, covered = np.random.default_rng(5), []
    for _ in range(100):
        dim, alpha = int(rng.integers(5, 20)), float(rng.uniform(0, 1))
        kappa = 10 ** np.sort(rng.uniform(0, rng.uniform(1, 3), dim))
        gradients = rng.standard_normal((400, dim)) * np.sqrt(kappa)
        found = metric_exponent(gradients, kappa**alpha * np.exp(0.1 * rng.standard_normal(dim)))
        if not found.verdict.startswith("unresolved"):
            covered.append(found.low <= alpha <= found.high)
    assert len(covered) > 60
    assert np.mean(covered) >= 0.9


def test_a_known_metric_without_a_line():
    rng = np.random.default_rng(0)
    assert metric_exponent(rng.standard_normal((200, 5)), np.ones(5)).verdict.startswith("unresolved")
    assert metric_exponent(np.zeros((200, 5)), np.ones(5)).verdict.startswith("unresolved")
    with pytest.raises(ValueError, match="metric: got shape"):
        metric_exponent(rng.standard_normal((200, 5)), np.ones(4))
    with pytest.raises(ValueError, match="gradients: got shape"):
        metric_exponent(rng.standard_normal((8, 5)), np.ones(5))


@pytest.mark.parametrize(("dim", "num"), [(3, 120), (6, 200), (12, 300)])
def test_sphericity_keeps_its_level(dim, num):
    rng = np.random.default_rng(0)
    rejected = np.mean([sphericity(rng.standard_normal((num, dim))).p_value < 0.05 for _ in range(400)])
    assert 0.02 <= rejected <= 0.09


@pytest.mark.parametrize(("alpha", "same"), [(0.5, True), (0.3, False), (1.0, False)])
def test_sphericity_tells_a_half(alpha, same):
    rng, kappa = np.random.default_rng(2), np.logspace(-1, 1, 6)
    updates = rng.standard_normal((400, 6)) * kappa ** (0.5 - alpha) + 5
    assert sphericity(updates).verdict.startswith("the same" if same else "not the same")


def test_sphericity_where_there_is_too_little():
    rng = np.random.default_rng(0)
    assert sphericity(rng.standard_normal((40, 6))).verdict.startswith("unresolved: 20 samples in 6 directions, 25")
    assert sphericity(rng.standard_normal((40, 6)), window=2).verdict.startswith("unresolved")
    assert sphericity(np.ones((400, 6))).verdict == "unresolved: no noise"
    assert sphericity(rng.standard_normal((400, 1)) * [1, 1]).verdict.startswith("not the same")
    with pytest.raises(ValueError, match="updates: got shape"):
        sphericity(np.ones(5))
