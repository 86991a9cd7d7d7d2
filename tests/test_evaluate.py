"""Evaluation of a model: one engine start and one queue, resumption, verdicts and votes.

The engine is transformers' where its draws matter little, and one that says what it is told where
a test needs to know the answers.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pytest

from stages import base, evaluate, prompts, summary
from stages.artifacts import store, tables
from stages.common.errors import UserError
from stages.engines import Draw
from stages.experiments.settings import StepSettings
from stages.prompts import TEMPLATES
from stages.running import sampling
from stages.verifiers import Pool, Verdict

DATA = Path(__file__).parents[2] / "shared" / "data" / "benchmarks"
CHARACTERS = "".join(map(chr, range(32, 127))) + "\n"
SCRATCH = {
    "hidden_size": 32,
    "layers": 1,
    "heads": 1,
    "key_value_heads": 1,
    "intermediate_size": 64,
    "max_positions": 4096,
    "characters": CHARACTERS,
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "random"
    base.main(["--settings", json.dumps({"model": {"scratch": SCRATCH}}), "--out", str(folder)])
    return folder


@pytest.fixture
def held_out(tmp_path):
    rows = [
        {"question_id": f"q{i}", "question": f"{i}+{i}", "answer": str(2 * i)} for i in range(5)
    ]
    rows = [row | {"answer_kind": "math", "source": "test"} for row in rows]
    data = pa.Table.from_pylist(rows, schema=tables.QUESTIONS.schema)
    store.write_table(tmp_path / "heldout.parquet", tables.QUESTIONS, data, {})
    return tmp_path / "heldout.parquet"


class Scripted:
    """An engine that answers as it is told; it notes the requests, and may be killed in between."""

    def __init__(self, tokenizer, reply, die_after=None):
        self.tokenizer, self.reply, self.die_after = tokenizer, reply, die_after
        self.starts, self.requests = 0, []

    @contextmanager
    def open(self, *_):
        self.starts += 1
        yield self

    def sample(self, requests):
        for number, request in enumerate(requests):
            if number == self.die_after:
                os.kill(os.getpid(), signal.SIGKILL)
            self.requests.append(request)
            text, reason = self.reply(*request.key)
            yield Draw(request.key, prompts.encode(self.tokenizer, text), reason)


@pytest.fixture
def scripted(model, monkeypatch):
    from stages.running.command import load_tokenizer

    def install(reply, die_after=None):
        engine = Scripted(load_tokenizer(model), reply, die_after)
        monkeypatch.setattr(sampling, "open_engine", engine.open)
        return engine

    return install


def solution(answer):
    text = f"so it is.{prompts.END_THOUGHT}{prompts.BEGIN_SOLUTION}{answer}{prompts.END_SOLUTION}"
    return text, "stop"


def boxed(answer):
    return solution(rf"\boxed{{{answer}}}")


def settings(*benchmarks, **evaluation):
    how = {"max_tokens": 24, "benchmarks": list(benchmarks), **evaluation}
    return json.dumps({"seed": 3, "engine": {"name": "transformers"}, "evaluation": how})


def run(model, held_out, out, given):
    files = {"--model": model, "--held-out": held_out, "--out": out}
    flags = [text for flag, path in files.items() for text in (flag, str(path))]
    evaluate.main(["--settings", given, "--workers", "2", *flags])
    return {
        name: store.read_table(out / f"{name}.parquet", tables.SAMPLES).to_pylist()
        for name in json.loads((out / "benchmarks.json").read_text())
    }


# ------------------------------------------------------------------------------- the one queue


def test_real_items_of_six_benchmarks_flow_through_one_engine_start(model, tmp_path, monkeypatch):
    if not DATA.exists():
        pytest.skip(f"{DATA} is not there: no real items to ask")
    starts = []
    opened = sampling.open_engine
    monkeypatch.setattr(sampling, "open_engine", lambda *a: starts.append(a) or opened(*a))
    files = {"gsm8k": "gsm8k_test"} | {
        n: n for n in ("math500", "aime24", "aime25", "amc23", "olympiadbench")
    }
    chosen = [
        {"name": name, "path": str(DATA / f"{file}.jsonl"), "limit": 3, "samples": 2}
        for name, file in files.items()
    ]
    result = run(model, tmp_path, tmp_path / "out", settings(*chosen))
    assert len(starts) == 1
    assert list(result) == list(files)
    assert all(len(rows) == 6 for rows in result.values())
    seeds = [row["seed"] for rows in result.values() for row in rows]
    assert len(set(seeds)) == 36  # every draw has its own
    for rows in result.values():
        assert {row["verdict"] for row in rows} <= {"correct", "incorrect", "error"}
        assert all(row["n_tokens"] <= 24 and row["answer"] for row in rows)
    summary.main(
        ["--name", "x", "--eval", f"final={tmp_path / 'out'}", "--out", str(tmp_path / "e.json")]
    )
    output = json.loads((tmp_path / "e.json").read_text())
    assert [r["items"] for r in output["results"]] == [3] * 6
    assert {c["artifact"].rpartition("/")[2] for c in output["cost"]} == set(files)


def test_samples_do_not_depend_on_what_else_is_asked(model, held_out, tmp_path):
    alone = run(model, held_out, tmp_path / "a", settings({"name": "held_out", "samples": 2}))
    more = run(model, held_out, tmp_path / "b", settings({"name": "held_out", "samples": 3}))
    kept = [row for row in more["held_out"] if row["sample"] < 2]
    assert [r["response"] for r in kept] == [r["response"] for r in alone["held_out"]]
    assert len({r["response"] for r in more["held_out"]}) > 5  # and they do differ


# ---------------------------------------------------------------------------------- resumption


def test_more_samples_draw_only_the_missing_ones(model, held_out, scripted, tmp_path):
    engine = scripted(lambda _, item, sample: boxed(sample))
    run(model, held_out, tmp_path / "out", settings({"name": "held_out", "samples": 2}))
    assert (engine.starts, len(engine.requests)) == (1, 10)
    result = run(model, held_out, tmp_path / "out", settings({"name": "held_out", "samples": 5}))
    assert (engine.starts, len(engine.requests)) == (2, 25)
    assert {r.key[2] for r in engine.requests[10:]} == {2, 3, 4}
    assert [row["sample"] for row in result["held_out"]] == [0, 1, 2, 3, 4] * 5
    run(model, held_out, tmp_path / "out", settings({"name": "held_out", "samples": 5}))
    assert engine.starts == 2  # nothing was missing, no engine was started


def test_a_kill_loses_nothing_and_doubles_nothing(model, held_out, scripted, tmp_path):
    inputs = settings({"name": "held_out", "samples": 3})
    scripted(lambda _, item, sample: boxed(sample), die_after=7)
    if (child := os.fork()) == 0:
        run(model, held_out, tmp_path / "out", inputs)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert not (tmp_path / "out/held_out.parquet").exists()
    engine = scripted(lambda _, item, sample: boxed(sample))
    result = run(model, held_out, tmp_path / "out", inputs)
    assert len(engine.requests) == 15 - 7
    assert len({(r["item_id"], r["sample"]) for r in result["held_out"]}) == 15
    assert not list((tmp_path / "out").glob("*.partial"))


def test_samples_of_another_temperature_are_not_overwritten(model, held_out, scripted, tmp_path):
    engine = scripted(lambda _, item, sample: boxed(1))
    run(model, held_out, tmp_path / "out", settings("held_out", temperature=0.7))
    with pytest.raises(UserError, match=r"evaluation\.temperature: default -> 0\.6"):
        run(model, held_out, tmp_path / "out", settings("held_out", temperature=0.6))
    assert len(engine.requests) == 20


def test_questions_written_again_by_the_same_recipe_are_the_same(
    model, held_out, scripted, tmp_path
):
    recipe = {"artifact": "data/heldout", "recipe": {"data/heldout": {"step": "questions"}}}
    data = store.read_table(held_out, tables.QUESTIONS)
    engine = scripted(lambda *_: boxed(4))
    for finished in ("today", "tomorrow"):
        store.write_table(held_out, tables.QUESTIONS, data, recipe | {"finished": finished})
        run(model, held_out, tmp_path / "out", settings({"name": "held_out", "samples": 1}))
    assert engine.starts == 1


def test_a_source_is_a_commit_a_digest_or_an_input(tmp_path):
    held_out, math = evaluate.benchmarks.find("held_out"), evaluate.benchmarks.find("math500")
    file = tmp_path / "items.jsonl"
    file.write_text("{}")
    assert evaluate.source(math, None) == math.hub.revision
    assert evaluate.source(math, file) == "44136fa355b3678a"  # sha256sum of {}
    assert evaluate.source(held_out, None) == ""


def test_greedy_samples_are_all_the_same_so_one_is_drawn(model, held_out, scripted, tmp_path):
    engine = scripted(lambda _, item, sample: boxed(1))
    run(model, held_out, tmp_path / "out", settings("held_out", temperature=0))
    assert len(engine.requests) == 5


# ------------------------------------------------------------------------- verdicts and votes


def test_verdicts_rates_and_votes_by_hand(model, held_out, scripted, tmp_path):
    replies = {
        "q1": [boxed("2"), boxed("2.0"), boxed("3"), boxed("6/2")],  # right, right, wrong, wrong
        "q2": [boxed("4"), ("I wonder", "length"), boxed("5"), solution("no idea")],
    }
    scripted(lambda _, item, sample: replies.get(item, [boxed("99")] * 4)[sample])
    results = run(model, held_out, tmp_path / "out", settings("held_out"))["held_out"]
    of = {item: [r for r in results if r["item_id"] == item] for item in ("q1", "q2")}
    assert [r["verdict"] for r in of["q1"]] == ["correct", "correct", "incorrect", "incorrect"]
    assert [r["vote"] for r in of["q1"]] == [0, 0, 1, 1]  # 3 and 6/2 are one answer
    assert [r["extracted"] for r in of["q2"]] == ["4", None, "5", None]
    assert [r["vote"] for r in of["q2"]] == [0, None, 1, None]
    result = summary.load(tmp_path / "out")["held_out"]
    assert (result.rates.truncated, result.rates.no_answer) == (1 / 20, 2 / 20)


def test_programs_are_run_and_have_no_votes(model, scripted, tmp_path):
    if not shutil.which("bwrap"):
        pytest.skip("bubblewrap is not installed: programs cannot be run in a sandbox")
    case = [{"input": "1 2\n", "output": "3\n", "testtype": "stdin"}]
    row = {
        "question_id": "p",
        "question_content": "Add.",
        "starter_code": "",
        "difficulty": "easy",
        "public_test_cases": json.dumps(case),
        "private_test_cases": json.dumps([{"input": "5 6\n", "output": "11\n"}]),
        "metadata": "{}",
    }
    (tmp_path / "test.jsonl").write_text(json.dumps(row))
    right = "```python\nprint(sum(map(int, input().split())))\n```"
    scripted(lambda _, item, sample: solution(right if sample else "```python\nprint(3)\n```"))
    chosen = {"name": "livecodebench_easy", "path": str(tmp_path / "test.jsonl"), "samples": 2}
    result = run(model, tmp_path, tmp_path / "out", settings(chosen))["livecodebench_easy"]
    assert [r["verdict"] for r in result] == ["incorrect", "correct"]
    assert [r["vote"] for r in result] == [None, None]


def test_shuffled_options_are_kept_with_the_samples(model, scripted, tmp_path):
    texts = {"Correct Answer": "right"} | {f"Incorrect Answer {i}": f"w{i}" for i in (1, 2, 3)}
    fields = {"Record ID": "r1", "Question": "Which?", **texts}
    lines = [",".join(fields), ",".join(fields.values())]
    (tmp_path / "gpqa.csv").write_text("\n".join(lines))
    scripted(lambda _, item, sample: boxed("ABCD"[sample % 4]))
    chosen = {"name": "gpqa_diamond", "path": str(tmp_path / "gpqa.csv"), "samples": 8}
    result = run(model, tmp_path, tmp_path / "out", settings(chosen))["gpqa_diamond"]
    correct = {r["extracted"] for r in result if r["verdict"] == "correct"}
    assert correct == {"ABCD"[result[0]["option_order"].index(0)]}
    assert sorted(result[0]["option_order"]) == [0, 1, 2, 3]
    assert sorted({r["vote"] for r in result}) == [0, 1, 2, 3]


def test_ballots_of_choices_are_letters():
    verdicts = [Verdict(v, x, None, 0) for v, x in (("incorrect", "B"), ("error", None))]
    verdicts += [Verdict("correct", "A", None, 0), Verdict("incorrect", "B", None, 0)]
    with Pool(1) as pool:
        assert evaluate.ballots(verdicts, "choice", pool) == [1, None, 0, 1]


# ----------------------------------------------------------------------------------- protocols


def test_ours_begins_the_thought_as_training_does_and_authors_as_their_code_does():
    def prompt(role, protocol):
        inputs = StepSettings.model_validate({"evaluation": {"protocol": protocol}})
        return "".join(
            prompts.prompt_parts(TEMPLATES["reasoning"], role, {"question": "Q"}, inputs)
        )

    ours, authors = prompt("evaluation", "ours"), prompt("evaluation", "authors")
    assert ours == prompt("prior", "ours") == prompt("prior", "authors")
    assert ours.endswith("assistant\n<|begin_of_thought|>\n\n")
    assert authors.endswith("assistant\n<begin_of_thought>\n\n")
    assert authors.startswith(ours.removesuffix("<|begin_of_thought|>\n\n"))  # nothing else differs


def test_defaults_are_the_authors_sampling_settings():
    how = StepSettings().evaluation
    assert (how.temperature, how.top_p, how.max_tokens, how.dtype) == (0.7, 1, 38912, "float32")


# -------------------------------------------------------------------------------------- errors


def test_what_is_missing_is_named(model, held_out, tmp_path):
    with pytest.raises(UserError, match="unknown benchmark 'math50'"):
        run(model, held_out, tmp_path / "out", settings("math50"))
    with pytest.raises(UserError, match="duplicate held_out"):
        run(model, held_out, tmp_path / "out", settings("held_out", "held_out"))
    with pytest.raises(UserError, match="held_out: give --held-out"):
        evaluate.main(["--settings", settings("held_out"), "--model", str(model), "--out", "x"])
    with pytest.raises(UserError, match="not a model"):
        run(tmp_path, held_out, tmp_path / "out", settings("held_out"))


def test_importing_the_steps_loads_neither_torch_nor_vllm():
    names = "stages.evaluate, stages.summary, stages.report"
    code = f"import sys, {names}; print([m for m in ('torch', 'vllm') if m in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
