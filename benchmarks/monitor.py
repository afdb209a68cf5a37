"""What the monitor costs a training loop of one's own, each part apart.

    EQDYN_DATA=... python3 benchmarks/monitor.py

MNIST, 784-1024-10 sigmoid, optax.sgd(0.5), batch 1,024, an epoch at a time: alone, and watched by `networks.Monitor` with a certificate at
every 20th step and Betti numbers once an epoch, in turn; the median epoch counts. The process that reads topology runs beside on the same
cores: what it takes from the training is in the time of the watched epochs.
"""

from __future__ import annotations

import json
import statistics
import time
from typing import Any

import common
import jax
import jax.numpy as jnp
import optax

import eqdyn as eq
from eqdyn.networks import two_layer

BATCH = 1024


def main() -> None:
    options = common.arguments(__doc__.splitlines()[0], "monitor")
    width, epochs = (128, 2) if options.quick else (1024, options.repeats)
    split = eq.data.digits() if options.quick else eq.data.mnist()
    num_inputs, per_epoch = split.train[0].shape[1], max(1, len(split.train[1]) // BATCH)
    params = two_layer.classifier(eq.shapes.start_mnist(width, key=jax.random.key(0), dim=num_inputs + 10).points, num_inputs)
    tx = optax.sgd(0.5)

    @jax.jit
    def update(params: Any, state: Any, batch: Any) -> Any:
        updates, state = tx.update(jax.grad(two_layer.cross_entropy)(params, batch), state, params)
        return optax.apply_updates(params, updates), state

    batches = eq.Batches(split.train, min(BATCH, len(split.train[1])))
    order = batches.rows(jax.random.key(1), 0, per_epoch)
    data = [jax.tree.map(lambda leaf, rows=rows: jnp.asarray(leaf)[rows], split.train) for rows in order]

    def epoch(params: Any, state: Any, monitor: Any) -> tuple[Any, Any, float]:
        begin = time.perf_counter()
        for batch in data:
            if monitor is not None:
                monitor(params)
            params, state = jax.block_until_ready(update(params, state, batch))
        return params, state, time.perf_counter() - begin

    found = eq.networks.find_groups(two_layer.logits, params, data[0][0][:8])
    monitor = eq.networks.Monitor(found, certificate=20, topology=per_epoch)
    state, watched, alone = tx.init(params), [], []
    for k in range(epochs + 1):  # in turn, so that what else the machine does hits both alike; the first of each compiles
        params, state, seconds = epoch(params, state, None)
        alone += [seconds] * (k > 0)
        params, state, seconds = epoch(params, state, monitor)
        watched += [seconds] * (k > 0)
    monitor.close()
    bare, with_monitor = statistics.median(alone), statistics.median(watched)
    per = {part: seconds / (epochs + 1) for part, seconds in monitor.seconds.items()}
    rows = [
        {"what": "an epoch alone", "seconds": bare, "% of it": 100.0},
        {"what": "an epoch watched", "seconds": with_monitor, "% of it": 100 * with_monitor / bare},
        {"what": "  certificate, in the loop", "seconds": per["certificate"], "% of it": 100 * per["certificate"] / bare},
        {"what": "  handing over, in the loop", "seconds": per["handing over"], "% of it": 100 * per["handing over"] / bare},
        {"what": "  reading, in a process beside", "seconds": per["reading, in its own process"], "% of it": float("nan")},
    ]
    common.table(f"MNIST 784-{width}-10, {per_epoch} steps an epoch, certificate every 20 steps, Betti numbers once an epoch", rows)
    print(f"\ncompiling, once: {monitor.seconds['compiling']:.2f} s; asked for: under 15 % in all; measured {100 * (with_monitor / bare - 1):.1f} %")
    print(monitor.summary())
    options.out.parent.mkdir(parents=True, exist_ok=True)
    result = {"machine": common.machine(), "rows": rows, "summary": monitor.report(), "overhead percent": 100 * (with_monitor / bare - 1)}
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    print(f"written to {options.out}")


if __name__ == "__main__":
    main()
