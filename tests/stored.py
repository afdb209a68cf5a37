"""Runs for the tests of the store, by name, and what other processes do with their folders."""

import contextlib
import functools
import os
import shutil
import sys
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tables import ADAPTED, KEYED, RULES, WEIGHTED, batch, start

import eqdyn as eq


def largest(frame):
    return np.max(np.asarray(jax.tree.leaves(frame.x)[0]))


@functools.cache
def ingredients(name):
    """The rule, start, and other arguments of a run: `RULE dtype`, or one of those below."""
    if name in SPECIAL:
        return SPECIAL[name]()
    rule, dtype = name.rsplit(" ", 1)
    make, takes_data = {**RULES, **KEYED, **ADAPTED}[rule]
    data = eq.Batches(batch(dtype), 16) if takes_data else None
    return make(), start(dtype), {"eta": 1e-2, "data": data, "key": jax.random.key(5), "chunk": 8}


def lanes():
    x0 = start(jnp.float32)
    options = {
        "eta": np.array([1e-2, 3e-2, 1e8]),
        "lanes": 3,
        "tracers": x0[:4],
        "every": 2,
        "observe": {"pairs": eq.observe.pair_constants(stride=3)},
        "chunk": 8,
    }
    data = eq.Batches(batch(jnp.float32), 16)
    return eq.rules.adam(WEIGHTED, weighted=True), x0, {"data": data, "key": jax.random.split(jax.random.key(3), 3), **options}


def schedule():
    x0 = eq.Weighted(start(jnp.float64), jnp.ones(24))
    watch = {"pairs": eq.observe.pair_constants(stride=3), "../since": eq.observe.stretch(stride=2)}
    watch["host"] = eq.observer.recorder(largest, stride=4, on_host=True)
    options = {"eta": optax.cosine_decay_schedule(1e-2, 20), "observe": watch, "chunk": 8}
    return eq.rules.heavy_ball(WEIGHTED, weighted=True), x0, {"data": batch(jnp.float64), **options}


def readings():
    watch = {"bars": eq.observe.persistence(stride=5), "betti": eq.observe.betti(stride=4, max_dim=1), "ledger": eq.observe.certificate()}
    return eq.rules.consensus(), start(jnp.float32), {"eta": 0.1, "observe": watch, "chunk": 8}


def narrow():
    return eq.rules.consensus(), start(jnp.bfloat16), {"eta": 0.1, "observe": {"x": eq.observe.configuration(stride=2)}, "chunk": 8}


def tree():
    x0 = {"w": start(jnp.float32), "b": [jnp.ones(3, jnp.float32)]}
    return eq.rules.from_optax(optax.adam(1.0), squares), x0, {"eta": 0.1, "chunk": 8}


def squares(params):
    return sum(jnp.sum((leaf - 1) ** 2) for leaf in jax.tree.leaves(params))


SPECIAL = {one.__name__: one for one in (lanes, schedule, readings, narrow, tree)}


def begun(name, num_steps):
    rule, x0, options = ingredients(name)
    return eq.simulate(rule, x0, num_steps=num_steps, **options)


def kept(name, folder, **changes):
    rule, x0, options = ingredients(name)
    return eq.store.run(folder, rule, x0, **{"num_steps": 9, "save_every": 4, **options, **changes})


def loaded(name, folder):
    """With all that the run was made with."""
    rule, _, options = ingredients(name)
    eta = options["eta"] if callable(options["eta"]) else None
    return eq.load(folder, rule, options.get("data"), observe=options.get("observe"), eta=eta)


def content(run):
    """All that a run says, as bytes in the order of its leaves."""

    def plain(node):
        if isinstance(node, (eq.observe.Ledger, eq.observer.Series)):
            return plain([node.steps, node.values])
        if isinstance(node, np.ndarray) and node.dtype == object:
            return [plain(item) for item in node.ravel()]
        return jax.tree.map(plain, node, is_leaf=lambda one: one is not node) if jax.tree.structure(node) != jax.tree.structure(0) else node

    said = (
        run.step,
        run.x,
        run.state,
        run.tracers,
        run.steps,
        run.loss,
        run.status_step,
        [plain(run.observed[name]) for name in sorted(run.observed)],
    )
    return [(str(np.asarray(leaf).dtype), np.shape(leaf), np.asarray(leaf).tobytes()) for leaf in jax.tree.leaves(said)] + [str(run.status)]


def files(folder):
    """What is in a folder, but for the log."""
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}
    if "manifest.json" in found:
        found["manifest.json"] = found["manifest.json"].split(b' "log": {')[0] + found["manifest.json"].split(b' "schema"')[1]
    return found


class Killed(BaseException):
    """The process is dead: nothing more happens in it."""


@contextlib.contextmanager
def dying(monkeypatch, moment, error=None):
    """Every change of the disk counts; the one at `moment` fails, half-way if it is a write, and so do all after it; with an `error` it alone.

    Yields a list with the number of changes made so far.
    """
    made = [0]

    def failing(change, half=None):
        def changed(*args, **kwargs):
            made[0] += 1
            if made[0] == moment or (made[0] > moment and error is None):
                if half is not None and made[0] == moment:
                    half(*args)
                raise Killed if error is None else error
            return change(*args, **kwargs)

        return changed

    class Half:
        """A file of which half is written when the process dies."""

        def __init__(self, file):
            self.file = file
            self.write = failing(file.write, lambda chunk: file.write(bytes(chunk)[: len(chunk) // 2]))

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def __getattr__(self, name):
            return getattr(self.file, name)

    def opened(path, mode="r", *args, **kwargs):
        file = open(path, mode, *args, **kwargs)  # noqa: SIM115
        return Half(file) if "w" in mode else file

    with monkeypatch.context() as patch:
        for module, names in ((os, ("replace", "rename", "mkdir", "unlink", "rmdir", "fsync")), (shutil, ("rmtree",))):
            for name in names:
                patch.setattr(module, name, failing(getattr(module, name)))
        patch.setattr(eq.store._files, "open", opened, raising=False)
        yield made


def go_on(folder, steps, *names):
    """With runs that another process has saved; write what they then say."""
    for name in names:
        run = loaded(name, Path(folder) / name).resume(int(steps))
        (Path(folder) / f"{name}.said").write_text(repr(content(run)))


def keep(folder, steps):
    """A job that saves often; it says when it begins to."""
    begun("narrow", 2)
    print("begun", flush=True)
    kept("narrow", folder, num_steps=int(steps), save_every=2)


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    warnings.simplefilter("error")
    {"go_on": go_on, "keep": keep}[sys.argv[1]](*sys.argv[2:])
