"""Settings of what an experiment starts from: questions, base model, prompts. See `settings`."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Temperature = Annotated[float, Field(ge=0, le=2)]
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
