"""The step joins tables by key, counts every rule, and refuses tables that do not fit."""

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
from tests.test_weights import (
    A0,
    A1,
    ACCURACY,
    EXACT,
    GEOMETRIC,
    KEYS,
    LENGTH,
    P_A,
    POSTERIOR,
    PRIOR,
    SOLUTION,
    E,
    questions,
)


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
