"""Verdicts on answers of every kind, through a pool of workers."""

import atexit
import functools
import json
import os
import time
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Self

from stages.verifiers import choice
from stages.verifiers.code import judge, programs
from stages.verifiers.math import compare
from stages.verifiers.pool import Job, Result, Workers
from stages.verifiers.text import solution_section

KINDS = ("math", "choice", "code", "none")
MATH_TIME_LIMIT = 5.0
CODE_TIME_LIMIT = 60.0
MEMORY_LIMIT = 1024
MAX_EXTRACTED = 4096
RETRIES = 3  # of a comparison whose worker was kept from running
_GRACE = 0.5  # a worker ends a program itself; it is killed only if it does not

Kind = Literal["math", "choice", "code", "none"]


class Verdict(NamedTuple):
    """A verdict.

    Attributes
    ----------
    verdict : str
        ``correct``, ``incorrect``, or ``error``: the verifier failed or ran out of time or memory.
    extracted : str or None
        The final answer that was read from the text, or the program; its first 4,096 characters.
    reason : str or None
        Why; for programs also where they ran.
    seconds : float
        Time it took.
    """

    verdict: str
    extracted: str | None
    reason: str | None
    seconds: float


@dataclass(frozen=True)
class VerifyOptions:
    """What a question says beside its reference.

    Attributes
    ----------
    options : tuple of str, optional
        Texts of a choice question's options, in the order of their letters.
    tests : str or mapping, optional
        The question's tests, as JSON or read from it.
    time_limit : float, optional
        Seconds for this answer, in place of the pool's.
    """

    options: tuple[str, ...] | None = None
    tests: str | Mapping[str, Any] | None = None
    time_limit: float | None = None


Reference = str | Sequence[str] | None
Task = tuple[Hashable, str, Reference, Kind, VerifyOptions | None]


