"""Transfer as a pullback on planted tasks: maps that are found, numbers that are counted, what is frozen, and controls that must fail."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import sqrtm

from eqdyn.paths import Budget, transfer, transport
from eqdyn.paths import _transfer as room

# --- maps ---------------------------------------------------------------------------------------------------------------------

DTYPES = {np.float32: 2e-3, np.float64: 1e-8}  # the maps pass through roots of moments


def skewed(seed, num=400, dim=4, dtype=np.float64):
    """No symmetry, variances apart."""
    return (np.random.default_rng(seed).exponential(size=(num, dim)) * np.arange(1, dim + 1)).astype(dtype)


def matrix(seed, kind, dim=4):
    rng = np.random.default_rng(seed)
    g = rng.standard_normal((dim, dim))
    turn = np.linalg.qr(g)[0]
    return {"positive": turn @ np.diag(np.linspace(0.3, 3, dim)) @ turn.T, "turn": 0.7 * turn, "any": turn @ np.diag(np.linspace(0.5, 2, dim))}[kind]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("kind", "moved"), [("wasserstein", "positive"), ("gromov", "turn")])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_what_theory_promises_is_found_whatever_the_law(seed, kind, moved, dtype):
    z = skewed(seed, dtype=dtype)
    target = (z @ matrix(seed, moved) + 5).astype(dtype)
    found = transport(target, z, kind, ridge=0.0)
    assert found.weight.dtype == found(target).dtype == dtype
    np.testing.assert_allclose(found(target), z, atol=DTYPES[dtype] * np.abs(z).max())


@pytest.mark.parametrize(("kind", "moved"), [("wasserstein", "turn"), ("gromov", "positive"), ("wasserstein", "any"), ("gromov", "any")])
def test_and_what_it_does_not_promise_is_not(kind, moved):
    z = skewed(1)
    target = z @ matrix(1, moved)
    assert np.abs(transport(target, z, kind, ridge=0.0)(target) - z).max() > 0.1 * np.abs(z).max()


@pytest.mark.parametrize("kind", ["wasserstein", "gromov"])
@pytest.mark.parametrize("seed", [1, 2])
def test_moments_are_carried_over(kind, seed):
    z, target = skewed(seed), np.random.default_rng(seed).uniform(size=(300, 4)) @ matrix(seed, "any")
    moved = transport(target, z, kind, ridge=0.0)(target)
    np.testing.assert_allclose(moved.mean(0), z.mean(0), rtol=1e-9)
    np.testing.assert_allclose(np.cov(moved.T), np.cov(z.T) * 300 / 299 * 399 / 400, rtol=1e-7, atol=1e-9)


def test_the_optimal_map_by_another_route():
    z, target = skewed(1), skewed(2)[:, ::-1] + 1
    one, other = np.cov(target.T, bias=True), np.cov(z.T, bias=True)
    root = np.real(sqrtm(one))
    expected = np.linalg.inv(root) @ np.real(sqrtm(root @ other @ root)) @ np.linalg.inv(root)
    np.testing.assert_allclose(transport(target, z, ridge=0.0).weight, expected, rtol=1e-8, atol=1e-10)
    assert np.abs(transport(target, z, ridge=1.0).weight - expected).max() > 1e-3


def test_other_sizes_need_no_lift_but_a_gromov_map():
    z = skewed(1, dim=3)
    into = np.linalg.qr(np.random.default_rng(0).standard_normal((5, 5)))[0][:3]
    found = transport(z @ into - 2, z, "gromov")
    np.testing.assert_allclose(found(z @ into - 2), z, atol=1e-6)
    assert found.whiten.shape == (5, 3)
    lifted = transport(z @ into, z, lift=into.T, ridge=0.0)
    np.testing.assert_allclose(lifted(z @ into), z, atol=1e-7)
    np.testing.assert_array_equal(transport(z @ into, z, "plain", lift=into.T).weight, into.T)


def test_frames_are_standard_and_go_together():
    z = skewed(3)
    found = transport(z, z, "plain", num_axes=3)
    coordinates = (z - found.mean) @ found.whiten
    np.testing.assert_allclose(np.cov(coordinates.T, bias=True), np.eye(3), atol=1e-9)
    np.testing.assert_allclose(np.mean(coordinates**3, axis=0), found.skews[0], rtol=1e-9)
    assert (found.skews > 0).all()
    inverse = transport(-z, z, "gromov", num_axes=3)
    np.testing.assert_allclose((-z - inverse.mean) @ inverse.whiten, coordinates, atol=1e-9)


GOOD = np.random.default_rng(0).standard_normal((20, 3))
BAD_MAPS = {
    "kind": (ValueError, "kind: got 'entropic'", {"kind": "entropic"}),
    "one axis": (ValueError, r"target: got an array of shape \(20,\)", {"target": GOOD[:, 0]}),
    "whole": (TypeError, "source: got dtype int64", {"source": np.ones((20, 3), int)}),
    "dtypes": (TypeError, "expected one dtype", {"source": GOOD.astype(np.float32)}),
    "NaN": (ValueError, "target: got 1 values that are not finite", {"target": np.where(GOOD[0, 0] == GOOD, np.nan, GOOD)}),
    "equal": (ValueError, "target: got 20 equal inputs", {"target": np.ones((20, 3))}),
    "sizes": (ValueError, "lift: got None for 2 target and 3 source inputs", {"target": GOOD[:, :2]}),
    "lift": (ValueError, r"lift: got shape \(3, 2\)", {"lift": np.ones((3, 2))}),
    "ridge": (ValueError, "ridge: got -1.0", {"ridge": -1.0}),
    "axes": (ValueError, "num_axes: got 0", {"num_axes": 0}),
}


@pytest.mark.parametrize("name", BAD_MAPS)
def test_maps_refuse(name):
    error, message, changed = BAD_MAPS[name]
    with pytest.raises(error, match=message):
        transport(**{"target": GOOD, "source": GOOD, **changed})


# --- transfer -----------------------------------------------------------------------------------------------------------------

CLASSES, DIM, WIDTHS, SHORT = 3, 4, (12, 6), Budget(3, 8, (1e-2,))
SHIFT = np.array([[6.0, -6.0, 6.0, -6.0]])


def layer(params, z):
    return jax.nn.relu(z @ params["w"] + params["b"][None])


STAGES = (layer, layer)


def fresh(key, dim=DIM, dtype=np.float64):
    sizes = (dim, *WIDTHS)
    keys = jax.random.split(key, len(WIDTHS))
    return [
        {"w": jax.random.normal(k, (a, b), dtype) * (2 / a) ** 0.5, "b": jnp.full(b, 0.1, dtype)}
        for a, b, k in zip(sizes[:-1], sizes[1:], keys, strict=True)
    ]


@functools.cache
def blobs(seed, num, spread=0.7):
    """Classes that lie apart, without symmetry."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, num)
    centres = np.array([[0, 4, 0, 1], [5, 0, 0, 0], [0, 0, 3, 7]], float)
    return centres[labels] + spread * rng.exponential(size=(num, DIM)), labels


