"""A run that is saved as it goes, and found again by whoever starts it anew."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from eqdyn import _checks
from eqdyn._run import Run
from eqdyn._simulate import simulate
from eqdyn._types import Key
from eqdyn.observer import Observer
from eqdyn.rule import Rule
from eqdyn.store import _manifest
from eqdyn.store._load import load
from eqdyn.store._save import difference, save


def run(
    folder: str | Path, rule: Rule, x0: Any, *, num_steps: int, save_every: int, eta: Any = 1.0, data: Any = None, key: Key | None = None,
    lanes: int | None = None, observe: Mapping[str, Observer] | None = None, tracers: Any = None, every: int | None = None,
    chunk: int | None = None, progress: Any = None, throw: bool = False,
) -> Run:  # fmt: skip
    """Simulate, saved into a folder every `save_every` steps; started again after a kill, it goes on from what was saved last.

    The run that was killed and started again has the bits of the one that was not, and so have the files in its folder (the section `log` of
    the manifest has times and processes).

    Args:
        folder: a new folder, or that of the same run.
        rule, x0, eta, data, key, lanes, observe, tracers, every, chunk, progress, throw: as in `eq.simulate`.
        num_steps: steps from the beginning, those in the folder included.
        save_every: in steps, >= 1; what a kill can cost.

    Returns:
        `Run` after `num_steps` steps.

    Raises:
        ValueError: the folder holds another run, or more steps than that; `Damaged` where it is. Else as `eq.simulate` and `store.save`.
        Interrupted: Ctrl-C; what was saved is there, and the run goes on from it.

    Example:
        >>> import tempfile, jax.numpy as jnp, eqdyn as eq
        >>> folder, x0 = tempfile.mkdtemp(), jnp.array([[0.0], [4.0]])
        >>> for num_steps in (2, 5):                                # the second time it goes on from step 2
        ...     run = eq.store.run(folder, eq.rules.consensus(), x0, eta=0.5, num_steps=num_steps, save_every=2)
        >>> run.step, run.x.ravel().tolist()
        (5, [1.9375, 2.0625])
    """
    num_steps, save_every = _checks.count(num_steps, "num_steps"), _checks.count(save_every, "save_every", least=1)
    found = simulate(
        rule, x0, eta=eta, num_steps=0, data=data, key=key, lanes=lanes, observe=observe, tracers=tracers, every=every, chunk=chunk,
    )  # fmt: skip
    if _manifest.kind(Path(folder)) is not None:
        _same(_manifest.read(Path(folder)), found, num_steps, folder)
        found = load(folder, rule, data, observe=observe, eta=eta if callable(eta) else None, x0=x0)
    while found.step < num_steps:
        found = found.resume(min(save_every - found.step % save_every, num_steps - found.step), progress=progress)
        save(found, folder)
        if throw and not np.all(found.status == "ok"):
            raise FloatingPointError(found.summary())
    return found


def _same(there: dict[str, Any], begun: Run, num_steps: int, folder: Any) -> None:
    """What is asked for is what the folder holds the beginning of."""
    asked, legs = _manifest.configuration(begun)["legs"][0], there["configuration"]["legs"]
    differs = difference(legs[0], asked) if len(legs) == 1 else "legs"
    if differs is not None:
        got, expected = (str(one.get(differs))[:120] for one in (asked, legs[0]))
        msg = f"folder: {folder} holds a run with {differs} {expected}; got {got}; expected the same run; write a new folder."
        raise ValueError(msg)
    if there["step"] > num_steps:
        msg = f"num_steps: got {num_steps}; expected at least {there['step']}, the steps in {folder}."
        raise ValueError(msg)
