"""The driver: lanes, schedules, batches, statuses, tracers, observers, continuation, Ctrl-C, compilations."""

import functools
import signal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tables import ADAPTED, LOSS, RULES, WEIGHTED, batch, start

import eqdyn as eq

ETA = 1e-2


def same(a, b):
    for p, q in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(p, q)


def go(make, takes_data, x0, num_steps, **options):
    data = eq.Batches(batch(jnp.float64), 16) if takes_data else None
    return eq.simulate(make(), x0, num_steps=num_steps, data=data, key=jax.random.key(5), **options)


# --- the five contract probes ----------------------------------------------------------------------------------------------


def test_adam_with_tracers_that_start_at_particles_stay_with_them():
    x0 = start(jnp.float64)
    y0 = jnp.concatenate([x0[:7], x0[:5] + 0.1])
    run = go(lambda: eq.rules.adam(WEIGHTED, weighted=True), True, x0, 40, eta=ETA, tracers=y0)
    np.testing.assert_allclose(run.tracers[:7], run.x[:7], rtol=0, atol=1e-12)
    assert float(jnp.max(jnp.abs(run.x - x0))) > 0.1
    assert float(jnp.min(jnp.linalg.norm(run.tracers[7:] - run.x[:5], axis=1))) > 1e-3
    alone = go(lambda: eq.rules.adam(WEIGHTED, weighted=True), True, x0, 40, eta=ETA)
    np.testing.assert_allclose(run.x, alone.x, rtol=0, atol=1e-13)  # tracers do not act back


def test_minibatch_lanes_over_step_sizes_and_seeds_with_one_compilation():
    x0 = start(jnp.float64)
    etas = jnp.repeat(jnp.asarray([1e-3, 3e-3, 1e-2, 3e-2]), 2)
    keys = jax.random.split(jax.random.key(3), 2)[jnp.tile(jnp.arange(2), 4)]
    counted = []
    for _ in range(2):
        before = eq.compile_count()
        rule = eq.rules.gradient(LOSS)  # freshly made
        run = eq.simulate(
            rule,
            x0,
            eta=etas,
            lanes=8,
            num_steps=30,
            data=eq.Batches(batch(jnp.float64), 16),
            key=keys,
            observe={"pairs": eq.observe.pair_constants()},
        )
        counted.append(eq.compile_count() - before)
    assert counted == [1, 0]
    assert run.x.shape == (8, *x0.shape)
    assert run.observed["pairs"].values.q.shape == (8, 30)
    for lane in (0, 5):  # a lane is the run alone, to rounding
        alone = eq.simulate(eq.rules.gradient(LOSS), x0, eta=float(etas[lane]), num_steps=30, data=eq.Batches(batch(jnp.float64), 16), key=keys[lane])
        np.testing.assert_allclose(run.x[lane], alone.x, rtol=0, atol=1e-12)
        np.testing.assert_allclose(run.loss[lane], alone.loss, rtol=1e-10)


OBSERVE = {
    "atoms": eq.observe.atoms(stride=3),
    "pairs": eq.observe.pair_constants(),
    "stretch": eq.observe.stretch(stride=2),
    "host": eq.observer.recorder(lambda frame: np.max(frame.x), stride=4, on_host=True),
}


ONE_OF_EACH = {"gradient", "adam", "langevin", "hegselmann_krause"}  # forms


@pytest.mark.parametrize(("name", "eta"), [
    pytest.param(name, eta, marks=[] if name in (ONE_OF_EACH if eta == "number" else ("gradient", "optax adam")) else [pytest.mark.slow])
    for name in [*RULES, "optax adam"] for eta in ("number", "schedule")
])  # fmt: skip
def test_seven_then_thirteen_is_twenty_bit_for_bit(name, eta):
    make, takes_data = {**RULES, **ADAPTED}[name]
    options = {"eta": ETA if eta == "number" else optax.cosine_decay_schedule(ETA, 20), "chunk": 8, "observe": OBSERVE}
    whole = go(make, takes_data, start(jnp.float64), 20, **options)
    part = go(make, takes_data, start(jnp.float64), 7, **options)
    both = go(make, takes_data, part, 13, **options)
    assert (part.step, both.step) == (7, 20)
    same((whole.x, whole.state, whole.loss), (both.x, both.state, both.loss))
    same(whole.steps, both.steps)
    same(whole.observed, both.observed)
    assert part.step == 7, "the run that went on is as it was"


