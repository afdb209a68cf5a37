"""Real networks: models whose neurons are the particles. Their groups are found by tracing and verified by permuting."""

from eqdyn.networks import two_layer
from eqdyn.networks._find import Fixed, Groups, Verification, find_groups, verify

__all__ = ["Fixed", "Groups", "Verification", "find_groups", "two_layer", "verify"]
