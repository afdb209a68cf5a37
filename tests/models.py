"""Models whose permutation groups are known, written by hand beside them: `(apply, params, inputs, groups)`.

A group is a dict from the path of a leaf to the axis; a tuple `(axis, starts, width)` where units are parts of an axis; a list where
a leaf has two such axes.
"""

from __future__ import annotations

import functools
import itertools
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import eqdyn as eq


def draw(seed: int = 0, **shapes: tuple[int, ...]) -> dict[str, jax.Array]:
    random = np.random.default_rng(seed)
    return {name: jnp.asarray(0.5 * random.standard_normal(shape), jnp.float32) for name, shape in shapes.items()}


def mlp(depth: int, bias: bool) -> Any:
    widths = [3, *[6] * depth, 2]  # layers of one width: axes that look alike
    shapes = {f"w{i}": (a, b) for i, (a, b) in enumerate(itertools.pairwise(widths))}
    if bias:
        shapes |= {f"b{i}": (b,) for i, b in enumerate(widths[1:])}

    def apply(p: Any, z: Any) -> Any:
        for i in range(depth + 1):
            z = z @ p[f"w{i}"] + (p[f"b{i}"] if bias else 0.0)
            z = jnp.tanh(z) if i < depth else z
        return z

    groups = [{f"w{i}": 1, f"w{i + 1}": 0, **({f"b{i}": 0} if bias else {})} for i in range(depth)]
    return apply, draw(**shapes), inputs(4, 3), groups


def batch_norm() -> Any:
    def apply(p: Any, z: Any) -> Any:
        h = z @ p["w"]
        mean, var = h.mean(0), h.var(0)
        h = (h - mean) * jax.lax.rsqrt(var + 1e-5) * p["scale"] + p["shift"]
        h = h * jax.lax.rsqrt(p["kept_var"] ** 2 + 1.0) - p["kept_mean"]
        return jax.nn.relu(h) @ p["out"]

    params = draw(w=(3, 6), scale=(6,), shift=(6,), kept_mean=(6,), kept_var=(6,), out=(6, 2))
    return apply, params, inputs(4, 3), [{"w": 1, "scale": 0, "shift": 0, "kept_mean": 0, "kept_var": 0, "out": 0}]


def inputs(*shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(9).standard_normal(shape), jnp.float32)


def conv(z: Any, kernel: Any, stride: int = 1, groups: int = 1) -> Any:
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(z, kernel, (stride, stride), "SAME", dimension_numbers=numbers, feature_group_count=groups)


