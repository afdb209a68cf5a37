"""Observers: what is watched while particles move. A watcher never changes the run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from eqdyn._types import Tree
from eqdyn._value import bind


class Frame(NamedTuple):
    """One step as an observer sees it: `x` before, `u = U(x)`, `x_next` after, the rule's state before and after, the batch it saw, and the
    tracers before and after, if there are any.

    In a lane that has ended nothing moves: `u = 0`, `x_next = x`, `state_next = state`, `tracers_next = tracers`.
    """

    step: jax.Array
    eta: jax.Array
    x: Tree
    u: Tree
    x_next: Tree
    state: Tree
    info: Tree
    data: Tree
    state_next: Tree = None
    tracers: Tree = None
    tracers_next: Tree = None


class Observer(NamedTuple):
    """A watcher, as three pure functions and a stride.

    Fields:
        init: `(frame) -> carry`. The frame is that of the configuration before the first step: u = 0, x_next = x, info zero.
        update: `(carry, frame) -> carry`, at the steps t with `t % stride == 0`.
        read: `(carry) -> tree`, once, at the end. `Series` in the carry are complete by then.
        stride: in steps, >= 1.
        on_host: run between compiled chunks, with any Python; else inside them, jittable. With lanes a device observer sees
            one lane, a host observer all of them at once, lanes first.
        leaving: None, or a host function `(values) -> values` that the records of a series pass when they leave the device at a chunk
            border, `(t, ...)` or `(lanes, t, ...)`, t may be 0. It runs in a thread beside the simulation, in order; when too many chunks
            wait for it, the simulation waits: nothing is dropped. It must not change what it is given.
    """

    init: Callable[[Frame], Tree]
    update: Callable[[Tree, Frame], Tree]
    read: Callable[[Tree], Tree]
    stride: int
    on_host: bool = False
    leaving: Callable[[Tree], Tree] | None = None


@jax.tree_util.register_pytree_node_class
class Series:
    """Records in the order of their steps: a buffer on the device, which the driver empties at every chunk border.

    `steps` `(t,)` are the absolute steps, `values` a tree with leading axis t, after the lane axis if `laned`. What a host
    observer records has t in front, and lanes where its measure puts them.
    """

    def __init__(self, steps: Any, values: Tree, count: Any = None, *, laned: bool = False):
        self.steps, self.values, self.count, self.laned = steps, values, count, laned

    def append(self, step: Any, value: Tree) -> Series:
        """The series with one more record; inside a compiled chunk."""
        at = self.count
        return Series(
            self.steps.at[at].set(jnp.asarray(step, self.steps.dtype)),
            jax.tree.map(lambda buffer, leaf: buffer.at[at].set(jnp.asarray(leaf, buffer.dtype)), self.values, value),
            at + 1,
        )

    def tree_flatten(self) -> tuple[tuple[Any, Tree, Any], None]:
        return (self.steps, self.values, self.count), None

    @classmethod
    def tree_unflatten(cls, _: None, children: tuple[Any, Tree, Any]) -> Series:
        return cls(*children)

    def __len__(self) -> int:
        return int(np.shape(self.steps)[-1])

    def __repr__(self) -> str:
        return f"Series({len(self)} records of {jax.tree.map(np.shape, self.values)})"


def series_like(value: Tree) -> Series:
    """An empty series of records shaped like `value`; the driver gives it room."""
    buffers = jax.tree.map(lambda leaf: jnp.zeros((1, *jnp.shape(leaf)), jnp.result_type(leaf)), value)
    return Series(jnp.zeros((1,), jnp.int32), buffers, jnp.zeros((), jnp.int32))


def is_series(node: Any) -> bool:
    return isinstance(node, Series)


def record_bytes(tree: Tree) -> int:
    """What one record of every series in a tree takes, all lanes together."""
    series = [node for node in jax.tree.leaves(tree, is_leaf=is_series) if is_series(node)]
    return sum(leaf.nbytes // max(1, leaf.shape[node.steps.ndim - 1]) for node in series for leaf in jax.tree.leaves((node.steps, node.values)))


def recorder(measure: Callable[[Frame], Tree], *, stride: int = 1, on_host: bool = False, leaving: Callable | None = None) -> Observer:
    """Records `measure(frame)` every `stride` steps; read as a `Series`.

    Args:
        measure: `(frame) -> tree` of arrays of fixed shapes; jittable unless `on_host`.
        stride: in steps.
        on_host, leaving: see `Observer`.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> spread = eq.observer.recorder(lambda frame: jnp.ptp(frame.x), stride=2)
        >>> x0 = jnp.array([[0.0], [4.0]])
        >>> run = eq.simulate(eq.rules.consensus(), x0, eta=0.5, num_steps=4, observe={"spread": spread})
        >>> run.observed["spread"].steps.tolist(), run.observed["spread"].values.tolist()
        ([0, 2], [4.0, 1.0])
    """
    if on_host:
        return Observer(_host_init, bind(_host_update, measure), _host_read, stride, on_host=True)
    return Observer(bind(_init, measure), bind(_update, measure), _read, stride, leaving=leaving)


def _init(measure: Callable, frame: Frame) -> Series:
    return series_like(jax.eval_shape(measure, frame))


def _update(measure: Callable, series: Series, frame: Frame) -> Series:
    return series.append(frame.step, measure(frame))


def _read(series: Series) -> Series:
    return series


def _host_init(frame: Frame) -> tuple[tuple, tuple]:
    return (), ()


def _host_update(measure: Callable, carry: tuple[tuple, tuple], frame: Frame) -> tuple[tuple, tuple]:
    return (*carry[0], int(frame.step)), (*carry[1], jax.tree.map(np.asarray, measure(frame)))


def _host_read(carry: tuple[tuple, tuple]) -> Series:
    steps, values = carry
    return Series(np.asarray(steps, np.int64), jax.tree.map(lambda *leaves: np.stack(leaves), *values) if values else ())
