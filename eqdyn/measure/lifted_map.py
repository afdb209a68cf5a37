"""The lifted step map: parameters and optimizer state of one particle, moved together in the frozen field."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from eqdyn import _checks, _folding
from eqdyn._types import Key, Tree
from eqdyn.measure._one_group import asked
from eqdyn.rule import Rule
from eqdyn.transverse import DENSE_BYTES, dense, has_probe, step_map


class LiftedMap(NamedTuple):
    """The Jacobian J(eta) of the lifted step map at every particle, in numbers; arrays `(n,)`.

    Fields:
        sign: of the determinant: 1, -1, or 0 where it is singular.
        log_abs: logarithm of its size; -inf where it is 0. Kept apart from the sign: `(beta1 beta2)^d` of large d underflows.
        num_nonpositive: how often the determinant vanishes while the step size grows from 0 to eta, with multiplicity: the real
            eigenvalues <= 0 of `I + eta T`, T of the Schur complement. An even number leaves the sign as it was.
        eta_fold: the step size at which it vanishes first; infinite if at none, 0 if at every one (a state that is forgotten).
        floor: 1/[eta]; what rounding does to a rate: a fold beyond `eta = 1 / floor` is not told from none, and the determinant is off by
            a share of some `eta * floor`.
    """

    sign: np.ndarray
    log_abs: np.ndarray
    num_nonpositive: np.ndarray
    eta_fold: np.ndarray
    floor: np.ndarray

    @property
    def determinant(self) -> np.ndarray:
        """`(n,)`; 0 where it underflows."""
        return self.sign * np.exp(self.log_abs)


def lifted_map(
    rule: Rule, x: Any, state: Tree = None, data: Tree = None, *, eta: float, group: Any = None, key: Key | None = None
) -> LiftedMap:  # fmt: skip
    """Determinant and folds of the lifted step map `(y, s) -> (y + eta U(y, s), s'(y, s))` at every particle, the field held fixed.

        J(eta) = [[I + eta V_x, eta V_s], [S_x, S_s]],      det J(eta) = det(S_s) det(I + eta T),      T = V_x - V_s S_s^-1 S_x

    V and S are the derivatives of U and of the next state s'. The state is replaced, not moved a little: J(0) is not the identity, and its
    eigenvalues tell of no fold. The map folds where `det J` vanishes as eta grows from 0, at `eta = 1/b` for a real eigenvalue -b of T
    (of a pencil, where S_s is singular). Gradient descent: T is the swap curvature. Heavy ball, Adam: T = 0, no fold at any eta; with
    decoupled decay `T = -decay I`, a fold at `eta = 1/decay` alone. Nesterov, RMSProp and the Adam with a delayed gradient do fold.

    Exact at the particles up to rounding (`floor`). What is infinitesimal says nothing of two particles apart: see
    `measure.lifted_constants`. Coordinates of the state that no output depends on at a particle are left out there. Dense, on the host in float64:
    d + s directions and the eigenvalues of a matrix a particle.

    Args:
        rule: a rule that knows its probe, with the default `lift`.
        x: configuration `(n, d)`, a `Weighted`, or a tree with a group.
        state: None for `rule.init(x)`.
        data: the batch.
        eta: step size, > 0.
        group: None for rows, or one `Group`.
        key: of the step, for rules that draw.

    Returns:
        `LiftedMap(sign, log_abs, num_nonpositive, eta_fold, floor)`; NaN (and -1 folds) where a derivative is not finite.

    Raises:
        ValueError, TypeError: arguments that do not fit, a rule without probe, or one with a lift of its own.
        MemoryError: the matrices would exceed `eqdyn.transverse.DENSE_BYTES`.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> bowl = eq.field.additive(lambda x, weight: weight @ x**2, lambda s: jnp.sum(s))
        >>> x = jnp.array([[1.0], [2.0]])
        >>> found = eq.measure.lifted_map(eq.rules.gradient(bowl), x, eta=1.0)
        >>> found.determinant.tolist(), found.num_nonpositive.tolist(), found.eta_fold.tolist()
        ([-1.0, -1.0], [1, 1], [0.5, 0.5])
        >>> found = eq.measure.lifted_map(eq.rules.heavy_ball(bowl, beta=0.5), x, eta=1.0)
        >>> found.determinant.tolist(), found.num_nonpositive.tolist(), found.eta_fold.tolist()
        ([0.5, 0.5], [0, 0], [inf, inf])

    References:
        Derived; Yang et al., arXiv:2510.02670, section 5.2 and theorem 1.
    """
    _checks.step_size(eta)
    found = asked(rule, x, state, data, group, key)
    has_probe(rule, "measure.lifted_map")
    if rule.lift is not None:
        msg = "rule: got one with a lift of its own; expected the default, state in the shapes of x; its probe does not tell the parts apart."
        raise ValueError(msg)
    M = np.asarray(_responses(found.rule, found.group, found.x, found.state, found.data, found.key))
    eps, dim, width = float(np.finfo(M.dtype).eps), found.group.dim, M.shape[1]
    rows = []
    for one in M.astype(np.float64):
        if not np.isfinite(one).all():
            rows.append((np.nan, np.nan, -1, np.nan, np.nan))
            continue
        rates, scale = _folding.folds(one, dim, eps)
        floor = _folding.ROUNDING * eps * scale * width**0.5
        rates = rates[rates > floor]
        rows.append((*_folding.log_determinant(one, dim, float(eta)), np.sum(float(eta) * rates >= 1), 1 / rates[0] if len(rates) else np.inf, floor))
    sign, log_abs, num, eta_fold, floor = np.asarray(rows).T
    sign, log_abs, eta_fold, floor = (part.astype(M.dtype) for part in (sign, log_abs, eta_fold, floor))
    return LiftedMap(sign, log_abs, num.astype(np.int32), eta_fold, floor)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _responses(rule: Rule, group: Any, x: Tree, state: Tree, data: Tree, key: Key | None) -> jax.Array:
    """`(n, d + s, d + s)`: what a change of particle and state (columns) does to U and to the next state (rows)."""
    field, dtype = step_map(rule, group, x, state, data, key), group.particles(x).dtype
    size = group.size * field.width**2 * jnp.dtype(dtype).itemsize
    _checks.fits_budget(size, DENSE_BYTES, "lifted_map", "take eqdyn.transverse.step_map(...).lifted, which works matrix-free")
    return dense(lambda along: jnp.concatenate(field.lifted(along), axis=1), group.size, field.width, dtype)
