"""Run a step on N GPUs that nobody else on this machine holds.

python -m stages.running.gpus N -- STEP ARGUMENTS ...

One lock file per device, held by the processes of the step: the kernel frees it when the last of
them has ended, however it ended. With N = 0 the step sees no GPU. Fine-tuning on several GPUs runs
one process per device, through `accelerate launch`.
"""

import contextlib
import fcntl
import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from stages.common.errors import UserError
from stages.running import command

LOCKS = Path(tempfile.gettempdir()) / "variational-reasoning-gpus"


def main(argv: list[str] | None = None) -> None:
    """Take the devices, then become the step."""
    match sys.argv[1:] if argv is None else argv:
        case [count, "--", step, *arguments] if count.isdigit():
            devices = take(int(count), visible(), lock_folder())
        case _:
            raise UserError("usage: python -m stages.running.gpus N -- STEP ARGUMENTS ...")
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(devices)
    # from a launcher's SIGTERM to its SIGKILL: 30 s are too few to checkpoint a large model
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "600")
    os.execv(sys.executable, start(step, len(devices), arguments))


def start(step: str, count: int, arguments: list[str]) -> list[str]:
    """The command line that runs a step on `count` devices."""
    if step == "finetune" and count > 1:
        launcher = ["accelerate.commands.launch", "--num_machines", "1", "--mixed_precision", "no"]
        launcher += ["--dynamo_backend", "no", "--multi_gpu", "--num_processes", str(count)]
        launcher += ["--main_process_port", "0", "-m"]  # 0: a free one, as two may run at once
        return [sys.executable, "-m", *launcher, f"stages.{step}", *arguments]
    return [sys.executable, "-m", f"stages.{step}", *arguments]


def visible() -> list[str]:
    """Devices this job may use: CUDA_VISIBLE_DEVICES where it is set (Slurm does), else all."""
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is not None:
        return [device for device in allowed.split(",") if device.strip() not in ("", "-1")]
    ask = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    try:
        return subprocess.run(ask, capture_output=True, text=True, check=True).stdout.split()
    except (OSError, subprocess.CalledProcessError):
        return []


def lock_folder() -> Path:
    """Where the devices' locks are: each Slurm job has its own.

    Slurm assigns devices to jobs and may number those of each job from 0, so that locks shared by
    jobs would make them wait for each other. Steps that share one job still need locks.
    """
    names = (os.environ.get(f"SLURM_{part}_ID") for part in ("JOB", "STEP"))
    job = "-".join(name for name in names if name and name.isdigit())
    return LOCKS / job if job else LOCKS


def take(count: int, devices: list[str], locks: Path) -> list[str]:
    """Wait until `count` of the devices are free, and hold them while this process lives.

    Whoever waits holds the queue's lock, so that a job for many devices collects them while later
    jobs for one device wait behind it.

    Raises
    ------
    UserError
        There are fewer than `count` devices.
    """
    if count > len(devices):
        raise UserError(
            f"this step needs {count} GPU(s) (section gpus of the settings), but {len(devices)} "
            "are visible on this machine"
        )
    if count == 0:
        return []
    with _for_all_users():
        locks.mkdir(parents=True, exist_ok=True)
    queue = _lock_file(locks / "queue")
    try:
        announced = not _hold(queue)
        if announced:
            _tell(count, devices)
            fcntl.flock(queue, fcntl.LOCK_EX)
        taken: list[str] = []
        while True:
            free = (d for d in devices if d not in taken and _hold_device(d, locks))
            taken += itertools.islice(free, count - len(taken))
            if len(taken) == count:
                return taken
            if not announced:
                announced = True
                _tell(count, devices)
            time.sleep(0.2)
    finally:
        os.close(queue)


def _tell(count: int, devices: list[str]) -> None:
    print(f"waiting for {count} of the GPUs {','.join(devices)}", file=sys.stderr)


def _hold_device(device: str, locks: Path) -> bool:
    """Try to lock a device; the open file is handed on to the step, and the lock with it."""
    lock = _lock_file(locks / f"gpu-{device.replace('/', '_')}")
    held = _hold(lock)
    if held:
        os.set_inheritable(lock, True)
    else:
        os.close(lock)
    return held


def _hold(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _lock_file(path: Path) -> int:
    with _for_all_users():
        return os.open(path, os.O_CREAT | os.O_RDONLY | os.O_NOFOLLOW, 0o666)


@contextlib.contextmanager
def _for_all_users() -> Iterator[None]:
    """Make files that other users of this machine can lock too."""
    before = os.umask(0)
    try:
        yield
    finally:
        os.umask(before)


if __name__ == "__main__":
    command.run(main)
