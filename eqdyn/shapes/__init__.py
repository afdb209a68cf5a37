"""Point clouds with known Betti numbers, and at which scales a cloud of that many points shows them.

Every factory takes `(num, *, key, sizes, dtype)` and gives a `Shape`; `mesh` has the same sets as meshes. Lengths in any unit.
"""

from eqdyn.shapes import mesh
from eqdyn.shapes._shape import Shape
from eqdyn.shapes.curves import circle, figure_eight, trefoil, two_circles
from eqdyn.shapes.mesh import Mesh
from eqdyn.shapes.moves import embed, jitter
from eqdyn.shapes.solids import clusters, handlebody, sphere_circle
from eqdyn.shapes.starts import start_2d, start_2d_two_circles, start_3d, start_mnist
from eqdyn.shapes.surfaces import annulus, disc, double_torus, sphere, swiss_roll, torus

__all__ = [
    "Mesh",
    "Shape",
    "annulus",
    "circle",
    "clusters",
    "disc",
    "double_torus",
    "embed",
    "figure_eight",
    "handlebody",
    "jitter",
    "mesh",
    "sphere",
    "sphere_circle",
    "start_2d",
    "start_2d_two_circles",
    "start_3d",
    "start_mnist",
    "swiss_roll",
    "torus",
    "trefoil",
    "two_circles",
]
