"""The job `python3 -m eqdyn reproduce NAME`: figures, tables and verdicts of the paper's experiments."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from eqdyn import plot
from eqdyn.reproduce import _low, _mnist, _pictures
from eqdyn.reproduce._experiment import RATES, Experiment, load
from eqdyn.reproduce._experiment import names as figures
from eqdyn.reproduce._outcome import Outcome

_TABLE = ("fig3", "fig4", "fig9", "fig10", "fig7", "fig8")  # the rows of table 1


def names() -> list[str]:
    """What can be reproduced, in the order of the paper."""
    return ["table1", *figures(), "all"]


def reproduce(name: str | Sequence[str], out: Path, *, seeds: int | None = None, quick: bool = False, progress: bool = True) -> dict[str, Any]:
    """Run an experiment of the paper (arXiv:2510.02670) and write its figure, a CSV, and what the certificates say of each run.

    Args:
        name: one of `names()`, or several, which share the runs that they show.
        out: folder for `NAME.png`, `NAME.csv`, for MNIST `NAME_epochs.csv`, in space also `NAME.html`, and `summary.json`.
        seeds: how many, from 0; by default as many as the paper has.
        quick: few neurons and epochs, and scikit-learn's digits in place of MNIST: shows that it works, figures are not to be quoted.
        progress: bars on stderr.

    Returns:
        The summary, flat: `NAME/seedS/RATE/FIELD` with the fields of an outcome, and `seconds`.

    Raises:
        ValueError: no such name. FileNotFoundError: MNIST is wanted, and `EQDYN_DATA` does not lead there.
    """
    began = time.perf_counter()
    given = [name] if isinstance(name, str) else list(name)
    for one in given:
        if one not in names():
            load(one)  # says which there are
    several = {"all": figures(), "table1": list(_TABLE)}
    wanted = dict.fromkeys(figure for one in given for figure in several.get(one, [one]))
    out.mkdir(parents=True, exist_ok=True)
    session = _Session(out, seeds, quick, progress)
    for one in wanted:
        session.figure(load(one))
    if {"table1", "all"} & set(given):
        session.table()
    summary = session.summary | {"quick": quick, "jax": jax.__version__, "seconds": round(time.perf_counter() - began, 1)}
    (out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    return summary


class _Session:
    """Runs are kept, so that figures that share them do not repeat them."""

    def __init__(self, out: Path, seeds: int | None, quick: bool, progress: bool):
        self.out, self.seeds, self.quick, self.progress = out, seeds, quick, progress
        self.summary: dict[str, Any] = {}
        self._mnist: dict[tuple, list[_mnist.MnistRun]] = {}
        self._split: Any = None
        self._outcomes: dict[str, list[Outcome]] = {}

    def figure(self, experiment: Experiment) -> None:
        print(f"\n{experiment.figure}: {experiment.title}. The paper: {experiment.shows}.", flush=True)
        for key in sorted(set(experiment.paper) | set(experiment.code)):
            print(f"  {key}: the paper has {experiment.paper.get(key, 'nothing')}; its code {experiment.code.get(key, 'the same')}")
        outcomes = self._network(experiment) if experiment.network == "mnist" else self._plane_or_space(experiment)
        self._outcomes[experiment.name] = outcomes
        self._csv(f"{experiment.name}.csv", [outcome.row() for outcome in outcomes])
        for outcome in outcomes:
            row = outcome.row()
            self.summary |= {f"{experiment.name}/seed{outcome.seed}/{outcome.rate}/{key}": _plain(value) for key, value in row.items()}

    def _count(self, experiment: Experiment) -> int:
        return self.seeds if self.seeds is not None else 1 if self.quick else experiment.seeds

    def _plane_or_space(self, experiment: Experiment) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for seed in range(self._count(experiment)):
            found = _low.run(experiment, seed, quick=self.quick, progress=self.progress)
            self._say(experiment, found.outcomes)
            outcomes += found.outcomes
            if seed == 0:
                self._picture(experiment, found)
        return outcomes

    def _picture(self, experiment: Experiment, found: _low.LowRun) -> None:
        clouds = {"start": found.start} | {_panel(outcome): found.ends[outcome.rate] for outcome in found.outcomes if outcome.status == "ok"}
        title = f"{experiment.figure}, {experiment.title}\n{_in_short(found.outcomes)}"
        if experiment.network == "2d":
            plot.save(plot.configurations(clouds, title=title), self.out / f"{experiment.name}.png")
        else:
            plot.save(_pictures.in_space(clouds, title=title), self.out / f"{experiment.name}.png")
            lines = [outcome.words(experiment.shows) for outcome in found.outcomes]
            _pictures.page(self.out / f"{experiment.name}.html", clouds, title=title, lines=lines)

    def _network(self, experiment: Experiment) -> list[Outcome]:
        runs = {rate: self._mnist_runs(experiment, rate) for rate in RATES}
        outcomes = [run.outcome for rate in RATES for run in runs[rate]]
        betti = {rate: np.stack([run.betti for run in runs[rate]]) for rate in RATES}
        names = {rate: f"{rate} step {experiment.rates[rate]:g}, {_gained(runs[rate])}" for rate in RATES}
        title = f"{experiment.figure}, {experiment.title}\n{_in_short(outcomes)}"
        if experiment.sharpness:
            columns = {names[rate]: (betti[rate], np.stack([run.inverse_k for run in runs[rate]]), experiment.rates[rate]) for rate in RATES}
            fig = _pictures.betti_and_sharpness(columns, title=title)
        else:
            fig = _pictures.betti_curves(betti["large"], betti["small"], title=title, names=(names["large"], names["small"]))
        plot.save(fig, self.out / f"{experiment.name}.png")
        self._csv(f"{experiment.name}_epochs.csv", list(_epochs(runs)))
        return outcomes

    def _mnist_runs(self, experiment: Experiment, rate: str) -> list[_mnist.MnistRun]:
        # figures 11 and 12 show the same runs: the sharpness is read for both
        key = (experiment.optimizer, rate, experiment.rates[rate], experiment.epochs[rate], self._count(experiment))
        if key not in self._mnist:
            self._split = _mnist.inputs(quick=self.quick) if self._split is None else self._split
            self._mnist[key] = []
            for seed in range(self._count(experiment)):
                sharp = experiment.optimizer == "adam"
                done = _mnist.run(experiment, rate, seed, self._split, sharpness=sharp, quick=self.quick, progress=self.progress)
                self._say(experiment, [done.outcome])
                self._mnist[key].append(done)
        return self._mnist[key]

    def _say(self, experiment: Experiment, outcomes: Iterable[Outcome]) -> None:
        for outcome in outcomes:
            print(f"  {outcome.words(experiment.shows)}.", flush=True)

    def table(self) -> None:
        """Table 1, the step sizes, with what the constants say of each."""
        rows = []
        for name in _TABLE:
            experiment = load(name)
            first = [outcome for outcome in self._outcomes[name] if outcome.seed == 0]
            row: dict[str, Any] = {"optimizer": experiment.optimizer, "network": experiment.network.upper()}
            for outcome in first:
                row |= {
                    f"{outcome.rate} step": outcome.eta,
                    f"{outcome.rate}: eta*lambda_max at start": outcome.eta_lambda_max,
                    f"{outcome.rate}: largest eta*K_pair": outcome.max_eta_k_pair,
                    f"{outcome.rate}: merged": outcome.merged,
                }
            rows.append(row | {"paper's print": experiment.paper.get("large", ""), "code": experiment.code.get("rates", "")})
        self._csv("table1.csv", rows)
        print("\nTable 1: step sizes, and what the constants say of them")
        for row in rows:
            print(
                "  " + "; ".join(f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items() if value != "")
            )

    def _csv(self, name: str, rows: list[dict[str, Any]]) -> None:
        columns = list(dict.fromkeys(key for row in rows for key in row))
        with (self.out / name).open("w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)


def _panel(outcome: Outcome) -> str:
    found = outcome.curve.replace("curve, ", "curve\n") or f"(b0, b1, b2) = {outcome.betti_end} at diameter/4"
    return f"{outcome.rate} step {outcome.eta:g}\nlargest eta*K_pair {outcome.max_eta_k_pair:.3g}\n{found}"


def _in_short(outcomes: Iterable[Outcome]) -> str:
    """What was found, for a title."""
    words = []
    for rate in RATES:
        held = [outcome for outcome in outcomes if outcome.rate == rate]
        could, merged = sum(outcome.could_merge for outcome in held), sum(outcome.merged for outcome in held)
        seen = sum(outcome.seen for outcome in held)
        words.append(f"{rate} step: {'all' if not could else f'all but {could} of'} {seen:,} steps seen certified, {merged or 'nobody'} merged")
    return "\n".join(words)


def _gained(runs: list[_mnist.MnistRun]) -> str:
    return f"test accuracy {np.mean([run.outcome.accuracy for run in runs]):.3f}"


def _epochs(runs: dict[str, list[_mnist.MnistRun]]) -> Iterable[dict[str, Any]]:
    for rate, held in runs.items():
        for run in held:
            for epoch, (betti, inverse) in enumerate(zip(run.betti.tolist(), run.inverse_k.tolist(), strict=True)):
                yield {
                    "rate": rate, "seed": run.outcome.seed, "epoch": epoch, "b0": betti[0], "b1": betti[1], "b2": betti[2], "1/lambda_max": inverse,
                }  # fmt: skip


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not np.isfinite(value) else value
