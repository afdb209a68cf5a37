"""Transverse exponents: closed forms, real pairs that were planted, and the collapse step size."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import USERS_FLAGS

import eqdyn as eq
from eqdyn.networks import two_layer


def linear(matrix, dtype=jnp.float64):
    """Every particle alone: `U_i = A x_i`."""
    matrix = jnp.asarray(matrix, dtype)
    return eq.rules.from_field(eq.field.mean_field(lambda x: 1.0, lambda x, s: matrix @ x))


def noisy(a=0.5, b=2.0):
    """`T = a + b s`, with the sign s in the batch."""
    return eq.rules.from_field(eq.field.mean_field(lambda x: 1.0, lambda x, s, sign: (a + b * jnp.mean(sign)) * x))


def watched(rule, x0, num_steps, eta=1.0, observe=None, **options):
    observe = {"found": eq.observe.lyapunov(rule)} if observe is None else observe
    run = eq.simulate(rule, x0, eta=eta, num_steps=num_steps, observe=observe, **options)
    return run.observed["found"] if list(observe) == ["found"] else run


# --- closed forms ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_linear_rules_to_rounding(dtype):
    """`log |1 - eta k|`, with decay `log |1 - eta (k + decay)|`, in one run of lanes; eta = 1 / (k + decay) takes every pair together."""
    k, decay = 1.5, 0.5
    etas = jnp.asarray([0.1, 0.4, 0.5, 0.75, 1.5], dtype)
    x0 = jax.random.normal(jax.random.key(0), (4, 3), dtype)
    rule = eq.rules.weight_decay(eq.rules.consensus(rate=k), decay=decay)
    found = watched(rule, x0, 50, etas, lanes=5)
    expected = np.log(np.abs(1 - np.delete(np.asarray(etas, np.float64), 2) * (k + decay)))
    # a step rounds the stretch a few times, and the tangent that it is measured on
    np.testing.assert_allclose(np.delete(found.exponent, 2, 0), np.broadcast_to(expected[:, None], (4, 4)), rtol=0, atol=8 * jnp.finfo(dtype).eps)
    assert found.exponent.dtype == dtype
    assert not np.isnan(found.log_growth).any()
    # 1 - eta k of float32 is not 0 to the last bit: what is left is one rounding a step, or nothing
    assert (found.exponent[2] < np.log(4 * float(jnp.finfo(dtype).eps))).all()
    np.testing.assert_array_equal(found.share_negative, [1, 1, 1, 1, 0])
    assert "lane 4: 4 particles, 50 steps, log-growth" in found.summary()
    assert found.summary().count("100% negative") == 4


def test_a_step_that_takes_all_together_is_minus_infinity_for_good():
    rule = linear(jnp.diag(jnp.asarray([-2.0, -2.0])))
    observe = {"one": eq.observe.lyapunov(rule), "both": eq.observe.lyapunov(rule, num=2)}
    run = watched(rule, jnp.ones((2, 2)), 6, lambda step: 0.5 if step == 2 else 0.25, observe=observe)
    for found in run.observed.values():
        assert (found.log_growth == -np.inf).all()
        assert np.isfinite(found.tangent).all()
        np.testing.assert_allclose(found.series.values[1], 2 * np.log(0.5), rtol=1e-14)  # it was finite before
        assert (found.predicted_steps(1e-3, 1.0) == 0).all()


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_what_a_step_does_in_the_last_bits_is_kept(dtype):
    """Rates far below the rounding of 1: along T = 1e-9 pairs grow, in float32, too, and along T = 0 they do not. Along T = 1e25 the
    square of a length is no number of float32.
    """
    rule = linear(jnp.diag(jnp.asarray([1e-9, 0.0, 1e25])), dtype)
    observe = {"found": eq.observe.lyapunov(rule, start=jnp.eye(3, dtype=dtype))}
    found = watched(rule, jnp.zeros((3, 3), dtype), 3000, observe=observe)
    # relative: the rate itself, three products and a compensated sum
    np.testing.assert_allclose(found.log_growth, 3000 * np.log1p([1e-9, 0, 1e25]), rtol=8 * float(jnp.finfo(dtype).eps))
    assert found.share_negative == 0


def test_the_spectrum_of_a_shear():
    """QR tells the eigenvalues of a triangular map apart; their sum is the determinant to rounding at every step."""
    matrix = np.array([[-0.5, 3.0, 1.0], [0.0, 0.4, -2.0], [0.0, 0.0, -1.7]])
    rule = linear(matrix)
    observe = {"found": eq.observe.lyapunov(rule, num=3, stride=100)}
    found = watched(rule, jnp.zeros((2, 3)), 4001, observe=observe)
    stretches = np.sort(np.log(np.abs(1 + np.diag(matrix))))[::-1]
    # the frame turns into place exponentially: what is left is a constant over the number of steps
    np.testing.assert_allclose(found.exponent, np.broadcast_to(stretches, (2, 3)), rtol=0, atol=1e-3)
    np.testing.assert_allclose(found.log_growth.sum(1), 4001 * stretches.sum(), rtol=1e-12)
    assert found.series.steps.tolist() == list(range(0, 4001, 100))
    np.testing.assert_allclose(found.series.values[-1], found.log_growth, rtol=1e-14)
    np.testing.assert_allclose(np.einsum("ndk,ndl->nkl", found.tangent, found.tangent), np.broadcast_to(np.eye(3), (2, 3, 3)), atol=1e-14)
    np.testing.assert_allclose(found.top, found.exponent[:, 0])


def test_two_point_noise_and_its_zero_at_four_fifteenths():
    """T = 1/2 + 2 s: exponent `log |(1 + eta a)^2 - (eta b)^2| / 2`, by a run whose batches carry s, and by both outcomes as batches."""
    a, b, crossing = 0.5, 2.0, 4 / 15
    signs = jnp.tile(jnp.asarray([1.0, -1.0]), 150)[:, None]  # an epoch holds as many of either
    etas = jnp.asarray([0.05, 4 / 17, crossing - 1e-3, crossing, crossing + 1e-3, 0.35])
    rule = noisy(a, b)
    observe = {"found": eq.observe.lyapunov(rule)}
    x0 = jnp.ones((2, 1)) * 1e-3
    run = eq.simulate(rule, x0, eta=etas, lanes=6, num_steps=300, data=eq.Batches(signs, 1), key=jax.random.key(2), observe=observe)
    closed = np.log(np.abs((1 + np.asarray(etas) * a) ** 2 - (np.asarray(etas) * b) ** 2)) / 2
    exponent = run.observed["found"].exponent
    np.testing.assert_allclose(exponent, np.broadcast_to(closed[:, None], (6, 2)), rtol=0, atol=1e-12)
    # the rule is linear: its particles go the way of the tangents
    np.testing.assert_allclose(np.log(run.x[:, :, 0] / x0[None, :, 0]), 300 * exponent, rtol=0, atol=1e-11)
    assert np.sign(exponent[[2, 4], 0]).tolist() == [1, -1]
    assert abs(exponent[3, 0]) < 1e-12

    both = eq.measure.collapse(rule, x0, jnp.asarray([[1.0], [-1.0]]), etas=etas)
    np.testing.assert_allclose(both.eta_c, crossing, rtol=1e-12)
    np.testing.assert_allclose(both.small_eta, 4 / 17, rtol=1e-14)
    np.testing.assert_allclose(both.exponent, exponent, rtol=0, atol=1e-12)


# --- the collapse step size ------------------------------------------------------------------------------------------------


def test_collapse_from_drawn_batches_is_within_its_standard_error():
    rule, key = noisy(), jax.random.key(5)
    signs = jnp.where(jax.random.bernoulli(key, 0.5, (4096, 1)), 1.0, -1.0)
    found = eq.measure.collapse(rule, jnp.ones((1, 1)), eq.Batches(signs, 1), etas=[0.1, 0.3], num_batches=2048, key=key)
    expected = np.log(np.abs((1 + 0.5 * found.etas) ** 2 - (2 * found.etas) ** 2)) / 2
    assert (np.abs(found.exponent[:, 0] - expected) < 4 * found.exponent_error[:, 0]).all()
    assert abs(found.eta_c[0] - 4 / 15) < 4 * found.eta_c_error[0] < 0.1


def test_collapse_along_the_direction_that_repels_least():
    """T = diag(3, 1/2 + 2 s) turned by 30 degrees: the second axis collapses, the first never does."""
    c, s = np.cos(np.pi / 6), np.sin(np.pi / 6)
    turn = jnp.asarray([[c, -s], [s, c]])

    def velocity(x, _, sign):
        return turn @ (jnp.stack([jnp.full_like(sign[0], 3.0), 0.5 + 2 * sign[0]]) * (turn.T @ x))

    rule = eq.rules.from_field(eq.field.mean_field(lambda x: 1.0, velocity))
    x, outcomes = jnp.ones((3, 2)), jnp.asarray([[1.0], [-1.0]])
    found = eq.measure.collapse(rule, x, outcomes)
    np.testing.assert_allclose(found.eta_c, 4 / 15, rtol=1e-12)
    np.testing.assert_allclose(np.abs(found.direction), [[s, c]] * 3, atol=1e-12)
    np.testing.assert_allclose(found.turned, 0, atol=1e-14)
    for direction in (jnp.asarray([2 * c, 2 * s]), "largest"):
        along = eq.measure.collapse(rule, x, outcomes, direction=direction)
        np.testing.assert_allclose(along.mean, 3, rtol=1e-14)
        assert (along.eta_c == np.inf).all()
        np.testing.assert_allclose(along.small_eta, 2 / 3, rtol=1e-14)
    across = eq.measure.collapse(rule, x, outcomes, direction=jnp.asarray([1.0, 0.0]))
    assert (across.turned > 0.1).all()  # not a direction that the batches keep: it is said


def test_collapse_of_what_closes_in_anyway_and_of_what_never_moves():
    x, outcomes = jnp.ones((2, 1)), jnp.asarray([[1.0], [-1.0]])
    closing, still = eq.measure.collapse(noisy(a=-0.5), x, outcomes), eq.measure.collapse(noisy(a=0.0, b=0.0), x, outcomes)
    assert (closing.eta_c == 0).all()
    assert (closing.small_eta == 0).all()
    assert (still.eta_c == np.inf).all()
    assert np.isnan(closing.eta_c_error).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_collapse_of_what_is_not_finite_is_not_known(bad):
    rule = eq.rules.from_field(eq.field.mean_field(lambda x: 1.0, lambda x, s, b: b * x))
    found = eq.measure.collapse(rule, jnp.ones((1, 1)), jnp.array([bad, -5.0, 1.0]), etas=[0.1])
    for name in ("eta_c", "eta_c_error", "small_eta", "mean", "exponent"):
        assert np.isnan(getattr(found, name)).all(), name


@pytest.mark.parametrize("size", [1e-25, 1.0, 1e30])
def test_collapse_along_a_direction_of_any_length(size):
    rule = eq.rules.from_field(eq.field.mean_field(lambda x: 1.0, lambda x, s, b: b * jnp.arange(1.0, 3.0, dtype=x.dtype) * x))
    outcomes = jnp.asarray([2.5, -1.5], jnp.float32)
    found = eq.measure.collapse(rule, jnp.ones((1, 2), jnp.float32), outcomes, direction=np.array([0, -size], np.float32))
    assert found.direction.tolist() == [[0, -1]]
    np.testing.assert_allclose(found.eta_c, 2 / 15, rtol=1e-6)  # T = 1 +- 4: half of 4/15


# --- real pairs ------------------------------------------------------------------------------------------------------------

SEEDS, N, D = 100, 11, 3
DATA = tuple(leaf[:24] for leaf in eq.data.teacher(key=jax.random.key(7), input_dim=D - 1, num_examples=200, dtype=jnp.float64).train)
NETWORK = eq.rules.weight_decay(eq.rules.gradient(two_layer.regression_field()), decay=0.02)


@pytest.fixture(scope="module")
def planted():
    """100 seeds of a network in one compiled run, the last two neurons a near pair around the first; at two distances."""
    direction = jax.random.normal(jax.random.key(1), (D,))
    direction = direction / jnp.linalg.norm(direction)
    observe = {
        "pair": eq.observe.lyapunov(NETWORK, start=jnp.tile(direction, (N, 1)), stride=10),
        "all": eq.observe.lyapunov(NETWORK, num=D),
        "density": eq.observe.density(NETWORK),
    }

    def go(distance, lane=None):
        x0 = 1.5 * jax.random.normal(jax.random.key(0), (SEEDS, N, D))
        half = distance / 2 * direction[None]
        x0 = x0.at[:, -2].set(x0[:, 0] + half).at[:, -1].set(x0[:, 0] - half)
        options = {"eta": 0.2, "data": DATA, "observe": observe, "num_steps": 60}
        if lane is None:
            return x0, eq.simulate(NETWORK, x0, lanes=SEEDS, **options)
        return x0[lane], eq.simulate(NETWORK, x0[lane], **options)

    before = eq.compile_count()
    near, far = go(1e-6), go(1e-3)
    assert eq.compile_count() - before == 1
    return go, near, far


def grown(x0, run):
    """`log |x_+(t) - x_-(t)| / |x_+(0) - x_-(0)|` of the pair itself."""
    return np.log(np.linalg.norm(run.x[:, -2] - run.x[:, -1], axis=1) / np.linalg.norm(x0[:, -2] - x0[:, -1], axis=1))


def test_planted_pairs_go_the_way_of_their_tangent(planted):
    _, near, far = planted
    tangent = near[1].observed["pair"]
    growth = tangent.log_growth[:, 0]
    error, error_far = (np.abs(grown(*run) - run[1].observed["pair"].log_growth[:, 0]) for run in (near, far))
    # the pair is even about its neuron: what the step map bends counts with the square of the distance, seen at 1e-3 and nothing at
    # 1e-6, where 60 roundings of |x| = 8 against a distance that shrinks to 0.6e-6 are left
    assert error.max() < 60 * 2.3e-16 * 8 / 0.6e-6
    assert 1e-9 < np.median(error_far) < error_far.max() < 1e-2
    assert min((growth < -0.05).sum(), (growth > 0.05).sum()) >= 10
    np.testing.assert_array_equal(grown(*near) < 0, growth < 0)
    assert (np.abs(grown(*near) - tangent.log_growth[:, 1]) > 1e-3).mean() > 0.9  # another neuron's tangent does not do


def test_the_sum_of_the_exponents_is_the_ledger_of_the_density(planted):
    _, (_, run), _ = planted
    ledger = run.observed["density"]
    np.testing.assert_allclose(run.observed["all"].log_growth.sum(2), ledger.log_det, rtol=0, atol=60 * 20 * 2.3e-16 * D)
    assert np.ptp(ledger.log_det) > 0.1
    # the top tangent of the frame has turned towards the largest stretch, which no tangent exceeds by more than it had to turn
    assert (run.observed["all"].log_growth[..., 0] > run.observed["pair"].log_growth - 5).all()


def test_a_lane_is_the_run_alone(planted):
    go, (_, run), _ = planted
    for lane in (0, 63):
        _, alone = go(1e-6, lane)
        for name in ("pair", "all"):
            both = alone.observed[name], run.observed[name]
            np.testing.assert_allclose(both[0].log_growth, both[1].log_growth[lane], rtol=0, atol=1e-11)
            np.testing.assert_allclose(both[0].series.values, both[1].series.values[lane], rtol=0, atol=1e-11)
            assert both[0].steps == both[1].steps[lane] == 60
        np.testing.assert_allclose(alone.observed["density"].log_det, run.observed["density"].log_det[lane], rtol=0, atol=1e-11)
        break_even = alone.observed["pair"].predicted_steps(1e-9, 1e-6)
        top = alone.observed["pair"].exponent
        np.testing.assert_array_equal(np.isfinite(break_even), top < 0)
        np.testing.assert_allclose(break_even[top < 0] * top[top < 0], np.log(1e-3))
        assert (alone.observed["pair"].predicted_steps(1.0, 1e-6) == 0).all()


# --- lifted ----------------------------------------------------------------------------------------------------------------


def test_heavy_ball_on_a_quadratic():
    """Eigenvalues of [[1 - eta k, -eta beta], [k, beta]], real and complex, stable and not; their product is beta at every step."""
    k, beta = 2.0, 0.6
    etas = jnp.asarray([0.02, 0.05, 0.4, 1.2, 1.9])
    spring = eq.field.mean_field(lambda x: 1.0, lambda x, s: -k * x)
    rule = eq.rules.heavy_ball(spring, beta=beta)
    watch = {"lifted": eq.observe.lyapunov(rule, num=2), "bare": eq.observe.lyapunov(rule, lifted=False), "density": eq.observe.density(rule)}
    run = eq.simulate(rule, jnp.zeros((2, 1)), eta=etas, lanes=5, num_steps=3000, observe=watch)
    lifted, bare = run.observed["lifted"], run.observed["bare"]
    for lane, eta in enumerate(np.asarray(etas)):
        values = np.linalg.eigvals([[1 - eta * k, -eta * beta], [k, beta]])
        expected = np.sort(np.log(np.abs(values)))[::-1]
        # the frame turns, and in complex pairs goes round: a constant over the number of steps
        np.testing.assert_allclose(lifted.exponent[lane], [expected] * 2, rtol=0, atol=1e-3)
        np.testing.assert_allclose(bare.exponent[lane], np.log(np.abs(1 - eta * k)), rtol=1e-12)
    np.testing.assert_allclose(lifted.log_growth.sum(2), 3000 * np.log(beta), rtol=1e-11)
    np.testing.assert_allclose(run.observed["density"].log_det, 3000 * np.log(beta), rtol=1e-11)
    assert lifted.tangent.shape == (5, 2, 2, 2)


def test_adam_moves_a_planted_pair_as_its_lifted_tangent_says():
    """The pair starts at equal state, and its distance grows as the parameter part of the tangent."""
    rule = eq.rules.adam(two_layer.regression_field())
    direction, distance = jnp.asarray([[0.6, 0.0, 0.8]]), 1e-7
    x0 = jax.random.normal(jax.random.key(3), (8, D))
    x0 = x0.at[-1:].set(x0[:1] + distance * direction)
    watch = {"pair": eq.observe.lyapunov(rule, start=jnp.tile(direction, (8, 1)))}
    run = eq.simulate(rule, x0, eta=1e-2, num_steps=40, data=DATA, observe=watch)
    found = run.observed["pair"]
    assert found.tangent.shape == (8, 3 * D)
    assert np.isfinite(found.log_growth).all()
    of_parameters = found.log_growth[0] + np.log(np.linalg.norm(found.tangent[0, :D]))
    pair = np.log(np.linalg.norm(run.x[-1] - run.x[0]) / distance)
    assert abs(of_parameters) > 0.01
    # first order in the distance, and rounding: 40 steps of eps |x| against 1e-7
    np.testing.assert_allclose(of_parameters, pair, rtol=0, atol=1e-4)


# --- groups, ended lanes, going on, mistakes -------------------------------------------------------------------------------


def test_hidden_units_of_a_tree_against_products_of_matrices():
    params = two_layer.classifier(jax.random.normal(jax.random.key(4), (5, 4 + 3)), 4)
    data = jax.random.normal(jax.random.key(5), (6, 4)), jnp.asarray([0, 1, 2, 0, 1, 2])
    rule, group = eq.rules.gradient(two_layer.classifier_field(params)), two_layer.neurons(params)
    watch = {"one": eq.observe.lyapunov(rule, group=group, key=jax.random.key(9)), "named": eq.observe.lyapunov(rule, group={"hidden": group})}
    run = eq.simulate(rule, params, eta=0.7, num_steps=4, data=data, observe=watch)
    found, named = run.observed["one"], run.observed["named"]
    assert list(named) == ["hidden"]
    assert np.abs(named["hidden"].log_growth - found.log_growth).max() > 1e-6  # started elsewhere
    v = jax.random.normal(jax.random.key(9), (5, 7))
    v = v / jnp.linalg.norm(v, axis=1, keepdims=True)
    x, matrices = params, np.broadcast_to(np.eye(7), (5, 7, 7))

    @jax.jit
    def stepped(x):
        matrix = jax.jacrev(lambda y: rule.probe(y[None], (), x, (), data).u[0])
        return eq.step(rule, x, (), 0.7, data)[0], jax.vmap(matrix)(group.particles(x))

    for _ in range(4):
        x, matrix = stepped(x)
        matrices = (np.eye(7) + 0.7 * np.asarray(matrix)) @ matrices
    np.testing.assert_allclose(found.log_growth, np.log(np.linalg.norm(np.einsum("nij,nj->ni", matrices, v), axis=1)), rtol=0, atol=1e-13)


def test_a_lane_that_ended_grows_no_further():
    rule = eq.rules.from_field(eq.field.mean_field(lambda x: 1.0, lambda x, s: x**3))
    watch = {"pair": eq.observe.lyapunov(rule), "density": eq.observe.density(rule)}
    x0, etas = jnp.asarray([[0.5], [1.0]]), jnp.asarray([0.01, 2.0])
    run = eq.simulate(rule, x0, eta=etas, lanes=2, num_steps=40, observe=watch)
    assert run.status.tolist() == ["ok", "diverged"]
    taken = int(run.status_step[1])
    assert run.observed["pair"].steps.tolist() == run.observed["density"].steps.tolist() == [40, taken]
    short = eq.simulate(rule, x0, eta=etas, lanes=2, num_steps=taken, observe=watch).observed["pair"]
    np.testing.assert_array_equal(run.observed["pair"].log_growth[1], short.log_growth[1])
    np.testing.assert_allclose(run.observed["density"].log_det[1], short.log_growth[1], rtol=1e-14)
    assert run.observed["pair"].log_growth[0, 0] > short.log_growth[0, 0]


def test_going_on_is_the_whole_run_and_compiles_once():
    x0, signs = jnp.ones((3, 1)), jnp.tile(jnp.asarray([1.0, -1.0]), 10)[:, None]

    def go(start, num):
        rule = noisy_once
        observe = {"pair": eq.observe.lyapunov(rule, num=1, stride=3, key=jax.random.key(8)), "density": eq.observe.density(rule)}
        return eq.simulate(rule, start, eta=0.1, num_steps=num, data=eq.Batches(signs, 2), key=jax.random.key(0), observe=observe)

    noisy_once = noisy()
    whole, before = go(x0, 20), eq.compile_count()
    parts = go(go(x0, 7), 13)
    assert eq.compile_count() == before
    for a, b in zip(jax.tree.leaves(whole.observed), jax.tree.leaves(parts.observed), strict=True):
        np.testing.assert_array_equal(a, b)


def test_where_there_is_no_derivative_it_says_so():
    rule = eq.rules.from_field(eq.field.mean_field(lambda x: 1.0, lambda x, s: jnp.sqrt(x * x)))
    found = watched(rule, jnp.asarray([[0.0], [1.0]]), 2)
    assert np.isnan(found.log_growth).tolist() == [True, False]
    assert "1 without derivative" in found.summary()
    np.testing.assert_array_equal(found.predicted_steps(1e-3, 1.0), [np.nan, np.inf])


def without_probe():
    return eq.rules.from_function(lambda x: -x)


CONSENSUS = eq.rules.consensus()
MISTAKES = {
    "no probe": (lambda: eq.observe.lyapunov(without_probe()), ValueError, "without probe"),
    "no rule": (lambda: eq.observe.lyapunov(3), TypeError, "expected the eq.Rule"),
    "no tangent": (lambda: eq.observe.lyapunov(CONSENSUS, num=0), ValueError, "num: got 0"),
    "stride": (lambda: eq.observe.lyapunov(CONSENSUS, stride=0), ValueError, "stride: got 0"),
    "key": (lambda: eq.observe.lyapunov(CONSENSUS, key=3), TypeError, "typed key"),
    "zero direction": (lambda: eq.observe.lyapunov(CONSENSUS, start=jnp.zeros((2, 1))), ValueError, "length 0"),
    "directions and num": (lambda: eq.observe.lyapunov(CONSENSUS, start=jnp.ones((2, 1)), num=2), ValueError, "num=1"),
    "no groups": (lambda: eq.observe.lyapunov(CONSENSUS, group={}), ValueError, "empty dict"),
    "rules of other groups": (lambda: eq.observe.lyapunov({"a": CONSENSUS}, group={"b": None}), ValueError, "one for each"),
    "too many tangents": (
        lambda: watched(CONSENSUS, jnp.ones((2, 1)), 1, observe={"found": eq.observe.lyapunov(CONSENSUS, num=2)}),
        ValueError,
        "num: got 2",
    ),
    "directions that do not fit": (
        lambda: watched(CONSENSUS, jnp.ones((2, 1)), 1, observe={"found": eq.observe.lyapunov(CONSENSUS, start=jnp.ones((3, 1)))}),
        ValueError,
        "start: got shape",
    ),
    "collapse, no probe": (lambda: eq.measure.collapse(without_probe(), jnp.ones((2, 1)), jnp.ones((2, 1))), ValueError, "without probe"),
    "collapse, no rule": (lambda: eq.measure.collapse(3, jnp.ones((2, 1)), jnp.ones((2, 1))), TypeError, "eq.Rule"),
    "collapse, state": (
        lambda: eq.measure.collapse(eq.rules.heavy_ball(two_layer.regression_field()), jnp.ones((2, 3)), jnp.ones((2, 1))),
        ValueError,
        "carry a state",
    ),
    "collapse, one batch": (lambda: eq.measure.collapse(noisy(), jnp.ones((2, 1)), jnp.ones((1, 1))), ValueError, "2 or more"),
    "collapse, no key": (lambda: eq.measure.collapse(noisy(), jnp.ones((2, 1)), eq.Batches(jnp.ones((4, 1)), 2)), ValueError, "key: got None"),
    "collapse, eta": (lambda: eq.measure.collapse(noisy(), jnp.ones((2, 1)), jnp.ones((2, 1)), etas=[-1.0]), ValueError, "etas: got"),
    "collapse, direction": (
        lambda: eq.measure.collapse(noisy(), jnp.ones((2, 1)), jnp.ones((2, 1)), direction=jnp.zeros(1)),
        ValueError,
        "direction: got",
    ),
    "collapse, word": (lambda: eq.measure.collapse(noisy(), jnp.ones((2, 1)), jnp.ones((2, 1)), direction="least"), ValueError, "got 'least'"),
    "collapse, memory": (lambda: eq.measure.collapse(noisy(), jnp.ones((2, 8192)), jnp.ones((2, 1))), MemoryError, "give direction"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name):
    call, kind, words = MISTAKES[name]
    with pytest.raises(kind, match=words):
        call()


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("EQDYN_DATA"), reason="EQDYN_DATA is not set")
def test_mnist_gathers_neurons_with_decay_and_not_without(tmp_path):
    """The six runs of the benchmark, and what they have to show."""
    script = Path(__file__).parent.parent / "benchmarks" / "exponents.py"
    env = os.environ | {"XLA_FLAGS": USERS_FLAGS}  # as a user runs it
    done = subprocess.run(
        [sys.executable, script, "--mnist", "--repeats", "1", "--out", tmp_path / "out.json"], capture_output=True, text=True, check=False, env=env
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out.json").read_text())
    print(done.stdout)
    held = found["orderings"]
    assert held.pop("no negative exponents without weight decay") or found["runs"][2]["share negative"] <= 0.05
    assert all(held.values()), held
