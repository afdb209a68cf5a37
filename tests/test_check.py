"""The laws: good rules hold them, broken ones fail with a replay, and a declared constant is taken at its word."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tables import ADAPTED, BROKEN, KINDS, RULES, N, batch, coefficients, start

import eqdyn as eq

DTYPES = [jnp.float32, jnp.float64]
FOLLOW = ["P1", "Lemma 1", "Lemma 2", "Lemma 3", "Lemma 4", "Lemma 5", "Theorem 1", "Theorem 2", "Merge law"]
LAWS = {"P2-K", "P2'", "P3", "Lifted invertibility", *FOLLOW}


def no_alarm(report):
    """What follows from P1 holds, and nothing fails: without a K, P2 is not decided."""
    return report.holds and {report.laws[law].verdict for law in FOLLOW} == {"holds"}


def test_there_are_twelve_broken_rules():
    assert len(BROKEN) >= 12


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_fifty_random_good_rules_raise_no_alarm(kind, dtype, key):
    rule = KINDS[kind]()
    for seed in range(5):
        report = eq.check(rule, start(dtype, seed=seed), data=coefficients(seed, dtype), num_draws=16, key=key)
        if kind == "median":  # it has kinks, and P3 says so
            assert {name for name, law in report.laws.items() if law.verdict == "fails"} <= {"P3"}, (seed, str(report))
        else:
            assert no_alarm(report), (seed, str(report))


@pytest.mark.parametrize(("n", "offset"), [(1024, 0.0), (1024, 100.0), (4096, 1000.0)])
def test_many_particles_far_from_the_origin_raise_no_alarm(n, offset, key):
    """Sums of thousands of terms in float32, and all of them large: what cannot be told is unresolved, not refuted."""
    report = eq.check(eq.rules.consensus(), start(jnp.float32, n=n) + jnp.float32(offset), num_draws=8, key=key)
    assert report.laws["P1"].verdict == "holds", str(report)
    assert report.holds, str(report)


def test_one_part_in_a_thousand_is_found_among_a_thousand(key):
    report = eq.check(eq.rules.from_function(BROKEN["index-dependent rate of 1e-3"]), start(jnp.float32, n=1024), num_draws=8, key=key)
    assert {name for name, law in report.laws.items() if law.verdict == "fails"} >= {"P1", "Lemma 1", "Lemma 2"}, str(report)


@pytest.mark.parametrize("make", [lambda key: start(jnp.float32, n=1024), lambda key: eq.shapes.figure_eight(1024, key=key).points])
@pytest.mark.parametrize("declared", [1.0, 1.0001])
def test_a_right_constant_is_not_refuted_by_rounding(declared, make, key):
    """All merge exactly at 1/K, and near pairs are known to 1e-4 only."""
    assert eq.check(eq.rules.consensus(), make(key), K=declared, num_draws=8, key=key).holds


@pytest.mark.parametrize("n", [2, 3])
def test_few_particles_and_none_that_move(n, key):
    for rule in (eq.rules.consensus(), eq.rules.from_function(lambda x: 0 * x)):
        report = eq.check(rule, start(jnp.float32, n=n), num_draws=8, key=key)
        assert no_alarm(report), str(report)


@pytest.mark.parametrize(("declared", "verdict"), [(0.9, "fails"), (1.0 + 1e-6, "holds"), (3.0, "holds")])
def test_declared_constant(declared, verdict, key):
    report = eq.check(eq.rules.consensus(rate=1.0), start(jnp.float64), K=declared, key=key)
    assert report.laws["Lemma 2"].verdict == verdict, str(report)
    assert report.laws["P2-K"].verdict == {"holds": "not refuted"}.get(verdict, verdict)
    np.testing.assert_allclose(report.laws["P2-K"].bound, 1.0, rtol=1e-9)


def test_merge_below_a_declared_critical_step_refutes_it(key):
    """All merge at eta = 1/2, below the 1/K = 1 that was declared."""
    report = eq.check(eq.rules.consensus(rate=2.0), start(jnp.float64), K=1.0, key=key)
    assert report.laws["Merge law"].verdict == "fails"


@pytest.mark.parametrize("scale", [0.1, 0.3, 0.7])
def test_merge_law_can_fail(scale, key):
    """A rule whose step is not x + eta U(x) for the U that it showed."""
    one = _Fickle(scale)
    assert eq.check(eq.Rule(one.init, one.update), start(jnp.float64), key=key).laws["Merge law"].verdict == "fails"


class _Fickle:
    """U that changes with each trace: what was measured once is not what moves."""

    def __init__(self, scale):
        self.calls, self.scale = 0, scale

    def init(self, x):
        return ()

    def update(self, x, state, data=None, *, key=None):
        self.calls += 1
        return eq.Update((1 + self.scale * self.calls) * (jnp.mean(x, axis=0, keepdims=True) - x), state)


def test_state_that_is_given_is_checked_too(key):
    rule, x = eq.rules.adam(lambda x: jnp.sum(x**4)), start(jnp.float64)
    state = rule.init(x)
    for _ in range(3):
        x, state, _ = eq.step(rule, x, state, 0.01)
    assert eq.check(rule, x, state, key=key).holds


def test_weights_travel_with_their_particles(key):
    x = start(jnp.float64)
    weight = jnp.linspace(1.0, 2.0, N)
    rule = RULES["gradient"][0]
    weighted = ADAPTED["gradient, weighted"][0]()
    assert eq.check(weighted, eq.Weighted(x, weight), data=batch(jnp.float64), key=key).holds
    # permuting x alone, the weights staying where they are, is no symmetry when weights differ
    fixed = eq.rules.from_function(lambda x, data: weighted.update(eq.Weighted(x, weight), (), data).u.x)
    assert eq.check(fixed, x, data=batch(jnp.float64), key=key).laws["P1"].verdict == "fails"
    equal = eq.rules.from_function(lambda x, data: weighted.update(eq.Weighted(x, jnp.full(N, 1.5)), (), data).u.x)
    assert eq.check(equal, x, data=batch(jnp.float64), key=key).holds
    assert eq.check(rule(), x, data=batch(jnp.float64), key=key).holds


def mlp(key, sizes=(5, 12, 9, 3)):
    params = {}
    for k, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes), 1):
        params[f"layer{k}"] = {
            "kernel": jax.random.normal(jax.random.fold_in(key, k), (fan_in, fan_out)) / np.sqrt(fan_in),
            "bias": 0.1 * jax.random.normal(jax.random.fold_in(key, 10 + k), (fan_out,)),
        }
    return params


def mlp_loss(params, data):
    z, y = data
    for name in ("layer1", "layer2"):
        z = jnp.tanh(z @ params[name]["kernel"] + params[name]["bias"][None])
    return jnp.mean((z @ params["layer3"]["kernel"] + params["layer3"]["bias"][None] - y) ** 2)


def mlp_groups(params):
    first = eq.groups.from_axes(params, {"layer1/kernel": 1, "layer1/bias": 0, "layer2/kernel": 0})
    second = eq.groups.from_axes(params, {"layer2/kernel": 1, "layer2/bias": 0, "layer3/kernel": 0})
    return {"first": first, "second": second}


def test_two_hidden_layers(key):
    """Contract probe: both groups hold, and permuting one group leaves the other's answers as they are."""
    params = mlp(key)
    data = (jax.random.normal(key, (20, 5)), jax.random.normal(jax.random.fold_in(key, 1), (20, 3)))
    groups = mlp_groups(params)
    rule = eq.rules.gradient(mlp_loss)
    report = eq.check(rule, params, data=data, group=groups, num_draws=16, key=key)
    assert report.holds, str(report)
    assert set(report.laws) == {f"{group}: {law}" for group in groups for law in LAWS}

    # the units of the second group, after those of the first are permuted: same constants, same rows but for their order
    u = rule.update(params, rule.init(params), data).u
    moved = groups["first"].permute(params, jax.random.permutation(key, 12))
    moved_u = rule.update(moved, rule.init(moved), data).u
    before, after = (
        eq.measure.pair_constants(groups["second"].particles(x), groups["second"].particles(v)) for x, v in ((params, u), (moved, moved_u))
    )
    np.testing.assert_allclose(before.k_pair, after.k_pair, rtol=1e-9)
    np.testing.assert_allclose(before.mu, after.mu, rtol=1e-9)
    np.testing.assert_array_equal(before.k_pair_at, after.k_pair_at)

    # and a group that mixes two layers up is refuted
    wrong = eq.groups.from_axes(params, {"layer1/kernel": 1, "layer1/bias": 0})
    assert eq.check(rule, params, data=data, group=wrong, num_draws=16, key=key).laws["P1"].verdict == "fails"


