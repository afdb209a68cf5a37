"""Noise and metric: optimizers whose metric is a power of the gradient noise, g ~ kappa^alpha, and the meter that reads alpha off a run."""

from eqdyn._exponent import Exponent, exponent
from eqdyn.covariant import bowl, interpolation, wright_fisher
from eqdyn.covariant._coordinates import coordinates, in_metric, metric
from eqdyn.covariant._descent import DescentState, descent
from eqdyn.covariant._ensemble import Madelung, madelung
from eqdyn.covariant._fokker_planck import Density, fokker_planck
from eqdyn.covariant._of_metric import metric_exponent
from eqdyn.covariant._rule import rule
from eqdyn.covariant._sphericity import Sphericity, sphericity

__all__ = [
    "Density",
    "DescentState",
    "Exponent",
    "Madelung",
    "Sphericity",
    "bowl",
    "coordinates",
    "descent",
    "exponent",
    "fokker_planck",
    "in_metric",
    "interpolation",
    "madelung",
    "metric",
    "metric_exponent",
    "rule",
    "sphericity",
    "wright_fisher",
]
