"""Sheets that bend out of the way: at each s a chain of points from one network to the other, moved downhill across its own direction."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from eqdyn import _checks
from eqdyn._types import Tree
from eqdyn.paths._affine import between

_ROUNDS = 10  # times that the curve is measured, and kept if it is the lowest so far


class Elastic(NamedTuple):
    """How a sheet is bent: `barrier(..., elastic=eq.paths.Elastic(steps=500))`.

    At each s the `num` points are a chain with fixed ends. The gradient of the loss, without its part along the chain, goes through Adam (optax)
    with a step that falls to 0; the points are kept at equal distances. Of all curves that were measured, the straight one among them, the lowest
    counts: an UPPER bound, to the resolution of the places where it was measured.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> ring = lambda x: (jnp.sum(x**2) - 1) ** 2                                   # a valley that goes round a hill of height 1
        >>> one, other = jnp.array([-1.0, 0.0], jnp.float32), jnp.array([1.0, 0.0], jnp.float32)
        >>> straight, bent = (eq.paths.barrier(ring, one, other, elastic=how) for how in (None, eq.paths.Elastic()))
        >>> float(straight), float(bent) < 0.01
        (1.0, True)

    References:
        E, Ren, Vanden-Eijnden, Physical Review B 66 (2002) 052301 (a string of points at equal distances); Draxler et al., arXiv:1803.00885 (chains
        between networks).

    Fields:
        steps: of the optimizer, at each s; each takes a gradient at every point between the ends.
        rate: first step of a coordinate, in units of the root mean square difference of the two ends.
        starts: curves that are begun at each s: one from the curve of the s before (the first from a bump), others from bumps out of the straight
            line, in opposite pairs.
        bump: their height, in units of the distance of the ends.
        refine: places a piece at which curves are compared. The lowest is measured at twice as many: it must not profit from gaps.
        above: sheets whose linear barrier is no higher than this stay straight [loss].
        seed: of the bumps.
    """

    steps: int = 200
    rate: float = 0.02
    starts: int = 1
    bump: float = 0.05
    refine: int = 4
    above: float = 0.0
    seed: int = 0


def relaxed(loss: Callable, one: Tree, other: Tree, num: int, data: Tree, elastic: Elastic) -> tuple[np.ndarray, Tree]:
    """Losses `(S, 2 (num - 1) refine + 1)` along the lowest curve found at each s, and its points, leaves `(S, num, ...)`."""
    random = np.random.default_rng(elastic.seed)
    first = jax.tree.map(lambda leaf: leaf[0], one)
    flat, unravel = ravel_pytree(first)
    warm: np.ndarray | None = None
    found, curves = [], []
    for s in range(jax.tree.leaves(one)[0].shape[0]):
        ends = [jax.tree.map(lambda leaf, s=s: leaf[s], tree) for tree in (one, other)]
        a, b = (np.asarray(ravel_pytree(tree)[0]) for tree in ends)
        offsets = np.asarray(_bumps(random, elastic, num, float(np.linalg.norm(b - a)), a.shape[0]), flat.dtype)
        if warm is not None:
            offsets[0] = warm
        losses, x, warm = jax.tree.map(
            np.asarray, _relax(loss, *ends, offsets, data, elastic.rate, steps=-(-elastic.steps // _ROUNDS), refine=elastic.refine)
        )
        found.append(np.asarray(losses, np.float64))
        curves.append(jax.tree.map(np.asarray, jax.vmap(unravel)(x)))
    return np.stack(found), jax.tree.map(lambda *leaves: np.stack(leaves), *curves)


def asked(elastic: Any, num: int) -> None:
    if elastic is None:
        return
    if not isinstance(elastic, Elastic):
        msg = f"elastic: got {type(elastic).__name__}; expected eq.paths.Elastic(...) or None."
        raise TypeError(msg)
    for name in ("steps", "starts", "refine"):
        _checks.count(getattr(elastic, name), f"elastic.{name}", least=1)
    _checks.number(elastic.rate, "elastic.rate", above=0.0)
    _checks.number(elastic.bump, "elastic.bump", least=0.0)
    if num < 3:
        msg = f"num: got {num} with an elastic sheet; expected 3 or more: a point between the ends."
        raise ValueError(msg)


def _bumps(random: np.random.Generator, elastic: Elastic, num: int, distance: float, size: int) -> np.ndarray:
    """Ways out of the straight line, `(starts, num, P)`, in opposite pairs; a direct start would rest on a ridge where there is a symmetry."""
    shape = np.sin(math.pi * np.linspace(0, 1, num))
    shape[-1] = 0.0
    found = []
    for k in range(elastic.starts):
        if k % 2 == 0:
            direction = random.standard_normal(size)
            direction /= np.linalg.norm(direction)
        found.append((-1) ** k * elastic.bump * distance * shape[:, None] * direction)
    return np.stack(found)


@functools.partial(jax.jit, static_argnames=("loss", "steps", "refine"))
def _relax(loss: Callable, a: Tree, b: Tree, offsets: Any, data: Tree, rate: Any, *, steps: int, refine: int) -> tuple[Any, Any, Any]:
    """The lowest curve from any of the offsets: losses along it, its points `(num, P)`, and these less the straight line."""
    (start, unravel), (end, _) = ravel_pytree(a), ravel_pytree(b)
    num, dtype = offsets.shape[1], start.dtype
    at_once = None if jax.default_backend() == "cpu" else num
    share = jnp.linspace(0.0, 1.0, num, dtype=dtype)[:, None]
    straight = (start[None] + share * (end - start)[None]).at[-1].set(end)
    scale = jnp.asarray(rate).astype(dtype) * jnp.sqrt(jnp.mean((end - start) ** 2))

    def value(x: Any) -> Any:
        return loss(unravel(x), data)

    def measured(x: Any, places: int) -> Any:
        def at(k: Any) -> Any:
            piece = jnp.minimum(k // places, num - 2)
            return value(between(x[piece], x[piece + 1], (k - piece * places) / places))

        losses = jax.lax.map(at, jnp.arange((num - 1) * places + 1), batch_size=at_once)
        return jnp.where(jnp.isnan(losses), jnp.inf, losses)

    def down(carry: tuple, k: Any) -> tuple:
        x, state = carry
        slopes = jax.lax.map(jax.grad(value), x[1:-1], batch_size=at_once)
        way = x[2:] - x[:-2]
        way = way / jnp.maximum(jnp.linalg.norm(way, axis=1, keepdims=True), jnp.finfo(dtype).tiny)
        update, state = _adam(slopes - jnp.sum(slopes * way, axis=1, keepdims=True) * way, state)
        step = scale * (0.5 + 0.5 * jnp.cos(k.astype(dtype) * (math.pi / (steps * _ROUNDS))))
        return (_spaced(x.at[1:-1].add(-step * update)), state), None

    def round_(carry: tuple, k: Any) -> tuple:
        moving, best, lowest = carry
        moving, _ = jax.lax.scan(down, moving, k * steps + jnp.arange(steps))
        losses = measured(moving[0], refine)
        better = jnp.max(losses) < jnp.max(lowest)
        return (moving, jnp.where(better, moving[0], best), jnp.where(better, losses, lowest)), None

    def from_(offset: Any) -> tuple:
        x = straight + offset
        (_, best, lowest), _ = jax.lax.scan(round_, ((x, _adam_start(x[1:-1])), straight, measured(straight, refine)), jnp.arange(_ROUNDS))
        return best, lowest

    curves, losses = jax.lax.map(from_, offsets)
    best = curves[jnp.argmin(jnp.max(losses, axis=1))]
    bent, plain = measured(best, 2 * refine), measured(straight, 2 * refine)
    lower = jnp.max(bent) < jnp.max(plain)
    best = jnp.where(lower, best, straight)
    return jnp.where(lower, bent, plain), best, best - straight


def _adam_start(x: Any) -> Any:
    import optax

    with jax.numpy_dtype_promotion("standard"):
        return optax.scale_by_adam().init(x)


def _adam(slopes: Any, state: Any) -> tuple[Any, Any]:
    import optax

    with jax.numpy_dtype_promotion("standard"):
        return optax.scale_by_adam().update(slopes, state)


def _spaced(x: Any) -> Any:
    """The points of a chain moved along it to equal distances; the ends stay."""
    num, dtype = x.shape[0], x.dtype
    pieces = jnp.linalg.norm(x[1:] - x[:-1], axis=1)
    along = jnp.concatenate([jnp.zeros(1, dtype), jnp.cumsum(pieces)])
    wanted = jnp.arange(1, num - 1).astype(dtype) / (num - 1) * along[-1]
    piece = jnp.clip(jnp.searchsorted(along, wanted, side="right") - 1, 0, num - 2)
    part = (wanted - along[piece]) / jnp.where(pieces[piece] > 0, pieces[piece], 1)
    return x.at[1:-1].set(x[piece] + part[:, None] * (x[piece + 1] - x[piece]))
