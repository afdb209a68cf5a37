"""Sweeps: every point is the run it stands for, however it was computed; what breaks is found; what would not fit is refused."""

import concurrent.futures
import itertools
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sweep_parts as parts

import eqdyn as eq
from eqdyn._sweeps import boundary, claims, forecast, plan
from eqdyn.networks import two_layer

xarray = pytest.importorskip("xarray")
HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def as_a_user_has_it():
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def places(run):
    return {"x": run.x}


def same(a, b):
    """Bit for bit, NaN included."""
    assert set(a.data_vars) == set(b.data_vars)
    for name in a.data_vars:
        assert a[name].dims == b[name].dims
        np.testing.assert_array_equal(a[name].values, b[name].values, err_msg=name)


# --- what a point is ---------------------------------------------------------------------------------------------------------


def test_every_point_is_the_run_that_it_stands_for():
    found = eq.sweep(eq.rules.consensus(), parts.start, grid={"seed": [3, 1], "eta": [0.2, 0.7]}, num_steps=5, keep=places, lanes=3, force=True)
    assert found["x"].dims[:2] == ("seed", "eta")
    for seed in (3, 1):
        of_start, _ = jax.random.split(jax.random.fold_in(jax.random.key(0), seed))
        for eta in (0.2, 0.7):
            alone = eq.simulate(eq.rules.consensus(), parts.start(of_start), eta=eta, num_steps=5).x
            np.testing.assert_allclose(found["x"].sel(seed=seed, eta=eta), alone, rtol=1e-5, atol=1e-6)


def test_lanes_have_the_bits_of_simulate_at_equal_width():
    etas = [0.1, 0.4, 0.9]
    found = eq.sweep(eq.rules.consensus(), parts.X0, grid={"eta": etas}, num_steps=7, keep=places)
    keys = jnp.stack([jax.random.split(jax.random.fold_in(jax.random.key(0), 0))[1]] * 3)
    run = eq.simulate(eq.rules.consensus(), parts.X0, eta=jnp.asarray(etas), lanes=3, num_steps=7, key=keys)
    np.testing.assert_array_equal(found["x"].values, run.x)


def test_hyperparameters_that_are_floats_are_traced_and_shapes_open_programs():
    before = eq.compile_count()
    found = eq.sweep(parts.consensus, parts.X0, grid={"rate": [0.5, 1.0, 2.0], "eta": [0.1, 0.2]}, num_steps=4, keep=places, force=True)
    assert eq.compile_count() - before == 1
    for rate in (0.5, 1.0, 2.0):
        alone = eq.simulate(eq.rules.consensus(rate=rate), parts.X0, eta=0.2, num_steps=4).x
        np.testing.assert_allclose(found["x"].sel(rate=rate, eta=0.2), alone, rtol=1e-5, atol=1e-6)
    before = eq.compile_count()
    eq.sweep(
        eq.rules.consensus(),
        lambda num, key: eq.shapes.disc(num, key=key).points,
        grid={"num": [5, 9], "seed": [0, 1], "eta": [0.1, 0.2]},
        num_steps=4,
    )
    assert eq.compile_count() - before == 2, "a program a shape, the forecast's included"


def test_a_hyperparameter_that_must_be_known_opens_a_program_for_each_value():
    def picky(rate):
        return eq.rules.consensus(rate=float(rate))  # cannot be built inside a trace

    found = eq.sweep(picky, parts.X0, grid={"rate": [0.5, 2.0]}, eta=0.2, num_steps=4, keep=places)
    alone = eq.simulate(eq.rules.consensus(rate=2.0), parts.X0, eta=0.2, num_steps=4).x
    np.testing.assert_allclose(found["x"].sel(rate=2.0), alone, rtol=1e-5, atol=1e-6)
    assert json.loads(found.attrs["own program for each"]) == ["rate"]


def test_adaptive_rules_begin_with_their_own_hyperparameters():
    """The state of a rule whose hyperparameter is traced is made with the lane's own."""
    split = eq.data.teacher(key=jax.random.key(1), num_examples=100)

    def momentum(beta):
        return eq.rules.heavy_ball(two_layer.regression_field(), beta=beta)

    x0 = eq.shapes.start_2d(16, key=jax.random.key(0)).points
    found = eq.sweep(momentum, x0, grid={"beta": [0.0, 0.9]}, eta=1e-2, num_steps=20, data=split.train, keep=places, lanes=2, force=True)
    for beta in (0.0, 0.9):
        alone = eq.simulate(momentum(beta), x0, eta=1e-2, num_steps=20, data=split.train).x
        np.testing.assert_allclose(found["x"].sel(beta=beta), alone, rtol=1e-4, atol=1e-5)


