"""Three lines in anybody's training loop: certificates, constants, merges and Betti numbers of a model's groups while it trains."""

from __future__ import annotations

import contextlib
import json
import math
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
import numpy as np

from eqdyn import _checks, topology
from eqdyn._types import Points, Tree
from eqdyn.groups import Group
from eqdyn.networks._beside import Beside
from eqdyn.networks._find import Groups
from eqdyn.networks._steps import StepRecord, particles_of, seen, since


class Monitor:
    """Watches the groups of a model in somebody's own training loop, and never stops it: a failure is a warning with the reason.

    Call it once a step with the parameters, the first time before the first step. At every `certificate`-th step the step that follows is
    certified, over all pairs, in the dtype of the parameters: exact up to rounding, for the steps that are seen. At every `topology`-th step
    the particles are handed to a process of their own, which reads their Betti numbers; the loop does not wait for it, and where four
    clouds wait already the next is left out, and counted. The stretch since the start is taken then too.

    Args:
        groups: what `find_groups` returns, a `Group`, or a dict of them by name.
        certificate: every how many steps one is certified; None for never.
        topology: every how many steps Betti numbers are read (say, those of an epoch); None for never.
        scale, max_dim: as in `topology.betti`; the scale a number or a string such as "diameter/4".
        out: a folder for `monitor.jsonl`, a line a record, and `summary.json`; None writes nothing.
        progress: True for a line on stderr at every reading of topology.

    Raises:
        TypeError, ValueError: arguments that make no sense, when it is made; nothing later.

    Example:
        >>> import jax, jax.numpy as jnp, eqdyn as eq
        >>> apply = lambda params, z: jnp.tanh(z @ params["w"]) @ params["out"]
        >>> params = {"w": jnp.array([[1.0, 2.0, 3.0]]), "out": jnp.array([1.0, -1.0, 0.5])}
        >>> z = jnp.ones((4, 1))
        >>> monitor = eq.networks.Monitor(eq.networks.find_groups(apply, params, z), certificate=1)
        >>> for _ in range(3):
        ...     monitor(params)
        ...     params = jax.tree.map(lambda p, g: p - 0.1 * g, params, jax.grad(lambda p: jnp.mean(apply(p, z) ** 2))(params))
        >>> print(monitor.close().summary().splitlines()[0])
        w: 2 steps seen, no step could merge two particles, nobody merged; largest eta*K_pair 0.014 at step 0
    """

    def __init__(
        self, groups: Any, *, certificate: int | None = 20, topology: int | None = None, scale: Any = "diameter/4", max_dim: int = 2,
        out: str | Path | None = None, progress: bool = False,
    ):  # fmt: skip
        self.groups = _named(groups)
        self.certificate = None if certificate is None else _checks.count(certificate, "certificate", least=1)
        self.topology = None if topology is None else _checks.count(topology, "topology", least=1)
        _readable(scale, max_dim)
        self.step = -1
        self.steps: dict[str, list[tuple[int, StepRecord]]] = {name: [] for name in self.groups}
        self.betti: dict[str, dict[int, list[int] | None]] = {name: {} for name in self.groups}
        self.stretch: dict[str, dict[int, tuple[float, float]]] = {name: {} for name in self.groups}
        self.seconds = {"certificate": 0.0, "handing over": 0.0, "compiling": 0.0, "reading, in its own process": 0.0}
        self.failures: list[str] = []
        self._off: set[str] = set()
        self._compiled: set[str] = set()
        self._before: tuple[int, dict[str, Points]] | None = None
        self._start: dict[str, Points] | None = None
        self._began, self._ended = math.nan, math.nan
        self._progress = progress
        self._folder = None if out is None else Path(out)
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
            (self._folder / "monitor.jsonl").write_text("")
        self._beside = None if self.topology is None else Beside(scale, max_dim, self._heard)

    def __call__(self, params: Tree, *, loss: Any = None) -> None:
        """The parameters as they are now: before the first step, then after each. `loss` goes into the records."""
        now = time.perf_counter()
        self._began = now if math.isnan(self._began) else self._began
        self.step += 1
        self._try("certificate", self._certify, params, loss)
        self._try("topology", self._read, params, loss)
        self._ended = time.perf_counter()

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self, seconds: float = 60.0) -> Monitor:
        """Wait for readings under way, `seconds` at most, write the summary, and end the process. Idempotent."""
        if self._beside is not None:
            done, skipped = self._beside.close(seconds), self._beside.skipped
            self._beside = None
            if not done:
                self._warn(f"topology: readings were still under way after {seconds:g} s, and are lost")
            if skipped:
                self._warn(f"topology: {skipped} readings were left out, since others were still under way; read it less often")
        if self._folder is not None:
            self._try("out", self._write_summary)
        return self

    # --- what is watched ---------------------------------------------------------------------------------------------------

    def _certify(self, params: Tree, loss: Any) -> None:
        if self.certificate is None:
            return
        if self._before is not None:
            step, before = self._before
            self._before = None
            with self._timed("certificate", "seen"):
                found = jax.device_get(seen(self._particles(params), before))
            for name, one in found.items():
                self.steps[name].append((step, one))
                self._write({"step": step, "group": name, **_plain(one), "loss": _number(loss)})
        if self.step % self.certificate == 0:
            with self._timed("certificate", "held"):
                self._before = (self.step, jax.block_until_ready(self._particles(params)))

    def _read(self, params: Tree, loss: Any) -> None:
        if self.topology is None or self._beside is None or self.step % self.topology:
            return
        with self._timed("handing over", "handed over"):
            particles = self._particles(params)
            self._start = particles if self._start is None else self._start
            for name, one in jax.device_get(since(self._start, particles)).items():
                self.stretch[name][self.step] = (float(one[0]), float(one[1]))
                self._write({"step": self.step, "group": name, "stretch since start": self.stretch[name][self.step], "loss": _number(loss)})
            for name, one in particles.items():
                self._beside.send((name, self.step), np.asarray(one))

    def _heard(self, tag: tuple[str, int], betti: list[int] | None, seconds: float, reason: str | None) -> None:
        """From the thread beside."""
        name, step = tag
        self.betti[name][step] = betti
        self.seconds["reading, in its own process"] += seconds
        if reason is not None:
            self._warn(f"topology: step {step} of {name} was not read: {reason}")
        self._try("out", self._write, {"step": step, "group": name, "betti": betti, "reason": reason})
        if self._progress:
            sys.stderr.write(
                f"step {step} {name}: Betti numbers {betti}, distances {_range(self.stretch[name].get(step))} times those at the start\n"
            )

    def _particles(self, params: Tree) -> dict[str, Points]:
        return particles_of(tuple(self.groups.items()), params)

    # --- what never fails ---------------------------------------------------------------------------------------------------

    def _try(self, part: str, work: Callable[..., None], *arguments: Any) -> None:
        if part in self._off:
            return
        try:
            work(*arguments)
        except Exception as error:
            self._off.add(part)
            self._warn(f"{part}: not watched from step {self.step} on: {type(error).__name__}: {error}")

    def _warn(self, reason: str) -> None:
        self.failures.append(reason)
        try:
            warnings.warn(f"eqdyn Monitor: {reason}", stacklevel=2)
        except Warning:  # made an error by a filter; the training goes on all the same
            sys.stderr.write(f"eqdyn Monitor: {reason}\n")

    @contextlib.contextmanager
    def _timed(self, part: str, what: str) -> Iterator[None]:
        """Adds the time of a block to a part; the first time, when programs are compiled, to "compiling"."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part if what in self._compiled else "compiling"] += time.perf_counter() - begin
            self._compiled.add(what)

    # --- what is said -------------------------------------------------------------------------------------------------------

    def _write(self, record: dict) -> None:
        if self._folder is not None and "out" not in self._off:
            with (self._folder / "monitor.jsonl").open("a") as file:
                file.write(json.dumps(record) + "\n")

    def _write_summary(self) -> None:
        assert self._folder is not None
        (self._folder / "summary.json").write_text(json.dumps(self.report(), indent=2) + "\n")

    def report(self) -> dict[str, Any]:
        """The figures of the summary, flat by group."""
        out: dict[str, Any] = {"steps": max(self.step, 0), "seconds": self._ended - self._began, "failures": self.failures}
        out |= {f"seconds of {part}": seconds for part, seconds in self.seconds.items()}
        for name, records in self.steps.items():
            q = [_nan_is_worst(one.q) for _, one in records]
            could = [step for (step, one) in records if not (one.q < 1 or one.eta_mu < 1) or one.unresolved or one.merged]
            last = max(self.stretch[name], default=None)
            out |= {
                f"{name}: steps seen": len(records),
                f"{name}: largest eta*K_pair": max(q, default=math.nan),
                f"{name}: at step": records[int(np.argmax(q))][0] if q else -1,
                f"{name}: steps that could merge": len(could),
                f"{name}: first that could": could[0] if could else -1,
                f"{name}: merged": int(sum(int(one.merged) for _, one in records)),
                f"{name}: stretch since start": None if last is None else self.stretch[name][last],
                f"{name}: betti": {str(step): betti for step, betti in sorted(self.betti[name].items())},
            }
        return out

    def summary(self) -> str:
        """What can be said, a line a group; then what watching cost, each part apart."""
        found, lines = self.report(), []
        for name in self.groups:
            num, merged = found[f"{name}: steps that could merge"], found[f"{name}: merged"]
            could = (
                "no step could merge two particles"
                if not num
                else f"{num} could have merged particles, from step {found[f'{name}: first that could']}"
            )
            line = f"{name}: {found[f'{name}: steps seen']} steps seen, {could}, {f'{merged} merged' if merged else 'nobody merged'}"
            line += f"; largest eta*K_pair {found[f'{name}: largest eta*K_pair']:.3g} at step {found[f'{name}: at step']}"
            if self.betti[name]:
                first, *_, last = [*sorted(self.betti[name].items())[:1], *sorted(self.betti[name].items())[-1:]]
                line += f"; Betti numbers {first[1]} at step {first[0]}, {last[1]} at step {last[0]}"
                line += f"; distances {_range(found[f'{name}: stretch since start'])} times those at the start"
            lines.append(line)
        watching = self.seconds["certificate"] + self.seconds["handing over"]
        training = max(self._ended - self._began - watching - self.seconds["compiling"], 1e-9)
        parts = ", ".join(f"{part} {seconds:.2f} s" for part, seconds in self.seconds.items())
        lines.append(f"cost: {100 * watching / training:.1f} % of the {training:.1f} s of training ({parts})")
        return "\n".join(lines + [f"warning: {reason}" for reason in self.failures])


def _named(groups: Any) -> dict[str, Group]:
    if isinstance(groups, Groups):
        named: Any = groups.named()
    elif isinstance(groups, Mapping):
        named = dict(groups)
    elif isinstance(groups, Group):
        named = {"particles": groups}
    else:
        named = {f"group {k}": one for k, one in enumerate(groups)} if isinstance(groups, Iterable) else {"": groups}
    if not named or not all(isinstance(one, Group) for one in named.values()):
        msg = f"groups: got {type(groups).__name__} {groups!r:.60}; expected groups of a model; write eq.networks.find_groups(apply, params, inputs)."
        raise TypeError(msg)
    return named


def _readable(scale: Any, max_dim: int) -> None:
    """Arguments that make no sense are refused now, not in the process beside."""
    if not isinstance(scale, (str, int, float)):
        msg = f"scale: got {type(scale).__name__}; expected a number or a string such as 'diameter/4'."
        raise TypeError(msg)
    topology.betti(np.zeros((1, 1)), scale=scale, max_dim=max_dim)


def _plain(record: StepRecord) -> dict[str, Any]:
    return {name: _or_none(value.tolist()) for name, value in record._asdict().items()}


def _or_none(value: Any) -> Any:
    """JSON knows no NaN and no infinity."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _number(loss: Any) -> float | None:
    return None if loss is None else _or_none(float(loss))


def _nan_is_worst(value: Any) -> float:
    return math.inf if math.isnan(value) else float(value)


def _range(pair: Any) -> str:
    return "?" if pair is None else f"{pair[0]:.3g} to {pair[1]:.3g}"
