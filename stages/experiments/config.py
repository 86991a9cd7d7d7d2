"""Checks config.yaml and resolves the settings of every experiment."""

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from stages.common.errors import UserError
from stages.experiments import layout
from stages.experiments.explain import explain
from stages.experiments.settings import MODELS, Experiment, Machine

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


@dataclass(frozen=True)
class Config:
    """A valid config.yaml: experiments, the parent of each that inherits, and the machine."""

    experiments: dict[str, Experiment]
    parents: dict[str, str]
    machine: Machine


def load(config: Mapping[str, Any]) -> Config:
    """Check config.yaml and resolve every experiment: defaults, then ancestors, then its own.

    Raises
    ------
    UserError
        A name or key is unknown, a value is out of bounds, or inheritance has a cycle.
    """
    unknown = set(config) - {"defaults", "machine", "experiments"}
    if unknown:
        raise UserError(
            f"config.yaml: unknown section {min(unknown)!r}; known are defaults, machine and "
            "experiments"
        )
    sections = {
        str(name): dict(_mapping(own, f"config.yaml: experiments.{name}"))
        for name, own in _mapping(config.get("experiments"), "config.yaml: experiments").items()
    }
    for name in sections:
        if not NAME.fullmatch(name):
            raise UserError(
                f"config.yaml: experiment {name!r}: names consist of letters, digits, _ and -, "
                "and start with a letter or digit"
            )
    parents = {
        name: str(own.pop("inherits")) for name, own in sections.items() if "inherits" in own
    }
    experiments = {}
    for name in sections:
        merged = dict(_mapping(config.get("defaults"), "config.yaml: defaults"))
        for ancestor in reversed(lineage(name, parents, sections)):
            merged = _merge(merged, sections[ancestor])
        where = f"config.yaml: experiments.{name}"
        experiments[name] = _validated(Experiment, _finetune_for_all(merged, where), where)
    machine = _validated(Machine, config.get("machine") or {}, "config.yaml: machine")
    return Config(experiments, parents, machine)


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value or {}, Mapping):
        raise UserError(f"{where}: give settings as `name: value`, not {value!r}")
    return value or {}


def _validated(model: Any, values: Mapping[str, Any], where: str) -> Any:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise UserError(explain(error, model, where)) from None


def lineage(name: str, parents: Mapping[str, str], known: Mapping[str, Any]) -> list[str]:
    """The experiment, its parent, the parent's parent and so on."""
    line = [name]
    while line[-1] in parents:
        parent = parents[line[-1]]
        if parent not in known:
            raise _unknown(parent, known, f"config.yaml: experiments.{line[-1]}.inherits")
        if parent in line:
            raise UserError(f"config.yaml: experiments.{name}: {parent!r} inherits from itself")
        line.append(parent)
    return line


def check_targets(targets: Iterable[str], known: Iterable[str]) -> None:
    """Raise UserError for a target of an experiment that is not in config.yaml."""
    for target in targets:
        for name in layout.experiments_of(target):
            if name not in known:
                raise _unknown(name, known, target)


def _unknown(name: str, known: Iterable[str], where: str) -> UserError:
    near = difflib.get_close_matches(name, list(known), n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
    return UserError(f"{where}: no experiment {name!r} in config.yaml; {hint}")


def _merge(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """`base` updated with `own`, section by section."""
    merged = dict(base)
    for key, value in own.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _finetune_for_all(values: dict[str, Any], where: str) -> dict[str, Any]:
    """Merge each model's section into the shared `finetune`."""
    common = _mapping(values.get("finetune"), f"{where}.finetune")
    own = {
        model: _merge(common, _mapping(values.get(model), f"{where}.{model}")) for model in MODELS
    }
    return {**values, **own}
