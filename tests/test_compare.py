"""Closest approach, controls at smaller steps, the flow, and runs side by side."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

import eqdyn as eq
from eqdyn._compare import compare
from eqdyn._controls import Control, controls
from eqdyn._flow import flow
from eqdyn.networks import two_layer

needs_diffrax = pytest.mark.skipif(
    "diffrax" not in sys.modules and not __import__("importlib.util").util.find_spec("diffrax"), reason="needs the extra flow"
)

# --- closest approach ------------------------------------------------------------------------------------------------------

PAIRS = 200


def planted(dtype, dim, miss):
    """Pairs that are closest at a chosen eta, and then `miss` of the way apart; 0: they meet."""
    rng = np.random.default_rng(dim)
    eta = np.exp(rng.uniform(-5, 5, PAIRS))
    along = rng.normal(size=(PAIRS, dim))
    across = rng.normal(size=(PAIRS, dim))
    across -= along * np.sum(across * along, 1, keepdims=True) / np.sum(along**2, 1, keepdims=True)
    across *= miss * np.linalg.norm(along, axis=1, keepdims=True) / np.linalg.norm(across, axis=1, keepdims=True)
    x = np.zeros((2 * PAIRS, dim))
    x[1::2] = -(along + across)  # x_0 = 0: differences are exact
    u = np.zeros_like(x)
    u[1::2] = along / eta[:, None]
    order = rng.permutation(2 * PAIRS)
    place = np.argsort(order)
    return jnp.asarray(x[order], dtype), jnp.asarray(u[order], dtype), place.reshape(PAIRS, 2), eta, np.linalg.norm(along, axis=1)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("miss", [0.0, 1e-3, 0.7])
def test_planted_meetings_are_found(dtype, miss):
    eps = float(jnp.finfo(dtype).eps)
    x, u, pair, eta, length = planted(dtype, 3, miss)
    found = eq.measure.closest(x, u, pair)
    assert found.eta.dtype == found.distance.dtype == dtype
    # x and u are rounded when they are written down: each is off by half an eps of itself
    assert np.allclose(found.eta, eta, rtol=8 * eps)
    assert np.all(np.abs(np.asarray(found.distance, float) - miss * length) <= 8 * eps * length)
    assert np.allclose(
        found.stretch, np.asarray(found.distance, float) / np.linalg.norm(np.diff(np.asarray(x, float)[pair], axis=1)[:, 0], axis=1), rtol=8 * eps
    )
    one = eq.measure.closest(x, u, pair[7])
    assert [leaf.shape for leaf in one] == [(), (), ()]
    assert np.allclose(one, [leaf[7] for leaf in found], rtol=4 * eps, atol=8 * eps)
    # another route: no eta nearby does better, in long double
    dx, du = (np.diff(np.asarray(a, np.longdouble)[pair], axis=1)[:, 0] for a in (x, u))
    for shift in (0, 1e-3, -1e-3, 0.1, -0.1):
        other = np.linalg.norm((dx + (1 + shift) * np.asarray(found.eta, np.longdouble)[:, None] * du).astype(float), axis=1)
        assert np.all(other >= np.asarray(found.distance, float) - 8 * eps * length)


def test_the_plain_formula_loses_a_meeting():
    """Negative control: sqrt(1 - p^2 / R^2) of the same pairs, in float32, misses zero by the root of the rounding."""
    x, u, pair, _, _ = planted(jnp.float32, 3, 0.0)
    i, j = pair.T
    terms = eq.measure.pair_terms(x, u)
    cosine = np.asarray(terms.approach / terms.rate)[i, j]
    assert np.max(np.sqrt(np.maximum(1 - cosine**2, 0))) > 1e-4
    assert np.max(terms.closest()[1][i, j]) < 1e-5  # by what the rate has across
    assert np.max(eq.measure.closest(x, u, pair).stretch) < 1e-6


def test_pairs_that_do_not_approach():
    x = jnp.array([[0.0, 0.0], [4.0, 3.0], [4.0, 3.0], [1e200, 0.0], [0.0, 0.0]])
    u = jnp.array([[-1.0, 0.0], [0.0, 0.0], [1.0, 0.0], [-1e200, 1e200], [jnp.nan, 0.0]])
    found = eq.measure.closest(x, u, [[0, 1], [1, 0], [1, 2], [0, 3], [0, 4]])
    assert np.allclose(found.eta, [0, 0, 0, 0.5, np.nan], rtol=1e-15, equal_nan=True)
    assert np.allclose(found.stretch, [1, 1, np.nan, 0.5**0.5, np.nan], rtol=1e-15, equal_nan=True)
    assert np.allclose(found.distance, [5, 5, 0, 0.5**0.5 * 1e200, np.nan], rtol=1e-15, equal_nan=True)


def _straight(x):
    """Two pass each other, one stays."""
    return jnp.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0]])


def test_the_observer_keeps_the_closest_moment():
    x0 = jnp.array([[0.0, 0.0], [10.0, 1.0], [4.25, 2.0]])
    rule = eq.rules.from_function(_straight)
    watch = {"meet": eq.observe.closest([[0, 1], [0, 2], [1, 2]])}
    etas = jnp.array([1.0, 0.5])
    run = eq.simulate(rule, x0, eta=etas, lanes=2, num_steps=6, observe=watch)
    found = run.observed["meet"]
    assert found.step.tolist() == [[5, 4, 6], [6, 6, 6]]
    assert np.allclose(found.distance[0], [1, np.hypot(0.25, 2), np.hypot(0.25, 1)], rtol=1e-12)
    assert np.allclose(found.stretch[0], found.distance[0] / np.array([np.hypot(10, 1), np.hypot(4.25, 2), np.hypot(5.75, 1)]), rtol=1e-12)
    assert found.series.values.shape == (2, 6, 3)
    assert np.allclose(found.series.values[0, :, 0], np.hypot(10 - 2 * np.arange(6), 1), rtol=1e-12)
    # going on is one run; and a stride sees what it sees, up to after its step
    more = eq.simulate(rule, run, eta=etas, num_steps=6, observe=watch).observed["meet"]
    assert more.step[:, 0].tolist() == [5, 10]
    assert more.series.values.shape == (2, 12, 3)
    wide = eq.simulate(rule, x0, eta=1.0, num_steps=9, observe={"meet": eq.observe.closest((0, 1), stride=4)}).observed["meet"]
    assert (int(wide.step), float(wide.distance)) == (5, 1.0)
    assert wide.series.steps.tolist() == [0, 4, 8]


# --- controls --------------------------------------------------------------------------------------------------------------


def _decay(x):
    return jnp.sum(x**2) / 2


@needs_diffrax
def test_linear_decay_at_four_steps_and_as_a_flow():
    """(1 - eta)^(t / eta) at every step size, exp(-t) for the flow; their difference is of first order in eta."""
    x0 = jax.random.normal(jax.random.key(0), (6, 2))
    before = eq.compile_count()
    found = controls(eq.rules.gradient(_decay), x0, eta=0.1, num_steps=20, factors=(1, 0.5, 0.25, 0.8))
    assert eq.compile_count() - before == 1  # all steps, one program
    assert list(found) == ["eta", "eta/2", "eta/4", "0.8 eta", "flow"]
    for name, steps in {"eta": 20, "eta/2": 40, "eta/4": 80, "0.8 eta": 25}.items():
        run, eta, time = found[name]
        assert (run.step, eta, time) == (steps, pytest.approx(2 / steps), 2.0)
        assert np.allclose(run.x, (1 - 2 / steps) ** steps * np.asarray(x0, float), rtol=2 * steps * 2.3e-16, atol=0)
    end = found["flow"].run
    assert (end.status, end.time, found["flow"].eta) == ("ok", 2.0, 0.0)
    assert np.allclose(end.x, np.exp(-2) * np.asarray(x0, float), rtol=20 * end.rtol, atol=20 * end.atol)
    assert np.allclose(end.loss, float(_decay(x0)) * np.array([1, np.exp(-4)]), rtol=50 * end.rtol)
    apart = [row["distance"] for row in compare({"flow": found["flow"], **found}, x0).rows]
    assert apart[1] / apart[2] == pytest.approx(2, abs=0.15)
    assert apart[2] / apart[3] == pytest.approx(2, abs=0.15)


@needs_diffrax
def test_the_flow_of_a_network_against_scipy():
    split = eq.data.teacher(key=jax.random.key(0), num_examples=60, dtype=jnp.float64)
    x0 = eq.shapes.start_2d(8, key=jax.random.key(1), dtype=jnp.float64).points
    rule = eq.rules.gradient(two_layer.regression)
    end = flow(rule, x0, time=0.3, data=eq.Batches(split.train, 5))
    z, y = (np.asarray(a) for a in split.train)

    def by_hand(t, x):
        w, a = x.reshape(8, 2).T
        h = 1 / (1 + np.exp(-np.outer(w, z[:, 0])))
        r = 2 * (a @ h - y) / len(y)
        return -np.stack([a * ((h * (1 - h)) @ (r * z[:, 0])), h @ r], 1).ravel()

    other = solve_ivp(by_hand, (0, 0.3), np.asarray(x0).ravel(), method="DOP853", rtol=1e-12, atol=1e-12)
    way = np.max(np.abs(other.y[:, -1].reshape(8, 2) - x0))
    assert way > 0.1
    assert np.allclose(end.x, other.y[:, -1].reshape(8, 2), rtol=0, atol=1e-7)  # two orders above the tolerance of a step
    assert not np.allclose(flow(rule, x0, time=0.3, data=split.train, rtol=1e-2).x, end.x, rtol=0, atol=1e-7)  # and it tells tolerances apart
    assert end.loss[1] < end.loss[0]


@needs_diffrax
def test_a_flow_that_runs_away_says_so():
    """x' = x^2 from 1 is 1 / (1 - t), infinite at time 1. In float32, at its own tolerance."""
    rule, x0 = eq.rules.from_function(jnp.square), jnp.ones((2, 1), jnp.float32)
    good = flow(rule, x0, time=0.5)
    assert (good.status, good.rtol, good.x.dtype) == ("ok", 1e-5, jnp.float32)
    assert np.allclose(good.x, 2, rtol=1e-4)
    end = flow(rule, x0, time=2.0)
    assert end.status in ("nonfinite", "unfinished")
    assert end.step + end.rejected < 1000
    assert 0.9 < end.time < 1.01
    row = compare({"flow": end}).rows[0]
    assert row["status"] == end.status
    assert row["time"] == end.time


