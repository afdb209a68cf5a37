"""Runs as paths: composition to the bit, reparametrisation in closed form, alignment against brute force."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import made

import eqdyn as eq

# --- paths ------------------------------------------------------------------------------------------------------------------


def walk(seed, num, dim=3, *, from_=None, losses=True):
    """A path of random checkpoints at random times, which begins where another ends."""
    rng = np.random.default_rng(seed)
    x = {"w": rng.standard_normal((num, dim)), "b": rng.standard_normal((num, 2, 2)).astype(np.float32)}
    if from_ is not None:
        for name, leaf in x.items():
            leaf[0] = from_.end[name]
    return eq.paths.path(x, rng.uniform(0, 1, num).cumsum(), rng.uniform(size=num) if losses else None)


def same_bits(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for one, other in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert one.dtype == other.dtype
        assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("told", list(itertools.product([True, False], repeat=3)))
def test_composition_is_associative_to_the_bit(seed, told):
    a = walk(seed, 4, losses=told[0])
    b = walk(seed + 10, 1 + seed, from_=a, losses=told[1])
    c = walk(seed + 20, 5, from_=b, losses=told[2])
    left, right = eq.paths.compose(eq.paths.compose(a, b), c), eq.paths.compose(a, eq.paths.compose(b, c))
    same_bits(left, right)
    same_bits(left, eq.paths.compose(a, b, c))
    assert left.num == a.num + b.num + c.num - 2
    assert math.isclose(left.length, a.length + b.length + c.length, rel_tol=1e-15)
    assert left.times.tobytes() == right.times.tobytes()


def test_times_that_are_added_would_not_be_associative():
    """The control: sums of floats are not, which is why durations are kept."""
    rng = np.random.default_rng(0)
    a, b, c = rng.uniform(size=(3, 100))
    assert np.any((a + b) + c != a + (b + c))


@pytest.mark.parametrize("losses", [True, False])
def test_staying_put_changes_nothing(losses):
    a = walk(0, 6, losses=losses)
    same_bits(eq.paths.compose(a, eq.paths.identity(a.end)), a)
    same_bits(eq.paths.compose(eq.paths.identity(a.start), a), a)
    same_bits(eq.paths.compose(a), a)


def test_a_run_is_a_path():
    keep = {"x": eq.observer.recorder(lambda frame: frame.x, stride=4)}
    rule = eq.rules.gradient(lambda x: jnp.sum(x["w"] ** 2))
    x0 = {"w": jnp.ones((2, 3, 2))}
    run = eq.simulate(rule, x0, eta=jnp.array([0.1, 0.2]), num_steps=10, lanes=2, observe=keep)
    for lane, eta in enumerate([0.1, 0.2]):
        found = eq.paths.from_run(run, "x", lane=lane)
        np.testing.assert_array_equal(found.times, [0, 4, 8, 10])
        np.testing.assert_allclose(found.params["w"][:, 0, 0], (1 - 2 * eta) ** found.times, rtol=1e-12)
        np.testing.assert_allclose(found.losses[:-1], np.sum(found.params["w"][:-1] ** 2, axis=(1, 2)), rtol=1e-12)
        assert np.isnan(found.losses[-1])
    parts = {"head": eq.observer.recorder(lambda frame: frame.x["w"][:1], stride=5)}
    run = eq.simulate(rule, {"w": jnp.ones((3, 2))}, eta=0.1, num_steps=10, observe=parts)
    assert eq.paths.from_run(run, "head").params.shape == (2, 1, 2)
    goes_on = eq.simulate(rule, run, num_steps=5, observe={"head": parts["head"]})
    assert eq.paths.from_run(goes_on, "head").times.tolist() == [0, 5, 10]


# --- reparametrisation ------------------------------------------------------------------------------------------------------


def line(x, losses=None, times=None):
    return eq.paths.path(np.asarray(x, float)[:, None], times, losses)


CASES = {
    "time": (line([0, 1, 5], times=[0, 3, 4]), {"by": "time", "num": 5}, [0, 1 / 3, 2 / 3, 1, 5]),
    "length, there and back": (line([0, 3, 1]), {"by": "length", "num": 6}, [0, 1, 2, 3, 2, 1]),
    "length, at rest in the middle": (line([0, 1, 1, 2]), {"by": "length", "num": 3}, [0, 1, 2]),
    "never moves: by time": (line([2, 2, 2]), {"by": "length", "num": 3}, [2, 2, 2]),
    "loss": (line([0, 1, 2, 3], [4, 2, 1, 0]), {"num": 5}, [0, 0.5, 1, 2, 3]),
    "loss, envelope": (line([0, 1, 2, 3], [4, 2, 3, 0]), {"num": 5}, [0, 0.5, 1, 2.5, 3]),
    "loss that rises at the end": (line([0, 1, 2, 3], [4, 2, 0, 1]), {"num": 3}, [0, 1, 3]),
    "loss never falls: by time": (line([0, 1, 2], [1, 1, 2], times=[0, 1, 4]), {"num": 5}, [0, 1, 4 / 3, 5 / 3, 2]),
    "levels": (line([0, 1, 2, 3], [4, 2, 1, 0.5]), {"levels": [5, 3, 2, 1, 0]}, [0, 0.5, 1, 2, 3]),
}


@pytest.mark.parametrize("name", CASES)
def test_reparametrised(name):
    run, options, expected = CASES[name]
    found = eq.paths.reparametrise(run, **options)
    np.testing.assert_allclose(found.params[:, 0], expected, atol=1e-12)
    assert math.isclose(found.length, 1.0)
    assert found.params.dtype == run.params.dtype


def test_given_checkpoints_come_out_to_the_bit_with_their_losses():
    run = walk(3, 11)
    even = run._replace(durations=np.full(10, 0.1))
    same_bits(eq.paths.reparametrise(even, "time", 11), even._replace(durations=np.full(10, 1 / 10)))


# --- alignment --------------------------------------------------------------------------------------------------------------


def draw(seed, num, dim=4):
    return jnp.asarray(np.random.default_rng(seed).standard_normal((num, dim)))


@pytest.mark.parametrize("num", range(1, 8))
@pytest.mark.parametrize("seed", [1, 2])
def test_matching_agrees_with_brute_force(num, seed):
    one, other = np.asarray(draw(seed, num)), np.asarray(draw(seed + 50, num))
    found = eq.paths.matching(one, other, None)
    every = [float(np.sum(one * other[list(perm)])) for perm in itertools.permutations(range(num))]
    assert math.isclose(found.agreement, max(every), rel_tol=1e-12, abs_tol=1e-12)
    assert math.isclose(np.sum(one * other[found.perms]), max(every), rel_tol=1e-12, abs_tol=1e-12)
    assert found.kind == "exact"


@pytest.mark.parametrize("num", [3, 6])
def test_matching_activations_agrees_with_brute_force(num):
    params = {"w": draw(0, 2, num)}
    group = eq.groups.from_axes(params, {"w": 1})
    one, other = np.asarray(draw(1, 9, num)), np.asarray(draw(2, 9, num))
    found = eq.paths.matching(params, params, group, activations=(one, other))
    least = min(float(np.sum((one - other[:, list(perm)]) ** 2)) for perm in itertools.permutations(range(num)))
    assert math.isclose(np.sum((one - other[:, found.perms]) ** 2), least, rel_tol=1e-12)


def two_groups(seed, num):
    rng = np.random.default_rng(seed)
    made_ = [{"w": rng.standard_normal((2, num)), "m": rng.standard_normal((num, num)), "o": rng.standard_normal((num, 1))} for _ in range(2)]
    one, other = (jax.tree.map(jnp.asarray, tree) for tree in made_)
    groups = {"first": eq.groups.from_axes(one, {"w": 1, "m": 0}), "second": eq.groups.from_axes(one, {"m": 1, "o": 0})}
    return one, other, groups


@pytest.mark.parametrize("seed", range(4))
def test_two_groups_by_turns_against_brute_force(seed):
    """The alternation is a lower bound of the best, never falls, and gets there from some start."""
    one, other, groups = two_groups(seed, 4)

    w, m, o = (np.asarray(other[name]) for name in "wmo")

    def agreement(p, q):
        p, q = list(p), list(q)
        return sum(float(np.sum(one[name] * leaf)) for name, leaf in (("w", w[:, p]), ("m", m[p][:, q]), ("o", o[q])))

    best = max(agreement(p, q) for p in itertools.permutations(range(4)) for q in itertools.permutations(range(4)))
    once, often = eq.paths.matching(one, other, groups), eq.paths.matching(one, other, groups, restarts=40)
    assert math.isclose(once.agreement, agreement(once.perms["first"], once.perms["second"]), rel_tol=1e-12)
    assert np.all(np.diff(once.history) > 0)
    assert once.agreement <= often.agreement <= best * (1 + 1e-12)
    assert math.isclose(often.agreement, best, rel_tol=1e-12)
    assert once.kind == often.kind == "lower"


def moved(group, tree, seed):
    return group.permute(tree, np.random.default_rng(seed).permutation(group.size))


SLOW = pytest.param("transformer with heads", marks=pytest.mark.slow)


@pytest.mark.parametrize("name", ["MLP of 2 hidden layers, biases", "convolution with pooling", "gated MLP", SLOW, "LSTM"])
def test_permuted_models_are_put_back(name):
    """Every kind of group: parts of an axis, heads, weights between the units. The permutation is recovered, and outputs stay."""
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        apply, params, batch, _, found = made(name)
        other = params
        for seed, group in enumerate(found):
            other = moved(group, other, seed)
        aligned, perms = eq.paths.align(params, other, found)
        assert len(perms) == len(found)
        assert float(jnp.max(jnp.abs(apply(aligned, batch) - apply(params, batch)))) < 1e-5
        history = eq.paths.matching(params, other, found, restarts=8)
        assert np.all(np.diff(history.history) > 0)
        if name != "LSTM":  # weights between its own units: an alternation that may stop early, and says so
            for one, two in zip(jax.tree.leaves(params), jax.tree.leaves(aligned), strict=True):
                np.testing.assert_array_equal(one, two)
        else:
            assert history.kind == "lower"


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_a_whole_run_is_permuted_alike(dtype):
    rng = np.random.default_rng(0)
    tree = {"w": rng.standard_normal((5, 3, 8)), "b": rng.standard_normal((5, 8)), "o": rng.standard_normal((5, 8, 2))}
    run = eq.paths.path(jax.tree.map(lambda leaf: leaf.astype(dtype), tree))
    group = eq.groups.from_axes(run.end, {"w": 1, "b": 0, "o": 0})
    perm = rng.permutation(8)
    other = eq.paths.permuted(run, group, perm)
    np.testing.assert_array_equal(other.params["w"], run.params["w"][:, :, perm])
    aligned, found = eq.paths.align(run, other, group)
    same_bits(aligned, run)
    np.testing.assert_array_equal(perm[found], np.arange(8))


CONTROLS = {"signed": lambda w: -w, "scaled": lambda w: 2 * w, "sorted, each weight by itself": lambda w: np.sort(w, axis=1)}


@pytest.mark.parametrize("name", CONTROLS)
def test_what_is_no_permuted_copy_is_not_matched_to_rounding(name):
    one = np.asarray(draw(0, 3, 8))
    group = eq.groups.from_axes(one, {"": 1})
    aligned, _ = eq.paths.align(one, CONTROLS[name](one)[:, np.random.default_rng(1).permutation(8)], group)
    assert np.max(np.abs(aligned - one)) > 0.1


# --- bad input --------------------------------------------------------------------------------------------------------------

X = {"w": np.ones((2, 3)), "o": np.ones(3)}
GROUP = eq.groups.from_axes(X, {"w": 1, "o": 0})
RUN = eq.paths.path({"w": np.ones((4, 2, 3)), "o": np.arange(12.0).reshape(4, 3)})
NAN = {"w": np.where(np.arange(24).reshape(4, 2, 3) == 13, np.nan, 1.0), "o": np.ones((4, 3))}
BAD = {
    "NaN checkpoints": (lambda: eq.paths.path(NAN), ValueError, "not finite in w"),
    "no stack": (lambda: eq.paths.path({"a": np.ones((3, 2)), "b": np.ones(2)}), ValueError, "first axes"),
    "whole numbers": (lambda: eq.paths.path(np.ones((3, 2), int)), TypeError, "real floating dtype"),
    "nothing": (lambda: eq.paths.path({}), TypeError, "without arrays"),
    "times that stay": (lambda: eq.paths.path(np.ones((3, 2)), [0, 1, 1]), ValueError, "1 after 1"),
    "NaN losses": (lambda: eq.paths.path(np.ones((3, 2)), losses=[1, np.nan, 0]), ValueError, "losses: got shape .3,., 1 of them"),
    "one checkpoint only": (lambda: eq.paths.reparametrise(eq.paths.identity(X), "time"), ValueError, "one checkpoint only"),
    "losses untold": (lambda: eq.paths.reparametrise(RUN), ValueError, "4 checkpoints without a loss"),
    "no such way": (lambda: eq.paths.reparametrise(RUN, "energy"), ValueError, "expected 'loss', 'length' or 'time'"),
    "rising levels": (lambda: eq.paths.reparametrise(RUN._replace(losses=np.ones(4)), levels=[0, 1]), ValueError, "do not rise"),
    "levels by time": (lambda: eq.paths.reparametrise(RUN, "time", levels=[1, 0]), ValueError, "expected by='loss'"),
    "no path": (lambda: eq.paths.reparametrise(X, "time"), TypeError, "expected a Path"),
    "apart": (lambda: eq.paths.compose(RUN, RUN), ValueError, "up to 9 from the last"),
    "composing others": (lambda: eq.paths.compose(RUN, eq.paths.path(np.ones((3, 2)))), ValueError, "different architectures"),
    "composing trees": (lambda: eq.paths.compose(X), TypeError, "expected one Path or more"),
    "other architecture": (
        lambda: eq.paths.align(X, {"w": np.ones((2, 4)), "o": np.ones(4)}, GROUP),
        ValueError,
        "different architectures .* at o, w",
    ),
    "other leaves": (lambda: eq.paths.align(X, {"w": np.ones((2, 3))}, GROUP), ValueError, "different architectures .* at o"),
    "no common group": (lambda: eq.paths.align(X, X, []), ValueError, "groups: got none"),
    "group of another": (lambda: eq.paths.align({"w": np.ones((2, 4))}, {"w": np.ones((2, 4))}, GROUP), ValueError, "tree"),
    "no group": (lambda: eq.paths.align(X, X, "w"), TypeError, "expected a Group"),
    "a path beside a tree": (lambda: eq.paths.align(RUN, X, GROUP), TypeError, "expected two paths, or two parameter trees"),
    "NaN": (lambda: eq.paths.align(X, {**X, "o": np.array([1, np.nan, 0])}, GROUP), ValueError, "not finite in o"),
    "activations": (lambda: eq.paths.align(X, X, GROUP, activations=(np.ones((5, 2)), np.ones((5, 3)))), ValueError, r"expected .n, 3. twice"),
    "one activation": (lambda: eq.paths.align(X, X, GROUP, activations=np.ones((5, 3))), ValueError, "two of them"),
    "permutations of others": (lambda: eq.paths.permuted(X, {"a": GROUP}, {"b": np.arange(3)}), ValueError, "expected one for each"),
    "no recorder": (lambda: eq.paths.from_run(eq.simulate(eq.rules.consensus(), jnp.ones((2, 1)), num_steps=1), "x"), ValueError, "a recorder"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_clear_error(name):
    call, kind, said = BAD[name]
    with pytest.raises(kind, match=said):
        call()


def test_float64_is_kept_whatever_x64_says():
    """Moving numbers about on the host is no computation in float64; a loss is."""
    with jax.enable_x64(False):
        run = eq.paths.path(np.random.default_rng(0).standard_normal((4, 5, 3)))
        group = eq.groups.from_axes({"": np.zeros((5, 3))}, {"": 0})._replace(leaves=(eq.groups.Leaf("", 0, (5, 3)),))
        other = eq.paths.permuted(run, group, [1, 0, 2, 4, 3])
        aligned, _ = eq.paths.align(run, other, group)
        same_bits(aligned, run)
        assert eq.paths.align(run.end, other.end, None).params.dtype == np.float64
        assert eq.paths.sheet(run, other).dtype == np.float64
        assert eq.paths.area(eq.paths.sheet(run, aligned)) == 0.0
        with pytest.raises(TypeError, match="jax_enable_x64 is off"):
            eq.paths.barrier(lambda x: jnp.sum(x), run, other)
