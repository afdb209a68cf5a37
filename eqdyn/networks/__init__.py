"""Real networks: models whose neurons are the particles. Their groups are found by tracing and verified by permuting."""

from eqdyn.networks import adapters, two_layer
from eqdyn.networks._compress import Compression, compress, effective_width
from eqdyn.networks._find import Fixed, Groups, Verification, find_groups, verify
from eqdyn.networks.monitor import Monitor

__all__ = [
    "Compression",
    "Fixed",
    "Groups",
    "Monitor",
    "Verification",
    "adapters",
    "compress",
    "effective_width",
    "find_groups",
    "two_layer",
    "verify",
]
