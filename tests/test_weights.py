"""Every row of docs/method.md's weight tables on an example computed by hand, and its edge rules.

Three questions, three traces each (log-probs are of whole traces, lengths 10, 20 and 40):

    question  k  prior  posterior  n   accuracy  log-prob of y', its length
    a         0  -10    -12        10  0.5       -4, 2
    a         1  -20    -16        20  1.0       -1, 2
    a         2  -30    -30        40  0.0       -2, 2
    b         0  -8     -4         10  0.25      -3, 3
    b         1  -8     -4         10  0.25      -3, 3
    b         2  -6     -10        20  0.0       -6, 3
    c         0  -5     -5         10  0.0       -8, 4
    c         1  -5     -6         10  0.0       -8, 4
    c         2  -5     -7         10  0.0       -4, 4
"""

import math

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from stages.artifacts import tables
from stages.common.errors import UserError
from stages.experiments.settings import StepSettings
from stages.weighting.weigh import weigh as weigh_traces

E = math.exp
EXACT = 1e-9  # asked for by the project; float64 sums of these numbers err by about 1e-16

PRIOR = [-10, -20, -30, -8, -8, -6, -5, -5, -5]
POSTERIOR = [-12, -16, -30, -4, -4, -10, -5, -6, -7]
LENGTH = [10, 20, 40, 10, 10, 20, 10, 10, 10]
ACCURACY = [0.5, 1.0, 0.0, 0.25, 0.25, 0.0, 0.0, 0.0, 0.0]
SOLUTION = [(-4, 2), (-1, 2), (-2, 2), (-3, 3), (-3, 3), (-6, 3), (-8, 4), (-8, 4), (-4, 4)]
KEYS = [(q, k) for q in "abc" for k in range(3)]


def questions(kind: str = "math", traced: str = "ab") -> pd.DataFrame:
    rows = [
        {
            "question_id": q,
            "question": f"{q}?",
            "answer": "7",
            "answer_kind": kind,
            "solution": r"\boxed{7}",
            "trace": "because" if q in traced else None,
            "source": "hand",
        }
        for q in "abc"
    ]
    asked = pa.Table.from_pylist(rows, schema=tables.QUESTIONS.schema).to_pandas()
    return asked.assign(has_trace=asked["trace"].notna())


def joined(**columns: list) -> pd.DataFrame:
    """The example as `weights.join` gives it, with columns replaced."""
    frame = pd.DataFrame(KEYS, columns=["question_id", "k"]).assign(
        n_tokens=LENGTH,
        closed=True,
        prior_trace_logprob=np.array(PRIOR, float),
        posterior_trace_logprob=np.array(POSTERIOR, float),
        prior_answer_logprob=np.array([s for s, _ in SOLUTION], float),
        prior_answer_n_tokens=[n for _, n in SOLUTION],
        accuracy=ACCURACY,
        first_correct=[0 if a else np.nan for a in ACCURACY],
        n_verdicts=4,
        n_errors=0,
    )
    return frame.assign(**columns)


def weigh(
    frame: pd.DataFrame | None = None, kind: str = "math", **settings: object
) -> pd.DataFrame:
    proposal = settings.pop("proposal", "posterior")
    given = StepSettings.model_validate({"weights": settings, "traces": {"proposal": proposal}})
    return weigh_traces(questions(kind), joined() if frame is None else frame, given)


GEOMETRIC = [0.2, -0.2, 0.0, -0.4, -0.4, 0.2, 0.0, 0.1, 0.2]


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [
        ("geometric_mean", GEOMETRIC),
        ("full", [2, -4, 0, -4, -4, 4, 0, 1, 2]),
        ("none", [0] * 9),
    ],
)
def test_ratio_term(ratio: str, expected: list[float]) -> None:
    np.testing.assert_allclose(weigh(ratio=ratio)["log_ratio"], expected, rtol=0, atol=EXACT)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (
            "accuracy",
            [math.log(0.5), 0, -np.inf, math.log(0.25), math.log(0.25), -np.inf, *[-np.inf] * 3],
        ),
        ("geometric_likelihood", [-2, -0.5, -1, -1, -1, -2, -2, -2, -1]),
        ("likelihood", [-4, -1, -2, -3, -3, -6, -8, -8, -4]),
        ("none", [0] * 9),
    ],
)
def test_answer_term(answer: str, expected: list[float]) -> None:
    np.testing.assert_allclose(weigh(answer=answer)["log_answer"], expected, rtol=0, atol=EXACT)


A0, A1 = 0.5 * E(0.2), E(-0.2)  # ρ of question a with geometric mean and accuracy
B = 0.25 * E(-0.4)
P_A, P_B = 0.5, 1 / 6  # mean accuracy of questions a and b


@pytest.mark.parametrize(
    ("normalize", "expected"),
    [
        ("question", [A0 / (A0 + A1), A1 / (A0 + A1), 0, 0.5, 0.5, 0, 0, 0, 0]),
        ("none", [A0 / 3, A1 / 3, 0, B / 3, B / 3, 0, 0, 0, 0]),
        (
            "grpo",
            [
                A0 / (3 * math.sqrt(P_A * (1 - P_A))),
                A1 / (3 * math.sqrt(P_A * (1 - P_A))),
                0,
                B / (3 * math.sqrt(P_B * (1 - P_B))),
                B / (3 * math.sqrt(P_B * (1 - P_B))),
                0,
                0,  # question c: p = 0 weighs nothing
                0,
                0,
            ],
        ),
    ],
)
def test_weight_of_a_trace(normalize: str, expected: list[float]) -> None:
    np.testing.assert_allclose(weigh(normalize=normalize)["weight"], expected, rtol=0, atol=EXACT)


