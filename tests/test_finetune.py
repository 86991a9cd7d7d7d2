"""Fine-tuning by its command line: what it writes, what it refuses, and how it survives."""

import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from stages import finetune, prompts
from stages.artifacts import digests, store, tables
from stages.artifacts.models import UnfinishedModel
from stages.common.errors import UserError
from stages.experiments.settings import StepSettings
from stages.running import command

STEPS = 24
SETTINGS = {
    "seed": 3,
    "role": "initial",
    "prompts": {"template": "plain"},
    "initial": {
        "learning_rate": 0.003,
        "steps": STEPS,
        "batch_size": 4,
        "dtype": "float32",
        "holdout_fraction": 0.25,
        "max_tokens": 60,
    },
}


def settings(**changes) -> str:
    return json.dumps(SETTINGS | {"initial": SETTINGS["initial"] | changes})


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    from stages.base import make
    from stages.experiments.sources import Scratch

    folder = tmp_path_factory.mktemp("base")
    make(Scratch(hidden_size=64, layers=2, heads=2, intermediate_size=48), 0, folder)
    return folder


def row(tokenizer, number: int, **changes) -> dict:
    template = prompts.TEMPLATES["plain"]
    prompt = "".join(template.question_prompt(f"{number}+1"))
    response = "".join((*template.trace(f"{number + 1}"), *template.answer(str(number + 1))))
    response += prompts.END_TURN
    prompt_ids, response_ids = (prompts.encode(tokenizer, text) for text in (prompt, response))
    return {
        "question_id": f"q{number}",
        "k": None,
        "origin": "teacher",
        "prompt": prompt,
        "response": response,
        "token_ids": prompt_ids + response_ids,
        "n_prompt_tokens": len(prompt_ids),
        "n_tokens": len(prompt_ids) + len(response_ids),
        "weight": 1.0,
    } | changes


@pytest.fixture(scope="module")
def tokenizer(base):
    return command.load_tokenizer(base)


@pytest.fixture(scope="module")
def write_rows(tokenizer, tmp_path_factory):
    def write(rows: list[dict], **provenance) -> Path:
        path = tmp_path_factory.mktemp("rows") / "rows.parquet"
        table = pa.Table.from_pylist(rows, schema=tables.ROWS.schema)
        store.write_table(path, tables.ROWS, table, provenance)
        return path

    return write


@pytest.fixture(scope="module")
def rows(write_rows, tokenizer) -> Path:
    many = [row(tokenizer, number) for number in range(16)]
    too_long = row(tokenizer, 99, token_ids=list(range(10)) * 7, n_prompt_tokens=5)
    return write_rows([*many, too_long])


def run(base: Path, rows: Path, out: Path, given: str | None = None, **machine: float) -> None:
    arguments = [
        "--settings",
        given or settings(),
        "--machine",
        json.dumps({"threads": 1} | machine),
    ]
    finetune.main([*arguments, "--rows", str(rows), "--base", str(base), "--out", str(out)])


def weights_of(model: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    return load_file(model / "model.safetensors")


def assert_same_weights(one: Path, other: Path) -> None:
    ours, theirs = weights_of(one), weights_of(other)
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)


