"""A sweep's folder: what was asked for, the cells that are done, and who works on the others.

manifest.json    what was asked, and on what; at the end the checksums of all cells; `log` alone tells when, where and by whom
cells/000012     what was kept of a cell, committed whole by an atomic rename
claims/000012    who computes it
"""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path
from typing import Any

import numpy as np

from eqdyn._sweeps.cell import Kept, compute
from eqdyn._sweeps.claims import LEASE, Claims
from eqdyn._sweeps.dataset import labels
from eqdyn._sweeps.describe import description
from eqdyn._sweeps.plan import Cell, Plan
from eqdyn.store import _files, _manifest, _tree
from eqdyn.store._files import Damaged

SCHEMA = 1
_FIELDS = {"schema", "kind", "configuration", "grid", "environment", "cells", "log"}


def _name(cell: Cell) -> str:
    return f"{cell.number:06d}"


def _place(cell: Cell) -> str:
    return f"cells/{_name(cell)}"


def all_done(folder: Path, cells: list[Cell]) -> bool:
    return all((folder / _place(cell)).is_dir() for cell in cells)


def work(plan: Plan, cell: Cell, folder: Path, lease: float = LEASE) -> bool:
    """Compute and commit a cell, unless it is done or somebody else is at it. Whether it is done now."""
    place = folder / _place(cell)
    if place.is_dir():
        return True
    with Claims(folder / "claims", lease).held(place.name) as ours:
        if ours and not place.is_dir():  # whoever had the claim before us may have ended well
            kept = compute(plan, cell)
            with _files.saving(folder):
                _tree.write(place, kept, meta={"points": cell.points[: cell.wanted].tolist()})
    return place.is_dir()


def kept_in(folder: Path, cell: Cell) -> Kept:
    """What was kept of a cell.

    Raises:
        Damaged: it is not as it was written; says which file and field.
    """
    kept, points = _read(folder, _name(cell))
    if points != cell.points[: cell.wanted].tolist():
        raise _damaged(_place(cell), "meta", f"got the points {points}; expected {cell.points[: cell.wanted].tolist()}")
    return kept


def _read(folder: Path, name: str) -> tuple[Kept, list[int]]:
    place = f"cells/{name}"
    kept, meta = _read_tree(folder, place, meta=True)
    points: Any = meta.get("points") if isinstance(meta, dict) else None
    good = isinstance(kept, dict) and isinstance(points, list) and all(type(at) is int and at >= 0 for at in points)
    if not good or any(np.shape(value)[:1] != (len(points),) for value in kept.values()):
        raise _damaged(place, "meta", "got other points than lanes")
    return kept, points


def _read_tree(folder: Path, place: str, *, meta: bool = False) -> Any:
    try:
        found = _tree.read(folder / place)
    except Damaged as error:
        raise _damaged(place, error.field, error.what, error.file) from error
    return found if meta else found[0]


def _damaged(place: str, field: str, what: str, file: str = "index.json") -> Damaged:
    return Damaged(f"{place}/{file}", field, what)


# --- the manifest ----------------------------------------------------------------------------------------------------------------


def _content(plan: Plan, width: int, adaptive: bool) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "kind": "sweep",
        "configuration": description(plan, width) | {"adaptive": int(adaptive)},
        "grid": [[name, labels(values).tolist()] for name, values in plan.grid.items()],
        "environment": _manifest.environment(),
        "cells": None,
    }


def width_of(folder: Path) -> int | None:
    """How many lanes a sweep that is there runs side by side."""
    if _manifest.kind(folder) is None:
        return None
    width = read(folder)["configuration"].get("lanes")
    if type(width) is not int or width < 1:
        raise Damaged(_manifest.NAME, "configuration.lanes", f"got {width!r}")
    return width


def opened(folder: Path, plan: Plan, width: int, *, adaptive: bool) -> Path:
    """The folder, new or of this very sweep.

    Raises:
        ValueError: it holds something else; says what differs first.
    """
    asked = _content(plan, width, adaptive)
    with _files.saving(folder):
        if _manifest.kind(folder) is None:
            (folder / "cells").mkdir(parents=True, exist_ok=True)
            _write(folder, asked, None)
        else:
            _same(folder, read(folder), asked)
        Claims(folder / "claims").sweep_up()
    return folder