@functools.cache
def source(dtype=np.float64):
    """Trained on blobs: features, head, accuracy."""
    train, test = ((z.astype(dtype), y) for z, y in (blobs(1, 600), blobs(2, 400)))
    begin = functools.partial(fresh, dtype=dtype)
    key = jax.random.key(0)
    found = transfer("scratch", STAGES, begin(key), train, test, fresh=begin, budget=Budget(300, 64, (1e-2,)), key=key)
    return found.params["trained"]["features"], found.params["trained"]["head"], float(found.accuracy)


def task(seed, kind, dtype=np.float64):
    """Other examples, moved by an affine map, and these before they were moved."""
    b = matrix(seed, kind)
    (train, y), (test, y_test) = blobs(seed + 10, 500), blobs(seed + 20, 400)
    return ((train @ b + SHIFT).astype(dtype), y), ((test @ b + SHIFT).astype(dtype), y_test), train.astype(dtype), test.astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, pytest.param(np.float64, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("kind", "moved"), [("wasserstein", "positive"), ("gromov", "turn")])
def test_the_start_alone_has_the_accuracy_of_the_source_where_theory_says_so(kind, moved, dtype):
    features, head, _ = source(dtype)
    train, test, plain_train, plain_test = task(1, moved, dtype)
    start = transport(train[0], plain_train, kind, ridge=0.0)
    options = {"head": head, "budget": Budget(0, 1, (1e-3,)), "key": jax.random.key(0)}
    found = transfer("probe", STAGES, features, train, test, start=start, **options)
    own = transfer("probe", STAGES, features, (plain_train, train[1]), (plain_test, test[1]), **options)
    without = transfer("probe", STAGES, features, train, test, **options)
    assert float(found.accuracy) == float(own.accuracy) > 0.97
    assert float(without.accuracy) < 0.8
    rounding = 1e4 * np.finfo(dtype).eps
    np.testing.assert_allclose(found.apply(found.params, test[0]), own.apply(own.params, plain_test), rtol=rounding, atol=100 * rounding)


