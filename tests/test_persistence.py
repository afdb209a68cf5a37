"""Diagrams, their distances, and what a stretch must leave of them."""

import math
import os
import signal
import subprocess
import sys
import textwrap
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.distance import pdist, squareform

import eqdyn as eq
from eqdyn import topology


def polygon(n):
    t = 2 * np.pi * np.arange(n) / n
    return np.stack([np.cos(t), np.sin(t)], 1)


OCTAHEDRON = np.concatenate([np.eye(3), -np.eye(3)])
TWO_CLUSTERS = np.concatenate([np.zeros((3, 2)), [[2.0, 0.0]]])

# --- diagrams ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["ripser", "gudhi"])
@pytest.mark.parametrize("n", [4, 7, 12, 30])
def test_bars_of_polygons(n, engine):
    if engine == "gudhi":
        pytest.importorskip("gudhi")
    found = topology.persistence(polygon(n), engine=engine)
    assert found.bars[1] == pytest.approx(np.array([[2 * np.sin(np.pi / n), 2 * np.sin(np.pi * math.ceil(n / 3) / n)]]), abs=2 * found.rounding)
    assert found.bars[0] == pytest.approx(np.array([[0, 2 * np.sin(np.pi / n)]] * (n - 1)))
    assert [len(births) for births in found.essential] == [1, 0]


@pytest.mark.parametrize("engine", ["ripser", "gudhi"])
def test_bars_of_the_octahedron(engine):
    if engine == "gudhi":
        pytest.importorskip("gudhi")
    found = topology.persistence(OCTAHEDRON, max_dim=2, engine=engine)
    assert found.bars[2] == pytest.approx(np.array([[math.sqrt(2), 2.0]]), abs=1e-6)
    assert found.bars[0] == pytest.approx(np.array([[0.0, math.sqrt(2)]] * 5))
    assert found.betti(1.7) == (1, 0, 1)


def test_no_bar_of_coincident_points_is_lost():
    found = topology.persistence(TWO_CLUSTERS)
    assert found.bars[0].tolist() == [[0, 0], [0, 0], [0, 2]]
    assert found.betti(0.0) == (2, 0)


def test_a_cut_keeps_what_is_alive_at_it():
    found = topology.persistence(polygon(12), longest=1.0)
    assert [len(births) for births in found.essential] == [1, 1]
    assert found.betti(1.0) == (1, 1)
    with pytest.raises(ValueError, match="cut"):
        found.betti(1.5)
    short = topology.persistence(TWO_CLUSTERS, longest=1.0)
    assert (len(short.bars[0]), len(short.essential[0])) == (2, 2)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["ripser", "gudhi"])
def test_a_cut_at_an_edge_is_closed_whatever_the_rounding(engine):
    """Alive at the cut is what `betti` reads there, at r that is a distance: float32 alone would carry bars across."""
    if engine == "gudhi":
        pytest.importorskip("gudhi")
    rng = np.random.default_rng(0)
    for _ in range(60):
        d = squareform(pdist(rng.standard_normal((20, 2))))
        r = float(rng.choice(d[d > 0]))
        found = topology.persistence_of_distances(d, longest=r, max_dim=2, engine=engine)
        assert tuple(len(births) for births in found.essential) == found.betti(r) == topology.betti_of_distances(d, scale=r)


@pytest.mark.parametrize("size", [1e-300, 1e-170, 1e170, 1e300])
def test_bars_have_the_size_of_the_points(size):
    x = np.concatenate([polygon(12), [[0.0, 0.0]]])
    expected, found = topology.persistence(x), topology.persistence(size * x)
    for degree in (0, 1):
        assert found.bars[degree] / size == pytest.approx(expected.bars[degree], rel=1e-6)
    far = topology.persistence(np.concatenate([size * x, [[1e300, -1e300]]]), landmarks=13 + (size < 1e299)).bars[0]
    assert far[0, 1] == pytest.approx(size * expected.bars[0][0, 1])


