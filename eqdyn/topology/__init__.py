"""Topology of configurations: Betti numbers at a scale, persistence diagrams, and what a stretch must leave of them.

The only room that knows ripser and GUDHI.
"""

from eqdyn.topology._batch import betti_along
from eqdyn.topology._betti import betti, betti_of_distances
from eqdyn.topology._certified import CertifiedBars, betti_bound, certified_bars, log_bottleneck_bound, persistent_betti
from eqdyn.topology._change import Change, DegreeChange, change
from eqdyn.topology._diagram import Diagram
from eqdyn.topology._distance import distance
from eqdyn.topology._mesh import MeshBetti, mesh_betti
from eqdyn.topology._paper import paper_recipe
from eqdyn.topology._persistence import forecast, persistence, persistence_of_distances
from eqdyn.topology._scales import LocalScale, NeighbourScale
from eqdyn.topology._sublevel import Sublevels, sublevel_graph, sublevel_grid

__all__ = [
    "CertifiedBars",
    "Change",
    "DegreeChange",
    "Diagram",
    "LocalScale",
    "MeshBetti",
    "NeighbourScale",
    "Sublevels",
    "betti",
    "betti_along",
    "betti_bound",
    "betti_of_distances",
    "certified_bars",
    "change",
    "distance",
    "forecast",
    "log_bottleneck_bound",
    "mesh_betti",
    "paper_recipe",
    "persistence",
    "persistence_of_distances",
    "persistent_betti",
    "sublevel_graph",
    "sublevel_grid",
]
