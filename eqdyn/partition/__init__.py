"""The cells into which a piecewise linear network cuts its input space, and what can be measured of them."""

from eqdyn.partition._along import Along, along
from eqdyn.partition._build import build
from eqdyn.partition._complex import Complex, complex_of, gram
from eqdyn.partition._curvature import AngleDefect, angle_defect, volume_growth
from eqdyn.partition._diagnosis import Diagnosis, diagnose, of_cells
from eqdyn.partition._local import Local, local, nearest_by_crossed
from eqdyn.partition._metric import Balls, Ridges, chebyshev, mean_curvature, pieces, ridges
from eqdyn.partition._network import Rows
from eqdyn.partition._one_ring import OneRing, one_ring
from eqdyn.partition._partition import Cell, Partition, Walls
from eqdyn.partition._pullback import Pullback, halfspaces, pullback
from eqdyn.partition._ricci import ricci_forman, ricci_ollivier, ricci_ollivier_points
from eqdyn.partition._sampling import Sampled, hit_and_run
from eqdyn.partition._spline import Spline, smooth, spline
from eqdyn.partition.regularisers import bending, mass_balance, sharp_angles, small_cells

__all__ = [
    "Along",
    "AngleDefect",
    "Balls",
    "Cell",
    "Complex",
    "Diagnosis",
    "Local",
    "OneRing",
    "Partition",
    "Pullback",
    "Ridges",
    "Rows",
    "Sampled",
    "Spline",
    "Walls",
    "along",
    "angle_defect",
    "bending",
    "build",
    "chebyshev",
    "complex_of",
    "diagnose",
    "gram",
    "halfspaces",
    "hit_and_run",
    "local",
    "mass_balance",
    "mean_curvature",
    "nearest_by_crossed",
    "of_cells",
    "one_ring",
    "pieces",
    "pullback",
    "ricci_forman",
    "ricci_ollivier",
    "ricci_ollivier_points",
    "ridges",
    "sharp_angles",
    "small_cells",
    "smooth",
    "spline",
    "volume_growth",
]