@pytest.mark.slow
def test_diagrams_count_as_betti_does():
    """The diagram, and Betti numbers at many scales, by two engines each."""
    rng = np.random.default_rng(0)
    for seed in range(10):
        x = rng.standard_normal((40, 1 + seed % 4))
        engines = ["ripser", "gudhi"] if topology._persistence.importlib.util.find_spec("gudhi") else ["ripser"]
        diagrams = [topology.persistence(x, max_dim=2, engine=engine) for engine in engines]
        for r in np.quantile(pdist(x), [0.05, 0.2, 0.4, 0.7]) * (1 + 1e-5):
            assert {diagram.betti(r) for diagram in diagrams} == {topology.betti(x, scale=float(r))}


def test_distance_matrices_with_infinite_entries():
    d = np.full((6, 6), np.inf)
    d[:3, :3] = d[3:, 3:] = 1.0
    np.fill_diagonal(d, 0)
    found = topology.persistence_of_distances(d)
    assert found.bars[0].tolist() == [[0, 1]] * 4
    assert (len(found.essential[0]), len(found.essential[1])) == (2, 0)


@pytest.mark.parametrize("longest", [0.0, 1.0, math.inf])
def test_distances_that_are_zero_or_infinite(longest):
    """A square of coincidences whose diagonals are never joined is a circle."""
    d = np.abs(np.subtract.outer(np.arange(4), np.arange(4))) == 2
    found = topology.persistence_of_distances(np.where(d, np.inf, 0.0), longest=longest)
    assert [births.tolist() for births in found.essential] == [[0.0], [0.0]]


def test_landmarks_of_coincident_points_are_an_estimate():
    """Zero-length bars are lost, though the error is 0."""
    found = topology.persistence(np.repeat(polygon(3), 2, axis=0), landmarks=3)
    assert (found.kind, found.error, len(found.bars[0])) == ("estimate", 0.0, 2)
    assert topology.persistence(polygon(3), landmarks=9).kind == "exact"


@pytest.mark.parametrize("count", [10, 40])
def test_landmarks_state_their_error(count):
    x = np.asarray(eq.shapes.circle(150, key=jax.random.key(1)).points, np.float64)
    whole, some = topology.persistence(x), topology.persistence(x, landmarks=count)
    assert (some.kind, some.num) == ("estimate", count)
    for degree in (0, 1):
        assert topology.distance(whole, some, degree) <= some.error + whole.rounding
    with pytest.raises(ValueError, match="landmarks"):
        topology.certified_bars(some, 0.9, 1.1)


def test_over_budget_is_refused_before_it_starts():
    x = np.random.default_rng(0).standard_normal((1500, 8))
    began = time.perf_counter()
    with pytest.raises(MemoryError, match="over the budget"):
        topology.persistence(x, max_dim=2)
    assert time.perf_counter() - began < 20  # the forecast itself: a table of distances
    with pytest.raises(MemoryError, match="seconds"):
        topology.persistence(x[:800], max_dim=1, seconds=0.01)
    with pytest.raises(MemoryError, match="longest"):
        topology.persistence(x[:600], max_dim=2, memory=2**26)


def test_arguments_are_refused_before_the_table_is_made(monkeypatch):
    monkeypatch.setattr(topology._persistence, "all_between", None)
    with pytest.raises(ValueError, match="max_dim"):
        topology.persistence(polygon(9), max_dim=9)
    with pytest.raises(ValueError, match="num"):
        topology.forecast(-3, 1)


ROUND = np.random.default_rng(0).standard_normal((140, 3)) / 40
LASTING = {
    "circle": (polygon(200), {}, True),
    "sphere by gudhi": (ROUND, {"engine": "gudhi"}, True),
    "crowd among many": (np.concatenate([ROUND, 10.0 + np.arange(600)[:, None] * np.ones(3)]), {"max_dim": 2, "longest": 1.0}, True),
    "a few": (polygon(60), {}, False),
    "far apart": (100 * np.arange(700.0)[:, None], {"max_dim": 2, "longest": 1.0}, False),
}


@pytest.mark.parametrize("name", LASTING)
def test_what_may_last_has_a_process_that_can_be_killed(name, monkeypatch):
    x, arguments, lasts = LASTING[name]
    if arguments.get("engine") == "gudhi":
        pytest.importorskip("gudhi")
    asked = []
    monkeypatch.setattr(topology._persistence, "_in_process", lambda *given, **rest: asked.append(rest) or [np.zeros((0, 2))] * 3)
    topology.persistence(x, seconds=50.0, **arguments)
    assert asked == ([{"memory": topology._persistence.MEMORY, "seconds": 50.0}] if lasts else [])


