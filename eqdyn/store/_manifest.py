"""The manifest of a run folder: what the run is, and the checksums of all that is committed. To replace it is to commit.

Two equal runs have equal manifests but for the section `log`, which holds times, host, process, and the checksum of all the rest.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import jax
import jaxlib
import numpy as np

from eqdyn._run import Run
from eqdyn.store import _files
from eqdyn.store._describe import history
from eqdyn.store._files import damaged, digest
from eqdyn.store._structure import encode
from eqdyn.store._tree import parsed

NAME = "manifest.json"
SCHEMA = 1
_FIELDS = {"schema", "kind", "configuration", "environments", "step", "series", "checkpoint", "segments", "log"}


def configuration(run: Run) -> dict[str, Any]:
    """What decides the run: its start, its legs, and shapes to look at."""
    shapes = {leaf.path: [leaf.array.dtype.name, list(leaf.array.shape)] for leaf in encode(run.x)[1]}
    legs = history(run._legs, run.step)
    return {"lanes": run.lanes, "x": shapes, "tracers": None if run.tracers is None else list(np.shape(run.tracers)), "legs": legs}


def environment() -> dict[str, Any]:
    """What else the bits depend on: versions, devices, flags, the code."""
    devices = jax.devices()
    return {
        "eqdyn": _version(),
        "jax": jax.__version__,
        "jaxlib": jaxlib.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "devices": len(devices),
        "device_kinds": sorted({f"{one.platform} {one.device_kind}" for one in devices}),
        "processes": jax.process_count(),
        "x64": bool(jax.config.jax_enable_x64),  # type: ignore[attr-defined]
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "code": code(),
    }


@functools.cache
def _version() -> str:
    try:
        return importlib.metadata.version("eqdyn")
    except importlib.metadata.PackageNotFoundError:
        return "from its sources"


@functools.cache
def code() -> dict[str, str | None]:
    """The commit of the checkout, if it is one, and a checksum of the sources, which also tells what is not committed."""
    room = Path(__file__).parent.parent
    seen = hashlib.sha256()
    for path in sorted(room.rglob("*.py")):
        seen.update(path.relative_to(room).as_posix().encode() + b"\0" + path.read_bytes())
    commit = None
    if (room.parent / ".git").exists():
        asked = subprocess.run(["git", "-C", str(room.parent), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
        commit = asked.stdout.strip() or None
    return {"commit": commit, "sources": seen.hexdigest()}


def bit_for_bit(there: dict[str, Any], here: dict[str, Any]) -> list[str]:
    """In what two environments differ that bits depend on."""
    names = ("jax", "jaxlib", "devices", "device_kinds", "processes", "x64", "xla_flags")
    return [f"{name} {there.get(name)} -> {here[name]}" for name in names if there.get(name) != here[name]]


def write(folder: Path, content: dict[str, Any], created: float | None) -> None:
    """Commit: from now on the folder holds what the manifest names."""
    now = time.time()
    log: dict[str, Any] = {"created": now if created is None else created, "saved": now, "host": socket.gethostname(), "process": os.getpid()}
    whole = content | {"schema": SCHEMA, "kind": "run", "log": log}
    log["sha256"] = digest(_text(whole))
    _files.write(folder / NAME, [_text(whole)])


def _text(content: Any) -> bytes:
    return (json.dumps(content, indent=1, sort_keys=True) + "\n").encode()


def kind(folder: Path) -> str | None:
    """What the folder says that it holds; None if it has no manifest."""
    if not folder.is_dir() or not (folder / NAME).exists():
        return None
    found = parsed(NAME, _files.read(folder, NAME)).get("kind")
    return found if isinstance(found, str) else ""


def read(folder: Path) -> dict[str, Any]:
    """The manifest of a run folder, checked.

    Raises:
        ValueError: no run folder, or another schema.
        Damaged: it is not as it was written.
    """
    what = kind(folder)
    if what in (None, "sweep"):
        has = f"has no {NAME}" if what is None else "holds a sweep"
        msg = f"folder: got {folder}, which {has}; expected the folder of a run; write eq.store.save(run, folder) to make one."
        raise ValueError(msg)
    text = _files.read(folder, NAME)
    content = parsed(NAME, text)
    if isinstance(content.get("schema"), int) and content["schema"] != SCHEMA:
        msg = f"{folder / NAME}: schema: got {content['schema']}; expected {SCHEMA}; load it with the eqdyn that wrote it."
        raise ValueError(msg)
    log = content.get("log")
    if not isinstance(log, dict) or not isinstance(log.get("sha256"), str):
        damaged(NAME, "log.sha256", "it is missing")
    claimed = log.pop("sha256")
    if digest(_text(content)) != claimed:
        damaged(NAME, "log.sha256", "it is not that of the manifest")
    log["sha256"] = claimed
    if _text(content) != text:
        damaged(NAME, "layout", "it is not as it was written")
    _checked(content)
    return content


def _checked(content: dict[str, Any]) -> None:
    """A manifest with a checksum of its own may still come from anywhere."""

    def hold(field: str, *, good: bool) -> None:
        if not good:
            damaged(NAME, field, f"got {str(content.get(field))[:100]}")

    hold("kind", good=content.get("kind") == "run")
    hold("fields", good=set(content) == _FIELDS)
    hold("step", good=type(content["step"]) is int and content["step"] >= 0)
    hold("checkpoint", good=isinstance(content["checkpoint"], str))
    hold("series", good=isinstance(content["series"], dict) and all(type(first) is int for first in content["series"].values()))
    hold("environments", good=isinstance(content["environments"], list) and all(isinstance(one, dict) for one in content["environments"]))
    given = content["configuration"]
    legs: Any = given.get("legs") if isinstance(given, dict) else None
    good = isinstance(legs, list) and len(legs) > 0 and all(map(_is_leg, legs)) and set(given) == {"lanes", "x", "tracers", "legs"}
    hold("configuration", good=good and isinstance(legs[0].get("start"), str) and (given["lanes"] is None or type(given["lanes"]) is int))
    hold("segments", good=isinstance(content["segments"], list))
    for one in content["segments"]:
        wanted = {"first": int, "last": int, "bytes": int, "sha256": str}
        hold("segments", good=isinstance(one, dict) and {name: type(value) for name, value in one.items()} == wanted)
        hold("segments", good=0 <= one["first"] <= one["last"] <= content["step"] and one["bytes"] >= 0)


def _is_leg(leg: Any) -> bool:
    match leg:
        case {
            "from": int(), "rule": str(), "eta": float() | [*_] | {"schedule": str()} as eta, "data": data, "key": _, "every": int(), "chunk": int(),
            "observers": dict() as observers,
        }:  # fmt: skip
            etas = eta if isinstance(eta, list) else []
            return _is_data(data) and all(isinstance(one, float) for one in etas) and all(map(_is_observer, observers.values()))
    return False


def _is_data(data: Any) -> bool:
    match data:
        case {"batch_size": None | int(), "leaves": dict() as leaves}:
            return all(isinstance(leaf, list) and len(leaf) == 3 for leaf in leaves.values())
    return data is None


def _is_observer(one: Any) -> bool:
    match one:
        case {"stride": int(), "on_host": bool(), "measure": str()}:
            return True
    return False


def segment_name(first: int, last: int) -> str:
    """Where the records of the steps `first` to `last - 1` are, as made from the numbers."""
    return f"observations/{first:010d}-{last:010d}.zarr.zip"


def checkpoint_name(step: int) -> str:
    """Where the run at `step` is."""
    return f"checkpoints/{step:010d}"