@pytest.mark.parametrize("lanes", [None, 3])
def test_continuation_with_tracers_and_lanes(lanes):
    def make():
        return eq.rules.heavy_ball(WEIGHTED, weighted=True)

    x0 = start(jnp.float64)
    options = {"eta": ETA, "chunk": 8, "lanes": lanes}
    whole = go(make, True, x0, 20, tracers=x0[:4], **options)
    both = go(make, True, go(make, True, x0, 7, tracers=x0[:4], **options), 13, **options)
    same((whole.x, whole.tracers, whole.state), (both.x, both.tracers, both.state))


# --- eta, batches, chunks --------------------------------------------------------------------------------------------------


def test_schedule_is_evaluated_at_absolute_steps():
    schedule = optax.piecewise_constant_schedule(0.5, {2: 0.5})
    run = eq.simulate(eq.rules.consensus(), jnp.asarray([[0.0], [8.0]]), eta=schedule, num_steps=4, chunk=3)
    contraction = np.prod([1 - float(schedule(t)) for t in range(4)])
    np.testing.assert_allclose(run.x[1] - run.x[0], 8 * contraction)


def test_the_chunk_does_not_matter_for_what_is_seen():
    runs = [go(*RULES["gradient"], start(jnp.float64), 23, eta=ETA, chunk=chunk) for chunk in (1, 5, 256)]
    for run in runs[1:]:
        np.testing.assert_allclose(run.x, runs[0].x, rtol=0, atol=1e-13)
        np.testing.assert_allclose(run.loss, runs[0].loss, rtol=1e-12)


@pytest.mark.parametrize("seeds", [1, 3])
def test_batches_visit_every_example_once_an_epoch(seeds):
    batches = eq.Batches((np.arange(50), np.zeros((50, 2), np.float32)), 8)
    key = jax.random.key(0) if seeds == 1 else jax.random.split(jax.random.key(0), seeds)
    rows = batches.rows(key, 0, 12).reshape(-1, 2, 6 * 8)
    for lane in rows:
        for epoch in lane:
            assert len(set(epoch.tolist())) == 48
        assert not np.array_equal(lane[0], lane[1])
    np.testing.assert_array_equal(batches.rows(key, 4, 5), batches.rows(key, 0, 12)[..., 4:9, :])
    if seeds > 1:
        np.testing.assert_array_equal(batches.rows(key[1], 0, 12), batches.rows(key, 0, 12)[1])
        assert not np.array_equal(rows[0], rows[1])


def test_float32_stays_float32_whatever_eta_is():
    for eta in (1e-2, np.float64(1e-2), optax.constant_schedule(1e-2), jnp.asarray(1e-2, jnp.float64)):
        run = eq.simulate(eq.rules.gradient(LOSS), start(jnp.float32), eta=eta, num_steps=3, data=batch(jnp.float32))
        assert run.x.dtype == jnp.float32
        assert run.loss.dtype == np.float32


# --- statuses --------------------------------------------------------------------------------------------------------------


def _explode(x, limit):
    return jnp.where(jnp.max(jnp.abs(x)) > limit, jnp.nan, x)


