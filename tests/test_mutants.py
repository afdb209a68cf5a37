"""Checkers that are broken on purpose: each gives a wrong verdict on a rule of which the right one is known."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eqdyn as eq
from eqdyn import _check, laws
from eqdyn._ask import ask, draws, halve
from eqdyn.laws import _law, induced, lifting, properties

KEY = jax.random.key(3)
X = jax.random.normal(jax.random.key(0), (8, 2), jnp.float64)
WELL = lambda x: jnp.sum(jnp.cos(x)) + jnp.sum(jnp.mean(x, axis=0) ** 2)  # noqa: E731 - a value, as the rules compare it
STATE = (ADAM := eq.rules.adam(WELL)).update(X, ADAM.init(X)).state


def _fickle(x, state, data=None, *, key=None):
    """Says one U first, and another when asked anew."""
    _fickle.calls += 1
    return eq.Update(-(1 + 0.3 * _fickle.calls) * x, state)


_fickle.calls = 0


def _leaky(x, state, data=None, *, key=None):
    return eq.Update(eq.Weighted(-x.x, -0.1 * x.weight), state)


# rule, arguments of check, law, the right verdict
KNOWN = {
    "uneven rate": (eq.rules.from_function(lambda x: -(1 + 1e-3 * jnp.arange(8.0)[:, None]) * x), {}, ["P1", "Lemma 1", "Lemma 4"], "fails"),
    "cumulative sum": (eq.rules.from_function(lambda x: jnp.cumsum(x, axis=0)), {}, ["Lemma 2", "Lemma 5", "Theorem 2"], "fails"),
    "consensus": (eq.rules.consensus(), {}, ["P1", "Lemma 1", "Lemma 2", "Lemma 4", "Theorem 1", "Merge law"], "holds"),
    "short K": (eq.rules.consensus(), {"K": 0.9}, ["P2-K", "Lemma 2", "Lemma 4", "Theorem 1"], "fails"),
    "early merge": (eq.rules.consensus(rate=2.0), {"K": 1.0}, ["Merge law", "Lemma 3"], "fails"),
    "right K": (eq.rules.consensus(), {"K": 1.0}, ["P2-K", "P2'"], "not refuted"),
    "jump": (eq.rules.from_function(lambda x: -jnp.sign(x)), {}, ["P2-K", "P3"], "fails"),
    "leader": (eq.rules.from_function(lambda x: x[:1] - x), {"num_draws": 16}, ["Theorem 1"], "fails"),
    "leak": (eq.Rule(lambda x: (), _leaky), {"x": eq.Weighted(X, jnp.arange(1.0, 9.0))}, ["Theorem 2"], "fails"),
    "past the fold": (eq.rules.consensus(), {"eta": 2.0}, ["Lifted invertibility"], "fails"),
    "momentum": (eq.rules.heavy_ball(WELL), {"eta": 50.0}, ["Lifted invertibility"], "holds"),
    "state": (ADAM, {"state": STATE}, ["P1"], "holds"),
    "second look": (eq.Rule(lambda x: (), _fickle), {}, ["Merge law"], "fails"),
}


def told(name):
    rule, options, names, _ = KNOWN[name]
    options = {"x": X, "num_draws": 8, **options}
    report = eq.check(rule, options.pop("x"), key=KEY, **options)
    return {law: report.laws[law].verdict for law in names}


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] if k % 12 else []) for k, name in enumerate(KNOWN)])
def test_the_checker_is_right(name):
    assert set(told(name).values()) == {KNOWN[name][3]}


def _always(value):
    return lambda *args, **kwargs: value


def _without_permuting(compare):
    return lambda group, x, perm, us: compare(group, x, jnp.arange(group.size), us)


def _no_twins(variants):
    def mutant(group, draw):
        taken, orders = variants(group, draw)
        return jax.tree.map(lambda leaf: leaf.at[draws.TWINS].set(leaf[draws.AT]), taken), orders

    return mutant


def _no_swaps(variants):
    def mutant(group, draw):
        taken, orders = variants(group, draw)
        return jax.tree.map(lambda leaf: leaf.at[draws.SWAPPED :].set(leaf[draws.NEAR][None]), taken), orders

    return mutant


def _parity_only(fold_rate):
    """The sign of the determinant at a far eta: an even number of folds is not seen."""

    def mutant(response, dim, eps):
        b, scale = fold_rate(response, dim, eps)
        return (b if np.linalg.det(np.eye(dim) + 1e6 * response[:dim, :dim].T) < 0 else 0.0), scale

    return mutant


def _without_state(fold_rate):
    return lambda response, dim, eps: fold_rate(response[:dim, :dim], dim, eps)


def _same_answer(real):
    def mutant(force, group, lanes, draw, x, state):
        halvings, _ = real(force, group, lanes, draw, x, state)
        return halvings, eq.Update(-(1 + 0.3 * (_fickle.calls - 1)) * x, ()).u

    return mutant


# where, what in place of what is there, and the known answers that go wrong
MUTANTS = {
    "P1 forgets to permute": (properties, "compare", _without_permuting, "consensus"),
    "P1 takes errors for rounding": (properties, "compare", lambda real: lambda *a: real(*a)._replace(error=1e-12 * real(*a).error), "uneven rate"),
    "rounding is thought to be huge": (_law, "margin", lambda real: lambda num: 1e14 * real(num), "uneven rate"),
    "twins are not made": (draws, "variants", _no_twins, "consensus"),
    "swaps are not made": (draws, "variants", _no_swaps, "consensus"),
    "equal particles are not looked at": (laws, "torn", lambda real: lambda facts: real(facts)._replace(error=0 * facts.noise), "cumulative sum"),
    "a declared K is ignored": (laws, "facts", lambda real: lambda g, d, a, eta, K: real(g, d, a, eta, jnp.nan * K), "short K"),
    "merges are not looked for": (laws, "merged_early", lambda real: lambda g, f: real(g, f)._replace(error=0 * f.noise), "early merge"),
    "growth is not looked for": (properties, "_GROWS", lambda real: 10.0, "jump"),
    "kinks are not looked for": (properties, "_BENDS", lambda real: 10.0, "jump"),
    "the Jacobian is not looked at": (induced, "_jacobian", lambda real: lambda *a: [], "leader"),
    "weights are not looked at": (ask, "_leak", lambda real: lambda x, u: jnp.zeros(()), "leak"),
    "folds by the sign of the determinant alone": (lifting, "fold_rate", _parity_only, "past the fold"),
    "the state is left out of the lifted map": (lifting, "fold_rate", _without_state, "momentum"),
    "the given state is not permuted": (ask, "_follow", lambda real: lambda group, x, state, order: state, "state"),
    "U is asked once only": (halve, "halvings", _same_answer, "second look"),
    "a bound that is twice too large": (properties, "per", lambda real: lambda a, b: 2 * real(a, b), "right K"),
    "excess is no failure": (_check, "_verdict", lambda real: lambda law, *a: real(law._replace(verdict=_always("holds")), *a), "short K"),
}


# every twelfth one in the suite: each compiles the checker anew
@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] if k % 12 else []) for k, name in enumerate(MUTANTS)])
def test_a_broken_checker_gives_itself_away(name, monkeypatch):
    where, what, mutate, known = MUTANTS[name]
    monkeypatch.setattr(where, what, mutate(getattr(where, what)))
    # compiled programs hold the right checker: the one that holds this part is made anew
    if where in (ask, draws, halve):
        monkeypatch.setattr(_check, "_program", functools.lru_cache(_check._program.__wrapped__))
    else:
        compared = _check._compared.__wrapped__
        monkeypatch.setattr(_check, "_compared", jax.jit(lambda *args: compared(*args), static_argnums=0))
    assert set(told(known).values()) != {KNOWN[known][3]}
