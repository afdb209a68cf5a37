"""Pair rates and pair stretch: how fast two particles of one configuration part or close in."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from eqdyn import _checks, _mesh, geometry
from eqdyn.geometry import PairConstants, PairTerms, Stretch


def _two(x: Any, other: Any, names: tuple[str, str]) -> tuple[jax.Array, jax.Array]:
    a, b = (_checks.points(value, name, least=2) for value, name in zip((x, other), names, strict=True))
    _checks.same_shape(a, b, names)
    return a, b


def _again(worst: Any, dtype: Any) -> bool:
    """Whether an answer is as bad as can be because squares of near pairs are no numbers of float32, or truly: float64 can tell."""
    return _checks.concrete(worst) and jnp.finfo(dtype).bits < 64 and bool(worst)


def pair_constants(x: Any, u: Any) -> PairConstants:
    """The constants over all pairs of particles, and the pairs that attain them.

        k_pair = max_ij |U_i - U_j| / |x_i - x_j|
        mu     = max_ij -<U_i - U_j, x_i - x_j> / |x_i - x_j|^2          both 1/[eta]

    Exact for this configuration, up to rounding; for a permutation-equivariant U both are LOWER bounds on its Lipschitz
    constant K (compare x with x after swapping i and j). `eta * k_pair < 1` or `eta * mu < 1`: this step merges nobody. Says
    nothing about the next configuration. Time O(n^2 d), in tiles; once more in float64 where distinct particles are nearer than some
    1e-15 of the diameter in float32 (under `jit` they make both infinite). `num_twins` stops at 2^31 - 1. Particles that lie on several
    devices (`parallel.shard`) stay there.

    Args:
        x: configuration `(n, d)`, n >= 2.
        u: `U(x)`, in the shape and dtype of x.

    Returns:
        `PairConstants(k_pair, k_pair_at, mu, mu_at, num_twins)`; NaN if x or u is not finite. Coincident particles with equal U
        (to 32 roundings of the largest) are left out; with different U they make `k_pair` infinite.

    Raises:
        ValueError, TypeError: x or u is no `(n, d)` of a real floating dtype, n >= 2, or they differ in shape or dtype.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> x = jnp.array([[0.0], [1.0], [3.0]])
        >>> constants = eq.measure.pair_constants(x, -2 * x)
        >>> float(constants.k_pair), float(constants.mu)
        (2.0, 2.0)

    References:
        Yang et al., arXiv:2510.02670, lemma 4 (the swap argument, which uses pairs only).
    """
    x, u = _two(x, u, ("x", "u"))
    with _mesh.over(x):
        found = _pair_constants(x, u)
        if _again(jnp.isinf(found.k_pair), x.dtype):
            with jax.enable_x64(True):  # noqa: FBT003
                x64, u64 = (jnp.asarray(a, jnp.float64) for a in (x, u))
                wide = jax.jit(geometry.pair_constants, static_argnums=2)(x64, u64, float(jnp.finfo(x.dtype).eps))
                found = wide._replace(k_pair=wide.k_pair.astype(x.dtype), mu=wide.mu.astype(x.dtype))
    return found


def pair_terms(x: Any, u: Any) -> PairTerms:
    """Distance, rate and approach of every pair, `(n, n)` each: from one U the stretch of every pair for every step size.

        s_ij(eta)^2 = 1 + 2 eta p_ij + eta^2 R_ij^2,      smallest at eta = -p/R^2, where s = across/R,  across^2 = R^2 - p^2

    Exact up to rounding, near pairs and those that meet included. Memory O(n^2), refused above `geometry.PAIR_BYTES`.

    Args:
        x: configuration `(n, d)`, n >= 2.
        u: `U(x)`.

    Returns:
        `PairTerms(distance, rate, approach, across)` with `.stretch(eta)` and `.closest()`; NaN for coincident pairs.

    Raises:
        ValueError, TypeError: as `pair_constants`.
        MemoryError: the tables would exceed the budget.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> x = jnp.array([[0.0], [1.0]])
        >>> terms = eq.measure.pair_terms(x, -2 * x)
        >>> float(terms.stretch(0.25)[0, 1]), float(terms.closest()[0][0, 1])
        (0.5, 0.5)
    """
    return _pair_terms(*_two(x, u, ("x", "u")))


def stretch(x: Any, x_next: Any) -> Stretch:
    """The range of factors by which distances between particles changed, `|x_i' - x_j'| / |x_i - x_j|`, over all pairs.

    Exact over the n(n-1)/2 pairs, up to rounding. Serves one step or many: any two configurations of the same particles.

    Args:
        x: configuration `(n, d)`, n >= 2.
        x_next: the same particles later.

    Returns:
        `Stretch(low, low_at, high, high_at)`, no unit. NaN if not finite or all particles coincide in x; `high` is infinite if
        coincident particles separate.

    Raises:
        ValueError, TypeError: as `pair_constants`.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> x = jnp.array([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
        >>> s = eq.measure.stretch(x, 0.5 * x)
        >>> float(s.low), float(s.high)
        (0.5, 0.5)

    References:
        Yang et al., arXiv:2510.02670, lemma 2.
    """
    x, x_next = _two(x, x_next, ("x", "x_next"))
    with _mesh.over(x):
        found = _stretch(x, x_next)
        if _again(jnp.isinf(found.high) & (found.low == 0), x.dtype):
            with jax.enable_x64(True):  # noqa: FBT003
                wide = _stretch(*(jnp.asarray(a, jnp.float64) for a in (x, x_next)))
                found = wide._replace(low=wide.low.astype(x.dtype), high=wide.high.astype(x.dtype))
    return found


_pair_constants, _pair_terms, _stretch = jax.jit(geometry.pair_constants), jax.jit(geometry.pair_terms), jax.jit(geometry.stretch)