def test_flows_that_are_none(monkeypatch):
    x0 = jnp.ones((3, 1))
    with pytest.raises(ValueError, match=r"rule: got one with a state.*momentum.*write flow=False"):
        controls(eq.rules.heavy_ball(_decay), x0, eta=0.1, num_steps=4)
    assert list(controls(eq.rules.heavy_ball(_decay), x0, eta=0.1, num_steps=4, flow=False)) == ["eta", "eta/2", "eta/4"]
    monkeypatch.setitem(sys.modules, "diffrax", None)
    with pytest.raises(ImportError, match=r"flow: diffrax is missing; write pip install 'eqdyn\[flow\]', or flow=False"):
        controls(eq.rules.gradient(_decay), x0, eta=0.1, num_steps=4)


def _toward(x, data):
    """A velocity that is the batch's: sums over batches are known."""
    return jnp.mean(data, axis=0)[None] + 0 * x


def test_what_minibatches_become():
    """With a force that does not depend on x the way is the sum of eta times the batches' means."""
    rows = jax.random.normal(jax.random.key(0), (12, 2))
    data, key, x0 = eq.Batches(rows, 4), jax.random.key(1), jnp.zeros((3, 2))
    rule = eq.rules.from_function(_toward)
    ends = {
        batches: {
            name: np.asarray(control.run.x)
            for name, control in controls(rule, x0, eta=0.5, num_steps=7, flow=False, data=data, batches=batches, key=key).items()
        }
        for batches in ("held", "fresh", "full")
    }
    drawn = np.asarray(rows)[data.rows(key, 0, 7)].mean(1)
    assert np.allclose(ends["held"]["eta"], 0.5 * drawn.sum(0), rtol=1e-12)
    assert np.allclose(ends["fresh"]["eta"], 0.5 * drawn.sum(0), rtol=1e-12)
    for name in ("eta/2", "eta/4"):
        assert np.allclose(ends["held"][name], ends["held"]["eta"], rtol=1e-12)  # the same noise
        assert np.max(np.abs(ends["fresh"][name] - ends["held"][name])) > 0.05  # other noise
    more = np.asarray(rows)[data.rows(key, 0, 14)].mean(1)
    assert np.allclose(ends["fresh"]["eta/2"], 0.25 * more.sum(0), rtol=1e-12)
    assert all(np.allclose(end, 3.5 * np.mean(rows, 0), rtol=1e-12) for end in ends["full"].values())


