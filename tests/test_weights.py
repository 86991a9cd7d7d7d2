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

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from stages import weights
from stages.artifacts import store, tables
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


# The step ----------------------------------------------------------------------------------------


def write(folder: Path, table: tables.Table, rows: list[dict]) -> Path:
    path = folder / f"{table.name}-{len(list(folder.iterdir()))}.parquet"
    store.write_table(path, table, pa.Table.from_pylist(rows, schema=table.schema), {})
    return path


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """The example as the tables that the step reads."""
    asked = pa.Table.from_pandas(questions(), schema=tables.QUESTIONS.schema).to_pylist()
    traces, prior, posterior, verdicts = [], [], [], []
    for i, (q, k) in enumerate(KEYS):
        key = {"question_id": q, "k": k, "n_tokens": LENGTH[i]}
        traces.append(
            {**key, "seed": i, "token_ids": [1], "trace": "t", "finish_reason": "stop"}
            | {"closed": True}
        )
        solution = {"answer_logprob": SOLUTION[i][0], "answer_n_tokens": SOLUTION[i][1]}
        prior.append({**key, "trace_logprob": PRIOR[i], **solution})
        posterior.append({**key, "trace_logprob": POSTERIOR[i]})
        for m in range(4):
            verdict = "correct" if m < 4 * ACCURACY[i] else "error" if m == 3 else "incorrect"
            verdicts.append({"question_id": q, "k": k, "m": m, "verdict": verdict, "seconds": 0.0})
    return {
        "questions": write(tmp_path, tables.QUESTIONS, asked),
        "traces": write(tmp_path, tables.TRACES, traces),
        "prior": write(tmp_path, tables.SCORES, prior[::-1]),  # joins are by key, not by order
        "posterior": write(tmp_path, tables.SCORES, posterior),
        "verdicts": write(tmp_path, tables.VERDICTS, verdicts[::-1]),
    }


def run(files: dict[str, Path], folder: Path, **settings: dict) -> tuple[pd.DataFrame, dict]:
    flags = [part for name, path in files.items() for part in (f"--{name}", str(path))]
    out, summary = folder / "out.parquet", folder / "out.json"
    weights.main(
        ["--settings", json.dumps(settings), *flags, "--out", str(out), "--summary", str(summary)]
    )
    return store.read_table(out, tables.WEIGHTS).to_pandas(), json.loads(summary.read_text())


def test_the_step_joins_by_key_and_counts_every_rule(
    files: dict[str, Path], tmp_path: Path
) -> None:
    weighed, summary = run(files, tmp_path)
    np.testing.assert_allclose(weighed["log_ratio"], GEOMETRIC, atol=EXACT)
    np.testing.assert_allclose(weighed["accuracy"], ACCURACY, atol=EXACT)
    assert summary["counts"] == {
        "questions": 3,
        "questions_without_teacher_trace": 1,
        "traces": 9,
        "candidates": 9,
        "excluded": {"too_long": 0, "open": 0, "unscored": 0},
        "candidates_of_weight_zero": 5,
        "questions_verified_by_likelihood": 0,
        "questions_without_selected_trace": 1,
        "teacher_stands_in": 0,
        "best_by_likelihood_stands_in": 0,
        "questions_dropped": 1,
        "questions_of_accuracy_0_or_1": 1,
        "selected_traces": 2,
        "rows_with_sampled_answer": 2,
        "rows_with_reference_solution": 0,
        "answers_verified": 36,
        "verifier_errors": 8,
    }
    assert summary["shares"] == {"correct": 2 / 9, "closed": 1, "too_long": 0, "leaking": 0}


def test_every_edge_rule_is_counted_where_it_applies(
    files: dict[str, Path], tmp_path: Path
) -> None:
    """a: one trace too long, one open. b: cannot be verified. c: only an answer, and no success."""
    asked = store.read_table(files["questions"], tables.QUESTIONS).to_pylist()
    asked[1]["answer_kind"] = "none"
    files["questions"] = write(tmp_path, tables.QUESTIONS, asked)
    traces = store.read_table(files["traces"], tables.TRACES).to_pylist()
    traces[0]["closed"] = False
    files["traces"] = write(tmp_path, tables.TRACES, traces)
    verdicts = store.read_table(files["verdicts"], tables.VERDICTS).to_pylist()
    dropped = [("a", 0), ("b", 0), ("b", 1), ("b", 2)]
    verdicts = [v for v in verdicts if (v["question_id"], v["k"]) not in dropped]
    files["verdicts"] = write(tmp_path, tables.VERDICTS, verdicts)
    figures = tmp_path / "figures.parquet"
    _, summary = run({**files, "by-question": figures}, tmp_path, weights={"max_trace_tokens": 40})
    counts = summary["counts"]
    assert counts["excluded"] == {"too_long": 1, "open": 1, "unscored": 0}
    assert counts["questions_verified_by_likelihood"] == 1
    assert (counts["rows_with_sampled_answer"], counts["rows_with_reference_solution"]) == (1, 1)
    assert (counts["teacher_stands_in"], counts["questions_dropped"]) == (0, 1)
    assert counts["questions_of_accuracy_0_or_1"] == 1
    accuracy = [q["accuracy"] for q in store.read_table(figures, tables.DIAGNOSTICS).to_pylist()]
    assert accuracy == [pytest.approx(1 / 3), None, 0]  # an open trace counts as 0

    del files["prior"]
    with pytest.raises(UserError, match=r"--prior is needed .* and questions of answer_kind none"):
        run(files, tmp_path, weights={"ratio": "none"})


