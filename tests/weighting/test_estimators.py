"""The tables of variants: names, what each needs, and the rules between them."""

import typing

import pytest
from pydantic import ValidationError

from stages.experiments.settings import Experiment, StepSettings, Weights
from stages.weighting import estimators
from stages.weighting.estimators import ANSWERS, NORMALIZATIONS, RATIOS, SELECTIONS, Method


def names(setting: str) -> set[str]:
    """The names that a setting of the section `weights` accepts."""
    annotation = Weights.model_fields[setting].annotation
    options = [a for a in (annotation, *typing.get_args(annotation)) if typing.get_args(a)]
    return {name for option in options for name in typing.get_args(option) if type(name) is str}


@pytest.mark.parametrize(
    ("setting", "table"),
    [
        ("ratio", RATIOS),
        ("answer", ANSWERS),
        ("normalize", NORMALIZATIONS),
        ("select", SELECTIONS),
        ("no_candidate", estimators.NO_CANDIDATE),
    ],
)
def test_the_settings_accept_exactly_the_variants_of_the_table(setting: str, table: object) -> None:
    assert names(setting) == set(table)


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("normalize", NORMALIZATIONS)
def test_variants_that_need_verdicts_are_refused_without_sampled_answers(
    answer: str, normalize: str
) -> None:
    settings = {"weights": {"answer": answer, "normalize": normalize}, "answers": {"m": 0}}
    if "verdicts" in ANSWERS[answer].needs | NORMALIZATIONS[normalize].needs:
        with pytest.raises(ValidationError, match=r"answers\.m is 0"):
            Experiment.model_validate(settings)
    else:
        Experiment.model_validate(settings)


def method(proposal: str = "posterior", **weights: object) -> Method:
    given = {"weights": weights, "traces": {"proposal": proposal}}
    return Method.of(StepSettings.model_validate(given))


@pytest.mark.parametrize(
    ("chosen", "tables"),
    [
        (method(), {"prior", "posterior", "verdicts"}),
        (method(answer="likelihood"), {"prior", "posterior"}),
        (method(ratio="none"), {"verdicts"}),
        (method(proposal="prior"), {"verdicts"}),  # its ratio is 1 whatever is set
        (method(ratio="none", no_candidate="likelihood"), {"prior", "verdicts"}),
        (method(ratio="none", answer="none"), set()),
        (method(ratio="none", answer="none", normalize="grpo"), {"verdicts"}),
    ],
)
def test_tables_that_a_method_needs(chosen: Method, tables: set[str]) -> None:
    assert chosen.needs(verifiable=True) == tables


def test_questions_that_no_verifier_can_judge_need_the_score_of_their_solution() -> None:
    assert method(ratio="none").needs(verifiable=False) == {"prior", "verdicts"}
    assert method(ratio="none", answer="none").needs(verifiable=False) == set()


@pytest.mark.parametrize(
    ("normalize", "no_candidate", "stands_in"),
    [
        ("question", None, True),
        ("none", None, False),
        ("grpo", None, False),
        ("grpo", "teacher", True),
        ("question", "likelihood", True),  # where the likelihood finds no trace either
        ("question", "drop", False),
    ],
)
def test_the_teacher_stands_in_by_default_where_questions_count_the_same(
    normalize: str, no_candidate: str | None, stands_in: bool
) -> None:
    chosen = method(normalize=normalize, no_candidate=no_candidate)
    assert chosen.teacher_stands_in is stands_in


def test_fewer_traces_or_answers_than_are_drawn_can_be_weighed_but_not_more() -> None:
    Experiment.model_validate({"weights": {"k": 4, "m": 2}, "traces": {"k": 4}})
    for weights, message in (
        ({"k": 9}, r"weights\.k is 9, but traces\.k is 8"),
        ({"m": 9}, "answers"),
    ):
        with pytest.raises(ValidationError, match=message):
            Experiment.model_validate({"weights": weights})
    StepSettings.model_validate({"weights": {"k": 9}})  # a step does not see traces.k
