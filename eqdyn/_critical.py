"""The critical step sizes of a rule at a configuration, side by side: over the Hessian, over pairs, and in the limit of a pair."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from eqdyn import _checks, geometry, groups
from eqdyn._floor import pair_floor
from eqdyn._inequalities import Inequality, inequalities
from eqdyn._precise import Force, curvature, force
from eqdyn._types import Key, Kind, Tree
from eqdyn.measure.sharpness import Sharpness, sharpness
from eqdyn.measure.swap import Transverse
from eqdyn.rule import Rule

RESOLVED = 1e-3  # relative error up to which a constant over pairs counts as resolved
_ROUNDING = 1e-9  # of a pair's rate: as good as nothing, where its approach is nearly 0


class Constant(NamedTuple):
    """One constant of a rule at a configuration.

    Fields:
        value: 1/[eta].
        eta_crit: `1 / value`, [eta]; infinite where the value is 0 or negative.
        kind: "exact", "lower", "upper", "estimate" or "diagnostic".
        where: the particle, or the pair, that attains it; None for the Hessian, which belongs to all, and where no two are distinct.
        error: by how much the value may be off, 1/[eta]: residual or rounding floor.
    """

    value: float
    eta_crit: float
    kind: Kind
    where: tuple[int, ...] | None
    error: float

    @property
    def resolved(self) -> bool:
        """Whether the value is known to a part in a thousand."""
        return math.isfinite(self.value) and self.error <= RESOLVED * abs(self.value)


class StretchCurve(NamedTuple):
    """The extreme stretches over all pairs for every step size, `(k,)` each, no unit, and the pairs `(k, 2)` that attain them."""

    eta: np.ndarray
    low: np.ndarray
    low_at: np.ndarray
    high: np.ndarray
    high_at: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Critical:
    """The constants of a rule at one configuration and batch, from `critical`. All in 1/[eta].

    Fields:
        pair: `K_pair`, over all pairs. Exact here; a step below its `eta_crit` merges nobody. "lower" where rounding hides the pairs
            that would decide: the value is then certain, the error reaches the largest that is possible.
        one_sided: `mu`, over all pairs: the sharper certificate; "lower" likewise, by itself: its value plus its error is certain.
        transverse: `max ||T||`, the constant of an infinitesimal pair at a particle; `.where` the particle, or the pair of twins.
        fold: the largest rate at which such a pair is turned over: the step map folds at a particle at its `eta_crit`.
        sharpness: the largest absolute eigenvalue of the Hessian: an estimate of 1/K from below, never a certificate.
        places: the transverse measure of every particle or pair.
        hessian: what Lanczos found.
        inequalities: those of the theory, checked, each with its condition.
        dtype: in which U was found for the pairs (that of T is `places.norm.dtype`).
    """

    pair: Constant
    one_sided: Constant
    transverse: Constant
    fold: Constant
    sharpness: Constant
    places: Transverse
    hessian: Sharpness
    inequalities: dict[str, Inequality]
    dtype: np.dtype
    _force: Force = dataclasses.field(repr=False)

    def stretch(self, etas: Any = None) -> StretchCurve:
        """The range of the pair stretch at every step size, from the one U that was found: exact up to rounding.

        Args:
            etas: step sizes `(k,)` > 0, [eta]; None for 60 of them from a hundredth to a hundred times `pair.eta_crit`.

        Example:
            >>> import jax.numpy as jnp, eqdyn as eq
            >>> found = eq.critical(eq.rules.consensus(), jnp.array([[0.0], [4.0]]))
            >>> found.stretch([0.5, 1.0, 3.0]).low.tolist()
            [0.5, 0.0, 2.0]
        """
        if etas is None:
            middle = self.pair.eta_crit if 0 < self.pair.eta_crit < math.inf else 1.0
            etas = middle * np.geomspace(0.01, 100, 60)
        etas = np.atleast_1d(np.asarray(etas, np.float64))
        if etas.ndim != 1 or not etas.size or not np.all(np.isfinite(etas) & (etas > 0)):
            msg = f"etas: got {etas}; expected finite step sizes > 0, (k,), at least one."
            raise ValueError(msg)
        with jax.enable_x64(True):  # noqa: FBT003
            x, u = jnp.asarray(self._force.x), jnp.asarray(self._force.u)
            found = [jax.tree.map(np.asarray, _stretch(x, x + eta * u)) for eta in etas]
        return StretchCurve(etas, *(np.stack([getattr(one, name) for one in found]) for name in ("low", "low_at", "high", "high_at")))

    def summary(self) -> str:
        """The constants and the inequalities in a table of text."""
        lines = [f"{'':<12}{'value':>12}{'eta_crit':>12}{'error':>10}  kind       attained by"]
        for name in ("pair", "one_sided", "transverse", "fold", "sharpness"):
            one = getattr(self, name)
            kind = one.kind if one.resolved or name not in ("pair", "one_sided") else f"{one.kind}, unresolved"
            where = "all particles" if name == "sharpness" else "-" if not one.where else " and ".join(map(str, one.where))
            lines.append(f"{name:<12}{one.value:>12.4g}{one.eta_crit:>12.4g}{one.error:>10.1g}  {kind:<10} {where}")
        lines += [f"{one.verdict:>8}: {one.statement}  ({one.left:.4g}, {one.right:.4g}; {one.condition})" for one in self.inequalities.values()]
        return "\n".join([*lines, f"transverse by {self.places.route}; pairs in {self.dtype}"])


_stretch, _pair_constants, _pair_floor = jax.jit(geometry.stretch), jax.jit(geometry.pair_constants), jax.jit(pair_floor)


def critical(rule: Rule, x: Any, state: Tree = None, data: Tree = None, *, group: Any = None, num_iters: int = 30, key: Key | None = None) -> Any:
    """The constants that bound the step size, side by side, for a rule at a configuration and batch.

        sharpness    |lambda|_max of the Hessian     estimate of K; 1/K is safe, but no certificate, and far too small in training
        transverse   max_i ||T_i||                   an infinitesimal pair at a particle; its fold: the step map turns over there
        pair         K_pair = max_ij |U_i-U_j|/|x_i-x_j|             eta K_pair < 1: this step merges nobody
        one_sided    mu = max_ij -<U_i-U_j, x_i-x_j>/|x_i-x_j|^2     eta mu < 1: nor does it then; mu <= K_pair

    `pair` and `one_sided` are exact at this configuration: U is found in float64 whatever x is in (where the rule can be), and what its
    rounding does to near pairs is reported as the error. T comes from the rule's probe, or from antisymmetric derivatives at near pairs
    (`places.route` says which), likewise in float64; where it cannot, its rounding is not known, and it is an "estimate". The
    inequalities between them are computed on both sides, with their conditions.

    Args:
        rule: the update rule; with a state, the constants are those of U with the state held fixed (coordinates, not lifted particles).
        x: configuration `(n, d)`, n >= 2, `Weighted`, or a tree with a group.
        state: None for `rule.init(x)`.
        data: the batch.
        group: None for rows, a `Group`, or a dict of them: an answer a group then.
        num_iters: steps of Lanczos, for the Hessian and, beyond d = 64, for T.
        key: of the step, for rules that draw.

    Returns:
        `Critical`, with `.pair .one_sided .transverse .fold .sharpness`, each `Constant(value, eta_crit, kind, where, error)`, and
        `.stretch(etas)`; for a dict of groups a dict of them.

    Raises:
        ValueError, TypeError: arguments that do not fit.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> found = eq.critical(eq.rules.consensus(), jnp.array([[0.0], [4.0]]))
        >>> found.pair.value, found.one_sided.eta_crit, found.fold.eta_crit, found.pair.where
        (1.0, 1.0, 1.0, (0, 1))

    References:
        Yang et al., arXiv:2510.02670, section 4 (the critical learning rate 1/K), lemma 4 (the swap argument); pair and transverse
        constants: derived.
    """
    if not isinstance(rule, Rule):
        msg = f"rule: got {type(rule).__name__}; expected an eq.Rule; write eq.rules.from_function(f) for a plain function."
        raise TypeError(msg)
    x = _checks.configuration(x)
    _checks.finite(x, "x")
    _checks.count(num_iters, "num_iters", least=1)
    _checks.state_like(state, lambda: jax.eval_shape(rule.init, x))
    state, data, key = rule.init(x) if state is None else state, _checks.batch(data), _checks.key(key)
    named = groups.resolve(group, x)
    for name, one in named.items():
        if one.size < 2:
            msg = f"group[{name!r}]: got {one.size} particle; expected at least 2."
            raise ValueError(msg)
        if jnp.finfo(one.particles(x).dtype).bits < 32:
            msg = f"group[{name!r}]: got particles in {one.particles(x).dtype}; expected float32 or float64; write x.astype('float32')."
            raise TypeError(msg)
    hessian = jax.tree.map(np.asarray, sharpness(rule, x, state, data, num_iters=num_iters, key=key))
    found = {name: _of_group(rule, one, x, state, data, num_iters, key, hessian) for name, one in named.items()}
    return found if isinstance(group, dict) else found["particles"]


def _of_group(rule: Rule, group: Any, x: Tree, state: Tree, data: Tree, num_iters: int, key: Any, hessian: Sharpness) -> Critical:
    known = force(rule, group, x, state, data, key)
    pair, one_sided = over_pairs(known)
    places = curvature(rule, group, x, state, data, num_iters, key)
    wide, deep = int(np.argmax(_known(places.norm))), int(np.argmin(np.where(np.isnan(places.low), np.inf, places.low)))
    bounded: Kind = "upper" if places.kind == "lower" else places.kind  # the smallest eigenvalue's lower bound is the rate's upper
    size: Kind = "estimate" if places.kind == "lower" else places.kind
    if np.isnan(places.norm).any():  # T is not finite there: the largest of the others bounds from below
        bounded, size = ("lower" if kind == "exact" else "estimate" for kind in (bounded, size))
    turns = -float(places.low[deep])
    lean = float(hessian.asymmetry) > 64 * float(jnp.finfo(hessian.asymmetry.dtype).eps) * group.size**0.5
    constants = {
        "pair": pair,
        "one_sided": one_sided,
        "transverse": _constant(float(places.norm[wide]), size, _place(places, wide), float(places.error[wide])),
        "fold": _constant(turns if math.isnan(turns) else max(0.0, turns), bounded, _place(places, deep), float(places.error[deep])),
        "sharpness": _constant(float(hessian.norm), "diagnostic" if lean else "estimate", None, float(hessian.norm_residual)),
    }
    checked = inequalities(rule, group, x, state, data, key, known, constants, places, hessian, deep)
    return Critical(**constants, places=places, hessian=hessian, inequalities=checked, dtype=known.dtype, _force=known)


def over_pairs(known: Force) -> tuple[Constant, Constant]:
    """`K_pair` and `mu`, with what rounding of U leaves open."""
    with jax.enable_x64(True):  # noqa: FBT003
        x, u, rounding = (jnp.asarray(part) for part in (known.x, known.u, known.rounding))
        found = jax.tree.map(np.asarray, _pair_constants(x, u))
        floor = jax.tree.map(np.asarray, _pair_floor(x, u, rounding))
    return _of_rates(found, floor), _of_approach(found, floor)


def _of_rates(found: Any, floor: Any) -> Constant:
    k, certain, upper, at = float(found.k_pair), float(floor.certain), float(floor.upper), _pair(found.k_pair_at)
    if not math.isfinite(k):
        return _constant(k, "exact", at, 0.0 if math.isinf(k) else math.nan)
    if upper == -math.inf:  # no two are distinct
        return _constant(0.0, "exact", None, 0.0)
    error = max(upper - k, k - certain)
    if error <= RESOLVED * k or upper == 0:
        return _constant(k, "exact", at, error)
    return _constant(max(certain, 0.0), "lower", _pair(floor.certain_at), upper - max(certain, 0.0))


def _of_approach(found: Any, floor: Any) -> Constant:
    mu, certain, upper = float(found.mu), float(floor.closing), float(floor.closing_upper)
    if upper == -math.inf:
        return _constant(0.0, "exact", None, 0.0)
    if not math.isfinite(mu):
        return _constant(mu, "exact", _pair(found.mu_at), math.nan)
    error = max(upper - mu, mu - certain)  # whichever pair rounding hides
    if error <= max(RESOLVED * abs(mu), _ROUNDING * float(floor.closing_rate)):
        return _constant(mu, "exact", _pair(found.mu_at), error)
    return _constant(certain, "lower", _pair(floor.closing_at), upper - certain)


def _pair(at: np.ndarray) -> tuple[int, ...]:
    return tuple(map(int, at))


def _constant(value: float, kind: Kind, where: tuple[int, ...] | None, error: float) -> Constant:
    return Constant(value, math.nan if math.isnan(value) else 1 / value if value > 0 else math.inf, kind, where, error)


def _known(values: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(values), -np.inf, values)


def _place(places: Transverse, at: int) -> tuple[int, ...]:
    return tuple(int(index) for index in np.atleast_1d(places.where[at]))
