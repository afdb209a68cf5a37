"""The guard: no step merges, whatever the updates; measured against NumPy in float64 over all pairs."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.spatial.distance import pdist

import eqdyn as eq
from eqdyn._guard import guard
from eqdyn.networks import two_layer

SEEDS, NUM, C = 42, 24, 0.9


def truth(x, u, constant):
    """q of every seed in at least float64, over all pairs, by differences."""
    x, u = (np.asarray(a, np.longdouble) for a in (x, u))
    i, j = np.triu_indices(x.shape[-2], 1)
    dx, du = (a[..., i, :] - a[..., j, :] for a in (x, u))
    d2 = np.sum(dx**2, -1)
    with np.errstate(all="ignore"):
        rate = np.sqrt(np.sum(du**2, -1) / d2) if constant == "pair" else -np.sum(dx * du, -1) / d2
    return np.max(np.where(d2 > 0, rate, -np.inf), -1)


def systems(dtype, dim):
    """Steps of all sizes; every third with pairs 1e-5 apart, every second with a drift that is common to all, which rounding feels."""
    of_x, of_u, of_drift, of_near = jax.random.split(jax.random.key(dim), 4)
    x, u = (jax.random.normal(key, (SEEDS, NUM, dim), dtype) for key in (of_x, of_u))
    seed = jnp.arange(SEEDS)[:, None, None]
    near = x.at[:, NUM // 2 :].set(x[:, : NUM // 2] + jnp.asarray(1e-5, dtype) * jax.random.normal(of_near, (SEEDS, NUM // 2, dim), dtype))
    x = jnp.where(seed % 3 == 0, near, x)
    u = u * 10.0 ** (seed % 7 - 3).astype(dtype)
    return x, jnp.where(seed % 2 == 0, u + 1000 * jax.random.normal(of_drift, (SEEDS, 1, dim), dtype), u)


@pytest.mark.parametrize(("dtype", "dim"), [(jnp.float32, 2), pytest.param(jnp.float64, 2, marks=pytest.mark.slow), (jnp.float32, 40)])
def test_what_is_returned_is_below_c(dtype, dim):
    x, u = systems(dtype, dim)
    both = {constant: guard(C, constant=constant) for constant in ("pair", "one_sided")}
    found = jax.jit(jax.vmap(lambda x, u: {name: tx.update(u, tx.init(x), x) for name, tx in both.items()}))(x, u)
    eps, num_exact = float(jnp.finfo(dtype).eps), 0
    for constant, (new, state) in found.items():
        before, after = truth(x, u, constant), truth(x, new, constant)
        assert np.all(after <= C)  # strictly: not one rounding more
        scale = np.asarray(state.scale)
        through = scale == 1
        assert 5 < through.sum() < SEEDS - 5
        assert np.array_equal(np.asarray(new)[through], np.asarray(u)[through])
        assert np.all(before[~through] > C * (1 - 2 * (dim + 8) * eps))
        # no smaller than it has to be: c / q, or half of it where rounding stands in the way
        used = scale[~through] * before[~through] / C
        assert np.all(used > 0.49)
        assert np.mean(used > 0.99) > 0.7
        num_exact += int(np.sum(used < 0.99))
        assert np.all(np.frexp(scale[~through][used < 0.99])[0] == 0.5)
        assert np.allclose(new, scale[:, None, None] * np.asarray(u), rtol=2 * eps, atol=0)  # the direction stays
        assert np.allclose(state.q, before, rtol=0, atol=(dim + 8) * eps * truth(x, u, "pair"))
        # the pair stretch of these numbers; in float64 x + du is off by 1000 eps over a distance of 1e-5
        low = min(np.min(pdist(a + b) / pdist(a)) for a, b in zip(np.asarray(x, float), np.asarray(new, float), strict=True))
        assert low >= 1 - C - 1e-7
    if dtype == jnp.float32 and dim == 2:
        # a guard that does not measure again is above c, and not by a rounding of c
        before = truth(x, u, "pair")
        naive = truth(x, (jnp.asarray(C, dtype) / jnp.asarray(before, dtype))[:, None, None] * u, "pair")
        assert np.max(naive[before > C]) > C * (1 + 4 * (dim + 8) * eps)
        assert num_exact > 0


def test_turning_and_parting_are_not_held_back_by_the_one_sided_constant():
    x = jax.random.normal(jax.random.key(0), (9, 2))
    steps = jnp.stack([3 * jnp.stack([-x[:, 1], x[:, 0]], 1), 5 * x, -5 * x])
    both = [guard(constant=constant) for constant in ("pair", "one_sided")]
    pair, one_sided = jax.jit(jax.vmap(lambda u: [tx.update(u, tx.init(x), x)[1].scale for tx in both]))(steps)
    assert np.allclose(pair, [0.3, 0.18, 0.18], rtol=1e-9)
    assert np.allclose(one_sided, [1, 1, 0.18], rtol=1e-9)


TEARS = jnp.zeros((4, 2)).at[0, 0].set(1.0)
STEPS = {  # particles 0 and 1 coincide: the step, and whether it is made
    "twins that stay": (jnp.ones((4, 2)), True),
    "nothing moves": (jnp.zeros((4, 2)), True),
    "twins torn apart": (TEARS, False),
    "NaN": (TEARS * jnp.nan, False),
    "infinite": (jnp.full((4, 2), jnp.inf), False),
}


def test_what_cannot_be_certified_is_not_made():
    x = jnp.array([[1.0, 1.0], [1.0, 1.0], [2.0, 0.0], [0.0, 5.0]])
    tx = guard()
    run = jax.jit(jax.vmap(lambda u: tx.update(u, tx.init(x), x)))
    new, state = run(jnp.stack([u for u, _ in STEPS.values()]))
    for k, (name, (u, made)) in enumerate(STEPS.items()):
        assert np.all(np.isfinite(new[k])), name
        assert all(np.all(np.isfinite(leaf[k])) for leaf in state), name
        assert int(state.num_refused[k]) == int(state.num_scaled[k]) == int(state.lost[k]) == (not made), name
        assert np.array_equal(new[k], u if made else np.zeros((4, 2))), name
        assert float(state.q[k]) == (0.0 if made else float(jnp.finfo(x.dtype).max)), name


def test_a_run_outlives_a_step_that_is_not_finite():
    """And says so; without the guard it ends there."""
    start = jnp.array([[1.0], [2.0], [4.0]])
    loss = lambda x, data: jnp.sum(x**2) / 2 + jnp.where(data > 0, jnp.nan, 0) * jnp.sum(x)  # noqa: E731
    data = eq.Batches(jnp.asarray([[0.0], [0.0], [1.0]]), 1)
    broken = lambda x, data: loss(x, data[0, 0])  # noqa: E731
    plain, held = (eq.rules.from_optax(tx, broken) for tx in (optax.sgd(0.1), optax.chain(optax.sgd(0.1), guard())))
    key = jax.random.key(0)
    assert eq.simulate(plain, start, num_steps=6, data=data, key=key).status == "nonfinite"
    run = eq.simulate(held, start, num_steps=6, data=data, key=key)
    assert run.status == "ok"
    assert int(run.state[-1].num_refused) == 2
    assert float(run.state[-1].lost) == 2.0
    assert np.allclose(run.x, 0.9**4 * start, rtol=1e-12)


def test_decay_is_in_the_step():
    """Decay that would gather all at the origin in one step gathers them by 1 - c; a little of it passes."""
    x, decays = jax.random.normal(jax.random.key(0), (9, 3)), jnp.array([1.0, 0.5, 3.0])

    def step(decay):
        tx = optax.chain(optax.sgd(1.0), optax.add_decayed_weights(-decay), guard())
        return optax.apply_updates(x, tx.update(jnp.zeros_like(x), tx.init(x), x)[0])

    ratios = [pdist(end) / pdist(x) for end in np.asarray(jax.jit(jax.vmap(step))(decays))]
    assert np.allclose(ratios, np.array([[0.1], [0.5], [0.1]]), rtol=1e-9)


# --- real networks ---------------------------------------------------------------------------------------------------------


def network(key, dtype):
    a, b, c = jax.random.split(key, 3)
    draw = lambda key, *shape: jax.random.normal(key, shape, dtype)  # noqa: E731
    return {"one": draw(a, 3, 12), "bias": jnp.zeros(12, dtype), "two": draw(b, 12, 10), "out": draw(c, 10, 2), "gain": jnp.ones(2, dtype)}


def network_loss(p, batch):
    h = jnp.tanh(batch @ p["one"] + p["bias"][None])
    return jnp.mean((jnp.tanh(h @ p["two"]) @ p["out"] * p["gain"][None] - 1) ** 2)


def test_two_layers_in_a_loop_of_ones_own():
    params = network(jax.random.key(0), jnp.float32)
    layers = {
        "first": eq.groups.from_axes(params, {"one": 1, "bias": 0, "two": 0}),
        "second": eq.groups.from_axes(params, {"two": 1, "out": 0}),
    }
    batch = jax.random.normal(jax.random.key(1), (16, 3), jnp.float32)
    traced = 0

    def steps(tx, params):
        nonlocal traced
        traced += 1

        def body(carry, _):
            params, state = carry
            with jax.numpy_dtype_promotion("standard"):
                updates, state = tx.update(jax.grad(network_loss)(params, batch), state, params)
                return (optax.apply_updates(params, updates), state), (params, updates, state[-1])

        return jax.lax.scan(body, (params, tx.init(params)), None, length=30)[1]

    loop = jax.jit(steps, static_argnums=0)
    make = lambda group: optax.chain(optax.adam(0.5), guard(0.2, group=group))  # noqa: E731
    seen, updates, state = loop(make(layers), params)
    q = {
        name: np.array([truth(*(layer.particles(jax.tree.map(lambda a, t=t: a[t], tree)) for tree in (seen, updates)), "pair") for t in range(30)])
        for name, layer in layers.items()
    }
    worst = np.maximum(q["first"], q["second"])
    assert np.all(worst <= 0.2)
    scaled = np.asarray(state.scale) < 1
    assert 3 < scaled.sum() == int(state.num_scaled[-1])
    assert np.allclose(worst[scaled], 0.2, rtol=1e-2)
    assert {name for name in q for t in np.flatnonzero(scaled) if q[name][t] == worst[t]} == set(layers)  # now one, now the other decides
    assert float(state.lost[-1]) == pytest.approx(float(np.sum(1 - np.asarray(state.scale))), rel=1e-5)
    # what lies outside the groups is scaled by the same factor: Adam's first step moves all by its rate
    assert np.allclose(np.abs(updates["gain"][0]), 0.5 * float(state.scale[0]), rtol=1e-4)
    assert np.allclose(np.abs(updates["one"][0]), 0.5 * float(state.scale[0]), rtol=1e-4)
    assert traced == 1


def test_narrow_leaves_are_measured_in_float32():
    """The updates are rounded to bfloat16, and measured as they are then."""
    params = {"kernel": jax.random.normal(jax.random.key(0), (3, 16), jnp.bfloat16), "out": jnp.ones((16, 1), jnp.bfloat16)}
    group = eq.groups.from_axes(params, {"kernel": 1, "out": 0})
    updates = jax.tree.map(lambda leaf: 7 * leaf, params)
    tx = guard(group=group)
    new, state = jax.jit(tx.update)(updates, tx.init(params), params)
    assert new["kernel"].dtype == jnp.bfloat16
    assert state.scale.dtype == jnp.float32
    assert 0.4 < truth(*(group.particles(tree).astype(jnp.float32) for tree in (params, new)), "pair") <= 0.9


@pytest.mark.parametrize("made", [True, False])
def test_leaves_of_integers_pass(made):
    params = {"kernel": jnp.array([[1.0, 3.0]]), "count": jnp.array([3, 4])}
    updates = {"kernel": jnp.array([[2.0, -2.0 if made else jnp.nan]]), "count": jnp.array([7, 0])}
    tx = guard(0.5, group=eq.groups.from_axes(params, {"kernel": 1}))
    new, state = jax.jit(tx.update)(updates, tx.init(params), params)
    assert np.allclose(new["kernel"], updates["kernel"] / 4 if made else 0, rtol=1e-12)
    assert new["count"].tolist() == [7, 0]
    assert new["count"].dtype == updates["count"].dtype
    assert int(state.num_refused) == (not made)


# --- in a simulation -------------------------------------------------------------------------------------------------------


def test_two_guards_of_equal_arguments_are_one_program():
    group = eq.groups.from_axes({"kernel": jnp.ones((3, 5))}, {"kernel": 1})
    made = [lambda: guard(), lambda: guard(0.5), lambda: guard(constant="one_sided"), lambda: guard(group=group), lambda: guard(group={"a": group})]
    loss = lambda x: jnp.sum(x**2)  # noqa: E731
    rules = [[eq.rules.from_optax(optax.chain(optax.sgd(0.5), make()), loss) for make in made] for _ in range(2)]
    assert rules[0] == rules[1]
    assert len(set(rules[0] + rules[1])) == len(made)
    counts = []
    for pair in rules:
        before = eq.compile_count()
        run = eq.simulate(pair[0], jnp.array([[1.0], [2.0]]), num_steps=3)
        counts.append(eq.compile_count() - before)
    assert counts == [1, 0]
    # the loss would gather all in one step; the guard lets distances shrink to a tenth
    assert float(run.x[1, 0] - run.x[0, 0]) == pytest.approx(1e-3, rel=1e-9)


def start_2d(seed, num=1024):
    of_data, of_start, of_run = jax.random.split(jax.random.key(seed), 3)
    return eq.data.teacher(key=of_data), eq.shapes.start_2d(num, key=of_start).points, of_run


def trained(tx, seed, num_steps, observe):
    split, x0, key = start_2d(seed)
    rule = eq.rules.from_optax(tx, two_layer.regression)
    return split, x0, eq.simulate(rule, x0, num_steps=num_steps, data=eq.Batches(split.train, 128), key=key, observe=observe)


def _particles(frame):
    return frame.x, frame.u


def test_the_run_that_tears_does_not_under_the_guard():
    """The paper's 2-D network at its large step: the loss spikes, and the curve is torn, within the first steps."""
    watch = {"steps": eq.observer.recorder(_particles)}
    plain, held = (trained(tx, 0, 16, watch)[-1] for tx in (optax.sgd(3e-3), optax.chain(optax.sgd(3e-3), guard())))
    seen = [tuple(np.asarray(a, float) for a in run.observed["steps"].values) for run in (plain, held)]
    torn, q = (np.array([np.max(pdist(u) / pdist(x)) for x, u in zip(*run, strict=True)]) for run in seen)
    first = int(np.argmax(torn > 1))
    assert 0 < first < 16
    assert torn.max() > 2
    assert np.max(q) <= 0.9
    assert np.max(q) > 0.89
    assert len(np.unique(held.x, axis=0)) == 1024
    state = held.state[-1]
    assert 0 < int(state.num_scaled) < 4
    assert int(state.num_refused) == 0
    # until the first step that would tear both are one run
    assert np.allclose(held.loss[: first + 1], plain.loss[: first + 1], rtol=1e-4)
    closest = [np.min(pdist(np.asarray(run.x, float)) / pdist(seen[0][0][0])) for run in (plain, held)]
    assert closest[1] > 3 * closest[0]