def _same(folder: Path, there: dict[str, Any], asked: dict[str, Any]) -> None:
    for name in asked["configuration"]:
        if there["configuration"].get(name) != asked["configuration"][name]:
            got, held = (str(one["configuration"].get(name))[:120] for one in (asked, there))
            msg = f"folder: {folder} holds a sweep with {name} {held}; got {got}; expected the same sweep; write a new folder."
            raise ValueError(msg)
    if moved := _manifest.bit_for_bit(there["environment"], asked["environment"]):
        what = ", ".join(moved)
        msg = f"folder: {folder} was begun elsewhere ({what}), where bits may differ; expected the same versions and devices; write a new folder."
        raise ValueError(msg)


def closed(folder: Path, cells: list[Cell], boundary: Kept | None) -> None:
    """All cells are done: write down what they are, and where lines break, and leave no claim."""
    content = read(folder)
    log = content.pop("log")
    with _files.saving(folder):
        if boundary is not None and not (folder / "boundary").is_dir():
            _tree.write(folder / "boundary", boundary)
        sums = {_name(cell): _sum(folder, f"cells/{_name(cell)}") for cell in cells}
        sums |= {} if boundary is None else {"boundary": _sum(folder, "boundary")}
        Claims(folder / "claims").sweep_up()
        if content["cells"] != sums:
            _write(folder, content | {"cells": sums}, log)


def _sum(folder: Path, place: str) -> str:
    """Of an index, which holds those of all leaves."""
    return _files.digest(_files.read(folder, f"{place}/index.json"))


def _write(folder: Path, content: dict[str, Any], log: dict[str, Any] | None) -> None:
    now = time.time()
    begun = now if log is None else log.get("begun")
    content = content | {"log": {"begun": begun, "written": now, "host": socket.gethostname(), "process": os.getpid()}}
    content["log"]["sha256"] = _files.digest(_text(content))
    _files.write(folder / _manifest.NAME, [_text(content)])


def _text(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=1, sort_keys=True) + "\n").encode()


def read(folder: Path) -> dict[str, Any]:
    """The manifest of a sweep, checked.

    Raises:
        Damaged: it is not as it was written. ValueError: it is of another kind or schema.
    """
    text = _files.read(folder, _manifest.NAME)
    content = _tree.parsed(_manifest.NAME, text)
    if content.get("kind") != "sweep" or content.get("schema") != SCHEMA:
        found = f"a {content.get('kind')!r} of schema {content.get('schema')!r}"
        msg = f"{folder / _manifest.NAME}: got {found}; expected a 'sweep' of schema {SCHEMA}; write a new folder."
        raise ValueError(msg)
    log = content.get("log")
    claimed = log.pop("sha256", None) if isinstance(log, dict) else None
    if claimed != _files.digest(_text(content)):
        raise Damaged(_manifest.NAME, "log.sha256", "it is not that of the manifest")
    good = set(content) == _FIELDS and isinstance(content["configuration"], dict) and isinstance(content["environment"], dict)
    if not good or not isinstance(content["grid"], list) or not (content["cells"] is None or isinstance(content["cells"], dict)):
        raise Damaged(_manifest.NAME, "fields", f"got {sorted(content)}")
    for one in content["grid"]:
        if not (isinstance(one, list) and len(one) == 2 and isinstance(one[0], str) and isinstance(one[1], list) and one[1]):
            raise Damaged(_manifest.NAME, "grid", f"got {str(one)[:100]}")
    return content


def found_in(folder: Path) -> tuple[dict[str, Any], dict[str, Kept], dict[str, list[int]], Kept | None]:
    """The manifest; of every cell that is done what was kept and its points; where lines break."""
    content = read(folder)
    kept, points = {}, {}
    size = int(np.prod([len(values) for _, values in content["grid"]]))
    done = sorted(path.name for path in (folder / "cells").glob("[0-9]*") if path.is_dir())
    boundary = _read_tree(folder, "boundary") if (folder / "boundary").is_dir() else None
    here = {name: f"cells/{name}" for name in done} | ({} if boundary is None else {"boundary": "boundary"})
    if content["cells"] is not None:
        if missing := sorted(set(content["cells"]) - set(here)):
            raise Damaged(_manifest.NAME, f"cells.{missing[0]}", "it is missing from the folder")
        for name, place in here.items():
            if content["cells"].get(name) != _sum(folder, place):
                raise _damaged(place, "sha256", "it is not that of the manifest")
    for name in done:
        kept[name], points[name] = _read(folder, name)
        if points[name] and max(points[name]) >= size:
            raise _damaged(here[name], "meta", f"got the point {max(points[name])}; expected less than {size}")
    return content, kept, points, boundary
