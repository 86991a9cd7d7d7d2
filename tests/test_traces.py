"""Sampling is resumable at any instant, grows, and does not depend on its shards."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from stages import answers, base, traces
from stages.artifacts import store, tables
from stages.common.errors import UserError
from stages.running import sampling
from stages.weighting.leaks import leaks_hint

SETTINGS = {
    "seed": 3,
    "prompts": {"template": "plain"},
    "engine": {"name": "transformers", "dtype": "float32"},
    "traces": {"k": 4, "max_tokens": 20, "temperature": 1.0},
    "answers": {"m": 3, "max_tokens": 8, "temperature": 1.0},
}


def settings(**sections: dict) -> str:
    return json.dumps({**SETTINGS, **{s: {**SETTINGS[s], **v} for s, v in sections.items()}})


@pytest.fixture(scope="module")
def sampled(tiny_model: Path, questions_file: Path, tmp_path_factory: pytest.TempPathFactory):
    """Traces of all twelve questions, undisturbed."""
    out = tmp_path_factory.mktemp("traces") / "traces.parquet"
    run(questions_file, tiny_model, out)
    return out


def run(questions: Path, model: Path, out: Path, shard: str = "0/1", given: str = "") -> None:
    where = ["--questions", str(questions), "--model", str(model), "--out", str(out)]
    traces.main(["--settings", given or settings(), *where, "--shard", shard])


def rows(path: Path) -> pd.DataFrame:
    return store.read_table(path, tables.TRACES).to_pandas()


def test_draws_cut_by_the_models_context_are_announced_and_counted(
    tiny_model: Path, questions_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    short = tmp_path / "short"
    base.link(tiny_model, short)
    config = json.loads((tiny_model / "config.json").read_text())
    (short / "config.json").unlink()
    (short / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 48}))
    out = tmp_path / "traces.parquet"
    run(questions_file, short, out, given=settings(traces={"k": 1, "max_tokens": 40}))
    said = capsys.readouterr().err
    assert said.count("max_tokens: 12 of 12 traces may exceed the model's context of 48") == 1
    table = rows(out)
    cut = (table["finish_reason"] == "length") & (table["n_tokens"] < 40)
    assert cut.any()
    assert store.read_provenance(out)["cut_by_context_length"] == cut.sum()


def test_every_question_gets_k_traces_with_seeds_of_their_own(sampled: Path) -> None:
    table = rows(sampled)
    assert len(table) == 48
    assert table["seed"].is_unique
    assert (table["n_tokens"] == table["token_ids"].map(len)).all()
    assert table.groupby("question_id")["trace"].nunique().min() > 1
    assert store.read_provenance(sampled)["tokens"] == table["n_tokens"].sum()


def test_whether_a_trace_leaks_is_decided_by_the_answer_of_its_question(
    sampled: Path, questions_file: Path
) -> None:
    asked = store.read_table(questions_file, tables.QUESTIONS).to_pylist()
    answer_to = {question["question_id"]: question["answer"] for question in asked}
    table = rows(sampled)
    assert list(table["leaking"]) == [
        leaks_hint(trace, answer_to[name])
        for name, trace in zip(table["question_id"], table["trace"], strict=True)
    ]


def test_shards_hold_the_same_draws_as_one_file(
    sampled: Path, questions_file: Path, tiny_model: Path, tmp_path: Path
) -> None:
    """Also where there are more shards than questions: the last ones are empty then."""
    for shard in range(14):
        out = tmp_path / f"shard-{shard:04d}.parquet"
        run(questions_file, tiny_model, out, f"{shard}/14")
    together = rows(tmp_path).sort_values(["question_id", "k"], ignore_index=True)
    pd.testing.assert_frame_equal(together, rows(sampled))


def test_raising_k_keeps_the_first_traces_and_draws_the_others(
    questions_file: Path, tiny_model: Path, sampled: Path, tmp_path: Path, monkeypatch
) -> None:
    out = tmp_path / "t.parquet"
    run(questions_file, tiny_model, out, given=settings(traces={"k": 1}))
    drawn = []
    original = sampling.draw_missing

    def counting(journal, requests, *args, **kwargs):
        drawn.append(len([r for r in requests if r.key not in journal]))
        return original(journal, requests, *args, **kwargs)

    monkeypatch.setattr(sampling, "draw_missing", counting)
    run(questions_file, tiny_model, out)
    assert drawn == [36]
    pd.testing.assert_frame_equal(rows(out), rows(sampled))


def test_a_finished_step_starts_no_engine(
    questions_file: Path, tiny_model: Path, sampled: Path, monkeypatch
) -> None:
    monkeypatch.setattr("stages.running.sampling.open_engine", None)
    before = rows(sampled)
    run(questions_file, tiny_model, sampled)
    pd.testing.assert_frame_equal(rows(sampled), before)


@pytest.mark.parametrize(("engine", "kills"), [("transformers", 5), ("vllm", 2)])
def test_a_step_killed_at_random_moments_ends_with_the_same_table(
    engine: str, kills: int, questions_file: Path, tiny_model: Path, tmp_path: Path
) -> None:
    given = settings(engine={"name": engine}, traces={"k": 40, "max_tokens": 60})
    files = ["--questions", str(questions_file), "--model", str(tiny_model)]
    command = [sys.executable, "-m", "stages.traces", "--settings", given, *files, "--out"]
    environment = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1"}

    undisturbed = tmp_path / "undisturbed.parquet"
    subprocess.run([*command, str(undisturbed)], check=True, env=environment, capture_output=True)
    killed, journal = tmp_path / "killed.parquet", tmp_path / "killed.parquet.partial/_rows"
    total, moments = 480, random.Random(0)
    for kill in range(kills):
        step = subprocess.Popen([*command, str(killed)], env=environment, stderr=subprocess.DEVNULL)
        # at a random row: from before the first to shortly before the last
        until = int(total * (kill + moments.random()) / (kills + 0.5))
        while step.poll() is None and lines(journal) <= until:
            time.sleep(0.005)
        assert step.poll() is None, "the step ended before it could be killed"
        step.send_signal(signal.SIGKILL)
        step.wait()
        assert not killed.exists()
    subprocess.run([*command, str(killed)], check=True, env=environment, capture_output=True)
    pd.testing.assert_frame_equal(rows(killed), rows(undisturbed))
    assert not journal.exists()


def lines(journal: Path) -> int:
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


# Answers -----------------------------------------------------------------------------------------


def answer(questions: Path, model: Path, traces_: Path, out: Path, given: str = "") -> pd.DataFrame:
    where = ["--questions", str(questions), "--traces", str(traces_), "--model", str(model)]
    answers.main(["--settings", given or settings(), *where, "--out", str(out)])
    return store.read_table(out, tables.ANSWERS).to_pandas()


@pytest.fixture(scope="module")
def closed(sampled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The traces, half of them closed."""
    data = store.read_table(sampled, tables.TRACES)
    index = data.column_names.index("closed")
    half = [[n % 2 == 0 for n in range(len(data))]]
    path = tmp_path_factory.mktemp("closed") / "traces.parquet"
    field = tables.TRACES.schema.field("closed")
    store.write_table(
        path, tables.TRACES, data.set_column(index, field, half), store.read_provenance(sampled)
    )
    return path


