"""Scoring by its command line: the right tokens under the right model, at any temperature."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from stages import prompts, scores
from stages.artifacts import digests, store, tables
from stages.common.errors import UserError
from stages.experiments.settings import StepSettings
from stages.running import command

PLAIN = prompts.TEMPLATES["plain"]
# float32 on a CPU, packed against one at a time, per token
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    from stages.base import make
    from stages.experiments.sources import Scratch

    folder = tmp_path_factory.mktemp("model")
    make(Scratch(hidden_size=64, layers=2, heads=2, intermediate_size=48), 0, folder)
    return folder


@pytest.fixture(scope="module")
def tokenizer(model):
    return command.load_tokenizer(model)


@pytest.fixture(scope="module")
def naive(model):
    """Log-probs of the tokens after a context, by transformers alone."""
    import torch
    from transformers import AutoModelForCausalLM

    reference = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)

    def logprobs(context: list[int], tokens: list[int], temperature: float = 1.0) -> np.ndarray:
        ids = torch.tensor([context + tokens])
        with torch.no_grad():
            logits = reference(ids, use_cache=False).logits[0, :-1] / temperature
        found = torch.log_softmax(logits, -1).gather(1, ids[0, 1:, None])[:, 0]
        return found[len(context) - 1 :].numpy()

    return logprobs


QUESTIONS = [
    {"question_id": "a", "question": "1+2", "answer": "3", "solution": None},
    {"question_id": "b", "question": "10+20+3", "answer": "33", "solution": "33=33"},
]


def question_table() -> list[dict]:
    common = {"answer_kind": "math", "trace": None, "source": "test"}
    return [question | common for question in QUESTIONS]


def trace_table(tokenizer) -> list[dict]:
    texts = [("a", 0, "12", True), ("a", 1, "3", False), ("b", 0, "01" * 30, True)]
    rows = []
    for name, k, text, closed in texts:
        text = "".join(PLAIN.trace(text)) if closed else text
        ids = prompts.encode(tokenizer, text)
        common = {"seed": 0, "finish_reason": "stop" if closed else "length"}
        rows.append(
            {"question_id": name, "k": k, "token_ids": ids, "trace": text, "n_tokens": len(ids)}
            | {"closed": closed}
            | common
        )
    return rows


def write(path: Path, table: tables.Table, rows: list[dict], **provenance) -> Path:
    data = pa.Table.from_pylist(rows, schema=table.schema)
    store.write_table(path, table, data, provenance)
    return path


@pytest.fixture
def files(tmp_path, tokenizer, model):
    return {
        "questions": write(tmp_path / "questions.parquet", tables.QUESTIONS, question_table()),
        "traces": write(
            tmp_path / "traces.parquet",
            tables.TRACES,
            trace_table(tokenizer),
            tokenizer=digests.tokenizer_digest(model),
        ),
    }


def settings(**changes) -> dict:
    given = {"dtype": "float32", "keep_token_logprobs": True} | changes
    return {"prompts": {"template": "plain"}, "traces": {"temperature": 0.7}, "scores": given}


def run(files, model, out, role="prior", **changes) -> list[dict]:
    arguments = ["--settings", json.dumps(settings(**changes)), "--machine", '{"threads": 1}']
    arguments += ["--questions", str(files["questions"]), "--traces", str(files["traces"])]
    scores.main([*arguments, "--model", str(model), "--role", role, "--out", str(out)])
    return store.read_table(out, tables.SCORES).to_pylist()


def expected(tokenizer, naive, role, temperature=1.0):
    """Prompt, sampled tokens, and the reference solution after a closed trace."""
    solutions = {"a": r"\boxed{3}", "b": "33=33"}
    asked = {question["question_id"]: question for question in question_table()}
    for trace in trace_table(tokenizer):
        question = asked[trace["question_id"]]
        if role == "prior":
            prompt = PLAIN.question_prompt(question["question"])
        else:
            prompt = PLAIN.hint_prompt(question["question"], question["answer"], "A")
        answer = prompts.encode(tokenizer, "".join(PLAIN.answer(solutions[trace["question_id"]])))
        tokens = trace["token_ids"] + answer
        found = naive(prompts.encode(tokenizer, "".join(prompt)), tokens, temperature)
        n = trace["n_tokens"]
        yield trace, found[:n], found[n:] if trace["closed"] and role == "prior" else None


@pytest.mark.parametrize("role", ["prior", "posterior"])
def test_scores_are_those_of_a_naive_loop(files, model, tokenizer, naive, tmp_path, role):
    rows = run(files, model, tmp_path / "out.parquet", role)
    for row, (trace, z, y) in zip(rows, expected(tokenizer, naive, role), strict=True):
        assert (row["question_id"], row["k"]) == (trace["question_id"], trace["k"])
        assert row["n_tokens"] == len(trace["token_ids"]) == len(row["trace_token_logprobs"])
        np.testing.assert_allclose(row["trace_token_logprobs"], z, rtol=0, atol=TOLERANCE)
        assert row["trace_logprob"] == pytest.approx(z.sum(dtype=np.float64), abs=1e-4)
        if y is None:
            assert row["answer_logprob"] is row["answer_n_tokens"] is None
        else:
            assert row["answer_n_tokens"] == len(y)
            assert row["answer_logprob"] == pytest.approx(y.sum(dtype=np.float64), abs=1e-4)


@pytest.mark.parametrize(("given", "means"), [(0.5, 0.5), ("sampling", 0.7)])
def test_temperature_is_the_roles_own(files, model, tokenizer, naive, tmp_path, given, means):
    rows = run(files, model, tmp_path / "out.parquet", "posterior", posterior_temperature=given)
    for row, (_, z, _) in zip(rows, expected(tokenizer, naive, "posterior", means), strict=True):
        np.testing.assert_allclose(row["trace_token_logprobs"], z, rtol=0, atol=TOLERANCE)
    assert store.read_provenance(tmp_path / "out.parquet")["temperature"] == means


def test_a_trace_too_long_is_left_without_score_and_counted(files, model, tmp_path):
    rows = run(files, model, tmp_path / "out.parquet", max_tokens=30)
    assert [row["trace_logprob"] is None for row in rows] == [False, False, True]
    assert rows[2]["n_tokens"] == 61
    assert rows[2]["answer_logprob"] is rows[2]["trace_token_logprobs"] is None
    assert store.read_provenance(tmp_path / "out.parquet")["unscored"] == 1


def test_token_logprobs_are_kept_only_where_asked(files, model, tmp_path):
    rows = run(files, model, tmp_path / "out.parquet", keep_token_logprobs=False)
    assert all(row["trace_token_logprobs"] is None for row in rows)
    assert all(row["trace_logprob"] < 0 for row in rows)


def test_shards_and_windows_change_nothing(files, model, tokenizer, tmp_path, monkeypatch):
    whole = run(files, model, tmp_path / "whole.parquet")
    folder = tmp_path / "shards"
    for number, trace in enumerate(trace_table(tokenizer)):
        write(folder / f"shard-{number}.parquet", tables.TRACES, [trace])
    monkeypatch.setattr(scores, "BINS_PER_WINDOW", 0)
    rows = run({**files, "traces": folder}, model, tmp_path / "parts.parquet")
    assert [(r["question_id"], r["k"]) for r in rows] == [("a", 0), ("a", 1), ("b", 0)]
    for one, other in zip(whole, rows, strict=True):
        assert one["trace_logprob"] == pytest.approx(other["trace_logprob"], abs=1e-4)


def test_a_killed_scoring_scores_only_what_is_missing(files, model, tmp_path, monkeypatch):
    whole = run(files, model, tmp_path / "whole.parquet")
    out, real = tmp_path / "out.parquet", scores.score
    monkeypatch.setattr(scores, "BINS_PER_WINDOW", 0)  # one trace a window
    scored = []

    def die_at_the_third(model, texts, *rest):
        if len(scored) == 2:
            raise KeyboardInterrupt
        yield from count(model, texts, *rest)

    def count(model, texts, *rest):
        scored.extend(text.key for text in texts)
        yield from real(model, texts, *rest)

    monkeypatch.setattr(scores, "score", die_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        run(files, model, out)
    assert not out.exists()
    monkeypatch.setattr(scores, "score", count)
    rows = run(files, model, out)
    assert scored == [("a", 0), ("a", 1), ("b", 0)]
    for one, other in zip(whole, rows, strict=True):
        assert one["trace_logprob"] == pytest.approx(other["trace_logprob"], abs=1e-4)


def test_a_model_with_another_tokenizer_is_refused(files, model, tmp_path, tokenizer):
    rows = trace_table(tokenizer)
    write(files["traces"], tables.TRACES, rows, tokenizer="of another model")
    with pytest.raises(UserError, match="tokenizer differs"):
        run(files, model, tmp_path / "out.parquet")


def test_a_trace_without_its_question_is_named(files, model, tmp_path):
    write(files["questions"], tables.QUESTIONS, question_table()[:1])
    with pytest.raises(UserError, match="trace 0 of question_id 'b' has no question"):
        run(files, model, tmp_path / "out.parquet")


@pytest.mark.parametrize("traces", [{"temperature": 0.0}, {"top_p": 0.9}, {"top_k": 40}])
def test_sampling_temperature_needs_plain_sampling(traces):
    given = StepSettings.model_validate(
        {"traces": traces, "scores": {"posterior_temperature": "sampling"}}
    )
    with pytest.raises(UserError, match="posterior_temperature: sampling needs traces"):
        scores.scoring_temperature(given, "posterior")
    assert scores.scoring_temperature(given, "prior") == 1.0
