"""Langevin: gradient descent with noise, drawn for every particle or as one field for all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from eqdyn import _checks
from eqdyn._types import Key, Points, Tree
from eqdyn._value import bind
from eqdyn.field import Field, as_field, map_rows
from eqdyn.rule import Rule, Update, add, no_state, points_of, velocity


def langevin(loss: Callable | Field, *, sigma: float = 1.0, length: float | None = None, num_waves: int = 64, weighted: bool = False) -> Rule:
    """Gradient descent with noise, `U = -grad L(x) + sigma xi`, drawn anew each step. Needs a key.

    Without a length every row draws its own standard Gaussian noise (and draws once, whatever its weight). **P1 fails path by
    path**: it holds in law only, as the noise does not permute with the particles; twins part, and tracers are not moved.
    `sigma = sqrt(2 T / eta)` samples `exp(-L/T)` in the limit of small eta.

    With a length the noise is a random velocity field, the same for all particles:

        xi(x) = sqrt(2/M) sum_k a_k cos(<omega_k, x> + phi_k),   a_k ~ N(0, I),  omega_k ~ N(0, I/length^2),  phi_k uniform

    Every component has mean 0, variance 1 and covariance `exp(-|x - y|^2 / (2 length^2))`, exactly for every M; it is Gaussian for large
    M. P1 holds path by path, twins stay together up to rounding, tracers feel the same field. A drawn field has a Lipschitz
    constant of at most `sqrt(2/M) sum_k |a_k| |omega_k|`: sigma times that is what noise adds to K_pair at most. No one K serves all
    draws, so P2 fails; P3 holds with a C^2 loss.

    Args:
        loss: `(x, data) -> scalar`, or `(x, weight, data)` with `weighted=True`. Or a `Field`.
        sigma: size of the noise, >= 0; unit: that of U.
        length: None, or the correlation length > 0 of the noise; unit: that of x. x must then be an array or a `Weighted`.
        num_waves: M >= 1, waves of the random field.
        weighted: whether the loss takes weights.

    Raises:
        ValueError: a hyperparameter out of its range; at the first step, no key.
        TypeError: at the first step, a parameter tree with a length.

    Example:
        >>> import jax, jax.numpy as jnp, eqdyn as eq
        >>> rule = eq.rules.langevin(lambda x: 0.5 * jnp.sum(x**2), length=1.0)
        >>> u = rule.update(jnp.zeros((2, 3)), (), key=jax.random.key(0)).u
        >>> bool(jnp.allclose(u[0], u[1]))                      # twins draw the same
        True

    References:
        Rahimi, Recht 2007 (random Fourier features); Welling, Teh 2011 (Langevin dynamics of a minibatch).
    """
    sigma, field = _checks.number(sigma, "sigma", least=0), as_field(loss, weighted=weighted)
    num_waves = _checks.count(num_waves, "num_waves", least=1)
    if length is None:
        return Rule(no_state, bind(_update, field, _independent, sigma))
    noise = bind(_common, _checks.number(length, "length", above=0), num_waves)
    return Rule(no_state, bind(_update, field, noise, sigma), None if field.at is None else bind(_probe, field, noise, sigma))


def _independent(key: Key, points: Tree) -> Tree:
    leaves, structure = jax.tree.flatten(points)
    keys = jax.random.split(key, len(leaves))
    return jax.tree.unflatten(structure, [jax.random.normal(k, leaf.shape, leaf.dtype) for k, leaf in zip(keys, leaves, strict=True)])


def _common(length: float, num_waves: int, key: Key, points: Tree) -> Points:
    if not hasattr(points, "shape"):
        msg = f"x: got {type(points).__name__} for noise with a length; expected particles in rows, an array (n, d) or eq.Weighted; or length=None."
        raise TypeError(msg)
    a, omega, phi = _waves(length, num_waves, key, points.shape[1], points.dtype)
    scale = jnp.sqrt(jnp.asarray(2 / num_waves, points.dtype))
    return map_rows(lambda tile: scale * (jnp.cos(tile @ omega.T + phi[None]) @ a), points, row_bytes=3 * num_waves * points.dtype.itemsize)


def _waves(length: float, num_waves: int, key: Key, dim: int, dtype: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The amplitudes, wave vectors and phases of a drawn field."""
    of_a, of_omega, of_phi = jax.random.split(key, 3)
    omega = jax.random.normal(of_omega, (num_waves, dim), dtype) / jnp.asarray(length, dtype)
    return jax.random.normal(of_a, (num_waves, dim), dtype), omega, jax.random.uniform(of_phi, (num_waves,), dtype, maxval=2 * jnp.pi)


def _update(field: Field, noise: Callable, sigma: float, x: Tree, state: Tree, data: Tree = None, *, key: Key | None = None) -> Update:
    _checks.needs_key(key, "noise is drawn")
    u, info = field.force(x, data)
    return Update(add(u, sigma, velocity(x, noise(key, points_of(x)))), state, info)


def _probe(
    field: Field, noise: Callable, sigma: float, y: Points, y_state: Tree, x: Tree, state: Tree, data: Tree = None, *, key: Key | None = None
) -> Update:
    _checks.needs_key(key, "noise is drawn")
    return Update(add(field.at(y, x, data), sigma, noise(key, y)), y_state)  # type: ignore[misc]
