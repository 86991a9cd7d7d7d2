"""The one declaration of what each artifact depends on.

The recipe of an artifact names everything that decides its content: the step and its version, the
settings that the step reads, the prompt text it uses, outside files, and its input artifacts.
Everything else follows from it:

- `step_settings`: a step gets the settings that its recipe names, and no others;
- `derive`: the recipes of an artifact and of all its ancestors, as one flat mapping, whose digest
  is its identity. Steps record it; the workflow computes it from config.yaml alone;
- the inputs of the workflow's rules, and which of a parent's artifacts a child uses (`reuse`).
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from stages import prompts
from stages.artifacts import digests
from stages.experiments import layout
from stages.experiments.layout import BASE, HELD_OUT, QUESTIONS, Artifact
from stages.experiments.settings import Experiment, StepSettings

PromptRole = Literal["prior", "posterior", "evaluation", "row"]
HINT = ("posterior.hint", "posterior.template")


@dataclass(frozen=True)
class Recipe:
    """What decides the content of one artifact.

    Attributes
    ----------
    inputs : dict of str to Artifact
        Input artifacts by the name of the step's argument.
    settings : tuple of str
        Sections and settings that the step gets. All of them decide the content, except
    undecisive : tuple of str
        those that do not, and
    growth : tuple of str or None
        those that only add rows to the table when they are raised. None for an artifact that is
        made as a whole; () for one that grows with its inputs.
    outside : tuple of str
        Those that name an outside file or model, whose content decides, not its name.
    prompts : tuple of str
        Roles whose prompts the step writes (`prompts.fingerprint`).
    version : int
        Raise it when the same settings and inputs would give another result.
    """

    inputs: Mapping[str, Artifact] = field(default_factory=dict)
    settings: tuple[str, ...] = ()
    undecisive: tuple[str, ...] = ()
    growth: tuple[str, ...] | None = None
    outside: tuple[str, ...] = ()
    prompts: tuple[PromptRole, ...] = ()
    version: int = 1


def questions(experiment: Experiment, artifact: Artifact) -> Recipe:
    """Training and held-out questions."""
    files = ("questions.file", "questions.held_out_file")
    return Recipe(settings=("seed", "questions"), outside=files)


def base(experiment: Experiment, artifact: Artifact) -> Recipe:
    """The model that every fine-tuning starts from."""
    seed = ("seed",) if experiment.model.scratch is not None else ()
    return Recipe(settings=("model", *seed), outside=("model.path",))


def rows(experiment: Experiment, artifact: Artifact) -> Recipe:
    """Training rows of a model: teacher rows alone, or with rows of weighted traces."""
    hint = HINT if artifact.role == "posterior" else ()
    common = ("role", "prompts", *hint)
    role: PromptRole = "posterior" if artifact.role == "posterior" else "row"
    inputs = {"questions": QUESTIONS, "tokenizer": BASE}
    if artifact.is_teacher_rows:
        return Recipe(inputs, common, prompts=(role,))
    tables = ["traces", "weights"] + (["answers"] if experiment.has_answers else [])
    return Recipe(
        inputs | {kind: artifact.sibling(kind) for kind in tables},
        (*common, "round", "rollouts", "rows", "weights", "traces.proposal"),
        undecisive=("round", "rollouts"),
        prompts=(role,),
    )


def finetune(experiment: Experiment, artifact: Artifact) -> Recipe:
    """A fine-tuned model."""
    role, round_ = artifact.role, artifact.round
    start, learned = BASE, artifact.sibling("rows", role)
    if role == "posterior":
        learned = Artifact("rows", round_, experiment.posterior_from_rollouts(round_), role)
        start = layout.prior(round_) if experiment.posterior.init == "initial" else BASE
    return Recipe(
        {"rows": learned, "base": start},
        ("seed", "round", "role", role),
        undecisive=(*HINT, "posterior.init", "posterior.train_on", "posterior.rollouts"),
    )


def traces(experiment: Experiment, artifact: Artifact) -> Recipe:
    """K thinking traces of every question."""
    model, hinted = PROPOSALS[experiment.traces.proposal](artifact.round)
    return Recipe(
        {"questions": QUESTIONS, "model": model},
        ("seed", "round", "rollouts", "traces", "engine", "prompts", *(HINT if hinted else ())),
        undecisive=("rollouts", "traces.shards"),
        growth=("traces.k",),
        prompts=("posterior" if hinted else "prior",),
    )


# Who writes the traces: the model in a round, and whether it sees the hint.
PROPOSALS: dict[str, Callable[[int], tuple[Artifact, bool]]] = {
    "posterior": lambda round_: (layout.model("posterior", round_), True),
    "prior": lambda round_: (layout.prior(round_), False),
    "hinted_prior": lambda round_: (layout.prior(round_), True),
}


def scores(experiment: Experiment, artifact: Artifact) -> Recipe:
    """Log-probs of the traces under the prior, or under the model that wrote them."""
    hinted = artifact.role == "posterior"
    temperature = f"scores.{artifact.role}_temperature"
    tempered = _value(experiment, temperature) == "sampling"
    drawn = ("traces.temperature", "traces.top_p", "traces.top_k") if tempered else ()
    other = "prior" if hinted else "posterior"
    proposal, _ = PROPOSALS[experiment.traces.proposal](artifact.round)
    return Recipe(
        {
            "questions": QUESTIONS,
            "traces": artifact.sibling("traces"),
            "model": proposal if hinted else layout.prior(artifact.round),
        },
        ("round", "rollouts", "scores", "prompts", *drawn, *(HINT if hinted else ())),
        undecisive=("round", "rollouts", f"scores.{other}_temperature"),
        growth=(),
        prompts=("posterior",) if hinted else ("prior", "row"),
    )


def answers(experiment: Experiment, artifact: Artifact) -> Recipe:
    """M answers after every closed trace."""
    return Recipe(
        {
            "questions": QUESTIONS,
            "traces": artifact.sibling("traces"),
            "model": layout.prior(artifact.round),
        },
        ("seed", "round", "rollouts", "answers", "traces.proposal", "engine", "prompts"),
        undecisive=("rollouts",),
        growth=("answers.m",),
        prompts=("prior",),
    )


def verdicts(experiment: Experiment, artifact: Artifact) -> Recipe:
    """Which answers are correct. Raise the version with every change of the verifiers."""
    return Recipe(
        {"questions": QUESTIONS, "answers": artifact.sibling("answers")},
        ("seed", "round", "rollouts", "verdicts", "prompts"),
        undecisive=("round", "rollouts"),
        growth=(),
        version=2,
    )


def weights(experiment: Experiment, artifact: Artifact) -> Recipe:
    """Importance weights of the traces, their summary, and diagnostics by question."""
    inputs = {"questions": QUESTIONS, "traces": artifact.sibling("traces")}
    inputs["prior"] = artifact.sibling("scores", "prior")
    if not artifact.rollouts and not experiment.traces_from_prior:
        inputs["posterior"] = artifact.sibling("scores", "posterior")
    if experiment.has_answers:
        inputs["verdicts"] = artifact.sibling("verdicts")
    drawn = ("seed",) if experiment.weights.select == "resample" else ()
    return Recipe(inputs, ("round", "rollouts", "role", "weights", "traces.proposal", *drawn))


def evaluate(experiment: Experiment, artifact: Artifact) -> Recipe:
    """Verified samples of all benchmarks; each benchmark's table is a journal of its own."""
    inputs = {"model": layout.model(artifact.role, artifact.round)}
    if any(choice.name == "held_out" for choice in experiment.evaluation.benchmarks):
        inputs["held_out"] = HELD_OUT
    return Recipe(
        inputs,
        ("seed", "round", "role", "evaluation", "engine", "prompts", "verdicts"),
        # all samples are verified again whenever some are added
        undecisive=("round", "role", "evaluation.models", "verdicts"),
        growth=("evaluation.benchmarks",),
        prompts=("evaluation",),
    )


