"""One network's neurons put in the order of another's: weight matching and activation matching by linear assignment."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from eqdyn import _checks
from eqdyn import groups as groups_
from eqdyn._types import Tree
from eqdyn.groups import Group
from eqdyn.paths._asked import one_architecture, params_of
from eqdyn.paths._path import Path, both_paths

_TIE = 1e-12  # of the largest possible agreement: what rounding may gain is no gain


class Aligned(NamedTuple):
    """What `align` returns: `params` permuted, a tree or a `Path`; and `perms`, one permutation `(N,)` a group, in the container of `groups`."""

    params: Any
    perms: Any


class Matching(NamedTuple):
    """How the neurons of one network answer those of another.

    Fields:
        perms: by group, `(N,)`: neuron i of the permuted network is neuron `perm[i]` of the given one. In the container of `groups`.
        agreement: `<reference, permuted>` over the leaves of the groups (over the activations); the squared distance falls by twice of what it grows.
        history: the agreement before, and after every permutation that was made; it never falls.
        kind: "exact", no permutation agrees better; "lower", the best of those that the alternation came to.
    """

    perms: Any
    agreement: float
    history: np.ndarray
    kind: str


def align(reference: Any, params: Any, groups: Any, *, activations: Any = None, restarts: int = 0, seed: int = 0) -> Aligned:
    """A network with its neurons permuted to match those of a reference; of paths the ends are matched and the whole run is permuted alike.

    The permuted network computes what the given one does. Which permutation, and how good it is: see `matching`.

    Args:
        reference: a parameter tree, or a `Path`.
        params: what is permuted; of the same architecture. NumPy arrays come back as such.
        groups: a `Group`, a list of them as `eq.networks.find_groups` returns, or a dict; None for the rows of an array.
        activations: `(of the reference, of params)` for activation matching: each `(n, N)`, neurons last, on the same n examples; with several groups
            a list or dict of these. None matches weights.
        restarts, seed: as in `matching`.

    Returns:
        `(params, perms)`: a tree or a `Path`, and for each group the permutation `(N,)`: neuron i of the answer is neuron `perm[i]` of `params`.

    Raises:
        ValueError: other architectures, no groups, values that are not finite, activations that do not fit.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> one = {"w": jnp.array([[1.0, 2.0, 3.0]], jnp.float32), "out": jnp.array([4.0, 5.0, 6.0], jnp.float32)}
        >>> group = eq.groups.from_axes(one, {"w": 1, "out": 0})
        >>> other = group.permute(one, [2, 0, 1])
        >>> aligned, perm = eq.paths.align(one, other, group)
        >>> aligned["w"].tolist(), perm.tolist()
        ([[1.0, 2.0, 3.0]], [1, 2, 0])

    References:
        Ainsworth, Hayase, Srinivasa, Git Re-Basin, arXiv:2209.04836.
    """
    found = matching(reference, params, groups, activations=activations, restarts=restarts, seed=seed)
    return Aligned(permuted(params, groups, found.perms), found.perms)


def matching(reference: Any, params: Any, groups: Any, *, activations: Any = None, restarts: int = 0, seed: int = 0) -> Matching:
    """The permutations by which the neurons of `params` agree best with those of a reference, and how well they do.

        weights         max over perms of sum_leaves <reference, permuted>, that is, least squared distance
        activations     max over perms of sum_i <Z_reference[:, i], Z_params[:, perm[i]]>, group by group

    Each group is one linear assignment, in float64. EXACT for one group, and for activations. Weights between two groups belong to both: then groups
    take turns until nothing changes, the agreement never falls, and what is reached is a LOWER bound of the best; so it is where a group has weights
    between its own units. Time O(N^2 D + N^3) a turn.

    Args:
        reference, params, groups, activations: as in `align`.
        restarts: how often the turns begin anew from random permutations, in random order; the best counts.
        seed: of these.

    Returns:
        `Matching`.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> found = eq.paths.matching(jnp.eye(3, dtype=jnp.float32), jnp.eye(3, dtype=jnp.float32)[::-1], None)
        >>> found.perms.tolist(), found.history.tolist(), found.kind
        ([2, 1, 0], [1.0, 3.0], 'exact')

    References:
        Ainsworth, Hayase, Srinivasa, arXiv:2209.04836, sections 3.1 and 3.2; Tatro et al., arXiv:2009.02439.
    """
    restarts = _checks.count(restarts, "restarts")
    with jax.enable_x64():
        return _matching(*_ends(reference, params), groups, activations, restarts, seed)


def _matching(one: Tree, other: Tree, groups: Any, activations: Any, restarts: int, seed: int) -> Matching:
    named = _named(groups, other)
    if activations is not None:
        return _of_activations(groups, named, activations)
    of_both = [name for name, group in named.items() if getattr(group, "between", ())]
    exact = len(named) == 1 and not of_both
    random = np.random.default_rng(seed)
    best: tuple[float, dict, list[float]] | None = None
    for start in range(1 + (0 if exact else restarts)):
        perms = {name: np.arange(group.size) if start == 0 else random.permutation(group.size) for name, group in named.items()}
        order = list(named) if start == 0 else [list(named)[k] for k in random.permutation(len(named))]
        found = _by_turns(one, other, {name: named[name] for name in order}, perms)
        if best is None or found[0] > best[0]:
            best = found
    assert best is not None
    return Matching(_like(groups, {name: best[1][name] for name in named}), best[0], np.asarray(best[2]), "exact" if exact else "lower")


def permuted(params: Any, groups: Any, perms: Any) -> Any:
    """A tree or a whole `Path` with its neurons in the order of `perms`."""
    whole = isinstance(params, Path)

    def one(tree: Tree) -> Tree:
        for group, perm in order:
            tree = group.permute(tree, perm)
        return tree

    with jax.enable_x64():  # to move float64 about is no computation
        order = list(zip(_named(groups, params.end if whole else params).values(), _each(groups, perms), strict=True))
        if whole:
            return params._replace(params=jax.tree.map(np.asarray, jax.vmap(one)(params.params)))
        return jax.tree.map(lambda old, new: np.asarray(new) if isinstance(old, np.ndarray) else new, params, one(params))


def _ends(reference: Any, params: Any) -> tuple[Tree, Tree]:
    """The trees that are matched: those given, or the ends of paths."""
    paths = both_paths(reference, params, ("reference", "params"))
    one, other = (reference.end, params.end) if paths else (reference, params)
    one, other = params_of(one, "reference"), params_of(other, "params")
    one_architecture(one, other, ("reference", "params"))
    return one, other


def _named(groups: Any, tree: Tree) -> dict[Any, Any]:
    """The groups asked for, by name or number; each fits the tree."""
    if isinstance(groups, Sequence) and not isinstance(groups, (Group, groups_.Rows, str)):
        groups = dict(enumerate(groups))
    if isinstance(groups, Mapping) and not groups:
        msg = "groups: got none; expected at least one Group, what these networks have in common; write groups=None to compare them as they are."
        raise ValueError(msg)
    return groups_.resolve(groups, tree)


def _like(groups: Any, perms: dict) -> Any:
    """Permutations in the container in which the groups came."""
    if isinstance(groups, Mapping):
        return perms
    alone = groups is None or isinstance(groups, (Group, groups_.Rows))
    return next(iter(perms.values())) if alone else list(perms.values())


def _each(groups: Any, held: Any) -> list:
    """One thing a group, out of a container like that of the groups."""
    if isinstance(groups, Mapping):
        if not isinstance(held, Mapping) or set(held) != set(groups):
            got = list(held) if isinstance(held, Mapping) else type(held).__name__
            msg = f"groups: got a dict of {list(groups)}, and {got} for it; expected one for each."
            raise ValueError(msg)
        return [held[name] for name in groups]
    return [held] if groups is None or isinstance(groups, (Group, groups_.Rows)) else list(held)


def _assigned(gain: np.ndarray) -> np.ndarray:
    """The permutation with the largest sum of `gain[i, perm[i]]`."""
    from scipy.optimize import linear_sum_assignment

    return linear_sum_assignment(gain, maximize=True)[1]


def _by_turns(reference: Tree, params: Tree, named: dict, perms: dict) -> tuple[float, dict, list[float]]:
    perms, current = dict(perms), params
    for name, group in named.items():
        if not np.array_equal(perms[name], np.arange(group.size)):
            current = group.permute(current, perms[name])
    theirs = {name: np.asarray(group.particles(reference), np.float64) for name, group in named.items()}
    touched = _touched(named, reference)
    agreement, scale = _agreement(reference, current, touched)
    history, quiet = [agreement], 0
    for name, group in itertools.cycle(named.items()):
        perm = _assigned(theirs[name] @ np.asarray(group.particles(current), np.float64).T)
        candidate = group.permute(current, perm)
        reached, _ = _agreement(reference, candidate, touched)
        quiet += 1
        if reached > agreement + _TIE * scale:
            current, agreement, perms[name] = candidate, reached, perms[name][perm]
            history.append(agreement)
            quiet = 0 if getattr(group, "between", ()) else 1  # the assignment of this one is the best there is, until another moves
        if quiet >= len(named):
            break
    return agreement, perms, history


def _touched(named: dict, tree: Tree) -> set[str] | None:
    """The leaves that some group permutes; None for all, of an array."""
    held = [getattr(group, "leaves", None) for group in named.values()]
    return None if None in held else {leaf.path for leaves in held for leaf in leaves or ()}


def _agreement(reference: Tree, params: Tree, touched: set[str] | None) -> tuple[float, float]:
    """`<reference, params>`, and the product of the norms, over the leaves that are touched."""
    inner = one = other = 0.0
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(reference), jax.tree.leaves(params), strict=True):
        if touched is None or _checks.path_name(path) in touched:
            u, v = np.asarray(a, np.float64).ravel(), np.asarray(b, np.float64).ravel()
            inner, one, other = inner + float(u @ v), one + float(u @ u), other + float(v @ v)
    return inner, (one * other) ** 0.5


def _of_activations(groups: Any, named: dict, activations: Any) -> Matching:
    if not isinstance(activations, (tuple, list)) or len(activations) != 2:
        msg = f"activations: got {type(activations).__name__}; expected (of the reference, of params), two of them."
        raise ValueError(msg)
    perms, before, after = {}, 0.0, 0.0
    for (name, group), z, z_other in zip(named.items(), *(_each(groups, one) for one in activations), strict=True):
        z, z_other = np.asarray(z, np.float64), np.asarray(z_other, np.float64)
        if z.shape != z_other.shape or z.ndim != 2 or z.shape[1] != group.size or not (np.isfinite(z).all() and np.isfinite(z_other).all()):
            msg = (
                f"activations[{name!r}]: got shapes {z.shape} and {z_other.shape}; expected (n, {group.size}) twice, finite:"
                " examples in rows, the same ones, and the group's neurons in columns."
            )
            raise ValueError(msg)
        gain = z.T @ z_other
        perm = _assigned(gain)
        before, after = before + float(np.trace(gain)), after + float(gain[np.arange(group.size), perm].sum())
        perms[name] = perm
    return Matching(_like(groups, perms), after, np.array([before, after]), "exact")
