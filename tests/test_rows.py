"""Training rows: of the teacher, and of sampled traces with the tokens they were sampled as."""

import json
from pathlib import Path

import pyarrow as pa
import pytest

from stages import prompts, rows
from stages.artifacts import store, tables
from stages.common.errors import UserError
from stages.running.command import load_tokenizer

PLAIN = {"prompts": {"template": "plain"}}
END, EOS = "<|end_of_thought|>", "<|im_end|>"

QUESTIONS = [
    {"question_id": "a", "question": "1+1", "answer": "2", "trace": "0+1=01+1=02"},
    {"question_id": "b", "question": "2+2", "answer": "4", "trace": "0+2=02+2=04"},
    {"question_id": "c", "question": "3+3", "answer": "6", "trace": None},
    {"question_id": "d", "question": "4+4", "answer": "8", "trace": None},
]


@pytest.fixture(scope="module")
def encode(tiny_model: Path):
    tokenizer = load_tokenizer(tiny_model)
    return lambda text: prompts.encode(tokenizer, text)


def write(folder: Path, table: tables.Table, records: list[dict]) -> Path:
    path = folder / f"{table.name}.parquet"
    store.write_table(path, table, pa.Table.from_pylist(records, schema=table.schema), {})
    return path


@pytest.fixture
def files(tmp_path: Path, encode) -> dict[str, Path]:
    """One trace per question: a's and c's are selected; answer 1 of each is the first correct."""
    full = [{**q, "answer_kind": "math", "source": "test", "solution": None} for q in QUESTIONS]
    traces, weights, answers = [], [], []
    for q in QUESTIONS:
        key = {"question_id": q["question_id"], "k": 0}
        text = f"0+{q['question'][0]}={END}"
        ids = [*encode(text), 9]  # a token that no tokenizer would put here
        common = {"seed": 0, "finish_reason": "stop", "n_tokens": len(ids)}
        traces.append({**key, **common, "token_ids": ids, "trace": text + "9", "closed": True})
        chosen = q["question_id"] in "ac"
        judged = {"accuracy": 2 / 3, "log_ratio": 0.0, "log_answer": 0.0, "log_rho": 0.0}
        weights.append(
            {**key, **judged, "n_tokens": len(ids), "weight": 0.5, "candidate": True}
            | {"selected": chosen, "row_weight": 0.5 * chosen, "answer_m": 1}
        )
        for m in range(3):
            text = rf"\boxed{{{m}}}{prompts.END_SOLUTION}"
            ids = encode(text)
            answers.append(
                {**key, **common, "m": m, "token_ids": ids, "answer": text, "n_tokens": len(ids)}
            )
    return {
        "questions": write(tmp_path, tables.QUESTIONS, full),
        "traces": write(tmp_path, tables.TRACES, traces),
        "weights": write(tmp_path, tables.WEIGHTS, weights),
        "answers": write(tmp_path, tables.ANSWERS, answers[::-1]),
    }


def make(files: dict[str, Path], model: Path, **settings: object) -> list[dict]:
    out = files["questions"].parent / "rows.parquet"
    flags = [part for name, path in files.items() for part in (f"--{name}", str(path))]
    given = json.dumps({**PLAIN, **settings})
    rows.main(["--settings", given, *flags, "--tokenizer", str(model), "--out", str(out)])
    found = store.read_table(out, tables.ROWS).to_pylist()
    for row in found:
        assert row["n_tokens"] == len(row["token_ids"]) > row["n_prompt_tokens"] > 0
    return found


def test_teacher_rows_of_the_initial_model(files, tiny_model: Path, encode) -> None:
    made = make({"questions": files["questions"]}, tiny_model, role="initial")
    assert [(r["question_id"], r["origin"], r["k"], r["weight"]) for r in made] == [
        ("a", "teacher", None, 1.0),
        ("b", "teacher", None, 1.0),
    ]
    first = made[0]
    assert first["prompt"] == "<|im_start|>1+1<|begin_of_thought|>"
    solution = r"<|begin_of_solution|>\boxed{2}<|end_of_solution|>"
    assert first["response"] == f"0+1=01+1=02{END}{solution}{EOS}"
    assert first["token_ids"] == encode(first["prompt"]) + encode(first["response"])


def test_teacher_rows_of_the_posterior_see_the_hint_and_end_with_the_thought(
    files, tiny_model: Path
) -> None:
    made = make({"questions": files["questions"]}, tiny_model, role="posterior")
    assert made[0]["prompt"] == "<|im_start|>1+1<hint>2</hint><|begin_of_thought|>"
    assert made[0]["response"] == f"0+1=01+1=02{END}"


