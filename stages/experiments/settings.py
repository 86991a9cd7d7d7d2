"""Every setting of config.yaml, with its default, its bounds and its meaning: the only place.

An experiment consists of sections; those of questions, model and prompts are in `sources`.
Settings that do not change results (memory, batch sizes, number of GPUs) are in `Machine`, `Gpus`
and `Plan`; every other one decides the artifacts whose recipe names it (`recipes.py`).
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

    rank: Positive = Field(16, description="rank of each adapter")
    alpha: float = Field(32.0, gt=0, description="adapters are scaled by alpha / rank")
    targets: Literal["all-linear"] | tuple[str, ...] = Field(
        "all-linear", description="names of the linear layers with an adapter, for instance q_proj"
    )


class Finetune(Section):
    """One weighted fine-tuning. The defaults are ours; the authors' are unknown."""

    learning_rate: float = Field(1e-5, gt=0, le=1, description="peak, after warm-up")
    epochs: float = Field(3.0, gt=0, description="passes over the rows; ignored when steps is set")
    steps: Positive | None = Field(None, description="optimizer steps; default: from epochs")
    batch_size: Positive = Field(96, description="B: rows per optimizer step")
    warmup_fraction: Fraction = Field(
        0.1, description="share of the steps in which the learning rate rises"
    )
    weight_decay: float = Field(0.0, ge=0, description="of AdamW")
    betas: tuple[Fraction, Fraction] = Field((0.9, 0.95), description="of AdamW")
    max_grad_norm: float = Field(1.0, gt=0, description="gradients are clipped to this norm")
    max_tokens: Positive = Field(16384, description="longer rows are skipped and counted")
    holdout_fraction: Fraction = Field(
        0.0, description="share of the rows held out for the evaluation loss"
    )
    dtype: Literal["float32", "bfloat16"] = Field(
        "bfloat16", description="of forward and backward pass"
    )
    master_dtype: Literal["float32", "bfloat16"] = Field(
        "float32",
        description="of weights and optimizer; bfloat16 halves the memory (stochastic rounding)",
    )
    activation_checkpointing: bool = Field(
        True, description="recompute activations in the backward pass, which saves memory"
    )
    lora: Lora | None = Field(
        None,
        description="train adapters: dtype is then the frozen model's, master_dtype the adapters'",
    )

    @model_validator(mode="before")
    @classmethod
    def _moved(cls, data: Any) -> Any:
        if isinstance(data, dict) and "checkpoint_minutes" in data:
            raise ValueError("checkpoint_minutes belongs to the section machine; move it there")
        return data


class Posterior(Finetune):
    """The posterior's fine-tuning, and the hint it is shown."""

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
    rollouts: Positive = Field(
        8, description="rollouts per question, where it learns from rollouts"
    )


class Engine(Section):
    """The program that samples."""

    name: Literal["vllm", "transformers"] = Field(
        "vllm", description="transformers: slower, for tests and checks"
    )
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="of traces and answers; auto: that of the checkpoint"
    )


class Traces(Section):
    """Sampling of thinking traces."""

    k: Positive = Field(8, description="K: traces per question")
    proposal: Literal["posterior", "prior", "hinted_prior"] = Field(
        "posterior",
        description="model that writes the traces; hinted_prior: the prior, shown the hint "
        "(STaR's rationalization)",
    )
    temperature: Temperature = Field(0.7, description="0: greedy")
    top_p: float = Field(1.0, gt=0, le=1, description="nucleus; 1: off")
    top_k: int = Field(-1, ge=-1, description="-1: off")
    max_tokens: Positive = Field(32764, description="longer traces are truncated")
    shards: Positive = Field(1, description="number of files; each is one job")


class Scores(Section):
    """Scoring of traces under prior and posterior."""

    prior_temperature: float | Literal["sampling"] = Field(
        1.0, description="sampling: the temperature, top_p and top_k of traces"
    )
    posterior_temperature: float | Literal["sampling"] = Field(
        1.0,
        description="sampling: as the traces were drawn, which gives their exact proposal density",
    )
    max_tokens: Positive = Field(32000, description="longer traces get no score")
    dtype: Literal["float32", "bfloat16"] = Field(
        "bfloat16", description="of the models that score"
    )
    keep_token_logprobs: bool = Field(False, description="store the log-prob of every token")


class Answers(Section):
    """Sampling of answers after a trace."""

    m: Count = Field(8, description="M: answers per trace; 0: none, and no estimate of accuracy")
    temperature: Temperature = Field(0.7, description="0: greedy")
    top_p: float = Field(1.0, gt=0, le=1, description="nucleus; 1: off")
    top_k: int = Field(-1, ge=-1, description="-1: off")
    max_tokens: Positive = Field(32764, description="longer answers are truncated")


class Verdicts(Section):
    """Verification of answers."""

    time_limit: float = Field(5.0, gt=0, description="seconds per mathematical answer")
    code_time_limit: float = Field(
        60.0, gt=0, description="seconds per program for all tests; at most 10 per test"
    )
    memory_limit: Positive = Field(1024, description="MiB per answer")
    allow_unsandboxed: bool = Field(
        False, description="run code even where no sandbox is available"
    )


