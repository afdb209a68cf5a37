"""Topology that was once wrong: certificates of cut diagrams, verdicts about trivial numbers, Ctrl-C while a run is read, broken records."""

import os
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.distance import pdist

import eqdyn as eq
from eqdyn import _start, topology
from eqdyn.topology._certified import stretch_of, widened


def polygon(n):
    t = 2 * np.pi * np.arange(n) / n
    return np.stack([np.cos(t), np.sin(t)], 1)


CORNER = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
SHRINK = eq.rules.from_function(lambda x: -x * jnp.array([[0.0, 1.0]], x.dtype))

# --- certificates -----------------------------------------------------------------------------------------------------------


def test_a_bar_alive_at_a_cut_is_not_certified_beyond_it():
    x = polygon(40)
    low, high = stretch_of(x, x * [1, 0.05])
    cut = topology.persistence(x, longest=0.3)
    assert not topology.certified_bars(cut, low, high, 1).certified.any()
    must = topology.certified_bars(cut, 0.9, 1.0, 1)
    assert must.certified.tolist() == [True]
    assert must.alive_to == pytest.approx([0.27], rel=1e-5)
    ends = topology.certified_bars(topology.persistence(x, longest=0.1), 0.9, 1.0, 0).alive_to  # one component never dies
    assert (np.isinf(ends).sum(), ends[1:].max()) == (1, pytest.approx(0.09))
    assert topology.certified_bars(topology.persistence(x), 0.0, 1.0, 0).certified.sum() == 0


def test_the_bound_holds_at_the_very_cut():
    broken = []
    for seed in range(20):
        x = polygon(12) + 0.05 * np.random.default_rng(seed).standard_normal((12, 2))
        lengths = pdist(x)
        death = float(lengths[np.abs(lengths - topology.persistence(x).bars[1][:, 1].max()).argmin()])
        bound = topology.betti_bound(topology.persistence(x, longest=death), 1, 1, death)
        broken += [seed] if bound > topology.betti(x, scale=death, max_dim=1) else []
    assert broken == []


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_bound_holds_at_ties(dtype):
    """Two points: the later distance is the stretch times the earlier one, and just that is asked about."""
    broken = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        x = rng.standard_normal((2, 3)).astype(dtype)
        y = (x * rng.uniform(0.5, 2)).astype(dtype)
        found = eq.measure.stretch(jnp.asarray(x), jnp.asarray(y))
        r = float(topology.persistence(y, max_dim=0).bars[0][0, 1])
        for low, high in ((found.low, found.high), (float(found.low), float(found.high)), stretch_of(x, y)):
            broken += topology.betti_bound(topology.persistence(x, max_dim=0), low, high, r) > topology.betti(y, scale=r, max_dim=0)
    assert broken == 0


def test_a_range_is_widened_by_its_own_rounding():
    loose = [1 - widened(jnp.asarray(low, dtype), 1.1)[0] / low for low, dtype in ((0.75, jnp.bfloat16), (0.75, jnp.float32), (0.7, jnp.float64))]
    assert loose[0] > 1e-3 > loose[1] > 1e-6 > 1e-9 > loose[2] > 0


def test_near_is_not_together():
    y = CORNER.copy()
    y[1] = [1e-170, 0]
    assert stretch_of(CORNER, y) == (1e-170, 1.0)
    assert "collision" not in topology.change(CORNER, y, scale=0.5, max_dim=0).summary()
    assert stretch_of(1e200 * CORNER, 5e199 * CORNER) == pytest.approx((0.5, 0.5))
    assert stretch_of(CORNER, 0 * CORNER) == (0.0, 0.0)
    assert "collision" in topology.change(CORNER, CORNER * [0.0, 1.0], scale=0.5, max_dim=0).summary()


# --- verdicts -----------------------------------------------------------------------------------------------------------------


def test_nothing_is_certified_by_numbers_that_any_cloud_shows():
    drawn = np.random.default_rng(124)
    y = (x := drawn.standard_normal((25, 2))) + 0.02 * drawn.standard_normal((25, 2))
    found = topology.change(x, y, max_dim=1, throughout=True, scale=1.0)
    assert (found.degrees[1].before, found.degrees[1].after) == (0, 1)
    assert found.degrees[1].verdict != "metric effect (certified)"


CERTIFIED = {
    "lost": (polygon(60), 3 * polygon(60), 0.2, 1, (1, 0), (0.3, 5.3)),
    "lost, beyond its death": (polygon(60), 0.1 * polygon(60), 0.2, 1, (1, 0), (0.0104, 0.174)),
    "new, before too small a scale": (3 * polygon(60), polygon(60), 0.2, 1, (0, 1), (0.59, 0.61)),
    "new components": (polygon(60), 3 * polygon(60), 0.2, 0, (1, 60), (0.06, 0.07)),
}


