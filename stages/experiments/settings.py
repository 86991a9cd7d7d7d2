"""Every setting of config.yaml, with its default, its bounds and its meaning: the only place.

An experiment is a set of sections. Each section below says which step reads it. Settings that do
not change results (memory, batch sizes, number of GPUs) are in `Machine` and `Gpus`; all others
belong to the recipe of what is made from them (`stages/experiments/recipes.py`).
"""

import difflib
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Temperature = Annotated[float, Field(ge=0, le=2)]
MODELS = ("initial", "posterior", "final")
QuestionColumn = Literal[
    "question_id",
    "question",
    "answer",
    "answer_kind",
    "solution",
    "trace",
    "source",
    "options",
    "tests",
    "system",
]


class Section(BaseModel):
    """A group of settings: unknown keys are refused, values cannot be changed later."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class Addition(Section):
    """Column additions, made by the `questions` step (`stages/data/addition.py`)."""

    numbers: tuple[Positive, Positive] = Field((2, 4), description="fewest and most summands")
    digits: tuple[Positive, Positive] = Field((2, 5), description="fewest and most digits")
    traced: Count = Field(400, description="questions with a teacher trace")
    answer_only: Count = Field(1200, description="questions with an answer only")
    held_out: Count = Field(600, description="questions kept for evaluation")

    @model_validator(mode="after")
    def _that_exist(self) -> "Addition":
        for name, (least, most) in (("numbers", self.numbers), ("digits", self.digits)):
            if least > most:
                raise ValueError(f"{name}: [{least}, {most}] is reversed; the smaller comes first")
        values = 10 ** self.digits[1] - 10 ** (self.digits[0] - 1)
        total = self.traced + self.answer_only + self.held_out
        existing = 0
        for n in range(self.numbers[0], self.numbers[1] + 1):
            existing += values**n
            if total <= 0.9 * existing:  # drawing the last of all takes long
                return self
        raise ValueError(
            f"{total:,} questions in all, but only {existing:,} different ones exist, of which "
            "nine in ten can be drawn; ask for fewer, or widen numbers or digits"
        )


class Questions(Section):
    """Where the questions come from: exactly one of `addition`, `file` and `dataset`."""

    addition: Addition | None = None
    file: str | None = Field(
        None, description="JSONL, JSON, CSV or Parquet, also .gz; formats: docs/data.md"
    )
    dataset: str | None = Field(None, description="name of a dataset on the hub, owner/name")
    revision: str | None = Field(None, description="commit of the dataset, for repeatable runs")
    split: str = "train"
    limit: Positive | None = Field(None, description="use this many questions, drawn by the seed")
    held_out: Count = Field(0, description="of these, keep this many for evaluation")
    held_out_file: str | None = Field(
        None, description="questions for evaluation, instead of held_out drawn ones"
    )
    columns: dict[QuestionColumn, str] | None = Field(
        None, description="by our column, the source's, for instance {question: prompt}"
    )
    traced_fraction: Fraction | None = Field(
        None,
        description="worked solutions as traces: of this share, drawn by the seed; the other "
        "training questions keep the answer alone",
    )

    @model_validator(mode="after")
    def _one_source(self) -> "Questions":
        sources = [s for s in (self.addition, self.file, self.dataset) if s is not None]
        if len(sources) > 1:
            raise ValueError("give one of addition, file and dataset, not several")
        if self.held_out_file is not None and (self.held_out or self.addition is not None):
            raise ValueError("held_out_file replaces held_out, and addition has its own; give one")
        return self


class Scratch(Section):
    """A Qwen3-architecture model with random weights and a character tokenizer."""

    hidden_size: Positive = 128
    layers: Positive = 4
    heads: Positive = 4
    key_value_heads: Positive = 2
    intermediate_size: Positive = 384
    max_positions: Positive = 512
    characters: str = "0123456789+= \n"

    @model_validator(mode="after")
    def _heads_that_vllm_takes(self) -> "Scratch":
        if self.hidden_size % self.heads or self.hidden_size // self.heads % 32:
            raise ValueError("hidden_size / heads must be a multiple of 32, as vLLM wants it")
        if self.heads % self.key_value_heads:
            raise ValueError("heads must be a multiple of key_value_heads")
        return self


class Model(Section):
    """The base model that every fine-tuning starts from: exactly one of `path` and `scratch`."""

    path: str | None = Field(None, description="local directory or .gguf file, or name on the hub")
    revision: str | None = Field(None, description="commit on the hub, for repeatable runs")
    scratch: Scratch | None = Field(None, description="made with random weights")

    @model_validator(mode="after")
    def _one_source(self) -> "Model":
        if self.path is not None and self.scratch is not None:
            raise ValueError("give path or scratch, not both")
        return self


class Prompts(Section):
    """How a question is put to the models (`stages/prompts/`)."""

    template: Literal["reasoning", "plain", "chat"] = Field(
        "reasoning",
        description="reasoning: the authors' system prompt and markers; plain: neither; chat: the "
        "chat template of the model's tokenizer",
    )
    system: str | None = Field(None, description="system prompt (chat only)")
    thought: tuple[str, str] | None = Field(
        ("<think>", "</think>"),
        description="markers of the thought (chat only); null: a model without a thought, which "
        "can only be evaluated",
    )
    solution: tuple[str, str] | None = Field(
        None,
        description="markers of the solution (chat only); null: whatever follows the thought",
    )

    @model_validator(mode="after")
    def _markers_of_chat(self) -> "Prompts":
        fields = type(self).model_fields
        for name in ("system", "thought", "solution"):
            if self.template != "chat" and getattr(self, name) != fields[name].default:
                raise ValueError(f"{name} needs template: chat; {self.template} has its own")
        markers = [*(self.thought or ()), *(self.solution or ())]
        if not all(marker.strip() for marker in markers) or len(set(markers)) < len(markers):
            raise ValueError("the markers of thought and solution must be different texts")
        return self


class Lora(Section):
    """Low-rank adapters that are trained instead of the whole model (`stages/lm/lora.py`)."""

    rank: Positive = 16
    alpha: float = Field(32.0, gt=0, description="the adapters' product is scaled by alpha / rank")
    targets: Literal["all-linear"] | tuple[str, ...] = Field(
        "all-linear", description="names of the linear layers that get one, for instance q_proj"
    )


class Finetune(Section):
    """One weighted fine-tuning. Defaults are ours: the authors' are not known."""

    learning_rate: float = Field(1e-5, gt=0, le=1)
    epochs: float = Field(3.0, gt=0, description="passes over the rows; unused when steps is set")
    steps: Positive | None = Field(None, description="optimizer steps")
    batch_size: Positive = Field(96, description="B: rows an optimizer step")
    warmup_fraction: Fraction = 0.1
    weight_decay: float = Field(0.0, ge=0)
    betas: tuple[Fraction, Fraction] = (0.9, 0.95)
    max_grad_norm: float = Field(1.0, gt=0)
    max_tokens: Positive = Field(16384, description="longer rows are left out and counted")
    holdout_fraction: Fraction = Field(0.0, description="rows held back for the evaluation loss")
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    master_dtype: Literal["float32", "bfloat16"] = Field(
        "float32",
        description="of weights and optimizer; bfloat16: half the memory, random rounding",
    )
    activation_checkpointing: bool = True
    lora: Lora | None = Field(
        None, description="train adapters; dtype is then the model's, master_dtype theirs"
    )

    @model_validator(mode="before")
    @classmethod
    def _moved(cls, data: Any) -> Any:
        if isinstance(data, dict) and "checkpoint_minutes" in data:
            raise ValueError("checkpoint_minutes belongs to the section machine; move it there")
        return data


