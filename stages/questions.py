"""Write the tables of questions, for training and held out for evaluation.

python -m stages.questions --settings S --out questions.parquet [--held-out heldout.parquet]

They are generated (column additions), read from a local file, or downloaded from the hub;
docs/data.md shows every format. Questions whose reference no verifier can read are listed on stderr
and marked as unverifiable.
"""

import random
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from stages.artifacts import store, tables
from stages.common.errors import UserError
from stages.common.seeds import derive_seed
from stages.data import formats
from stages.data.addition import additions
from stages.data.checks import BadRow, question_row
from stages.data.files import fetch, read_rows
from stages.experiments.sources import Questions
from stages.running import command, origin_of
from stages.verifiers import Pool, VerifyOptions

Rows = list[dict[str, Any]]
NAMED = 3
ALSO_HELD_OUT = "also in questions.held_out_file"


def main(argv: list[str] | None = None) -> None:
    """Get the questions, check them, hold some out, write the tables."""
    parser = command.parser(__doc__)
    parser.add_argument("--out", type=Path, required=True, help="table of training questions")
    parser.add_argument("--held-out", type=Path, help="table of held-out questions")
    args = parser.parse_args(argv)
    source, seed = args.settings.questions, args.settings.seed
    started = time.monotonic()

    dropped: Counter[str] = Counter()
    revision = None
    if source.addition is not None:
        training, held_out = additions(source.addition, derive_seed(seed, "questions"))
    else:
        training, held_out, revision = load(source, seed, dropped)
    if not training:
        raise UserError("no training questions; see the settings `questions`")
    counts = count(training, dropped)
    print(f"training: {describe(counts)}; held out: {len(held_out):,}", file=sys.stderr)
    files = [Path(file) for file in (source.file, source.held_out_file) if file]
    provenance = command.provenance(
        origin_of.output("questions", args.settings, {}, sources=files),
        args.settings,
        seconds=time.monotonic() - started,
        device="cpu",
        dataset_revision=revision,
        counts=counts,
    )
    for path, rows in ((args.out, training), (args.held_out, held_out)):
        if path is not None:
            table = pa.Table.from_pylist(rows, schema=tables.QUESTIONS.schema)
            store.write_table(path, tables.QUESTIONS, table, provenance)


def load(source: Questions, seed: int, dropped: Counter[str]) -> tuple[Rows, Rows, str | None]:
    """Training and held-out questions of a file or a hub dataset, and the dataset's commit."""
    if source.file is not None:
        files, revision, name = [Path(source.file)], None, stem(Path(source.file))
    elif source.dataset is not None:
        files, revision = fetch(source)
        name = source.dataset
    else:
        raise UserError("settings `questions`: set one of addition, file and dataset")
    rows = read(files, name, source, dropped)
    if source.held_out_file is not None:
        path = Path(source.held_out_file)
        held_out = read([path], stem(path), source, Counter())
        texts = {row["question"] for row in held_out}
        kept = [row for row in rows if row["question"] not in texts]
        if len(kept) < len(rows):
            dropped[ALSO_HELD_OUT] += len(rows) - len(kept)
        training, _ = set_aside(kept, source, seed)
    else:
        training, held_out = set_aside(rows, source, seed)
    if source.traced_fraction is not None:
        training = traced(training, source.traced_fraction, seed)
    return training, held_out, revision


def stem(file: Path) -> str:
    """Name of a file without its endings."""
    return file.name.removesuffix(".gz").rpartition(".")[0]


def read(files: Sequence[Path], name: str, source: Questions, dropped: Counter[str]) -> Rows:
    """Questions of several files, checked, with unverifiable ones marked.

    Raises
    ------
    UserError
        A row cannot be used, an id is not unique, or most references cannot be read.
    """
    rows: Rows = []
    total = 0
    for file in files:
        for number, raw in enumerate(read_rows(file), start=1):
            total += 1  # the rows of a dataset's files are numbered as one
            try:
                converted = formats.convert(raw, source.columns)
                rows.append(question_row(converted, f"{name}-{total:06d}", name))
            except formats.Dropped as reason:
                dropped[str(reason)] += 1
            except BadRow as error:
                raise UserError(f"{file}: row {number}: {error}") from None
    if not rows:
        raise UserError(f"{name}: no questions")
    check_ids(rows, name)
    try_references(rows, name)
    return rows


