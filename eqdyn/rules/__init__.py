"""The gallery: one rule a file. A rule is a `Rule` of pure functions; factories are nouns, hyperparameters are keywords.

Every rule here is a row of the table that the tests hold against the laws.
"""

from eqdyn.field import from_field
from eqdyn.rules.adam import adam, adam_delayed
from eqdyn.rules.attention import self_attention
from eqdyn.rules.consensus import consensus
from eqdyn.rules.gradient import gradient
from eqdyn.rules.heavy_ball import heavy_ball
from eqdyn.rules.own import from_function
from eqdyn.rules.with_optax import from_optax

__all__ = ["adam", "adam_delayed", "consensus", "from_field", "from_function", "from_optax", "gradient", "heavy_ball", "self_attention"]