def test_rows_of_the_final_model(files, tiny_model: Path, encode) -> None:
    made = make(files, tiny_model)
    assert [(r["question_id"], r["origin"], r["k"], r["weight"]) for r in made] == [
        ("a", "teacher", None, 1.0),
        ("b", "teacher", None, 2.0),  # once as the teacher's, once standing in
        ("a", "posterior", 0, 0.5),
        ("c", "posterior", 0, 0.5),
    ]
    sampled = made[2]
    # the tokens as they were sampled, the first correct answer, and the end of the turn
    assert sampled["token_ids"] == [
        *encode("<|im_start|>1+1<|begin_of_thought|>"),
        *encode(f"0+1={END}"),
        9,
        *encode(r"\boxed{1}<|end_of_solution|>"),
        *encode(EOS),
    ]


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({"rows": {"teacher": False}}, [("b", 1.0), ("a", 0.5), ("c", 0.5)]),
        ({"weights": {"no_candidate": "drop"}}, [("a", 1.0), ("b", 1.0), ("a", 0.5), ("c", 0.5)]),
        (
            {"rows": {"teacher": False}, "weights": {"no_candidate": "drop"}},
            [("a", 0.5), ("c", 0.5)],
        ),
        # without a selected trace b weighs 0: only normalize: question gives it a stand-in unasked
        ({"weights": {"normalize": "grpo"}}, [("a", 1.0), ("b", 1.0), ("a", 0.5), ("c", 0.5)]),
        (
            {"weights": {"normalize": "none", "no_candidate": "teacher"}},
            [("a", 1.0), ("b", 2.0), ("a", 0.5), ("c", 0.5)],
        ),
    ],
)
def test_teacher_rows_are_mixed_in_and_stand_in_as_set(
    files, tiny_model: Path, settings: dict, wanted: list
) -> None:
    made = make(files, tiny_model, **settings)
    assert [(r["question_id"], r["weight"]) for r in made] == wanted


def test_answers_are_needed_where_rows_end_with_them(files, tiny_model: Path) -> None:
    lacking = {name: path for name, path in files.items() if name != "answers"}
    with pytest.raises(UserError, match="--answers is needed"):
        make(lacking, tiny_model)
    kept = [
        a
        for a in store.read_table(files["answers"], tables.ANSWERS).to_pylist()
        if (a["question_id"], a["m"]) != ("c", 1)
    ]
    write(files["answers"].parent, tables.ANSWERS, kept)
    with pytest.raises(UserError, match="question_id='c', k=0, m=1 is missing"):
        make(files, tiny_model)


def test_a_row_without_a_sampled_answer_ends_with_the_reference_solution(
    files, tiny_model: Path
) -> None:
    weights = store.read_table(files["weights"], tables.WEIGHTS).to_pylist()
    files["weights"] = write(
        files["weights"].parent, tables.WEIGHTS, [{**w, "answer_m": None} for w in weights]
    )
    made = make({name: files[name] for name in ("questions", "traces", "weights")}, tiny_model)
    assert made[-1]["response"].endswith(
        rf"<|begin_of_solution|>\boxed{{6}}<|end_of_solution|>{EOS}"
    )


def test_rollouts_train_the_posterior_on_the_thought_alone(files, tiny_model: Path) -> None:
    settings = {"role": "posterior", "round": 2, "weights": {"no_candidate": "drop"}}
    made = make(files, tiny_model, traces={"proposal": "prior"}, **settings)
    assert [(r["question_id"], r["origin"]) for r in made] == [("a", "prior"), ("c", "prior")]
    assert made[0]["prompt"] == "<|im_start|>1+1<hint>2</hint><|begin_of_thought|>"
    assert made[0]["response"] == f"0+1={END}9"


def test_no_row_at_all_is_refused(files, tiny_model: Path) -> None:
    bare = [
        {**q, "trace": None}
        for q in store.read_table(files["questions"], tables.QUESTIONS).to_pylist()
    ]
    path = write(files["questions"].parent, tables.QUESTIONS, bare)
    with pytest.raises(UserError, match="no training row for the initial model"):
        make({"questions": path}, tiny_model, role="initial")


def test_a_selected_trace_that_is_missing_is_named(files, tiny_model: Path) -> None:
    data = store.read_table(files["traces"], tables.TRACES)
    store.write_table(files["traces"], tables.TRACES, data.slice(1), {})
    with pytest.raises(UserError, match="question_id='a', k=0 is missing"):
        make(files, tiny_model)


def test_a_batch_without_a_selected_trace_is_passed_over(files, tiny_model: Path) -> None:
    """Here no trace is selected at all: the teacher's remain."""
    weights = store.read_table(files["weights"], tables.WEIGHTS).to_pylist()
    none = [{**row, "selected": False, "row_weight": 0.0, "answer_m": None} for row in weights]
    write(files["weights"].parent, tables.WEIGHTS, none)
    made = make(files, tiny_model)
    assert {row["origin"] for row in made} == {"teacher"}


def test_batches_are_read_where_only_some_hold_a_selected_trace(
    files, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = make(files, tiny_model)
    monkeypatch.setattr(rows, "ROWS_READ", 1)  # a's and c's traces are selected, b's is not
    assert make(files, tiny_model) == whole
