"""What every command line shares: settings, short errors, progress, provenance."""

import errno
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stages.artifacts import store, tables
from stages.common.errors import UserError
from stages.experiments.settings import StepSettings
from stages.running import command, origin_of

ROOT = Path(__file__).parents[2]


def test_settings_come_inline_or_from_a_file(tmp_path: Path) -> None:
    given = {"traces": {"k": 3}, "round": 2}
    (tmp_path / "s.json").write_text(json.dumps(given))
    for form in (json.dumps(given), str(tmp_path / "s.json")):
        settings = command.parser("doc").parse_args(["--settings", form]).settings
        assert (settings.traces.k, settings.round) == (3, 2)
    assert command.parser("doc").parse_args([]).settings == StepSettings()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ('{"traces": {"kk": 3}}', "--settings.traces.kk: no such setting"),
        ('{"traces"', "--settings: not valid JSON"),
        ("nowhere.json", "nowhere.json: cannot be read"),
    ],
)
def test_wrong_settings_are_named(given: str, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        command.parser("doc").parse_args(["--settings", given])


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (UserError("that is wrong; do this"), "error: that is wrong; do this"),
        (OSError(errno.ENOSPC, "No space left on device", "/x/y"), "error: /x/y: No space left"),
        (OSError(errno.EROFS, "Read-only file system", "/x/y"), "error: /x/y: Read-only file"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "error: the output: No"),
        (BaseException("enforce fail: unexpected pos 704 vs 598"), "error: the output: No space"),
        (KeyboardInterrupt(), "130"),
    ],
)
def test_a_users_mistake_is_a_message_and_no_traceback(raised: BaseException, code: str) -> None:
    def main() -> None:
        raise raised

    with pytest.raises(SystemExit) as stopped:
        command.run(main)
    assert str(stopped.value.code).startswith(code)


def test_a_mistake_of_ours_keeps_its_traceback() -> None:
    def main() -> None:
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        command.run(main)


def test_a_step_that_is_done_ends_at_once() -> None:
    """What runs at the interpreter's end could die, and Snakemake would delete the output."""
    code = (
        "import atexit, sys; from stages.running import command;"
        "atexit.register(lambda: sys.exit(7)); atexit.register(print, 'too late');"
        "command.run(lambda: print('done', end=''))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done", "")


def test_a_file_too_large_for_its_disk_is_one_line(tmp_path: Path) -> None:
    code = f"""
import resource
from pathlib import Path
from stages.artifacts import store
from stages.running import command
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
command.run(lambda: store.write_json(Path({str(tmp_path)!r}) / "x.json", list(range(9999))))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1
    assert "File too large; fix the disk" in done.stderr and done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_device_is_asked_of_the_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = tmp_path / "nvidia-smi"
    driver.write_text('#!/bin/sh\necho "$@" > "$0.asked"\nprintf "NVIDIA H100\\nNVIDIA H100\\n"\n')
    driver.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert command.device_name() == "NVIDIA H100, NVIDIA H100"
    assert "--id 2,5" in (tmp_path / "nvidia-smi.asked").read_text()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert command.device_name() == "cpu"


def test_a_step_ends_with_its_parent() -> None:
    step = "from stages.running import command; import time; command.run(lambda: time.sleep(60))"
    parent = (
        "import subprocess, sys, time;"
        f"p = subprocess.Popen([sys.executable, '-c', {step!r}]);"
        "time.sleep(3); print(p.pid, flush=True); time.sleep(60)"
    )
    running = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, cwd=ROOT)
    pid = int(running.stdout.readline())
    assert is_running(pid)
    running.kill()
    running.wait()
    deadline = time.monotonic() + 20
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(pid)


def is_running(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_progress_in_a_log_is_plain_lines(capsys: pytest.CaptureFixture) -> None:
    progress = command.Progress("traces", total=10, done=4)
    for _ in range(6):
        progress.add(tokens=100)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "resuming: 4 of 10 traces already done"
    assert lines[-1].startswith("10 of 10 traces, ") and "tokens/s" in lines[-1]
    assert "\r" not in "".join(lines)


def test_provenance_names_settings_versions_and_inputs(tmp_path: Path) -> None:
    questions = tmp_path / "questions.parquet"
    store.write_table(questions, tables.QUESTIONS, tables.QUESTIONS.schema.empty_table(), {})
    settings = StepSettings.model_validate({"traces": {"k": 3}})
    origin = origin_of.output("traces", settings, {"questions": questions})
    made = command.provenance(origin, settings, seconds=1.0, device="cpu")
    assert made["settings"]["traces"]["k"] == 3
    assert made["settings"]["traces"]["temperature"] == 0.7  # defaults are filled in
    assert len(made["inputs"][str(questions)]) == 16
    assert {"python", "torch", "pyarrow"} <= set(made["versions"])
    assert json.loads(json.dumps(made)) == made
