"""What each artifact of an experiment processes: draws, tokens, and the job that does it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from stages import benchmarks
from stages.experiments.settings import Experiment, Finetune

# Lognormal lengths with sigma 0.8, as reasoning models write them: E[L²] / E[L]².
SPREAD = 1.9
QUESTIONS = {"bespokelabs/Bespoke-Stratos-17k": 16_710}
# Items of the benchmarks: docs/eval.md
ITEMS = {
    "math500": 500,
    "aime24": 30,
    "aime25": 30,
    "amc23": 40,
    "olympiadbench": 674,
    "gpqa_diamond": 198,
    "livecodebench_easy": 182,
    "livecodebench_medium": 206,
    "livecodebench_hard": 123,
    "mmlu_pro": 12_032,
    "gsm8k": 1319,
}


@dataclass(frozen=True)
class Lengths:
    """Numbers of questions and mean tokens, assumed or set."""

    questions: int
    teacher: int
    held_out: int
    prompt: int
    trace: int
    answer: int


@dataclass(frozen=True)
class Work:
    """One artifact: what is done for it, in all shards together.

    Attributes
    ----------
    draws, prefilled, drawn : int
        Of sampling: requests, prompt tokens computed, tokens written.
    tokens : int
        What the ledger counts: tokens drawn, scored or trained on.
    processed : int
        Tokens through the model in training and scoring.
    context : float
        Mean tokens that a token attends to.
    """

    artifact: str
    kind: Literal["training", "scoring", "sampling"]
    section: str
    dtype: str
    gpus: int
    shards: int
    tokens: int
    processed: int = 0
    draws: int = 0
    prefilled: int = 0
    drawn: int = 0
    context: float = 0.0
    shares_start: bool = False

    @property
    def starts(self) -> int:
        """Processes that load the model: one per shard; one engine runs all benchmarks."""
        return 0 if self.shares_start else self.shards


def lengths_of(experiment: Experiment) -> Lengths | None:
    """Lengths by the settings; None where the number of questions is unknown."""
    plan, source = experiment.plan, experiment.questions
    count = plan.questions
    held_out, teacher = source.held_out, None
    if source.addition is not None:
        added = source.addition
        count = plan.questions or added.traced + added.answer_only
        held_out, teacher = added.held_out, added.traced
    elif count is None and source.dataset in QUESTIONS:
        count = QUESTIONS[source.dataset]
    if count is None:
        return None
    if source.limit is not None:
        count = min(count, source.limit)
    plain = experiment.prompts.template == "plain"
    trace_limit = int(0.6 * experiment.traces.max_tokens)
    answer_limit = int(0.6 * experiment.answers.max_tokens)
    return Lengths(
        questions=count,
        teacher=count if teacher is None else min(teacher, count),
        held_out=held_out,
        prompt=plan.question_tokens or (20 if plain else 450),
        trace=plan.trace_tokens or max(1, min(5000, trace_limit)),
        answer=plan.answer_tokens or max(1, min(300, answer_limit)),
    )


def works(experiment: Experiment, n: Lengths) -> Iterator[Work]:
    """Every artifact that takes device time, in the order in which they are made."""
    evaluated = experiment.evaluation.models
    from_prior = experiment.traces.proposal == "prior"
    if set(evaluated) - {"base"}:
        yield _training(experiment, "initial", 1, n.teacher, n)
    for round_ in range(1, experiment.rounds + 1) if "final" in evaluated else ():
        if not from_prior:
            rows = n.teacher
            if round_ > 1:
                rows = n.questions * experiment.posterior.rollouts
                k = experiment.posterior.rollouts
                yield from _draws(experiment, f"round-{round_}/rollouts", k, True, n)
            yield _training(experiment, "posterior", round_, rows, n)
        k = experiment.traces.k
        yield from _draws(experiment, f"round-{round_}", k, from_prior, n)
        selected = n.questions * (k if experiment.weights.select == "all" else 1)
        teacher = n.teacher if experiment.rows.teacher else 0
        yield _training(experiment, "final", round_, selected + teacher, n)
    for model in evaluated:
        for round_ in range(1, (experiment.rounds if model == "final" else 1) + 1):
            yield from _evaluations(experiment, _numbered(model, round_), n)


def _numbered(name: str, round_: int) -> str:
    return name if round_ == 1 else f"{name}-{round_}"


def _training(experiment: Experiment, role: str, round_: int, rows: int, n: Lengths) -> Work:
    how: Finetune = getattr(experiment, role)
    draws = how.steps * how.batch_size if how.steps else max(1, round(how.epochs * rows))
    row = n.prompt + n.trace + (0 if role == "posterior" else n.answer)
    row = min(row, how.max_tokens)
    return Work(
        artifact=f"models/{_numbered(role, round_)}",
        kind="training",
        section=role,
        dtype=how.dtype,
        gpus=experiment.gpus.finetune,
        shards=1,
        tokens=draws * row,
        processed=draws * row,
        context=SPREAD * row / 2,
    )


def _draws(experiment: Experiment, folder: str, k: int, prior: bool, n: Lengths) -> Iterator[Work]:
    traces, shards = n.questions * k, experiment.traces.shards
    written = traces * n.trace
    yield Work(
        artifact=f"{folder}/traces",
        kind="sampling",
        section="traces",
        dtype=experiment.engine.dtype,
        gpus=experiment.gpus.sampling,
        shards=shards,
        tokens=written,
        draws=traces,
        prefilled=n.questions * n.prompt,  # a question's draws share their prompt
        drawn=written,
        context=n.prompt + SPREAD * n.trace / 2,
    )
    for role in ("prior",) if prior else ("prior", "posterior"):
        row = n.prompt + n.trace + (n.answer if role == "prior" else 0)
        yield Work(
            artifact=f"{folder}/scores/{role}",
            kind="scoring",
            section="scores",
            dtype=experiment.scores.dtype,
            gpus=min(1, experiment.gpus.scoring),
            shards=shards,
            tokens=written,
            processed=traces * row,
            context=SPREAD * row / 2,
        )
    if experiment.answers.m:
        answers = traces * experiment.answers.m
        yield Work(
            artifact=f"{folder}/answers",
            kind="sampling",
            section="answers",
            dtype=experiment.engine.dtype,
            gpus=experiment.gpus.sampling,
            shards=shards,
            tokens=answers * n.answer,
            draws=answers,
            prefilled=traces * (n.prompt + n.trace),
            drawn=answers * n.answer,
            context=n.prompt + n.trace + n.answer / 2,
        )


def _evaluations(experiment: Experiment, model: str, n: Lengths) -> Iterator[Work]:
    how = experiment.evaluation
    response = min(n.trace + n.answer, how.max_tokens)
    for number, choice in enumerate(how.benchmarks):
        items = n.held_out if choice.name == "held_out" else ITEMS.get(choice.name, 0)
        items = min(items, choice.limit) if choice.limit else items
        greedy = how.temperature == 0
        samples = choice.samples or (1 if greedy else benchmarks.find(choice.name).samples)
        yield Work(
            artifact=f"eval/{model}/{choice.name}",
            kind="sampling",
            section="evaluation",
            dtype=how.dtype,
            gpus=experiment.gpus.sampling,
            shards=1,
            tokens=items * samples * response,
            draws=items * samples,
            prefilled=items * n.prompt,
            drawn=items * samples * response,
            context=n.prompt + SPREAD * response / 2,
            shares_start=number > 0,
        )
