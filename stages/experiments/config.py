"""Experiments of config.yaml: their resolved settings, and what each artifact is made of.

python -m stages.experiments.config --settings S --out settings.json

The recipe of an artifact is all the settings that decide its content. It is what a step is given
and leaves in its output, so it answers three questions at once: has a finished artifact become
stale, may a child use its parent's, and did a setting that matters change.
"""

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from stages.artifacts import digests, store
from stages.common.errors import UserError
from stages.experiments.settings import MODELS, Experiment, Machine, StepSettings, explain
from stages.running import command

# Growing these keeps what was drawn with the smaller value.
GROWING = ("traces.k", "answers.m")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


@dataclass(frozen=True)
class Config:
    """All of config.yaml, checked: the experiments, who inherits from whom, and the machine."""

    experiments: dict[str, Experiment]
    parents: dict[str, str]
    machine: Machine


def load(config: Mapping[str, Any]) -> Config:
    """Check config.yaml and resolve every experiment: defaults, then parents, then its own.

    Raises
    ------
    UserError
        A name or key is unknown, a value is out of bounds, or experiments inherit in a circle.
    """
    strange = set(config) - {"defaults", "machine", "experiments"}
    if strange:
        raise UserError(
            f"config.yaml: there is no section {min(strange)!r}; known are defaults, machine and "
            "experiments"
        )
    given = {
        str(name): dict(_mapping(own, f"config.yaml: experiments.{name}"))
        for name, own in _mapping(config.get("experiments"), "config.yaml: experiments").items()
    }
    for name in given:
        if not NAME.fullmatch(name):
            raise UserError(
                f"config.yaml: experiment {name!r}: a name is made of letters, digits, _ and -"
            )
    parents = {name: str(own.pop("inherits")) for name, own in given.items() if "inherits" in own}
    experiments = {}
    for name in given:
        merged = dict(_mapping(config.get("defaults"), "config.yaml: defaults"))
        for ancestor in reversed(lineage(name, parents, given)):
            merged = _merge(merged, given[ancestor])
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
    """Refuse a file of an experiment that config.yaml does not have."""
    for target in targets:
        found = re.match(r"(?:\./)?results/(?:compare/([^/]+)\.(?:html|json)$|([^/]+)/)", target)
        for name in (found[1] or found[2]).split("+") if found else ():
            if name not in known and name != "compare":
                raise _unknown(name, known, target)


def _unknown(name: str, known: Iterable[str], where: str) -> UserError:
    near = difflib.get_close_matches(name, list(known), n=1)
    mend = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
    return UserError(f"{where}: there is no experiment {name!r} in config.yaml; {mend}")


