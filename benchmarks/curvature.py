"""The curvature part of `critical.py`: sharpness and swap curvature of the 784-1024-10 network, beside hessian-eigenthings.

One fixed batch, float32, the same number of Lanczos steps. hessian-eigenthings and PyTorch are optional (`pip install torch==2.13.0
hessian-eigenthings==1.0.0a5`); where they are absent their row says so. The bound is as many gradients as Lanczos makes products: a
product is as dear as two to four of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import common
import jax
import numpy as np

import eqdyn as eq
from eqdyn.networks import two_layer

STEPS = 30


def peer(params: Any, batch: tuple[Any, Any], steps: int = STEPS) -> Callable[[], float] | None:
    """The largest eigenvalue of the same Hessian by hessian-eigenthings; None where it is not installed."""
    try:
        import torch
        from hessian_eigenthings import HessianOperator, lanczos, supervised_loss
    except ImportError:
        return None
    torch.manual_seed(0)
    hidden, output = (torch.nn.Linear(*params[name].shape, bias=False) for name in ("hidden", "output"))
    model = torch.nn.Sequential(hidden, torch.nn.Sigmoid(), output)
    with torch.no_grad():
        for layer, name in ((hidden, "hidden"), (output, "output")):
            layer.weight.copy_(torch.tensor(np.asarray(params[name]).T))
    data = [(torch.tensor(np.asarray(batch[0])), torch.tensor(np.asarray(batch[1])).long())]
    operator = HessianOperator(model, data, supervised_loss(torch.nn.functional.cross_entropy))
    return lambda: float(lanczos(operator, k=1, max_iter=steps, tol=0.0, seed=0).eigenvalues[0])


def curvature(params: Any, batch: tuple[Any, Any], repeats: int) -> list[dict[str, Any]]:
    rule, group = eq.rules.gradient(two_layer.classifier_field(params)), two_layer.neurons(params)
    gradient = jax.jit(jax.grad(two_layer.cross_entropy))
    beside = peer(params, batch)
    calls: dict[str, Callable[[], Any]] = {
        f"bound: {STEPS} gradients": lambda: [gradient(params, batch) for _ in range(STEPS)],
        f"sharpness, {STEPS} steps of Lanczos": lambda: eq.measure.sharpness(rule, params, data=batch, num_iters=STEPS).value,
        f"swap curvature of all neurons, {STEPS} steps": lambda: eq.measure.transverse(rule, params, data=batch, group=group, num_iters=STEPS).norm,
        "eq.critical, everything": lambda: eq.critical(rule, params, data=batch, group=group).pair.value,
    }
    if beside is not None:
        calls[f"sharpness, hessian-eigenthings, {STEPS} steps of Lanczos"] = beside
    times = common.interleaved(calls, repeats)
    bound = times[f"bound: {STEPS} gradients"]["median"]
    table = []
    for row, found in times.items():
        value = float("nan") if row.startswith("bound") else float(np.max(calls[row]()))
        table.append(
            {"row": row, "ms": 1e3 * found["median"], "of the bound": found["median"] / bound, "value": value, "first call, s": found["first"]}
        )
    if beside is None:
        absent = float("nan")
        table.append({"row": "hessian-eigenthings: not installed", "ms": absent, "of the bound": absent, "value": absent, "first call, s": absent})
    return table
