"""Observables: pure functions of configurations and rules, one idea a file.

Each number says whether it is exact, a bound or an estimate.
"""

from eqdyn.measure.coincidence import Merges, atoms, merges
from eqdyn.measure.equivariance import Equivariance, equivariance
from eqdyn.measure.pairs import pair_constants, pair_terms, stretch
from eqdyn.measure.sharpness import Sharpness, sharpness

__all__ = ["Equivariance", "Merges", "Sharpness", "atoms", "equivariance", "merges", "pair_constants", "pair_terms", "sharpness", "stretch"]
