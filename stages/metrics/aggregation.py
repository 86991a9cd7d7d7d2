"""The numbers of eval.json, computed from sample tables."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from stages import benchmarks
from stages.common.errors import UserError
from stages.metrics import contamination, statistics
from stages.metrics.evaluation import (
    GROUPS,
    AtK,
    Contamination,
    Cost,
    Evaluation,
    Group,
    Info,
    Level,
    Macro,
    MacroPair,
    Pair,
    Rates,
    Result,
    Score,
    Subset,
)

COLUMNS = ("n_tokens", "finish_reason", "extracted", "verdict", "vote", "question", "difficulty")


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
    """Convert a `samples` table of one benchmark to matrices.

    Raises
    ------
    UserError
        Items differ in their number of samples.
    """
    samples = samples.sort_values("sample", kind="stable")
    order = pd.unique(samples["item_id"].sort_index())
    counts = samples["item_id"].value_counts()
    n = int(counts.max())
    if (counts != n).any():
        odd = counts.index[counts != n][0]
        raise UserError(
            f"{where}: item {odd!r} has {counts[odd]} samples, others have {n}; "
            "run stages.evaluate again to draw the missing ones"
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
    """All numbers of eval.json.

    Parameters
    ----------
    samples : mapping
        By model, in the order of training, then by benchmark.
    experiment, protocol, cost
        As in `Evaluation`.
    training_questions : sequence of str, optional
        Texts to check benchmark items against; without them overlap is not checked.
    """
    everything = {
        name: answers
        for by_benchmark in reversed(list(samples.values()))
        for name, answers in by_benchmark.items()
    }
    merged = {name: everything[name] for name in sorted(everything, key=_place)}
    overlaps = None
    if training_questions is not None:
        overlaps = {
            name: contamination.overlapping(_texts(answers), training_questions)
            for name, answers in merged.items()
        }
    results = [
        _result(model, name, answers, None if overlaps is None else overlaps[name])
        for model, by_benchmark in samples.items()
        for name in merged
        if (answers := by_benchmark.get(name))
    ]
    couples = list(itertools.combinations(samples, 2))
    pairs = [
        _pair(after, before, name, samples[after][name], samples[before][name])
        for before, after in couples
        for name in merged
        if name in samples[before] and name in samples[after]
    ]
    return Evaluation(
        experiment=experiment,
        protocol=protocol,
        models=list(samples),
        benchmarks=[_info(name) for name in merged],
        results=results,
        pairs=[pair for pair in pairs if pair is not None],
        macro=[
            mean
            for model, answers in samples.items()
            for group in GROUPS
            if (mean := _macro(model, group, answers))
        ],
        macro_pairs=[
            pair
            for before, after in couples
            for group in GROUPS
            if (pair := _macro_pair(after, before, group, samples[after], samples[before]))
        ],
        contamination=None
        if overlaps is None
        else [
            Contamination(benchmark=name, items=len(merged[name].items), overlapping=items)
            for name, items in overlaps.items()
        ],
        cost=list(cost),
    )


def _place(name: str) -> tuple[int, int, str]:
    """Sort key: held-out questions, mathematics, the paper's other benchmarks, the rest."""
    known = list(benchmarks.registry().values())
    number = next((i for i, b in enumerate(known) if b.name == name), len(known))
    group = known[number].group if number < len(known) else None
    rank = 0 if name == "held_out" else {"math": 1, "other": 2, None: 3}[group]
    return rank, number, name


def _texts(answers: Answers) -> dict[str, str]:
    return {name: text for name, text in answers.question.items() if isinstance(text, str)}


def _info(name: str) -> Info:
    known = benchmarks.registry().get(name)
    if known is None:  # tables made elsewhere
        return Info(name=name, title=name, group=None, reference={})
    return Info(name=name, title=known.title, group=known.group, reference=dict(known.reference))


