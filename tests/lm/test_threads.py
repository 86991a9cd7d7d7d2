"""Waiting threads sleep, whatever is started; small models use one thread."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from stages.lm.model import load, use_threads

ROOT = Path(__file__).parents[2]
CODE = """
import sys
class NoTorch:
    def find_spec(self, name, *_):
        if name == "torch":
            import os
            assert os.environ.get("OMP_WAIT_POLICY") == "PASSIVE", "torch came first"
            raise SystemExit(0)
sys.meta_path.insert(0, NoTorch())
import {module}
import torch
"""


@pytest.mark.parametrize("module", ["stages.finetune", "stages.scores", "bench.lm"])
def test_the_policy_is_set_before_torch_is_imported(module: str) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
    code = [sys.executable, "-c", CODE.format(module=module)]
    assert subprocess.run(code, cwd=ROOT, env=environment).returncode == 0


def test_a_small_model_uses_one_thread_unless_told_otherwise(
    checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number is recorded, not set: it belongs to the process, and libraries pin it too."""
    model = load(checkpoints["qwen2"], torch.float32)
    numbers: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", numbers.append)
    use_threads(model, 2)
    use_threads(model, 0)
    assert numbers == [2, 1]
