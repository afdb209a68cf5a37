"""Real networks: models whose neurons are the particles."""

from eqdyn.networks import two_layer

__all__ = ["two_layer"]