@pytest.mark.parametrize(
    ("select", "expected"),
    [
        ("best", [0, 1, 0, 1, 0, 0, 0, 0, 0]),  # b ties, and the smaller k wins
        ("all", [A0 / (A0 + A1), A1 / (A0 + A1), 0, 0.5, 0.5, 0, 0, 0, 0]),
    ],
)
def test_rows_kept(select: str, expected: list[float]) -> None:
    weighed = weigh(select=select)
    np.testing.assert_allclose(weighed["row_weight"], expected, rtol=0, atol=EXACT)
    assert list(weighed["selected"]) == [w > 0 for w in expected]


def test_resampling_draws_one_trace_a_question() -> None:
    weighed = weigh(select="resample")
    assert weighed.groupby("question_id")["row_weight"].sum().to_list() == [1, 1, 0]
    assert set(weighed["row_weight"]) == {0.0, 1.0}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        # rejection sampling: by the model's accuracy, hence biased to easy questions
        ({"ratio": "none", "normalize": "none", "select": "all"}, [1 / 6, 1 / 3, 0, *[1 / 12] * 2]),
        # the same without the bias
        ({"ratio": "none", "select": "all"}, [1 / 3, 2 / 3, 0, 0.5, 0.5]),
        ({"ratio": "none", "normalize": "grpo", "select": "all"}, [1 / 3, 2 / 3, 0]),
    ],
)
def test_baselines_from_the_prior(settings: dict[str, str], expected: list[float]) -> None:
    row_weight = weigh(proposal="prior", answer="accuracy", **settings)["row_weight"]
    np.testing.assert_allclose(row_weight[: len(expected)], expected, rtol=0, atol=EXACT)


def test_traces_of_the_prior_have_ratio_one_whatever_is_set() -> None:
    frame = joined(prior_trace_logprob=np.nan, posterior_trace_logprob=np.nan)
    weighed = weigh(frame, proposal="prior", ratio="full", select="all")
    assert list(weighed["log_ratio"]) == [0] * 9
    np.testing.assert_allclose(weighed["row_weight"][:2], [1 / 3, 2 / 3], atol=EXACT)


def test_any_posterior_trace_is_drawn_evenly() -> None:
    weighed = weigh(ratio="none", answer="none", select="resample")
    np.testing.assert_allclose(weighed["weight"], 1 / 3, atol=EXACT)
    assert list(weighed.groupby("question_id")["row_weight"].sum()) == [1, 1, 1]


def test_long_and_open_traces_are_no_candidates() -> None:
    weighed = weigh(joined(n_tokens=[28000, *LENGTH[1:]], closed=[True, False, *[True] * 7]))
    assert list(weighed["excluded"][:3]) == ["too_long", "open", None]
    assert weighed["weight"][:2].sum() == 0
    assert weighed["log_rho"][:2].isna().all()


def test_open_traces_are_candidates_only_where_no_answer_is_looked_at() -> None:
    frame = joined(
        closed=[False, *[True] * 8],
        accuracy=[np.nan, *ACCURACY[1:]],
        prior_answer_logprob=[np.nan, *[float(s) for s, _ in SOLUTION[1:]]],
    )
    by_likelihood = weigh(frame, answer="geometric_likelihood", require_closed=False)
    assert by_likelihood["excluded"][0] == "open"
    assert weigh(frame, answer="none", require_closed=False)["candidate"].all()
    assert weigh(frame, answer="accuracy", require_closed=False)["weight"][0] == 0


def test_a_trace_without_a_score_is_no_candidate() -> None:
    weighed = weigh(joined(prior_trace_logprob=[np.nan, *PRIOR[1:]]))
    assert weighed["excluded"][0] == "unscored"
    assert weighed["weight"][1] == 1.0


def test_a_question_without_a_correct_answer_may_take_its_best_trace_by_likelihood() -> None:
    """Of c, k = 2 has ratio 0.2 and geometric likelihood -1, k = 0 and 1 have -2 and less."""
    weighed = weigh(no_candidate="likelihood")
    assert list(weighed["row_weight"]) == [0, 1, 0, 1, 0, 0, 0, 0, 1]
    assert list(weighed["stands_in"]) == [False] * 8 + [True]
    assert list(weighed["answer_m"].isna()) == [False, False, True, False, False, *[True] * 4]
    assert weighed["weight"][8] == 0  # the importance weight stays what it is
    excluded = weigh(joined(closed=[True] * 6 + [False] * 3), no_candidate="likelihood")
    assert excluded["selected"].sum() == 2


def test_questions_that_cannot_be_verified_use_the_likelihood() -> None:
    weighed = weigh(joined(accuracy=np.nan, n_verdicts=0), kind="none")
    assert weighed["by_likelihood"].all()
    np.testing.assert_allclose(weighed["log_answer"][:3], [-2, -0.5, -1], atol=EXACT)


def test_weights_that_overflow_are_refused_with_a_remedy() -> None:
    with pytest.raises(UserError, match="normalize: question"):
        weigh(joined(prior_trace_logprob=np.full(9, 1e4)), ratio="full", normalize="none")


def test_full_ratios_of_long_traces_do_not_overflow_when_normalized() -> None:
    weighed = weigh(joined(prior_trace_logprob=np.array(PRIOR) - 1e6), ratio="full", select="all")
    np.testing.assert_allclose(weighed.groupby("question_id")["weight"].sum(), [1, 1, 0])
