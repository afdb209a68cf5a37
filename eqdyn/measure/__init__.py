"""Observables: pure functions of configurations and rules, one idea a file.

Each number says whether it is exact, a bound or an estimate.
"""

from eqdyn.measure.closest import Closest, closest
from eqdyn.measure.coincidence import Crossings, Merges, atoms, crossings, merges
from eqdyn.measure.collapse import Collapse, collapse
from eqdyn.measure.equivariance import Equivariance, equivariance
from eqdyn.measure.lifted_constants import InNorm, LiftedConstants, lifted_constants
from eqdyn.measure.lifted_map import LiftedMap, lifted_map
from eqdyn.measure.moment_bounds import MomentBound, adam_bound, heavy_ball_bound
from eqdyn.measure.pairs import pair_constants, pair_terms, stretch
from eqdyn.measure.sharpness import Sharpness, sharpness
from eqdyn.measure.swap import SwapCurvature, Transverse, swap_curvature, transverse
from eqdyn.measure.tracer_folds import FoldEta, Folds, TangentStretch, fold_eta, folds, frozen, tangent_stretch
from eqdyn.measure.tracer_mesh import MeshChange, mesh_change

__all__ = [
    "Closest",
    "Collapse",
    "Crossings",
    "Equivariance",
    "FoldEta",
    "Folds",
    "InNorm",
    "LiftedConstants",
    "LiftedMap",
    "Merges",
    "MeshChange",
    "MomentBound",
    "Sharpness",
    "SwapCurvature",
    "TangentStretch",
    "Transverse",
    "adam_bound",
    "atoms",
    "closest",
    "collapse",
    "crossings",
    "equivariance",
    "fold_eta",
    "folds",
    "frozen",
    "heavy_ball_bound",
    "lifted_constants",
    "lifted_map",
    "merges",
    "mesh_change",
    "pair_constants",
    "pair_terms",
    "sharpness",
    "stretch",
    "swap_curvature",
    "tangent_stretch",
    "transverse",
]
