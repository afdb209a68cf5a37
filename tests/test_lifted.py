"""Optimizers on lifted particles: determinants and folds against dense Jacobians and closed forms, constants in the best norm, crossings."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import eqdyn as eq
from eqdyn.measure.lifted_constants import _moved
from eqdyn.networks import two_layer

F64, F32 = jnp.float64, jnp.float32
FIELD = two_layer.regression_field()
BETA, BETA1, BETA2, DECAY, ETA = 0.75, 0.9, 0.99, 0.5, 0.3
N, D, SEEDS = 16, 3, 3


step = jax.jit(eq.step, static_argnums=0)
update = jax.jit(lambda rule, *args: rule.update(*args), static_argnums=0)


def normal(seed, *shape, dtype=F64):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


@jax.jit
def after_training(x, data):
    """Each start `(seeds, n, d)` after six steps of Adam, with its moments."""

    def one(x, data):
        rule = eq.rules.adam(FIELD, beta1=BETA1, beta2=BETA2)
        return jax.lax.scan(lambda carry, _: (eq.step(rule, *carry, 1e-2, data)[:2], None), (x, rule.init(x)), length=6)[0]

    return jax.vmap(one)(x, data)


@functools.cache
def seasoned():
    """Neurons in mid-training, their moments, and the batch; leaves `(seeds, ...)`."""
    z = normal(4, SEEDS, 10, D - 1)
    data = (z, 20 * np.sin(3 * z[..., 0]))  # labels far off, so that the swap curvature is large
    return jax.tree.map(np.asarray, (*after_training(normal(3, SEEDS, N, D), data), data))


def with_moments(rule, x, adam):
    """The state of any rule here, with moments that a training has left."""
    state = jax.eval_shape(rule.init, x)
    if isinstance(state, tuple) and state and not hasattr(state, "_fields"):
        return (state[0]._replace(count=adam.t, ema=adam.m), *state[1:])  # optax's
    found = {"t": adam.t, "m": adam.m, "v": adam.v, "momentum": adam.m}
    return state._replace(**{name: found[name] for name in state._fields}) if state else state


# --- the determinants ---------------------------------------------------------------------------------------------------


def gradient_of(x, data):
    """The gradient of every neuron `(n, d)` and its derivative with the field held fixed `(n, d, d)`, from the formula."""
    z, y = data
    w, a = x[:, :-1], x[:, -1]
    s = 1 / (1 + np.exp(-w @ z.T))
    s1, s2 = s * (1 - s), s * (1 - s) * (1 - 2 * s)
    r = 2 * (a @ s - y) / len(y)
    g = np.column_stack([(a[:, None] * s1 * r) @ z, s @ r])
    G = np.zeros((len(x), x.shape[1], x.shape[1]))
    G[:, :-1, :-1] = np.einsum("nb,bi,bj->nij", a[:, None] * s2 * r, z, z)
    G[:, :-1, -1] = G[:, -1, :-1] = (s1 * r) @ z
    return g, G


def det(matrix):
    return np.linalg.det(np.eye(D) + matrix)


def new_root(g, state):
    return np.sqrt(BETA2 * state["v"] + (1 - BETA2) * g**2)


def late(g, G, state):
    """What the delayed Adam's fold comes from: `det = (beta1 beta2)^d det(I + eta * late)`."""
    t, m, v = int(state["t"]), state["m"], state["v"]
    correct1, correct2 = 1 - BETA1**t, 1 - BETA2**t
    root = np.sqrt(v / correct2)
    onto_m = 1 / (correct1 * (root + 1e-8))
    onto_v = m / correct1 / (2 * correct2 * root * (root + 1e-8) ** 2)
    return (onto_m * (1 - BETA1) / BETA1)[..., None] * G - (onto_v * 2 * (1 - BETA2) / BETA2 * g)[..., None] * G


def at_full_decay(g, G, state):
    return np.broadcast_to(-DECAY * np.eye(D), G.shape)


