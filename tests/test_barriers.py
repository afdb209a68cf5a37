"""Barriers and areas of sheets on planted landscapes, and what must not be called connected."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eqdyn as eq
from eqdyn.paths import Elastic, area, barrier, barriers, sheet
from eqdyn.paths._affine import between, split

# --- a network that is its own teacher: every other function has a loss ------------------------------------------------------


def network(seed, num=7, dim=3, dtype=np.float64):
    rng = np.random.default_rng(seed)
    return {
        "w": rng.standard_normal((dim, num)).astype(dtype),
        "b": rng.standard_normal(num).astype(dtype),
        "o": rng.standard_normal((num, 2)).astype(dtype),
    }


def outputs(params, z):
    return jax.nn.relu(z @ params["w"] + params["b"][None]) @ params["o"]


def loss(params, data):
    z, y = data
    return jnp.mean((outputs(params, z) - y) ** 2)


def taught(params):
    z = np.random.default_rng(7).standard_normal((40, 3)).astype(params["w"].dtype)
    return jnp.asarray(z), jnp.asarray(outputs(params, jnp.asarray(z)))


GROUP = eq.groups.from_axes(network(0), {"w": 1, "b": 0, "o": 0})
PERM = np.random.default_rng(3).permutation(7)


def run_to(params, seed, num=6):
    """From somewhere to a network, along a curve."""
    start, t = network(seed + 100), np.linspace(0, 1, num)

    def leaf(a, b):
        s = t.reshape(-1, *(1,) * a.ndim)
        return (1 - s) * a + s**2 * b

    return eq.paths.path(jax.tree.map(lambda a, b: leaf(a, b).astype(b.dtype), start, params), times=t)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_permuted_copy_is_the_same_network(dtype):
    p = network(1, dtype=dtype)
    other, data = GROUP.permute(p, PERM), taught(p)
    assert float(barrier(loss, p, p, data=data)) == 0.0
    found = barrier(loss, p, other, GROUP, data=data)
    assert float(found) < 100 * np.finfo(dtype).eps
    np.testing.assert_array_equal(PERM[found.perms], np.arange(7))
    assert float(barrier(loss, p, other, data=data)) > 0.1, "unaligned it is not"


@pytest.mark.parametrize("by", ["loss", "length", "time", None])
def test_a_permuted_copy_of_a_run_is_the_same_run(by):
    run, data = run_to(network(1), 0), taught(network(1))
    other = eq.paths.permuted(run, GROUP, PERM)
    assert float(barrier(loss, run, run, data=data, by=by)) == 0.0
    found = barrier(loss, run, other, GROUP, data=data, by=by)
    assert float(found) < 1e-13
    assert found.losses.shape == (6 if by is None else 11, 11)
    assert float(barrier(loss, run, other, data=data, by=by)) > 0.1
    aligned, _ = eq.paths.align(run, other, GROUP)
    assert float(area(sheet(run, aligned))) == float(area(sheet(run, aligned), outputs, data[0])) == 0.0
    assert float(area(sheet(run, other))) > 0.1
    assert float(area(sheet(run, other), outputs, data[0])) > 0.1


NINE = np.r_[9.0, np.ones(6)]
COPIES = {  # the activation, and copies that compute the same
    "signed units": (jnp.tanh, lambda p: {name: -leaf for name, leaf in p.items()}),
    "scaled units": (jax.nn.relu, lambda p: {"w": 8 * p["w"], "b": 8 * p["b"], "o": p["o"] / 8}),
    "one unit scaled": (jax.nn.relu, lambda p: {"w": p["w"] * NINE[None], "b": p["b"] * NINE, "o": p["o"] / NINE[:, None]}),
    "one unit signed": (
        jnp.tanh,
        lambda p: {
            name: leaf * np.sign(4.0 - 0.5 * NINE).reshape((1, 7) if name == "w" else (7, *[1] * (leaf.ndim - 1))) for name, leaf in p.items()
        },
    ),
}


@pytest.mark.parametrize("name", COPIES)
def test_what_is_no_permuted_copy_is_not_connected(name):
    """Signs of tanh units and scales of ReLU units are symmetries too, but not those of the groups: a line between has a barrier."""
    phi, copy = COPIES[name]
    p, z = network(1), taught(network(1))[0]

    def value(q):
        mine, theirs = (phi(z @ one["w"] + one["b"][None]) @ one["o"] for one in (p, q))
        return jnp.mean((mine - theirs) ** 2)

    other = GROUP.permute(jax.tree.map(jnp.asarray, copy(p)), PERM)
    assert float(value(other)) < 1e-25
    assert float(barrier(value, p, other, GROUP)) > 1e-3


def test_several_groups_and_activations():
    rng = np.random.default_rng(0)
    shapes = {"a": (3, 6), "b": (6, 5), "c": (5, 2)}
    p = {name: jnp.asarray(rng.standard_normal(shape)) for name, shape in shapes.items()}
    z = jnp.asarray(rng.standard_normal((30, 3)))

    def hidden(p):
        one = jnp.tanh(z @ p["a"])
        return [one, jnp.tanh(one @ p["b"])]

    def value(p):
        return jnp.mean((hidden(p)[1] @ p["c"] - y) ** 2)

    y = hidden(p)[1] @ p["c"]
    groups = eq.networks.find_groups(lambda p, z: jnp.tanh(jnp.tanh(z @ p["a"]) @ p["b"]) @ p["c"], p, z)
    other = p
    for group in groups:
        other = group.permute(other, rng.permutation(group.size))
    order = [hidden(q) if groups[0].size == 6 else hidden(q)[::-1] for q in (p, other)]
    assert float(barrier(value, p, other, groups)) < 1e-25
    assert float(barrier(value, p, other, groups.named())) < 1e-25
    assert float(barrier(value, p, other, groups, activations=order)) < 1e-25
    assert float(barrier(value, p, other, groups[:1])) > 1e-3, "one of two groups is not enough"


# --- landscapes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_a_convex_loss_has_no_barriers(seed):
    rng = np.random.default_rng(seed)
    m = jnp.asarray(rng.standard_normal((5, 4)))

    def value(x):
        return jnp.sum((m @ x) ** 2) + jnp.sum(jnp.abs(x))

    ends = rng.standard_normal((2, 4))
    assert float(barrier(value, *ends)) < 1e-14
    runs = [eq.paths.path(rng.standard_normal((6, 4))) for _ in range(3)]
    assert barriers(value, runs, by="length").max() < 1e-14


def well(x):
    return jnp.sum((x**2 - 1) ** 2)


@pytest.mark.parametrize("by", ["loss", "length", "time", None])
def test_a_double_well(by):
    low, high = (eq.paths.path(np.full((11, 1), v)) for v in (-1.0, 1.0))
    found = barrier(well, low, high, by=by)
    assert float(found) == 1.0
    assert found.where[1] == 5
    assert float(barrier(well, -np.ones(1), np.ones(1), num=3)) == 1.0
    assert float(barrier(well, low, low, by=by)) == 0.0
    bent = barrier(well, -np.ones(1), np.ones(1), elastic=Elastic(steps=50))
    assert 1 - 1e-3 < bent <= 1, "in one dimension there is no way round"


A, P, Q, R = (np.array(v, float) for v in ([-200, -100, -170, 15], [-1, -1, -6.5, 0.7], [0, 0, 11, 0.6], [-10, -10, -6.5, 0.7]))
X, Y = np.array([1, 0, -0.5, -1.0]), np.array([0, 0.5, 1.5, 1.0])


def mueller_brown(x):
    dx, dy = x[0] - X, x[1] - Y
    return jnp.sum(A * jnp.exp(P * dx**2 + Q * dx * dy + R * dy**2))


MINIMA = np.array([[-0.558224, 1.441726], [-0.050011, 0.466694], [0.623499, 0.028038]])
SADDLES = {(0, 1): [-0.822002, 0.624313], (0, 2): [-0.822002, 0.624313], (1, 2): [0.212487, 0.292988]}


@pytest.mark.parametrize("num", [9, 15])
@pytest.mark.parametrize("pair", SADDLES)
def test_mueller_brown(pair, num):
    """Relaxed, the barrier is that of the lowest pass, whose places are known."""
    a, b = (MINIMA[k] for k in pair)
    saddle = np.array(SADDLES[pair])
    for place in (a, b, saddle):
        assert np.abs(jax.grad(mueller_brown)(place)).max() < 0.01
    exact = float(mueller_brown(saddle) - max(mueller_brown(a), mueller_brown(b)))
    straight, bent = (barrier(mueller_brown, a, b, num=num, elastic=how) for how in (None, Elastic(steps=300)))
    assert abs(bent / exact - 1) < 0.01
    assert float(straight) > 0.95 * exact  # to the resolution of the points
    piece, part = divmod(bent.where[0] / 8, 1)
    top = (1 - part) * bent.curves[int(piece)] + part * bent.curves[int(piece) + 1]
    assert np.linalg.norm(top - saddle) < 0.05
    np.testing.assert_allclose(bent.curves[[0, -1]], [a, b], rtol=1e-14)


def test_merge_levels_of_mueller_brown():
    found = eq.paths.classes(barriers(mueller_brown, list(MINIMA), num=15, elastic=Elastic(steps=300)))
    low, high = 8.5189, 40.1030  # of the higher of the two minima each
    np.testing.assert_allclose(found.levels, [low, high], rtol=0.01)
    assert found.labels(20.0).tolist() == [0, 1, 1]


def test_a_network_and_its_copy_are_connected_round_the_barrier():
    """Unaligned, the straight line has a barrier; a curve that bends gets below it, as it is known to be able to."""
    p, data = network(1), taught(network(1))
    other = GROUP.permute(p, PERM)
    straight, bent = (barrier(loss, p, other, data=data, elastic=how) for how in (None, Elastic(steps=200)))
    assert bent < 0.5 * straight
    one, two = (eq.paths.path(jax.tree.map(lambda leaf: np.stack([np.asarray(leaf)] * 3), q)) for q in (p, other))
    along = barrier(loss, one, two, data=data, num=11, elastic=Elastic(steps=50))
    highest = along.losses.max(axis=1)
    assert highest[-1] < highest[0] < straight + 1e-12, "warm-started, it goes on from there"
    same = barrier(loss, p, other, data=data, elastic=Elastic(above=2 * float(straight)))
    assert float(same) == float(straight)
    assert same.curves is None


def test_runs_into_the_minima_of_mueller_brown():
    """A sheet between two runs, warm-started from one s to the next: at s = 1 it is the pass, before that no higher than the straight one."""
    ways = [np.array(mueller_brown_descent(MINIMA[k] + [0.1, 0.1])) for k in (1, 2)]
    runs = [eq.paths.path(way) for way in ways]
    straight, bent = (barrier(mueller_brown, *runs, num=9, by="length", elastic=how) for how in (None, Elastic(steps=150)))
    assert bent.losses.shape == (9, 65)
    assert bent.curves.shape == (9, 9, 2)
    highest = np.max(bent.losses, axis=1)
    assert np.all(highest <= np.max(straight.losses, axis=1) + 0.05 * abs(highest))
    assert abs(highest[-1] - float(mueller_brown(np.array(SADDLES[1, 2])))) < 0.1


def mueller_brown_descent(x):
    found = [x]
    step = jax.jit(lambda x: x - 1e-4 * jax.grad(mueller_brown)(x))
    for _ in range(12):
        for _ in range(60):
            x = step(x)
        found.append(x)
    return found


@pytest.mark.parametrize("walls", [1, 2])
def test_a_ring_with_walls(walls):
    """One wall leaves one class, since there is the other way round; two walls leave two. Straight lines see four."""
    at = jnp.array([np.pi / 4, 5 * np.pi / 4])[:walls]

    def value(x):
        apart = jnp.sin((jnp.arctan2(x[1], x[0]) - at) / 2)
        return (jnp.sum(x**2) - 1) ** 2 + 0.6 * jnp.sum(jnp.exp(-30 * apart**2))

    places = [np.array([math.cos(phi), math.sin(phi)]) for phi in (0, np.pi / 2, np.pi, 3 * np.pi / 2)]
    straight = eq.paths.classes(barriers(value, places))
    assert straight.labels(0.05).max() == 3
    bent = eq.paths.classes(barriers(value, places, num=13, elastic=Elastic(steps=200, starts=4, bump=0.4)))
    assert bent.labels(0.05).tolist() == ([0, 0, 0, 0] if walls == 1 else [0, 1, 1, 0])
    if walls == 2:
        assert abs(bent.levels[-1] - 0.6) < 0.05
        assert "not connected within the searched family at level 0.05" in bent.summary(0.05)


# --- the grid ---------------------------------------------------------------------------------------------------------------


def plain_losses(value, a, b, num):
    found = []
    for s in range(a.num):
        row = [jax.tree.map(lambda leaf, s=s: leaf[s], one.params) for one in (a, b)]
        found.append([float(value(jax.tree.map(lambda p, q, t=t: (1 - t) * p + t * q, *row))) for t in np.linspace(0, 1, num)])
    return np.array(found)


def test_the_sheet_is_that_of_a_plain_loop():
    a, b, data = run_to(network(1), 1), run_to(network(2), 2), taught(network(3))
    found = barrier(loss, a, b, data=data, by=None, num=5)
    losses = plain_losses(lambda p: loss(p, data), a, b, 5)
    np.testing.assert_allclose(found.losses, losses, rtol=1e-12)
    excess = losses - np.maximum(losses[:, :1], losses[:, -1:])
    np.testing.assert_allclose(found.excess, excess, atol=1e-11)
    assert math.isclose(found, max(0, excess.max()), rel_tol=1e-12)
    assert found.excess[found.where] == found.excess.max()
    assert found.kind == "upper"


def test_all_pairs_are_as_one_by_one_whatever_the_chunks():
    runs, data = [run_to(network(k), k) for k in range(4)], taught(network(9))
    whole = barriers(loss, runs, GROUP, data=data, by="time", num=5)
    np.testing.assert_array_equal(whole, whole.T)
    np.testing.assert_array_equal(barriers(loss, runs, GROUP, data=data, by="time", num=5, memory=1), whole)
    for i, j in itertools.combinations(range(4), 2):
        assert math.isclose(whole[i, j], barrier(loss, runs[i], runs[j], GROUP, data=data, by="time", num=5), rel_tol=1e-12)
    ends = barriers(loss, [run.end for run in runs], GROUP, data=data, num=5)
    for i, j in itertools.combinations(range(4), 2):
        assert math.isclose(ends[i, j], barrier(loss, runs[i].end, runs[j].end, GROUP, data=data, num=5), rel_tol=1e-12)


def test_equal_loss_is_that_of_both_runs():
    """Two runs down the same slope at different speeds are the same run at equal loss, not at equal time."""

    def value(x):
        return jnp.sum(x**2)

    t = np.linspace(0, 1, 41)
    fast, slow = (eq.paths.path((1 - t**power)[:, None], t) for power in (1, 3))
    for by, apart in (("loss", False), ("time", True)):
        found = barrier(value, fast, slow, by=by)
        both = found.losses[:, [0, -1]]
        assert (np.abs(both[:, 0] - both[:, 1]).max() > 0.3) == apart
    both = barrier(value, fast, slow).losses[:, [0, -1]]
    np.testing.assert_allclose(both, np.linspace(1, 0, 11)[:, None].repeat(2, 1), atol=0.002)


def test_a_second_call_does_not_compile_again():
    count = 0

    def counted(x, data):
        nonlocal count
        count += 1
        return jnp.sum((x - data) ** 2)

    for k in range(3):
        barrier(counted, np.full(3, float(k)), np.ones(3), data=np.zeros(3))
        if k == 0:
            first = count
    barriers(counted, [np.full(3, float(k)) for k in range(5)], data=np.ones(3))
    second = count
    barriers(counted, [np.full(3, float(k + 1)) for k in range(5)], data=np.ones(3))
    assert second - first <= first + 3
    assert count <= second + 1, "its shape is asked for, that is all"


def test_a_loss_that_is_infinite_between_the_ends_is_an_infinite_barrier():
    def value(x):
        return jnp.sum(jnp.where(jnp.abs(x) < 0.1, jnp.nan, 0.0))

    assert float(barrier(value, -np.ones(1), np.ones(1))) == np.inf
    assert barriers(value, [-np.ones(1), np.ones(1)])[0, 1] == np.inf


# --- what is affine in front --------------------------------------------------------------------------------------------------

Z = np.random.default_rng(0).standard_normal((5, 3))
IMAGE = np.random.default_rng(1).standard_normal((2, 4, 4, 3))
PARAMS = {
    "w": np.random.default_rng(2).standard_normal((3, 4)),
    "v": np.random.default_rng(3).standard_normal((4, 4)),
    "b": np.ones(4),
    "k": np.random.default_rng(4).standard_normal((3, 3, 3, 4)),
}


def conv(x, k):
    return jax.lax.conv_general_dilated(x, k, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


SPLITS = {  # the loss, and the shapes that are known from the ends
    "two layers": (lambda p: jnp.sum(jnp.tanh(Z @ p["w"]) @ p["v"]), [(5, 4)]),
    "biases": (lambda p: jnp.sum(jax.nn.relu(Z @ p["w"] + p["b"][None]) @ p["v"] + p["b"][None]), [(5, 4)]),
    "jitted": (lambda p: jax.jit(lambda p, z: jnp.sum(jax.nn.gelu(z @ p["w"])))(p, Z), [(5, 4)]),
    "weight decay": (lambda p: jnp.sum(jnp.tanh(Z @ p["w"])) + jnp.sum(p["w"] ** 2), [(5, 4)]),
    "two linear layers": (lambda p: jnp.sum((Z @ p["w"] @ p["v"]) ** 2), [(5, 4)]),
    "a linear model": (lambda p: jnp.mean(Z @ p["w"]), [()]),
    "a convolution": (lambda p: jnp.sum(jnp.tanh(conv(IMAGE, p["k"])).mean((1, 2)) @ p["v"]), [(2, 4, 4, 4)]),
    "inputs standardised first": (lambda p: jnp.sum(jnp.tanh(((Z - Z.mean()) / Z.std()) @ p["w"] * 2.0 - 1.0)), [(5, 4)]),
    "batch normalisation": (lambda p: jnp.sum(jax.nn.softmax((h := Z @ p["w"]) - h.mean(0, keepdims=True))), [(5, 4)]),
    "looked up": (lambda p: jnp.sum(jnp.tanh((jnp.asarray(Z) @ p["w"])[jnp.array([0, 2, 2])])), [(3, 4)]),
    "two branches": (lambda p: jnp.sum(jnp.tanh(jnp.concatenate([Z @ p["w"], -(Z @ p["w"])], 1))), [(5, 8)]),
    "masked": (lambda p: jnp.sum(jnp.tanh(jnp.where(Z[:, :1] > 0, Z @ p["w"], 0.0))), [(5, 4)]),
    "a loop": (lambda p: jax.lax.fori_loop(0, 3, lambda k, x: jnp.tanh(x @ p["v"]), Z @ p["w"]).sum(), [(5, 4)]),
    "no data": (lambda p: jnp.sum(jnp.tanh(p["w"]) ** 2), []),
    "products of parameters alone": (lambda p: jnp.sum(jnp.tanh(p["w"] @ p["v"])), []),
    "a branch on parameters": (lambda p: jax.lax.cond(p["b"][0] > 0, lambda: jnp.sum(p["w"]), lambda: jnp.sum(p["v"])), []),
    "rounded": (lambda p: jnp.sum((Z @ p["w"]).astype(jnp.int32)).astype(jnp.float64), [(5, 4)]),
    "weights rounded": (lambda p: jnp.sum(Z @ p["w"].astype(jnp.int32).astype(jnp.float64)), []),
    "chosen by the parameters": (lambda p: jnp.sum(jnp.where(Z @ p["w"] > 0, 1.0, 0.0)), [(5, 4)]),
}


@pytest.mark.parametrize("name", SPLITS)
def test_the_affine_part_is_affine_and_the_rest_is_the_rest(name):
    value, shapes = SPLITS[name]
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        one = jax.tree.map(jnp.asarray, PARAMS)
        other = jax.tree.map(lambda leaf: jnp.asarray(np.random.default_rng(9).standard_normal(leaf.shape)), PARAMS)
        prefix, rest = split(value, one)
        assert [leaf.shape for leaf in prefix(one)] == shapes
        np.testing.assert_allclose(rest(one, prefix(one)), value(one), rtol=1e-13)
        for t in (0.0, 0.25, 0.8, 1.0):
            at = between(one, other, t)
            for known, there in zip(between(prefix(one), prefix(other), t), prefix(at), strict=True):
                np.testing.assert_allclose(known, there, atol=1e-13)
            np.testing.assert_allclose(rest(at, between(prefix(one), prefix(other), t)), value(at), rtol=1e-11, atol=1e-13)


def test_a_line_comes_out_to_the_bit_at_its_ends():
    one, other = (jnp.asarray(np.random.default_rng(k).standard_normal(1000).astype(np.float32)) for k in range(2))
    for t, end in ((0.0, one), (1.0, other)):
        np.testing.assert_array_equal(between(one, other, t), end)
    for t in (0.3, 0.7):
        np.testing.assert_array_equal(between(one, one, t), one)


# --- areas ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num", [2, 11])
@pytest.mark.parametrize("dim", [2, 7])
def test_the_area_between_parallel_runs_is_length_times_offset(num, dim):
    q, _ = np.linalg.qr(np.random.default_rng(dim).standard_normal((dim, dim)))
    run = np.linspace(0, 3, 5)[:, None] * q[0][None]
    for offset, expected in ((2 * q[1], 6.0), (2 * q[0], 0.0), (q[0] + 2 * q[1], 6.0)):
        a, b = eq.paths.path({"p": run}), eq.paths.path({"p": run + offset[None]})
        found = area(sheet(a, b, num))
        assert abs(found - expected) < (1e-12 if expected else 1e-6)
        assert found.cells.shape == (4, num - 1)
        assert found.kind == "exact"


def test_the_area_of_outputs():
    """A linear model: outputs of a unit square of weights; the root mean square over examples does not see how often they are shown."""
    corner = np.array([[0.0, 0.0], [1.0, 0.0]])
    points = sheet(eq.paths.path(corner), eq.paths.path(corner + np.array([[0.0, 1.0]])), 4)
    z = np.array([[2.0, 0.0], [0.0, 3.0]])
    for probe in (z, np.concatenate([z] * 5)):
        assert math.isclose(area(points, lambda w, z: z @ w, probe), 6.0 / 2, rel_tol=1e-12)
    fixed = area(points, lambda w: jnp.stack([w[0], 2.0 * w[0]])[:, None])
    assert abs(fixed) < 1e-6


def test_the_area_of_a_curved_sheet_converges():
    exact = 2 * np.pi / 3 * 2.0  # a third of a cylinder of radius 1, height 2
    errors = []
    for num in (5, 9, 17):
        phi, z = np.meshgrid(np.linspace(0, 2 * np.pi / 3, num), np.linspace(0, 2, 3), indexing="ij")
        errors.append(exact - area(np.stack([np.cos(phi), np.sin(phi), z], axis=-1)))
    assert 3.8 < errors[0] / errors[1] < 4.2
    assert 3.8 < errors[1] / errors[2] < 4.2


# --- bad input --------------------------------------------------------------------------------------------------------------

NET, RUN = network(0), run_to(network(0), 0)
DATA = taught(NET)
BAD = {
    "other architecture": (
        lambda: barrier(loss, NET, network(0, num=8), data=DATA),
        ValueError,
        "different architectures .*b differs from a at b, o, w",
    ),
    "other runs": (
        lambda: barriers(loss, [RUN, run_to(network(0), 0), eq.paths.path(np.ones((3, 2)))], data=DATA),
        ValueError,
        "differs from runs.0.",
    ),
    "other dtype": (lambda: barrier(loss, NET, network(0, dtype=np.float32), data=DATA), ValueError, "different architectures"),
    "no common group": (lambda: barrier(loss, NET, NET, [], data=DATA), ValueError, "groups: got none"),
    "NaN": (lambda: barrier(loss, NET, {**NET, "b": np.full(7, np.nan)}, data=DATA), ValueError, "b: got 7 values that are not finite in b"),
    "NaN among many": (lambda: barriers(loss, [NET, NET, {**NET, "b": np.full(7, np.nan)}], data=DATA), ValueError, r"runs\[2\]: got 7"),
    "one checkpoint only": (lambda: barrier(loss, eq.paths.identity(NET), RUN, data=DATA), ValueError, "a: got a path with one checkpoint only"),
    "one checkpoint of many": (lambda: barriers(loss, [RUN, eq.paths.identity(NET)], data=DATA), ValueError, r"runs\[1\]: got a path with one"),
    "a path and a tree": (lambda: barrier(loss, RUN, NET, data=DATA), TypeError, "two paths, or two parameter trees"),
    "one path for many": (lambda: barriers(loss, RUN, data=DATA), ValueError, "got Path of 1"),
    "one run": (lambda: barriers(loss, [RUN], data=DATA), ValueError, "got list of 1"),
    "a loss of rows": (lambda: barrier(lambda p: p["b"], NET, NET), ValueError, "expected one real number"),
    "infinite loss at an end": (lambda: barrier(lambda p: 1 / jnp.sum(p), np.zeros(2), np.ones(2)), ValueError, "a: got a loss that is not finite"),
    "infinite loss along a run": (
        lambda: barrier(lambda p: jnp.log(p[0]), eq.paths.path(np.array([[1.0], [-1.0], [1.0]])), eq.paths.path(np.ones((3, 1)))),
        ValueError,
        "checkpoint 1",
    ),
    "no way": (lambda: barrier(loss, RUN, RUN, data=DATA, by="speed"), ValueError, "by: got 'speed'"),
    "other numbers": (lambda: barrier(loss, RUN, run_to(NET, 1, num=4), data=DATA, by=None), ValueError, "6, 4. checkpoints"),
    "a point": (lambda: barrier(loss, NET, NET, num=1, data=DATA), ValueError, "num: got 1"),
    "data that nobody takes": (lambda: barrier(well, np.ones(1), np.ones(1), data=np.ones(1)), TypeError, "data: got a batch"),
    "a bool for elastic": (lambda: barrier(well, -np.ones(1), np.ones(1), elastic=True), TypeError, "expected eq.paths.Elastic"),
    "no steps": (lambda: barrier(well, -np.ones(1), np.ones(1), elastic=Elastic(steps=0)), ValueError, "elastic.steps"),
    "nothing to bend": (lambda: barrier(lambda x: -well(x), np.zeros(1), np.ones(1), num=2, elastic=Elastic(above=-1.0)), ValueError, "3 or more"),
    "a sheet of unequal runs": (lambda: sheet(RUN, run_to(NET, 1, num=4)), ValueError, "6 and 4 checkpoints"),
    "a sheet of one": (lambda: sheet(eq.paths.identity(NET), eq.paths.identity(NET)), ValueError, "one checkpoint only"),
    "a sheet of trees": (lambda: sheet(NET, NET), ValueError, "got dict and dict"),
    "too large a sheet": (lambda: sheet(RUN, RUN, 10**7), MemoryError, "budget"),
    "no grid": (lambda: area(np.ones((1, 5, 3))), ValueError, "both at least 2"),
    "outputs that are none": (lambda: area(np.ones((2, 2, 3)), lambda p: jnp.sum(p)), ValueError, "expected an array"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_clear_error(name):
    call, kind, said = BAD[name]
    with pytest.raises(kind, match=said):
        call()


def test_leaves_of_two_dtypes():
    p = {"w": np.ones((2, 3), np.float32), "b": np.ones(3)}
    q = {"w": -np.ones((2, 3), np.float32), "b": np.ones(3)}

    def value(p):
        return well(p["w"].astype(jnp.float64)) + jnp.sum(p["b"])

    assert math.isclose(barrier(value, p, q), 6.0, rel_tol=1e-6)
