"""Configurations: what to run, or to sweep, as a TOML file. Every complaint names the key and its line."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from eqdyn import data as datasets
from eqdyn import observe, rules, shapes
from eqdyn.check_command import find
from eqdyn.data import Batches
from eqdyn.networks import two_layer

LOSSES: dict[str, Any] = {"regression": two_layer.regression_field(), "cross_entropy": two_layer.cross_entropy}
_TOP = {"num_steps", "eta", "eta_per", "seed", "every", "chunk", "lanes", "save_every", "tracers", "broken", "adaptive"}
_SECTIONS = {"rule", "start", "data", "observe", "grid"}
_DATA = {"teacher": {"input_dim", "num_examples", "width", "scales"}, "digits": set(), "mnist": {"folder"}}


class ConfigError(ValueError):
    """A configuration that says what it must not: the file, the line, the key."""


@dataclasses.dataclass(frozen=True)
class Chosen:
    """A function with the arguments of a section; those that are swept are left open, and come by the names of the grid."""

    kind: str
    name: str
    given: tuple[tuple[str, Any], ...]
    swept: tuple[tuple[str, str], ...]  # (name in the grid, argument)

    @property
    def __signature__(self) -> inspect.Signature:
        names = [name for name, _ in self.swept] + (["key"] if self.kind == "start" else [])
        return inspect.Signature([inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in names])

    def __call__(self, **values: Any) -> Any:
        arguments = dict(self.given) | {argument: values[name] for name, argument in self.swept}
        if self.kind == "start":
            made = _function("start", self.name)(**arguments, key=values["key"])
            return getattr(made, "points", made)
        if self.kind == "data":
            return _batches(self.name, arguments)
        if "loss" in arguments:
            arguments["loss"] = LOSSES.get(arguments["loss"]) or find(arguments["loss"], "rule.loss")
        loss = (arguments.pop("loss"),) if "loss" in arguments else ()
        return _function("rule", self.name)(*loss, **arguments)


@dataclasses.dataclass(frozen=True)
class StepSize:
    """A swept step size over another swept number."""

    per: str

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.Signature([inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in ("eta", self.per)])

    def __call__(self, *, eta: float, **per: float) -> float:
        return eta / per[self.per]


class Config:
    """A configuration, read and held against what one may say."""

    def __init__(self, path: Path):
        self.path = path
        try:
            text = path.read_text()
            self.said: dict[str, Any] = tomllib.loads(text)
        except OSError as error:
            msg = f"CONFIG: {path} could not be read ({error.strerror}); expected a TOML file."
            raise ConfigError(msg) from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            msg = f"{path}: {error}; expected TOML."
            raise ConfigError(msg) from error
        self._lines = _lines(text)
        self._known(self.said, _TOP | _SECTIONS, "")
        for name in _SECTIONS & set(self.said):
            if not isinstance(self.said[name], dict):
                self.fail(name, f"got {self.said[name]!r}; expected a section; write [{name}]")
        self.swept = {self._axis(key): key for key in self.said.get("grid", {})}

    def fail(self, key: str, what: str) -> Any:
        """Raise what is wrong with a key, with its line."""
        line = next((self._lines[part] for part in (key, key.rsplit(".", 1)[0]) if part in self._lines), None)
        msg = f"{self.path}{'' if line is None else f', line {line}'}: {key}: {what}."
        raise ConfigError(msg)

    def _known(self, said: Mapping[str, Any], known: Any, section: str) -> None:
        for key in said:
            if key not in known:
                near = difflib.get_close_matches(key, sorted(known), 1)
                hint = f"; did you mean {near[0]!r}?" if near else f"; expected one of {', '.join(sorted(known))}"
                self.fail(f"{section}.{key}".strip("."), f"got a key that is not known{hint}")

    def _axis(self, key: str) -> str:
        section, _, argument = key.partition(".")
        if key not in ("eta", "seed") and (section not in ("rule", "start", "data") or not argument):
            self.fail(f"grid.{key}", "expected eta, seed, or an argument as rule.beta, start.num, data.batch")
        return key.replace(".", "_")

    def number(self, key: str, default: Any = None, *, least: float | None = None, whole: bool = False) -> Any:
        """A number of the top level."""
        value = self.said.get(key, default)
        wanted = (int,) if whole else (int, float)
        if value is not None and (isinstance(value, bool) or not isinstance(value, wanted) or (least is not None and value < least)):
            self.fail(key, f"got {value!r}; expected a {'whole ' * whole}number" + (f" >= {least:g}" if least is not None else ""))
        if value is None and default is None and key == "num_steps":
            self.fail(key, "is missing; expected a whole number of steps; write num_steps = 1000")
        return value

    def chosen(self, kind: str) -> Chosen | None:
        """A section as a function of what is swept."""
        said = dict(self.said.get(kind, {}))
        if kind not in self.said and kind == "data":
            return None
        name = said.pop("name", None)
        if not isinstance(name, str):
            what = f"got {name!r}" if name is not None else "is missing"
            self.fail(f"{kind}.name", f"{what}; expected the name of {'a rule' if kind == 'rule' else 'a start' if kind == 'start' else 'data'}")
        known = self._arguments(kind, name)
        if known is not None:
            self._known(said, known, kind)
        swept = [(axis, key.partition(".")[2]) for axis, key in self.swept.items() if key.partition(".")[0] == kind and "." in key]
        for axis, argument in swept:
            if known is not None and argument not in known:
                self.fail(f"grid.{self.swept[axis]}", f"{name} takes no {argument!r}; expected one of {', '.join(sorted(known))}")
            if argument in said:
                self.fail(f"{kind}.{argument}", "is given here and in the grid; expected it once")
        if kind == "rule" and "loss" in said and said["loss"] not in LOSSES and ":" not in str(said["loss"]):
            self.fail("rule.loss", f"got {said['loss']!r}; expected one of {', '.join(LOSSES)}, or MODULE:NAME")
        if kind == "rule" and known is not None and "loss" in known and "loss" not in said:
            self.fail("rule.loss", f"is missing; {name} descends a loss; expected one of {', '.join(LOSSES)}, or MODULE:NAME")
        return Chosen(kind, name, tuple((key, _hashable(value)) for key, value in said.items()), tuple(swept))

    def _arguments(self, kind: str, name: str) -> set[str] | None:
        """What a function of ours takes; None for a user's."""
        if kind == "data" and ":" not in name:
            if name not in _DATA:
                self.fail("data.name", f"got {name!r}; expected one of {', '.join(_DATA)}, or MODULE:NAME")
            return _DATA[name] | {"batch", "seed"}
        try:
            function = _function(kind, name)
        except (ValueError, ImportError) as error:
            return self.fail(f"{kind}.name", str(error).rstrip("."))
        if ":" in name:
            return None
        return set(inspect.signature(function).parameters) - {"key", "dtype", "weighted"}

    def observers(self) -> dict[str, Any]:
        """The observers of [observe], each a name of `eqdyn.observe` with its arguments."""
        found = {}
        for name, given in self.said.get("observe", {}).items():
            make = (
                getattr(observe, name, None)
                if name in ("atoms", "betti", "certificate", "configuration", "merges", "pair_constants", "stretch")
                else None
            )
            if make is None or not isinstance(given, dict):
                self.fail(f"observe.{name}", f"got {given!r}; expected an observer with its arguments; write certificate = {{ stride = 1 }}")
            try:
                found[name] = make(**given)  # type: ignore[misc]
            except (TypeError, ValueError) as error:
                self.fail(f"observe.{name}", str(error).rstrip("."))
        return found

    def grid(self) -> dict[str, list]:
        """The values of every name: a list, `{ first, last, num, scale = "log" }`, or of a seed how many."""
        found: dict[str, list] = {}
        for axis, key in self.swept.items():
            value = self.said["grid"][key]
            if key == "seed" and isinstance(value, int) and not isinstance(value, bool) and value > 0:
                value = list(range(value))
            if isinstance(value, dict):
                self._known(value, {"first", "last", "num", "scale"}, f"grid.{key}")
                try:
                    spaced = np.geomspace if value.get("scale") == "log" else np.linspace
                    value = [float(one) for one in spaced(value["first"], value["last"], value["num"])]
                except (KeyError, TypeError, ValueError) as error:
                    self.fail(f"grid.{key}", f"got {value!r} ({error}); expected {{ first = 0.1, last = 1.0, num = 10, scale = 'log' }}")
            if not isinstance(value, list) or not value:
                self.fail(f"grid.{key}", f"got {value!r}; expected a list of values, or {{ first, last, num }}")
            found[axis] = value
        return found

    def eta(self) -> Any:
        """The step size: a number, None where it is swept, or a function of it and what it is divided by."""
        per = self.said.get("eta_per")
        if "eta" in self.swept and per is None:
            if "eta" in self.said:
                self.fail("eta", "is given here and in the grid; expected it once")
            return None
        if per is not None:
            axis = str(per).replace(".", "_")
            if "eta" not in self.swept or axis not in self.swept:
                self.fail("eta_per", f"got {per!r}; expected eta and {per} in the grid; write eta_per = 'start.num'")
            return StepSize(axis)
        return self.number("eta", 1.0)

    def tracers(self) -> Any:
        """The points of a mesh, and the mesh; None if there are none."""
        said = self.said.get("tracers")
        if said is None:
            return None, None
        make = getattr(shapes.mesh, said.get("name", ""), None) if isinstance(said, dict) else None
        if make is None:
            self.fail("tracers", f"got {said!r}; expected a mesh of eqdyn.shapes.mesh; write tracers = {{ name = 'figure_eight', num = 1024 }}")
        try:
            made = make(**{key: value for key, value in said.items() if key != "name"})  # type: ignore[misc]
        except (TypeError, ValueError) as error:
            self.fail("tracers", str(error).rstrip("."))
        return made.points, made