def test_figures_by_question(files: dict[str, Path], tmp_path: Path) -> None:
    files = {**files, "by-question": tmp_path / "figures.parquet"}
    _, summary = run(files, tmp_path)
    a, _, c = store.read_table(files["by-question"], tables.DIAGNOSTICS).to_pylist()
    bounds = [row["bound"] for row in summary["bounds"]]
    assert (a["question_id"], a["traces"], a["candidates"], a["accuracy"]) == ("a", 3, 3, P_A)
    assert a["effective_sample_size"] == pytest.approx((A0 + A1) ** 2 / (A0**2 + A1**2), abs=EXACT)
    assert (c["effective_sample_size"], c["row_weight"], c["bounds"]) == (0, 0, [-math.inf] * 3)
    assert len(a["bounds"]) == len(bounds) == 3


def test_effective_sample_size_and_bounds(files: dict[str, Path], tmp_path: Path) -> None:
    _, summary = run(files, tmp_path)
    ess = [(A0 + A1) ** 2 / (A0**2 + A1**2), 2.0]
    assert summary["effective_sample_size"]["mean"] == pytest.approx(np.mean(ess), abs=EXACT)
    # whole-sequence ratios: every subset of two or three has an answer, for a and for b
    three = [math.log((0.5 * E(2) + E(-4)) / 3), math.log(2 * 0.25 * E(-4) / 3)]
    assert [row["questions"] for row in summary["bounds"]] == [0, 2, 2]
    last = summary["bounds"][-1]
    assert last["bound"] == pytest.approx(np.mean(three), abs=EXACT)
    assert (last["k"], last["questions"], last["questions_at_minus_infinity"]) == (3, 2, 1)


def test_easy_questions_weigh_more_under_rejection_sampling(
    files: dict[str, Path], tmp_path: Path
) -> None:
    _, summary = run(files, tmp_path)
    table = {row["accuracy_up_to"]: row for row in summary["accuracy_against_weight"]}
    assert table[0.0]["questions"] == table[0.25]["questions"] == table[0.5]["questions"] == 1
    assert table[0.5]["weight_share"] == 0.5
    assert table[0.5]["rejection_sampling_share"] == pytest.approx(0.75)


def test_the_first_traces_and_answers_are_weighed_as_if_no_more_had_been_drawn(
    files: dict[str, Path], tmp_path: Path
) -> None:
    """Of four verdicts on a trace, the correct ones come first: 2 of 4 are 2 of 2."""
    weighed, summary = run(files, tmp_path, weights={"k": 2, "m": 2})
    assert list(zip(weighed["question_id"], weighed["k"], strict=True)) == [
        (q, k) for q, k in KEYS if k < 2
    ]
    assert list(weighed["accuracy"]) == [1, 1, 0.5, 0.5, 0, 0]
    assert [row["k"] for row in summary["bounds"]] == [1, 2]
    assert summary["counts"]["answers_verified"] == 12

    for name, table in (("traces", tables.TRACES), ("prior", tables.SCORES)):
        data = store.read_table(files[name], table).to_pylist()
        files[name] = write(tmp_path, table, [row for row in data if row["k"] < 2])
    posterior = store.read_table(files["posterior"], tables.SCORES).to_pylist()
    files["posterior"] = write(tmp_path, tables.SCORES, [r for r in posterior if r["k"] < 2])
    verdicts = store.read_table(files["verdicts"], tables.VERDICTS).to_pylist()
    files["verdicts"] = write(
        tmp_path, tables.VERDICTS, [v for v in verdicts if v["k"] < 2 and v["m"] < 2]
    )
    alone, its_summary = run(files, tmp_path)
    pd.testing.assert_frame_equal(alone, weighed)
    assert its_summary == summary


