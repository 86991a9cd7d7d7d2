"""Workers that may hang, run out of memory or die without harm to any answer but their own.

The parent has no thread and sets no signal: it waits on the workers' sockets, kills a worker whose
answer is over its time, and goes on with another. What needs no worker (choices, and the spellings
and numbers that settle most mathematical answers) passes through without one.
"""

import contextlib
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections import OrderedDict, deque
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

from stages.verifiers import worker

CACHED = 65536  # results kept
HARDLY = 0.25  # of its time: a worker that ran less than that was kept from running
AHEAD = 64  # jobs taken before there is a worker for them
_FORKER = "from stages.verifiers import worker; worker.main()"


class Result(NamedTuple):
    """What came of a job: correct, incorrect or error, why, and the seconds it took."""

    verdict: str
    reason: str
    seconds: float = 0.0


@dataclass
class Job:
    """One piece of work.

    Attributes
    ----------
    key : hashable
        What its caller calls it.
    result : Result, optional
        Set where no worker is needed; otherwise there is a request.
    request : dict, optional
        What a worker is asked (`worker.fork_workers`).
    time_limit : float
        Seconds after which the worker is killed.
    cache_key : hashable, optional
        Jobs with equal ones have equal results; None is never kept.
    retries : int
        How often to try again when the time is over though the worker hardly ran: a machine that
        was asleep or overloaded says nothing about the answer.
    note : object
        Anything that the caller wants back with the result.
    """

    key: Hashable
    result: Result | None = None
    request: dict[str, Any] | None = None
    time_limit: float = 0.0
    cache_key: Hashable = None
    retries: int = 0
    note: Any = None


@dataclass
class _Worker:
    channel: socket.socket
    pid: int = 0
    job: Job | None = None
    started: float = 0.0
    ran: float = 0.0  # processor seconds before the job
    deadline: float = float("inf")


