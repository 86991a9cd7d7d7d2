"""Questions are made, or read from every format that is promised; bad ones are named."""

import json
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from stages import questions
from stages.artifacts import store, tables
from stages.common.errors import UserError
from stages.data.addition import addition_trace, additions
from stages.experiments.settings import Addition

CONVERSATION = {
    "system": "Think first.",
    "conversations": [
        {"from": "user", "value": "What is 2+2?"},
        {
            "from": "assistant",
            "value": "<|begin_of_thought|>\n\nTwo and two.\n\n<|end_of_thought|>\n\n"
            "<|begin_of_solution|>\n\nIt is \\boxed{4}.\n\n<|end_of_solution|>",
        },
    ],
}
OURS = {"question_id": "q1", "question": "What is 3+3?", "answer": "6"}


def write(path: Path, rows: list[dict]) -> Path:
    if path.suffix == ".parquet":
        pd.DataFrame(rows).to_parquet(path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def make(tmp_path: Path, **section: object) -> tuple[list[dict], list[dict]]:
    out, held_out = tmp_path / "out.parquet", tmp_path / "held.parquet"
    settings = json.dumps({"questions": section})
    questions.main(["--settings", settings, "--out", str(out), "--held-out", str(held_out)])
    return tuple(store.read_table(p, tables.QUESTIONS).to_pylist() for p in (out, held_out))


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_conversations_of_the_hub(tmp_path: Path, suffix: str) -> None:
    file = write(tmp_path / f"stratos.{suffix}", [CONVERSATION] * 2)
    rows, _ = make(tmp_path, file=str(file))
    assert rows[0] == {
        "question_id": "stratos-000001",
        "question": "What is 2+2?",
        "answer": "4",
        "answer_kind": "math",
        "solution": "It is \\boxed{4}.",
        "trace": "Two and two.",
        "source": "stratos",
        "options": None,
        "tests": None,
    }
    assert rows[1]["question_id"] == "stratos-000002"


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_our_own_columns(tmp_path: Path, suffix: str) -> None:
    rows, _ = make(tmp_path, file=str(write(tmp_path / f"own.{suffix}", [OURS])))
    assert rows[0]["question_id"] == "q1"
    assert (rows[0]["answer_kind"], rows[0]["source"], rows[0]["trace"]) == ("math", "own", None)


def test_values_that_are_easily_lost(tmp_path: Path) -> None:
    """An id of 0, a number as answer, and a line separator inside a text."""
    row = {"question_id": 0, "question": "one\u2028two\x85three", "answer": 6}
    (tmp_path / "q.jsonl").write_text(json.dumps(row, ensure_ascii=False) + "\n")
    rows, _ = make(tmp_path, file=str(tmp_path / "q.jsonl"))
    assert (rows[0]["question_id"], rows[0]["answer"]) == ("0", "6")
    assert rows[0]["question"] == row["question"]


def test_tests_of_a_program_may_be_json_or_its_text(tmp_path: Path) -> None:
    tests = {"kind": "stdin", "inputs": ["1\n"], "outputs": ["2\n"]}
    asked = [{"question": "q", "solution": "s", "tests": t} for t in (tests, json.dumps(tests))]
    rows, _ = make(tmp_path, file=str(write(tmp_path / "q.jsonl", asked)))
    assert [row["answer_kind"] for row in rows] == ["code", "code"]
    assert [json.loads(row["tests"]) for row in rows] == [tests, tests]


def test_a_dataset_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub is not there in tests: two of its functions are replaced, the files are real."""
    import huggingface_hub

    files = {"train-0": 1, "train-1": 2, "test-0": 5}
    for name, count in files.items():
        write(tmp_path / f"{name}.parquet", [CONVERSATION] * count)
    listed = [SimpleNamespace(rfilename=f"{name}.parquet") for name in files]
    info = SimpleNamespace(sha="abc", siblings=[*listed, SimpleNamespace(rfilename="README.md")])
    asked = []

    class Hub:
        def dataset_info(self, name: str, revision: str) -> SimpleNamespace:
            asked.append((name, revision))
            return info

    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    monkeypatch.setattr(
        huggingface_hub, "hf_hub_download", lambda d, name, **_: str(tmp_path / name)
    )
    rows, _ = make(tmp_path, dataset="owner/stratos", revision="abc")
    assert asked == [("owner/stratos", "abc")]
    assert [row["question_id"] for row in rows] == [f"owner/stratos-00000{n}" for n in (1, 2, 3)]
    with pytest.raises(UserError, match=r"'validation' in it .* files are train-0"):
        make(tmp_path, dataset="owner/stratos", split="validation")
    made = store.read_provenance(tmp_path / "out.parquet")
    assert made["dataset_revision"] == "abc"


def test_a_solution_without_a_box_cannot_be_verified(tmp_path: Path) -> None:
    turn = CONVERSATION["conversations"][1]["value"].replace("\\boxed{4}", "four")
    asked = {"conversations": [CONVERSATION["conversations"][0], {"from": "assistant"}]}
    asked["conversations"][1]["value"] = turn
    rows, _ = make(tmp_path, file=str(write(tmp_path / "q.jsonl", [asked])))
    assert (rows[0]["answer"], rows[0]["answer_kind"]) == (None, "none")


def test_limit_and_held_out_are_drawn_by_the_seed(tmp_path: Path) -> None:
    rows = [{**OURS, "question_id": f"q{n:03d}"} for n in range(100)]
    file = str(write(tmp_path / "q.jsonl", rows))
    training, held_out = make(tmp_path, file=file, limit=30, held_out=10)
    assert (len(training), len(held_out)) == (20, 10)
    names = [row["question_id"] for row in training]
    assert names == sorted(names) and names != [f"q{n:03d}" for n in range(20)]
    assert not set(names) & {row["question_id"] for row in held_out}
    assert make(tmp_path, file=file, limit=30, held_out=10)[0] == training


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([OURS, OURS], "question_id 'q1' stands in rows 1 and 2"),
        ([], "holds no question"),
        ([{**OURS, "anwser": "6"}], "row 1: column 'anwser' is not known"),
        ([{"answer": "6"}], "row 1: column 'question' is missing"),
        ([OURS, {"question": "q?"}], "row 2: neither answer nor solution is there"),
        ([{**OURS, "answer_kind": "maths"}], "answer_kind 'maths' is none of math, choice"),
        ([{**OURS, "answer_kind": "code"}], "answer_kind is code, but there are no tests"),
        ([{"question": "q", "solution": "s", "answer_kind": "math"}], "there is no answer"),
        ([{"conversations": [{"from": "user", "value": "q"}]}], "a turn from user and one from"),
        ([{"conversations": "q"}], "row 1: conversations are a list of turns"),
        ([OURS, [1, 2]], "row 2: a row is an object of columns and values"),
        ([{**OURS, "question": 5}], "row 1: question must be a text, not 5"),
        ([{**OURS, "question": None}], "row 1: question must be a text, not None"),
        ([{**OURS, "trace": ["a"]}], "row 1: trace must be a text"),
        ([{**OURS, "answer": "B", "options": "x"}], "row 1: options must be a list of texts"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, rows: list[dict], message: str) -> None:
    file = write(tmp_path / "q.jsonl", rows)
    with pytest.raises(UserError, match=message):
        make(tmp_path, file=str(file))
    assert not (tmp_path / "out.parquet").exists()


def test_a_line_that_is_no_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text(json.dumps(OURS) + "\n{oops\n")
    with pytest.raises(UserError, match=r"q\.jsonl: line 2 is no JSON"):
        make(tmp_path, file=str(tmp_path / "q.jsonl"))


@pytest.mark.parametrize(("name", "kind"), [("q.jsonl", "JSON in UTF-8"), ("q.parquet", "Parquet")])
def test_a_file_of_another_kind_is_named(tmp_path: Path, name: str, kind: str) -> None:
    (tmp_path / name).write_bytes(b'{"question": "\xe9"}')
    with pytest.raises(UserError, match=rf"{name}: cannot be read as {kind}"):
        make(tmp_path, file=str(tmp_path / name))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such file"):
        make(tmp_path, file=str(tmp_path / "nowhere.jsonl"))


def test_more_held_out_than_there_are_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "q.jsonl", [OURS])
    with pytest.raises(UserError, match="held_out is 1, but there are 1 questions in all"):
        make(tmp_path, file=str(file), held_out=1)


# Additions ---------------------------------------------------------------------------------------


def test_the_trace_adds_digits_from_the_right() -> None:
    assert addition_trace([482, 937, 158]) == "0+2+7+8=17\n1+8+3+5=17\n1+4+9+1=15\n1\n=1577"


def test_additions_are_distinct_right_and_the_same_for_a_seed() -> None:
    settings = Addition(traced=50, answer_only=100, held_out=30)
    training, held_out = additions(settings, seed=4)
    assert (training, held_out) == additions(settings, seed=4) != additions(settings, seed=5)
    assert [row["trace"] is not None for row in training] == [True] * 50 + [False] * 100
    rows = training + held_out
    assert len({row["question"] for row in rows}) == len({r["question_id"] for r in rows}) == 180
    for row in rows:
        numbers = [int(n) for n in row["question"].split("+")]
        assert 2 <= len(numbers) <= 4 and all(10 <= n <= 99999 for n in numbers)
        assert row["answer"] == str(sum(numbers))
        if row["trace"]:
            *lines, last = row["trace"].split("\n")
            assert last == f"={row['answer']}"
            assert "".join(line[-1] for line in reversed(lines)) == row["answer"]
