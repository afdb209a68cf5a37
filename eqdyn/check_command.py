"""The command `python3 -m eqdyn check MODULE:RULE`: the laws on a user's own rule."""

from __future__ import annotations

import html
import importlib
import inspect
import json
import math
import os
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from eqdyn._check import check
from eqdyn._value import parameters
from eqdyn._verdicts import Report
from eqdyn.rule import Rule
from eqdyn.rules import from_function


def find(target: str, option: str) -> Any:
    """The object at MODULE:NAME; NAME may have dots. Modules are looked for in the working directory, too."""
    module, _, name = target.partition(":")
    if not module or not name:
        msg = f"{option}: got {target!r}; expected MODULE:NAME; write my_rules:swarm for `swarm` in my_rules.py."
        raise ValueError(msg)
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    found = importlib.import_module(module.removesuffix(".py").replace("/", "."))
    for part in name.split("."):
        if not hasattr(found, part):
            names = ", ".join(sorted(n for n in vars(found) if not n.startswith("_"))) if hasattr(found, "__dict__") else ""
            msg = f"{option}: got {target!r}, but there is no {part!r}; expected one of: {names}."
            raise ValueError(msg)
        found = getattr(found, part)
    return found


def as_rule(found: Any, target: str) -> Rule:
    """A `Rule` as it is, one from a function without arguments, or from a plain function x -> u."""
    if isinstance(found, Rule):
        return found
    if not callable(found):
        msg = f"{target}: got {type(found).__name__}; expected an eq.Rule, a function that makes one, or a function x -> u."
        raise TypeError(msg)
    open_ones = parameters(found)
    # a builtin that does not tell is taken as a function of x
    takes_x = open_ones is None or any(p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in open_ones)
    made = found if takes_x else found()
    if not callable(made) and not isinstance(made, Rule):
        msg = f"{target}: got a function without arguments that makes {type(made).__name__}; expected one that makes an eq.Rule."
        raise TypeError(msg)
    return made if isinstance(made, Rule) else from_function(made)


def check_command(
    target: str, *, x: str | None, data: str | None, group: str | None, num: int, dim: int, num_draws: int, seed: int,
    eta: float | None, K: float | None, float64: bool, out: Path | None,
) -> Report:  # fmt: skip
    """Check the rule at MODULE:RULE, print the report and, with `out`, write `summary.json` and `laws.html`."""
    if float64:
        jax.config.update("jax_enable_x64", float64)
    rule = as_rule(find(target, "MODULE:RULE"), target)

    def given(name: str | None, option: str) -> Any:
        found = None if name is None else find(name, option)
        return found() if inspect.isfunction(found) else found

    of_start, of_draws = jax.random.split(jax.random.key(seed))
    start = given(x, "--x")
    if start is None:
        start = jax.random.normal(of_start, (num, dim), jnp.float64 if float64 else jnp.float32)
    report = check(rule, start, data=given(data, "--data"), eta=eta, K=K, group=given(group, "--group"), num_draws=num_draws, key=of_draws)
    print(report)
    failed = [(name, law) for name, law in report.rows() if law.verdict == "fails"]
    for name, law in failed:
        print(f"{name} fails at draw {law.replay.draw} of seed {seed}: error {law.error:.2g}, where rounding allows {law.tolerance:.2g}.")
    print(f"{target}: {len(failed)} of {len(report.laws)} laws fail." if failed else f"{target}: no law fails.")
    if out is not None:
        write(out, target, report)
    return report


def _number(value: Any) -> Any:
    """JSON has no NaN."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write(out: Path, target: str, report: Report) -> None:
    out.mkdir(parents=True, exist_ok=True)
    flat = {f"{law}/{name}": _number(value) for law, row in report.to_dict().items() for name, value in row.items()}
    facts = {"rule": target, "holds": report.holds, "num_draws": report.num_draws, "dtype": report.dtype, "jax": jax.__version__}
    (out / "summary.json").write_text(json.dumps(facts | flat, indent=1, allow_nan=False) + "\n")
    page = f"<!doctype html><meta charset=utf-8><title>{html.escape(target)}</title><h1>{html.escape(target)}</h1>{report._repr_html_()}\n"
    (out / "laws.html").write_text(page)
