"""The 2-cell between two optimizers: whether their runs compute affinely related representations, checkpoint by checkpoint, beside a control."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from eqdyn import _checks
from eqdyn._types import Tree
from eqdyn.paths._asked import one_architecture, params_of, row
from eqdyn.paths._path import Path, both_paths
from eqdyn.paths._relate import Source, pair_of, rows_of
from eqdyn.paths._reparametrise import two_at_least
from eqdyn.paths._represent import Features
from eqdyn.paths._similar import cka, procrustes

RELATED, UNRELATED, UNRESOLVED = "affinely related", "not related", "unresolved"
MEMORY = 2**31  # bytes that the maps may take
_NOTHING_LEFT = 1e-12, 30  # a control that leaves less than this open, or than the square of so many units of rounding, tells nothing


class Thresholds(NamedTuple):
    """When two representations are called related. All no unit, of held-out points.

    Fields:
        r2, gain: related where, in every fold, both are at least this.
        low_r2, low_gain: not related where, in every fold, r2 is below the one or the gain below the other. What is neither is unresolved.
    """

    r2: float = 0.9
    gain: float = 0.5
    low_r2: float = 0.5
    low_gain: float = 0.25


class TwoCell(NamedTuple):
    """Two runs held against each other at T checkpoints, F folds. Numbers of held-out points are ESTIMATES, those of all points EXACT for them.

    Fields:
        verdict: "affinely related", at every checkpoint; "not related", at one or more; else "unresolved".
        verdicts: of each checkpoint, T of these.
        thresholds: by which.
        r2: `(T,)`, of the map from a to b on held-out points; `folds` `(T, F)` the same fold by fold.
        back: `(T,)`, of the map from b to a: lower where a has directions that b has lost.
        untrained, shuffled: `(T,)`, of the two controls: from untrained networks (the best of them), and from a with its points shuffled.
        gain: `(T,)`, the share of what the better control leaves open that a closes, `1 - (1 - r2) / (1 - control)`; `gain_folds` `(T, F)`. NaN where
            the control leaves nothing open.
        cka, cka_unbiased, procrustes: `(T,)`, see the functions of these names.
        maps, offsets: `(T, h, h)`, `(T, h)`: phi_b = A phi_a + b, fitted on all probe points.
        changes: `(T - 1,)`, |A_{k+1} - A_k| / |A_k|, Frobenius. Where directions of phi_a hardly vary, A there is mostly chance, and so is this.
        changes_seen: `(T - 1,)`, the same for what the maps do to phi_a at checkpoint k, mean taken out.
        ridge: `(T,)`, the weight that the maps were fitted with.
    """

    verdict: str
    verdicts: tuple[str, ...]
    thresholds: Thresholds
    r2: np.ndarray
    folds: np.ndarray
    back: np.ndarray
    untrained: np.ndarray
    shuffled: np.ndarray
    gain: np.ndarray
    gain_folds: np.ndarray
    cka: np.ndarray
    cka_unbiased: np.ndarray
    procrustes: np.ndarray
    maps: np.ndarray
    offsets: np.ndarray
    changes: np.ndarray
    changes_seen: np.ndarray
    ridge: np.ndarray

    @property
    def since(self) -> int | None:
        """The first checkpoint from which on all are related; None where the last is not."""
        apart = [k for k, verdict in enumerate(self.verdicts) if verdict != RELATED]
        first = apart[-1] + 1 if apart else 0
        return first if first < len(self.verdicts) else None

    def summary(self) -> str:
        """The verdict with its numbers and thresholds, in text."""
        at = int(np.argmin(self.r2))
        limits = self.thresholds
        since = f"related from checkpoint {self.since} on" if self.since else "not shown to be related at the last"
        gain = "no gain: that control leaves nothing open" if np.isnan(self.gain[at]) else f"gain over them {self.gain[at]:.4g}"
        lines = [
            f"{self.verdict}, at {len(self.r2)} checkpoints" + ("" if self.verdict == RELATED else f"; {since}"),
            f"held-out R^2 {self.r2.min():.4g} to {self.r2.max():.4g}, least at checkpoint {at}; the way back {self.back.min():.4g} or more",
            f"controls: untrained {self.untrained[at]:.4g}, shuffled {self.shuffled[at]:.4g} there; {gain}",
            f"the maps change by up to {self.changes.max():.4g} from one to the next, in what they do by {self.changes_seen.max():.4g}",
            f"related: R^2 >= {limits.r2:g} and gain >= {limits.gain:g}; not: R^2 < {limits.low_r2:g} or gain < {limits.low_gain:g}; in all folds",
        ]
        return "\n".join(lines)


def two_cell(
    features: Callable, a: Path, b: Path, probe: Tree, *, controls: Sequence[Tree] | None = None, num_controls: int = 5, folds: int = 5,
    ridge: float | None = None, thresholds: Thresholds | None = None, rows: int | None = None, seed: int = 0,
) -> TwoCell:  # fmt: skip
    """Whether two runs compute affinely related representations at matched checkpoints, and not only as any two networks do.

        phi_b,k = A_k phi_a,k + b_k,      r2_k on probe points that were held out,      gain_k = 1 - (1 - r2_k) / (1 - control_k)

    **The control.** Wide networks of one architecture look at the same points: a random one that has learnt nothing predicts a good part of what a
    trained one computes, often with r2 above 0.9. So the same points of b are predicted in the same folds from untrained networks, which know
    all that the architecture and the probe tell but nothing of the training: a's first checkpoint with the entries of each leaf shuffled, so that
    weights are spread as they were at a's start. A relation must close a stated share of what they leave open. The other control, a with its
    points shuffled, is what width alone gives; it is about 0 or less, and tells of folds that leak if it is not. Of the two the better
    counts, fold by fold. A control that is right to rounding (linear networks) leaves the question unresolved.

    Two runs from one start are related there by construction, two from different starts are not, whatever comes later: `since` tells from when on.
    Affine maps hold permutations, so that nothing needs to be aligned. r2 is of the map from a to b; `back` is of the other, and low where a
    knows more than b. Time per checkpoint O(F (n h^2 + h^3)); memory: one checkpoint of each run, and the maps.

    Args:
        features: `(params, probe) -> (n, h)`, as in `representations`.
        a, b: runs of one architecture, checkpoint k of one matched with k of the other; `reparametrise` both by loss or length for other moments.
        probe: fixed points, n of them; at least h + 2 must be left to fit on when a fold is held out (or give a ridge).
        controls: untrained networks, parameter trees of this architecture; None makes them.
        num_controls: how many. The best of few says little of narrow networks, of which some are lucky.
        folds, ridge: as in `affine`.
        thresholds: of the verdict; None for `Thresholds()`.
        rows: as in `representations`.
        seed: of folds and controls.

    Returns:
        `TwoCell`.

    Raises:
        ValueError: runs of other architectures or numbers of checkpoints, one checkpoint only, too few probe points, parameters or
            activations that are not finite, or that are the same for all points.
        TypeError: no paths.

    Example:
        >>> import numpy as np, jax.numpy as jnp, eqdyn as eq
        >>> random = np.random.default_rng(0)
        >>> z, w = (random.standard_normal(shape).astype(np.float32) for shape in [(120, 3), (3, 3, 8)])
        >>> relu = lambda w, z: jnp.maximum(z @ w, 0)
        >>> a = eq.paths.path(w)
        >>> same = eq.paths.two_cell(relu, a, eq.paths.path(w[:, :, ::-1]), z)                           # its units in another order
        >>> other = eq.paths.two_cell(relu, a, eq.paths.path(random.permuted(w, axis=1)), z)
        >>> same.verdict, round(float(same.r2.min()), 6), other.verdict
        ('affinely related', 1.0, 'not related')

    References:
        Categorical Invariants of Learning Dynamics, arXiv:2510.04376 (2-cells between optimizers); Kornblith et al., arXiv:1905.00414.
    """
    limits = _limits(thresholds)
    if not both_paths(a, b, ("a", "b")):
        msg = f"a, b: got two of {type(a).__name__}; expected two paths; write eq.paths.path(checkpoints)."
        raise TypeError(msg)
    one_architecture(a.params, b.params, ("a", "b"), stacked=True)
    if a.num != b.num:
        msg = f"a, b: got paths of {a.num} and {b.num} checkpoints; expected one number; write eq.paths.reparametrise(path, by, num) for both."
        raise ValueError(msg)
    two_at_least(a, "a")
    for run, name in ((a, "a"), (b, "b")):
        _checks.finite(run.params, name)
    ready = Features.of(features, a, probe, rows)
    width = ready.shape[1]
    _checks.fits_budget(8 * a.num * width**2, MEMORY, "two_cell: its maps", "take fewer checkpoints, or features of fewer activations")
    least = max(_NOTHING_LEFT[0], (_NOTHING_LEFT[1] * float(jnp.finfo(ready.dtype).eps)) ** 2)
    random = np.random.default_rng(seed)
    others = [
        Source(rows_of(ready.at(params, name), name), folds, ridge, seed, name)
        for name, params in _untrained(controls, _checks.count(num_controls, "num_controls", least=1), a, random)
    ]
    shuffle = random.permutation(ready.shape[0])
    table: dict[str, list] = {name: [] for name in TwoCell._fields[3:]}
    before: tuple[np.ndarray, np.ndarray] | None = None
    verdicts = []
    for k, (one, other) in enumerate(zip(ready.along(a, "a"), ready.along(b, "b"), strict=True)):
        names = (f"a, at checkpoint {k}", f"b, at checkpoint {k}")
        x, y = pair_of(one, other, names)
        source = Source(x, folds, ridge, seed, "probe")
        r2, each = source.held_out(y, names[1])
        held = [control.held_out(y, names[1]) for control in others]
        shuffled, of_shuffled = source.held_out(y[shuffle], names[1])
        untrained = max(control[0] for control in held)
        gain_folds = _gain(each, np.max([of_shuffled, *(control[1] for control in held)], axis=0), least)
        matrix, offset, weight = source.fit(y)
        found = {
            "r2": r2, "folds": each, "back": Source(y, folds, ridge, seed, "probe").held_out(x, names[0])[0], "untrained": untrained,
            "shuffled": shuffled, "gain": float(_gain(np.array(r2), np.array(max(untrained, shuffled)), least)), "gain_folds": gain_folds,
            "cka": cka(x, y), "cka_unbiased": cka(x, y, unbiased=True), "procrustes": procrustes(x, y), "maps": matrix, "offsets": offset,
            "ridge": weight,
        }  # fmt: skip
        if before is not None:
            (old, seen), change = before, matrix - before[0]
            found["changes"] = np.linalg.norm(change) / np.linalg.norm(old)
            found["changes_seen"] = np.linalg.norm(seen @ change.T) / np.linalg.norm(seen @ old.T)
        before = matrix, x - x.mean(axis=0, keepdims=True)
        verdicts.append(_verdict(each, gain_folds, limits))
        for name, value in found.items():
            table[name].append(value)
    whole = RELATED if set(verdicts) == {RELATED} else UNRELATED if UNRELATED in verdicts else UNRESOLVED
    return TwoCell(whole, tuple(verdicts), limits, **{name: np.asarray(values) for name, values in table.items()})


def _limits(thresholds: Any) -> Thresholds:
    if thresholds is None:
        return Thresholds()
    if not isinstance(thresholds, Thresholds) or not (thresholds.low_r2 <= thresholds.r2 <= 1 and thresholds.low_gain <= thresholds.gain <= 1):
        msg = f"thresholds: got {thresholds!r}; expected low_r2 <= r2 <= 1 and low_gain <= gain <= 1; write eq.paths.Thresholds(r2=0.9, gain=0.5)."
        raise ValueError(msg)
    return thresholds


def _untrained(controls: Any, num: int, a: Path, random: np.random.Generator) -> list[tuple[str, Tree]]:
    """Networks that have learnt nothing, with names for messages."""
    if controls is None:
        shuffled = [jax.tree.map(lambda leaf: random.permutation(leaf.ravel()).reshape(leaf.shape), a.start) for _ in range(num)]
        return [(f"the start of a, with its weights shuffled (control {k})", one) for k, one in enumerate(shuffled)]
    if not isinstance(controls, (list, tuple)) or not controls:
        msg = f"controls: got {type(controls).__name__}; expected a list of one parameter tree or more; write controls=[params]."
        raise ValueError(msg)
    named = [(f"controls[{k}]", params_of(one, f"controls[{k}]")) for k, one in enumerate(controls)]
    for name, one in named:
        one_architecture(row(a.params, 0), one, ("a", name))
    return named


def _gain(r2: np.ndarray, control: np.ndarray, least: float) -> np.ndarray:
    open_ = 1 - control
    return np.where(open_ > least, 1 - (1 - r2) / np.where(open_ > least, open_, 1.0), np.nan)


def _verdict(r2: np.ndarray, gain: np.ndarray, limits: Thresholds) -> str:
    """Of one checkpoint, from its folds; a gain that is not known decides nothing."""
    if np.all((r2 >= limits.r2) & (gain >= limits.gain)):
        return RELATED
    return UNRELATED if np.all((r2 < limits.low_r2) | (gain < limits.low_gain)) else UNRESOLVED
