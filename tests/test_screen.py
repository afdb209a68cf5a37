"""All pairs by matrix products: against every pair by hand, over clouds that are easy, tied, near, far out, or in one place."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eqdyn import _differences, _scan, _screen, geometry
from eqdyn._differences import Asked

OF_U = Asked(("rate", "closing"), moved=False)
FLOOR = {np.dtype(dtype): 4 * float(np.finfo(dtype).eps) for dtype in (np.float32, np.float64)}


def of_step(dtype):
    return Asked(("low", "high", "rate", "closing", "margin"), moved=True, torn=False, floor=FLOOR[np.dtype(dtype)])


@functools.partial(jax.jit, static_argnums=(0, 3), static_argnames=("slack",))
def screened(asked, x, w, block, slack=1.0):
    """A stack of clouds, one after another in one program."""

    def one(x, w):
        found, at = _screen.screen(asked, x, w, block=block, slack=slack)
        return found, (at.unit_u, at.unit_y)

    return jax.vmap(one)(x, w)


def by_hand(asked, x, w):
    """Every pair, in wider arithmetic: the values in the order of `asked`, and which pairs are twins, torn or unresolved."""
    wide = np.longdouble if x.dtype == np.float64 else np.float64
    x, w = x.astype(wide), w.astype(wide)
    scale = max(np.abs(x).max(), np.finfo(np.float32).tiny) if asked.moved else np.abs(w).max()  # the units of torn twins of U
    i, j = np.triu_indices(len(x), 1)
    u = w - x if asked.moved else w
    dx, dw, du = x[i] - x[j], w[i] - w[j], u[i] - u[j]
    y2 = np.sum(dw * dw, axis=1)
    x2 = np.sum(dx * dx, axis=1)
    same = x2 == 0
    over = np.where(same, 1, x2)
    size = np.linalg.norm(w, axis=1)[i] + np.linalg.norm(w, axis=1)[j]
    eps = np.finfo(np.float32 if wide == np.float64 else np.float64).eps
    torn = same & (y2 > (0 if asked.moved else (32 * eps * scale) ** 2))
    table = {
        "rate": np.sum(du * du, axis=1) / over,
        "closing": -np.sum(du * dx, axis=1) / over,
        "high": y2 / over,
        "low": -y2 / over,
        "margin": -y2 / np.where(size > 0, size, 1) ** 2,
    }
    infinite = {"rate", "high"} if asked.torn else set()
    values = np.stack([np.where(same, np.where(torn & (name in infinite), np.inf, -np.inf), table[name]) for name in asked.quantities])
    return values, (i, j), (same & ~torn, torn, ~same & asked.moved & (y2 <= (asked.floor * size) ** 2))


def units(asked, unit_u, unit_y):
    return np.array([{"rate": unit_u**2, "closing": unit_u, "high": unit_y**2, "low": unit_y**2, "margin": 1.0}[name] for name in asked.quantities])


# --- clouds: (rng, n, d) -> x, u ------------------------------------------------------------------------------------------


def gaussian(rng, n, d):
    return rng.normal(size=(n, d)), rng.normal(size=(n, d))


def sphere(rng, n, d):
    """On a 2-sphere (less where there is no room) in R^d, moved by a smooth field: rates near the largest are many."""
    frame = np.linalg.qr(rng.normal(size=(d, min(3, d))))[0]
    p = rng.normal(size=(n, min(3, d)))
    p /= np.linalg.norm(p, axis=1, keepdims=True)
    return p @ frame.T, 0.01 * np.tanh(p @ rng.normal(size=(min(3, d), d)))


def one_place(rng, n, d):
    return np.ones((n, 1)) * rng.normal(size=(1, d)), np.ones((n, 1)) * rng.normal(size=(1, d))


def few_places(rng, n, d):
    at = rng.integers(0, 3, n)
    return rng.normal(size=(3, d))[at], rng.normal(size=(3, d))[at]


def torn_twins(rng, n, d):
    x, u = gaussian(rng, n, d)
    x[n // 2] = x[1]
    x[5], u[5] = x[3], u[3]
    return x, u


def tied(rng, n, d):
    x = rng.normal(size=(n, d))
    return x, -0.5 * x


def still(rng, n, d):
    return rng.normal(size=(n, d)), np.zeros((n, d))


def shifted(rng, n, d):
    return rng.normal(size=(n, d)), np.full((n, d), 0.25)


def far_out(rng, n, d):
    return 1000 + rng.normal(size=(n, d)), 0.1 * rng.normal(size=(n, d)) - 7


def near(distance):
    def cloud(rng, n, d):
        """A tenth of the particles have a neighbour at `distance`, and its rate is the largest."""
        x, u = gaussian(rng, n, d)
        m = n // 10
        x[-m:] = x[:m] + distance * rng.normal(size=(m, d)) / np.sqrt(d)
        u[-m:] = u[:m] + 30 * distance * rng.normal(size=(m, d)) / np.sqrt(d)
        return x, u

    return cloud


def small(rng, n, d):
    x, u = sphere(rng, n, d)
    return 1e-15 * x, u


def large(rng, n, d):
    x, u = gaussian(rng, n, d)
    return 1e15 * x, u


def tiny_step(rng, n, d):
    x, u = gaussian(rng, n, d)
    return x, 1e-9 * u


def meeting(rng, n, d):
    """Two pairs meet, one of them nearly."""
    x, u = gaussian(rng, n, d)
    u[2], u[7] = x[1] - x[2] + u[1], x[6] - x[7] + u[6] + 1e-9
    return x, u


CLOUDS = {
    "gaussian": gaussian, "sphere": sphere, "one place": one_place, "few places": few_places, "torn twins": torn_twins, "tied": tied,
    "still": still, "shifted": shifted, "far out": far_out, "near 1e-4": near(1e-4), "near 1e-6": near(1e-6), "near 1e-8": near(1e-8),
    "small": small, "large": large, "tiny step": tiny_step, "meeting": meeting,
}  # fmt: skip


def drawn(n, d, dtype, asked):
    x, u = (np.stack(arrays) for arrays in zip(*(make(np.random.default_rng(k), n, d) for k, make in enumerate(CLOUDS.values())), strict=True))
    x, u = x.astype(dtype), u.astype(dtype)
    return x, (x + u).astype(dtype) if asked.moved else u


def room(asked, quantity, value, rate, size):
    """What rounding may do to a value whose pair has that rate: of a sum of d squares, in parts, of differences rounded once. What a
    step added is the difference of two such: it is known to a rounding of the distances themselves.
    """
    rate = np.sqrt(np.where(np.isfinite(rate), rate, 0))
    of_step = asked.moved * (1 + rate)
    if quantity == "rate":
        return 2 * rate * size * (rate + of_step) + (size * of_step) ** 2
    return size * (np.abs(value) if quantity != "closing" else rate + of_step)


def agrees(name, asked, x, w, found, unit):
    """The largest value is that of all pairs up to its own rounding, and the pair that is named attains it."""
    values, (i, j), (twins, torn, unresolved) = by_hand(asked, x, w)
    assert (int(found.twins), int(found.torn), int(found.unresolved)) == (twins.sum(), torn.sum(), unresolved.sum()), name
    scale = units(asked, *(np.asarray(part, values.dtype) for part in unit))
    rates, size = values[asked.quantities.index("rate")], (8 + 2 * np.sqrt(x.shape[1])) * np.finfo(x.dtype).eps
    for q, quantity in enumerate(asked.quantities):
        top, got = np.argmax(values[q]), found.value[q].astype(values.dtype) * scale[q]
        if not np.isfinite(values[q][top]):
            assert got == values[q][top], (name, quantity)
            continue
        named = (i == min(found.at[q])) & (j == max(found.at[q]))
        for pair in (np.arange(len(i)) == top, named):
            assert abs(values[q][pair] - got) <= room(asked, quantity, values[q][pair], rates[pair], size), (name, quantity, got, values[q][pair])


SHAPES = [
    # what, n, d, block, dtype
    pytest.param("u", 110, 20, 60, np.float32, marks=pytest.mark.slow),
    pytest.param("step", 110, 20, 60, np.float32, marks=pytest.mark.slow),
    ("step", 110, 20, 60, np.float64),
    pytest.param("step", 31, 800, 16, np.float32, marks=pytest.mark.slow),  # 2 blocks of 16
    ("u", 40, 1, 64, np.float64),
]


@pytest.mark.parametrize(("what", "n", "d", "block", "dtype"), SHAPES)
def test_the_extremes_are_those_of_every_pair(what, n, d, block, dtype):
    asked = OF_U if what == "u" else of_step(dtype)
    x, w = drawn(n, d, dtype, asked)
    found, unit = jax.tree.map(np.asarray, screened(asked, x, w, block))
    for k, name in enumerate(CLOUDS):
        agrees(name, asked, x[k], w[k], jax.tree.map(lambda leaf, k=k: leaf[k], found), (unit[0][k], unit[1][k]))


# --- the bound of the rounding --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_bound_covers_the_rounding_of_every_pair(dtype):
    """The three squares of every pair lie within the errors given, and the errors are no more than some hundred times too wide."""
    n, d = 60, 450
    wide, asked = np.longdouble if dtype == np.float64 else np.float64, of_step(dtype)
    x, w = drawn(n, d, dtype, asked)

    @jax.jit
    @jax.vmap
    def grams(x, w):
        at, of_x, of_u = _differences.cloud(asked, x, w)
        found, balance = _screen.grams_of(of_x, of_u, 0, 1.0)
        scales = at.of_x, at.of_w, at.unit_u, at.unit_y
        return [sum(p @ p.T for p in pieces) for pieces in found.rows], found.norms, found.errors, balance, scales

    for k, name in enumerate(CLOUDS):
        products, norms, errors, balance, (of_x, of_w, unit_u, unit_y) = jax.tree.map(lambda leaf, k=k: np.asarray(leaf[k], wide), grams(x, w))
        i, j = np.triu_indices(n, 1)
        xs, ys = x[k].astype(wide) * of_x.prod(), w[k].astype(wide) * of_w.prod()
        us = (ys * unit_y - xs) / unit_u
        dx, du = xs[i] - xs[j], us[i] - us[j]
        worst = []
        for m, exact in enumerate((dx, du, dx + balance * du)):
            got = norms[m][i] + norms[m][j] - 2 * products[m][i, j]
            error, bound = np.abs(got - np.sum(exact * exact, axis=1)), errors[m][i] + errors[m][j]
            assert np.all(error <= bound), (name, m, np.max(error / np.where(bound > 0, bound, 1)))
            worst.append(np.max(error / np.where(bound > 0, bound, 1)))
        print(name, worst)
        assert name not in ("gaussian", "sphere", "near 1e-6") or min(worst) > 1e-3


def test_a_bound_that_is_too_small_misses_a_near_pair():
    """The control: pairs at 1e-3 of the diameter, whose Gram distance is off, one of them with the largest rate."""
    missed = 0
    x, u = (np.stack(arrays).astype(np.float32) for arrays in zip(*(near(1e-3)(np.random.default_rng(k), 110, 20) for k in range(16)), strict=True))
    honest, unit = jax.tree.map(np.asarray, screened(OF_U, x, u, 60))
    broken, _ = jax.tree.map(np.asarray, screened(OF_U, x, u, 60, slack=1e-6))
    for k in range(len(x)):
        agrees(k, OF_U, x[k], u[k], jax.tree.map(lambda leaf, k=k: leaf[k], honest), (unit[0][k], unit[1][k]))
        missed += broken.value[k, 0] < 0.99 * honest.value[k, 0]
    assert missed > 0


@pytest.mark.slow
def test_ties_are_decided_as_a_whole(monkeypatch):
    """With the whole-block path cut off, ties go wrong and what is not tied does not: ties do take it."""
    asked = of_step(np.float32)
    x, w = drawn(110, 20, np.float32, asked)
    names = list(CLOUDS)
    some = np.array([names.index(name) for name in ("tied", "one place", "gaussian", "sphere")])
    right, _ = screened(asked, x[some], w[some], 60)

    def cut_off(asked, at, rows, others):
        return tuple(jnp.full((len(rows), len(others)), sum_, at.x.dtype) for sum_ in (1, 3, 5, 7)), jnp.ones((len(rows), len(others)), bool)

    monkeypatch.setattr(_screen, "tile", cut_off)
    wrong = jax.jit(jax.vmap(lambda x, w: _screen.screen(asked, x, w, block=60)[0]))(x[some], w[some])
    same = np.all(np.asarray(right.value) == np.asarray(wrong.value), axis=1)
    assert same.tolist() == [False, False, True, True]


# --- how it is used -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_lanes_give_what_one_cloud_gives():
    asked = of_step(np.float32)
    x, w = drawn(110, 20, np.float32, asked)
    stacked, _ = screened(asked, x, w, 60)
    alone = jax.jit(lambda x, w: _screen.screen(asked, x, w, block=60)[0])
    for k, name in enumerate(CLOUDS):
        for one, many in zip(alone(x[k], w[k]), stacked, strict=True):
            np.testing.assert_array_equal(one, many[k], err_msg=name)


def test_lanes_may_branch():
    """Nothing in the program is a constant array, which JAX cannot batch with the branch around it."""

    def one(taken, x, y):
        return jax.lax.cond(taken, lambda x, y: geometry.stretch(x, y).low, lambda x, y: jnp.zeros((), x.dtype), x, y)

    shapes = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in (((3,), bool), ((3, 300, 50), jnp.float32), ((3, 300, 50), jnp.float32))]
    assert jax.eval_shape(jax.vmap(one), *shapes).shape == (3,)


def test_many_dimensions_go_through_products_and_few_do_not(monkeypatch):
    taken = []
    monkeypatch.setattr(
        _screen, "screen", lambda asked, x, w: (taken.append(x.shape), _scan.scan(asked, at := _differences.cloud(asked, x, w)[0]), at)[1:]
    )
    for n, d in ((1024, 2), (1024, 15), (40, 800), (512, 16), (1024, 794)):
        jax.eval_shape(geometry.pair_constants, *(jax.ShapeDtypeStruct((n, d), jnp.float32),) * 2)
    assert taken == [(512, 16), (1024, 794)]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_public_numbers_agree_with_the_plain_scan(dtype):
    """Through `geometry`, at a size where products are taken; NaN where something is not finite."""
    x, w = drawn(300, 50, dtype, of_step(dtype))
    stacked = jax.jit(jax.vmap(lambda x, y: (geometry.stretch(x, y), geometry.moved(x, y, FLOOR[np.dtype(dtype)]))))
    names = ["torn twins", "sphere", "gaussian"]
    which = np.array([list(CLOUDS).index(name) for name in names])
    x, w = x[which], w[which]
    assert _screen.pays(x[0])
    x[-1, 7, 3] = np.inf
    ranges, all_of_it = jax.tree.map(np.asarray, stacked(x, w))
    assert np.isnan(ranges.low[-1])
    assert np.isnan(all_of_it.q[-1])
    for k, name in enumerate(names[:-1]):
        values, _, (_, torn, _) = by_hand(of_step(dtype), x[k], w[k])
        low, high, rate, closing, margin = values.max(axis=1)
        size = 22 * np.finfo(dtype).eps
        np.testing.assert_allclose(all_of_it.low[k], np.sqrt(-low), rtol=size, err_msg=name)
        np.testing.assert_allclose(all_of_it.high[k], np.sqrt(high), rtol=size, err_msg=name)
        np.testing.assert_allclose(all_of_it.q[k], np.sqrt(rate), rtol=size, atol=size, err_msg=name)
        np.testing.assert_allclose(all_of_it.closing[k], closing, atol=size * (1 + np.sqrt(rate)), err_msg=name)
        np.testing.assert_allclose(all_of_it.margin[k], np.sqrt(-margin), rtol=size, err_msg=name)
        assert ranges.low[k] == all_of_it.low[k]
        assert ranges.high[k] == (np.inf if torn.any() else all_of_it.high[k])
