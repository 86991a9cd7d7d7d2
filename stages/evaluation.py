"""`eval.json`: its schema, and how it is made of sample tables.

The schema is documented in docs/eval.md, whose version is `VERSION`. Fields are only ever added
within a version. A number that cannot be had is null, and the interval's `method` says why.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from stages import benchmarks, contamination, statistics
from stages.errors import UserError

VERSION = 1
GROUPS = ("math", "other")
COLUMNS = ("n_tokens", "finish_reason", "extracted", "verdict", "vote", "question", "difficulty")
Number = float | None


class Part(BaseModel):
    """A piece of eval.json."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Interval(Part):
    """A confidence interval, level `Evaluation.level`."""

    low: Number = Field(description="null where there is no interval")
    high: Number = Field(description="null where there is no interval")
    method: str = Field(description="how it was made, or why there is none")


class Score(Part):
    """A mean over items with its two intervals."""

    value: Number = Field(description="point estimate; null where it is undefined")
    population: Interval = Field(description="over items that might have been asked")
    seeds: Interval = Field(description="over other draws on these same items")


class AtK(Score):
    """A score that depends on a number of samples."""

    k: int


class Rates(Part):
    """Shares of all samples that call for a second look at a score."""

    truncated: float = Field(description="cut at the token limit")
    no_answer: float = Field(description="no final answer could be read")
    error: float = Field(description="the verifier failed or ran out; they count as not correct")


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
    samples: int = Field(description="n: samples an item")
    average: Score = Field(description="avg@n: share of correct samples, mean over items")
    pass_at_k: list[AtK] = Field(description="unbiased pass@k")
    majority_at_k: list[AtK] = Field(description="maj@k; empty where answers cannot be equal")
    rates: Rates
    mean_tokens: float = Field(description="tokens of a response, mean over samples")
    difficulty: list[Level] = Field(description="empty where the source grades no items")
    clean: Subset | None = Field(description="items that share no 13-gram with training questions")


class Pair(Part):
    """Score of model `a` minus score of model `b` on the items both were asked."""

    a: str
    b: str
    benchmark: str
    items: int = Field(description="items both models were asked")
    difference: Score
    better: int = Field(description="items on which a has the higher mean")
    worse: int = Field(description="items on which b has the higher mean")


class Macro(Part):
    """A model's mean over the benchmarks of a group, each counting the same."""

    model: str
    group: Literal["math", "other"]
    members: list[str] = Field(description="benchmarks in the mean")
    missing: list[str] = Field(description="benchmarks of the group that were not run")
    average: Score


class MacroPair(Part):
    """Macro-average of `a` minus that of `b`, over the benchmarks both were run on."""

    a: str
    b: str
    group: Literal["math", "other"]
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
    group: Literal["math", "other"] | None
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
    protocol: str | None = Field(description="evaluation.protocol; null when models differ in it")
    models: list[str] = Field(description="in the order of training")
    benchmarks: list[Info]
    results: list[Result] = Field(description="one a model and benchmark")
    pairs: list[Pair] = Field(description="one for any two models and a benchmark both were run on")
    macro: list[Macro]
    macro_pairs: list[MacroPair]
    contamination: list[Contamination] | None = Field(
        description="null where it was not looked for"
    )
    cost: list[Cost]

    def result(self, model: str, benchmark: str) -> Result | None:
        """The result of this model on this benchmark, if it was run."""
        wanted = (model, benchmark)
        return next((r for r in self.results if (r.model, r.benchmark) == wanted), None)


# ------------------------------------------------------------------------- from sample tables


@dataclass(frozen=True)
class Answers:
    """Samples of one model on one benchmark as matrices, [items, samples]."""

    items: tuple[str, ...]
    correct: np.ndarray
    votes: np.ndarray | None
    rates: Rates
    mean_tokens: float
    difficulty: Mapping[str, str]
    question: Mapping[str, str]


