"""The matrix rules x laws: what must hold, what must fail, what cannot be told. Derived from the theory, not from the checker.

Sources: P1 by rule, and P2 of the rules that jump (theory A.1); lemmas and theorems follow from P1 for any finite configuration (A.2);
which lifted steps can fold, and at which eta (A.6).
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tables import ADAPTED, BROKEN, KEYED, LOSS, RULES, WEIGHTED, batch, start

import eqdyn as eq
from eqdyn import _check

DTYPES = [jnp.float32, jnp.float64]
CONTROL_DTYPES = [jnp.float32, pytest.param(jnp.float64, marks=pytest.mark.slow)]  # where rounding is coarse they are hardest to catch
ALL = {**RULES, **ADAPTED, **KEYED}
FOLLOW = ["P1", "Lemma 1", "Lemma 2", "Lemma 3", "Lemma 4", "Lemma 5", "Theorem 1", "Theorem 2", "Merge law"]
# of a rule whose U is smooth, that declares no K, and whose lifted step folds at some eta
USUAL = dict.fromkeys(FOLLOW, "holds") | {"P2-K": "unresolved", "P2'": "unresolved", "P3": "not refuted", "Lifted invertibility": "unresolved"}
JUMPS = {"P2-K": "fails", "P2'": "fails", "P3": "fails"}  # U jumps: no constant, no derivative
NEVER_FOLDS = {"Lifted invertibility": "holds"}

MATRIX = {
    "gradient": {},  # I + eta T folds where T has a negative eigenvalue
    "heavy_ball": NEVER_FOLDS,  # determinant beta^D, any eta
    "nesterov": {},  # beta^D det(I - eta G)
    "adam": NEVER_FOLDS,  # (beta1 beta2)^D
    "adam_delayed": {},  # depends on eta
    "adamw": {},  # times (1 - eta lam)^D: folds at 1/lam, and there only
    "rmsprop": {},  # beta2^D det(I - eta diag(...) G)
    "weight_decay": {},  # of heavy ball: (beta (1 - eta lam))^D
    "sign_descent": JUMPS | NEVER_FOLDS,  # between its jumps a translation
    "lion": JUMPS,  # between its jumps a translation, and decay
    "consensus": {},  # T = -I
    "self_attention": NEVER_FOLDS,  # T = beta Cov >= 0 with V = I: tokens separate
    "attraction_repulsion": {},
    "hegselmann_krause": JUMPS,  # somebody enters the radius
    "stein": {},
    "kuramoto": {},
    "wasserstein_flow": {},
    "langevin": {},  # noise that permutes: a field of it
    "gradient, weighted": {},
    "adam, weighted": NEVER_FOLDS,
    "optax sgd": NEVER_FOLDS,  # momentum 0.9
    "optax adam": NEVER_FOLDS,
    "optax clipped": {},
    "pair kernel": {},
    "own function": {},
}


def verdicts(report):
    return {name: law.verdict for name, law in report.laws.items()}


def checked(name, dtype, key, **options):
    make, takes_data = ALL[name]
    return eq.check(make(), start(dtype), data=batch(dtype) if takes_data else None, key=key, **options)


def test_every_rule_is_a_row():
    assert set(MATRIX) == set(ALL)
    assert {name for name in eq.rules.__all__ if not name.startswith("from_")} == set(RULES) | set(KEYED)
    assert set(USUAL) == {law.name for law in eq.laws.LAWS}


# one of each kind in float64; the others, whose programs differ in dtype alone, take as long again
BOTH = {"consensus", "self_attention"}
AGAIN = {
    "adam, weighted",
    "adam_delayed",
    "adamw",
    "weight_decay",
    "nesterov",
    "optax adam",
    "optax sgd",
    "optax clipped",
}  # forms of which another stands here
ROWS = [pytest.param(name, jnp.float32, marks=pytest.mark.slow if name in AGAIN else []) for name in RULES | KEYED | ADAPTED]
ROWS += [pytest.param(name, jnp.float64, marks=[] if name in BOTH else pytest.mark.slow) for name in RULES | KEYED]


@pytest.mark.parametrize(("name", "dtype"), ROWS)
def test_every_rule_against_every_law(name, dtype, key):
    report = checked(name, dtype, key)
    assert verdicts(report) == USUAL | MATRIX[name], str(report)
    assert report.holds == ("fails" not in MATRIX[name].values())


# --- rules that must fail ---------------------------------------------------------------------------------------------------

TORN = {"Lemma 1", "Lemma 3", "Theorem 1", "Theorem 2"}  # equal particles are told apart
PAIRS = {"Lemma 2", "Lemma 4", "Lemma 5"}
# a difference of a thousandth is within the sqrt 2 by which P2' is wider than the pair bound
SUBTLE = {"index-dependent rate of 1e-3", "particle after particle", "per-particle offset"}
UNLIKE = {name: {"P1"} | TORN | (PAIRS - {"Lemma 5"} if name in SUBTLE else PAIRS) for name in BROKEN} | {
    # a leader moves everybody alike: pairs notice nothing, but a swap with it is felt by the others
    "particle 0 leads": {"P1", "Theorem 1"},
    # rows are treated by what stands before them, columns alike: twins stay together
    "normalised along the wrong axis": {"P1", "Lemma 2", "Lemma 4", "Theorem 1"},
}
# sort and abs; the kinks of the second are smaller than float32 can tell from rounding over so short a segment
KINKED = {jnp.float32: {"sorted"}, jnp.float64: {"sorted", "normalised along the wrong axis"}}


# the plainest of those that look at the row's index; the others see the same verdicts, and are slow
PLAIN = {
    "index-dependent rate of 1e-3",
    "particle after particle",
    "particle 0 leads",
    "normalised along the wrong axis",
    "sorted",
    "per-particle key",
}


def suite(names, fast):
    return [pytest.param(name, marks=[] if name in fast else pytest.mark.slow) for name in names]


@pytest.mark.parametrize("dtype", CONTROL_DTYPES)
@pytest.mark.parametrize("name", suite(BROKEN, PLAIN))
def test_rules_that_treat_particles_unlike_fail(name, dtype, key):
    rule, x = eq.rules.from_function(BROKEN[name]), start(dtype)
    report = eq.check(rule, x, key=key)
    kinked = {"P3"} if name in KINKED[dtype] else set()
    assert {law for law, verdict in verdicts(report).items() if verdict == "fails"} == UNLIKE[name] | kinked, str(report)
    assert not report.holds
    # and the failure can be seen again, by the same program
    law = report.laws["P1"]
    program = _check._program.cache_info().misses
    again = law.replay()
    assert _check._program.cache_info().misses == program
    assert again.error > 10 * again.tolerance
    np.testing.assert_allclose(again.error, law.error, rtol=1e-3)
    # by hand, from what the replay says: the permutation at the configuration, without the checker
    if "key" not in name and "after" not in name:
        u = BROKEN[name]
        miss = jnp.max(jnp.abs(u(law.replay.x[law.replay.perm]) - u(law.replay.x)[law.replay.perm]))
        assert float(miss) > 0.1 * again.error * float(jnp.max(jnp.abs(u(law.replay.x))))


# rule, start, options, and the laws that must fail: the others must not
DECLARED = {"P2-K", "P2'", "Lemma 2", "Lemma 4", "Theorem 1"}  # a pair moves faster than the declared K
EARLY = {"Lemma 3", "Theorem 2", "Merge law", "Lifted invertibility"}  # and merges below 1/K
CONTROLS = {
    "K of a half": (lambda: eq.rules.consensus(rate=2.0), {"K": 1.0}, DECLARED | EARLY),
    "K of a third": (lambda: eq.rules.consensus(rate=3.0), {"K": 1.0}, DECLARED | EARLY | {"Lemma 5"}),
    "K of a half, decay": (lambda: eq.rules.from_function(lambda x: -x), {"K": 0.5}, DECLARED | EARLY),
    "K of a half, rotation": (lambda: eq.rules.from_function(_turn), {"K": 0.5}, DECLARED - {"Theorem 1"}),  # it turns: s = sqrt(1 + eta^2)
    "K a little short": (lambda: eq.rules.consensus(), {"K": 0.9}, (DECLARED - {"P2'"}) | EARLY),
    "relu": (lambda: eq.rules.from_function(lambda x: -jax.nn.relu(x)), {}, {"P3"}),
    "absolute value": (lambda: eq.rules.from_function(lambda x: jnp.mean(x, axis=0, keepdims=True) - jnp.abs(x)), {}, {"P3"}),
    "heaviside": (lambda: eq.rules.from_function(lambda x: (x > 0).astype(x.dtype)), {}, {"P2-K", "P2'", "P3"}),
    "square root": (lambda: eq.rules.from_function(lambda x: jnp.sign(x) * jnp.sqrt(jnp.abs(x))), {}, {"P2-K", "P2'", "P3"}),
    "weights that leak": (lambda: _leaky(1e-3), {}, {"Theorem 2"}),
    "weights that grow": (lambda: _leaky(-0.5), {}, {"Theorem 2"}),
    "weights that go to the mean": (lambda: _leaky(None), {}, {"Theorem 2"}),
    "consensus at twice eta*": (lambda: eq.rules.consensus(), {"eta": 2.0}, {"Lifted invertibility"}),
    "gradient past the fold": (lambda: eq.rules.gradient(LOSS), {"eta": 100.0}, {"Lifted invertibility"}),
    "nesterov past the fold": (lambda: eq.rules.nesterov(LOSS), {"eta": 100.0}, {"Lifted invertibility"}),
    "rmsprop past the fold": (lambda: eq.rules.rmsprop(LOSS), {"eta": 100.0}, {"Lifted invertibility"}),
    "adam_delayed past the fold": (lambda: eq.rules.adam_delayed(LOSS), {"eta": 100.0}, {"Lifted invertibility"}),
    "adamw at 2/decay": (lambda: eq.rules.adamw(LOSS, decay=0.02), {"eta": 100.0}, {"Lifted invertibility"}),
    # and those that hold at any eta
    "heavy ball at any eta": (lambda: eq.rules.heavy_ball(LOSS), {"eta": 100.0}, set()),
    "adam at any eta": (lambda: eq.rules.adam(LOSS), {"eta": 100.0}, set()),
    "adamw below 1/decay": (lambda: eq.rules.adamw(LOSS, decay=0.005), {"eta": 100.0}, set()),
    "rotation at any eta": (lambda: eq.rules.from_function(_turn), {"eta": 100.0}, set()),
    "gradient, its K declared": (lambda: eq.rules.gradient(LOSS), {"K": 100.0}, set()),
    "consensus, its K declared": (lambda: eq.rules.consensus(), {"K": 1.0 + 1e-6}, set()),
}


def _turn(x):
    return jnp.stack([-x[:, 1], x[:, 0]], axis=1)


def _leaky(rate):
    """Weights flow though the particles do all that is right."""
    inner = eq.rules.gradient(WEIGHTED, weighted=True)

    def update(x, state, data=None, *, key=None):
        u = inner.update(x, state, data)
        flow = jnp.mean(x.weight) - x.weight if rate is None else -rate * x.weight
        return u._replace(u=eq.Weighted(u.u.x, flow))

    return eq.Rule(inner.init, update)


TWICE = {
    "K of a third",
    "K of a half, decay",
    "weights that grow",
    "nesterov past the fold",
    "adamw below 1/decay",
    "rotation at any eta",
    "square root",
    "adam_delayed past the fold",
    "adamw at 2/decay",
    "heavy ball at any eta",
    "weights that go to the mean",
}


@pytest.mark.parametrize("dtype", CONTROL_DTYPES)
@pytest.mark.parametrize("name", suite(CONTROLS, set(CONTROLS) - TWICE))
def test_controls_fail_where_they_must_and_nowhere_else(name, dtype, key):
    make, options, failing = CONTROLS[name]
    x = start(dtype, d=2) if "rotation" in name else start(dtype)
    x = eq.Weighted(x, jnp.linspace(0.5, 2.0, len(x), dtype=dtype)) if "weights" in name else x
    takes_data = "weights" in name or any(rule in name for rule in ("gradient", "nesterov", "rmsprop", "adam", "heavy"))
    report = eq.check(make(), x, data=batch(dtype) if takes_data else None, key=key, **options)
    assert {law for law, verdict in verdicts(report).items() if verdict == "fails"} == failing, str(report)
    if "K" in options and not failing:
        assert verdicts(report)["P2-K"] == verdicts(report)["P2'"] == "not refuted"
        assert verdicts(report)["Lifted invertibility"] == "holds"


def test_every_law_has_three_rules_that_must_fail_it():
    failing = [*UNLIKE.values(), *{"P3"}, *[{law for law, verdict in row.items() if verdict == "fails"} for row in MATRIX.values()]]
    failing += [laws for _, _, laws in CONTROLS.values()]
    counts = {law: sum(law in laws for laws in failing) for law in USUAL}
    assert min(counts.values()) >= 3, counts
