"""The configurations from which the paper's experiments start, by name."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from eqdyn._types import Key
from eqdyn.shapes._shape import OVERSAMPLE, SOLID, Shape, across, flag, request, spread_out
from eqdyn.shapes.curves import figure_eight, two_circles
from eqdyn.shapes.solids import handlebody
from eqdyn.shapes.surfaces import sphere


def start_2d(num: int = 1024, *, key: Key, even: bool = False, dtype: Any = jnp.float32) -> Shape:
    """The paper's 2-D start, neurons (w, a): the points of `figure_eight`, draw for draw. Not uniform by length.

    Args:
        num: number of neurons, >= 1; 1,024 in the public code.
        key: of the points.
        even: as in `figure_eight`.
        dtype: of the points.

    Raises:
        ValueError, TypeError: arguments that make no sense.

    Example:
        >>> import jax, eqdyn as eq
        >>> eq.shapes.start_2d(key=jax.random.key(0)).points.shape
        (1024, 2)

    References:
        Yang et al., arXiv:2510.02670, figure 3.
    """
    return figure_eight(num, key=key, even=even, dtype=dtype)


def start_2d_two_circles(num: int = 1024, *, key: Key, even: bool = False, dtype: Any = jnp.float32) -> Shape:
    """The paper's second 2-D start ("two disjoint genus-1 surfaces"): two unit circles, uniform by length, Betti (2, 2).

    Centres 2.4 apart on the w axis, so 0.4 between the circles. Which axis, and whether 2.4 counts from centre to centre, is
    our reading: the paper does not say.

    Args:
        num: number of neurons on both, >= 1.
        key: of the points.
        even: as in `two_circles`.
        dtype: of the points.

    Raises:
        ValueError, TypeError: arguments that make no sense.

    Example:
        >>> import jax, eqdyn as eq
        >>> eq.shapes.start_2d_two_circles(key=jax.random.key(0)).betti
        (2, 2)

    References:
        Yang et al., arXiv:2510.02670, figures 6 and 9.
    """
    return two_circles(num, key=key, apart=2.4, even=even, dtype=dtype)


def start_3d(num: int = 4096, *, key: Key, even: bool = False, dtype: Any = jnp.float32) -> Shape:
    """The paper's 3-D start, neurons (w1, w2, a): a solid double torus, pressed flat. Filled, so Betti (1, 2, 0).

        (0.1 z - 2, x, y),   (x, y, z) in the `handlebody` of radius 0.5, tube 0.2, apart 0.8

    Uniform by volume before it is pressed, and pressing keeps that. The code rotates the solid first; by how much the paper
    does not say. Here the thin direction is the one that is pressed, so that both holes stay open in (w2, a). Upper end of the
    interval: measured.

    Args:
        num: number of neurons, >= 1; 4,096 in the public code.
        key: of the points.
        even: spread by farthest-point sampling out of sixteen times as many.
        dtype: of the points.

    Raises:
        ValueError, TypeError: arguments that make no sense.

    Example:
        >>> import jax, eqdyn as eq
        >>> eq.shapes.start_3d(key=jax.random.key(0)).betti
        (1, 2, 0)

    References:
        Yang et al., arXiv:2510.02670, figure 4.
    """
    request(num, key, dtype)
    flag(even, "even")
    solid = handlebody(OVERSAMPLE * num if even else num, key=key, radius=0.5, tube=0.2, apart=0.8, dtype=dtype)
    x, y, z = solid.points.T
    flat = jnp.stack([0.1 * z - 2, x, y], 1)
    # a sheet of area 2, and some more for its thickness
    return Shape(spread_out(flat, num) if even else flat, solid.betti, "pressed handlebody", across(num, 2.9, 0.36, dim=2, even=even, factor=SOLID))


def start_mnist(num: int = 1024, *, key: Key, dim: int = 794, even: bool = False, dtype: Any = jnp.float32) -> Shape:
    """The paper's start on MNIST: the unit 2-sphere in R^794 through a random orthonormal 3-frame; the points of `sphere`.

    784 incoming and 10 outgoing weights a neuron. Uniform by area.

    Args:
        num: number of neurons, >= 1; 1,024 in the paper.
        key: of points and frame.
        dim: weights of a neuron, >= 3.
        even: as in `sphere`.
        dtype: of the points.

    Raises:
        ValueError, TypeError: arguments that make no sense.

    Example:
        >>> import jax, eqdyn as eq
        >>> eq.shapes.start_mnist(64, key=jax.random.key(0)).points.shape
        (64, 794)

    References:
        Yang et al., arXiv:2510.02670, section 6.
    """
    return sphere(num, key=key, dim=dim, even=even, dtype=dtype)
