"""Certificates of a step from two configurations, and the ledger of a run."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tables import batch, start

import eqdyn as eq
from eqdyn import plot_critical
from eqdyn.networks import two_layer


def rows(seed=0, n=20, d=3, dtype=np.float64):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(dtype)


def central(x, matrix, eta):
    """One step of `U_i = A (x_i - mean)`."""
    return (x + eta * (x - x.mean(axis=0)) @ np.asarray(matrix).T).astype(x.dtype)


STEPS = [
    # name, A, eta, verdict, stretch low and high, q
    ("halved", -np.eye(3), 0.5, "injective", (0.5, 0.5), 0.5),
    ("exchanged", -np.eye(3), 1.5, "injective", (0.5, 0.5), 1.5),
    ("all merge, to rounding", -np.eye(3), 1.0, "unresolved", (0, 0), 1.0),
    ("rotation", np.array([[0, -2.0, 0], [2, 0, 0], [0, 0, 2]]), 1.0, "injective", (math.sqrt(5), 3.0), 2.0),
    ("far apart", 9 * np.eye(3), 1.0, "injective", (10, 10), 9.0),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("row", STEPS, ids=[row[0] for row in STEPS])
def test_known_steps(row, dtype):
    name, matrix, eta, verdict, (low, high), q = row
    x = rows(dtype=dtype)
    found = eq.certify(x, central(x, matrix, eta))
    assert found.verdict in ((verdict,) if name != "all merge, to rounding" else ("unresolved", "merged"))
    tight = 64 * float(np.finfo(dtype).eps)
    assert found.q == pytest.approx(q, rel=tight * 8)
    if name != "rotation":
        assert found.stretch_min == pytest.approx(low, abs=tight * 8)
        assert found.stretch_max == pytest.approx(high, rel=tight * 8, abs=tight * 8)
    else:
        assert low - tight <= found.stretch_min <= found.stretch_max <= high + tight
    assert found.summary().startswith(found.verdict)


def test_against_every_pair_by_hand():
    x = rows(3, n=30, d=4)
    y = x + 0.3 * rows(4, n=30, d=4)
    found = eq.certify(x, y)
    i, j = np.triu_indices(30, 1)
    dx, dy = x[i] - x[j], y[i] - y[j]
    d = np.linalg.norm(dx, axis=1)
    s, q = np.linalg.norm(dy, axis=1) / d, np.linalg.norm(dy - dx, axis=1) / d
    assert found.stretch_min == pytest.approx(s.min(), rel=1e-12)
    assert set(found.stretch_min_at) == {i[np.argmin(s)], j[np.argmin(s)]}
    assert found.stretch_max == pytest.approx(s.max(), rel=1e-12)
    assert found.q == pytest.approx(q.max(), rel=1e-12)
    assert set(found.q_at) == {i[np.argmax(q)], j[np.argmax(q)]}


def test_planted_merges_are_listed_and_twins_are_not():
    x = rows(1, n=12)
    x[7] = x[2]  # twins from the start
    y = 0.9 * x
    y[[4, 9, 11]] = y[4]  # three become one
    y[6] = y[2]  # one joins the twins
    found = eq.certify(x, y)
    assert found.verdict == "merged"
    assert found.merged.tolist() == [[6, 2], [9, 4], [11, 4]]
    assert found.num_split == 0
    assert found.stretch_min == 0
    assert eq.certify(x, 0.9 * x).verdict == "injective"
    torn = 0.9 * x
    torn[7] += 1.0
    assert eq.certify(x, torn).num_split == 1
    assert math.isinf(eq.certify(x, torn).q)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_floor_is_four_roundings_of_the_places(dtype):
    """Just above the floor: injective; at or below it: unresolved, with the pair."""
    eps = float(np.finfo(dtype).eps)
    x = np.array([[1.0], [1.5], [-1.0]], dtype)
    for roundings, verdict in ((7, "unresolved"), (16, "injective")):  # |y_i| + |y_j| = 2: the floor is 8 eps
        y = np.array([[1.0], [1.0 + roundings * eps], [-1.0]], dtype)
        found = eq.certify(x, y)
        assert found.verdict == verdict, roundings
        assert found.unresolved.tolist() == ([[0, 1]] if verdict == "unresolved" else [])


def test_many_unresolved_pairs_are_counted_and_the_nearest_are_listed():
    x = rows(2, n=60, d=2)
    y = np.ones_like(x) + 1e-16 * np.arange(60)[:, None] * 3
    found = eq.certify(x, y)
    assert found.verdict in ("unresolved", "merged")
    distinct = np.unique(y[:, 0])
    i, j = np.triu_indices(len(distinct), 1)
    lost = 60 - len(distinct)
    assert len(found.merged) == lost
    assert found.num_unresolved >= np.sum(distinct[j] - distinct[i] <= 8 * np.finfo(float).eps)


MEETINGS = [
    # name, x, y, merged, num_split
    ("of a twin that parts", [0, 1, 1], [0, 1, 0], [[2, 0]], 1),  # the first at its place stays there
    ("of twins that go together", [0, 1, 1, 5], [2, 2, 2, 5], [[1, 0]], 0),
    ("of twins that change sides", [0, 0, 1, 1], [0, 1, 0, 1], [[2, 0], [3, 1]], 2),
    ("of three places", [0, 1, 2, 1], [7, 7, 7, 7], [[1, 0], [2, 0]], 0),
    ("of nobody", [0, 1, 1], [0, 1, 2], [], 1),
]


@pytest.mark.parametrize("row", MEETINGS, ids=[row[0] for row in MEETINGS])
def test_meetings(row):
    _, x, y, merged, split = row
    found = eq.certify(*(np.array(a, float)[:, None] for a in (x, y)))
    assert found.verdict == ("merged" if merged else "injective")
    assert found.merged.tolist() == merged
    assert found.num_split == split


def test_the_floor_of_a_tree_is_that_of_its_coarsest_leaf_in_the_group():
    """One rounding of bfloat16 apart; joined with a float32 bias the particles are float32."""
    one, other = jnp.asarray([[1.0, 3.0]], jnp.bfloat16), jnp.asarray([[1.0, 1.0078125]], jnp.bfloat16)
    bias, rest = jnp.asarray([0.5, 0.5], jnp.float32), jnp.ones(3, jnp.float16)
    with jax.numpy_dtype_promotion("standard"):
        x, y = ({"kernel": kernel, "bias": bias, "rest": rest} for kernel in (one, other))
        assert eq.certify(x, y, group=eq.groups.from_axes(x, {"kernel": 1, "bias": 0})).unresolved.tolist() == [[0, 1]]
        fine = [jax.tree.map(lambda leaf: leaf.astype(jnp.float32), {"kernel": tree["kernel"], "bias": bias}) for tree in (x, y)]
        outside = [{**tree, "rest": rest} for tree in fine]  # says nothing of the particles
        assert eq.certify(*outside, group=eq.groups.from_axes(outside[0], {"kernel": 1, "bias": 0})).verdict == "injective"


class Foreign:
    """An array of another framework: NumPy can read it."""

    def __init__(self, value):
        self.value = value

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.value, dtype)


def test_arrays_of_any_framework_and_float64_without_x64():
    x = np.array([[1.0], [1.0 + 1e-12], [2.0]])
    assert eq.certify(Foreign(x), Foreign(2 * x)).stretch_min == pytest.approx(2)
    with jax.enable_x64(False):
        found = eq.certify(x, 2 * x)  # in float32 the first two would be twins
        assert found.verdict == "injective"
        assert found.stretch_min == pytest.approx(2, rel=1e-3)
        assert jnp.ones(1).dtype == jnp.float32
        half = jnp.asarray([[1.0], [2.0]], jnp.bfloat16)
        assert eq.certify(half, half * 2).verdict == "injective"


def test_groups_and_lifted_particles():
    params = two_layer.classifier(start(jnp.float32, n=6, d=7), 4)
    neurons = two_layer.neurons(params)
    moved = jax.tree.map(lambda leaf: 2 * leaf, params)
    host = jax.tree.map(np.asarray, params)
    assert eq.certify(host, moved, group={"hidden": neurons})["hidden"].stretch_max == pytest.approx(2)
    # equal parameters with different momenta are no merge of lifted particles
    x = np.array([[1.0, 0.0], [2.0, 5.0]])
    y = np.array([[1.5, 0.0], [1.5, 3.0]])
    assert eq.certify(x[:, :1], y[:, :1]).verdict == "merged"
    assert eq.certify(x, y).verdict == "injective"


EDGES = [
    ("one particle", np.ones((1, 3)), np.zeros((1, 3)), "injective"),
    ("nan after", np.eye(2), np.full((2, 2), np.nan), "unresolved"),
    ("all twins", np.ones((3, 2)), np.zeros((3, 2)), "injective"),
    ("huge", 1e300 * np.eye(3), 2e300 * np.eye(3), "injective"),
    ("tiny", 1e-300 * np.eye(3), 2e-300 * np.eye(3), "injective"),
]


@pytest.mark.parametrize("row", EDGES, ids=[row[0] for row in EDGES])
def test_edges(row):
    _, x, y, verdict = row
    assert eq.certify(x, y).verdict == verdict


BAD = [
    (lambda: eq.certify(np.ones((2, 3)), np.ones((2, 2))), ValueError, "one shape"),
    (lambda: eq.certify(np.ones((2, 3)), np.ones((2, 3), np.float32)), ValueError, "one shape and dtype"),
    (lambda: eq.certify(np.ones(3), np.ones(3)), ValueError, r"expected \(n, d\)"),
    (lambda: eq.certify(np.ones((2, 3), int), np.ones((2, 3), int)), TypeError, "floating"),
    (lambda: eq.certify(np.full((2, 3), np.inf), np.ones((2, 3))), ValueError, "not finite"),
    (lambda: eq.certify({"a": np.ones((2, 3))}, np.ones((2, 3))), TypeError, "structure"),
    (lambda: eq.certify({"a": np.ones((2, 3))}, {"a": np.ones((2, 3))}), TypeError, "group"),
    (lambda: eq.observe.certificate(stride=0), ValueError, "stride"),
    (lambda: plot_critical.ledger(ledger_of(jnp.array([0.5, 1.0]), lanes=2)), ValueError, r"book: got the ledger of 2 lanes; .* book.lane\(0\)"),
    (lambda: plot_critical.ledger(ledger_of(0.5, num_steps=0)), ValueError, "book: got a ledger without records"),
]


def ledger_of(eta, x=((0.0,), (4.0,), (1.3,)), num_steps=3, dtype=jnp.float32, **options):
    watch = {"book": eq.observe.certificate()}
    return eq.simulate(eq.rules.consensus(), jnp.asarray(x, dtype), eta=eta, num_steps=num_steps, observe=watch, **options).observed["book"]


@pytest.mark.parametrize(("call", "error", "message"), BAD)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


# --- the ledger ----------------------------------------------------------------------------------------------------------


def test_ledger_of_a_linear_run():
    """`U = mean - x` at eta: q = eta_mu = eta, distances are multiplied by |1 - eta|."""
    x = start(jnp.float64, n=6)
    run = eq.simulate(eq.rules.consensus(), x, eta=jnp.array([0.25, 1.5]), lanes=2, num_steps=7, observe={"book": eq.observe.certificate()})
    book = run.observed["book"]
    np.testing.assert_allclose(book.values.q, [[0.25] * 7, [1.5] * 7], rtol=1e-10)
    np.testing.assert_allclose(book.values.log_low[:, -1], [7 * math.log(0.75), 7 * math.log(0.5)], rtol=1e-9)
    np.testing.assert_allclose(book.values.bound_low[0], np.arange(1, 8) * math.log(0.75), rtol=1e-9)
    np.testing.assert_allclose(book.values.bound_high[0], np.arange(1, 8) * math.log(1.25), rtol=1e-9)
    assert np.all(np.isneginf(book.values.bound_low[1]))  # not certified, though nobody merged
    assert book.certified.tolist() == [True, False]
    assert book.first_possible.tolist() == [-1, 0]
    assert book.first_merge.tolist() == [-1, -1]
    assert book.lane(0).certified
    assert "lane 1: 7 could have merged" in book.summary()


def test_bounds_hold_along_a_training_run_and_strides_say_what_they_saw():
    x, data = start(jnp.float32, n=16), batch(jnp.float32)
    rule = eq.rules.gradient(two_layer.regression_field())
    watch = {"all": eq.observe.certificate(), "some": eq.observe.certificate(stride=5)}
    run = eq.simulate(rule, x, eta=0.5, num_steps=20, data=data, observe=watch)
    book, some = run.observed["all"], run.observed["some"]
    slack = 20 * 64 * np.finfo(np.float32).eps
    assert np.all(book.values.bound_low <= book.values.log_low + slack)
    assert np.all(book.values.log_high <= book.values.bound_high + slack)
    assert some.steps.tolist() == [0, 5, 10, 15]
    np.testing.assert_allclose(some.values.q, book.values.q[::5], rtol=1e-5)
    assert "one in 5" in some.summary()
    assert book.steps_seen == 20
    step, q, pair = book.worst
    assert q == book.values.q.max() == book.values.q[step]
    assert pair.tolist() == book.values.at[step].tolist()
    on = eq.simulate(rule, run, eta=0.5, num_steps=5, data=data, observe=watch)
    assert on.observed["all"].steps.tolist() == list(range(25))


def test_first_merge_and_what_comes_before_it():
    """Step 0 is small, step 1 takes the whole way to the mean."""
    x = jnp.array([[-2.0], [0.0], [1.0], [1.0]])
    run = eq.simulate(
        eq.rules.consensus(), x, eta=lambda step: jnp.where(step == 1, 1.0, 0.5), num_steps=3, observe={"book": eq.observe.certificate()}
    )
    book = run.observed["book"]
    assert (book.first_possible, book.first_merge) == (1, 1)
    assert book.values.merged.tolist() == [0, 2, 0]  # the twins had been one place before
    assert "2 merged, first at step 1" in book.summary()
    assert np.isneginf(book.values.log_low[-1])


def test_what_merges_by_rounding_is_not_certified():
    """q = 1/2 at every step, and distances come down to the last digit: then `x + eta * U` merges."""
    book = ledger_of(0.5, x=((0.3,), (1.0,), (4.0,)), num_steps=60)
    assert np.all(book.values.q[:20] < 1)
    assert book.first_merge > 15
    assert not book.certified
    assert book.first_possible == book.first_merge
    low = np.asarray(book.values.bound_low)
    assert np.all(np.isfinite(low[: book.first_merge]))
    assert np.all(np.isneginf(low[book.first_merge :]))
    assert ledger_of(0.5, x=((0.3,), (1.0,), (4.0,)), num_steps=10).certified


def test_where_all_have_become_one_nothing_is_left_to_merge():
    book = ledger_of(1.0, x=((0.0,), (4.0,), (2.0,)), num_steps=4)
    assert book.values.q.tolist() == book.values.eta_mu.tolist() == [1, 0, 0, 0]
    assert np.all(np.isneginf(book.values.bound_low))
    assert book.open.tolist() == [True, False, False, False]


def test_sums_of_many_small_certificates_do_not_drift():
    """5000 terms of a thousandth in float32, where a plain sum is off by a quarter of one."""
    values = ledger_of(1e-3, num_steps=5000).values
    steps = 5000 * np.log1p([-np.float32(1e-3), np.float32(1e-3)], dtype=float)
    # eta mu is off by some roundings
    np.testing.assert_allclose([values.bound_low[-1], values.bound_high[-1]], steps, rtol=16 * np.finfo(np.float32).eps)


def test_every_curve_of_a_picture_is_drawn():
    import matplotlib.pyplot as plt

    book = ledger_of(0.5)
    figure = plot_critical.ledger(book, others={f"other {k}": (book.steps, book.values.q) for k in range(9)})
    labels = figure.axes[0].get_legend_handles_labels()[1]
    assert [label for label in labels if label.startswith("other")] == [f"other {k}" for k in range(9)]
    plt.close(figure)


def _counting(x):
    return jnp.arange(x.size, dtype=x.dtype).reshape(x.shape)


def _forgetting(x, state, data=None, *, key=None):
    return eq.Update(jnp.zeros_like(x), jnp.zeros_like(state))


@pytest.mark.parametrize("lanes", [None, 3])
def test_particles_merge_where_only_their_state_moves(lanes):
    """Three at two places, with three states that become one: nobody's parameters move, and a lifted particle is lost."""
    x = jnp.array([[0.0], [0.0], [1.0]])
    rule = eq.Rule(_counting, _forgetting)
    x0 = x if lanes is None else jnp.stack([x] * lanes)
    book = eq.simulate(rule, x0, eta=1.0, num_steps=2, lanes=lanes, observe={"ledger": eq.observe.certificate(lifted=True)}).observed["ledger"]
    one = book if lanes is None else book.lane(1)
    assert one.values.merged.tolist() == [1, 0]