# the rule; the matrix P (g, G, state) -> (n, d, d) of det J = factor^d det(I + eta P), None where it vanishes and so the map never folds;
# the factor. Decay folds at eta = 1/decay only, where it takes all to the origin.
NEVER = None
TABLE = {
    "gradient": (lambda: eq.rules.gradient(FIELD), lambda g, G, s: -G, 1.0),
    "heavy ball": (lambda: eq.rules.heavy_ball(FIELD, beta=BETA), NEVER, BETA),
    "heavy ball, damped": (
        lambda: eq.rules.from_optax(optax.chain(optax.ema(BETA, debias=False), optax.scale(-1.0)), FIELD, separable=True),
        NEVER,
        BETA,
    ),
    "heavy ball, decay": (
        lambda: eq.rules.weight_decay(eq.rules.heavy_ball(FIELD, beta=BETA), decay=DECAY),
        at_full_decay,
        BETA,
    ),
    "nesterov": (lambda: eq.rules.nesterov(FIELD, beta=BETA), lambda g, G, s: -G, BETA),
    "adam": (lambda: eq.rules.adam(FIELD, beta1=BETA1, beta2=BETA2), NEVER, BETA1 * BETA2),
    "adamw": (
        lambda: eq.rules.adamw(FIELD, beta1=BETA1, beta2=BETA2, decay=DECAY),
        at_full_decay,
        BETA1 * BETA2,
    ),
    "rmsprop": (
        lambda: eq.rules.rmsprop(FIELD, beta2=BETA2),
        lambda g, G, s: -G / (new_root(g, s) + 1e-8)[..., None],
        BETA2,
    ),
    "adam, delayed": (lambda: eq.rules.adam_delayed(FIELD, beta1=BETA1, beta2=BETA2), late, BETA1 * BETA2),
    "lion": (lambda: eq.rules.lion(FIELD, beta2=BETA, decay=DECAY), at_full_decay, BETA),
    "sign descent": (lambda: eq.rules.sign_descent(FIELD), NEVER, 1.0),
}
IN_FLOAT32 = ["heavy ball", "adam", "adam, delayed"]


@functools.partial(jax.jit, static_argnums=0)
def alone(rule, x, state, data, etas):
    """The dense Jacobian `(n, w, w)` of the lifted step of every particle as a lone tracer, at a step size `(n,)` for each."""
    leaves, form = jax.tree.flatten(state)
    ours = [leaf.shape == x.shape for leaf in leaves]

    def jacobian(i, eta):
        def lifted_step(z):
            parts = iter(z.reshape(-1, 1, D))
            y = next(parts)
            y_state = form.unflatten([next(parts) if mine else leaf for leaf, mine in zip(leaves, ours, strict=True)])
            new = rule.probe(y, y_state, x, state, data)
            after = [leaf for leaf, mine in zip(jax.tree.leaves(new.state), ours, strict=True) if mine]
            return jnp.concatenate([y + eta * new.u, *after]).ravel()

        return jax.jacfwd(lifted_step)(jnp.concatenate([x[i], *[leaf[i] for leaf, mine in zip(leaves, ours, strict=True) if mine]]))

    return jax.vmap(jacobian)(jnp.arange(N), etas)


def cases(name, dtype=F64):
    """Of each seed: rule, configuration, state and batch; and what the closed form needs."""
    rule = TABLE[name][0]()
    for seed in range(SEEDS):
        x, adam, data = jax.tree.map(lambda leaf, k=seed: leaf[k].astype(dtype) if leaf.dtype == F64 else leaf[k], seasoned())
        wide, moments = (jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), part) for part in ((x, data), adam._asdict()))
        yield rule, x, with_moments(rule, x, adam), data, *gradient_of(*wide), moments


@pytest.mark.parametrize(("name", "dtype"), [*((name, F64) for name in TABLE), *((name, F32) for name in IN_FLOAT32)])
def test_determinants_of_the_table(name, dtype):
    _, folding, factor = TABLE[name]
    eps, num_folding = float(jnp.finfo(dtype).eps), 0
    for rule, x, state, data, g, G, known in cases(name, dtype):
        found = eq.measure.lifted_map(rule, x, state, data, eta=ETA)
        P = np.zeros((N, D, D)) if folding is NEVER else folding(g, G, known)
        closed = factor**D * det(ETA * P)
        # relative to the terms that make up the determinant, which near a fold is small
        terms = factor**D * (1 + ETA * np.linalg.norm(P, 2, axis=(1, 2))) ** D
        room = 1e-8 if dtype == F64 else 2 * ETA * found.floor.astype(float) + 64 * eps
        assert np.all(np.abs(found.determinant - closed) <= room * terms), name
        if dtype == F64:
            dense = np.linalg.det(alone(rule, x, state, data, jnp.full(N, ETA)))
            assert np.all(np.abs(dense - closed) <= 1e-8 * terms), name
        assert found.log_abs.dtype == found.eta_fold.dtype == dtype
        # which can fold at all, and where: the real eigenvalues of P, counted
        values = np.linalg.eigvals(P)
        real = np.where(np.abs(values.imag) <= 1e-7 * np.abs(values).max(axis=1, keepdims=True), values.real, 0)
        b = np.maximum(-real.min(axis=1), 0)
        if folding is NEVER:
            assert np.all(np.isinf(found.eta_fold))
            assert np.all(found.num_nonpositive == 0)
            continue
        num_folding += np.sum(np.isfinite(found.eta_fold))
        sure = b > 10 * found.floor
        np.testing.assert_allclose(1 / found.eta_fold[sure], b[sure], rtol=1e-8 if dtype == F64 else 1e-2)
        assert np.all(np.isinf(found.eta_fold[b < found.floor / 10]))
        clear = np.all(np.abs(1 + ETA * real) > 1e-3, axis=1)
        np.testing.assert_array_equal(found.num_nonpositive[clear], np.sum(1 + ETA * real <= 0, axis=1)[clear])
        np.testing.assert_array_equal(found.sign[clear], (-1.0) ** found.num_nonpositive[clear])
    assert (num_folding == 0) == (folding is NEVER), (name, num_folding)


