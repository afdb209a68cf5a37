"""Kuramoto's oscillators on the circle, and their like on the sphere."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from eqdyn import _checks
from eqdyn._value import bind
from eqdyn.field import from_field, mean_field
from eqdyn.rule import Rule


def kuramoto(*, coupling: float = 1.0, frequency: float = 0.0) -> Rule:
    """Kuramoto's identical oscillators, embedded on the unit circle or sphere. Exact up to the order of summation.

        U_i = coupling (m - <m, e_i> e_i) + frequency J e_i,   e_i = x_i / |x_i|,  m = mean_j e_j (weighted)

    J turns by 90 degrees and needs d = 2, where this is `d theta_i/dt = frequency + coupling mean_j sin(theta_j - theta_i)` on the unit
    circle. Two oscillators: `d delta/dt = -coupling sin(delta)`; the mean of all theta_i turns with the frequency; `|m|` never falls along
    the flow for coupling > 0.

    U sees directions only and is tangent: a step leaves the sphere outwards, `|x'|^2 = |x|^2 + eta^2 |U|^2`, and never comes back.
    Outside of the unit ball `K_pair <= |coupling| |m| + |frequency|`, and |m| <= 1 (two projections on lines differ by the sine of
    their angle). P2 and P3 fail at the origin, which has no direction; a particle there gets e = 0.

    Args:
        coupling: strength; negative repels. Unit: 1 over that of eta, as x has none.
        frequency: of all oscillators, radians over the unit of eta. (Frequencies of their own would break P1.)

    Raises:
        ValueError: at the first step, particles of dimension 1, or of another than 2 with a frequency.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> x = jnp.array([[1.0, 0.0], [0.0, 1.0]])             # a quarter turn apart: sin(delta) / 2 each
        >>> eq.rules.kuramoto().update(x, ()).u.tolist()
        [[0.0, 0.5], [0.5, 0.0]]

    References:
        Kuramoto 1975; Lohe 2009 (spheres).
    """
    coupling, frequency = _checks.number(coupling, "coupling"), _checks.number(frequency, "frequency")
    return from_field(mean_field(_direction_and_one, bind(_turning, coupling, frequency)))


def _direction(x: jax.Array) -> jax.Array:
    square = jnp.sum(jnp.square(x))
    return x / jnp.sqrt(jnp.where(square > 0, square, jnp.inf))


def _direction_and_one(x: jax.Array) -> tuple[jax.Array, float]:
    return _direction(x), 1.0


def _turning(coupling: float, frequency: float, x: jax.Array, s: tuple[jax.Array, jax.Array]) -> jax.Array:
    turns = not (isinstance(frequency, float) and frequency == 0)
    if x.shape[0] < 2 or (turns and x.shape[0] != 2):
        wanted = "2, where alone a frequency has a meaning; write frequency=0.0" if turns else "2 or more"
        msg = f"x: got particles of dimension {x.shape[0]}; expected {wanted}."
        raise ValueError(msg)
    (total, mass), e = s, _direction(x)
    m = total / mass
    u = jnp.asarray(coupling, x.dtype) * (m - jnp.dot(m, e) * e)
    return u + jnp.asarray(frequency, x.dtype) * jnp.stack([-e[1], e[0]]) if turns else u
