"""Make the training rows of a model: teacher rows, and rows of selected traces with their weights.

python -m stages.rows --settings S --questions Q --tokenizer DIR
                      [--traces T --weights W [--answers A]] --out R

Without traces only teacher rows are made. `role` says for which model: `initial` and `final` learn
prompt → z + y, the posterior hint prompt → z. Token ids of sampled traces and answers are taken as
they were sampled. Memory is bounded by a batch: what was selected waits in a temporary file.
"""

import argparse
import itertools
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from stages import prompts
from stages.artifacts import digests, store, tables
from stages.artifacts.journal import Key
from stages.artifacts.tables import Table
from stages.common.errors import UserError
from stages.experiments.settings import StepSettings
from stages.running import command, origin_of
from stages.running.ahead import ahead
from stages.weighting.estimators import Method

Tokens = NDArray[np.int32]
INPUTS = ("questions", "tokenizer", "traces", "weights", "answers")
ROWS_READ = 512
TOKENS_WRITTEN = 1 << 20


class Sampled(NamedTuple):
    """A trace or an answer as it was sampled."""

    text: str
    ids: Tokens


class Row(NamedTuple):
    """A row of the `rows` table."""

    question_id: str
    k: int | None
    origin: str
    prompt: str
    response: str
    token_ids: Tokens
    n_prompt_tokens: int
    n_tokens: int
    weight: float


class Selected(NamedTuple):
    """A selected trace: its key, the weight of its row, and the answer that ends it, if sampled."""

    question_id: str
    k: int
    row_weight: float
    answer_m: int | None

    @property
    def trace(self) -> Key:
        """Key in the table of traces."""
        return (self.question_id, self.k)

    @property
    def answer(self) -> Key | None:
        """Key in the table of answers; None where the reference solution ends the row."""
        return None if self.answer_m is None else (self.question_id, self.k, self.answer_m)


def main(argv: list[str] | None = None) -> None:
    """Read the tables, make the rows, write them."""
    parser = command.parser(__doc__)
    command.add_tables(parser, "questions", optional="traces weights answers")
    parser.add_argument("--tokenizer", type=Path, required=True, help="directory of the base model")
    parser.add_argument("--out", type=Path, required=True, help="table of rows")
    args = parser.parse_args(argv)
    settings: StepSettings = args.settings
    started = time.monotonic()

    inputs = {name: getattr(args, name) for name in INPUTS}
    maker = RowMaker(settings, command.load_tokenizer(args.tokenizer))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=args.out.parent) as file:
        rows = make_rows(args, settings, maker, Spill(file))
        first = next(rows, None)
        if first is None:
            raise UserError(
                f"no training row for the {settings.role} model: "
                + (
                    f"{args.weights} selects no trace, and no teacher trace replaces one"
                    if args.traces
                    else f"{args.questions} has no teacher trace"
                )
            )
        store.write_table(
            args.out,
            tables.ROWS,
            ahead(pieces(itertools.chain([first], rows))),
            lambda: command.provenance(
                origin_of.output("rows", settings, inputs, settings.role),
                settings,
                seconds=time.monotonic() - started,
                device="cpu",
                tokenizer=digests.tokenizer_digest(args.tokenizer),
            ),
        )


def make_rows(
    args: argparse.Namespace, settings: StepSettings, maker: "RowMaker", spill: "Spill"
) -> Iterator[Row]:
    """Teacher rows in the order of the questions, then a row of each selected trace.

    A question without a selected trace falls back to its teacher trace: the weight of its teacher
    row is larger by one.
    """
    if args.traces is None:
        yield from teacher_rows(args.questions, maker, 1.0, {})
        return
    if args.weights is None:
        raise UserError("--weights is needed with --traces")
    digests.same_tokenizer(args.traces, args.tokenizer)
    selected = read_selected(args.weights)
    collect(args, selected, maker.with_answer, spill)

    mixed_in = float(settings.rows.teacher and settings.role == "final")
    stands_in = float(Method.of(settings).teacher_stands_in)
    with_trace = dict.fromkeys((s.question_id for s in selected), mixed_in)
    yield from teacher_rows(args.questions, maker, mixed_in + stands_in, with_trace)

    columns = ["question", "answer", "answer_kind", "solution"]
    questions = store.read_table(args.questions, tables.QUESTIONS, columns).to_pylist()
    by_id = {question["question_id"]: question for question in questions}
    for one in selected:
        answer = None if one.answer is None or not maker.with_answer else spill.get(one.answer)
        yield maker.sampled(by_id[one.question_id], one, spill.get(one.trace), answer)


def teacher_rows(
    questions: Path, maker: "RowMaker", weight: float, others: Mapping[str, float]
) -> Iterator[Row]:
    """Rows of the teacher's traces with this weight, or with the one in `others`; none of 0."""
    for batch in store.iter_batches(questions, tables.QUESTIONS, rows=ROWS_READ):
        for question in batch.filter(pc.is_valid(batch["trace"])).to_pylist():
            row_weight = others.get(question["question_id"], weight)
            if row_weight > 0:
                yield maker.teacher(question, row_weight)


def read_selected(weights: Path) -> list[Selected]:
    """Selected traces in the order of the table of weights."""
    table = store.read_table(weights, tables.WEIGHTS, ["selected", "row_weight", "answer_m"])
    chosen = table.filter(table["selected"])
    columns = (chosen[name].to_pylist() for name in Selected._fields)
    return list(itertools.starmap(Selected, zip(*columns, strict=True)))