def test_statuses_freeze_a_lane_and_leave_the_others_alone():
    x0 = jnp.asarray([[1.0], [2.0]], jnp.float32)
    rule = eq.rules.from_function(lambda x: _explode(x, 100.0))
    etas = jnp.asarray([1.0, 0.01, 0.5], jnp.float32)
    run = eq.simulate(rule, x0, eta=etas, lanes=3, num_steps=12, observe={"where": eq.observe.configuration()})
    assert run.status.tolist() == ["nonfinite", "ok", "nonfinite"]
    assert run.status_step.tolist() == [6, -1, 10]
    assert run.x[0].ravel().tolist() == [64.0, 128.0]
    where = run.observed["where"].values[0, :, 1, 0]
    assert where.tolist() == [2.0, 4, 8, 16, 32, 64, 128, 128, 128, 128, 128, 128]
    # with a rule that never fails, lane 1 has the same bits
    tame = eq.simulate(
        eq.rules.from_function(lambda x: _explode(x, 1e9)), x0, eta=jnp.asarray([0.02, 0.01, 0.03], jnp.float32), lanes=3, num_steps=12
    )
    np.testing.assert_array_equal(run.x[1], tame.x[1])
    assert "lane 0: nonfinite at step 6" in run.summary()


def test_diverged_is_where_squared_distances_overflow():
    rule = eq.rules.from_function(lambda x: 9 * x)
    run = eq.simulate(rule, jnp.ones((2, 1), jnp.float32), eta=1.0, num_steps=50)
    assert (run.status, run.status_step) == ("diverged", 19)
    np.testing.assert_allclose(run.x, 1e19, rtol=1e-5)
    with pytest.raises(FloatingPointError, match="diverged at step 19"):
        eq.simulate(rule, jnp.ones((2, 1), jnp.float32), eta=1.0, num_steps=50, throw=True)


def test_loss_of_an_ended_lane_is_nan():
    rule = eq.rules.gradient(lambda x: -jnp.sum(x**4))
    run = eq.simulate(rule, jnp.ones((2, 1)), eta=jnp.asarray([1.0, 1e-5]), lanes=2, num_steps=9)
    assert run.status.tolist() == ["diverged", "ok"]
    ended = run.status_step[0]
    assert np.isfinite(run.loss[0, :ended]).all()
    assert np.isnan(run.loss[0, ended:]).all()
    assert np.isfinite(run.loss[1]).all()


def test_a_run_that_ends_early_continues_as_one():
    """Records do not depend on where chunks end, also after the last lane has ended."""
    rule = eq.rules.gradient(lambda x: -jnp.sum(x**4))
    counter = eq.Observer(init=lambda frame: frame.step, update=lambda carry, frame: carry + 1, read=int, stride=1)
    go = functools.partial(eq.simulate, rule, eta=1.0, chunk=8, observe={"count": counter, "atoms": eq.observe.atoms(stride=3)})
    whole = go(jnp.ones((2, 1)), num_steps=20)
    both = go(go(jnp.ones((2, 1)), num_steps=7), num_steps=13)
    assert whole.status == "diverged"
    assert whole.observed["count"] == both.observed["count"] == 20
    same((whole.loss, whole.steps, whole.observed), (both.loss, both.steps, both.observed))


def test_what_becomes_infinite_in_the_state_ends_the_lane():
    hidden = eq.Rule(jnp.zeros_like, lambda x, s, data=None, *, key=None: eq.Update(0 * x, (s + 1) * 1e30))
    run = eq.simulate(hidden, jnp.ones((2, 1), jnp.float32), eta=0.1, num_steps=5)
    assert (run.status, run.status_step) == ("nonfinite", 1)
    assert np.isfinite(run.state).all()
    plateau = optax.chain(optax.sgd(1.0), optax.contrib.reduce_on_plateau())  # holds an infinite best loss at the start
    run = eq.simulate(eq.rules.from_optax(plateau, LOSS), start(jnp.float64), eta=ETA, num_steps=5, data=batch(jnp.float64))
    assert run.status == "ok"


# --- observers -------------------------------------------------------------------------------------------------------------


def test_an_observer_is_three_functions_and_a_stride():
    counter = eq.Observer(init=lambda frame: frame.step, update=lambda carry, frame: carry + 1, read=lambda carry: int(carry), stride=3)
    run = go(*RULES["gradient"], start(jnp.float64), 20, eta=ETA, observe={"count": counter})
    assert run.observed["count"] == 7


