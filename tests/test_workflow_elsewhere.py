"""The workflow runs outside its clone: from another directory, and as a module of another one."""

import json
import subprocess
import sys
from pathlib import Path

import yaml

from stages.artifacts import store
from stages.experiments import config, layout
from stages.experiments.reuse import Workspace
from tests.test_workflow import MINI, ROOT, Workflow, done, finished

__all__ = ["done", "finished"]  # fixtures
TARGET = "results/mini/teacher_rows/initial.parquet"


def snakemake(folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "snakemake", "-j2", *arguments]
    shown = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stdout + shown.stderr
    return shown.stdout + shown.stderr


def test_from_another_directory_with_its_own_experiments(tmp_path: Path) -> None:
    elsewhere, here = tmp_path / "elsewhere", tmp_path / "here"
    elsewhere.mkdir()
    here.mkdir()
    (elsewhere / "config.yaml").write_text(yaml.safe_dump({"experiments": {"mini": MINI}}))
    snakemake(here, TARGET, "-s", str(ROOT / "Snakefile"), "--directory", str(elsewhere))
    assert (elsewhere / TARGET).exists()
    assert list(here.iterdir()) == []


def test_from_another_directory_with_the_shipped_experiments(tmp_path: Path) -> None:
    plan = snakemake(tmp_path, "-n", "results/tiny/eval.json", "-s", str(ROOT / "Snakefile"))
    assert "finetune" in plan


def test_as_a_module_of_another_workflow(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"experiments": {"mini": MINI}}))
    (tmp_path / "Snakefile").write_text(
        'configfile: "mine.yaml"\n'
        f'module reasoning:\n    snakefile: "{ROOT}/Snakefile"\n    config: config\n'
        "use rule * from reasoning as reasoning_*\n"
        f'rule all:\n    default_target: True\n    input: "{TARGET}"\n'
    )
    snakemake(tmp_path)
    assert (tmp_path / TARGET).exists()


def test_a_run_records_the_identities_that_config_yaml_tells(finished: Path) -> None:
    work = Workspace(config.load(yaml.safe_load((finished / "config.yaml").read_text())))
    experiment = work.config.experiments["mini"]
    checked = 0
    for artifact in [*layout.draws(experiment), *layout.trained_models(experiment)]:
        sharded = artifact.kind in layout.SHARDED
        for shard in layout.shards(experiment) if sharded else [None]:
            recorded = store.read_provenance(finished / work.path("mini", artifact, shard))
            planned = work.ancestry("mini", artifact)
            assert recorded["recipe"] == json.loads(json.dumps(planned.recipes)), artifact.name
            assert recorded["identity"] == planned.identity
            assert recorded["extent"] == planned.extent
            checked += 1
    assert checked == 5 * 2 + 2 + 3


def test_a_growth_that_failed_goes_on_with_the_same_command(done: Workflow) -> None:
    """Snakemake's own record says that the table has grown; its extent says that it has not."""
    more = {**MINI, "traces": {**MINI["traces"], "k": 3}}
    target = "results/mini/round-1/traces/shard-0000.parquet"
    folder = done.folder / "results/mini/models"
    model = folder / "posterior" / "model.safetensors"
    weights = model.read_bytes()
    done.configure(mini=more)
    model.write_bytes(b"damaged")
    assert done.run(target).returncode != 0
    model.write_bytes(weights)
    assert done.planned(target)["traces"] == 1
    shown = done.run(target)
    assert shown.returncode == 0, shown.stdout
    assert "resuming: 18 of 27 traces already done" in shown.stdout
    assert "Nothing to be done" in done.run(target).stdout
