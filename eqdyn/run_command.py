"""The commands `run CONFIG.toml`, `sweep CONFIG.toml` and `report FOLDER`: started again, the first two go on where they were."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from eqdyn import observe, plot, plot_phase, rules, store
from eqdyn._run import Run
from eqdyn._sweep import forecast, refuse, sweep
from eqdyn.config import LOSSES, Config
from eqdyn.observer import is_series

_REDRAW = 5.0  # seconds between two pictures of a sweep that fills


def run_command(path: Path, out: Path, *, progress: bool = True) -> dict[str, Any]:
    """Simulate what a configuration says, into `out/run`, and report it."""
    config = Config(path)
    if config.said.get("grid"):
        config.fail("grid", "got a grid; expected none; write python3 -m eqdyn sweep for it")
    asked = _asked(config)
    of_start, of_run = jax.random.split(jax.random.key(config.number("seed", 0, least=0, whole=True)))
    rule, start, data = asked["rule"](), asked["start"](key=of_start), asked["data"]() if asked["data"] else None
    num_steps = config.number("num_steps", least=1, whole=True)
    run = store.run(
        out / "run", rule, start, eta=config.eta(), num_steps=num_steps, data=data, key=of_run, observe=config.observers(),
        tracers=config.tracers()[0], every=config.number("every", least=1, whole=True), chunk=config.number("chunk", least=1, whole=True),
        save_every=config.number("save_every", max(1, num_steps // 10), least=1, whole=True), progress=progress,
    )  # fmt: skip
    return _report_run(run, out)


def sweep_command(
    path: Path, out: Path, *, workers: int = 1, memory: int | None = None, seconds: float | None = None, force: bool = False, progress: bool = True
) -> dict[str, Any]:
    """Compute the grid of a configuration, into `out/sweep`, with a phase diagram that is drawn as it fills."""
    config = Config(path)
    if not config.said.get("grid"):
        config.fail("grid", "is missing; expected names with values; write [grid] and eta = [0.1, 0.2], or python3 -m eqdyn run")
    asked = _asked(config)
    points, mesh = config.tracers()
    watch = config.observers() | ({"curve": observe.tracer_curve(mesh)} if mesh is not None and not len(mesh.faces) else {})
    watch |= _sharpness_at_start(config)
    arguments: dict[str, Any] = {
        "grid": config.grid(), "eta": config.eta(), "num_steps": config.number("num_steps", least=1, whole=True), "data": asked["data"],
        "key": jax.random.key(config.number("seed", 0, least=0, whole=True)), "observe": watch, "tracers": points,
        "every": config.number("every", least=1, whole=True), "chunk": config.number("chunk", least=1, whole=True),
    }  # fmt: skip
    told = forecast(asked["rule"], asked["start"], workers=workers, memory=memory, lanes=config.number("lanes", least=1, whole=True), **arguments)
    print(f"forecast: {told.summary()}", flush=True)
    if not force:
        refuse(told, memory, seconds)
    out.mkdir(parents=True, exist_ok=True)
    with _executor(workers) as executor:
        found = sweep(
            asked["rule"], asked["start"], **arguments, adaptive=bool(config.said.get("adaptive", False)), broken=config.said.get("broken"),
            folder=out / "sweep", executor=executor, lanes=told.lanes, force=True, progress=_drawing(out, config) if progress else None,
        )  # fmt: skip
    return _report_sweep(found, out, config.said.get("eta_per"))


def report_command(folder: Path, out: Path) -> dict[str, Any]:
    """Report what a run's or a sweep's folder holds."""
    for name in ("run", "sweep"):
        folder = folder / name if (folder / name / "manifest.json").exists() else folder
    found = store.load(folder)
    out.mkdir(parents=True, exist_ok=True)
    return _report_run(found, out) if isinstance(found, Run) else _report_sweep(found, out, None)


def _asked(config: Config) -> dict[str, Any]:
    rule, start = config.chosen("rule"), config.chosen("start")
    return {"rule": rule, "start": start, "data": config.chosen("data")}


def _sharpness_at_start(config: Config) -> dict[str, Any]:
    """The top of the Hessian before the first step, where the rule descends a loss that we know."""
    loss = LOSSES.get(config.said.get("rule", {}).get("loss", ""))
    if loss is None:
        return {}
    return {"sharpness": observe.sharpness(rules.gradient(loss), stride=max(1, config.number("num_steps", least=1, whole=True)))}


def _executor(workers: int) -> Any:
    if workers == 1:
        return contextlib.nullcontext()
    return concurrent.futures.ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))


def _drawing(out: Path, config: Config) -> Callable:
    from tqdm.auto import tqdm

    bar, last = tqdm(unit="cell", desc="sweep", leave=False), [0.0]

    def show(done: int, total: int | None, so_far: Callable[[], Any]) -> None:
        bar.total = total
        bar.update(done - bar.n)
        if done == total:
            bar.close()
        elif time.monotonic() - last[0] > _REDRAW and total is not None:
            _picture(so_far(), out, config.said.get("eta_per"), f"{done} of {total} cells so far")
            last[0] = time.monotonic()

    return show


# --- reports -----------------------------------------------------------------------------------------------------------------


def _picture(found: Any, out: Path, per: str | None, title: str) -> None:
    if "eta" in found.dims:
        units = "[eta]" if per is None else f"1/{per}"
        plot.save(plot_phase.phase_diagram(found, title=title, units=units), out / "phases.png")


def _report_sweep(found: Any, out: Path, per: str | None) -> dict[str, Any]:
    phase = plot_phase.phases(found)
    counts = {name: int(np.sum(phase == k)) for k, name in enumerate(plot_phase.PHASES)}
    said = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    _picture(found, out, per, f"{found['status'].size:,} points: {said}")
    summary = {f"points/{name}": count for name, count in counts.items()} | {f"axis/{name}": found.sizes[name] for name in found["status"].dims}
    for name in found.data_vars:
        values = np.asarray(found[name].values)
        if values.dtype.kind in "fi" and found[name].dims == found["status"].dims:
            finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
            summary |= {f"{name}/median": float(np.median(finite)), f"{name}/largest": float(finite.max())} if finite.size else {}
    print(f"{found['status'].size:,} points over {', '.join(f'{name} ({found.sizes[name]})' for name in found['status'].dims)}: {said}")
    return _written(summary, out)


def _report_run(run: Run, out: Path) -> dict[str, Any]:
    print(run.summary())
    lanes = np.atleast_1d(run.status)
    summary: dict[str, Any] = {"steps": run.step, "lanes": len(lanes)} | {f"status/{name}": int(np.sum(lanes == name)) for name in np.unique(lanes)}
    curves = {}
    if run.loss is not None and run.loss.size:
        losses = np.atleast_2d(run.loss)
        curves = {("loss" if len(losses) == 1 else f"lane {k}"): (run.steps, loss) for k, loss in enumerate(losses[:4])}
        summary |= {"loss/first": float(np.median(losses[:, 0])), "loss/last": float(np.nanmedian(losses[:, -1]))}
    for name, read in run.observed.items():
        if hasattr(read, "summary"):
            print(f"{name}: {read.summary()}")
        if is_series(read):
            summary[f"{name}/records"] = len(read)
    if curves:
        title = f"{run.step:,} steps: {', '.join(sorted(set(lanes.tolist())))}"
        plot.save(plot.along_run(curves, ylabel="loss (no unit)", title=title), out / "loss.png")
    return _written(summary, out)


def _written(summary: dict[str, Any], out: Path) -> dict[str, Any]:
    out.mkdir(parents=True, exist_ok=True)
    (out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    return summary
