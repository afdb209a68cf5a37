"""eqdyn: permutation-equivariant particle dynamics on JAX, and the topology that training keeps or breaks.

Particles are neurons, a rule U moves them, x' = x + eta * U(x). Everything is a function on arrays and pytrees; every number
says whether it is exact, a bound or an estimate.
"""

from typing import TYPE_CHECKING, Any

from eqdyn import data, field, geometry, groups, laws, linalg, measure, networks, observe, observer, parallel, rules, shapes, topology, transverse
from eqdyn._certify import Certificate, certify
from eqdyn._check import assert_lawful, check
from eqdyn._chunk import compile_count
from eqdyn._compare import Comparison, compare
from eqdyn._controls import Control, controls
from eqdyn._critical import Constant, Critical, critical
from eqdyn._guard import GuardState, guard
from eqdyn._run import Interrupted, Run
from eqdyn._simulate import simulate
from eqdyn._types import Weighted
from eqdyn._value import bind
from eqdyn._verdicts import Law, Replay, Report
from eqdyn.data import Batches
from eqdyn.groups import Group
from eqdyn.observer import Frame, Observer
from eqdyn.rule import Rule, Update, lifted, step

if TYPE_CHECKING:
    from eqdyn import store
    from eqdyn._sweep import forecast, sweep
    from eqdyn._sweeps.cell import kept
    from eqdyn._sweeps.forecast import Forecast
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
    "rules",
    "shapes",
    "simulate",
    "step",
    "store",
    "sweep",
    "topology",
    "transverse",
]


_WHEN_USED = {
    "store": "eqdyn.store",
    "load": "eqdyn.store",
    "sweep": "eqdyn._sweep",
    "forecast": "eqdyn._sweep",
    "kept": "eqdyn._sweeps.cell",
    "Forecast": "eqdyn._sweeps.forecast",
}


def __getattr__(name: str) -> Any:
    """Run folders and sweeps are loaded when they are used."""
    if name not in _WHEN_USED:
        msg = f"module 'eqdyn' has no attribute {name!r}"
        raise AttributeError(msg)
    from importlib import import_module

    room = import_module(_WHEN_USED[name])
    return room if name == "store" else getattr(room, name)
