"""Devices are handed out one job each, with pretend devices in place of GPUs."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from stages.common.errors import UserError
from stages.running import gpus

HOLD = """
import sys, time
from pathlib import Path
from stages.running import gpus
taken = gpus.take(int(sys.argv[1]), sys.argv[2].split(","), Path(sys.argv[3]))
print(",".join(taken), flush=True)
time.sleep(float(sys.argv[4]))
"""


def holder(count: int, devices: str, locks: Path, seconds: float) -> subprocess.Popen:
    command = [sys.executable, "-c", HOLD, str(count), devices, str(locks), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def taken_by(job: subprocess.Popen) -> list[str]:
    return job.stdout.readline().strip().split(",")


def test_eight_jobs_take_eight_devices_of_their_own(tmp_path: Path) -> None:
    jobs = [holder(1, "0,1,2,3,4,5,6,7", tmp_path, 20) for _ in range(8)]
    try:
        devices = [taken_by(job) for job in jobs]
    finally:
        for job in jobs:
            job.kill()
    assert sorted(devices) == [[str(n)] for n in range(8)]


def test_a_killed_job_frees_its_devices(tmp_path: Path) -> None:
    first = holder(2, "0,1", tmp_path, 60)
    assert taken_by(first) == ["0", "1"]
    second = holder(1, "0,1", tmp_path, 0)
    time.sleep(0.5)
    assert second.poll() is None
    first.kill()
    assert taken_by(second) == ["0"]


def test_a_child_of_the_job_holds_them_on(tmp_path: Path) -> None:
    """A step's engine may outlive the step by a moment; its device is not free before it ends."""
    script = HOLD.replace("time.sleep(float(sys.argv[4]))", "import os\nos.execvp('sh', SLEEP)")
    script = script.replace("SLEEP", "['sh', '-c', 'sleep 2 & exit']")
    first = subprocess.Popen(
        [sys.executable, "-c", script, "1", "0", str(tmp_path), "0"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert taken_by(first) == ["0"]
    first.wait()
    started = time.monotonic()
    assert gpus.take(1, ["0"], tmp_path) == ["0"]
    assert time.monotonic() - started > 0.5


def test_a_job_for_many_devices_is_not_starved_by_later_ones(tmp_path: Path) -> None:
    small = holder(1, "0,1", tmp_path, 1.5)
    taken_by(small)
    large = holder(2, "0,1", tmp_path, 1)
    time.sleep(0.5)
    late = holder(1, "0,1", tmp_path, 0)
    assert taken_by(large) == ["1", "0"]
    assert late.poll() is None
    taken_by(late)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become two users")
def test_two_users_of_a_machine_share_the_locks() -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        locks = str(Path(folder) / "locks")
        jobs = []
        for user in ("65533", "65534"):
            become = f"import os; os.umask(0o077); os.setgid({user}); os.setuid({user}); taken ="
            script = HOLD.replace("taken =", become)
            command = [sys.executable, "-c", script, "1", "0,1", locks, "20"]
            jobs.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        try:
            assert sorted(taken_by(job) for job in jobs) == [["0"], ["1"]]
        finally:
            for job in jobs:
                job.kill()
                job.wait()


def test_who_waits_says_so(tmp_path: Path) -> None:
    first = holder(1, "0", tmp_path, 60)
    taken_by(first)
    command = [sys.executable, "-c", HOLD, "1", "0", str(tmp_path), "0"]
    second = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert second.stderr.readline() == "waiting for 1 of the GPUs 0\n"
    first.kill()
    assert taken_by(second) == ["0"]


def test_more_than_there_are_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"needs 2 GPU\(s\) .* but 1 are visible"):
        gpus.take(2, ["0"], tmp_path)


def test_a_job_starts_from_the_devices_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert gpus.visible() == ["3", "5"]
    for none in ("", "-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", none)
        assert gpus.visible() == []


def test_a_slurm_job_does_not_wait_for_device_0_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpus, "LOCKS", tmp_path)
    folders = []
    for job in (None, "17", "18"):
        if job is not None:
            monkeypatch.setenv("SLURM_JOB_ID", job)
        folders.append(gpus.lock_folder())
        assert gpus.take(1, ["0"], folders[-1]) == ["0"]
    assert folders == [tmp_path, tmp_path / "17", tmp_path / "18"]


def test_a_step_sees_its_own_devices_and_fails_before_it_starts_without_them() -> None:
    command = [sys.executable, "-m", "stages.running.gpus"]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    refused = subprocess.run(
        [*command, "1", "--", "traces"], env=environment, capture_output=True, text=True
    )
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: this step needs 1 GPU(s)")
    assert "Traceback" not in refused.stderr
    shown = subprocess.run(
        [*command, "0", "--", "traces", "--help"], env=environment, capture_output=True, text=True
    )
    assert "python -m stages.traces" in shown.stdout


def test_fine_tuning_on_several_gpus_starts_through_accelerate() -> None:
    command = gpus.start("finetune", 8, ["--out", "x"])
    assert command[1:3] == ["-m", "accelerate.commands.launch"]
    assert command[command.index("--num_processes") + 1] == "8"
    assert command[-3:] == ["stages.finetune", "--out", "x"]
    assert gpus.start("finetune", 1, [])[1:] == ["-m", "stages.finetune"]
    assert gpus.start("traces", 4, [])[1:] == ["-m", "stages.traces"]