def test_a_crossing_is_no_merge():
    """Particles that keep their velocity: two of them pass through one place, and on."""
    x = jnp.array([[-1.0], [1.0], [5.0]])

    def drift(x, state, data=None, *, key=None):
        return eq.Update(state, state)

    carried = eq.Rule(lambda x: jnp.array([[1.0], [-1.0], [0.0]]), drift)
    run = eq.simulate(carried, x, eta=1.0, num_steps=3, observe={"book": eq.observe.certificate(lifted=True), "blind": eq.observe.certificate()})
    book, blind = run.observed["book"], run.observed["blind"]
    assert book.values.merged.tolist() == [0, 0, 0]
    assert book.values.crossings.tolist() == [1, 0, 0]
    assert blind.values.merged.tolist() == [1, 0, 0]
    assert "1 crossings" in book.summary()
    assert np.isinf(book.values.q[1])  # equal places, different U: they part


@pytest.mark.slow
@pytest.mark.parametrize("lanes", [None, 2])
def test_in_many_dimensions_the_stretch_since_the_start_is_taken_now_and_then_and_at_the_last(lanes):
    """300 particles in 50 dimensions go through matrix products; everybody moves towards the mean."""
    x = start(jnp.float32, n=300, d=50)
    eta = 0.1 if lanes is None else jnp.array([0.1, 0.2], jnp.float32)
    watch = {"book": eq.observe.certificate()}
    run = eq.simulate(eq.rules.consensus(), x, eta=eta, lanes=lanes, num_steps=22, observe=watch)
    book = run.observed["book"]
    log_low = book.values.log_low if lanes is None else book.values.log_low[1]
    assert np.nonzero(~np.isnan(log_low))[0].tolist() == [0, 20, 21]
    rate = math.log(0.9 if lanes is None else 0.8)
    np.testing.assert_allclose(log_low[[0, 20, 21]], np.array([1, 21, 22]) * rate, rtol=1e-4)
    assert "nobody merged" in book.summary()
    on = eq.simulate(eq.rules.consensus(), run, eta=eta, num_steps=1, observe=watch).observed["book"]
    assert np.sum(~np.isnan(on.values.log_high[..., -3:])) == (2 if lanes is None else 4)  # records 20 and 22: the one at 21 stays as it was
