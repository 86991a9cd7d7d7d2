"""The columns of every table that the pipeline writes, with one sentence each.

A column that may be null or left out is marked optional. Keys are unique within a table, over all
of its shards.
"""

from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa

TOKENS = pa.list_(pa.int32())
TEXT = pa.string()
COUNT = pa.int32()
SEED = pa.int64()
LOGPROB = pa.float64()


@dataclass(frozen=True)
class Column:
    """One column: its name, Arrow type, meaning, and whether it may be null or left out."""

    name: str
    type: pa.DataType
    doc: str
    optional: bool = False


@dataclass(frozen=True)
class Table:
    """A table's name, the columns that make its key, and all of its columns in order."""

    name: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]

    @cached_property
    def schema(self) -> pa.Schema:
        """The Arrow schema; each field carries its sentence as metadata `doc`."""
        return pa.schema(
            pa.field(c.name, c.type, nullable=c.optional, metadata={"doc": c.doc})
            for c in self.columns
        )

    @cached_property
    def required(self) -> tuple[str, ...]:
        """Names of the columns that every file of this table must have."""
        return tuple(c.name for c in self.columns if not c.optional)


_QUESTION_ID = Column("question_id", TEXT, "Name of the question, unique in the experiment.")
_K = Column("k", COUNT, "Number of the trace among those of its question, from 0.")
_M = Column("m", COUNT, "Number of the answer among those of its trace, from 0.")
_SEED = Column("seed", SEED, "Seed of this draw's random generator.")
_FINISH = Column("finish_reason", TEXT, "`stop` (it ended by itself) or `length` (it was cut).")

QUESTIONS = Table(
    "questions",
    ("question_id",),
    (
        _QUESTION_ID,
        Column("question", TEXT, "The question as the model is asked it."),
        Column("answer", TEXT, "The reference answer.", optional=True),
        Column("answer_kind", TEXT, "How an answer is verified: math, choice, code or none."),
        Column("solution", TEXT, "Reference text after the thought, unmarked.", optional=True),
        Column("trace", TEXT, "The teacher's thinking trace, markers left out.", optional=True),
        Column("source", TEXT, "Where the question comes from."),
        Column("options", pa.list_(TEXT), "Texts of a choice question's options.", optional=True),
        Column("tests", TEXT, "Further data for the verifier, as JSON.", optional=True),
        Column("system", TEXT, "System prompt that came with the row; unused.", optional=True),
    ),
)

TRACES = Table(
    "traces",
    ("question_id", "k"),
    (
        _QUESTION_ID,
        _K,
        _SEED,
        Column("token_ids", TOKENS, "The sampled tokens, end-of-thought marker included."),
        Column("trace", TEXT, "The same as text, for people; nothing tokenizes it again."),
        Column("n_tokens", COUNT, "Length of `token_ids`."),
        _FINISH,
        Column("closed", pa.bool_(), "Whether the trace ends with the end-of-thought marker."),
        Column(
            "leaking",
            pa.bool_(),
            "Whether it mentions a hint, or states the reference answer in its first tenth.",
            optional=True,
        ),
    ),
)

SCORES = Table(
    "scores",
    ("question_id", "k"),
    (
        _QUESTION_ID,
        _K,
        Column("n_tokens", COUNT, "Tokens of the trace."),
        Column(
            "trace_logprob",
            LOGPROB,
            "Sum of the trace's token log-probs in nats; null when it was too long to be scored.",
            optional=True,
        ),
        Column(
            "answer_n_tokens",
            COUNT,
            "Tokens of the reference solution after the trace (prior only).",
            optional=True,
        ),
        Column(
            "answer_logprob",
            LOGPROB,
            "Sum of the reference solution's token log-probs in nats (prior only).",
            optional=True,
        ),
        Column(
            "trace_token_logprobs",
            pa.list_(pa.float32()),
            "Log-prob of each token of the trace in nats.",
            optional=True,
        ),
    ),
)

ANSWERS = Table(
    "answers",
    ("question_id", "k", "m"),
    (
        _QUESTION_ID,
        _K,
        _M,
        _SEED,
        Column("token_ids", TOKENS, "The sampled tokens after the trace, end marker included."),
        Column("answer", TEXT, "The same as text, markers included."),
        Column("n_tokens", COUNT, "Length of `token_ids`."),
        _FINISH,
    ),
)

VERDICTS = Table(
    "verdicts",
    ("question_id", "k", "m"),
    (
        _QUESTION_ID,
        _K,
        _M,
        Column("verdict", TEXT, "correct, incorrect, or error (the verifier failed or ran out)."),
        Column("extracted", TEXT, "The final answer read from the text.", optional=True),
        Column(
            "reason", TEXT, "Why the verdict is what it is, where there is more.", optional=True
        ),
        Column("seconds", pa.float64(), "Time the verifier took."),
    ),
)

