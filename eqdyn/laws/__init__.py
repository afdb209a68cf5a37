"""The laws that equivariance imposes, one statement and one residual each; what they ask of a rule is asked once (`_ask`).

P1 and lemma 1 fail where particles are treated unlike; a declared K is taken at its word by every law that names one. The merge
law is an identity of x + eta U(x): without a declared K it fails only for a rule that does not repeat its U.
"""

from typing import Any

from eqdyn._ask.ask import Asked
from eqdyn._ask.draws import Draw
from eqdyn._types import Scalar
from eqdyn.laws._law import Facts, Law, Residual, Told, facts, passes_or_fails
from eqdyn.laws.induced import LEMMA_3, THEOREM_1, THEOREM_2
from eqdyn.laws.lifting import LIFTED, lifted_residual
from eqdyn.laws.pairs import LEMMA_1, LEMMA_2, LEMMA_4, LEMMA_5, MERGE_LAW, merged_early, torn
from eqdyn.laws.properties import PROPERTIES

LAWS = (*PROPERTIES, LEMMA_1, LEMMA_2, LEMMA_3, LEMMA_4, LEMMA_5, THEOREM_1, THEOREM_2, MERGE_LAW, LIFTED)


def residuals(group: Any, draw: Draw, asked: Asked, eta: Scalar, K: Scalar) -> dict[str, Residual]:
    """Of the laws at one draw, by name; lifted invertibility is looked at on the host, see `lifted_residual`."""
    known = facts(group, draw, asked, eta, K)
    known = known._replace(shared={"torn": torn(known), "merged early": merged_early(group, known)})
    return {law.name: law.residual(group, known) for law in LAWS if law.residual is not None}


__all__ = ["LAWS", "LIFTED", "Facts", "Law", "Residual", "Told", "lifted_residual", "passes_or_fails", "residuals"]