def test_a_start_follows_from_every_name_that_it_takes():
    """Also from one that the rule takes too, and from the step size."""
    asked = {"grid": {"rate": [0.5, 2.0], "eta": [0.1, 0.2], "seed": [0, 1]}, "num_steps": 0, "keep": places, "lanes": 8, "force": True}
    found = eq.sweep(parts.consensus, lambda rate, eta, key: 100 * rate + 10 * eta + parts.start(key), **asked)["x"]
    plain = eq.sweep(parts.consensus, parts.start, **asked)["x"]
    for rate in (0.5, 2.0):
        for eta in (0.1, 0.2):
            np.testing.assert_allclose(found.sel(rate=rate, eta=eta), 100 * rate + 10 * eta + plain.sel(rate=rate, eta=eta), rtol=1e-6)


@pytest.mark.parametrize(("adaptive", "broken"), [(False, None), (True, "ledger_could_merge")])
def test_what_is_shown_on_the_way_is_the_dataset_so_far(adaptive, broken):
    seen = []

    def show(done, total, so_far):
        seen.append((done, int((so_far()["status"] != "").sum())))

    eq.sweep(eq.rules.consensus(), parts.start, adaptive=adaptive, broken=broken, progress=show, **parts.ASKED)
    assert [done for done, _ in seen] == list(range(1, len(seen) + 1))
    assert all(after[1] > before[1] for before, after in itertools.pairwise(seen))


def test_step_sizes_in_a_unit_and_data_of_a_seed():
    def batch(seed):
        return eq.data.teacher(key=jax.random.key(seed), num_examples=60).train

    found = eq.sweep(
        eq.rules.gradient(two_layer.regression_field()), lambda num, key: eq.shapes.start_2d(num, key=key).points, data=batch, num_steps=3,
        grid={"num": [8, 16], "eta": [1.0, 2.0], "seed": [0, 5]}, eta=lambda eta, num: eta / num, keep=lambda run: {"mean": jnp.mean(run.x, axis=(1, 2))},
        force=True, lanes=2,
    )  # fmt: skip
    of_start, _ = jax.random.split(jax.random.fold_in(jax.random.key(0), 5))
    x0 = eq.shapes.start_2d(16, key=of_start).points
    alone = eq.simulate(eq.rules.gradient(two_layer.regression_field()), x0, eta=2.0 / 16, num_steps=3, data=batch(5)).x
    np.testing.assert_allclose(found["mean"].sel(num=16, eta=2.0, seed=5), jnp.mean(alone), rtol=1e-4, atol=1e-6)


def test_one_bad_lane_of_64_leaves_the_others_bit_for_bit():
    """A row of data is NaN, and of 64 lanes a few draw it: these end at the step that saw it, the others have the bits that they have without."""
    split = eq.data.teacher(key=jax.random.key(2), num_examples=500)
    z, y = split.train
    bad = (z.at[0, 0].set(jnp.nan), y)
    asked = {"grid": {"seed": range(64)}, "eta": 0.01, "num_steps": 4, "lanes": 64, "keep": places, "force": True}
    rule, start = eq.rules.gradient(two_layer.regression_field()), lambda key: eq.shapes.start_2d(16, key=key).points
    good, spoilt = (eq.sweep(rule, start, data=eq.Batches(one, 8), **asked) for one in ((z, y), bad))
    hit = spoilt["status"].values != "ok"
    rows = [eq.Batches((z, y), 8).rows(jax.random.split(jax.random.fold_in(jax.random.key(0), seed))[1], 0, 4) for seed in range(64)]
    drawn = np.asarray([np.any(row == 0) for row in rows])
    first = [int(np.nonzero(np.any(row == 0, axis=1))[0][0]) for row in rows if np.any(row == 0)]
    assert 1 <= drawn.sum() <= 20
    np.testing.assert_array_equal(hit, drawn)
    assert spoilt["status_step"].values[hit].tolist() == first, "the step is exact"
    np.testing.assert_array_equal(good["x"].values[~hit], spoilt["x"].values[~hit])
    assert np.isfinite(spoilt["x"].values).all(), "a lane that ended keeps its last finite values"