class Pool:
    """Verifies many answers, some of them hostile, with workers that it kills and replaces.

    Parameters
    ----------
    workers : int, optional
        Processes; by default as many as this process may use cores.
    time_limit : float, optional
        Seconds an answer; by default 5 for mathematics and 60 for a program with all its tests
        (each of which has at most 10).
    code_time_limit : float, optional
        Seconds a program, if not `time_limit`.
    memory_limit : int
        MiB of address space an answer.
    allow_unsandboxed : bool
        Run programs without a sandbox where there is none.
    sandbox_name : str, optional
        The sandbox to use, in place of the first that works.

    Raises
    ------
    NoSandbox
        At the first program, if there is no sandbox and running without is not allowed.
    """

    def __init__(
        self,
        workers: int | None = None,
        time_limit: float | None = None,
        memory_limit: int = MEMORY_LIMIT,
        *,
        code_time_limit: float | None = None,
        allow_unsandboxed: bool = False,
        sandbox_name: str | None = None,
    ) -> None:
        self._workers = Workers(workers or len(os.sched_getaffinity(0)))
        self._math_seconds = time_limit or MATH_TIME_LIMIT
        self._code_seconds = code_time_limit or time_limit or CODE_TIME_LIMIT
        self._memory_limit = memory_limit
        self._allow_unsandboxed = allow_unsandboxed
        self._sandbox_name = sandbox_name

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the workers."""
        self._workers.close()

    def sandbox(self) -> str:
        """Name of the sandbox that programs run in; it is tried out at the first call.

        Raises
        ------
        NoSandbox
            There is none, and running without is not allowed.
        """
        if self._sandbox_name is None:
            self._sandbox_name = judge.choose(self._allow_unsandboxed)
        return self._sandbox_name

    def run(self, tasks: Iterable[Task]) -> Iterator[tuple[Hashable, Verdict]]:
        """Verdicts by key, in the order in which they are found; tasks are taken as needed.

        A task is (key, answer text, reference, kind, options). A reference that cannot be read
        makes an ``error`` that says so.
        """
        for job, result in self._workers.each(self._job(*task) for task in tasks):
            seconds, extracted = job.note
            shown = extracted[:MAX_EXTRACTED] if extracted else None
            total = seconds + result.seconds
            yield job.key, Verdict(result.verdict, shown, result.reason or None, total)

    def check(
        self,
        references: Iterable[
            tuple[Hashable, str | Sequence[str] | None, Kind, VerifyOptions | None]
        ],
    ) -> Iterator[tuple[Hashable, str | None]]:
        """By key, why a reference cannot be used, or None; in the order in which it is found."""
        for job, result in self._workers.each(self._check(*reference) for reference in references):
            yield job.key, (result.reason if result.verdict == "error" else None)

    def clusters(self, answers: Sequence[str | None], kind: Kind) -> list[int | None]:
        """Number the groups of equal extracted answers by first occurrence; None stays None.

        Each answer is compared with the first of each group so far, as a reference.
        """
        firsts: list[str] = []
        groups: list[int | None] = []
        for answer in answers:
            if answer is None:
                groups.append(None)
                continue
            jobs = [self._comparison(i, first, answer, kind) for i, first in enumerate(firsts)]
            equal_to = {job.key for job, r in self._workers.each(jobs) if r.verdict == "correct"}
            group = next((i for i in range(len(firsts)) if i in equal_to), len(firsts))
            if group == len(firsts):
                firsts.append(answer)
            groups.append(group)
        return groups

    def equal(self, one: str, other: str, kind: Kind) -> bool:
        """Whether two extracted answers are the same answer, the first taken as the reference."""
        ((_, result),) = self._workers.each([self._comparison(None, one, other, kind)])
        return result.verdict == "correct"

    # What an answer asks of a worker, if anything ------------------------------------------------

    def _job(
        self,
        key: Hashable,
        answer_text: str,
        reference: Reference,
        kind: Kind,
        options: VerifyOptions | None,
    ) -> Job:
        began, options = time.perf_counter(), options or VerifyOptions()
        extracted = None
        try:
            section = solution_section(answer_text)
            if kind == "math":
                extracted = compare.extract(section)
                job = self._math(key, extracted, reference, options)
            elif kind == "choice":
                extracted = choice.extract(section, options.options)
                job = Job(key, _choice(extracted, reference, options))
            elif kind == "code":
                tests = _code_tests(options.tests)
                extracted = programs.extract_program(section, tests)
                job = self._code(key, extracted, options)
            else:
                job = Job(key, Result("error", f"answers of kind {kind!r} cannot be verified"))
        except ValueError as error:
            job = Job(key, Result("error", str(error)))
        job.note = (time.perf_counter() - began, extracted)
        return job

    def _math(
        self,
        key: Hashable,
        extracted: str | None,
        reference: Reference,
        options: VerifyOptions,
    ) -> Job:
        rules = compare.read_rules(options.tests)
        golds = _golds(reference, rules)
        if extracted is None:
            return Job(key, Result("incorrect", "no answer"))
        decided = compare.decide(golds, extracted, rules)
        if not isinstance(decided, compare.Task):
            equal, reason = decided
            return Job(key, Result("correct" if equal else "incorrect", reason))
        request = {
            "kind": "math",
            "golds": decided.golds,
            "answer": decided.answer,
            "ordered": decided.ordered,
            "memory_limit": self._memory_limit,
        }
        seconds = options.time_limit or self._math_seconds
        return Job(key, None, request, seconds, (decided, seconds), retries=RETRIES)

    def _code(self, key: Hashable, program: str | None, options: VerifyOptions) -> Job:
        if program is None:
            return Job(key, Result("incorrect", "no program"))
        if len(program) > judge.MAX_PROGRAM:
            return Job(key, Result("error", f"program longer than {judge.MAX_PROGRAM} characters"))
        seconds = options.time_limit or self._code_seconds
        tests = options.tests if isinstance(options.tests, str) else json.dumps(options.tests)
        request = {
            "kind": "code",
            "program": program,
            "tests": tests,
            "sandbox": self.sandbox(),
            "time_limit": seconds,
            "memory_limit": self._memory_limit,
        }
        return Job(key, None, request, seconds + _GRACE)

    def _check(
        self,
        key: Hashable,
        reference: Reference,
        kind: Kind,
        options: VerifyOptions | None,
    ) -> Job:
        options = options or VerifyOptions()
        if (reason := malformed(reference, kind, options)) is not None:
            return Job(key, Result("error", reason))
        golds = _golds(reference, compare.read_rules(options.tests)) if kind == "math" else ()
        left = tuple(compare.candidate(g).core for g in golds if not compare.is_settled_gold(g))
        if not left:
            return Job(key, Result("correct", ""))
        request = {"kind": "check", "golds": left, "memory_limit": self._memory_limit}
        return Job(key, None, request, self._math_seconds, ("check", left), retries=RETRIES)

    def _comparison(self, key: Hashable, one: str, other: str, kind: Kind) -> Job:
        if kind == "math":
            try:
                return self._math(key, other, one, VerifyOptions())
            except ValueError as error:
                return Job(key, Result("error", str(error)))
        return Job(key, Result("correct" if one.strip() == other.strip() else "incorrect", ""))


def malformed(reference: Reference, kind: Kind, options: VerifyOptions) -> str | None:
    """Why a reference is of no use, from its form alone; None if it may be of use.

    What this finds is a mistake in a table: no answer, no tests, tests that cannot be read, a
    letter that is none. `Pool.check` also finds golds of mathematics that cannot be parsed.
    """
    try:
        if kind == "code":
            _code_tests(options.tests)
        elif kind == "choice":
            choice.read_reference(_one_text(reference), options.options)
        elif kind == "math":
            for gold in _golds(reference, compare.read_rules(options.tests)):
                if not compare.is_settled_gold(gold):
                    compare.check_limits(compare.candidate(gold).core)
        elif kind != "none":
            return f"kind is one of {', '.join(KINDS)}, not {kind!r}"
    except ValueError as error:
        return str(error)
    return None


def _choice(letter: str | None, reference: Reference, options: VerifyOptions) -> Result:
    gold = choice.read_reference(_one_text(reference), options.options)
    if letter is None:
        return Result("incorrect", "no answer")
    return Result("correct" if letter == gold else "incorrect", "")


def _golds(reference: Reference, rules: compare.Rules) -> tuple[str, ...]:
    """Accepted answers; one that stands in a box is taken out of it."""
    if rules.golds:
        golds = rules.golds
    elif isinstance(reference, str):
        golds = (reference,)
    else:
        golds = tuple(reference or ())
    golds = tuple(compare.last_box(gold) or gold for gold in golds)
    if not golds or not all(gold.strip() for gold in golds):
        raise ValueError("there is no reference answer")
    return golds


def _one_text(reference: Reference) -> str:
    if not isinstance(reference, str) or not reference.strip():
        raise ValueError("there is no reference answer")
    return reference


def _code_tests(tests: str | Mapping[str, Any] | None) -> programs.Tests:
    if tests is None:
        raise ValueError("there are no tests")
    return programs.read_tests(tests) if isinstance(tests, str) else programs.as_tests(tests)


# One at a time ------------------------------------------------------------------------------------


@functools.cache
def _own_pool(process: int) -> Pool:
    pool = Pool(workers=1)
    atexit.register(pool.close)
    return pool


def verify(
    answer_text: str,
    reference: Reference,
    kind: Kind,
    options: VerifyOptions | None = None,
) -> Verdict:
    """Verify one answer, under the same limits as in a `Pool`.

    Parameters
    ----------
    answer_text : str
        What the model wrote after its thought; a thought before it does no harm.
    reference : str, sequence of str, or None
        The reference answer; of several, any one is right. None where `options.tests` holds it.
    kind : str
        math, choice, code or none.
    options : VerifyOptions, optional
        What the question says beside.
    """
    ((_, verdict),) = _own_pool(os.getpid()).run([(None, answer_text, reference, kind, options)])
    return verdict


def equal(one: str, other: str, kind: Kind) -> bool:
    """Whether two extracted answers are the same answer, the first taken as the reference."""
    return _own_pool(os.getpid()).equal(one, other, kind)


def check_reference(
    reference: Reference,
    kind: Kind,
    tests: str | None = None,
    options: Sequence[str] | None = None,
) -> str | None:
    """Why a reference cannot be used, in words; None if it can."""
    given = VerifyOptions(tuple(options) if options else None, tests)
    ((_, reason),) = _own_pool(os.getpid()).check([(None, reference, kind, given)])
    return reason