@pytest.mark.parametrize(("form", "start"), [("affine", None), ("low rank", None), ("principal", "plain"), ("principal", "gromov")])
@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_trained_map_recovers_the_source_behind_any_affine_image(form, start, seed):
    features, head, accuracy = source()
    train, test, plain, _ = task(seed, "any")
    chosen = start and transport(train[0], plain, start)
    options = {"head": head, "start": chosen, "form": form, "num_params": 200, "budget": Budget(600, 64, (3e-2,)), "key": jax.random.key(seed)}
    found = transfer("pullback", STAGES, features, train, test, **options)
    assert float(found.accuracy) > 0.99 * accuracy
    assert found.curve[-50:].mean() < 0.3 * found.curve[:5].mean()


# method, form, num_params -> what is trained, by hand; the head has 6 * 3 + 3 = 21 numbers
COUNTS = {
    "affine": ("pullback", "affine", None, 21 + 5 * 4),
    "affine, with a limit": ("pullback", "affine", 41, 21 + 5 * 4),
    "low rank 1": ("pullback", "low rank", 38, 21 + 9),
    "low rank 2": ("pullback", "low rank", 39, 21 + 18),
    "low rank, full": ("pullback", "low rank", 10_000, 21 + 36),
    "two axes": ("pullback", "principal", 32, 21 + 6),
    "three axes": ("pullback", "principal", 33, 21 + 12),
    "all axes": ("pullback", "principal", 10_000, 21 + 20),
    "head alone": ("probe", "principal", None, 21),
    "head and too little": ("probe", "principal", 30, 21),
    "one unit beside": ("probe", "principal", 31, 21 + 10),
    "many beside": ("probe", "principal", 1000, 21 + 970),
    "a unit where it fits": ("adapter", "principal", 34, 21 + 13),
    "a unit in front": ("adapter", "principal", 46, 21 + 25),
    "a unit each": ("adapter", "principal", 59, 21 + 25 + 13),
    "many": ("adapter", "principal", 1000, 21 + 26 * 25 + 25 * 13),
    "all": ("fine-tuning", "principal", None, 21 + 4 * 12 + 12 + 12 * 6 + 6),
    "anew": ("scratch", "principal", None, 21 + 4 * 12 + 12 + 12 * 6 + 6),
}


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] if k % 3 else []) for k, name in enumerate(COUNTS)])
def test_numbers_are_counted_and_what_is_frozen_keeps_its_bits(name):
    method, form, num_params, expected = COUNTS[name]
    features, head, _ = source()
    train, test, plain, _ = task(1, "turn")
    start = transport(train[0], plain, "gromov")
    options = {"start": start, "form": form, "head": head, "fresh": fresh, "budget": SHORT, "key": jax.random.key(0), "num_params": num_params}
    found = transfer(method, STAGES, features, train, test, **options)
    assert found.num_trained == sum(leaf.size for leaf in jax.tree.leaves(found.params["trained"])) == expected
    assert num_params is None or found.num_trained <= num_params
    assert found.num_source == sum(leaf.size for leaf in jax.tree.leaves((features, head)))
    assert found.share == found.num_trained / found.num_source
    frozen = found.params["frozen"]
    same = jax.tree.map(lambda a, b: np.asarray(a).tobytes() == np.asarray(b).tobytes(), (frozen["features"], frozen["head"]), (features, head))
    assert all(jax.tree.leaves(same))
    np.testing.assert_array_equal(frozen["start"]["weight"], start.weight)
    if method == "fine-tuning":
        moved = jax.tree.map(lambda a, b: bool((a != b).any()), found.params["trained"]["features"], features)
        assert all(jax.tree.leaves(moved))


