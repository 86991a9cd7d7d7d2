"""The verdicts step: any table, any number of workers, killed at any time."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest

from stages import verdicts
from stages.artifacts import store, tables
from stages.common.errors import UserError
from stages.running import origin_of

ROOT = Path(__file__).parents[1]
ADD = json.dumps({"kind": "stdin", "inputs": ["1 2\n"], "outputs": ["3\n"]})


def question(question_id, answer, kind, **more):
    return {
        "question_id": question_id,
        "question": "?",
        "answer": answer,
        "answer_kind": kind,
        "source": "test",
        **more,
    }


def answer(question_id, text, k=0, m=0):
    return {
        "question_id": question_id,
        "k": k,
        "m": m,
        "seed": 1,
        "token_ids": [1],
        "answer": text,
        "n_tokens": 1,
        "finish_reason": "stop",
    }


QUESTIONS = [
    question("sum", "3", "math"),
    question("form", "(x+1)^2", "math"),
    question("odd", "t(0,4]", "math"),
    question("letter", "B", "choice", options=["gold", "iron"]),
    question("program", None, "code", tests=ADD),
    question("essay", None, "none"),
    question("golds", None, "math", tests='{"kind": "math", "golds": ["1", "2"]}'),
]
ANSWERS = [
    (answer("sum", r"<|begin_of_solution|>\boxed{3}<|end_of_solution|>"), "correct"),
    (answer("sum", r"\boxed{4}", m=1), "incorrect"),
    (answer("sum", "I do not know", m=2), "incorrect"),
    (answer("sum", r"\boxed{9^{9^{9^{9}}}}", m=3), "error"),
    (answer("form", r"\boxed{x^2+2x+1}"), "correct"),
    (answer("form", r"\boxed{x^2+2x+1}", k=1), "correct"),
    (answer("odd", r"\boxed{t(0,4]}"), "error"),
    (answer("letter", r"\boxed{\text{iron}}"), "correct"),
    (answer("program", "```python\nprint(sum(map(int, input().split())))\n```"), "correct"),
    (answer("program", "```python\nprint(4)\n```", m=1), "incorrect"),
    (answer("essay", "Once upon a time"), "error"),
    (answer("golds", r"\boxed{2}"), "correct"),
]


@pytest.fixture
def given(tmp_path):
    """Write tables of questions and answers, and give the step's arguments."""

    def write(questions=QUESTIONS, answers=None, name="given"):
        answers = [row for row, _ in ANSWERS] if answers is None else answers
        paths = []
        for table, rows in ((tables.QUESTIONS, questions), (tables.ANSWERS, answers)):
            path = tmp_path / f"{name}-{table.name}.parquet"
            data = pa.Table.from_pylist(rows, schema=table.schema)
            store.write_table(path, table, data, {})
            paths.append(str(path))
        return ["--questions", paths[0], "--answers", paths[1]]

    return write


def run(arguments, out, *more):
    verdicts.main([*arguments, "--out", str(out), *more])
    rows = store.read_table(out, tables.VERDICTS).to_pylist()
    return {tuple(row[name] for name in tables.VERDICTS.key): row for row in rows}


def test_every_answer_gets_its_verdict(given, tmp_path, capsys):
    found = run(given(), tmp_path / "v.parquet", "--workers", "2")
    expected = {(row["question_id"], row["k"], row["m"]): verdict for row, verdict in ANSWERS}
    assert {key: row["verdict"] for key, row in found.items()} == expected
    assert list(found) == list(expected)  # in the order of the answers
    assert found["form", 0, 0]["extracted"] == "x^2+2x+1"
    told = capsys.readouterr().err
    assert "question 'odd' cannot be verified" in told
    assert "12 of 12 answers" in told


def test_provenance_names_the_sandbox_and_counts_the_verdicts(given, tmp_path):
    run(given(), tmp_path / "v.parquet")
    left = store.read_provenance(tmp_path / "v.parquet")
    assert left["step"] == "verdicts"
    assert left["sandbox"] in ("bubblewrap", "seccomp+landlock")
    assert left["verdicts"] == {"correct": 6, "incorrect": 3, "error": 3}
    assert list(left["unreadable_references"]) == ["odd"]


def test_verdicts_are_the_same_for_any_workers_and_order(given, tmp_path):
    answers = [row for row, _ in ANSWERS]
    one = run(given(), tmp_path / "one.parquet", "--workers", "1")
    other = run(given(answers=answers[::-1], name="r"), tmp_path / "r.parquet", "--workers", "3")
    for row in (*one.values(), *other.values()):
        row.pop("seconds")
    assert one == other


