"""Run, save, load, fork, cancel, die and resume in any order, held against runs that were never interrupted.

The suite takes some dozens of steps; `EQDYN_STORE_STEPS=10000 python3 -m pytest -m slow tests/test_store_machine.py -n 0 -s` takes ten thousand.
"""

import contextlib
import dataclasses
import functools
import os
import shutil
import signal
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import stored
from stored import content, dying

import eqdyn as eq

pytest.importorskip("hypothesis")

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

ETAS, LONGEST = (0.01, 0.03), 30
DATA = eq.Batches((jax.random.normal(jax.random.key(1), (10, 2)),), 4)
WATCH = {
    "spread": eq.observer.recorder(lambda frame: jnp.max(frame.x), stride=2),
    "host": eq.observer.recorder(stored.largest, stride=3, on_host=True),
}


def energy(x, data):
    return jnp.mean(jnp.cos(x @ data[0].T)) + jnp.mean(x**2)


RULE = eq.rules.adam(energy)
OPTIONS = {"data": DATA, "observe": WATCH, "chunk": 4}


def on(before, eta, num_steps, **options):
    return eq.simulate(RULE, before, eta=eta, num_steps=num_steps, key=jax.random.key(2), **OPTIONS, **options)


@functools.cache
def truth(etas):
    """What the unbroken run says whose steps have these sizes: one call for each stretch of one size."""
    run, at = jax.random.normal(jax.random.key(0), (5, 2)), 0
    while at < len(etas) or at == 0:
        size = etas[at] if etas else ETAS[0]
        num = next((k for k, eta in enumerate(etas[at:]) if eta != size), len(etas) - at)
        run, at = on(run, size, num), max(at + num, 1)
    return content(run)


class Line:
    """A run in memory, and the sizes of the steps that it has taken."""

    def __init__(self, run, etas, eta):
        self.run, self.etas, self.eta = run, etas, eta


taken = [0]


class Store(RuleBasedStateMachine):
    """Two folders, and some lines of a run that begin alike."""

    def __init__(self):
        super().__init__()
        self.home = Path(tempfile.mkdtemp())
        self.committed = [None, None]
        self.first = [None, None]  # the size of the first step, which a folder of no steps holds as well
        begun = jax.random.normal(jax.random.key(0), (5, 2))
        self.lines = [Line(on(begun, ETAS[0], 0), (), ETAS[0])]

    def teardown(self):
        for line in self.lines:
            assert content(line.run) == truth(line.etas), "none of what was done to the others has touched it"
        shutil.rmtree(self.home)

    def pick(self, number):
        taken[0] += 1
        return self.lines[number % len(self.lines)]

    def keep(self, run, etas, eta):
        assert content(run) == truth(etas)
        self.lines = [*self.lines[-4:], Line(run, etas, eta)]

    @rule(line=st.integers(0, 9), num=st.integers(0, 6))
    def resume(self, line, num):
        one = self.pick(line)
        num = min(num, LONGEST - len(one.etas))
        self.keep(one.run.resume(num), one.etas + (one.eta,) * num, one.eta)

    @rule(line=st.integers(0, 9), eta=st.sampled_from(ETAS), num=st.integers(0, 6))
    def fork(self, line, eta, num):
        one = self.pick(line)
        num = min(num, LONGEST - len(one.etas))
        self.keep(on(dataclasses.replace(one.run), eta, num), one.etas + (eta,) * num, eta)

    @rule(line=st.integers(0, 9), num=st.integers(1, 12))
    def cancel(self, line, num):
        one = self.pick(line)
        num = min(num, LONGEST - len(one.etas))
        try:
            run = one.run.resume(num, progress=lambda step, last, run: signal.raise_signal(signal.SIGINT))
        except eq.Interrupted as stopped:
            run = stopped.run
        self.keep(run, one.etas + (one.eta,) * (run.step - len(one.etas)), one.eta)

    def fits(self, one, there):
        return there is None or (len(one.etas) >= len(there) and one.etas[: len(there)] == there)

    @rule(line=st.integers(0, 9), folder=st.integers(0, 1))
    def save(self, line, folder):
        one, there = self.pick(line), self.committed[folder]
        first = one.etas[0] if one.etas else one.eta
        if self.fits(one, there):
            with pytest.raises(ValueError, match="another eta") if there == () and self.first[folder] != first else contextlib.nullcontext():
                eq.store.save(one.run, self.home / str(folder))
                self.committed[folder], self.first[folder] = one.etas, first
        else:
            before = stored.files(self.home / str(folder))
            with pytest.raises(ValueError, match="holds"):
                eq.store.save(one.run, self.home / str(folder))
            assert stored.files(self.home / str(folder)) == before

    @rule(line=st.integers(0, 9), folder=st.integers(0, 1), moment=st.integers(1, 60))
    def die(self, line, folder, moment):
        one, there = self.pick(line), self.committed[folder]
        if not self.fits(one, there) or there == () or one.etas == ():
            return
        with pytest.MonkeyPatch.context() as patch, dying(patch, moment), contextlib.suppress(stored.Killed):
            eq.store.save(one.run, self.home / str(folder))
        if not (self.home / str(folder) / "manifest.json").exists():
            assert there is None
            return
        found = eq.load(self.home / str(folder))
        assert found.step in (len(there or one.etas), len(one.etas))
        self.committed[folder] = one.etas[: found.step]

    @precondition(lambda self: any(self.committed))
    @rule(folder=st.integers(0, 1))
    def load(self, folder):
        taken[0] += 1
        there = self.committed[folder]
        if there:
            self.keep(eq.load(self.home / str(folder), RULE, DATA, observe=WATCH), there, there[-1])

    @precondition(lambda self: any(self.committed))
    @rule(folder=st.integers(0, 1), num=st.integers(0, 8))
    def start_again(self, folder, num):
        taken[0] += 1
        there, begun = self.committed[folder], jax.random.normal(jax.random.key(0), (5, 2))
        if not there or len(set(there)) > 1:
            return
        num = min(len(there) + num, LONGEST)
        run = eq.store.run(self.home / str(folder), RULE, begun, eta=there[0], num_steps=num, save_every=3, key=jax.random.key(2), **OPTIONS)
        self.committed[folder] = there[:1] * num
        self.keep(run, self.committed[folder], there[0])

    @precondition(lambda self: any(self.committed))
    @rule(
        folder=st.integers(0, 1),
        name=st.sampled_from([".manifest.json.new", "checkpoints/.0000000001.new", "observations/0000000090-0000000091.zarr.zip"]),
    )
    def leave_behind(self, folder, name):
        taken[0] += 1
        if self.committed[folder]:
            (self.home / str(folder) / name).write_bytes(b"half")


@pytest.mark.parametrize("steps", [120, pytest.param(int(os.environ.get("EQDYN_STORE_STEPS", "2000")), marks=pytest.mark.slow)])
def test_any_order_of_events_leaves_the_unbroken_run(steps):
    each, taken[0] = min(50, steps // 4), 0
    while taken[0] < steps:
        with np.errstate(all="ignore"):
            run_state_machine_as_test(
                Store,
                settings=settings(
                    max_examples=max(1, (steps - taken[0]) // each), stateful_step_count=each, deadline=None, database=None,
                    derandomize=steps < 1000, suppress_health_check=list(HealthCheck),
                ),
            )  # fmt: skip
    print(f"{taken[0]} steps")