def test_the_forecast_sums_over_points():
    """130 that see each other among 1,500 that see nobody are not 1,630 that see ten."""
    crowd, mean = (topology.forecast(1630, 2, degree) for degree in (np.repeat([129, 0], [130, 1500]), 129 * 130 / 1630))
    assert crowd[1] > topology.forecast(130, 2)[1] > 2 * mean[1]
    assert topology.forecast(260, 1, engine="gudhi")[0] > 2.5e8 * 0.8


@pytest.mark.skipif(sys.platform != "linux", reason="no such limit elsewhere")
@pytest.mark.parametrize("engine", ["ripser", "gudhi"])
def test_memory_is_a_limit(engine):
    if engine == "gudhi":
        pytest.importorskip("gudhi")
    d = squareform(pdist(polygon(400)))
    with pytest.raises(MemoryError, match="more than the budget of 9"):
        topology._persistence._in_process(d, 1, 2, 9.0, engine, seconds=60, memory=1e7)


def test_too_slow_is_killed():
    x = np.random.default_rng(0).standard_normal((330, 3))
    memory, seconds = topology.forecast(330, 2)
    began = time.perf_counter()
    with pytest.raises((TimeoutError, MemoryError)):
        topology._persistence._in_process(np.sqrt(((x[:, None] - x[None]) ** 2).sum(-1)), 2, 2, 9.0, "ripser", seconds=1.5)
    assert time.perf_counter() - began < 6
    assert memory > 0
    assert seconds > 1


def test_ctrl_c_ends_a_persistence_computation_within_a_second():
    """A process that computes gets the signal that Ctrl-C sends; ripser alone would go on for minutes."""
    code = """
        import signal, sys, numpy as np
        from eqdyn import topology
        signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests themselves run in the background
        x = np.random.default_rng(0).standard_normal((400, 3))
        d = np.sqrt(((x[:, None] - x[None]) ** 2).sum(-1))
        print("ready", flush=True)
        try:
            topology._persistence._in_process(d, 2, 2, 9.0, "ripser", seconds=300)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
            sys.exit(7)
    """
    child = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert child.stdout.readline() == "ready\n"
    time.sleep(2.5)
    began = time.perf_counter()
    os.kill(child.pid, signal.SIGINT)
    out, _ = child.communicate(timeout=30)
    assert (out, child.returncode) == ("interrupted\n", 7)
    assert time.perf_counter() - began < 1.5  # the interpreter's own end included


# --- distances ----------------------------------------------------------------------------------------------------------------


def diagram(*bars, essential=(), degree=1):
    bars = np.array(bars, float).reshape(-1, 2)
    none = np.zeros((0, 2))
    return topology.Diagram(
        (none,) * degree + (bars,), (np.zeros(0),) * degree + (np.array(essential, float),), math.inf, 0.0, 0.0, "exact", 2, 9
    )  # fmt: skip


DISTANCES = {
    "equal": (diagram((1, 2)), diagram((1, 2)), "bottleneck", False, 0.0),
    "moved": (diagram((1, 3)), diagram((1.5, 3.25)), "bottleneck", False, 0.5),
    "with nothing": (diagram((1, 3)), diagram(), "bottleneck", False, 1.0),
    "better with nothing": (diagram((1, 2)), diagram((5, 6)), "bottleneck", False, 0.5),
    "unequal essential": (diagram(essential=[1]), diagram(), "bottleneck", False, math.inf),
    "unequal essential, wasserstein": (diagram(essential=[1]), diagram((1, 2)), "wasserstein", False, math.inf),
    "essential": (diagram(essential=[1, 5]), diagram(essential=[5.5, 1]), "bottleneck", False, 0.5),
    "essential, wasserstein": (diagram(essential=[1, 5]), diagram(essential=[6, 2]), "wasserstein", False, math.sqrt(2)),
    "wasserstein": (diagram((1, 3), (0, 4)), diagram((1, 4), (0, 4)), "wasserstein", False, 1.0),
    "wasserstein, with nothing": (diagram((1, 3), (0, 4)), diagram(), "wasserstein", False, math.sqrt(5)),
    "empty": (diagram(), diagram(), "wasserstein", False, 0.0),
    "log": (diagram((1, 2)), diagram((2, 4)), "bottleneck", True, 0.5 * math.log(2)),
    "log, long": (diagram((1, 64)), diagram((2, 128)), "bottleneck", True, math.log(2)),
    "log, degree 0": (diagram((0, 1), (0, 2), degree=0), diagram((0, 2), (0, 8), degree=0), "bottleneck", True, math.log(4)),
    "log, degree 0, twins": (diagram((0, 0), (0, 2), degree=0), diagram((0, 8), degree=0), "bottleneck", True, math.log(4)),
    "log, degree 0, unequal": (diagram((0, 1), (0, 2), degree=0), diagram((0, 2), degree=0), "bottleneck", True, math.inf),
    "log, degree 0, essential": (diagram(essential=[0], degree=0), diagram(essential=[0], degree=0), "bottleneck", True, 0.0),
}


