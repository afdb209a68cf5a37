"""The cells into which a piecewise linear network cuts its input space, and what can be measured of them."""

from eqdyn.partition._build import Partition, Walls, build
from eqdyn.partition._ricci import ricci_forman, ricci_ollivier, ricci_ollivier_points

__all__ = ["Partition", "Walls", "build", "ricci_forman", "ricci_ollivier", "ricci_ollivier_points"]
