"""The cells into which a piecewise linear network cuts its input space, and what can be measured of them."""

from eqdyn.partition._build import Partition, Walls, build
from eqdyn.partition.regularisers import bending, mass_balance, sharp_angles, small_cells

__all__ = ["Partition", "Walls", "bending", "build", "mass_balance", "sharp_angles", "small_cells"]
