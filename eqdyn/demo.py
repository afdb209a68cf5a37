"""The main job, `python3 -m eqdyn demo`: particles move, laws are checked, real networks train with their neurons watched."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from eqdyn import data, groups, measure, observe, plot, rules, shapes, topology
from eqdyn._check import Report, check
from eqdyn._run import Run
from eqdyn._simulate import simulate
from eqdyn.data import Batches
from eqdyn.networks import two_layer

RATES_2D = {"small": 2.5e-3, "large": 3e-3}  # the paper's; 3e-3 is printed as "3 x 10^3"
RATES_DIGITS = {"small": 0.1, "large": 1.0}


QUICK = 25  # times fewer steps
QUICK_RULES = ("consensus", "BROKEN: rate grows with the index")


def law_table(seed: int = 0, num_draws: int = 64, *, quick: bool = False) -> dict[str, Report]:
    """The five rules against the laws, on 64 particles in 8 dimensions, and a rule that treats its particles unlike; one and it when quick."""
    key = jax.random.key(seed)
    batch = tuple(leaf[:256] for leaf in data.teacher(key=key, input_dim=7).train)
    x = shapes.sphere(64, key=key, dim=8).points
    loss = two_layer.regression
    table = {
        "gradient": (rules.gradient(loss), batch),
        "heavy ball": (rules.heavy_ball(loss), batch),
        "Adam": (rules.adam(loss), batch),
        "consensus": (rules.consensus(), None),
        "self-attention": (rules.self_attention(), None),
        "BROKEN: rate grows with the index": (rules.from_function(_unlike), None),
    }
    asked = {name: table[name] for name in (QUICK_RULES if quick else table)}
    return {name: check(rule, x, data=given, num_draws=num_draws, key=key) for name, (rule, given) in asked.items()}


def _unlike(x: jax.Array) -> jax.Array:
    rate = 1 + 1e-3 * jnp.arange(x.shape[0], dtype=x.dtype) / x.shape[0]
    return rate[:, None] * (jnp.mean(x, axis=0, keepdims=True) - x)


def network_2d(seed: int = 0, num_steps: int = 2700, progress: Any = None) -> tuple[jax.Array, Run, dict[str, jax.Array]]:
    """The paper's 2-D network at its two step sizes, side by side: 1,024 neurons on a figure eight, minibatches of 128.

    Returns the start, the run of two lanes, and `eta * lambda_max` at the start on all training data, by lane.
    """
    of_data, of_start, of_run = jax.random.split(jax.random.key(seed), 3)
    split = data.teacher(key=of_data)
    x0 = shapes.figure_eight(1024, key=of_start).points
    rule = rules.gradient(two_layer.regression)
    etas = jnp.asarray(list(RATES_2D.values()), x0.dtype)
    watch = {
        "pairs": observe.pair_constants(),
        "merges": observe.merges(),
        "stretch": observe.stretch(stride=27),
        "sharpness": observe.sharpness(rule, stride=27),
    }
    run = simulate(rule, x0, eta=etas, lanes=2, num_steps=num_steps, data=Batches(split.train, 128), key=of_run, observe=watch, progress=progress)
    top = measure.sharpness(rule, x0, data=split.train)
    return x0, run, {"eta_lambda": etas * top.value, "eta_residual": etas * top.residual}


def digits(seed: int = 0, num_steps: int = 2000, progress: Any = None) -> tuple[Any, Run, groups.Group, data.Split]:
    """A 64-256-10 sigmoid classifier on scikit-learn's digits at two step sizes, its 256 neurons starting on a sphere."""
    split = data.digits(seed=seed)
    of_start, of_run = jax.random.split(jax.random.key(seed))
    start = two_layer.classifier(shapes.sphere(256, key=of_start, dim=74, even=True).points, 64)
    neurons = two_layer.neurons(start)
    rule = rules.gradient(two_layer.cross_entropy)
    watch = {
        "pairs": observe.pair_constants(group=neurons, stride=5),
        "stretch": observe.stretch(group=neurons, stride=20),
        "sharpness": observe.sharpness(rule, stride=100),
    }
    etas = jnp.asarray(list(RATES_DIGITS.values()), start["hidden"].dtype)
    batches = Batches(split.train, 128)
    run = simulate(rule, start, eta=etas, lanes=2, num_steps=num_steps, data=batches, key=of_run, observe=watch, progress=progress)
    return start, run, neurons, split


# --- what is said of it ----------------------------------------------------------------------------------------------------


