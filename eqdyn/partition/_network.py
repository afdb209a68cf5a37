"""A piecewise linear network as bits and affine maps: on every cell of its input space it is one affine map, and the bits say which."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

SLOPES = {"relu": (0.0, 1.0), "abs": (-1.0, 1.0)}  # below and above 0


class Network(NamedTuple):
    """Hidden layers and the last, `(W (out, in), b (out,))`, float64; `slopes` of the activation below and above 0."""

    hidden: tuple[tuple[np.ndarray, np.ndarray], ...]
    last: tuple[np.ndarray, np.ndarray]
    slopes: tuple[float, float]

    @property
    def dim(self) -> int:
        return (self.hidden[0] if self.hidden else self.last)[0].shape[1]

    @property
    def num_units(self) -> int:
        return sum(len(b) for _, b in self.hidden)

    def codes(self, z: np.ndarray) -> np.ndarray:
        """Bits of all hidden units, `(n, m)`: whether the unit is above 0."""
        bits, h = [], z
        for w, b in self.hidden:
            h = h @ w.T + b
            bits.append(h > 0)
            h = np.where(bits[-1], self.slopes[1], self.slopes[0]) * h
        return np.concatenate(bits, axis=1) if bits else np.zeros((len(z), 0), bool)

    def outputs(self, z: np.ndarray) -> np.ndarray:
        h = z
        for w, b in self.hidden:
            h = h @ w.T + b
            h = np.where(h > 0, self.slopes[1], self.slopes[0]) * h
        return h @ self.last[0].T + self.last[1]

    def rows(self, code: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """On the cell of a code: all hidden units as `A z + b`, `(m, d)` and `(m,)`, and the outputs likewise."""
        a, c = np.eye(self.dim), np.zeros(self.dim)
        all_a, all_b, at = [], [], 0
        for w, b in self.hidden:
            a, c = w @ a, w @ c + b
            all_a.append(a)
            all_b.append(c)
            slope = np.where(code[at : at + len(b)], self.slopes[1], self.slopes[0])
            a, c, at = slope[:, None] * a, slope * c, at + len(b)
        w, b = self.last
        whole = (np.concatenate(all_a), np.concatenate(all_b)) if all_a else (np.zeros((0, self.dim)), np.zeros(0))
        return *whole, w @ a, w @ c + b


def slopes_of(activation: Any) -> tuple[float, float]:
    """Slopes below and above 0 of "relu", "abs", "leaky_relu" or `("leaky_relu", slope)`."""
    name, slope = activation if isinstance(activation, (tuple, list)) and len(activation) == 2 else (activation, 0.01)
    if name == "leaky_relu" and isinstance(slope, (int, float)) and slope != 1:
        return float(slope), 1.0
    if isinstance(name, str) and name in SLOPES:
        return SLOPES[name]
    msg = f"activation: got {activation!r}; expected 'relu', 'abs', 'leaky_relu' or ('leaky_relu', slope): others have no cells."
    raise ValueError(msg)


def network_of(layers: Sequence[tuple[Any, Any]], activation: Any) -> Network:
    """Checked; `activation` "relu", "abs", or `("leaky_relu", slope)`."""
    slopes = slopes_of(activation)
    if not isinstance(layers, Sequence) or len(layers) < 1:
        msg = f"layers: got {type(layers).__name__}; expected a list of (W, b), hidden layers first, the output layer last."
        raise ValueError(msg)
    made, width = [], None
    for k, layer in enumerate(layers):
        if not isinstance(layer, (tuple, list)) or len(layer) != 2:
            msg = f"layers[{k}]: got {type(layer).__name__}; expected (W (out, in), b (out,))."
            raise ValueError(msg)
        w, b = (np.asarray(a, np.float64) for a in layer)
        if w.ndim != 2 or 0 in w.shape or b.shape != w.shape[:1] or (width is not None and w.shape[1] != width):
            wanted = "W (out, in)" if width is None else f"W (out, {width})"
            msg = f"layers[{k}]: got shapes {w.shape} and {b.shape}; expected {wanted} and b (out,), at least one unit."
            raise ValueError(msg)
        if not (np.isfinite(w).all() and np.isfinite(b).all()):
            msg = f"layers[{k}]: got weights that are not finite."
            raise ValueError(msg)
        made.append((w, b))
        width = w.shape[0]
    return Network(tuple(made[:-1]), made[-1], slopes)