class Posterior(Finetune):
    """The posterior's fine-tuning, and what it is shown."""

    hint: Literal["answer", "solution"] = Field("answer", description="what y' is")
    template: Literal["A", "B"] = Field("A", description="hint prompt (`stages/prompts/`)")
    init: Literal["base", "initial"] = Field("base", description="model it starts from")
    rollouts: Positive = Field(8, description="M rollouts a question, from round 2 on")


class Engine(Section):
    """What samples."""

    name: Literal["vllm", "transformers"] = "vllm"
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"


class Traces(Section):
    """Sampling of thinking traces."""

    k: Positive = Field(8, description="K: traces a question")
    proposal: Literal["posterior", "prior"] = "posterior"
    temperature: Temperature = 0.7
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(-1, ge=-1, description="-1: off")
    max_tokens: Positive = 32764
    shards: Positive = Field(1, description="files, each sampled by a job of its own")


class Scores(Section):
    """Scoring of traces under prior and posterior."""

    prior_temperature: float | Literal["sampling"] = 1.0
    posterior_temperature: float | Literal["sampling"] = Field(
        1.0, description="sampling: as the traces were drawn, the proposal density proper"
    )
    max_tokens: Positive = Field(32000, description="longer traces get no score")
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    keep_token_logprobs: bool = Field(False, description="one number a token, in the table")


