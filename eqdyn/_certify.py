"""Certificates of one step, from two configurations alone: nobody merged, or who did, or who cannot be told apart."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from eqdyn import _checks, _mesh, geometry, groups
from eqdyn._types import Tree
from eqdyn.measure.coincidence import count_merges

_FLOOR = 4  # roundings of the places after the step that a distance must exceed
_LISTED = 1000  # pairs that are listed at most

Verdict = Literal["injective", "merged", "unresolved"]


@dataclasses.dataclass(frozen=True, eq=False)
class Certificate:
    """What a step did to the distances between particles. No unit.

    Fields:
        verdict: "injective": distinct particles stayed distinct, every stretch above its rounding floor. "merged": distinct ones coincide.
            "unresolved": some pair is so close after the step that rounding may have parted it, or x_next is not finite.
        stretch_min, stretch_max: extreme stretches over all pairs of distinct particles. NaN where there is none.
        stretch_min_at, stretch_max_at: the pairs that attain them.
        q: `max |(x_i'-x_j') - (x_i-x_j)| / |x_i-x_j|`, `eta K_pair` of the step; below 1 nobody can have merged.
        q_at: its pair.
        merged: `(m, 2)` each particle (of twins the first) that met others than its twins, with the smallest index that has its place now.
        unresolved: `(k, 2)` pairs at or below the floor, distinct after the step, the nearest first; at most 1,000.
        num_unresolved: how many there are.
        num_split: coincident particles that came apart, which no equivariant rule does.
    """

    verdict: Verdict
    stretch_min: float
    stretch_min_at: tuple[int, int]
    stretch_max: float
    stretch_max_at: tuple[int, int]
    q: float
    q_at: tuple[int, int]
    merged: np.ndarray
    unresolved: np.ndarray
    num_unresolved: int
    num_split: int

    def summary(self) -> str:
        """The certificate in a line or two of text."""
        words = {
            "injective": "injective: nobody merged",
            "merged": f"merged: {len(self.merged)} particles lost their place",
            "unresolved": f"unresolved: {self.num_unresolved} pairs within rounding" if self.num_unresolved else "unresolved: not finite",
        }[self.verdict]
        line = f"{words}; distances {self.stretch_min:.3g} to {self.stretch_max:.3g} times what they were, q = {self.q:.3g}"
        return line + (f"\n{self.num_split} places came apart, which no equivariant rule does" if self.num_split else "")


def certify(x: Any, x_next: Any, *, group: Any = None) -> Any:
    """Whether a step kept distinct particles distinct, from the two configurations alone: any framework, any optimizer.

        s_ij = |x_i'-x_j'| / |x_i-x_j|,      injective if every  s_ij > f_ij = 4 eps (|x_i'| + |x_j'|) / |x_i-x_j|

    Exact over all pairs, by differences, in the dtype that is given: the floor `f_ij` is what rounding of x_next may have done, eps that of the
    dtype of the input, in a tree that of the coarsest leaf of the group. float64 is worked on in float64 on the host, whatever x64 says;
    float16 and bfloat16 in float32. Says nothing of what lies between the particles, or of other steps. Twins of x, which stay twins
    under any equivariant rule, are left out. With a state pass lifted particles (`eq.lifted`): equal parameters with different state
    are no merge.

    Args:
        x: particles `(n, d)`, anything NumPy can read; or a tree of such, with a group.
        x_next: the same particles after the step.
        group: None for rows, a `Group`, or a dict of them, for a dict of certificates.

    Returns:
        `Certificate`: `.verdict .stretch_min .stretch_max .q .merged .unresolved`, with the pairs that attain them.

    Raises:
        ValueError, TypeError: arguments that do not fit; x is not finite. (An x_next that is not finite is "unresolved".)

    Example:
        >>> import numpy as np, eqdyn as eq
        >>> x = np.array([[0.0], [1.0], [3.0]])
        >>> found = eq.certify(x, 0.5 * x)
        >>> found.verdict, found.stretch_min, found.q
        ('injective', 0.5, 0.5)
        >>> eq.certify(x, np.array([[1.0], [1.0], [3.0]])).merged.tolist()
        [[1, 0]]

    References:
        Derived; Yang et al., arXiv:2510.02670, lemma 4 and theorem 1 (what a bijection of finitely many particles means).
    """
    with jax.enable_x64(True), jax.default_device(jax.local_devices(backend="cpu")[0]), _mesh.over(x):  # noqa: FBT003
        before, after = _checks.configuration(_arrays(x)), _checks.configuration(_arrays(x_next), "x_next")
        same: tuple[Any, Any] = jax.tree.structure(before), jax.tree.structure(after)
        if same[0] != same[1]:
            msg = f"x_next: got structure {same[1]}; expected that of x, {same[0]}."
            raise TypeError(msg)
        named = groups.resolve(group, before)
        found = {name: _certified(one.particles(before), one.particles(after), _coarsest(one, before, after)) for name, one in named.items()}
    return found if isinstance(group, Mapping) else found["particles"]


def _arrays(tree: Tree) -> Tree:
    """Leaves of any framework, through NumPy."""
    return jax.tree.map(lambda leaf: leaf if isinstance(leaf, jax.Array) else np.asarray(leaf), tree)


def _coarsest(group: Any, *trees: Tree) -> float:
    """The largest eps among the leaves that hold the particles: joined they have the finest."""
    if isinstance(group, groups.Rows):
        own = [group.particles(tree) for tree in trees]
    else:
        paths = {leaf.path for leaf in group.leaves}
        own = [leaf for tree in trees for path, leaf in jax.tree_util.tree_leaves_with_path(tree) if _checks.path_name(path) in paths]
    return max(float(jnp.finfo(leaf.dtype).eps) for leaf in own)


def _certified(x: jax.Array, y: jax.Array, eps: float) -> Certificate:
    x, y = _checks.points(x), _checks.points(y, "x_next")
    _checks.same_shape(x, y, ("x", "x_next"))
    _checks.finite(x, "x")
    n = len(x)
    nowhere, none = (-1, -1), np.zeros((0, 2), np.int64)
    if n == 1 or not bool(jnp.all(jnp.isfinite(y))):
        verdict: Verdict = "injective" if n == 1 and bool(jnp.all(jnp.isfinite(y))) else "unresolved"
        return Certificate(verdict, np.nan, nowhere, np.nan, nowhere, np.nan, nowhere, none, none, 0, 0)
    # squares of near pairs are numbers of float64, where `eps` stays that of the input
    x, y = x.astype(jnp.float64), y.astype(jnp.float64)
    found = jax.tree.map(_mesh.on_host, _moved(x, y, _FLOOR * eps))
    lost = unresolved = none
    num = split = merged = 0
    if found.num_unresolved or found.num_twins or found.num_torn:  # else all are distinct, before and after
        before, counted = jax.tree.map(_mesh.on_host, _merged(x, y))
        after, split, merged = counted.partner, int(counted.split), int(counted.merged)
        met = np.nonzero(before != before[after])[0]  # at one place with a particle of another place before
        first = met[np.sort(np.unique(np.stack([before, after], axis=1)[met], axis=0, return_index=True)[1])]  # of twins that go together
        lost = np.stack([first, after[first]], axis=1)
        unresolved, num = _unresolved(_mesh.on_host(x), _mesh.on_host(y), _FLOOR * eps)
    torn = bool(found.num_torn)
    return Certificate(
        "merged" if merged else "unresolved" if num else "injective",
        float(found.low),
        _pair(found.low_at),
        np.inf if torn else float(found.high),
        _pair(found.torn_at if torn else found.high_at),
        np.inf if torn else float(found.q),
        _pair(found.torn_at if torn else found.q_at),
        lost,
        unresolved,
        num,
        split,
    )


_moved = jax.jit(geometry.moved, static_argnums=2)


@jax.jit
def _merged(x: jax.Array, y: jax.Array) -> tuple:
    return geometry.labels(x), count_merges(x, y)


def _pair(at: np.ndarray) -> tuple[int, int]:
    return int(at[0]), int(at[1])


def _unresolved(x: np.ndarray, y: np.ndarray, floor: float) -> tuple[np.ndarray, int]:
    """Pairs distinct in x and in y with `|y_i - y_j| <= floor (|y_i| + |y_j|)`, the nearest first, and how many. In the order of one
    projection only near neighbours can be such pairs: it shortens distances.
    """
    y = np.ldexp(y, -np.frexp(np.abs(y).max(initial=0))[1])  # exact, and squares stay in range
    size = np.linalg.norm(y, axis=1)
    reach = 2 * floor * size.max(initial=0)
    direction = np.random.default_rng(0).normal(size=y.shape[1])
    along = y @ (direction / np.linalg.norm(direction))
    order = np.argsort(along, kind="stable")
    slack = reach + 8 * np.finfo(np.float64).eps * y.shape[1] * size.max(initial=0)
    found, distances = [], []
    for shift in range(1, len(y)):
        near = np.nonzero(along[order[shift:]] - along[order[:-shift]] <= slack)[0]
        if not len(near):
            break
        i, j = order[near], order[near + shift]
        apart = np.linalg.norm(y[i] - y[j], axis=1)
        bad = (apart > 0) & (apart <= floor * (size[i] + size[j])) & np.any(x[i] != x[j], axis=1)
        found.append(np.sort(np.stack([i[bad], j[bad]], axis=1), axis=1))
        distances.append(apart[bad])
    pairs = np.concatenate([np.zeros((0, 2), np.int64), *found])
    nearest = np.argsort(np.concatenate([np.zeros(0), *distances]), kind="stable")
    return pairs[nearest[:_LISTED]], len(pairs)
