"""The cells into which a piecewise linear network cuts its input space, and what can be measured of them."""

from eqdyn.partition._build import Partition, Walls, build

__all__ = ["Partition", "Walls", "build"]