WEIGHTS = Table(
    "weights",
    ("question_id", "k"),
    (
        _QUESTION_ID,
        _K,
        Column("n_tokens", COUNT, "Tokens of the trace."),
        Column("log_ratio", LOGPROB, "Ratio term of log ρ (`weights.ratio`).", optional=True),
        Column("log_answer", LOGPROB, "Answer term of log ρ (`weights.answer`).", optional=True),
        Column("accuracy", pa.float64(), "Share of the M answers that are correct.", optional=True),
        Column("log_rho", LOGPROB, "log ρ; −inf when no sampled answer is right.", optional=True),
        Column("weight", pa.float64(), "Importance weight, by `weights.normalize`."),
        Column("candidate", pa.bool_(), "Whether the trace may be trained on."),
        Column("excluded", TEXT, "Why it may not: open, too_long, unscored.", optional=True),
        Column("selected", pa.bool_(), "Whether a training row is made of it."),
        Column("row_weight", pa.float64(), "Weight of that row in the loss; 0 if not selected."),
        Column(
            "answer_m",
            COUNT,
            "Sampled answer that ends that row; null: the reference solution does.",
            optional=True,
        ),
    ),
)

DIAGNOSTICS = Table(
    "diagnostics",
    ("question_id",),
    (
        _QUESTION_ID,
        Column("traces", COUNT, "K: traces of the question."),
        Column("candidates", COUNT, "Those that may be trained on."),
        Column(
            "accuracy",
            pa.float64(),
            "p: mean accuracy of the traces, 0 for one without answers; null if none was verified.",
            optional=True,
        ),
        Column("closed", pa.float64(), "Share of the traces that closed their thought."),
        Column("too_long", pa.float64(), "Share of the traces that are too long."),
        Column("leaking", pa.float64(), "Share of the traces that speak of their hint."),
        Column("effective_sample_size", pa.float64(), "(Σρ)²/Σρ²; 0 where every ρ is 0."),
        Column("bounds", pa.list_(pa.float64()), "IWAE-k in nats for k = 1..K; −inf: no answer."),
        Column("row_weight", pa.float64(), "Weight of the question's rows in the loss, summed."),
    ),
)

ROWS = Table(
    "rows",
    ("question_id", "k", "origin"),
    (
        _QUESTION_ID,
        Column("k", COUNT, "Trace the row was made of; null for a teacher row.", optional=True),
        Column("origin", TEXT, "Who wrote the trace: teacher, or `traces.proposal`."),
        Column("prompt", TEXT, "Text that carries no loss."),
        Column("response", TEXT, "Text that is learned, end marker included."),
        Column("token_ids", TOKENS, "Prompt and response as tokens."),
        Column("n_prompt_tokens", COUNT, "How many of them are the prompt."),
        Column("n_tokens", COUNT, "Length of `token_ids`."),
        Column("weight", pa.float64(), "Weight of the row in the loss."),
    ),
)

SAMPLES = Table(
    "samples",
    ("benchmark", "item_id", "sample"),
    (
        Column("benchmark", TEXT, "Name of the benchmark."),
        Column("item_id", TEXT, "Name of the item, unique in the benchmark."),
        Column("sample", COUNT, "Number of the sample among those of its item, from 0."),
        _SEED,
        Column("prompt", TEXT, "What the model was given."),
        Column("response", TEXT, "What the model wrote."),
        Column("n_tokens", COUNT, "Tokens of the response."),
        _FINISH,
        Column("extracted", TEXT, "The final answer read from the response.", optional=True),
        Column("verdict", TEXT, "correct, incorrect, or error (the verifier failed or ran out)."),
        Column(
            "reason", TEXT, "Why the verdict is what it is, where there is more.", optional=True
        ),
        Column("vote", COUNT, "Equal for answers of an item that are equal.", optional=True),
        Column("question", TEXT, "Text of the item, without instructions.", optional=True),
        Column("answer", TEXT, "The item's reference answer.", optional=True),
        Column("difficulty", TEXT, "Difficulty as graded by the source.", optional=True),
        Column(
            "option_order",
            pa.list_(COUNT),
            "Place in the source of each option as shown, where they were shuffled.",
            optional=True,
        ),
    ),
)

TRAINING_LOG = Table(
    "training_log",
    ("step",),
    (
        Column("step", COUNT, "Optimizer step, from 1."),
        Column("epoch", pa.float64(), "Passes over the rows so far."),
        Column("loss", pa.float64(), "Objective of the step, with its constant divisor."),
        Column("eval_loss", pa.float64(), "The same on the held-back rows.", optional=True),
        Column("grad_norm", pa.float64(), "Norm of the gradient before clipping."),
        Column("learning_rate", pa.float64(), "Learning rate of the step."),
        Column("tokens", pa.int64(), "Tokens seen so far, prompts included."),
        Column("tokens_per_second", pa.float64(), "Over the time since the line before."),
        Column("memory_mib", pa.float64(), "Peak memory so far: device memory, else resident."),
        Column("seconds", pa.float64(), "Time since training began, over all resumptions."),
    ),
)
