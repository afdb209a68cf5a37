"""What is asked of a mesh before it is measured."""

from __future__ import annotations

from typing import Any

import numpy as np

from eqdyn.shapes import Mesh


def checked(mesh: Any) -> Mesh:
    """A mesh with edges, whose edges and faces are rows of its points."""
    if not isinstance(mesh, Mesh):
        msg = f"mesh: got {type(mesh).__name__}; expected an eq.shapes.Mesh; write eq.shapes.mesh.circle(64), or mesh._replace(points=run.tracers)."
        raise TypeError(msg)
    for name, rows, num in (("edges", mesh.edges, 2), ("faces", mesh.faces, 3)):
        if not hasattr(rows, "dtype") or not np.issubdtype(rows.dtype, np.integer):
            what = f"dtype {rows.dtype}" if hasattr(rows, "dtype") else type(rows).__name__
            msg = f"mesh.{name}: got {what}; expected an array of whole numbers (k, {num}); write np.asarray({name}, int)."
            raise TypeError(msg)
        if rows.ndim != 2 or rows.shape[1] != num or rows.min(initial=0) < 0 or rows.max(initial=-1) >= len(mesh.points):
            msg = f"mesh.{name}: got shape {rows.shape} with entries up to {rows.max(initial=-1)}; expected (k, {num}) rows of mesh.points."
            raise ValueError(msg)
    if not len(mesh.edges):
        msg = f"mesh.edges: got none, with {len(mesh.faces)} faces; expected each edge once, those of faces too; write np.array([[0, 1], [1, 2]])."
        raise ValueError(msg)
    return mesh
