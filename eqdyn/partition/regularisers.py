"""Penalties on the partition around data, for training: differentiable, >= 0, in JAX.

All read the hidden units' hyperplanes as each point sees them: on the cell of z unit j is `A_j z + b_j`, so its hyperplane lies at the distance
`d_j = |A_j z + b_j| / |A_j|` and has the normal `n_j = A_j / |A_j|`. Units that are constant there (A_j = 0) have none and take no part. Codes
are held where they are: gradients are those almost everywhere, and no gradient moves a point across a facet by itself.

Lengths and angles come from the Gram matrix of the first layer and products of weights, so that no `(n, m, d)` Jacobian is made where the input is
wider than the first layer: memory O(n m min(d, m_1)). With one hidden layer a penalty costs about as much as the loss, angles more; with more
layers the products are one by one for each point, and it can cost many times that: a few points of the batch will do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from eqdyn import _checks
from eqdyn._types import Points, Scalar
from eqdyn.partition import _facets


def small_cells(layers: Sequence[tuple[Any, Any]], z: Points, *, radius: float, tau: float, activation: Any = "relu") -> Scalar:
    """Penalty on points close to the boundary of their cell.

        mean over points of  softplus((radius - r_i) / tau),        r_i = min over units j of d_j

    r_i is EXACT up to rounding: the distance from z_i to the boundary of its activation cell in the whole space, hence the radius of the largest
    ball around z_i on which the network is one affine map, and a LOWER bound of the cell's in-radius, and of the distance to where the network really
    bends (a unit may change sign without effect). A box around the data is not seen. Tends to 0 as all r_i - radius grow over tau; 0 where no unit
    varies. Each point moves its nearest hyperplane alone.

    Args:
        layers: `(W (out, in), b (out,))`, hidden layers first, the output layer last; floating, of one dtype.
        z: data, `(n, d)`.
        radius: from which on cells are large enough, [z], >= 0.
        tau: width of the transition, [z], > 0.
        activation: "relu", "abs", "leaky_relu" or `("leaky_relu", slope)`, of every hidden layer.

    Returns:
        Scalar in the dtype of z, >= 0, no unit.

    Raises:
        ValueError: layers or z that do not fit or are not finite, an activation that is not piecewise linear, radius < 0 or tau <= 0.
        TypeError: arrays of another or of different dtypes.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> layers = [(jnp.eye(2), jnp.zeros(2)), (jnp.ones((1, 2)), jnp.zeros(1))]
        >>> near, far = jnp.array([[0.01, 3.0]]), jnp.array([[4.0, 3.0]])
        >>> [round(float(eq.partition.small_cells(layers, z, radius=0.5, tau=0.1)), 3) for z in (near, far)]
        [4.907, 0.0]

    References:
        Gajer and Ravel, arXiv:2508.02080, has the idea; the surrogate is ours.
    """
    layers, z, slopes = _facets.checked(layers, z, activation)
    radius, tau = _checks.number(radius, "radius", least=0), _checks.number(tau, "tau", above=0)
    if len(layers) == 1:
        return jnp.zeros((), z.dtype)
    seen = _facets.facets(layers, z, slopes)
    some = jnp.any(seen.moving, axis=1)
    nearest = jnp.min(jnp.where(seen.moving, seen.distances, jnp.inf), axis=1)
    lack = (radius - jnp.where(some, nearest, 0)) / tau
    return jnp.mean(jnp.where(some, jax.nn.softplus(lack), 0))


def bending(layers: Sequence[tuple[Any, Any]], z: Points, *, tau: float, activation: Any = "relu") -> Scalar:
    """Penalty on how sharply the network bends across the facets near data.

        sum over units j of  mean over points i of  exp(-d_ij^2 / (2 tau^2)) |u_ij|^2,        J_above - J_below = u n^t

    The mean of the weights is the facet's soft mass, the share of points within about tau of it; u is the jump of the Jacobian across unit j,
    `u_j = (slope above - slope below) |A_j| D_j` with D_j the network behind the unit. u is EXACT for the facets of the cell of z_i, of which
    the nearest hyperplane is one; for hyperplanes further out it is an ESTIMATE, the jump if no other facet came between.

    0 where all kinks are: without hidden layers, with output weights 0, where no unit varies. Kinks are squared one by one: two units on one
    hyperplane whose kinks cancel, `relu(z) - relu(-z)`, make an affine network and do not give 0. Facets far from all data cost nothing.

    Args:
        layers: `(W (out, in), b (out,))`, hidden layers first, the output layer last; floating, of one dtype.
        z: data, `(n, d)`.
        tau: distance within which a facet is near, [z], > 0.
        activation: "relu", "abs", "leaky_relu" or `("leaky_relu", slope)`, of every hidden layer.

    Returns:
        Scalar in the dtype of z, >= 0, ([output] / [z])^2.

    Raises:
        ValueError: layers or z that do not fit or are not finite, an activation that is not piecewise linear, tau <= 0.
        TypeError: arrays of another or of different dtypes.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> layers = [(jnp.array([[2.0]]), jnp.zeros(1)), (jnp.array([[3.0]]), jnp.zeros(1))]       # 3 relu(2 z): the slope jumps by 6
        >>> [round(float(eq.partition.bending(layers, jnp.array([[z]]), tau=0.1)), 3) for z in (0.0, 0.1, 1.0)]
        [36.0, 21.835, 0.0]

    References:
        Gajer and Ravel, arXiv:2508.02080, has the idea; the surrogate is ours.
    """
    layers, z, slopes = _facets.checked(layers, z, activation)
    tau = _checks.number(tau, "tau", above=0)
    if len(layers) == 1:
        return jnp.zeros((), z.dtype)
    seen = _facets.facets(layers, z, slopes)
    return jnp.mean(jnp.sum(seen.near(tau) * _facets.kinks(seen, layers, slopes), axis=1))


def sharp_angles(layers: Sequence[tuple[Any, Any]], z: Points, *, tau: float, activation: Any = "relu") -> Scalar:
    """Penalty on facets near data that meet at sharp angles.

        mean over points of  sum over pairs j < k of units of  exp(-(d_j^2 + d_k^2) / (2 tau^2)) <n_j, n_k>^2

    EXACT up to rounding as a function of the hyperplanes that a point sees, an ESTIMATE of the cells' dihedral angles: hyperplanes need not
    meet near the point, or be facets of its cell, and parallel ones count 1 although they never meet. 0 where the hyperplanes near data are
    orthogonal, or fewer than two. At most d hyperplanes can be, so that with more of them near data there is a least value.
    Time O(n m^2 min(d, m_1)), memory O(n m^2).

    Args:
        layers: `(W (out, in), b (out,))`, hidden layers first, the output layer last; floating, of one dtype.
        z: data, `(n, d)`.
        tau: distance within which a facet is near, [z], > 0.
        activation: "relu", "abs", "leaky_relu" or `("leaky_relu", slope)`, of every hidden layer.

    Returns:
        Scalar in the dtype of z, >= 0, no unit.

    Raises:
        ValueError: layers or z that do not fit or are not finite, an activation that is not piecewise linear, tau <= 0.
        TypeError: arrays of another or of different dtypes.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> z, last = jnp.zeros((1, 2)), (jnp.ones((1, 2)), jnp.zeros(1))
        >>> square, wedge = jnp.eye(2), jnp.array([[1.0, 0.0], [1.0, 1.0]])
        >>> [round(float(eq.partition.sharp_angles([(w, jnp.zeros(2)), last], z, tau=0.1)), 3) for w in (square, wedge)]      # cos^2 of 45 degrees
        [0.0, 0.5]

    References:
        Gajer and Ravel, arXiv:2508.02080, has the idea; the surrogate is ours.
    """
    layers, z, slopes = _facets.checked(layers, z, activation)
    tau = _checks.number(tau, "tau", above=0)
    if len(layers) == 1:
        return jnp.zeros((), z.dtype)
    seen = _facets.facets(layers, z, slopes)
    ends = [sum(kind.shape[1] for kind in seen.slopes[: k + 1]) for k in range(len(seen.slopes) - 1)]
    near, lengths = jnp.split(seen.near(tau), ends, axis=1), jnp.split(seen.lengths, ends, axis=1)
    lengths[0] = lengths[0][:1]  # of the first layer all points see the same rows
    total = jnp.zeros((), z.dtype)
    for b in range(len(near)):
        for a in range(b + 1):
            cosine = seen.rows.inner(a, b) / (lengths[a][:, :, None] * lengths[b][:, None, :])
            if a == b:
                cosine = jnp.triu(cosine, 1)
            square = cosine * cosine
            by_pair = "nj,jk,nk->n" if square.shape[0] == 1 else "nj,njk,nk->n"
            total += jnp.mean(jnp.einsum(by_pair, near[a], square[0] if square.shape[0] == 1 else square, near[b]))
    return total


def mass_balance(layers: Sequence[tuple[Any, Any]], z: Points, *, tau: float, activation: Any = "relu") -> Scalar:
    """Penalty on cells that hold unequal shares of the data.

        Var over data cells c of  log mass_c,        mass_c = mean over points k of a_kc
        a_kc = exp(-s_kc / tau) / sum over cells,    s_kc = sum of d_kj over the units j whose bits differ between z_k and c

    Data cells are the codes that the points have. A point belongs to its own cell, and softly to others the closer the hyperplanes that part it from
    them; distances are those that z_k sees. Masses sum to 1. Each cell counts once, however many points it holds. EXACT up to rounding as stated;
    as tau -> 0 the masses become the shares of points in the cells, EXACT, and the gradient 0: take tau of the order of the facet distances.

    0 where the soft masses are equal, and with one cell. Where every point has a cell of its own, as in wide networks, masses are nearly equal and
    the penalty says little: it is for few units, or low dimension. Time O(n^2 m), memory O(n^2 + n m min(d, m_1)).

    Args:
        layers: `(W (out, in), b (out,))`, hidden layers first, the output layer last; floating, of one dtype.
        z: data, `(n, d)`.
        tau: softness of the assignment, [z], > 0.
        activation: "relu", "abs", "leaky_relu" or `("leaky_relu", slope)`, of every hidden layer.

    Returns:
        Scalar in the dtype of z, >= 0, no unit.

    Raises:
        ValueError: layers or z that do not fit or are not finite, an activation that is not piecewise linear, tau <= 0.
        TypeError: arrays of another or of different dtypes.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> layers = [(jnp.ones((1, 1)), jnp.zeros(1)), (jnp.ones((1, 1)), jnp.zeros(1))]       # two cells, cut at 0
        >>> even, odd = jnp.array([[-1.0], [1.0]]), jnp.array([[-1.0], [1.0], [1.0], [1.0]])
        >>> [round(float(eq.partition.mass_balance(layers, z, tau=0.01)), 3) for z in (even, odd)]       # (log 3 / 2)^2
        [0.0, 0.302]

    References:
        Gajer and Ravel, arXiv:2508.02080, has the idea; the surrogate is ours.
    """
    layers, z, slopes = _facets.checked(layers, z, activation)
    tau = _checks.number(tau, "tau", above=0)
    if len(layers) == 1:
        return jnp.zeros((), z.dtype)
    seen = _facets.facets(layers, z, slopes)
    bits = seen.above.astype(z.dtype)
    apart = jnp.where(seen.moving, seen.distances, 0) / tau
    score = -((apart * bits) @ (1 - bits).T + (apart * (1 - bits)) @ bits.T)  # (point, cell); a cell stands once for each of its points
    differ = bits @ (1 - bits).T + (1 - bits) @ bits.T
    num_points = jnp.sum(differ == 0, axis=1).astype(z.dtype)  # of the cell
    total = jax.nn.logsumexp(score - jnp.log(num_points)[None], axis=1)
    log_mass = jax.nn.logsumexp(score - total[:, None], axis=0)
    weight = (1 / num_points) / jnp.sum(1 / num_points)
    return jnp.sum(weight * (log_mass - jnp.sum(weight * log_mass)) ** 2)
