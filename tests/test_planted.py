"""Planted constants: rules of which everything is known, drawn a thousand times; what is reported lies on the right side."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eqdyn as eq

DRAWS, N, D = 1000, 6, 2
TOL = 1e-9


def _keys(seed):
    return jax.random.split(jax.random.key(seed), DRAWS)


def _normal(key, k, shape):
    return jax.random.normal(jax.random.fold_in(key, k), shape, jnp.float64)


def _norm(a):
    return jnp.linalg.svd(a, compute_uv=False)[0]


# U, and what is known of it: K of P2-K, the largest pair rate on any pair, the strongest approach on any pair


def _linear(key):
    """U(X) = X A + 1 m(X)^T with m(X) = B^T sum_k x_k: K is the larger of |A| and |A + N B|; pairs only see A."""
    a, b = _normal(key, 1, (D, D)), _normal(key, 2, (D, D)) / N
    return {"a": a.T, "b": b}, jnp.maximum(_norm(a), _norm(a + N * b)), _norm(a), jnp.linalg.eigvalsh(-(a + a.T) / 2)[-1]


def _well(key):
    """A quadratic well, U_i = -Q (x_i - c): K = |Q|, mu = largest eigenvalue of Q."""
    root = _normal(key, 1, (D, D))
    q = root @ root.T + 0.1 * jnp.eye(D)
    return {"a": -q, "b": jnp.zeros((D, D))}, _norm(q), _norm(q), jnp.linalg.eigvalsh(q)[-1]


def _rotation(key):
    """U_i = om J (x_i - mean): K_pair = |om|, mu = 0, never merges."""
    om = 3 * _normal(key, 1, ())
    j = om * jnp.asarray([[0.0, -1.0], [1.0, 0.0]])
    return {"a": j, "b": -j.T / N}, jnp.abs(om), jnp.abs(om), jnp.zeros(())


def _force(x, data):
    return x @ data["a"].T + jnp.sum(x, axis=0, keepdims=True) @ data["b"]


def _wells(x, data):
    return x - x**3


FAMILIES = {"linear": _linear, "quadratic well": _well, "rotation": _rotation}
RULE = eq.rules.from_function(_force)


@pytest.mark.parametrize("family", FAMILIES)
def test_pair_constants_of_a_thousand_rules(family):
    def one(key):
        data, _, pair, mu = FAMILIES[family](key)
        x = _normal(key, 9, (N, D))
        found = eq.measure.pair_constants(x, _force(x, data))
        return found.k_pair, found.mu, pair, mu

    k_pair, found_mu, pair, mu = jax.jit(jax.vmap(one))(_keys(1))
    assert np.mean(k_pair <= pair * (1 + TOL)) >= 0.99
    assert np.mean(found_mu <= mu + TOL) >= 0.99
    assert np.median(k_pair / pair) > 0.9, "and nearly tight"


@pytest.mark.parametrize("family", [*(pytest.param(name, marks=pytest.mark.slow) for name in ("linear", "rotation")), "quadratic well"])
def test_verdicts_on_declared_constants(family):
    """K as planted is not refuted, a K of 0.99 of it is; and the reported lower bound is the K."""
    right, caught, bounds = [], [], []
    for key in _keys(2)[: DRAWS // 8]:
        data, K, _, _ = FAMILIES[family](key)
        x = _normal(key, 9, (N, D))
        fine = eq.check(RULE, x, data=data, K=float(K) * (1 + 1e-9), num_draws=2, key=key)
        short = eq.check(RULE, x, data=data, K=float(K) * 0.99, num_draws=2, key=key)
        right.append(fine.holds and fine.laws["P2-K"].verdict == "not refuted")
        caught.append(short.laws["P2-K"].verdict == "fails")
        bounds.append(fine.laws["P2-K"].bound / float(K))
    assert np.mean(right) >= 0.99
    assert np.mean(caught) >= 0.99
    assert np.max(bounds) <= 1 + 1e-9
    assert np.min(bounds) > 1 - 1e-9, "by Schur's lemma differences and common shifts see all of a linear rule"


def test_merge_steps_of_a_thousand_pairs():
    """Along an eigenvector of Q a pair merges at eta = 1/eigenvalue, below it never."""

    def one(key):
        data, K, _, _ = _well(key)
        values, vectors = jnp.linalg.eigh(-data["a"])
        x = _normal(key, 9, (1, D))
        pair = jnp.concatenate([x, x + vectors[:, -1][None]])
        eta, stretch = eq.measure.pair_terms(pair, _force(pair, data)).closest()
        return eta[0, 1], stretch[0, 1], 1 / values[-1], K

    eta, stretch, merge, K = jax.jit(jax.vmap(one))(_keys(3))
    np.testing.assert_allclose(eta, merge, rtol=1e-7)
    assert np.max(stretch) < 1e-6, "rounding of a difference that vanishes"
    assert np.all(eta >= (1 - TOL) / K), "nobody merges below eta* = 1/K"


def test_double_wells():
    """U = x - x^3: rate |1 - (x^2 + x y + y^2)|, merge at x^2 + x y + y^2 = 1 + 1/eta, fold at x^2 = (1 + 1/eta)/3."""

    def one(key):
        x = 2 * _normal(key, 1, (N, 1))
        found = eq.measure.pair_constants(x, _wells(x, None))
        a, b = x, x.T
        rates = jnp.where(jnp.eye(N, dtype=bool), 0, jnp.abs(1 - (a**2 + a * b + b**2)))
        closing = jnp.where(jnp.eye(N, dtype=bool), -jnp.inf, a**2 + a * b + b**2 - 1)
        eta, stretch = eq.measure.pair_terms(x, _wells(x, None)).closest()
        merges = closing > 1e-3
        off = jnp.where(merges, jnp.abs(eta * closing - 1), 0)
        left = jnp.where(merges, jnp.nan_to_num(stretch), 0)
        return found.k_pair / rates.max(), found.mu / closing.max(), off.max(), left.max()

    k, mu, off, left = jax.jit(jax.vmap(one))(_keys(4))
    np.testing.assert_allclose(k, 1, rtol=1e-9)
    np.testing.assert_allclose(mu, 1, rtol=1e-9)
    assert np.max(off) < 1e-9
    assert np.max(left) < 1e-6, "in one dimension every approach ends in a merge"


def test_double_well_folds_where_it_must(key):
    """The lifted law at a draw: particle perm[0] folds at eta = 1/(3 x^2 - 1)."""
    rule, x = eq.rules.from_function(lambda x: x - x**3), 1 + jax.random.uniform(key, (N, 1), jnp.float64)
    report = eq.check(rule, x, num_draws=16, key=key)
    largest = max(float(jnp.max(3 * _drawn(x, key, k) ** 2 - 1)) for k in range(16))
    bound = report.laws["Lifted invertibility"].bound
    assert float(jnp.max(3 * x**2 - 1)) * 0.5 < bound <= largest * (1 + 1e-9)
    assert eq.check(rule, x, eta=1.01 / bound, num_draws=16, key=key).laws["Lifted invertibility"].verdict == "fails"
    assert eq.check(rule, x, eta=0.99 / bound, num_draws=16, key=key).laws["Lifted invertibility"].verdict == "holds"


def _drawn(x, key, k):
    from eqdyn import groups
    from eqdyn._ask import draws

    return draws.draw(groups.rows(x), x, key, jnp.asarray(k)).x


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_consensus_merges_all_at_one_and_halves_at_a_half(dtype):
    x = jnp.asarray(np.random.default_rng(0).integers(-64, 64, (16, D)) / 8, dtype)  # sums are exact
    rule = eq.rules.consensus()
    merged = eq.step(rule, x, (), 1.0)[0]
    assert int(eq.measure.merges(x, merged).merged) == int(eq.measure.atoms(x).num_atoms) - 1
    half = eq.measure.stretch(x, eq.step(rule, x, (), 0.5)[0])
    assert (float(half.low), float(half.high)) == (0.5, 0.5)


@pytest.mark.slow
@pytest.mark.parametrize("eta", [0.1, 1.0, 3.0, 100.0])
def test_rotation_never_merges(eta):
    """Although eta*K passes 1: the stretch is sqrt(1 + eta^2 om^2) at every eta."""
    om = 0.7
    data = {"a": jnp.asarray([[0.0, -om], [om, 0.0]]), "b": jnp.zeros((D, D))}
    x = _normal(jax.random.key(0), 0, (N, D))
    y = eq.step(RULE, x, (), eta, data)[0]
    found = eq.measure.stretch(x, y)
    np.testing.assert_allclose([found.low, found.high], np.sqrt(1 + (eta * om) ** 2), rtol=1e-12)
    assert int(eq.measure.merges(x, y).merged) == 0
    assert eq.check(RULE, x, data=data, eta=eta, num_draws=4, key=jax.random.key(1)).laws["Lifted invertibility"].verdict == "holds"
