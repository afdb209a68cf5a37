"""Runs as paths: aligned up to permutations of the neurons, joined by sheets, told apart by the barriers between them; transfer."""

from eqdyn.paths._align import Aligned, Matching, align, matching, permuted
from eqdyn.paths._area import Area, area, sheet
from eqdyn.paths._barrier import Barrier, barrier, barriers
from eqdyn.paths._classes import Dendrogram, classes
from eqdyn.paths._contrast import Contrast, contrast
from eqdyn.paths._elastic import Elastic
from eqdyn.paths._minimum import Persistence, ball, merge_tree, planes
from eqdyn.paths._path import Path, compose, from_run, identity, path
from eqdyn.paths._reparametrise import reparametrise
from eqdyn.paths._transfer import Budget, Transfer, transfer
from eqdyn.paths._transport import Transport, transport

__all__ = [
    "Aligned",
    "Area",
    "Barrier",
    "Budget",
    "Contrast",
    "Dendrogram",
    "Elastic",
    "Matching",
    "Path",
    "Persistence",
    "Transfer",
    "Transport",
    "align",
    "area",
    "ball",
    "barrier",
    "barriers",
    "classes",
    "compose",
    "contrast",
    "from_run",
    "identity",
    "matching",
    "merge_tree",
    "path",
    "permuted",
    "planes",
    "reparametrise",
    "sheet",
    "transfer",
    "transport",
]
