"""`eq.check`: the laws, run over many drawn configurations at once, and their report."""

from __future__ import annotations

import dataclasses
import functools
import html
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from eqdyn import _checks, _draws, groups, laws
from eqdyn._types import Key, Tree
from eqdyn.laws import Residual
from eqdyn.rule import Rule

_DRAW_BYTES = 2**29  # what the draws that run side by side may take, at some sixty copies of x each
_BLUNT = 0.1  # a tolerance above this tells nothing


@dataclasses.dataclass(frozen=True, eq=False)
class Replay:
    """The draw at which a law came out worst: call it to see it again.

    `draw` is its number, `key` the key of the check, `perm` the permutation, `x` the configuration.
    """

    law: str
    draw: int
    key: Key
    perm: np.ndarray
    x: Tree
    _run: Callable[[], Residual] = dataclasses.field(repr=False)

    def __call__(self) -> Residual:
        """Error and tolerance of this law at this draw, computed anew."""
        return self._run()


class Law(NamedTuple):
    """What came of a law.

    Fields:
        verdict: "fails", with a draw that shows it; "holds", at every draw up to rounding (a sample, not a proof for all
            configurations); "unresolved", where rounding is too coarse to tell or U is not finite.
        error: at the worst draw, no unit.
        tolerance: what rounding may do at that draw.
        replay: the worst draw.
    """

    verdict: str
    error: float
    tolerance: float
    replay: Replay


@dataclasses.dataclass(frozen=True, eq=False)
class Report:
    """The verdicts of a check. `holds`: no law fails; prints as a table, unresolved laws first."""

    laws: dict[str, Law]
    num_draws: int
    dtype: str

    @property
    def holds(self) -> bool:
        return all(law.verdict != "fails" for law in self.laws.values())

    def rows(self) -> list[tuple[str, Law]]:
        order = ("unresolved", "fails", "holds")
        return sorted(self.laws.items(), key=lambda item: order.index(item[1].verdict))

    def to_dict(self) -> dict[str, Any]:
        """Flat: `{"P1": {"verdict": ..., "error": ..., "tolerance": ..., "draw": ...}, ...}`."""
        return {
            name: {"verdict": law.verdict, "error": law.error, "tolerance": law.tolerance, "draw": law.replay.draw} for name, law in self.laws.items()
        }

    def __str__(self) -> str:
        width = max(len(name) for name in self.laws)
        lines = [f"{'law':<{width}}  verdict     error     tolerance  ({self.num_draws} draws, {self.dtype})"]
        lines += [f"{name:<{width}}  {law.verdict:<10}  {law.error:<8.2g}  {law.tolerance:.2g}" for name, law in self.rows()]
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        cells = [(name, law.verdict, f"{law.error:.2g}", f"{law.tolerance:.2g}") for name, law in self.rows()]
        body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in cells)
        head = "".join(f"<th>{name}</th>" for name in ("law", "verdict", "error", "tolerance"))
        return f"<table><tr>{head}</tr>{body}</table>"


def check(
    rule: Rule, x: Any, state: Tree = None, data: Tree = None, *, eta: Any = None, K: Any = None, group: Any = None, num_draws: int = 64, key: Key
) -> Report:  # fmt: skip
    """Hold a rule against the laws of equivariant dynamics, at `num_draws` configurations and permutations drawn around x.

        P1         U(PX) = P U(X), over roll-outs of a few steps from a fresh state (and one step from `state`, if given)
        Lemma 1    equal particles stay equal
        Lemma 2    every looked-at pair stretches by 1 +- eta K; K as given, or what U does when the pair is exchanged
        Merge law  one U tells where each pair is closest; a step at that eta agrees, and below 1/K_pair nobody merges. An
                   identity for a rule that repeats its U; with a declared K, no pair may merge below 1/K

    Each law is one jitted map over the draws. A sample refutes and never proves: "holds" means at these draws, up to a
    tolerance measured from what one rounding of the input does.

    Args:
        rule: the update rule.
        x: configuration, `(n, d)` with n >= 2, a `Weighted`, or a tree with `group`; its first draw is x itself.
        state: None, for a fresh state that a few small steps have settled; or the state at x, which then moves with x: its
            subtrees that have the structure of x are permuted with it.
        data: the batch, the same for all draws.
        eta: step size; None for 0.5 and 0.99 of `1/K_pair` of the draw.
        K: a declared constant; a pair that moves faster, or merges below 1/K, refutes it.
        group: None for rows, a `Group`, or a dict of them; with a dict the laws are named "group: law".
        num_draws: configurations.
        key: of the draws, and of rules that draw.

    Returns:
        `Report` with `.holds` and `.laws[name] -> Law(verdict, error, tolerance, replay)`.

    Raises:
        ValueError, TypeError: arguments that do not fit, a group that does not fit the tree, a rule that changes shape or dtype.

    Example:
        >>> import jax, jax.numpy as jnp, eqdyn as eq
        >>> x = jax.random.normal(jax.random.key(0), (16, 3))
        >>> eq.check(eq.rules.consensus(), x, key=jax.random.key(1)).holds
        True
        >>> bad = eq.check(eq.rules.from_function(lambda x: jnp.sort(x, axis=0)), x, key=jax.random.key(1))
        >>> bad.laws["P1"].verdict
        'fails'

    References:
        Yang et al., arXiv:2510.02670: P1, lemmas 1 and 2, section 4.
    """
    if not isinstance(rule, Rule):
        msg = f"rule: got {type(rule).__name__}; expected an eq.Rule; write eq.rules.from_function(f) for a plain function."
        raise TypeError(msg)
    x = _checks.configuration(x)
    _checks.finite(x, "x")
    _checks.count(num_draws, "num_draws", least=1)
    _checks.needs_key(_checks.key(key), "configurations are drawn")
    if eta is not None:
        _checks.step_size(eta)
    if K is not None:
        _checks.step_size(K, "K")
    data = _checks.batch(data)
    _checks.moved_like(jax.eval_shape(lambda x: rule.update(x, rule.init(x), data, key=key).u, x), x)
    asked = groups.resolve(group, x)
    dtype = jnp.result_type(*jax.tree.leaves(x))
    numbers = tuple(jnp.asarray(jnp.nan if value is None else value, dtype) for value in (eta, K))
    found = {}
    for name, one in asked.items():
        if one.size < 2:
            msg = f"x: got {one.size} particle; expected at least 2, since every law compares particles."
            raise ValueError(msg)
        run = functools.partial(_residuals, rule, one, x, state, data, key, numbers)
        for law, residuals in run(laws.LAWS, np.arange(num_draws)).items():
            found[law.name if len(asked) == 1 else f"{name}: {law.name}"] = _verdict(law, residuals, run, one, x, key)
    return Report(found, num_draws, str(dtype))


