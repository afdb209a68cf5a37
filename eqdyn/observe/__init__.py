"""Observers made of measures: what to watch along a run.

Each records every `stride` steps and is read as a `Series` of `.steps` and `.values`; `lyapunov` and `density`, which sum up over
every step, as records that hold one. `betti` and `persistence` are read beside the run.
"""

from eqdyn.observe.along import atoms, configuration, merges, pair_constants, sharpness, stretch
from eqdyn.observe.closest import Approach, closest
from eqdyn.observe.curve import tracer_curve
from eqdyn.observe.density import density
from eqdyn.observe.exponents import lyapunov
from eqdyn.observe.ledger import Ledger, certificate
from eqdyn.observe.readings import betti, persistence
from eqdyn.observe.regime import Regime, regime
from eqdyn.observe.swap import transverse

__all__ = [
    "Approach",
    "Ledger",
    "Regime",
    "atoms",
    "betti",
    "certificate",
    "closest",
    "configuration",
    "density",
    "lyapunov",
    "merges",
    "pair_constants",
    "persistence",
    "regime",
    "sharpness",
    "stretch",
    "tracer_curve",
    "transverse",
]