def _result(model: str, name: str, answers: Answers, overlap: list[str] | None) -> Result:
    n = answers.correct.shape[1]
    powers = [2**i for i in range(n.bit_length()) if 2**i <= n]
    ks = sorted({*powers, n})
    votes = answers.votes
    clean = None
    if overlap is not None:
        rows = np.array([item not in set(overlap) for item in answers.items])
        average = _score(statistics.average(answers.correct[rows])) if rows.any() else None
        clean = Subset(items=int(rows.sum()), average=average)
    return Result(
        model=model,
        benchmark=name,
        items=len(answers.items),
        samples=n,
        average=_score(statistics.average(answers.correct)),
        pass_at_k=[AtK(k=k, **asdict(statistics.pass_score(answers.correct, k))) for k in ks],
        majority_at_k=[]
        if votes is None
        else [AtK(k=k, **asdict(statistics.majority_score(votes, answers.correct, k))) for k in ks],
        rates=answers.rates,
        mean_tokens=answers.mean_tokens,
        difficulty=_levels(answers),
        clean=clean,
    )


def _levels(answers: Answers) -> list[Level]:
    levels = np.array([answers.difficulty[item] for item in answers.items], dtype=object)
    names = sorted({level for level in levels if isinstance(level, str)}, key=_natural)
    return [
        Level(
            difficulty=name,
            items=int((levels == name).sum()),
            average=_score(statistics.average(answers.correct[levels == name])),
        )
        for name in names
    ]


def _natural(label: str) -> list[tuple[bool, int, str]]:
    """Sort key that orders 9 before 10."""
    pieces = re.split(r"(\d+)", label)
    return [(p.isdigit(), int(p) if p.isdigit() else 0, p) for p in pieces if p]


def _pair(a: str, b: str, name: str, of_a: Answers, of_b: Answers) -> Pair | None:
    correct_a, correct_b = _paired(of_a, of_b)
    if not len(correct_a):
        return None
    gap = correct_a.mean(axis=1) - correct_b.mean(axis=1)
    return Pair(
        a=a,
        b=b,
        benchmark=name,
        items=len(gap),
        difference=_score(statistics.paired_difference(correct_a, correct_b)),
        better=int((gap > 0).sum()),
        worse=int((gap < 0).sum()),
    )


def _paired(of_a: Answers, of_b: Answers) -> tuple[np.ndarray, np.ndarray]:
    """Verdicts of a and of b on the items that both have, in the order of a.

    The same item has the same name and text: held-out questions of two experiments may share names.
    """
    place = {(item, of_b.question[item]): row for row, item in enumerate(of_b.items)}
    rows = [
        (row, place[item, of_a.question[item]])
        for row, item in enumerate(of_a.items)
        if (item, of_a.question[item]) in place
    ]
    return of_a.correct[[row for row, _ in rows]], of_b.correct[[row for _, row in rows]]


def _members(group: str) -> list[str]:
    return [b.name for b in benchmarks.registry().values() if b.group == group]


def _macro(model: str, group: Group, samples: Mapping[str, Answers]) -> Macro | None:
    members = [name for name in _members(group) if name in samples]
    if not members:
        return None
    scores = [statistics.average(samples[name].correct) for name in members]
    return Macro(
        model=model,
        group=group,
        members=members,
        missing=[name for name in _members(group) if name not in samples],
        average=_mean(scores),
    )


def _macro_pair(
    a: str, b: str, group: Group, of_a: Mapping[str, Answers], of_b: Mapping[str, Answers]
) -> MacroPair | None:
    shared = [name for name in _members(group) if name in of_a and name in of_b]
    means = {name: _paired(of_a[name], of_b[name]) for name in shared}
    scores = {
        name: statistics.paired_difference(*pair) for name, pair in means.items() if len(pair[0])
    }
    if not scores:
        return None
    difference = _mean(list(scores.values()), low=-1.0)
    return MacroPair(a=a, b=b, group=group, members=list(scores), difference=difference)


def _mean(scores: list[statistics.Score], low: float = 0.0) -> Score:
    """Mean of independent scores, which lies in [low, 1]."""
    weights = [1 / len(scores)] * len(scores)
    return _score(statistics.combine(scores, weights, low))


def _score(score: statistics.Score) -> Score:
    return Score.model_validate(score)
