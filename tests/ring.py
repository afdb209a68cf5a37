"""What `test_ring` compares, from a process of its own: on 1, 2 and 4 devices of one process, or on those of two.

python3 tests/ring.py OUT.npz                          four devices; also a ring that forgets the last block
python3 tests/ring.py OUT.npz ADDRESS PROCESS          one of two processes with two devices each
"""

import os
import sys

PROCESSES = 2 if __name__ == "__main__" and len(sys.argv) > 2 else 1
if __name__ == "__main__":
    os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + f" --xla_force_host_platform_device_count={4 // PROCESSES}"

import jax  # noqa: E402 - the flags come first
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

import eqdyn as eq  # noqa: E402
from eqdyn import _mesh, _screen  # noqa: E402

PLAIN = {"n": 48, "d": 3}
SCREENED = {"n": 512, "d": 16}  # where Gram products pay
_screen.BLOCK = 8  # of a device's rows, several tiles: an even number of them on 4 devices, an odd one on 2


def well(x, weight):
    return jnp.sum(weight * jnp.sum(jnp.cos(x), axis=1)) + jnp.sum((weight @ x) ** 2) / weight.sum()


RULES = {
    "consensus": eq.rules.consensus(rate=0.7),
    "adam": eq.rules.adam(well, weighted=True),
    "hegselmann_krause": eq.rules.hegselmann_krause(radius=2.0),
    "attraction_repulsion": eq.rules.attraction_repulsion(),
    "self_attention": eq.rules.self_attention(beta=0.5),
    "stein": eq.rules.stein(lambda row: jnp.sum(row**4) / 4),
}
FEW = {name: RULES[name] for name in ("consensus", "hegselmann_krause")}
MEAN_FIELD = ("consensus", "adam")


def start(n, d):
    """Particles with two twins far apart in the order, and one near pair."""
    x = jax.random.normal(jax.random.key(0), (n, d), jnp.float32)
    return x.at[n - 1].set(x[0]).at[n // 2].set(x[1] + 1e-4)


def velocity(x):
    return jnp.sin(3 * x) - x[:, ::-1]


def moved(rule, x):
    """U of each particle, and what the compiler made of it."""
    with _mesh.over(x):
        program = jax.jit(lambda x: rule.update(x, rule.init(x)).u).lower(x).compile()
    return program(x), program.as_text()


def measured(num, rules=RULES, *, only=("stretch", "screened", "certificate", "run")):
    mesh = eq.parallel.mesh(num)
    found = {}

    def put(name, tree):
        for path, leaf in jax.tree_util.tree_leaves_with_path(eq.parallel.gather(tree)):
            found[f"{name}/{jax.tree_util.keystr(path, simple=True, separator='/')}"] = leaf

    x, u = eq.parallel.shard((start(**PLAIN), velocity(start(**PLAIN))), mesh)
    put("pairs/constants", eq.measure.pair_constants(x, u)._asdict())
    weighted = eq.parallel.shard(eq.Weighted(start(**PLAIN), 1 + jnp.arange(PLAIN["n"]) % 3 * 0.5), mesh)
    for name, rule in rules.items():
        value, text = moved(rule, weighted)
        put(f"u/{name}", value.x)
        for word in ("all-gather", "all-reduce", "collective-permute"):
            found[f"text/{name}/{word}"] = np.asarray(word in text)
    if "stretch" in only:
        put("pairs/stretch", eq.measure.stretch(x, x + 0.1 * u)._asdict())
    if "screened" in only:
        put("pairs/screened", eq.measure.pair_constants(*eq.parallel.shard((start(**SCREENED), velocity(start(**SCREENED))), mesh))._asdict())
    if "certificate" in only:
        certificate = eq.certify(x, (x + 0.1 * u).at[2].set((x + 0.1 * u)[3]))  # a merge
        found |= {f"pairs/certificate/{name}": np.asarray(value) for name, value in vars(certificate).items()}
    if "run" not in only:
        return found
    before = eq.compile_count()
    rule, observers = eq.rules.hegselmann_krause(radius=2.0), {"pairs": eq.observe.pair_constants()}
    x = eq.parallel.shard(velocity(jnp.arange(96, dtype=jnp.float32).reshape(48, 2)), mesh)
    run = eq.simulate(rule, x, eta=0.1, num_steps=3, observe=observers, tracers=eq.parallel.gather(x)[:5])
    run = eq.simulate(rule, run, eta=0.1, num_steps=3, observe=observers)
    put("run", {"x": run.x, "tracers": run.tracers, "q": run.observed["pairs"].values.q})
    facts = {"rows": run.x.sharding.shard_shape(run.x.shape)[0], "programs": eq.compile_count() - before, "status": run.status}
    return found | {f"fact/{name}": np.asarray(value) for name, value in facts.items()}


def forgetful(visit, carry, block, mesh, stages=None):
    return ring(visit, carry, block, mesh, (mesh.shape[_mesh.AXIS] if stages is None else stages) - 1)


if __name__ == "__main__":
    if PROCESSES == 2:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(sys.argv[2], num_processes=2, process_id=int(sys.argv[3]))
        results = {4: measured(4, FEW, only=("certificate", "run"))}
    else:
        refused = []
        for wrong, num in ((jnp.ones((6, 2)), 4), (jnp.ones((7, 2)), 4), (eq.Weighted(jnp.ones((8, 2)), jnp.ones(6)), 2)):
            try:
                eq.parallel.shard(wrong, eq.parallel.mesh(num))
            except ValueError as error:
                refused.append(str(error))
        results = {
            1: measured(1),
            2: measured(2, FEW, only=()),
            4: measured(4),
        }
        ring, _mesh.ring = _mesh.ring, forgetful
        jax.clear_caches()
        results["forgetful"] = measured(4, {"hegselmann_krause": RULES["hegselmann_krause"]}, only=()) | {"refused": np.asarray(refused)}
    if jax.process_index() == 0:
        np.savez(sys.argv[1], **{f"{num}/{name}": value for num, found in results.items() for name, value in found.items()})