# --- where it breaks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("broken", "num_steps"), [(None, 400), ("ledger_could_merge", 5), (lambda kept: kept["ledger_q"] >= 1, 5)])
def test_bisection_finds_what_the_whole_grid_shows(broken, num_steps):
    etas = np.round(np.linspace(0.1, 2.3, 12), 3).tolist()
    watch = {} if broken is None else {"ledger": eq.observe.certificate()}  # consensus merges all of them in the end, by rounding
    asked = {"grid": {"rate": [0.5, 1.0, 1.7], "eta": etas, "seed": [0, 1]}, "num_steps": num_steps, "observe": watch, "lanes": 18, "force": True}
    whole = eq.sweep(parts.consensus, parts.start, **asked)
    kept = {name: whole[name].values for name in whole.data_vars} | {"status": np.where(whole["status"].values == "ok", 0, 1)}
    judged = boundary.default_broken if broken is None else boundary.named(broken) if isinstance(broken, str) else broken
    breaks = np.asarray(judged(kept))
    first = np.where(breaks.any(axis=1), np.asarray([*etas])[np.argmax(breaks, axis=1)], np.nan)
    found = eq.sweep(parts.consensus, parts.start, adaptive=True, broken=broken, **asked)
    assert (np.diff(breaks.astype(int), axis=1) >= 0).all(), "a line that breaks stays broken: else nothing is promised"
    np.testing.assert_array_equal(found["boundary_high"].values, first)
    assert (found["status"].values == "").any(), "not every point was needed"
    np.testing.assert_allclose(found["boundary"], (found["boundary_low"] + found["boundary_high"]) / 2)


# --- who computes it ---------------------------------------------------------------------------------------------------------


def test_the_folder_has_the_same_bits_and_knows_its_sweep(tmp_path):
    here = eq.sweep(eq.rules.consensus(), parts.start, **parts.ASKED)
    there = eq.sweep(eq.rules.consensus(), parts.start, folder=tmp_path / "a", **parts.ASKED)
    again = eq.sweep(eq.rules.consensus(), parts.start, folder=tmp_path / "a", **parts.ASKED)
    for one in (there, again, eq.load(tmp_path / "a")):
        same(here, one)
    bisected = eq.sweep(eq.rules.consensus(), parts.start, folder=tmp_path / "b", adaptive=True, broken="ledger_could_merge", **parts.ASKED)
    same(bisected, eq.load(tmp_path / "b"))
    assert bisected["boundary"].dims == ("seed",)
    assert not list((tmp_path / "a" / "claims").iterdir()), "no lock left"
    with pytest.raises(ValueError, match="holds a sweep with num_steps 6; got 7"):
        eq.sweep(eq.rules.consensus(), parts.start, folder=tmp_path / "a", **(parts.ASKED | {"num_steps": 7}))


@pytest.mark.parametrize("kind", [pytest.param("threads", marks=pytest.mark.slow), "processes"])
def test_any_executor_gives_the_same_bits(kind, tmp_path):
    here = eq.sweep(eq.rules.consensus(), parts.start, **parts.ASKED)
    if kind == "threads":
        executor = concurrent.futures.ThreadPoolExecutor(2)
    else:
        executor = concurrent.futures.ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"))
    with executor:
        same(here, eq.sweep(eq.rules.consensus(), parts.start, executor=executor, folder=tmp_path / "a", **parts.ASKED))
        if kind == "threads":
            same(here, eq.sweep(eq.rules.consensus(), parts.start, executor=executor, **parts.ASKED))


SWEEP = """
import os, sys, jax
import sweep_parts as parts, eqdyn as eq
eq.sweep(eq.rules.consensus(), parts.slow_start, folder=sys.argv[1], **parts.ASKED)
print("done", flush=True)
"""


