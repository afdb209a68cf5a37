"""The permutation groups of a model: derived from a trace of the function, then verified by permuting."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from eqdyn import _checks
from eqdyn._types import Tree
from eqdyn.groups import Group, Leaf, from_leaves
from eqdyn.networks._axes import Axis, find, pin, units
from eqdyn.networks._trace import walk
from eqdyn.networks._value import Origin, Value, fresh, pinned

_IN, _OUT = "an axis of the inputs", "an axis of the output"
_ALONE = "cut into single positions by slices, concatenations or looking up"


class Fixed(NamedTuple):
    """An axis of a leaf, or a part of it, whose positions are told apart, and by what."""

    leaf: Leaf
    reason: str

    def __str__(self) -> str:
        return f"{self.leaf}: {self.reason}"


class Verification(NamedTuple):
    """Whether the outputs stay when the units of a group are permuted.

    Fields:
        holds: the largest change stayed within the tolerance, at every draw.
        error: largest change of an output, over the largest output.
        tolerance: the rounding that reordered sums may make.
        num_draws: random permutations tried; a symmetry that fails only elsewhere is not seen.
        dtype: in which it was computed: float64 wherever the function can.
    """

    holds: bool
    error: float
    tolerance: float
    num_draws: int
    dtype: str


class Groups(list[Group]):
    """The groups of a model, largest number of coordinates first, each verified; and what was refused.

    Fields:
        fixed: parts of axes whose positions are told apart, with the reason.
        verifications: what permuting showed, group by group.
    """

    def __init__(self, groups: Sequence[Group], fixed: Sequence[Fixed], verifications: Sequence[Verification]):
        super().__init__(groups)
        self.fixed = tuple(fixed)
        self.verifications = tuple(verifications)

    @property
    def refused(self) -> tuple[Fixed, ...]:
        """Axes that would be free but for something inside the function: neither inputs nor outputs."""
        return tuple(one for one in self.fixed if not one.reason.startswith((_IN, _OUT)))

    def named(self) -> dict[str, Group]:
        """The groups by name, as `group=` takes them: a kernel with the units along its last axis, numbered where two are alike."""
        out: dict[str, Group] = {}
        for group in self:
            stem = max(group.leaves, key=lambda leaf: (len(leaf.shape) > 1 and leaf.axis == len(leaf.shape) - 1, leaf.dim())).path
            name, count = stem, 1
            while name in out:
                count += 1
                name = f"{stem} {count}"
            out[name] = group
        return out

    def summary(self) -> str:
        """One line a group, one a part that is told apart."""
        lines = []
        for (name, group), seen in zip(self.named().items(), self.verifications, strict=True):
            leaves = ", ".join(map(str, group.leaves))
            lines.append(f"{name}: {group.size} units of {group.dim} numbers, verified to {seen.error:.1e} in {seen.dtype}: {leaves}")
        return "\n".join(lines + [f"told apart: {one}" for one in self.fixed])


def find_groups(apply: Callable[..., Any], params: Tree, inputs: Any, *, num_draws: int = 3, seed: int = 0) -> Groups:
    """The groups of exchangeable units of a model, derived by tracing the function and verified by permuting.

    Axes of parameters are tied where the function contracts, adds, convolves, reshapes, concatenates or looks them up together. What
    ties an axis to an input, an output, or a constant that differs along it tells its units apart. Axes that only have the same length
    stay apart. Whatever the trace derives is then verified: random permutations must leave the outputs unchanged to rounding.

    Args:
        apply: the model, `apply(params, inputs)`; any JAX function, outputs any tree. A loss will do.
        params: the parameter tree; what is no floating array in it is held fixed.
        inputs: one batch, as `apply` takes it; values matter for the verification only.
        num_draws: random permutations a group.
        seed: of the permutations.

    Returns:
        `Groups`: a list of `Group`, with `.fixed` and `.refused` (what is told apart, and why), `.named()` and `.summary()`.
        Exact as to what it finds (a group listed is a symmetry of the function traced, for every value of the parameters); it may miss
        symmetries that only appear across leaves (experts kept one by one), between blocks of one axis (a permutation within each
        head of its own), or through operations without a rule, which are named.

    Raises:
        ValueError: no floating leaf; or a derived group that does not verify (a fault of ours: the message asks for a report).

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> def mlp(params, z):
        ...     return jnp.tanh(jnp.tanh(z @ params["w"]) @ params["middle"]) @ params["out"]
        >>> params = {"w": jnp.ones((3, 5)), "middle": jnp.ones((5, 7)), "out": jnp.ones((7, 2))}
        >>> groups = eq.networks.find_groups(mlp, params, jnp.ones((4, 3)))
        >>> {name: (group.size, group.dim) for name, group in groups.named().items()}
        {'w': (5, 10), 'middle': (7, 7)}

    References:
        Ainsworth et al., arXiv:2209.04836, section 3 (permutation specifications written by hand).
    """
    paths, leaves, rebuild = _floating(params)
    values = [fresh(np.shape(leaf))._replace(origin=Origin([])) for leaf in leaves]
    _tie(lambda held, batch: apply(rebuild(held), batch), leaves, inputs, values)
    groups, fixed = _read_off(paths, values)
    seen = []
    for group in groups:
        found = verify(apply, params, inputs, group, num_draws=num_draws, seed=seed)
        if not found.holds:
            places = ", ".join(map(str, group.leaves))
            msg = (
                f"apply: got outputs that change by {found.error:.1e} when {places} are permuted; expected at most {found.tolerance:.1e}."
                " The trace ties what does not belong together: please report it; pass groups made by eq.groups.from_axes meanwhile."
            )
            raise ValueError(msg)
        seen.append(found)
    order = sorted(range(len(groups)), key=lambda i: (-groups[i].size * groups[i].dim, groups[i].leaves[0].path))
    return Groups([groups[i] for i in order], fixed, [seen[i] for i in order])


def _floating(params: Tree) -> tuple[list[str], list[Any], Callable[[Sequence[Any]], Tree]]:
    """Paths and floating leaves of a tree, and what puts new ones in their place."""
    held, structure = jax.tree_util.tree_flatten_with_path(params)
    at = [k for k, (_, leaf) in enumerate(held) if hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)]
    if not at:
        msg = "params: got no floating array; expected a tree of parameters."
        raise ValueError(msg)

    def rebuild(new: Sequence[Any]) -> Tree:
        leaves = [leaf for _, leaf in held]
        for k, leaf in zip(at, new, strict=True):
            leaves[k] = leaf
        return jax.tree_util.tree_unflatten(structure, leaves)

    return [_checks.path_name(held[k][0]) for k in at], [held[k][1] for k in at], rebuild


def _tie(function: Callable[..., Any], leaves: Sequence[Any], inputs: Any, values: Sequence[Value]) -> None:
    closed = jax.make_jaxpr(function)(list(leaves), inputs)
    entering = [pinned(np.shape(leaf), _IN) for leaf in jax.tree.leaves(inputs)]
    for value in walk(closed.jaxpr, closed.consts, [*values, *entering]):
        for axis in value.axes:
            pin(axis, _OUT)
        if value.points is not None:
            pin(value.points, _OUT)


def _read_off(paths: Sequence[str], values: Sequence[Value]) -> tuple[list[Group], list[Fixed]]:
    """The atoms that stayed free, with every place where their units lie; and the places of the others."""
    places: dict[int, tuple[Axis, list[Leaf]]] = {}
    groups, fixed = [], []
    for path, value in zip(paths, values, strict=True):
        assert value.origin is not None
        summed = {id(find(atom)) for axis in value.origin.contracted for atom, _, _ in units(axis)}
        for d, axis in enumerate(value.axes):
            alone = np.ones(value.shape[d], bool)
            for atom, starts, width in _gathered(axis):
                leaf = Leaf(path, d, value.shape, starts, width, outgoing=None if atom.counted else id(atom) in summed)
                places.setdefault(id(atom), (atom, []))[1].append(leaf)
                alone[leaf.positions(atom.size)] = False
            if len(alone) > 1 and alone.any():
                fixed.append(Fixed(Leaf(path, d, value.shape, tuple(np.flatnonzero(alone).tolist())), _ALONE))
    for atom, leaves in places.values():
        if atom.pinned is not None:
            fixed += [Fixed(leaf, atom.pinned) for leaf in leaves]
        elif atom.size > 1:
            groups.append(from_leaves(atom.size, leaves))
    return groups, fixed


def _gathered(axis: Axis) -> Iterator[tuple[Axis, tuple[int, ...], int]]:
    """The places of each atom along an axis, those of one width together."""
    found: dict[tuple[int, int], tuple[Axis, list[int]]] = {}
    for atom, start, width in units(axis):
        found.setdefault((id(find(atom)), width), (find(atom), []))[1].append(start)
    for (_, width), (atom, starts) in found.items():
        yield atom, tuple(starts), width


def verify(apply: Callable[..., Any], params: Tree, inputs: Any, group: Group, *, num_draws: int = 3, seed: int = 0) -> Verification:
    """Whether the outputs stay when the units of a group are permuted: for groups of one's own making too.

    Args:
        apply, params, inputs: the model, as in `find_groups`.
        group: made by `find_groups` or `eq.groups.from_axes`.
        num_draws: random permutations; the first exchanges two units only.
        seed: of the permutations.

    Returns:
        `Verification`. `holds` is a statistical statement: it was not refuted in `num_draws` draws.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> params = {"w": jnp.array([[1.0, 2.0, 3.0]]), "out": jnp.array([1.0, -1.0, 2.0])}
        >>> apply = lambda params, z: jnp.tanh(z @ params["w"]) @ params["out"]
        >>> right = eq.groups.from_axes(params, {"w": 1, "out": 0})
        >>> wrong = eq.groups.from_axes(params, {"w": 1})
        >>> [eq.networks.verify(apply, params, jnp.ones((2, 1)), group).holds for group in (right, wrong)]
        [True, False]
    """
    num_draws = _checks.count(num_draws, "num_draws", least=1)
    try:
        with jax.enable_x64():
            return _verify(apply, _wide(params), _wide(inputs), group, num_draws, seed)
    except Exception:  # a function that fixes its own dtypes need not run in float64
        return _verify(apply, params, inputs, group, num_draws, seed)


def _wide(tree: Tree) -> Tree:
    def leaf(one: Any) -> Any:
        return np.asarray(one, np.float64) if hasattr(one, "dtype") and jnp.issubdtype(one.dtype, jnp.floating) else one

    return jax.tree.map(leaf, tree)


def _verify(apply: Callable[..., Any], params: Tree, inputs: Any, group: Group, num_draws: int, seed: int) -> Verification:
    random = np.random.default_rng(seed)
    # parameters that happen to be equal (zero biases, unit scales) would hide what a permutation does
    _, leaves, rebuild = _floating(params)
    shaken = rebuild([_shaken(leaf, random) for leaf in leaves])
    apply = jax.jit(apply)
    before = _outputs(apply(shaken, inputs))
    worst, finest = 0.0, float(np.finfo(np.float64).eps)
    for draw in range(num_draws):
        perm = _swap(group.size, random) if draw == 0 else random.permutation(group.size)
        after = _outputs(apply(group.permute(shaken, perm), inputs))
        for (old, eps), (new, _) in zip(before, after, strict=True):
            finest = max(finest, eps)
            largest = max(float(np.max(np.abs(old), initial=0.0)), np.finfo(np.float64).tiny)
            change = float(np.max(np.abs(old - new), initial=0.0)) / largest
            worst = math.inf if math.isnan(change) else max(worst, change)
    num = sum(math.prod(np.shape(leaf)) for leaf in leaves)
    tolerance = 64 * finest * math.sqrt(num)
    dtype = "float64" if finest == np.finfo(np.float64).eps else "float32" if finest < 1e-5 else "half precision"
    return Verification(worst <= tolerance, worst, tolerance, num_draws, dtype)


def _shaken(leaf: Any, random: np.random.Generator) -> Any:
    held, noise = np.asarray(leaf, np.float64), 0.1 * random.standard_normal(np.shape(leaf))
    moved = held * (1.0 + noise) + (held == 0.0) * noise * (np.max(np.abs(held), initial=0.0) or 1.0)  # what is positive stays so
    return jnp.asarray(moved, jnp.asarray(leaf).dtype)


def _swap(size: int, random: np.random.Generator) -> np.ndarray:
    perm = np.arange(size)
    i, j = random.choice(size, 2, replace=False) if size > 1 else (0, 0)
    perm[[i, j]] = perm[[j, i]]
    return perm


def _outputs(tree: Tree) -> list[tuple[np.ndarray, float]]:
    """Outputs in float64, each with the spacing of the dtype it came in; integers count as the finest."""
    out = []
    for leaf in jax.tree.leaves(tree):
        eps = float(jnp.finfo(leaf.dtype).eps) if jnp.issubdtype(leaf.dtype, jnp.floating) else float(np.finfo(np.float64).eps)
        out.append((np.asarray(leaf, np.float64), eps))
    return out
