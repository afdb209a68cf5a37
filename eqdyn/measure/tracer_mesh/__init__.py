"""What became of a curve or surface that tracers carry: tears, folds and self-intersections, from the mesh alone.

Host NumPy, any two placements of the same mesh: one step, or a whole run. Nothing is known between the mesh's points.
"""

from eqdyn.measure.tracer_mesh.change import MeshChange, mesh_change

__all__ = ["MeshChange", "mesh_change"]