@pytest.fixture(scope="module")
def trained(base, rows, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "model"
    run(base, rows, out)
    return out


def test_writes_a_checkpoint_that_transformers_loads(trained, base):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(trained)
    assert type(model).__name__ == "Qwen3ForCausalLM"
    before, after = weights_of(base), weights_of(trained)
    assert before.keys() == after.keys()
    assert all(before[name].shape == after[name].shape for name in before)
    assert any(not np.array_equal(before[name], after[name]) for name in before)
    assert not trained.with_name("model.partial").exists()


def test_learns_the_end_of_the_turn_and_stops_there(trained, tokenizer):
    generation = json.loads((trained / "generation_config.json").read_text())
    assert generation["eos_token_id"] == [tokenizer.convert_tokens_to_ids(prompts.END_TURN)]


def test_leaves_the_tokenizer_as_it_was(trained, base):
    assert digests.tokenizer_digest(trained) == digests.tokenizer_digest(base)
    text = "".join(prompts.TEMPLATES["plain"].trace("12+3"))
    there = prompts.encode(command.load_tokenizer(trained), text)
    assert there == prompts.encode(command.load_tokenizer(base), text)


def test_logs_every_step(trained):
    log = store.read_table(trained / "training_log.parquet", tables.TRAINING_LOG).to_pandas()
    assert log["step"].tolist() == list(range(1, STEPS + 1))
    assert log["loss"].iloc[-1] < log["loss"].iloc[0]
    assert log["eval_loss"].iloc[-1] < log["eval_loss"].dropna().iloc[0]
    assert log["tokens"].is_monotonic_increasing
    assert (log[["tokens_per_second", "memory_mib", "seconds"]] > 0).all(axis=None)


def test_counts_rows_held_back_and_rows_too_long(trained):
    made = store.read_provenance(trained)
    assert (made["rows"], made["held_back_rows"], made["too_long_rows"]) == (12, 4, 1)
    assert made["step"] == "finetune"


def test_whole_questions_are_held_back(write_rows, tokenizer):
    path = write_rows([row(tokenizer, n, k=k, origin="prior") for n in range(10) for k in range(3)])
    table = store.read_table(path, tables.ROWS)
    how = StepSettings.model_validate(SETTINGS).initial.model_copy(update={"holdout_fraction": 0.3})
    learned, held, counts = finetune.split_rows(table, how, 0, path)
    assert counts == {"rows": 21, "held_back_rows": 9, "too_long_rows": 0}
    prompts_of = [
        {tuple(part.tokens(i)[: part.n_context[i]]) for i in range(len(part))}
        for part in (learned, held)
    ]
    assert not prompts_of[0] & prompts_of[1]


def test_adapters_leave_a_plain_checkpoint_and_themselves(base, rows, trained, tmp_path):
    out = tmp_path / "model"
    run(base, rows, out, settings(lora={"rank": 2}, steps=2))
    adapted, before = weights_of(out), weights_of(base)
    assert adapted.keys() == weights_of(trained).keys()
    changed = {name for name in adapted if not np.array_equal(adapted[name], before[name])}
    assert changed and all("_proj" in name for name in changed)
    assert sorted(p.name for p in (out / "adapter").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]


def test_the_time_between_checkpoints_is_the_machines(capsys):
    with pytest.raises(UserError, match=r"checkpoint_minutes belongs to the section machine"):
        finetune.main(["--settings", settings(checkpoint_minutes=5)])


def test_mean_response_tokens_are_counted_in_the_rows(base, write_rows, tokenizer, tmp_path):
    """Whatever their file says or, written by pandas, has lost."""
    path = write_rows([row(tokenizer, n) for n in range(6)], mean_response_tokens=7.5)
    run(base, path, tmp_path / "model", settings(steps=1))
    assert store.read_provenance(tmp_path / "model")["mean_response_tokens"] == 6.0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"weight": float("nan")}, "row 1 .question_id 'q1'. needs a finite weight"),
        ({"weight": -1.0}, "row 1 .* needs a finite weight"),
        ({"n_prompt_tokens": 0}, "row 1 .* at least one prompt and response token"),
        ({"n_prompt_tokens": 9, "token_ids": [1] * 9}, "row 1 .* response token"),
        (
            {"token_ids": [1, 2, 3, 4000], "n_prompt_tokens": 1},
            "tokenize the rows with the base",
        ),
    ],
)
def test_names_the_row_that_cannot_be_learned(
    base, write_rows, tokenizer, tmp_path, wrong, message
):
    path = write_rows([row(tokenizer, 0), row(tokenizer, 1, **wrong)])
    with pytest.raises(UserError, match=message):
        run(base, path, tmp_path / "model", settings(holdout_fraction=0.0))
    assert not (tmp_path / "model").exists()


def test_says_when_no_row_is_left(base, rows, tmp_path):
    with pytest.raises(UserError, match="17 of 17 are longer than max_tokens = 3"):
        run(base, rows, tmp_path / "model", settings(max_tokens=3))


def test_a_micro_batch_size_does_not_matter(base, rows, trained, tmp_path):
    run(base, rows, tmp_path / "model", tokens_per_micro_batch=20)
    ours, theirs = weights_of(tmp_path / "model"), weights_of(trained)
    for name in ours:  # Adam divides by the gradient's size: rounding shows where that is tiny
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-3, atol=1e-4)


