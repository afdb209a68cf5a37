"""Distances in a metric: a rule in coordinates whose Euclidean distances are those of g."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from eqdyn._types import Key, Points, Tree, Weighted
from eqdyn._value import Constant, bind
from eqdyn.covariant.bowl import alpha_of, definite
from eqdyn.rule import Rule, Update, lifted, points_of, velocity


def metric(kappa: Any, alpha: float, *, eps: float = 0.0) -> np.ndarray:
    """`g = (kappa + eps I)^alpha` of a covariance `(d, d)`, or of eigenvalues `(d,)`. EXACT, in float64.

    Args:
        kappa: symmetric positive definite, after eps is added.
        alpha: 0 to 1.
        eps: damping.

    Raises:
        ValueError: a matrix that is not symmetric, or not definite with its damping; alpha out of range.

    Example:
        >>> import eqdyn as eq
        >>> eq.covariant.metric([1.0, 4.0], 0.5).tolist()
        [1.0, 2.0]
    """
    k = np.asarray(kappa, np.float64)
    damped = definite(k + (eps if k.ndim == 1 else eps * np.eye(len(k))), "kappa")
    power = alpha_of(alpha)
    if k.ndim == 1:
        return np.diag(damped) ** power
    values, vectors = np.linalg.eigh(damped)
    return (vectors * values**power) @ vectors.T


def coordinates(x: Any, metric: Any) -> Any:
    """`y = x g^(1/2)`, row by row: distances of y are distances of x in g. EXACT up to rounding.

    Args:
        x: configuration `(n, d)`, or a `Weighted`.
        metric: g, `(d, d)` symmetric positive definite, or `(d,)`, its diagonal.

    Raises:
        ValueError: a metric that is none, or of another dimension.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> eq.covariant.coordinates(jnp.array([[1.0, 1.0]]), [1.0, 4.0]).tolist()
        [[1.0, 2.0]]
    """
    root = _roots(metric)[0]
    _fits(x, root)
    return _turned(root, x)


def in_metric(rule: Rule, metric: Any) -> Rule:
    """A rule as it is in the coordinates `y = x g^(1/2)`: `U_y(y) = U(y g^(-1/2)) g^(1/2)`. EXACT up to rounding.

    Every measure, law and certificate of it speaks of distances in g: `k_pair = max |U_i - U_j|_g / |x_i - x_j|_g`. Merging knows no
    metric, so a step that is certified in any g merges nobody. Where folds begin (the eigenvalues of the transverse Jacobian) does not
    depend on g; `K_transverse` does, and is smallest, the spectral radius, where `U = -g^-1 grad L` and distances are taken in that same g.

    Args:
        rule: of configurations `(n, d)` or `Weighted` ones; its state stays in its own coordinates.
        metric: g, `(d, d)` symmetric positive definite, or `(d,)`, its diagonal; the same for all particles.

    Returns:
        A `Rule`; give it `coordinates(x, metric)`.

    Raises:
        ValueError: a metric that is none, or of another dimension than the particles.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> stiff = eq.rules.gradient(lambda x: 0.5 * jnp.sum(x**2 * jnp.array([[1.0, 9.0]])))
        >>> x, g = jnp.array([[0.0, 0.0], [1.0, 1.0], [2.0, 0.0]]), [4.0, 1.0]
        >>> y, rule = eq.covariant.coordinates(x, g), eq.covariant.in_metric(stiff, g)
        >>> float(eq.measure.pair_constants(y, rule.update(y, rule.init(y)).u).k_pair) < 9
        True

    References:
        Derived; Yang et al., arXiv:2510.02670, lemma 4, for the constant.
    """
    root, back = (Constant(a) for a in _roots(metric))
    return Rule(
        bind(_init, rule, back),
        bind(_update, rule, root, back),
        None if rule.probe is None else bind(_probe, rule, root, back),
        None if rule.lift is None else bind(_lift, rule, back),
    )


def _roots(metric: Any) -> tuple[np.ndarray, np.ndarray]:
    """`g^(1/2)` and `g^(-1/2)`."""
    values, vectors = np.linalg.eigh(definite(metric, "metric"))
    return (vectors * np.sqrt(values)) @ vectors.T, (vectors / np.sqrt(values)) @ vectors.T


def _fits(x: Tree, matrix: np.ndarray) -> None:
    shape = jnp.shape(points_of(x)) if not isinstance(points_of(x), dict) else ()
    if len(shape) != 2 or shape[1] != len(matrix):
        msg = f"metric: got one of {len(matrix)} dimensions for a configuration of shape {shape}; expected (n, {len(matrix)})."
        raise ValueError(msg)


def _turned(matrix: np.ndarray, x: Tree) -> Tree:
    points = points_of(x)
    moved = jnp.matmul(points, jnp.asarray(matrix, jnp.asarray(points).dtype), precision=jax.lax.Precision.HIGHEST)
    return x._replace(x=moved) if isinstance(x, Weighted) else moved


def _init(rule: Rule, back: Constant, y: Tree) -> Tree:
    _fits(y, back.value)
    return rule.init(_turned(back.value, y))


def _update(rule: Rule, root: Constant, back: Constant, y: Tree, state: Tree, data: Tree = None, *, key: Key | None = None) -> Update:
    _fits(y, back.value)
    new = rule.update(_turned(back.value, y), state, data, key=key)
    return new._replace(u=velocity(y, _turned(root.value, points_of(new.u))))


def _probe(
    rule: Rule, root: Constant, back: Constant, y: Points, y_state: Tree, x: Tree, state: Tree, data: Tree = None, *, key: Key | None = None,
) -> Update:  # fmt: skip
    new = rule.probe(_turned(back.value, y), y_state, _turned(back.value, x), state, data, key=key)  # type: ignore[misc]
    return new._replace(u=_turned(root.value, new.u))


def _lift(rule: Rule, back: Constant, y: Tree, state: Tree) -> jax.Array:
    """The part beside the place is the rule's own."""
    whole = lifted(rule, _turned(back.value, y), state)
    return jnp.concatenate([points_of(y), whole[:, points_of(y).shape[1] :]], axis=1)
