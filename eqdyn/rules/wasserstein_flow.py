"""The flow of an energy of a measure, whatever the number of particles that carry it."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from eqdyn import field
from eqdyn._types import Points, Tree, Weights
from eqdyn._value import bind
from eqdyn.field import Field, Info, from_field, with_data
from eqdyn.rule import Rule, weight_of


def wasserstein_flow(energy: Callable) -> Rule:
    """The Wasserstein gradient flow of an energy F of the measure `sum_i mass_i delta(x_i)`, with masses that sum to 1.

        U_i  = -(1/mass_i) dF/dx_i = -grad (first variation of F) at x_i,   mass = weight / sum(weight)
        v(y) = -grad_y d/deps F((1 - eps) measure + eps delta(y)) at eps = 0                       (tracers)

    Exact up to rounding. All particles copied, or all weights doubled, change nothing. `F = E|x|^2 / 2` gives `U = -x`;
    `F = E E|x - y|^2 / 4` gives consensus, `U = mean - x`. F falls at the rate `sum_i mass_i |U_i|^2`; the centre of mass stays if F
    does not see translations. P2 and P3 hold where the first variation of F is smooth. `info` is `field.Info(F, force_norm)`.

    Args:
        energy: `(x (n, d), mass (n,), data) -> scalar` for any number of rows; the data may be left out. It must count rows by their
            mass alone; that is not checked here (the tests of the first variation see it).

    Raises:
        TypeError: the energy is no function, or takes another number of arguments.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> rule = eq.rules.wasserstein_flow(lambda x, mass: jnp.sum(mass * jnp.sum(x**2, axis=1)) / 2)
        >>> rule.update(jnp.array([[1.0], [-3.0]]), ()).u.ravel().tolist()
        [-1.0, 3.0]

    References:
        Jordan, Kinderlehrer, Otto 1998; Ambrosio, Gigli, Savaré 2008, chapter 10.
    """
    if not callable(energy):
        msg = f"energy: got {type(energy).__name__}; expected a function (x, mass, data) -> scalar."
        raise TypeError(msg)
    # With W the total weight, L(x, w) = W F(x, w / W) has -(1/w_i) dL/dx_i = -(1/mass_i) dF/dx_i. A tracer of weight eps changes W
    # too, which adds (to L) terms that do not know where the tracer is: grad_y drops them.
    of_weights = field.energy(bind(_times_total, with_data(energy, 2, "energy")), weighted=True)
    return from_field(Field(bind(_force, of_weights), of_weights.at))


def _times_total(energy: Callable, x: Points, weight: Weights, data: Tree) -> jax.Array:
    total = jnp.sum(weight)
    return total * energy(x, weight / total, data)


def _force(of_weights: Field, x: Tree, data: Tree) -> tuple[Tree, Info]:
    u, info = of_weights.force(x, data)
    return u, info._replace(loss=info.loss / jnp.sum(weight_of(x)))