def test_report_says_it_in_text_dict_and_html(key):
    report = eq.check(eq.rules.from_function(BROKEN["sorted"]), start(jnp.float64), num_draws=4, key=key)
    assert "P1" in str(report)
    assert report.to_dict()["P1"]["verdict"] == "fails"
    assert report._repr_html_().count("<tr>") == 1 + len(LAWS)
    assert "K &gt;= " in report._repr_html_()
    assert "K >= " in str(report)
    flat = report.to_dict()["P2-K"]
    assert set(flat) == {"verdict", "error", "tolerance", "bound", "draw"}
    order = [law.verdict for _, law in report.rows()]
    assert order == sorted(order, key=["unresolved", "fails", "not refuted", "holds"].index)


def test_rounding_that_hides_the_answer_is_unresolved(key):
    """x far from the origin: differences are lost in float32, and the checker says that it cannot tell."""
    x = start(jnp.float32) + jnp.float32(1e7)
    report = eq.check(eq.rules.consensus(), x, num_draws=8, key=key)
    assert report.laws["P1"].verdict == "unresolved"
    assert report.holds


def test_nonfinite_u_is_unresolved(key):
    report = eq.check(eq.rules.from_function(lambda x: jnp.log(-jnp.abs(x))), start(jnp.float64), num_draws=4, key=key)
    assert {law.verdict for law in report.laws.values()} == {"unresolved"}, str(report)


