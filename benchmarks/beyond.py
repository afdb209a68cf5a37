"""Beyond the paper's two layers: a deep MLP, a convolutional network and a small transformer. Which groups can merge, and when?

    python3 benchmarks/beyond.py

The groups are found, not written. Gradient descent and Adam, each at a small and a large step, with and without weight decay; every tenth step is
certified for every group over all pairs of its units. Beside it eta*lambda_max on the step's batch (2 is where quadratic descent diverges; of Adam it
is the plain Hessian's, which is not what decides), the distances since the start, and along the run the units left when those fold whose
incoming weights agree within 1 % of the median norm of a unit. Images are the digits that scikit-learn carries, text is this repository's README,
character by character.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import common
import jax
import jax.numpy as jnp
import numpy as np
import optax

import eqdyn as eq

ROOT = Path(__file__).parent.parent
STRIDE = 10


class Model(NamedTuple):
    """`apply(params, inputs)` gives logits; `data` inputs and labels, labels of the same shape as logits without the last axis."""

    apply: Callable[[Any, Any], Any]
    params: dict[str, jax.Array]
    data: tuple[jax.Array, jax.Array]


def drawn(key: jax.Array, **shapes: tuple[int, ...]) -> dict[str, jax.Array]:
    """Normal weights over the root of what enters; one-dimensional leaves are scales, and start at 1."""
    keys = jax.random.split(key, len(shapes))
    return {
        name: jnp.ones(shape) if len(shape) == 1 else jax.random.normal(one, shape) / np.sqrt(np.prod(shape[:-1]))
        for one, (name, shape) in zip(keys, shapes.items(), strict=True)
    }


def mlp(key: jax.Array) -> Model:
    def apply(p: Any, z: Any) -> Any:
        for name in ("w0", "w1", "w2", "w3"):
            z = jnp.tanh(z @ p[name])
        return z @ p["out"]

    return Model(apply, drawn(key, w0=(64, 96), w1=(96, 96), w2=(96, 96), w3=(96, 96), out=(96, 10)), eq.data.digits().train)


def convolution(key: jax.Array) -> Model:
    def conv(z: Any, kernel: Any) -> Any:
        return jax.lax.conv_general_dilated(z, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    def pool(z: Any) -> Any:
        return jax.lax.reduce_window(z, 0.0, jax.lax.add, (1, 2, 2, 1), (1, 2, 2, 1), "VALID") / 4

    def apply(p: Any, z: Any) -> Any:
        h = z.reshape(-1, 8, 8, 1)
        h = pool(jax.nn.relu(conv(h, p["k0"])))
        h = pool(jax.nn.relu(conv(h, p["k1"])))
        return h.reshape(h.shape[0], -1) @ p["out"]

    return Model(apply, drawn(key, k0=(3, 3, 1, 32), k1=(3, 3, 32, 64), out=(2 * 2 * 64, 10)), eq.data.digits().train)


def transformer(key: jax.Array, length: int = 32, width: int = 48, heads: int = 4) -> Model:
    text = (ROOT / "README.md").read_text()
    letters = sorted(set(text))
    code = np.searchsorted(letters, list(text))
    rows = np.lib.stride_tricks.sliding_window_view(code, length + 1)[::8].astype(np.int32)

    def norm(h: Any, scale: Any) -> Any:
        return (h - h.mean(-1, keepdims=True)) * jax.lax.rsqrt(h.var(-1, keepdims=True) + 1e-5) * scale

    def apply(p: Any, tokens: Any) -> Any:
        h = p["embed"][tokens] + p["place"]
        for k in "ab":
            q, key_, v = ((norm(h, p[f"{k}_s1"]) @ p[f"{k}_{name}"]).reshape(*h.shape[:2], heads, -1) for name in ("query", "key", "value"))
            scores = jnp.einsum("bthd,bshd->bhts", q, key_) / np.sqrt(width // heads)
            scores = jnp.where(jnp.tril(jnp.ones((length, length), bool)), scores, -1e9)
            h = h + jnp.einsum("bhts,bshd->bthd", jax.nn.softmax(scores, -1), v).reshape(h.shape) @ p[f"{k}_mix"]
            h = h + jax.nn.gelu(norm(h, p[f"{k}_s2"]) @ p[f"{k}_up"]) @ p[f"{k}_down"]
        return h @ p["out"]

    shapes: dict[str, tuple[int, ...]] = {"embed": (len(letters), width), "place": (length, width), "out": (width, len(letters))}
    for k in "ab":
        shapes |= {f"{k}_{name}": (width, width) for name in ("query", "key", "value", "mix")}
        shapes |= {f"{k}_s1": (width,), f"{k}_s2": (width,), f"{k}_up": (width, 4 * width), f"{k}_down": (4 * width, width)}
    return Model(apply, drawn(key, **shapes), (jnp.asarray(rows[:, :-1]), jnp.asarray(rows[:, 1:])))


MODELS = {"deep MLP": mlp, "convolution": convolution, "transformer": transformer}
STEPS = {"GD": {"small": 0.05, "large": 1.0}, "Adam": {"small": 3e-4, "large": 1e-2}}
DECAY = {"no decay": 0.0, "decay": 3e-3}  # decoupled: the share of the weights that a step takes away


def rule_of(loss: Callable, optimizer: str, decay: float) -> eq.Rule:
    base = eq.rules.gradient(loss) if optimizer == "GD" else eq.rules.adam(loss)
    return eq.rules.weight_decay(base, decay=decay) if decay else base


def rows_of(name: str, model: Model, num_steps: int, seed: int) -> list[dict[str, Any]]:
    def loss(p: Any, batch: Any) -> Any:
        return optax.softmax_cross_entropy_with_integer_labels(model.apply(p, batch[0]), batch[1]).mean()

    found = eq.networks.find_groups(model.apply, model.params, model.data[0][:4])
    groups = found.named()
    print(f"\n{name}: {', '.join(f'{key} ({group.size} units of {group.dim})' for key, group in groups.items())}", flush=True)
    table = []
    for optimizer, steps in STEPS.items():
        for size, eta in steps.items():
            for decayed, share in DECAY.items():
                decay = share / eta
                rule, slope = rule_of(loss, optimizer, decay), eq.rules.gradient(loss)
                watch = {
                    "ledger": eq.observe.certificate(group=groups, stride=STRIDE),
                    "left": eq.observer.recorder(
                        lambda frame: {key: np.int64(_left(group, frame.x)) for key, group in groups.items()}, stride=num_steps // 4, on_host=True
                    ),
                    "sharpness": eq.observe.sharpness(slope, stride=num_steps // 4),
                }
                began = time.perf_counter()
                run = eq.simulate(
                    rule, model.params, eta=eta, num_steps=num_steps, data=eq.Batches(model.data, 64), key=jax.random.key(seed), observe=watch
                )
                seconds = time.perf_counter() - began
                sharp = np.asarray(run.observed["sharpness"].values.eta_lambda)
                for key, group in groups.items():
                    ledger = run.observed["ledger"][key]
                    along = [*run.observed["left"].values[key].tolist(), _left(group, run.x)]
                    q = np.where(np.isnan(ledger.values.q), np.inf, ledger.values.q)
                    table.append(
                        {
                            "model": name, "optimizer": optimizer, "step": size, "eta": eta, "share decayed": share,
                            "group": key, "units": group.size,
                            "eta*lambda_max, first": float(sharp[0]), "eta*lambda_max, last": float(sharp[-1]), "largest eta*K_pair": float(q.max()),
                            "could merge": int(ledger.open.sum()), "of": ledger.steps_seen, "first at": int(ledger.first_possible),
                            "merged": int(ledger.values.merged.sum()), "low": float(np.exp(ledger.values.log_low[-1])),
                            "high": float(np.exp(ledger.values.log_high[-1])), "units left": along[-1], "along": along,
                            "loss, last": float(loss(run.x, tuple(leaf[:512] for leaf in model.data))), "status": str(run.status), "seconds": seconds,
                        }
                    )  # fmt: skip
                worst = max(table[-len(groups) :], key=lambda row: row["largest eta*K_pair"])
                most = f"largest eta*K_pair {worst['largest eta*K_pair']:.3g} in {worst['group']}"
                print(f"  {optimizer} {size} {eta:g}, {decayed}: {most}, {seconds:.0f} s", flush=True)
    return table


def _left(group: Any, params: Any) -> int:
    """Units left when those whose incoming weights agree within 1 % of the median norm of a unit fold; -1 if a weight is not finite, or if
    units cannot fold: such as are also averaged over (a residual stream under its normalisation).
    """
    x = np.asarray(group.particles(params))
    if group.between or any(leaf.outgoing is None for leaf in group.leaves) or not np.isfinite(x).all():
        return -1
    return eq.networks.effective_width(params, group, 0.01 * float(np.median(np.linalg.norm(x, axis=1))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="few steps, to see that it runs; figures are not to be quoted")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out" / "beyond.json", help="where the JSON goes")
    options = parser.parse_args()
    num_steps = 40 if options.quick else options.steps
    keys = jax.random.split(jax.random.key(options.seed), len(MODELS))
    rows: list[dict[str, Any]] = []
    for key, (name, make) in zip(keys, MODELS.items(), strict=True):
        rows += rows_of(name, make(key), num_steps, options.seed)
    left_out = {"step", "eta*lambda_max, last", "first at", "seconds", "along"}
    common.table(f"{num_steps} steps, one in {STRIDE} certified", [{key: value for key, value in row.items() if key not in left_out} for row in rows])
    common.write(options.out, {"machine": common.machine(), "rows": rows})


if __name__ == "__main__":
    main()
