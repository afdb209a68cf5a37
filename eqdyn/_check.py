"""`eq.check` and `eq.assert_lawful`: the laws, run over many drawn configurations at once."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from eqdyn import _checks, groups, laws
from eqdyn._ask import draws as _draws
from eqdyn._ask.ask import Asked, Lifted, ask
from eqdyn._types import Key, Tree
from eqdyn._verdicts import Law, Replay, Report
from eqdyn.field import TILE_BYTES
from eqdyn.laws import LAWS, LIFTED, Residual, Told
from eqdyn.rule import Rule

_LANE_BYTES = 2**30  # what the evaluations of U that run side by side may take
_PROGRAMS = 32  # rules whose compiled program is kept
_BLUNT = 0.1  # a tolerance above this tells nothing


def check(
    rule: Rule, x: Any, state: Tree = None, data: Tree = None, *, eta: Any = None, K: Any = None, group: Any = None, num_draws: int = 64, key: Key
) -> Report:  # fmt: skip
    """Hold a rule against the laws of equivariant dynamics, at `num_draws` configurations and permutations drawn around x.

        P1         U(PX) = P U(X), over roll-outs of a few steps from a fresh state (and one step from `state`, if given)
        P2-K       |U(X) - U(Y)| <= K |X - Y|; fails above a declared K, or where the rate grows without bound
        P2'        max_i |U_i(X) - U_i(Y)| <= (K'/2) |X - Y|; with K' = 2 K where a K is declared, which P2-K implies
        P3         U is C^1 where a pair is exchanged
        Lemma 1    equal particles stay equal
        Lemma 2    a pair stretches by 1 +- eta K; K as declared, or what U does when the pair is exchanged
        Lemma 3    the induced map is well defined and onto; one to one below 1/K
        Lemma 4    |U_i - U_j| <= K |x_i - x_j|, K as in lemma 2
        Lemma 5    the same with the K' of P2'
        Theorem 1  lemma 3, and the Jacobian of the induced map within 1 +- eta K
        Theorem 2  mass is kept (weights do not move), multiplicities never fall
        Merge law  one U tells where each pair is closest; below 1/K_pair nobody merges. An identity for a rule that repeats its
                   U; with a declared K, no pair may merge below 1/K
        Lifted invertibility
                   the step map of the lifted particles folds nowhere up to eta (or 1/K of a declared K); with neither, at no eta,
                   else "unresolved" with the eta of the first fold

    The rule is asked once, in one jitted program over the draws. A sample refutes and never proves: "holds" means at these
    draws, up to a tolerance measured from what one rounding of the input does; "not refuted" is said of P2 and P3, which speak of
    all configurations. P2 without a declared K is "unresolved", with a lower bound. A jump is told from a slope by halving a
    segment 14 times (float32; float64: 31 times): a slope that only ends below that looks like a jump, a kink that no draw meets
    is not seen, and a rate that grows slower than |x|^-0.4 passes. Derivatives are those that JAX gives; rounding is that of x's dtype,
    so a rule that works in a coarser one inside looks like one that jumps.

    Args:
        rule: the update rule.
        x: configuration, `(n, d)` with n >= 2, a `Weighted`, or a tree with `group`; its first draw is x itself.
        state: None, for a fresh state that a few small steps have settled; or the state at x, which then moves with x: its
            subtrees that have the structure of x are permuted with it.
        data: the batch, the same for all draws.
        eta: step size; None for 0.5 and 0.99 of `1/K_pair` of the draw.
        K: a declared constant of P2-K, 1/[eta]; a pair that moves faster, or merges below 1/K, refutes it.
        group: None for rows, a `Group`, or a dict of them; with a dict the laws are named "group: law".
        num_draws: configurations.
        key: of the draws, and of rules that draw.

    Returns:
        `Report` with `.holds` and `.laws[name] -> Law(verdict, error, tolerance, replay, bound, note)`.

    Raises:
        ValueError, TypeError: arguments that do not fit, a group that does not fit the tree, a rule that changes shape or dtype.

    Example:
        >>> import jax, jax.numpy as jnp, eqdyn as eq
        >>> x = jax.random.normal(jax.random.key(0), (16, 3))
        >>> good = eq.check(eq.rules.consensus(), x, K=1.0, key=jax.random.key(1))
        >>> good.holds, good.laws["P2-K"].verdict
        (True, 'not refuted')
        >>> bad = eq.check(eq.rules.from_function(lambda x: jnp.sort(x, axis=0)), x, key=jax.random.key(1))
        >>> bad.laws["P1"].verdict
        'fails'

    References:
        Yang et al., arXiv:2510.02670: properties P1 to P3, lemmas 1 to 3, theorems 1 and 2; lemmas 4 and 5 in appendices A and D.
    """
    if not isinstance(rule, Rule):
        msg = f"rule: got {type(rule).__name__}; expected an eq.Rule; write eq.rules.from_function(f) for a plain function."
        raise TypeError(msg)
    _checks.hashable(rule, "rule")
    x = _checks.configuration(x)
    _checks.finite(x, "x")
    _checks.count(num_draws, "num_draws", least=1)
    _checks.needs_key(_checks.key(key), "configurations are drawn")
    if eta is not None:
        _checks.step_size(eta)
    if K is not None:
        _checks.step_size(K, "K")
    data = _checks.batch(data)
    _checks.state_like(state, lambda: jax.eval_shape(rule.init, x))
    _checks.moved_like(jax.eval_shape(lambda x: rule.update(x, rule.init(x), data, key=key).u, x), x)
    asked = groups.resolve(group, x)
    dtype = jnp.result_type(*jax.tree.leaves(x))
    numbers = tuple(jnp.asarray(jnp.nan if value is None else value, dtype) for value in (eta, K))
    for name, value, cast in zip(("eta", "K"), (eta, K), numbers, strict=True):
        if value is not None and not (0 < float(cast) < math.inf):
            msg = f"{name}: got {value}; expected a number that {dtype} can hold; write x.astype('float64'), with jax_enable_x64 on."
            raise ValueError(msg)
    told = Told(eta is not None, K is not None)
    found = {}
    for name, one in asked.items():
        if one.size < 2:
            msg = f"x: got {one.size} particle; expected at least 2, since every law compares particles."
            raise ValueError(msg)
        run = functools.partial(_residuals, rule, one, x, state, data, key, numbers, num_draws)
        for law, residual in run(np.arange(num_draws)).items():
            found[f"{name}: {law.name}" if isinstance(group, Mapping) else law.name] = _verdict(law, residual, told, run, one, x, key)
    return Report(found, num_draws, str(dtype))


def assert_lawful(rule: Rule, x: Any, state: Tree = None, data: Tree = None, *, key: Key | None = None, **options: Any) -> Report:
    """Raise an `AssertionError` that shows the report if any law fails: one line of a test of one's own.

    Args:
        rule, x, state, data: as in `check`.
        key: default `jax.random.key(0)`.
        **options: `eta`, `K`, `group`, `num_draws` of `check`.

    Returns:
        the `Report`.

    Raises:
        AssertionError: a law fails; the message has the table, and the draw and permutation that show it.
        ValueError, TypeError: as `check`.

    Example:
        >>> import jax, eqdyn as eq
        >>> x = jax.random.normal(jax.random.key(0), (16, 3))
        >>> eq.assert_lawful(eq.rules.consensus(), x).holds
        True
    """
    report = check(rule, x, state, data, key=jax.random.key(0) if key is None else key, **options)
    if not report.holds:
        name, law = next((name, law) for name, law in report.rows() if law.verdict == "fails")
        msg = f"a law of equivariant dynamics fails\n{report}\n{name}: draw {law.replay.draw}, permutation {law.replay.perm.tolist()}"
        raise AssertionError(msg)
    return report


def _residuals(
    rule: Rule, group: Any, x: Tree, state: Tree, data: Tree, key: Key, numbers: tuple, num_draws: int, indices: np.ndarray
) -> dict[laws.Law, Residual]:
    """The residuals of each law at the draws `indices`, as many side by side as fit the budget."""
    lanes = max(1, _LANE_BYTES // _bytes(group, x, data))
    most = int(np.clip(lanes // _draws.num_variants(group.size), 1, num_draws))
    width = -(-num_draws // -(-num_draws // most))  # as few parts as fit, of one size
    eta, K = (float(value) for value in numbers)
    parts: dict[laws.Law, list[Residual]] = {law: [] for law in LAWS}
    for start in range(0, len(indices), width):
        # the last part is filled up, so that all parts run in one program
        block = np.resize(indices[start : start + width], width)
        draws = _drawn(group, x, key, jnp.asarray(block))
        # one program at a time: of several in flight each may hold a thread of XLA's pool and wait for one that is not left
        asked, lifted = jax.block_until_ready(_asked(rule, group, max(1, lanes // width), state, draws, data))
        on_device = _compared(group, draws, asked, *numbers)
        for law in LAWS:
            parts[law].append(laws.lifted_residual(lifted, group.dim, eta, K, width) if law is LIFTED else on_device[law.name])
    return {
        law: Residual(*(np.concatenate(column)[: len(indices)].astype(np.float64) for column in zip(*some, strict=True)))
        for law, some in parts.items()
    }


def _bytes(group: Any, x: Tree, data: Tree) -> int:
    """What one evaluation of U and its derivative may take: copies of x, a tile of all pairs, particles against the batch."""
    size = max(leaf.dtype.itemsize for leaf in jax.tree.leaves(x))
    examples = max((leaf.shape[0] for leaf in jax.tree.leaves(data) if leaf.ndim), default=0)
    all_pairs = 2 * min(4 * group.size**2 * group.dim * size, TILE_BYTES)
    return 16 * sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(x)) + all_pairs + 8 * size * group.size * examples


# The first and last of these know no rule: they are compiled once for a shape.


@functools.partial(jax.jit, static_argnums=0)
def _drawn(group: Any, x: Tree, key: Key, indices: jax.Array) -> _draws.Draw:
    return jax.vmap(lambda index: _draws.draw(group, x, key, index))(indices)


def _asked(rule: Rule, group: Any, lanes: int, state: Tree, draws: _draws.Draw, data: Tree) -> tuple[Asked, Lifted | None]:
    try:
        return _program(rule, group, True, lanes)(state, draws, data)  # noqa: FBT003
    except (TypeError, ValueError, NotImplementedError):
        # a rule without derivatives (a callback, say) is held against all else; any other trouble shows again
        return _program(rule, group, False, lanes)(state, draws, data)  # noqa: FBT003


@functools.lru_cache(maxsize=_PROGRAMS)
def _program(rule: Rule, group: Any, differentiable: bool, lanes: int) -> Callable:
    """The compiled questions to a rule; the oldest are let go, since a process can hold some hundred such programs only."""
    return jax.jit(lambda state, draws, data: jax.vmap(lambda draw: ask(rule, group, differentiable, lanes, state, draw, data))(draws))


@functools.partial(jax.jit, static_argnums=0)
def _compared(group: Any, draws: _draws.Draw, asked: Asked, eta: jax.Array, K: jax.Array) -> dict[str, Residual]:
    def one(draw: _draws.Draw, asked: Asked) -> dict[str, Residual]:
        found = laws.residuals(group, draw, asked, eta, K)
        return {name: residual._replace(bound=jnp.asarray(residual.bound, eta.dtype)) for name, residual in found.items()}

    return jax.vmap(one)(draws, asked)


def _verdict(law: laws.Law, found: Residual, told: Told, run: Callable, group: Any, x: Tree, key: Key) -> Law:
    errors, tolerances, bounds = (np.asarray(column) for column in found)
    known = ~np.isnan(errors) & np.isfinite(tolerances)
    excess = np.where(known, errors / np.maximum(tolerances, np.finfo(np.float64).tiny), -1.0)
    worst = int(np.argmax(excess))
    verdict = law.verdict(bool(excess[worst] > 1), told)
    blunt = law.verdict is laws.passes_or_fails and np.max(tolerances) > _BLUNT
    if excess[worst] <= 1 and (not known.all() or blunt):
        verdict, worst = "unresolved", int(np.argmin(known)) if not known.all() else int(np.argmax(tolerances))

    def again() -> Residual:
        one = run(np.asarray([worst]))[law]
        return Residual(*(float(column[0]) for column in one))

    drawn = _draws.draw(group, x, key, jnp.asarray(worst))
    bound = float(np.max(bounds[~np.isnan(bounds)])) if law.note and not np.isnan(bounds).all() else None
    note = law.note.format(bound=bound, inverse=1 / bound if bound else math.inf) if bound else ""
    replay = Replay(law.name, worst, key, np.asarray(drawn.perm), drawn.x, again)
    return Law(verdict, float(errors[worst]), float(tolerances[worst]), replay, bound, note)
