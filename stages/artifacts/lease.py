"""One writer per output, on any file system: a lease file that its holder keeps fresh.

`flock` is missing or does nothing on some network file systems, so the lease needs nothing but
exclusive creation of files. The files `_lease-N` of a folder are numbered; the highest holds. Who
finds the holder dead creates the next number, which only one process can.
"""

import json
import os
import socket
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import Any

from stages.common.errors import UserError

BEAT_SECONDS = 10.0
EXPIRY_SECONDS = 90.0  # several beats, plus the minute for which NFS may cache a file's times


class Lease:
    """The right to write into a folder; a context manager.

    A holder on this machine is alive while its process is. One on another machine is alive while it
    refreshes its file; a file that was not refreshed for `EXPIRY_SECONDS` has expired. Ages compare
    times that the file server gave, so that clocks need not agree.

    Parameters
    ----------
    folder : Path
        Made where it is missing, removed with the lease when nothing else is in it.
    output : Path
        What is being written, for messages.

    Raises
    ------
    UserError
        Another process holds the lease.
    """

    def __init__(self, folder: Path, output: Path) -> None:
        self.folder, self.output = folder, output
        self._lost = False
        self._ended = threading.Event()

    def __enter__(self) -> "Lease":
        self._number = self._take()
        for number, path in _leases(self.folder):
            if number < self._number:
                path.unlink(missing_ok=True)
        self._ended.clear()
        threading.Thread(target=self._keep_fresh, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._path.unlink(missing_ok=True)
        if self.folder.exists() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    @property
    def _path(self) -> Path:
        return self.folder / f"_lease-{self._number}"

    def check(self, look: bool = True) -> None:
        """Stop this process if another one has taken over; without `look`, as of the last beat.

        Raises
        ------
        UserError
            The lease expired (the process was suspended, for instance) and another process has it.
        """
        if look:
            self._lost = self._lost or self._is_superseded()
        if self._lost:
            raise UserError(
                f"{self.output}: another process has taken over this output, because this one gave "
                f"no sign of life for {EXPIRY_SECONDS:.0f} s; finished work is kept"
            )

    def _take(self) -> int:
        while True:
            self.folder.mkdir(parents=True, exist_ok=True)
            held = _leases(self.folder)
            if held and not self._has_expired(held[-1][1]):
                self._refuse(held[-1][1])
            number = held[-1][0] + 1 if held else 1
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
            try:
                file = os.open(self.folder / f"_lease-{number}", flags, 0o666)
            except (FileExistsError, FileNotFoundError):
                continue  # another process was faster, or removed the folder at its end
            with os.fdopen(file, "w") as lease:
                json.dump(_this_process(), lease)
            return number

    def _has_expired(self, path: Path) -> bool:
        """Whether the holder is dead; waits where only time can tell."""
        first: float | None = None
        while True:
            try:
                holder, age, beat = self._read(path)
            except FileNotFoundError:
                return True
            if holder.get("machine") == _machine():
                return not _is_alive(holder)
            if age > EXPIRY_SECONDS:
                return True
            if first is None:
                first = beat
                print(
                    f"{self.output}: waiting up to {EXPIRY_SECONDS:.0f} s to learn whether its "
                    f"writer on {holder.get('host', 'another machine')} is alive",
                    file=sys.stderr,
                )
            elif beat != first:
                return False
            time.sleep(min(2.0, BEAT_SECONDS / 2))

    def _read(self, path: Path) -> tuple[dict[str, Any], float, float]:
        """Holder, age in seconds by the file server's clock, and time of the last beat."""
        with path.open() as lease:  # opening also refreshes what NFS caches
            text, beat = lease.read(), os.fstat(lease.fileno()).st_mtime
        try:
            holder = json.loads(text)
        except ValueError:
            holder = {}  # being written
        probe = self.folder / f"_probe-{uuid.uuid4().hex}"
        probe.touch()
        now = probe.stat().st_mtime
        probe.unlink()
        return holder, now - beat, beat

    def _refuse(self, path: Path) -> None:
        try:
            holder, _, _ = self._read(path)
        except FileNotFoundError:
            return
        where = f"process {holder.get('pid')} on {holder.get('host')}"
        raise UserError(
            f"{self.output}: another process is writing this output ({where}); wait for it or "
            "stop it"
        )

    def _keep_fresh(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            try:
                os.utime(self._path)
                self._lost = self._lost or self._is_superseded()
            except FileNotFoundError:
                self._lost = not self._ended.is_set()
            except OSError:
                continue  # the next beat may succeed

    def _is_superseded(self) -> bool:
        return [number for number, _ in _leases(self.folder)][-1:] != [self._number]


def _leases(folder: Path) -> list[tuple[int, Path]]:
    """Numbers and paths of a folder's leases, the holder's last."""
    return sorted(
        (int(path.name.removeprefix("_lease-")), path) for path in folder.glob("_lease-*")
    )


def _this_process() -> dict[str, Any]:
    pid = os.getpid()
    return {
        "machine": _machine(),
        "host": socket.gethostname(),
        "pid": pid,
        "started": _start_time(pid),
    }


def _machine() -> list[str]:
    """Equal for two processes if each can see whether the other is alive."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    names = Path("/proc/self/ns/pid")
    return [
        socket.gethostname(),
        boot.read_text().strip() if boot.exists() else "",
        str(names.readlink()) if names.is_symlink() else "",
    ]


def _start_time(pid: int) -> str | None:
    """When a process started, in ticks since boot; None for one that has ended or is hidden."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if state == "Z" else fields[18]


def _is_alive(holder: dict[str, Any]) -> bool:
    try:
        os.kill(holder["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return _start_time(holder["pid"]) == holder["started"]