def test_the_run_in_question_has_the_step_that_was_given():
    """0.1 * 3 / 3 is 0.10000000000000002."""
    found = controls(eq.rules.consensus(), jnp.array([[0.0], [1.0]]), eta=0.1, num_steps=3, factors=(1, 0.5), flow=False)
    assert found["eta"].eta == 0.1
    assert found["eta/2"].eta == pytest.approx(0.05, rel=1e-15)
    assert found["eta"].time == found["eta/2"].time


def test_held_batches_do_not_depend_on_the_chunks():
    from eqdyn._controls import _Held

    data, key = eq.Batches(np.arange(10), 3), jax.random.split(jax.random.key(0), 2)
    held, whole = _Held(data, 3), data.rows(key, 0, 8)
    for first, num in ((0, 24), (4, 9), (5, 1), (23, 1), (7, 0)):
        assert np.array_equal(held.rows(key, first, num), np.repeat(whole, 3, axis=1)[:, first : first + num])


# --- side by side ----------------------------------------------------------------------------------------------------------


def test_rows_of_runs_whose_numbers_are_known():
    """Consensus of two pairs: distances times (1 - eta) a step; at eta = 1 all become one."""
    x0 = jnp.array([[0.0, 0.0], [4.0, 0.0], [0.0, 3.0], [4.0, 3.0]])
    rule = eq.rules.consensus()
    watch = {"ledger": eq.observe.certificate(stride=2), "atoms": eq.observe.atoms()}
    two = eq.simulate(rule, x0, eta=jnp.array([0.5, 1.0]), lanes=2, num_steps=4, observe=watch)
    plain = eq.simulate(rule, x0, eta=0.25, num_steps=4)
    found = compare(
        {"lanes": Control(two, eta=np.array([0.5, 1.0])), "plain": plain, "timed": (plain, 0.25, 3.0)}, x0, loss=lambda x: jnp.sum(x**2), betti=True
    )
    half, one, bare, timed = found.rows
    assert [row["run"] for row in found.rows] == ["lanes[0]", "lanes[1]", "plain", "timed"]
    assert (half["steps"], half["eta"], half["time"], half["status"]) == (4, 0.5, 2.0, "ok")
    assert (bare["eta"], bare["time"], timed["time"]) == (None, None, 3.0)
    assert (half["stretch_low"], half["stretch_high"], half["atoms_lost"]) == (0.0625, 0.0625, 0)
    assert (one["stretch_low"], one["stretch_high"], one["atoms_lost"]) == (0.0, 0.0, 3)
    assert (half["max_q"], half["first_open"], half["steps_seen"]) == (pytest.approx(0.5), -1, 2)
    assert (one["max_q"], one["first_open"], one["steps_seen"]) == (pytest.approx(1.0), 0, 2)
    assert (bare["max_q"], bare["first_open"], bare["steps_seen"]) == (None, None, None)
    # the corners are 2.5 from the centre
    assert half["distance"] == half["distance_share"] == 0
    assert one["distance"] == pytest.approx(2.5 / 16)
    assert one["distance_share"] == pytest.approx((1 / 16) / (15 / 16))
    assert bare["distance"] == pytest.approx(2.5 * (0.75**4 - 0.5**4))
    assert half["loss"] == pytest.approx(4 * (2**2 + 1.5**2 + (2.5 / 16) ** 2))
    assert (half["betti"], one["betti"]) == ((4, 0, 0), (1, 0, 0))
    text = str(found).splitlines()
    assert len(text) == 5
    assert text[0].split()[:5] == ["run", "status", "steps", "eta", "time"]
    assert text[3].split()[:5] == ["plain", "ok", "4", "-", "-"]
    assert "max_q" not in str(compare({"plain": plain}))
    assert compare({"plain": plain}).rows[0]["stretch_low"] is None
    view = found.to_xarray()
    assert view["distance"].sel(run="lanes[1]") == pytest.approx(2.5 / 16)
    assert view["betti"].shape == (4, 3)


