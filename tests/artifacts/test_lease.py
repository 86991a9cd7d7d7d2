"""One writer per output, whether or not the file system knows locks."""

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stages.artifacts import lease, store, tables
from stages.artifacts.journal import Journal
from stages.artifacts.lease import Lease
from stages.common.errors import UserError

WRITER = """
import sys, time
from pathlib import Path
from stages.artifacts import lease, tables
from stages.artifacts.journal import Journal
lease.BEAT_SECONDS, lease.EXPIRY_SECONDS = 0.1, 0.5
if sys.argv[2] == "elsewhere":
    lease._machine = lambda: ["another machine"]
row = {"question_id": "a", "m": 0, "verdict": "correct", "seconds": 0.0}
with Journal(Path(sys.argv[1]), tables.VERDICTS, {}) as journal:
    for k in range(100):
        journal.append({**row, "k": k})
        print("holds", flush=True)
        time.sleep(float(sys.argv[3]))
    journal.finish([("a", k, 0) for k in range(100)], {})
"""


def writer(output: Path, where: str = "here", seconds: float = 60) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(output), where, str(seconds)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True)


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "BEAT_SECONDS", 0.1)
    monkeypatch.setattr(lease, "EXPIRY_SECONDS", 0.5)


@pytest.fixture(params=["here", "elsewhere"])
def holder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    process = writer(tmp_path / "v.parquet", request.param)
    assert process.stdout is not None and process.stdout.readline() == "holds\n"
    yield process
    process.kill()
    process.wait()


def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "v.parquet", tables.VERDICTS, {})


@pytest.mark.parametrize("flock", ["works", "does nothing", "is missing"])
def test_a_second_writer_is_refused(
    holder: subprocess.Popen[str], tmp_path: Path, flock: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    if flock != "works":
        nothing = missing if flock == "is missing" else lambda *_: None
        monkeypatch.setattr(fcntl, "flock", nothing)
    message = f"another process is writing this output .process {holder.pid} on "
    with pytest.raises(UserError, match=message), journal(tmp_path):
        pass
    assert holder.poll() is None


def test_a_dead_writer_is_replaced(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    holder.kill()
    holder.wait()
    with journal(tmp_path) as successor:
        assert len(successor) == 1
        assert [p.name for p in successor.folder.glob("_lease*")] == ["_lease-2"]
    assert not list((tmp_path / "v.parquet.partial").glob("_lease*"))


def test_a_suspended_writer_on_another_machine_is_replaced_and_stops(tmp_path: Path) -> None:
    suspended = writer(tmp_path / "v.parquet", "elsewhere", 0.01)
    assert suspended.stdout is not None and suspended.stderr is not None
    assert suspended.stdout.readline() == "holds\n"
    suspended.send_signal(signal.SIGSTOP)
    time.sleep(0.7)
    with journal(tmp_path) as successor:
        suspended.send_signal(signal.SIGCONT)
        errors = suspended.communicate(timeout=30)[1]
        assert "another process has taken over this output" in errors
        for k in range(100):
            successor.append(
                {"question_id": "a", "k": k, "m": 0, "verdict": "correct", "seconds": 0.0}
            )
        successor.finish([("a", k, 0) for k in range(100)], {})
    assert store.read_table(tmp_path / "v.parquet", tables.VERDICTS).num_rows == 100


def test_a_table_is_not_written_once_another_process_has_taken_over(tmp_path: Path) -> None:
    row = {"question_id": "a", "k": 0, "m": 0, "verdict": "correct", "seconds": 0.0}
    with journal(tmp_path) as superseded:
        superseded.append(row)
        (superseded.folder / "_lease-2").touch()  # before the next beat notices
        with pytest.raises(UserError, match="another process has taken over"):
            superseded.finish([("a", 0, 0)], {})
    assert not (tmp_path / "v.parquet").exists()


def test_two_writers_that_start_at_once_end_in_one_table(tmp_path: Path) -> None:
    writers = [writer(tmp_path / "v.parquet", "here", 0.005) for _ in range(4)]
    errors = [process.communicate(timeout=60)[1] for process in writers]
    assert 0 in [process.returncode for process in writers]
    refused = [e for process, e in zip(writers, errors, strict=True) if process.returncode]
    assert all("another process is writing this output" in error for error in refused)
    assert store.read_table(tmp_path / "v.parquet", tables.VERDICTS).num_rows == 100
    assert [p.name for p in tmp_path.iterdir()] == ["v.parquet"]


def test_a_lease_without_content_expires(tmp_path: Path) -> None:
    """Its writer was killed between creating the file and writing it."""
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "_lease-7").touch()
    started = time.monotonic()
    with Lease(tmp_path / "p", tmp_path / "x"):
        assert time.monotonic() - started > 0.4
        assert [p.name for p in (tmp_path / "p").iterdir()] == ["_lease-8"]
    assert not (tmp_path / "p").exists()


def test_the_process_number_of_a_dead_holder_may_be_used_again(tmp_path: Path) -> None:
    with Lease(tmp_path / "p", tmp_path / "x"):
        content = (tmp_path / "p" / "_lease-1").read_text()
    (tmp_path / "p").mkdir()
    other = {**json.loads(content), "started": "1"}
    (tmp_path / "p" / "_lease-1").write_text(json.dumps(other))
    with Lease(tmp_path / "p", tmp_path / "x"):
        pass
