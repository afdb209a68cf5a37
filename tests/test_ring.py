"""Particles on several devices: the answers of one, whatever their number, and those of two processes."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ring import MEAN_FIELD, PLAIN, RULES, SCREENED

import eqdyn as eq
from eqdyn import _tiles

EXPLICIT = jax.sharding.AxisType.Explicit
EPS = float(np.finfo(np.float32).eps)
SCRIPT = Path(__file__).parent / "ring.py"


def free_port():
    with socket.socket() as one:
        one.bind(("localhost", 0))
        return one.getsockname()[1]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """By number of devices; and `forgetful`, of a ring that leaves the last block out."""
    return answers(tmp_path_factory.mktemp("ring"), [["one.npz"]])


@pytest.fixture(scope="module")
def of_two_processes(tmp_path_factory):
    """Of 4 devices."""
    address = f"localhost:{free_port()}"
    return answers(tmp_path_factory.mktemp("ring"), [["two.npz", address, "0"], ["two.npz", address, "1"]])["4"]


def answers(folder, calls):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(SCRIPT.parent.parent), os.environ.get("PYTHONPATH", "")])}
    running = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), *call], cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for call in calls
    ]
    try:
        said = [process.communicate(timeout=300)[0] for process in running]
    finally:
        for process in running:
            process.kill()
    assert [process.returncode for process in running] == [0] * len(calls), "\n".join(said)
    results = {}
    with np.load(folder / calls[0][0]) as arrays:
        for path, value in arrays.items():
            num, name = path.split("/", 1)
            results.setdefault(num, {})[name] = value
    return results


def differing(one, other):
    """What of two answers is apart by more than the bound: values of pairs and their pairs, U and places, each in its own."""
    assert set(other) <= set(one) | {"refused"}
    bad = []
    for name, value in other.items():
        if name.startswith("pairs/"):
            d = (SCREENED if "screened" in name else PLAIN)["d"]
            same = value.dtype.kind == one[name].dtype.kind and np.shape(value) == np.shape(one[name])
            near = (
                np.array_equal(one[name], value)
                if value.dtype.kind != "f"
                else np.allclose(value, one[name], rtol=(d + 8) * EPS, atol=0, equal_nan=True)
            )
            bad += [] if same and near else [name]
        elif name.startswith(("u/", "run/")):
            bad += [] if np.max(np.abs(value - one[name])) <= 16 * EPS * np.max(np.abs(one[name])) else [name]
    return bad


@pytest.mark.parametrize("num", ["2", "4"])
def test_as_many_devices_as_you_like_give_the_answers_of_one(num, found):
    assert len(found[num]) >= 10
    assert differing(found["1"], found[num]) == []


@pytest.mark.slow
def test_two_processes_give_the_answers_of_one(found, of_two_processes):
    assert len(of_two_processes) >= 10
    assert differing(found["1"], of_two_processes) == []
    the_merge_and_the_twins(of_two_processes)
    stays_and_is_compiled_once(of_two_processes, 12)


def test_a_ring_that_forgets_a_block_is_caught(found):
    assert {name.rsplit("/", 1)[0] for name in differing(found["1"], found["forgetful"])} == {"pairs/constants", "u/hegselmann_krause"}


def test_the_certificate_saw_the_merge_and_the_twins(found):
    for num in ("1", "4"):
        the_merge_and_the_twins(found[num])


def the_merge_and_the_twins(one):
    assert str(one["pairs/certificate/verdict"]) == "merged"
    assert one["pairs/certificate/merged"].tolist() == [[3, 2]]
    assert one["pairs/constants/num_twins"] == 1


@pytest.mark.parametrize("name", RULES)
def test_twins_on_different_devices_stay_twins(name, found):
    u = found["4"][f"u/{name}/"]
    np.testing.assert_array_equal(u[0], u[-1])


@pytest.mark.parametrize("name", RULES)
def test_nobody_holds_all_particles(name, found):
    """Sums are reduced, or blocks go round: no device gathers the configuration."""
    has = {word: bool(found["4"][f"text/{name}/{word}"]) for word in ("all-gather", "all-reduce", "collective-permute")}
    assert not has["all-gather"]
    assert has["collective-permute"] == (name not in MEAN_FIELD)
    assert has["all-reduce"] or name not in MEAN_FIELD


def test_a_run_stays_where_its_particles_are_and_is_compiled_once(found):
    for num, rows in (("1", 48), ("4", 12)):
        stays_and_is_compiled_once(found[num], rows)


def stays_and_is_compiled_once(one, rows):
    assert one["fact/rows"] == rows
    assert one["fact/programs"] == 1
    assert str(one["fact/status"]) == "ok"
    np.testing.assert_allclose(one["run/tracers"], one["run/x"][:5], atol=16 * EPS)


def test_what_does_not_divide_is_refused_with_a_number_that_does(found):
    six, seven, two = found["forgetful"]["refused"]
    assert "got 6 particles on 4 devices" in six
    assert "write eq.parallel.mesh(3)" in six
    assert "write eq.parallel.mesh(1)" in seven
    assert "arrays of [6, 8] rows" in two


WRONG = {
    "no devices": (lambda: eq.parallel.mesh(0), "num_devices: got 0"),
    "too many": (lambda: eq.parallel.mesh(10**6), "expected at most .* write XLA_FLAGS"),
    "half a device": (lambda: eq.parallel.mesh(1.5), "num_devices: got 1.5"),
    "no mesh": (lambda: eq.parallel.shard(jnp.ones((4, 2)), 4), "mesh: got int"),
    "explicit": (lambda: eq.parallel.shard(jnp.ones((4, 2)), jax.make_mesh((1,), ("particles",), axis_types=(EXPLICIT,))), "expected Auto"),
    "another axis": (lambda: eq.parallel.shard(jnp.ones((4, 2)), jax.make_mesh((1,), ("data",))), r"mesh: got axes \('data',\)"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments(name):
    call, message = WRONG[name]
    with pytest.raises(ValueError, match=message):
        call()


def test_one_device_is_a_mesh_too():
    x = jnp.asarray([[0.0, 1.0], [2.0, 0.0], [5.0, 5.0]])
    tree = eq.parallel.shard({"m": x, "t": jnp.int32(3)}, eq.parallel.mesh(1))
    np.testing.assert_array_equal(eq.parallel.gather(tree)["m"], x)
    assert int(tree["t"]) == 3
    assert eq.measure.pair_constants(tree["m"], -tree["m"]).k_pair == 1


@pytest.mark.parametrize("radius", [0.5, 3.0])  # reaches that are short and long beside the cloud
@pytest.mark.parametrize("name", ["hegselmann_krause", "self_attention", "stein", "attraction_repulsion"])
def test_many_particles_are_summed_in_parts(name, radius, monkeypatch):
    x = jax.random.normal(jax.random.key(0), (48, 3), jnp.float32)
    x = x.at[47].set(x[0])
    rule = eq.rules.hegselmann_krause(radius=radius) if name == "hegselmann_krause" else RULES[name]
    whole = rule.update(x, ()).u
    monkeypatch.setattr(_tiles, "WIDE", 16)
    monkeypatch.setattr(_tiles, "WIDTH", 8)
    monkeypatch.setattr(_tiles, "CACHE", 4000)  # of rows, too
    monkeypatch.setattr(sys.modules["eqdyn.rules.hegselmann_krause"], "_MANY", 16)
    parts = jax.jit(lambda x: rule.update(x, ()).u)(x)
    assert jnp.max(jnp.abs(parts - whole)) <= 16 * EPS * jnp.max(jnp.abs(x)) * (1 + jnp.max(jnp.abs(whole)))
    np.testing.assert_array_equal(parts[47], parts[0])


def test_an_answer_that_cannot_be_is_not_given():
    """-p <= R for every pair: where one of the two was lost between devices, neither is a number."""
    from eqdyn import _round
    from eqdyn._differences import Asked, Extremes

    asked, none = Asked(("rate", "closing"), moved=False), jnp.zeros((2,), jnp.int32)
    for rate, good in ((0.95, True), (0.6, False)):
        value = jnp.array([[0.5, 0.1], [rate, 0.97]])
        found = _round._of_all(asked, Extremes(value, jnp.zeros((2, 2, 2), jnp.int32), none, none, jnp.zeros((2, 2), jnp.int32), none))
        assert bool(jnp.isfinite(found.value).all()) == good