@pytest.mark.parametrize("name", CERTIFIED)
def test_each_degree_is_judged_for_itself(name):
    x, y, r, degree, numbers, where = CERTIFIED[name]
    found = topology.change(x, y, max_dim=1, throughout=True, scale=r)
    one = found.degrees[degree]
    assert (one.before, one.after) == numbers
    assert one.verdict == "metric effect (certified)"
    alone = topology.change(x, y, max_dim=1, throughout=True, scale=r)._replace(degrees=(one,)).summary()
    low, high = (float(word.rstrip(",:")) for word in alone.split("r = ")[1].split()[:3:2])
    assert where[0] <= low <= high <= where[1]
    # and there it is
    cloud = x if numbers[1] > numbers[0] else y
    assert topology.betti(cloud, scale=(low * high) ** 0.5, max_dim=1)[degree] >= max(numbers)
    assert topology.change(x, y, max_dim=1, scale=r).degrees[degree].verdict != "metric effect (certified)"


# --- meshes ---------------------------------------------------------------------------------------------------------------------


def test_a_collapsed_mesh_costs_no_pairs_of_all():
    mesh = eq.shapes.mesh.circle(4000)
    found = topology.mesh_betti(mesh, 0 * mesh.points)
    assert (found.betti, found.contacts.shape) == ((1, 0, 0), (3999, 2))
    with pytest.raises(MemoryError, match="smaller tolerance"):
        topology.mesh_betti(eq.shapes.mesh.circle(12000), tolerance=9.0)


def test_edges_are_cut_by_rows_or_a_mask():
    mesh = eq.shapes.mesh.circle(16)
    mask = np.arange(16) == 3
    assert [topology.mesh_betti(mesh, without=without).betti[1] for without in (mask, [3], 3, [], ~mask & mask)] == [0, 0, 0, 1, 1]