LEFT_OVER = {"pullback": 20, "probe": 10, "adapter": 13}  # less than the next unit costs


@pytest.mark.parametrize("num_params", [pytest.param(60, marks=pytest.mark.slow), 200])
def test_budgets_are_equal_to_a_unit(num_params):
    features, head, _ = source()
    train, test, plain, _ = task(1, "turn")
    for method, most in LEFT_OVER.items():
        if method == "pullback" and num_params > 60:
            continue  # all axes there are
        start = transport(train[0], plain, "gromov")
        found = transfer(method, STAGES, features, train, test, num_params=num_params, start=start, head=head, budget=SHORT, key=jax.random.key(0))
        assert num_params - most < found.num_trained <= num_params


def test_all_methods_share_start_labels_and_batches():
    """They compute one function before the first step, so the loss on the first batch tells the draws."""
    features, head, _ = source()
    train, test, plain, _ = task(1, "any")
    options = {"start": transport(train[0], plain), "head": head, "num_params": 60, "num_labels": 30, "budget": SHORT, "key": jax.random.key(5)}
    found = {name: transfer(name, STAGES, features, train, test, **options) for name in ("pullback", "probe", "adapter", "fine-tuning")}
    firsts = [float(one.curve[0]) for one in found.values()]
    np.testing.assert_allclose(firsts, firsts[0], rtol=1e-12)
    assert len({float(one.curve[2]) for one in found.values()}) == len(found)
    other = transfer("probe", STAGES, features, train, test, **{**options, "key": jax.random.key(6)})
    assert float(other.curve[0]) != firsts[0]
    assert {one.curve.shape for one in found.values()} == {(SHORT.num_steps,)}


def test_many_runs_are_the_runs_one_by_one():
    features, head, _ = source()
    train, test, plain, _ = task(1, "any")
    keys = jax.random.split(jax.random.key(3), 2)
    sources = [jax.tree.map(lambda leaf, k=k: leaf * (1 + 0.1 * k), (features, head)) for k in range(2)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *sources)
    options = {"num_params": 60, "num_labels": 50, "start": transport(train[0], plain), "budget": Budget(20, 16, (1e-2, 3e-2)), "validation": train}
    for method in ("pullback", "fine-tuning"):
        together = transfer(method, STAGES, stacked[0], train, test, head=stacked[1], key=keys, **options)
        assert together.accuracy.shape == together.step_size.shape == (2,)
        for k in range(2):
            alone = transfer(method, STAGES, sources[k][0], train, test, head=sources[k][1], key=keys[k], **options)
            np.testing.assert_allclose(together.curve[k], alone.curve, rtol=1e-9)
            np.testing.assert_allclose([together.accuracy[k], together.step_size[k]], [alone.accuracy, alone.step_size])
            got = jax.tree.map(lambda leaf, k=k: leaf[k], together.params["trained"])
            jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-7, atol=1e-9), got, alone.params["trained"])


