"""eval.json from sample tables: every figure traced by hand, and its documented schema."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pydantic import BaseModel

from stages import summary
from stages.artifacts import store, tables
from stages.common.errors import UserError
from stages.metrics import aggregation, evaluation, statistics

DOCS = Path(__file__).parents[1] / "docs" / "eval.md"


def sample_rows(benchmark, verdicts, **columns):
    """Rows of a `samples` table. `verdicts`: by item, a string with c, i, e or t a sample
    (correct, incorrect, error; t is incorrect, truncated and without an answer)."""
    rows = []
    for item, marks in verdicts.items():
        for sample, mark in enumerate(marks):
            verdict = {"c": "correct", "e": "error"}.get(mark, "incorrect")
            rows.append(
                {
                    "benchmark": benchmark,
                    "item_id": item,
                    "sample": sample,
                    "seed": sample,
                    "prompt": f"prompt of {item}",
                    "response": f"response {sample}",
                    "n_tokens": 10,
                    "finish_reason": "length" if mark == "t" else "stop",
                    "extracted": None if mark in "te" else {"c": "1"}.get(mark, "2"),
                    "verdict": verdict,
                    "reason": None,
                    "vote": {"c": 0, "i": 1}.get(mark),
                    "question": f"question of {item}",
                    "answer": "1",
                    "difficulty": f"level {item[-1]}" if item[-1].isdigit() else None,
                    "option_order": None,
                    **columns,
                }
            )
    return rows


def write(folder, benchmark, verdicts, **columns):
    data = pa.Table.from_pylist(
        sample_rows(benchmark, verdicts, **columns), schema=tables.SAMPLES.schema
    )
    left = {"step": "evaluate", "seconds": 2.0, "tokens": 40, "device": "cpu"}
    left["settings"] = {"evaluation": {"protocol": "ours"}}
    store.write_table(folder / f"{benchmark}.parquet", tables.SAMPLES, data, left)
    return folder


@pytest.fixture
def folders(tmp_path):
    initial = {"q1": "cicc", "q2": "iiii", "q10": "etti"}
    final = {"q1": "cccc", "q2": "ciii", "q10": "iiii"}
    return {
        "initial": write(tmp_path / "results/tiny/eval/initial", "math500", initial),
        "final": write(tmp_path / "results/tiny/eval/final", "math500", final),
    }


def run(folders, out, *more):
    models = [f"{model}={folder}" for model, folder in folders.items()]
    summary.main(["--name", "tiny", "--eval", *models, "--out", str(out), *more])
    return json.loads(out.read_text())


def test_scores_and_rates_by_hand(folders, tmp_path):
    output = run(folders, tmp_path / "eval.json")
    initial, final = output["results"]
    assert (initial["model"], initial["benchmark"]) == ("initial", "math500")
    assert (initial["items"], initial["samples"]) == (3, 4)
    assert initial["average"]["value"] == pytest.approx((3 / 4 + 0 + 0) / 3)
    assert final["average"]["value"] == pytest.approx((1 + 1 / 4 + 0) / 3)
    assert initial["rates"] == pytest.approx(
        {"truncated": 2 / 12, "no_answer": 2 / 12, "error": 1 / 12}
    )
    assert initial["mean_tokens"] == 10
    assert [p["k"] for p in initial["pass_at_k"]] == [1, 2, 4]
    assert [p["value"] for p in initial["pass_at_k"]] == pytest.approx([1 / 4, 1 / 3, 1 / 3])
    majority = {m["k"]: m["value"] for m in initial["majority_at_k"]}
    assert majority[4] == pytest.approx(1 / 3)
    assert majority[2] == pytest.approx((1 / 2 + 1) / 2 / 3)  # the tie c i, then c c


def test_intervals_are_those_of_statistics(folders, tmp_path):
    output = run(folders, tmp_path / "eval.json")
    correct = np.array([[1, 0, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]])
    expected = statistics.average(correct)
    interval = output["results"][0]["average"]
    assert interval["population"]["low"] == expected.population.low
    assert interval["population"]["method"] == expected.population.method
    assert interval["seeds"]["high"] == expected.seeds.high


def test_the_pair_is_the_later_model_minus_the_earlier(folders, tmp_path):
    (pair,) = run(folders, tmp_path / "eval.json")["pairs"]
    assert (pair["a"], pair["b"], pair["items"]) == ("final", "initial", 3)
    assert pair["difference"]["value"] == pytest.approx(1 / 6)
    assert (pair["better"], pair["worse"]) == (2, 0)


def test_items_are_paired_by_name_not_by_place(tmp_path):
    one = write(tmp_path / "a", "math500", {"q1": "cc", "q2": "ii", "only a": "cc"})
    other = write(tmp_path / "b", "math500", {"q2": "ii", "q1": "cc", "only b": "ii"})
    (pair,) = run({"initial": one, "final": other}, tmp_path / "eval.json")["pairs"]
    assert (pair["items"], pair["difference"]["value"]) == (2, 0)


def test_items_of_one_name_but_another_text_are_not_paired(tmp_path):
    one = write(tmp_path / "a", "held_out", {"q1": "cc", "q2": "ii"}, question="2+2")
    other = write(tmp_path / "b", "held_out", {"q1": "cc", "q2": "ii"}, question="3+3")
    assert run({"a/final": one, "b/final": other}, tmp_path / "eval.json")["pairs"] == []


def test_difficulties_come_in_their_natural_order(folders, tmp_path):
    write(folders["initial"], "math500", {"q9": "cc", "q10": "ic", "q1": "ci"})
    rows = sample_rows("math500", {"q9": "cc", "q10": "ic", "q1": "ci"})
    for row in rows:
        row["difficulty"] = f"level {row['item_id'][1:]}"
    levels = aggregation._levels(aggregation.answers(pd.DataFrame(rows)))
    assert [level.difficulty for level in levels] == ["level 1", "level 9", "level 10"]
    assert [level.average.value for level in levels] == [0.5, 1.0, 0.5]


def test_one_sample_per_item_has_no_seed_interval_and_the_reason_is_given(tmp_path):
    folder = write(tmp_path / "a", "gsm8k", {"q1": "c", "q2": "i", "q3": "c"})
    (result,) = run({"final": folder}, tmp_path / "eval.json")["results"]
    assert result["average"]["seeds"]["low"] is None
    assert "one sample per question" in result["average"]["seeds"]["method"]


def test_programs_have_no_majority(tmp_path):
    folder = write(tmp_path / "a", "livecodebench_easy", {"q1": "ci", "q2": "ic"}, vote=None)
    (result,) = run({"final": folder}, tmp_path / "eval.json")["results"]
    assert result["majority_at_k"] == []


def test_macro_averages_name_what_is_missing(tmp_path):
    for model, good in (("initial", "i"), ("final", "c")):
        for benchmark in ("math500", "amc23", "gpqa_diamond", "gsm8k"):
            verdicts = {"q1": "cc", "q2": good + "i", "q3": "ic"}
            write(tmp_path / model, benchmark, verdicts)
    output = run({m: tmp_path / m for m in ("initial", "final")}, tmp_path / "eval.json")
    math_initial = next(
        m for m in output["macro"] if (m["model"], m["group"]) == ("initial", "math")
    )
    assert sorted(math_initial["members"]) == ["amc23", "math500"]
    assert sorted(math_initial["missing"]) == ["aime24", "aime25", "olympiadbench"]
    assert math_initial["average"]["value"] == pytest.approx(0.5)
    gain = next(m for m in output["macro_pairs"] if m["group"] == "math")["difference"]
    assert gain["value"] == pytest.approx(1 / 6)
    half = [p for p in output["pairs"] if p["benchmark"] in ("amc23", "math500")]
    width = math.hypot(*(p["difference"]["population"]["high"] - 1 / 6 for p in half)) / 2
    assert gain["population"]["high"] == pytest.approx(min(1, 1 / 6 + width))


def test_overlap_with_training_questions_is_reported_with_scores_without_it(folders, tmp_path):
    questions = pa.Table.from_pylist(
        [
            {
                "question_id": "t",
                "question": "Question of q2",
                "answer_kind": "math",
                "source": "x",
            }
        ],
        schema=tables.QUESTIONS.schema,
    )
    store.write_table(tmp_path / "q.parquet", tables.QUESTIONS, questions, {})
    output = run(folders, tmp_path / "eval.json", "--questions", str(tmp_path / "q.parquet"))
    assert output["contamination"] == [{"benchmark": "math500", "items": 3, "overlapping": ["q2"]}]
    clean = output["results"][0]["clean"]
    assert (clean["items"], clean["average"]["value"]) == (2, pytest.approx(3 / 8))
    without = run(folders, tmp_path / "eval.json")
    assert without["contamination"] is None
    assert without["results"][0]["clean"] is None


def test_the_ledger_adds_up_shards_and_names_artifacts(folders, tmp_path):
    traces = tmp_path / "results/tiny/round-1/traces"
    for shard in range(2):
        store.write_table(
            traces / f"shard-{shard:04}.parquet",
            tables.TRACES,
            tables.TRACES.schema.empty_table(),
            {"step": "traces", "seconds": 1.5, "tokens": 100, "device": "cpu"},
        )
    model = tmp_path / "results/tiny/models/final"
    model.mkdir(parents=True)
    (model / "provenance.json").write_text(json.dumps({"step": "finetune", "seconds": 9.0}))
    output = run(folders, tmp_path / "eval.json", "--artifacts", str(traces), str(model))
    assert output["cost"][0] == {
        "artifact": "round-1/traces",
        "step": "traces",
        "files": 2,
        "seconds": 3.0,
        "tokens": 200,
        "device": "cpu",
    }
    assert output["cost"][1]["artifact"] == "models/final"
    assert output["cost"][1]["tokens"] is None
    assert output["cost"][2]["artifact"] == "eval/initial/math500"
    assert output["protocol"] == "ours"


def test_an_item_with_missing_samples_is_named(folders, tmp_path):
    write(folders["final"], "math500", {"q1": "cc", "q2": "c"})
    with pytest.raises(UserError, match=r"math500\.parquet: item 'q2' has 1 samples, others"):
        run(folders, tmp_path / "eval.json")
    assert not (tmp_path / "eval.json").exists()


def test_a_model_that_is_not_named_is_refused(capsys):
    with pytest.raises(SystemExit):
        summary.main(["--name", "x", "--eval", "somewhere", "--out", "x.json"])
    assert "is not MODEL=DIR" in capsys.readouterr().err


def test_the_schema_is_documented_field_by_field():
    text = DOCS.read_text()
    assert f"version {evaluation.VERSION}" in text
    parts = [
        p for p in vars(evaluation).values() if isinstance(p, type) and issubclass(p, BaseModel)
    ]
    for part in parts:
        for field in part.model_fields:
            assert re.search(rf"`{field}`", text), f"docs/eval.md does not say what {field} is"


def test_what_is_written_is_read_back_equal(folders, tmp_path):
    output = run(folders, tmp_path / "eval.json")
    read = evaluation.Evaluation.model_validate(output)
    assert read.model_dump(mode="json") == output
    assert read.result("final", "math500").samples == 4
    assert read.result("final", "gsm8k") is None
