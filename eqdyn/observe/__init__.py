"""Observers made of measures: what to watch along a run.

Each records every `stride` steps and is read as a `Series` of `.steps` and `.values`.
"""

from eqdyn.observe.along import atoms, configuration, merges, pair_constants, sharpness, stretch

__all__ = ["atoms", "configuration", "merges", "pair_constants", "sharpness", "stretch"]