@pytest.mark.parametrize("name", DISTANCES)
def test_distances_of_diagrams(name):
    a, b, kind, log, expected = DISTANCES[name]
    found = [topology.distance(*pair, a.max_dim, kind=kind, log=log) for pair in ((a, b), (b, a))]
    assert found == pytest.approx([expected] * 2)


def test_distances_are_those_of_gudhi():
    gudhi = pytest.importorskip("gudhi")
    from gudhi import hera

    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b = (np.sort(rng.random((int(rng.integers(0, 12)), 2)), axis=1) for _ in range(2))
        assert topology.distance(diagram(*a), diagram(*b), 1) == pytest.approx(gudhi.bottleneck_distance(a, b, 0.0), abs=1e-12)
        ours = topology.distance(diagram(*a), diagram(*b), 1, kind="wasserstein", order=1)
        assert ours == pytest.approx(hera.wasserstein_distance(a, b, order=1, internal_p=math.inf, delta=1e-4), abs=1e-3)


# --- what a stretch must leave --------------------------------------------------------------------------------------------------


def moved(rng, k):
    """A random equivariant step: affine, gradient, pair kernel; small and large q."""
    x = rng.standard_normal((int(rng.integers(8, 26)), int(rng.integers(1, 4))))
    if k % 3 == 0:
        return x, x @ (np.eye(x.shape[1]) + rng.uniform(0.02, 0.8) * rng.standard_normal((x.shape[1],) * 2))
    if k % 3 == 1:
        return x, x - rng.uniform(0.02, 1.5) * np.tanh(x)
    d = x[:, None] - x[None]
    weight = np.exp(-(d**2).sum(-1) / 2)[..., None]
    return x, x + rng.choice([-1, 1]) * rng.uniform(0.05, 2.0) * (weight * d).mean(1)


@pytest.mark.slow
def test_no_step_breaks_the_bounds():
    """B1 to B4 between diagrams of start and end, and the ranks that stand for B4."""
    rng, certified = np.random.default_rng(0), 0
    for k in range(1000):
        x, y = moved(rng, k)
        low, high = topology._certified.stretch_of(x, y)
        before, after = (topology.persistence(points) for points in (x, y))
        slack = 4 * (before.rounding / np.maximum(pdist(x).min(), 1e-300) + after.rounding / np.maximum(pdist(y).min(), 1e-300))
        rescaled = after._replace(bars=tuple(bars / math.sqrt(low * high) for bars in after.bars))
        for degree in (0, 1):
            assert topology.distance(before, after, degree, log=True) <= topology.log_bottleneck_bound(low, high) + slack
            assert topology.distance(before, rescaled, degree, log=True) <= topology.log_bottleneck_bound(low, high, rescaled=True) + slack
            must = topology.certified_bars(before, low, high, degree)
            certified += degree * int(must.certified.sum())
            for start, end in zip(must.alive_from[must.certified], must.alive_to[must.certified], strict=True):
                end = end if np.isfinite(end) else 1e9
                middle = math.sqrt(max(start, 1e-6 * end) * end)
                assert len(after.alive(degree, start + after.rounding, middle * (1 - 1e-5))) >= 1
        for r in np.quantile(pdist(y), [0.1, 0.3, 0.6]):
            bound = topology.betti_bound(before, low, high, float(r))
            assert all(b <= n for b, n in zip(bound, topology.betti(y, scale=float(r), max_dim=1, engine="compiled"), strict=True))
    assert certified > 50


