"""Bad input: one clear error each, that says what came, what was expected and what to write. Nothing is traced before."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tables import LOSS, WEIGHTED, batch, start, wells

import eqdyn as eq

X, KEY, DATA = start(jnp.float64), jax.random.key(0), batch(jnp.float64)
RULE, MEAN, HEAVY = eq.rules.gradient(LOSS), eq.rules.consensus(), eq.rules.heavy_ball(LOSS)
TREE = {"w": X, "b": jnp.zeros(3)}
SHAPE = eq.shapes.circle(10, key=KEY)


def run(x0=X, rule=MEAN, **options):
    return eq.simulate(rule, x0, **{"eta": 0.1, "num_steps": 2, **options})


def _with_x64_off():
    with jax.enable_x64(False):
        eq.simulate(MEAN, np.ones((2, 1), np.float32), eta=0.1, num_steps=1, data=np.ones(3))


def _shape_in_float64_with_x64_off():
    with jax.enable_x64(False):
        eq.shapes.torus(10, key=KEY, dtype=jnp.float64)


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
    "check: a function": (lambda: eq.check(lambda x: x, X, key=KEY), TypeError, "from_function"),
    "check: raw key": (lambda: eq.check(MEAN, X, key=jax.random.PRNGKey(0)), TypeError, "jax.random.key"),
    "check: keys": (lambda: eq.check(MEAN, X, key=jax.random.split(KEY, 2)), ValueError, "expected one key"),
    "check: eta NaN": (lambda: eq.check(MEAN, X, key=KEY, eta=float("nan")), ValueError, "eta: got nan"),
    "check: etas": (lambda: eq.check(MEAN, X, key=KEY, eta=jnp.ones(2)), ValueError, "eta: got shape"),
    "check: K infinite": (lambda: eq.check(MEAN, X, key=KEY, K=float("inf")), ValueError, "K: got inf"),
    "check: K text": (lambda: eq.check(MEAN, X, key=KEY, K="1"), TypeError, "K: got str"),
    "check: draws by halves": (lambda: eq.check(MEAN, X, key=KEY, num_draws=2.5), ValueError, "num_draws: got 2.5"),
    "check: rank 1": (lambda: eq.check(MEAN, X[0], key=KEY), ValueError, r"expected \(n, d\)"),
    "check: empty": (lambda: eq.check(MEAN, X[:0], key=KEY), ValueError, "at least 1 particle"),
    "check: integers": (lambda: eq.check(MEAN, jnp.arange(6).reshape(3, 2), key=KEY), TypeError, "real floating dtype"),
    "check: objects": (lambda: eq.check(MEAN, np.asarray([[None, 1.0]]), key=KEY), TypeError, "real floating dtype"),
    "check: infinite": (lambda: eq.check(MEAN, X.at[0, 0].set(jnp.inf), key=KEY), ValueError, "not finite"),
    "check: changes the dtype": (lambda: eq.check(eq.rules.from_function(lambda x: x.astype(jnp.float32)), X, key=KEY), TypeError, "got u of dtype float32"),
    "check: changes the structure": (lambda: eq.check(eq.rules.from_function(lambda x: [x]), X, key=KEY), TypeError, "got u of structure"),
    "check: a group of another tree": (lambda: eq.check(eq.rules.from_function(lambda p: p), {"w": X[:5]}, group=eq.groups.from_axes(TREE, {"w": 0}), key=KEY), ValueError, "expected"),
    "check: weights of zero": (lambda: eq.check(MEAN, eq.Weighted(X, jnp.zeros(len(X))), key=KEY), ValueError, "weights > 0"),
    "check: cannot be compared": (lambda: eq.check(eq.Rule(MEAN.init, eq.bind(MEAN.update, [1])), X, key=KEY), TypeError, "eq.bind"),
    "check: no groups": (lambda: eq.check(MEAN, X, group={}, key=KEY), ValueError, "empty dict"),
    "check: a K that vanishes": (lambda: eq.check(MEAN, X.astype(jnp.float32), K=1e-60, key=KEY), ValueError, "float32 can hold"),
    "check: a state of another rule": (lambda: eq.check(eq.rules.adam(LOSS), X, (), data=DATA, key=KEY), ValueError, r"as rule.init\(x\) gives"),
    "check: a state of other particles": (lambda: eq.check(HEAVY, X, HEAVY.init(X[:5]), data=DATA, key=KEY), ValueError, r"shapes \[\(5, 3\)\]"),
    "assert_lawful: one particle": (lambda: eq.assert_lawful(MEAN, X[:1]), ValueError, "at least 2"),
    "assert_lawful: no such option": (lambda: eq.assert_lawful(MEAN, X, etas=1.0), TypeError, "etas"),
    "step: a rule of another shape": (lambda: eq.step(eq.rules.from_function(lambda x: x[:1]), X, (), 0.1), ValueError, "that of x"),
    "step: raw key": (lambda: eq.step(MEAN, X, (), 0.1, key=jax.random.PRNGKey(0)), TypeError, "jax.random.key"),
    "step: eta True": (lambda: eq.step(MEAN, X, (), True), TypeError, "eta: got bool"),
    "lifted: a group of another tree": (lambda: eq.lifted(MEAN, X, (), group=eq.groups.from_axes(TREE, {"w": 0})), ValueError, "expected one at 'w'"),
    "pairs: NaN shape": (lambda: eq.measure.pair_constants(X, X[:, :1]), ValueError, "one shape"),
    "pairs: a list": (lambda: eq.measure.pair_constants([[0.0]], X), TypeError, "jnp.asarray"),
    "stretch: rank 1": (lambda: eq.measure.stretch(X[0], X[0]), ValueError, r"expected \(n, d\)"),
    "atoms: integers": (lambda: eq.measure.atoms(np.ones((2, 2), int)), TypeError, "real floating dtype"),
    "equivariance: eta zero": (lambda: eq.measure.equivariance(MEAN, X, jnp.arange(24), eta=0.0), ValueError, "eta"),
    "equivariance: a permutation of floats": (lambda: eq.measure.equivariance(MEAN, X, jnp.arange(24.0)), ValueError, "expected a permutation"),
    "equivariance: too few": (lambda: eq.measure.equivariance(MEAN, X, jnp.arange(5)), ValueError, "permutation of 0..23"),
    "equivariance: no steps": (lambda: eq.measure.equivariance(MEAN, X, jnp.arange(24), num_steps=0), ValueError, "num_steps"),
    "sharpness: raw key": (lambda: eq.measure.sharpness(MEAN, X, key=jax.random.PRNGKey(0)), TypeError, "jax.random.key"),
    # the gallery
    # rules: hyperparameters
    "rate NaN": (lambda: eq.rules.consensus(rate=float("nan")), ValueError, "rate: got nan; expected a finite number"),
    "rate text": (lambda: eq.rules.consensus(rate="fast"), TypeError, "rate: got str"),
    "beta: a rate for every particle": (lambda: eq.rules.heavy_ball(LOSS, beta=jnp.full(24, 0.9)), ValueError, r"shape \(24,\).*the same for all particles"),
    "beta: traced rates for every particle": (lambda: jax.jit(lambda b: eq.rules.nesterov(LOSS, beta=b).update(X, (), DATA).u)(jnp.ones(24)), ValueError, "the same for all particles"),
    "beta complex": (lambda: eq.rules.heavy_ball(LOSS, beta=0.9j), TypeError, "beta: got complex"),
    "beta True": (lambda: eq.rules.heavy_ball(LOSS, beta=True), TypeError, "beta: got bool"),
    "nesterov: beta of one": (lambda: eq.rules.nesterov(LOSS, beta=1.0), ValueError, r"beta: got 1.0; .*\[0, 1\)"),
    "nesterov: beta negative, in an array": (lambda: eq.rules.nesterov(LOSS, beta=jnp.asarray(-0.5)), ValueError, "beta: got -0.5"),
    "nesterov: loss of no arguments": (lambda: eq.rules.nesterov(lambda: 0.0), TypeError, "0 arguments"),
    "rmsprop: beta2 of two": (lambda: eq.rules.rmsprop(LOSS, beta2=2), ValueError, r"beta2: got 2.0; .*\[0, 1\)"),
    "rmsprop: eps zero": (lambda: eq.rules.rmsprop(LOSS, eps=0), ValueError, "eps: got 0.0; .*> 0"),
    "rmsprop: eps infinite": (lambda: eq.rules.rmsprop(LOSS, eps=float("inf")), ValueError, "eps: got inf"),
    "adam: beta1 None": (lambda: eq.rules.adam(LOSS, beta1=None), TypeError, "beta1: got NoneType"),
    "adamw: decay negative": (lambda: eq.rules.adamw(LOSS, decay=-0.1), ValueError, "decay: got -0.1; .*>= 0"),
    "adamw: decay a list": (lambda: eq.rules.adamw(LOSS, decay=[0.1]), TypeError, "decay: got list"),
    "lion: beta1 NaN": (lambda: eq.rules.lion(LOSS, beta1=float("nan")), ValueError, r"beta1: got nan; .*\[0, 1\)"),
    "lion: decay negative": (lambda: eq.rules.lion(LOSS, decay=-1), ValueError, "decay: got -1.0"),
    "sign descent: a number": (lambda: eq.rules.sign_descent(3.0), TypeError, "loss: got float; expected a function"),
    "sign descent: a tree with weights": (lambda: run(TREE, eq.rules.sign_descent(WEIGHTED, weighted=True), data=DATA), TypeError, "particles in rows"),
    "weight decay: of a loss": (lambda: eq.rules.weight_decay(LOSS, decay=0.1), TypeError, "rule: got function; expected an eq.Rule"),
    "weight decay: negative": (lambda: eq.rules.weight_decay(MEAN, decay=-0.1), ValueError, "decay: got -0.1"),
    "weight decay: around another shape": (lambda: run(rule=eq.rules.weight_decay(eq.rules.from_function(lambda x: x[:1]), decay=0.1)), ValueError, "that of x"),
    "swarm: attraction zero": (lambda: eq.rules.attraction_repulsion(attraction=0.0), ValueError, "attraction: got 0.0; .*> 0"),
    "swarm: repulsion negative": (lambda: eq.rules.attraction_repulsion(repulsion=-1.0), ValueError, "repulsion: got -1.0; .*>= 0"),
    "swarm: length zero": (lambda: eq.rules.attraction_repulsion(length=0.0), ValueError, "length: got 0.0"),
    "swarm: data": (lambda: run(rule=eq.rules.attraction_repulsion(), data=DATA), TypeError, "takes none"),
    "bounded confidence: radius zero": (lambda: eq.rules.hegselmann_krause(radius=0.0), ValueError, "radius: got 0.0; .*> 0"),
    "bounded confidence: data": (lambda: run(rule=eq.rules.hegselmann_krause(), data=DATA), TypeError, "hegselmann_krause takes none"),
    "attention: data": (lambda: run(rule=eq.rules.self_attention(), data=DATA), TypeError, "self_attention takes none"),
    "attention: beta infinite": (lambda: eq.rules.self_attention(beta=float("inf")), ValueError, "beta: got inf"),
    "attention: a matrix of another dimension": (lambda: run(rule=eq.rules.self_attention(value=np.eye(2))), ValueError, r"shape \(2, 2\) for particles of dimension 3"),
    "stein: a number": (lambda: eq.rules.stein(1.0), TypeError, "potential: got float; expected a function"),
    "stein: potential of two and data": (lambda: eq.rules.stein(lambda x, y, data: 0.0), TypeError, "potential: got a function of 3 arguments"),
    "stein: bandwidth negative": (lambda: eq.rules.stein(wells, bandwidth=-1.0), ValueError, "bandwidth: got -1.0; .*> 0"),
    "stein: data for a potential without": (lambda: run(rule=eq.rules.stein(wells), data=DATA), TypeError, "potential takes none"),
    "kuramoto: coupling NaN": (lambda: eq.rules.kuramoto(coupling=float("nan")), ValueError, "coupling: got nan"),
    "kuramoto: frequencies": (lambda: eq.rules.kuramoto(frequency=jnp.ones(24)), ValueError, "the same for all particles"),
    "kuramoto: a frequency in space": (lambda: run(rule=eq.rules.kuramoto(frequency=1.0)), ValueError, "dimension 3; expected 2, .*frequency=0.0"),
    "kuramoto: on a line": (lambda: run(X[:, :1], eq.rules.kuramoto()), ValueError, "dimension 1; expected 2 or more"),
    "flow: a number": (lambda: eq.rules.wasserstein_flow(1.0), TypeError, "energy: got float; expected a function"),
    "flow: an energy without mass": (lambda: eq.rules.wasserstein_flow(lambda x: 0.0), TypeError, "energy: got a function of 1 arguments; expected 2"),
    "flow: a tree": (lambda: run(TREE, eq.rules.wasserstein_flow(lambda x, mass: 0.0)), TypeError, "particles in rows"),
    "langevin: no key": (lambda: run(rule=eq.rules.langevin(wells)), ValueError, "key: got None; .*noise is drawn"),
    "langevin: no key for a field": (lambda: eq.step(eq.rules.langevin(wells, length=1.0), X, ()), ValueError, "key: got None"),
    "langevin: sigma negative": (lambda: eq.rules.langevin(wells, sigma=-1.0), ValueError, "sigma: got -1.0; .*>= 0"),
    "langevin: length zero": (lambda: eq.rules.langevin(wells, length=0.0), ValueError, "length: got 0.0; .*> 0"),
    "langevin: no waves": (lambda: eq.rules.langevin(wells, length=1.0, num_waves=0), ValueError, "num_waves: got 0"),
    "langevin: waves by halves": (lambda: eq.rules.langevin(wells, num_waves=1.5), ValueError, "num_waves: got 1.5"),
    "langevin: a length for a tree": (lambda: run({"w": X}, eq.rules.langevin(lambda p: jnp.sum(p["w"]), length=1.0), key=KEY), TypeError, "noise with a length; expected particles in rows"),
    "langevin: tracers in independent noise": (lambda: run(rule=eq.rules.langevin(WEIGHTED, weighted=True), data=DATA, key=KEY, tracers=X), ValueError, "rule without probe"),
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
    "betti: infinite": (lambda: eq.topology.betti(np.asarray([[0.0], [np.inf]])), ValueError, "not finite"),
    "betti: ragged": (lambda: eq.topology.betti([[1.0], [1.0, 2.0]]), ValueError, "ragged"),
    "betti: complex": (lambda: eq.topology.betti(np.ones((3, 2)) * 1j), ValueError, "real points"),
    "betti: no coordinates": (lambda: eq.topology.betti(np.ones((3, 0))), ValueError, "one a row"),
    "betti: scale True": (lambda: eq.topology.betti(X, scale=True), ValueError, "expected a number >= 0"),
    "betti: scale a table": (lambda: eq.topology.betti(X, scale=np.ones((2, 2))), ValueError, "scale"),
    "betti: degree -1": (lambda: eq.topology.betti(X, max_dim=-1), ValueError, "max_dim: got -1"),
    "betti: degree by halves": (lambda: eq.topology.betti(X, max_dim=1.5), ValueError, "max_dim"),
    "betti: engine unknown": (lambda: eq.topology.betti(X, engine="gpu"), ValueError, "engine: got 'gpu'"),
    "betti: more neighbours than others": (lambda: eq.topology.betti(X, scale=eq.topology.NeighbourScale(1.0, 99)), ValueError, "scale.k: got 99"),
    "betti: neighbour factor negative": (lambda: eq.topology.betti(X, scale=eq.topology.NeighbourScale(-1.0)), ValueError, "scale.factor"),
    "betti: local scale without either": (lambda: eq.topology.betti(X, scale=eq.topology.LocalScale(3)), ValueError, "a threshold or a quantile"),
    "betti: local scale with both": (lambda: eq.topology.betti(X, scale=eq.topology.LocalScale(3, 1.0, 0.5)), ValueError, "one of the two"),
    "betti: quantile 2": (lambda: eq.topology.betti(X, scale=eq.topology.LocalScale(3, quantile=2.0)), ValueError, "share of all pairs"),
    "betti: distances with NaN": (lambda: eq.topology.betti_of_distances(np.full((2, 2), np.nan), scale=1.0), ValueError, "NaN"),
    "betti: distances ragged": (lambda: eq.topology.betti_of_distances([[0.0], [1.0, 2.0]], scale=1.0), ValueError, "square matrix"),
    "betti: many scales along": (lambda: eq.topology.betti_along([X], scale=[1.0, 2.0]), ValueError, "got list of scales"),
    "persistence: NaN": (lambda: eq.topology.persistence(np.full((3, 2), np.nan)), ValueError, "not finite"),
    "persistence: degree 7": (lambda: eq.topology.persistence(X, max_dim=7), ValueError, "0 to 3"),
    "persistence: cut NaN": (lambda: eq.topology.persistence(X, longest=float("nan")), ValueError, "longest: got nan"),
    "persistence: cut negative": (lambda: eq.topology.persistence(X, longest=-1.0), ValueError, "longest: got -1.0"),
    "persistence: field of 6": (lambda: eq.topology.persistence(X, prime=6), ValueError, "prime: got 6"),
    "persistence: engine unknown": (lambda: eq.topology.persistence(X, engine="eirene"), ValueError, "'ripser' or 'gudhi'"),
    "persistence: no landmarks": (lambda: eq.topology.persistence(X, landmarks=0), ValueError, "landmarks: got 0"),
    "persistence: asymmetric": (lambda: eq.topology.persistence_of_distances(np.asarray([[0, 1], [2, 0.0]])), ValueError, "asymmetric"),
    "persistence: memory": (lambda: eq.topology.persistence(X, memory=1.0), MemoryError, "landmarks"),
    "distance: degree": (lambda: eq.topology.distance(*[eq.topology.persistence(X, max_dim=0)] * 2, 1), ValueError, "degree: got 1"),
    "distance: kind": (lambda: eq.topology.distance(*[eq.topology.persistence(X, max_dim=0)] * 2, 0, kind="far"), ValueError, "kind: got 'far'"),
    "distance: order": (lambda: eq.topology.distance(*[eq.topology.persistence(X, max_dim=0)] * 2, 0, order=0.5), ValueError, "order: got 0.5"),
    "certified: range upside down": (lambda: eq.topology.certified_bars(eq.topology.persistence(X, max_dim=0), 2.0, 1.0, 0), ValueError, "low <= high"),
    "certified: degree": (lambda: eq.topology.certified_bars(eq.topology.persistence(X, max_dim=0), 0.5, 1.0, 1), ValueError, "degree: got 1"),
    "ranks: scales upside down": (lambda: eq.topology.persistent_betti(X, 2.0, 1.0), ValueError, "birth <= death"),
    "change: other particles": (lambda: eq.topology.change(X, X[:5]), ValueError, "same particles twice"),
    "change: a local scale": (lambda: eq.topology.change(X, X, scale=eq.topology.LocalScale(3, quantile=0.1)), ValueError, "no theorem"),
    "change: throughout a word": (lambda: eq.topology.change(X, X, throughout="yes"), TypeError, "a ledger"),
    "mesh betti: other points": (lambda: eq.topology.mesh_betti(eq.shapes.mesh.circle(8), np.ones((3, 2))), ValueError, "one place for each"),
    "mesh betti: tolerance": (lambda: eq.topology.mesh_betti(eq.shapes.mesh.circle(8), tolerance=-1.0), ValueError, "tolerance"),
    "observe betti: scale": (lambda: eq.observe.betti(scale=-1.0), ValueError, "scale"),
    "observe betti: degree": (lambda: eq.observe.betti(max_dim=8), ValueError, "max_dim: got 8"),
    "shapes: no points": (lambda: eq.shapes.circle(0, key=KEY), ValueError, "num: got 0"),
    "shapes: half a point": (lambda: eq.shapes.disc(2.5, key=KEY), ValueError, "num: got 2.5"),
    "shapes: no key": (lambda: eq.shapes.figure_eight(10, key=None), ValueError, "points are drawn"),
    "shapes: raw key": (lambda: eq.shapes.torus(10, key=jax.random.PRNGKey(0)), TypeError, "typed key"),
    "shapes: a seed for a key": (lambda: eq.shapes.start_3d(10, key=0), TypeError, "jax.random.key"),
    "shapes: several keys": (lambda: eq.shapes.sphere(10, key=jax.random.split(KEY)), ValueError, r"keys of shape \(2,\)"),
    "shapes: sphere in the plane": (lambda: eq.shapes.sphere(10, key=KEY, dim=2), ValueError, "dim: got 2"),
    "shapes: MNIST in the plane": (lambda: eq.shapes.start_mnist(10, key=KEY, dim=2), ValueError, "dim: got 2"),
    "shapes: integers": (lambda: eq.shapes.circle(10, key=KEY, dtype=int), TypeError, "real floating dtype"),
    "shapes: complex": (lambda: eq.shapes.disc(10, key=KEY, dtype=complex), TypeError, "real floating dtype"),
    "shapes: no dtype": (lambda: eq.shapes.annulus(10, key=KEY, dtype=None), TypeError, "dtype: got None"),
    "shapes: dtype a word": (lambda: eq.shapes.annulus(10, key=KEY, dtype="big"), TypeError, "dtype: got big"),
    "shapes: float64 with x64 off": (_shape_in_float64_with_x64_off, TypeError, "jax_enable_x64"),
    "shapes: radius zero": (lambda: eq.shapes.circle(10, key=KEY, radius=0.0), ValueError, "radius: got 0.0"),
    "shapes: radius negative": (lambda: eq.shapes.disc(10, key=KEY, radius=-1), ValueError, "finite number > 0"),
    "shapes: radius NaN": (lambda: eq.shapes.sphere(10, key=KEY, radius=float("nan")), ValueError, "radius: got nan"),
    "shapes: radius infinite": (lambda: eq.shapes.torus(10, key=KEY, radius=float("inf")), ValueError, "radius: got inf"),
    "shapes: radius a word": (lambda: eq.shapes.circle(10, key=KEY, radius="1"), TypeError, "one finite number"),
    "shapes: two radii": (lambda: eq.shapes.circle(10, key=KEY, radius=np.ones(2)), TypeError, r"shape \(2,\)"),
    "shapes: radius traced": (lambda: jax.jit(lambda r: eq.shapes.circle(10, key=KEY, radius=r).points)(1.0), TypeError, "traced"),
    "shapes: circles overlap": (lambda: eq.shapes.two_circles(10, key=KEY, apart=2.0), ValueError, "expected 2 radius < apart"),
    "shapes: trefoil too thick": (lambda: eq.shapes.trefoil(10, key=KEY, tube=1.0), ValueError, "expected tube < radius"),
    "shapes: annulus inside out": (lambda: eq.shapes.annulus(10, key=KEY, inner=2.0), ValueError, "expected inner < outer"),
    "shapes: roll without pitch": (lambda: eq.shapes.swiss_roll(10, key=KEY, pitch=0.0), ValueError, "pitch"),
    "shapes: roll of negative width": (lambda: eq.shapes.swiss_roll(10, key=KEY, width=-3.0), ValueError, "width"),
    "shapes: torus without a hole": (lambda: eq.shapes.torus(10, key=KEY, tube=1.5), ValueError, "expected tube < radius"),
    "shapes: double torus in two pieces": (lambda: eq.shapes.double_torus(10, key=KEY, apart=3.0), ValueError, "genus 2"),
    "shapes: double torus that crosses": (lambda: eq.shapes.double_torus(10, key=KEY, apart=1.5), ValueError, "genus 2"),
    "shapes: handlebody in two pieces": (lambda: eq.shapes.handlebody(10, key=KEY, apart=2.8), ValueError, "two holes"),
    "shapes: handlebody of three holes": (lambda: eq.shapes.handlebody(10, key=KEY, apart=1.1), ValueError, "two holes"),
    "shapes: sphere x circle too thick": (lambda: eq.shapes.sphere_circle(10, key=KEY, tube=2.0), ValueError, "expected tube < radius"),
    "shapes: no clusters": (lambda: eq.shapes.clusters(10, key=KEY, count=0), ValueError, "count: got 0"),
    "shapes: clusters without spread": (lambda: eq.shapes.clusters(10, key=KEY, spread=0.0), ValueError, "spread"),
    "shapes: clusters in no space": (lambda: eq.shapes.clusters(10, key=KEY, dim=0), ValueError, "dim: got 0"),
    "shapes: even a number": (lambda: eq.shapes.torus(10, key=KEY, even=3), TypeError, "True or False"),
    "shapes: embedded too low": (lambda: eq.shapes.embed(SHAPE, 1, key=KEY), ValueError, "dim: got 1"),
    "shapes: embedded without a key": (lambda: eq.shapes.embed(SHAPE, 5, key=None), ValueError, "frame is drawn"),
    "shapes: points embedded": (lambda: eq.shapes.embed(SHAPE.points, 5, key=KEY), TypeError, "eq.shapes.Shape"),
    "shapes: jitter negative": (lambda: eq.shapes.jitter(SHAPE, -0.1, key=KEY), ValueError, "sigma"),
    "shapes: jitter without a key": (lambda: eq.shapes.jitter(SHAPE, 0.1, key=None), ValueError, "noise is drawn"),
    "shapes: points shaken": (lambda: eq.shapes.jitter(SHAPE.points, 0.1, key=KEY), TypeError, "eq.shapes.Shape"),
    "mesh: circle of two edges": (lambda: eq.shapes.mesh.circle(2), ValueError, "resolution: got 2"),
    "mesh: odd figure eight": (lambda: eq.shapes.mesh.figure_eight(7), ValueError, "write 8"),
    "mesh: trefoil too coarse": (lambda: eq.shapes.mesh.trefoil(6), ValueError, "resolution: got 6"),
    "mesh: disc of no rings": (lambda: eq.shapes.mesh.disc(0), ValueError, "resolution: got 0"),
    "mesh: double torus too coarse": (lambda: eq.shapes.mesh.double_torus(5), ValueError, "resolution: got 5"),
    "mesh: sphere of integers": (lambda: eq.shapes.mesh.sphere(2, dtype=int), TypeError, "real floating dtype"),
    "mesh: torus without a hole": (lambda: eq.shapes.mesh.torus(8, tube=1.0), ValueError, "expected tube < radius"),
    "mesh: annulus inside out": (lambda: eq.shapes.mesh.annulus(8, inner=1.0), ValueError, "expected inner < outer"),
    "critical: 16 bits": (lambda: eq.critical(MEAN, X.astype(jnp.bfloat16)), TypeError, "got particles in bfloat16"),
    "critical: no step sizes": (lambda: eq.critical(MEAN, X).stretch([]), ValueError, "etas: got .*at least one"),
    "observe: transverse of 16 bits": (
        lambda: run(X.astype(jnp.bfloat16), observe={"T": eq.observe.transverse(MEAN)}), TypeError, "got particles in bfloat16"
    ),
    "transverse: NaN without a probe": (
        lambda: eq.measure.transverse(eq.rules.from_function(lambda x: -x), X.at[0, 0].set(jnp.nan)), ValueError, "x: got 1 values that are not finite",
    ),
    "collapse: etas in words": (lambda: eq.measure.collapse(MEAN, X, jnp.ones((2, 1)), etas="a"), ValueError, "etas: got 'a'; expected finite"),
    "collapse: NaN as direction": (
        lambda: eq.measure.collapse(eq.rules.from_field(eq.field.mean_field(lambda x: 1.0, lambda x, s, b: b * x)), X, jnp.ones(2), direction=jnp.full(X.shape[1], jnp.nan)),
        ValueError, "direction: got .*nan.* expected .* finite",
    ),
    "teacher: raw key": (lambda: eq.data.teacher(key=jax.random.PRNGKey(0)), TypeError, "typed key"),
}  # fmt: skip


def test_there_are_150_cases():
    assert len(CASES) >= 150, len(CASES)


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