def test_groups_of_a_tree_and_a_lane_that_ended():
    params = {"one": jax.random.normal(jax.random.key(0), (3, 5)), "two": jnp.zeros((5, 4))}
    layers = {"hidden": eq.groups.from_axes(params, {"one": 1, "two": 0}), "out": eq.groups.from_axes(params, {"two": 1})}
    rule = eq.rules.gradient(lambda p: jnp.sum(p["one"] ** 2) / 2 - jnp.sum(p["one"] ** 4) * jnp.sum(p["two"] ** 2))
    watch = {"pairs": eq.observe.pair_constants(group={"hidden": layers["hidden"]})}
    eta = jnp.array([0.5, 1e9])
    run = eq.simulate(rule, params, eta=eta, lanes=2, num_steps=40, observe=watch)
    assert run.status.tolist() == ["ok", "nonfinite"]
    good, bad = compare({"run": (run, eta)}, params, group=layers).rows
    assert good["hidden/stretch_high"] == pytest.approx(0.5**40, rel=1e-9)
    assert good["out/atoms_lost"] == 0
    assert good["out/stretch_low"] is not None  # all coincide: NaN
    assert np.isnan(good["out/stretch_low"])
    assert good["max_q"] == pytest.approx(0.5, rel=1e-6)
    assert bad["status"] == "nonfinite"
    assert bad["steps"] == run.status_step[1] < 40
    assert bad["time"] == 1e9 * bad["steps"]
    assert bad["first_open"] == 0