def test_ranks_are_what_the_diagram_counts():
    rng = np.random.default_rng(1)
    for _ in range(30):
        x = rng.standard_normal((40, 3))
        found = topology.persistence(x, max_dim=2)
        birth, death = np.sort(rng.uniform(0.5, 2.5, 2))
        expected = tuple(len(found.alive(degree, birth, death)) for degree in range(3))
        assert topology.persistent_betti(x, birth, death) == expected


@pytest.mark.parametrize(
    "make",
    [lambda: polygon(64), pytest.param(lambda: np.asarray(eq.shapes.sphere(160, key=jax.random.key(0), even=True).points), marks=pytest.mark.slow)],
    ids=["circle", "sphere"],
)
def test_long_bars_are_certified_through_a_thousand_small_steps(make):
    """The direct ratio X^0 -> X^t certifies them to the end; the product of the step bounds, always looser, says how long it does."""
    x0 = jnp.asarray(make())
    degree = 1 if x0.shape[1] == 2 else 2
    rule = eq.rules.gradient(lambda x: jnp.mean(jnp.sum((x * jnp.arange(1, x.shape[1] + 1, dtype=x.dtype)[None]) ** 2, axis=1)))
    run = eq.simulate(rule, x0, eta=1e-3, num_steps=1000, observe={"ledger": eq.observe.certificate(stride=1)})
    low, high = topology._certified.stretch_of(np.asarray(x0), np.asarray(run.x))
    found = topology.persistence(x0, max_dim=degree)
    must = topology.certified_bars(found, low, high, degree)
    assert must.certified[0]
    assert "must survive" in must.summary()
    middle = 0.5 * (must.alive_from[0] + must.alive_to[0])
    assert topology.betti(run.x, scale=float(middle), max_dim=degree)[degree] >= 1
    ledger = run.observed["ledger"].values
    assert ledger.bound_low[-1] <= math.log(low) + 1e-9
    assert math.log(high) <= ledger.bound_high[-1] + 1e-9


# --- verdicts ---------------------------------------------------------------------------------------------------------------------

FLAT = polygon(60) * [1.0, 0.2]
MERGED = polygon(60).copy()
MERGED[:3] = MERGED[30:33]


class Mesh:
    counts = dict.fromkeys(topology._change._ALARMS, 0) | {"crossings": 2}


CHANGES = {
    "unchanged": (polygon(60), 2 * polygon(60), {"throughout": True}, "unchanged", "unchanged"),
    "flattened": (polygon(60), FLAT, {"throughout": True}, "metric effect (diagnostic)", "locally scaled"),
    "flattened, unknown between": (polygon(60), FLAT, {}, "metric effect (diagnostic)", "between the checkpoints was not given"),
    "flattened, a merge between": (polygon(60), FLAT, {"throughout": False}, "undecided", "on the way"),
    "flattened, mesh meets itself": (polygon(60), FLAT, {"throughout": True, "mesh": Mesh()}, "collision", "2 crossings"),
    "scaled, at a fixed r": (polygon(60), 3 * polygon(60), {"throughout": True, "scale": 0.2}, "metric effect (certified)", "only the scale"),
    "merged": (polygon(60), MERGED * [1.0, 0.2], {"throughout": True}, "collision", "coincide"),
    "opened": (polygon(60), np.stack([np.linspace(0, 6, 60), np.zeros(60)], 1), {"throughout": True}, "undecided", "not seen"),
}


@pytest.mark.parametrize("engine", ["plain", "compiled"])
@pytest.mark.parametrize("name", CHANGES)
def test_changes_have_a_verdict_and_a_sentence(name, engine):
    x, y, arguments, verdict, words = CHANGES[name]
    found = topology.change(x, y, max_dim=1, engine=engine, **arguments)
    assert found.degrees[1].verdict == verdict or (name == "scaled, at a fixed r" and found.degrees[0].verdict == verdict)
    assert words in found.summary()