def test_what_is_given_back_can_be_applied_and_has_that_accuracy():
    features, _, _ = source()
    train, test, plain, _ = task(2, "any")
    start = transport(train[0], plain)
    for method in ("pullback", "probe", "adapter", "fine-tuning", "scratch"):
        budget = Budget(40, 16, (1e-2,))
        found = transfer(method, STAGES, features, train, test, num_params=60, start=start, fresh=fresh, budget=budget, key=jax.random.key(0))
        out = found.apply(found.params, jnp.asarray(test[0]))
        assert out.shape == (400, CLASSES)
        assert np.mean(np.asarray(jnp.argmax(out, axis=1)) == test[1]) == float(found.accuracy)
        assert found.seconds > 0


def test_the_validation_split_chooses_the_step():
    features, head, _ = source()
    train, test, plain, _ = task(1, "turn")
    start = transport(train[0], plain, "gromov")
    held = (train[0][:100], train[1][:100])
    elsewhere = (head[0][:, jnp.array([1, 2, 0])], head[1][jnp.array([1, 2, 0])])  # right about nothing
    options = {"start": start, "validation": held, "key": jax.random.key(0), "head": elsewhere}
    found = transfer("probe", STAGES, features, train, test, budget=Budget(60, 32, (1e-7, 3e-2)), **options)
    assert found.validation.shape == (2,)
    assert float(found.step_size) == 3e-2
    assert found.validation[1] > found.validation[0]
    wrong = (held[0], (held[1] - 1) % CLASSES)  # a split on which to learn is to lose
    fooled = transfer("probe", STAGES, features, train, test, budget=Budget(60, 32, (1e-7, 3e-2)), **{**options, "validation": wrong})
    assert float(fooled.step_size) == 1e-7
    equal = transfer("probe", STAGES, features, train, test, budget=Budget(0, 32, (1e-3, 1e-2)), **options)
    assert float(equal.step_size) == 1e-3
    assert np.isnan(transfer("probe", STAGES, features, train, test, start=start, key=jax.random.key(0), budget=SHORT).validation).all()


def test_nothing_compiles_again():
    features, head, _ = source()
    train, test, plain, _ = task(1, "turn")
    room._program.cache_clear()
    for seed in (1, 2):
        start = transport(train[0], plain * seed, "gromov")
        budget = Budget(5, 8, (1e-2 * seed,))
        transfer("pullback", STAGES, features, train, test, num_params=60, start=start, head=head, budget=budget, key=jax.random.key(seed))
    assert room._program.cache_info().misses == 2  # training and scoring


# --- controls -----------------------------------------------------------------------------------------------------------------


def test_a_source_that_was_never_trained_is_worth_less():
    """Few labels, few numbers: what helps is what the source knows."""
    features, _, _ = source()
    train, test, plain, _ = task(1, "turn")
    start = transport(train[0], plain, "gromov")
    keys = jax.random.split(jax.random.key(0), 4)
    options = {"num_labels": 10, "start": start, "budget": Budget(60, 16, (1e-2,)), "key": keys}
    known = transfer("probe", STAGES, jax.tree.map(lambda leaf: jnp.stack([leaf] * 4), features), train, test, **options)
    unknown = transfer("probe", STAGES, jax.vmap(fresh)(jax.random.split(jax.random.key(7), 4)), train, test, **options)
    assert known.accuracy.min() > 0.95
    assert unknown.accuracy.mean() < known.accuracy.mean() - 0.1


@pytest.mark.parametrize(
    "method", ["pullback", *(pytest.param(name, marks=pytest.mark.slow) for name in ("probe", "adapter", "fine-tuning", "scratch"))]
)
def test_labels_dealt_at_random_give_chance(method):
    features, _, _ = source()
    (z, y), _, plain, _ = task(1, "turn")
    rng = np.random.default_rng(0)
    test = blobs(50, 3000)[0], rng.integers(0, CLASSES, 3000)
    train = z, rng.permutation(y)
    start = transport(z, plain, "gromov")
    found = transfer(
        method, STAGES, features, train, test, num_params=60, start=start, fresh=fresh, budget=Budget(50, 32, (1e-2,)), key=jax.random.key(0)
    )
    assert abs(float(found.accuracy) - 1 / CLASSES) < 4 * np.sqrt(1 / CLASSES * (1 - 1 / CLASSES) / 3000)