def test_a_frame_is_the_step():
    def misses(frame):
        return jnp.max(jnp.abs(frame.x + frame.eta * frame.u - frame.x_next)), jnp.max(jnp.abs(jax.grad(LOSS)(frame.x, frame.data) + frame.u))

    for on_host in (False, True):
        watch = {"miss": eq.observer.recorder(misses, stride=2, on_host=on_host)}
        run = go(*RULES["gradient"], start(jnp.float64), 9, eta=ETA, observe=watch)
        assert run.observed["miss"].steps.tolist() == [0, 2, 4, 6, 8]
        assert max(np.max(leaf) for leaf in run.observed["miss"].values) < 1e-13


def test_an_observer_that_was_replaced_or_away_starts_anew():
    def watched(run, measure, steps):
        return eq.simulate(eq.rules.consensus(), run, eta=0.05, num_steps=steps, observe={"w": eq.observer.recorder(measure)} if measure else None)

    def high(frame):
        return jnp.max(frame.x)

    def low(frame):
        return jnp.stack([jnp.min(frame.x), jnp.min(frame.x)])

    first = watched(jnp.asarray([[0.0], [4.0]]), high, 3)
    assert watched(first, low, 2).observed["w"].values.shape == (2, 2)
    assert watched(watched(first, None, 2), high, 2).observed["w"].steps.tolist() == [5, 6]
    assert watched(first, high, 2).observed["w"].steps.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("lanes", [None, 3])
def test_a_host_observer_is_begun_with_the_shapes_that_it_will_see(lanes):
    seen = []

    def begin(frame):
        seen.append(jax.tree.map(np.shape, frame._replace(step=0)))
        return frame.step

    def update(carry, frame):
        seen.append(jax.tree.map(np.shape, frame._replace(step=0)))
        return frame.step

    watch = {"w": eq.Observer(begin, update, lambda carry: carry, 2, on_host=True)}
    run = eq.simulate(RULES["gradient"][0](), start(jnp.float64), eta=ETA, lanes=lanes, num_steps=5, data=batch(jnp.float64), observe=watch)
    assert run.observed["w"] == 4
    assert all(shapes == seen[0] for shapes in seen)


def test_loss_is_read_from_a_dict_too():
    rule = eq.Rule(lambda x: (), lambda x, s, data=None, *, key=None: eq.Update(-x, s, {"loss": jnp.sum(x**2)}))
    assert eq.simulate(rule, jnp.ones((2, 1)), eta=0.5, num_steps=2).loss.tolist() == [2.0, 0.5]


@pytest.mark.parametrize("lanes", [None, 2])
def test_watching_never_changes_the_run(lanes):
    x0 = start(jnp.float64)
    bare = go(*RULES["adam"], x0, 20, eta=ETA, lanes=lanes)
    seen = go(*RULES["adam"], x0, 20, eta=ETA, lanes=lanes, observe=OBSERVE, every=5)
    np.testing.assert_allclose(bare.x, seen.x, rtol=0, atol=1e-13)
    assert seen.steps.tolist() == [0, 5, 10, 15]
    np.testing.assert_allclose(bare.loss[..., ::5], seen.loss, rtol=1e-12)


def test_observers_agree_with_measures_on_the_trajectory():
    watch = {**OBSERVE, "where": eq.observe.configuration(), "sharp": eq.observe.sharpness(eq.rules.gradient(LOSS), stride=10)}
    x0, data = start(jnp.float64), batch(jnp.float64)
    run = eq.simulate(eq.rules.gradient(LOSS), x0, eta=ETA, num_steps=12, data=data, observe=watch)
    path = [*run.observed["where"].values, run.x]
    for t in (0, 5, 11):
        u = -jax.grad(LOSS)(jnp.asarray(path[t]), data)
        np.testing.assert_allclose(run.observed["pairs"].values.q[t], ETA * eq.measure.pair_constants(path[t], u).k_pair, rtol=1e-8)
    np.testing.assert_allclose(run.observed["stretch"].values.low[-1], eq.measure.stretch(x0, path[11]).low, rtol=1e-10)
    top = eq.measure.sharpness(eq.rules.gradient(LOSS), x0, data=data).value
    np.testing.assert_allclose(run.observed["sharp"].values.eta_lambda[0], ETA * top, rtol=1e-4)