RECIPES: dict[str, Callable[[Experiment, Artifact], Recipe]] = {
    recipe.__name__: recipe
    for recipe in (
        questions,
        base,
        rows,
        finetune,
        traces,
        scores,
        answers,
        verdicts,
        weights,
        evaluate,
    )
}


# What follows from the declaration ---------------------------------------------------------------


def view(experiment: Experiment, artifact: Artifact) -> StepSettings:
    """The settings as the step that makes an artifact sees them."""
    of_rollouts = as_rollouts(experiment) if artifact.rollouts else experiment
    place: dict[str, Any] = {"round": artifact.round, "rollouts": artifact.rollouts}
    if artifact.role in ("base", "initial", "posterior", "final"):
        place["role"] = artifact.role
    elif artifact.rollouts:
        place["role"] = "posterior"
    return StepSettings.model_construct(**dict(of_rollouts), **place)


def as_rollouts(experiment: Experiment) -> Experiment:
    """The experiment with traces drawn from the prior and weighted by w̃ alone: its rollouts.

    w = π_θ(Y_x | x, z) is estimated as in `weights.answer`, or by accuracy where that is none.
    """
    estimate = experiment.weights.answer
    if estimate == "none":
        estimate = "accuracy" if experiment.has_answers else "geometric_likelihood"
    weights: dict[str, str | None] = {
        "ratio": "none",
        "answer": estimate,
        "normalize": "question",
        "select": "all",
        "no_candidate": "drop",
        "k": None,
        "m": None,
    }
    traces = {"proposal": "prior", "k": experiment.posterior.rollouts}
    return experiment.model_copy(
        update={
            "traces": experiment.traces.model_copy(update=traces),
            "weights": experiment.weights.model_copy(update=weights),
        }
    )


def recipe_of(experiment: Experiment, artifact: Artifact) -> Recipe:
    """The recipe of an artifact in an experiment."""
    viewed = as_rollouts(experiment) if artifact.rollouts else experiment
    return RECIPES[artifact.kind](viewed, artifact)