def _started(folder, slow):
    environment = os.environ | {"SLOW": str(slow), "PYTHONPATH": f"{HERE}{os.pathsep}{HERE.parent}"}
    return subprocess.Popen([sys.executable, "-c", SWEEP, str(folder)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _bytes(folder):
    """All that a folder holds, but for the manifest's log."""
    held = {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    manifest = json.loads(held.pop("manifest.json"))
    manifest.pop("log")
    return held, manifest


@pytest.mark.slow
def test_killed_and_started_again_it_has_the_same_files(tmp_path):
    """Killed with kill -9 after its second cell; `benchmarks/kill.py` does it a hundred times, at random moments."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert _started(whole, 0).communicate(timeout=120)[0] == "done\n"
    worker = _started(broken, 0.3)
    until = time.monotonic() + 60
    while len(list((broken / "cells").glob("[0-9]*"))) < 2 and time.monotonic() < until:
        time.sleep(0.02)
    worker.send_signal(signal.SIGKILL)
    worker.communicate()
    stamps = {path: path.stat().st_mtime_ns for path in (broken / "cells").glob("[0-9]*/complete")}
    assert len(stamps) >= 2
    last = _started(broken, 0)
    out, err = last.communicate(timeout=120)
    assert out == "done\n", err
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items()), "no cell that was done is computed again"
    assert _bytes(whole) == _bytes(broken)


def test_damage_is_found_and_named(tmp_path):
    folder = tmp_path / "a"
    good = eq.sweep(eq.rules.consensus(), parts.X0, folder=folder, **parts.ASKED)
    rng = np.random.default_rng(0)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for _ in range(60):
        path = files[rng.integers(len(files))]
        content = path.read_bytes()
        at = int(rng.integers(len(content)))
        spoilt = content[:at] if rng.random() < 0.2 else content[:at] + bytes([content[at] ^ 1 << int(rng.integers(8))]) + content[at + 1 :]
        path.write_bytes(spoilt)
        with pytest.raises(ValueError, match=path.name):
            same(good, eq.load(folder))
        path.write_bytes(content)
    same(good, eq.load(folder))


# --- claims ------------------------------------------------------------------------------------------------------------------


def test_a_claim_is_one_workers(tmp_path):
    first, second = claims.Claims(tmp_path), claims.Claims(tmp_path)
    with first.held("000001") as ours:
        assert ours
        with second.held("000001") as theirs:
            assert not theirs
        with second.held("000002") as theirs:
            assert theirs
    with second.held("000001") as theirs:
        assert theirs
    assert not list(tmp_path.iterdir())


def test_a_dead_workers_claim_is_taken_over(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", "pass"])
    gone.wait()
    mine = claims.Claims(tmp_path, lease=0.4)
    held = dict(mine.worker)
    for worker, at_once in (
        (held | {"pid": gone.pid, "born": "1"}, True),
        (held | {"born": "1"}, True),
        (held | {"host": "elsewhere", "id": "x"}, False),
    ):
        (tmp_path / "a").write_text(json.dumps(worker))
        with mine.held("a") as ours:
            assert ours == at_once
        if not at_once:
            time.sleep(0.5)
            with mine.held("a") as ours:
                assert ours, "its lease is over"
        assert not list(tmp_path.iterdir())
    (tmp_path / "a").write_text("")  # as after a power cut
    with mine.held("a") as ours:
        assert not ours
    time.sleep(0.5)
    with mine.held("a") as ours:
        assert ours


def test_a_claim_that_is_worked_on_is_renewed(tmp_path):
    mine, other = claims.Claims(tmp_path, lease=0.4), claims.Claims(tmp_path, lease=0.4)
    other.worker = other.worker | {"host": "elsewhere"}
    with other.held("a") as theirs:
        assert theirs
        time.sleep(0.9)
        with mine.held("a") as ours:
            assert not ours


def test_many_workers_never_hold_one_claim_together(tmp_path):
    inside, most = [0], [0]

    def work(_):
        mine = claims.Claims(tmp_path)
        taken = 0
        for _ in range(30):
            with mine.held("a") as ours:
                if ours:
                    taken += 1
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                    time.sleep(0.0005)
                    inside[0] -= 1
        return taken

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(work, range(8))) > 8
    assert most[0] == 1


# --- what it costs -----------------------------------------------------------------------------------------------------------


def test_a_sweep_that_would_not_fit_is_refused_before_it_starts(tmp_path):
    seen, asked = [], {name: value for name, value in parts.ASKED.items() if name != "force"}
    with pytest.raises(MemoryError, match="memory: got a sweep that takes"):
        eq.sweep(eq.rules.consensus(), parts.X0, memory=1000, keep=lambda run: seen.append(1), **asked)
    with pytest.raises(TimeoutError, match="seconds: got a sweep of about"):
        eq.sweep(eq.rules.consensus(), parts.X0, seconds=1e-9, folder=tmp_path / "a", **asked)
    assert not seen
    assert not (tmp_path / "a").exists()
    eq.sweep(eq.rules.consensus(), parts.X0, seconds=1e-9, **parts.ASKED)


def test_the_forecast_counts_what_is_there():
    told = eq.forecast(eq.rules.consensus(), parts.X0, **{name: value for name, value in parts.ASKED.items() if name != "force"})
    assert (told.cells, told.lanes, told.programs) == (4, 4, 1)
    assert told.seconds > 0
    wide = eq.forecast(eq.rules.consensus(), jnp.ones((500, 8)), grid={"seed": range(32)}, eta=0.1, num_steps=10)
    narrow = eq.forecast(eq.rules.consensus(), jnp.ones((500, 8)), grid={"seed": range(32)}, eta=0.1, num_steps=10, lanes=8)
    assert 2 < (wide.bytes - forecast.MACHINERY) / (narrow.bytes - forecast.MACHINERY) < 6
    made = plan.planned(plan.Plan(eq.rules.consensus(), jnp.ones((500, 8)), {"seed": range(32)}, 0.1, 10, None, None, None, None, None, None, None))
    assert forecast.width_within(made, narrow.bytes) == 8


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the system does not tell")
def test_what_a_probe_takes_is_seen_though_it_is_given_back():
    with forecast._growth() as seen:
        held = np.ones(2**23)
        del held
    assert 2**25 <= seen[0] < 2**27


# --- bad input ---------------------------------------------------------------------------------------------------------------

BAD = [
    ({"grid": {}}, TypeError, "grid: got no name"),
    ({"grid": {"eta": []}}, TypeError, r"grid\['eta'\]"),
    ({"grid": {"eta": [0.1, 0.1]}}, ValueError, "with a value twice"),
    ({"grid": {"eta": [-0.1]}}, ValueError, "eta"),
    ({"grid": {"seed": [0.5]}, "eta": 0.1}, TypeError, "seed"),
    ({"grid": {"beta": [0.5]}, "eta": 0.1}, ValueError, "'beta', which nobody takes"),
    ({"grid": {"eta": [0.5]}, "eta": 0.1}, ValueError, "sweeps eta, too"),
    ({"grid": {"seed": [0]}}, ValueError, "does not sweep it"),
    ({"lanes": 0}, ValueError, "lanes"),
    ({"num_steps": -1}, ValueError, "num_steps"),
    ({"keep": lambda run: {"x": run.x[0]}}, ValueError, "lanes"),
    ({"keep": lambda run: {"status": run.x}}, ValueError, "kept anyway"),
    ({"adaptive": True, "grid": {"seed": [0]}, "eta": 0.1}, ValueError, "without 'eta'"),
    ({"adaptive": True, "broken": "folds"}, ValueError, "got 'folds'; expected one of"),
]


@pytest.mark.parametrize(("change", "error", "words"), BAD)
def test_bad_input(change, error, words):
    with pytest.raises(error, match=words):
        eq.sweep(eq.rules.consensus(), parts.X0, **({"grid": {"eta": [0.1, 0.2]}, "num_steps": 2} | change))
    with pytest.raises(TypeError, match="make_rule"):
        eq.sweep(3, parts.X0, grid={"eta": [0.1]}, num_steps=1)


@pytest.mark.slow
@pytest.mark.parametrize("kill", ["keep", "kill"])
def test_dask_gives_the_same_bits_also_when_a_worker_is_killed(kill, tmp_path):
    pytest.importorskip("distributed")
    environment = os.environ | {"PYTHONPATH": f"{HERE}{os.pathsep}{HERE.parent}"}
    asked = [sys.executable, str(HERE / "on_dask.py"), str(tmp_path / "a"), kill]
    done = subprocess.run(asked, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout.splitlines()[-1]) == {"same": True, "killed": kill == "kill", "cells": 4, "claims": 0}
