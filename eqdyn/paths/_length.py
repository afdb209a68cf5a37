"""How long a run is: in the space of parameters, or in that of the distributions that its networks tell (Fisher length)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from eqdyn import _checks
from eqdyn._types import Tree
from eqdyn.field import with_data
from eqdyn.paths._asked import params_of
from eqdyn.paths._path import Path
from eqdyn.paths._reparametrise import two_at_least


class Length(float):
    """A length, as a number, and `pieces` `(T - 1,)`, from each checkpoint to the next."""

    pieces: np.ndarray

    def __repr__(self) -> str:
        return f"Length({float(self):.6g}, {len(self.pieces)} pieces)"


def length(path: Path, logits: Callable | None = None, data: Tree = None) -> Length:
    """The length of a run, checkpoint by checkpoint. (`path.length` is the time that it took.)

        weights    sum_k |theta_{k+1} - theta_k|
        Fisher     sum_k sqrt(v_k^t F v_k),   v_k = theta_{k+1} - theta_k,   v^t F v = mean over examples of Var_p (J v),   p = softmax(logits)

    F is that of the middle of each piece and J v one derivative along it: no matrix is made. EXACT for the weights of the straight pieces; the
    Fisher length of the smooth run is an ESTIMATE, of second order in the pieces. It does not see how a function is written: neurons in another
    order, or scaled from layer to layer, have the same length. The way of natural descent is no shortest way: it is steepest, not geodesic.

    Args:
        path: two checkpoints or more.
        logits: None for weights; or `(params)` or `(params, data)` to `(n, classes)`, unnormalised logarithms of probabilities; differentiable.
        data: handed to logits.

    Returns:
        `Length`, a float [weight; or nats^(1/2), where small steps have length sqrt(2 KL)].

    Raises:
        ValueError: one checkpoint only, logits of another shape, or that are not finite on the way.
        TypeError: no `Path`.

    Example:
        >>> import jax.numpy as jnp, numpy as np, eqdyn as eq
        >>> run = eq.paths.path(np.linspace(0, 2, 41, dtype=np.float32)[:, None])
        >>> coin = lambda theta: jnp.stack([theta, jnp.zeros_like(theta)], axis=1)                            # heads with odds exp(theta)
        >>> odds = np.exp([0.0, 2.0])
        >>> exact = np.diff(2 * np.arcsin(np.sqrt(odds / (1 + odds))))[0]
        >>> float(eq.paths.length(run)), bool(abs(eq.paths.length(run, coin) - exact) < 1e-4)
        (2.0, True)

    References:
        Categorical Invariants of Learning Dynamics, arXiv:2510.04376 (the enriched distance); Amari, Natural gradient works efficiently in learning,
        Neural Computation 10 (1998) 251.
    """
    if not isinstance(path, Path):
        msg = f"path: got {type(path).__name__}; expected a Path; write eq.paths.path(checkpoints)."
        raise TypeError(msg)
    two_at_least(path, "path")
    if logits is None:
        squares = [np.sum(np.diff(leaf.astype(np.float64), axis=0).reshape(path.num - 1, -1) ** 2, axis=1) for leaf in jax.tree.leaves(path.params)]
        return _length(np.sqrt(np.sum(squares, axis=0)))
    call = with_data(logits, 1, "logits")
    _checks.hashable(logits, "logits")
    params = params_of(path.params, "path", on_device=True)
    data = _checks.batch(data) if data is not None else None
    like: Any = jax.eval_shape(call, jax.tree.map(lambda leaf: leaf[0], params), data)
    if not isinstance(like, jax.ShapeDtypeStruct) or len(like.shape) != 2 or not jnp.issubdtype(like.dtype, jnp.floating):
        got = jax.tree.map(lambda leaf: (leaf.shape, str(leaf.dtype)), like)
        msg = f"logits: got one that returns {got}; expected a real array (n, classes), one row an example."
        raise ValueError(msg)
    pieces = np.sqrt(np.asarray(_fisher(call, params, data), np.float64))
    if not np.isfinite(pieces).all():
        k = int(np.argmin(np.isfinite(pieces)))
        msg = f"path: got logits that are not finite between checkpoints {k} and {k + 1}; expected finite ones."
        raise ValueError(msg)
    return _length(pieces)


def _length(pieces: np.ndarray) -> Length:
    found = Length(pieces.sum())
    found.pieces = pieces
    return found


@functools.partial(jax.jit, static_argnames=("logits",))
def _fisher(logits: Callable, params: Tree, data: Tree) -> jax.Array:
    """`v^t F v` of each piece."""

    def piece(k: jax.Array) -> jax.Array:
        here, there = jax.tree.map(lambda leaf: leaf[k], params), jax.tree.map(lambda leaf: leaf[k + 1], params)
        middle, way = jax.tree.map(lambda a, b: (a + b) / 2, here, there), jax.tree.map(lambda a, b: b - a, here, there)
        values, change = jax.jvp(lambda one: logits(one, data), (middle,), (way,))
        p = jax.nn.softmax(values, axis=1)
        apart = change - jnp.sum(p * change, axis=1, keepdims=True)
        return jnp.mean(jnp.sum(p * apart**2, axis=1))

    return jax.lax.map(piece, jnp.arange(jax.tree.leaves(params)[0].shape[0] - 1))
