"""Equivariance: does the rule treat its particles alike?"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from eqdyn import _checks, groups
from eqdyn._types import Key, Scalar, Tree
from eqdyn.rule import Rule, add, map_matching


class Equivariance(NamedTuple):
    """`error`: the largest `|U(PX) - P U(X)|` over the largest `|U(X)|`, over the steps. `tolerance`: what rounding may do."""

    error: Scalar
    tolerance: Scalar


def equivariance(
    rule: Rule,
    x: Any,
    perm: Any,
    state: Tree = None,
    data: Tree = None,
    *,
    group: Any = None,
    eta: Any = 1.0,
    num_steps: int = 1,
    key: Key | None = None,
) -> Equivariance:
    """The equivariance residual `max |U(PX) - P U(X)| / max |U(X)|` of one permutation. Zero up to the order of summation iff P1
    holds for it.

    With `state=None` both runs start from a fresh `init` and are compared over `num_steps` steps, which needs no knowledge of
    how the state permutes. With a state the subtrees that have the structure of x are permuted with it.

    The tolerance is measured, not guessed: what U answers when each coordinate of x is moved by one rounding, times
    `max(16, 4 sqrt(n))` for sums taken in another order. An error below it cannot be told from rounding.

    Args:
        rule: the update rule.
        x: configuration.
        perm: `(n,)`, a permutation of the particles.
        state: None, or the rule's state at x.
        data: the batch, the same for both.
        group: None for rows, or a `Group`; the whole tree is compared, not only the group's particles.
        eta: step size of the roll-out.
        num_steps: steps of the roll-out, >= 1.
        key: the key of the step, the same for both.

    Returns:
        `Equivariance(error, tolerance)`, no unit.

    Raises:
        ValueError, TypeError: arguments that do not fit.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> x = jnp.array([[0.0], [1.0], [5.0]])
        >>> good = eq.measure.equivariance(eq.rules.consensus(), x, jnp.array([2, 0, 1]))
        >>> bad = eq.measure.equivariance(eq.rules.from_function(lambda x: jnp.cumsum(x, axis=0)), x, jnp.array([2, 0, 1]))
        >>> bool(good.error <= good.tolerance), bool(bad.error <= bad.tolerance)
        (True, False)

    References:
        Yang et al., arXiv:2510.02670, property P1.
    """
    x = _checks.configuration(x)
    _checks.step_size(eta)
    _checks.count(num_steps, "num_steps", least=1)
    groups_by_name = groups.resolve(group, x)
    if len(groups_by_name) != 1:
        msg = f"group: got {len(groups_by_name)} groups; expected one, since a permutation belongs to one group."
        raise ValueError(msg)
    (one,) = groups_by_name.values()
    perm = jnp.asarray(perm)
    if perm.shape != (one.size,) or not jnp.issubdtype(perm.dtype, jnp.integer) or sorted(perm.tolist()) != list(range(one.size)):
        msg = f"perm: got shape {perm.shape} {perm.dtype}; expected a permutation of 0..{one.size - 1}; write jax.random.permutation(key, n)."
        raise ValueError(msg)
    return _equivariance(rule, one, num_steps, x, perm, state, _checks.batch(data), jnp.asarray(eta), _checks.key(key))


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _equivariance(rule: Rule, group: Any, num_steps: int, x: Tree, perm: jax.Array, state: Tree, data: Tree, eta: Any, key: Any) -> Equivariance:
    return compare(group, x, perm, roll_outs(rule, group, num_steps, x, perm, state, data, eta, key))


def roll_outs(rule: Rule, group: Any, num_steps: int, x: Tree, perm: jax.Array, state: Tree, data: Tree, eta: Any, key: Any) -> Tree:
    """U at each step of three roll-outs, from x, from x permuted, and from x moved by one rounding: leaves `(3, num_steps, ...)`."""

    def permute(tree: Tree) -> Tree:
        return group.permute(tree, perm)

    starts = [x, permute(x), one_rounding(x)]
    states = [rule.init(start) for start in starts] if state is None else [state, map_matching(permute, x, state), state]

    def roll(x: Tree, state: Tree) -> Tree:
        def advance(carry: tuple, k: jax.Array) -> tuple[tuple, Tree]:
            x, state = carry
            new = rule.update(x, state, data, key=None if key is None else jax.random.fold_in(key, k))
            return (add(x, eta, new.u), new.state), new.u

        return jax.lax.scan(advance, (x, state), jnp.arange(num_steps))[1]

    return jax.vmap(roll)(*(jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees) for trees in (starts, states)))


def compare(group: Any, x: Tree, perm: jax.Array, us: Tree) -> Equivariance:
    """The residual of what `roll_outs` gave: the worst leaf of the worst step."""
    permuted = jax.vmap(lambda u: group.permute(u, perm))(jax.tree.map(lambda leaf: leaf[0], us))
    error = noise = jnp.zeros(())
    for u, expected in zip(jax.tree.leaves(us), jax.tree.leaves(permuted), strict=True):
        axes = tuple(range(1, u.ndim - 1))
        scale = jnp.maximum(jnp.max(jnp.abs(u[0]), axis=axes), jnp.finfo(u.dtype).tiny)
        error = jnp.maximum(error, jnp.max(jnp.max(jnp.abs(u[1] - expected), axis=axes) / scale).astype(error.dtype))
        noise = jnp.maximum(noise, jnp.max(jnp.max(jnp.abs(u[2] - u[0]), axis=axes) / scale).astype(noise.dtype))
    size, eps = _extent(x)
    return Equivariance(error, margin(group.size) * noise + 4 * eps * size**0.5)


def margin(num: int) -> float:
    """By how much rounding may exceed what one rounding of the input does: a sum of n terms, taken in another order, gathers
    some sqrt(n) roundings.
    """
    return max(16.0, 4 * num**0.5)


def one_rounding(x: Tree) -> Tree:
    """X with every coordinate moved by one rounding, up or down at random."""

    def leaf(a: jax.Array) -> jax.Array:
        return a * (1 + jnp.finfo(a.dtype).eps * jax.random.rademacher(jax.random.key(0), a.shape, a.dtype))

    return jax.tree.map(leaf, x)


def _extent(x: Tree) -> tuple[float, float]:
    """Numbers in a configuration, and the coarsest rounding among its leaves."""
    leaves = jax.tree.leaves(x)
    return float(sum(leaf.size for leaf in leaves)), max(float(jnp.finfo(leaf.dtype).eps) for leaf in leaves)