def _merge(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """`own` laid over `base`, section by section."""
    merged = dict(base)
    for key, value in own.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _finetune_for_all(values: dict[str, Any], where: str) -> dict[str, Any]:
    """Lay every model's own section over the common `finetune`."""
    common = _mapping(values.get("finetune"), f"{where}.finetune")
    own = {
        model: _merge(common, _mapping(values.get(model), f"{where}.{model}")) for model in MODELS
    }
    return {**values, **own}


# Recipes -----------------------------------------------------------------------------------------


def sections(experiment: Experiment, artifact: str, round_: int = 1) -> set[str]:
    """Sections of the settings that decide an artifact of a round.

    `artifact` is questions, base, initial, posterior, final, traces, scores, answers, verdicts,
    weights, or eval- and a model; rollouts of later rounds are part of `posterior`.
    """

    def of(other: str, round_: int = round_) -> set[str]:
        return sections(experiment, other, round_)

    prior = "initial" if round_ == 1 else "final"
    before = max(round_ - 1, 1)
    match artifact:
        case "questions":
            return {"seed", "questions"}
        case "base":
            return {"seed", "model"}
        case "initial":
            return of("questions") | of("base") | {"prompts", "initial"}
        case "posterior" if round_ == 1:
            start = of("initial") if experiment.posterior.init == "initial" else of("base")
            return start | of("questions") | {"prompts", "posterior"}
        case "posterior":
            rollouts = {"engine", "traces", "answers", "verdicts", "weights"}
            return of("final", before) | rollouts | {"posterior"}
        case "traces":
            own = {"prompts", "engine", "traces"}
            proposal = experiment.traces.proposal
            return own | (of("posterior") if proposal == "posterior" else of(prior, before))
        case "scores":
            return of("traces") | of(prior, before) | {"scores"}
        case "answers":
            return of("traces") | of(prior, before) | {"answers"}
        case "verdicts":
            return of("answers") | {"verdicts"}
        case "weights":
            return of("scores") | of("verdicts") | {"weights"}
        case "final":
            return of("weights") | {"rows", "final"}
        case _ if artifact.startswith("eval-"):
            model = artifact.removeprefix("eval-")
            return of(model) | of("questions") | {"prompts", "engine", "evaluation", "verdicts"}
    raise AssertionError(artifact)


def recipe(experiment: Experiment, artifact: str, round_: int = 1) -> dict[str, Any]:
    """The settings that decide an artifact, less those that stand at their defaults."""
    wanted = sections(experiment, artifact, round_)
    return experiment.model_dump(mode="json", include=wanted, exclude_defaults=True)


def step_settings(
    experiment: Experiment, artifact: str, round_: int = 1, rollouts: bool = False
) -> dict[str, Any]:
    """What a step on the way to an artifact is given: its recipe and where it stands.

    `rollouts` is for the steps that draw and weigh rollouts of the prior for a later round's
    posterior (Algorithm 1).
    """
    given = recipe(as_rollouts(experiment) if rollouts else experiment, artifact, round_)
    if round_ > 1:
        given["round"] = round_
    if artifact in MODELS:
        given["role"] = artifact
    return given


def as_rollouts(experiment: Experiment) -> Experiment:
    """The experiment as its rollouts are drawn from the prior and weighed by w̃ alone.

    w = π_θ(Y_x | x, z) is estimated as `weights.answer` says, or by accuracy where it says none.
    """
    traces = {"proposal": "prior", "k": experiment.posterior.rollouts}
    estimate = experiment.weights.answer
    if estimate == "none":
        estimate = "accuracy" if experiment.answers.m else "geometric_likelihood"
    weights = {
        "ratio": "none",
        "answer": estimate,
        "normalize": "question",
        "select": "all",
        "no_candidate": "drop",
    }
    return experiment.model_copy(
        update={
            "traces": experiment.traces.model_copy(update=traces),
            "weights": experiment.weights.model_copy(update=weights),
        }
    )


def home(config: Config, name: str, artifact: str, round_: int = 1) -> str:
    """The experiment whose folder holds an artifact: the oldest ancestor with the same recipe."""
    round_ = 1 if artifact in ("questions", "base", "initial") else round_  # made once for all
    mine = recipe(config.experiments[name], artifact, round_)
    found = name
    for ancestor in lineage(name, config.parents, config.experiments)[1:]:
        theirs = config.experiments[ancestor]
        if round_ > theirs.rounds or recipe(theirs, artifact, round_) != mine:
            break
        found = ancestor
    return found


def is_fresh(path: Path, now: Mapping[str, Any], wanted: set[str], name: str) -> bool:
    """Whether an artifact is there, and is what its step would make by the settings of now.

    It is not when it can grow: when more traces or answers are wanted, and the finished ones stay.

    Parameters
    ----------
    path : Path
        The artifact; one that does not say how it was made is taken as it is.
    now : mapping
        What its step would be given, as made by `step_settings`.
    wanted : set of str
        The sections that decide it.
    name : str
        The experiment.

    Raises
    ------
    UserError
        It was made by other settings: each that changed, and what to do.
    """
    if not path.exists():
        return False
    made = store.read_provenance(path).get("settings")
    if made is None:
        return True
    before, after = (
        StepSettings.model_validate(values).model_dump(mode="json", include=wanted)
        for values in ({key: made[key] for key in wanted if key in made}, now)
    )
    keeps_first_ones = path.suffix == ".parquet"  # tables of draws grow, models do not
    differences = _differences(before, after)
    changes = [
        (key, old, new)
        for key, old, new in differences
        if not (keeps_first_ones and key in GROWING and new > old)
    ]
    if not changes:
        return not differences
    listed = "\n".join(f"  {key}: {old!r} then, {new!r} now" for key, old, new in changes)
    raise UserError(
        f"{path} was made with other settings:\n{listed}\n"
        "Set them back; or keep both, by giving the new settings to an experiment of their own "
        f"(`inherits: {name}`); or delete {path}, to have it made anew."
    )


def same_source(questions: Path, file: str | None, name: str) -> None:
    """Refuse finished questions whose file says something else by now.

    Parameters
    ----------
    questions : Path
        The table that was made of it.
    file : str, optional
        Setting `questions.file`.
    name : str
        The experiment.
    """
    if file is None or not Path(file).exists() or not questions.exists():
        return
    read = store.read_provenance(questions).get("inputs", {}).get(str(Path(file)))
    if read not in (None, digests.file_digest(Path(file))):
        raise UserError(
            f"{file} has changed since {questions} was made of it.\n"
            "Put it back; or give it another name and an experiment of its own "
            f"(`inherits: {name}`); or delete results/{name}, to have all made anew."
        )


def _differences(old: Any, new: Any, key: str = "") -> list[tuple[str, Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            change
            for part in {**old, **new}
            for change in _differences(old.get(part), new.get(part), f"{key}.{part}".lstrip("."))
        ]
    return [] if old == new else [(key, old, new)]


def main(argv: list[str] | None = None) -> None:
    """Write the settings of an experiment, defaults filled in."""
    parser = command.parser(__doc__)
    parser.add_argument("--out", type=Path, required=True, help="JSON of all settings")
    args = parser.parse_args(argv)
    fields = set(Experiment.model_fields)
    store.write_json(args.out, args.settings.model_dump(mode="json", include=fields))


if __name__ == "__main__":
    command.run(main)
