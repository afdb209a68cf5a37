"""The paper's experiments as data: one small file each, read and held against what an experiment must say."""

from __future__ import annotations

import dataclasses
import tomllib
from importlib import resources
from typing import Any

RATES = ("small", "large")
_NETWORKS, _OPTIMIZERS = ("2d", "3d", "mnist"), ("gradient", "heavy_ball", "adam")


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One figure of the paper.

    Fields:
        name, figure, title: what it is called here, in the paper, and what it is.
        network: "2d", "3d" (inputs of dimension 1 and 2, squared error against a teacher) or "mnist" (784-width-10, cross-entropy).
        start: the function of `eqdyn.shapes` that draws the neurons.
        width, optimizer, batch: neurons; the rule of `eqdyn.rules`; examples a step.
        epochs, rates: by "small" and "large".
        seeds: how many, from 0.
        shows: what the paper's figure shows.
        paper, code: what the paper and its public code say where they disagree, or differ from this.
        sharpness: whether 1/K is drawn.
    """

    name: str
    figure: str
    title: str
    network: str
    start: str
    width: int
    optimizer: str
    batch: int
    epochs: dict[str, int]
    rates: dict[str, float]
    seeds: int
    shows: str
    paper: dict[str, str]
    code: dict[str, str]
    sharpness: bool = False


def names() -> list[str]:
    """The experiments there are, in the order of the paper."""
    found = [entry.name.removesuffix(".toml") for entry in _folder().iterdir() if entry.name.endswith(".toml")]
    return sorted(found, key=lambda name: int(name.removeprefix("fig")))


def load(name: str) -> Experiment:
    """The experiment of that name. Raises ValueError if there is none, or its file says what it must not."""
    if name not in names():
        msg = f"NAME: got {name!r}; expected one of table1, {', '.join(names())}, all."
        raise ValueError(msg)
    return parsed(name, tomllib.loads((_folder() / f"{name}.toml").read_text()))


def parsed(name: str, said: dict[str, Any]) -> Experiment:
    """An experiment from what a file says."""
    fields = {field.name: field for field in dataclasses.fields(Experiment) if field.name != "name"}
    wrong = sorted(set(said) - set(fields))
    missing = sorted(key for key, field in fields.items() if key not in said and field.default is dataclasses.MISSING)
    if wrong or missing:
        msg = f"{name}.toml: got keys {wrong} too many, {missing} too few; expected those of an Experiment."
        raise ValueError(msg)
    if said["network"] not in _NETWORKS or said["optimizer"] not in _OPTIMIZERS:
        msg = f"{name}.toml: got {said['network']!r}, {said['optimizer']!r}; expected a network of {_NETWORKS}, an optimizer of {_OPTIMIZERS}."
        raise ValueError(msg)
    for key in ("epochs", "rates"):
        if set(said[key]) != set(RATES):
            msg = f"{name}.toml: {key}: got {sorted(said[key])}; expected {RATES}."
            raise ValueError(msg)
    return Experiment(name=name, **said)


def _folder() -> Any:
    return resources.files("eqdyn.reproduce") / "experiments"