def test_every_closed_trace_gets_m_distinct_answers(
    questions_file: Path, tiny_model: Path, closed: Path, tmp_path: Path
) -> None:
    table = answer(questions_file, tiny_model, closed, tmp_path / "a.parquet")
    assert len(table) == 24 * 3
    assert set(table["k"]) == {0, 2}
    assert table["seed"].is_unique
    # a trace's three answers of up to eight random tokens are not copies of one draw
    assert table.groupby(["question_id", "k"])["answer"].nunique().mean() > 2.9


def test_answers_to_rollouts_have_noise_of_their_own(
    questions_file: Path, tiny_model: Path, closed: Path, tmp_path: Path
) -> None:
    """In a later round the same question, k and m are drawn twice: for the posterior's rollouts."""
    given = settings(traces={"proposal": "prior"})
    of_rollouts = answer(questions_file, tiny_model, closed, tmp_path / "r.parquet", given)
    of_traces = answer(questions_file, tiny_model, closed, tmp_path / "a.parquet")
    assert not set(of_rollouts["seed"]) & set(of_traces["seed"])


def test_raising_m_keeps_the_first_answers(
    questions_file: Path, tiny_model: Path, closed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "a.parquet"
    few = answer(questions_file, tiny_model, closed, out, settings(answers={"m": 1}))
    many = answer(questions_file, tiny_model, closed, out)
    kept = many[many["m"] == 0].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, few)


def test_another_tokenizer_is_refused_before_a_model_is_loaded(
    questions_file: Path, tiny_model: Path, closed: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text("{}")
    (other / "tokenizer.json").write_text((tiny_model / "tokenizer.json").read_text() + " ")
    with pytest.raises(UserError, match="its tokenizer differs from that of the model that wrote"):
        answer(questions_file, other, closed, tmp_path / "a.parquet")


def test_a_directory_without_a_model_is_refused(questions_file: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"not a model \(config.json is missing\)"):
        run(questions_file, tmp_path / "nothing", tmp_path / "t.parquet")


@pytest.mark.parametrize("shard", ["1", "2/2", "0/0", "a/b"])
def test_a_shard_out_of_range_is_refused(shard: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        run(Path("q"), Path("m"), Path("t"), shard)
    assert "is not I/N" in capsys.readouterr().err