def answers(samples: pd.DataFrame, where: str = "samples") -> Answers:
    """Put a `samples` table of one benchmark into matrices.

    Raises
    ------
    UserError
        An item has more or fewer samples than another.
    """
    samples = samples.sort_values("sample", kind="stable")
    order = pd.unique(samples["item_id"].sort_index())
    counts = samples["item_id"].value_counts()
    n = int(counts.max())
    if (counts != n).any():
        odd = counts.index[counts != n][0]
        raise UserError(
            f"{where}: item {odd!r} has {counts[odd]} samples where others have {n}; "
            "run stages.evaluate again to draw the rest"
        )
    place = pd.Series(range(len(order)), index=order)
    samples = samples.iloc[np.argsort(place[samples["item_id"]].to_numpy(), kind="stable")]

    def matrix(values: Any) -> np.ndarray:
        return np.asarray(values).reshape(len(order), n)

    error = samples["verdict"] == "error"
    first = samples.iloc[::n]
    return Answers(
        items=tuple(order),
        correct=matrix(samples["verdict"] == "correct"),
        votes=None if samples["vote"].isna().all() else matrix(samples["vote"].fillna(-1)),
        rates=Rates(
            truncated=float((samples["finish_reason"] == "length").mean()),
            no_answer=float((samples["extracted"].isna() & ~error).mean()),
            error=float(error.mean()),
        ),
        mean_tokens=float(samples["n_tokens"].mean()),
        difficulty=dict(zip(order, first["difficulty"], strict=True)),
        question=dict(zip(order, first["question"], strict=True)),
    )


def summarise(
    samples: Mapping[str, Mapping[str, Answers]],
    *,
    experiment: str,
    protocol: str | None = None,
    training_questions: Sequence[str] | None = None,
    cost: Sequence[Cost] = (),
) -> Evaluation:
    """All figures of eval.json.

    Parameters
    ----------
    samples : mapping
        By model, in the order of training, then by benchmark.
    experiment, protocol, cost
        As in `Evaluation`.
    training_questions : sequence of str, optional
        What benchmark items must not overlap with; without them nothing is looked for.
    """
    everything = {name: found for m in reversed(samples) for name, found in samples[m].items()}
    asked = {name: everything[name] for name in sorted(everything, key=_place)}
    overlaps = None
    if training_questions is not None:
        overlaps = {
            name: contamination.overlapping(_texts(found), training_questions)
            for name, found in asked.items()
        }
    results = [
        _result(model, name, found, overlaps and overlaps[name])
        for model, by_benchmark in samples.items()
        for name in asked
        if (found := by_benchmark.get(name))
    ]
    couples = list(itertools.combinations(samples, 2))
    pairs = [
        _pair(after, before, name, samples[after][name], samples[before][name])
        for before, after in couples
        for name in asked
        if name in samples[before] and name in samples[after]
    ]
    return Evaluation(
        experiment=experiment,
        protocol=protocol,
        models=list(samples),
        benchmarks=[_info(name) for name in asked],
        results=results,
        pairs=[pair for pair in pairs if pair is not None],
        macro=[m for model in samples for g in GROUPS if (m := _macro(model, g, results))],
        macro_pairs=[
            m
            for before, after in couples
            for g in GROUPS
            if (m := _macro_pair(after, before, g, samples))
        ],
        contamination=overlaps
        and [
            Contamination(benchmark=name, items=len(asked[name].items), overlapping=found)
            for name, found in overlaps.items()
        ],
        cost=list(cost),
    )


def _place(name: str) -> tuple[int, int, str]:
    """Sort key: the experiment's own questions, mathematics, the paper's others, the rest."""
    known = list(benchmarks.registry().values())
    number = next((i for i, b in enumerate(known) if b.name == name), len(known))
    group = known[number].group if number < len(known) else None
    rank = 0 if name == "held_out" else {"math": 1, "other": 2}.get(group, 3)
    return rank, number, name


def _texts(found: Answers) -> dict[str, str]:
    return {name: text for name, text in found.question.items() if isinstance(text, str)}


def _info(name: str) -> Info:
    known = benchmarks.registry().get(name)
    if known is None:  # samples that somebody else made
        return Info(name=name, title=name, group=None, reference={})
    return Info(name=name, title=known.title, group=known.group, reference=dict(known.reference))


def _result(model: str, name: str, found: Answers, overlap: list[str] | None) -> Result:
    n = found.correct.shape[1]
    powers = [2**i for i in range(n.bit_length()) if 2**i <= n]
    ks = sorted({*powers, n})
    votes = found.votes
    clean = None
    if overlap is not None:
        rows = np.array([item not in set(overlap) for item in found.items])
        average = score(statistics.average(found.correct[rows])) if rows.any() else None
        clean = Subset(items=int(rows.sum()), average=average)
    return Result(
        model=model,
        benchmark=name,
        items=len(found.items),
        samples=n,
        average=score(statistics.average(found.correct)),
        pass_at_k=[_at_k(k, statistics.pass_score(found.correct, k)) for k in ks],
        majority_at_k=[]
        if votes is None
        else [_at_k(k, statistics.majority_score(votes, found.correct, k)) for k in ks],
        rates=found.rates,
        mean_tokens=found.mean_tokens,
        difficulty=_levels(found),
        clean=clean,
    )


