"""Covariant gradient descent: the metric is a power of the gradients' own second moment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from eqdyn import _checks
from eqdyn._branch import rarely
from eqdyn._types import Tree
from eqdyn._value import bind
from eqdyn.covariant import _powers
from eqdyn.covariant._metrics import Diagonal, Full, LowRank, Metric, Own, Power, Shared, grown, read_at_every_step, scaled
from eqdyn.groups import Group

STRUCTURES = ("diagonal", "particle", "low_rank", "full")
MOMENTS = ("raw", "centred", "residual")


class DescentState(NamedTuple):
    """Of `descent`, in front of optax's learning rate.

    Fields:
        steps: how many were taken.
        mean: the force before its bias is corrected, `avg_tau1(grad)`, like the parameters.
        slow: `avg_tau2(grad)`, its bias corrected if asked, where the moment is centred, else ().
        second: `avg_tau2` of the second moment, in the form of its structure; () where alpha = 0.
        inverse: the inverse metric of the last refresh; () where it is made at every step.
    """

    steps: jax.Array
    mean: Tree
    slow: Tree
    second: Tree
    inverse: Tree


class Settings(NamedTuple):
    metric: Metric
    power: Power
    tau1: float
    tau2: float
    moment: str
    bias_correction: bool
    refresh: int


def descent(
    step_size: float | Callable, alpha: float = 0.5, *, tau1: float = 9.0, tau2: float = 999.0, eps: float = 1e-8, structure: str = "diagonal",
    moment: str = "raw", damping: str = "inside", bias_correction: bool = True, groups: Group | Sequence[Group] | None = None,
    per_particle: bool = False, rank: int = 8, refresh: int = 1,
) -> Any:  # fmt: skip
    """Covariant gradient descent `q' = q - step_size g^-1 F` as an optax transformation.

        F = avg_tau1(grad)          g = (kappa + eps I)^alpha          kappa = avg_tau2 of the second moment
        avg: A = f / (1 + tau) + tau / (1 + tau) A,  that is beta = tau / (1 + tau)

    Special cases, to rounding; SGD bit for bit:

        SGD         alpha=0, tau1=0
        momentum    alpha=0, tau1=b/(1-b), bias_correction=False, step size over 1 - b        optax.sgd(step, momentum=b)
        RMSProp     alpha=1/2, tau1=0, bias_correction=False                                  optax.rmsprop, eps inside
        Adam        alpha=1/2, damping="outside"                                              optax.adam; without its correction: False
        AdaBelief   alpha=1/2, damping="outside", moment="residual"                           optax.adabelief with eps_root = 0

    Args:
        step_size: a number, or optax's schedule `count -> step size`.
        alpha: exponent of the metric, 0 to 1; may be traced, as in a sweep over it.
        tau1, tau2: memory of force and second moment, steps, >= 0; of "particle" and "low_rank" tau2 counts refreshes.
        eps: damping of kappa, in squared gradients; of g where it is outside. Eigenvalues of matrices are not taken below what rounding
            makes of 0, their dimension times the largest times a rounding.
        structure: what of kappa is kept.

                diagonal    one number a coordinate, O(P)
                particle    one D x D matrix for all particles of a group, the mean over them: rows of params `(n, d)`, or `groups`; leaves of
                            no group diagonally. The rule stays permutation-equivariant. O(D^2), O(N D^2) a step, O(D^3) a refresh
                low_rank    the `rank` strongest directions of all P, the rest evenly, O(P rank) a step
                full        P x P, O(P^2), O(P^3) a refresh. Equivariant if its state is relabelled along both axes as particles change places;
                            `eq.check` moves states row by row, and therefore says that P1 fails from any but a fresh state

        moment: "raw", `avg(grad grad^t)`; "centred", less `avg(grad) avg(grad)^t`, both over tau2; "residual", `avg((grad - M1) (grad - M1)^t)`.
        damping: "inside", `(kappa + eps)^alpha`, or "outside", `kappa^alpha + eps`.
        bias_correction: divide averages by `1 - beta^t`.
        groups: of structure "particle" for trees; no two may share a leaf.
        per_particle: of structure "particle" for rows: a metric for every particle, O(N D^2) memory.
        rank: of "low_rank".
        refresh: steps between two eigendecompositions of a matrix metric. A moment that is a mean over particles, or of low rank, is read then
            too; a full one, a sum of outer products, at every step.

    Returns:
        An `optax.GradientTransformation`; `eqdyn.rules.from_optax` makes a rule of it.

    Raises:
        ValueError, TypeError: arguments out of range, with what was expected.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> tx = eq.covariant.descent(0.1, 1.0, tau1=0, tau2=0, eps=0.0)
        >>> q = jnp.array([2.0, -4.0])
        >>> [round(float(v), 3) for v in tx.update(q, tx.init(q))[0]]           # g = grad^2: the step is 0.1 / grad
        [-0.05, 0.025]

    References:
        Vanchurin, arXiv:2504.05279; arXiv:2504.14728. The powers act in the given coordinates: for every alpha the step is the same in rotated
        ones (structure "full"), for alpha = 1 and eps = 0 in all.
    """
    import optax

    settings = settings_of(alpha, tau1, tau2, eps, structure, moment, damping, bias_correction, groups, per_particle, rank, refresh)
    if not callable(step_size):
        _checks.number(step_size, "step_size")
    moving = optax.GradientTransformation(bind(_init, settings), bind(_update, settings))
    return optax.chain(moving, optax.scale_by_learning_rate(step_size))


def settings_of(
    alpha: Any, tau1: Any, tau2: Any, eps: Any, structure: str, moment: str, damping: str, bias_correction: bool, groups: Any = None,
    per_particle: Any = None, rank: Any = 8, refresh: Any = 1,
) -> Settings:  # fmt: skip
    fixed = not isinstance(alpha, jax.Array)  # one that may be traced keeps the same state, whatever its value
    number = float(alpha) if _checks.concrete(alpha) and not fixed and alpha.ndim == 0 else alpha if fixed else 0.5
    most = float(np.finfo(float).max)
    for value, name, last in ((number, "alpha", 1.0), (tau1, "tau1", most), (tau2, "tau2", most), (eps, "eps", most)):
        if not (isinstance(value, (int, float)) and 0 <= value <= last):
            msg = f"{name}: got {value!r}; expected a number from 0" + (f" to {last:g}." if last < 2 else ".")
            raise ValueError(msg)
    for value, name, known in ((structure, "structure", STRUCTURES), (moment, "moment", MOMENTS), (damping, "damping", ("inside", "outside"))):
        if value not in known:
            msg = f"{name}: got {value!r}; expected {', '.join(map(repr, known[:-1]))} or {known[-1]!r}."
            raise ValueError(msg)
    rank, refresh = _checks.count(rank, "rank", least=1), _checks.count(refresh, "refresh", least=1)
    if structure != "particle" and (groups is not None or per_particle):
        msg = f"groups, per_particle: got them with structure={structure!r}; expected structure='particle'."
        raise ValueError(msg)
    if groups is not None and per_particle:
        msg = "per_particle: got it with groups; expected particles (n, d): write groups=None, or per_particle=False."
        raise ValueError(msg)
    if structure == "diagonal" and refresh > 1:
        msg = f"refresh: got {refresh} with structure='diagonal'; expected 1: a diagonal metric is made at every step."
        raise ValueError(msg)
    if structure == "low_rank" and moment == "centred":
        msg = "moment: got 'centred' with structure='low_rank'; expected 'raw' or 'residual': a difference of two sketches is none."
        raise ValueError(msg)
    held = None if groups is None else (groups,) if isinstance(groups, Group) else tuple(groups)
    metric: Metric = {"diagonal": Diagonal(), "particle": Own() if per_particle else Shared(held), "low_rank": LowRank(rank), "full": Full()}[
        structure
    ]
    power = Power(float(alpha) if fixed else alpha, float(eps), damping == "inside")
    return Settings(metric, power, float(tau1), float(tau2), moment, bool(bias_correction), refresh)


def _init(settings: Settings, params: Tree) -> DescentState:
    zeros = jax.tree.map(jnp.zeros_like, params)
    steps = jnp.zeros((), jnp.int32)
    if settings.power.is_none():
        return DescentState(steps, zeros, (), (), ())
    second = settings.metric.start(params)
    slow = zeros if settings.moment == "centred" else ()
    inverse = () if settings.refresh == 1 else jax.eval_shape(lambda: settings.metric.made(second, settings.power))
    return DescentState(steps, zeros, slow, second, jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), inverse))


def _update(settings: Settings, updates: Tree, state: DescentState, params: Tree = None) -> tuple[Tree, DescentState]:
    mean, force = force_of(settings, updates, state)
    if settings.power.is_none():
        return force, DescentState(state.steps + 1, mean, (), (), ())
    inverse, after = refreshed(settings, updates, state, mean)
    return settings.metric.moved(inverse, force), after


def force_of(settings: Settings, updates: Tree, state: DescentState) -> tuple[Tree, Tree]:
    """`avg_tau1` of the gradients, and F, which it is with its bias corrected."""
    mean = _powers.averaged(state.mean, updates, settings.tau1)
    return mean, _corrected(settings, mean, settings.tau1, state.steps + 1)


def refreshed(settings: Settings, updates: Tree, state: DescentState, mean: Tree) -> tuple[Tree, DescentState]:
    """`g^-1` of this step, and the state after it."""
    dtype = jax.tree.leaves(updates)[0].dtype
    steps, due = state.steps + 1, state.steps % settings.refresh == 0
    held = () if isinstance(settings.power.alpha, float) else (settings.power.alpha,)  # a branch takes what is traced as an operand

    def weight_of(reads: jax.Array) -> jax.Array | None:
        return _weight(settings, settings.tau2, reads, dtype)

    def read(updates: Tree, mean: Tree, state: DescentState, reads: jax.Array) -> tuple[Tree, Tree]:
        if settings.moment == "centred":
            return _centred(settings, state, updates, reads, weight_of(reads))
        deviation = jax.tree.map(jnp.subtract, updates, mean) if settings.moment == "residual" else updates
        return (), grown(settings.metric, state.second, deviation, settings.tau2)

    def inverted(held: tuple, second: Tree, reads: jax.Array) -> Tree:
        weight, power = weight_of(reads), settings.power._replace(alpha=held[0]) if held else settings.power
        return settings.metric.made(second if weight is None else scaled(settings.metric, second, weight), power)

    if settings.refresh == 1 or read_at_every_step(settings.metric):
        slow, second = read(updates, mean, state, steps)
        if settings.refresh == 1:
            return inverted(held, second, steps), DescentState(steps, mean, slow, second, ())
        inverse = rarely(
            due, lambda old, *rest: inverted(*rest), lambda old, *rest: old, state.inverse, held, second, steps
        )  # fmt: skip
        return inverse, DescentState(steps, mean, slow, second, inverse)

    def both(updates: Tree, mean: Tree, state: DescentState, held: tuple) -> tuple[Tree, Tree, Tree]:
        reads = state.steps // settings.refresh + 1
        slow, second = read(updates, mean, state, reads)
        return slow, second, inverted(held, second, reads)

    slow, second, inverse = rarely(
        due, both, lambda updates, mean, state, held: (state.slow, state.second, state.inverse), updates, mean, state, held
    )  # fmt: skip
    return inverse, DescentState(steps, mean, slow, second, inverse)


def _centred(settings: Settings, state: DescentState, f: Tree, times: jax.Array, weight: jax.Array | None) -> tuple[Tree, Tree]:
    """`avg(f f^t) - avg(f) avg(f)^t` and `avg(f)`, one step on, from the deviation of f from the average so far: nothing cancels."""
    beta = _powers.decay_of(settings.tau2)
    share: Any = 1 - beta
    before: Any = 1.0
    if weight is not None:
        share, before = share / weight, _powers.missing(settings.tau2, times - 1, weight.dtype) / weight
    deviation = jax.tree.map(jnp.subtract, f, state.slow)
    slow = jax.tree.map(lambda centre, d: centre + share * d, state.slow, deviation)
    square = settings.metric.square(deviation)
    return slow, jax.tree.map(lambda old, new: beta * (old + (1 - beta) * before * new), state.second, square)


def _weight(settings: Settings, tau: float, times: jax.Array, dtype: Any) -> jax.Array | None:
    return _powers.missing(tau, times, dtype) if settings.bias_correction and tau > 0 else None


def _corrected(settings: Settings, average: Tree, tau: float, times: jax.Array) -> Tree:
    weight = _weight(settings, tau, times, jax.tree.leaves(average)[0].dtype)
    return average if weight is None else jax.tree.map(lambda v: v / weight.astype(v.dtype), average)