class Answers(Section):
    """Sampling of answers after a trace."""

    m: Count = Field(8, description="M: answers a trace; 0 for none, then no accuracy is known")
    temperature: Temperature = 0.7
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(-1, ge=-1, description="-1: off")
    max_tokens: Positive = 32764


class Verdicts(Section):
    """Verification of answers."""

    time_limit: float = Field(5.0, gt=0, description="seconds a mathematical answer")
    code_time_limit: float = Field(
        60.0, gt=0, description="seconds a program with all its tests; one has at most 10"
    )
    memory_limit: Positive = Field(1024, description="MiB an answer")
    allow_unsandboxed: bool = Field(False, description="run code where no sandbox can be had")


class Weights(Section):
    """Importance weights, by the tables of METHOD.md."""

    ratio: Literal["geometric_mean", "full", "none"] = "geometric_mean"
    answer: Literal["accuracy", "geometric_likelihood", "likelihood", "none"] = "accuracy"
    normalize: Literal["question", "none", "grpo"] = "question"
    select: Literal["best", "all", "resample"] = "best"
    max_trace_tokens: Positive = Field(
        28000, description="traces of this length or longer are not candidates"
    )
    require_closed: bool = Field(True, description="open traces are not candidates")
    no_candidate: Literal["teacher", "likelihood", "drop"] | None = Field(
        None,
        description="for a question without a selected trace: its teacher trace; its best trace "
        "by geometric likelihood, else its teacher trace; or nothing. Default: teacher with "
        "normalize: question, drop with the others, whose weight 0 is meant",
    )
    k: Positive | None = Field(None, description="weigh the first k traces only; default: all")
    m: Positive | None = Field(None, description="and their first m answers only; default: all")


class Rows(Section):
    """Training rows of the final model."""

    teacher: bool = Field(True, description="mix in the teacher's rows")


class BenchmarkChoice(Section):
    """A benchmark of `stages/benchmarks`, and what differs from its definition."""

    name: str
    path: str | None = Field(None, description="local file or folder instead of the hub")
    samples: Positive | None = Field(
        None, description="samples an item; by default the benchmark's own, 1 at temperature 0"
    )
    limit: Positive | None = Field(None, description="first items only")


class Evaluation(Section):
    """Evaluation of the models on benchmarks. Defaults are the authors'."""

    models: tuple[Literal["base", "initial", "final"], ...] = ("initial", "final")
    benchmarks: tuple[BenchmarkChoice, ...] = (BenchmarkChoice(name="held_out"),)
    protocol: Literal["ours", "authors"] = Field(
        "ours", description="how the thought begins: as in training, or as the authors' code did"
    )
    temperature: Temperature = 0.7
    top_p: float = Field(1.0, gt=0, le=1)
    max_tokens: Positive = 38912
    dtype: Literal["auto", "float32", "bfloat16"] = "float32"

    @model_validator(mode="before")
    @classmethod
    def _names(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("benchmarks"), list | tuple):
            named = [{"name": b} if isinstance(b, str) else b for b in data["benchmarks"]]
            data = {**data, "benchmarks": named}
        return data


class Gpus(Section):
    """GPUs a job of each kind takes; 0 runs on the CPU."""

    finetune: Count = 0
    sampling: Count = 0
    scoring: Count = 0


class Plan(Section):
    """What `stages.plan` assumes of lengths and prices; decides no result."""

    device: Literal["H100", "H200", "cpu"] | None = Field(
        None, description="by default H100 where `gpus` are used, else cpu"
    )
    questions: Positive | None = Field(
        None, description="training questions; needed for `questions.file`"
    )
    question_tokens: Positive | None = Field(
        None, description="mean tokens of a prompt; by default 450, template plain 20"
    )
    trace_tokens: Positive | None = Field(
        None, description="mean tokens of a trace; by default 5,000, or 0.6 of `traces.max_tokens`"
    )
    answer_tokens: Positive | None = Field(
        None, description="mean tokens of an answer; by default 300, or 0.6 of the limit"
    )
    price_per_device_hour: float | None = Field(None, gt=0)


