"""Every setting of config.yaml, with its default, its bounds and its meaning: the only place.

An experiment is a set of sections. Each section says which step reads it; those of
questions, model and prompts are in `sources`. Settings that do
not change results (memory, batch sizes, number of GPUs) are in `Machine` and `Gpus`; all others
belong to the recipe of what is made from them (`stages/experiments/recipes.py`).
"""

from typing import Any, Literal

from pydantic import Field, model_validator

from stages.experiments.sources import (
    Count,
    Fraction,
    Model,
    Positive,
    Prompts,
    Questions,
    Section,
    Temperature,
)

MODELS = ("initial", "posterior", "final")


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

    hint: Literal["answer", "solution", "none"] = Field(
        "answer", description="what y' is; none: the posterior sees the question alone"
    )
    template: Literal["A", "B"] = Field("A", description="hint prompt (`stages/prompts/`)")
    init: Literal["base", "initial"] = Field("base", description="model it starts from")
    train_on: Literal["teacher", "rollouts"] = Field(
        "teacher",
        description="round 1: teacher traces, as the authors did, or rollouts of the initial model "
        "weighted by their answers (Algorithm 1); later rounds always learn from rollouts",
    )
    rollouts: Positive = Field(8, description="rollouts per question, where it learns from them")


class Engine(Section):
    """What samples."""

    name: Literal["vllm", "transformers"] = "vllm"
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"


class Traces(Section):
    """Sampling of thinking traces."""

    k: Positive = Field(8, description="K: traces a question")
    proposal: Literal["posterior", "prior", "hinted_prior"] = Field(
        "posterior",
        description="who writes the traces; hinted_prior: the prior, shown the hint (STaR's "
        "rationalization)",
    )
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

    @property
    def traces_from_prior(self) -> bool:
        """Whether proposal and prior are the same distribution, so that every ratio is 1."""
        return self.traces.proposal == "prior"

    @property
    def has_answers(self) -> bool:
        """Whether answers are sampled and verified."""
        return self.answers.m > 0

    def posterior_from_rollouts(self, round_: int) -> bool:
        """Whether the posterior of a round learns from weighted rollouts, not teacher traces."""
        if self.traces.proposal != "posterior":
            return False  # no posterior is trained
        return round_ > 1 or self.posterior.train_on == "rollouts"


class StepSettings(Experiment):
    """What one step is given: the settings that its recipe declares, and what it works for."""

    round: Positive = 1
    rollouts: bool = Field(False, description="for the rollouts that a posterior learns from")
    role: Literal["initial", "posterior", "final"] = Field(
        "final", description="model that rows are made for"
    )

    @model_validator(mode="after")
    def _weighs_what_is_drawn(self) -> "StepSettings":
        return self  # a step is given the settings that it reads: weights.k, but not traces.k
