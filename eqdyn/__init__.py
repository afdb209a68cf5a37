"""eqdyn: permutation-equivariant particle dynamics on JAX, and the topology that training keeps or breaks.

Particles are neurons, a rule U moves them, x' = x + eta * U(x). Everything is a function on arrays and pytrees; every number
says whether it is exact, a bound or an estimate.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eqdyn import (
        covariant,
        data,
        field,
        geometry,
        groups,
        laws,
        linalg,
        measure,
        networks,
        observe,
        observer,
        parallel,
        partition,
        paths,
        rules,
        shapes,
        store,
        topology,
        transverse,
    )
    from eqdyn._certify import Certificate, certify
    from eqdyn._check import assert_lawful, check
    from eqdyn._chunk import compile_count
    from eqdyn._compare import Comparison, compare
    from eqdyn._controls import Control, controls
    from eqdyn._critical import Constant, Critical, critical
    from eqdyn._guard import GuardState, guard
    from eqdyn._run import Interrupted, Run
    from eqdyn._simulate import simulate
    from eqdyn._sweep import forecast, sweep
    from eqdyn._sweeps.cell import kept
    from eqdyn._sweeps.forecast import Forecast
    from eqdyn._types import Weighted
    from eqdyn._value import bind
    from eqdyn._verdicts import Law, Replay, Report
    from eqdyn.data import Batches
    from eqdyn.groups import Group
    from eqdyn.observer import Frame, Observer
    from eqdyn.rule import Rule, Update, lifted, step
    from eqdyn.store import load

__version__ = "0.1.0"

__all__ = [
    "Batches",
    "Certificate",
    "Comparison",
    "Constant",
    "Control",
    "Critical",
    "Forecast",
    "Frame",
    "Group",
    "GuardState",
    "Interrupted",
    "Law",
    "Observer",
    "Replay",
    "Report",
    "Rule",
    "Run",
    "Update",
    "Weighted",
    "assert_lawful",
    "bind",
    "certify",
    "check",
    "compare",
    "compile_count",
    "controls",
    "covariant",
    "critical",
    "data",
    "field",
    "forecast",
    "geometry",
    "groups",
    "guard",
    "kept",
    "laws",
    "lifted",
    "linalg",
    "load",
    "measure",
    "networks",
    "observe",
    "observer",
    "parallel",
    "partition",
    "paths",
    "rules",
    "shapes",
    "simulate",
    "step",
    "store",
    "sweep",
    "topology",
    "transverse",
]


_ROOMS = {
    "covariant", "data", "field", "geometry", "groups", "laws", "linalg", "measure", "networks", "observe", "observer", "parallel", "partition",
    "paths", "rules", "shapes", "store", "topology", "transverse",
}  # fmt: skip
_HOMES = {
    "_certify": ("Certificate", "certify"),
    "_check": ("assert_lawful", "check"),
    "_chunk": ("compile_count",),
    "_compare": ("Comparison", "compare"),
    "_controls": ("Control", "controls"),
    "_critical": ("Constant", "Critical", "critical"),
    "_guard": ("GuardState", "guard"),
    "_run": ("Interrupted", "Run"),
    "_simulate": ("simulate",),
    "_sweep": ("forecast", "sweep"),
    "_sweeps.cell": ("kept",),
    "_sweeps.forecast": ("Forecast",),
    "_types": ("Weighted",),
    "_value": ("bind",),
    "_verdicts": ("Law", "Replay", "Report"),
    "data": ("Batches",),
    "groups": ("Group",),
    "observer": ("Frame", "Observer"),
    "rule": ("Rule", "Update", "lifted", "step"),
    "store": ("load",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """What a script does not use is not loaded."""
    from importlib import import_module

    if name in _ROOMS:
        return import_module(f"eqdyn.{name}")
    if name not in _HOME:
        msg = f"module 'eqdyn' has no attribute {name!r}"
        raise AttributeError(msg)
    value = globals()[name] = getattr(import_module(f"eqdyn.{_HOME[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
