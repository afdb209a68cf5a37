"""What several representations share, and one network for several: planted subspaces, copies, closed forms, and controls."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_barriers import loss, outputs

import eqdyn as eq
from eqdyn.paths import average, shared_representation


def draw(seed, *shape, dtype=np.float64):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


# --- shared directions ------------------------------------------------------------------------------------------------------


def planted(seed, rank, widths, num=400, noise=0.0):
    """Representations with `rank` directions in common, the rest their own; mixed, and moved."""
    common = draw(seed, num, rank)
    return common, [
        np.c_[common + noise * draw(seed + 20 + i, num, rank), draw(seed + 40 + i, num, width - rank)] @ draw(seed + 60 + i, width, width) + i
        for i, width in enumerate(widths)
    ]


@pytest.mark.parametrize("widths", [(5, 5), (4, 8, 6), (6, 6, 6, 6, 6)])
@pytest.mark.parametrize("rank", [0, 1, 3, 4])
@pytest.mark.parametrize("seed", [1, 2])
def test_planted_directions_are_recovered_and_noise_is_not(rank, widths, seed):
    common, phis = planted(seed, rank, widths)
    found = shared_representation(phis)
    assert found.num == rank
    np.testing.assert_allclose(found.agreement[:rank], 1, atol=1e-10)
    np.testing.assert_allclose(found.in_sample[:rank], 1, atol=1e-10)
    assert np.all(found.agreement[rank:] < 0.2)
    assert found.coordinates.shape == (400, rank)
    for i, phi in enumerate(phis):
        assert found.maps[i].shape == (rank, widths[i])
        np.testing.assert_allclose(found.read(i, phi), found.coordinates, atol=1e-7)
    if rank:  # the coordinates are those planted, up to an affine map, and the other way round
        assert 1 - eq.paths.affine(found.coordinates, common).r2 < 1e-12
        assert 1 - eq.paths.affine(common, found.coordinates).r2 < 1e-12
    else:
        assert np.all(np.abs(found.explained) < 1e-12)


def test_what_is_explained_is_the_share_of_the_variance():
    common, own = draw(0, 3000, 2), draw(1, 3000, 1)
    phis = [np.c_[common, 2 * own], np.c_[common @ draw(2, 2, 2), np.zeros(3000)]]
    found = shared_representation(phis)
    assert found.num == 2
    np.testing.assert_allclose(found.explained, [2 / 6, 1], atol=0.03)


def test_a_direction_that_one_of_three_lacks_is_not_shared():
    common, phis = planted(3, 2, (5, 5))
    found = shared_representation([*phis, np.c_[common[:, :1], draw(9, 400, 4)]])
    assert found.num == 1
    assert 1 - eq.paths.affine(found.coordinates, common[:, :1]).r2 < 1e-10


@pytest.mark.parametrize("noise", [0.1, 0.5])
def test_agreement_under_noise_is_the_reliability(noise):
    """Two readings g + e: their squared correlation is 1 / (1 + noise^2)^2."""
    _, phis = planted(1, 1, (3, 3), num=6000, noise=noise)
    found = shared_representation(phis, level=0.5)
    assert abs(found.agreement[0] - 1 / (1 + noise**2) ** 2) < 0.03
    assert found.num == 1


def test_invariant_under_affine_maps_of_each_and_the_order_of_units():
    _, phis = planted(2, 2, (5, 4), noise=0.2)
    one = shared_representation(phis, level=0.5)
    other = shared_representation([phis[0] @ draw(7, 5, 5) + 3, 1e-3 * phis[1][:, ::-1]], level=0.5)
    np.testing.assert_allclose(one.agreement, other.agreement, atol=1e-7)
    np.testing.assert_allclose(np.abs(one.coordinates), np.abs(other.coordinates), atol=1e-6)


def test_copies_share_all_that_they_have():
    x = draw(0, 200, 6)
    found = shared_representation([x, x @ draw(1, 6, 6), x[:, ::-1] + 1])
    assert found.num == 6
    np.testing.assert_allclose(found.explained, 1)
    np.testing.assert_allclose(np.var(found.coordinates, axis=0), 1, atol=0.3)


def test_shuffled_points_share_nothing():
    """The control: what is in common is in the points, not in the clouds."""
    x = draw(0, 300, 5)
    assert shared_representation([x, np.random.default_rng(1).permutation(x)]).num == 0


def test_components_keep_the_largest():
    big = draw(0, 60, 2)
    phis = [np.c_[10 * big, 0.1 * draw(1 + i, 60, 38)] for i in range(2)]
    with pytest.raises(ValueError, match="42 to fit on, for 80 directions in all; expected 82"):
        shared_representation(phis)
    found = shared_representation(phis, components=2)
    assert found.num == 2
    assert np.all(found.explained > 0.99)


def test_tasks_that_share_what_they_look_at():
    """Networks that read two of three inputs share what both read, through ReLUs of other weights: the common input, and what bends it."""
    z = draw(0, 2000, 3)
    phis = [np.maximum(z[:, some] @ draw(i, 2, 12) + draw(9 + i, 1, 12), 0) for i, some in enumerate(([0, 1], [1, 2]))]
    found = shared_representation(phis)
    assert 1 <= found.num <= 4
    assert eq.paths.affine(found.coordinates, z[:, 1:2]).r2 > 0.9
    assert eq.paths.affine(found.coordinates, z[:, :1]).r2 < 0.1


# --- averages ---------------------------------------------------------------------------------------------------------------


def network(seed, num=9, dtype=np.float64):
    return {"w": draw(seed, 3, num, dtype=dtype), "b": draw(seed + 1, num, dtype=dtype), "o": draw(seed + 2, num, 2, dtype=dtype)}


def taught(params):
    z = draw(7, 50, 3, dtype=params["w"].dtype)
    return jnp.asarray(z), jnp.asarray(outputs(params, jnp.asarray(z)))


GROUP = eq.groups.from_axes(network(0), {"w": 1, "b": 0, "o": 0})


def copies(params, num):
    perms = [np.random.default_rng(k).permutation(9) for k in range(num)]
    return perms, [jax.tree.map(np.asarray, GROUP.permute(params, perm)) for perm in perms]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("num", [2, 3, 7])
def test_copies_average_to_themselves_to_the_bit(num, dtype):
    p = network(1, dtype=dtype)
    perms, models = copies(p, num)
    data = taught(p)
    found = average(loss, models, GROUP, data=data)
    for one, other in zip(jax.tree.leaves(found.params), jax.tree.leaves(models[0]), strict=True):
        assert one.tobytes() == other.tobytes()
    assert max(abs(found.over_mean), abs(found.over_max)) <= 1e-6
    assert found.loss == found.losses[0]
    assert found.spread[-1] == 0 < found.spread[0]
    for perm, back in zip(perms, found.perms, strict=True):
        np.testing.assert_array_equal(perm[back], perms[0])
    assert found.naive > found.loss + 0.1
    plain = average(loss, models, data=data)
    assert plain.naive == plain.loss == found.naive
    assert plain.perms is None


def test_whole_runs_of_copies_end_in_one():
    """Two runs that are permuted copies: related with R^2 = 1, and their ends average to themselves; unaligned they do not."""
    params = jax.tree.map(lambda a, b: np.stack([a, b, 2 * b - a]), network(1), network(4))
    a = eq.paths.path(params)
    b = eq.paths.permuted(a, GROUP, np.random.default_rng(3).permutation(9))
    hidden = lambda p, z: jax.nn.relu(z @ p["w"] + p["b"][None])  # noqa: E731
    cell = eq.paths.two_cell(hidden, a, b, draw(8, 100, 3))
    assert cell.verdict == "affinely related"
    np.testing.assert_allclose(cell.r2, 1, atol=1e-12)
    found = average(loss, [a.end, b.end], GROUP, data=taught(a.end))
    assert abs(found.over_mean) < 1e-12
    assert found.naive > 0.1


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_alignment_lowers_the_spread_round_by_round(seed):
    models = [network(seed + 10 * k) for k in range(5)]
    found = average(loss, models, GROUP, data=taught(network(0)))
    assert np.all(np.diff(found.spread[1:]) < 0)
    assert found.spread[-1] < found.spread[0]
    again = [GROUP.permute(one, perm) for one, perm in zip(models, found.perms, strict=True)]
    for name in "wbo":
        np.testing.assert_allclose(found.params[name], np.mean([one[name] for one in again], axis=0), atol=1e-14)
    by_hand = np.mean([sum(np.sum((one[name] - found.params[name]) ** 2) for name in "wbo") for one in again])
    np.testing.assert_allclose(found.spread[-1], by_hand, rtol=1e-12)
    once_more = average(loss, again, GROUP, data=taught(network(0)))
    np.testing.assert_array_less(once_more.spread[-1], found.spread[0])


def test_a_convex_loss_is_never_above_the_mean():
    """Jensen; for a square the gap is the spread, in closed form."""
    models = [draw(k, 6) for k in range(4)]
    found = average(lambda x: jnp.sum(x**2), models)
    np.testing.assert_allclose(found.over_mean, -found.spread[0], rtol=1e-12)
    np.testing.assert_allclose(found.over_max, found.loss - found.losses.max(), rtol=1e-12)
    assert found.over_max <= found.over_mean <= 0


def test_two_wells_average_to_the_top():
    found = average(lambda x: jnp.sum((x**2 - 1) ** 2), [np.array([1.0]), np.array([-1.0])])
    assert (found.loss, found.over_mean, found.over_max) == (1.0, 1.0, 1.0)


def test_averaging_takes_out_what_is_each_networks_own():
    """Noise on one network: the average is better than each of them."""
    p = network(1)
    _, models = copies(p, 8)
    models = [jax.tree.map(lambda leaf, k=k: leaf + 0.05 * draw(90 + k, *leaf.shape), one) for k, one in enumerate(models)]
    found = average(loss, models, GROUP, data=taught(p))
    assert found.over_max < found.over_mean < 0
    assert found.loss < min(found.losses.min(), 0.2 * found.losses.mean())
    assert found.naive > 10 * found.losses.max()


def test_several_groups_and_their_container():
    rng = np.random.default_rng(0)
    p = {"w": rng.standard_normal((2, 6)), "m": rng.standard_normal((6, 6)), "o": rng.standard_normal((6, 1))}
    groups = {"first": eq.groups.from_axes(p, {"w": 1, "m": 0}), "second": eq.groups.from_axes(p, {"m": 1, "o": 0})}
    other = groups["second"].permute(groups["first"].permute(p, rng.permutation(6)), rng.permutation(6))
    found = average(lambda p: jnp.sum(p["w"] ** 2), [p, jax.tree.map(np.asarray, other)], groups, restarts=4)
    assert set(found.perms[1]) == {"first", "second"}
    for name in p:
        np.testing.assert_array_equal(found.params[name], p[name])


def test_a_loss_that_overflows_between_is_infinite():
    found = average(lambda x: jnp.sum(jnp.where(x == 0, jnp.nan, x**2)), [np.array([1.0]), np.array([-1.0])])
    assert found.loss == found.over_mean == np.inf


# --- bad input --------------------------------------------------------------------------------------------------------------

X = draw(0, 50, 3)
P = network(0)
RUN = eq.paths.path(jax.tree.map(lambda leaf: leaf[None], P))
BAD = {
    "one representation": (lambda: shared_representation([X]), ValueError, "a list of two or more"),
    "other points": (lambda: shared_representation([X, X[1:]]), ValueError, "got .50, 49. probe points"),
    "NaN": (lambda: shared_representation([X, np.where(X > 2, np.nan, X)]), ValueError, r"representations.1.: got .* not finite"),
    "constant": (lambda: shared_representation([X, np.ones((50, 2))]), ValueError, r"representations.1.: got the same activations"),
    "too few points": (lambda: shared_representation([X[:9], draw(1, 9, 3)]), ValueError, "6 to fit on, for 6 directions in all; expected 8"),
    "share": (lambda: shared_representation([X, X], held_out=1.0), ValueError, "held_out: got 1.0"),
    "level": (lambda: shared_representation([X, X], level=0.0), ValueError, "level: got 0.0"),
    "components": (lambda: shared_representation([X, X], components=0), ValueError, "components: got 0"),
    "one network": (lambda: average(loss, [P], data=taught(P)), ValueError, "got list of 1; expected a list of two"),
    "a tree": (lambda: average(loss, P, data=taught(P)), ValueError, "got dict"),
    "paths": (lambda: average(loss, [RUN, RUN], data=taught(P)), TypeError, "write .path.end"),
    "other architecture": (lambda: average(loss, [P, network(0, 8)], data=taught(P)), ValueError, r"models.1. differs .* at b, o, w"),
    "no common group": (lambda: average(loss, [P, P], [], data=taught(P)), ValueError, "groups: got none"),
    "NaN parameters": (lambda: average(loss, [P, {**P, "b": np.full(9, np.nan)}], data=taught(P)), ValueError, "9 values that are not finite in b"),
    "NaN loss": (lambda: average(lambda x: jnp.log(x).sum(), [np.ones(1), -np.ones(1)]), ValueError, r"models.1.: got a loss that is not finite"),
    "two losses": (lambda: average(lambda x: x, [np.ones(2), np.ones(2)]), ValueError, "expected one real number"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_clear_error(name):
    call, kind, said = BAD[name]
    with pytest.raises(kind, match=said):
        call()
