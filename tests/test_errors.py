"""Bad input: one clear error each, that says what came, what was expected and what to write. Nothing is traced before."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tables import LOSS, WEIGHTED, batch, start

import eqdyn as eq

X, KEY, DATA = start(jnp.float64), jax.random.key(0), batch(jnp.float64)
RULE, MEAN = eq.rules.gradient(LOSS), eq.rules.consensus()
TREE = {"w": X, "b": jnp.zeros(3)}


def run(x0=X, rule=MEAN, **options):
    return eq.simulate(rule, x0, **{"eta": 0.1, "num_steps": 2, **options})


def _with_x64_off():
    with jax.enable_x64(False):
        eq.simulate(MEAN, np.ones((2, 1), np.float32), eta=0.1, num_steps=1, data=np.ones(3))


CASES = {
    # configurations
    "x: rank 1": (lambda: run(jnp.ones(5)), ValueError, r"expected \(n, d\).*reshape"),
    "x: rank 3 without lanes": (lambda: run(jnp.ones((2, 3, 4))), ValueError, r"got an array of shape \(2, 3, 4\)"),
    "x: no particle": (lambda: run(jnp.ones((0, 3))), ValueError, "at least 1 particle"),
    "x: no coordinate": (lambda: run(jnp.ones((3, 0))), ValueError, "dimension 1 or more"),
    "x: integers": (lambda: run(np.ones((3, 2), int)), TypeError, "real floating dtype"),
    "x: complex": (lambda: run(np.ones((3, 2), complex)), TypeError, "real floating dtype"),
    "x: objects": (lambda: run(np.asarray([[object()]])), TypeError, "real floating dtype"),
    "x: a list": (lambda: run([[1.0, 2.0]]), TypeError, "jnp.asarray"),
    "x: None": (lambda: run(None), TypeError, "expected an array"),
    "x: NaN": (lambda: run(X.at[0, 0].set(jnp.nan)), ValueError, "1 values that are not finite"),
    "x: infinite in a tree": (lambda: run({"w": X, "b": jnp.full(3, jnp.inf)}, eq.rules.from_function(lambda p: p)), ValueError, "in b"),
    "x: tree with integers": (lambda: run({"w": jnp.arange(3)}, eq.rules.from_function(lambda p: p)), TypeError, r"x\[w\]: got dtype int"),
    "weights: shape": (lambda: run(eq.Weighted(X, jnp.ones(3))), ValueError, "one weight a particle"),
    "weights: zero": (lambda: run(eq.Weighted(X, jnp.zeros(len(X)))), ValueError, "weights > 0"),
    # rules
    "rule: a function": (lambda: run(rule=lambda x: x), TypeError, "from_function"),
    "rule: other shape": (lambda: run(rule=eq.rules.from_function(lambda x: x[:1])), ValueError, "that of x"),
    "rule: other dtype": (lambda: run(rule=eq.rules.from_function(lambda x: x.astype(jnp.float32))), TypeError, "got u of dtype float32"),
    "rule: other structure": (lambda: run(rule=eq.rules.from_function(lambda x: (x, x))), TypeError, "structure"),
    "rule: cannot be compared": (lambda: run(rule=eq.Rule(MEAN.init, eq.bind(MEAN.update, [1]))), TypeError, "eq.bind"),
    "loss: no arguments": (lambda: eq.rules.gradient(lambda: 0.0), TypeError, "0 arguments"),
    "loss: three arguments": (lambda: eq.rules.gradient(lambda x, a, b: 0.0), TypeError, "3 arguments"),
    "loss: weighted with one": (lambda: eq.rules.gradient(lambda x: 0.0, weighted=True), TypeError, "weighted=True"),
    "loss: a number": (lambda: eq.rules.gradient(3.0), TypeError, "expected a function"),
    "function: a number": (lambda: eq.rules.from_function(3.0), TypeError, "expected a function"),
    "data for a loss without": (lambda: run(rule=eq.rules.gradient(lambda x: jnp.sum(x)), data=DATA), TypeError, "takes none"),
    "beta of one": (lambda: eq.rules.heavy_ball(LOSS, beta=1.0), ValueError, r"\[0, 1\)"),
    "beta2 negative": (lambda: eq.rules.adam(LOSS, beta2=-0.1), ValueError, "beta2"),
    "eps zero": (lambda: eq.rules.adam(LOSS, eps=0.0), ValueError, "eps"),
    "attention: not square": (lambda: eq.rules.self_attention(query=np.ones((2, 3))), ValueError, r"matrix \(d, d\)"),
    "optax: a number": (lambda: eq.rules.from_optax(0.1, LOSS), TypeError, "optax.GradientTransformation"),
    # step sizes
    "eta: zero": (lambda: run(eta=0.0), ValueError, "> 0"),
    "eta: negative": (lambda: run(eta=-1.0), ValueError, "negate the update"),
    "eta: NaN": (lambda: run(eta=float("nan")), ValueError, "finite"),
    "eta: infinite": (lambda: eq.step(MEAN, X, (), float("inf")), ValueError, "finite"),
    "eta: text": (lambda: run(eta="0.1"), TypeError, "got str"),
    "eta: True": (lambda: run(eta=True), TypeError, "got bool"),
    "eta: None": (lambda: run(eta=None), TypeError, "got NoneType"),
    "eta: array without lanes": (lambda: run(eta=jnp.ones(3)), ValueError, "write lanes=3"),
    "eta: other number of lanes": (lambda: run(eta=jnp.ones(3), lanes=2), ValueError, "one number a lane"),
    "eta: a schedule that turns negative": (lambda: run(eta=lambda t: 0.1 - 0.2 * t), ValueError, "schedule gave"),
    # counts, keys, lanes
    "num_steps: negative": (lambda: run(num_steps=-1), ValueError, "whole number"),
    "num_steps: a float": (lambda: run(num_steps=2.0), ValueError, "whole number"),
    "chunk: zero": (lambda: run(chunk=0), ValueError, "chunk"),
    "every: zero": (lambda: run(every=0), ValueError, "every"),
    "lanes: zero": (lambda: run(lanes=0), ValueError, "lanes"),
    "lanes: x of another number": (lambda: run(jnp.ones((3, 4, 2)), lanes=2), ValueError, r"\(lanes, n, d\)"),
    "lanes: ambiguous leaf": (lambda: run({"w": jnp.ones((3, 3)), "b": jnp.ones((2, 3))}, eq.rules.from_function(lambda p: p), lanes=3), ValueError, "give all leaves"),
    "key: raw": (lambda: run(key=jax.random.PRNGKey(0)), TypeError, "jax.random.key"),
    "key: a number": (lambda: run(key=0), TypeError, "jax.random.key"),
    "key: several without lanes": (lambda: run(key=jax.random.split(KEY, 3)), ValueError, "keys of shape"),
    "key: missing for batches": (lambda: run(rule=RULE, data=eq.Batches(DATA, 8)), ValueError, "batches are drawn"),
    # batches, observers, tracers
    "batches: other lengths": (lambda: eq.Batches((np.ones(3), np.ones(4)), 2), ValueError, "same number of rows"),
    "batches: too large": (lambda: eq.Batches(np.ones(3, np.float32), 4), ValueError, "at most 3"),
    "batches: none": (lambda: eq.Batches(np.ones(3, np.float32), 0), ValueError, "batch_size"),
    "batches: a number": (lambda: eq.Batches(3.0, 1), ValueError, "one example a row"),
    "observe: a function": (lambda: run(observe={"atoms": lambda frame: 0}), TypeError, r"eq.observe.atoms\(\)"),
    "observe: stride zero": (lambda: run(observe={"a": eq.observe.atoms(stride=0)}), ValueError, "stride"),
    "tracers: no probe": (lambda: run(rule=RULE, data=DATA, tracers=X), ValueError, "weighted=True"),
    "tracers: other dimension": (lambda: run(tracers=X[:, :2]), ValueError, "one tracer a row"),
    "tracers: other dtype": (lambda: run(tracers=X.astype(jnp.float32)), ValueError, "float64"),
    "tracers: NaN": (lambda: run(tracers=X * jnp.nan), ValueError, "not finite"),
    "tracers: a probe of another shape": (lambda: run(rule=eq.rules.consensus()._replace(probe=lambda y, *_, **__: eq.Update(y[:1], ())), tracers=X), ValueError, "probe: got u of shape"),
    "run: another rule": (lambda: run(run(), rule=eq.rules.heavy_ball(lambda x: jnp.sum(x**2))), ValueError, "whose state is"),
    "run: a rule without probe": (lambda: run(run(tracers=X), rule=eq.rules.from_function(lambda x: x)), ValueError, "without probe"),
    "weights: other number of lanes": (lambda: run(eq.Weighted(jnp.ones((3, 4, 2)), jnp.ones(4)), lanes=2), ValueError, r"\(lanes, ...\)"),
    "weighted: a tree": (lambda: run(TREE, eq.rules.gradient(lambda x, w: 0.0, weighted=True)), TypeError, "particles in rows"),
    "data: float64 in disguise": (lambda: _with_x64_off(), TypeError, "jax_enable_x64"),
    "run: other lanes": (lambda: run(run(), lanes=2), ValueError, "run that goes on"),
    "run: new tracers": (lambda: run(run(), tracers=X), ValueError, "has its own"),
    # groups
    "group: missing for a tree": (lambda: eq.check(eq.rules.from_function(lambda p: p), TREE, key=KEY), TypeError, "from_axes"),
    "group: no such leaf": (lambda: eq.groups.from_axes(TREE, {"v": 0}), ValueError, "expected one of"),
    "group: no such axis": (lambda: eq.groups.from_axes(TREE, {"w": 2}), ValueError, "expected an axis"),
    "group: other lengths": (lambda: eq.groups.from_axes(TREE, {"w": 0, "b": 0}), ValueError, "one length"),
    "group: empty": (lambda: eq.groups.from_axes(TREE, {}), ValueError, "one length"),
    "group: of another tree": (lambda: eq.groups.from_axes(TREE, {"w": 0}).particles({"w": X[:3]}), ValueError, "expected"),
    "group: leaf gone": (lambda: eq.groups.from_axes(TREE, {"w": 0}).particles({"v": X}), ValueError, "expected one at 'w'"),
    "group: particles of other shape": (lambda: eq.groups.from_axes(TREE, {"w": 0}).with_particles(TREE, X[:3]), ValueError, "of this group"),
    "group: a number": (lambda: eq.check(MEAN, X, group=3, key=KEY), TypeError, "from_axes"),
    # check and measures
    "check: one particle": (lambda: eq.check(MEAN, X[:1], key=KEY), ValueError, "at least 2"),
    "check: no key": (lambda: eq.check(MEAN, X, key=None), ValueError, "configurations are drawn"),
    "check: no draws": (lambda: eq.check(MEAN, X, key=KEY, num_draws=0), ValueError, "num_draws"),
    "check: K negative": (lambda: eq.check(MEAN, X, key=KEY, K=-1.0), ValueError, "K: got -1.0"),
    "check: eta zero": (lambda: eq.check(MEAN, X, key=KEY, eta=0.0), ValueError, "eta"),
    "check: changes the shape": (lambda: eq.check(eq.rules.from_function(lambda x: x[1:]), X, key=KEY), ValueError, "that of x"),
    "check: NaN": (lambda: eq.check(MEAN, X * jnp.nan, key=KEY), ValueError, "not finite"),
    "equivariance: no permutation": (lambda: eq.measure.equivariance(MEAN, X, jnp.zeros(len(X), int)), ValueError, "permutation of 0..23"),
    "equivariance: two groups": (lambda: eq.measure.equivariance(eq.rules.from_function(lambda p: p), TREE, jnp.arange(24), group={
        "a": eq.groups.from_axes(TREE, {"w": 0}), "b": eq.groups.from_axes(TREE, {"b": 0})}), ValueError, "expected one"),
    "pairs: one particle": (lambda: eq.measure.pair_constants(X[:1], X[:1]), ValueError, "at least 2"),
    "pairs: other shape": (lambda: eq.measure.pair_constants(X, X[:3]), ValueError, "one shape"),
    "pairs: other dtype": (lambda: eq.measure.stretch(X, X.astype(jnp.float32)), ValueError, "one shape and dtype"),
    "pairs: integers": (lambda: eq.measure.pair_terms(np.ones((3, 2), int), X), TypeError, "floating"),
    "pairs: a table too large": (lambda: eq.measure.pair_terms(jnp.zeros((20_000, 1)), jnp.zeros((20_000, 1))), MemoryError, "pair_constants"),
    "sharpness: no steps": (lambda: eq.measure.sharpness(MEAN, X, num_iters=0), ValueError, "num_iters"),
    "merges: other shape": (lambda: eq.measure.merges(X, X[:2]), ValueError, "one shape"),
    # topology and shapes
    "betti: rank 1": (lambda: eq.topology.betti(np.ones(3)), ValueError, "real points"),
    "betti: none": (lambda: eq.topology.betti(np.ones((0, 2))), ValueError, "n >= 1"),
    "betti: NaN": (lambda: eq.topology.betti(np.full((3, 2), np.nan)), ValueError, "not finite"),
    "betti: text": (lambda: eq.topology.betti(np.asarray([["a"]])), ValueError, "real points"),
    "betti: scale negative": (lambda: eq.topology.betti(X, scale=-1.0), ValueError, "scale"),
    "betti: scale NaN": (lambda: eq.topology.betti(X, scale=float("nan")), ValueError, "scale"),
    "betti: scale unknown": (lambda: eq.topology.betti(X, scale="radius/4"), ValueError, "diameter/4"),
    "betti: degree 9": (lambda: eq.topology.betti(X, max_dim=9), ValueError, "0 to 3"),
    "betti: field of 4": (lambda: eq.topology.betti(X, prime=4), ValueError, "prime"),
    "betti: asymmetric": (lambda: eq.topology.betti_of_distances(np.asarray([[0, 1], [2, 0.0]]), scale=1.0), ValueError, "asymmetric"),
    "betti: negative": (lambda: eq.topology.betti_of_distances(np.asarray([[0, -1], [-1, 0.0]]), scale=1.0), ValueError, "negative"),
    "betti: diagonal": (lambda: eq.topology.betti_of_distances(np.eye(2), scale=1.0), ValueError, "diagonal"),
    "betti: not square": (lambda: eq.topology.betti_of_distances(np.ones((2, 3)), scale=1.0), ValueError, "square"),
    "shapes: no points": (lambda: eq.shapes.circle(0, key=KEY), ValueError, "num"),
    "shapes: no key": (lambda: eq.shapes.figure_eight(10, key=None), ValueError, "points are drawn"),
    "shapes: sphere in the plane": (lambda: eq.shapes.sphere(10, key=KEY, dim=2), ValueError, "dim"),
    "teacher: raw key": (lambda: eq.data.teacher(key=jax.random.PRNGKey(0)), TypeError, "typed key"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_one_clear_error(name):
    call, kind, pattern = CASES[name]
    with pytest.raises(kind, match=pattern) as caught:
        call()
    assert "expected" in str(caught.value) or kind is MemoryError, str(caught.value)


def test_float64_with_x64_off_is_an_error():
    with jax.enable_x64(False), pytest.raises(TypeError, match="jax_enable_x64"):
        run(np.ones((3, 2)))


def test_traced_step_sizes_pass():
    y = jax.jit(lambda eta: eq.step(MEAN, X, (), eta)[0])(jnp.asarray(0.5))
    assert y.shape == X.shape


@pytest.mark.parametrize("layout", ["fortran", "strided", "reversed", "read only"])
def test_memory_layout_does_not_matter(layout):
    x = np.asarray(X)
    other = {"fortran": np.asfortranarray(x), "strided": np.repeat(x, 2, axis=0)[::2], "reversed": x[::-1].copy()[::-1], "read only": x.copy()}[
        layout
    ]
    other.setflags(write=layout != "read only")
    np.testing.assert_array_equal(run(other).x, run().x)


def test_weighted_probe_survives_a_single_tracer():
    run_one = run(rule=eq.rules.gradient(WEIGHTED, weighted=True), data=DATA, tracers=X[:1])
    np.testing.assert_allclose(run_one.tracers, run_one.x[:1], atol=1e-13)
