"""The workflow plans what it should, keeps what is finished, and says what is wrong.

Every test runs the real Snakemake in a folder of its own, on an experiment of seconds: the engine
is transformers, so nothing but files and processes is shared with other tests.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

ROOT = Path(__file__).parent.parent
SHIPPED = yaml.safe_load((ROOT / "config.yaml").read_text())["experiments"]
MINI = {
    "seed": 5,
    "questions": {"addition": {"traced": 12, "answer_only": 6, "held_out": 6}},
    "model": {
        "scratch": {"hidden_size": 32, "layers": 1, "heads": 1, "key_value_heads": 1}
        | {"intermediate_size": 64}
    },
    "prompts": {"template": "plain"},
    "engine": {"name": "transformers", "dtype": "float32"},
    "finetune": {"steps": 4, "batch_size": 8, "learning_rate": "1e-3", "dtype": "float32"},
    "scores": {"dtype": "float32"},
    "traces": {"k": 2, "max_tokens": 12, "shards": 2},
    "answers": {"m": 2, "max_tokens": 6},
    "evaluation": {"temperature": 0, "max_tokens": 12},
    "weights": {"require_closed": False},
}


class Workflow:
    """A copy of the workflow with a config.yaml of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("Snakefile", "workflow", "stages"):
            (folder / name).symlink_to(ROOT / name)
        self.configure(mini=MINI)

    def configure(self, **experiments: dict) -> None:
        (self.folder / "config.yaml").write_text(yaml.safe_dump({"experiments": experiments}))

    def run(self, *arguments: str, cores: int = 2) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "snakemake", f"-j{cores}", *arguments]
        return subprocess.run(
            command,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "TQDM_DISABLE": "1"},
        )

    def planned(self, *arguments: str) -> dict[str, int]:
        """Jobs of a dry run by rule."""
        shown = self.run("-n", *arguments)
        assert shown.returncode == 0, shown.stdout
        stats = shown.stdout.rpartition("Job stats:")[2]
        return {m[1]: int(m[2]) for m in re.finditer(r"^(\w+) +(\d+)$", stats, re.MULTILINE)}


