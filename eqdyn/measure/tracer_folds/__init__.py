"""Folds of the step map of tracers, `y' = y + eta * v(y)`, field and batch frozen: where it turns over, and at which eta.

From the Jacobian of v at points and along meshes; what happened to a mesh that has moved says `mesh_change`.
"""

from eqdyn.measure.tracer_folds.along import TangentStretch, tangent_stretch
from eqdyn.measure.tracer_folds.first import FoldEta, fold_eta
from eqdyn.measure.tracer_folds.points import Folds, folds
from eqdyn.measure.tracer_folds.velocity import frozen

__all__ = ["FoldEta", "Folds", "TangentStretch", "fold_eta", "folds", "frozen", "tangent_stretch"]
