"""What the benchmarks share: timing, the machine, tables and JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np


def arguments(description: str, name: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--repeats", type=int, default=7, help="timed rounds; the median counts (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="fewer steps, to see that it runs; figures are not to be quoted")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out" / f"{name}.json", help="where the JSON goes")
    return parser.parse_args()


def interleaved(rows: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, dict[str, float]]:
    """Seconds a call of each row: the first call apart (it compiles), then all rows in turn, `repeats` times, so that what else
    the machine does hits them alike."""
    first, times = {}, {name: [] for name in rows}
    for name, call in rows.items():
        start = time.perf_counter()
        jax.block_until_ready(call())
        first[name] = time.perf_counter() - start
    for _ in range(repeats):
        for name, call in rows.items():
            start = time.perf_counter()
            jax.block_until_ready(call())
            times[name].append(time.perf_counter() - start)
    return {name: {"first": first[name], "median": statistics.median(t), "min": min(t), "max": max(t)} for name, t in times.items()}


def machine() -> dict[str, Any]:
    versions = {"jax": jax.__version__, "numpy": np.__version__}
    try:
        import torch

        versions["torch"] = torch.__version__
    except ImportError:
        versions["torch"] = "absent"
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "device": jax.devices()[0].device_kind,
        "threads": os.environ.get("OMP_NUM_THREADS", "all"),
        **versions,
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", cpuinfo.read_text()) if cpuinfo.exists() else None
    return found[1] if found else platform.processor() or platform.machine()


def table(title: str, rows: list[dict[str, Any]]) -> None:
    """Rows of one set of columns, aligned."""
    columns = list(rows[0])
    cells = [[_text(row[column]) for column in columns] for row in rows]
    widths = [max(len(column), *(len(line[k]) for line in cells)) for k, column in enumerate(columns)]
    print(f"\n{title}")
    for line in [columns, *cells]:
        print("  ".join(f"{cell:<{width}}" if k == 0 else f"{cell:>{width}}" for k, (cell, width) in enumerate(zip(line, widths, strict=True))))


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def write(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")
    print(f"\nwritten to {path}")
