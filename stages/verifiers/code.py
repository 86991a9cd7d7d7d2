r"""Programs: the last Python block of the solution, run against tests in a sandbox.

A question's tests are JSON of one of these forms; the last is that of APPS and TACO, whose inputs
and outputs mean what they mean there:

- ``{"kind": "stdin", "inputs": [text, ...], "outputs": [text, ...]}``
- ``{"kind": "call", "entry_point": "f" or "Solution.f", "inputs": [[...], ...], "outputs": [...]}``
- ``{"kind": "assert", "code": "assert f(1) == 2"}``
- ``{"inputs": [...], "outputs": [...], "fn_name": "f"}``, without ``fn_name`` for ``stdin``

Outputs that are expected of ``stdin`` and ``call`` tests never enter the sandbox: what a program
printed or returned is compared here. The code of ``assert`` tests must run beside the program; it
does so in a process that the program's own cannot look into (`runner`).
"""

import contextlib
import json
import math
import os
import re
import select
import signal
import subprocess
import textwrap
import time
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any, Self

from stages.verifiers import messages, runner, sandbox

TEST_TIME_LIMIT = 10.0
START_TIME_LIMIT = 10.0
MAX_PROGRAM = 1 << 18
MAX_REPLY = runner.MAX_OUTPUT + 4096
RELATIVE_TOLERANCE = 1e-6
_PYTHON = {"python", "python3", "py", "py3"}
_DEFINED = re.compile(
    r"^(?:(?:async\s+def|def|class)\s+(\w+)|(\w+)\s*(?::[^=\n]*)?=(?!=))", re.MULTILINE
)
_FENCE = re.compile(
    r"(?P<indent>[ \t]*)(?:(?:[-*+]|[0-9]+[.)])[ \t]+)?(?P<marks>`{3,}|~{3,})(?P<language>[^`]*)"
)
_WORD = re.compile(r"[A-Za-z_]\w*")


@dataclass(frozen=True)
class Tests:
    """Tests of one question, checked.

    `inputs` and `outputs` have one entry a test: texts for `stdin`, argument lists and accepted
    results for `call`; `code` is for `assert`.
    """

    kind: str
    inputs: tuple[Any, ...] = ()
    outputs: tuple[Any, ...] = ()
    entry_point: str = ""
    code: str = ""


@dataclass(frozen=True)
class Accepted:
    """Results of a call any of which is right."""

    results: tuple[Any, ...]


# Tests and programs -------------------------------------------------------------------------------


@lru_cache(maxsize=64)
def read_tests(tests: str) -> Tests:
    """Read a question's tests.

    Raises
    ------
    ValueError
        What is wrong with them, in words.
    """
    try:
        given = json.loads(tests)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"tests are no JSON: {error}") from None
    return as_tests(given)


def as_tests(given: Any) -> Tests:
    """The same for tests that are read from JSON already."""
    if not isinstance(given, Mapping):
        raise ValueError("tests of a code question are a JSON object")
    kind = given.get("kind")
    if kind is None and {"inputs", "outputs"} <= set(given):
        return _input_output(given)
    if kind == "assert":
        if not isinstance(given.get("code"), str) or not given["code"].strip():
            raise ValueError("assert tests hold their code as a text")
        return Tests("assert", code=given["code"])
    if kind not in ("stdin", "call"):
        raise ValueError(f"kind of tests is stdin, call or assert, not {kind!r}")
    inputs, outputs = _paired(given)
    if kind == "stdin":
        return Tests("stdin", tuple(map(_as_text, inputs)), tuple(map(_as_text, outputs)))
    if not all(isinstance(arguments, list) for arguments in inputs):
        raise ValueError("inputs of call tests are lists of arguments")
    accepted = tuple(Accepted((output,)) for output in outputs)
    return Tests("call", tuple(inputs), accepted, _entry_point(given.get("entry_point")))


def _input_output(given: Mapping[str, Any]) -> Tests:
    """APPS' and TACO's form, and LiveCodeBench's, whose arguments are JSON by line."""
    inputs, outputs = _paired(given)
    if not given.get("fn_name"):
        return Tests("stdin", tuple(map(_as_text, inputs)), tuple(map(_as_text, outputs)))
    arguments, accepted = [], []
    for given_input, output in zip(inputs, outputs, strict=True):
        if isinstance(given_input, str):
            given_input = [_from_json(line) for line in given_input.splitlines() if line.strip()]
            output = _from_json(output)
        if not isinstance(given_input, list):
            raise ValueError("inputs of a function are lists of arguments")
        arguments.append(given_input)
        # APPS wraps results in a list, sometimes.
        unwrapped = (output[0],) if isinstance(output, list) and len(output) == 1 else ()
        accepted.append(Accepted((output, *unwrapped)))
    return Tests("call", tuple(arguments), tuple(accepted), _entry_point(given["fn_name"]))


def _paired(given: Mapping[str, Any]) -> tuple[list[Any], list[Any]]:
    inputs, outputs = given.get("inputs"), given.get("outputs")
    if not isinstance(inputs, list) or not isinstance(outputs, list):
        raise ValueError("tests hold lists of inputs and outputs")
    if len(inputs) != len(outputs) or not inputs:
        raise ValueError(f"tests hold {len(inputs)} inputs and {len(outputs)} outputs")
    return inputs, outputs


def _as_text(value: Any) -> str:
    """APPS has some inputs and outputs as lists of lines."""
    if isinstance(value, list):
        return "\n".join(map(_as_text, value))
    return value if isinstance(value, str) else json.dumps(value)


def _from_json(value: Any) -> Any:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except json.JSONDecodeError:
        return value