class Weights(Section):
    """Importance weights of traces; docs/method.md has the formulas."""

    ratio: Literal["geometric_mean", "full", "none"] = Field(
        "geometric_mean",
        description="probability of a trace under the prior divided by that under the proposal: "
        "geometric mean over tokens, full product, or 1",
    )
    answer: Literal["accuracy", "geometric_likelihood", "likelihood", "none"] = Field(
        "accuracy", description="estimate of the answer term, π_θ(Y_x | x, z)"
    )
    normalize: Literal["question", "none", "grpo"] = Field(
        "question",
        description="question: divide by the question's sum; none: by K; grpo: by K times the "
        "standard deviation of its accuracy",
    )
    select: Literal["best", "all", "resample"] = Field(
        "best",
        description="best: the trace of largest weight, as weight 1; all; resample: one trace, "
        "drawn by weight",
    )
    max_trace_tokens: Positive = Field(
        28000, description="traces of this many tokens or more are not candidates"
    )
    require_closed: bool = Field(True, description="open traces are not candidates")
    no_candidate: Literal["teacher", "likelihood", "drop"] | None = Field(
        None,
        description="for a question without a selected trace: its teacher trace; its best trace "
        "by geometric likelihood, else its teacher trace; or nothing. Default: teacher with "
        "normalize: question, drop with the others, whose weight 0 is meant",
    )
    k: Positive | None = Field(None, description="weigh only the first k traces; default: all")
    m: Positive | None = Field(None, description="weigh only their first m answers; default: all")


class Rows(Section):
    """Training rows of the final model."""

    teacher: bool = Field(True, description="add the teacher's rows")


class BenchmarkChoice(Section):
    """A benchmark of `stages/benchmarks`, with changes to its definition."""

    name: str = Field(description="as in docs/eval.md, or held_out")
    path: str | None = Field(None, description="local file or folder instead of the hub")
    samples: Positive | None = Field(
        None, description="samples per item; default: the benchmark's, or 1 at temperature 0"
    )
    limit: Positive | None = Field(None, description="use only the first items")


class Evaluation(Section):
    """Evaluation of the models on benchmarks. The defaults are the authors'."""

    models: tuple[Literal["base", "initial", "final"], ...] = Field(
        ("initial", "final"), description="models that are evaluated"
    )
    benchmarks: tuple[BenchmarkChoice, ...] = Field(
        (BenchmarkChoice(name="held_out"),), description="names, or mappings that change one"
    )
    protocol: Literal["ours", "authors"] = Field(
        "ours", description="how the thought begins: as in training, or as the authors' code did"
    )
    temperature: Temperature = Field(0.7, description="0: greedy")
    top_p: float = Field(1.0, gt=0, le=1, description="nucleus; 1: off")
    max_tokens: Positive = Field(38912, description="longer responses are truncated")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "float32", description="of the evaluated model; auto: that of the checkpoint"
    )

    @model_validator(mode="before")
    @classmethod
    def _names(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("benchmarks"), list | tuple):
            named = [{"name": b} if isinstance(b, str) else b for b in data["benchmarks"]]
            data = {**data, "benchmarks": named}
        return data


class Gpus(Section):
    """GPUs per job; 0: the CPU."""

    finetune: Count = Field(0, description="of fine-tuning")
    sampling: Count = Field(0, description="of traces, answers and evaluation")
    scoring: Count = Field(0, description="of scores")


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
    price_per_device_hour: float | None = Field(None, gt=0, description="in any currency")


class Machine(Section):
    """Limits of this machine; they do not change results."""

    tokens_per_batch: Positive = Field(16384, description="scoring: tokens of one packed bin")
    tokens_per_micro_batch: Positive = Field(8192, description="training: tokens of one packed bin")
    recompute_every: Positive = Field(
        1, description="training: with activation_checkpointing, recompute each n-th layer"
    )
    threads: Count = Field(
        0, description="CPU threads of scoring and training; 0: all, or one for a small model"
    )
    checkpoint_minutes: float = Field(30.0, gt=0, description="training: between checkpoints")
    gpu_memory_fraction: float = Field(0.9, gt=0, le=1, description="share of a GPU that vLLM uses")
    cpu_cache_gib: Positive = Field(2, description="vLLM's key-value cache on a CPU")
    max_requests: Positive = Field(256, description="concurrent requests of an engine")


class Experiment(Section):
    """All settings of one experiment, resolved."""

    seed: Count = Field(0, description="every draw has a seed derived from it")
    rounds: Positive = Field(1, description="repetitions of posterior, traces and final model")
    questions: Questions = Questions()
    model: Model = Model()
    prompts: Prompts = Prompts()
    engine: Engine = Engine()
    finetune: Finetune = Field(
        Finetune(), description="for every model, unless its own section differs"
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
    """The settings that a step's recipe declares, and which artifact they are for."""

    round: Positive = 1
    rollouts: bool = Field(False, description="for the rollouts that train a posterior")
    role: Literal["initial", "posterior", "final"] = Field(
        "final", description="model that the rows are for"
    )

    @model_validator(mode="after")
    def _weighs_what_is_drawn(self) -> "StepSettings":
        return self  # a step is given the settings that it reads: weights.k, but not traces.k
