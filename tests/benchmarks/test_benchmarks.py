"""Every benchmark's loader on real files, or on small files in the benchmark's official format."""

import base64
import csv
import json
import pickle
import re
import zlib
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages import benchmarks
from stages.benchmarks import held_out, livecodebench
from stages.common.errors import UserError
from stages.data.addition import additions
from stages.experiments.sources import Addition

DATA = Path(__file__).parents[3] / "shared" / "data" / "benchmarks"


def load(name, path, limit=None):
    return benchmarks.load(benchmarks.find(name), path, limit)


def real(name):
    if not DATA.exists():
        pytest.skip(f"{DATA} is not there: the real benchmark files cannot be read")
    return DATA / name


def write_jsonl(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


# --------------------------------------------------------------------------------- registry


def test_all_benchmarks_are_found():
    assert set(benchmarks.registry()) == {
        *("math500", "aime24", "aime25", "amc23", "olympiadbench", "gpqa_diamond", "mmlu_pro"),
        *("livecodebench_easy", "livecodebench_medium", "livecodebench_hard", "gsm8k", "held_out"),
    }


def test_samples_and_groups_are_those_of_the_paper():
    samples = {b.name: b.samples for b in benchmarks.registry().values()}
    assert samples["aime24"] == samples["aime25"] == samples["amc23"] == 32
    assert samples["math500"] == samples["olympiadbench"] == 2
    assert samples["gpqa_diamond"] == samples["livecodebench_hard"] == 8
    assert samples["mmlu_pro"] == 1
    groups = Counter(b.group for b in benchmarks.registry().values())
    assert groups == {"math": 5, "other": 5, None: 2}


def test_every_hub_dataset_is_pinned_to_a_commit():
    for benchmark in benchmarks.registry().values():
        if benchmark.hub:
            assert len(benchmark.hub.revision) == 40 and int(benchmark.hub.revision, 16)


def test_the_error_for_an_unknown_name_lists_the_known_names():
    with pytest.raises(UserError, match=r"unknown benchmark 'math5000'; known are .*math500"):
        benchmarks.find("math5000")


def test_a_new_benchmark_is_one_file_and_no_other_change(tmp_path, monkeypatch):
    (tmp_path / "primes.py").write_text(
        "from stages.benchmarks import Benchmark, Item\n"
        "def read(row, number):\n"
        "    return Item(str(number), row['q'], row['q'], row['a'], 'math')\n"
        "BENCHMARKS = (Benchmark('primes', 'Primes', read, samples=3),)\n"
    )
    monkeypatch.setattr(benchmarks, "__path__", [*benchmarks.__path__, str(tmp_path)])
    benchmarks.registry.cache_clear()
    try:
        source = write_jsonl(tmp_path / "p.jsonl", {"q": "first prime?", "a": "2"})
        assert load("primes", source)[0].answer == "2"
    finally:
        benchmarks.registry.cache_clear()


# ------------------------------------------------------------------------------- real files


@pytest.mark.parametrize(
    ("name", "file", "items", "number", "answer"),
    [
        ("math500", "math500.jsonl", 500, 0, r"\left( 3, \frac{\pi}{2} \right)"),
        ("aime24", "aime24.jsonl", 30, 0, "204"),
        ("aime25", "aime25.jsonl", 30, 0, "70"),
        ("amc23", "amc23.jsonl", 40, 0, "27"),
        ("olympiadbench", "olympiadbench.jsonl", 675, 5, "(1,8,19), (2,7,13), (4,5,7)"),
        ("gsm8k", "gsm8k_test.jsonl", 1319, 0, "18"),
    ],
)
def test_real_files_load_whole(name, file, items, number, answer):
    loaded = load(name, real(file))
    assert len(loaded) == items
    assert loaded[number].answer == answer
    assert all(i.answer and i.question in i.prompt and r"\boxed{}" in i.prompt for i in loaded)


def test_the_instruction_stands_before_the_problem_save_in_aime25():
    before, after = load("aime24", real("aime24.jsonl"))[0], load("aime25", real("aime25.jsonl"))[0]
    assert before.prompt.startswith("Return your final response")
    assert after.prompt.endswith(r"Return your final response within \boxed{}.")


def test_difficulties_come_from_the_sources():
    assert Counter(i.difficulty for i in load("math500", real("math500.jsonl")))["level 5"] == 134
    assert set(Counter(i.difficulty for i in load("aime25", real("aime25.jsonl"))).values()) == {10}
    steps = Counter(i.difficulty for i in load("gsm8k", real("gsm8k_test.jsonl")))
    assert None not in steps and steps["2 steps"] > steps["6+ steps"]


def test_aime24_as_the_hub_has_it(tmp_path):
    row = {"id": 60, "problem": "What?", "solution": r"\boxed{204}", "url": "x_Problem_11"}
    item = load("aime24", write_jsonl(tmp_path / "a.jsonl", row))[0]
    assert (item.answer, item.difficulty) == ("204", "problems 11–15")


# ----------------------------------------------------------------------------- own questions


def test_held_out_questions_are_asked_as_in_training(tmp_path):
    rows = [
        {"question_id": "a", "question": "482+937+158", "answer": "1577", "answer_kind": "math"},
        {"question_id": "b", "question": "Why?", "answer": None, "answer_kind": "none"},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "heldout.parquet")
    (item,) = load("held_out", tmp_path / "heldout.parquet")
    assert (item.item_id, item.prompt, item.answer) == ("a", "482+937+158", "1577")
    assert item.difficulty == "9–12 digits"


def test_every_addition_of_the_demo_is_graded_by_its_digits():
    _, asked = additions(Addition(traced=0, answer_only=0, held_out=200), seed=0)
    for row in asked:
        low, high = map(int, re.findall(r"\d+", held_out.digits(row["question"])))
        assert low <= sum(c.isdigit() for c in row["question"]) <= high


# ------------------------------------------------------------------------------------ choice


def gpqa_row(record, question="Which?"):
    return {
        "Record ID": record,
        "Question": question,
        "Correct Answer": "right",
        "Incorrect Answer 1": "wrong 1",
        "Incorrect Answer 2": "wrong 2\n",
        "Incorrect Answer 3": "wrong, with a comma",
        "Writer's Difficulty Estimate": "Hard graduate level",
    }


def test_gpqa_options_are_shuffled_by_question_and_the_order_is_kept(tmp_path):
    rows = [gpqa_row(f"rec{i:03}") for i in range(40)]
    with (tmp_path / "gpqa_diamond.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    items = load("gpqa_diamond", tmp_path / "gpqa_diamond.csv")
    for item in items:
        shown = dict(zip("ABCD", item.options, strict=True))
        assert shown[item.answer] == "right"
        source = ["right", "wrong 1", "wrong 2", "wrong, with a comma"]
        assert [source[i] for i in item.option_order] == list(item.options)
        assert f"({item.answer}) right" in item.prompt
    assert len({i.option_order for i in items}) > 10  # of 24
    assert set(Counter(i.answer for i in items)) == set("ABCD")
    assert items == load("gpqa_diamond", tmp_path / "gpqa_diamond.csv")  # the same every time


def test_mmlu_pro_keeps_the_order_and_checks_the_letter(tmp_path):
    row = {
        "question_id": 70,
        "question": "Which?",
        "options": [f"option {i}" for i in range(10)],
        "answer": "J",
        "answer_index": 9,
        "category": "law",
    }
    item = load("mmlu_pro", write_jsonl(tmp_path / "m.jsonl", row))[0]
    assert (item.item_id, item.answer, len(item.options)) == ("70", "J", 10)
    assert "(J) option 9" in item.prompt
    wrong = write_jsonl(tmp_path / "w.jsonl", {**row, "answer": "A"})
    with pytest.raises(UserError, match=r"w\.jsonl: row 0: .* answer 'A' is not option 9"):
        load("mmlu_pro", wrong)


# -------------------------------------------------------------------------------------- code


def packed(value):
    return base64.b64encode(zlib.compress(pickle.dumps(value))).decode()


def livecodebench_row(question_id, difficulty, private, function=None):
    argument = {"input": '["a\u2028b"]\n3\n', "output": "[4, 5]", "testtype": "functional"}
    stdin = {"input": "1 2\n", "output": "3\n", "testtype": "stdin"}
    return {
        "question_title": "t",
        "question_content": "Add the numbers.",
        "platform": "leetcode" if function else "atcoder",
        "question_id": question_id,
        "starter_code": "class Solution:\n    def add(self, a, b):" if function else "",
        "difficulty": difficulty,
        "public_test_cases": json.dumps([argument if function else stdin]),
        "private_test_cases": private,
        "metadata": json.dumps({"func_name": function} if function else {}),
    }


def test_livecodebench_is_split_by_difficulty_and_its_private_tests_are_read(tmp_path):
    hidden = json.dumps([{"input": "5 6\n", "output": "11\n", "testtype": "stdin"}] * 2)
    source = write_jsonl(
        tmp_path / "test.jsonl",
        livecodebench_row("easy-1", "easy", packed(hidden)),
        livecodebench_row("hard-1", "hard", hidden),
        livecodebench_row("easy-2", "easy", packed("[]"), function="add"),
    )
    program, function = load("livecodebench_easy", source)
    assert json.loads(program.tests) == {
        "kind": "stdin",
        "inputs": ["1 2\n", "5 6\n", "5 6\n"],
        "outputs": ["3\n", "11\n", "11\n"],
    }
    assert "take stdin as input" in program.prompt
    assert json.loads(function.tests) == {
        "kind": "call",
        "entry_point": "add",
        "inputs": [[["a\u2028b"], 3]],
        "outputs": [[4, 5]],
    }
    assert "class Solution" in function.prompt and "without invoking it" in function.prompt
    assert [i.item_id for i in load("livecodebench_hard", source)] == ["hard-1"]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickled_text_of_every_protocol_is_read(protocol):
    for text in ("[]", "x" * 300, "é\n\x00", '[{"input": "1"}]'):
        assert livecodebench.pickled_text(pickle.dumps(text, protocol)) == text


class Malicious:
    """Unpickling it writes a file: what a hostile dataset would do."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (exec, (f"open({str(self.path)!r}, 'w').write('owned')",))


def test_a_malicious_pickle_is_refused_and_runs_nothing(tmp_path):
    target = tmp_path / "owned"
    private = packed(Malicious(target))
    pickle.loads(zlib.decompress(base64.b64decode(private)))
    assert target.exists()  # it would have worked
    target.unlink()
    row = livecodebench_row("easy-1", "easy", private)
    with pytest.raises(UserError, match=r"row 0: .* not a pickled string: opcode"):
        load("livecodebench_easy", write_jsonl(tmp_path / "test.jsonl", row))
    assert not target.exists()


@pytest.mark.parametrize("value", [b"bytes", ["a", "b"], {"a": "b"}, 7, ("a",)])
def test_a_pickle_of_anything_but_one_string_is_refused(value):
    with pytest.raises(ValueError, match="not a pickled string"):
        livecodebench.private_tests(packed(value))


def test_truncated_or_too_large_private_tests_are_refused(monkeypatch):
    whole = zlib.compress(pickle.dumps("[]" * 1000))
    with pytest.raises(ValueError, match="truncated"):
        livecodebench.private_tests(base64.b64encode(whole[:-6]).decode())
    monkeypatch.setattr(livecodebench, "MAX_BYTES", 1000)
    with pytest.raises(ValueError, match="larger than"):
        livecodebench.private_tests(base64.b64encode(whole).decode())


# ------------------------------------------------------------------------------------ errors


def test_a_missing_field_is_named_with_its_row(tmp_path):
    source = write_jsonl(tmp_path / "x.jsonl", {"problem": "p", "answer": "1", "level": 1})
    with pytest.raises(UserError, match=r"x\.jsonl: row 0: missing field 'unique_id'"):
        load("math500", source)


def test_a_duplicate_item_id_is_an_error(tmp_path):
    row = {"problem": "p", "answer": "1", "level": 1, "unique_id": "same"}
    with pytest.raises(UserError, match="row 1: duplicate item_id 'same' of math500"):
        load("math500", write_jsonl(tmp_path / "x.jsonl", row, row))


def test_a_source_without_data_is_an_error(tmp_path):
    with pytest.raises(UserError, match="no data file"):
        load("math500", tmp_path / "none.jsonl")
    (tmp_path / "torn.jsonl").write_text('{"problem": ')
    with pytest.raises(UserError, match=r"torn\.jsonl: cannot read"):
        load("math500", tmp_path / "torn.jsonl")
    with pytest.raises(UserError, match=r"not available on the hub; set .* to a local file"):
        load("held_out", None)


def test_the_hub_is_asked_for_the_pinned_commit_and_its_files(tmp_path, monkeypatch):
    import huggingface_hub

    asked = {}

    def snapshot(dataset, repo_type, revision, allow_patterns):
        asked.update(dataset=dataset, revision=revision)
        write_jsonl(
            tmp_path / allow_patterns[0],
            {"problem": "p", "answer": "1", "level": 1, "unique_id": "u"},
        )
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    assert load("math500", None)[0].item_id == "u"
    assert asked == {
        "dataset": "HuggingFaceH4/MATH-500",
        "revision": "6e4ed1a2a79af7d8630a6b768ec859cb5af4d3be",
    }

    def refuse(*_, **__):
        raise ConnectionError("no route")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(UserError, match=r"cannot download .* .no route.*local file"):
        load("math500", None)
