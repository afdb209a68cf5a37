"""The network on MNIST: Betti numbers, certificates and the sharpness along training, epoch by epoch."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from eqdyn import data, measure, observe, rules, shapes, topology
from eqdyn._simulate import simulate
from eqdyn.data import Batches, Split
from eqdyn.networks import two_layer
from eqdyn.reproduce._experiment import Experiment
from eqdyn.reproduce._outcome import Outcome

_MEAN, _DEVIATION = 0.1307, 0.3081  # as the public code normalises
_STRIDE = 20  # steps between two that are certified
_LANCZOS = 10  # products: the top eigenvalue of these runs has five digits then


class MnistRun(NamedTuple):
    """Along one run: `betti` `(epochs + 1, 3)`, `inverse_k` `(epochs + 1,)` = 1/lambda_max [eta] on the batch of the step (NaN: not read)."""

    betti: np.ndarray
    inverse_k: np.ndarray
    outcome: Outcome


def inputs(*, quick: bool = False) -> Split:
    """MNIST as the public code normalises it; the digits of scikit-learn, quickly."""
    split = data.digits() if quick else data.mnist()
    scaled = [((part[0] - jnp.asarray(_MEAN, part[0].dtype)) / jnp.asarray(_DEVIATION, part[0].dtype), part[1]) for part in split]
    return Split(*scaled)


def run(experiment: Experiment, rate: str, seed: int, split: Split, *, sharpness: bool, quick: bool = False, progress: Any = None) -> MnistRun:
    """One seed at one step size."""
    of_start, of_run = jax.random.split(jax.random.key(seed))
    width, epochs = (128, 2) if quick else (experiment.width, experiment.epochs[rate])
    num_inputs, eta = split.train[0].shape[1], experiment.rates[rate]
    begin = two_layer.classifier(getattr(shapes, experiment.start)(width, key=of_start, dim=num_inputs + 10).points, num_inputs)
    neurons = two_layer.neurons(begin)
    rule = getattr(rules, experiment.optimizer)(two_layer.cross_entropy)
    slope = rules.gradient(two_layer.cross_entropy)
    batches = Batches(split.train, 128 if quick else experiment.batch)
    watch = {
        "ledger": observe.certificate(group=neurons, stride=_STRIDE),
        "betti": observe.betti(group=neurons, stride=batches.steps_per_epoch),
    }
    if sharpness:
        watch["sharpness"] = observe.sharpness(slope, stride=batches.steps_per_epoch, num_iters=_LANCZOS)
    num_steps = epochs * batches.steps_per_epoch
    done = simulate(rule, begin, eta=eta, num_steps=num_steps, data=batches, key=of_run, observe=watch, progress=progress)
    start, end = neurons.particles(begin), neurons.particles(done.x)
    status = "ok" if done.status == "ok" else f"{done.status} at step {done.status_step}"
    # what lies between is not given: the stretch of 14 and more leaves nothing to certify, and to try takes minutes
    found = topology.change(start, end) if status == "ok" else None
    last = found.after if found else (-1, -1, -1)
    betti = np.concatenate([done.observed["betti"].values, [last]])
    inverse = np.full(len(betti), np.nan)
    first = measure.sharpness(slope, begin, data=tuple(leaf[: batches.batch_size] for leaf in split.train))
    if sharpness:
        inverse[:-1] = eta / np.asarray(done.observed["sharpness"].values.eta_lambda)
    ledger = done.observed["ledger"]
    q = np.where(np.isnan(ledger.values.q), np.inf, ledger.values.q)
    outcome = Outcome(
        experiment.name, seed, rate, eta, status, num_steps, ledger.steps_seen, int(ledger.open.sum()), float(q.max()),
        float(ledger.values.eta_mu.max()),
        int(ledger.values.merged.sum()), found.low if found else np.nan, found.high if found else np.nan, eta * float(first.value),
        tuple(betti[0].tolist()), tuple(betti[-1].tolist()), tuple(one.verdict for one in found.degrees) if found else (),
        float(two_layer.cross_entropy(begin, _some(split.train))), float(two_layer.cross_entropy(done.x, _some(split.train))),
        float(two_layer.accuracy(done.x, split.test)),
    )  # fmt: skip
    return MnistRun(betti, inverse, outcome)


def _some(part: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
    return part[0][:10_000], part[1][:10_000]
