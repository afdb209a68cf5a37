"""Atoms, and merges: particles that share a place."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from eqdyn import _checks, geometry
from eqdyn.geometry import Atoms
from eqdyn.rule import points_of, weight_of


class Merges(NamedTuple):
    """What coincided and what came apart between two configurations of the same particles.

    `merged`: atoms lost, that is distinct places that became one. `split`: places that became several, which no equivariant
    rule does. `partner` `(n,)`: the smallest index that shares i's new place.
    """

    merged: jax.Array
    split: jax.Array
    partner: jax.Array


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


_atoms, _merges = jax.jit(geometry.atoms), jax.jit(count_merges)