def _residuals(
    rule: Rule, group: Any, x: Tree, state: Tree, data: Tree, key: Key, numbers: tuple, wanted: tuple[laws.Law, ...], indices: np.ndarray
) -> dict[laws.Law, Residual]:
    """The residuals of each law at the draws `indices`, as many side by side as fit the budget."""
    bytes_each = 64 * sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(x))
    width = int(np.clip(_DRAW_BYTES // bytes_each, 1, len(indices)))
    parts: dict[laws.Law, list[Residual]] = {law: [] for law in wanted}
    for start in range(0, len(indices), width):
        # the last part is filled up, so that all parts run in one program
        block = np.resize(indices[start : start + width], width)
        draws = _drawn(group, x, key, jnp.asarray(block))
        moved = _moved(rule, group, state, draws, data)
        sizes = _sizes(group, draws, moved, *numbers)
        for law in wanted:
            answer = _answers(law, rule, group, state, draws, moved, sizes, data)
            parts[law].append(_compared(law, group, draws, moved, sizes, answer))
    return {
        law: Residual(*(np.concatenate(column)[: len(indices)].astype(np.float64) for column in zip(*some, strict=True)))
        for law, some in parts.items()
    }


# The first, third and last of these know no rule: they are compiled once for a shape.


@functools.partial(jax.jit, static_argnums=0)
def _drawn(group: Any, x: Tree, key: Key, indices: jax.Array) -> _draws.Draw:
    return jax.vmap(lambda index: _draws.draw(group, x, key, index))(indices)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _moved(rule: Rule, group: Any, state: Tree, draws: _draws.Draw, data: Tree) -> _draws.Moved:
    return jax.vmap(lambda draw: _draws.moved(rule, group, state, draw, data))(draws)


@functools.partial(jax.jit, static_argnums=0)
def _sizes(group: Any, draws: _draws.Draw, moved: _draws.Moved, eta: jax.Array, K: jax.Array) -> _draws.Sizes:
    return jax.vmap(lambda draw, moved: _draws.sizes(group, draw, moved, eta, K))(draws, moved)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _answers(law: laws.Law, rule: Rule, group: Any, state: Tree, draws: _draws.Draw, moved: _draws.Moved, sizes: _draws.Sizes, data: Tree) -> Tree:
    return jax.vmap(lambda *of_draw: law.answer(rule, group, state, *of_draw, data))(draws, moved, sizes)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _compared(law: laws.Law, group: Any, draws: _draws.Draw, moved: _draws.Moved, sizes: _draws.Sizes, answers: Tree) -> Residual:
    return jax.vmap(lambda *of_draw: law.residual(group, *of_draw))(draws, moved, sizes, answers)


def _verdict(law: laws.Law, found: Residual, run: Callable, group: Any, x: Tree, key: Key) -> Law:
    errors, tolerances = np.asarray(found.error), np.asarray(found.tolerance)
    known = np.isfinite(errors) & ~np.isnan(tolerances)
    excess = np.where(known, errors / np.maximum(tolerances, np.finfo(np.float64).tiny), -1.0)
    worst = int(np.argmax(excess))
    if excess[worst] > 1:
        verdict = "fails"
    elif not known.all() or np.max(tolerances) > _BLUNT:
        verdict, worst = "unresolved", int(np.argmin(known)) if not known.all() else int(np.argmax(tolerances))
    else:
        verdict = "holds"

    def again() -> Residual:
        (one,) = run((law,), np.asarray([worst])).values()
        return Residual(float(one.error[0]), float(one.tolerance[0]))

    drawn = _draws.draw(group, x, key, jnp.asarray(worst))
    return Law(verdict, float(errors[worst]), float(tolerances[worst]), Replay(law.name, worst, key, np.asarray(drawn.perm), drawn.x, again))