@pytest.mark.parametrize("name", ["nesterov", "rmsprop", "adam, delayed"])
def test_the_map_is_singular_at_the_fold_that_is_named(name):
    seen = []
    for rule, x, state, data, *_ in cases(name):
        folds = eq.measure.lifted_map(rule, x, state, data, eta=ETA).eta_fold
        finite, first = np.isfinite(folds), float(folds.min())
        below, above = (eq.measure.lifted_map(rule, x, state, data, eta=first * c).num_nonpositive.sum() for c in (0.999, 1.001))
        assert below == 0 < above
        J = np.asarray(alone(rule, x, state, data, jnp.asarray(np.where(finite, folds, 1.0))))[finite]
        units = np.concatenate([np.ones(D), np.tile(np.abs(J[:, D:, :D]).max(), len(J[0]) - D)])
        seen.extend(np.linalg.svd(J * units / units[:, None], compute_uv=False)[:, [-1, 0]])
    seen = np.asarray(seen)
    assert len(seen) >= 10
    assert np.all(seen[:, 0] <= 1e-8 * seen[:, 1])


def test_an_even_number_of_folds_keeps_the_sign():
    """T = -(2/eta) I in two dimensions: a rotation by pi, determinant 1, behind a total collapse."""
    bowl = eq.field.additive(lambda x, weight: weight @ jnp.sum(x**2, axis=1), lambda s: s)
    found = eq.measure.lifted_map(eq.rules.gradient(bowl), jnp.ones((2, 2)), eta=1.0)
    np.testing.assert_allclose(found.determinant, 1, rtol=1e-12)
    assert found.num_nonpositive.tolist() == [2, 2]
    np.testing.assert_allclose(found.eta_fold, 0.5, rtol=1e-12)
    away = eq.rules.from_field(eq.field.mean_field(lambda x: 1.0, lambda x, s: x + s * 0))
    assert np.isinf(eq.measure.lifted_map(away, jnp.ones((2, 2)), eta=9.0).eta_fold).all()  # what only parts folds at no step size
    # 161 dimensions: (-0.5)^161 underflows in float32, its logarithm and sign do not
    wide = eq.measure.lifted_map(eq.rules.nesterov(bowl, beta=0.5), jnp.ones((2, 161), F32), eta=1.0)
    assert float(wide.determinant[0]) == 0.0
    np.testing.assert_allclose(wide.log_abs, 161 * np.log(0.5), rtol=1e-5)
    assert wide.sign.tolist() == [-1, -1]


def test_a_state_that_is_forgotten_is_singular_at_every_step_size():
    hill = eq.field.additive(lambda x, weight: -weight @ jnp.sum(x**2, axis=1) / 2, lambda s: s)
    x = np.asarray([[1.0, 2.0], [-1.0, 0.5]])
    moments = {"t": np.int32(5), "m": np.full((2, 2), 0.3), "v": np.full((2, 2), 0.25)}
    for beta1, beta2, eta_fold, sign in ((0.0, 0.0, 0.0, 0), (0.0, 0.9, np.inf, 1)):
        rule = eq.rules.adam_delayed(hill, beta1=beta1, beta2=beta2, eps=0.5)
        found = eq.measure.lifted_map(rule, x, jax.eval_shape(rule.init, x)._replace(**moments), eta=0.5)
        assert found.eta_fold.tolist() == [eta_fold] * 2
        assert np.round(found.sign * np.exp(found.log_abs) > 1e-12).tolist() == [sign] * 2
        # beta1 = 0: no state of m of its own, and yet none is lost, since U reads it before it is replaced
        assert found.num_nonpositive.tolist() == [int(eta_fold == 0)] * 2


# --- inverses -----------------------------------------------------------------------------------------------------------


def far_steps(name):
    """One step from mid-training, at 30 times the step size below which theta alone is certified."""
    descend = TABLE["gradient"][0]()
    for rule, x, state, data, *_ in cases(name):
        eta = 30 / float(eq.measure.pair_constants(x, update(rule, x, state, data).u).k_pair)
        y, after, _ = step(rule, x, state, eta, data)
        assert float(eq.measure.stretch(x, y).high) > 20
        yield x, state, eta, y, after, lambda x, data=data: -update(descend, x, (), data).u


