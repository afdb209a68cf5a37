"""Covariant descent as a rule of particles, with the tracers that optax knows nothing of."""

from __future__ import annotations

from collections.abc import Callable

import jax

from eqdyn._types import Key, Points, Tree
from eqdyn._value import bind
from eqdyn.covariant._descent import Settings, descent, force_of, refreshed, settings_of
from eqdyn.field import Field, as_field
from eqdyn.rule import Rule, Update, points_of
from eqdyn.rules import from_optax

_STRUCTURES = ("diagonal", "particle")


def rule(
    loss: Callable | Field, alpha: float = 0.5, *, tau1: float = 0.0, tau2: float = 999.0, eps: float = 1e-8, structure: str = "particle",
    moment: str = "raw", damping: str = "inside", bias_correction: bool = True, refresh: int = 1, weighted: bool = False,
) -> Rule:  # fmt: skip
    """Covariant gradient descent as a rule, `U = -g^-1 F`; `descent` says what g and F are.

    Tracers move along where the loss is an additive `Field`. Under "diagonal" a tracer has a metric of its own, made of the gradients that it
    saw: where one of them passes through 0, U is as steep as `eps^-alpha`. Under "particle" all have the metric of the particles: U is the
    field, turned and scaled, and as continuous as it is.

    Args:
        loss: `(x, data) -> scalar` of particles `(n, d)`, or its `Field`.
        alpha, tau1, tau2, eps, moment, damping, bias_correction, refresh: as in `descent`; alpha may be traced.
        structure: "particle", one D x D metric for all, or "diagonal".
        weighted: whether the loss takes weights.

    Returns:
        A `Rule`; permutation-equivariant.

    Raises:
        ValueError, TypeError: as `descent`; another structure.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> rule = eq.covariant.rule(lambda x: 0.5 * jnp.sum(x**2), 1.0, tau2=0.0, eps=0.0)
        >>> x = jnp.array([[3.0], [1.0]])
        >>> [round(float(u), 3) for u in rule.update(x, rule.init(x)).u[:, 0]]  # g is the mean square of both, 5
        [-0.6, -0.2]

    References:
        Vanchurin, arXiv:2504.05279; the shared metric is a reading.
    """
    if structure not in _STRUCTURES:
        msg = f"structure: got {structure!r}; expected 'diagonal' or 'particle': for others write rules.from_optax(covariant.descent(...), loss)."
        raise ValueError(msg)
    field = as_field(loss, weighted=weighted)
    tx = descent(
        1.0, alpha, tau1=tau1, tau2=tau2, eps=eps, structure=structure, moment=moment, damping=damping, bias_correction=bias_correction,
        refresh=refresh,
    )  # fmt: skip
    made = from_optax(tx, field, separable=structure == "diagonal")
    if structure == "diagonal" or field.at is None:
        return made
    settings = settings_of(alpha, tau1, tau2, eps, structure, moment, damping, bias_correction, refresh=refresh)
    return made._replace(probe=bind(_probe, field, settings))


def _probe(
    field: Field, settings: Settings, y: Points, y_state: Tree, x: Tree, state: Tree, data: Tree = None, *, key: Key | None = None,
) -> Update:  # fmt: skip
    """Tracers have a force of their own, averaged along their way, and the particles' metric."""
    (own, *others), (theirs, *_) = y_state, state
    mean, force = force_of(settings, -field.at(y, x, data), own)  # type: ignore[misc]
    own = own._replace(steps=own.steps + 1, mean=mean)
    if not settings.power.is_none():
        gradient = jax.tree.map(lambda f: -f, points_of(field.force(x, data)[0]))
        inverse, _ = refreshed(settings, gradient, theirs, force_of(settings, gradient, theirs)[0])
        force = settings.metric.moved(inverse, force)
    return Update(-force, (own, *others))