def step_settings(experiment: Experiment, artifact: Artifact) -> dict[str, Any]:
    """The settings that a step gets for an artifact, without those at their defaults."""
    return _chosen(view(experiment, artifact), recipe_of(experiment, artifact).settings)


def _chosen(settings: StepSettings, names: tuple[str, ...]) -> dict[str, Any]:
    """The named sections and settings that differ from their defaults, nested."""
    dumped = settings.model_dump(mode="json", exclude_defaults=True, warnings=False)
    result: dict[str, Any] = {}
    for name in names:
        value: Any = dumped
        for part in name.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if value is not None:
            target = result
            *sections, last = name.split(".")
            for section in sections:
                target = target.setdefault(section, {})
            both = isinstance(value, Mapping) and isinstance(target.get(last), Mapping)
            target[last] = {**value, **target[last]} if both else value
    return result


def entry(settings: StepSettings, artifact: Artifact, inputs: Mapping[str, str]) -> dict[str, Any]:
    """An artifact's line in an ancestry.

    Parameters
    ----------
    settings : StepSettings
        From `view`, or as the step got them.
    artifact : Artifact
        The artifact.
    inputs : mapping of str to str
        Name of each input in the ancestry, by the step's argument.

    Returns
    -------
    dict
        `step`, `version`, `settings` (decisive ones that are not at their defaults), digests of
        `prompts` and `outside` content, and `inputs`; JSON-ready.
    """
    recipe = RECIPES[artifact.kind](settings, artifact)
    decisive = _chosen(settings, recipe.settings)
    outside = {}
    for name in recipe.outside:
        place = _value(settings, name)
        if place is not None and Path(place).expanduser().exists():
            outside[name] = digests.content(Path(place).expanduser())
            _remove(decisive, name)
    for name in (*recipe.undecisive, *(recipe.growth or ())):
        _remove(decisive, name)
    written = {role: prompts.fingerprint(settings, role) for role in recipe.prompts}
    parts = {"settings": decisive, "prompts": written, "outside": outside, "inputs": dict(inputs)}
    return {"step": artifact.kind, "version": recipe.version} | {
        k: v for k, v in parts.items() if v
    }


def _value(settings: Experiment, name: str) -> Any:
    return functools.reduce(getattr, name.split("."), settings)


def _remove(nested: dict[str, Any], name: str) -> None:
    """Remove a dotted name, and its section if that becomes empty."""
    section, dot, rest = name.partition(".")
    if not dot:
        nested.pop(section, None)
    elif isinstance(nested.get(section), dict):
        _remove(nested[section], rest)
        if not nested[section]:
            del nested[section]


@dataclass(frozen=True)
class Ancestry:
    """The recipes of an artifact and of all its ancestors.

    Attributes
    ----------
    name : str
        The artifact's own key in `recipes`.
    recipes : dict of str to dict
        Flat: an `entry` by name; ``{"content": digest}`` for what was made outside the pipeline.
        Where an artifact that is made as a whole comes from a table that grows, the table's entry
        holds its `extent` at that time.
    extent : dict of str to dict
        By name, the values of growth settings of the tables that may still grow.
    """

    name: str
    recipes: dict[str, dict[str, Any]]
    extent: dict[str, dict[str, Any]]

    @property
    def identity(self) -> str:
        """First 16 hex digits of a SHA-256: equal for artifacts whose content may be shared."""
        return digests.digest(self.recipes)

    @property
    def summary(self) -> str:
        """Digest of identity and extent: changes when the artifact has to be made again."""
        return digests.digest([self.recipes, self.extent])


def derive(settings: StepSettings, artifact: Artifact, inputs: Mapping[str, Ancestry]) -> Ancestry:
    """The ancestry of an artifact, from those of its inputs.

    Raises
    ------
    Conflict
        Two inputs come from different versions of one artifact.
    """
    recipe = RECIPES[artifact.kind](settings, artifact)
    merged: dict[str, dict[str, Any]] = {}
    extent: dict[str, dict[str, Any]] = {}
    for argument, one in inputs.items():
        extent.update(one.extent)
        for name, line in one.recipes.items():
            fixed = {**line, "extent": one.extent[name]} if name in one.extent else line
            if merged.setdefault(name, fixed) != fixed:
                raise Conflict(argument, name, merged[name], fixed)
    merged[artifact.name] = entry(settings, artifact, {a: i.name for a, i in inputs.items()})
    if recipe.growth is None:
        return Ancestry(artifact.name, merged, {})
    for name in extent:
        merged[name] = {part: v for part, v in merged[name].items() if part != "extent"}
    own = [name for name in recipe.growth if name != "evaluation.benchmarks"]
    if own:
        extent[artifact.name] = {name: _value(settings, name) for name in own}
    return Ancestry(artifact.name, merged, extent)


class Conflict(Exception):
    """Two inputs of a step come from different versions of one artifact."""

    def __init__(self, argument: str, name: str, one: Any, other: Any) -> None:
        self.argument, self.name = argument, name
        self.changes = digests.differences(one, other)
        super().__init__(f"{argument}: {name} differs: {'; '.join(self.changes)}")
