"""Make the training rows of a model: teacher rows, and rows of selected traces with their weights.

python -m stages.rows --settings S --questions Q --tokenizer DIR
                      [--traces T --weights W [--answers A]] --out R

Without traces only teacher rows are made. `role` says for which model: `initial` and `final` learn
prompt → z + y, the posterior hint prompt → z. Token ids of sampled traces and answers are taken as
they were sampled.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from stages import prompts
from stages.artifacts import digests, store, tables
from stages.common.errors import UserError
from stages.experiments.settings import StepSettings
from stages.running import command
from stages.weighting.estimators import Method


def main(argv: list[str] | None = None) -> None:
    """Read the tables, make the rows, write them with their mean response length."""
    parser = command.parser(__doc__)
    command.add_tables(parser, "questions", optional="traces weights answers verdicts")
    parser.add_argument("--tokenizer", type=Path, required=True, help="directory of the base model")
    parser.add_argument("--out", type=Path, required=True, help="table of rows")
    args = parser.parse_args(argv)
    settings: StepSettings = args.settings
    started = time.monotonic()

    questions = store.read_table(args.questions, tables.QUESTIONS).to_pylist()
    tokenizer = command.load_tokenizer(args.tokenizer)
    maker = RowMaker(settings, tokenizer)
    if args.traces is None:
        rows = [maker.teacher(q, 1.0) for q in questions if q["trace"] is not None]
    else:
        if args.weights is None:
            raise UserError("--weights is needed with --traces")
        digests.same_tokenizer(args.traces, args.tokenizer)
        selected = _selected(args.traces, args.weights)
        answers = _answers(args.answers, selected, settings)
        rows = list(final_rows(questions, selected, answers, maker, settings))
    if not rows:
        raise UserError(
            f"no training row for the {settings.role} model: "
            + (
                f"no trace of {args.weights} was selected, and no teacher trace stands in"
                if args.traces
                else f"{args.questions} has no teacher trace"
            )
        )
    table = pa.Table.from_pylist(rows, schema=tables.ROWS.schema)
    made = command.provenance(
        "rows",
        settings,
        [args.questions, args.traces, args.weights, args.answers, args.verdicts],
        seconds=time.monotonic() - started,
        device="cpu",
        tokenizer=digests.tokenizer_digest(args.tokenizer),
        mean_response_tokens=sum(r["n_tokens"] - r["n_prompt_tokens"] for r in rows) / len(rows),
    )
    store.write_table(args.out, tables.ROWS, table, made)


def _selected(traces: Path, weights: Path) -> list[dict[str, Any]]:
    """Selected traces with their row weights, in order of the weights table."""
    weighed = store.read_table(weights, tables.WEIGHTS, ["selected", "row_weight", "answer_m"])
    chosen = {(w["question_id"], w["k"]): w for w in weighed.to_pylist() if w["selected"]}
    found = {}
    for shard in store.iter_tables(traces, tables.TRACES, ["token_ids", "trace"]):
        for trace in shard.to_pylist():
            key = (trace["question_id"], trace["k"])
            if key in chosen:
                found[key] = {**trace, **chosen[key]}
    missing = chosen.keys() - found.keys()
    if missing:
        raise UserError(f"{traces}: selected trace {min(missing)} of {weights} is missing")
    return [found[key] for key in chosen]


def _answers(
    path: Path | None, selected: list[dict[str, Any]], settings: StepSettings
) -> dict[tuple[str, int], dict[str, Any]]:
    """The sampled answers that end rows, by the trace they follow.

    Raises
    ------
    UserError
        The table of answers is not given, or lacks one of them.
    """
    wanted = {(t["question_id"], t["k"]): t["answer_m"] for t in selected}
    wanted = {key: m for key, m in wanted.items() if m is not None}
    if not wanted or settings.role == "posterior":
        return {}
    if path is None:
        raise UserError("--answers is needed: rows end with sampled answers, by the weights table")
    found = {}
    for shard in store.iter_tables(path, tables.ANSWERS, ["token_ids", "answer"]):
        for answer in shard.to_pylist():
            key = (answer["question_id"], answer["k"])
            if wanted.get(key) == answer["m"]:
                found[key] = answer
    missing = wanted.keys() - found.keys()
    if missing:
        name, k = min(missing)
        raise UserError(
            f"{path}: answer {wanted[name, k]} of question_id {name!r}, k {k} is missing, with "
            "which a row ends; give the answers that were verified"
        )
    return found


def final_rows(
    questions: list[dict[str, Any]],
    selected: list[dict[str, Any]],
    answers: dict[tuple[str, int], dict[str, Any]],
    maker: "RowMaker",
    settings: StepSettings,
) -> Iterator[dict[str, Any]]:
    """Teacher rows, then a row of each selected trace.

    A question without a selected trace counts its teacher trace once more: it stands in, by a
    teacher row whose weight is larger by one.
    """
    asked = {question["question_id"]: question for question in questions}
    has_trace = {trace["question_id"] for trace in selected}
    mixed_in = settings.rows.teacher and settings.role == "final"
    stands_in = Method.of(settings).teacher_stands_in
    for name, question in asked.items():
        if question["trace"] is not None:
            weight = float(mixed_in) + float(stands_in and name not in has_trace)
            if weight > 0:
                yield maker.teacher(question, weight)
    for trace in selected:
        question = asked[trace["question_id"]]
        yield maker.sampled(question, trace, answers.get((trace["question_id"], trace["k"])))


class RowMaker:
    """Makes rows of the `rows` table, of one role, with one tokenizer."""

    def __init__(self, settings: StepSettings, tokenizer: Any) -> None:
        self._settings = settings
        self._prompter = prompts.Prompter(settings, tokenizer)

    def teacher(self, question: dict[str, Any], weight: float) -> dict[str, Any]:
        """Row of a question's teacher trace and solution."""
        z = self._prompter.trace(question["trace"])
        y = self._prompter.solution(question)
        return self._row(question, None, "teacher", z, y, weight)

    def sampled(
        self, question: dict[str, Any], trace: dict[str, Any], answer: dict[str, Any] | None
    ) -> dict[str, Any]:
        """Row of a sampled trace, with a sampled answer or else the reference solution."""
        if answer is None:
            y = self._prompter.solution(question, trace["trace"])
        else:
            y = prompts.Piece(answer["answer"], answer["token_ids"])
        z = prompts.Piece(trace["trace"], trace["token_ids"])
        origin = self._settings.traces.proposal
        return self._row(question, trace["k"], origin, z, y, trace["row_weight"])

    def _row(
        self,
        question: dict[str, Any],
        k: int | None,
        origin: str,
        z: prompts.Piece,
        y: prompts.Piece,
        weight: float,
    ) -> dict[str, Any]:
        if self._settings.role == "posterior":
            prompt = self._prompter.prompt("posterior", question)
            response, response_ids = z
        else:
            prompt = self._prompter.prompt("prior", question)
            response, response_ids = z.text + y.text, z.ids + y.ids
            end = self._prompter.end_turn()
            if response_ids[-len(end.ids) :] != end.ids:
                response, response_ids = response + end.text, response_ids + end.ids
        return {
            "question_id": question["question_id"],
            "k": k,
            "origin": origin,
            "prompt": prompt.text,
            "response": response,
            "token_ids": prompt.ids + response_ids,
            "n_prompt_tokens": len(prompt.ids),
            "n_tokens": len(prompt.ids) + len(response_ids),
            "weight": weight,
        }


if __name__ == "__main__":
    command.run(main)
