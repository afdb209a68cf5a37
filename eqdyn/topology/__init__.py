"""Betti numbers of configurations. The only room that knows ripser."""

from eqdyn.topology._betti import betti, betti_of_distances

__all__ = ["betti", "betti_of_distances"]
