"""Questions are made, or read from every format that is promised; bad ones are named."""

import gzip
import json
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from stages import questions
from stages.artifacts import store, tables
from stages.common.errors import UserError
from stages.data.addition import addition_trace, additions
from stages.experiments.sources import Addition

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
        "system": "Think first.",
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
    with pytest.raises(UserError, match=r"'validation' in its name .* files are train-0"):
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
        ([OURS, OURS], r"duplicate key question_id='q1' \(rows 1 and 2\)"),
        ([], "q: no questions"),
        ([{**OURS, "anwser": "6"}], "row 1: unknown column 'anwser'"),
        ([{"answer": "6"}], "row 1: columns answer fit no format"),
        ([OURS, {"question": "q?"}], "row 2: answer and solution are both missing"),
        ([{**OURS, "answer_kind": "maths"}], "answer_kind is 'maths'; give one of math, choice"),
        ([{**OURS, "answer_kind": "code"}], "answer_kind is code, but tests are missing"),
        ([{"question": "q", "solution": "s", "answer_kind": "math"}], "answer is missing"),
        ([{"conversations": [{"from": "user", "value": "q"}]}], "row 1: conversations must be one"),
        ([OURS, [1, 2]], "row 2: a row must be an object of columns and values"),
        ([{**OURS, "question": None}], "row 1: question is missing"),
        ([{**OURS, "question": " "}], "row 1: question is empty"),
        ([{**OURS, "answer": ""}], "row 1: answer is empty; write null"),
        ([{**OURS, "answer": float("nan")}], "row 1: answer is NaN; write null"),
        ([{**OURS, "answer": ["6"]}], r"row 1: answer must be a text or a number, not \['6'\]"),
        ([{**OURS, "answer": True}], "row 1: answer must be a text or a number, not True"),
        ([{**OURS, "question": "a\0b"}], "row 1: question has a NUL character at position 1"),
        ([{**OURS, "question": "a\ud800"}], "row 1: question has a lone surrogate at position 1"),
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
    with pytest.raises(UserError, match=r"q\.jsonl: line 2 is not valid JSON"):
        make(tmp_path, file=str(tmp_path / "q.jsonl"))


@pytest.mark.parametrize(("name", "kind"), [("q.jsonl", "JSONL"), ("q.parquet", "PARQUET")])
def test_a_file_of_another_kind_is_named(tmp_path: Path, name: str, kind: str) -> None:
    (tmp_path / name).write_bytes(b'{"question": "\xe9"}')
    with pytest.raises(UserError, match=rf"{name}: not valid {kind}"):
        make(tmp_path, file=str(tmp_path / name))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        make(tmp_path, file=str(tmp_path / "nowhere.jsonl"))


def test_an_unknown_kind_of_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"q\.xlsx: unknown kind of file; the name must end in \.j"):
        make(tmp_path, file=str(tmp_path / "q.xlsx"))


@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv", "parquet"])
@pytest.mark.parametrize("zipped", [False, True])
def test_kinds_of_files(tmp_path: Path, suffix: str, zipped: bool) -> None:
    """With a byte-order mark, an index of pandas, line breaks in a text, and a number as answer."""
    table = pd.DataFrame([{"question": 'one,\n"two"', "answer": 6}], index=[7])
    path = tmp_path / f"q.{suffix}"
    if suffix == "parquet":
        table.to_parquet(path)
    elif suffix == "csv":
        table.to_csv(path, encoding="utf-8-sig")
    else:
        text = table.to_json(orient="records", lines=suffix == "jsonl")
        path.write_text(text, encoding="utf-8-sig")
    if zipped:
        content = path.read_bytes()
        path = tmp_path / f"q.{suffix}.gz"
        path.write_bytes(gzip.compress(content))
    rows, _ = make(tmp_path, file=str(path))
    assert (rows[0]["question"], rows[0]["answer"]) == ('one,\n"two"', "6")
    assert rows[0]["question_id"] == "q-000001"


def test_a_row_of_csv_with_too_many_cells_is_named(tmp_path: Path) -> None:
    (tmp_path / "q.csv").write_text("question,answer\nq,1\nq, again,2\n")
    with pytest.raises(UserError, match=r"q\.csv: row 2 has 3 cells, the header has 2"):
        make(tmp_path, file=str(tmp_path / "q.csv"))


def test_whole_solutions_as_answers_are_noticed_at_once(tmp_path: Path) -> None:
    worked = "Natalia sold 48/2 = 24 clips in May, and so she sold 48+24 = 72 altogether. "
    rows = [{"question": "q", "answer": worked * 40}] * 2 + [{"question": "q", "answer": "72"}]
    with pytest.raises(UserError, match="2 of 3 answers cannot be verified, the first"):
        make(tmp_path, file=str(write(tmp_path / "q.jsonl", rows)))


def test_a_reference_that_cannot_be_read_is_named_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    rows = [{"question": "q", "answer": a} for a in ("1", "2", "((((" * 300)]
    made, _ = make(tmp_path, file=str(write(tmp_path / "q.jsonl", rows)))
    assert [row["answer_kind"] for row in made] == ["math", "math", "none"]
    said = capsys.readouterr().err
    assert "question_id='q-000003' cannot be verified" in said
    assert "3 questions, 0 with a trace, 3 without, 1 of all without a verifiable answer" in said
    counts = store.read_provenance(tmp_path / "out.parquet")["counts"]
    expected = {"with_trace": 0, "without_trace": 3, "unverifiable": 1, "dropped": {}}
    assert counts == expected


def test_held_out_questions_of_a_file_are_not_trained_on(tmp_path: Path) -> None:
    training = write(tmp_path / "train.jsonl", [{"question": q, "answer": 1} for q in "abc"])
    held_out = write(tmp_path / "test.jsonl", [{"question": q, "answer": 1} for q in "cd"])
    rows, held = make(tmp_path, file=str(training), held_out_file=str(held_out))
    assert [row["question"] for row in rows] == ["a", "b"]
    assert [row["question_id"] for row in held] == ["test-000001", "test-000002"]
    counts = store.read_provenance(tmp_path / "out.parquet")["counts"]
    assert counts["dropped"] == {"also in questions.held_out_file": 1}


def test_gsm8k_with_a_third_of_its_solutions_as_traces(tmp_path: Path, shared_data: Path) -> None:
    file = str(shared_data / "benchmarks" / "gsm8k_train.jsonl")
    rows, held_out = make(tmp_path, file=file, limit=330, held_out=30, traced_fraction=1 / 3)
    assert (len(rows), len(held_out)) == (300, 30)
    with_trace = [row for row in rows if row["trace"]]
    assert len(with_trace) == 100
    assert all(row["solution"] is None and row["answer_kind"] == "math" for row in rows)
    assert all(row["trace"].endswith(f"\\boxed{{{row['answer']}}}") for row in with_trace)
    assert not any("<<" in row["trace"] or "####" in row["trace"] for row in with_trace)


def test_more_held_out_than_there_are_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "q.jsonl", [OURS])
    with pytest.raises(UserError, match="held_out is 1, but there are only 1 questions"):
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


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"numbers": (4, 2)}, r"numbers: \[4, 2\] is reversed"),
        ({"digits": (5, 1)}, r"digits: \[5, 1\] is reversed"),
        ({"numbers": (1, 1), "digits": (1, 1)}, "only 9 distinct ones exist"),
    ],
)
def test_additions_that_do_not_exist_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Addition(**settings)