def test_a_change_that_the_stretch_forbids_is_called_a_bug(monkeypatch):
    """A broken reading is caught by B4."""
    right = topology._change.betti_of_packed
    monkeypatch.setattr(topology._change, "betti_of_packed", lambda packed, *rest: (1, 1) if len(calls) == 0 or calls.pop() else (1, 0))
    calls = [0]
    found = topology.change(polygon(60), polygon(60), max_dim=1)
    assert (found.before, found.after) in {((1, 1), (1, 0)), ((1, 0), (1, 1))}
    assert found.degrees[1].verdict == "protected"
    assert right is not topology._change.betti_of_packed


def test_a_ledger_says_what_happened_between():
    x0 = jnp.asarray(polygon(60))
    rule = eq.rules.from_function(lambda x: -x * jnp.array([[0.0, 1.0]]))
    run = eq.simulate(rule, x0, eta=0.1, num_steps=16, observe={"all": eq.observe.certificate(), "some": eq.observe.certificate(stride=4)})
    whole = topology.change(x0, run.x, max_dim=1, throughout=run.observed["all"])
    assert whole.after == (1, 0)
    assert "nobody merged at any step" in whole.summary()
    assert "was not given" in topology.change(x0, run.x, max_dim=1, throughout=run.observed["some"]).summary()


# --- beside a run -------------------------------------------------------------------------------------------------------------------

SHRINK = eq.rules.from_function(lambda x: -x * jnp.array([[0.0, 1.0]]))


@pytest.mark.parametrize("lanes", [None, 2])
def test_watching_never_changes_the_run(lanes):
    x0 = jnp.asarray(polygon(40))
    eta = 0.1 if lanes is None else jnp.array([0.05, 0.1])
    plain = eq.simulate(SHRINK, x0, eta=eta, num_steps=20, lanes=lanes, chunk=8)
    watch = {"betti": eq.observe.betti(max_dim=1, stride=3), "bars": eq.observe.persistence(max_dim=0, stride=10)}
    run = eq.simulate(SHRINK, x0, eta=eta, num_steps=20, lanes=lanes, chunk=8, observe=watch)
    assert np.array_equal(plain.x, run.x)
    readings = run.observed["betti"]
    assert readings.steps.tolist() == list(range(0, 20, 3))
    lane = readings.values if lanes is None else readings.values[1]
    expected = [topology.betti(x0 * jnp.array([[1.0, 0.9**t]]), max_dim=1) for t in range(0, 20, 3)]
    assert [tuple(row) for row in lane] == expected
    assert len({*expected}) > 1
    assert np.shape(run.observed["bars"].values) == ((2,) if lanes is None else (2, 2))


def test_watching_goes_on_with_a_run():
    x0, watch = jnp.asarray(polygon(40)), {"betti": eq.observe.betti(max_dim=1)}
    whole = eq.simulate(SHRINK, x0, eta=0.1, num_steps=12, observe=watch)
    half = eq.simulate(SHRINK, x0, eta=0.1, num_steps=5, observe=watch)
    rest = eq.simulate(SHRINK, half, eta=0.1, num_steps=7, observe=watch)
    assert rest.observed["betti"].values.tolist() == whole.observed["betti"].values.tolist()


def test_groups_divergence_and_failures_are_data():
    x0 = {"w": jnp.asarray(polygon(30)), "v": jnp.ones((4, 1))}
    group = {name: eq.groups.from_axes(x0, {name: 0}) for name in x0}
    rule = eq.rules.from_function(lambda p: jax.tree.map(lambda leaf: 1e200 * leaf, p))
    run = eq.simulate(rule, x0, eta=1.0, num_steps=3, observe={"betti": eq.observe.betti(group=group, max_dim=1)})
    assert run.status == "diverged"
    assert run.observed["betti"].values["w"][0].tolist() == [1, 1]
    assert run.observed["betti"].values["v"].tolist() == [[1, 0]] * 3
    failing = eq.observe.persistence(max_dim=3, engine="ripser")
    big = jnp.asarray(np.random.default_rng(0).standard_normal((300, 6)))
    with pytest.warns(UserWarning, match="topology was not read"):
        run = eq.simulate(SHRINK_ALL, big, eta=0.1, num_steps=1, observe={"bars": failing})
    assert run.observed["bars"].values.tolist() == [None]


SHRINK_ALL = eq.rules.from_function(lambda x: -x)
