"""Wright and Fisher's drift: the example in which the covariance of the steps is exactly the inverse of a metric, g^-1 / N (alpha = 1).

A population of N draws its next generation from the frequencies p of k types, by their fitness: p' ~ Multinomial(N, p w / <p, w>) / N.
Coordinates are the first k - 1 frequencies; the last is what is left.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from eqdyn import _checks
from eqdyn._types import Key


def metric(frequencies: Any) -> np.ndarray:
    """Fisher's metric of k types at frequencies p, `g = diag(1 / p_i) + 1 / p_k` over the first k - 1, `(k - 1, k - 1)`. EXACT.

    Args:
        frequencies: p, `(k,)`, positive, of sum 1.

    Raises:
        ValueError: frequencies that are none.

    Example:
        >>> import eqdyn as eq
        >>> eq.covariant.wright_fisher.metric([0.5, 0.5]).tolist()
        [[4.0]]

    References:
        Shahshahani, Memoirs of the AMS 211 (1979).
    """
    p = _frequencies(frequencies, positive=True)
    return np.diag(1 / p[:-1]) + 1 / p[-1]


def increment_covariance(frequencies: Any, population: int) -> np.ndarray:
    """Covariance of a generation's step without selection, `(diag(p) - p p^t) / N = g^-1 / N` over the first k - 1 types. EXACT.

    Args:
        frequencies: p, `(k,)`, of sum 1.
        population: N.

    Raises:
        ValueError: frequencies that are none, or no population.

    Example:
        >>> import eqdyn as eq
        >>> eq.covariant.wright_fisher.increment_covariance([0.5, 0.5], 100).tolist()
        [[0.0025]]
    """
    p = _frequencies(frequencies)
    num = _checks.count(population, "population", least=1)
    return (np.diag(p[:-1]) - np.outer(p[:-1], p[:-1])) / num


def simulate(frequencies: Any, population: int, num_steps: int, *, key: Key, fitness: Any = None, num_runs: int = 1) -> jax.Array:
    """Generations of a population, `(num_steps + 1, num_runs, k)`: frequencies of the types. EXACT draws.

    With selection the mean step is natural gradient ascent of the log of the mean fitness, `g^-1 grad log <p, w>`.

    Args:
        frequencies: p at the start, `(k,)`.
        population: N.
        num_steps: generations.
        key: a typed key.
        fitness: w, `(k,)`, > 0; None where all are alike.
        num_runs: populations, side by side.

    Raises:
        ValueError: frequencies or fitness that are none.

    Example:
        >>> import jax, eqdyn as eq
        >>> eq.covariant.wright_fisher.simulate([0.5, 0.5], 10, 100, key=jax.random.key(0), num_runs=3)[-1].sum(axis=1).tolist()
        [1.0, 1.0, 1.0]

    References:
        Ewens, Mathematical Population Genetics (2004), chapter 3.
    """
    p = _frequencies(frequencies)
    w = np.ones(len(p)) if fitness is None else np.asarray(fitness, np.float64)
    if w.shape != p.shape or not (np.isfinite(w).all() and (w > 0).all()):
        msg = f"fitness: got shape {w.shape}, or numbers not above 0; expected {p.shape}, finite and positive."
        raise ValueError(msg)
    num, steps, runs = (
        _checks.count(value, name, least=1) for value, name in ((population, "population"), (num_steps, "num_steps"), (num_runs, "num_runs"))
    )
    return _simulate(jnp.asarray(p, float), jnp.asarray(w, float), num, steps, runs, _checks.key(key))


@functools.partial(jax.jit, static_argnums=(2, 3, 4))
def _simulate(p: jax.Array, w: jax.Array, population: int, num_steps: int, num_runs: int, key: Key) -> jax.Array:
    def generation(p: jax.Array, key: Key) -> tuple[jax.Array, jax.Array]:
        chosen = p * w[None]
        chosen = chosen / jnp.sum(chosen, axis=1, keepdims=True)
        keys = jax.random.split(key, num_runs)
        drawn = jax.vmap(lambda key, p: jax.random.multinomial(key, jnp.asarray(population, p.dtype), p))(keys, chosen)
        return drawn / population, drawn / population

    start = jnp.broadcast_to(p, (num_runs, p.size))
    _, after = jax.lax.scan(generation, start, jax.random.split(key, num_steps))
    return jnp.concatenate([start[None], after])


def _frequencies(frequencies: Any, *, positive: bool = False) -> np.ndarray:
    p = np.asarray(frequencies, np.float64)
    fine = p.ndim == 1 and p.size > 1 and np.isfinite(p).all() and (p >= 0).all() and abs(p.sum() - 1) < 1e-6
    if not fine or (positive and not (p > 0).all()):
        msg = f"frequencies: got {p.tolist() if p.size < 8 else p.shape}; expected (k,), k >= 2, " + (
            "positive, of sum 1." if positive else "not negative, of sum 1."
        )
        raise ValueError(msg)
    return p
