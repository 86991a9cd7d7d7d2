"""Verify sampled answers: which of them are in Y_x, the set of correct answers?

python -m stages.verdicts --settings S --questions Q --answers A --out V [--workers N]

References are read before the first answer: a table that cannot be right is refused by name; a
mathematical answer that no parser knows is named, and its answers get the verdict `error`.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stages.artifacts import store, tables
from stages.artifacts.journal import Journal, Key
from stages.common.errors import UserError
from stages.experiments.settings import StepSettings
from stages.prompts import text_to_verify
from stages.running import command, origin_of
from stages.verifiers import NoSandbox, Pool, Task, Verdict, VerifyOptions, malformed

REFERENCE = ("answer", "answer_kind", "options", "tests")
NAMED = 10  # references that are named one by one
Questions = Mapping[str, Mapping[str, Any]]


def main(argv: list[str] | None = None) -> None:
    """Read questions and answers, verify what is not verified yet, write the table."""
    parser = command.parser(__doc__)
    command.add_tables(parser, "questions answers")
    parser.add_argument("--out", type=Path, required=True, help="table of verdicts")
    parser.add_argument("--workers", type=int, help="processes; as many as cores if left out")
    args = parser.parse_args(argv)
    settings: StepSettings = args.settings
    if args.workers is not None and args.workers < 1:
        raise UserError(f"--workers {args.workers}: give 1 or more")

    questions = read_references(args.questions)
    keys = answer_keys(args.answers, questions)
    limits = settings.verdicts
    inputs = {"questions": args.questions, "answers": args.answers}
    origin = origin_of.output("verdicts", settings, inputs)
    with Journal(args.out, tables.VERDICTS, origin.recipe, ("verdict",)) as journal:
        with Pool(
            args.workers,
            limits.time_limit,
            limits.memory_limit,
            code_time_limit=limits.code_time_limit,
            allow_unsandboxed=limits.allow_unsandboxed,
        ) as pool:
            answered = {name: questions[name] for name in {str(key[0]) for key in keys}}
            sandbox = sandbox_for(answered, pool)
            unreadable = unreadable_references(answered, pool)
            verify_missing(journal, keys, args, answered, unreadable, pool)
        provenance = command.provenance(
            origin,
            settings,
            seconds=journal.seconds,
            device="cpu",
            sandbox=sandbox,
            verdicts=Counter(journal.column("verdict", keys)),
            unreadable_references=unreadable,
        )
        journal.finish(keys, provenance)


def read_references(path: Path) -> dict[str, dict[str, Any]]:
    """What answers are compared with, by question.

    Raises
    ------
    UserError
        A reference that its verifier can do nothing with: which one, and why.
    """
    rows = store.read_table(path, tables.QUESTIONS, REFERENCE).to_pylist()
    for row in rows:
        reason = malformed(row["answer"], row["answer_kind"], options_of(row))
        if reason is not None:
            raise UserError(
                f"{path}: question {row['question_id']!r} (kind {row['answer_kind']}): {reason}; "
                "fix the row, or set its answer_kind to none"
            )
    return {row["question_id"]: row for row in rows}


def options_of(question: Mapping[str, Any]) -> VerifyOptions:
    """What a question tells its verifier in addition to the reference answer."""
    options = question["options"]
    return VerifyOptions(None if options is None else tuple(options), question["tests"])


def answer_keys(path: Path, questions: Questions) -> list[Key]:
    """Keys of all answers, in the order of the table; each must be unique and of a question."""
    answers = store.read_table(path, tables.ANSWERS, ())
    keys = list(zip(*(answers[name].to_pylist() for name in tables.ANSWERS.key), strict=True))
    for question_id, k, m in keys:
        if question_id not in questions:
            raise UserError(
                f"{path}: answer {m} of trace {k} is to question {question_id!r}, which the "
                "table of questions does not have; give the questions that were answered"
            )
    return keys


def sandbox_for(questions: Questions, pool: Pool) -> str | None:
    """Name of the sandbox that programs will run in; None if there are no programs."""
    if not any(question["answer_kind"] == "code" for question in questions.values()):
        return None
    try:
        name = pool.sandbox()
    except NoSandbox as error:
        raise UserError(str(error)) from None
    print(f"programs run in: {name}", file=sys.stderr)
    return name


def unreadable_references(questions: Questions, pool: Pool) -> dict[str, str]:
    """By question, why its reference cannot be parsed; the first of them are also printed."""
    references = (
        (question_id, question["answer"], question["answer_kind"], options_of(question))
        for question_id, question in questions.items()
        if question["answer_kind"] == "math"
    )
    checked = ((str(key), reason) for key, reason in pool.check(references))
    reasons = {
        key: reason
        for key, reason in sorted(checked, key=lambda pair: pair[0])
        if reason is not None
    }
    for question_id, reason in list(reasons.items())[:NAMED]:
        print(f"question {question_id!r} cannot be verified: {reason}", file=sys.stderr)
    if len(reasons) > NAMED:
        print(f"and {len(reasons) - NAMED:,} other questions", file=sys.stderr)
    return reasons


def verify_missing(
    journal: Journal,
    keys: list[Key],
    args: argparse.Namespace,
    questions: Questions,
    unreadable: Mapping[str, str],
    pool: Pool,
) -> None:
    """Verify the answers that have no verdict yet, and keep each verdict as it comes."""
    progress = command.Progress("answers", len(keys), sum(key in journal for key in keys))

    def keep(key: Key, verdict: Verdict) -> None:
        names = tables.VERDICTS.key
        journal.append({**dict(zip(names, key, strict=True)), **verdict._asdict()})
        progress.add()

    def tasks() -> Iterator[Task]:
        for key, text in missing_answers(journal, args.answers):
            question_id = str(key[0])
            question = questions[question_id]
            if question_id in unreadable:
                reason = f"the reference {unreadable[question_id]}"
                keep(key, Verdict("error", None, reason, 0.0))
            else:
                kind = question["answer_kind"]
                text = text_to_verify(text, args.settings.prompts, has_thought=False)
                yield key, text, question["answer"], kind, options_of(question)

    for key, verdict in pool.run(tasks()):
        assert isinstance(key, tuple)
        keep(key, verdict)


def missing_answers(journal: Journal, path: Path) -> Iterator[tuple[Key, str]]:
    """Key and text of each answer that has no verdict yet, read piece by piece."""
    for piece in store.iter_batches(path, tables.ANSWERS, ("answer",)):
        for row in piece.to_pylist():
            key = (row["question_id"], row["k"], row["m"])
            if key not in journal:
                yield key, row["answer"]


if __name__ == "__main__":
    command.run(main)
