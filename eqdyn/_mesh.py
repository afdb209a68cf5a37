"""Particles over several devices: the mesh they lie on, and the ring that their blocks go round.

Inside a compiled program an array does not tell where it lies. So whoever is handed particles makes their mesh the one of the context
(`over`), and whoever sums over all pairs asks for it (`ambient`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from eqdyn._types import Tree

AXIS = "particles"
SPLIT, WHOLE = PartitionSpec(AXIS), PartitionSpec()


def ambient(num: int) -> Any:
    """The mesh of the context, if `num` particles lie on it in blocks of one size, on more than one device; else None."""
    mesh = jax.sharding.get_abstract_mesh()
    devices = mesh.shape.get(AXIS, 1)
    return mesh if devices > 1 and num % devices == 0 and AXIS not in mesh.manual_axes else None


def of(tree: Tree) -> Any:
    """The mesh that a leaf of the tree lies on, or None: one with an axis of particles."""
    for leaf in jax.tree.leaves(tree):
        where = None if isinstance(leaf, jax.core.Tracer) else getattr(leaf, "sharding", None)
        if isinstance(where, jax.sharding.NamedSharding) and AXIS in where.mesh.shape:
            return where.mesh
    return None


def over(tree: Tree) -> contextlib.AbstractContextManager:
    """Makes the mesh that a tree lies on that of the context."""
    mesh = of(tree)
    if mesh is None or AXIS in jax.sharding.get_abstract_mesh().shape:
        return contextlib.nullcontext()
    try:
        return jax.set_mesh(mesh)
    except ValueError:  # inside a program that is being traced, which met these particles as a constant
        return contextlib.nullcontext()


def settled(tree: Tree) -> Tree:
    """All arrays on the mesh that some lie on, the others whole on each device: as they come out of a program, which then need
    not be traced again for its second call.
    """
    mesh = of(tree)
    if mesh is None:
        return tree
    everywhere = jax.sharding.NamedSharding(mesh, WHOLE)
    return jax.tree.map(lambda leaf: leaf if isinstance(leaf.sharding, jax.sharding.NamedSharding) else jax.device_put(leaf, everywhere), tree)


def on_host(leaf: Any) -> np.ndarray:
    """An array as a whole in the memory of this host; of one over several hosts, every process must ask."""
    if isinstance(leaf, jax.Array) and not (leaf.is_fully_addressable or leaf.is_fully_replicated):
        leaf = jax.device_put(leaf, jax.sharding.NamedSharding(leaf.sharding.mesh, WHOLE))  # type: ignore[attr-defined]
    return np.asarray(leaf)


def by_blocks(local: Callable, mesh: Any, split: Tree, whole: Tree, out: PartitionSpec) -> Tree:
    """`local(split, whole)` on each device, with its own rows of `split`; inside, the axis has the name `AXIS`."""
    return jax.shard_map(local, mesh=mesh, in_specs=(SPLIT, WHOLE), out_specs=out, check_vma=False)(split, whole)


def ring(visit: Callable[[Tree, Tree, jax.Array], Tree], carry: Tree, block: Tree, mesh: Any, stages: int | None = None) -> Tree:
    """`carry = visit(carry, visitor, stage)` as the blocks go round: at stage s a device sees the block of the device s places before it,
    at stage 0 its own. `stages`: how many, by default all. Holds two blocks at a time.
    """
    num = mesh.shape[AXIS]
    onwards = [(device, (device + 1) % num) for device in range(num)]

    def turn(stage: jax.Array, both: tuple[Tree, Tree]) -> tuple[Tree, Tree]:
        carry, visitor = both
        return visit(carry, visitor, stage), jax.tree.map(lambda leaf: jax.lax.ppermute(leaf, AXIS, onwards), visitor)

    return jax.lax.fori_loop(0, num if stages is None else stages, turn, (carry, block))[0]


def place() -> jax.Array:
    """Which block this device holds."""
    return jax.lax.axis_index(AXIS).astype(jnp.int32)