CIRCLE, BARS = eq.shapes.mesh.circle(16), topology.persistence(polygon(12))
MISTAKES = {
    "mesh: none": (lambda: topology.mesh_betti(None), TypeError, "mesh: got NoneType"),
    "mesh: complex": (lambda: topology.mesh_betti(CIRCLE, 1j * np.asarray(CIRCLE.points)), ValueError, "real points"),
    "mesh: short mask": (lambda: topology.mesh_betti(CIRCLE, without=np.ones(4, bool)), ValueError, r"a mask \(16,\)"),
    "mesh: no such edge": (lambda: topology.mesh_betti(CIRCLE, without=[99]), ValueError, r"without: got \[99\]"),
    "mesh: edge from the end": (lambda: topology.mesh_betti(CIRCLE, without=[-1]), ValueError, "rows of mesh.edges"),
    "bound: scale": (lambda: topology.betti_bound(BARS, 1, 1, -1), ValueError, "r: got -1"),
    "bound: scale NaN": (lambda: topology.betti_bound(BARS, 1, 1, np.nan), ValueError, "r: got nan"),
    "certified: a word": (lambda: topology.certified_bars(BARS, "a", 1), ValueError, "low, high: got 'a'"),
    "distance: half a degree": (lambda: topology.distance(BARS, BARS, 0.5), ValueError, "degree: got 0.5"),
    "ranks: field of 0": (lambda: topology.persistent_betti(CORNER, 0.1, 1, prime=0), ValueError, "prime: got 0"),
    "ranks: field of 9": (lambda: topology.persistent_betti(CORNER, 0.1, 1, prime=9), ValueError, "prime: got 9"),
    "ranks: degree": (lambda: topology.persistent_betti(CORNER, 0.1, 1, max_dim=7), ValueError, "max_dim: got 7"),
    "change: degree": (lambda: topology.change(CORNER, CORNER, max_dim=9), ValueError, "max_dim: got 9"),
    "change: half a neighbour": (lambda: topology.change(CORNER, CORNER, k=2.5), ValueError, "k: got 2.5"),
    "change: quantiles": (lambda: topology.change(CORNER, CORNER, quantiles=(-1, 5)), ValueError, "quantile: got -1"),
    "change: no mesh": (lambda: topology.change(CORNER, CORNER, mesh=3), TypeError, "mesh: got int"),
    "observe: scales": (lambda: eq.observe.betti(scale=np.array([0.1, 0.5])), ValueError, "expected one scale"),
    "observe: a list": (lambda: eq.observe.betti(scale=[0.1, 0.5]), ValueError, "expected one scale"),
    "observe: field": (lambda: eq.observe.betti(prime=4), ValueError, "prime: got 4"),
    "bars: degree": (lambda: eq.observe.persistence(max_dim=9), ValueError, "max_dim: got 9"),
    "bars: engine": (lambda: eq.observe.persistence(engine="foo"), ValueError, "engine: got 'foo'"),
    "bars: cut": (lambda: eq.observe.persistence(longest="x"), ValueError, "longest"),
    "bars: budget": (lambda: eq.observe.persistence(seconds=0), ValueError, "seconds: got 0"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_told(name):
    call, kind, pattern = MISTAKES[name]
    with pytest.raises(kind, match=pattern):
        call()


def test_pictures_take_several_degrees_and_refuse_groups():
    plt = pytest.importorskip("matplotlib.pyplot")
    from eqdyn import plot_topology

    must = tuple(topology.certified_bars(BARS, 0.9, 1.1, degree) for degree in (0, 1))
    for certified in (must, list(must), must[1]):
        plt.close(plot_topology.barcode(BARS, certified=certified))
    with pytest.raises(ValueError, match="one; write Series"):
        plot_topology.readings(SimpleNamespace(values={"a": np.zeros((3, 2))}))


# --- beside a run -----------------------------------------------------------------------------------------------------------------


def test_observers_of_topology_are_values():
    made = [lambda: eq.observe.betti(max_dim=1, scale=np.float64(0.5)), lambda: eq.observe.persistence(max_dim=0, seconds=9.0)]
    assert all(make() == make() and hash(make()) == hash(make()) for make in made)
    assert eq.observe.betti(prime=3) != eq.observe.betti(prime=2)
    half = eq.simulate(SHRINK, jnp.asarray(polygon(12)), eta=0.1, num_steps=2, observe={"x's": eq.observe.betti(max_dim=1)})
    before = eq.compile_count()
    rest = eq.simulate(SHRINK, half, eta=0.1, num_steps=3, observe={"x's": eq.observe.betti(max_dim=1)})
    assert rest.observed["x's"].steps.tolist() == [0, 1, 2, 3, 4]
    assert rest.observed["x's"].values.shape == (5, 2)
    assert eq.compile_count() == before


@pytest.mark.parametrize("workers", [1, 2])
def test_a_record_that_fails_takes_no_other_with_it(monkeypatch, workers):
    right = topology._batch.betti

    def broken(cloud, **options):
        if 0.85 < np.abs(cloud[:, -1]).max() < 0.95:
            raise RuntimeError("broken")
        return right(cloud, **options)

    monkeypatch.setattr(topology._batch, "betti", broken)
    watch = {"betti": eq.observe.betti(max_dim=1, engine="compiled", workers=workers)}
    with pytest.warns(UserWarning, match=r"not read for 1 of 4 records: broken"):
        run = eq.simulate(SHRINK, jnp.asarray(polygon(30)), eta=0.1, num_steps=4, observe=watch)
    assert run.observed["betti"].values.tolist() == [[1, 1], [-1, -1], [1, 1], [1, 1]]


@pytest.mark.parametrize("lanes", [None, 2])
def test_room_on_the_device_is_small(monkeypatch, lanes):
    x0 = jnp.asarray(polygon(12))
    options = {"eta": 0.1, "num_steps": 9, "lanes": lanes, "observe": {"betti": eq.observe.betti(max_dim=1, stride=2)}}
    whole = eq.simulate(SHRINK, x0, **options)
    monkeypatch.setattr(_start, "ROOM_BYTES", 2 * x0.nbytes * (lanes or 1) + 1)
    run = eq.simulate(SHRINK, x0, **options)
    assert run._carry.watched["betti"].values.shape[-3] == 2
    assert np.array_equal(run.x, whole.x)
    assert run.observed["betti"].steps.tolist() == [0, 2, 4, 6, 8]
    assert run.observed["betti"].values.tolist() == whole.observed["betti"].values.tolist()


@pytest.mark.parametrize("lanes", [None, 2])
def test_ctrl_c_does_not_wait_for_what_is_read(lanes):
    """Not for the reading in progress, not for those that wait, not for room for more; whole numbers that were not read are -1."""
    free, calls = threading.Event(), []

    def slow(values):
        if values.shape[-1]:
            calls.append(values)
            if len(calls) == 2:
                threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
                free.wait(60)
        return values + 1

    watch = {"step": eq.observer.recorder(lambda frame: frame.step, leaving=slow)}
    began = time.perf_counter()
    try:
        with pytest.raises(eq.Interrupted) as caught:
            eq.simulate(SHRINK, jnp.asarray(polygon(8)), eta=0.1, num_steps=4000, chunk=1, observe=watch, lanes=lanes)
        assert time.perf_counter() - began < 15
        run = caught.value.run
        values = np.atleast_2d(run.observed["step"].values)[0].tolist()
        assert run.step == len(values) == 6
        assert values == [1, *[-1] * 5]
        assert all(one.daemon for one in threading.enumerate() if one.name == "eqdyn-leaving")
    finally:
        free.set()
    rest = eq.simulate(SHRINK, run, eta=0.1, num_steps=1, chunk=1, observe=watch)
    assert np.atleast_2d(rest.observed["step"].values)[0].tolist() == [*values, 7]


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="Linux tells what a thread has started")
def test_ctrl_c_kills_the_process_that_reads():
    def asleep(values):
        if len(values):
            threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
            subprocess.run([sys.executable, "-c", "import time; time.sleep(60)"], check=False)
        return values

    began = time.perf_counter()
    with pytest.raises(eq.Interrupted) as caught:
        eq.simulate(SHRINK, jnp.asarray(polygon(8)), eta=0.1, num_steps=2, observe={"x": eq.observer.recorder(lambda f: f.eta, leaving=asleep)})
    assert caught.value.run.step == 2  # all steps done, the reading not
    assert not any(one.name == "eqdyn-leaving" and one.is_alive() for one in threading.enumerate())
    assert time.perf_counter() - began < 15
