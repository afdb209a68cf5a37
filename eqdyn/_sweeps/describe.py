"""A sweep in words and numbers: enough to repeat it, and to see whether a folder is of the same one."""

from __future__ import annotations

import json
from typing import Any

import jax
import numpy as np

from eqdyn._sweeps.dataset import labels
from eqdyn._sweeps.plan import Plan
from eqdyn.store._describe import named


def description(plan: Plan, width: int) -> dict[str, Any]:
    """Flat, of strings and numbers. Functions are told by their names and by what they hold, arrays by their content."""
    device = jax.devices()[0]
    return {
        "grid": json.dumps({name: labels(values).tolist() for name, values in plan.grid.items()}),
        "num_steps": plan.num_steps,
        "lanes": width,
        "key": f"{jax.random.key_impl(plan.key)} {np.asarray(jax.random.key_data(plan.key)).tolist()}",
        "every": 1 if plan.every is None else plan.every,
        "chunk": 0 if plan.chunk is None else plan.chunk,
        **{name: named(_content(getattr(plan, name))) for name in ("make_rule", "x0", "eta", "data", "observe", "tracers", "keep")},
        "own program for each": json.dumps(plan.static),
        "traced": json.dumps(plan.traced),
        "jax": jax.__version__,
        "device": f"{device.platform} {device.device_kind}",
        "x64": int(bool(jax.config.jax_enable_x64)),  # type: ignore[attr-defined]
    }


def _content(value: Any) -> Any:
    """What decides: of batches their arrays and size, not what they remember."""
    return ("batches", value.batch_size, value.arrays) if hasattr(value, "batch_size") else value
