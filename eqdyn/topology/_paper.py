"""The paper's own reading of Betti numbers, so that its published curves can be had again, and told apart from the right answer."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from eqdyn import _checks
from eqdyn.topology._betti import points_of

MEMORY = 2**33  # bytes that the complex may be forecast to take
_BYTES = 80  # a simplex in GUDHI's tree, measured


def paper_recipe(points: Any, *, memory: float = MEMORY) -> tuple[int, int, int]:
    """Betti numbers as the paper's public code computes them: GUDHI's Rips complex of the edges up to diameter/4, simplices up to dimension 3.

    Not the right answer: the field is Z/11, and the complex's own top dimension is left out by GUDHI, so that a cloud without
    triangles has no b_1 and one without edges no b_0 (0 here). Use `betti` for the numbers themselves.

    Args:
        points: `(n, d)`, real.
        memory: bytes that the simplices may take by a bound from the degrees; merged clouds have billions of them.

    Raises:
        ImportError: GUDHI is missing.
        MemoryError: the forecast exceeds the budget.

    Example:
        >>> import numpy as np, eqdyn as eq
        >>> t = np.linspace(0, 2 * np.pi, 40, endpoint=False)
        >>> eq.topology.paper_recipe(np.stack([np.cos(t), np.sin(t)], 1))  # doctest: +SKIP
        (1, 1, 0)

    References:
        Yang et al., arXiv:2510.02670, section C.2 and the public code; GUDHI issue 878 (the dropped dimension).
    """
    try:
        import gudhi
    except ImportError as error:
        msg = "paper_recipe: gudhi is missing; write pip install 'eqdyn[gudhi]'."
        raise ImportError(msg) from error
    from scipy.spatial.distance import pdist, squareform

    x = points_of(points)
    _checks.fits_budget(24.0 * len(x) ** 2, memory, "paper_recipe", "take fewer points, or eq.topology.betti")
    d = squareform(pdist(x)) if len(x) > 1 else np.zeros((1, 1))
    r = float(d.max()) / 4
    degrees = np.sum(d <= r, axis=1) - 1
    bound = sum(math.comb(int(degree), 3) / 4 for degree in degrees)
    _checks.fits_budget(_BYTES * bound, memory, "paper_recipe", "take fewer points, eq.topology.betti, or memory=... if you mean it")
    tree = gudhi.RipsComplex(points=x, max_edge_length=r).create_simplex_tree(max_dimension=3)
    tree.compute_persistence()
    found = [*tree.betti_numbers(), 0, 0, 0][:3]
    return int(found[0]), int(found[1]), int(found[2])