def _entry_point(name: Any) -> str:
    if not isinstance(name, str) or not re.fullmatch(r"\w+(\.\w+)?", name):
        raise ValueError(f"entry_point is a function or Class.method, not {name!r}")
    return name


def extract_program(section: str, tests: Tests) -> str | None:
    """The program of a solution section: its last Python block that has what the tests call.

    Blocks without a language count where none is marked as Python; a text without any block
    counts as a whole if it defines something. A block that was cut off is taken to its end.
    """
    blocks = _blocks(section)
    marked = [block for language, block in blocks if language in _PYTHON]
    found = marked or [block for language, block in blocks if not language]
    if not blocks and (_DEFINED.search(section) or tests.kind == "stdin"):
        found = [section]
    if not found:
        return None
    wanted = set(_WORD.findall(tests.entry_point or tests.code))
    for block in reversed(found):
        if wanted & {name for names in _DEFINED.findall(block) for name in names}:
            return block
    return found[-1]


def _blocks(text: str) -> list[tuple[str, str]]:
    """Language and content of each fenced block; a fence deeper in a block is part of it."""
    blocks: list[tuple[str, list[str]]] = []
    opened: re.Match[str] | None = None
    for line in text.split("\n"):
        line = line.removesuffix("\r")
        fence = _FENCE.fullmatch(line)
        if fence and opened and not _ends(fence, opened):
            fence = None
        if fence and (opened is None or fence["language"]):
            opened = fence
            blocks.append((fence["language"].strip(" {.").partition(" ")[0].lower(), []))
        elif fence:
            opened = None
        elif opened:
            blocks[-1][1].append(line)
    return [(language.strip("}"), textwrap.dedent("\n".join(b))) for language, b in blocks]


def _ends(fence: re.Match[str], opened: re.Match[str]) -> bool:
    return fence["marks"].startswith(opened["marks"]) and (
        len(fence["indent"]) < len(opened["indent"]) + 4
    )


# Running ------------------------------------------------------------------------------------------


class OutOfTime(Exception):
    """The other end did not answer in time."""


class Ended(Exception):
    """The other end is there no more."""


class Session:
    """A runner in a sandbox, and the messages to and from it, each with a deadline."""

    def __init__(self, backend: sandbox.Backend) -> None:
        self._process: subprocess.Popen[bytes] = backend.start()
        self._received = bytearray()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()

    def send(self, message: Any, deadline: float) -> None:
        """Send a message; a runner that does not listen runs out of time."""
        body = messages.pack(message)
        left = memoryview(len(body).to_bytes(4, "big") + body)
        descriptor = self._process.stdin.fileno()
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
        descriptor = self._process.stdout.fileno()
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
    session.send({"code": tests.code}, deadline)
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
        elif not _same_result(reply.get("result"), expected):
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


# Comparing ----------------------------------------------------------------------------------------


def same_output(printed: str, expected: str) -> bool:
    """Whether two outputs agree: line by line without outer blanks, numbers by value.

    As LiveCodeBench compares (arXiv 2403.07974).
    """
    lines, wanted = (text.strip().split("\n") for text in (printed, expected))
    return len(lines) == len(wanted) and all(map(_same_line, lines, wanted))


def _same_line(line: str, wanted: str) -> bool:
    line, wanted = line.strip(), wanted.strip()
    if line == wanted:
        return True
    found, expected = line.split(), wanted.split()
    return len(found) == len(expected) and all(map(_same_token, found, expected))


def _same_token(token: str, wanted: str) -> bool:
    if token == wanted:
        return True
    if len(token) > 4096 or (number := as_decimal(token)) is None:
        return False
    expected = as_decimal(wanted)
    return expected is not None and not number.is_nan() and number == expected


def as_decimal(token: str) -> Decimal | None:
    """A token of a program's output as a number, or None."""
    if "_" in token or not token.isascii():
        return None
    try:
        return Decimal(token)
    except InvalidOperation:
        return None


def _same_result(result: Any, accepted: Accepted) -> bool:
    try:
        returned = _as_json(messages.unpack(result))
        return any(same_value(returned, value) for value in accepted.results)
    except (ValueError, TypeError, OverflowError, RecursionError):
        return False


def _as_json(value: Any) -> Any:
    """A result as JSON would have it: lists for all collections, texts for keys."""
    if isinstance(value, dict):
        return {k if isinstance(k, str) else json.dumps(k): _as_json(v) for k, v in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(map(_as_json, value), key=_sorting_key)
    if isinstance(value, range):
        return list(value[: messages.MAX_ITEMS])
    if isinstance(value, list | tuple) or hasattr(value, "__next__"):
        return [_as_json(item) for item in value]
    return value


def _sorting_key(value: Any) -> tuple[str, Any]:
    return ("", value) if isinstance(value, int | float) else (type(value).__name__, value)


def same_value(returned: Any, expected: Any) -> bool:
    """Whether a result equals the expected one: as JSON has them, decimals to six digits."""
    if isinstance(returned, dict) and isinstance(expected, dict):
        return returned.keys() == expected.keys() and all(
            same_value(returned[key], expected[key]) for key in expected
        )
    if isinstance(returned, list) and isinstance(expected, list):
        return len(returned) == len(expected) and all(map(same_value, returned, expected))
    if isinstance(returned, int | float) and isinstance(expected, float):
        return math.isclose(
            returned, expected, rel_tol=RELATIVE_TOLERANCE, abs_tol=RELATIVE_TOLERANCE
        )
    if type(returned) is float and type(expected) is int:
        return returned == expected
    return type(returned) is type(expected) and bool(returned == expected)