# Killed and resumed ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def children():
    """Processes of their own that have the imports behind them."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["stages.lm.trainer", "transformers.models.qwen3.modeling_qwen3"]
    )
    return context


def child(*arguments, **machine) -> None:
    import torch

    torch.set_num_threads(1)
    run(*arguments, **machine)


def until(process, happened) -> None:
    deadline = time.monotonic() + 60
    while not happened():
        assert process.is_alive(), "it ended before it could be killed"
        assert time.monotonic() < deadline, "it never came to the point of being killed"
        time.sleep(0.001)


def steps_done(partial: Path) -> int:
    return max((int(p.name.split("-")[1]) for p in partial.glob("step-*")), default=0)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_training_killed_three_times_writes_the_same_model(
    children, base, rows, trained, tmp_path, number
):
    out, partial = tmp_path / "model", tmp_path / "model.partial"
    every_step = {"checkpoint_minutes": 1e-9}
    done = 0
    for _ in range(3):
        process = children.Process(target=child, args=(base, rows, out), kwargs=every_step)
        process.start()
        target = done + random.randint(1, 5)
        until(process, lambda: steps_done(partial) >= target)  # noqa: B023
        os.kill(process.pid, number)
        process.join(60)
        expected = -number if number == signal.SIGKILL else 128 + number
        assert process.exitcode == expected
        assert not out.exists()
        done = steps_done(partial)
        assert done >= target
    run(base, rows, out, **every_step)
    assert_same_weights(out, trained)
    assert not partial.exists()
    log = store.read_table(out / "training_log.parquet", tables.TRAINING_LOG)
    assert log["step"].to_pylist() == list(range(1, STEPS + 1))


def test_a_signal_that_two_pass_on_is_one_request_and_a_later_one_kills(monkeypatch):
    now = 100.0
    monkeypatch.setattr(finetune.time, "monotonic", lambda: now)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    with finetune.stop_signals() as stop:
        signal.raise_signal(signal.SIGINT)
        now += finetune.SAME_REQUEST_SECONDS
        signal.raise_signal(signal.SIGINT)
        assert stop == [signal.SIGINT] * 2
        now += 1
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_unfinished_work_of_other_settings_is_not_gone_on_with(base, rows, trained, tmp_path):
    out, partial = tmp_path / "model", tmp_path / "model.partial"
    (partial / "step-7").mkdir(parents=True)
    (partial / "recipe.json").write_text('{"models/initial": {"version": 0}}')
    run(base, rows, out)
    assert_same_weights(out, trained)


def test_two_trainings_of_one_model_refuse_each_other(base, rows, tmp_path):
    out = tmp_path / "model"
    with (
        UnfinishedModel(out, {}),
        pytest.raises(UserError, match="another process is writing this output"),
    ):
        run(base, rows, out)


def no_base_model(monkeypatch) -> None:
    """Fail where a base model is loaded."""
    monkeypatch.setattr("stages.lm.model.load", lambda *_: pytest.fail("loaded the base model"))


def test_a_finished_model_is_adopted(base, rows, trained, monkeypatch, capsys):
    no_base_model(monkeypatch)
    before = digests.content(trained)
    run(base, rows, trained)
    assert "already trained; adopting the finished model" in capsys.readouterr().err
    assert digests.content(trained) == before
    assert not trained.with_name("model.partial").exists()


def test_a_finished_model_of_another_recipe_is_not_overwritten(base, rows, trained, monkeypatch):
    no_base_model(monkeypatch)
    before = digests.content(trained)
    with pytest.raises(UserError, match=r"learning_rate: 0\.003 -> 0\.1"):
        run(base, rows, trained, settings(learning_rate=0.1))
    assert digests.content(trained) == before


def child_that_dies_at_its_end(*arguments) -> None:
    UnfinishedModel.discard = lambda _: os.kill(os.getpid(), signal.SIGKILL)
    child(*arguments)


def test_a_model_that_is_removed_in_the_last_seconds_is_put_back(
    children, base, rows, trained, tmp_path, monkeypatch
):
    """Snakemake removes the output of a job that dies after it was written."""
    out = tmp_path / "model"
    process = children.Process(target=child_that_dies_at_its_end, args=(base, rows, out))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert_same_weights(out, trained)
    shutil.rmtree(out)
    no_base_model(monkeypatch)
    run(base, rows, out)
    assert_same_weights(out, trained)
    assert {p.name for p in out.iterdir()} == {p.name for p in trained.iterdir()}
    assert not out.with_name("model.partial").exists()


def test_two_processes_write_the_model_of_one(base, rows, trained, tmp_path):
    """The same command under a launcher, as on several GPUs: sharded, one writer."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    step = ["-m", "stages.finetune", "--settings", settings(), "--machine", '{"threads": 1}']
    step += ["--rows", str(rows), "--base", str(base), "--out", str(tmp_path / "model")]
    started = subprocess.Popen([*launch, *step], cwd=Path(__file__).parent.parent)
    try:
        assert started.wait(timeout=100) == 0
    finally:
        started.terminate()  # ends its two children too
        started.wait()
    assert {p.name for p in (tmp_path / "model").iterdir()} == {p.name for p in trained.iterdir()}
    ours, theirs = weights_of(tmp_path / "model"), weights_of(trained)
    assert ours.keys() == theirs.keys()
    for name in ours:  # Adam divides by the gradient's size: rounding shows where that is tiny
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-3, atol=1e-4)
    assert store.read_provenance(tmp_path / "model")["processes"] == 2
