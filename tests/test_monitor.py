"""The monitor in somebody's own loop: what it says against independent routes; and that nothing it does stops the loop."""

import json
import os
import signal
import time
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from models import draw, inputs

import eqdyn as eq


def model(params, z):
    return jnp.tanh(z @ params["w"]) @ params["out"]


BATCH = inputs(16, 3)
GROUPS = {"hidden": eq.groups.from_axes(draw(w=(3, 24), out=(24, 2)), {"w": 1, "out": 0})}


@jax.jit
def trained(params):
    slope = jax.grad(lambda p: jnp.mean(model(p, BATCH) ** 2))(params)
    return jax.tree.map(lambda p, g: p - jnp.float32(0.3) * g, params, slope)


def watched(monitor, num_steps, *, params=None, change=lambda step, params: params, until=lambda step: None):
    params, path = params or draw(w=(3, 24), out=(24, 2)), []
    for step in range(num_steps + 1):
        path.append(params)
        monitor(params, loss=float(step))
        until(step)
        params = change(step, trained(params))
    return path


def test_steps_are_certified_as_by_certify():
    monitor = eq.networks.Monitor(GROUPS, certificate=3)
    path = watched(monitor, 12)
    assert [step for step, _ in monitor.steps["hidden"]] == [0, 3, 6, 9]
    for step, seen in monitor.steps["hidden"]:
        found = eq.certify(path[step], path[step + 1], group=GROUPS["hidden"])
        assert np.allclose([seen.q, seen.stretch_min, seen.stretch_max], [found.q, found.stretch_min, found.stretch_max], rtol=1e-4, atol=1e-6)
        assert (found.verdict, int(seen.unresolved), int(seen.merged)) == ("injective", 0, 0)
    said = monitor.close().summary()
    assert "hidden: 4 steps seen, no step could merge two particles, nobody merged" in said
    assert "cost: " in said


def test_a_merge_that_is_planted_is_found():
    def change(step, params):
        return {**params, "w": params["w"].at[:, 5].set(params["w"][:, 2]), "out": params["out"].at[5].set(params["out"][2])} if step == 4 else params

    monitor = eq.networks.Monitor(GROUPS["hidden"], certificate=2)
    watched(monitor, 8, change=change)
    report = monitor.close().report()
    assert report["particles: merged"] == 1
    assert report["particles: first that could"] == 4
    assert report["particles: largest eta*K_pair"] >= 1


def test_topology_is_read_beside_and_written_down(tmp_path):
    with eq.networks.Monitor(GROUPS, certificate=None, topology=5, max_dim=1, out=tmp_path / "run") as monitor:
        path = watched(monitor, 10)
    for step in (0, 5, 10):
        x = GROUPS["hidden"].particles(path[step])
        assert monitor.betti["hidden"][step] == list(eq.topology.betti(x, max_dim=1))
        found = eq.measure.stretch(GROUPS["hidden"].particles(path[0]), x)
        assert np.allclose(monitor.stretch["hidden"][step], [found.low, found.high], rtol=1e-4)
    lines = [json.loads(line) for line in (tmp_path / "run" / "monitor.jsonl").read_text().splitlines()]
    assert [line["betti"] for line in lines if "betti" in line] == [monitor.betti["hidden"][step] for step in (0, 5, 10)]
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["steps"] == 10
    assert summary["failures"] == []
    assert summary["seconds of reading, in its own process"] > 0


@pytest.mark.filterwarnings("ignore:eqdyn Monitor")
def test_killing_the_reader_leaves_the_training_running():
    monitor = eq.networks.Monitor(GROUPS, certificate=1, topology=4, max_dim=1)
    killed = []

    def until(step):
        if step == 4:  # the first answer is there; the next question goes to a process that is gone
            wait(lambda: 0 in monitor.betti["hidden"])
            killed.append(monitor._beside.pid)
            os.kill(killed[0], signal.SIGKILL)
        if step % 4 == 0:
            wait(lambda: step in monitor.betti["hidden"])

    path = watched(monitor, 12, until=until)
    assert len(path) == 13
    assert len(monitor.close().steps["hidden"]) == 12
    read = monitor.betti["hidden"]
    assert read[0] is not None
    assert read[12] is not None
    assert [reason for reason in monitor.failures if "lost" in reason] or all(read.values())


def wait(done, seconds=60.0):
    end = time.monotonic() + seconds
    while not done() and time.monotonic() < end:
        time.sleep(0.02)
    assert done()


def test_a_failure_is_a_warning_and_the_loop_goes_on():
    monitor = eq.networks.Monitor(GROUPS, certificate=1)
    with pytest.warns(UserWarning, match="certificate: not watched from step 3 on: ValueError: tree: got leaves"):
        broken(monitor)
    assert len(monitor.steps["hidden"]) == 2
    assert "warning: certificate" in monitor.close().summary()


def broken(monitor):
    params = draw(w=(3, 24), out=(24, 2))
    for step in range(6):
        monitor(params if step < 3 else {"other": params["w"]})
        params = trained(params)


def test_warnings_that_are_errors_do_not_stop_the_loop(capsys):
    monitor = eq.networks.Monitor(GROUPS, certificate=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        broken(monitor)
    assert "not watched" in capsys.readouterr().err


def test_parameters_that_are_donated_and_states_of_other_frameworks():
    """What is kept between two calls is a copy; NumPy arrays will do."""
    update = jax.jit(trained, donate_argnums=0)
    monitor, params = eq.networks.Monitor(GROUPS, certificate=1), draw(w=(3, 24), out=(24, 2))
    for _ in range(4):
        monitor(params)
        params = update(params)
    assert len(monitor.close().steps["hidden"]) == 3
    arrays = eq.networks.Monitor(GROUPS, certificate=1)
    held = jax.tree.map(np.array, draw(w=(3, 24), out=(24, 2)))
    for _ in range(3):
        arrays(held)
        for leaf in held.values():
            leaf *= np.float32(1.01)  # in place, as such frameworks do
    assert [round(float(seen.q), 4) for _, seen in arrays.close().steps["hidden"]] == [0.01, 0.01]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((None,), "expected groups of a model"),
        (([1, 2],), "expected groups of a model"),
        ((GROUPS, {"certificate": 0}), "certificate"),
        ((GROUPS, {"scale": [1.0]}), "expected a number or a string"),
        ((GROUPS, {"scale": "nonsense"}), "scale"),
        ((GROUPS, {"max_dim": 9}), "max_dim"),
    ],
)
def test_bad_arguments_are_refused_at_once(arguments, words):
    with pytest.raises((TypeError, ValueError), match=words):
        eq.networks.Monitor(arguments[0], **(arguments[1] if len(arguments) > 1 else {}))


def test_three_lines_with_optax():
    with jax.numpy_dtype_promotion("standard"):
        tx, params = optax.adam(1e-2), draw(w=(3, 24), out=(24, 2))
        state = tx.init(params)
        monitor = eq.networks.Monitor(eq.networks.find_groups(model, params, BATCH), certificate=2)
        for _ in range(5):
            monitor(params)
            updates, state = tx.update(jax.grad(lambda p: jnp.mean(model(p, BATCH) ** 2))(params), state)
            params = optax.apply_updates(params, updates)
        assert "w: 2 steps seen" in monitor.close().summary()
