"""Atoms, merges and crossings: particles that share a place."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from eqdyn import _checks, geometry
from eqdyn._types import Labels, Points, Tree
from eqdyn.geometry import Atoms
from eqdyn.measure._one_group import asked
from eqdyn.rule import Rule, lifted, points_of, weight_of


class Merges(NamedTuple):
    """What coincided and what came apart between two configurations of the same particles.

    `merged`: atoms lost, that is distinct places that became one. `split`: places that became several, which no equivariant
    rule does. `partner` `(n,)`: the smallest index that shares i's new place.
    """

    merged: jax.Array
    split: jax.Array
    partner: jax.Array


class Crossings(NamedTuple):
    """What shares its parameters after a step: merged for good, or about to part.

    `merged`: lifted places (parameters and state) that were distinct before and became one. `crossings`: lifted places of the later
    configuration beyond one for each place of the parameters; reversible. `partner` `(n,)`: the smallest index that shares i's
    parameters there; `lifted_partner`: its state as well. i crosses its partner where the two differ.
    """

    merged: jax.Array
    crossings: jax.Array
    partner: Labels
    lifted_partner: Labels


def atoms(x: Any) -> Atoms:
    """Which particles coincide, bit for bit (0 and -0 are one place). Tolerance 0; exact but for a
    collision of 64-bit hashes (chance below n^2 / 2^64).

    Args:
        x: configuration `(n, d)` or `Weighted`.

    Returns:
        `Atoms(label, mass, num_atoms)`: smallest index at the same place `(n,)`, summed weight at that row `(n,)`, number of atoms.

    Raises:
        ValueError, TypeError: x is no configuration of rows.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> found = eq.measure.atoms(jnp.array([[1.0], [2.0], [1.0]]))
        >>> found.label.tolist(), found.mass.tolist(), int(found.num_atoms)
        ([0, 1, 0], [2.0, 1.0, 0.0], 2)

    References:
        Yang et al., arXiv:2510.02670, theorem 2 (the index measure pushed forward).
    """
    x = _checks.configuration(x)
    return _atoms(_checks.points(points_of(x)), weight_of(x))


def merges(x: Any, x_next: Any) -> Merges:
    """How many distinct places of x became one in x_next, and how many came apart. Exact; tolerance 0.

    Args:
        x: particles `(n, d)`; lifted ones where the rule has a state (`eq.lifted`), else equal parameters with different
            state count as merged though they will part again (a crossing).
        x_next: the same particles later.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> found = eq.measure.merges(jnp.array([[1.0], [2.0], [3.0]]), jnp.array([[2.0], [2.0], [2.0]]))
        >>> int(found.merged), int(found.split)
        (2, 0)

    References:
        Yang et al., arXiv:2510.02670, lemma 3.
    """
    a, b = _checks.points(x), _checks.points(x_next, "x_next")
    _checks.same_shape(a, b, ("x", "x_next"))
    return _merges(a, b)


def count_merges(x: jax.Array, x_next: jax.Array) -> Merges:
    before, after = geometry.labels(x), geometry.labels(x_next)
    num_before, num_after, num_both = (geometry.num_places(label) for label in (before, after, geometry.labels(jnp.stack([before, after], 1))))
    return Merges(num_both - num_after, num_both - num_before, after)


def crossings(rule: Rule, x: Any, state: Tree, x_next: Any, state_next: Tree, *, group: Any = None) -> Crossings:
    """Coincidences of parameters after a step, told apart: merges of lifted particles, and crossings. Exact; tolerance 0.

    A merge is for good: equal lifted particles stay equal. Particles that share their parameters but not their state part again.
    Without a state every coincidence is a merge.

    Args:
        rule: the update rule, for what it lifts.
        x, state: before.
        x_next, state_next: the same particles later, as `eq.step` gives them.
        group: None for rows, or one `Group`.

    Returns:
        `Crossings(merged, crossings, partner, lifted_partner)`. `crossings` is of the later configuration: it counts those that were
        there before, too.

    Raises:
        ValueError, TypeError: arguments that do not fit.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> rule = eq.rules.heavy_ball(lambda x: 0.5 * jnp.sum(x**2), beta=0.5)
        >>> x = jnp.array([[0.0], [2.0]])
        >>> state = rule.init(x)
        >>> y, after, _ = eq.step(rule, x, state, 1.0)                  # the second particle steps on the first, with a momentum
        >>> found = eq.measure.crossings(rule, x, state, y, after)
        >>> y.ravel().tolist(), int(found.merged), int(found.crossings)
        ([0.0, 0.0], 0, 1)
        >>> eq.step(rule, y, after, 1.0)[0].ravel().tolist()            # and goes on
        [0.0, -1.0]

    References:
        Yang et al., arXiv:2510.02670, section 5.2 (lifted particles) and lemma 3.
    """
    before, after = (asked(rule, *pair, None, group, None) for pair in ((x, state), (x_next, state_next)))
    if before.group.size != after.group.size:
        msg = f"x, x_next: got {before.group.size} and {after.group.size} particles; expected the same particles later."
        raise ValueError(msg)
    return _crossings(rule, before.group, *(part for one in (before, after) for part in (one.x, one.state)))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _crossings(rule: Rule, group: Any, x: Tree, state: Tree, x_next: Tree, state_next: Tree) -> Crossings:
    z, z_next = lifted(rule, x, state, group), lifted(rule, x_next, state_next, group)
    return count_crossings(z, z_next, group.particles(x_next))


def count_crossings(z: Points, z_next: Points, y: Points) -> Crossings:
    """`crossings`, inside a trace: of lifted rows before and after, `(n, d + s)`, and the parameters after, `(n, d)`."""
    lifted, place = count_merges(z, z_next), geometry.labels(y)
    return Crossings(lifted.merged, geometry.num_places(lifted.partner) - geometry.num_places(place), place, lifted.partner)


_atoms, _merges = jax.jit(geometry.atoms), jax.jit(count_merges)
