"""A colimit that computes something: one network in place of several, the average of them in one order of their neurons, and its error."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from eqdyn import _checks
from eqdyn._types import Tree
from eqdyn.field import with_data
from eqdyn.paths._align import matching, permuted
from eqdyn.paths._asked import loss_like, one_architecture, params_of
from eqdyn.paths._grid import along
from eqdyn.paths._path import Path


class Average(NamedTuple):
    """The average of m aligned networks, and its error as a stand-in for them. EXACT numbers for this alignment, which is a choice.

    Fields:
        params: the average.
        loss: of it.
        losses: `(m,)`, of the networks.
        over_mean, over_max: `loss` less their mean, less their highest: the error of the approximate colimit [loss]. 0 for copies; below 0 where
            averaging helps.
        naive: the control: the loss of the average without alignment. The same as `loss` without groups.
        perms: of each network, `(N,)` a group in the container of `groups`: neuron i of the aligned network is neuron `perm[i]` of the given
            one; None without groups.
        spread: mean squared distance of the networks from their average [weight^2]: as they came, and after every round of alignment.
    """

    params: Tree
    loss: float
    losses: np.ndarray
    over_mean: float
    over_max: float
    naive: float
    perms: tuple | None
    spread: np.ndarray


def average(
    loss: Callable, models: Sequence[Tree], groups: Any = None, *, data: Tree = None, rounds: int = 10, restarts: int = 0, seed: int = 0
) -> Average:
    """One network for several: their average after the neurons of all have been put in one order, and how much worse it is than they are.

        average = 1/m sum_i P_i models[i],      over_mean = L(average) - mean_i L(models[i]),      over_max = L(average) - max_i L(models[i])

    An approximate colimit: a network to which each of the given ones has a map, its permutation and the way to the average. For permuted copies
    it is exact, and is the network itself, bit for bit; else its error says how far from one it is, at the height of one point between them
    (`barrier` goes all the way). For a convex loss `over_mean` is at most 0. Each network is aligned to the average of those before it, then in
    rounds to that of all others until nothing moves: an alignment that no single network can better, a LOCAL optimum of `spread`. Statistics
    that are not trained (batch normalisation) are averaged too, and need to be taken anew.

    Args:
        loss: `(params)` or `(params, data)` to a number; jittable.
        models: parameter trees, m of one architecture; of a path write `path.end`.
        groups: as in `align`; None averages them as they are.
        data: handed to the loss.
        rounds: at most so many.
        restarts, seed: as in `matching`.

    Returns:
        `Average`. A loss of an average that is not finite counts as infinite.

    Raises:
        ValueError: fewer than two networks, other architectures, parameters or losses of theirs that are not finite.
        TypeError: paths; leaves that are no real floating arrays.

    Example:
        >>> import jax.numpy as jnp, numpy as np, eqdyn as eq
        >>> loss = lambda p: (jnp.sum(jnp.maximum(p["w"], 0) * p["o"]) - 1) ** 2
        >>> one = {"w": jnp.array([0.0, 1.0, 2.0], jnp.float32), "o": jnp.array([1.0, -3.0, 2.0], jnp.float32)}
        >>> group = eq.groups.from_axes(one, {"w": 0, "o": 0})
        >>> found = eq.paths.average(loss, [one, group.permute(one, [2, 0, 1])], group)
        >>> found.params["w"].tolist(), found.over_mean, found.naive
        ([0.0, 1.0, 2.0], 0.0, 0.5625)

    References:
        Categorical Invariants of Learning Dynamics, arXiv:2510.04376 (colimits of models); Ainsworth et al., arXiv:2209.04836 (merging many);
        Wortsman et al., arXiv:2203.05482 (averages of models).
    """
    loss, rounds = with_data(loss, 1, "loss"), _checks.count(rounds, "rounds")
    data = _checks.batch(data) if data is not None else None
    held = _trees(models)
    loss_like(loss, held[0], data)
    given, spread, perms = held, [_spread(held)], None
    if groups is not None:
        held, perms, later = _in_one_order(held, groups, rounds, restarts, seed)
        spread += later
    found = _mean(held)
    values = along(loss, jax.tree.map(lambda *leaves: np.stack(leaves), *given, found, _mean(given)), data)
    losses = values[:-2]
    if not np.isfinite(losses).all():
        msg = f"models[{int(np.argmin(np.isfinite(losses)))}]: got a loss that is not finite; expected finite losses of what is averaged."
        raise ValueError(msg)
    reached, naive = (float(value) if not np.isnan(value) else np.inf for value in values[-2:])
    return Average(
        found, reached, losses, reached - float(losses.mean()), reached - float(losses.max()), naive, perms, np.array(spread)
    )  # fmt: skip


def _trees(models: Any) -> list[Tree]:
    if isinstance(models, Path) or not isinstance(models, (list, tuple)) or len(models) < 2:
        got = f"{type(models).__name__} of {len(models)}" if isinstance(models, (list, tuple)) else type(models).__name__
        msg = f"models: got {got}; expected a list of two parameter trees or more."
        raise ValueError(msg)
    if any(isinstance(one, Path) for one in models):
        msg = "models: got paths; expected parameter trees; write [path.end for path in paths]."
        raise TypeError(msg)
    held = [params_of(one, f"models[{i}]") for i, one in enumerate(models)]
    for i, one in enumerate(held[1:], 1):
        one_architecture(held[0], one, ("models[0]", f"models[{i}]"))
    return held


def _in_one_order(held: list[Tree], groups: Any, rounds: int, restarts: int, seed: int) -> tuple[list[Tree], tuple, list[float]]:
    """The networks permuted, the permutations, and the spread after each round."""
    first = matching(held[0], held[0], groups).perms
    perms: list[Any] = [jax.tree.map(lambda perm: np.arange(len(perm)), first) for _ in held]
    held, spread = list(held), []

    def turn(i: int, reference: Tree) -> bool:
        found = matching(reference, held[i], groups, restarts=restarts, seed=seed)
        if len(found.history) == 1:  # nothing agrees better than the order they have
            return False
        held[i] = jax.tree.map(np.asarray, permuted(held[i], groups, found.perms))
        perms[i] = jax.tree.map(lambda before, perm: before[perm], perms[i], found.perms)
        return True

    for i in range(1, len(held)):
        turn(i, _mean(held[:i]))
    spread.append(_spread(held))
    for _ in range(rounds if len(held) > 2 else 0):
        moved = sum(turn(i, _mean(held[:i] + held[i + 1 :])) for i in range(len(held)))
        if not moved:
            break
        spread.append(_spread(held))
    return held, tuple(perms), spread


def _mean(trees: Sequence[Tree]) -> Tree:
    """From the first of them, in float64: of copies, the copy to the bit."""

    def leaf(*values: Any) -> np.ndarray:
        first, *rest = (value.astype(np.float64) for value in values)
        return (first + sum((value - first for value in rest), np.zeros_like(first)) / len(values)).astype(values[0].dtype)

    return jax.tree.map(leaf, *trees)


def _spread(trees: Sequence[Tree]) -> float:
    middle = jax.tree.leaves(_mean(trees))
    pairs = [zip(jax.tree.leaves(tree), middle, strict=True) for tree in trees]
    return float(np.mean([sum(np.sum((a.astype(np.float64) - b.astype(np.float64)) ** 2) for a, b in pair) for pair in pairs]))
