"""Run folders: a run is saved as it goes, survives the death of its process, and goes on with the same bits.

Nothing in a folder can be called, and no path in it leads out of it; every byte is under a checksum.
"""

from eqdyn.store._files import Damaged
from eqdyn.store._keep import run
from eqdyn.store._load import load
from eqdyn.store._save import save

__all__ = ["Damaged", "load", "run", "save"]
