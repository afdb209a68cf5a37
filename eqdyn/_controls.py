"""Controls: the same system at smaller steps and equal time, and its flow."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from eqdyn import _checks
from eqdyn._flow import Flow, flow
from eqdyn._run import Run
from eqdyn._simulate import simulate
from eqdyn._types import Key
from eqdyn.data import Batches
from eqdyn.observer import Observer
from eqdyn.rule import Rule

Given = Literal["held", "fresh", "full"]


class Control(NamedTuple):
    """A run with its step size, which a `Run` does not carry.

    Fields:
        run: a `Run`, or the `Flow` of a rule.
        eta: its step size, a number or one a lane; 0 for a flow, None where it varied.
        time: how long it ran, `eta` times its steps where None.
    """

    run: Run | Flow
    eta: Any = None
    time: Any = None


def controls(
    rule: Rule, x0: Any, *, eta: float, num_steps: int, factors: Sequence[float] = (1, 0.5, 0.25), flow: bool = True, data: Any = None,
    batches: Given = "held", key: Key | None = None, observe: Mapping[str, Observer] | None = None, rtol: float | None = None,
    atol: float | None = None, progress: Any = None,
) -> dict[str, Control]:  # fmt: skip
    """The same system at smaller steps and equal time `eta * num_steps`, and its flow `dx/dt = U(x)`: what is due to the step size
    differs between them, what is due to time does not. `eq.compare` puts them side by side.

    Which question is answered depends on what minibatches become (`batches`; without minibatches all three are one):

        "held"   a smaller step sees each batch of the first run for as long a time, several steps in a row: the noise is the same,
                 so what differs is due to the step alone
        "fresh"  every step draws a batch of its own: a smaller step averages over more of them, so what differs is due to the step
                 and to the noise that comes with it
        "full"   every step sees all rows: no noise; the flow is the limit of small steps

    The flow always feels all rows at once. It is an estimate to a stated tolerance (see the `Flow` that comes back); it needs the
    extra `flow`. A rule with a state can be run at smaller steps, but its hyperparameters are per step and stay: momentum 0.9 at half
    the step forgets twice as fast in time.

    Args:
        rule: the update rule.
        x0: where all start.
        eta: step size of the run in question, a number.
        num_steps: its steps.
        factors: step sizes to run, over `eta`, each in (0, 1] and `num_steps / factor` a whole number.
        flow: solve the flow too.
        data: None, a tree, or `Batches`.
        batches: see above.
        key: a typed key, the same for all.
        observe: observers, the same for all; strides count steps.
        rtol, atol: tolerances of the flow; default 1e-5 in float32, 1e-9 in float64, and a hundredth of that.
        progress: as in `simulate`.

    Returns:
        `Control(run, eta, time)` by name: "eta", "eta/2", "eta/4" (or "0.3 eta" for other factors), and "flow".

    Raises:
        ValueError, TypeError: arguments that make no sense; with `flow=True` a rule with a state.
        ImportError: with `flow=True` diffrax is missing.

    Example:
        >>> import jax.numpy as jnp, eqdyn as eq
        >>> decay = eq.rules.gradient(lambda x: jnp.sum(x**2) / 2)
        >>> found = eq.controls(decay, jnp.ones((2, 1)), eta=0.5, num_steps=2, flow=False)
        >>> {name: (control.run.step, control.time, round(float(control.run.x[0, 0]), 3)) for name, control in found.items()}
        {'eta': (2, 1.0, 0.25), 'eta/2': (4, 1.0, 0.316), 'eta/4': (8, 1.0, 0.344)}
    """
    num_steps = _checks.count(num_steps, "num_steps", least=1)
    if isinstance(eta, (list, tuple)) or callable(eta) or np.ndim(eta) != 0:
        msg = f"eta: got {type(eta).__name__}; expected one number, the step size of the run in question."
        raise TypeError(msg)
    _checks.step_size(eta)
    if batches not in ("held", "fresh", "full"):
        msg = f"batches: got {batches!r}; expected 'held', 'fresh' or 'full'."
        raise ValueError(msg)
    drawn = isinstance(data, Batches) and batches != "full"
    plan = {}
    for factor in factors:
        steps, repeats = _whole(num_steps / _factor(factor)), _whole(1 / factor)
        if steps is None or (drawn and batches == "held" and repeats is None):
            need = "num_steps / factor" if steps is None else "1 / factor (each batch is held for that many steps; or write batches='fresh')"
            msg = f"factors: got {factor} with num_steps={num_steps}; expected {need} to be a whole number."
            raise ValueError(msg)
        plan["eta" if repeats == 1 else f"eta/{repeats}" if repeats else f"{factor:g} eta"] = (steps, repeats)
    time = float(eta) * num_steps
    end = _flow(rule, x0, time=time, data=data, rtol=rtol, atol=atol) if flow else None
    given = data.arrays if isinstance(data, Batches) and not drawn else data
    found = {}
    for name, (steps, repeats) in plan.items():
        size = float(eta) if steps == num_steps else time / steps  # the run in question has the very eta that was given
        fed = _Held(given, repeats) if drawn and batches == "held" and repeats else given
        run = simulate(rule, x0, eta=size, num_steps=steps, data=fed, key=key, observe=observe, progress=progress)
        found[name] = Control(run, size, time)
    return found if end is None else {**found, "flow": Control(end, 0.0, end.time)}


_flow = flow  # the argument of `controls` has the plain name


def _factor(value: Any) -> float:
    value = _checks.number(value, "factors", above=0)
    if value > 1:
        msg = f"factors: got {value}; expected numbers in (0, 1], step sizes over eta."
        raise ValueError(msg)
    return value


def _whole(value: float) -> int | None:
    return round(value) if math.isclose(value, round(value), rel_tol=1e-9) else None


class _Held(Batches):
    """Batches that each last `repeats` steps."""

    def __init__(self, batches: Batches, repeats: int):
        super().__init__(batches.arrays, batches.batch_size)
        self._repeats = repeats

    def rows(self, key: Key, first: int, num_steps: int) -> np.ndarray:
        at = np.arange(first, first + num_steps) // self._repeats
        start = first // self._repeats
        found = super().rows(key, start, int(at[-1]) - start + 1 if num_steps else 0)
        return found[..., at - start, :] if num_steps else found
