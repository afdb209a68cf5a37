"""A swarm: attraction from far, repulsion from near."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from eqdyn import _checks
from eqdyn._value import bind
from eqdyn.field import from_field, pair_kernel
from eqdyn.rule import Rule


def attraction_repulsion(*, attraction: float = 1.0, repulsion: float = 2.0, length: float = 1.0) -> Rule:
    """Attraction and repulsion, with the weighted mean over j. Exact up to the order of summation.

        U_i = -mean_j z (a - b exp(-|z|^2 / c^2)),   z = x_i - x_j

    K and K_pair are at most `max(b - a, a + 2 b exp(-3/2))`, whatever n: that is the Lipschitz constant of the force of one pair,
    whose Jacobian has the eigenvalues `-(a - b e^-s)` across z and `-(a + b (2s - 1) e^-s)` along it, s = |z|^2/c^2, the latter
    extreme at s = 0 and s = 3/2; the mean over all pairs adds nothing to it. No pair approaches faster than mu, at most `a + 2 b exp(-3/2)`. (With
    weights K is meant in the norm that counts row i w_i times.) The centre of mass stays. Where b > a, two particles rest at the
    distance `c sqrt(ln(b/a))`. U is minus the gradient of `sum_ij phi(x_i - x_j) / (2n)`, `phi(z) = a |z|^2 / 2 + b c^2 exp(-|z|^2/c^2) / 2`.

    Time O(n^2 d), memory O(n d) and a tile.

    Args:
        attraction: a > 0; unit: 1 over that of eta.
        repulsion: b >= 0; unit: 1 over that of eta.
        length: c > 0, how far repulsion reaches; unit: that of x.

    Raises:
        ValueError: a hyperparameter that is out of its range.

    Example:
        >>> import math, jax.numpy as jnp, eqdyn as eq
        >>> rule = eq.rules.attraction_repulsion(attraction=1.0, repulsion=math.e, length=2.0)
        >>> u = rule.update(jnp.array([[0.0], [2.0]]), ()).u    # at rest
        >>> bool(jnp.max(jnp.abs(u)) < 1e-6)
        True

    References:
        Gazi, Passino 2003, Stability analysis of swarms (IEEE TAC 48).
    """
    numbers = _checks.number(attraction, "attraction", above=0), _checks.number(repulsion, "repulsion", least=0)
    return from_field(pair_kernel(bind(_pull, *numbers, _checks.number(length, "length", above=0)), normalize=True))


def _pull(attraction: float, repulsion: float, length: float, x: jax.Array, other: jax.Array) -> jax.Array:
    a, b, c = (jnp.asarray(value, x.dtype) for value in (attraction, repulsion, length))
    z = x - other
    return -z * (a - b * jnp.exp(-jnp.sum(jnp.square(z / c))))