def test_heavy_ball_runs_backwards_at_any_step_size():
    for x, state, eta, y, after, g in far_steps("heavy ball"):
        x_back = y + eta * after.momentum
        np.testing.assert_allclose(x_back, x, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose((after.momentum - g(x_back)) / BETA, state.momentum, rtol=1e-9, atol=1e-9)


def test_adam_runs_backwards_at_any_step_size():
    for x, state, eta, y, after, g in far_steps("adam"):
        t = int(after.t)
        x_back = y + eta * (after.m / (1 - BETA1**t)) / (jnp.sqrt(after.v / (1 - BETA2**t)) + 1e-8)
        back = (after.m - (1 - BETA1) * g(x_back)) / BETA1, (after.v - (1 - BETA2) * g(x_back) ** 2) / BETA2
        for found, expected in zip((x_back, *back), (x, state.m, state.v), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


# --- crossings and merges -----------------------------------------------------------------------------------------------

WELLS = {
    "heavy ball": eq.rules.heavy_ball(lambda x: jnp.sum(x**4 / 4 - x**2 / 2), beta=0.5),
    "gradient": eq.rules.gradient(lambda x: jnp.sum(x**4 / 4 - x**2 / 2)),
}


@functools.partial(jax.jit, static_argnums=0)
def two_steps(rule, x, m, eta):
    """Of many systems at once: merges and crossings after a step, and how many of the crossings are still together after the next."""

    def one(x, m):
        state = jax.tree.map(lambda _: m, rule.init(x))
        y, after, _ = step(rule, x, state, eta)
        far, _, _ = step(rule, y, after, eta)
        found = eq.measure.crossings(rule, x, state, y, after)
        crossing = (found.partner != found.lifted_partner) & (found.lifted_partner == jnp.arange(len(x), dtype=jnp.int32))
        again = jnp.all(far == far[found.partner], axis=1) & crossing
        return found.merged, found.crossings, jnp.sum(crossing), jnp.sum(again), eq.measure.merges(x, y).merged

    return jax.vmap(one)(x, m)


def test_heavy_ball_never_merges_lifted_particles_where_gradient_descent_does():
    """1,000 systems on a grid, where all numbers are exact and coincidences are frequent; then 1,000 anywhere, at a huge step."""
    draw = np.random.default_rng(5)
    x, m = (jnp.asarray(draw.integers(-size, size + 1, (1000, 16, 1)), F64) for size in (3, 4))
    merged, crossings, counted, again, in_place = two_steps(WELLS["heavy ball"], x, m, 0.5)
    assert int(jnp.max(merged)) == 0
    assert int(jnp.sum(crossings)) > 1000
    np.testing.assert_array_equal(crossings, counted)
    assert int(jnp.sum(again)) == 0  # they part in the next step, all of them
    assert int(jnp.sum(in_place)) > 1000  # to the eye of theta alone these were merges
    merged, crossings, *_ = two_steps(WELLS["gradient"], x, m, 0.5)
    assert int(jnp.sum(merged > 0)) > 300
    assert int(jnp.sum(crossings)) == 0
    merged, crossings, *_ = two_steps(WELLS["heavy ball"], normal(6, *x.shape), normal(7, *x.shape), 1e3)
    assert int(jnp.max(merged)) == int(jnp.max(crossings)) == 0


def test_consensus_merges_all_where_it_is_planted():
    x = jnp.asarray([[0.0], [4.0], [4.0], [8.0]])
    rule = eq.rules.consensus()
    found = eq.measure.crossings(rule, x, (), *step(rule, x, (), 1.0)[:2])
    assert int(found.merged) == 2  # three places became one
    assert int(found.crossings) == 0
    assert found.partner.tolist() == found.lifted_partner.tolist() == [0, 0, 0, 0]


def test_equal_parameters_with_other_momenta_are_a_crossing():
    rule = eq.rules.heavy_ball(lambda x, k: k * jnp.sum(x**2) / 2, beta=0.5)
    x = jnp.asarray([[1.0, 2.0], [1.0, 2.0], [3.0, 0.0]])
    state = rule.init(x)._replace(momentum=jnp.asarray([[1.0, 0.0], [0.0, 0.0], [0.0, 0.0]]))
    y, after, _ = step(rule, x, state, 0.25, jnp.ones(()))
    here = eq.measure.crossings(rule, x, state, x, state)
    assert (int(here.merged), int(here.crossings), here.partner.tolist()) == (0, 1, [0, 0, 2])
    assert int(eq.measure.crossings(rule, x, state, y, after).crossings) == 0
    assert float(jnp.max(jnp.abs(y[0] - y[1]))) > 0
    constants = eq.measure.lifted_constants(rule, x, state, jnp.ones(()), eta=0.25)
    assert np.isinf(constants.theta.value)
    assert sorted(constants.theta.at.tolist()) == [0, 1]
    assert constants.num_twins == 0
    assert constants.q.value < 1  # the lifted particles are told apart, and stay so
    assert constants.certified


def test_a_planted_pair_merges_at_the_fold_of_the_delayed_adam():
    """Numbers with exact roots: at `eta (1 - beta1) A |G| = beta1` parameters and both moments of the pair coincide after the step."""
    hill = eq.field.additive(lambda x, weight: -weight @ jnp.sum(x**2, axis=1) / 2, lambda s: s)
    rule = eq.rules.adam_delayed(hill, beta1=0.5, beta2=0.5, eps=0.5)
    x = jnp.asarray([[1.0], [-1.0], [3.0]])
    start = rule.init(x)._replace(t=jnp.asarray(3000, jnp.int32), m=jnp.asarray([[1.0], [-1.0], [0.0]]), v=jnp.full((3, 1), 0.25))
    for eta, merged in ((1.0, 1), (0.5, 0), (2.0, 0)):
        after = step(rule, x, start, eta)
        assert int(eq.measure.crossings(rule, x, start, *after[:2]).merged) == merged
        assert (eq.measure.lifted_constants(rule, x, start, eta=eta).q.value < 1) <= (not merged)
    # at m = 0 the row of v is cut off: there the closed condition is tight
    still = start._replace(m=jnp.zeros((3, 1)))
    bound = eq.measure.adam_bound(x, -x, still, eta=1.0, beta1=0.5, beta2=0.5, eps=0.5, delayed=True)
    folds = eq.measure.lifted_map(rule, x, still, eta=1.0)
    np.testing.assert_allclose(folds.eta_fold, float(bound.eta_crit), rtol=1e-12)
    np.testing.assert_allclose(bound.eta_crit, 1, rtol=1e-12)
    np.testing.assert_allclose(bound.value, 1, rtol=1e-12)
    np.testing.assert_allclose(folds.determinant, 0, atol=1e-12)


# --- constants in a weighted norm ---------------------------------------------------------------------------------------


def brute(z, dz, dim, weights):
    """The largest rate and approach over pairs in a norm, one pair after another, in float64."""
    scale = np.repeat([1.0, *weights], dim)
    z, dz = (np.asarray(rows, np.float64) * scale for rows in (z, dz))
    rates, closing = [], []
    for i, j in itertools.combinations(range(len(z)), 2):
        a, b = z[i] - z[j], dz[i] - dz[j]
        rates.append(np.linalg.norm(b) / np.linalg.norm(a))
        closing.append(-b @ a / (a @ a))
    return max(rates), max(closing)


def searched(z, dz, dim, k):
    """The least of both over weights: on a grid, then at random around the best so far, ever closer."""
    pairs, draw = np.asarray(list(itertools.combinations(range(len(z)), 2))), np.random.default_rng(0)
    a, b = (np.asarray(rows, np.float64)[pairs[:, 0]] - np.asarray(rows, np.float64)[pairs[:, 1]] for rows in (z, dz))
    terms = [np.add.reduceat(part, np.arange(0, z.shape[1], dim), axis=1) for part in (b * b, -a * b, a * a)]
    answers = []
    for num, root in ((terms[0], np.sqrt), (terms[1], lambda v: v)):
        tried = np.stack(np.meshgrid(*[np.linspace(-12, 12, 61)] * k, indexing="ij"), -1).reshape(-1, k)
        for reach in np.append(np.geomspace(1, 1e-3, 60), 0):
            C = np.column_stack([np.ones(len(tried)), np.exp(2 * tried)]).T
            values = np.max((num @ C) / (terms[2] @ C), axis=0)
            best = tried[np.argmin(values)]
            tried = np.vstack([best, best + reach * draw.normal(size=(500, k))])
        answers.append(root(values.min()))
    return answers


PULL = eq.field.mean_field(lambda x, k: (x, 1.0), lambda x, s, k: -k * (x - 0.5 * s[0] / s[1]) - jnp.sin(2 * x))
PULLED = {
    "heavy ball": eq.rules.heavy_ball(PULL, beta=BETA),
    "adam": eq.rules.adam(PULL, beta1=BETA1, beta2=BETA2),
    "adam, delayed": eq.rules.adam_delayed(PULL, beta1=BETA1, beta2=BETA2),
}


def random_state(name, seed, n=6, d=2, dtype=F64):
    x, m, v = normal(seed, 3, n, d, dtype=dtype)
    state = jax.eval_shape(PULLED[name].init, x)
    return x, state._replace(momentum=m) if name == "heavy ball" else state._replace(t=np.int32(5), m=m, v=(0.5 + v**2).astype(dtype))


def lifted_change(name, x, state, k, eta):
    y, after, _ = step(PULLED[name], x, state, eta, k)
    z, z_next = (np.asarray(eq.lifted(PULLED[name], *pair), np.float64) for pair in ((x, state), (y, after)))
    return z, z_next - z


@pytest.mark.parametrize("name", PULLED)
def test_best_weights_are_those_of_a_search(name):
    for seed, eta in ((1, 0.01), (2, 0.1), (3, 1.0), (4, 5.0)):
        x, state = random_state(name, seed)
        k = np.asarray(3.0)
        found = eq.measure.lifted_constants(PULLED[name], x, state, k, eta=eta)
        z, dz = lifted_change(name, x, state, k, eta)
        num = len(found.q.weights)
        for constant, least in zip((found.q, found.mu), searched(z, dz, 2, num), strict=True):
            assert least - 1e-3 * abs(least) <= constant.value <= least + 1e-4 * abs(least) + 1e-6, (seed, constant, least)
            assert constant.bound <= least + 1e-9 * abs(least)  # no weights do better than the bound
            assert constant.value - constant.bound <= 1e-4 * abs(least) + 1e-6
        scale = max(float(found.q.value), abs(float(found.mu.value)))
        # each value is attained, in the norm that is named
        np.testing.assert_allclose(found.q.value, brute(z, dz, 2, found.q.weights)[0], rtol=1e-8)
        np.testing.assert_allclose(found.mu.value, brute(z, dz, 2, found.mu.weights)[1], rtol=1e-8, atol=1e-8 * scale)
        np.testing.assert_allclose(found.raw.value, brute(z, dz, 2, [1] * num)[0], rtol=1e-8)
        u = update(PULLED[name], x, state, k).u
        np.testing.assert_allclose(found.theta.value, eta * eq.measure.pair_constants(x, u).k_pair, rtol=1e-12)
        assert found.q.value <= found.raw.value * (1 + 1e-6)
        assert found.mu.value <= found.q.value + 1e-6 * scale


def test_weights_certify_where_raw_units_do_not_and_no_certificate_is_no_merge():
    x, state = random_state("heavy ball", 7, n=24)
    rule, k = PULLED["heavy ball"], np.asarray(10.0)
    small = eq.measure.lifted_constants(rule, x, state, k, eta=0.01)
    assert small.raw.value > 1 > small.q.value
    assert small.certified
    huge = eq.measure.lifted_constants(rule, x, state, k, eta=100.0)
    assert huge.q.bound > 1
    assert huge.mu.bound > 1
    assert not huge.certified
    y, after, _ = step(rule, x, state, 100.0, k)
    assert int(eq.measure.crossings(rule, x, state, y, after).merged) == 0


@pytest.mark.parametrize("name", ["adam", "adam, delayed"])
def test_raw_units_of_adam_are_out_of_reach_at_any_step_size(name):
    """Two particles with the same moments whose gradients differ by ten times their distance: (1 - 0.9) * 10 = 1."""
    rule, k = PULLED[name], np.asarray(12.0)  # less 2 of the sine, at most
    x = random_state(name, 9)[0]
    state = jax.eval_shape(rule.init, x)._replace(t=np.int32(5), m=np.ones_like(x), v=np.ones_like(x))
    for eta in (1e-8, 1e-4, 1e-2, 1.0):
        found = eq.measure.lifted_constants(rule, x, state, k, eta=eta)
        assert found.raw.value >= 1 - 1e-12
        assert found.q.value < 0.99 or eta > 1e-2


@pytest.mark.parametrize("name", PULLED)
def test_closed_bounds_hold_and_their_condition_is_that_of_the_norm(name):
    k = np.asarray(3.0)
    ratios = []
    for seed, eta in itertools.product(range(10, 16), (1e-3, 3e-2, 1.0)):
        x, state = random_state(name, seed)
        g = -update(eq.rules.from_field(PULL), x, (), k).u
        if name == "heavy ball":
            bound = eq.measure.heavy_ball_bound(x, g, eta=eta, beta=BETA)
            anywhere = eq.measure.heavy_ball_bound(x, g, eta=eta, beta=BETA, rate=5.0)  # |G| <= 3 + 2 in all space
            assert float(bound.value) <= float(anywhere.value)
            np.testing.assert_allclose(anywhere.eta_crit, 0.1, rtol=1e-12)
        else:
            bound = eq.measure.adam_bound(x, g, state, eta=eta, beta1=BETA1, beta2=BETA2, delayed="delayed" in name)
        z, dz = lifted_change(name, x, state, k, eta)
        in_norm = brute(z, dz, 2, np.asarray(bound.weights))[0]
        assert in_norm <= float(bound.value) * (1 + 1e-9)
        assert (float(bound.value) < 1) == (eta < float(bound.eta_crit))
        ratios.append(in_norm / float(bound.value))
        critical = {"heavy ball": 0.5, "adam": 0.5}.get(name)
        load = float(jnp.sum(bound.couplings)) if critical else float(bound.couplings[0] / BETA1 + bound.couplings[1] / BETA2)
        np.testing.assert_allclose(load / (critical or 1), eta / float(bound.eta_crit), rtol=1e-9)
    assert max(ratios) > 0.3  # not empty: at times within a factor of three
    found = eq.measure.lifted_constants(PULLED[name], x, state, k, eta=eta)
    assert found.q.value <= in_norm * (1 + 1e-6)


@pytest.mark.parametrize("name", PULLED)
def test_the_step_size_of_a_closed_bound_is_where_its_norm_is_one(name):
    x, state = random_state(name, 20, dtype=F32)
    g = -update(eq.rules.from_field(PULL), x, (), np.asarray(3.0, np.float32)).u

    def bound(eta):
        if name == "heavy ball":
            return eq.measure.heavy_ball_bound(x, g, eta=eta, beta=BETA)
        return eq.measure.adam_bound(x, g, state, eta=eta, beta1=BETA1, beta2=BETA2, delayed="delayed" in name)

    np.testing.assert_allclose(bound(float(bound(1e-3).eta_crit)).value, 1, rtol=1e-5)
    assert bound(1e-3).value.dtype == F32


def test_near_pairs_in_float32_are_measured_by_differences():
    x, state = random_state("heavy ball", 8, dtype=F32)
    x[1] = x[0] + np.float32(3e-6)
    state.momentum[1] = state.momentum[0] + np.float32(1e-6)
    k = np.asarray(3.0, np.float32)
    found = eq.measure.lifted_constants(PULLED["heavy ball"], x, state, k, eta=0.1)
    wide = jax.tree.map(lambda leaf: leaf.astype(F64), (x, state, k))
    exact = eq.measure.lifted_constants(PULLED["heavy ball"], *wide, eta=0.1)
    assert found.q.value.dtype == F32
    # U itself is rounded: its difference over that pair is good to eps * |U| / (3e-6 * rate), some percent
    z, dz = _moved(PULLED["heavy ball"], eq.groups.rows(x), x, state, k, None, np.float32(0.1))
    np.testing.assert_allclose(found.q.value, brute(z, dz, 2, found.q.weights)[0], rtol=1e-5)
    np.testing.assert_allclose(found.q.value, exact.q.value, rtol=0.2)


@pytest.mark.parametrize("dtype", [F32, F64])
def test_near_pairs_are_not_left_out(dtype):
    """A pair at 1e-20 of the diameter that a step takes together; nearer than the squares of float64 go, nothing is claimed."""
    h = 1e-20 if dtype == F32 else 1e-160
    x = np.array([[1, 0], [-1, 0], [0, 1], [h, 0], [3 * h, 0]], dtype)
    rule = eq.rules.from_field(eq.field.mean_field(lambda x: 1.0, lambda x, s: jnp.where(jnp.max(jnp.abs(x)) < 1e-10, -100 * x, x / 10)))
    found = eq.measure.lifted_constants(rule, x, eta=0.01)
    np.testing.assert_allclose([found.q.value, found.mu.value, found.theta.value], 1 if dtype == F32 else np.nan, rtol=1e-6)
    assert not found.certified
    assert found.num_twins == 0


# --- what is asked and refused ------------------------------------------------------------------------------------------


def test_neurons_of_a_tree_are_lifted_particles_too():
    params = two_layer.classifier(normal(1, 6, 4), 3)
    group = two_layer.neurons(params)
    rule = eq.rules.heavy_ball(two_layer.classifier_field(params), beta=BETA)
    data = normal(2, 8, 3), jnp.arange(8) % 1
    y, state, _ = step(rule, params, rule.init(params), 0.1, data)
    found = eq.measure.lifted_map(rule, y, state, data, eta=5.0, group=group)
    np.testing.assert_allclose(found.determinant, BETA**4, rtol=1e-9)
    constants = eq.measure.lifted_constants(rule, y, state, data, eta=1e-3, group=group)
    assert constants.certified
    z, after, _ = step(rule, y, state, 1e-3, data)
    crossed = eq.measure.crossings(rule, y, state, z, after, group=group)
    assert (int(crossed.merged), int(crossed.crossings)) == (0, 0)
    before = eq.compile_count()
    eq.measure.lifted_map(rule, z, after, data, eta=1.0, group=group)
    eq.measure.lifted_constants(rule, z, after, data, eta=1.0, group=group)
    assert eq.compile_count() == before


def test_what_is_not_finite_has_no_constant():
    x, state = random_state("heavy ball", 1)
    broken = np.where(x == x[0, 0], np.nan, x)
    found = eq.measure.lifted_constants(PULLED["heavy ball"], broken, state, np.asarray(3.0), eta=0.1)
    assert np.isnan([found.q.value, found.mu.value, found.raw.value, found.theta.value]).all()
    assert not found.certified
    fresh = eq.measure.lifted_map(PULLED["adam"], x, None, np.asarray(3.0), eta=0.1)  # v = 0 before, g^2 after: finite
    np.testing.assert_allclose(fresh.determinant, (BETA1 * BETA2) ** 2, rtol=1e-9)
    flat = eq.measure.lifted_map(eq.rules.adam(eq.field.mean_field(lambda x: 1.0, lambda x, s: 0 * x)), x, eta=0.1)
    # no gradient ever: the root of v = 0 counts as constant, and the moments decay
    np.testing.assert_allclose(flat.determinant, (0.9 * 0.999) ** 2, rtol=1e-9)
    pole = eq.measure.lifted_map(eq.rules.from_field(eq.field.mean_field(lambda x: 1.0, lambda x, s: jnp.sqrt(x - x))), x, eta=0.1)
    assert np.isnan(pole.log_abs).all()
    assert pole.num_nonpositive.tolist() == [-1] * 6


def test_twins_are_left_out():
    x, state = random_state("heavy ball", 1)
    x[1], state.momentum[1] = x[0], state.momentum[0]
    found = eq.measure.lifted_constants(PULLED["heavy ball"], x, state, np.asarray(3.0), eta=0.1)
    assert found.num_twins == 1
    assert np.isfinite(found.q.value)
    same = eq.measure.lifted_constants(eq.rules.consensus(), jnp.ones((3, 1)), eta=0.1)
    assert (same.num_twins, float(same.q.value)) == (3, 0.0)


X2 = jnp.ones((2, 2))
CASES = {
    "map: no probe": (lambda: eq.measure.lifted_map(eq.rules.from_function(lambda x: -x), X2, eta=0.1), ValueError, "without probe"),
    "map: own lift": (
        lambda: eq.measure.lifted_map(eq.rules.consensus()._replace(lift=lambda x, s: x), X2, eta=0.1),
        ValueError,
        "lift of its own",
    ),
    "map: eta": (lambda: eq.measure.lifted_map(eq.rules.consensus(), X2, eta=-1.0), ValueError, "finite numbers > 0"),
    "map: state": (lambda: eq.measure.lifted_map(PULLED["adam"], X2, (), jnp.ones(()), eta=0.1), ValueError, "as rule.init"),
    "map: too large": (lambda: eq.measure.lifted_map(eq.rules.consensus(), jnp.ones((2, 5000)), eta=0.1), MemoryError, "matrix-free"),
    "constants: one particle": (lambda: eq.measure.lifted_constants(eq.rules.consensus(), X2[:1], eta=0.1), ValueError, "at least 2"),
    "constants: a function": (lambda: eq.measure.lifted_constants(lambda x: x, X2, eta=0.1), TypeError, "from_function"),
    "constants: too many": (lambda: eq.measure.lifted_constants(eq.rules.consensus(), jnp.ones((20000, 1)), eta=0.1), MemoryError, "fewer particles"),
    "crossings: two groups": (
        lambda: eq.measure.crossings(eq.rules.consensus(), X2, (), X2, (), group={"a": eq.groups.rows(X2), "b": eq.groups.rows(X2)}),
        ValueError,
        "group by group",
    ),
    "crossings: fewer later": (lambda: eq.measure.crossings(eq.rules.consensus(), X2, (), X2[:1], ()), ValueError, "same particles later"),
    "bound: g": (lambda: eq.measure.heavy_ball_bound(X2, X2[:, :1], eta=0.1), ValueError, "one shape"),
    "bound: beta": (lambda: eq.measure.heavy_ball_bound(X2, X2, eta=0.1, beta=1.0), ValueError, "beta"),
    "bound: state": (lambda: eq.measure.adam_bound(X2, X2, (), eta=0.1), TypeError, "t, m and v"),
    "bound: rate": (lambda: eq.measure.heavy_ball_bound(X2, X2, eta=0.1, rate=-1.0), ValueError, "rate"),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_one_clear_error(case):
    call, error, message = CASES[case]
    with pytest.raises(error, match=message):
        call()
