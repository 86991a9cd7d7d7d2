"""The schema of `eval.json`, which `stages/metrics/aggregation.py` computes from sample tables.

The schema is documented in docs/eval.md, whose version is `VERSION`. Fields are only ever added
within a version. An undefined number is null, and the interval's `method` says why.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from stages.metrics import statistics

VERSION = 1
Group = Literal["math", "other"]
GROUPS: tuple[Group, ...] = ("math", "other")


def _null(value: Any) -> Any:
    """JSON has no NaN."""
    return None if isinstance(value, float) and math.isnan(value) else value


Number = Annotated[float | None, BeforeValidator(_null)]


class Part(BaseModel):
    """A piece of eval.json."""

    model_config = ConfigDict(extra="forbid", frozen=True, from_attributes=True)


class Interval(Part):
    """A confidence interval, level `Evaluation.level`."""

    low: Number = Field(description="null where undefined")
    high: Number = Field(description="null where undefined")
    method: str = Field(description="how it was computed, or why it is undefined")


class Score(Part):
    """A `statistics.Score`: a mean over items with its two intervals."""

    value: Number = Field(description="point estimate; null where it is undefined")
    population: Interval = Field(description="over items, as if others had been drawn")
    seeds: Interval = Field(description="over samples of the same items")


class AtK(Score):
    """A score that depends on a number of samples."""

    k: int


class Rates(Part):
    """Shares of samples that make a score questionable."""

    truncated: float = Field(description="cut at the token limit")
    no_answer: float = Field(description="no final answer could be extracted")
    error: float = Field(description="the verifier failed or timed out; counts as not correct")


class Level(Part):
    """The score of the items of one difficulty."""

    difficulty: str
    items: int
    average: Score


class Subset(Part):
    """The score of a subset of the items; null without any."""

    items: int
    average: Score | None


class Result(Part):
    """One model on one benchmark."""

    model: str
    benchmark: str
    items: int
    samples: int = Field(description="n: samples per item")
    average: Score = Field(description="avg@n: share of correct samples, mean over items")
    pass_at_k: list[AtK] = Field(description="unbiased pass@k")
    majority_at_k: list[AtK] = Field(description="maj@k; empty where answers cannot be compared")
    rates: Rates
    mean_tokens: float = Field(description="tokens of a response, mean over samples")
    difficulty: list[Level] = Field(description="empty where the source has no grades")
    clean: Subset | None = Field(description="items that share no 13-gram with training questions")


class Pair(Part):
    """Score of model `a` minus score of model `b` on the items that both were run on."""

    a: str
    b: str
    benchmark: str
    items: int = Field(description="items that both models were run on")
    difference: Score
    better: int = Field(description="items on which a has the higher mean")
    worse: int = Field(description="items on which b has the higher mean")


class Macro(Part):
    """A model's mean over the benchmarks of a group, unweighted."""

    model: str
    group: Group
    members: list[str] = Field(description="benchmarks in the mean")
    missing: list[str] = Field(description="benchmarks of the group that were not run")
    average: Score


class MacroPair(Part):
    """Macro-average of `a` minus that of `b`, over the benchmarks both were run on."""

    a: str
    b: str
    group: Group
    members: list[str]
    difference: Score


class Contamination(Part):
    """Items of a benchmark that share a 13-gram with the training questions."""

    benchmark: str
    items: int
    overlapping: list[str] = Field(description="their item_ids")


class Info(Part):
    """What a benchmark is."""

    name: str
    title: str
    group: Group | None
    reference: dict[str, float] = Field(description="published scores in percent, by model")


class Cost(Part):
    """What one artifact cost."""

    artifact: str = Field(description="its path in the results folder")
    step: str
    files: int = Field(description="shards")
    seconds: Number = Field(description="over all shards and resumptions")
    tokens: int | None = Field(description="tokens drawn, scored or trained on")
    device: str | None


class Evaluation(Part):
    """The whole of eval.json."""

    version: int = VERSION
    experiment: str
    level: float = statistics.LEVEL
    protocol: str | None = Field(description="evaluation.protocol; null when models differ")
    models: list[str] = Field(description="in the order of training")
    benchmarks: list[Info]
    results: list[Result] = Field(description="one per model and benchmark")
    pairs: list[Pair] = Field(
        description="one per pair of models and benchmark that both were run on"
    )
    macro: list[Macro]
    macro_pairs: list[MacroPair]
    contamination: list[Contamination] | None = Field(description="null where not checked")
    cost: list[Cost]

    def result(self, model: str, benchmark: str) -> Result | None:
        """The result of this model on this benchmark, if it was run."""
        key = (model, benchmark)
        return next((r for r in self.results if (r.model, r.benchmark) == key), None)
