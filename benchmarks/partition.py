"""The geometry of a network's partition: what it takes on data, in the plane, and beside public enumerators of cells.

    EQDYN_DATA=... python3 benchmarks/partition.py [--splinecam FOLDER --peer-python INTERPRETER]

10,000 MNIST images in their first 6 principal components and a trained 6-32-32-10: codes, masses, cells, facets, kinks, Ollivier curvature; the same
with all neighbours of some images' cells. The images themselves and a trained 784-64-64-10: codes, distances, kinks, graph of codes, the facets of
20 cells by linear programs. The full complex of 2-32-32-32-1 in the plane, random and trained. Asked: 5 minutes and 4 GiB on two cores; 60 s in the
plane.

Every row is a process of its own, training and imports included, which tells its peak memory; medians over rounds in which all take turns. Without
EQDYN_DATA scikit-learn's digits stand in. Peers are in `partition_peers.py`; those that are absent are said to be. Ours and linear programs alone,
unit after unit, are always there. Codes are compared before any ratio is printed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import common
import numpy as np
from partition_peers import peak
from partition_rows import MEMORY, MINUTES, ROWS, Row, drawn

HERE = Path(__file__).parent


def networks(folder: Path, quick: bool) -> dict[str, tuple[Path, tuple[str, ...]]]:
    """Where they lie, and who lists their cells; the second box is so large that it holds all vertices."""
    found = {}
    for name, sizes, half, peers in (
        ("plane", [2, 6, 6, 1] if quick else [2, 32, 32, 32, 1], 1.0, ("SplineCam",)),
        ("space", [2, 4, 1] if quick else [3, 7, 7, 1], 1e3, ("parx", "linear programs")),
    ):
        arrays = {f"{letter}{k}": array for k, layer in enumerate(drawn(sizes)) for letter, array in zip("wb", layer, strict=True)}
        np.savez(folder / f"{name}.npz", low=np.full(sizes[0], -half), high=np.full(sizes[0], half), **arrays)
        found[f"{'-'.join(map(str, sizes))} in [{-half:g}, {half:g}]^{sizes[0]}"] = folder / f"{name}.npz", ("ours", *peers)
    return found


def answer(command: list[Any], limit: float) -> dict[str, Any]:
    """The last line that a process prints, how long it took and how busy the machine was; or why there is none."""
    began, load = time.perf_counter(), os.getloadavg()[0]
    said = None if sys.stderr.isatty() else subprocess.PIPE  # bars to who looks
    try:
        done = subprocess.run([*map(str, command)], stdout=subprocess.PIPE, stderr=said, text=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        return {"absent": f"not finished in {limit:g} s"}
    except OSError as error:
        return {"absent": str(error)}
    if done.returncode:
        return {"absent": [f"failed with status {done.returncode}", *(done.stderr or "").strip().splitlines()][-1]}
    return json.loads(done.stdout.splitlines()[-1]) | {"process, s": time.perf_counter() - began, "load": load}


def measure(name: str, quick: bool) -> dict[str, Any]:
    row = Row()
    ROWS[name][0](row, quick)
    return {"parts": row.parts, "facts": row.facts, "said": row.said, "peak, GiB": peak()}


def middle(rounds: list[dict[str, Any]], *keys: str) -> float:
    values = []
    for found in rounds:
        for key in keys:
            found = found[key]
        values.append(found)
    return float(statistics.median(values))


def of_rows(rounds: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """The parts of each row, and all of it against its limits."""
    parts, whole = [], []
    for name, found in rounds.items():
        limit, loads = ROWS[name][1], [one["load"] for one in found if "load" in one]
        row = {"row": name, "seconds": "-", "asked": limit, "peak, GiB": "-", "asked, GiB": MEMORY, "load": "-", "kept": "NO: " + failed(found)}
        if not failed(found):
            parts += [
                {"row": name, "part": part} | {unit: middle(found, "parts", part, unit) for unit in ("seconds", "CPU seconds")}
                for part in found[0]["parts"]
            ]
            row |= {"seconds": middle(found, "process, s"), "peak, GiB": max(one["peak, GiB"] for one in found)}
            kept = row["seconds"] <= limit and row["peak, GiB"] <= MEMORY
            row |= {"load": f"{min(loads):.1f} to {max(loads):.1f}", "kept": "yes" if kept else "NO"}
        whole.append(row)
    return {"parts": parts, "the whole process": whole}


def failed(rounds: list[dict[str, Any]]) -> str:
    return next((one["absent"][:90] for one in rounds if "absent" in one), "")


def of_peers(rounds: dict[tuple[str, str], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    rows = []
    for (network, who), found in rounds.items():
        ours = rounds[network, "ours"]
        row = {"network": network, "row": who, "cells": "-", "codes": "-", "seconds": "-", "CPU seconds": "-", "peak, GiB": "-", "times ours": "-"}
        if not failed(found):
            same = all(one["codes"] == ours[0].get("codes") for one in found)
            row |= {"cells": found[0]["cells"], "codes": "the same" if same else "OTHERS"} | {
                key: middle(found, key) for key in ("seconds", "CPU seconds", "peak, GiB")
            }
            row["times ours"] = row["seconds"] / middle(ours, "seconds") if same else "-"
        rows.append(row | {"why not": failed(found)})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3, help="rounds; the median counts (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="small networks, one round, to see that it runs; figures are not to be quoted")
    parser.add_argument("--splinecam", default=os.environ.get("EQDYN_SPLINECAM", ""), help="folder of its checkout")
    parser.add_argument("--peer-python", default=os.environ.get("EQDYN_PEER_PYTHON", sys.executable), help="interpreter that has what peers need")
    parser.add_argument("--one", choices=ROWS, help="measure one row, in this process")
    parser.add_argument("--out", type=Path, default=HERE / "out" / "partition.json", help="where the JSON goes")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one, options.quick)))
        return
    machine = common.machine()
    print(", ".join(f"{name} {value}" for name, value in machine.items()), "| float64, weights trained in float32")
    rounds, others = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for k in range(1 if options.quick else options.repeats):
            for name in ROWS:
                found = answer([sys.executable, __file__, "--one", name, *(["--quick"] if options.quick else [])], 4 * ROWS[name][1])
                rounds.setdefault(name, []).append(found)
                print(f"round {k + 1}, {name}: {found.get('absent') or found['process, s']}", flush=True)
            for network, (path, names) in networks(Path(folder), options.quick).items():
                for who in names:
                    interpreter = sys.executable if who in ("ours", "linear programs") else options.peer_python
                    found = answer([interpreter, HERE / "partition_peers.py", who, path, options.splinecam], 2 * MINUTES)
                    others.setdefault((network, who), []).append(found)
                    print(f"round {k + 1}, {network}, {who}: {found.get('absent') or found['seconds']}", flush=True)
    tables = of_rows(rounds) | {"beside others": of_peers(others)}
    print("\nof five numbers: the least, 5 %, the middle, 95 %, the greatest")
    for name, found in rounds.items():
        print(f"\n{name}: {'; '.join(found[-1].get('said', ['failed']))}")
    for title, rows in tables.items():
        common.table(title, rows)
    facts = {name: found[-1].get("facts") for name, found in rounds.items()}
    content = {"machine": machine, "repeats": len(next(iter(rounds.values()))), "quick": options.quick, "rows": tables, "facts": facts}
    content["with"] = {f"{network}, {who}": found[-1].get("with") for (network, who), found in others.items()}
    common.write(options.out, content)
    sys.exit(any(map(failed, rounds.values())))


if __name__ == "__main__":
    main()
