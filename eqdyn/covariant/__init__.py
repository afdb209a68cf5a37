"""Noise and metric: optimizers whose metric is a power of the gradient noise, g ~ kappa^alpha, and the meter that reads alpha off a run."""

from eqdyn.covariant import bowl, interpolation
from eqdyn.covariant._descent import DescentState, descent
from eqdyn._exponent import Exponent, exponent
from eqdyn.covariant._fokker_planck import Density, fokker_planck

__all__ = ["Density", "DescentState", "Exponent", "bowl", "descent", "exponent", "fokker_planck", "interpolation"]