# --- what is refused ----------------------------------------------------------------------------------------------------------


def wide(key):
    return fresh(key, DIM + 1)


BAD = {
    "method": (ValueError, "method: got 'lora'", {"method": "lora"}),
    "form": (ValueError, "form: got 'cubic'", {"form": "cubic"}),
    "no key": (ValueError, "key: got None", {"key": None}),
    "raw key": (TypeError, "expected a typed key", {"key": np.zeros(2, np.uint32)}),
    "stages": (ValueError, "got 1 stages and 2 trees", {"features": (layer,)}),
    "NaN": (ValueError, "source_params: got 48 values that are not finite", {"scale": np.nan}),
    "several keys": (ValueError, r"source_params: got leaves without an axis \(2,\)", {"key": jax.random.split(jax.random.key(0), 2)}),
    "size": (ValueError, r"features: got an error on inputs \(1, 3\)", {"cut": 3}),
    "labels": (TypeError, r"train\[1\]: got dtype float64", {"labels": np.zeros(500)}),
    "negative": (ValueError, "least -1", {"labels": np.full(500, -1)}),
    "fewer labels": (ValueError, r"train\[1\]: got shape \(3,\)", {"labels": np.zeros(3, int)}),
    "pair": (ValueError, "test: got ndarray", {"test": np.zeros(3)}),
    "another class": (ValueError, "labels below 3", {"test": (np.zeros((2, DIM)), np.array([0, 3]))}),
    "too many labels": (ValueError, "num_labels: got 501", {"num_labels": 501}),
    "head alone": (ValueError, "num_params: got 20; expected enough for the head, 21,", {"num_params": 20, "method": "probe"}),
    "no unit": (ValueError, "at least one unit of the pullback", {"num_params": 22}),
    "no number": (ValueError, "num_params: got None; .* one unit of the adapter", {"num_params": None, "method": "adapter"}),
    "affine": (ValueError, "num_params: got 40", {"num_params": 40, "form": "affine"}),
    "no frame": (ValueError, "form: got 'principal' without a start", {"start": None}),
    "a matrix": (TypeError, "start: got ndarray", {"start": np.eye(DIM)}),
    "head": (ValueError, r"head: got \(\(5, 3\), \(3,\)\)", {"head": (np.zeros((5, 3)), np.zeros(3))}),
    "nothing fresh": (ValueError, "fresh: got None", {"method": "scratch"}),
    "fresh": (ValueError, "fresh: got parameters that the stages cannot use", {"method": "scratch", "fresh": wide}),
    "steps": (ValueError, "budget.step_sizes: got .* and no validation split", {"budget": Budget(3, 8, (1e-3, 1e-2))}),
    "step": (ValueError, "budget.step_sizes: got -1.0", {"budget": Budget(3, 8, (-1.0,))}),
    "batch": (ValueError, "budget.batch_size: got 0", {"budget": Budget(3, 0)}),
}


@pytest.mark.parametrize("name", BAD)
def test_transfer_refuses(name):
    error, message, changed = BAD[name]
    changed = dict(changed)
    features, _, _ = source()
    if "scale" in changed:
        features = [{**features[0], "w": features[0]["w"] * changed.pop("scale")}, features[1]]
    (z, y), test, plain, _ = task(1, "turn")
    cut = changed.pop("cut", DIM)
    start = transport(z, plain, "gromov") if cut == DIM else None
    train, test = (z[:, :cut], changed.pop("labels", y)), (test[0][:, :cut], test[1])
    options = {"num_params": 60, "start": start, "form": "principal", "budget": SHORT, "key": jax.random.key(0)}
    arguments = {"method": "pullback", "features": STAGES, "source_params": features, "train": train, "test": test, **options, **changed}
    with pytest.raises(error, match=message):
        transfer(**arguments)