def test_more_answers_later_keep_the_first_verdicts(given, tmp_path, monkeypatch):
    arguments = given(answers=[row for row, _ in ANSWERS[:5]])
    monkeypatch.setattr(origin_of.digests, "content", lambda path: "same, or more of them")
    run(arguments, tmp_path / "v.parquet")
    judged = []
    pool_run = verdicts.Pool.run

    def record(self, tasks):
        for key, verdict in pool_run(self, tasks):
            judged.append(key)
            yield key, verdict

    monkeypatch.setattr(verdicts.Pool, "run", record)
    found = run(given(), tmp_path / "v.parquet")
    assert len(found) == len(ANSWERS)
    assert len(judged) == len(ANSWERS) - 5 - 1  # one is of an unreadable reference


def test_a_killed_step_goes_on_where_it_stood(given, tmp_path):
    questions = [question(str(i), f"(x+{i})^2", "math") for i in range(60)]
    answers = [answer(str(i), rf"\boxed{{x^2+{2 * i}x+{i * i}}}") for i in range(60)]
    arguments = given(questions, answers)
    out, journal = tmp_path / "v.parquet", tmp_path / "v.parquet.partial/_rows"
    command = [sys.executable, "-m", "stages.verdicts", *arguments, "--out", str(out)]
    killed = subprocess.Popen([*command, "--workers", "1"], cwd=ROOT, stderr=subprocess.DEVNULL)
    with killed:
        while killed.poll() is None and (
            not journal.exists() or len(journal.read_bytes().splitlines()) < 10
        ):
            time.sleep(0.01)
        os.kill(killed.pid, signal.SIGKILL)
    assert not out.exists()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "already done" in done.stderr
    found = store.read_table(out, tables.VERDICTS).to_pylist()
    assert [row["verdict"] for row in found] == ["correct"] * 60
    assert not journal.exists()


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (question("x", None, "math"), "no reference answer"),
        (question("x", "", "math"), "no reference answer"),
        (question("x", "1", "poem"), "'poem'"),
        (question("x", None, "code"), "no tests"),
        (question("x", None, "code", tests="{"), "no JSON"),
        (question("x", None, "code", tests='{"kind": "stdin"}'), "inputs and outputs"),
        (question("x", "Q", "choice"), "not a letter"),
        (question("x", None, "choice"), "no reference answer"),
        (question("x", "1", "math", tests='{"kind": "math", "unit": 1, "x": 2}'), "unknown"),
    ],
)
def test_bad_references_are_refused_by_name_before_the_first_answer(given, tmp_path, row, said):
    arguments = given([*QUESTIONS, row])
    with pytest.raises(UserError) as refused:
        run(arguments, tmp_path / "v.parquet")
    assert "question 'x'" in str(refused.value)
    assert arguments[1] in str(refused.value)
    assert said in str(refused.value)
    assert not (tmp_path / "v.parquet").exists()


def test_answers_to_unknown_questions_are_refused(given, tmp_path):
    with pytest.raises(UserError, match="question 'who'"):
        run(given(answers=[answer("who", "?")]), tmp_path / "v.parquet")


@pytest.mark.parametrize("column", ["answer_kind", "question_id"])
def test_a_table_without_a_column_is_refused(given, tmp_path, column):
    import pyarrow.parquet as pq

    arguments = given()
    data = pq.read_table(arguments[1]).drop_columns([column])
    pq.write_table(data, arguments[1])
    with pytest.raises(UserError, match=column):
        run(arguments, tmp_path / "v.parquet")


def test_answers_are_read_piece_by_piece(given, tmp_path):
    rows = [answer("sum", rf"\boxed{{{i}}}", k=i) for i in range(50)]
    path = Path(given(answers=rows)[3])
    pieces = store.iter_batches(path, tables.ANSWERS, ("answer",), rows=20)
    assert [len(piece) for piece in itertools.islice(pieces, 3)] == [20, 20, 10]


def test_a_null_in_a_later_piece_is_named_by_its_row(tmp_path):
    import pyarrow.parquet as pq

    rows = [answer("sum", "x", k=i) for i in range(30)]
    rows[25]["answer"] = None
    bare = pa.schema(field.with_nullable(True) for field in tables.ANSWERS.schema)
    pq.write_table(pa.Table.from_pylist(rows, schema=bare), tmp_path / "a.parquet")
    with pytest.raises(UserError, match="row 25"):
        list(store.iter_batches(tmp_path / "a.parquet", tables.ANSWERS, ("answer",), rows=10))