def report_laws(reports: dict[str, Report], out: Path) -> dict[str, Any]:
    names = list(next(iter(reports.values())).laws)
    summary = {f"laws/{rule}/{name}": law.verdict for rule, report in reports.items() for name, law in report.laws.items()}
    heads = [rule.split(":")[0] for rule in reports]
    width = max(len(name) for name in names)
    print(f"{'law':<{width}}  " + "  ".join(f"{head:<24}" for head in heads))
    for name in names:
        found = [report.laws[name] for report in reports.values()]
        words = [law.note.replace("folds at ", "") or f"{law.error:.1e}" for law in found]
        cells = [f"{law.verdict:<11} {word}" for law, word in zip(found, words, strict=True)]
        print(f"{name:<{width}}  " + "  ".join(f"{cell:<24}" for cell in cells).rstrip())
    bad = next(report.laws["P1"] for name, report in reports.items() if name.startswith("BROKEN"))
    again = bad.replay()
    print(
        f"verdict, and error at the worst of {next(iter(reports.values())).num_draws} draws. Replay of the broken rule (draw {bad.replay.draw}): "
        f"error {again.error:.1e} against {again.tolerance:.1e} that rounding explains"
    )
    return summary


def report_2d(x0: jax.Array, run: Run, start: dict[str, jax.Array], out: Path) -> dict[str, Any]:
    pairs, sharp, stretch = (run.observed[name] for name in ("pairs", "sharpness", "stretch"))
    summary: dict[str, Any] = {}
    words = []
    for lane, (name, eta) in enumerate(RATES_2D.items()):
        q = pairs.values.q[lane]
        # a step is certified by the constant over pairs or by the one-sided one; what neither covers is open, not merged
        is_open = (q >= 1) & (pairs.values.eta_mu[lane] >= 1)
        num_open = int(is_open.sum())
        first = int(pairs.steps[np.argmax(is_open)]) if num_open else -1
        merges = int(run.observed["merges"].values[lane].sum())
        low, high = float(stretch.values.low[lane, -1]), float(stretch.values.high[lane, -1])
        facts = {
            "eta": eta,
            "eta_lambda_max_start": float(start["eta_lambda"][lane]),
            "eta_lambda_max_residual": float(start["eta_residual"][lane]),
            "max_eta_k_pair": float(q.max()),
            "max_eta_mu": float(pairs.values.eta_mu[lane].max()),
            "steps_not_certified": num_open,
            "first_step_not_certified": first,
            "merges": merges,
            "stretch_low": low,
            "stretch_high": high,
            "loss_first": float(run.loss[lane, 0]),  # type: ignore[index]
            "loss_last": float(run.loss[lane, -1]),  # type: ignore[index]
            "status": str(run.status[lane]),
        }
        summary |= {f"network2d/{name}/{key}": value for key, value in facts.items()}
        did = "nobody merged" if merges == 0 else f"{merges} neurons merged"
        open_steps = f"{num_open} of {q.size} steps, from step {first}, may merge neurons; {did}"
        can = open_steps if num_open else "no step could merge two neurons"
        words.append(f"eta = {eta:g}: {can}")
        print(
            f"eta {eta:g}: eta*lambda_max {facts['eta_lambda_max_start']:.2f} at the start, max eta*K_pair {facts['max_eta_k_pair']:.2f}: {can};\n"
            f"    merges {merges}, distances changed {low:.2f} to {high:.3g} times, loss {facts['loss_first']:.3g} -> {facts['loss_last']:.3g}"
        )
    clouds = {"start": x0} | {f"eta = {eta:g}, after {run.step} steps": run.x[lane] for lane, eta in enumerate(RATES_2D.values())}
    plot.save(plot.configurations(clouds, title="2-D network. " + "; ".join(words)), out / "network2d.png")
    curves = {f"eta*K_pair, eta = {eta:g}": (pairs.steps, pairs.values.q[lane]) for lane, eta in enumerate(RATES_2D.values())}
    curves |= {f"eta*lambda_max, eta = {eta:g}": (sharp.steps, sharp.values.eta_lambda[lane]) for lane, eta in enumerate(RATES_2D.values())}
    levels = {"nobody merges below 1 (K_pair)": 1.0, "unstable above 2 (lambda_max)": 2.0}
    tops = ", ".join(f"{float(q.max()):.2g}" for q in pairs.values.q)
    sharps = ", ".join(f"{float(value):.2g}" for value in start["eta_lambda"])
    title = f"eta*lambda_max starts at {sharps}; eta*K_pair reaches {tops}"
    plot.save(plot.along_run(curves, levels=levels, ylabel="eta * constant (no unit)", title=title), out / "network2d_constants.png")
    return summary