def check_ids(rows: Rows, name: str) -> None:
    """Raise UserError for a duplicate question_id."""
    seen: dict[str, int] = {}
    for number, row in enumerate(rows, start=1):
        first = seen.setdefault(row["question_id"], number)
        if first != number:
            raise UserError(
                f"{name}: duplicate key question_id={row['question_id']!r} (rows {first} and "
                f"{number}); rename or remove one"
            )


def try_references(rows: Rows, name: str) -> None:
    """Mark questions as unverifiable if the verifier cannot read their reference.

    Raises
    ------
    UserError
        More than half of the references cannot be read, so the column is probably wrong.
    """
    with Pool() as pool:
        reasons = {key: why for key, why in pool.check(references(rows)) if why is not None}
    if not reasons:
        return
    n_answers = sum(row["answer_kind"] != "none" for row in rows)
    first = [(row["question_id"], reasons[i]) for i, row in enumerate(rows) if i in reasons]
    if len(reasons) > n_answers / 2:
        question_id, reason = first[0]
        raise UserError(
            f"{name}: {len(reasons):,} of {n_answers:,} answers cannot be verified, the first is "
            f"that of question_id={question_id!r}: {reason}. If answer holds whole solutions, name "
            "the columns (questions.columns: {question: ..., solution: ..., answer: ...}); if the "
            "questions have no answer to verify, set answer_kind to none"
        )
    for question_id, reason in first[:NAMED]:
        print(f"question_id={question_id!r} cannot be verified: {reason}", file=sys.stderr)
    if len(first) > NAMED:
        print(f"... and {len(first) - NAMED:,} other questions", file=sys.stderr)
    for index in reasons:
        rows[int(index)]["answer_kind"] = "none"  # type: ignore[call-overload]


def references(rows: Rows) -> Iterable[tuple[int, str | None, Any, VerifyOptions]]:
    """Index, reference, kind and options of each question with a reference."""
    for index, row in enumerate(rows):
        if row["answer_kind"] != "none":
            options = VerifyOptions(
                None if row["options"] is None else tuple(row["options"]), row["tests"]
            )
            yield index, row["answer"], row["answer_kind"], options


def set_aside(rows: Rows, source: Questions, seed: int) -> tuple[Rows, Rows]:
    """Draw `limit` of the rows, and `held_out` of those for evaluation; both keep their order."""
    order = list(range(len(rows)))
    random.Random(derive_seed(seed, "questions")).shuffle(order)
    chosen = order[: source.limit]
    if source.held_out >= len(chosen):
        raise UserError(
            f"questions.held_out is {source.held_out}, but there are only {len(chosen)} questions"
        )
    held_out = set(chosen[: source.held_out])
    training = set(chosen) - held_out
    return [rows[i] for i in sorted(training)], [rows[i] for i in sorted(held_out)]


def traced(rows: Rows, fraction: float, seed: int) -> Rows:
    """Use the solution as trace for a share of the questions, drawn by the seed.

    The others keep only their answer. Rows with a trace, or without a solution or an answer, are
    unchanged.
    """
    worked = [i for i, r in enumerate(rows) if r["trace"] is None and r["solution"] and r["answer"]]
    chosen = worked.copy()
    random.Random(derive_seed(seed, "traced")).shuffle(chosen)
    with_trace = set(chosen[: round(fraction * len(worked))])
    changed = {i: {"trace": rows[i]["solution"] if i in with_trace else None} for i in worked}
    return [
        {**row, **changed[i], "solution": None} if i in changed else row
        for i, row in enumerate(rows)
    ]


def count(rows: Rows, dropped: Counter[str]) -> dict[str, Any]:
    """Training questions by outcome: the figures of the step's message and metadata."""
    return {
        "with_trace": sum(row["trace"] is not None for row in rows),
        "without_trace": sum(row["trace"] is None for row in rows),
        "unverifiable": sum(row["answer_kind"] == "none" for row in rows),
        "dropped": dict(dropped),
    }


def describe(counts: dict[str, Any]) -> str:
    """The counts in one line."""
    total = counts["with_trace"] + counts["without_trace"]
    line = (
        f"{total:,} questions, {counts['with_trace']:,} with a trace, "
        f"{counts['without_trace']:,} without, {counts['unverifiable']:,} of all without a "
        "verifiable answer"
    )
    reasons = [f"{n:,} {reason}" for reason, n in counts["dropped"].items()]
    return line + (f"; rows dropped: {', '.join(reasons)}" if reasons else "")


if __name__ == "__main__":
    command.run(main)
