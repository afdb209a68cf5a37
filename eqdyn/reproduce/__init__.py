"""The paper's experiments as data: each is run, drawn in the paper's layout, and judged by its certificates."""

from eqdyn.reproduce._reproduce import names, reproduce

__all__ = ["names", "reproduce"]
