"""Where every artifact is stored, and which artifacts an experiment consists of.

An artifact is named by its place below ``results/<experiment>/``, without suffix: ``questions``,
``models/posterior-2``, ``round-1/scores/prior``, ``round-2/rollouts/weights``, ``eval/final``.
"""

import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from stages.experiments.settings import Experiment

ROOT = "results"
SHARDED = ("traces", "scores", "answers", "verdicts")


@dataclass(frozen=True)
class Artifact:
    """One artifact of an experiment.

    Attributes
    ----------
    kind : str
        The step that makes it: a key of `recipes.RECIPES`.
    round : int
        The round it belongs to, from 1. Round 1 for what all rounds share.
    rollouts : bool
        Whether it belongs to the rollouts that the posterior of a later round learns from.
    role : str
        The model it is (finetune), trains (rows) or describes (scores, evaluate).
    """

    kind: str
    round: int = 1
    rollouts: bool = False
    role: str = ""

    @property
    def name(self) -> str:
        """The place below ``results/<experiment>/``, without suffix."""
        numbered = self.role + (f"-{self.round}" if self.round > 1 else "")
        match self.kind:
            case "questions":
                return "questions"
            case "base":
                return "models/base"
            case "finetune":
                return f"models/{numbered}"
            case "evaluate":
                return f"eval/{numbered}"
            case "rows" if self.is_teacher_rows:
                return f"teacher_rows/{self.role}"
            case "scores":
                return f"{self.folder}/scores/{self.role}"
        return f"{self.folder}/{self.kind}"

    @property
    def folder(self) -> str:
        """The folder of its round, or of its round's rollouts."""
        return f"round-{self.round}" + ("/rollouts" if self.rollouts else "")

    @property
    def is_teacher_rows(self) -> bool:
        """Whether it is a table of teacher rows, which train the first two models."""
        own = self.kind == "rows" and not self.rollouts
        return own and self.role in ("initial", "posterior")

    def file(self, experiment: str, shard: str | None = None) -> str:
        """Its path: of one shard if `shard` is given; else a file or a folder."""
        place = f"{ROOT}/{experiment}/{'heldout' if self == HELD_OUT else self.name}"
        if shard is not None:
            return f"{place}/shard-{shard}.parquet"
        if self.kind == "evaluate":
            return f"{place}/benchmarks.json"
        is_folder = self.kind in (*SHARDED, "base", "finetune")
        return place if is_folder else f"{place}.parquet"

    def sibling(self, kind: str, role: str = "") -> "Artifact":
        """Another artifact of the same round, or of the same rollouts."""
        return replace(self, kind=kind, role=role)


QUESTIONS = Artifact("questions")
HELD_OUT = Artifact("questions", role="held_out")
BASE = Artifact("base")


def model(role: str, round_: int = 1) -> Artifact:
    """A model by its role: base, initial, posterior or final."""
    return BASE if role == "base" else Artifact("finetune", round_, role=role)


def prior(round_: int) -> Artifact:
    """π_θ0 of a round: the initial model, or the final model of the round before."""
    return model("initial") if round_ == 1 else model("final", round_ - 1)


def shards(experiment: Experiment) -> list[str]:
    """Names of the shards of every sharded artifact."""
    return [f"{shard:04d}" for shard in range(experiment.traces.shards)]


# For the rules -----------------------------------------------------------------------------------

EVALUATED = r"base|initial|final(-\d+)?"
MODEL = re.compile(r"(base|initial|posterior|final)(?:-(\d+))?")
DRAWS = re.compile(r"round-(\d+)(/rollouts)?")


def wildcards(experiments: Iterable[str]) -> dict[str, str]:
    """The patterns of all wildcards of the rules."""
    one = "|".join(map(re.escape, experiments))
    return {
        "experiment": one,
        "experiments": rf"({one})(\+({one}))+",
        "model": r"(initial|posterior|final)(-\d+)?",
        "draws": DRAWS.pattern,
        "role": "prior|posterior",
        "shard": r"\d{4}",
    }