def convolution_with_pooling() -> Any:
    def apply(p: Any, z: Any) -> Any:
        h = jax.nn.relu(conv(z, p["k1"]) + p["b1"])
        h = jax.lax.reduce_window(h, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        h = jax.nn.relu(conv(h, p["k2"]))
        return h.reshape(h.shape[0], -1) @ p["out"]

    params = draw(k1=(3, 3, 1, 4), b1=(4,), k2=(3, 3, 4, 5), out=(2 * 2 * 5, 3))
    groups = [{"k1": 3, "b1": 0, "k2": 2}, {"k2": 3, "out": (0, (0, 5, 10, 15), 1)}]
    return apply, params, inputs(2, 4, 4, 1), groups


def residual_convolution() -> Any:
    def norm(h: Any, scale: Any) -> Any:
        return (h - h.mean((1, 2), keepdims=True)) * jax.lax.rsqrt(h.var((1, 2), keepdims=True) + 1e-5) * scale

    def apply(p: Any, z: Any) -> Any:
        h = conv(z, p["stem"])
        for i in "ab":
            h = h + conv(jax.nn.relu(norm(conv(h, p[f"in_{i}"]), p[f"scale_{i}"])), p[f"out_{i}"])
        h = h + jax.nn.relu(conv(h, p["depthwise"], groups=h.shape[-1]))
        return h.mean((1, 2)) @ p["head"]

    shapes = {f"{part}_{i}": (3, 3, 4, 4) for part in ("in", "out") for i in "ab"} | {"scale_a": (4,), "scale_b": (4,)}
    params = draw(stem=(3, 3, 1, 4), depthwise=(3, 3, 1, 4), head=(4, 3), **shapes)
    stream = {"stem": 3, "in_a": 2, "out_a": 3, "in_b": 2, "out_b": 3, "depthwise": 3, "head": 0}
    return apply, params, inputs(2, 4, 4, 1), [stream, *[{f"in_{i}": 3, f"scale_{i}": 0, f"out_{i}": 2} for i in "ab"]]


def lstm() -> Any:
    def apply(p: Any, z: Any) -> Any:
        def cell(carry: Any, now: Any) -> Any:
            h, c = carry
            i, f, g, o = jnp.split(now @ p["wx"] + h @ p["wh"] + p["b"], 4, axis=-1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        start = jnp.zeros((z.shape[0], 5), z.dtype)
        (h, _), _ = jax.lax.scan(cell, (start, start), jnp.swapaxes(z, 0, 1))
        return h @ p["out"]

    gates = (0, 5, 10, 15)
    params = draw(wx=(3, 20), wh=(5, 20), b=(20,), out=(5, 2))
    return apply, params, inputs(4, 6, 3), [{"wx": (1, gates, 1), "wh": [(0, (0,), 1), (1, gates, 1)], "b": (0, gates, 1), "out": 0}]


def layer_norm(h: Any, scale: Any) -> Any:
    return (h - h.mean(-1, keepdims=True)) * jax.lax.rsqrt(h.var(-1, keepdims=True) + 1e-5) * scale


def attention(h: Any, p: Any, heads: int, suffix: str = "") -> Any:
    b, t, _ = h.shape
    q, k, v = ((h @ p[name + suffix]).reshape(b, t, heads, -1) for name in ("wq", "wk", "wv"))
    scores = jnp.einsum("bthd,bshd->bhts", q, k) / np.sqrt(q.shape[-1]).astype(np.float32)
    scores = jnp.where(jnp.tril(jnp.ones((t, t), bool)), scores, -1e9)
    mixed = jnp.einsum("bhts,bshd->bthd", jax.nn.softmax(scores, -1), v)
    return mixed.reshape(b, t, -1) @ p["wo" + suffix]


def transformer(tied: bool) -> Any:
    """Two heads of three, residual stream of 4, MLP of 7; embeddings tied with the output, or not."""

    def apply(p: Any, tokens: Any) -> Any:
        h = p["embed"][tokens] + p["place"]
        h = h + attention(layer_norm(h, p["s1"]), p, 2)
        h = h + jax.nn.gelu(layer_norm(h, p["s2"]) @ p["up"]) @ p["down"]
        return h @ (p["embed"].T if tied else p["out"])

    params = draw(embed=(9, 4), place=(5, 4), s1=(4,), s2=(4,), wq=(4, 6), wk=(4, 6), wv=(4, 6), wo=(6, 4), up=(4, 7), down=(7, 4), out=(4, 9))
    stream = {"embed": 1, "place": 1, "s1": 0, "s2": 0, "wq": 0, "wk": 0, "wv": 0, "wo": 1, "up": 0, "down": 1}
    heads = {name: (1 - (name == "wo"), (0,), 3) for name in ("wq", "wk", "wv", "wo")}
    within = [{"wq": (1, (0, 3), 1), "wk": (1, (0, 3), 1)}, {"wv": (1, (0, 3), 1), "wo": (0, (0, 3), 1)}]
    if tied:
        del params["out"]
    else:
        stream["out"] = 0
    return apply, params, jnp.array([[1, 4, 2, 0, 8], [3, 3, 7, 1, 2]]), [stream, heads, *within, {"up": 1, "down": 0}]


def mixture(hard: bool) -> Any:
    """Four experts of five units, weighted by a gate, or the best of them looked up."""

    def apply(p: Any, z: Any) -> Any:
        gate = z @ p["gate"]
        if hard:
            best = jnp.argmax(gate, -1)
            h = jnp.tanh(jnp.einsum("bi,bih->bh", z, p["up"][best]))
            out = jnp.einsum("bh,bho->bo", h, p["down"][best])
            return out * jnp.sum(jax.nn.one_hot(best, 4, dtype=gate.dtype) * jax.nn.softmax(gate), -1, keepdims=True)
        h = jnp.tanh(jnp.einsum("bi,eih->beh", z, p["up"]))
        value, chosen = jax.lax.top_k(gate, 2)
        mask = jnp.sum(jax.nn.one_hot(chosen, 4, dtype=gate.dtype) * jax.nn.softmax(value)[..., None], -2)
        return jnp.einsum("be,beh,eho->bo", mask, h, p["down"])

    return apply, draw(gate=(3, 4), up=(4, 3, 5), down=(4, 5, 2)), inputs(6, 3), [{"gate": 1, "up": 0, "down": 0}, {"up": 2, "down": 1}]


def gated_mlp() -> Any:
    def apply(p: Any, z: Any) -> Any:
        a, b = jnp.split(z @ p["both"], 2, axis=-1)
        return (jax.nn.silu(a) * b) @ p["down"]

    return apply, draw(both=(3, 12), down=(6, 2)), inputs(4, 3), [{"both": (1, (0, 6), 1), "down": 0}]


def shared_weights() -> Any:
    """One square layer used three times: its units enter and leave it."""

    def apply(p: Any, z: Any) -> Any:
        h = jnp.tanh(z @ p["in"])
        for _ in range(3):
            h = jnp.tanh(h @ p["square"] + p["b"])
        return h @ p["out"]

    params = {"in": (3, 6), "square": (6, 6), "b": (6,), "out": (6, 2)}
    return apply, draw(**params), inputs(4, 3), [{"in": 1, "square": [(0, (0,), 1), (1, (0,), 1)], "b": 0, "out": 0}]


def branches() -> Any:
    def apply(p: Any, z: Any) -> Any:
        h = jnp.concatenate([jnp.tanh(z @ p["left"]), jax.nn.relu(z @ p["right"])], axis=-1)
        return h @ p["out"]

    params = draw(left=(3, 4), right=(3, 4), out=(8, 2))
    return apply, params, inputs(4, 3), [{"left": 1, "out": (0, (0,), 1)}, {"right": 1, "out": (0, (4,), 1)}]


def layers_in_a_scan() -> Any:
    def apply(p: Any, z: Any) -> Any:
        def block(h: Any, layer: Any) -> Any:
            return h + jnp.tanh(h @ layer["up"]) @ layer["down"], None

        h, _ = jax.lax.scan(jax.checkpoint(block), z @ p["in"], {"up": p["up"], "down": p["down"]})
        return h @ p["out"]

    params = draw(**{"in": (3, 4), "up": (3, 4, 6), "down": (3, 6, 4), "out": (4, 2)})
    return apply, params, inputs(4, 3), [{"in": 1, "up": 1, "down": 2, "out": 0}, {"up": 2, "down": 1}]


def branch_and_loop() -> Any:
    """A branch chosen by the inputs, one side of which is constant along the units; and a loop of unknown length that starts from zeros."""

    def apply(p: Any, z: Any) -> Any:
        h = jax.lax.cond(jnp.sum(z) > 0, lambda: jnp.tanh(z @ p["w"]), lambda: jnp.zeros((z.shape[0], 6), z.dtype) + p["out"].sum())

        def more(carry: Any) -> Any:
            count, total = carry
            return count + 1, 0.5 * total + h * p["scale"]

        _, total = jax.lax.while_loop(lambda carry: carry[0] < 3 + (jnp.sum(z) > 0), more, (0, jnp.zeros_like(h)))
        return total @ p["out"]

    return apply, draw(w=(3, 6), scale=(6,), out=(6, 2)), inputs(4, 3), [{"w": 1, "scale": 0, "out": 0}]


MODELS = {
    "a branch and a loop": branch_and_loop,
    **{f"MLP of {d} hidden layers{', biases' * b}": partial(mlp, d, bool(b)) for d in (1, 2, 3, 4) for b in (0, 1)},
    "batch normalisation": batch_norm,
    "convolution with pooling": convolution_with_pooling,
    "residual convolution, depthwise": residual_convolution,
    "LSTM": lstm,
    "transformer with heads": partial(transformer, False),
    "tied embeddings": partial(transformer, True),
    "mixture of experts, two of four": partial(mixture, False),
    "mixture of experts, looked up": partial(mixture, True),
    "gated MLP": gated_mlp,
    "shared weights": shared_weights,
    "concatenated branches": branches,
    "layers in a scan": layers_in_a_scan,
}


@functools.cache
def made(name: str) -> Any:
    """A model with the groups that are found in it: `(apply, params, inputs, groups by hand, groups found)`."""
    apply, params, batch, spec = MODELS[name]()
    return apply, params, batch, spec, eq.networks.find_groups(apply, params, batch)


# --- symmetry broken on purpose: (what breaks it, words of the reason) ------------------------------------------------------


def _two_layers(bend: Any) -> Any:
    return lambda p, z: bend(jnp.tanh(z @ p["w0"]), p, z) @ p["w1"]


_RATES = np.linspace(0.5, 1.5, 6, dtype=np.float32)
_MASK = np.array([1, 0, 1, 1, 0, 1], np.float32)
BROKEN: dict[str, tuple[Any, str]] = {
    "a rate of each unit's own": (_two_layers(lambda h, p, z: h * _RATES), "constant array"),
    "a fixed dropout mask": (_two_layers(lambda h, p, z: jnp.where(_MASK > 0, h, 0.0)), "constant array"),
    "a constant vector added": (_two_layers(lambda h, p, z: h + jnp.asarray(1e-7 * _RATES)), "constant array"),
    "noise from a fixed key": (_two_layers(lambda h, p, z: h + 0.1 * jax.random.normal(jax.random.key(0), (6,))), "random numbers"),
    "position counted in": (_two_layers(lambda h, p, z: h * (1.0 + jnp.arange(6) / 6.0)), "positions are counted"),
    "a cumulative sum": (_two_layers(lambda h, p, z: jnp.cumsum(h, -1)), "order matters"),
    "one unit looked up": (_two_layers(lambda h, p, z: h + jnp.roll(h, 1, -1)), "cut"),
    "a skip from the inputs": (_two_layers(lambda h, p, z: h + jnp.concatenate([z, z], -1)), "inputs"),
    "a convolution over the units": (_two_layers(lambda h, p, z: h + jax.vmap(lambda r: jnp.convolve(r, jnp.array([1.0, 2.0, 1.0]), "same"))(h)), ""),
    "the number of the best unit": (_two_layers(lambda h, p, z: h + jnp.argmax(h, -1, keepdims=True)), "used as numbers"),
    "an operation without a rule": (_two_layers(lambda h, p, z: h + jnp.fft.fft(h, axis=-1).real), "no rule"),
    "units in the outputs": (lambda p, z: (jnp.tanh(z @ p["w0"]), jnp.tanh(z @ p["w0"]) @ p["w1"]), "output"),
}