def collect(
    args: argparse.Namespace, selected: list[Selected], with_answers: bool, spill: "Spill"
) -> None:
    """Put the selected traces, and the sampled answers that end their rows, into the spill file.

    Raises
    ------
    UserError
        The table of answers is not given, or a trace or an answer is missing.
    """
    take(args.traces, tables.TRACES, "trace", [one.trace for one in selected], spill)
    answers = [one.answer for one in selected if one.answer is not None]
    if not answers or not with_answers:
        return
    if args.answers is None:
        raise UserError(f"--answers is needed: by {args.weights}, rows end with sampled answers")
    take(args.answers, tables.ANSWERS, "answer", answers, spill)


def take(path: Path, table: Table, text: str, keys: list[Key], spill: "Spill") -> None:
    """Put the rows of these keys into the spill file."""
    keys_to_take = set(keys)
    for batch in ahead(store.iter_batches(path, table, ["token_ids", text], ROWS_READ)):
        columns = [batch[name].to_pylist() for name in table.key]
        batch_keys = list(zip(*columns, strict=True))
        chosen = [i for i, key in enumerate(batch_keys) if key in keys_to_take]
        rows = batch.take(pa.array(chosen, pa.int64()))  # also where none is chosen
        ids = rows["token_ids"].combine_chunks()
        values, offsets = ids.values.to_numpy(), ids.offsets.to_numpy()
        texts = rows[text].to_pylist()
        for number, i in enumerate(chosen):
            tokens = values[offsets[number] : offsets[number + 1]]
            spill.put(batch_keys[i], Sampled(texts[number], tokens))
    for key in keys:
        if key not in spill:
            which = ", ".join(f"{n}={v!r}" for n, v in zip(table.key, key, strict=True))
            raise UserError(
                f"{path}: {which} is missing, but was selected; give the {table.name} that were "
                "weighed"
            )


class Spill:
    """Sampled texts in a file, to be read in another order than they were written."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._places: dict[Key, tuple[int, int, int]] = {}
        self._end = 0

    def __contains__(self, key: Key) -> bool:
        return key in self._places

    def put(self, key: Key, sampled: Sampled) -> None:
        """Append one."""
        text, ids = sampled.text.encode(), sampled.ids.tobytes()
        self._places[key] = (self._end, len(text), len(ids))
        self._file.write(text)
        self._file.write(ids)
        self._end += len(text) + len(ids)

    def get(self, key: Key) -> Sampled:
        """Read one."""
        place, n_text, n_ids = self._places[key]
        self._file.seek(place)
        stored = self._file.read(n_text + n_ids)
        return Sampled(stored[:n_text].decode(), np.frombuffer(stored[n_text:], np.int32))


class RowMaker:
    """Makes rows of one role, with one tokenizer.

    Attributes
    ----------
    with_answer : bool
        Whether the role learns z + y: the posterior learns z alone.
    """

    def __init__(self, settings: StepSettings, tokenizer: Any) -> None:
        self._settings = settings
        self._prompter = prompts.Prompter(settings, tokenizer)
        self.with_answer = settings.role != "posterior"
        end = self._prompter.end_turn()
        self._end = Sampled(end.text, np.array(end.ids, np.int32))

    def teacher(self, question: dict[str, Any], weight: float) -> Row:
        """Row of a question's teacher trace and solution."""
        z = _tokens(self._prompter.trace(question["trace"]))
        y = _tokens(self._prompter.solution(question))
        return self._row(question, None, "teacher", z, y, weight)

    def sampled(
        self, question: dict[str, Any], selected: Selected, z: Sampled, y: Sampled | None
    ) -> Row:
        """Row of a sampled trace, with a sampled answer or else the reference solution."""
        if y is None:
            y = _tokens(self._prompter.solution(question, z.text))
        origin = self._settings.traces.proposal
        return self._row(question, selected.k, origin, z, y, selected.row_weight)

    def _row(
        self,
        question: dict[str, Any],
        k: int | None,
        origin: str,
        z: Sampled,
        y: Sampled,
        weight: float,
    ) -> Row:
        if self.with_answer:
            prompt = self._prompter.prompt("prior", question)
            end = self._end
            ended = np.array_equal(np.concatenate([z.ids, y.ids])[-len(end.ids) :], end.ids)
            parts = [z, y] if ended else [z, y, end]
        else:
            prompt = self._prompter.prompt("posterior", question)
            parts = [z]
        token_ids = np.concatenate([np.array(prompt.ids, np.int32), *(p.ids for p in parts)])
        return Row(
            question["question_id"],
            k,
            origin,
            prompt.text,
            "".join(part.text for part in parts),
            token_ids,
            len(prompt.ids),
            len(token_ids),
            weight,
        )


def _tokens(piece: prompts.Piece) -> Sampled:
    return Sampled(piece.text, np.array(piece.ids, np.int32))


def pieces(rows: Iterable[Row]) -> Iterator[pa.Table]:
    """The rows as tables of about `TOKENS_WRITTEN` tokens, or of as many rows as a group holds."""
    piece: list[Row] = []
    n_tokens = 0
    for row in rows:
        piece.append(row)
        n_tokens += row.n_tokens
        if n_tokens >= TOKENS_WRITTEN or len(piece) == store.ROWS_PER_GROUP:
            yield to_table(piece)
            piece, n_tokens = [], 0
    if piece:
        yield to_table(piece)


def to_table(rows: list[Row]) -> pa.Table:
    """Rows as an Arrow table; no token becomes a Python integer."""
    columns: dict[str, Any] = dict(
        zip(Row._fields, map(list, zip(*rows, strict=True)), strict=True)
    )
    offsets = np.cumsum([0, *columns["n_tokens"]], dtype=np.int32)
    values = np.concatenate(columns["token_ids"])
    columns["token_ids"] = pa.ListArray.from_arrays(pa.array(offsets), pa.array(values))
    return pa.table(columns, schema=tables.ROWS.schema)


if __name__ == "__main__":
    command.run(main)