@pytest.mark.slow
def test_what_rounding_merged_is_open_and_a_lane_that_ended_is_not_seen():
    x0 = jnp.array([[0.3], [1.0], [4.0]], jnp.float32)
    run = eq.simulate(eq.rules.consensus(), x0, eta=0.5, num_steps=60, observe={"ledger": eq.observe.certificate()})
    row = compare({"run": run}, x0).rows[0]
    assert row["first_open"] == run.observed["ledger"].first_merge > 0
    runaway = eq.simulate(
        eq.rules.from_function(_away), x0, eta=jnp.array([1.0, 1e10], jnp.float32), lanes=2, num_steps=6, observe={"ledger": eq.observe.certificate()}
    )
    good, bad = compare({"run": runaway}, x0).rows
    assert (good["steps_seen"], good["status"]) == (6, "ok")
    assert bad["steps_seen"] == bad["steps"] < 6


def _away(x):
    return x


RUN = eq.simulate(eq.rules.consensus(), jnp.array([[0.0], [1.0]]), eta=0.5, num_steps=1)
MISTAKES = {
    "no runs": (lambda: compare({}), TypeError, r"runs: got dict; expected runs by name, at least one"),
    "a list": (lambda: compare([RUN]), TypeError, r"runs: got list"),
    "a number": (lambda: compare({"a": 3}), TypeError, r"runs\['a'\]: got int; expected what eq.simulate"),
    "another start": (lambda: compare({"a": RUN}, jnp.ones((3, 1))), ValueError, r"x0: got shape \(3, 1\); expected \(2, 1\), as in runs\['a'\]"),
    "a tree for a start": (lambda: compare({"a": RUN}, {"x": jnp.ones((2, 1))}), TypeError, r"x0: got structure"),
    "a pair of one": (lambda: eq.observe.closest((1, 1)), ValueError, r"pair: got \[1, 1\]; expected two different particles"),
    "half a pair": (lambda: eq.observe.closest(3), ValueError, r"pair: got shape \(\) int64; expected two whole numbers"),
    "a pair of fractions": (lambda: eq.observe.closest((0.0, 1.0)), ValueError, r"pair: got shape \(2,\) float64"),
    "groups of a pair": (lambda: eq.observe.closest((0, 1), group={}), TypeError, r"group: got a dict; expected one Group"),
    "a stranger": (lambda: eq.measure.closest(jnp.ones((2, 1)), jnp.ones((2, 1)), (0, 2)), ValueError, r"pair: got \[0, 2\]; .* below 2"),
    "x and u": (lambda: eq.measure.closest(jnp.ones((2, 1)), jnp.ones((3, 1)), (0, 1)), ValueError, r"x, u: got \(2, 1\)"),
    "two etas": (lambda: control(eta=jnp.ones(2)), TypeError, r"eta: got ArrayImpl; expected one number"),
    "eta": (lambda: control(eta=-1.0), ValueError, r"eta: got -1.0"),
    "factors above one": (lambda: control(factors=(2,)), ValueError, r"factors: got 2.0; expected numbers in \(0, 1\]"),
    "a part of a step": (lambda: control(factors=(0.3,)), ValueError, r"factors: got 0.3 with num_steps=4; expected num_steps / factor"),
    "a part of a batch": (lambda: control(factors=(0.8,), data=eq.Batches(jnp.ones((4, 1)), 2)), ValueError, r"factors: got 0.8 .* 1 / factor"),
    "batches": (lambda: control(batches="same"), ValueError, r"batches: got 'same'; expected 'held'"),
    "no steps": (lambda: control(num_steps=0), ValueError, r"num_steps: got 0"),
}


def control(**options):
    return controls(eq.rules.consensus(), jnp.ones((2, 1)), **{"eta": 0.5, "num_steps": 4, "flow": False, **options})


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name):
    call, error, words = MISTAKES[name]
    with pytest.raises(error, match=words):
        call()
