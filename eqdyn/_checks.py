"""Every argument check and its message: what came, what was expected, what to write.

Shapes, dtypes and concrete numbers are checked before anything is traced; traced values pass.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from eqdyn._types import Key, Tree, Weighted


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, (jax.Array, np.ndarray, np.generic))


def concrete(value: Any) -> bool:
    return not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(value))


def path_name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def floating(leaf: Any, name: str) -> jax.Array:
    """One real floating array, as a jax array of the same dtype."""
    if not _is_array(leaf):
        msg = f"{name}: got {type(leaf).__name__}; expected an array of a real floating dtype; write jnp.asarray({name})."
        raise TypeError(msg)
    dtype = np.dtype(leaf.dtype) if not jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.extended) else leaf.dtype
    if not jnp.issubdtype(dtype, jnp.floating):
        msg = f"{name}: got dtype {dtype}; expected a real floating dtype; write {name}.astype('float32')."
        raise TypeError(msg)
    if dtype == np.float64 and not jax.config.jax_enable_x64:  # type: ignore[attr-defined]
        msg = (
            f"{name}: got float64 while jax_enable_x64 is off, where JAX would silently work in float32; expected float32; "
            f"write jax.config.update('jax_enable_x64', True) first, or {name}.astype('float32')."
        )
        raise TypeError(msg)
    return jnp.asarray(leaf, dtype=leaf.dtype)  # a dtype that is named is not weak: it would change in the first step


def _seen(leaf: Any) -> Any:
    """An array as NumPy, which compiles nothing, where it is all here; one over several hosts as it is: they look at it together."""
    return np.asarray(leaf) if getattr(leaf, "is_fully_addressable", True) else leaf


def finite(tree: Tree, name: str) -> None:
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if concrete(leaf) and jnp.issubdtype(leaf.dtype, jnp.floating):
            bad = int((~(abs(_seen(leaf)) < math.inf)).sum())
            if bad:
                where = f" in {path_name(path)}" if path else ""
                msg = f"{name}: got {bad} values that are not finite{where}; expected finite numbers; look at np.isfinite({name})."
                raise ValueError(msg)


def points(x: Any, name: str = "x", *, least: int = 1) -> jax.Array:
    """A configuration `(n, d)` of at least `least` particles."""
    x = floating(x, name)
    if x.ndim != 2:
        msg = (
            f"{name}: got an array of shape {x.shape}; expected (n, d) with one particle a row; "
            f"write {name}.reshape(n, d), or group.particles(params) for a parameter tree."
        )
        raise ValueError(msg)
    if x.shape[0] < least or x.shape[1] < 1:
        msg = f"{name}: got shape {x.shape}; expected at least {least} particle{'s' * (least > 1)} of dimension 1 or more."
        raise ValueError(msg)
    return x


def batch(data: Tree, name: str = "data") -> Tree:
    """A tree of arrays of any dtype as jax arrays; float64 is not cut down in silence."""

    def leaf(path: Any, value: Any) -> jax.Array:
        where = f"{name}[{path_name(path)}]" if path else name
        return floating(value, where) if getattr(value, "dtype", None) == np.float64 else jnp.asarray(value)

    return jax.tree_util.tree_map_with_path(leaf, data)


def same_shape(a: Any, b: Any, names: tuple[str, str]) -> None:
    if a.shape != b.shape or a.dtype != b.dtype:
        msg = f"{names[0]}, {names[1]}: got {a.shape} {a.dtype} and {b.shape} {b.dtype}; expected two arrays of one shape and dtype."
        raise ValueError(msg)


def configuration(x: Any, name: str = "x") -> Tree:
    """An array `(n, d)`, a `Weighted`, or a tree of floating arrays; leaves come back as jax arrays."""
    if _is_array(x):
        return points(x, name)
    if isinstance(x, Weighted):
        x = Weighted(points(x.x, f"{name}.x"), floating(x.weight, f"{name}.weight"))
        if x.weight.shape != x.x.shape[:1]:
            msg = f"{name}.weight: got shape {x.weight.shape}; expected {x.x.shape[:1]}, one weight a particle."
            raise ValueError(msg)
        if concrete(x.weight) and not bool((_seen(x.weight) > 0).all()):
            msg = f"{name}.weight: got a weight that is not positive; expected weights > 0; massless particles are tracers."
            raise ValueError(msg)
        return x
    leaves = jax.tree_util.tree_leaves_with_path(x)
    if not leaves:
        msg = f"{name}: got {type(x).__name__} without arrays; expected an array (n, d), eq.Weighted, or a tree of parameters."
        raise TypeError(msg)
    return jax.tree_util.tree_map_with_path(lambda path, leaf: floating(leaf, f"{name}[{path_name(path)}]" if path else name), x)


def step_size(eta: Any, name: str = "eta", *, lanes: int | None = None) -> None:
    """A finite number > 0, or `(lanes,)` of them; traced values pass."""
    if not concrete(eta):
        return
    if isinstance(eta, (bool, str)) or not isinstance(eta, (int, float, np.ndarray, np.generic, jax.Array)):
        msg = f"{name}: got {type(eta).__name__}; expected a number > 0, an array (lanes,), or an optax schedule."
        raise TypeError(msg)
    value = np.asarray(eta)
    if value.ndim > 0 and (lanes is None or value.shape != (lanes,)):
        hint = f"write lanes={value.size}" if value.ndim == 1 and lanes is None else "write one number a lane"
        msg = f"{name}: got shape {value.shape} with lanes={lanes}; expected a number or (lanes,); {hint}."
        raise ValueError(msg)
    if not np.all(np.isfinite(value)) or not np.all(value > 0):
        msg = f"{name}: got {eta}; expected finite numbers > 0; to run backwards, negate the update."
        raise ValueError(msg)


def count(value: Any, name: str, *, least: int = 0) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        msg = f"{name}: got {value!r}; expected a whole number >= {least}."
        raise ValueError(msg)
    return int(value)


def key(value: Any, name: str = "key", *, lanes: int | None = None) -> Key | None:
    """A typed key, or `(lanes,)` of them, or None."""
    if value is None:
        return None
    if not (isinstance(value, jax.Array) and jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key)):
        what = f"an array of dtype {value.dtype}" if hasattr(value, "dtype") else type(value).__name__
        msg = f"{name}: got {what}; expected a typed key; write {name}=jax.random.key(seed)."
        raise TypeError(msg)
    if value.shape not in ((), (lanes,)):
        msg = f"{name}: got keys of shape {value.shape} with lanes={lanes}; expected one key or (lanes,); write jax.random.split({name}, lanes)."
        raise ValueError(msg)
    return value


def needs_key(value: Any, why: str) -> None:
    if value is None:
        msg = f"key: got None; expected a typed key, since {why}; write key=jax.random.key(seed)."
        raise ValueError(msg)


def moved_like(u: Tree, x: Tree, what: str = "rule") -> None:
    """The value of U has the structure, shapes and dtypes of the configuration."""
    ux: Any = jax.tree.structure(u)
    xx: Any = jax.tree.structure(x)
    if ux != xx:
        msg = f"{what}: got u of structure {ux}; expected that of x, {xx}."
        raise TypeError(msg)
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(u), jax.tree.leaves(x), strict=True):
        where = f" at {path_name(path)}" if path else ""
        if jnp.shape(a) != jnp.shape(b):
            msg = f"{what}: got u of shape {jnp.shape(a)}{where}; expected {jnp.shape(b)}, that of x."
            raise ValueError(msg)
        if jnp.result_type(a) != jnp.result_type(b):
            msg = f"{what}: got u of dtype {jnp.result_type(a)}{where}; expected {jnp.result_type(b)}, that of x."
            raise TypeError(msg)


def fits_budget(num_bytes: float, budget: float, what: str, instead: str) -> None:
    """Refuse an allocation over the stated budget, and name the way round it."""
    if num_bytes > budget:
        msg = f"{what}: would take {num_bytes / 2**20:.0f} MiB, over the budget of {budget / 2**20:.0f} MiB; {instead}."
        raise MemoryError(msg)


def number(value: Any, name: str, *, above: float = -math.inf, least: float = -math.inf, below: float = math.inf) -> Any:
    """A hyperparameter: a concrete real number as a Python float, whose dtype is that of what it meets; traced scalars pass."""
    bounds = "".join(f" {sign} {bound:g}" for sign, bound in ((">", above), (">=", least)) if bound > -math.inf)
    if below < math.inf:
        bounds = f" in ({above:g}, {below:g})" if above > least else f" in [{least:g}, {below:g})"
    if isinstance(value, bool) or not (isinstance(value, (int, float)) or _is_array(value)):
        msg = f"{name}: got {type(value).__name__}; expected a finite number{bounds}."
        raise TypeError(msg)
    if _is_array(value) and (value.shape != () or not (jnp.issubdtype(value.dtype, jnp.floating) or jnp.issubdtype(value.dtype, jnp.integer))):
        msg = f"{name}: got an array of shape {value.shape} {value.dtype}; expected a finite number{bounds}, the same for all particles."
        raise ValueError(msg)
    if not concrete(value):
        return value
    value = float(value)
    if not (math.isfinite(value) and value > above and least <= value < below):
        msg = f"{name}: got {value}; expected a finite number{bounds}."
        raise ValueError(msg)
    return value


def no_data(data: Tree, what: str) -> None:
    if data is not None:
        msg = f"data: got a batch, but {what} takes none; expected data=None."
        raise TypeError(msg)


def hashable(value: Any, name: str) -> None:
    """Compiled programs are found again by what they were compiled for."""
    try:
        hash(value)
    except TypeError as error:
        msg = f"{name}: got one that cannot be compared ({error}); expected functions with hashable hyperparameters; write eq.bind(update, ...)."
        raise TypeError(msg) from None


def state_like(state: Tree, init: Any) -> None:
    """A given state has the structure and shapes of a fresh one."""
    if state is None:
        return

    def form(tree: Tree) -> tuple[Any, list[tuple[int, ...]]]:
        return jax.tree.structure(tree), [jnp.shape(leaf) for leaf in jax.tree.leaves(tree)]

    got, expected = form(state), form(init())
    if got != expected:
        msg = f"state: got {got[0]} of shapes {got[1]}; expected {expected[0]} of shapes {expected[1]}, as rule.init(x) gives; write state=None."
        raise ValueError(msg)


def pairs(value: Any, num: int | None = None, name: str = "pair") -> jax.Array:
    """Pairs of particles `(2,)` or `(k, 2)`: two different indices each, below `num` where that is known."""
    found = np.asarray(value)
    if found.ndim not in (1, 2) or found.shape[-1] != 2 or not np.issubdtype(found.dtype, np.integer):
        msg = f"{name}: got shape {found.shape} {found.dtype}; expected two whole numbers (i, j), or (k, 2) of them; write [[0, 1], [0, 2]]."
        raise ValueError(msg)
    if found.size and (found.min() < 0 or np.any(found[..., 0] == found[..., 1]) or (num is not None and found.max() >= num)):
        below = "" if num is None else f" below {num}"
        msg = f"{name}: got {found.tolist()}; expected two different particles each, numbers >= 0{below}."
        raise ValueError(msg)
    return jnp.asarray(found, jnp.int32)
