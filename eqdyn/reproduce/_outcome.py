"""What is said of one run: a row of the CSV, and a verdict in words."""

from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Outcome:
    """One run of an experiment.

    Fields:
        experiment, seed, rate, eta: which.
        status: "ok", or how it ended.
        steps, seen, could_merge: steps made; looked at, over all pairs; and not certified among these.
        max_eta_k_pair, max_eta_mu: the largest `eta*K_pair` and `eta*mu` of the steps seen; no unit. One of them below 1 certifies a step.
        merged: particles that the steps seen made one.
        stretch_low, stretch_high: of all distances, from start to end; no unit.
        eta_lambda_max: `eta` times the top eigenvalue of the Hessian at the start: the paper's criterion.
        betti_start, betti_end: at a quarter of the diameter, the paper's scale.
        verdicts: of each Betti number, with reasons.
        loss_start, loss_end, accuracy: on training data; share of the test set, NaN where there is none.
        curve: what became of the curve that the neurons lie on, carried along by tracers, in the plane.
    """

    experiment: str
    seed: int
    rate: str
    eta: float
    status: str
    steps: int
    seen: int
    could_merge: int
    max_eta_k_pair: float
    max_eta_mu: float
    merged: int
    stretch_low: float
    stretch_high: float
    eta_lambda_max: float
    betti_start: tuple[int, ...]
    betti_end: tuple[int, ...]
    verdicts: tuple[str, ...]
    loss_start: float
    loss_end: float
    accuracy: float
    curve: str = ""

    def row(self) -> dict[str, Any]:
        """Flat, for CSV and JSON."""
        out = {key: value for key, value in dataclasses.asdict(self).items() if not isinstance(value, tuple)}
        for k, (first, last) in enumerate(zip(self.betti_start, self.betti_end, strict=True)):
            out |= {f"b{k}_start": first, f"b{k}_end": last, f"b{k}_verdict": self.verdicts[k] if k < len(self.verdicts) else ""}
        return out

    def words(self, shows: str) -> str:
        """The verdict line: what the paper shows, what the constants say, what became of the topology."""
        merge = f"{self.merged} merged" if self.merged else "nobody merged"
        largest = f"eta*K_pair {self.max_eta_k_pair:.3g}" + (f", eta*mu {self.max_eta_mu:.3g}" if self.max_eta_k_pair >= 1 else "")
        if self.status != "ok":
            constants = f"ended {self.status}"
        elif not self.could_merge:
            constants = f"every step seen ({self.seen} of {self.steps}) is certified injective, largest {largest}"
        else:
            constants = f"{self.could_merge} of {self.seen} steps seen could have merged neurons, largest {largest}; {merge}"
        numbers = zip(self.betti_start, self.betti_end, self.verdicts, strict=False)  # no verdicts where the run ended early
        changed = [f"b{k} {a} -> {b}: {verdict}" for k, (a, b, verdict) in enumerate(numbers) if a != b]
        topology = "; ".join(changed) or ("" if self.status != "ok" else f"Betti numbers {self.betti_start} as at the start")
        said = "; ".join(filter(None, (constants, topology and f"at diameter/4 {topology}", self.curve and f"the neurons' curve: {self.curve}")))
        return (
            f"seed {self.seed}, {self.rate} step {self.eta:g} (eta*lambda_max {self.eta_lambda_max:.3g} at the start): {said}; "
            f"distances {self.stretch_low:.3g} to {self.stretch_high:.3g} times the first. The paper: {shows}"
        )