def test_the_first_correct_answer_ends_the_row(files: dict[str, Path], tmp_path: Path) -> None:
    verdicts = store.read_table(files["verdicts"], tables.VERDICTS).to_pylist()
    turned = [{**v, "m": 3 - v["m"]} for v in verdicts]  # a, k = 0: answers 2 and 3 are correct
    files["verdicts"] = write(tmp_path, tables.VERDICTS, turned)
    weighed, _ = run(files, tmp_path)
    found = store.read_table(tmp_path / "out.parquet", tables.WEIGHTS)["answer_m"].to_pylist()
    assert found == [2, 0, None, 3, 3, None, None, None, None]
    weighed, _ = run(files, tmp_path, weights={"answer": "likelihood"})
    assert weighed["answer_m"].isna().all()


def test_leaking_traces_are_counted_from_the_column_or_else_from_the_text(
    files: dict[str, Path], tmp_path: Path
) -> None:
    traces = store.read_table(files["traces"], tables.TRACES).to_pylist()
    for row, text in zip(
        traces, ["the hint says so", "7" + 20 * " so", "so it is 7"], strict=False
    ):
        row["trace"] = text
    files["traces"] = write(tmp_path, tables.TRACES, traces)
    assert run(files, tmp_path)[1]["shares"]["leaking"] == pytest.approx(2 / 9)
    files["traces"] = write(tmp_path, tables.TRACES, [{**t, "leaking": True} for t in traces])
    assert run(files, tmp_path)[1]["shares"]["leaking"] == 1


def test_all_estimators_that_the_tables_allow_are_compared(
    files: dict[str, Path], tmp_path: Path
) -> None:
    _, summary = run(files, tmp_path)
    table = {(row["ratio"], row["answer"]): row for row in summary["estimators"]}
    assert len(table) == 12
    default = table["geometric_mean", "accuracy"]
    assert default["same_choice"] == 1
    assert default["effective_sample_size"] == summary["effective_sample_size"]["mean"]
    # it picks a's k = 1 (accuracy 1) and b's k = 0 (0.25), and nothing of c
    assert default["chosen_accuracy"] == pytest.approx((1 + 0.25 + 0) / 3)
    # full: a's k = 0 (0.5), b's k = 0; pairs of a: (0, 1) reversed, the other four of a and b alike
    full = table["full", "accuracy"]
    assert full["chosen_accuracy"] == pytest.approx((0.5 + 0.25 + 0) / 3)
    assert full["same_choice"] == pytest.approx(2 / 3)
    assert full["rank_agreement"] == pytest.approx((4 - 1) / 5)
    assert full["pareto_k"] is None  # of nine traces

    del files["verdicts"]
    _, summary = run(files, tmp_path, weights={"answer": "likelihood"})
    assert {row["answer"] for row in summary["estimators"]} == {
        "geometric_likelihood",
        "likelihood",
        "none",
    }
    assert all(row["chosen_accuracy"] is None for row in summary["estimators"])


@pytest.mark.parametrize("name", ["prior", "verdicts"])
def test_a_table_that_is_needed_must_be_given(
    files: dict[str, Path], tmp_path: Path, name: str
) -> None:
    del files[name]
    with pytest.raises(UserError, match=f"--{name} is needed"):
        run(files, tmp_path)


def test_the_likelihood_needs_no_verdicts(files: dict[str, Path], tmp_path: Path) -> None:
    del files["verdicts"]
    weighed, summary = run(files, tmp_path, weights={"answer": "geometric_likelihood"})
    assert weighed["accuracy"].isna().all()
    assert summary["shares"]["correct"] is None
    assert weighed["selected"].sum() == 3


def test_scores_of_other_traces_are_refused(files: dict[str, Path], tmp_path: Path) -> None:
    data = store.read_table(files["prior"], tables.SCORES)
    store.write_table(files["prior"], tables.SCORES, data.slice(1), {})
    with pytest.raises(UserError, match="1 of the traces are missing, first question_id 'c', k 2"):
        run(files, tmp_path)


def test_scores_of_traces_of_another_length_are_refused(
    files: dict[str, Path], tmp_path: Path
) -> None:
    data = store.read_table(files["prior"], tables.SCORES).to_pylist()
    data[0]["n_tokens"] += 1
    changed = pa.Table.from_pylist(data, schema=tables.SCORES.schema)
    store.write_table(files["prior"], tables.SCORES, changed, {})
    with pytest.raises(UserError, match="question_id 'c', k 2 has 11 tokens"):
        run(files, tmp_path)


def test_verdicts_that_pass_over_a_trace_are_refused(
    files: dict[str, Path], tmp_path: Path
) -> None:
    """Four of a trace, one of four, and all."""
    data = store.read_table(files["verdicts"], tables.VERDICTS)
    for passed_over, message in ((4, "0 of 4"), (1, "3 of 4"), (36, "0 of 1")):
        store.write_table(files["verdicts"], tables.VERDICTS, data.slice(passed_over), {})
        with pytest.raises(UserError, match=f"question_id '[ac]', k . has {message} verdicts"):
            run(files, tmp_path)
