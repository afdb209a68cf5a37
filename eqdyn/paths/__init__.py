"""Runs as paths: aligned up to permutations of the neurons, joined by sheets, told apart by barriers, compared by what they compute."""

from eqdyn.paths._align import Aligned, Matching, align, matching, permuted
from eqdyn.paths._area import Area, area, sheet
from eqdyn.paths._average import Average, average
from eqdyn.paths._barrier import Barrier, barrier, barriers
from eqdyn.paths._classes import Dendrogram, classes
from eqdyn.paths._contrast import Contrast, contrast
from eqdyn.paths._elastic import Elastic
from eqdyn.paths._length import Length, length
from eqdyn.paths._minimum import Persistence, ball, merge_tree, planes
from eqdyn.paths._path import Path, compose, from_run, identity, path
from eqdyn.paths._predicts import Prediction, predicts
from eqdyn.paths._relate import Affine, affine
from eqdyn.paths._reparametrise import reparametrise
from eqdyn.paths._represent import Violations, representations, violation_rate
from eqdyn.paths._shared import Shared, shared_representation
from eqdyn.paths._similar import cka, procrustes
from eqdyn.paths._transfer import Budget, Transfer, transfer
from eqdyn.paths._transport import Transport, transport
from eqdyn.paths._two_cell import Thresholds, TwoCell, two_cell

__all__ = [
    "Affine",
    "Aligned",
    "Area",
    "Average",
    "Barrier",
    "Budget",
    "Contrast",
    "Dendrogram",
    "Elastic",
    "Length",
    "Matching",
    "Path",
    "Persistence",
    "Prediction",
    "Shared",
    "Thresholds",
    "Transfer",
    "Transport",
    "TwoCell",
    "Violations",
    "affine",
    "align",
    "area",
    "average",
    "ball",
    "barrier",
    "barriers",
    "cka",
    "classes",
    "compose",
    "contrast",
    "from_run",
    "identity",
    "length",
    "matching",
    "merge_tree",
    "path",
    "permuted",
    "planes",
    "predicts",
    "procrustes",
    "reparametrise",
    "representations",
    "shared_representation",
    "sheet",
    "transfer",
    "transport",
    "two_cell",
    "violation_rate",
]
