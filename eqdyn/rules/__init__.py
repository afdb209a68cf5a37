"""The gallery: one rule a file. A rule is a `Rule` of pure functions; factories are nouns, hyperparameters are keywords.

Every rule here is a row of the table that the tests hold against the laws.
"""

from eqdyn.field import from_field
from eqdyn.rules.adam import adam
from eqdyn.rules.adam_delayed import adam_delayed
from eqdyn.rules.adamw import adamw
from eqdyn.rules.attention import self_attention
from eqdyn.rules.attraction_repulsion import attraction_repulsion
from eqdyn.rules.consensus import consensus
from eqdyn.rules.gradient import gradient
from eqdyn.rules.heavy_ball import heavy_ball
from eqdyn.rules.hegselmann_krause import hegselmann_krause
from eqdyn.rules.kuramoto import kuramoto
from eqdyn.rules.langevin import langevin
from eqdyn.rules.lion import lion
from eqdyn.rules.nesterov import nesterov
from eqdyn.rules.own import from_function
from eqdyn.rules.rmsprop import rmsprop
from eqdyn.rules.sign_descent import sign_descent
from eqdyn.rules.stein import stein
from eqdyn.rules.wasserstein_flow import wasserstein_flow
from eqdyn.rules.weight_decay import weight_decay
from eqdyn.rules.with_optax import from_optax

__all__ = [
    "adam",
    "adam_delayed",
    "adamw",
    "attraction_repulsion",
    "consensus",
    "from_field",
    "from_function",
    "from_optax",
    "gradient",
    "heavy_ball",
    "hegselmann_krause",
    "kuramoto",
    "langevin",
    "lion",
    "nesterov",
    "rmsprop",
    "self_attention",
    "sign_descent",
    "stein",
    "wasserstein_flow",
    "weight_decay",
]
