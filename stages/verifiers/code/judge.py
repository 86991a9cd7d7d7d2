r"""Programs: run against tests in a sandbox, and judged by what they print or return.

Outputs that are expected of ``stdin`` and ``call`` tests never enter the sandbox: what a program
printed or returned is compared here (`results`). The code of ``assert`` tests must run beside the
program; it does so in a process that the program's own cannot look into (`assertions`).
"""

import contextlib
import functools
import math
import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Mapping
from typing import Any, Self

from stages.verifiers.code import sandbox
from stages.verifiers.code.inside import candidates, messages
from stages.verifiers.code.names import undefined
from stages.verifiers.code.programs import Tests, read_tests
from stages.verifiers.code.results import same_output, same_result

TEST_TIME_LIMIT = 10.0
START_TIME_LIMIT = 10.0
MAX_PROGRAM = 1 << 18
MAX_REPLY = candidates.MAX_OUTPUT + 4096


class OutOfTime(Exception):
    """The other end did not answer in time."""


class Ended(Exception):
    """The other end is there no more."""


class Session:
    """A runner in a sandbox, and the messages to and from it, each with a deadline."""

    def __init__(self, backend: sandbox.Backend) -> None:
        self._process: subprocess.Popen[bytes] = backend.start()
        assert self._process.stdin is not None and self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        self._received = bytearray()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._stdin.close()
        self._stdout.close()

    def send(self, message: Any, deadline: float) -> None:
        """Send a message; a runner that does not listen runs out of time."""
        body = messages.pack(message)
        left = memoryview(len(body).to_bytes(4, "big") + body)
        descriptor = self._stdin.fileno()
        while left:
            self._wait(descriptor, select.POLLOUT, deadline)
            try:
                left = left[os.write(descriptor, left) :]
            except BlockingIOError:
                continue
            except BrokenPipeError:
                raise Ended from None

    def receive(self, deadline: float) -> dict[str, Any]:
        """The next message. It is the sandbox's word: an object, or the runner has been had."""
        size = int.from_bytes(self._take(4, deadline), "big")
        try:
            message = messages.unpack(self._take(size, deadline))
        except (ValueError, TypeError, OverflowError, RecursionError):
            raise Ended from None
        if not isinstance(message, dict):
            raise Ended
        return message

    def _take(self, count: int, deadline: float) -> bytes:
        if count > MAX_REPLY:
            raise Ended
        descriptor = self._stdout.fileno()
        while len(self._received) < count:
            self._wait(descriptor, select.POLLIN, deadline)
            try:
                piece = os.read(descriptor, 1 << 20)
            except BlockingIOError:
                continue
            if not piece:
                raise Ended
            self._received += piece
        taken = bytes(self._received[:count])
        del self._received[:count]
        return taken

    @staticmethod
    def _wait(descriptor: int, what: int, deadline: float) -> None:
        poll = select.poll()
        poll.register(descriptor, what)
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise OutOfTime


def handle(request: Mapping[str, Any]) -> tuple[str, str]:
    """A worker's part: run a program against tests, and say what came of it and where."""
    tests = read_tests(request["tests"])
    verdict, reason = run(
        request["program"],
        tests,
        sandbox.backend(request["sandbox"]),
        request["time_limit"],
        request["memory_limit"],
    )
    return verdict, f"{reason} [{request['sandbox']}]"


def run(
    program: str, tests: Tests, backend: sandbox.Backend, time_limit: float, memory_limit: int
) -> tuple[str, str]:
    """Run a program against its tests, short ones first, up to the first that fails.

    Parameters
    ----------
    program, tests
        What to run, and what against.
    backend : Backend
        Where.
    time_limit : float
        Seconds for all tests together; a single one has at most `TEST_TIME_LIMIT`.
    memory_limit : int
        MiB of address space of each of the program's processes.

    Returns
    -------
    verdict, reason
        A program that fails, crashes or is too slow for a test is ``incorrect``; a sandbox that
        does not start, and tests that are not done in time together, are an ``error``.
    """
    until = time.monotonic() + time_limit
    each = min(TEST_TIME_LIMIT, time_limit)
    limits = {
        "cpu": math.ceil(each) + 1,
        "memory": memory_limit << 20,
        "processes": backend.processes,
    }
    first = {
        "mode": tests.kind,
        "program": program,
        "entry_point": tests.entry_point,
        "alone": not backend.has_namespaces,
        "filter": backend.candidate_filter(),
        "limits": limits,
        "parent": os.getpid(),
    }
    with Session(backend) as session:
        try:
            session.send(first, min(until, time.monotonic() + START_TIME_LIMIT))
            session.receive(min(until, time.monotonic() + START_TIME_LIMIT))
        except (Ended, OutOfTime):
            return "error", "the sandbox did not start"
        began = time.monotonic()
        try:
            compiled = session.receive(min(until, began + each))["status"]
            if compiled != "compiled":
                return "incorrect", f"does not compile: {_named(compiled)}"
            if tests.kind == "assert":
                return _run_assertions(session, tests, min(until, began + each))
            return _run_tests(session, tests, until, each)
        except Ended:
            return "incorrect", "the program ended before it could be judged"
        except OutOfTime:
            return "incorrect", f"over its time of {each:g} s"


