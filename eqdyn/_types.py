"""Array aliases with their shapes, and the status codes of a lane."""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Literal, NamedTuple

import jax
from jaxtyping import Array, Float, Int

Points = Float[Array, "n d"]  # a configuration, one particle a row, in any unit of length
Weights = Float[Array, " n"]  # how many unit particles each row stands for
Labels = Int[Array, " n"]
Scalar = Float[Array, ""]
Key = jax.Array  # a typed key, jax.random.key(seed)
Tree = Any  # any pytree of arrays
Kind = Literal["exact", "upper", "lower", "estimate", "diagnostic"]


class Status(IntEnum):
    """How a lane stands. A lane that ended keeps its last finite values."""

    OK = 0
    DIVERGED = 1  # finite, but so far out that squared distances overflow
    NONFINITE = 2


STATUS_NAMES = ("ok", "diverged", "nonfinite")


class Weighted(NamedTuple):
    """Particles that stand for several: row i of `x` counts `weight[i]` times.

    The weight travels with its particle: it has velocity 0 and is permuted with the rows.
    """

    x: Points
    weight: Weights