def report_digits(start: Any, run: Run, neurons: groups.Group, split: data.Split, out: Path) -> dict[str, Any]:
    summary: dict[str, Any] = {}
    before = topology.betti(neurons.particles(start))
    clouds = {"start": neurons.particles(start)}
    for lane, (name, eta) in enumerate(RATES_DIGITS.items()):
        params = jax.tree.map(lambda leaf, lane=lane: leaf[lane], run.x)
        now = neurons.particles(params)
        stretch, q = run.observed["stretch"].values, run.observed["pairs"].values.q[lane]
        sharp = run.observed["sharpness"].values.eta_lambda[lane]
        facts = {
            "eta": eta,
            "test_accuracy": float(two_layer.accuracy(params, split.test)),
            "eta_lambda_max_start": float(sharp[0]),
            "eta_lambda_max_end": float(sharp[-1]),
            "max_eta_k_pair": float(q.max()),
            "stretch_low": float(stretch.low[lane, -1]),
            "stretch_low_ever": float(stretch.low[lane].min()),
            "stretch_high": float(stretch.high[lane, -1]),
            "merges": int(measure.merges(neurons.particles(start), now).merged),
            "status": str(run.status[lane]),
        }
        after = topology.betti(now)
        facts |= {f"betti_start_{k}": b for k, b in enumerate(before)} | {f"betti_end_{k}": b for k, b in enumerate(after)}
        summary |= {f"digits/{name}/{key}": value for key, value in facts.items()}
        print(
            f"eta {eta:g}: test accuracy {facts['test_accuracy']:.3f}, eta*lambda_max of a batch {facts['eta_lambda_max_start']:.2g} -> "
            f"{facts['eta_lambda_max_end']:.2g}, max eta*K_pair {facts['max_eta_k_pair']:.3f},\n"
            f"    stretch start to end {facts['stretch_low']:.2f} to {facts['stretch_high']:.2f}, Betti numbers at diameter/4 {before} -> {after}\n"
            f"    {what_happened(facts, before, after, int(run.observed['pairs'].steps.size))}"
        )
        clouds[f"eta = {eta:g}: Betti {after}"] = now
    title = "Digits, 256 neurons in R^74 seen along three principal directions: " + (
        "no two neurons merged" if all(value == 0 for key, value in summary.items() if key.endswith("/merges")) else "neurons merged"
    )
    plot.save(plot.in_space(clouds, title=title), out / "digits.png")
    return summary


def what_happened(facts: dict[str, Any], before: tuple[int, ...], after: tuple[int, ...], num_seen: int) -> str:
    """What the constants say of the neurons, in words. The certificate speaks of the steps that were looked at."""
    if facts["status"] != "ok":
        return f"The run ended early: {facts['status']}."
    if facts["merges"]:
        words = f"{facts['merges']} neurons merged with others."
    elif facts["max_eta_k_pair"] < 1:
        words = (
            f"None of the {num_seen} steps that were looked at could merge two neurons (eta*K_pair < 1), "
            f"and no pair was ever seen closer than {facts['stretch_low_ever']:.2f} of its first distance."
        )
    else:
        words = f"Not every step is certified (eta*K_pair up to {facts['max_eta_k_pair']:.2g}); none merged."
    if after == before:
        return words + " The sphere is still seen at diameter/4."
    changed = f" The Betti numbers at diameter/4 changed while distances changed {facts['stretch_low']:.2f} to {facts['stretch_high']:.1f} times"
    if facts["merges"] or facts["max_eta_k_pair"] >= 1:
        return words + changed + "."
    return words + changed + ": unevenly, and that scale with them."


def demo(out: Path, *, seed: int = 0, progress: bool = True, quick: bool = False) -> dict[str, Any]:
    """Run all three parts, print their tables, write pictures and `summary.json` into `out`. `quick`: a 25th of the steps, one of the rules."""
    out.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    summary: dict[str, Any] = {"seed": seed, "jax": jax.__version__, "device": jax.devices()[0].device_kind}

    def part(title: str, run: Callable[[], tuple], report: Callable[..., dict[str, Any]]) -> None:
        print(f"\n{title}")
        sys.stdout.flush()
        found = run()
        summary.update(report(*found, out))

    part("(a) Laws: 64 particles in R^8, 64 drawn configurations and permutations", lambda: (law_table(seed, quick=quick),), report_laws)
    part(
        "(b) The paper's 2-D network: 1,024 neurons on a figure eight, the paper's small and large step",
        lambda: network_2d(seed, 2700 // (QUICK if quick else 1), progress),
        report_2d,
    )
    part(
        "(c) Handwritten digits: 64-256-10 sigmoid classifier, neurons start on a sphere",
        lambda: digits(seed, 2000 // (QUICK if quick else 1), progress),
        report_digits,
    )
    summary["seconds"] = round(time.perf_counter() - start, 1)
    (out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    print(
        f"\n{summary['seconds']} s. Written to {out}: " + ", ".join(sorted(path.name for path in out.iterdir() if path.suffix in (".png", ".json")))
    )
    return summary
