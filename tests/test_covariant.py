"""Covariant descent against the optimizers that are its special cases, bowls in closed form, and the meter on planted exponents."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import eqdyn as eq
from eqdyn.covariant import bowl, descent, interpolation
from eqdyn.networks import two_layer

NUM, DIM = 6, 4
H = jnp.diag(jnp.array([0.3, 1.0, 3.0, 10.0]))
SPECIAL = {
    "SGD": (lambda: optax.sgd(0.05), lambda: descent(0.05, 0, tau1=0)),
    "momentum": (lambda: optax.sgd(0.01, momentum=0.9), lambda: descent(0.01 / (1 - 0.9), 0, tau1=9, bias_correction=False)),
    "RMSProp": (lambda: optax.rmsprop(0.01, decay=0.9), lambda: descent(0.01, 0.5, tau1=0, tau2=9, bias_correction=False)),
    "Adam": (lambda: optax.adam(0.01), lambda: descent(0.01, damping="outside")),
    "Adam, eps inside": (lambda: optax.adam(0.01, eps=0.0, eps_root=1e-8), lambda: descent(0.01)),
    "Adam, no correction": (
        lambda: optax.chain(optax.scale_by_rms(0.999, eps_in_sqrt=False), optax.scale_by_learning_rate(0.001)),
        lambda: descent(0.001, tau1=0, damping="outside", bias_correction=False),
    ),
    "AdaBelief": (lambda: optax.adabelief(0.01, eps=1e-8, eps_root=0.0), lambda: descent(0.01, damping="outside", moment="residual")),
}
EXACT = {"SGD"}


def loss(x):
    h = H.astype(x.dtype)
    return 0.5 * jnp.einsum("ij,jk,ik->", x, h, x) + 0.1 * jnp.sum(jnp.cos(3 * x))


gradient = jax.jit(jax.grad(loss))  # a program of its own: what is compared is what is made of equal gradients


def path(tx, dtype, promotion, num_steps=100):
    @jax.jit
    def update(g, state, x):
        with jax.numpy_dtype_promotion(promotion):
            return tx.update(g, state, x)

    x = jax.random.normal(jax.random.key(0), (NUM, DIM), jnp.float64).astype(dtype)
    state, found = tx.init(x), [x]
    for _ in range(num_steps):
        u, state = update(gradient(x), state, x)
        x = x + u
        found.append(x)
    return np.array(found)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("name", SPECIAL)
def test_special_cases(name, dtype):
    theirs, ours = SPECIAL[name]
    one, other = path(theirs(), dtype, "standard"), path(ours(), dtype, "strict")
    apart = np.abs(one - other).max(axis=(1, 2))
    moved = np.abs(one - one[0]).max()
    assert moved > 0.05
    if name in EXACT:
        assert apart.max() == 0
    elif dtype == jnp.float64:
        assert apart.max() < 1e-12
    else:
        assert apart[1] < 1e-6
        assert apart.max() < 1e-4 * moved


def test_a_schedule_is_followed():
    schedule = optax.linear_schedule(0.1, 0.0, 10)
    tx, sgd = descent(schedule, 0, tau1=0), optax.sgd(schedule)
    np.testing.assert_array_equal(path(tx, jnp.float64, "strict", 20), path(sgd, jnp.float64, "standard", 20))


# --- coordinates -----------------------------------------------------------------------------------------------------------


def one_path(alpha, turn, structure, *, eps=1e-3, moment="raw", num_steps=30):
    """Descent on 4 numbers in the coordinates y, q = turn y; in terms of q."""
    turn = jnp.asarray(turn)
    tx = descent(0.02, alpha, tau1=3, tau2=9, eps=eps, structure=structure, moment=moment)
    y = jnp.linalg.solve(turn, jnp.array([1.0, -2.0, 0.5, 1.5]))

    @jax.jit
    def step(y, state, key):
        # gradients with noise of full rank, the same in both coordinates
        g = turn.T @ (H @ (turn @ y) + jax.random.normal(key, (4,)) * jnp.array([1.0, 2.0, 0.5, 1.0]))
        u, state = tx.update(g, state, y)
        return y + u, state

    state, found = tx.init(y), []
    for k in range(num_steps):
        y, state = step(y, state, jax.random.key(k))
        found.append(turn @ y)
    return np.array(found)


ROTATION = np.linalg.qr(np.random.default_rng(1).standard_normal((4, 4)))[0]
STRETCH = np.diag([1.0, 2.0, 0.5, 4.0])
ANY = ROTATION @ STRETCH


@pytest.mark.parametrize(
    ("alpha", "turn", "structure", "eps", "same"),
    [
        (0.5, ROTATION, "full", 1e-3, True),
        (0.25, ROTATION, "full", 1e-3, True),
        (1.0, ROTATION, "full", 1e-3, True),
        (0.5, ROTATION, "diagonal", 1e-3, False),
        (0.5, ANY, "full", 1e-3, False),
        (1.0, STRETCH, "diagonal", 0.0, True),
        (0.5, STRETCH, "diagonal", 0.0, False),
        (0.5, ROTATION, "low_rank", 1e-3, True),
    ],
)
def test_in_which_coordinates_the_step_is_the_same(alpha, turn, structure, eps, same):
    one, other = one_path(alpha, np.eye(4), structure, eps=eps), one_path(alpha, turn, structure, eps=eps)
    apart = np.abs(one - other).max() / np.abs(one - one[0]).max()
    assert apart < 1e-8 if same else apart > 1e-3


def test_natural_gradient_is_the_same_in_all_coordinates():
    """alpha = 1 without damping, once the second moment has full rank."""

    def steps(turn):
        rng = np.random.default_rng(0)
        tx = descent(0.1, 1.0, tau1=0, tau2=50, eps=0.0, structure="full")
        y = jnp.zeros(4)
        state = tx.init(y)
        for _ in range(60):
            g = turn.T @ rng.standard_normal(4)
            u, state = tx.update(jnp.asarray(g), state, y)
        return turn @ np.asarray(u)

    np.testing.assert_allclose(steps(ANY), steps(np.eye(4)), rtol=1e-6)


@pytest.mark.parametrize("bias_correction", [True, False])
@pytest.mark.parametrize("structure", ["diagonal", "full"])
def test_a_centred_moment_is_the_difference_of_averages(structure, bias_correction):
    rng, beta = np.random.default_rng(0), 0.75
    tx = descent(1.0, 1.0, tau1=0, tau2=3, eps=1e-3, structure=structure, moment="centred", bias_correction=bias_correction)
    x = jnp.zeros(3)
    state, first, second = tx.init(x), np.zeros(3), np.zeros((3, 3))
    for t in range(1, 9):
        g = rng.standard_normal(3) + 5
        first, second = beta * first + (1 - beta) * g, beta * second + (1 - beta) * np.outer(g, g)
        weight = 1 - beta**t if bias_correction else 1.0
        kappa = second / weight - np.outer(first, first) / weight**2
        kappa = kappa if structure == "full" else np.diag(np.diag(kappa))
        u, state = tx.update(jnp.asarray(g), state, x)
        np.testing.assert_allclose(u, -np.linalg.solve(kappa + 1e-3 * np.eye(3), g), rtol=1e-8)


def test_low_rank_of_all_is_full():
    full = one_path(0.5, np.eye(4), "full")
    np.testing.assert_allclose(one_path(0.5, np.eye(4), "low_rank"), full, rtol=1e-8)


@pytest.mark.parametrize(
    ("structure", "moment"), [("full", "raw"), ("full", "centred"), ("particle", "raw"), ("particle", "centred"), ("low_rank", "raw")]
)
def test_a_metric_is_refreshed_now_and_then(structure, moment):
    """Every third step; a full moment is read at all steps, the others at the third ones. Lanes of a `vmap` agree with runs alone."""
    now_and_then, always = (descent(1.0, 0.5, tau1=0, tau2=4, eps=1e-3, structure=structure, moment=moment, refresh=refresh) for refresh in (3, 1))
    grads = jax.random.normal(jax.random.key(0), (2, 8, NUM, DIM))

    def updates(tx, grads):
        def step(state, g):
            u, state = tx.update(g, state, g)
            return state, u

        return jax.lax.scan(step, tx.init(grads[0]), grads)[1]

    found = jax.jit(jax.vmap(lambda grads: updates(now_and_then, grads)))(grads)
    for lane, g in enumerate(grads):
        np.testing.assert_allclose(found[lane], updates(now_and_then, g), rtol=1e-6, atol=1e-9)
        whole = updates(always, g)
        np.testing.assert_allclose(found[lane][::3], whole[::3] if structure == "full" else updates(always, g[::3]), rtol=1e-6, atol=1e-9)
        assert not np.allclose(found[lane][1::3], whole[1::3], rtol=1e-3)


# --- particles -------------------------------------------------------------------------------------------------------------

LAWFUL = {
    "diagonal": {},
    "particle": {"structure": "particle"},
    "particle, each": {"structure": "particle", "per_particle": True},
    "particle, centred": {"structure": "particle", "moment": "centred", "eps": 0.1},
    "particle, now and then": {"structure": "particle", "refresh": 3},
}


@pytest.mark.parametrize("alpha", [pytest.param(0.0, marks=pytest.mark.slow), 0.5, pytest.param(1.0, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", [pytest.param(name, marks=[] if name == "particle" else pytest.mark.slow) for name in LAWFUL])
def test_the_laws_hold(name, alpha, key):
    tx = descent(1.0, alpha, tau1=2, tau2=9, **{"eps": 1e-3} | LAWFUL[name])
    rule = eq.rules.from_optax(tx, loss, separable="particle" not in name)
    x = jax.random.normal(key, (NUM, DIM))
    state = rule.init(x)
    for _ in range(4):  # with a state that has something in it
        x, state, _ = eq.step(rule, x, state, 0.01)
    report = eq.check(rule, x, state, eta=0.01, key=key, num_draws=8)
    assert report.laws["P1"].verdict == "holds", report
    assert report.holds, str({k: v for k, v in report.laws.items() if v.verdict == "fails"})


@pytest.mark.slow
def test_a_full_metric_is_no_law_of_particles(key):
    """Its state is made of pairs of coordinates: it does not follow the particles when they change places, and the report says so."""
    rule = eq.rules.from_optax(descent(1.0, 0.5, tau2=9, eps=1e-3, structure="full"), loss)
    x = jax.random.normal(key, (NUM, DIM))
    assert eq.check(rule, x, key=key, eta=0.01, num_draws=8).laws["P1"].verdict == "holds"  # from a fresh state
    state = rule.init(x)
    for _ in range(3):
        x, state, _ = eq.step(rule, x, state, 0.01)
    assert eq.check(rule, x, state, key=key, eta=0.01, num_draws=8).laws["P1"].verdict == "fails"


def test_two_optimizers_with_equal_numbers_are_one_rule():
    made = [eq.rules.from_optax(descent(1.0, 0.5, structure="particle"), loss) for _ in range(2)]
    assert made[0] == made[1]
    assert made[0] != eq.rules.from_optax(descent(1.0, 0.25, structure="particle"), loss)


def test_groups_of_a_network_and_what_belongs_to_none():
    params = {"hidden": jnp.ones((3, 5)), "output": jnp.arange(10.0).reshape(5, 2), "bias": jnp.ones(2)}
    group = eq.groups.from_axes({k: params[k] for k in ("hidden", "output")}, {"hidden": 1, "output": 0})
    tx = descent(0.1, 0.5, tau1=0, tau2=0, eps=1e-6, structure="particle", groups=group)
    g = jax.tree.map(lambda leaf: jnp.asarray(np.random.default_rng(leaf.size).standard_normal(leaf.shape)), params)
    u, _ = tx.update(g, tx.init(params), params)
    rows = np.asarray(group.particles(g))
    values, vectors = np.linalg.eigh(rows.T @ rows / len(rows) + 1e-6 * np.eye(5))
    np.testing.assert_allclose(group.particles(u), -0.1 * rows @ (vectors / np.sqrt(values)) @ vectors.T, rtol=1e-6)
    np.testing.assert_allclose(u["bias"], -0.1 * np.asarray(g["bias"]) / np.sqrt(np.asarray(g["bias"]) ** 2 + 1e-6), rtol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"alpha": 1.5}, ValueError, r"alpha: got 1.5; expected a number from 0 to 1"),
        ({"tau2": -1}, ValueError, "tau2: got -1"),
        ({"structure": "block"}, ValueError, "structure: got 'block'; expected 'diagonal', 'particle', 'low_rank' or 'full'"),
        ({"moment": "second"}, ValueError, "moment: got 'second'"),
        ({"refresh": 2}, ValueError, "refresh: got 2 with structure='diagonal'"),
        ({"structure": "low_rank", "moment": "centred"}, ValueError, "two sketches"),
        ({"per_particle": True}, ValueError, "expected structure='particle'"),
        ({"step_size": "fast"}, (TypeError, ValueError), "step_size"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        descent(**{"step_size": 0.1} | arguments)


def test_parameters_without_rows():
    with pytest.raises(TypeError, match="write groups"):
        descent(0.1, structure="particle").init({"w": jnp.ones((3, 2))})
    group = eq.groups.from_axes({"w": jnp.ones((3, 2))}, {"w": 0})
    other = eq.groups.from_axes({"w": jnp.ones((3, 2))}, {"w": 1})
    with pytest.raises(ValueError, match="two that hold 'w'"):
        descent(0.1, structure="particle", groups=[group, other]).init({"w": jnp.ones((3, 2))})


def test_float32_powers_do_not_amplify_roundings():
    """A metric of rank 1 in float32: what rounding leaves in the other directions is no direction to run along."""
    tx = descent(1.0, 1.0, tau1=0, tau2=0, eps=0.0, structure="full")
    g = jnp.asarray([3.0, 1e-3, 2.0, -1.0], jnp.float32)
    u, _ = tx.update(g, tx.init(g), g)
    assert bool(jnp.all(jnp.isfinite(u)))
    np.testing.assert_allclose(float(u @ g), -1.0, rtol=0.1)  # g^-1 = 1 / |g|^2 along g


# --- bowls -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0, *(pytest.param(alpha, marks=pytest.mark.slow) for alpha in (0.25, 0.75))])
@pytest.mark.parametrize("gamma", [0.02, 0.2, 0.5])
def test_a_bowl_whose_noise_is_its_hessian(alpha, gamma):
    h, c = np.array([0.3, 1.0, 3.0]), 0.7
    found = bowl.stationary(h, c * h, gamma, alpha)
    rate = c**-alpha * h ** (1 - alpha)
    np.testing.assert_allclose(found.rates, np.sort(rate))
    assert found.stable == bool((gamma * rate < 2).all())
    if found.stable:
        exact = gamma / 2 * c ** (1 - alpha) * h**-alpha / (1 - gamma * rate / 2)
        np.testing.assert_allclose(found.covariance, np.diag(exact), atol=1e-12)
        np.testing.assert_allclose(found.excess_loss, np.sum(h * exact) / 2)
        np.testing.assert_allclose(found.update_covariance, np.diag((c * h) ** (1 - 2 * alpha)), atol=1e-12)


@pytest.mark.parametrize("alpha", [0.0, 0.25, 0.5, 0.75, 1.0])
@pytest.mark.parametrize("gamma", [pytest.param(0.05, marks=pytest.mark.slow), pytest.param(0.15, marks=pytest.mark.slow), 0.5])
def test_twenty_thousand_chains_are_where_the_bowl_says(alpha, gamma):
    """Covariance, relaxation and excess loss of 20,000 chains, averaged over sixteen relaxation times."""
    h = jnp.array([0.3, 1.0, 3.0])
    k = 0.7 * h
    exact = bowl.stationary(h, k, gamma, alpha)
    inverse = k**-alpha

    def step(q, key):
        q = q - gamma * inverse[None] * (h[None] * q + jnp.sqrt(k)[None] * jax.random.normal(key, q.shape))
        return q, jnp.stack([jnp.mean(q * q, axis=0), jnp.mean(q, axis=0)])

    slowest = int(1 / (gamma * exact.rates.min())) + 1
    num = 4 * slowest
    start = jnp.broadcast_to(3 * jnp.sqrt(jnp.diag(exact.covariance)), (20_000, 3))
    keys = jax.random.split(jax.random.key(7), num + 16 * slowest)
    means = np.asarray(jax.jit(lambda q: jax.lax.scan(step, q, keys)[1])(start))
    variance = means[num:, 0].mean(0)
    np.testing.assert_allclose(variance, np.diag(exact.covariance), rtol=0.02)
    np.testing.assert_allclose(np.sum(np.asarray(h) * variance) / 2, exact.excess_loss, rtol=0.02)
    early = max(1, int(0.7 / (gamma * exact.rates.max())))  # while the mean is far above its noise
    rates = (1 - (means[early - 1, 1] / np.asarray(start[0])) ** (1 / early)) / gamma
    np.testing.assert_allclose(np.sort(rates), exact.rates, rtol=0.02)


def test_hessian_and_noise_need_not_commute():
    h, k = np.array([[1.0, 0.6], [0.6, 2.0]]), np.array([[1.0, -0.3], [-0.3, 0.5]])
    for alpha in (0.0, 0.5, 1.0):
        found = bowl.stationary(h, k, 0.1, alpha)
        values, vectors = np.linalg.eigh(k)
        inverse = (vectors * values**-alpha) @ vectors.T
        step = np.eye(2) - 0.1 * inverse @ h
        np.testing.assert_allclose(found.covariance, step @ found.covariance @ step.T + 0.01 * inverse @ k @ inverse, atol=1e-14)


@pytest.mark.parametrize(("h", "k"), [([1.0, -1.0], [1.0, 1.0]), (np.eye(2), np.eye(3)), ([[1.0, 2.0], [0.0, 1.0]], np.eye(2))])
def test_what_is_no_bowl(h, k):
    with pytest.raises(ValueError, match=r"hessian|kappa"):
        bowl.stationary(h, k, 0.1, 0.5)


def test_fokker_planck_of_a_double_well_with_noise_that_varies():
    """In one dimension in closed form: p = exp(int b / D) / D."""
    found = eq.covariant.fokker_planck(lambda q: q**3 - q, lambda q: (0.2 + q**2)[:, :, None], 0.1, 0.25, box=[(-3, 3)], num=601)
    x, fine = found.grid[0], np.linspace(-3, 3, 60_001)
    metric = (0.2 + fine**2) ** -0.25
    spread, drift = 0.005 * metric**2 * (0.2 + fine**2), -0.1 * metric * (fine**3 - fine)
    ratio = drift / spread
    exponent = np.concatenate([[0], np.cumsum((ratio[1:] + ratio[:-1]) / 2) * (fine[1] - fine[0])])
    p = np.exp(exponent - exponent.max()) / spread
    p /= np.sum(p) * (fine[1] - fine[0])
    np.testing.assert_allclose(found.density, np.interp(x, fine, p), atol=5e-3 * p.max())
    assert found.residual < 1e-12


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_fokker_planck_of_a_tilted_bowl(alpha):
    """Two dimensions, with cross terms; the bowl in continuous time is the limit of small steps."""
    h, k = np.array([[1.0, 0.6], [0.6, 2.0]]), np.array([[1.0, -0.3], [-0.3, 0.5]])
    gamma = 1e-3
    exact = bowl.stationary(h, k, gamma, alpha).covariance
    box = [(-5.5 * s, 5.5 * s) for s in np.sqrt(np.diag(exact))]
    found = eq.covariant.fokker_planck(lambda q: q @ h, lambda q: np.broadcast_to(k, (len(q), 2, 2)), gamma, alpha, box=box, num=91)
    q = np.stack(np.meshgrid(*found.grid, indexing="ij"), -1)
    weight = found.density / found.density.sum()
    np.testing.assert_allclose(np.einsum("ij,ijm,ijn->mn", weight, q, q), exact, rtol=0.03)


@pytest.mark.parametrize(("eps", "zeta"), [(0.01, 0.1), (10.0, 1.0), (1e-3, 1e-3)])
def test_the_exponent_grows_through_the_regimes(eps, zeta):
    k = np.logspace(-14, 14, 400)
    alpha = interpolation.local_exponent(k, eps, zeta)
    assert np.all(np.diff(alpha) > 0)
    np.testing.assert_allclose(alpha, np.gradient(np.log(interpolation.metric(k, eps, zeta)), np.log(k)), atol=2e-3)
    assert alpha[0] < 0.01
    assert alpha[-1] > 0.99
    assert interpolation.local_exponent(eps / zeta, eps, zeta) == pytest.approx(0.5, abs=1e-15)
    cross = interpolation.crossovers(eps, zeta)
    assert cross.middle == eps / zeta
    assert (cross.window > 0) == (eps * zeta < 1)
    near_half = np.ptp(np.log10(k[np.abs(alpha - 0.5) < 0.05])) if (np.abs(alpha - 0.5) < 0.05).any() else 0
    assert near_half > 0.5 * cross.window - 3


def test_without_the_linear_term_it_ends_at_a_half():
    assert interpolation.local_exponent(1e30, 1e-3, 0.0) == pytest.approx(0.5)
    assert interpolation.crossovers(1e-3, 0.0).natural == np.inf
    k = np.array([[2.0, 1.0], [1.0, 2.0]])
    np.testing.assert_allclose(np.linalg.eigvalsh(interpolation.metric(k, 0.1, 0.2)), [0.1 + 1 + 0.2, 0.1 + np.sqrt(3) + 0.6])


# --- the meter -------------------------------------------------------------------------------------------------------------


def planted(seed):
    """Gradients with noise of a random spectrum, in random or given coordinates, and updates by a metric of random alpha."""
    rng = np.random.default_rng(seed)
    dim, num = int(rng.integers(4, 33)), int(rng.choice([500, 1000, 2001, 4000]))
    values = 10 ** (np.sort(rng.uniform(0, 1, dim)) * rng.uniform(0.3, 4))
    alpha = float(rng.uniform(0, 1))
    turn = np.linalg.qr(rng.standard_normal((dim, dim)))[0] if rng.random() < 0.5 else np.eye(dim)
    g = rng.standard_normal((num, dim)) * np.sqrt(values) @ turn.T + 3 * rng.standard_normal(dim)
    u = -0.1 * g @ (turn * values**-alpha) @ turn.T
    return g, u, alpha, np.log10(values.max() / values.min()), num


@pytest.mark.slow
def test_the_meter_covers_planted_exponents():
    covered, errors, wide = [], [], []
    for seed in range(200):
        g, u, alpha, decades, num = planted(seed)
        found = eq.covariant.exponent(g, u)
        resolved = not found.verdict.startswith("unresolved")
        if decades >= 1.5:
            wide.append(resolved)
        if resolved:
            covered.append(found.low <= alpha <= found.high)
        if num == 2001:
            errors.append(abs(found.alpha - alpha))
    print(f"{np.mean(covered):.3f} of {len(covered)} covered; median error {np.median(errors):.4f}; {np.mean(wide):.3f} of {len(wide)} resolved")
    assert np.mean(covered) >= 0.93
    assert np.median(errors) < 0.03
    assert np.mean(wide) >= 0.8


@pytest.mark.parametrize("seed", range(6))
def test_a_planted_exponent_is_read(seed):
    g, u, alpha, decades, _ = planted(seed)
    found = eq.covariant.exponent(g, u)
    if decades >= 1.5:
        assert found.low <= alpha <= found.high
        assert abs(found.alpha - alpha) < 0.05


def test_momentum_moves_the_line_not_its_slope():
    rng = np.random.default_rng(0)
    kappa = np.logspace(-1, 1, 10)
    g = rng.standard_normal((4000, 10)) * np.sqrt(kappa)
    u, average = np.zeros_like(g), np.zeros(10)
    for t in range(len(g)):
        average = 0.9 * average + 0.1 * g[t]
        u[t] = -0.1 * average / np.sqrt(kappa)
    found = eq.covariant.exponent(g, u)
    assert found.verdict == "efficient learning (alpha = 1/2)"
    assert abs(found.alpha - 0.5) < 0.03


def test_a_drift_is_no_noise():
    rng = np.random.default_rng(0)
    kappa = np.logspace(-1, 1, 10)
    drift = np.linspace(0, 200, 3000)[:, None]
    g = rng.standard_normal((3000, 10)) * np.sqrt(kappa) + drift
    found = eq.covariant.exponent(g, -g)
    assert abs(found.alpha) < 0.02
    assert found.whiteness[-1, 1] > 1.5


@pytest.mark.parametrize("kind", ["one size of noise", "no noise", "another law for every direction"])
def test_it_says_where_it_cannot_tell(kind):
    rng = np.random.default_rng(0)
    g = rng.standard_normal((2000, 12))
    u = -g
    if kind == "no noise":
        g = np.broadcast_to(np.linspace(0, 1, 12), g.shape)
        u = -g
    if kind == "another law for every direction":
        g = g * np.logspace(-1, 1, 12)
        u = -g * 10 ** rng.uniform(-2, 2, 12)
    found = eq.covariant.exponent(g, u)
    assert found.verdict.startswith("unresolved"), found


def test_arrays_that_are_no_run():
    g = np.ones((100, 3))
    for bad in ((g, g[:, :2]), (g[:8], g[:8]), (g * np.nan, g)):
        with pytest.raises(ValueError, match="gradients, updates"):
            eq.covariant.exponent(*bad)
    with pytest.raises(ValueError, match="method"):
        eq.covariant.exponent(g, g, method="X9")
    with pytest.raises(ValueError, match="window: got 50 of 100"):
        eq.covariant.exponent(g, g, window=50)


# --- along a run -----------------------------------------------------------------------------------------------------------


def noisy(x, data):
    """All noise: the gradient is the batch times a size for each coordinate."""
    return jnp.sum(x * data[0] * SIZE.astype(x.dtype))


SIZE = jnp.logspace(-1, 1, 12).reshape(12, 1)
OPTIMIZERS = {
    "SGD": (optax.sgd(1.0), 0.0),
    "Adam, beta1 = 0": (optax.adam(1.0, b1=0.0, b2=0.99), 0.5),
    "diagonal, 1/4": (descent(1.0, 0.25, tau1=0, tau2=99), 0.25),
    "natural": (descent(1.0, 1.0, tau1=0, tau2=99, eps=1e-6), 1.0),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_exponent_of_an_optimizer_is_read_off_its_run(name):
    tx, alpha = OPTIMIZERS[name]
    data = eq.Batches(jax.random.normal(jax.random.key(0), (512, 12, 1)), 1)
    run = eq.simulate(eq.rules.from_optax(tx, noisy), jnp.zeros((12, 1)), eta=1e-3, num_steps=2048, data=data, key=jax.random.key(1),
                      observe={"regime": eq.observe.regime(noisy)})  # fmt: skip
    seen = run.observed["regime"]
    assert seen.gradients.shape == seen.updates.shape == (2048, 12)
    found = seen.exponent(first=500)  # once the optimizer's own averages have filled
    assert abs(found.alpha - alpha) < 0.05
    assert not found.verdict.startswith("unresolved")


def test_many_parameters_are_drawn_from_and_lanes_told_apart():
    data = eq.Batches(jax.random.normal(jax.random.key(0), (64, 12, 1)), 1)
    watch = {"regime": eq.observe.regime(noisy, num=5, stride=2)}
    x0 = jnp.zeros((3, 12, 1))
    run = eq.simulate(eq.rules.gradient(noisy), x0, lanes=3, eta=1e-3, num_steps=64, data=data, key=jax.random.key(1), observe=watch)
    seen = run.observed["regime"]
    assert seen.gradients.shape == (3, 32, 5)
    assert len(set(seen.coordinates.tolist())) == 5
    np.testing.assert_array_equal(seen.updates, -seen.gradients)
    with pytest.raises(ValueError, match="expected one; write regime"):
        seen.exponent()
    assert seen.lane(1).exponent().alpha == pytest.approx(0, abs=1e-12)


# --- as a rule of particles ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tau1", [0.0, 3.0])
@pytest.mark.parametrize("structure", ["diagonal", "particle"])
def test_a_tracer_at_a_particle_moves_with_it(structure, tau1, key):
    field = two_layer.regression_field()
    rule = eq.covariant.rule(field, 0.5, tau1=tau1, tau2=9, eps=1e-2, structure=structure)
    data = (jax.random.normal(key, (32, 1)), jax.random.normal(key, (32,)))
    x = jax.random.normal(key, (NUM, 2))
    run = eq.simulate(rule, x, eta=0.02, num_steps=20, data=data, tracers=x)
    np.testing.assert_allclose(run.tracers, run.x, rtol=1e-9, atol=1e-12)
    assert float(jnp.abs(run.x - x).max()) > 0.05
    other = eq.simulate(eq.rules.from_optax(descent(1.0, 0.5, tau1=tau1, tau2=9, eps=1e-2, structure=structure), field), x, eta=0.02, num_steps=20,
                        data=data)  # fmt: skip
    np.testing.assert_array_equal(run.x, other.x)


@pytest.mark.slow
def test_the_laws_hold_with_tracers(key):
    rule = eq.covariant.rule(two_layer.regression_field(), 0.5, tau2=9, eps=1e-2)
    data = (jax.random.normal(key, (32, 1)), jax.random.normal(key, (32,)))
    report = eq.check(rule, jax.random.normal(key, (NUM, 2)), data=data, key=key, eta=0.01, num_draws=8)
    assert report.holds, str({k: v for k, v in report.laws.items() if v.verdict == "fails"})


def test_a_grid_of_exponents_is_one_program():
    """alpha is traced: one compilation, and the lane of alpha = 0 is gradient descent."""
    x0 = jax.random.normal(jax.random.key(0), (NUM, DIM))
    before = eq.compile_count()
    found = eq.sweep(
        lambda alpha: eq.covariant.rule(loss, alpha, tau2=9, eps=1e-3), x0, grid={"alpha": [0.0, 0.3, 1.0], "eta": [0.01]}, num_steps=5, lanes=3,
        keep=lambda run: {"x": run.x}, force=True,
    )  # fmt: skip
    assert eq.compile_count() - before == 1
    for k, alpha in enumerate((0.0, 0.3, 1.0)):
        one = eq.simulate(eq.covariant.rule(loss, alpha, tau2=9, eps=1e-3), x0, eta=0.01, num_steps=5)
        np.testing.assert_allclose(found["x"].values[k, 0], one.x, rtol=1e-9)


def test_other_structures_are_no_rule_of_particles():
    with pytest.raises(ValueError, match=r"structure: got 'full'; .* write rules.from_optax"):
        eq.covariant.rule(loss, structure="full")
