"""Large configurations: particles over several devices, or several hosts.

Particles that lie on a mesh stay there. `eq.simulate`, `measure.pair_constants`, `measure.stretch` and `eq.certify` see where they are
handed particles that are split, and work where these lie: sums over particles are added up by the compiler's reductions, and
whatever needs all pairs (the rules of `field.pair_kernel` and their like, pair constants, stretch, certificates) runs as a ring:
each device holds its block and one visitor, N/devices particles each (with what all pairs need of them some twenty times as much), and
a tile. Inside one's own `jax.jit`, where an array does not tell where it lies, write `with jax.set_mesh(mesh): ...` around the call.

How near the answers are to those of one device, eps being a rounding of the dtype: the extreme rates and stretches to `(d + 8) eps` of
themselves, mostly to the bit, with the pairs that attain them (of pairs that tie, one); counts exactly. U, a sum over particles in
another order: to `N eps` times the sum of the sizes of its terms at most, in practice to some `10 eps` of the largest U; bounded confidence
decides by differences, so nobody falls in or out of reach. Sums over blocks carry their rounding along: twins get equal U on whatever
devices they lie, but for one in some 10^7 sums. The same number of devices gives the same bits, on one host or several.

On several hosts call `jax.distributed.initialize(...)` first; then every process runs the same program with the same arguments. CPUs
also need `jax.config.update("jax_cpu_collectives_implementation", "gloo")`, where that is not the default.
"""

from __future__ import annotations

import jax
import numpy as np

from eqdyn import _checks, _mesh
from eqdyn._types import Tree

__all__ = ["gather", "mesh", "shard"]


def mesh(num_devices: int | None = None) -> jax.sharding.Mesh:
    """A row of devices for particles to lie on: a mesh of one axis, "particles".

    Args:
        num_devices: how many, the first ones; by default all, of all hosts.

    Returns:
        `jax.sharding.Mesh` of shape `(num_devices,)`.

    Raises:
        ValueError: there are not so many.

    Example:
        >>> import eqdyn as eq
        >>> eq.parallel.mesh(1).axis_names
        ('particles',)

    References:
        `jax.sharding.Mesh`; axes of the kind Auto, so that rules may be written in plain jnp.
    """
    devices = jax.devices()
    num = len(devices) if num_devices is None else _checks.count(num_devices, "num_devices", least=1)
    if num > len(devices):
        msg = (
            f"num_devices: got {num}; expected at most {len(devices)}, as many as JAX sees; "
            f"write XLA_FLAGS=--xla_force_host_platform_device_count={num} before Python starts, to split a CPU."
        )
        raise ValueError(msg)
    return jax.make_mesh((num,), (_mesh.AXIS,), axis_types=(jax.sharding.AxisType.Auto,), devices=devices[:num])


def shard(x: Tree, mesh: jax.sharding.Mesh) -> Tree:
    """Particles in blocks of one size over the devices of a mesh, in order. Exact: nothing is computed.

    Args:
        x: particles `(n, ...)`, an `eq.Weighted`, or a tree with one row a particle in every array, such as a rule's state; numbers and
            arrays without axes are put whole on each device. On several hosts every process gives the same.
        mesh: from `parallel.mesh`, or any with an axis "particles". Its devices must divide n: nothing is filled up, since every row
            counts as a particle.

    Returns:
        The same tree; the shards of an array are `(n / devices, ...)`.

    Raises:
        ValueError: n is no multiple of the number of devices, two arrays differ in n, or the mesh has no axis "particles", or one of the
            type Explicit.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> x = eq.parallel.shard(jnp.array([[0.0], [4.0]]), eq.parallel.mesh(1))
        >>> eq.simulate(eq.rules.consensus(), x, eta=0.5, num_steps=2).x.ravel().tolist()
        [1.5, 2.5]

    References:
        `jax.sharding.NamedSharding`.
    """
    if not isinstance(mesh, jax.sharding.Mesh) or _mesh.AXIS not in mesh.axis_names:
        got = f"axes {mesh.axis_names}" if isinstance(mesh, jax.sharding.Mesh) else type(mesh).__name__
        msg = f"mesh: got {got}; expected a mesh with an axis {_mesh.AXIS!r}; write eq.parallel.mesh()."
        raise ValueError(msg)
    if dict(zip(mesh.axis_names, mesh.axis_types, strict=True))[_mesh.AXIS] != jax.sharding.AxisType.Auto:
        msg = f"mesh: got an axis of type {mesh.axis_types[0]}; expected Auto, for rules in plain jnp; write eq.parallel.mesh()."
        raise ValueError(msg)
    devices = mesh.shape[_mesh.AXIS]
    rows = {np.shape(leaf)[0] for leaf in jax.tree.leaves(x) if np.ndim(leaf)}
    if len(rows) > 1:
        msg = f"x: got arrays of {sorted(rows)} rows; expected one row a particle in all of them; shard what is shared apart."
        raise ValueError(msg)
    n = min(rows, default=0)
    if n % devices:
        fewer = max(k for k in range(1, devices + 1) if n % k == 0)
        msg = f"x: got {n} particles on {devices} devices; expected a multiple of {devices}; write eq.parallel.mesh({fewer})."
        raise ValueError(msg)
    split, whole = (jax.sharding.NamedSharding(mesh, spec) for spec in (_mesh.SPLIT, _mesh.WHOLE))
    return jax.tree.map(lambda leaf: jax.device_put(leaf, split if np.ndim(leaf) else whole), x)


def gather(x: Tree) -> Tree:
    """Arrays as a whole in the memory of every host. Exact.

    Args:
        x: a tree of arrays, wherever they lie.

    Returns:
        The tree with NumPy arrays.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> eq.parallel.gather(eq.parallel.shard(jnp.arange(3.0), eq.parallel.mesh(1))).tolist()
        [0.0, 1.0, 2.0]

    References:
        An all-gather.
    """
    return jax.tree.map(_mesh.on_host, x)
