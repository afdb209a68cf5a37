"""The flow of a rule, dx/dt = U(x): what is left when steps are small. The only file that knows diffrax."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from eqdyn import _checks
from eqdyn._chunk import loss_of
from eqdyn._types import Tree
from eqdyn.data import Batches
from eqdyn.rule import Rule

RTOL = {32: 1e-5, 64: 1e-9}  # by the bits of the dtype; the absolute tolerance is a hundredth of it
MAX_STEPS = 1_000_000


class Flow(NamedTuple):
    """Where the flow of a rule has carried a configuration. To be read like a `Run` of one lane.

    Fields:
        x: the configuration at the end; NaN or infinite where it failed.
        time: how long it ran; less than was asked for where it failed.
        step: steps of the solver that were kept.
        rejected: steps that it took back.
        status: "ok", "nonfinite", or "unfinished" (too many steps, or steps too small for the dtype).
        loss: loss at the start and at the end `(2,)`, if the rule tells one.
        rtol, atol: what an error of a step was held against, `atol + rtol |x|`, root mean square over all coordinates.
        observed, lanes: empty, None.
    """

    x: Tree
    time: float
    step: int
    rejected: int
    status: str
    loss: np.ndarray | None
    rtol: float
    atol: float
    observed: dict[str, Tree] = {}  # noqa: RUF012 - nothing is written into it
    lanes: None = None


def flow(rule: Rule, x0: Any, *, time: float, data: Any = None, rtol: float | None = None, atol: float | None = None) -> Flow:
    """Solve `dx/dt = U(x)` for `time`, by Tsitouras' 5(4) pair with steps that fit the tolerance (diffrax). An estimate.

    The tolerance holds step by step; the error at the end is not bounded by it, but goes to zero with it. Two tolerances tell. Stiff
    flows cost steps: about the largest curvature times `time`, over 3.

    Args:
        rule: one without a state and without noise.
        x0: configuration.
        time: in the unit of eta, > 0.
        data: None or a tree, felt at all times; of `Batches` all rows at once.
        rtol: relative tolerance of a step; default 1e-5 in float32, 1e-9 in float64.
        atol: absolute tolerance of a step [x]; default a hundredth of `rtol`.

    Raises:
        ValueError: a rule with a state: momentum's flow is another equation, of second order.
        ImportError: diffrax is missing.
    """
    try:
        import diffrax  # noqa: F401
    except ImportError as error:
        msg = "flow: diffrax is missing; write pip install 'eqdyn[flow]', or flow=False."
        raise ImportError(msg) from error
    x0 = _checks.configuration(x0, "x0")
    _checks.finite(x0, "x0")
    if jax.tree.leaves(jax.eval_shape(rule.init, x0)):
        msg = (
            "rule: got one with a state, whose small steps follow another equation (momentum: one of second order); "
            "expected a rule without; write flow=False."
        )
        raise ValueError(msg)
    data = data.arrays if isinstance(data, Batches) else _checks.batch(data)
    bits = min(jnp.finfo(leaf.dtype).bits for leaf in jax.tree.leaves(x0))
    rtol = _checks.number(RTOL.get(bits, 1e-2) if rtol is None else rtol, "rtol", above=0)
    atol = _checks.number(rtol / 100 if atol is None else atol, "atol", above=0)
    time = _checks.number(time, "time", above=0)
    x, reached, kept, rejected, done, losses = _solved(rule, x0, data, time, rtol, atol)
    finite = all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(x))
    status = "nonfinite" if not finite else "ok" if done else "unfinished"
    return Flow(x, time if done else float(reached), int(kept), int(rejected), status, None if losses is None else np.asarray(losses), rtol, atol)


@functools.partial(jax.jit, static_argnums=0)
def _solved(rule: Rule, x0: Tree, data: Tree, time: Any, rtol: Any, atol: Any) -> tuple[Any, ...]:
    import diffrax

    def velocity(t: Any, x: Tree, data: Tree) -> Tree:
        new = rule.update(x, rule.init(x), data, key=None)
        _checks.moved_like(new.u, x)
        return new.u

    def loss(x: Tree) -> Any:
        return loss_of(rule.update(x, rule.init(x), data, key=None).info)

    dtype = jnp.result_type(*jax.tree.leaves(x0))
    start, time, rtol, atol = (jnp.asarray(value, dtype) for value in (0, time, rtol, atol))
    controller = diffrax.PIDController(rtol=rtol, atol=atol, dtmin=time * jnp.finfo(dtype).eps, force_dtmin=False)
    found = diffrax.diffeqsolve(
        diffrax.ODETerm(velocity), diffrax.Tsit5(), start, time, None, x0, data, stepsize_controller=controller, max_steps=MAX_STEPS, throw=False
    )
    x = jax.tree.map(lambda leaf: leaf[0], found.ys)
    losses = None if jax.eval_shape(loss, x0) is None else jnp.stack([loss(x0), loss(x)])
    done = found.result == diffrax.RESULTS.successful
    return x, found.ts[0], found.stats["num_accepted_steps"], found.stats["num_rejected_steps"], done, losses