@pytest.fixture
def workflow(tmp_path: Path) -> Workflow:
    return Workflow(tmp_path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished round of the mini experiment; tests work on copies of it."""
    made = Workflow(tmp_path_factory.mktemp("finished"))
    shown = made.run("results/mini/eval.json")
    assert shown.returncode == 0, shown.stdout
    return made.folder


@pytest.fixture
def done(finished: Path, tmp_path: Path) -> Workflow:
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy, symlinks=True)
    again = Workflow.__new__(Workflow)
    again.folder = copy
    return again


# Plans -------------------------------------------------------------------------------------------


def test_every_shipped_experiment_plans_without_network_or_gpu(workflow: Workflow) -> None:
    shutil.copy(ROOT / "config.yaml", workflow.folder / "config.yaml")
    targets = [f"results/{name}/eval.json" for name in SHIPPED]
    jobs = workflow.planned(*targets, "--config")
    assert jobs["summary"] == len(SHIPPED)
    # a _gml sibling adds weights, rows, one fine-tuning and its evaluation, nothing before them
    parents = [name for name in SHIPPED if not name.endswith("_gml") and name != "smoke"]
    bases = {"tiny", "smoke", "smol_gsm8k", "qwen3_4b", "qwen3_8b", "qwen25_7b", "qwen25_32b"}
    assert jobs["base"] == len(bases)
    assert jobs["weights"] == len(SHIPPED) - 1  # smol_gsm8k_base evaluates the base model alone
    assert len(parents) < len(SHIPPED)


def test_the_8b_experiment(workflow: Workflow) -> None:
    shutil.copy(ROOT / "config.yaml", workflow.folder / "config.yaml")
    jobs = workflow.planned("results/qwen3_8b/eval.json")
    assert (jobs["traces"], jobs["scores"], jobs["finetune"]) == (64, 128, 3)
    assert jobs["evaluate"] == 2


def test_a_second_round_plans_its_own_jobs_only(done: Workflow) -> None:
    done.configure(mini={**MINI, "rounds": 2})
    jobs = done.planned("results/mini/eval.json")
    assert "base" not in jobs and "questions" not in jobs and "teacher_rows" not in jobs
    assert jobs["finetune"] == 2 and jobs["traces"] == 4  # traces and rollouts, two shards each


def test_a_child_uses_the_parents_artifacts(done: Workflow) -> None:
    gml = {"inherits": "mini", "weights": {"answer": "geometric_likelihood"}}
    done.configure(mini=MINI, gml=gml)
    jobs = done.planned("results/gml/eval.json")
    del jobs["total"]
    own = ("settings", "weights", "rows", "finetune", "evaluate", "summary")
    assert jobs == dict.fromkeys(own, 1)
    refused = done.run("-n", "results/gml/round-1/traces/shard-0000.parquet")
    assert "gml uses this artifact of mini; request results/mini/round-1/traces" in refused.stdout


# What is finished stays --------------------------------------------------------------------------


def test_a_second_run_has_nothing_to_do(done: Workflow) -> None:
    assert "Nothing to be done" in done.run("results/mini/eval.json").stdout


def test_a_users_own_questions_and_model(done: Workflow) -> None:
    """Both are found again by a second run; a file that was edited meanwhile stops it."""
    trace = "<|begin_of_thought|>1<|end_of_thought|><|begin_of_solution|>\\boxed{2}"
    turns = [{"from": "user", "value": "1+1"}, {"from": "assistant", "value": trace}]
    file = done.folder / "mine.jsonl"
    file.write_text(json.dumps({"conversations": turns}) + "\n")
    mine = {**MINI, "questions": {"file": "mine.jsonl"}}
    mine["model"] = {"path": "results/mini/models/base"}
    done.configure(mini=MINI, mine=mine)
    target = "results/mine/teacher_rows/initial.parquet"
    assert done.run(target).returncode == 0
    rows = pd.read_parquet(done.folder / target)
    solution = "<|begin_of_solution|>\\boxed{2}<|end_of_solution|>"
    assert rows["response"].to_list() == [f"1<|end_of_thought|>{solution}<|im_end|>"]
    assert "Nothing to be done" in done.run(target).stdout
    file.write_text(file.read_text() * 2)
    stopped = done.run(target)
    assert stopped.returncode != 0
    assert "results/mine/questions.parquet is stale" in stopped.stdout


def test_touching_files_redoes_no_model_and_no_trace(done: Workflow) -> None:
    results = done.folder / "results" / "mini"
    for file in [results / "questions.parquet", *(results / "round-1").rglob("*.parquet")]:
        file.touch()
    for model in ("base", "initial"):
        for file in (results / "models" / model).iterdir():
            file.touch()
    redone = set(done.planned("results/mini/eval.json")) - {"total"}
    assert redone <= {"teacher_rows", "weights", "rows", "summary"}  # seconds each


def test_a_changed_setting_that_would_redo_a_model_stops_and_says_so(done: Workflow) -> None:
    done.configure(mini={**MINI, "finetune": {**MINI["finetune"], "steps": 5}})
    stopped = done.run("results/mini/eval.json")
    assert stopped.returncode != 0
    assert "results/mini/models/" in stopped.stdout
    assert "steps: 4 -> 5" in stopped.stdout
    assert "inherits: mini" in stopped.stdout
    assert (done.folder / "results/mini/models/final/model.safetensors").exists()


def test_a_changed_weight_stops_before_the_final_model_is_redone(done: Workflow) -> None:
    done.configure(mini={**MINI, "weights": {"require_closed": False, "ratio": "full"}})
    stopped = done.run("results/mini/eval.json")
    assert "models/final is stale" in stopped.stdout
    assert "weights.ratio: default -> full" in stopped.stdout


def test_raising_k_draws_only_what_is_missing(done: Workflow) -> None:
    folder = done.folder / "results/mini/round-1/traces"
    before = pd.read_parquet(folder)
    shutil.rmtree(done.folder / "results/mini/models/final")
    shutil.rmtree(done.folder / "results/mini/eval")
    done.configure(mini={**MINI, "traces": {**MINI["traces"], "k": 3}})
    shown = done.run("results/mini/models/final")
    assert shown.returncode == 0, shown.stdout
    assert "resuming: 18 of 27 traces already done" in shown.stdout
    after = pd.read_parquet(folder)
    assert len(after) == 54
    kept = after[after["k"] < 2].sort_values(["question_id", "k"], ignore_index=True)
    pd.testing.assert_frame_equal(kept, before.sort_values(["question_id", "k"], ignore_index=True))


def test_a_killed_run_goes_on_where_it_stood(workflow: Workflow) -> None:
    """Snakemake and all of its steps are killed; only `--unlock` is needed before the next run."""
    slow = {**MINI, "traces": {**MINI["traces"], "k": 60, "max_tokens": 40}}
    workflow.configure(mini=slow)
    target = "results/mini/round-1/traces/shard-0000.parquet"
    command = [sys.executable, "-m", "snakemake", "-j2", target]
    running = subprocess.Popen(command, cwd=workflow.folder, stderr=subprocess.DEVNULL)
    journal = workflow.folder / f"{target}.partial/_rows"
    while not (journal.exists() and journal.read_bytes().count(b"\n") > 30):
        assert running.poll() is None
    running.kill()
    running.wait()
    workflow.run("--unlock", target)
    shown = workflow.run(target)
    assert shown.returncode == 0, shown.stdout
    assert re.search(r"[1-9]\d* of 540 traces already done", shown.stdout)
    assert len(pd.read_parquet(workflow.folder / target)) == 540


# What is wrong is said ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("experiment", "target", "message"),
    [
        (MINI, "results/minni/eval.json", "did you mean 'mini'?"),
        ({**MINI, "trases": {}}, "results/mini/eval.json", "did you mean 'traces'?"),
        (
            {**MINI, "traces": {"temprature": 1}},
            "results/mini/eval.json",
            "experiments.mini.traces.temprature: no such setting; did you mean 'temperature'?",
        ),
        ({**MINI, "seed": -1}, "results/mini/eval.json", "experiments.mini.seed: Input should be"),
    ],
)
def test_a_mistake_in_the_settings_is_named(
    workflow: Workflow, experiment: dict, target: str, message: str
) -> None:
    workflow.configure(mini=experiment)
    for dry in ("-n", "--quiet"):
        shown = workflow.run(dry, target) if dry == "-n" else workflow.run(target)
        assert shown.returncode != 0
        assert message in shown.stdout
        assert "Traceback" not in shown.stdout


@pytest.mark.parametrize(
    ("section", "target", "message"),
    [
        (
            {"questions": {"file": "nowhere.jsonl"}},
            "results/mini/questions.parquet",
            "nowhere.jsonl: no such file",
        ),
        (
            {"model": {"path": "./nowhere"}},
            "results/mini/models/base",
            "./nowhere: no such ",
        ),
        (
            {"gpus": {"finetune": 1}},
            "results/mini/models/initial",
            "this step needs 1 GPU(s)",
        ),
    ],
)
def test_a_failed_step_says_why_and_leaves_nothing(
    workflow: Workflow, section: dict, target: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    workflow.configure(mini={**MINI, **section})
    shown = workflow.run(target)
    assert shown.returncode != 0
    assert f"error: {message}" in shown.stdout
    assert "Traceback" not in shown.stdout
    assert not (workflow.folder / target).exists()


def test_a_truncated_shard_is_named(done: Workflow) -> None:
    shard = done.folder / "results/mini/round-1/traces/shard-0001.parquet"
    shard.write_bytes(shard.read_bytes()[:500])
    (done.folder / "results/mini/round-1/weights.parquet").unlink()
    shutil.rmtree(done.folder / "results/mini/models/final")
    shown = done.run("results/mini/models/final")
    assert shown.returncode != 0
    assert "shard-0001.parquet: not a readable Parquet file" in shown.stdout
    assert "Traceback" not in shown.stdout
