"""Variants of the weights (docs/method.md), by their names in section `weights` of config.yaml.

Each ratio, answer estimator, normalization and selection is one object in its table. To add one:
add the object here and its name to the `Literal` in `stages/experiments/settings.py`; a test
compares the two.

Estimators read joined traces, a DataFrame with one row per trace:

    n_tokens                |z|
    prior_trace_logprob     Σ_t log π_θ0(z_t)
    posterior_trace_logprob Σ_t log q_φ(z_t)
    prior_answer_logprob    Σ_t log π_θ0(y'_t | x, z)
    prior_answer_n_tokens   |y'|
    accuracy                share of the M sampled answers that are correct

Log-probs are in nats; NaN marks what is unknown.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from stages.weighting import importance
from stages.weighting.importance import Array, Groups

if TYPE_CHECKING:
    from stages.experiments.settings import StepSettings

BOTH_SCORES = frozenset({"prior", "posterior"})
PRIOR_SCORES = frozenset({"prior"})
VERDICTS = frozenset({"verdicts"})


@dataclass(frozen=True)
class Ratio:
    """An estimator of log π_θ0(z | x) − log q_φ(z | x, y').

    Attributes
    ----------
    log : callable
        Joined traces -> float64 array, in nats.
    needs : frozenset of str
        Tables that it is computed from: prior, posterior.
    """

    log: Callable[[pd.DataFrame], Array]
    needs: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Answer:
    """An estimator of log π_θ0(Y_x | x, z).

    Attributes
    ----------
    log : callable
        Joined traces -> float64 array, in nats.
    needs : frozenset of str
        Tables that it is computed from: prior, verdicts. One that needs verdicts is replaced by
        `UNVERIFIABLE` for questions that no verifier can judge.
    sampled_answer : bool
        Whether a training row ends with the first correct sampled answer of its trace, rather than
        with the reference solution.
    """

    log: Callable[[pd.DataFrame], Array]
    needs: frozenset[str] = frozenset()
    sampled_answer: bool = False


@dataclass(frozen=True)
class Normalization:
    """From log ρ to the weights of a question's traces.

    Attributes
    ----------
    weight : callable
        (log ρ, group, accuracy) -> weight of each trace, all float64 arrays over traces. Raises
        OverflowError where a weight exceeds float64.
    equal_questions : bool
        Whether every question counts the same. If so, one without a selected trace is stood in for
        by default; if not, its weight of 0 is what the normalization says.
    needs : frozenset of str
        Tables that it is computed from: verdicts.
    """

    weight: Callable[[Array, Groups, Array], Array]
    equal_questions: bool = False
    needs: frozenset[str] = frozenset()


def _zeros(traces: pd.DataFrame) -> Array:
    return np.zeros(len(traces))


def _full_ratio(traces: pd.DataFrame) -> Array:
    return (traces["prior_trace_logprob"] - traces["posterior_trace_logprob"]).to_numpy(float)


def _geometric_mean(traces: pd.DataFrame) -> Array:
    # an empty trace is open and therefore not a candidate; it must not divide by zero
    return _full_ratio(traces) / traces["n_tokens"].clip(lower=1).to_numpy(float)


def _accuracy(traces: pd.DataFrame) -> Array:
    with np.errstate(divide="ignore"):
        return np.log(traces["accuracy"].fillna(0.0).to_numpy(float))


def _likelihood(traces: pd.DataFrame) -> Array:
    return traces["prior_answer_logprob"].to_numpy(float)


def _geometric_likelihood(traces: pd.DataFrame) -> Array:
    return _likelihood(traces) / traces["prior_answer_n_tokens"].to_numpy(float)


RATIOS: Mapping[str, Ratio] = {
    "geometric_mean": Ratio(_geometric_mean, needs=BOTH_SCORES),
    "full": Ratio(_full_ratio, needs=BOTH_SCORES),
    "none": Ratio(_zeros),
}

ANSWERS: Mapping[str, Answer] = {
    "accuracy": Answer(_accuracy, needs=VERDICTS, sampled_answer=True),
    "geometric_likelihood": Answer(_geometric_likelihood, needs=PRIOR_SCORES),
    "likelihood": Answer(_likelihood, needs=PRIOR_SCORES),
    "none": Answer(_zeros),
}
UNVERIFIABLE = ANSWERS["geometric_likelihood"]  # for questions of `answer_kind: none`

NORMALIZATIONS: Mapping[str, Normalization] = {
    "question": Normalization(importance.self_normalized, equal_questions=True),
    "none": Normalization(importance.unnormalized),
    "grpo": Normalization(importance.grpo, needs=VERDICTS),
}

# (weight, log ρ, group, a uniform draw per question) -> row weight of each trace
SELECTIONS: Mapping[str, Callable[[Array, Array, Groups, Array], Array]] = {
    "best": importance.best,
    "all": importance.every,
    "resample": importance.resample,
}

NO_CANDIDATE = ("teacher", "likelihood", "drop")


@dataclass(frozen=True)
class Method:
    """How traces are weighed and selected: a row of the methods in docs/method.md.

    Attributes
    ----------
    ratio, answer, normalization, selection
        Objects of the tables above.
    no_candidate : str
        What replaces a question's traces if none is selected: its ``teacher`` trace; its
        best trace by geometric ``likelihood``, else the teacher's; or nothing
        (``drop``).
    """

    ratio: Ratio
    answer: Answer
    normalization: Normalization
    selection: Callable[[Array, Array, Groups, Array], Array]
    no_candidate: str

    @classmethod
    def of(cls, settings: "StepSettings") -> "Method":
        """The method that the sections `weights` and `traces` describe.

        Traces of the prior have ratio 1: proposal and prior are the same model.
        """
        how = settings.weights
        normalization = NORMALIZATIONS[how.normalize]
        by_default = "teacher" if normalization.equal_questions else "drop"
        return cls(
            RATIOS["none" if settings.traces.proposal == "prior" else how.ratio],
            ANSWERS[how.answer],
            normalization,
            SELECTIONS[how.select],
            how.no_candidate or by_default,
        )

    def needs(self, verifiable: bool) -> frozenset[str]:
        """Tables that the weights are computed from: prior, posterior, verdicts.

        `verifiable` says whether all questions are.
        """
        needs = self.ratio.needs | self.answer.needs | self.normalization.needs
        if self.no_candidate == "likelihood" or (
            "verdicts" in self.answer.needs and not verifiable
        ):
            needs |= UNVERIFIABLE.needs
        return needs

    @property
    def teacher_stands_in(self) -> bool:
        """Whether the teacher's trace replaces those of a question without a selected one."""
        return self.no_candidate != "drop"
