"""Transfer as a pullback, `phi_T = phi_S o f`, beside its peers: one optimizer, one budget, numbers that are trained counted."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from eqdyn._types import Key, Tree
from eqdyn.paths._parts import Plan, begin, logits, prepare
from eqdyn.paths._task import asked
from eqdyn.paths._transport import Transport

_PROGRAMS = 32  # compiled ones that are kept


class Budget(NamedTuple):
    """How all methods are trained: Adam (optax) on mean cross-entropy, the step falling to 0 along half a cosine.

    Fields:
        num_steps: of the optimizer.
        batch_size: examples a step, drawn with replacement.
        step_sizes: first steps; of several, each run takes the one of the highest accuracy on the validation split (the first of equals).
    """

    num_steps: int = 500
    batch_size: int = 64
    step_sizes: tuple[float, ...] = (3e-3,)


class Transfer(NamedTuple):
    """What a method of transfer came to. Arrays have an axis `(S,)` of runs in front where keys were `(S,)`, none for one key.

    Fields:
        method: its name.
        accuracy: share of test examples that are classified rightly; exact for these.
        num_trained: numbers that were trained, head included; counted in the tree.
        num_source: numbers in the source representation and a head: what fine-tuning trains.
        seconds: wall time of training one run at one step size, compilation left out.
        step_size: that was taken.
        validation: `(G,)`, accuracy on the validation split by step size; NaN without one. Biased upwards where it chose.
        curve: `(num_steps,)`, loss on the batch before each step [nats].
        params: `{"trained": ..., "frozen": {"features", "start", "head"}}`.
        apply: `(params, z)` of one run to outputs `(n, classes)`; differentiable.
    """

    method: str
    accuracy: Any
    num_trained: int
    num_source: int
    seconds: float
    step_size: Any
    validation: Any
    curve: Any
    params: Tree
    apply: Callable

    @property
    def share(self) -> float:
        """Of what fine-tuning trains, no unit."""
        return self.num_trained / self.num_source


def transfer(
    method: str, features: Callable | Sequence[Callable], source_params: Any, train: Any, test: Any, *, num_params: int | None = None,
    num_labels: int | None = None, start: Transport | None = None, form: str = "principal", head: Any = None, fresh: Callable | None = None,
    validation: Any = None, budget: Budget | None = None, key: Key,
) -> Transfer:  # fmt: skip
    """A source representation carried to a target task, one way or another, with at most `num_params` trained numbers.

        pullback       head(phi(T(z) + g(z))), g affine:   f = T + g is trained, phi frozen
        probe          head(phi(T(z))) + a hidden layer (ReLU) of as many units as are paid for, beside the head
        adapter        phi with a residual bottleneck (ReLU) after every stage; the same number of units at each, the rest to the first that fit
        fine-tuning    phi and head, all of it
        scratch        a network that `fresh` begins on the plain inputs, and its head: all of it

    All but "scratch" see inputs through `start` (T, frozen), begin with the same head and, before the first step, compute the same function;
    all share optimizer, batches, steps and the rule by which the step size is chosen. g is of a `form`:

        principal    between the first r principal axes of target and source inputs (`Transport`), in deviations: r^2 + r numbers
        low rank     of rank r, with a bias inside: r (d + 1 + m)
        affine       any: (d + 1) m

    Units are as many as `num_params` pays for besides the head; what is left over stays unused: `num_trained` is what counts.

    ESTIMATE of what a method can do: it depends on budget, draws and tuning. The test set is looked at once, at the end. Inputs of `train` without
    labels serve for nothing here; `eq.paths.transport` may have seen them.

    Args:
        method: one of the five.
        features: the representation, `(params, z) -> (n, h)`, or a list of such, stage after stage; jittable and row by row. Adapters sit behind
            stages.
        source_params: a tree, or a list of one a stage. With keys `(S,)`, leaves have an axis S in front: a source for each run.
        train: `(z, labels)`, inputs `(n, d)` and whole numbers from 0.
        test: the same, for accuracy alone.
        num_params: the most numbers that pullback, probe and adapter train, head included; None for no limit (affine), no layer beside (probe). Of
            no concern to fine-tuning and scratch, which train all.
        num_labels: labelled examples a run, drawn from `train` by its key, the same for all methods; None takes all.
        start: T, from `eq.paths.transport`; None is the identity.
        form: of the pullback.
        head: `(weight (h, c), bias (c,))` to begin with (not "scratch"), with an axis S in front for keys `(S,)`; None begins at 0.
        fresh: of "scratch", `(key) -> params` of the same stages, for target inputs.
        validation: `(z, labels)` by which the step size is chosen.
        budget: `Budget`; None for its own.
        key: typed; `(S,)` for as many runs, one after the other in one program.

    Returns:
        `Transfer`.

    Raises:
        ValueError: an unknown method or form, shapes or labels that do not fit, a number of parameters that does not pay for head and one unit,
            several step sizes without validation, a start, a head or a `fresh` that is missing or does not fit.
        TypeError: inputs that are not floating, labels that are not whole, no typed key.

    Example:
        >>> import jax, jax.numpy as jnp, eqdyn as eq
        >>> z = jax.random.exponential(jax.random.key(0), (300, 3), jnp.float32)
        >>> labels = (z[:, 0] > z[:, 1]).astype(jnp.int32)
        >>> phi = lambda params, z: jnp.tanh(z @ params)                                    # knows which coordinates to compare
        >>> source, head = jnp.array([[1.0], [-1.0], [0.0]], jnp.float32), (jnp.array([[-9.0, 9.0]], jnp.float32), jnp.zeros(2, jnp.float32))
        >>> target = 2 - z[:, ::-1]                                                         # other order, other sign
        >>> start = eq.paths.transport(target, z, "gromov")
        >>> found = eq.paths.transfer("pullback", phi, source, (target, labels), (target, labels), num_params=16, start=start, head=head,
        ...                           key=jax.random.key(1))
        >>> float(found.accuracy) > 0.95, found.num_trained, found.params["trained"]["f"]["matrix"].shape
        (True, 16, (3, 3))

    References:
        Categorical Invariants of Learning Dynamics, arXiv:2510.04376 (transfer as a pullback, of which this is a reading); Houlsby et al.,
        arXiv:1902.00751 (adapters).
    """
    budget = Budget() if budget is None else budget
    sets = {"train": train, "test": test, "validation": validation}
    plan, frozen, data, keys, steps = asked(method, features, source_params, sets, num_params, num_labels, start, form, head, fresh, budget, key)
    trained, losses, seconds = _trained(plan, budget, num_labels, frozen, data["train"], keys, steps)
    runs, tried = keys.shape[0], steps.shape[0]
    known, chosen = np.full((runs, tried), np.nan), np.zeros(runs, int)
    if data["validation"] is not None:
        known = _accuracy(plan, trained, frozen, data["validation"])
        chosen = np.argmax(known, axis=1)
    trained = jax.tree.map(lambda leaf: leaf[np.arange(runs), chosen][:, None], trained)
    accuracy = _accuracy(plan, trained, frozen, data["test"])[:, 0]
    num_trained = sum(math.prod(leaf.shape[2:]) for leaf in jax.tree.leaves(trained))
    num_source = sum(math.prod(leaf.shape[1:]) for leaf in jax.tree.leaves((frozen["features"], frozen["head"])))
    one = (lambda leaf: leaf[0]) if key.ndim == 0 else (lambda leaf: leaf)
    held = {name: frozen[name] if name == "start" else jax.tree.map(one, frozen[name]) for name in frozen}
    params = {"trained": jax.tree.map(lambda leaf: one(leaf[:, 0]), trained), "frozen": held}
    return Transfer(
        method, one(accuracy), num_trained, num_source, seconds / (runs * tried), one(np.asarray(budget.step_sizes)[chosen]), one(known),
        one(np.asarray(losses)[np.arange(runs), chosen]), params, functools.partial(_apply, plan),
    )  # fmt: skip


def _apply(plan: Plan, params: Tree, z: Any) -> Any:
    return logits(plan, params["trained"], params["frozen"], prepare(plan, params["frozen"], z))


def _one(frozen: Tree, run: Tree) -> Tree:
    """What is frozen of one run: the start is the same for all."""
    return {**run, "start": frozen["start"]}


def _many(frozen: Tree) -> Tree:
    return {name: frozen[name] for name in frozen if name != "start"}


def _train(plan: Plan, num_steps: int, batch_size: int, num_labels: int | None, frozen: Tree, data: Any, keys: Key, steps: Any) -> tuple[Tree, Any]:
    """Trained trees, leaves `(S, G, ...)`, and losses `(S, G, num_steps)`."""
    import optax

    z, labels = data
    tx = optax.scale_by_adam()

    def run(item: tuple[Tree, Key]) -> tuple[Tree, Any]:
        own = _one(frozen, item[0])
        of_draw, of_start, of_batches = jax.random.split(item[1], 3)
        rows = jnp.arange(len(z)) if num_labels is None else jax.random.permutation(of_draw, len(z))[:num_labels]
        first = begin(plan, own, z[:1], of_start)
        held, known = prepare(plan, own, z if num_labels is None else z[rows]), labels[rows]
        batches = jax.random.randint(of_batches, (num_steps, batch_size), 0, rows.shape[0])

        def loss(trained: Tree, batch: Any) -> Any:
            out = logits(plan, trained, own, jax.tree.map(lambda leaf: leaf[batch], held))
            return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(out), known[batch][:, None], axis=1))

        def with_step(size: Any) -> tuple[Tree, Any]:
            def step(carry: tuple, at: tuple) -> tuple:
                trained, state = carry
                k, batch = at
                value, slope = jax.value_and_grad(loss)(trained, batch)
                with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
                    way, state = tx.update(slope, state)
                rate = size * (0.5 + 0.5 * jnp.cos(k.astype(size.dtype) * (math.pi / max(num_steps, 1))))
                return (jax.tree.map(lambda leaf, move: leaf - rate.astype(leaf.dtype) * move, trained, way), state), value

            with jax.numpy_dtype_promotion("standard"):
                state = tx.init(first)
            found: tuple[Any, Any] = jax.lax.scan(step, (first, state), (jnp.arange(num_steps), batches))
            return found[0][0], found[1]

        return jax.lax.map(with_step, steps)

    return jax.lax.map(run, (_many(frozen), keys))


def _score(plan: Plan, trained: Tree, frozen: Tree, data: Any) -> Any:
    """How many are right, `(S, G)`."""
    z, labels = data

    def run(item: tuple[Tree, Tree]) -> Any:
        own = _one(frozen, item[1])
        held = prepare(plan, own, z)
        return jax.lax.map(lambda one: jnp.sum(jnp.argmax(logits(plan, one, own, held), axis=1).astype(labels.dtype) == labels), item[0])

    return jax.lax.map(run, (trained, _many(frozen)))


@functools.lru_cache(maxsize=_PROGRAMS)
def _program(what: Callable, static: tuple, form: Any, shapes: tuple, promotion: str) -> Any:
    """Compiled ahead, so that it can be timed; found again by what it was compiled for."""
    return jax.jit(functools.partial(what, *static)).lower(*jax.tree.unflatten(form, shapes)).compile()


def _compiled(what: Callable, static: tuple, *args: Any) -> Callable:
    leaves, form = jax.tree.flatten(args)
    shapes = tuple(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves)
    return _program(what, static, form, shapes, str(jax.config.jax_numpy_dtype_promotion))  # type: ignore[attr-defined]


def _trained(plan: Plan, budget: Budget, num_labels: int | None, frozen: Tree, data: Any, keys: Key, steps: Any) -> tuple[Tree, Any, float]:
    args = (frozen, data, keys, steps)
    program: Any = _compiled(_train, (plan, budget.num_steps, budget.batch_size, num_labels), *args)
    began = time.perf_counter()
    trained, losses = jax.block_until_ready(program(*args))
    return trained, losses, time.perf_counter() - began


def _accuracy(plan: Plan, trained: Tree, frozen: Tree, data: Any) -> np.ndarray:
    args = (trained, frozen, data)
    return np.asarray(_compiled(_score, (plan,), *args)(*args), np.float64) / len(data[1])