def _through_numpy(x):
    return jax.pure_callback(lambda x: np.mean(x, axis=-2, keepdims=True) - x, jax.ShapeDtypeStruct(x.shape, x.dtype), x, vmap_method="expand_dims")


def test_a_rule_without_derivatives_is_held_against_all_else(key):
    report = eq.check(eq.rules.from_function(_through_numpy), start(jnp.float64), num_draws=4, key=key)
    assert no_alarm(report)
    assert report.laws["Lifted invertibility"].verdict == "unresolved"
    assert np.isnan(report.laws["Lifted invertibility"].error)


def test_a_particle_too_wide_for_its_whole_jacobian(key):
    """Above 64 numbers a random frame serves theorem 1, and the lifted law is not decided."""
    report = eq.check(eq.rules.consensus(), start(jnp.float64, n=6, d=100), K=1.0, num_draws=2, key=key)
    assert no_alarm(report)
    assert report.laws["Lifted invertibility"].verdict == "unresolved"
    assert eq.check(eq.rules.consensus(), start(jnp.float64, n=6, d=100), K=0.9, num_draws=2, key=key).laws["Theorem 1"].verdict == "fails"


def test_assert_lawful(key):
    x = start(jnp.float64)
    assert eq.assert_lawful(eq.rules.consensus(), x).holds
    with pytest.raises(AssertionError, match=r"(?s)P1 +fails.*draw \d+, permutation \["):
        eq.assert_lawful(eq.rules.from_function(BROKEN["sorted"]), x, key=key, num_draws=8)
    with pytest.raises(AssertionError, match="P2-K"):
        eq.assert_lawful(eq.rules.consensus(), x, K=0.5)


@pytest.mark.parametrize("num_steps", [1, 4])
def test_equivariance_measure_agrees_with_the_formula(num_steps, key):
    x, perm = start(jnp.float64), jax.random.permutation(key, N)
    bad = BROKEN["cumulative sum"]
    found = eq.measure.equivariance(eq.rules.from_function(bad), x, perm, num_steps=1)
    np.testing.assert_allclose(found.error, jnp.max(jnp.abs(bad(x[perm]) - bad(x)[perm])) / jnp.max(jnp.abs(bad(x))), rtol=1e-12)
    good = eq.measure.equivariance(eq.rules.adam(lambda x: jnp.sum(jnp.cos(x))), x, perm, num_steps=num_steps, eta=0.1)
    assert float(good.error) <= float(good.tolerance) < 1e-11


def test_one_step_with_a_state_permutes_the_state(key):
    """Permuting x but not the moments would make a correct Adam look wrong by a tenth or more."""
    rule, x, perm = eq.rules.adam(lambda x: jnp.sum(jnp.cos(x))), start(jnp.float64), jax.random.permutation(key, N)
    _, state, _ = eq.step(rule, x, rule.init(x), 0.1)
    found = eq.measure.equivariance(rule, x, perm, state)
    assert float(found.error) <= float(found.tolerance)
    forgotten = jnp.max(jnp.abs(rule.update(x[perm], state).u - rule.update(x, state).u[perm]))
    assert float(forgotten) > 0.1
