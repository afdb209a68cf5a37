"""Pairs: the stretch of every pair for every step size from one U, constants by brute force, and K on the swap segment."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tables import BROKEN, LOSS, RULES, batch, start

import eqdyn as eq
from eqdyn import _differences, _scan, _screen, geometry

DTYPES = [jnp.float32, jnp.float64]


def brute(x, u):
    """Over pairs, in float64, one after another."""
    x, u = np.asarray(x, np.float64), np.asarray(u, np.float64)
    found = {}
    for i, j in itertools.combinations(range(len(x)), 2):
        dx, du = x[i] - x[j], u[i] - u[j]
        d = np.linalg.norm(dx)
        found[i, j] = np.linalg.norm(du) / d, -du @ dx / d**2
    return found


@pytest.mark.parametrize("dtype", [jnp.float32, pytest.param(jnp.float64, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("n", "d"), [(2, 1), (7, 1), (40, 2), (33, 5), (300, 3), (20, 90)])
def test_constants_are_the_maxima_over_pairs(n, d, dtype):
    x, u = start(dtype, 1, n, d), start(dtype, 2, n, d)
    pairs = brute(x, u)
    found = eq.measure.pair_constants(x, u)
    tolerance = 100 * jnp.finfo(dtype).eps
    np.testing.assert_allclose(found.k_pair, max(v[0] for v in pairs.values()), rtol=tolerance)
    np.testing.assert_allclose(found.mu, max(v[1] for v in pairs.values()), rtol=tolerance)
    np.testing.assert_allclose(pairs[tuple(sorted(found.k_pair_at.tolist()))][0], found.k_pair, rtol=tolerance)
    np.testing.assert_allclose(pairs[tuple(sorted(found.mu_at.tolist()))][1], found.mu, rtol=tolerance)
    assert found.k_pair.dtype == dtype


@pytest.mark.parametrize("dtype", [jnp.float32, pytest.param(jnp.float64, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["gradient", "consensus", "self_attention", "adam"])
def test_one_u_predicts_the_stretch_of_every_pair_at_twenty_step_sizes(name, dtype):
    make, takes_data = RULES[name]
    rule, x, data = make(), start(dtype), batch(dtype) if takes_data else None
    terms = eq.measure.pair_terms(x, rule.update(x, rule.init(x), data).u)
    eps, distances = jnp.finfo(dtype).eps, terms.distance
    k_pair = jnp.nanmax(terms.rate)
    for eta in np.geomspace(1e-3, 5, 20) / float(k_pair):
        y, _, _ = eq.step(rule, x, rule.init(x), float(eta), data)
        seen = jnp.linalg.norm(y[:, None] - y[None], axis=2) / distances
        predicted = terms.stretch(float(eta))
        # rounding of the step, seen from a pair: a few eps of the coordinates over the distance; squares, as near 0 a root is steep
        room = 40 * eps * (1 + jnp.max(jnp.abs(y)) / distances)
        worst = jnp.nanmax(jnp.abs(seen**2 - predicted**2) / (room * (1 + predicted)))
        assert float(worst) < 1, (name, eta, float(worst))


def test_closest_approach_is_the_minimum_of_the_curve():
    x, u = start(jnp.float64, 1), start(jnp.float64, 2)
    terms = eq.measure.pair_terms(x, u)
    eta, low = terms.closest()
    off = ~np.eye(len(x), dtype=bool)
    for shift in (0.999, 1.001):
        assert np.all((terms.stretch(1.0).shape == eta.shape) and np.asarray(terms._replace().rate[off] > 0))
        at = jnp.sqrt(1 + 2 * (shift * eta) * terms.approach + (shift * eta * terms.rate) ** 2)
        assert np.all(np.asarray(at - low)[off] >= 0)


def test_linear_rules_are_known_exactly():
    x = start(jnp.float64)
    centred = x - x.mean(axis=0, keepdims=True)
    pulled = eq.measure.pair_constants(x, -3 * centred)
    np.testing.assert_allclose([pulled.k_pair, pulled.mu], [3, 3], rtol=1e-12)
    turned = eq.measure.pair_constants(x[:, :2], 3 * centred[:, :2] @ jnp.asarray([[0.0, -1], [1, 0]]))
    np.testing.assert_allclose([turned.k_pair, turned.mu], [3, 0], atol=1e-12)
    after = x[:, :2] + 0.5 * 3 * centred[:, :2] @ jnp.asarray([[0.0, -1], [1, 0]])
    found = eq.measure.stretch(x[:, :2], after)  # a rotation never merges although eta K = 1.5
    np.testing.assert_allclose([found.low, found.high], np.sqrt(1 + 1.5**2), rtol=1e-12)
    apart = eq.measure.pair_constants(x, 2 * centred)
    np.testing.assert_allclose([apart.k_pair, apart.mu], [2, -2], rtol=1e-12)


@pytest.mark.parametrize("seed", [1, 2, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (3, 4))])
def test_k_pair_is_at_most_the_hessian_norm_on_the_swap_segment(seed):
    """R_ij <= max over the segment from X to PX of the Hessian's norm (30 Gauss points), for the pair that attains K_pair; the
    integral of the Hessian along it gives U_i - U_j. No inequality is claimed for lambda_max at X itself."""
    data = batch(jnp.float64)
    x = start(jnp.float64, seed, n=8)

    def flat_loss(v):
        return LOSS(v.reshape(x.shape), data)

    u = -jax.grad(LOSS)(x, data)
    found = eq.measure.pair_constants(x, u)
    i, j = found.k_pair_at.tolist()
    swapped = x.at[jnp.asarray([i, j])].set(x[jnp.asarray([j, i])])
    nodes, weights = np.polynomial.legendre.leggauss(30)
    hessians = [jax.hessian(flat_loss)((x + (t + 1) / 2 * (swapped - x)).ravel()) for t in nodes]
    norms = [float(jnp.max(jnp.abs(jnp.linalg.eigvalsh(h)))) for h in hessians]
    assert float(found.k_pair) <= max(norms) * (1 + 1e-9)
    mean = sum(w / 2 * h for w, h in zip(weights, hessians, strict=True))
    change = (-mean @ (swapped - x).ravel()).reshape(x.shape)
    np.testing.assert_allclose(change[i], u[j] - u[i], atol=1e-9)
    at_x = eq.measure.sharpness(eq.rules.gradient(LOSS), x, data=data)
    print(f"seed {seed}: K_pair {float(found.k_pair):.4f}, on the segment {max(norms):.4f}, lambda_max at X {float(at_x.value):.4f}")


def test_stretch_within_one_plus_minus_eta_k_pair():
    x, data = start(jnp.float64), batch(jnp.float64)
    rule = eq.rules.gradient(LOSS)
    found = eq.measure.pair_constants(x, rule.update(x, (), data).u)
    for share in (0.1, 0.5, 0.99, 3.0):
        eta = share / float(found.k_pair)
        low, _, high, _ = eq.measure.stretch(x, eq.step(rule, x, (), eta, data)[0])
        assert 1 - share - 1e-12 <= float(low)
        assert float(high) <= 1 + share + 1e-12
        assert float(low) >= 1 - eta * float(found.mu) - 1e-12


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [1e-15, 1.0, 1e15])
def test_units_do_not_matter(scale, dtype):
    x, u = start(dtype, 1), start(dtype, 2)
    a, b = eq.measure.pair_constants(x, u), eq.measure.pair_constants(x * dtype(scale), u)
    np.testing.assert_allclose(b.k_pair * dtype(scale), a.k_pair, rtol=20 * jnp.finfo(dtype).eps)
    low = eq.measure.stretch(x * dtype(scale), x + u).low
    np.testing.assert_allclose(low * dtype(scale), eq.measure.stretch(x, x + u).low, rtol=50 * jnp.finfo(dtype).eps)


def test_twins_are_left_out_and_torn_twins_are_infinite():
    x = jnp.asarray([[0.0], [1.0], [0.0]])
    found = eq.measure.pair_constants(x, -x)
    assert (float(found.k_pair), int(found.num_twins)) == (1.0, 1)
    torn = eq.measure.pair_constants(x, jnp.asarray([[1.0], [0.0], [-1.0]]))
    assert np.isinf(torn.k_pair)
    assert sorted(torn.k_pair_at.tolist()) == [0, 2]
    assert np.isinf(eq.measure.stretch(x, jnp.asarray([[0.0], [1.0], [2.0]])).high)
    assert np.isnan(eq.measure.stretch(jnp.ones((3, 1)), x).low)
    assert np.isnan(eq.measure.pair_constants(x.at[0].set(jnp.nan), x).k_pair)


@pytest.mark.parametrize("dtype", DTYPES)
def test_atoms_are_numpys_unique_rows(dtype):
    rng = np.random.default_rng(0)
    for _ in range(20):
        x = rng.integers(-2, 3, (60, rng.integers(1, 5))).astype(np.dtype(dtype))
        x[rng.integers(60)] *= -0.0
        weight = jnp.asarray(rng.random(60), dtype)
        found = eq.measure.atoms(eq.Weighted(jnp.asarray(x), weight + 1))
        _, inverse = np.unique(x + 0.0, axis=0, return_inverse=True)
        assert int(found.num_atoms) == inverse.max() + 1
        for k in range(inverse.max() + 1):
            members = np.flatnonzero(inverse == k)
            assert set(np.asarray(found.label)[members].tolist()) == {members.min()}
            np.testing.assert_allclose(found.mass[members.min()], np.sum(np.asarray(weight + 1)[members]), rtol=1e-5)
        np.testing.assert_allclose(jnp.sum(found.mass), jnp.sum(weight + 1), rtol=1e-5)


def test_atoms_do_not_hang_on_the_hash():
    """A triple whose first and last row are equal with another in between; and a million grid points without a false split."""
    found = eq.measure.atoms(jnp.asarray([[6.0, 50, 40], [86, 86, 49], [6, 50, 40]]))
    assert (int(found.num_atoms), found.mass.tolist()) == (2, [2.0, 1.0, 0.0])
    grid = np.stack(np.meshgrid(*[np.arange(60.0, dtype=np.float32)] * 3), -1).reshape(-1, 3)
    assert int(eq.measure.atoms(jnp.asarray(np.concatenate([grid, grid[::-1]]))).num_atoms) == 60**3
    half = eq.measure.atoms(jnp.asarray([[1, 2, 3], [4, 5, 6], [1, 2, 3]], jnp.float16))
    assert half.label.tolist() == [0, 1, 0]


def test_twins_stay_twins_when_a_product_rounds_their_u_apart():
    """Rows 0 and 1022 are equal; a blocked matrix product sums the last rows in another order."""
    x = start(jnp.float32, n=1023, d=65)
    x = x.at[1022].set(x[0])
    data = (jax.random.normal(jax.random.key(1), (100, 64), jnp.float32), jnp.ones(100, jnp.float32))
    found = eq.measure.pair_constants(x, eq.rules.gradient(LOSS).update(x, (), data).u)
    assert np.isfinite(found.k_pair)
    assert int(found.num_twins) == 1


def test_merges_and_splits():
    x = jnp.asarray([[1.0], [2.0], [3.0], [1.0]])
    assert [int(v) for v in eq.measure.merges(x, jnp.asarray([[5.0], [5.0], [3.0], [5.0]]))[:2]] == [1, 0]
    assert [int(v) for v in eq.measure.merges(x, jnp.asarray([[5.0], [6.0], [3.0], [4.0]]))[:2]] == [0, 1]
    broken, start_x = BROKEN["index-dependent rate of 1e-3"], jnp.ones((6, 2))
    assert int(eq.measure.merges(start_x, start_x - (1 + 1e-3 * jnp.arange(6.0)[:, None]) * start_x).split) == 5
    assert broken(start_x).shape == (6, 2)


def test_sharpness_is_the_dense_hessians():
    data, x = batch(jnp.float64), start(jnp.float64, n=10)
    dense = jnp.linalg.eigvalsh(jax.hessian(lambda v: LOSS(v.reshape(x.shape), data))(x.ravel()))
    found = eq.measure.sharpness(eq.rules.gradient(LOSS), x, data=data)
    np.testing.assert_allclose(found.value, dense[-1], rtol=1e-10)
    np.testing.assert_allclose(found.norm, max(abs(dense[0]), abs(dense[-1])), rtol=1e-10)
    assert float(found.residual) < 1e-8
    assert float(found.asymmetry) < 1e-12
    few = eq.measure.sharpness(eq.rules.gradient(LOSS), x, data=data, num_iters=3)
    assert float(few.value) <= float(dense[-1]) + 1e-12
    assert np.min(np.abs(np.asarray(dense) - float(few.value))) <= float(few.residual) + 1e-12


def test_sharpness_finds_the_negative_end_and_the_asymmetry():
    a = jnp.asarray([[1.0, 0], [0, -5]])
    bowl = eq.measure.sharpness(eq.rules.from_function(lambda x: -x @ a), start(jnp.float64, d=2))
    np.testing.assert_allclose([bowl.value, bowl.norm], [1, 5], rtol=1e-10)
    turn = eq.measure.sharpness(eq.rules.from_function(lambda x: x @ jnp.asarray([[0.0, -1], [1, 0]])), start(jnp.float64, d=2))
    assert float(turn.asymmetry) > 0.1
    assert float(bowl.asymmetry) < 1e-12


# --- near the ends of the floating range -----------------------------------------------------------------------------------

NEAR = {  # x, u, K_pair, mu, twins: exactly, in float32
    "1e-20 of the diameter": (
        [[1, 0], [-1, 0], [0, 1], [1e-20, 0], [3e-20, 0]],
        [[0.1, 0], [-0.1, 0], [0, 0.1], [-1e-18, 0], [-3e-18, 0]],
        100,
        100,
        0,
    ),
    "not infinite": ([[1, 0], [0, 0], [1e-20, 0], [1e-20, 2e-20]], [[0, 0], [0, 0], [1e-19, 0], [0, 0]], 10, 1e-19, 0),
    "twins beside": ([[1, 0], [1e-20, 0], [1e-20, 0], [3e-20, 0]], [[0, 0], [1e-18, 0], [1e-18, 0], [-1e-18, 0]], 100, 100, 1),
    "half of it vanished": ([[1, 0], [3e-19, 4e-19], [0, 0]], [[0, 0], [-3e-19, -4e-19], [0, 0]], 1, 1, 0),
    "faster than a root": ([[1, 0], [1e-25, 0], [2e-25, 0]], [[0, 0], [1, 0], [0, 0]], 1e25, 1e25, 0),
    "far out": ([[1e38, 0], [0, 1], [0, 2]], [[1e38, 0], [0, 1], [0, 2]], 1, -1, 0),
    "farther than differences go": ([[3e38, 0], [-3e38, 0], [0, 1], [0, 2]], [[-3e38, 0], [3e38, 0], [0, -1], [0, -2]], 1, 1, 0),
    "farthest, and torn": ([[3e38, 0], [0, 1], [0, 2]], [[3e38, 0], [0, 1], [0, 2]], 1, -1, 0),
}


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] if k % 2 else []) for k, name in enumerate(NEAR)])
def test_near_pairs_are_no_twins(name):
    x, u, k, mu, twins = NEAR[name]
    x, u = np.asarray(x, np.float32), np.asarray(u, np.float32)
    found = eq.measure.pair_constants(x, u)
    np.testing.assert_allclose([found.k_pair, found.mu], [k, mu], rtol=1e-6)
    assert int(found.num_twins) == twins
    many = jax.jit(jax.vmap(geometry.pair_constants))(np.stack([x[::-1], x]), np.stack([u[::-1], u]))
    assert jnp.isinf(many.k_pair).all()  # in a program float64 is not to be had: never less than the truth
    assert (many.num_twins == twins).all()
    terms = eq.measure.pair_terms(x, u)
    np.testing.assert_allclose([jnp.nanmax(terms.rate), jnp.nanmax(-terms.approach)], [k, mu], rtol=1e-6)
    assert int(jnp.isnan(terms.distance).sum()) == len(x) + 2 * twins
    if name != "1e-20 of the diameter":
        return
    wide = np.zeros((len(x), 3000), np.float32)  # by products
    wide[:, :2] = x
    push = np.zeros_like(wide)
    push[:, :2] = u
    wide, push = (np.concatenate([rows, np.zeros((700 // len(x), rows.shape[1]), np.float32) + rows[:1]]) for rows in (wide, push))
    assert _screen.pays(wide)
    np.testing.assert_allclose(eq.measure.pair_constants(wide, push).k_pair, k, rtol=1e-6)


def test_a_step_that_brings_a_near_pair_together_is_seen():
    x = np.asarray(NEAR["1e-20 of the diameter"][0], np.float32)
    y = x + np.float32(0.01) * np.asarray(NEAR["1e-20 of the diameter"][1], np.float32)
    moved = jax.jit(lambda x, y: geometry.moved(x, y, 1e-6))(x, y)
    wide = np.linalg.norm((y[3] - y[4]).astype(np.float64)) / 2e-20
    assert (float(moved.low), float(moved.q), int(moved.num_unresolved)) == (0, np.inf, 1)  # open, as long as nothing finer looks
    assert eq.certify(x, y).q == pytest.approx(1)
    np.testing.assert_allclose(eq.measure.stretch(x, y).low, wide, rtol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_stretch_of_pairs_that_nearly_meet(dtype):
    x = start(dtype)
    terms = eq.measure.pair_terms(x, -x)
    off = ~np.eye(len(x), dtype=bool)
    np.testing.assert_allclose(terms.stretch(0.9999)[off], 1e-4, rtol=4 * float(jnp.finfo(dtype).eps) / 1e-4)
    pair = eq.measure.pair_terms(jnp.asarray([[1.0, 0], [-1, 0]], dtype), jnp.asarray([[-1.0, 1e-5], [1, -1e-5]], dtype))
    np.testing.assert_allclose(pair.across[0, 1], 1e-5, rtol=1e-6)
    np.testing.assert_allclose(pair.closest()[1][0, 1], 1e-5, rtol=1e-6)


def test_half_floats_are_summed_in_float32():
    x = jnp.zeros((3, 1000), jnp.bfloat16).at[1, :10].set(0.25).at[2].set(5)
    u = jnp.zeros((3, 1000), jnp.bfloat16).at[1:].set(-0.25)
    found = eq.measure.pair_constants(x, u)
    assert (float(found.k_pair), found.k_pair.dtype) == (10, jnp.bfloat16)
    terms = eq.measure.pair_terms(x, u)
    assert (float(terms.rate[0, 1]), terms.rate.dtype) == (10, jnp.bfloat16)


def test_a_million_coordinates_are_summed_in_parts():
    d = 2**20 + 3
    x = np.zeros((2, d), np.float32)
    x[1] = 0.1  # one after another: 0.4 % off
    u = np.zeros_like(x)
    u[1, 0] = 1
    exact = 1 / (np.float64(np.float32(0.1)) * d**0.5)
    np.testing.assert_allclose(eq.measure.pair_constants(x, u).k_pair, exact, rtol=2e-5)


def test_counts_of_pairs_do_not_run_over():
    """50,000 particles in one place are 1.25e9 pairs, 100,000 of them more than 32 bits hold."""
    for n in (50_000, 100_000):
        ahead = n - 1 - jnp.arange(n, dtype=jnp.int32)
        assert int(jax.jit(_differences.total)(ahead)) == min(n * (n - 1) // 2, 2**31 - 1)
    assert int(_differences.added(jnp.int32(2**31 - 2), jnp.int32(5))) == 2**31 - 1
    found = eq.measure.pair_constants(jnp.zeros((1200, 1), jnp.float32).at[0].set(1), jnp.zeros((1200, 1), jnp.float32))
    assert int(found.num_twins) == 1199 * 1198 // 2


@pytest.mark.parametrize("moved", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("n", "d"), [(14, 1), (15, 2), (16, 2), (41, 3), (64, 8)])
def test_half_way_round_the_ring_every_pair_is_met_once(n, d, moved):
    """The scan of few dimensions finds row for row what the scan in tiles finds, twins, torn and unresolved pairs counted once."""
    rng = np.random.default_rng(n)
    x = rng.standard_normal((n, d)).astype(np.float32)
    w = (x + 0.1 * rng.standard_normal((n, d))).astype(np.float32)
    x[n // 2], w[n // 2] = x[0], w[0]  # twins, opposite each other on the ring where n is even
    x[3] = x[1]  # torn
    x[5] = x[4] * (1 + 1e-7)  # unresolved
    w[6] = w[2]  # merged where w is a place
    quantities = ("rate", "closing", "low", "high", "margin") if moved else ("rate", "closing")
    asked = _differences.Asked(quantities, moved=moved, floor=1e-6 if moved else 0.0)

    def both(x, w):
        at = _differences.cloud(asked, x, w)[0]

        def table(rows):
            sizes = at.size[rows][:, None] + at.size[None]
            return _differences.values(asked, at, *_differences.tile(asked, at, rows, jnp.arange(n)), sizes)

        return _scan._ends(n, table, *_scan._turned(asked, at)), _scan._by_rows(n, table)

    turned, tiled = jax.jit(both)(jnp.asarray(x), jnp.asarray(w))
    for name, one, other in zip(turned._fields, turned, tiled, strict=True):
        np.testing.assert_array_equal(one, other, err_msg=name)
    assert (int(turned.twins), int(turned.torn)) == (1, 1)