@dataclass
class Workers:
    """A number of worker processes, and a loop that feeds them.

    Nothing is started before there is work for it. To be closed, or used as a context.
    """

    count: int
    _all: list[_Worker] = field(default_factory=list)
    _idle: list[_Worker] = field(default_factory=list)
    _ended: list[int] = field(default_factory=list)
    _selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    _forker: subprocess.Popen[bytes] | None = None
    _control: socket.socket | None = None
    _cache: OrderedDict[Hashable, Result] = field(default_factory=OrderedDict)
    _same: dict[Hashable, list[Job]] = field(default_factory=dict)
    _again: list[Job] = field(default_factory=list)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all workers, the busy ones too."""
        for member in list(self._all):
            self._dismiss(member)
        self._selector.close()
        if self._control is not None and self._forker is not None:
            self._control.close()
            self._forker.kill()
            self._forker.wait()
            self._control = self._forker = None

    def each(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, Result]]:
        """Jobs with their results, in the order in which they are done.

        At most `AHEAD` jobs are taken beyond those that workers are busy with.

        Raises
        ------
        RuntimeError
            No worker can be started.
        """
        source, waiting, exhausted = iter(jobs), deque[Job](), False
        try:
            while not exhausted or waiting or self._busy() or self._again:
                for _ in range(AHEAD - len(waiting)):
                    if (job := next(source, None)) is None:
                        exhausted = True
                        break
                    if (known := self._known(job)) is not None:
                        yield job, known
                    elif not self._joins(job):
                        waiting.append(job)
                waiting.extendleft(self._again)
                self._again.clear()
                while waiting and (member := self._free_worker()) is not None:
                    self._give(member, waiting.popleft())
                if waiting or self._busy():
                    at_leisure = exhausted or len(waiting) == AHEAD
                    yield from self._news(wait=at_leisure)
        finally:
            for member in self._busy():  # whoever stopped listening wants none of these
                self._dismiss(member)
            self._same.clear()
            self._again.clear()

    def _known(self, job: Job) -> Result | None:
        if job.result is not None or job.cache_key is None:
            return job.result
        if job.cache_key in self._cache:
            self._cache.move_to_end(job.cache_key)
        return self._cache.get(job.cache_key)

    def _joins(self, job: Job) -> bool:
        """Whether an equal job is under way, so that this one will share its result."""
        if job.cache_key is None:
            return False
        if job.cache_key in self._same:
            self._same[job.cache_key].append(job)
            return True
        self._same[job.cache_key] = []
        return False

    def _busy(self) -> list[_Worker]:
        return [member for member in self._all if member.job is not None]

    def _free_worker(self) -> _Worker | None:
        if not self._idle and len(self._all) < self.count:
            self._hire()
        return self._idle.pop() if self._idle else None

    def _give(self, member: _Worker, job: Job) -> None:
        member.job, member.started, member.ran = job, time.monotonic(), _ran(member.pid)
        member.deadline = member.started + job.time_limit
        with contextlib.suppress(OSError):  # if it died while idle, its socket tells so next
            worker.send(member.channel, job.request)

    def _news(self, wait: bool) -> Iterator[tuple[Job, Result]]:
        """Results that have come, and those of workers that are over their time."""
        first = min((member.deadline for member in self._all), default=0.0)
        patience = min(max(first - time.monotonic(), 0.0), 60.0) if wait else 0.0
        for key, _ in self._selector.select(patience):
            yield from self._listen(key.data)
        now = time.monotonic()
        for member in self._busy():
            job = member.job
            if job is not None and member.deadline <= now:
                seconds = now - member.started
                asleep = _ran(member.pid) - member.ran < job.time_limit * HARDLY
                self._dismiss(member)
                if asleep and job.retries:
                    job.retries -= 1
                    self._again.append(job)
                    continue
                reason = f"over its time of {job.time_limit:g} s"
                yield from self._settle(job, Result("error", reason, seconds))

    def _listen(self, member: _Worker) -> Iterator[tuple[Job, Result]]:
        try:
            message = worker.receive(member.channel)
        except OSError:
            message = None
        job, seconds = member.job, time.monotonic() - member.started
        if message is None:
            self._dismiss(member)
            if job is not None:
                yield from self._settle(job, Result("error", "the worker died", seconds))
        elif job is None:  # its first words
            member.pid = message["pid"]
            self._idle.append(member)
        else:
            member.job, member.deadline = None, float("inf")
            if message["last"]:
                self._dismiss(member)
            else:
                self._idle.append(member)
            made = Result(message["verdict"], message["reason"], message["seconds"])
            yield from self._settle(job, made)

    def _settle(self, job: Job, result: Result) -> Iterator[tuple[Job, Result]]:
        if job.cache_key is not None:
            self._cache[job.cache_key] = result
            if len(self._cache) > CACHED:
                self._cache.popitem(last=False)
            for other in self._same.pop(job.cache_key, ()):
                yield other, result
        yield job, result

    def _hire(self) -> None:
        ours, theirs = socket.socketpair()
        try:
            control, ended = self._forker_socket(), ",".join(map(str, self._ended))
            socket.send_fds(control, [f"{ended};".encode()], [theirs.fileno()])
        except OSError:
            ours.close()
            raise RuntimeError(
                "the verifiers' workers cannot be started; what their process printed says why"
            ) from None
        finally:
            theirs.close()
        self._ended.clear()
        member = _Worker(ours)
        self._all.append(member)
        self._selector.register(ours, selectors.EVENT_READ, member)

    def _dismiss(self, member: _Worker) -> None:
        """Kill a worker; its process number stays taken until the next one is forked."""
        self._all.remove(member)
        if member in self._idle:
            self._idle.remove(member)
        self._selector.unregister(member.channel)
        member.channel.close()
        member.job = None
        if member.pid:
            try:
                os.kill(member.pid, signal.SIGKILL)
            except ProcessLookupError:
                return  # the process that forks them is gone, and all workers with it
            self._ended.append(member.pid)

    def _forker_socket(self) -> socket.socket:
        if self._control is None:
            self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            root = str(Path(__file__).parents[2])
            paths = filter(None, (root, os.environ.get("PYTHONPATH")))
            with theirs:
                self._forker = subprocess.Popen(
                    [sys.executable, "-c", _FORKER, str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    env={
                        **os.environ,
                        "PYTHONPATH": os.pathsep.join(paths),
                        # gmpy2 computes in C, where nothing interrupts it or bounds its memory.
                        "SYMPY_GROUND_TYPES": "python",
                        "MPMATH_NOGMPY": "1",
                        # SymPy walks sets: in the same order in every process.
                        "PYTHONHASHSEED": "0",
                    },
                )
        return self._control


def _ran(pid: int) -> float:
    """Processor seconds of a process so far."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