class Machine(Section):
    """What this machine can hold; none of it changes results."""

    tokens_per_batch: Positive = Field(16384, description="scoring: tokens of one packed bin")
    tokens_per_micro_batch: Positive = Field(8192, description="training: tokens of one packed bin")
    recompute_every: Positive = Field(
        1, description="training: with activation_checkpointing, recompute each n-th layer"
    )
    threads: Count = Field(
        0, description="CPU threads of scoring and training; 0: all, or one for a small model"
    )
    checkpoint_minutes: float = Field(30.0, gt=0, description="training: between checkpoints")
    gpu_memory_fraction: float = Field(0.9, gt=0, le=1, description="share vLLM takes of a GPU")
    cpu_cache_gib: Positive = Field(2, description="vLLM's key-value cache on a CPU")
    max_requests: Positive = Field(256, description="requests an engine works on at once")


class Experiment(Section):
    """All settings of one experiment, resolved."""

    seed: Count = 0
    rounds: Positive = 1
    questions: Questions = Questions()
    model: Model = Model()
    prompts: Prompts = Prompts()
    engine: Engine = Engine()
    finetune: Finetune = Field(
        Finetune(), description="of every model, where its own section says nothing else"
    )
    initial: Finetune = Finetune()
    posterior: Posterior = Posterior()
    final: Finetune = Finetune()
    traces: Traces = Traces()
    scores: Scores = Scores()
    answers: Answers = Answers()
    verdicts: Verdicts = Verdicts()
    weights: Weights = Weights()
    rows: Rows = Rows()
    evaluation: Evaluation = Evaluation()
    gpus: Gpus = Gpus()
    plan: Plan = Plan()

    @model_validator(mode="after")
    def _weighs_what_is_drawn(self) -> "Experiment":
        for weighed, drawn, limit, number in (
            ("weights.k", "traces.k", self.weights.k, self.traces.k),
            ("weights.m", "answers.m", self.weights.m, self.answers.m),
        ):
            if limit is not None and limit > number:
                raise ValueError(
                    f"{weighed} is {limit}, but {drawn} is {number}; set {drawn} to {limit} or more"
                )
        return self

    @model_validator(mode="after")
    def _answers_for_accuracy(self) -> "Experiment":
        needs = self.weights.answer == "accuracy" or self.weights.normalize == "grpo"
        if needs and self.answers.m == 0:
            raise ValueError(
                "answers.m is 0, but weights.answer: accuracy and weights.normalize: grpo need "
                "sampled answers; set answers.m to 1 or more"
            )
        return self


class StepSettings(Experiment):
    """What one step is given: the experiment's settings that matter to it, and where it stands."""

    round: Positive = 1
    role: Literal["initial", "posterior", "final"] = Field(
        "final", description="model that rows are made for"
    )

    @model_validator(mode="after")
    def _weighs_what_is_drawn(self) -> "StepSettings":
        return self  # a step is given the settings that it reads: weights.k, but not traces.k


def explain(error: ValidationError, model: type[BaseModel], where: str) -> str:
    """Say in one line a mistake which setting is wrong, and name the nearest right one.

    Parameters
    ----------
    error : ValidationError
        What pydantic found in the settings.
    model : type of BaseModel
        The model they were checked against, for instance `Experiment`.
    where : str
        What the user calls them, for instance ``config.yaml: experiments.tiny``.
    """
    lines = []
    for mistake in error.errors():
        path = [str(part) for part in mistake["loc"]]
        place = ".".join([where, *path])
        if mistake["type"] == "extra_forbidden":
            known = list(_section_at(model, path[:-1]).model_fields)
            near = difflib.get_close_matches(path[-1], known, n=1, cutoff=0.5)
            mend = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(known)}."
            lines.append(f"{place}: there is no such setting; {mend}")
        else:
            message = mistake["msg"].removeprefix("Value error, ")
            given = "" if isinstance(mistake["input"], dict) else f" (given: {mistake['input']!r})"
            lines.append(f"{place}: {message}{given}")
    return "\n".join(dict.fromkeys(lines))


def _section_at(model: type[BaseModel], path: list[str]) -> type[BaseModel]:
    for name in path:
        field = model.model_fields.get(name)
        if field is None:
            continue  # a position in a list
        found = [t for t in _types_in(field.annotation) if issubclass(t, BaseModel)]
        model = found[0] if found else model
    return model


def _types_in(annotation: Any) -> list[type]:
    inner = getattr(annotation, "__args__", ())
    own = [annotation] if isinstance(annotation, type) and not inner else []
    return own + [t for part in inner for t in _types_in(part)]
