"""Runs as paths: aligned up to permutations of the neurons, joined by sheets, told apart by the barriers between them."""

from eqdyn.paths._align import Aligned, Matching, align, matching, permuted
from eqdyn.paths._path import Path, compose, from_run, identity, path
from eqdyn.paths._reparametrise import reparametrise

__all__ = [
    "Aligned",
    "Matching",
    "Path",
    "align",
    "compose",
    "from_run",
    "identity",
    "matching",
    "path",
    "permuted",
    "reparametrise",
]