def named(kind: str, draws: str = "", model: str = "", role: str = "") -> Artifact:
    """The artifact that a job makes, from its wildcards.

    Parameters
    ----------
    kind : str
        The step.
    draws : str
        ``round-R`` or ``round-R/rollouts``.
    model : str
        A model and its round, for instance ``final-2``.
    role : str
        Whose scores they are: ``prior`` or ``posterior``.
    """
    if match := MODEL.fullmatch(model):
        return Artifact(kind, int(match[2] or 1), role=match[1])
    if match := DRAWS.fullmatch(draws):
        rollouts = match[2] is not None
        if kind == "rows":
            role = "posterior" if rollouts else "final"
        return Artifact(kind, int(match[1]), rollouts, role)
    return Artifact(kind)


def compared(wildcards: Mapping[str, str]) -> list[str]:
    """Names of the experiments of a job, one or several."""
    return wildcards.get("experiments", wildcards.get("experiment", "")).split("+")


def folders(files: Iterable[str]) -> list[str]:
    """The files, with the shards of a folder replaced by the folder."""
    places = (str(Path(f).parent) if Path(f).name.startswith("shard-") else str(f) for f in files)
    return list(dict.fromkeys(places))


def arguments(inputs: Mapping[str, str | list[str]]) -> str:
    """Command line of a step's inputs, quoted for the shell.

    A list of shards is passed as their folder.
    """
    words = []
    for name, files in inputs.items():
        place = files if isinstance(files, str) else str(Path(files[0]).parent)
        words += [f"--{name.replace('_', '-')}", shlex.quote(place)]
    return " ".join(words)


# What an experiment consists of ------------------------------------------------------------------


def round_draws(experiment: Experiment, round_: int, rollouts: bool = False) -> list[Artifact]:
    """The tables of a round, or of its rollouts, in the order in which they are made."""
    first = Artifact("traces", round_, rollouts)
    scores = ["prior"] if rollouts or experiment.traces_from_prior else ["prior", "posterior"]
    answers = ["answers", "verdicts"] if experiment.has_answers else []
    return [
        first,
        *(first.sibling("scores", role) for role in scores),
        *(first.sibling(kind) for kind in answers),
        first.sibling("weights"),
        first.sibling("rows", "posterior" if rollouts else "final"),
    ]


def draws(experiment: Experiment) -> list[Artifact]:
    """Every table of every round that leads to a model that is evaluated."""
    artifacts = []
    for round_ in rounds(experiment):
        if experiment.posterior_from_rollouts(round_):
            artifacts += round_draws(experiment, round_, rollouts=True)
        artifacts += round_draws(experiment, round_)
    return artifacts


def rounds(experiment: Experiment) -> range:
    """Rounds that lead to a model that is evaluated."""
    count = experiment.rounds if "final" in experiment.evaluation.models else 0
    return range(1, count + 1)


def trained_models(experiment: Experiment) -> list[Artifact]:
    """Every model that leads to one that is evaluated, in the order of training."""
    if not set(experiment.evaluation.models) - {"base"}:
        return []
    roles = ["posterior", "final"] if experiment.traces.proposal == "posterior" else ["final"]
    later = [model(role, round_) for round_ in rounds(experiment) for role in roles]
    return [model("initial"), *later]


def evaluations(experiment: Experiment) -> list[Artifact]:
    """The evaluation of each model that is evaluated, in the order of training."""

    def each() -> Iterator[Artifact]:
        for role in ("base", "initial", "final"):
            if role in experiment.evaluation.models:
                last = experiment.rounds if role == "final" else 1
                yield from (Artifact("evaluate", r, role=role) for r in range(1, last + 1))

    return list(each())


def experiments_of(target: str) -> list[str]:
    """Names of the experiments that a target file belongs to; [] if it is outside `ROOT`."""
    parts = Path(target).parts
    if not parts or parts[0] != ROOT or len(parts) < 3:
        return []
    if parts[1] == "compare":
        return Path(parts[2]).stem.split("+")
    return [] if parts[1] == "studies" else [parts[1]]


def questions(experiment: Experiment) -> list[Artifact]:
    """The training questions."""
    return [QUESTIONS]


def tables(kind: str) -> Callable[[Experiment], list[Artifact]]:
    """A function that lists the tables of one kind, one per round."""
    return lambda experiment: [
        table for table in draws(experiment) if table.kind == kind and not table.rollouts
    ]
