"""What comes of a check: verdicts, the draw behind each, and the report that shows them as text, dict or HTML."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from eqdyn._types import Key, Tree
from eqdyn.laws import Residual

_ORDER = ("unresolved", "fails", "not refuted", "holds")


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
        """Error, tolerance and bound of this law at this draw, computed anew."""
        return self._run()


class Law(NamedTuple):
    """What came of a law.

    Fields:
        verdict: "fails", with a draw that shows it; "holds", at every draw up to rounding; "not refuted", where the statement is of
            all configurations and no draw speaks against it; "unresolved", where rounding is too coarse to tell, U is not finite,
            or what the statement needs (a K, an eta) was not declared. A sample never proves a law for all configurations.
        error: at the worst draw, no unit.
        tolerance: what rounding may do at that draw; an error above it refutes the law.
        replay: the worst draw.
        bound: P2-K and P2': a lower bound of the constant, 1/[eta]; lifted invertibility: 1 over the smallest eta found to fold,
            1/[eta], 0 for none; else None.
        note: the bound in words.
    """

    verdict: str
    error: float
    tolerance: float
    replay: Replay
    bound: float | None = None
    note: str = ""


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
        return sorted(self.laws.items(), key=lambda item: _ORDER.index(item[1].verdict))

    def to_dict(self) -> dict[str, Any]:
        """`{"P1": {"verdict": ..., "error": ..., "tolerance": ..., "bound": ..., "draw": ...}, ...}`."""
        return {
            name: {"verdict": law.verdict, "error": law.error, "tolerance": law.tolerance, "bound": law.bound, "draw": law.replay.draw}
            for name, law in self.laws.items()
        }

    def __str__(self) -> str:
        width = max(len(name) for name in self.laws)
        lines = [f"{'law':<{width}}  verdict      error     tolerance  ({self.num_draws} draws, {self.dtype})"]
        for name, law in self.rows():
            lines.append(f"{name:<{width}}  {law.verdict:<11}  {law.error:<8.2g}  {law.tolerance:<9.2g}  {law.note}".rstrip())
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        cells = [(name, law.verdict, f"{law.error:.2g}", f"{law.tolerance:.2g}", law.note) for name, law in self.rows()]
        body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in cells)
        head = "".join(f"<th>{name}</th>" for name in ("law", "verdict", "error", "tolerance", "note"))
        return f"<table><caption>{self.num_draws} draws, {self.dtype}</caption><tr>{head}</tr>{body}</table>"