def _levels(found: Answers) -> list[Level]:
    levels = np.array([found.difficulty[item] for item in found.items], dtype=object)
    names = sorted({level for level in levels if isinstance(level, str)}, key=_natural)
    return [
        Level(
            difficulty=name,
            items=int((levels == name).sum()),
            average=score(statistics.average(found.correct[levels == name])),
        )
        for name in names
    ]


def _natural(label: str) -> list[tuple[bool, int, str]]:
    """Sort key under which 9 stands before 10."""
    pieces = re.split(r"(\d+)", label)
    return [(p.isdigit(), int(p) if p.isdigit() else 0, p) for p in pieces if p]


def _pair(a: str, b: str, name: str, of_a: Answers, of_b: Answers) -> Pair | None:
    rows_a, rows_b = _common(of_a, of_b)
    if not rows_a:
        return None
    correct_a, correct_b = of_a.correct[rows_a], of_b.correct[rows_b]
    gap = correct_a.mean(axis=1) - correct_b.mean(axis=1)
    return Pair(
        a=a,
        b=b,
        benchmark=name,
        items=len(rows_a),
        difference=score(statistics.paired_difference(correct_a, correct_b)),
        better=int((gap > 0).sum()),
        worse=int((gap < 0).sum()),
    )


def _common(of_a: Answers, of_b: Answers) -> tuple[list[int], list[int]]:
    """Rows in a and in b of the items that both have, in the order of a.

    The same item has the same name and text: own questions of two experiments may share names.
    """
    place = {(item, of_b.question[item]): row for row, item in enumerate(of_b.items)}
    pairs = [
        (row, place[item, of_a.question[item]])
        for row, item in enumerate(of_a.items)
        if (item, of_a.question[item]) in place
    ]
    return [row for row, _ in pairs], [row for _, row in pairs]


def _members(group: str) -> list[str]:
    return [b.name for b in benchmarks.registry().values() if b.group == group]


def _macro(model: str, group: str, results: Iterable[Result]) -> Macro | None:
    parts = {r.benchmark: r.average for r in results if r.model == model}
    members = [name for name in _members(group) if name in parts]
    if not members:
        return None
    scores = [_statistic(parts[name]) for name in members]
    return Macro(
        model=model,
        group=group,
        members=members,
        missing=[name for name in _members(group) if name not in parts],
        average=score(statistics.combine(scores, [1 / len(members)] * len(members))),
    )


def _macro_pair(
    a: str, b: str, group: str, samples: Mapping[str, Mapping[str, Answers]]
) -> MacroPair | None:
    pairs = {
        name: pair
        for name in _members(group)
        if name in samples[a] and name in samples[b]
        if (pair := _pair(a, b, name, samples[a][name], samples[b][name]))
    }
    if not pairs:
        return None
    scores = [_statistic(pair.difference) for pair in pairs.values()]
    mean = statistics.combine(scores, [1 / len(pairs)] * len(pairs), low=-1.0)
    return MacroPair(a=a, b=b, group=group, members=list(pairs), difference=score(mean))


def _at_k(k: int, found: statistics.Score) -> AtK:
    return AtK(k=k, **score(found).model_dump())


def score(found: statistics.Score) -> Score:
    """A score in the form of eval.json."""
    return Score(
        value=_number(found.value),
        population=_interval(found.population),
        seeds=_interval(found.seeds),
    )


def _interval(found: statistics.Interval) -> Interval:
    return Interval(low=_number(found.low), high=_number(found.high), method=found.method)


def _number(value: float) -> Number:
    return None if math.isnan(value) else value


def _statistic(found: Score) -> statistics.Score:
    def back(i: Interval) -> statistics.Interval:
        low, high = (math.nan if x is None else x for x in (i.low, i.high))
        return statistics.Interval(low, high, i.method)

    value = math.nan if found.value is None else found.value
    return statistics.Score(value, back(found.population), back(found.seeds))