def _run_assertions(session: Session, tests: Tests, deadline: float) -> tuple[str, str]:
    names = undefined(tests.code)
    request = {"names": names.candidate, "fallback": names.fallback, "setup": names.setup}
    session.send({"code": tests.code, **request}, deadline)
    status = session.receive(deadline).get("status")
    if status == "ok":
        return "correct", "passed the assertions"
    return "incorrect", f"fails the assertions: {_named(status)}"


def _run_tests(session: Session, tests: Tests, until: float, each: float) -> tuple[str, str]:
    if tests.kind == "call":
        defined = session.receive(min(until, time.monotonic() + each)).get("status")
        if defined != "ok":
            return "incorrect", f"fails on its own: {_named(defined)}"
    order = sorted(range(len(tests.inputs)), key=lambda i: len(str(tests.inputs[i])))
    for number in order:
        place = f"test {number + 1} of {len(order)}"
        given, expected = tests.inputs[number], tests.outputs[number]
        now = time.monotonic()
        try:
            if tests.kind == "stdin":
                session.send({"input": given}, min(until, now + each))
            else:
                session.send({"arguments": given}, min(until, now + each))
            reply = session.receive(min(until, now + each))
        except Ended:
            return "incorrect", f"{place}: the program ended its process"
        except OutOfTime:
            if time.monotonic() < now + each and number != order[0]:
                return "error", f"{place}: over the time for all tests"
            return "incorrect", f"{place}: over its time of {each:g} s"
        if reply.get("status") != "ok":
            return "incorrect", f"{place}: {_named(reply.get('status'))}"
        if tests.kind == "stdin":
            printed = reply.get("output")
            if not isinstance(printed, bytes) or not same_output(
                printed.decode("utf-8", "replace"), expected
            ):
                return "incorrect", f"{place}: another output"
        elif not same_result(reply.get("result"), expected):
            return "incorrect", f"{place}: another result"
    return "correct", f"passed {len(order)} tests"


def _named(status: Any) -> str:
    """The name of an error, as the program's own process gave it."""
    known = isinstance(status, str) and re.fullmatch(r"[A-Za-z][\w ]{0,60}", status)
    return status if known else "an error"


def probe(name: str) -> str | None:
    """Try a backend; what is wrong with it, or None."""
    tests = Tests("stdin", ("20 22",), ("42",))
    program = "print(sum(map(int, input().split())))"
    verdict, reason = run(program, tests, sandbox.backend(name), START_TIME_LIMIT, 512)
    return None if verdict == "correct" else reason


@functools.cache
def choose(allow_unsandboxed: bool = False) -> str:
    """Name of the first backend that works here, tried by running a program in it.

    Raises
    ------
    NoSandbox
        None works, and running without one is not allowed.
    """
    failures = []
    for name in (sandbox.Bubblewrap.name, sandbox.Landlock.name):
        try:
            trouble = probe(name)
        except Exception as error:
            trouble = str(error) or type(error).__name__
        if trouble is None:
            return name
        failures.append(f"{name}: {trouble}")
    if allow_unsandboxed:
        return sandbox.UNSANDBOXED
    raise sandbox.NoSandbox(
        f"programs cannot be run safely on this machine ({'; '.join(failures)}). Install "
        "bubblewrap and allow user namespaces, or use a kernel with seccomp and Landlock, or, if "
        "every program may be trusted with this account, set verdicts.allow_unsandboxed: true"
    )
