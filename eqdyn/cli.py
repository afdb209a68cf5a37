"""The command line: `python3 -m eqdyn demo | check | run | sweep | report | reproduce | doctor`."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

_PACKAGES = ("jax", "jaxlib", "numpy", "scipy", "optax", "ripser", "scikit-learn", "matplotlib", "jaxtyping", "tqdm", "xarray")


class UsageError(ValueError):
    """A user's mistake on the command line."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; 0 when it did its job, 2 with one line on stderr for a user's mistake."""
    arguments = _parser().parse_args(argv)
    try:
        return arguments.run(arguments)
    except (UsageError, OSError, ImportError) as error:
        print(f"eqdyn {arguments.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as error:
        print(f"eqdyn {arguments.command}: stopped. {error}", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python3 -m eqdyn", description="Permutation-equivariant particle dynamics: laws, constants and topology.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="laws, the paper's 2-D network and a digits classifier; tables, pictures, summary.json")
    demo.add_argument("--out", type=Path, default=Path("eqdyn-demo"), metavar="DIR", help="where to write (default: %(default)s)")
    demo.add_argument("--seed", type=int, default=0, help="of data, starts and batches (default: %(default)s)")
    demo.add_argument("--no-progress", action="store_true", help="no progress bars")
    demo.add_argument("--quick", action="store_true", help="a 25th of the steps and one of the five rules, to see that it runs")
    demo.set_defaults(run=_demo)

    check = commands.add_parser("check", help="hold a rule of your own against every law; status 1 if one fails")
    check.add_argument("target", metavar="MODULE:RULE", help="an eq.Rule, a function without arguments that makes one, or a function x -> u")
    check.add_argument("--x", metavar="MODULE:NAME", help="configuration to draw around, or its maker (default: normal, --num by --dim)")
    check.add_argument("--data", metavar="MODULE:NAME", help="the batch, or a function that makes it")
    check.add_argument("--group", metavar="MODULE:NAME", help="an eq.Group, or a dict of them, for a tree")
    check.add_argument("--num", type=int, default=64, help="particles (default: %(default)s)")
    check.add_argument("--dim", type=int, default=8, help="numbers a particle holds (default: %(default)s)")
    check.add_argument("--draws", type=int, default=64, help="configurations and permutations (default: %(default)s)")
    check.add_argument("--eta", type=float, default=None, help="step size (default: 0.5 and 0.99 of 1/K_pair)")
    check.add_argument("--K", type=float, default=None, help="a declared constant of P2-K")
    check.add_argument("--seed", type=int, default=0, help="of start and draws (default: %(default)s)")
    check.add_argument("--float64", action="store_true", help="work in float64")
    check.add_argument("--out", type=Path, default=None, metavar="DIR", help="write summary.json and laws.html there")
    check.set_defaults(run=_check)

    reproduce = commands.add_parser("reproduce", help="the paper's figures and table: drawn, and judged by their certificates")
    reproduce.add_argument("names", metavar="NAME", nargs="+", help="table1, fig3 ... fig12, or all; several share the runs that they show")
    reproduce.add_argument("--out", type=Path, default=Path("eqdyn-reproduce"), metavar="DIR", help="where to write (default: %(default)s)")
    reproduce.add_argument("--seeds", type=int, default=None, help="how many, from 0 (default: the paper's)")
    reproduce.add_argument("--quick", action="store_true", help="few neurons and epochs, to see that it works; figures are not to be quoted")
    reproduce.add_argument("--no-progress", action="store_true", help="no progress bars")
    reproduce.set_defaults(run=_reproduce)

    run = commands.add_parser("run", help="a run that a TOML file describes; started again, it goes on where it was")
    run.add_argument("config", metavar="CONFIG", type=Path, help="the TOML file")
    run.add_argument("--out", type=Path, default=Path("eqdyn-run"), metavar="DIR", help="where to write (default: %(default)s)")
    run.add_argument("--no-progress", action="store_true", help="no progress bar")
    run.set_defaults(run=_run)

    sweep = commands.add_parser("sweep", help="a phase diagram that a TOML file describes; started again, it goes on where it was")
    sweep.add_argument("config", metavar="CONFIG", type=Path, help="the TOML file")
    sweep.add_argument("--out", type=Path, default=Path("eqdyn-sweep"), metavar="DIR", help="where to write (default: %(default)s)")
    sweep.add_argument("--workers", type=int, default=1, help="processes (default: %(default)s)")
    sweep.add_argument("--memory", type=float, default=None, metavar="GIB", help="refuse to begin if it took more (default: half of what is free)")
    sweep.add_argument("--seconds", type=float, default=None, help="refuse to begin if it would take longer")
    sweep.add_argument("--force", action="store_true", help="begin all the same")
    sweep.add_argument("--no-progress", action="store_true", help="no progress bar, no pictures on the way")
    sweep.set_defaults(run=_sweep)

    report = commands.add_parser("report", help="what the folder of a run or a sweep holds, in words and pictures")
    report.add_argument("folder", metavar="FOLDER", type=Path, help="what run or sweep wrote")
    report.add_argument("--out", type=Path, default=Path("eqdyn-report"), metavar="DIR", help="where to write (default: %(default)s)")
    report.set_defaults(run=_report)

    doctor = commands.add_parser("doctor", help="versions, devices, dtype and threads, for a bug report")
    doctor.add_argument("--out", type=Path, default=None, metavar="DIR", help="write summary.json there, too")
    doctor.set_defaults(run=_doctor)
    return parser


def _threads() -> str:
    """What XLA and the BLAS libraries may use."""
    import numpy  # noqa: F401 - its BLAS is asked below
    from threadpoolctl import threadpool_info

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    pools = ", ".join(f"{pool['internal_api']} {pool['num_threads']}" for pool in threadpool_info())
    return f"XLA {cores} (one a core), {pools}"


def _demo(arguments: argparse.Namespace) -> int:
    from eqdyn.demo import demo

    _is_a_directory(arguments.out)
    os.environ.setdefault("MPLBACKEND", "Agg")  # pictures go to files: no window is wanted
    summary = demo(arguments.out, seed=_seed(arguments.seed), progress=not arguments.no_progress, quick=arguments.quick)
    ended = {key: value for key, value in summary.items() if key.endswith("/status") and value != "ok"}
    if ended:
        print(f"eqdyn demo: runs ended early: {ended}", file=sys.stderr)
    return 1 if ended else 0


def _reproduce(arguments: argparse.Namespace) -> int:
    from eqdyn.reproduce import names, reproduce

    _is_a_directory(arguments.out)
    for name in arguments.names:
        if name not in names():
            msg = f"NAME: got {name!r}; expected one of {', '.join(names())}."
            raise UsageError(msg)
    if arguments.seeds is not None and arguments.seeds < 1:
        msg = f"--seeds: got {arguments.seeds}; expected a whole number >= 1."
        raise UsageError(msg)
    os.environ.setdefault("MPLBACKEND", "Agg")
    reproduce(arguments.names, arguments.out, seeds=arguments.seeds, quick=arguments.quick, progress=not arguments.no_progress)
    print(f"\nwritten to {arguments.out}: {', '.join(sorted(path.name for path in arguments.out.iterdir()))}")
    return 0


def _run(arguments: argparse.Namespace) -> int:
    from eqdyn.run_command import run_command

    return _said(arguments.out, lambda: run_command(arguments.config, arguments.out, progress=not arguments.no_progress))


def _sweep(arguments: argparse.Namespace) -> int:
    from eqdyn.run_command import sweep_command

    a = arguments
    for name, least in (("workers", 1), ("memory", 0), ("seconds", 0)):
        value = getattr(a, name)
        if value is not None and (value < least or value == 0):
            msg = f"--{name}: got {value}; expected a number above {least - (name == 'workers')}."
            raise UsageError(msg)
    memory = None if a.memory is None else int(a.memory * 2**30)
    return _said(
        a.out, lambda: sweep_command(a.config, a.out, workers=a.workers, memory=memory, seconds=a.seconds, force=a.force, progress=not a.no_progress)
    )


def _report(arguments: argparse.Namespace) -> int:
    from eqdyn.run_command import report_command

    return _said(arguments.out, lambda: report_command(arguments.folder, arguments.out))


def _said(out: Path, command: Callable[[], object]) -> int:
    """Do it; what the user can mend is said in one line."""
    _is_a_directory(out)
    os.environ.setdefault("MPLBACKEND", "Agg")
    try:
        command()
    except (TypeError, ValueError, MemoryError, TimeoutError, OSError) as error:
        raise UsageError(_first_line(error)) from error
    print(f"\nwritten to {out}: {', '.join(sorted(path.name for path in out.iterdir()))}")
    return 0


def _check(arguments: argparse.Namespace) -> int:
    from eqdyn.check_command import check_command

    for name in ("num", "dim", "draws"):
        if getattr(arguments, name) < (2 if name == "num" else 1):
            msg = f"--{name}: got {getattr(arguments, name)}; expected a whole number >= {2 if name == 'num' else 1}."
            raise UsageError(msg)
    a = arguments
    _is_a_directory(a.out)
    try:
        report = check_command(
            a.target, x=a.x, data=a.data, group=a.group, num=a.num, dim=a.dim, num_draws=a.draws, seed=_seed(a.seed), eta=a.eta, K=a.K,
            float64=a.float64, out=a.out,
        )  # fmt: skip
    except (TypeError, ValueError, MemoryError) as error:  # of the arguments, or of the rule itself
        raise UsageError(_first_line(error)) from error
    except Exception as error:  # the rule is the user's: whatever it raises is said in a line
        last = traceback.extract_tb(error.__traceback__)[-1]
        msg = f"{a.target} raised {_first_line(error)} ({last.filename}, line {last.lineno})."
        raise UsageError(msg) from error
    return 0 if report.holds else 1


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _seed(seed: int) -> int:
    if not 0 <= seed < 2**32:
        msg = f"--seed: got {seed}; expected a whole number >= 0, below 2^32."
        raise UsageError(msg)
    return seed


def _is_a_directory(out: Path | None) -> None:
    if out is not None and out.exists() and not out.is_dir():
        msg = f"--out: got {out}, a file; expected a directory to write into."
        raise UsageError(msg)


def _doctor(arguments: argparse.Namespace) -> int:
    import jax
    import jax.numpy as jnp

    import eqdyn

    facts: dict[str, object] = {"eqdyn": eqdyn.__version__, "python": platform.python_version(), "platform": platform.platform()}
    for name in _PACKAGES:
        try:
            facts[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            facts[name] = "absent"
    facts |= {
        "devices": [f"{device.platform}:{device.id} {device.device_kind}" for device in jax.devices()],
        "default dtype": str(jnp.zeros(()).dtype),
        "jax_enable_x64": bool(jax.config.jax_enable_x64),  # type: ignore[attr-defined]
        "matmul precision": str(jax.config.jax_default_matmul_precision or "default"),  # type: ignore[attr-defined]
        "threads": _threads(),
        "flags": {name: os.environ[name] for name in ("XLA_FLAGS", "OMP_NUM_THREADS", "JAX_PLATFORMS", "EQDYN_DATA") if name in os.environ},
    }
    for name, value in facts.items():
        print(f"{name:<18} {value}")
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "summary.json").write_text(json.dumps(facts, indent=1) + "\n")
    return 0