def test_a_dict_of_groups_gives_an_answer_per_group():
    params = {"a": start(jnp.float64), "b": start(jnp.float64, seed=1, n=5)}
    groups = {name: eq.groups.from_axes(params, {name: 0}) for name in params}
    run = eq.simulate(eq.rules.gradient(lambda p: jnp.sum(p["a"] ** 2) + jnp.sum(p["b"] ** 2)), params, eta=0.1, num_steps=2, observe={
        "pairs": eq.observe.pair_constants(group=groups)
    })  # fmt: skip
    for name in params:
        np.testing.assert_allclose(run.observed["pairs"].values[name].q, [0.2, 0.2])


# --- progress, Ctrl-C, lanes of trees --------------------------------------------------------------------------------------


def test_ctrl_c_gives_the_run_so_far_and_it_goes_on():
    def press(step, last, run):
        if step == 16:
            signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)  # ignored in a process that a shell began in the background
    with pytest.raises(eq.Interrupted) as caught:
        go(*RULES["gradient"], start(jnp.float64), 40, eta=ETA, chunk=8, progress=press)
    assert isinstance(caught.value, KeyboardInterrupt)
    assert caught.value.run.step == 16
    rest = go(*RULES["gradient"], caught.value.run, 24, eta=ETA, chunk=8)
    same(rest.x, go(*RULES["gradient"], start(jnp.float64), 40, eta=ETA, chunk=8).x)
    assert signal.getsignal(signal.SIGINT) is before


def test_progress_bar_and_callback(capsys):
    seen = []
    go(*RULES["gradient"], start(jnp.float64), 20, eta=ETA, chunk=8, progress=lambda step, last, run: seen.append((step, last, run.status)))
    assert seen == [(8, 20, "ok"), (16, 20, "ok"), (20, 20, "ok")]
    go(*RULES["gradient"], start(jnp.float64), 20, eta=ETA, progress=True)
    assert "simulate" in capsys.readouterr().err


def test_lanes_of_trees_and_weights():
    params = {"w": start(jnp.float64), "b": jnp.zeros(3)}
    rule = eq.rules.gradient(lambda p: jnp.sum(jnp.tanh(p["w"] + p["b"][None]) ** 2))
    spread = {"w": jnp.stack([params["w"], 2 * params["w"]]), "b": params["b"]}  # one leaf has the axis, one is shared
    run = eq.simulate(rule, spread, eta=0.1, lanes=2, num_steps=4)
    alone = eq.simulate(rule, {"w": 2 * params["w"], "b": params["b"]}, eta=0.1, num_steps=4)
    np.testing.assert_allclose(run.x["w"][1], alone.x["w"], atol=1e-13)
    weighted = eq.Weighted(start(jnp.float64), jnp.linspace(1.0, 2, 24))
    run = eq.simulate(eq.rules.consensus(), weighted, eta=jnp.asarray([0.1, 0.2]), lanes=2, num_steps=2)
    assert run.x.weight.shape == (2, 24)
    np.testing.assert_array_equal(run.x.weight[1], weighted.weight)


def test_zero_steps_and_one_particle():
    run = eq.simulate(eq.rules.consensus(), jnp.ones((1, 2)), eta=0.5, num_steps=0)
    assert (run.step, run.status) == (0, "ok")
    run = eq.simulate(eq.rules.consensus(), jnp.ones((1, 2)), eta=0.5, num_steps=3)
    np.testing.assert_array_equal(run.x, jnp.ones((1, 2)))


def test_to_xarray_has_named_axes():
    run = go(*RULES["gradient"], start(jnp.float64), 12, eta=jnp.asarray([1e-3, 1e-2]), lanes=2, observe=OBSERVE)
    table = run.to_xarray()
    assert table["loss"].dims == ("lane", "step")
    assert table["pairs_q"].dims == ("lane", "pairs_step")
    assert table["atoms"].sel(atoms_step=9).shape == (2,)