@pytest.mark.slow
def test_the_guarded_run_learns_no_worse_in_equal_time():
    """20 epochs: the guard holds back one or two steps of 540, and the loss is a small part of that of the torn network."""
    for seed in range(3):
        _, _, plain = trained(optax.sgd(3e-3), seed, 540, {})
        split, _, held = trained(optax.chain(optax.sgd(3e-3), guard()), seed, 540, {"pairs": eq.observe.pair_constants()})
        assert held.observed["pairs"].values.q.max() <= 0.9 * (1 + 1e-6)  # a float32 reading
        assert float(held.state[-1].lost) < 1
        losses = [float(two_layer.regression(run.x, split.train)) for run in (held, plain)]
        assert losses[0] < 0.3 * losses[1], (seed, losses)


# --- mistakes --------------------------------------------------------------------------------------------------------------

TREE = {"kernel": jnp.ones((3, 5)), "other": jnp.ones(2)}
MISTAKES = {
    "c of 1": (lambda: guard(1.0), ValueError, r"c: got 1.0; expected a finite number in \(0, 1\)"),
    "c of 0": (lambda: guard(0), ValueError, r"c: got 0.0; expected"),
    "c by name": (lambda: guard("pair"), TypeError, r"c: got str; expected"),
    "constant": (lambda: guard(constant="K"), ValueError, r"constant: got 'K'; expected one of \['pair', 'one_sided'\]"),
    "no params": (lambda: guard().update(jnp.ones((3, 1)), guard().init(jnp.ones((3, 1)))), ValueError, r"params: got None; expected the parameters"),
    "a tree without group": (lambda: guard().init(TREE), TypeError, r"group: got None for x of type dict"),
    "no groups": (lambda: guard(group={}).init(TREE), ValueError, r"group: got an empty dict"),
    "a path for a group": (lambda: guard(group={"a": "kernel"}).init(TREE), TypeError, r"group\['a'\]: got str; expected a Group"),
    "another tree": (
        lambda: guard(group=eq.groups.from_axes(TREE, {"kernel": 1})).init({"kernel": jnp.ones((3, 6))}),
        ValueError,
        r"tree\[kernel\]: got shape",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name):
    call, error, words = MISTAKES[name]
    with pytest.raises(error, match=words):
        call()