def _function(kind: str, name: str) -> Callable:
    if ":" in name:
        return find(name, f"{kind}.name")
    room = rules if kind == "rule" else shapes
    if name not in room.__all__ or not inspect.isfunction(getattr(room, name)):
        names = [one for one in room.__all__ if inspect.isfunction(getattr(room, one))]
        msg = f"got {name!r}; expected one of {', '.join(names)}, or MODULE:NAME."
        raise ValueError(msg)
    return getattr(room, name)


def _batches(name: str, arguments: dict[str, Any]) -> Any:
    """Data of that name, in batches if they have a size."""
    batch, seed = arguments.pop("batch", None), arguments.pop("seed", 0)
    if ":" in name:
        found = find(name, "data.name")(**arguments)
    elif name == "teacher":
        found = datasets.teacher(key=jax.random.key(seed), **arguments).train
    else:
        found = getattr(datasets, name)(**arguments).train
    return found if batch is None or isinstance(found, Batches) else Batches(found, batch)


def _hashable(value: Any) -> Any:
    return tuple(map(_hashable, value)) if isinstance(value, list) else value


_HEADER, _KEY = re.compile(r"^\s*\[+\s*([^\]]+?)\s*\]"), re.compile(r"""^\s*((?:"[^"]*"|'[^']*'|[\w.-])+)\s*=""")


def _lines(text: str) -> dict[str, int]:
    """The line of every key, by its dotted name; the first if it comes twice."""
    found: dict[str, int] = {}
    section = ""
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            section = re.sub(r"""["']|\s""", "", header[1])
            found.setdefault(section, number)
        elif key := _KEY.match(line):
            name = re.sub(r"""["']""", "", key[1])
            found.setdefault(f"{section}.{name}".strip("."), number)
    return found
